//! Credentials: listing those that a workspace owns or borrows, making, changing, deleting, showing. Their secrets go
//! through the [`vault`]; what is lent to whom is the matter of [`credential_shares`](crate::credential_shares).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OwnSession, perm},
    audit::{Action, Entry, ObjectKind},
    credentials::{
        CreateCredentialCode, CredentialKind, DeleteCredentialCode, GivenField, PlannedField,
        RevealCredentialCode, StoredField, UpdateCredentialCode, UseOutcome, plan_fields,
    },
    events::{CredentialChange, Event},
    ids::{BorrowedCredentialId, CredentialId, UserId, WorkspaceId},
    page::PageArgs,
    refusal::{Refusal, RefusalCode, Refusals},
    text::{CredentialSlug, DisplayName, Message, SearchTerm},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    access::{in_sight, word},
    credential_shares::{self, Borrower},
    credential_uses::{self, Use},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    search,
    sql::{Single, Sql},
    vault::{self, DataKey},
};

/// A credential as a workspace has it: its own, or one that another workspace lends to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialRef {
    /// Its own.
    Own(CredentialId),
    /// A borrowed one, by the loan.
    Borrowed(BorrowedCredentialId),
}

impl CredentialRef {
    /// The number of the credential or of the loan.
    pub fn uuid(self) -> Uuid {
        match self {
            Self::Own(id) => id.uuid(),
            Self::Borrowed(id) => id.uuid(),
        }
    }
}

/// What a workspace lets another one know of itself by lending or borrowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name in addresses.
    pub name: String,
    /// The name people read.
    pub display_name: String,
}

/// Where a borrowed credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The workspace that lends it.
    pub workspace: Counterpart,
    /// Whether that is archived, so that the credential cannot be used at present.
    pub is_suspended: bool,
    /// Since when it is lent.
    pub since: DateTime<Utc>,
    /// When the loan ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A credential without its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// How the workspace has it.
    pub at: CredentialRef,
    /// The credential itself.
    pub id: CredentialId,
    /// The workspace that owns or borrows it.
    pub workspace: WorkspaceId,
    /// Where it comes from; `None`: it is the workspace's own.
    pub origin: Option<Origin>,
    /// What it opens.
    pub kind: CredentialKind,
    /// Its name in addresses.
    pub slug: String,
    /// The name people read.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Who changed it last.
    pub updated_by: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
}

impl FromQueryResult for Credential {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let (item, id): (Uuid, Uuid) =
            (row.try_get(prefix, "item_id")?, row.try_get(prefix, "credential_id")?);
        let is_own = item == id;
        let origin = match row.try_get::<Option<DateTime<Utc>>>(prefix, "lent_at")? {
            None => None,
            Some(since) => Some(Origin {
                workspace: Counterpart {
                    id: row.try_get::<Uuid>(prefix, "owner_id")?.into(),
                    name: row.try_get(prefix, "owner_name")?,
                    display_name: row.try_get(prefix, "owner_display_name")?,
                },
                is_suspended: row.try_get::<String>(prefix, "owner_status")? != "ACTIVE",
                since,
                expires_at: row.try_get(prefix, "lent_until")?,
            }),
        };
        Ok(Self {
            at: if is_own { CredentialRef::Own(id.into()) } else { CredentialRef::Borrowed(item.into()) },
            id: id.into(),
            workspace: row.try_get::<Uuid>(prefix, "holder_id")?.into(),
            origin,
            kind: word(&row.try_get::<String>(prefix, "kind")?, CredentialKind::from_word)?,
            slug: row.try_get(prefix, "slug")?,
            name: row.try_get(prefix, "name")?,
            description: row.try_get(prefix, "description")?,
            updated_by: row.try_get::<Option<Uuid>>(prefix, "updated_by")?.map(Into::into),
            created_at: row.try_get(prefix, "created_at")?,
            updated_at: row.try_get(prefix, "updated_at")?,
        })
    }
}

const CREDENTIAL_COLUMNS: &str = "items.item_id, items.holder_id, c.id AS credential_id, c.kind, c.slug, c.name, \
     c.description, c.updated_by, c.created_at, c.updated_at, s.created_at AS lent_at, s.expires_at AS lent_until, \
     ow.id AS owner_id, ow.name AS owner_name, ow.display_name AS owner_display_name, ow.status AS owner_status";

/// What those workspaces have, as `items`: their own credentials and what is lent to them at present, each with what
/// [`CREDENTIAL_COLUMNS`] reads.
fn items(columns: &str, workspaces: &[WorkspaceId], now: DateTime<Utc>) -> Sql {
    let ids = || workspaces.iter().map(|id| id.uuid());
    Sql::new(format!(
        "SELECT {columns} FROM (\
         SELECT o.id AS item_id, o.id AS credential_id, o.workspace_id AS holder_id FROM credentials o WHERE o.workspace_id IN "
    ))
    .bind_list(ids())
    .push(
        " UNION ALL SELECT l.id AS item_id, l.credential_id AS credential_id, l.target_id AS holder_id \
         FROM credential_shares l WHERE l.status = 'ACTIVE' AND (l.expires_at IS NULL OR l.expires_at > ",
    )
    .bind(now)
    .push(") AND l.target_id IN ")
    .bind_list(ids())
    .push(
        ") AS items JOIN credentials c ON c.id = items.credential_id JOIN workspaces ow ON ow.id = c.workspace_id \
         LEFT JOIN credential_shares s ON s.id = items.item_id WHERE true",
    )
}

/// Which credentials to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CredentialFilter {
    /// Part of a name or slug.
    pub search: Option<SearchTerm>,
    /// Only of this kind.
    pub kind: Option<CredentialKind>,
    /// Only borrowed ones, or only the workspace's own.
    pub is_shared: Option<bool>,
}

impl CredentialFilter {
    fn apply(&self, mut sql: Sql) -> Sql {
        if let Some(kind) = self.kind {
            sql = sql.push(" AND c.kind = ").bind(kind.word());
        }
        if let Some(is_shared) = self.is_shared {
            sql = sql.push(if is_shared { " AND s.id IS NOT NULL" } else { " AND s.id IS NULL" });
        }
        if let Some(search) = &self.search {
            sql = search::where_named(sql, "c", "name", "slug", search);
        }
        sql
    }
}

/// A page of the credentials of each of several workspaces, by when they came there; one more of each than the page
/// holds, so that [`Page::cut`](guildhall_domain::page::Page::cut) can tell whether there are more.
pub async fn pages(
    db: &Db,
    proofs: &[Granted<perm::CredentialList>],
    filter: &CredentialFilter,
    args: &PageArgs<Uuid>,
) -> Result<Vec<Credential>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(Vec::new()) };
    let workspaces: Vec<_> = proofs.iter().map(|proof| proof.access().workspace()).collect();
    let order = if args.backward { "DESC" } else { "ASC" };
    let columns = format!(
        "{CREDENTIAL_COLUMNS}, row_number() OVER (PARTITION BY items.holder_id ORDER BY items.item_id {order}) AS place"
    );
    let mut listed = filter.apply(items(&columns, &workspaces, db.now()));
    if let Some(after) = args.after {
        listed = listed.push(" AND items.item_id > ").bind(after);
    }
    if let Some(before) = args.before {
        listed = listed.push(" AND items.item_id < ").bind(before);
    }
    let sql = Sql::new("SELECT * FROM (").append(listed).push(") AS listed WHERE place <= ");
    let sql = sql.bind(i64::from(args.size) + 1).push(" ORDER BY holder_id, place");
    Ok(db.read(proof).all(sql).await?)
}

/// How many credentials a workspace has.
pub(crate) fn number(workspaces: &[WorkspaceId], filter: &CredentialFilter, now: DateTime<Utc>) -> Sql {
    filter
        .apply(items("items.holder_id AS id, count(*) AS number", workspaces, now))
        .push(" GROUP BY items.holder_id")
}

/// Credentials of a workspace, by the numbers of the credentials themselves or of their loans.
pub async fn by_ids(
    db: &Db,
    proof: &Granted<perm::CredentialList>,
    ids: &[Uuid],
) -> Result<Vec<Credential>, ReadError> {
    let sql = items(CREDENTIAL_COLUMNS, &[proof.access().workspace()], db.now())
        .push(" AND items.item_id IN ")
        .bind_list(ids.iter().copied());
    Ok(db.read(proof).all(sql).await?)
}

/// The credential that goes by that address: `slug`, or `workspace/slug` where another workspace lends it. The
/// workspace's own goes before what is lent to it, and the earliest loan before later ones.
pub async fn by_slug(
    db: &Db,
    proof: &Granted<perm::CredentialList>,
    address: &str,
) -> Result<Option<Credential>, ReadError> {
    let Some(address) = Address::read(address) else { return Ok(None) };
    let mut sql = items(CREDENTIAL_COLUMNS, &[proof.access().workspace()], db.now())
        .push(" AND c.slug = ")
        .bind(address.slug);
    if let Some(owner) = address.owner {
        sql = sql.push(" AND ow.name = ").bind(owner);
    }
    let sql = sql.push(" ORDER BY CASE WHEN s.id IS NULL THEN 0 ELSE 1 END, items.item_id LIMIT 1");
    Ok(db.read(proof).one(sql).await?)
}

/// How workloads name a credential.
pub(crate) struct Address<'a> {
    /// The workspace that lends it.
    pub(crate) owner: Option<&'a str>,
    /// Its slug.
    pub(crate) slug: &'a str,
}

impl<'a> Address<'a> {
    /// `None` for what no credential can be called: PostgreSQL takes no NUL, not even to compare.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (owner, slug) = match text.split_once('/') {
            Some((owner, slug)) => (Some(owner), slug),
            None => (None, text),
        };
        let good = |text: &str| CredentialSlug::parse(text).is_ok();
        (good(slug) && owner.is_none_or(good)).then_some(Self { owner, slug })
    }
}

/// The workspace that owns or borrows it, if the actor knows of that: where to ask whether it may be seen.
pub async fn place_of(
    db: &Db,
    proof: &OwnSession,
    credential: CredentialRef,
) -> Result<Option<WorkspaceId>, ReadError> {
    let sql = match credential {
        CredentialRef::Own(_) => {
            "SELECT w.id FROM credentials c JOIN workspaces w ON w.id = c.workspace_id WHERE c.id = "
        }
        CredentialRef::Borrowed(_) => {
            "SELECT w.id FROM credential_shares s JOIN workspaces w ON w.id = s.target_id WHERE s.id = "
        }
    };
    let sql = in_sight(Sql::new(sql).bind(credential.uuid()), proof.actor());
    Ok(db.read(proof).one::<Single<Uuid>>(sql).await?.map(|Single(id)| id.into()))
}

/// A field of a credential, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its code.
    pub code: String,
    /// Whether the value is write-only.
    pub is_secret: bool,
    /// Whether there is a value: none of a secret field that was imported.
    pub is_set: bool,
    /// The value, unless it is secret.
    pub value: Option<String>,
    /// Tells two values of the field apart; of secret ones only.
    pub fingerprint: Option<String>,
    /// When the value changed last.
    pub updated_at: DateTime<Utc>,
}

#[derive(FromQueryResult)]
struct FieldRow {
    holder_id: Uuid,
    credential_id: Uuid,
    code: String,
    is_secret: bool,
    is_set: bool,
    value: Option<String>,
    fingerprint: Option<String>,
    updated_at: DateTime<Utc>,
}

/// The fields, in their order, of those of the credentials that the workspaces own or borrow, by both.
pub async fn fields(
    db: &Db,
    proofs: &[Granted<perm::CredentialUse>],
    credentials: &[CredentialId],
) -> Result<HashMap<(WorkspaceId, CredentialId), Vec<Field>>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(HashMap::new()) };
    let workspaces: Vec<_> = proofs.iter().map(|proof| proof.access().workspace()).collect();
    let held = items("items.holder_id AS holder_id, c.id AS credential_id", &workspaces, db.now())
        .push(" AND c.id IN ")
        .bind_list(credentials.iter().map(|id| id.uuid()));
    let sql = Sql::new(
        "SELECT held.holder_id, f.credential_id, f.code, f.is_secret, (f.value IS NOT NULL OR f.sealed IS NOT NULL) AS is_set, \
         f.value, f.fingerprint, f.updated_at FROM (",
    )
    .append(held)
    .push(
        ") AS held JOIN credential_fields f ON f.credential_id = held.credential_id \
         ORDER BY held.holder_id, f.credential_id, f.place",
    );
    let mut found: HashMap<_, Vec<Field>> = HashMap::new();
    for row in db.read(proof).all::<FieldRow>(sql).await? {
        found.entry((row.holder_id.into(), row.credential_id.into())).or_default().push(Field {
            code: row.code,
            is_secret: row.is_secret,
            is_set: row.is_set,
            value: row.value.filter(|_| !row.is_secret),
            fingerprint: row.fingerprint,
            updated_at: row.updated_at,
        });
    }
    Ok(found)
}

/// What a new credential is made of.
#[derive(Debug)]
pub struct NewCredential {
    /// What it opens.
    pub kind: CredentialKind,
    /// The wanted slug; `None`: one is made of the name.
    pub slug: Option<CredentialSlug>,
    /// The name people read.
    pub name: DisplayName,
    /// What it is for.
    pub description: Option<Message>,
    /// Its fields.
    pub fields: Vec<GivenField>,
}

/// Makes a credential.
pub async fn create(
    db: &Db,
    proof: &Granted<perm::CredentialManage>,
    new: NewCredential,
) -> Result<Credential, OpError<CreateCredentialCode>> {
    let fields = plan_fields(new.kind, new.fields, &[]).map_err(Refusals)?;
    db.write(proof, async |tx| {
        let (workspace, user) = (proof.access().workspace(), proof.access().actor().person());
        let slug = free_slug(tx, workspace, new.slug, &new.name).await?;
        let id: CredentialId = tx.fresh_id();
        tx.defer(Sql::insert(
            "credentials",
            [
                ("id", id.uuid().into()),
                ("workspace_id", workspace.uuid().into()),
                ("kind", new.kind.word().into()),
                ("slug", slug.into()),
                ("name", new.name.as_str().into()),
                ("search_text", search::of_name(new.name.as_str()).into()),
                ("description", new.description.as_ref().map_or("", |text| text.as_str()).into()),
                ("created_by", user.map(UserId::uuid).into()),
                ("updated_by", user.map(UserId::uuid).into()),
                ("created_at", tx.now().into()),
                ("updated_at", tx.now().into()),
            ],
        ));
        let written = write_fields(tx, workspace, id, fields).await?;
        tx.append(Event::Credential { workspace, subject: id.uuid(), change: CredentialChange::Created });
        let credential = read(tx, workspace, CredentialRef::Own(id)).await?;
        tx.audit(&entry(Action::CreateCredential, &credential).after(shown(&credential, &written)))?;
        Ok(credential)
    })
    .await
}

/// A field, as the audit log tells it: of a secret only what tells two values apart.
#[derive(Clone)]
struct ShownField {
    code: String,
    shown: Json,
}

impl ShownField {
    fn of(code: &str, value: Option<&str>, fingerprint: Option<&str>) -> Self {
        let shown = match fingerprint {
            Some(fingerprint) => json!({ "fingerprint": fingerprint }),
            None => json!(value),
        };
        Self { code: code.to_owned(), shown }
    }
}

fn entry(action: Action, credential: &Credential) -> Entry {
    Entry::of(action, ObjectKind::Credential, credential.id, credential.name.as_str())
}

/// A credential, as the audit log tells it.
fn shown(credential: &Credential, fields: &[ShownField]) -> Json {
    let mut shown = json!({
        "type": credential.kind.word(),
        "slug": credential.slug,
        "name": credential.name,
        "description": credential.description,
    });
    for field in fields {
        shown[format!("fields.{}", field.code)] = field.shown.clone();
    }
    shown
}

/// The wanted slug, or the first free one of the name.
async fn free_slug(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    wanted: Option<CredentialSlug>,
    name: &DisplayName,
) -> Result<String, OpError<CreateCredentialCode>> {
    let is_taken = async |slug: &str| {
        let sql = Sql::new("SELECT 1 FROM credentials WHERE workspace_id = ").bind(workspace.uuid());
        Ok::<_, Fault>(tx.one::<Single<i32>>(sql.push(" AND slug = ").bind(slug)).await?.is_some())
    };
    if let Some(slug) = wanted {
        if is_taken(slug.as_str()).await? {
            let message = format!(
                "There is a credential with the slug {} in this workspace. Choose another `slug`.",
                slug.as_str()
            );
            return Err(Refusal::new(CreateCredentialCode::AlreadyExists, message).at("slug").into());
        }
        return Ok(slug.into_string());
    }
    let derived = CredentialSlug::derive(name.as_str());
    for n in 1..=MANY_OF_ONE_NAME {
        let slug = if n == 1 { derived.clone() } else { derived.with_suffix(n) };
        if !is_taken(slug.as_str()).await? {
            return Ok(slug.into_string());
        }
    }
    let message = "There are many credentials of this name. Choose a `slug`.";
    Err(Refusal::new(CreateCredentialCode::AlreadyExists, message).at("slug").into())
}

/// How many slugs are tried before a person is asked to choose one.
const MANY_OF_ONE_NAME: u32 = 50;

/// Writes the fields that were planned; those that a credential loses are gone already.
async fn write_fields(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    credential: CredentialId,
    fields: Vec<PlannedField>,
) -> Result<Vec<ShownField>, Fault> {
    let mut written = Vec::new();
    let mut key: Option<DataKey> = None;
    for (place, field) in (0_i32..).zip(fields) {
        let Some(value) = field.value else {
            let sql =
                Sql::new("UPDATE credential_fields SET place = ").bind(place).push(" WHERE credential_id = ");
            tx.run(sql.bind(credential.uuid()).push(" AND code = ").bind(field.code)).await?;
            continue;
        };
        let value = value.expose_secret();
        let (public, sealed, fingerprint) = match field.is_secret {
            false => (Some(value.to_owned()), None, None),
            true => {
                let key = match &mut key {
                    Some(key) => key,
                    none => none.insert(vault::data_key(tx, workspace).await?),
                };
                let sealed = key.seal(credential, &field.code, value.as_bytes())?;
                (None, Some(sealed), Some(key.fingerprint(credential, &field.code, value.as_bytes())))
            }
        };
        written.push(ShownField::of(&field.code, public.as_deref(), fingerprint.as_deref()));
        let row = Sql::insert(
            "credential_fields",
            [
                ("credential_id", credential.uuid().into()),
                ("code", field.code.into()),
                ("place", place.into()),
                ("is_secret", field.is_secret.into()),
                ("value", public.into()),
                ("sealed", sealed.into()),
                ("fingerprint", fingerprint.into()),
                ("updated_at", tx.now().into()),
            ],
        );
        tx.defer(row.push(
            " ON CONFLICT (credential_id, code) DO UPDATE SET place = excluded.place, is_secret = excluded.is_secret, \
             value = excluded.value, sealed = excluded.sealed, fingerprint = excluded.fingerprint, \
             updated_at = excluded.updated_at",
        ));
    }
    Ok(written)
}

/// The credential, if the workspace has it.
pub(crate) async fn find(
    ask: &impl Ask,
    workspace: WorkspaceId,
    credential: CredentialRef,
) -> Result<Option<Credential>, Fault> {
    let sql = items(CREDENTIAL_COLUMNS, &[workspace], ask.now());
    let found: Option<Credential> =
        ask.one(sql.push(" AND items.item_id = ").bind(credential.uuid())).await?;
    // A loan's number with the prefix of a credential names nothing, and the other way round.
    Ok(found.filter(|found| found.at == credential))
}

async fn read(tx: &Tx<'_>, workspace: WorkspaceId, at: CredentialRef) -> Result<Credential, Fault> {
    find(tx, workspace, at).await?.ok_or_else(|| Fault::Stored(format!("{at:?} went away")))
}

/// The workspace's own credential; a refusal of one that it only borrows, or does not know.
pub(crate) async fn own<C: RefusalCode>(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    at: CredentialRef,
    not_found: C,
    read_only: C,
) -> Result<Credential, OpError<C>> {
    match find(tx, workspace, at).await? {
        Some(credential) if credential.origin.is_none() => Ok(credential),
        Some(credential) => {
            let owner = credential.origin.map(|origin| origin.workspace.display_name).unwrap_or_default();
            let message = format!(
                "{owner} lends this credential. It can be used here; only {owner} changes, shows, lends or deletes it."
            );
            Err(Refusal::new(read_only, message).at("credentialId").into())
        }
        None => Err(no_such_credential(not_found).into()),
    }
}

/// The refusal of a credential that the workspace does not have.
pub(crate) fn no_such_credential<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "There is no such credential in this workspace.").at("credentialId")
}

/// What changes of a credential; `None` leaves it as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// The name people read.
    pub name: Option<DisplayName>,
    /// What it is for; `Some(None)` clears it.
    pub description: Option<Option<Message>>,
    /// All its fields.
    pub fields: Option<Vec<GivenField>>,
}

/// Changes a credential. Whoever uses it next gets the new values.
pub async fn update(
    db: &Db,
    proof: &Granted<perm::CredentialManage>,
    at: CredentialRef,
    change: Change,
) -> Result<Credential, OpError<UpdateCredentialCode>> {
    use UpdateCredentialCode as Code;
    db.write_across(proof, async |tx| {
        let (workspace, user) = (proof.access().workspace(), proof.access().actor().person());
        let credential = own(tx, workspace, at, Code::NotFound, Code::SharedReadOnly).await?;
        let (mut had, mut has) = (Vec::new(), Vec::new());
        if let Some(given) = change.fields {
            let sql = Sql::new("SELECT code, is_secret, value, fingerprint FROM credential_fields WHERE (value IS NOT NULL OR sealed IS NOT NULL) AND credential_id = ");
            let stored: Vec<StoredRow> = tx.all(sql.bind(credential.id.uuid())).await?;
            had = stored
                .iter()
                .map(|row| ShownField::of(&row.code, row.value.as_deref(), row.fingerprint.as_deref()))
                .collect();
            let stored: Vec<_> = stored
                .into_iter()
                .map(|row| StoredField { code: row.code, is_secret: row.is_secret })
                .collect();
            let fields = plan_fields(credential.kind, given, &stored).map_err(Refusals)?;
            let planned: Vec<String> = fields.iter().map(|field| field.code.clone()).collect();
            let kept = planned.iter().map(String::as_str);
            let others = Sql::new("DELETE FROM credential_fields WHERE credential_id = ");
            let others = others.bind(credential.id.uuid()).push(" AND code NOT IN ").bind_list(kept);
            tx.run(others).await?;
            has = write_fields(tx, workspace, credential.id, fields).await?;
            let is_kept = |field: &&ShownField| {
                planned.contains(&field.code) && has.iter().all(|written| written.code != field.code)
            };
            let kept: Vec<_> = had.iter().filter(is_kept).cloned().collect();
            has.extend(kept);
        }
        let mut sql = Sql::new("UPDATE credentials SET updated_at = ").bind(tx.now());
        sql = sql.push(", updated_by = ").bind(user.map(UserId::uuid));
        if let Some(name) = &change.name {
            sql = sql.push(", name = ").bind(name.as_str());
            sql = sql.push(", search_text = ").bind(search::of_name(name.as_str()));
        }
        if let Some(description) = &change.description {
            sql = sql.push(", description = ").bind(description.as_ref().map_or("", |text| text.as_str()));
        }
        tx.run(sql.push(" WHERE id = ").bind(credential.id.uuid())).await?;
        let borrowers = credential_shares::open(tx, credential.id).await?;
        tell(tx, &credential, CredentialChange::Updated, &borrowers, CredentialChange::BorrowedUpdated)
            .await?;
        let changed = read(tx, workspace, credential.at).await?;
        tx.audit(
            &entry(Action::UpdateCredential, &changed).changed(shown(&credential, &had), shown(&changed, &has)),
        )?;
        Ok(changed)
    })
    .await
}

#[derive(FromQueryResult)]
struct StoredRow {
    code: String,
    is_secret: bool,
    value: Option<String>,
    fingerprint: Option<String>,
}

/// Tells the owner, and each borrower that can use it, what changed of a credential.
async fn tell(
    tx: &mut Tx<'_>,
    credential: &Credential,
    owner: CredentialChange,
    borrowers: &[Borrower],
    borrower: CredentialChange,
) -> Result<(), Fault> {
    let organization = tx.access()?.organization();
    let targets: Vec<_> = borrowers.iter().map(|borrower| borrower.workspace.id).collect();
    tx.lock_workspaces(organization, &targets).await?;
    tx.append(Event::Credential {
        workspace: credential.workspace,
        subject: credential.id.uuid(),
        change: owner,
    });
    for loan in borrowers {
        tx.append(Event::Credential {
            workspace: loan.workspace.id,
            subject: loan.share.uuid(),
            change: borrower,
        });
    }
    Ok(())
}

/// Deletes a credential with all that is lent of it.
pub async fn delete(
    db: &Db,
    proof: &Granted<perm::CredentialManage>,
    at: CredentialRef,
    force: bool,
) -> Result<Credential, OpError<DeleteCredentialCode>> {
    use DeleteCredentialCode as Code;
    db.write_across(proof, async |tx| {
        let workspace = proof.access().workspace();
        let credential = own(tx, workspace, at, Code::NotFound, Code::SharedReadOnly).await?;
        let borrowers = credential_shares::open(tx, credential.id).await?;
        if !force && !borrowers.is_empty() {
            const NAMED: usize = 10;
            let mut names: Vec<_> =
                borrowers.iter().take(NAMED).map(|borrower| borrower.workspace.name.as_str()).collect();
            let more = format!("{} more", borrowers.len().saturating_sub(NAMED));
            if borrowers.len() > NAMED {
                names.push(&more);
            }
            let message = format!(
                "Borrowed by {}. Take it back from them first, or delete it with `force: true`, which does.",
                names.join(", ")
            );
            return Err(Refusal::new(Code::InUse, message).at("credentialId").into());
        }
        tell(tx, &credential, CredentialChange::Deleted, &borrowers, CredentialChange::Returned).await?;
        tx.run(Sql::new("DELETE FROM credentials WHERE id = ").bind(credential.id.uuid())).await?;
        let mut was = shown(&credential, &[]);
        was["borrowers"] = borrowers.len().into();
        tx.audit(&entry(Action::DeleteCredential, &credential).before(was))?;
        Ok(credential)
    })
    .await
}

/// A value in the clear, for whoever may have it.
#[derive(Debug)]
pub struct Value {
    /// The field's code.
    pub code: String,
    /// Whether it is write-only otherwise.
    pub is_secret: bool,
    /// The value.
    pub value: SecretString,
}

#[derive(FromQueryResult)]
struct SealedRow {
    code: String,
    is_secret: bool,
    value: Option<String>,
    sealed: Option<Vec<u8>>,
}

/// The values of a credential, opened with the key of the workspace that owns it.
pub(crate) async fn values(
    ask: &impl Ask,
    db: &Db,
    owner: WorkspaceId,
    credential: CredentialId,
) -> Result<Vec<Value>, Fault> {
    let sql = Sql::new("SELECT code, is_secret, value, sealed FROM credential_fields WHERE credential_id = ")
        .bind(credential.uuid())
        .push(" ORDER BY place");
    let rows: Vec<SealedRow> = ask.all(sql).await?;
    let mut key: Option<DataKey> = None;
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let value = match (row.sealed, row.value) {
            // Imported, and not given yet.
            (None, None) => continue,
            (None, Some(value)) => value.into(),
            (Some(sealed), _) => {
                let key = match &mut key {
                    Some(key) => key,
                    none => {
                        let found = vault::existing_data_key(ask, db.keys(), owner).await?;
                        none.insert(found.ok_or(Fault::Crypto("a workspace has secrets and no key"))?)
                    }
                };
                let opened = key.open(credential, &row.code, &sealed)?;
                let text = std::str::from_utf8(&opened).map_err(|_| {
                    Fault::Stored(format!("the field {} of {credential} is no text", row.code))
                })?;
                SecretString::from(text)
            }
        };
        values.push(Value { code: row.code, is_secret: row.is_secret, value });
    }
    Ok(values)
}

/// Shows the values of a credential to a person, and notes that they were shown.
pub async fn reveal(
    db: &Db,
    proof: &Granted<perm::CredentialReveal>,
    at: CredentialRef,
) -> Result<(Credential, Vec<Value>), OpError<RevealCredentialCode>> {
    use RevealCredentialCode as Code;
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let credential = own(tx, workspace, at, Code::NotFound, Code::SharedReadOnly).await?;
        let values = values(tx, tx.db(), workspace, credential.id).await?;
        credential_uses::note(
            tx,
            &Use {
                credential: credential.id,
                workspace,
                by: proof.access().actor(),
                purpose: "",
                outcome: UseOutcome::Revealed,
            },
        );
        tx.audit(&entry(Action::RevealCredential, &credential))?;
        Ok((credential, values))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let value = Value { code: "token".to_owned(), is_secret: true, value: "hunter2-planted".into() };
        let shown = format!("{value:?}");
        assert!(shown.contains("token") && !shown.contains("hunter2"), "{shown}");
    }
}
