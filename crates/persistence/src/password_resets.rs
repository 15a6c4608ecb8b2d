//! Resetting a password by mail. Knows the link, once and for a while; refuses to tell whose address has an account.

use guildhall_domain::{
    access::Open,
    accounts::check_password,
    ids::UserId,
    mail::{AccountLetter, Letter},
    recovery::{RequestPasswordResetCode, ResetPasswordCode},
    refusal::Refusal,
    text::{DisplayName, Email},
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    accounts::set_password,
    db::{Ask, Db, Tx},
    error::{Fault, OpError},
    keys::fresh_token,
    lockout::Door,
    mails, recovery_codes, second_factor,
    sessions::{self, Device},
    sql::Sql,
};

#[derive(Debug, FromQueryResult)]
struct Person {
    id: Uuid,
    email: String,
    display_name: String,
}

/// Mails a link to whoever has the address; the link before it is dead. For an address that nobody has, or whose account
/// is disabled, everything is done alike, but the mail is one that is never sent.
pub async fn request(db: &Db, proof: &Open, email: &Email) -> Result<(), OpError<RequestPasswordResetCode>> {
    let token = fresh_token()?;
    db.write(proof, async |tx| {
        let sql =
            Sql::new("SELECT id, email, display_name FROM users WHERE status <> 'DISABLED' AND email = ");
        let person: Option<Person> = tx.one(sql.bind(email.as_str())).await?;
        let expires_at = tx.now() + db.settings().password_reset;
        // One row for each address that was asked for: the newest link is the only one.
        let sql = Sql::insert(
            "password_resets",
            [
                ("id", reset_id(db, email.as_str()).into()),
                ("user_id", person.as_ref().map(|person| person.id).into()),
                ("token_hash", db.keys().hash_token(&token).into()),
                ("expires_at", expires_at.into()),
            ],
        )
        .push(
            " ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, token_hash = excluded.token_hash, \
             expires_at = excluded.expires_at",
        );
        tx.run(sql).await?;
        match person {
            Some(person) => {
                let letter = Letter::PasswordReset(AccountLetter {
                    recipient_email: person.email,
                    recipient_name: person.display_name,
                    link: format!("{}/reset?token={token}", db.settings().app_url),
                    at: expires_at,
                    ..AccountLetter::default()
                });
                mails::enqueue(tx, None, &letter)?;
            }
            None => mails::pretend(tx)?,
        }
        Ok(())
    })
    .await
}

/// The account that a link is for.
async fn holder(ask: &impl Ask, db: &Db, token: &str) -> Result<Option<Person>, Fault> {
    let sql = Sql::new(
        "SELECT u.id, u.email, u.display_name, r.id AS reset_id FROM password_resets r \
         JOIN users u ON u.id = r.user_id AND u.status <> 'DISABLED' WHERE r.token_hash = ",
    )
    .bind(db.keys().hash_token(token))
    .push(" AND r.expires_at > ")
    .bind(ask.now());
    let found: Option<Holder> = ask.one(sql).await?;
    // Only while the account has the address that the link was mailed to.
    let here = |holder: &Holder| holder.reset_id == reset_id(db, &holder.email);
    let person = |Holder { id, email, display_name, .. }| Person { id, email, display_name };
    Ok(found.filter(here).map(person))
}

/// The row of what is asked for an address.
fn reset_id(db: &Db, email: &str) -> Uuid {
    db.keys().counter("password reset", [email, ""])
}

#[derive(Debug, FromQueryResult)]
struct Holder {
    id: Uuid,
    email: String,
    display_name: String,
    reset_id: Uuid,
}

/// Whether a password can be set by that link.
pub async fn is_valid(db: &Db, proof: &Open, token: &str) -> Result<bool, Fault> {
    Ok(holder(&db.read(proof), db, token).await?.is_some())
}

/// Sets a new password, once, for whoever holds the link: the mail proves the address. Everybody is signed out, what
/// failed before is forgiven, and a mail tells of it. A second factor stays, and so does what was counted of its codes.
pub async fn reset(
    db: &Db,
    proof: &Open,
    token: &str,
    password: &str,
    device: &Device,
) -> Result<(), OpError<ResetPasswordCode>> {
    let found = holder(&db.read(proof), db, token).await?;
    let Some(person) = found else { return Err(link_invalid().into()) };
    let (email, name) = (Email::from_stored(person.email), DisplayName::from_stored(person.display_name));
    check_password("newPassword", password, Some(&email), Some(&name))?;
    let hash = db.hasher().hash(password).await?;
    db.write(proof, async |tx| {
        let user = UserId::from(person.id);
        tx.lock_user(user).await?;
        // Asked again, since of two with the same link one comes first.
        if holder(tx, db, token).await?.is_none() {
            return Err(link_invalid().into());
        }
        set_password(tx, user, &hash, None).await?;
        // Made by whoever knew the password until now; where they knew a second factor as well, the codes are what is left to
        // somebody who lost that, and a mail is no way round it.
        if !second_factor::is_in_force(tx, user).await? {
            recovery_codes::forget(tx, user).await?;
        }
        let sql = Sql::new("UPDATE users SET email_verified_at = COALESCE(email_verified_at, ")
            .bind(tx.now())
            .push("), status = CASE WHEN status = 'UNVERIFIED' THEN 'ACTIVE' ELSE status END WHERE id = ")
            .bind(user.uuid());
        tx.run(sql).await?;
        sessions::end_others(tx, user, None).await?;
        Door::of(db, Some(&email), device).forgive(tx).await?;
        tell(tx, &email, &name, device)?;
        Ok(())
    })
    .await
}

/// Mails that the password was changed.
pub(crate) fn tell(tx: &Tx<'_>, email: &Email, name: &DisplayName, device: &Device) -> Result<(), Fault> {
    let letter = Letter::PasswordChanged(AccountLetter {
        recipient_email: email.as_str().to_owned(),
        recipient_name: name.as_str().to_owned(),
        link: format!("{}/reset", tx.db().settings().app_url),
        at: tx.now(),
        ip: device.ip.clone(),
        ..AccountLetter::default()
    });
    mails::enqueue(tx, None, &letter)?;
    Ok(())
}

/// Ends every link of that person: the password was changed, or the address.
pub(crate) async fn forget(tx: &Tx<'_>, user: UserId) -> Result<(), Fault> {
    tx.run(Sql::new("DELETE FROM password_resets WHERE user_id = ").bind(user.uuid())).await?;
    Ok(())
}

fn link_invalid() -> Refusal<ResetPasswordCode> {
    Refusal::new(
        ResetPasswordCode::LinkInvalid,
        "This link is not valid, or not any more: it works once and for a short time, and a newer one ends it. Ask for \
         another.",
    )
    .at("token")
}
