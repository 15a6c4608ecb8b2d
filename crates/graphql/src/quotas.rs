//! Quotas and usage in the schema.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{
    Context, Enum, ID, InputObject, InputValueError, InputValueResult, Object, Result, Scalar, ScalarType,
    SimpleObject, Subscription, Value, dataloader::Loader,
};
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::Stream;
use guildhall_domain::{
    access::{Granted, perm},
    events::EventKind,
    ids::WorkspaceId,
    quotas::{
        AdjustUsageCode, Exceeded, MOST, Metric as DomainMetric, QuotaScope as DomainScope,
        QuotaWindow as DomainWindow, SetQuotaCode, SpendCreditsCode, chart,
    },
    refusal::{FieldFault, InputReader},
    text::Message,
};
use guildhall_persistence::{
    ReadError,
    quotas::{self, Quota as Row},
};

use crate::{
    authz::{authorize, authorize_in, authorize_in_organization, db},
    error,
    live::{self, Told, Turn, Watching},
    loaders::{self, Batches, Scoped},
    payload::{answer, payload},
    schema::mirror,
};

/// A whole number from −(2⁵³ − 1) to 2⁵³ − 1, as a JSON number: what every JSON reader keeps exactly.
pub struct SafeInt(pub(crate) i64);

/// A whole number from -9007199254740991 to 9007199254740991 (2 to the power of 53, less 1), as a JSON number: the range that
/// every reader of JSON keeps exactly.
#[Scalar]
impl ScalarType for SafeInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            _ => None,
        };
        match number.filter(|number| (-MOST..=MOST).contains(number)) {
            Some(number) => Ok(Self(number)),
            None => Err(InputValueError::custom(format!(
                "is no whole number from -{MOST} to {MOST}, written as a JSON number"
            ))),
        }
    }

    fn to_value(&self) -> Value {
        Value::from(self.0.clamp(-MOST, MOST))
    }
}

impl From<i64> for SafeInt {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

/// A day, as RFC 3339 writes it.
pub struct Date(NaiveDate);

/// A day of UTC, as RFC 3339 writes it: `2026-12-31`.
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339#section-5.6")]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let day = match &value {
            // Four digits of a year, two of a month, two of a day: other forms that chrono takes are none of RFC 3339.
            Value::String(text) if text.len() == 10 => text.parse().ok(),
            _ => None,
        };
        day.map(Self).ok_or_else(|| InputValueError::custom("is no day such as `2026-12-31`"))
    }

    fn to_value(&self) -> Value {
        Value::from(self.0.format("%Y-%m-%d").to_string())
    }
}

mirror! {
    /// What a quota is of.
    enum Metric = DomainMetric {
        /// People who are members, and invitations that wait for an answer: each has a seat. A person of the organization has one
        /// there, however many workspaces they are in. Machines have none.
        Members,
        /// Workspaces, archived ones too. Only organizations have a quota of these.
        Workspaces,
        /// Items, as the services that keep them tell by `adjustUsage`.
        Items,
        /// Bytes in store, as the services that keep them tell by `adjustUsage`.
        StorageBytes,
        /// Operations that API keys and service accounts ask for, each UTC day; a subscription is one. What people ask for is not
        /// counted.
        ApiCalls,
        /// What costly operations cost, each month of UTC: see `spendCredits`.
        Credits,
    }
}

/// The time over which something is counted.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaWindow {
    /// None: it is as much as there is.
    None,
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
}

impl From<DomainWindow> for QuotaWindow {
    fn from(window: DomainWindow) -> Self {
        match window {
            DomainWindow::None => Self::None,
            DomainWindow::Day => Self::Day,
            DomainWindow::Month => Self::Month,
        }
    }
}

mirror! {
    /// Whose quota it is.
    enum QuotaScope = DomainScope {
        /// The workspace's own.
        Workspace,
        /// The organization's, which all its workspaces share.
        Organization,
    }
}

/// A quota that leaves no room for what was asked.
#[derive(SimpleObject)]
pub struct QuotaExceeded {
    /// Of what.
    metric: Metric,
    /// Whose quota it is.
    scope: QuotaScope,
    /// How much there may be.
    limit: SafeInt,
    /// How much there is, without what was asked for.
    used: SafeInt,
    /// When the count starts anew; null where it does not.
    resets_at: Option<DateTime<Utc>>,
}

impl From<Exceeded> for QuotaExceeded {
    fn from(exceeded: Exceeded) -> Self {
        Self {
            metric: exceeded.metric.into(),
            scope: exceeded.scope.into(),
            limit: exceeded.limit.into(),
            used: exceeded.used.into(),
            resets_at: exceeded.resets_at,
        }
    }
}

/// How much of something there may be, and how much there is: in a workspace, or in a whole organization.
#[derive(SimpleObject)]
pub struct Quota {
    /// Of what.
    metric: Metric,
    /// Whose quota it is.
    scope: QuotaScope,
    /// The time over which it is counted.
    window: QuotaWindow,
    /// How much there may be: the smaller of `ownLimit` and `limitAbove`; null: as much as one likes.
    limit: Option<SafeInt>,
    /// What the admins of the organization allow here; null: they do not limit it. See `setQuota`.
    own_limit: Option<SafeInt>,
    /// What is allowed above: to a workspace its organization, to an organization the operator of this instance; null: as much
    /// as one likes. The organization's limit is shared by its workspaces.
    limit_above: Option<SafeInt>,
    /// How much there is, or was used in this window. API calls are counted ahead in blocks, and written down every few seconds:
    /// it may be an eighth of what is left, or some seconds, away from the truth.
    used: SafeInt,
    /// The same of the whole organization, where `limitAbove` is set; else null.
    used_above: Option<SafeInt>,
    /// How much more there may be at this moment; null: as much as one likes.
    remaining: Option<SafeInt>,
    /// When the count starts anew; null where it does not.
    resets_at: Option<DateTime<Utc>>,
}

impl From<Row> for Quota {
    fn from(row: Row) -> Self {
        Self {
            metric: row.metric.into(),
            scope: row.scope.into(),
            window: row.metric.window().into(),
            limit: row.limit().map(Into::into),
            own_limit: row.own.map(Into::into),
            limit_above: row.above.map(Into::into),
            used: row.used.into(),
            used_above: row.above.map(|_| row.used_above.into()),
            remaining: row.left().map(Into::into),
            resets_at: row.resets_at,
        }
    }
}

/// What was used on a day.
#[derive(SimpleObject)]
pub struct UsageDay {
    /// The day.
    day: Date,
    /// What was used on it of what is counted by day or month, and of everything else how much there was at its end: of the
    /// present day, how much there is.
    used: SafeInt,
}

/// The days that were asked for.
pub(crate) fn days(
    metric: DomainMetric,
    from: &Date,
    to: &Date,
    now: DateTime<Utc>,
    of_workspace: bool,
) -> Result<Vec<NaiveDate>> {
    if of_workspace && !metric.is_of_workspaces() {
        return Err(error::bad_input(
            "`metric` is counted for organizations only: see `Organization.usage`.",
        ));
    }
    chart(from.0, to.0, now.date_naive())
        .map_err(|FieldFault(what)| error::bad_input(format!("`to` {what}.")))
}

pub(crate) fn charted(days: Vec<NaiveDate>, used: Vec<i64>) -> Vec<UsageDay> {
    days.into_iter().zip(used).map(|(day, used)| UsageDay { day: Date(day), used: used.into() }).collect()
}

/// The quotas of a workspace.
pub(crate) type QuotasKey = Scoped<perm::QuotaView>;

impl Loader<QuotasKey> for Batches {
    type Value = Vec<Row>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[QuotasKey]) -> Result<HashMap<QuotasKey, Vec<Row>>, Self::Error> {
        let proofs: Vec<_> = keys.iter().map(|key| &key.proof).collect();
        let mut found: HashMap<WorkspaceId, Vec<Row>> = quotas::of_workspaces(&self.0, &proofs).await?;
        Ok(keys.iter().filter_map(|key| Some((key.clone(), found.remove(&key.place())?))).collect())
    }
}

/// The quotas of the workspace of that proof.
pub(crate) async fn of_workspace(ctx: &Context<'_>, proof: Granted<perm::QuotaView>) -> Result<Vec<Quota>> {
    let quotas = loaders::load(ctx, QuotasKey { proof, what: () }).await?;
    Ok(quotas.unwrap_or_default().into_iter().map(Into::into).collect())
}

/// The quota part of the query root.
#[derive(Default)]
pub struct QuotaQuery;

#[Object]
impl QuotaQuery {
    /// What a workspace used on each day of a time, or had at its end: for charts. Every day has an entry, none that is still to
    /// come. It is known for two years.
    #[graphql(
        directive = authorize::apply("QUOTA_VIEW".to_owned()),
        complexity = "10 + 20 * child_complexity"
    )]
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(desc = "Of what; workspaces are counted for organizations only.")] metric: Metric,
        #[graphql(desc = "The first day.")] from: Date,
        #[graphql(desc = "The last day: not before `from`, and at most 365 days after it.")] to: Date,
    ) -> Result<Vec<UsageDay>> {
        let proof = authorize_in::<perm::QuotaView>(ctx, &workspace_id).await?;
        let metric = metric.into();
        let days = days(metric, &from, &to, db(ctx).now(), true)?;
        let used = quotas::usage(db(ctx), &proof, metric, &days).await;
        Ok(charted(days, used.map_err(|fault| error::read(ctx, fault))?))
    }
}

/// A quota to set.
#[derive(InputObject)]
pub struct SetQuotaInput {
    /// The organization.
    organization_id: ID,
    /// The workspace whose quota it is; null or absent: it is the organization's own, which its workspaces share.
    workspace_id: Option<ID>,
    /// Of what.
    metric: Metric,
    /// How much there may be, from 0; null: as much as one likes. Below what there is already nothing is taken away, and nothing
    /// more let in.
    limit: Option<SafeInt>,
}

payload! {
    /// The quota that was set.
    SetQuotaPayload, SetQuotaError = SetQuotaCode {
        /// The quota as it is now.
        quota: Quota,
    }
}

/// What is spent, and on what.
#[derive(InputObject)]
pub struct SpendCreditsInput {
    /// The workspace that pays.
    workspace_id: ID,
    /// How many credits; 1 to 10,000,000,000,000.
    amount: SafeInt,
    /// What on, in few words: 1 to 500 characters. The audit log keeps it.
    purpose: String,
}

payload! {
    /// What is left.
    SpendCreditsPayload, SpendCreditsError = SpendCreditsCode {
        /// The workspace's credits after this.
        quota: Quota,
    }
}

/// What a service can keep count of.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustableMetric {
    /// Items.
    Items,
    /// Bytes in store.
    StorageBytes,
}

/// By how much there is more of something.
#[derive(InputObject)]
pub struct AdjustUsageInput {
    /// The workspace.
    workspace_id: ID,
    /// Of what.
    metric: AdjustableMetric,
    /// By how much it is more, or less where it is negative; not 0, and at most 10,000,000,000,000.
    by: SafeInt,
}

payload! {
    /// How much there is.
    AdjustUsagePayload, AdjustUsageError = AdjustUsageCode {
        /// The workspace's quota after this.
        quota: Quota,
    }
}

/// The most that is used or given back at once: however often, the sums stay numbers.
const MOST_AT_ONCE: i64 = 10_000_000_000_000;

fn amount(number: i64) -> Result<i64, FieldFault> {
    match number {
        ..=0 => Err(FieldFault("is less than 1".to_owned())),
        1..=MOST_AT_ONCE => Ok(number),
        _ => Err(FieldFault(format!("is more than {MOST_AT_ONCE}"))),
    }
}

/// The quota part of the mutation root.
#[derive(Default)]
pub struct QuotaMutation;

#[Object]
impl QuotaMutation {
    /// Limits something in an organization or in one of its workspaces, or stops limiting it. Processes count API calls ahead: they
    /// obey a lower limit within some seconds.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn set_quota(&self, ctx: &Context<'_>, input: SetQuotaInput) -> Result<SetQuotaPayload> {
        let proof =
            authorize_in_organization::<perm::OrganizationManage>(ctx, Some(&input.organization_id)).await?;
        let mut reader = InputReader::default();
        let metric: DomainMetric = input.metric.into();
        let workspace =
            reader.optional("workspaceId", input.workspace_id.map(|id| id.parse::<WorkspaceId>()));
        if matches!(workspace, Some(Some(_))) && !metric.is_of_workspaces() {
            reader.field::<(), _>(
                "metric",
                Err(FieldFault("is counted for organizations only: leave `workspaceId` out".to_owned())),
            );
        }
        let limit = reader.optional(
            "limit",
            input.limit.map(|SafeInt(limit)| match limit {
                0.. => Ok(limit),
                _ => Err(FieldFault("is less than 0".to_owned())),
            }),
        );
        let outcome = async {
            let (workspace, limit) = reader.all(workspace.zip(limit))?;
            quotas::set(db(ctx), &proof, workspace, metric, limit).await
        };
        answer(ctx, outcome.await, |quota| SetQuotaPayload { quota: Some(quota.into()), user_errors: vec![] })
    }

    /// Spends credits of a workspace on a costly operation, all of them or none: for services that run something. Whoever may run
    /// nothing there spends nothing.
    #[graphql(directive = authorize::apply("ITEM_RUN".to_owned()))]
    async fn spend_credits(
        &self,
        ctx: &Context<'_>,
        input: SpendCreditsInput,
    ) -> Result<SpendCreditsPayload> {
        let proof = authorize_in::<perm::ItemRun>(ctx, &input.workspace_id).await?;
        let mut reader = InputReader::default();
        let amount = reader.field("amount", amount(input.amount.0));
        let purpose = reader.field("purpose", Message::parse(&input.purpose));
        let outcome = async {
            let (amount, purpose) = reader.all(amount.zip(purpose))?;
            quotas::spend(db(ctx), &proof, amount, purpose.as_str()).await
        };
        answer(ctx, outcome.await, |quota| SpendCreditsPayload {
            quota: Some(quota.into()),
            user_errors: vec![],
        })
    }

    /// Says that there is more of something in a workspace, or less: for services that keep items or files. More than the quota
    /// leaves room for is refused; less never is.
    #[graphql(directive = authorize::apply("ITEM_WRITE".to_owned()))]
    async fn adjust_usage(&self, ctx: &Context<'_>, input: AdjustUsageInput) -> Result<AdjustUsagePayload> {
        let proof = authorize_in::<perm::ItemWrite>(ctx, &input.workspace_id).await?;
        let metric = match input.metric {
            AdjustableMetric::Items => DomainMetric::Items,
            AdjustableMetric::StorageBytes => DomainMetric::StorageBytes,
        };
        let mut reader = InputReader::default();
        let by = reader.field(
            "by",
            match input.by.0 {
                0 => Err(FieldFault("is 0, which changes nothing".to_owned())),
                by => amount(by.saturating_abs()).map(|_| by),
            },
        );
        let outcome = async {
            let by = reader.all(by)?;
            quotas::adjust(db(ctx), &proof, metric, by).await
        };
        answer(ctx, outcome.await, |quota| AdjustUsagePayload {
            quota: Some(quota.into()),
            user_errors: vec![],
        })
    }
}

/// A quota is nearly used up.
#[derive(SimpleObject)]
pub struct QuotaWarning {
    /// Where this warning stands; give it as `after` to go on from here after a break.
    cursor: String,
    /// The quota, as it is now; null when `resyncRequired`.
    quota: Option<Quota>,
    /// Warnings are missing that cannot be sent again: read the quotas anew, then go on.
    resync_required: bool,
}

async fn warning(ctx: &Context<'_>, turn: Turn) -> Result<QuotaWarning> {
    let (event, access) = match turn.0 {
        Told::Event { event, access, .. } => (event, access),
        Told::Resync(seq) => {
            return Ok(QuotaWarning { cursor: live::cursor(seq), quota: None, resync_required: true });
        }
    };
    let proof: Granted<perm::QuotaView> = access.grant().map_err(error::denied)?;
    let metric = event.quota().map(|(metric, _)| metric);
    let quotas = loaders::load(ctx, QuotasKey { proof, what: () }).await?.unwrap_or_default();
    let quota = quotas.into_iter().find(|quota| Some(quota.metric) == metric);
    Ok(QuotaWarning { cursor: live::cursor(event.seq), quota: quota.map(Into::into), resync_required: false })
}

/// The quota part of the subscription root.
#[derive(Default)]
pub struct QuotaSubscription;

#[Subscription]
impl QuotaSubscription {
    /// Tells when nine tenths of a quota of the workspace are used, or of a quota of its organization by something in this workspace:
    /// once for each limit and window. Admins get a mail too.
    #[graphql(directive = authorize::apply("QUOTA_VIEW".to_owned()))]
    async fn quota_warning(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(
            desc = "The cursor of the last warning you know: those you missed since come first. With `now` the first one says \
                    `resyncRequired` and where you begin: what you read after it is complete with what comes. Absent: what \
                    happens once it runs, with no word of when that is."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<QuotaWarning>>> {
        let watching =
            Watching::of::<perm::QuotaView>(ctx, &workspace_id, EventKind::Quota, after.as_deref()).await?;
        Ok(watching.answers(move |turn| warning(ctx, turn)))
    }
}
