//! Another e-mail address for an account: asked for with the password, confirmed at both addresses before it holds, and
//! stopped from either. Refuses to tell whether the new address has an account.

use guildhall_domain::{
    access::{Open, OwnSession},
    ids::UserId,
    mail::{AccountLetter, Letter},
    recovery::{CancelEmailChangeCode, ConfirmEmailChangeCode, EMAIL_CHANGE_LASTS, RequestEmailChangeCode},
    refusal::Refusal,
    text::Email,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    accounts::{Secret, secret},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, is_duplicate},
    keys::fresh_token,
    mails, password_resets, search, sessions,
    sql::{Single, Sql},
};

/// Mails a link to the address the person has and one to the address they want; an earlier wish is forgotten. Where the
/// address belongs to an account, that mail is one that is never sent.
pub async fn request(
    db: &Db,
    proof: &OwnSession,
    password: &str,
    wanted: &Email,
) -> Result<(), OpError<RequestEmailChangeCode>> {
    let found = secret(db, proof, "u.id", proof.user().uuid()).await?;
    let stored = found.as_ref().map(|secret| secret.password_hash.as_str());
    let right = db.hasher().verify(password, stored).await?;
    let Some(Secret { user, password_hash, .. }) = found.filter(|_| right) else {
        return Err(wrong_password().into());
    };
    if user.email == wanted.as_str() {
        return Err(Refusal::new(
            RequestEmailChangeCode::InvalidInput,
            "`newEmail` is the address that the account has.",
        )
        .at("newEmail")
        .into());
    }
    let (old_token, new_token) = (fresh_token()?, fresh_token()?);
    db.write(proof, async |tx| {
        tx.unaudited("a person's address is their own");
        tx.lock_user(user.id).await?;
        let unchanged = Sql::new("SELECT 1 FROM users WHERE password_hash = ")
            .bind(password_hash.as_str())
            .push(" AND email = ")
            .bind(user.email.as_str())
            .push(" AND id = ")
            .bind(user.id.uuid());
        if tx.one::<Single<i32>>(unchanged).await?.is_none() {
            return Err(wrong_password().into());
        }
        let expires_at = tx.now() + EMAIL_CHANGE_LASTS;
        let sql = Sql::insert(
            "email_changes",
            [
                ("user_id", user.id.uuid().into()),
                ("new_email", wanted.as_str().into()),
                ("old_token_hash", db.keys().hash_token(&old_token).into()),
                ("new_token_hash", db.keys().hash_token(&new_token).into()),
                ("old_confirmed", false.into()),
                ("new_confirmed", false.into()),
                ("expires_at", expires_at.into()),
            ],
        )
        .push(
            " ON CONFLICT (user_id) DO UPDATE SET new_email = excluded.new_email, \
             old_token_hash = excluded.old_token_hash, new_token_hash = excluded.new_token_hash, \
             old_confirmed = FALSE, new_confirmed = FALSE, expires_at = excluded.expires_at",
        );
        tx.run(sql).await?;
        let taken = is_taken(tx, wanted.as_str()).await?;
        for (recipient, token) in [(user.email.as_str(), &old_token), (wanted.as_str(), &new_token)] {
            if recipient == wanted.as_str() && taken {
                mails::pretend(tx)?;
                continue;
            }
            let letter = Letter::EmailChange(AccountLetter {
                recipient_email: recipient.to_owned(),
                recipient_name: user.display_name.clone(),
                link: format!("{}/email?token={token}", db.settings().app_url),
                at: expires_at,
                current_email: user.email.clone(),
                new_email: wanted.as_str().to_owned(),
                ip: None,
            });
            mails::enqueue(tx, None, &letter)?;
        }
        Ok(())
    })
    .await
}

fn wrong_password() -> Refusal<RequestEmailChangeCode> {
    Refusal::new(RequestEmailChangeCode::InvalidCredentials, "This is not your current password.")
        .at("password")
}

async fn is_taken(tx: &Tx<'_>, email: &str) -> Result<bool, Fault> {
    let sql = Sql::new("SELECT 1 FROM users WHERE email = ").bind(email);
    Ok(tx.one::<Single<i32>>(sql).await?.is_some())
}

/// What a link is about.
#[derive(Clone, Debug, FromQueryResult)]
pub struct EmailChange {
    user_id: Uuid,
    /// The address that the account has.
    pub email: String,
    display_name: String,
    /// The address that it is to have.
    pub new_email: String,
    /// Whether the link came to the new address.
    pub is_new: bool,
    /// Whether it was confirmed at the address the account has.
    pub old_confirmed: bool,
    /// Whether it was confirmed at the new one.
    pub new_confirmed: bool,
}

impl EmailChange {
    /// Whether the account has the new address.
    pub fn is_done(&self) -> bool {
        self.old_confirmed && self.new_confirmed
    }
}

async fn find(ask: &impl Ask, db: &Db, token: &str) -> Result<Option<EmailChange>, Fault> {
    let hash = db.keys().hash_token(token);
    let sql = Sql::new("SELECT c.user_id, u.email, u.display_name, c.new_email, c.new_token_hash = ")
        .bind(hash.clone())
        .push(
            " AS is_new, c.old_confirmed, c.new_confirmed FROM email_changes c \
             JOIN users u ON u.id = c.user_id AND u.status <> 'DISABLED' WHERE (c.new_token_hash = ",
        )
        .bind(hash.clone())
        .push(" OR c.old_token_hash = ")
        .bind(hash)
        .push(") AND c.expires_at > ")
        .bind(ask.now());
    ask.one(sql).await
}

/// What the link is about; `None`: it is not valid, or not any more.
pub async fn by_token(db: &Db, proof: &Open, token: &str) -> Result<Option<EmailChange>, Fault> {
    find(&db.read(proof), db, token).await
}

/// Confirms the change at the address that the link came to. With the second of the two the account has the new address,
/// and everybody is signed out. Answers the change as it stands then.
pub async fn confirm(
    db: &Db,
    proof: &Open,
    token: &str,
) -> Result<EmailChange, OpError<ConfirmEmailChangeCode>> {
    let Some(seen) = by_token(db, proof, token).await? else { return Err(invalid_confirmation().into()) };
    let changed = db.write(proof, async |tx| {
        let user = UserId::from(seen.user_id);
        tx.lock_user(user).await?;
        // Asked again, since the other link may be confirmed, or the whole stopped, at this moment.
        let Some(mut change) = find(tx, db, token).await? else { return Err(invalid_confirmation().into()) };
        let column = if change.is_new { "new_confirmed" } else { "old_confirmed" };
        let confirm = Sql::new(format!("UPDATE email_changes SET {column} = TRUE WHERE user_id = "));
        tx.run(confirm.bind(user.uuid())).await?;
        if change.is_new {
            change.new_confirmed = true;
        } else {
            change.old_confirmed = true;
        }
        if !change.is_done() {
            return Ok(change);
        }
        // Somebody may have registered with it meanwhile.
        if is_taken(tx, &change.new_email).await? {
            return Err(invalid_confirmation().into());
        }
        let sql = Sql::new("UPDATE users SET email = ")
            .bind(change.new_email.as_str())
            .push(", search_text = ")
            .bind(search::of_person(&change.display_name, &change.new_email))
            .push(", email_verified_at = ")
            .bind(tx.now())
            .push(", status = CASE WHEN status = 'UNVERIFIED' THEN 'ACTIVE' ELSE status END, updated_at = ")
            .bind(tx.now())
            .push(" WHERE id = ")
            .bind(user.uuid());
        tx.run(sql).await?;
        forget(tx, user).await?;
        password_resets::forget(tx, user).await?;
        // What is open listens for the address that was.
        sessions::end_others(tx, user, None).await?;
        Ok(change)
    });
    match changed.await {
        Err(OpError::Fault(Fault::Database(error))) if is_duplicate(&error, "users", "email") => {
            Err(invalid_confirmation().into())
        }
        outcome => outcome,
    }
}

/// Stops the change, from either address.
pub async fn cancel(db: &Db, proof: &Open, token: &str) -> Result<(), OpError<CancelEmailChangeCode>> {
    db.write(proof, async |tx| match find(tx, db, token).await? {
        Some(change) => Ok(forget(tx, change.user_id.into()).await?),
        None => Err(Refusal::new(CancelEmailChangeCode::LinkInvalid, LINK_INVALID).at("token").into()),
    })
    .await
}

pub(crate) async fn forget(tx: &Tx<'_>, user: UserId) -> Result<(), Fault> {
    tx.run(Sql::new("DELETE FROM email_changes WHERE user_id = ").bind(user.uuid())).await?;
    Ok(())
}

const LINK_INVALID: &str = "This link is not valid, or not any more: the change was made, stopped or asked for anew, its day \
                            is over, or the address cannot be had.";

fn invalid_confirmation() -> Refusal<ConfirmEmailChangeCode> {
    Refusal::new(ConfirmEmailChangeCode::LinkInvalid, LINK_INVALID).at("token")
}
