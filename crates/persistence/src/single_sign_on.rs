//! Single sign-on: which identity provider an organization has, and who signs in by it. Knows what is kept of a sign-in
//! between its steps; refuses to know how a provider is asked. Which domains are whose stands in `domains`.
//!
//! What a sign-in is recognised by (`state`, the browser's secret, the code it comes back with) is kept as an HMAC; PKCE's
//! verifier and the nonce are computed of `state`, which only the browser has. So any process can go on with a sign-in that
//! another one began, and the database holds nothing to go on with.

mod domains;

pub use domains::{
    Domain, Verified, Wanted, add_domain, domains_of_each, remove_domain, take_as_operator,
    verify_as_operator, verify_domain, wanted_domain,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, Open, OrganizationRole, perm},
    accounts::UserStatus,
    activity::LoginCode,
    audit::{Action, By, Entry, ObjectKind},
    events::Event,
    ids::{OrganizationId, UserId},
    organization_members::OrganizationMemberStatus,
    refusal::Refusal,
    single_sign_on::{
        ATTEMPT_LASTS, AccountFacts, Assertion, CODE_LASTS, ConfigureSingleSignOnCode, Facts,
        FinishSingleSignOnCode, Issuer, Provisioning, RemoveSingleSignOnCode, judge_admission,
    },
    text::{DisplayName, Email},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::{
    access::word,
    accounts::{self, USER_COLUMNS, User, join_organization},
    activity::{self, By as CameBy, Who},
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    instance,
    keys::fresh_token,
    quotas::{self, Seat},
    sessions::{self, Device, SignedIn},
    sql::{Single, Sql},
};

/// An organization's identity provider, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    id: Uuid,
    /// Whose it is.
    pub organization: OrganizationId,
    /// What that is called in addresses.
    pub slug: String,
    /// Its address.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// Tells two secrets apart.
    pub secret_fingerprint: String,
    /// When the secret was given.
    pub secret_set_at: DateTime<Utc>,
    /// Whom it lets in.
    pub provisioning: Provisioning,
    /// Whether a session that it did not open has access to the organization.
    pub password_sign_in: bool,
    /// When somebody signed in by it first.
    pub worked_at: Option<DateTime<Utc>>,
    /// When it was configured last.
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "p.id, p.organization_id, o.slug, p.issuer, p.client_id, p.secret_fingerprint, p.secret_set_at, \
     p.provisioning, o.password_sign_in, p.worked_at, p.updated_at";
const TABLES: &str = "identity_providers p JOIN organizations o ON o.id = p.organization_id";

impl FromQueryResult for Provider {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get(prefix, "id")?,
            organization: row.try_get::<Uuid>(prefix, "organization_id")?.into(),
            slug: row.try_get(prefix, "slug")?,
            issuer: row.try_get(prefix, "issuer")?,
            client_id: row.try_get(prefix, "client_id")?,
            secret_fingerprint: row.try_get(prefix, "secret_fingerprint")?,
            secret_set_at: row.try_get(prefix, "secret_set_at")?,
            provisioning: word(&row.try_get::<String>(prefix, "provisioning")?, Provisioning::from_word)?,
            password_sign_in: row.try_get(prefix, "password_sign_in")?,
            worked_at: row.try_get(prefix, "worked_at")?,
            updated_at: row.try_get(prefix, "updated_at")?,
        })
    }
}

type Manage = Granted<perm::OrganizationManage>;

/// The provider of each of those organizations.
pub async fn of_each(db: &Db, proofs: &[Manage]) -> Result<Vec<Option<Provider>>, ReadError> {
    let Some(first) = proofs.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM {TABLES} WHERE p.organization_id IN "))
        .bind_list(proofs.iter().map(|proof| proof.access().organization().uuid()));
    let rows: Vec<Provider> = db.read(first).all(sql).await?;
    let of =
        |proof: &Manage| rows.iter().find(|row| row.organization == proof.access().organization()).cloned();
    Ok(proofs.iter().map(of).collect())
}

async fn of_organization(tx: &Tx<'_>, organization: OrganizationId) -> Result<Option<Provider>, Fault> {
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM {TABLES} WHERE p.organization_id = "));
    tx.one(sql.bind(organization.uuid())).await
}

/// What an organization says of its provider.
#[derive(Debug)]
pub struct Configuration {
    /// Its address.
    pub issuer: Issuer,
    /// What this server is called there.
    pub client_id: String,
    /// The secret that this server shows there; the one before where there is none.
    pub client_secret: Option<SecretString>,
    /// Whom it lets in.
    pub provisioning: Provisioning,
    /// Whether a session that it did not open has access; as it is where nothing is said.
    pub password_sign_in: Option<bool>,
}

/// A provider, as the audit log tells it: nothing of its secret but which one it is.
fn shown(provider: &Provider) -> Value {
    json!({
        "issuer": provider.issuer,
        "clientId": provider.client_id,
        "clientSecret": { "fingerprint": provider.secret_fingerprint },
        "provisioning": provider.provisioning.word(),
        "passwordSignIn": provider.password_sign_in,
    })
}

/// Makes or changes the organization's provider.
pub async fn configure(
    db: &Db,
    proof: &Manage,
    wanted: Configuration,
) -> Result<Provider, OpError<ConfigureSingleSignOnCode>> {
    use ConfigureSingleSignOnCode as Code;
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let present = of_organization(tx, organization).await?;
        // A secret is shown to the provider it was given for, and to no other: an admin who does not know it would have it
        // sent to an address of theirs.
        let same = present.as_ref().filter(|present| {
            present.issuer == wanted.issuer.as_str() && present.client_id == wanted.client_id
        });
        let password_sign_in = wanted
            .password_sign_in
            .unwrap_or_else(|| present.as_ref().is_none_or(|present| present.password_sign_in));
        if !password_sign_in && same.is_none_or(|same| same.worked_at.is_none()) {
            return Err(Refusal::new(
                Code::ProviderUnproven,
                "Nobody has signed in by this provider yet: until then `passwordSignIn` is true. Sign in by it once.",
            )
            .at("passwordSignIn")
            .into());
        }
        if !password_sign_in && !domains::has_verified(tx, organization).await? {
            return Err(Refusal::new(
                Code::DomainUnverified,
                "The organization has no verified domain, so its provider lets nobody in: until then `passwordSignIn` is true. \
                 Add one by `addDomain`, and verify it by `verifyDomain`.",
            )
            .at("passwordSignIn")
            .into());
        }
        let id = same.map_or_else(|| tx.fresh_id(), |same| same.id);
        let sealed = match &wanted.client_secret {
            Some(secret) => Some(seal(tx, id, secret).await?),
            None if same.is_none() => {
                return Err(Refusal::new(
                    Code::InvalidInput,
                    "`clientSecret` is missing: it is kept only while issuer and client stay the same",
                )
                .at("clientSecret")
                .into());
            }
            None => None,
        };
        if same.is_none() {
            tx.run(Sql::new("DELETE FROM identity_providers WHERE organization_id = ").bind(organization.uuid()))
                .await?;
            if let Some(present) = &present {
                end_sessions(tx, present).await?;
                // Many a provider has another number for a person at each client.
                let ties = Sql::new("DELETE FROM sign_on_identities WHERE organization_id = ")
                    .bind(organization.uuid())
                    .push(" AND issuer = ")
                    .bind(wanted.issuer.as_str());
                tx.run(ties).await?;
            }
        }
        let slug = Sql::new("SELECT slug FROM organizations WHERE id = ").bind(organization.uuid());
        let provider = Provider {
            id,
            organization,
            slug: tx.one::<Single<String>>(slug).await?.map(|Single(slug)| slug).unwrap_or_default(),
            issuer: wanted.issuer.as_str().to_owned(),
            client_id: wanted.client_id.clone(),
            secret_fingerprint: match (&wanted.client_secret, same) {
                (Some(secret), _) => fingerprint(tx, organization, secret),
                (None, same) => same.map(|same| same.secret_fingerprint.clone()).unwrap_or_default(),
            },
            secret_set_at: match (&sealed, same) {
                (None, Some(same)) => same.secret_set_at,
                _ => tx.now(),
            },
            provisioning: wanted.provisioning,
            password_sign_in,
            worked_at: same.and_then(|same| same.worked_at),
            updated_at: tx.now(),
        };
        write(tx, &provider, sealed).await?;
        name(tx, organization, Some(id), password_sign_in).await?;
        let entry = entry(Action::ConfigureSingleSignOn, &provider);
        tx.audit(&match &present {
            Some(present) => entry.changed(shown(present), shown(&provider)),
            None => entry.after(shown(&provider)),
        })?;
        Ok(provider)
    })
    .await
}

fn entry(action: Action, provider: &Provider) -> Entry {
    Entry::of(action, ObjectKind::IdentityProvider, provider.organization, provider.issuer.as_str())
}

fn fingerprint(tx: &Tx<'_>, organization: OrganizationId, secret: &SecretString) -> String {
    let organization = organization.uuid();
    let parts = [b"client secret".as_slice(), organization.as_bytes(), secret.expose_secret().as_bytes()];
    hex::encode(&tx.db().keys().fingerprint_of(&parts)[..4])
}

async fn seal(tx: &Tx<'_>, id: Uuid, secret: &SecretString) -> Result<Vec<u8>, Fault> {
    let keys = tx.db().keys();
    // Whoever was not told of a new master key seals nothing more with the old one; see `vault::data_key`.
    let under = instance::hold_master_key(tx).await?;
    if let Some(id) = under.filter(|under| keys.master_key_ids().all(|id| id != under)) {
        return Err(Fault::MasterKeyMissing { what: "this database".to_owned(), id });
    }
    keys.seal_client_secret(id, secret.expose_secret().as_bytes())
}

/// Writes the row; the secret stays where none is given.
async fn write(tx: &Tx<'_>, provider: &Provider, sealed: Option<Vec<u8>>) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE identity_providers SET provisioning = ")
        .bind(provider.provisioning.word())
        .push(", updated_at = ")
        .bind(provider.updated_at);
    let Some(sealed) = sealed else {
        tx.run(sql.push(" WHERE id = ").bind(provider.id)).await?;
        return Ok(());
    };
    let master = tx.db().keys().master_key_id().to_owned();
    let sql = sql
        .push(", sealed_secret = ")
        .bind(sealed.clone())
        .push(", master_key_id = ")
        .bind(master.as_str())
        .push(", sealed_at = ")
        .bind(tx.now())
        .push(", secret_fingerprint = ")
        .bind(provider.secret_fingerprint.as_str())
        .push(", secret_set_at = ")
        .bind(provider.secret_set_at)
        .push(" WHERE id = ")
        .bind(provider.id);
    if tx.run(sql).await? > 0 {
        return Ok(());
    }
    tx.run(Sql::insert(
        "identity_providers",
        [
            ("id", provider.id.into()),
            ("organization_id", provider.organization.uuid().into()),
            ("issuer", provider.issuer.as_str().into()),
            ("client_id", provider.client_id.as_str().into()),
            ("master_key_id", master.into()),
            ("sealed_secret", sealed.into()),
            ("secret_fingerprint", provider.secret_fingerprint.as_str().into()),
            ("secret_set_at", provider.secret_set_at.into()),
            ("sealed_at", tx.now().into()),
            ("provisioning", provider.provisioning.word().into()),
            ("created_at", tx.now().into()),
            ("updated_at", provider.updated_at.into()),
        ],
    ))
    .await?;
    Ok(())
}

/// Notes with the organization, with which the rights of each request are read, which provider it has.
async fn name(
    tx: &Tx<'_>,
    organization: OrganizationId,
    provider: Option<Uuid>,
    password_sign_in: bool,
) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE organizations SET identity_provider_id = ")
        .bind(provider)
        .push(", password_sign_in = ")
        .bind(password_sign_in)
        .push(", updated_at = ")
        .bind(tx.now())
        .push(" WHERE id = ")
        .bind(organization.uuid());
    tx.run(sql).await?;
    Ok(())
}

/// Takes the organization's provider away. Passwords are good again, and sign-ins on their way come to nothing; who is
/// known as which of its subjects is remembered, for when it comes back.
pub async fn remove(db: &Db, proof: &Manage) -> Result<(), OpError<RemoveSingleSignOnCode>> {
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let Some(provider) = of_organization(tx, organization).await? else {
            return Err(Refusal::new(
                RemoveSingleSignOnCode::NotFound,
                "The organization has no identity provider.",
            )
            .at("organizationId")
            .into());
        };
        tx.run(Sql::new("DELETE FROM identity_providers WHERE id = ").bind(provider.id)).await?;
        end_sessions(tx, &provider).await?;
        name(tx, organization, None, true).await?;
        tx.audit(&entry(Action::RemoveSingleSignOn, &provider).before(shown(&provider)))?;
        Ok(())
    })
    .await
}

/// Ends the sessions that a provider opened: it may be gone since it lied.
async fn end_sessions(tx: &mut Tx<'_>, provider: &Provider) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE sessions SET ended_at = ")
        .bind(tx.now())
        .push(" WHERE ended_at IS NULL AND identity_provider_id = ")
        .bind(provider.id)
        .push(" RETURNING user_id");
    let mut people: Vec<Uuid> = tx.all::<Single<Uuid>>(sql).await?.into_iter().map(|Single(id)| id).collect();
    people.sort_unstable();
    people.dedup();
    for user in people {
        tx.append(Event::Session { user: user.into(), session: None });
    }
    Ok(())
}

/// Whose provider is meant.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// That of the organization which has verified this domain.
    Domain(&'a str),
    /// That of the organization with this slug.
    Organization(&'a str),
}

/// Where a sign-in begins.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Door {
    id: Uuid,
    /// The organization in addresses.
    pub slug: String,
    /// The provider's address.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
}

/// The provider by which somebody signs in.
pub async fn door(db: &Db, proof: &Open, whose: Whose<'_>) -> Result<Option<Door>, Fault> {
    let sql = Sql::new(format!(
        "SELECT p.id, o.slug, p.issuer, p.client_id FROM {TABLES} WHERE p.organization_id = "
    ));
    let sql = match whose {
        Whose::Domain(domain) => sql
            .push("(SELECT d.organization_id FROM organization_domains d WHERE d.verified_at IS NOT NULL AND d.domain = ")
            .bind(domain)
            .push(")"),
        Whose::Organization(slug) => {
            sql.push("(SELECT named.id FROM organizations named WHERE named.slug = ").bind(slug).push(")")
        }
    };
    db.read(proof).one(sql).await
}

/// A sign-in that began.
pub struct Begun {
    /// Goes to the provider and comes back from there.
    pub state: String,
    /// Goes to the provider and comes back within the ID token.
    pub nonce: String,
    /// Goes to the provider: of PKCE by S256.
    pub challenge: String,
    /// Stays in the browser that began.
    pub secret: String,
    /// Until when it can be finished.
    pub expires_at: DateTime<Utc>,
}

/// Begins a sign-in.
pub async fn begin(db: &Db, proof: &Open, door: &Door, redirect_to: Option<&str>) -> Result<Begun, Fault> {
    let (state, secret) = (fresh_token()?, fresh_token()?);
    let (verifier, nonce) = (verifier(db, &state), nonce(db, &state));
    let begun = db.write(proof, async |tx| {
        let expires_at = tx.now() + ATTEMPT_LASTS;
        tx.run(Sql::insert(
            "sign_on_attempts",
            [
                ("id", tx.fresh_id::<Uuid>().into()),
                ("provider_id", door.id.into()),
                ("status", "STARTED".into()),
                ("state_hash", db.keys().hash_token(&state).into()),
                ("secret_hash", db.keys().hash_token(&secret).into()),
                ("redirect_to", redirect_to.into()),
                ("created_at", tx.now().into()),
                ("expires_at", expires_at.into()),
            ],
        ))
        .await?;
        Ok(expires_at)
    });
    let expires_at = begun.await.map_err(OpError::into_fault)?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    Ok(Begun { state, nonce, challenge, secret, expires_at })
}

fn verifier(db: &Db, state: &str) -> String {
    derived(db, b"sign-on verifier", state)
}

fn nonce(db: &Db, state: &str) -> String {
    derived(db, b"sign-on nonce", state)
}

fn derived(db: &Db, what: &[u8], state: &str) -> String {
    URL_SAFE_NO_PAD.encode(db.keys().fingerprint_of(&[what, state.as_bytes()]))
}

/// A browser that came back from a provider.
pub struct Return {
    attempt: Uuid,
    /// The organization in addresses.
    pub slug: String,
    /// The provider's address.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// The secret that this server shows there.
    pub client_secret: SecretString,
    /// Proves to the provider that it is this server that began.
    pub verifier: String,
    /// What the ID token holds.
    pub nonce: String,
    /// Where the browser goes on.
    pub redirect_to: Option<String>,
}

#[derive(FromQueryResult)]
struct Returned {
    id: Uuid,
    redirect_to: Option<String>,
    provider: Uuid,
    issuer: String,
    client_id: String,
    master_key_id: String,
    sealed_secret: Vec<u8>,
}

/// The sign-in of which a browser came back to the address of that organization, once: `None` for one that is unknown, over,
/// another organization's, or was come back from before. So a provider that lies gets no code that another one gave.
pub async fn come_back(db: &Db, proof: &Open, slug: &str, state: &str) -> Result<Option<Return>, Fault> {
    let hash = db.keys().hash_token(state);
    let returned = db.write(proof, async |tx| {
        let sql = Sql::new("UPDATE sign_on_attempts SET status = 'CALLED' WHERE status = 'STARTED' AND state_hash = ")
            .bind(hash.clone())
            .push(" AND expires_at > ")
            .bind(tx.now())
            .push(&format!(" AND provider_id IN (SELECT p.id FROM {TABLES} WHERE o.slug = "))
            .bind(slug)
            .push(")");
        if tx.run(sql).await? == 0 {
            return Ok(None);
        }
        let sql = Sql::new(
            "SELECT a.id, a.redirect_to, p.id AS provider, p.issuer, p.client_id, p.master_key_id, p.sealed_secret \
             FROM sign_on_attempts a JOIN identity_providers p ON p.id = a.provider_id WHERE a.state_hash = ",
        );
        Ok(tx.one::<Returned>(sql.bind(hash.clone())).await?)
    });
    let Some(row) = returned.await.map_err(OpError::into_fault)? else { return Ok(None) };
    let secret = db.keys().open_client_secret(row.provider, &row.master_key_id, &row.sealed_secret)?;
    let secret =
        std::str::from_utf8(&secret).map_err(|_| Fault::Stored("a client secret is no text".to_owned()))?;
    Ok(Some(Return {
        attempt: row.id,
        slug: slug.to_owned(),
        issuer: row.issuer,
        client_id: row.client_id,
        client_secret: secret.to_owned().into(),
        verifier: verifier(db, state),
        nonce: nonce(db, state),
        redirect_to: row.redirect_to,
    }))
}

/// Keeps what the provider said until the browser that began comes for it with this code.
pub async fn vouch(
    db: &Db,
    proof: &Open,
    returned: &Return,
    assertion: &Assertion,
) -> Result<Option<String>, Fault> {
    let code = fresh_token()?;
    let kept = db.write(proof, async |tx| {
        let sql = Sql::new("UPDATE sign_on_attempts SET status = 'READY', code_hash = ")
            .bind(db.keys().hash_token(&code))
            .push(", subject = ")
            .bind(assertion.subject.as_str())
            .push(", email = ")
            .bind(assertion.email.as_str())
            .push(", name = ")
            .bind(assertion.name.clone())
            .push(", expires_at = ")
            .bind(tx.now() + CODE_LASTS)
            .push(" WHERE status = 'CALLED' AND id = ")
            .bind(returned.attempt);
        Ok(tx.run(sql).await? > 0)
    });
    // Where the provider was removed meanwhile, so was this.
    Ok(kept.await.map_err(OpError::into_fault)?.then_some(code))
}

#[derive(FromQueryResult)]
struct Attempt {
    id: Uuid,
    secret_hash: Vec<u8>,
    subject: String,
    email: String,
    name: Option<String>,
    organization_id: Uuid,
    provider: Uuid,
    issuer: String,
    provisioning: String,
}

const ATTEMPTS: &str = "sign_on_attempts a JOIN identity_providers p ON p.id = a.provider_id \
     WHERE a.status = 'READY' AND a.code_hash = ";

/// Signs in whom the provider has vouched for, once, for the browser that began: it makes the account where there is none,
/// lets into the organization whom that lets in, and remembers who it is.
pub async fn finish(
    db: &Db,
    proof: &Open,
    code: &str,
    secret: &str,
    device: &Device,
) -> Result<(User, SignedIn), OpError<FinishSingleSignOnCode>> {
    let invalid = || {
        Refusal::new(
            FinishSingleSignOnCode::SignOnInvalid,
            "This sign-in was finished before, took too long, or was begun elsewhere. Begin anew.",
        )
    };
    let (code, secret) = (db.keys().hash_token(code), db.keys().hash_token(secret));
    let outcome = db.write(proof, async |tx| {
        let sql = Sql::new(format!("SELECT p.organization_id FROM {ATTEMPTS}")).bind(code.clone());
        let Some(Single(organization)) = tx.one::<Single<Uuid>>(sql).await? else { return Ok(Err(invalid())) };
        // Two who come with one code take turns here, and whoever removes the provider or a member does, too.
        tx.lock_organization(organization.into()).await?;
        let sql = Sql::new(format!(
            "SELECT a.id, a.secret_hash, a.subject, a.email, a.name, p.organization_id, p.id AS provider, p.issuer, \
             p.provisioning FROM {ATTEMPTS}"
        ))
        .bind(code)
        .push(" AND a.expires_at > ")
        .bind(tx.now());
        let Some(attempt) = tx.one::<Attempt>(sql).await? else { return Ok(Err(invalid())) };
        // Used up, whatever comes of it: who has the code and not the secret has somebody else's.
        let sql = Sql::new("UPDATE sign_on_attempts SET status = 'DONE' WHERE status = 'READY' AND id = ");
        if tx.run(sql.bind(attempt.id)).await? == 0 || !bool::from(attempt.secret_hash.ct_eq(&secret)) {
            return Ok(Err(invalid()));
        }
        admit(tx, &attempt, device).await
    });
    outcome.await?.map_err(Into::into)
}

/// Lets in, or says why not; what was used up stays so.
async fn admit(
    tx: &mut Tx<'_>,
    attempt: &Attempt,
    device: &Device,
) -> Result<Result<(User, SignedIn), Refusal<FinishSingleSignOnCode>>, OpError<FinishSingleSignOnCode>> {
    let organization = OrganizationId::from(attempt.organization_id);
    let email = Email::from_stored(attempt.email.clone());
    // Before the person, as everybody does it who takes both.
    quotas::lock_seats(tx, organization).await?;
    let found = find(tx, attempt).await?;
    let account = match &found {
        Some(user) => {
            tx.lock_user(user.id).await?;
            Some(facts_of(tx, attempt, user).await?)
        }
        None => None,
    };
    let facts = Facts {
        provisioning: word(&attempt.provisioning, Provisioning::from_word).map_err(Fault::from)?,
        is_domain_verified: domains::is_verified(tx, organization, email.domain()).await?,
        account,
        invitation: invitation(tx, organization, &email).await?,
    };
    let admission = match judge_admission(&facts) {
        Ok(admission) => admission,
        Err(refusal) => {
            if let (Some(user), FinishSingleSignOnCode::UserDisabled) = (&found, refusal.code) {
                let by = CameBy::Provider(attempt.provider);
                activity::note_by(tx, Who::Person(user.id), by, LoginCode::Disabled, device).await?;
            }
            return Ok(Err(refusal));
        }
    };
    if admission.joins
        && let Err(exceeded) = quotas::seat(tx, organization, &[], email.as_str(), Seat::Invited).await?
    {
        return Ok(Err(exceeded.refusal(FinishSingleSignOnCode::QuotaExceeded)));
    }
    let is_new = found.is_none();
    let user = match found {
        Some(user) => prove(tx, user).await?,
        None => match make(tx, &email, attempt.name.as_deref()).await? {
            Some(user) => user,
            // Somebody registered with that address at this moment.
            None => return Ok(Err(Refusal::new(FinishSingleSignOnCode::SignOnInvalid, "Begin anew."))),
        },
    };
    if admission.joins {
        join_organization(tx, organization, user.id, OrganizationRole::Member).await?;
    }
    if admission.is_tied {
        tie(tx, attempt, user.id).await?;
    }
    if is_new || admission.joins {
        let object = if admission.joins { ObjectKind::OrganizationMember } else { ObjectKind::User };
        let entry = Entry::of(Action::FinishSingleSignOn, object, user.id, user.display_name.as_str());
        let role = admission.joins.then_some(OrganizationRole::Member.word());
        let after = json!({ "email": user.email, "role": role, "issuer": attempt.issuer });
        tx.audit(&entry.after(after).by(By::Person(user.id)).in_organization(organization))?;
    }
    let sql = Sql::new("UPDATE identity_providers SET worked_at = ").bind(tx.now());
    tx.run(sql.push(" WHERE worked_at IS NULL AND id = ").bind(attempt.provider)).await?;
    let sql = Sql::new("UPDATE users SET last_sign_in_at = ").bind(tx.now());
    tx.run(sql.push(" WHERE id = ").bind(user.id.uuid())).await?;
    let signed_in = sessions::open_by(tx, user.id, CameBy::Provider(attempt.provider), device).await?;
    Ok(Ok((user, signed_in)))
}

/// Whose account it is: that of the subject, else that of the address.
async fn find(tx: &Tx<'_>, attempt: &Attempt) -> Result<Option<User>, Fault> {
    let sql = Sql::new(format!(
        "SELECT {USER_COLUMNS} FROM sign_on_identities i JOIN users u ON u.id = i.user_id WHERE i.organization_id = "
    ))
    .bind(attempt.organization_id)
    .push(" AND i.issuer = ")
    .bind(attempt.issuer.as_str())
    .push(" AND i.subject = ")
    .bind(attempt.subject.as_str());
    if let Some(user) = tx.one(sql).await? {
        return Ok(Some(user));
    }
    let sql = Sql::new(format!("SELECT {USER_COLUMNS} FROM users u WHERE u.email = "));
    tx.one(sql.bind(attempt.email.as_str())).await
}

#[derive(FromQueryResult)]
struct AccountRow {
    email: String,
    status: String,
    place: Option<String>,
    is_somebody_else: bool,
}

async fn facts_of(tx: &Tx<'_>, attempt: &Attempt, user: &User) -> Result<AccountFacts, Fault> {
    let organization = OrganizationId::from(attempt.organization_id);
    // Read anew, now that nobody changes it.
    let sql = Sql::new(
        "SELECT u.email, u.status, om.status AS place, EXISTS (SELECT 1 FROM sign_on_identities i \
         WHERE i.user_id = u.id AND i.organization_id = $1 AND i.issuer = $2 AND i.subject <> $3) AS is_somebody_else \
         FROM users u LEFT JOIN organization_members om ON om.user_id = u.id AND om.organization_id = $1 WHERE u.id = $4",
    )
    .values([
        attempt.organization_id.into(),
        attempt.issuer.as_str().into(),
        attempt.subject.as_str().into(),
        user.id.uuid().into(),
    ]);
    let row: Option<AccountRow> = tx.one(sql).await?;
    let row = row.ok_or_else(|| Fault::Stored("an account went away under its lock".to_owned()))?;
    let email = Email::from_stored(row.email);
    Ok(AccountFacts {
        is_disabled: row.status == UserStatus::Disabled.word(),
        is_domain_verified: domains::is_verified(tx, organization, email.domain()).await?,
        place: row.place.map(|place| word(&place, OrganizationMemberStatus::from_word)).transpose()?,
        is_somebody_else: row.is_somebody_else,
    })
}

/// Whether a pending invitation of the organization waits for that address, and then whether it is to the organization
/// itself.
async fn invitation(tx: &Tx<'_>, organization: OrganizationId, email: &Email) -> Result<Option<bool>, Fault> {
    let sql = Sql::new("SELECT organization_role IS NOT NULL FROM invitations WHERE status = 'PENDING' AND organization_id = ")
        .bind(organization.uuid())
        .push(" AND email = ")
        .bind(email.as_str())
        .push(" AND expires_at > ")
        .bind(tx.now());
    let found: Vec<Single<bool>> = tx.all(sql).await?;
    Ok(found.into_iter().map(|Single(to_organization)| to_organization).reduce(|one, other| one || other))
}

/// An account without a password: one can be set by mail. `None` where the address has an account meanwhile.
async fn make(tx: &Tx<'_>, email: &Email, name: Option<&str>) -> Result<Option<User>, Fault> {
    let name = name.and_then(|name| DisplayName::parse(name).ok());
    let name = name.or_else(|| DisplayName::parse(email.local()).ok());
    let name = name.unwrap_or_else(|| DisplayName::from_stored("New member".to_owned()));
    Ok(accounts::insert(tx, email, &name, tx.db().hasher().of_nothing()?).await?.ok())
}

/// The account, whose address is proven now. Whoever made it without proving that keeps nothing of it.
async fn prove(tx: &mut Tx<'_>, mut user: User) -> Result<User, Fault> {
    if user.status == UserStatus::Unverified {
        accounts::set_password(tx, user.id, &tx.db().hasher().of_nothing()?, None).await?;
        sessions::end_others(tx, user.id, None).await?;
        let sql = Sql::new("UPDATE users SET status = 'ACTIVE', email_verified_at = ").bind(tx.now());
        tx.run(sql.push(" WHERE id = ").bind(user.id.uuid())).await?;
        user.status = UserStatus::Active;
    }
    Ok(user)
}

/// Remembers who a subject is; another address at the provider changes nothing from now on.
async fn tie(tx: &Tx<'_>, attempt: &Attempt, user: UserId) -> Result<(), Fault> {
    let sql = Sql::insert(
        "sign_on_identities",
        [
            ("id", tx.fresh_id::<Uuid>().into()),
            ("organization_id", attempt.organization_id.into()),
            ("user_id", user.uuid().into()),
            ("issuer", attempt.issuer.as_str().into()),
            ("subject", attempt.subject.as_str().into()),
            ("created_at", tx.now().into()),
        ],
    );
    tx.run(sql.push(" ON CONFLICT DO NOTHING")).await?;
    Ok(())
}
