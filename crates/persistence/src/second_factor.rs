//! Second factors: begun, put in force, switched off, and asked for at the door. Knows the sealed secrets, which step's code
//! was used last, and how often codes were wrong; refuses to know when a code is right.
//!
//! Whoever has a second factor has come in by it: putting one in force ends every other session, and from then on none is opened
//! without it. What could take it away again, or make recovery codes that stand for it, asks for it too.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Open, OwnSession, Proof, System},
    accounts::SignInCode,
    activity::LoginCode,
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::UserId,
    lockout::Failures,
    mail::{AccountLetter, Letter},
    refusal::{Detail, Refusal, RefusalCode},
    second_factor::{
        ConfirmSecondFactorCode, DisableSecondFactorCode, ENROLLMENT_LASTS, EnrollSecondFactorCode,
        Enrollment, SECRET_BYTES, Typed, WRONG_CODES_LAST, codes_wait, enrollment, matching_step,
    },
    text::Email,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    accounts::{Secret, User, secret},
    activity::{self, Who},
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    instance,
    keys::random,
    mails, recovery_codes,
    sessions::{self, Device},
    sql::{Single, Sql},
};

/// Since when the actor has a second factor; `None` without one.
pub async fn since(db: &Db, proof: &OwnSession) -> Result<Option<DateTime<Utc>>, ReadError> {
    let sql =
        Sql::new("SELECT confirmed_at FROM second_factors WHERE confirmed_at IS NOT NULL AND user_id = ");
    let found: Option<Single<DateTime<Utc>>> = db.read(proof).one(sql.bind(proof.user().uuid())).await?;
    Ok(found.map(|Single(at)| at))
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    master_key_id: String,
    sealed: Vec<u8>,
    last_step: Option<i64>,
    created_at: DateTime<Utc>,
}

impl Row {
    fn secret(&self, db: &Db, user: UserId) -> Result<Zeroizing<Vec<u8>>, Fault> {
        db.keys().open_second_factor(self.id, user, &self.master_key_id, &self.sealed)
    }
}

/// The second factor of a person: the one in force, or the one that waits to be confirmed.
async fn find(tx: &Tx<'_>, user: UserId, in_force: bool) -> Result<Option<Row>, Fault> {
    let state = if in_force { "IS NOT NULL" } else { "IS NULL" };
    let sql = Sql::new(format!(
        "SELECT id, master_key_id, sealed, last_step, created_at FROM second_factors \
         WHERE confirmed_at {state} AND user_id = "
    ));
    tx.one(sql.bind(user.uuid())).await
}

/// Whether that person has a second factor.
pub(crate) async fn is_in_force(tx: &Tx<'_>, user: UserId) -> Result<bool, Fault> {
    Ok(find(tx, user, true).await?.is_some())
}

/// Whether what was typed is the second factor of that person, whose row is locked. It is used up by this: what fails
/// afterwards takes that back with everything else.
pub(crate) async fn use_up(tx: &Tx<'_>, user: UserId, typed: &Typed) -> Result<bool, Fault> {
    let is_right = match typed {
        Typed::Nothing => false,
        Typed::RecoveryCode(code) => recovery_codes::use_up(tx, user, code).await?,
        Typed::Code(code) => {
            let Some(row) = find(tx, user, true).await? else { return Ok(false) };
            let secret = row.secret(tx.db(), user)?;
            match matching_step(&secret, code, tx.now(), row.last_step) {
                Some(step) => use_step(tx, row.id, step).await?,
                None => false,
            }
        }
    };
    if is_right {
        let sql = Sql::new("DELETE FROM sign_in_tries WHERE id = ").bind(tries(tx.db(), user));
        tx.run(sql).await?;
    }
    Ok(is_right)
}

/// Uses up the code of that step; `false` where it was, or that of a later one.
async fn use_step(tx: &Tx<'_>, id: Uuid, step: i64) -> Result<bool, Fault> {
    let sql = Sql::new("UPDATE second_factors SET last_step = ")
        .bind(step)
        .push(" WHERE id = ")
        .bind(id)
        .push(" AND (last_step IS NULL OR last_step < ")
        .bind(step)
        .push(")");
    Ok(tx.run(sql).await? > 0)
}

/// Under which wrong codes of a person are counted.
fn tries(db: &Db, user: UserId) -> Uuid {
    db.keys().counter("second factor", [&user.to_string(), ""])
}

#[derive(FromQueryResult)]
struct Tries {
    failures: i32,
    failed_at: Option<DateTime<Utc>>,
}

/// Counts a try before anybody looks whether it is right, so that of however many at once no more are looked at than are free;
/// [`use_up`] forgets them all. Until when it has to wait instead, where too many were wrong. Recovery codes are not counted,
/// since nobody guesses them.
pub(crate) async fn count_try(
    db: &Db,
    proof: &impl Proof,
    user: UserId,
    typed: &Typed,
) -> Result<Option<DateTime<Utc>>, OpError<()>> {
    if !matches!(typed, Typed::Code(_)) {
        return Ok(None);
    }
    // Also when it is only tried: nobody guesses for nothing.
    db.in_earnest()
        .write(proof, async |tx| {
            tx.unaudited("it only guards against guessing");
            tx.lock_user(user).await?;
            let key = tries(db, user);
            let sql = Sql::new("SELECT failures, failed_at FROM sign_in_tries WHERE id = ").bind(key);
            let counted = tx.one::<Tries>(sql).await?.and_then(|row| {
                let last = row.failed_at.filter(|last| tx.now() < *last + WRONG_CODES_LAST)?;
                Some(Failures { number: row.failures.unsigned_abs(), last })
            });
            if let Some(until) = counted.and_then(|wrong| codes_wait(wrong, tx.now())) {
                return Ok(Some(until));
            }
            let number = counted.map_or(0, |wrong| wrong.number).saturating_add(1);
            let sql = Sql::new("INSERT INTO sign_in_tries (id, failures, failed_at, noted, expires_at) VALUES (")
                .bind(key)
                .push(", ")
                .bind(i32::try_from(number).unwrap_or(i32::MAX))
                .push(", ")
                .bind(tx.now())
                .push(", FALSE, ")
                .bind(tx.now() + WRONG_CODES_LAST)
                .push(
                    ") ON CONFLICT (id) DO UPDATE SET failures = excluded.failures, failed_at = excluded.failed_at, \
                     expires_at = excluded.expires_at",
                );
            tx.run(sql).await?;
            Ok(None)
        })
        .await
}

/// Asks whoever signs in, with the right password, for the second factor; before the sign-in itself, in which it is looked at.
pub(crate) async fn ask_at_door(
    db: &Db,
    proof: &Open,
    user: UserId,
    typed: &Typed,
    device: &Device,
) -> Result<(), OpError<SignInCode>> {
    if *typed == Typed::Nothing {
        let message = "The account has a second factor: give a code of your authenticator app, or a recovery code, as well.";
        return Err(Refusal::new(SignInCode::SecondFactorRequired, message).at("code").into());
    }
    let Some(until) = count_try(db, proof, user, typed).await.map_err(OpError::into_fault)? else {
        return Ok(());
    };
    db.in_earnest()
        .write::<_, SignInCode>(proof, async |tx| {
            Ok(activity::note(tx, Who::Person(user), LoginCode::Locked, device).await?)
        })
        .await?;
    let refusal = Refusal::new(SignInCode::SignInLocked, too_many(until)).at("code");
    Err(refusal.with(Detail::RetryAt(until)).into())
}

/// Why codes are not looked at.
pub(crate) fn too_many(until: DateTime<Utc>) -> String {
    // Whole seconds, and none too few.
    let until = DateTime::from_timestamp(until.timestamp() + 1, 0).unwrap_or(until);
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!("Too many codes were wrong. Wait until {until}, or give a recovery code.")
}

/// The codes of an operation on one's own account that asks for the second factor.
pub(crate) trait AsksForCode: RefusalCode {
    const REQUIRED: Self;
    const INVALID: Self;
    const RATE_LIMITED: Self;
}

macro_rules! asks_for_code {
    ($($code:ty: $required:ident;)*) => {$(
        impl AsksForCode for $code {
            const REQUIRED: Self = Self::$required;
            const INVALID: Self = Self::SecondFactorInvalid;
            const RATE_LIMITED: Self = Self::RateLimited;
        }
    )*};
}

asks_for_code! {
    EnrollSecondFactorCode: SecondFactorRequired;
    DisableSecondFactorCode: SecondFactorInvalid;
    guildhall_domain::recovery::GenerateRecoveryCodesCode: SecondFactorRequired;
}

/// Refuses a try, of whoever has a second factor, that gives none or has to wait; before the change itself, in which
/// [`demand`] looks at it.
pub(crate) async fn ask<C: AsksForCode>(
    db: &Db,
    proof: &OwnSession,
    account: &Secret,
    typed: &Typed,
) -> Result<(), OpError<C>> {
    if !account.has_second_factor {
        return Ok(());
    }
    if *typed == Typed::Nothing {
        let message =
            "Your account has a second factor: give a code of your authenticator app, or a recovery code.";
        return Err(Refusal::new(C::REQUIRED, message).at("code").into());
    }
    match count_try(db, proof, account.user.id, typed).await {
        Ok(None) => Ok(()),
        Ok(Some(until)) => Err(Refusal::new(C::RATE_LIMITED, too_many(until)).at("code").into()),
        Err(OpError::Denied(denied)) => Err(denied.into()),
        Err(error) => Err(error.into_fault().into()),
    }
}

/// Uses the second factor up for a change of one's own account, whose row is locked here. Refuses where it is not right, or
/// where account and password are not what they were when they were looked at.
pub(crate) async fn demand<C: AsksForCode>(
    tx: &Tx<'_>,
    account: &Secret,
    typed: &Typed,
    stale: impl FnOnce() -> Refusal<C>,
) -> Result<(), OpError<C>> {
    let user = account.user.id;
    tx.lock_user(user).await?;
    let has = if account.has_second_factor { "IS NOT NULL" } else { "IS NULL" };
    let sql = Sql::new(format!("SELECT 1 FROM users WHERE second_factor_at {has} AND password_hash = "))
        .bind(account.password_hash.as_str())
        .push(" AND id = ")
        .bind(user.uuid());
    if tx.one::<Single<i32>>(sql).await?.is_none() {
        return Err(stale().into());
    }
    if account.has_second_factor && !use_up(tx, user, typed).await? {
        return Err(invalid(C::INVALID).into());
    }
    Ok(())
}

pub(crate) fn invalid<C>(code: C) -> Refusal<C> {
    Refusal::new(
        code,
        "This code is not right, or not any more: each works once, and for a short time. Wait for the next one, or give a \
         recovery code.",
    )
    .at("code")
}

/// The actor's account, for whoever knows its password.
async fn own<C>(
    db: &Db,
    proof: &OwnSession,
    password: &str,
    wrong: impl FnOnce() -> Refusal<C>,
) -> Result<Secret, OpError<C>> {
    let found = secret(db, proof, "u.id", proof.user().uuid()).await?;
    let stored = found.as_ref().map(|secret| secret.password_hash.as_str());
    let right = db.hasher().verify(password, stored).await?;
    found.filter(|_| right).ok_or_else(|| wrong().into())
}

fn wrong_password<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "This is not your current password.").at("password")
}

/// The name of this service in an authenticator app, which may know several instances.
fn service(db: &Db) -> String {
    let url = &db.settings().app_url;
    let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    format!("Guildhall ({})", host.split('/').next().unwrap_or_default())
}

/// Begins a second factor for the actor, in place of one that was begun and not confirmed. The one in force, if there is one,
/// stays so until this one is confirmed, and is asked for.
pub async fn enroll(
    db: &Db,
    proof: &OwnSession,
    password: &str,
    typed: &Typed,
) -> Result<Enrollment, OpError<EnrollSecondFactorCode>> {
    let wrong = || wrong_password(EnrollSecondFactorCode::InvalidCredentials);
    let account = own(db, proof, password, wrong).await?;
    ask(db, proof, &account, typed).await?;
    let secret = Zeroizing::new(random::<SECRET_BYTES>()?);
    let given = enrollment(secret.as_slice(), &service(db), &account.user.email)
        .map_err(|error| Fault::Stored(error.to_string()))?;
    db.write(proof, async |tx| {
        tx.unaudited("a person's second factor is their own");
        instance::check_master_key(tx).await?;
        demand(tx, &account, typed, wrong).await?;
        let user = account.user.id;
        let sql = Sql::new("DELETE FROM second_factors WHERE confirmed_at IS NULL AND user_id = ");
        tx.run(sql.bind(user.uuid())).await?;
        let id: Uuid = tx.fresh_id();
        tx.run(Sql::insert(
            "second_factors",
            [
                ("id", id.into()),
                ("user_id", user.uuid().into()),
                ("master_key_id", db.keys().master_key_id().into()),
                ("sealed", db.keys().seal_second_factor(id, user, secret.as_slice())?.into()),
                ("sealed_at", tx.now().into()),
                ("created_at", tx.now().into()),
            ],
        ))
        .await?;
        Ok(())
    })
    .await?;
    Ok(given)
}

/// Puts the second factor that was begun last in force, for whoever has a code of it. Every other session ends, since it was
/// opened without it; and so do all recovery codes, which whoever knew the password may have made: the fresh ones are
/// answered.
pub async fn confirm(
    db: &Db,
    proof: &OwnSession,
    typed: &Typed,
    device: &Device,
) -> Result<Vec<String>, OpError<ConfirmSecondFactorCode>> {
    let codes = recovery_codes::fresh()?;
    db.write(proof, async |tx| {
        tx.unaudited("a person's second factor is their own");
        let user = proof.user();
        tx.lock_user(user).await?;
        let row = find(tx, user, false).await?.filter(|row| tx.now() < row.created_at + ENROLLMENT_LASTS);
        let Some(row) = row else {
            return Err(Refusal::new(
                ConfirmSecondFactorCode::EnrollmentMissing,
                "No second factor waits for this, or not any more: begin by `enrollSecondFactor`, and confirm within an hour.",
            )
            .into());
        };
        let step = match typed {
            Typed::Code(code) => matching_step(&row.secret(db, user)?, code, tx.now(), None),
            Typed::Nothing | Typed::RecoveryCode(_) => None,
        };
        let Some(step) = step else {
            let message = "This is no code of the authenticator app that you are setting up. Is the clock of its device right?";
            return Err(Refusal::new(ConfirmSecondFactorCode::SecondFactorInvalid, message).at("code").into());
        };
        let sql = Sql::new("DELETE FROM second_factors WHERE confirmed_at IS NOT NULL AND user_id = ");
        tx.run(sql.bind(user.uuid())).await?;
        let sql = Sql::new("UPDATE second_factors SET confirmed_at = ")
            .bind(tx.now())
            .push(", last_step = ")
            .bind(step)
            .push(" WHERE id = ")
            .bind(row.id);
        tx.run(sql).await?;
        set_since(tx, user, Some(tx.now())).await?;
        recovery_codes::replace(tx, user, &codes).await?;
        sessions::end_others(tx, user, Some(proof.session())).await?;
        tx.append(Event::Rights { user });
        tell(tx, user, Letter::SecondFactorOn, device).await?;
        Ok(())
    })
    .await?;
    Ok(codes)
}

/// Switches the actor's second factor off, for whoever knows the password and shows it once more.
pub async fn disable(
    db: &Db,
    proof: &OwnSession,
    password: &str,
    typed: &Typed,
    device: &Device,
) -> Result<(), OpError<DisableSecondFactorCode>> {
    let wrong = || wrong_password(DisableSecondFactorCode::InvalidCredentials);
    let account = own(db, proof, password, wrong).await?;
    if !account.has_second_factor {
        return Err(
            Refusal::new(DisableSecondFactorCode::NotFound, "Your account has no second factor.").into()
        );
    }
    ask(db, proof, &account, typed).await?;
    db.write(proof, async |tx| {
        tx.unaudited("a person's second factor is their own");
        demand(tx, &account, typed, wrong).await?;
        remove(tx, account.user.id).await?;
        tell(tx, account.user.id, Letter::SecondFactorOff, device).await?;
        Ok(())
    })
    .await
}

/// What an operator found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The account has no second factor any more.
    Done,
    /// It had none.
    HadNone,
}

/// For an operator: takes the second factor from somebody who lost it and every recovery code, and ends all their sessions. The
/// password stays. `None` for an unknown address.
pub async fn reset(db: &Db, proof: &System, email: &Email) -> Result<Option<Reset>, Fault> {
    let Some(Secret { user: User { id: user, display_name, .. }, .. }) =
        secret(db, proof, "u.email", email.as_str()).await?
    else {
        return Ok(None);
    };
    db.write(proof, async |tx| {
        tx.lock_user(user).await?;
        let had_one = find(tx, user, true).await?.is_some();
        remove(tx, user).await?;
        if !had_one {
            return Ok(Reset::HadNone);
        }
        recovery_codes::forget(tx, user).await?;
        // Whoever administers an organization that this person belongs to has to know.
        let sql = Sql::new("SELECT organization_id FROM organization_members WHERE user_id = ");
        for Single(organization) in tx.all::<Single<Uuid>>(sql.bind(user.uuid())).await? {
            let entry = Entry::of(Action::AdminResetSecondFactor, ObjectKind::User, user, &display_name);
            tx.audit(&entry.in_organization(organization.into()))?;
        }
        sessions::end_others(tx, user, None).await?;
        tell(tx, user, Letter::SecondFactorOff, &Device::default()).await?;
        Ok(Reset::Done)
    })
    .await
    .map(Some)
    .map_err(OpError::<()>::into_fault)
}

/// Takes the second factor from somebody, whose row is locked, and what was counted of its codes.
async fn remove(tx: &mut Tx<'_>, user: UserId) -> Result<(), Fault> {
    tx.run(Sql::new("DELETE FROM second_factors WHERE user_id = ").bind(user.uuid())).await?;
    tx.run(Sql::new("DELETE FROM sign_in_tries WHERE id = ").bind(tries(tx.db(), user))).await?;
    set_since(tx, user, None).await?;
    tx.append(Event::Rights { user });
    Ok(())
}

async fn set_since(tx: &Tx<'_>, user: UserId, since: Option<DateTime<Utc>>) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE users SET second_factor_at = ")
        .bind(since)
        .push(", updated_at = ")
        .bind(tx.now())
        .push(" WHERE id = ")
        .bind(user.uuid());
    tx.run(sql).await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Recipient {
    email: String,
    display_name: String,
}

/// Mails a person what was done with their account, and where it came from.
pub(crate) async fn tell(
    tx: &Tx<'_>,
    user: UserId,
    letter: fn(AccountLetter) -> Letter,
    device: &Device,
) -> Result<(), Fault> {
    let sql = Sql::new("SELECT email, display_name FROM users WHERE id = ").bind(user.uuid());
    let Some(Recipient { email, display_name }) = tx.one(sql).await? else { return Ok(()) };
    let facts = AccountLetter {
        recipient_email: email,
        recipient_name: display_name,
        link: format!("{}/reset", tx.db().settings().app_url),
        at: tx.now(),
        ip: device.ip.clone(),
        ..AccountLetter::default()
    };
    mails::enqueue(tx, None, &letter(facts))?;
    Ok(())
}
