//! Getting back in: resetting a password by mail, and another e-mail address.

use async_graphql::{Context, InputObject, Object, Result};
use guildhall_domain::{
    recovery::{
        CancelEmailChangeCode, ConfirmEmailChangeCode, GenerateRecoveryCodesCode, RequestEmailChangeCode,
        RequestPasswordResetCode, ResetPasswordCode, ResetPasswordWithRecoveryCodeCode,
    },
    refusal::{InputReader, Refusal},
    text::Email,
};
use guildhall_persistence::{email_changes, password_resets, recovery_codes};

use crate::{
    accounts::{MAX_PASSWORD_BYTES, guard_token, throttle},
    authz::{anonymous, caller, db, open, signed_in, signed_in_directive},
    payload::{answer, payload},
    rehearsal::only_now,
    second_factor::shown,
};

/// Who forgot a password.
#[derive(InputObject)]
pub struct RequestPasswordResetInput {
    /// The e-mail address of the account.
    email: String,
}

payload! {
    /// That the wish was taken. It is the same whether or not anybody has the address.
    RequestPasswordResetPayload, RequestPasswordResetError = RequestPasswordResetCode {
        /// Whether a mail is on its way, if anybody has the address.
        requested: bool,
    }
}

/// What resetting a password takes.
#[derive(InputObject)]
pub struct ResetPasswordInput {
    /// The secret of the link in the newest mail.
    token: String,
    /// The password from now on; 8 to 128 characters and hard to guess.
    new_password: String,
}

payload! {
    /// Whether the password was reset.
    ResetPasswordPayload, ResetPasswordError = ResetPasswordCode {
        /// Whether the account has the new password. All its sessions have ended: sign in with it.
        reset: bool,
    }
}

/// Which e-mail address to have.
#[derive(InputObject)]
pub struct RequestEmailChangeInput {
    /// Your password.
    password: String,
    /// The address that your account is to have; at most 254 characters.
    new_email: String,
}

payload! {
    /// That the wish was taken. It is the same whether or not anybody has the address.
    RequestEmailChangePayload, RequestEmailChangeError = RequestEmailChangeCode {
        /// Whether mails are on their way to both addresses.
        requested: bool,
    }
}

/// What to confirm.
#[derive(InputObject)]
pub struct ConfirmEmailChangeInput {
    /// The secret of the link in the mail to one of the two addresses.
    token: String,
}

payload! {
    /// How far the change is.
    ConfirmEmailChangePayload, ConfirmEmailChangeError = ConfirmEmailChangeCode {
        /// Whether the account has the new address. Else the link in the mail to the other address has to be opened as well.
        changed: bool,
    }
}

/// What to stop.
#[derive(InputObject)]
pub struct CancelEmailChangeInput {
    /// The secret of the link in the mail to one of the two addresses.
    token: String,
}

payload! {
    /// Whether the change was stopped.
    CancelEmailChangePayload, CancelEmailChangeError = CancelEmailChangeCode {
        /// Whether neither link works any more.
        cancelled: bool,
    }
}

/// What recovery codes take.
#[derive(InputObject)]
pub struct GenerateRecoveryCodesInput {
    /// Your password.
    password: String,
    /// A code of your second factor, or a recovery code; needed only where you have one.
    code: Option<String>,
}

payload! {
    /// Fresh recovery codes.
    GenerateRecoveryCodesPayload, GenerateRecoveryCodesError = GenerateRecoveryCodesCode {
        /// Five codes, shown this once: write them down. Those you had before are good for nothing.
        codes: Vec<String>,
    }
}

/// What resetting a password without mail takes.
#[derive(InputObject)]
pub struct ResetPasswordWithRecoveryCodeInput {
    /// The e-mail address of the account.
    email: String,
    /// One of the account's recovery codes, in any case, with or without dashes.
    recovery_code: String,
    /// The password from now on; 8 to 128 characters and hard to guess.
    new_password: String,
}

payload! {
    /// Whether the password was reset.
    ResetPasswordWithRecoveryCodePayload, ResetPasswordWithRecoveryCodeError = ResetPasswordWithRecoveryCodeCode {
        /// Whether the account has the new password, and the code is used. All sessions have ended: sign in with it.
        reset: bool,
    }
}

/// The part of the mutation root about getting back in.
#[derive(Default)]
pub struct RecoveryMutation;

#[Object]
impl RecoveryMutation {
    /// Mails a link to set a new password to whoever has the address. The answer, and the time that it takes, are the same
    /// for every address. The link works once, for as many minutes as the instance says, and a newer one ends it.
    #[graphql(directive = anonymous::apply("who forgot the password cannot sign in; only the holder of the address gets the link".to_owned()))]
    async fn request_password_reset(
        &self,
        ctx: &Context<'_>,
        input: RequestPasswordResetInput,
    ) -> Result<RequestPasswordResetPayload> {
        let proof = open("only the holder of the address gets the link");
        let outcome = async {
            let mut reader = InputReader::default();
            let email = reader.field("email", Email::parse(&input.email));
            let email = reader.all(email)?;
            throttle(ctx)
                .account_mail(caller(ctx).device.ip.as_deref(), email.as_str())
                .map_err(|wait| Refusal::new(RequestPasswordResetCode::RateLimited, wait))?;
            password_resets::request(db(ctx), &proof, &email).await
        }
        .await;
        answer(ctx, outcome, |()| RequestPasswordResetPayload {
            requested: Some(true),
            user_errors: Vec::new(),
        })
    }

    /// Sets a new password for the holder of the link, and signs the account out everywhere. A mail tells of it. A second factor
    /// stays, and is asked for at the next sign-in.
    #[graphql(directive = anonymous::apply("the secret of the mailed link is required".to_owned()))]
    async fn reset_password(
        &self,
        ctx: &Context<'_>,
        input: ResetPasswordInput,
    ) -> Result<ResetPasswordPayload> {
        guard_token(ctx)?;
        let proof = open("guarded by the secret of the mailed link");
        let device = &caller(ctx).device;
        let outcome =
            password_resets::reset(db(ctx), &proof, &input.token, &input.new_password, device).await;
        answer(ctx, outcome, |()| ResetPasswordPayload { reset: Some(true), user_errors: Vec::new() })
    }

    /// Makes five recovery codes for you, in place of those you had. Nobody else sees them, and nobody sees them again; a mail
    /// tells that they were made.
    #[graphql(directive = signed_in_directive::apply())]
    async fn generate_recovery_codes(
        &self,
        ctx: &Context<'_>,
        input: GenerateRecoveryCodesInput,
    ) -> Result<GenerateRecoveryCodesPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            throttle(ctx)
                .sign_in(None, &proof.user().to_string())
                .map_err(|wait| Refusal::new(GenerateRecoveryCodesCode::RateLimited, wait))?;
            let password = input.password.get(..MAX_PASSWORD_BYTES).unwrap_or(&input.password);
            let (typed, device) = (shown(input.code.as_deref())?, &caller(ctx).device);
            recovery_codes::generate(db(ctx), &proof, password, &typed, device).await
        }
        .await;
        answer(ctx, outcome, |codes| GenerateRecoveryCodesPayload {
            codes: only_now(ctx, codes),
            user_errors: Vec::new(),
        })
    }

    /// Sets a new password for whoever knows the address and one of its recovery codes, and signs the account out
    /// everywhere. Each code works once. An unknown address and a wrong code get the same answer. A second factor stays: where that
    /// is lost as well, another recovery code stands for it at the next sign-in.
    #[graphql(directive = anonymous::apply("one of the account's recovery codes is required".to_owned()))]
    async fn reset_password_with_recovery_code(
        &self,
        ctx: &Context<'_>,
        input: ResetPasswordWithRecoveryCodeInput,
    ) -> Result<ResetPasswordWithRecoveryCodePayload> {
        guard_token(ctx)?;
        let proof = open("guarded by a recovery code");
        let device = &caller(ctx).device;
        let outcome = async {
            let mut reader = InputReader::default();
            let email = reader.field("email", Email::parse(&input.email));
            let email = reader.all(email)?;
            throttle(ctx)
                .sign_in(device.ip.as_deref(), email.as_str())
                .map_err(|wait| Refusal::new(ResetPasswordWithRecoveryCodeCode::RateLimited, wait))?;
            let (code, password) = (&input.recovery_code, &input.new_password);
            recovery_codes::reset(db(ctx), &proof, &email, code, password, device).await
        }
        .await;
        answer(ctx, outcome, |()| ResetPasswordWithRecoveryCodePayload {
            reset: Some(true),
            user_errors: Vec::new(),
        })
    }

    /// Asks for another e-mail address, by mails to the one you have and to the new one: once the links in both were opened
    /// and confirmed, within a day, the account has the new address and is signed out everywhere.
    #[graphql(directive = signed_in_directive::apply())]
    async fn request_email_change(
        &self,
        ctx: &Context<'_>,
        input: RequestEmailChangeInput,
    ) -> Result<RequestEmailChangePayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let email = reader.field("newEmail", Email::parse(&input.new_email));
            let email = reader.all(email)?;
            let ip = caller(ctx).device.ip.as_deref();
            throttle(ctx)
                .sign_in(None, &proof.user().to_string())
                .and_then(|()| throttle(ctx).account_mail(ip, email.as_str()))
                .map_err(|wait| Refusal::new(RequestEmailChangeCode::RateLimited, wait))?;
            let password = input.password.get(..MAX_PASSWORD_BYTES).unwrap_or(&input.password);
            email_changes::request(db(ctx), &proof, password, &email).await
        }
        .await;
        answer(ctx, outcome, |()| RequestEmailChangePayload {
            requested: Some(true),
            user_errors: Vec::new(),
        })
    }

    /// Confirms the change of an e-mail address, as the holder of the address that the link came to.
    #[graphql(directive = anonymous::apply("the secret of the mailed link is required".to_owned()))]
    async fn confirm_email_change(
        &self,
        ctx: &Context<'_>,
        input: ConfirmEmailChangeInput,
    ) -> Result<ConfirmEmailChangePayload> {
        guard_token(ctx)?;
        let proof = open("guarded by the secret of the mailed link");
        let outcome = email_changes::confirm(db(ctx), &proof, &input.token).await;
        answer(ctx, outcome, |change| ConfirmEmailChangePayload {
            changed: Some(change.is_done()),
            user_errors: Vec::new(),
        })
    }

    /// Stops the change of an e-mail address, as the holder of either address.
    #[graphql(directive = anonymous::apply("the secret of the mailed link is required".to_owned()))]
    async fn cancel_email_change(
        &self,
        ctx: &Context<'_>,
        input: CancelEmailChangeInput,
    ) -> Result<CancelEmailChangePayload> {
        guard_token(ctx)?;
        let proof = open("guarded by the secret of the mailed link");
        let outcome = email_changes::cancel(db(ctx), &proof, &input.token).await;
        answer(ctx, outcome, |()| CancelEmailChangePayload { cancelled: Some(true), user_errors: Vec::new() })
    }
}
