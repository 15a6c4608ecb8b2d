//! Recovery codes: made for their owner alone, kept as hashes, each good for one new password without any mail, or once in
//! place of a second factor.

use guildhall_domain::{
    access::{Open, OwnSession},
    accounts::check_password,
    activity::LoginCode,
    ids::UserId,
    mail::Letter,
    recovery::{
        GenerateRecoveryCodesCode, RECOVERY_CODES, ResetPasswordWithRecoveryCodeCode, recovery_code,
        typed_code,
    },
    refusal::Refusal,
    second_factor::Typed,
    text::{DisplayName, Email},
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    access::count,
    accounts::{secret, set_password},
    activity::{self, Who},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    keys::random,
    lockout::Door,
    password_resets, second_factor,
    sessions::{self, Device},
    sql::{Single, Sql},
};

/// What is stored of somebody's code.
fn hash(db: &Db, user: Uuid, code: &str) -> Vec<u8> {
    db.keys().hash_token(&format!("recovery {user} {}", typed_code(code)))
}

/// Fresh codes, for nobody yet.
pub(crate) fn fresh() -> Result<Vec<String>, Fault> {
    let mut codes = Vec::with_capacity(RECOVERY_CODES);
    for _ in 0..RECOVERY_CODES {
        codes.push(recovery_code(&random::<16>()?));
    }
    Ok(codes)
}

/// Gives a person, whose row is locked, those codes in place of what they had.
pub(crate) async fn replace(tx: &Tx<'_>, user: UserId, codes: &[String]) -> Result<(), Fault> {
    forget(tx, user).await?;
    for code in codes {
        tx.defer(Sql::insert(
            "recovery_codes",
            [
                ("id", tx.fresh_id::<Uuid>().into()),
                ("user_id", user.uuid().into()),
                ("code_hash", hash(tx.db(), user.uuid(), code).into()),
                ("created_at", tx.now().into()),
            ],
        ));
    }
    Ok(())
}

/// Uses a code of somebody up; `false` where it is none of theirs. Of two with the same code one comes first.
pub(crate) async fn use_up(tx: &Tx<'_>, user: UserId, code: &str) -> Result<bool, Fault> {
    let used = Sql::new("DELETE FROM recovery_codes WHERE user_id = ")
        .bind(user.uuid())
        .push(" AND code_hash = ")
        .bind(hash(tx.db(), user.uuid(), code));
    Ok(tx.run(used).await? > 0)
}

/// Makes fresh codes for the actor; those they had are good for nothing. Who has a second factor shows it: the codes stand for
/// it. A mail tells of it.
pub async fn generate(
    db: &Db,
    proof: &OwnSession,
    password: &str,
    typed: &Typed,
    device: &Device,
) -> Result<Vec<String>, OpError<GenerateRecoveryCodesCode>> {
    let wrong = || {
        Refusal::new(GenerateRecoveryCodesCode::InvalidCredentials, "This is not your current password.")
            .at("password")
    };
    let found = secret(db, proof, "u.id", proof.user().uuid()).await?;
    let stored = found.as_ref().map(|secret| secret.password_hash.as_str());
    let right = db.hasher().verify(password, stored).await?;
    let Some(account) = found.filter(|_| right) else { return Err(wrong().into()) };
    second_factor::ask(db, proof, &account, typed).await?;
    let codes = fresh()?;
    db.write(proof, async |tx| {
        tx.unaudited("a person's recovery codes are their own");
        second_factor::demand(tx, &account, typed, wrong).await?;
        replace(tx, account.user.id, &codes).await?;
        second_factor::tell(tx, account.user.id, Letter::RecoveryCodesMade, device).await?;
        Ok(())
    })
    .await?;
    Ok(codes)
}

/// How many codes the actor has left.
pub async fn left(db: &Db, proof: &OwnSession) -> Result<u64, ReadError> {
    let sql = Sql::new("SELECT count(*) FROM recovery_codes WHERE user_id = ").bind(proof.user().uuid());
    count(db.read(proof).one::<Single<i64>>(sql).await?)
}

#[derive(Debug, FromQueryResult)]
struct Person {
    id: Uuid,
    email: String,
    display_name: String,
}

async fn holder(ask: &impl Ask, db: &Db, email: &Email, code: &str) -> Result<Option<Person>, Fault> {
    let sql = Sql::new("SELECT id, email, display_name FROM users WHERE status <> 'DISABLED' AND email = ");
    let person: Option<Person> = ask.one(sql.bind(email.as_str())).await?;
    // Asked for nobody as well, so that an unknown address costs what a wrong code does.
    let user = person.as_ref().map_or(Uuid::nil(), |person| person.id);
    let sql = Sql::new("SELECT 1 FROM recovery_codes WHERE user_id = ")
        .bind(user)
        .push(" AND code_hash = ")
        .bind(hash(db, user, code));
    let is_right = ask.one::<Single<i32>>(sql).await?.is_some();
    Ok(person.filter(|_| is_right))
}

/// Ends the codes of an account.
pub(crate) async fn forget(tx: &Tx<'_>, user: UserId) -> Result<(), Fault> {
    tx.run(Sql::new("DELETE FROM recovery_codes WHERE user_id = ").bind(user.uuid())).await?;
    Ok(())
}

/// Sets a new password, once for each code, for whoever knows one. Everybody is signed out, and a mail tells of it. A wrong
/// code is no sign-in that failed: strangers who try codes must not make anybody wait.
pub async fn reset(
    db: &Db,
    proof: &Open,
    email: &Email,
    code: &str,
    password: &str,
    device: &Device,
) -> Result<(), OpError<ResetPasswordWithRecoveryCodeCode>> {
    let wrong = || {
        Refusal::new(
            ResetPasswordWithRecoveryCodeCode::InvalidCredentials,
            "E-mail address and recovery code do not belong together, or the code was used before.",
        )
    };
    let door = Door::of(db, Some(email), device);
    let Some(person) = holder(&db.read(proof), db, email, code).await? else {
        db.in_earnest()
            .write::<_, ResetPasswordWithRecoveryCodeCode>(proof, async |tx| {
                activity::note(tx, Who::Address(email.as_str()), LoginCode::WrongPassword, device).await?;
                Ok(())
            })
            .await?;
        return Err(wrong().into());
    };
    let (email, name) = (Email::from_stored(person.email), DisplayName::from_stored(person.display_name));
    check_password("newPassword", password, Some(&email), Some(&name))?;
    let new = db.hasher().hash(password).await?;
    db.write(proof, async |tx| {
        tx.lock_user(person.id.into()).await?;
        if !use_up(tx, person.id.into(), code).await? {
            return Err(wrong().into());
        }
        set_password(tx, person.id.into(), &new, None).await?;
        sessions::end_others(tx, person.id.into(), None).await?;
        door.forgive(tx).await?;
        password_resets::tell(tx, &email, &name, device)?;
        Ok(())
    })
    .await
}
