//! Second factors in the schema: setting one up, and switching it off. Knows how a secret is drawn; refuses to know when a code
//! is right.

use std::fmt::Write as _;

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    page::{MAX_PAGE, PageArgs},
    refusal::{InputReader, Refusal, RefusalCode, Refusals},
    second_factor::{
        ConfirmSecondFactorCode, DisableSecondFactorCode, EnrollSecondFactorCode, Enrollment, Typed,
    },
};
use guildhall_persistence::{Fault, second_factor};
use qrcode::{Color, QrCode};

use crate::{
    accounts::{MAX_PASSWORD_BYTES, Viewer, throttle},
    authz::{caller, db, signed_in, signed_in_directive},
    error,
    organizations::Organization,
    payload::{answer, payload},
    rehearsal::{only_now, unless_rehearsing},
};

/// A second factor that is in force: whoever signs in needs a code of it beside the password.
#[derive(SimpleObject)]
pub struct SecondFactor {
    /// Since when it is in force.
    confirmed_at: DateTime<Utc>,
}

impl SecondFactor {
    pub(crate) fn new(confirmed_at: DateTime<Utc>) -> Self {
        Self { confirmed_at }
    }
}

/// What beginning a second factor takes.
#[derive(InputObject)]
pub struct EnrollSecondFactorInput {
    /// Your password.
    password: String,
    /// A code of the second factor that you have, or a recovery code; needed only where you have one, to replace it.
    code: Option<String>,
}

payload! {
    /// What an authenticator app is given, this once. It is in force when you confirm it, within an hour.
    EnrollSecondFactorPayload, EnrollSecondFactorError = EnrollSecondFactorCode {
        /// The secret in Base32, to be typed into the app.
        secret: String,
        /// The same as an `otpauth://` address, which opens the app on the device itself.
        uri: String,
        /// The same address as a QR code to be scanned: an SVG to be put into a page as it is, black on white, with a title for
        /// those who do not see it. It shows the secret: it goes nowhere else.
        qr_svg: String,
    }
}

/// What putting a second factor in force takes.
#[derive(InputObject)]
pub struct ConfirmSecondFactorInput {
    /// The code that the app shows: 6 digits, spaces are passed over.
    code: String,
}

payload! {
    /// The second factor that is in force.
    ConfirmSecondFactorPayload, ConfirmSecondFactorError = ConfirmSecondFactorCode {
        /// Your own view; none in a `dryRun`. All other sessions have ended.
        viewer: Viewer,
        /// Five recovery codes, shown this once: write them down. Each stands for a code once, when the app is lost. Those you had
        /// before are good for nothing.
        recovery_codes: Vec<String>,
    }
}

/// What switching a second factor off takes.
#[derive(InputObject)]
pub struct DisableSecondFactorInput {
    /// Your password.
    password: String,
    /// A code of the app, or a recovery code.
    code: String,
}

payload! {
    /// What comes of being without a second factor.
    DisableSecondFactorPayload, DisableSecondFactorError = DisableSecondFactorCode {
        /// Your own view.
        viewer: Viewer,
        /// The organizations that demand a second factor of their people: `viewerSecondFactorDueAt` says when each of them lets you
        /// in no more without one. At most 100.
        demanded_by: Vec<Organization>,
    }
}

/// The part of the mutation root about second factors.
#[derive(Default)]
pub struct SecondFactorMutation;

#[Object]
impl SecondFactorMutation {
    /// Begins a second factor for you: codes of an authenticator app (TOTP), which every sign-in needs beside the password once
    /// `confirmSecondFactor` has put it in force. Until then nothing changes, and what you have stays. Beginning again replaces
    /// what was begun.
    #[graphql(directive = signed_in_directive::apply())]
    async fn enroll_second_factor(
        &self,
        ctx: &Context<'_>,
        input: EnrollSecondFactorInput,
    ) -> Result<EnrollSecondFactorPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            throttle(ctx)
                .sign_in(None, &proof.user().to_string())
                .map_err(|wait| Refusal::new(EnrollSecondFactorCode::RateLimited, wait))?;
            let password = input.password.get(..MAX_PASSWORD_BYTES).unwrap_or(&input.password);
            second_factor::enroll(db(ctx), &proof, password, &shown(input.code.as_deref())?).await
        }
        .await;
        let outcome = match outcome {
            Ok(Enrollment { secret, uri }) => {
                let qr_svg = qr_svg(&uri).map_err(|fault| error::internal(ctx, &fault))?;
                Ok((secret, uri, qr_svg))
            }
            Err(error) => Err(error),
        };
        answer(ctx, outcome, |(secret, uri, qr_svg)| EnrollSecondFactorPayload {
            secret: only_now(ctx, secret),
            uri: only_now(ctx, uri),
            qr_svg: only_now(ctx, qr_svg),
            user_errors: Vec::new(),
        })
    }

    /// Puts the second factor that you began last in force, in place of one that you have. Your other sessions end, since they
    /// were opened without it, and a mail tells of it.
    #[graphql(directive = signed_in_directive::apply())]
    async fn confirm_second_factor(
        &self,
        ctx: &Context<'_>,
        input: ConfirmSecondFactorInput,
    ) -> Result<ConfirmSecondFactorPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            throttle(ctx)
                .sign_in(None, &proof.user().to_string())
                .map_err(|wait| Refusal::new(ConfirmSecondFactorCode::RateLimited, wait))?;
            let typed = shown(Some(&input.code))?;
            second_factor::confirm(db(ctx), &proof, &typed, &caller(ctx).device).await
        }
        .await;
        answer(ctx, outcome, |codes| ConfirmSecondFactorPayload {
            // A trial would read, with no more than the password and without a trace, what a second factor is demanded for.
            viewer: unless_rehearsing(ctx, Viewer::new(proof)),
            recovery_codes: only_now(ctx, codes),
            user_errors: Vec::new(),
        })
    }

    /// Switches your second factor off: the password is enough from then on. A mail tells of it. Where an organization demands one,
    /// you get into it again with a new one.
    #[graphql(directive = signed_in_directive::apply())]
    async fn disable_second_factor(
        &self,
        ctx: &Context<'_>,
        input: DisableSecondFactorInput,
    ) -> Result<DisableSecondFactorPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            throttle(ctx)
                .sign_in(None, &proof.user().to_string())
                .map_err(|wait| Refusal::new(DisableSecondFactorCode::RateLimited, wait))?;
            let password = input.password.get(..MAX_PASSWORD_BYTES).unwrap_or(&input.password);
            let typed = shown(Some(&input.code))?;
            second_factor::disable(db(ctx), &proof, password, &typed, &caller(ctx).device).await
        }
        .await;
        let mut demanded_by = Vec::new();
        if outcome.is_ok() {
            let page = PageArgs { size: MAX_PAGE, backward: false, after: None, before: None };
            let standings = db(ctx).organization_standings(proof.actor(), &page).await;
            let standings = standings.map_err(|fault| error::read(ctx, fault))?.items.into_iter();
            let demands = standings.filter(|standing| standing.access.policy().demands_second_factor());
            demanded_by = demands.map(Organization::new).collect::<Result<_>>()?;
        }
        answer(ctx, outcome, |()| DisableSecondFactorPayload {
            viewer: Some(Viewer::new(proof)),
            demanded_by: Some(demanded_by),
            user_errors: Vec::new(),
        })
    }
}

/// What was typed as `code`, if anything.
pub(crate) fn shown<C: RefusalCode>(code: Option<&str>) -> std::result::Result<Typed, Refusals<C>> {
    let mut reader = InputReader::default();
    let typed = reader.optional("code", code.map(Typed::parse));
    Ok(reader.all(typed)?.unwrap_or(Typed::Nothing))
}

/// An address as a QR code, with the margin that scanners need. Nothing of the text itself stands in it.
fn qr_svg(text: &str) -> std::result::Result<String, Fault> {
    const MARGIN: usize = 4;
    let code = QrCode::new(text).map_err(|error| Fault::Stored(error.to_string()))?;
    let side = code.width() + 2 * MARGIN;
    let mut dark = String::new();
    for (place, _) in code.to_colors().iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        let (x, y) = (place % code.width() + MARGIN, place / code.width() + MARGIN);
        // Writing to a text does not fail.
        let _ = write!(dark, "M{x} {y}h1v1h-1z");
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" role=\"img\" \
         aria-label=\"QR code for your authenticator app\" shape-rendering=\"crispEdges\">\
         <title>QR code for your authenticator app</title>\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{dark}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_with_a_margin_and_tells_nothing_in_words() {
        let svg = qr_svg("otpauth://totp/Guildhall:ada?secret=GEZDGNBV").unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
        // 33 modules a side for a text of this length, and twice the margin.
        assert!(svg.contains("viewBox=\"0 0 41 41\""), "{svg}");
        // The corner of the first finder pattern stands where the margin ends.
        assert!(svg.contains("d=\"M4 4h1v1h-1zM5 4h1v1h-1z"), "{svg}");
        assert!(!svg.contains("GEZDGNBV") && !svg.contains("<script"), "{svg}");
    }
}
