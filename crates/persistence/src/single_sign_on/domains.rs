//! Which domains are whose. A domain belongs to one organization at most, from when it is verified; until then others may
//! wait for it as well.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, System, perm},
    audit::{Action, Entry, ObjectKind},
    ids::OrganizationId,
    refusal::Refusal,
    single_sign_on::{
        AddDomainCode, MAX_DOMAINS, RemoveDomainCode, VerifyDomainCode, record_name, record_value,
    },
};
use sea_orm::FromQueryResult;
use serde_json::json;
use uuid::Uuid;

use crate::{
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError, is_duplicate},
    sql::{Number, Single, Sql},
};

type Manage = Granted<perm::OrganizationManage>;

/// A domain of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The domain, in its ASCII form.
    pub domain: String,
    /// Where the proof stands in DNS.
    pub record_name: String,
    /// What stands there.
    pub record_value: String,
    /// Since when it is verified.
    pub verified_at: Option<DateTime<Utc>>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

#[derive(FromQueryResult)]
struct Row {
    organization_id: Uuid,
    domain: String,
    verified_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl Row {
    fn read(self, db: &Db) -> Domain {
        // Computed: it is the same however often the domain is added.
        let tag =
            db.keys().fingerprint_of(&[b"domain", self.organization_id.as_bytes(), self.domain.as_bytes()]);
        Domain {
            record_name: record_name(&self.domain),
            record_value: record_value(&hex::encode(&tag[..16])),
            domain: self.domain,
            verified_at: self.verified_at,
            created_at: self.created_at,
        }
    }
}

const ROWS: &str =
    "SELECT organization_id, domain, verified_at, created_at FROM organization_domains WHERE organization_id";

/// The domains of each of those organizations, by name.
pub async fn domains_of_each(db: &Db, proofs: &[Manage]) -> Result<Vec<Vec<Domain>>, ReadError> {
    let Some(first) = proofs.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("{ROWS} IN "))
        .bind_list(proofs.iter().map(|proof| proof.access().organization().uuid()))
        .push(" ORDER BY domain");
    let mut found: Vec<Vec<Domain>> = proofs.iter().map(|_| Vec::new()).collect();
    for row in db.read(first).all::<Row>(sql).await? {
        let place =
            proofs.iter().position(|proof| proof.access().organization().uuid() == row.organization_id);
        if let Some(domains) = place.and_then(|place| found.get_mut(place)) {
            domains.push(row.read(db));
        }
    }
    Ok(found)
}

async fn find(ask: &impl Ask, organization: OrganizationId, domain: &str) -> Result<Option<Row>, Fault> {
    let sql = Sql::new(format!("{ROWS} = ")).bind(organization.uuid()).push(" AND domain = ").bind(domain);
    ask.one(sql).await
}

/// Whether the domain is verified for that organization.
pub(super) async fn is_verified(
    tx: &Tx<'_>,
    organization: OrganizationId,
    domain: &str,
) -> Result<bool, Fault> {
    Ok(find(tx, organization, domain).await?.is_some_and(|row| row.verified_at.is_some()))
}

/// Whether any domain is verified for that organization. Whoever asks holds its lock.
pub(super) async fn has_verified(tx: &Tx<'_>, organization: OrganizationId) -> Result<bool, Fault> {
    let sql =
        Sql::new("SELECT 1 FROM organization_domains WHERE verified_at IS NOT NULL AND organization_id = ")
            .bind(organization.uuid())
            .limit(1);
    Ok(tx.one::<Single<i32>>(sql).await?.is_some())
}

/// Whether another organization has verified the domain.
async fn is_taken(ask: &impl Ask, organization: OrganizationId, domain: &str) -> Result<bool, Fault> {
    let sql = Sql::new("SELECT 1 FROM organization_domains WHERE verified_at IS NOT NULL AND domain = ")
        .bind(domain)
        .push(" AND organization_id <> ")
        .bind(organization.uuid());
    Ok(ask.one::<Single<i32>>(sql).await?.is_some())
}

fn entry(action: Action, organization: OrganizationId, domain: &str) -> Entry {
    Entry::of(action, ObjectKind::Domain, domain, domain).in_organization(organization)
}

/// Adds a domain, to be verified. Whether another organization has it is told to whoever proves that it is theirs.
pub async fn add_domain(db: &Db, proof: &Manage, domain: &str) -> Result<Domain, OpError<AddDomainCode>> {
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        if find(tx, organization, domain).await?.is_some() {
            return Err(Refusal::new(
                AddDomainCode::AlreadyExists,
                "The organization has this domain already.",
            )
            .at("domain")
            .into());
        }
        let sql = Sql::new("SELECT count(*) AS number FROM organization_domains WHERE organization_id = ");
        let number: Option<Number> = tx.one(sql.bind(organization.uuid())).await?;
        if number.map_or(0, u64::from) >= MAX_DOMAINS {
            return Err(Refusal::new(
                AddDomainCode::LimitReached,
                format!("An organization can have {MAX_DOMAINS} domains. Remove one first."),
            )
            .into());
        }
        insert(tx, organization, domain, None).await?;
        tx.audit(&entry(Action::AddDomain, organization, domain).after(json!({ "domain": domain })))?;
        let row = Row {
            organization_id: organization.uuid(),
            domain: domain.to_owned(),
            verified_at: None,
            created_at: tx.now(),
        };
        Ok(row.read(db))
    })
    .await
}

async fn insert(
    tx: &Tx<'_>,
    organization: OrganizationId,
    domain: &str,
    verified_at: Option<DateTime<Utc>>,
) -> Result<(), Fault> {
    tx.run(Sql::insert(
        "organization_domains",
        [
            ("organization_id", organization.uuid().into()),
            ("domain", domain.into()),
            ("verified_at", verified_at.into()),
            ("created_at", tx.now().into()),
        ],
    ))
    .await?;
    Ok(())
}

/// What DNS has to say for a domain of the organization.
#[derive(Clone, Debug)]
pub struct Wanted(pub Domain);

fn unknown<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "The organization has no such domain. Add it first.").at("domain")
}

/// What has to be looked up for a domain, before it is verified.
pub async fn wanted_domain(
    db: &Db,
    proof: &Manage,
    domain: &str,
) -> Result<Wanted, OpError<VerifyDomainCode>> {
    let row = find(&db.read(proof), proof.access().organization(), domain).await?;
    Ok(Wanted(row.ok_or_else(|| unknown(VerifyDomainCode::NotFound))?.read(db)))
}

/// Notes that a domain is verified: whoever calls has seen its record.
pub async fn verify_domain(
    db: &Db,
    proof: &Manage,
    wanted: &Wanted,
) -> Result<Domain, OpError<VerifyDomainCode>> {
    let taken = || {
        Refusal::new(
            VerifyDomainCode::DomainTaken,
            "Another organization of this instance has verified this domain. Ask the instance's operator.",
        )
        .at("domain")
    };
    let domain = wanted.0.domain.as_str();
    let outcome = db
        .write(proof, async |tx| {
            let organization = proof.access().organization();
            let Some(row) = find(tx, organization, domain).await? else {
                return Err(unknown(VerifyDomainCode::NotFound).into());
            };
            if row.verified_at.is_some() {
                return Ok(row.read(db));
            }
            if is_taken(tx, organization, domain).await? {
                return Err(taken().into());
            }
            verify(tx, organization, domain).await?;
            tx.audit(&verified(Action::VerifyDomain, organization, domain))?;
            Ok(Row { verified_at: Some(tx.now()), ..row }.read(db))
        })
        .await;
    match outcome {
        // Two organizations have proven it at the same moment.
        Err(OpError::Fault(Fault::Database(error)))
            if is_duplicate(&error, "organization_domains", "verified") =>
        {
            Err(taken().into())
        }
        outcome => outcome,
    }
}

fn verified(action: Action, organization: OrganizationId, domain: &str) -> Entry {
    entry(action, organization, domain).changed(json!({ "isVerified": false }), json!({ "isVerified": true }))
}

async fn verify(tx: &Tx<'_>, organization: OrganizationId, domain: &str) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE organization_domains SET verified_at = ")
        .bind(tx.now())
        .push(" WHERE organization_id = ")
        .bind(organization.uuid())
        .push(" AND domain = ")
        .bind(domain);
    tx.run(sql).await?;
    Ok(())
}

/// Removes a domain: the provider is not believed of its addresses any more.
pub async fn remove_domain(db: &Db, proof: &Manage, domain: &str) -> Result<(), OpError<RemoveDomainCode>> {
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let Some(row) = find(tx, organization, domain).await? else {
            return Err(unknown(RemoveDomainCode::NotFound).into());
        };
        let sql = Sql::new("DELETE FROM organization_domains WHERE organization_id = ")
            .bind(organization.uuid())
            .push(" AND domain = ")
            .bind(domain);
        tx.run(sql).await?;
        open_to_passwords(tx, organization).await?;
        let was = json!({ "domain": domain, "isVerified": row.verified_at.is_some() });
        tx.audit(&entry(Action::RemoveDomain, organization, domain).before(was))?;
        Ok(())
    })
    .await
}

/// Without a verified domain nobody can come by the provider: so passwords are good again, or nobody but owners would be in.
async fn open_to_passwords(tx: &Tx<'_>, organization: OrganizationId) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE organizations SET password_sign_in = TRUE WHERE password_sign_in = FALSE AND id = ")
        .bind(organization.uuid())
        .push(" AND NOT EXISTS (SELECT 1 FROM organization_domains d WHERE d.verified_at IS NOT NULL AND d.organization_id = ")
        .bind(organization.uuid())
        .push(")");
    tx.run(sql).await?;
    Ok(())
}

/// For an operator: takes a domain from the organization that has verified it, as when it was sold. Answers the slug of that
/// organization, or `None` where nobody has.
pub async fn take_as_operator(db: &Db, proof: &System, domain: &str) -> Result<Option<String>, Fault> {
    let done = db.write(proof, async |tx| {
        let holder = || {
            Sql::new("SELECT organization_id FROM organization_domains WHERE verified_at IS NOT NULL AND domain = ")
                .bind(domain)
        };
        let Some(Single(id)) = tx.one::<Single<Uuid>>(holder()).await? else { return Ok(None) };
        let organization = OrganizationId::from(id);
        tx.lock_organization(organization).await?;
        let sql = holder().push(" AND organization_id = ").bind(id);
        if tx.one::<Single<Uuid>>(sql).await?.is_none() {
            return Ok(None);
        }
        let sql = Sql::new("DELETE FROM organization_domains WHERE organization_id = ").bind(id);
        tx.run(sql.push(" AND domain = ").bind(domain)).await?;
        open_to_passwords(tx, organization).await?;
        let was = json!({ "domain": domain, "isVerified": true });
        tx.audit(&entry(Action::AdminUnverifyDomain, organization, domain).before(was))?;
        let sql = Sql::new("SELECT slug FROM organizations WHERE id = ").bind(id);
        Ok(tx.one::<Single<String>>(sql).await?.map(|Single(slug)| slug))
    });
    done.await.map_err(OpError::into_fault)
}

/// What came of an operator's word that a domain is an organization's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It is from now on.
    Now,
    /// It was before.
    Before,
    /// There is no organization of that slug.
    NoOrganization,
    /// It is the organization's of that slug.
    Taken(String),
}

/// For an operator: takes their word that a domain is an organization's, whether or not it was added.
pub async fn verify_as_operator(
    db: &Db,
    proof: &System,
    slug: &str,
    domain: &str,
) -> Result<Verified, Fault> {
    let done = db.write(proof, async |tx| {
        let sql = Sql::new("SELECT id FROM organizations WHERE slug = ").bind(slug);
        let Some(Single(id)) = tx.one::<Single<Uuid>>(sql).await? else {
            return Ok(Verified::NoOrganization);
        };
        let organization = OrganizationId::from(id);
        tx.lock_organization(organization).await?;
        let sql = Sql::new(
            "SELECT o.slug FROM organization_domains d JOIN organizations o ON o.id = d.organization_id \
             WHERE d.verified_at IS NOT NULL AND d.domain = ",
        )
        .bind(domain);
        if let Some(Single(owner)) = tx.one::<Single<String>>(sql).await? {
            return Ok(if owner == slug { Verified::Before } else { Verified::Taken(owner) });
        }
        match find(tx, organization, domain).await? {
            Some(_) => verify(tx, organization, domain).await?,
            None => insert(tx, organization, domain, Some(tx.now())).await?,
        }
        tx.audit(&verified(Action::AdminVerifyDomain, organization, domain))?;
        Ok(Verified::Now)
    });
    done.await.map_err(OpError::into_fault)
}
