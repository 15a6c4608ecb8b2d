//! Credentials in the schema: what a workspace owns and borrows, and what may be done with it.

use std::sync::Arc;

use async_graphql::{
    Context, Description, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject, Subscription,
};
use chrono::{DateTime, Utc};
use futures_util::Stream;
use guildhall_domain::{
    access::{Denied, Granted, perm},
    credentials::{
        CreateCredentialCode, CredentialKind, DeleteCredentialCode, FieldForm as DomainForm, FieldSpec,
        GivenField, RevealCredentialCode, TestCredentialCode, UpdateCredentialCode, UseCredentialCode,
        UseOutcome,
    },
    events::{CredentialChange as DomainChange, EventKind},
    ids::{AnyId, BorrowedCredentialId, CredentialId, NotAnId},
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader, Refusal},
    text::{CredentialSlug, DisplayName, Message, SearchTerm},
};
use guildhall_persistence::{
    OpError,
    counts::Count,
    credential_shares::Shares,
    credential_uses::{self, Uses},
    credentials::{self, Change, Counterpart, CredentialFilter, CredentialRef, NewCredential, Value},
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::{
    accounts::throttle,
    authz::{anonymous, authorize, authorize_in, caller, db, grant, let_in},
    connection::{Window, connection},
    credential_shares::{CredentialShareConnection, SharesList},
    credential_tests::{CredentialTestReport, CredentialTester},
    credential_uses::{CredentialUseConnection, UsesList},
    error,
    live::{self, Told, Turn, Watching},
    loaders::{self, Scoped},
    payload::{answer, payload},
    rehearsal::only_now,
    schema::mirror,
    workspaces::Workspace,
};

mirror! {
    /// What a credential opens.
    enum CredentialType = CredentialKind {
        /// A bucket of Amazon S3, or of something that speaks its protocol.
        S3,
        /// A bucket of Google Cloud Storage.
        Gcs,
        /// A PostgreSQL database.
        Postgresql,
        /// A DHIS2 instance.
        Dhis2,
        /// An IASO instance.
        Iaso,
        /// Anything else: its fields are yours to choose.
        Custom,
    }
}

mirror! {
    /// What the value of a field looks like.
    enum CredentialFieldForm = DomainForm {
        /// One line of text.
        Text,
        /// The address of a web service: `http` or `https`, without a user name or password in it.
        Url,
        /// A TCP port, 1 to 65535.
        Port,
        /// A JSON object.
        Json,
    }
}

/// A type of credential, with all that a form for one needs.
#[derive(Description)]
pub struct CredentialTypeDescription(CredentialKind);

#[Object(use_type_description)]
impl CredentialTypeDescription {
    /// The type.
    #[graphql(name = "type")]
    async fn kind(&self) -> CredentialType {
        self.0.into()
    }
    /// The name people read.
    async fn name(&self) -> &str {
        self.0.title()
    }
    /// What it is for, in a sentence.
    async fn documentation(&self) -> &str {
        self.0.documentation()
    }
    /// The fields it takes, in the order in which a form shows them; empty for CUSTOM, whose fields are chosen freely.
    async fn fields(&self) -> Vec<CredentialFieldDescription> {
        self.0.fields().iter().map(CredentialFieldDescription).collect()
    }
    /// Whether `testCredential` can try it.
    async fn is_testable(&self) -> bool {
        self.0.is_testable()
    }
}

/// A field that a type of credential takes.
#[derive(Description)]
pub struct CredentialFieldDescription(&'static FieldSpec);

#[Object(use_type_description)]
impl CredentialFieldDescription {
    /// Its code: what inputs and workloads call it.
    async fn code(&self) -> &str {
        self.0.code
    }
    /// What a form calls it.
    async fn label(&self) -> &str {
        self.0.label
    }
    /// What belongs there, in a sentence.
    async fn documentation(&self) -> &str {
        self.0.documentation
    }
    /// Whether a credential of the type needs it.
    async fn is_required(&self) -> bool {
        self.0.is_required
    }
    /// Whether its value is write-only.
    async fn is_secret(&self) -> bool {
        self.0.is_secret
    }
    /// What the value looks like.
    async fn form(&self) -> CredentialFieldForm {
        self.0.form.into()
    }
    /// What a form may show in the empty field; null for secret ones.
    async fn example(&self) -> Option<&str> {
        Some(self.0.example).filter(|example| !example.is_empty())
    }
}

/// A workspace that lends or borrows, as the other side knows it.
#[derive(Description)]
pub struct SharingWorkspace(pub(crate) Counterpart);

#[Object(use_type_description)]
impl SharingWorkspace {
    /// The name in addresses.
    async fn name(&self) -> &str {
        &self.0.name
    }
    /// The name people read.
    async fn display_name(&self) -> &str {
        &self.0.display_name
    }
    /// The workspace itself; null when you may not see it.
    async fn workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let found = loaders::load(ctx, (caller(ctx).actor?, self.0.id)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
}

/// Where a borrowed credential comes from.
#[derive(SimpleObject)]
pub struct CredentialOrigin {
    /// The workspace that lends it.
    workspace: SharingWorkspace,
    /// Since when it is lent.
    since: DateTime<Utc>,
    /// When the loan ends by itself; null: never.
    expires_at: Option<DateTime<Utc>>,
    /// Whether the lending workspace is archived, so that the credential cannot be used at present.
    is_suspended: bool,
}

/// A field of a credential. A secret value is never told: only that it is set, and a fingerprint that changes with it.
#[derive(SimpleObject)]
pub struct CredentialField {
    /// Its code: what inputs and workloads call it.
    code: String,
    /// The environment variable that a workload finds it in by convention: slug and code in upper case.
    environment_variable: String,
    /// Whether the value is write-only.
    is_secret: bool,
    /// Whether there is a value. There is none of a secret field that was imported, until somebody gives it.
    is_set: bool,
    /// The value; null when it is secret.
    value: Option<String>,
    /// Tells two values of this field apart, and nothing else of them: 8 hexadecimal digits; null when it is not secret.
    fingerprint: Option<String>,
    /// When the value changed last.
    updated_at: DateTime<Utc>,
}

fn environment_variable(slug: &str, code: &str) -> String {
    format!("{slug}_{code}").replace('-', "_").to_uppercase()
}

/// A credential that a workspace owns, or that another one lends to it. Seen with `CREDENTIAL_LIST` in the workspace. A
/// borrowed one is an object of its own, with an id of its own: it can be used, and neither changed nor shown nor lent on.
#[derive(Description)]
pub struct Credential {
    list: Granted<perm::CredentialList>,
    row: credentials::Credential,
}

impl Credential {
    pub(crate) fn new(list: Granted<perm::CredentialList>, row: credentials::Credential) -> Self {
        Self { list, row }
    }

    pub(crate) fn key(&self) -> Uuid {
        self.row.at.uuid()
    }
}

fn id_of(at: CredentialRef) -> ID {
    match at {
        CredentialRef::Own(id) => id.into(),
        CredentialRef::Borrowed(id) => id.into(),
    }
}

#[Object(use_type_description)]
impl Credential {
    /// The credential's global id; a borrowed one has another id than the same credential has at its owner.
    pub(crate) async fn id(&self) -> ID {
        id_of(self.row.at)
    }
    /// The workspace that owns or borrows it; null when you do not see that any more.
    async fn workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let found = loaders::load(ctx, (caller(ctx).actor?, self.row.workspace)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
    /// What it opens.
    #[graphql(name = "type")]
    async fn kind(&self) -> CredentialType {
        self.row.kind.into()
    }
    /// Its name in addresses: unique among the workspace's own credentials, never changed.
    async fn slug(&self) -> &str {
        &self.row.slug
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// What it is for; empty when nothing was said.
    async fn description(&self) -> &str {
        &self.row.description
    }
    /// Whether another workspace lends it to this one.
    async fn is_shared(&self) -> bool {
        self.row.origin.is_some()
    }
    /// Where it comes from; null when it is the workspace's own.
    async fn shared_from(&self) -> Option<CredentialOrigin> {
        self.row.origin.clone().map(|origin| CredentialOrigin {
            workspace: SharingWorkspace(origin.workspace),
            since: origin.since,
            expires_at: origin.expires_at,
            is_suspended: origin.is_suspended,
        })
    }
    /// Its fields, in their order. Needs `CREDENTIAL_USE`; null with a `FORBIDDEN` error without it.
    async fn fields(&self, ctx: &Context<'_>) -> Option<Result<Vec<CredentialField>>> {
        Some(self.fields_of(ctx).await)
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When it changed last.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.row.updated_at
    }

    /// To which workspaces it is lent or was, by age; empty for a borrowed one. Needs `CREDENTIAL_SHARE`; null with a
    /// `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn shares(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<CredentialShareConnection>> {
        let window = Window { first, after, last, before };
        Some(
            grant(self.list.access())
                .and_then(|proof| SharesList::connection(Shares::OfCredential(proof, self.row.id), &window)),
        )
    }

    /// Its uses, refused ones too, by age: all of them for its owner, and for a borrower those from this workspace. Needs
    /// `CREDENTIAL_MANAGE`; null with a `FORBIDDEN` error without it. Kept for a year.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn usages(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<CredentialUseConnection>> {
        let window = Window { first, after, last, before };
        Some(
            grant(self.list.access())
                .and_then(|proof| UsesList::connection(Uses { proof, of: Some(self.row.at) }, &window)),
        )
    }
}

impl Credential {
    async fn fields_of(&self, ctx: &Context<'_>) -> Result<Vec<CredentialField>> {
        let proof: Granted<perm::CredentialUse> = grant(self.list.access())?;
        let fields = loaders::load(ctx, Scoped { proof, what: self.row.id }).await?.unwrap_or_default();
        Ok(fields
            .into_iter()
            .map(|field| CredentialField {
                environment_variable: environment_variable(&self.row.slug, &field.code),
                code: field.code,
                is_secret: field.is_secret,
                is_set: field.is_set,
                value: field.value,
                fingerprint: field.fingerprint,
                updated_at: field.updated_at,
            })
            .collect())
    }
}

pub(crate) struct Credentials {
    proof: Granted<perm::CredentialList>,
    filter: CredentialFilter,
    args: PageArgs<Uuid>,
}

impl Credentials {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn connection(
        proof: Granted<perm::CredentialList>,
        search: Option<&str>,
        kind: Option<CredentialType>,
        is_shared: Option<bool>,
        window: &Window,
    ) -> Result<CredentialConnection> {
        let search = search
            .map(SearchTerm::parse_optional)
            .transpose()
            .map_err(|fault| error::bad_input(format!("`search` {}.", fault.message())))?
            .flatten();
        let filter = CredentialFilter { search, kind: kind.map(Into::into), is_shared };
        let args = window.read(CredentialConnection::LIST)?;
        Ok(CredentialConnection::new(Self { proof, filter, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Credential>> {
        let key = Scoped { proof: self.proof.clone(), what: (self.filter.clone(), self.args.clone()) };
        let page = loaders::load(ctx, key).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| Credential::new(self.proof.clone(), row)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let count = Count::Credentials(self.proof.clone(), self.filter.clone());
        loaders::number(ctx, count).await
    }
}

connection! {
    /// A list of credentials.
    CredentialConnection, CredentialEdge, Credential, Credentials, "credential", |credential| credential.key()
}

/// The credential of that slug, as whoever holds the proof sees it.
pub(crate) async fn by_slug(
    ctx: &Context<'_>,
    proof: Granted<perm::CredentialList>,
    slug: &str,
) -> Result<Option<Credential>> {
    let found = credentials::by_slug(db(ctx), &proof, slug).await.map_err(|fault| error::read(ctx, fault))?;
    Ok(found.map(|row| Credential::new(proof, row)))
}

/// The credential part of the query root.
#[derive(Default)]
pub struct CredentialQuery;

#[Object]
impl CredentialQuery {
    /// The types of credential with their fields, from which a form can be drawn.
    #[graphql(directive = anonymous::apply("a catalogue that is the same in every instance".to_owned()))]
    async fn credential_types(&self) -> Vec<CredentialTypeDescription> {
        CredentialKind::ALL.iter().copied().map(CredentialTypeDescription).collect()
    }

    /// The credential of that slug in the workspace; null when there is none or you may not see it. Where several
    /// workspaces lend one of that slug here, the earliest loan; `workspace/slug` says whose.
    #[graphql(directive = authorize::apply("CREDENTIAL_LIST".to_owned()))]
    async fn credential(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace that owns or borrows it.")] workspace_id: ID,
        #[graphql(desc = "The slug, or `workspace/slug` of one that is lent here.")] slug: String,
    ) -> Option<Result<Credential>> {
        match authorize_in(ctx, &workspace_id).await {
            Ok(proof) => by_slug(ctx, proof, &slug).await.transpose(),
            Err(fault) if error::is_not_found(&fault) => None,
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// A field of a credential, as it is to be.
#[derive(InputObject)]
pub struct CredentialFieldInput {
    /// Its code: one of the type's fields; for CUSTOM any of lower-case letters, digits and underscores.
    code: String,
    /// The value, at most 64 KiB; null keeps the stored one.
    value: Option<String>,
    /// Whether the value is write-only. Only fields of CUSTOM can choose; theirs are unless this is false.
    is_secret: Option<bool>,
}

fn given(fields: Vec<CredentialFieldInput>) -> Vec<GivenField> {
    let given = |field: CredentialFieldInput| GivenField {
        code: field.code,
        value: field.value.map(SecretString::from),
        is_secret: field.is_secret,
    };
    fields.into_iter().map(given).collect()
}

/// What making a credential takes.
#[derive(InputObject)]
pub struct CreateCredentialInput {
    /// The workspace that owns it.
    workspace_id: ID,
    /// What it opens; cannot be changed later.
    #[graphql(name = "type")]
    kind: CredentialType,
    /// The name people read; 1 to 80 characters.
    name: String,
    /// The name in addresses, which never changes: 1 to 63 lower-case letters, digits and single dashes. When absent, it
    /// is made of the name.
    slug: Option<String>,
    /// What it is for; at most 500 characters.
    description: Option<String>,
    /// Its fields; `credentialTypes` tells which the type takes.
    fields: Vec<CredentialFieldInput>,
}

payload! {
    /// What was made.
    CreateCredentialPayload, CreateCredentialError = CreateCredentialCode {
        /// The credential.
        credential: Credential,
    }
}

/// What of a credential changes. An absent field stays as it is.
#[derive(InputObject)]
pub struct UpdateCredentialInput {
    /// The workspace that owns it.
    workspace_id: ID,
    /// The credential.
    credential_id: ID,
    /// The name people read; 1 to 80 characters.
    name: MaybeUndefined<String>,
    /// What it is for; at most 500 characters; null or blank clears it.
    description: MaybeUndefined<String>,
    /// All its fields: one that is left out is deleted, and one whose `value` is null keeps the stored value.
    fields: MaybeUndefined<Vec<CredentialFieldInput>>,
}

payload! {
    /// What was changed.
    UpdateCredentialPayload, UpdateCredentialError = UpdateCredentialCode {
        /// The credential.
        credential: Credential,
    }
}

/// Which credential to delete.
#[derive(InputObject)]
pub struct DeleteCredentialInput {
    /// The workspace that owns it.
    workspace_id: ID,
    /// The credential.
    credential_id: ID,
    /// Delete it although other workspaces borrow it: it is taken back from them.
    #[graphql(default)]
    force: bool,
}

payload! {
    /// What was deleted.
    DeleteCredentialPayload, DeleteCredentialError = DeleteCredentialCode {
        /// The id that the credential had.
        deleted_credential_id: ID,
    }
}

/// Which credential to show.
#[derive(InputObject)]
pub struct RevealCredentialInput {
    /// The workspace that owns it.
    workspace_id: ID,
    /// The credential.
    credential_id: ID,
}

/// A value of a credential in the clear.
#[derive(SimpleObject)]
pub struct CredentialValue {
    /// The field's code.
    code: String,
    /// The environment variable that a workload finds it in by convention: slug and code in upper case.
    environment_variable: String,
    /// Whether the value is write-only elsewhere.
    is_secret: bool,
    /// The value.
    value: String,
}

fn clear(slug: &str, values: Vec<Value>) -> Vec<CredentialValue> {
    let clear = |value: Value| CredentialValue {
        environment_variable: environment_variable(slug, &value.code),
        code: value.code,
        is_secret: value.is_secret,
        value: value.value.expose_secret().to_owned(),
    };
    values.into_iter().map(clear).collect()
}

payload! {
    /// The values.
    RevealCredentialPayload, RevealCredentialError = RevealCredentialCode {
        /// The credential.
        credential: Credential,
        /// All its values.
        values: Vec<CredentialValue>,
    }
}

/// Which credential to try.
#[derive(InputObject)]
pub struct TestCredentialInput {
    /// The workspace that owns or borrows it.
    workspace_id: ID,
    /// The credential.
    credential_id: ID,
}

payload! {
    /// How it went.
    TestCredentialPayload, TestCredentialError = TestCredentialCode {
        /// What the service said to the credential.
        report: CredentialTestReport,
    }
}

/// Which credential a workload uses.
#[derive(InputObject)]
pub struct UseCredentialInput {
    /// The workspace that the workload belongs to.
    workspace_id: ID,
    /// The slug of a credential that the workspace owns or borrows; `workspace/slug` of one that is lent to it.
    slug: String,
    /// What for, for those who look at the uses later: such as the name of the pipeline and its run; 1 to 500 characters.
    purpose: String,
}

payload! {
    /// What the workload uses.
    UseCredentialPayload, UseCredentialError = UseCredentialCode {
        /// The credential; null when you may use credentials and not list them.
        credential: Credential,
        /// All its values.
        values: Vec<CredentialValue>,
    }
}

/// The credential part of the mutation root.
#[derive(Default)]
pub struct CredentialMutation;

/// A credential's id as the workspace knows it.
pub(crate) fn reference(id: &ID) -> std::result::Result<CredentialRef, NotAnId> {
    match id.parse() {
        Ok(AnyId::CredentialId(id)) => Ok(CredentialRef::Own(id)),
        Ok(AnyId::BorrowedCredentialId(id)) => Ok(CredentialRef::Borrowed(id)),
        _ => Err(NotAnId { prefix: CredentialId::PREFIX }),
    }
}

/// Text that may be absent, cleared or given.
fn description(text: &str) -> std::result::Result<Option<Message>, FieldFault> {
    Ok(Message::parse_optional(text)?)
}

#[Object]
impl CredentialMutation {
    /// Makes a credential of a workspace. Its secret values can be used from then on, and not be read.
    #[graphql(directive = authorize::apply("CREDENTIAL_MANAGE".to_owned()))]
    async fn create_credential(
        &self,
        ctx: &Context<'_>,
        input: CreateCredentialInput,
    ) -> Result<CreateCredentialPayload> {
        let proof: Granted<perm::CredentialManage> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("name", DisplayName::parse(&input.name));
            let slug = reader.optional("slug", input.slug.as_deref().map(CredentialSlug::parse));
            let about = reader.optional("description", input.description.as_deref().map(description));
            let new = (|| {
                Some(NewCredential {
                    kind: input.kind.into(),
                    slug: slug?,
                    name: name?,
                    description: about?.flatten(),
                    fields: given(input.fields),
                })
            })();
            credentials::create(db(ctx), &proof, reader.all(new)?).await
        }
        .await;
        answer(ctx, outcome, |row| CreateCredentialPayload {
            credential: listed(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Changes a credential. Whoever uses it next gets the new values, in the workspaces that borrow it too.
    #[graphql(directive = authorize::apply("CREDENTIAL_MANAGE".to_owned()))]
    async fn update_credential(
        &self,
        ctx: &Context<'_>,
        input: UpdateCredentialInput,
    ) -> Result<UpdateCredentialPayload> {
        let proof: Granted<perm::CredentialManage> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let at = reader.field("credentialId", reference(&input.credential_id));
            let name = input.name.as_opt_ref().map(|name| name.map(|name| DisplayName::parse(name)));
            let name = reader.kept("name", name);
            let about = match &input.description {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(text) => reader.field("description", description(text)),
            };
            let fields = match input.fields {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => {
                    let fault = FieldFault("cannot be cleared: leave it out or give all fields".to_owned());
                    reader.field("fields", Err::<(), _>(fault));
                    None
                }
                MaybeUndefined::Value(fields) => Some(given(fields)),
            };
            let change = Change { name, description: about, fields };
            credentials::update(db(ctx), &proof, reader.all(at)?, change).await
        }
        .await;
        answer(ctx, outcome, |row| UpdateCredentialPayload {
            credential: listed(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Deletes a credential. One that other workspaces borrow is refused with `IN_USE`, unless `force` is set.
    #[graphql(directive = authorize::apply("CREDENTIAL_MANAGE".to_owned()))]
    async fn delete_credential(
        &self,
        ctx: &Context<'_>,
        input: DeleteCredentialInput,
    ) -> Result<DeleteCredentialPayload> {
        let proof: Granted<perm::CredentialManage> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let at = reader.field("credentialId", reference(&input.credential_id));
            credentials::delete(db(ctx), &proof, reader.all(at)?, input.force).await
        }
        .await;
        answer(ctx, outcome, |row| DeleteCredentialPayload {
            deleted_credential_id: Some(id_of(row.at)),
            user_errors: Vec::new(),
        })
    }

    /// Shows all values of a credential to a person, where the organization's policy `allowReveal` lets admins. It is
    /// recorded among the credential's uses.
    #[graphql(directive = authorize::apply("CREDENTIAL_REVEAL".to_owned()))]
    async fn reveal_credential(
        &self,
        ctx: &Context<'_>,
        input: RevealCredentialInput,
    ) -> Result<RevealCredentialPayload> {
        let proof: Granted<perm::CredentialReveal> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let at = reader.field("credentialId", reference(&input.credential_id));
            credentials::reveal(db(ctx), &proof, reader.all(at)?).await
        }
        .await;
        answer(ctx, outcome, |(row, values)| RevealCredentialPayload {
            values: only_now(ctx, clear(&row.slug, values)),
            credential: listed(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Tries a credential against the service that it opens, for at most 10 seconds: signs in, and reads the least there is
    /// to read. Destinations inside the operator's own network are refused unless the operator allows them. At most 10 in a
    /// minute; recorded among the credential's uses.
    #[graphql(directive = authorize::apply("CREDENTIAL_USE".to_owned()))]
    async fn test_credential(
        &self,
        ctx: &Context<'_>,
        input: TestCredentialInput,
    ) -> Result<TestCredentialPayload> {
        let proof: Granted<perm::CredentialUse> = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let at = reader.field("credentialId", reference(&input.credential_id));
            let at = reader.all(at)?;
            throttle(ctx)
                .credential_test(&proof.access().actor().uuid().to_string())
                .map_err(|message| Refusal::new(TestCredentialCode::RateLimited, message))?;
            credential_uses::to_test(db(ctx), &proof, at).await
        }
        .await;
        let used = match outcome {
            Ok(used) => used,
            Err(error) => return answer(ctx, Err::<TestCredentialPayload, _>(error), |payload| payload),
        };
        if db(ctx).is_rehearsing() {
            // A trial reaches nobody.
            return Ok(TestCredentialPayload { report: None, user_errors: Vec::new() });
        }
        let fields = used.values.into_iter().map(|value| (value.code, value.value)).collect();
        let tester = ctx.data_unchecked::<Arc<dyn CredentialTester>>();
        let report = tester.test(used.credential.kind, fields).await;
        Ok(TestCredentialPayload { report: Some(report.into()), user_errors: Vec::new() })
    }

    /// Hands the values of a credential to a workload. Each use is recorded with who asked, from which workspace, what for
    /// and when, refused ones too.
    #[graphql(directive = authorize::apply("CREDENTIAL_USE".to_owned()))]
    async fn use_credential(
        &self,
        ctx: &Context<'_>,
        input: UseCredentialInput,
    ) -> Result<UseCredentialPayload> {
        let view: Granted<perm::WorkspaceView> = authorize_in(ctx, &input.workspace_id).await?;
        let purpose = Message::parse(&input.purpose);
        let note_denied = async |outcome| {
            let Ok(purpose) = &purpose else { return Ok(()) };
            let own = let_in(ctx).await?;
            let noted =
                credential_uses::note_denied(db(ctx), &own, &view, &input.slug, purpose, outcome).await;
            noted.map_err(|failed| match failed {
                OpError::Fault(fault) => error::internal(ctx, &fault),
                OpError::Denied(denied) => error::denied(denied),
                OpError::Refused(_) => error::not_found(),
            })
        };
        let proof: Granted<perm::CredentialUse> = match grant(view.access()) {
            Ok(proof) => proof,
            Err(forbidden) => {
                note_denied(UseOutcome::Forbidden).await?;
                return Err(forbidden);
            }
        };
        let outcome = async {
            let mut reader = InputReader::default();
            let purpose = reader.field("purpose", purpose.clone());
            credential_uses::use_credential(db(ctx), &proof, &input.slug, &reader.all(purpose)?).await
        }
        .await;
        if let Err(OpError::Denied(Denied::Archived)) = &outcome {
            note_denied(UseOutcome::Suspended).await?;
        }
        answer(ctx, outcome, |used| UseCredentialPayload {
            values: only_now(ctx, clear(&used.credential.slug, used.values)),
            credential: listed(&proof, used.credential),
            user_errors: Vec::new(),
        })
    }
}

/// A credential as it is seen with the rights of that proof.
fn listed<P>(proof: &Granted<P>, row: credentials::Credential) -> Option<Credential>
where
    P: guildhall_domain::access::catalog::PermissionType<Access = guildhall_domain::access::WorkspaceAccess>,
{
    Some(Credential::new(grant(proof.access()).ok()?, row))
}

mirror! {
    /// What changed of a credential: for the workspace that owns it, and from OFFERED on for one that borrows it.
    enum CredentialChange = DomainChange {
        /// It was made.
        Created,
        /// Its name, description or fields changed: a new secret value among them is a rotation.
        Updated,
        /// It was deleted.
        Deleted,
        /// It was lent, and can be used in the borrowing workspace at once.
        Shared,
        /// It was offered, and waits for an admin of the borrowing workspace.
        ShareOffered,
        /// The offer was accepted.
        ShareAccepted,
        /// The offer was declined, or the borrower gave it back.
        ShareDeclined,
        /// It was taken back.
        Unshared,
        /// It is offered to this workspace, and waits for one of its admins.
        Offered,
        /// It is lent to this workspace, which can use it from now on.
        Borrowed,
        /// Its owner changed it.
        BorrowedUpdated,
        /// It is not lent to this workspace any more.
        Returned,
    }
}

/// A change of a credential that the workspace owns or borrows. It never tells a value.
#[derive(SimpleObject)]
pub struct CredentialChanged {
    /// Where this change stands; give it as `after` to go on from here after a break.
    cursor: String,
    /// What changed; null when `resyncRequired`.
    change: Option<CredentialChange>,
    /// The id of the credential that changed, also of one that is gone; null when `resyncRequired`.
    credential_id: Option<ID>,
    /// The credential as it is now; null when the workspace does not have it, not any more or not yet, or
    /// `resyncRequired`.
    credential: Option<Credential>,
    /// Changes are missing that cannot be sent again: read `workspace.credentials` anew, then go on.
    resync_required: bool,
}

async fn changed(ctx: &Context<'_>, turn: Turn) -> Result<CredentialChanged> {
    let (event, access) = match turn.0 {
        Told::Event { event, access, .. } => (event, access),
        Told::Resync(seq) => {
            let cursor = live::cursor(seq);
            return Ok(CredentialChanged {
                cursor,
                change: None,
                credential_id: None,
                credential: None,
                resync_required: true,
            });
        }
    };
    let proof: Granted<perm::CredentialList> = grant(&access)?;
    let change = event.state.as_deref().and_then(DomainChange::from_word);
    let row = match event.subject {
        Some(id) => loaders::load(ctx, Scoped { proof: proof.clone(), what: id }).await?,
        None => None,
    };
    let id = |subject: Uuid| match change {
        Some(change) if change.is_of_borrower() => ID::from(BorrowedCredentialId::from(subject)),
        _ => CredentialId::from(subject).into(),
    };
    Ok(CredentialChanged {
        cursor: live::cursor(event.seq),
        change: change.map(Into::into),
        credential_id: event.subject.map(id),
        credential: row.map(|row| Credential::new(proof, row)),
        resync_required: false,
    })
}

/// The credential part of the subscription root.
#[derive(Default)]
pub struct CredentialSubscription;

#[Subscription]
impl CredentialSubscription {
    /// Every change of a credential that the workspace owns or borrows, within a second: made, rotated, deleted, lent,
    /// offered, accepted, taken back. It ends with an error once you may not see the credentials any more.
    #[graphql(directive = authorize::apply("CREDENTIAL_LIST".to_owned()))]
    async fn credential_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(
            desc = "The cursor of the last change you know: those you missed since come first. With `now` the first change says \
                    `resyncRequired` and where you begin: what you read after it is complete with what comes. Absent: what \
                    happens once it runs, with no word of when that is."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<CredentialChanged>>> {
        let watching =
            Watching::of::<perm::CredentialList>(ctx, &workspace_id, EventKind::Credential, after.as_deref())
                .await?;
        Ok(watching.answers(move |turn| changed(ctx, turn)))
    }
}
