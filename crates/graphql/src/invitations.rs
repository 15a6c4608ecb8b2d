//! Invitations in the schema: for the admins who send them, for the people who answer them, and live for
//! both.

use std::sync::Arc;

use std::collections::HashMap;

use async_graphql::{
    Context, Description, ID, InputObject, Object, OneofObject, Result, SimpleObject, Subscription,
};
use async_stream::stream;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use guildhall_domain::{
    access::{Granted, OwnSession, WorkspaceAccess, perm},
    events::EventKind,
    ids::{InvitationId, UserId},
    invitations::{
        AcceptInvitationCode, DeclineInvitationCode, DeliveryState as DomainDelivery,
        InvitationStatus as DomainStatus, InviteMemberCode, MAX_INVITEES, ResendInvitationCode,
        RevokeInvitationCode,
    },
    members::end_of_membership,
    page::{Page, PageArgs},
    refusal::{InputReader, Refusal, RefusalCode, Refusals},
    text::{Email, Message},
};
use guildhall_persistence::{
    ReadError,
    counts::Count,
    events::Topic,
    invitations::{self, Announced, Answer, Invitee, Who},
};
use uuid::Uuid;

use crate::{
    access::Role,
    accounts::{User, guard_token, throttle},
    authz::{anonymous, authorize, authorize_in, caller, db, grant, open, signed_in, signed_in_directive},
    connection::connection,
    error, input,
    live::{self, Occurrence, Told, Turn, Watching},
    loaders::{self, Scoped},
    organizations::OrganizationRole,
    payload::{InviteMemberError, answer, payload},
    schema::mirror,
};

mirror! {
    /// Where an invitation stands. Only `PENDING` can change.
    enum InvitationStatus = DomainStatus {
        /// Waits for an answer.
        Pending,
        /// The invitee accepted and is a member.
        Accepted,
        /// The invitee declined.
        Declined,
        /// Taken back by an admin, or void since the inviter lost the right to invite.
        Revoked,
        /// Nobody answered in time. It can be sent again.
        Expired,
        /// A newer invitation to the same address took its place.
        Superseded,
    }
}

mirror! {
    /// Where the mail of an invitation stands.
    enum DeliveryState = DomainDelivery {
        /// Waits to be sent, or to be tried again; `deliveryError` says what went wrong last.
        Queued,
        /// The mail server took it.
        Sent,
        /// The mail server refused it for good, or every try failed. Send it again when the cause is gone.
        Failed,
        /// The invitation was answered or taken back before the mail was sent, and it will not be.
        Cancelled,
    }
}

/// An invitation, as the workspace's admins see it. Needs `INVITATIONS_VIEW`.
#[derive(Description)]
pub struct Invitation {
    proof: Granted<perm::InvitationsView>,
    row: invitations::Invitation,
}

impl Invitation {
    pub(crate) fn new(proof: Granted<perm::InvitationsView>, row: invitations::Invitation) -> Self {
        Self { proof, row }
    }

    /// The invitation that was just changed, for whoever may also see it.
    fn changed(access: &Arc<WorkspaceAccess>, row: invitations::Invitation) -> Option<Self> {
        Some(Self { proof: access.grant().ok()?, row })
    }
}

#[Object(use_type_description)]
impl Invitation {
    /// The invitation's global id.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The invitee's e-mail address, in lower case.
    async fn email(&self) -> &str {
        &self.row.email
    }
    /// The role it gives in this workspace.
    async fn role(&self) -> Role {
        Role(self.row.role.clone())
    }
    /// The role it gives in the organization; null where only workspaces are meant. One with a role is sent again and
    /// revoked by the organization's admins.
    async fn organization_role(&self) -> Option<OrganizationRole> {
        self.row.organization_role.map(Into::into)
    }
    /// Where it stands.
    async fn status(&self) -> InvitationStatus {
        self.row.status.into()
    }
    /// The person who sent it, or sent it last; null when they have left the organization.
    async fn inviter(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        let key = Scoped { proof: self.proof.clone(), what: self.row.inviter };
        loaders::load(ctx, key).await.map(|found| found.map(User)).transpose()
    }
    /// The inviter's own words.
    async fn message(&self) -> Option<&str> {
        self.row.message.as_deref()
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When it expires.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.row.expires_at
    }
    /// When the membership that comes of it ends by itself; null: never.
    async fn membership_expires_at(&self) -> Option<DateTime<Utc>> {
        self.row.membership_expires_at
    }
    /// When it was answered or taken back.
    async fn responded_at(&self) -> Option<DateTime<Utc>> {
        self.row.responded_at
    }
    /// Where its mail stands.
    async fn delivery(&self) -> DeliveryState {
        self.row.delivery.into()
    }
    /// What the mail server said last, if it refused.
    async fn delivery_error(&self) -> Option<&str> {
        self.row.delivery_error.as_deref()
    }
    /// When the mail server took the last mail.
    async fn sent_at(&self) -> Option<DateTime<Utc>> {
        self.row.sent_at
    }
}

/// A workspace that an invitation opens: its names and nothing of what is inside.
#[derive(Description)]
pub struct InvitedWorkspace(pub(crate) invitations::ReceivedGrant);

#[Object(use_type_description)]
impl InvitedWorkspace {
    /// The workspace's name in addresses.
    async fn name(&self) -> &str {
        &self.0.workspace_name
    }
    /// The name people read.
    async fn display_name(&self) -> &str {
        &self.0.workspace_display_name
    }
    /// The role that the invitee would have.
    async fn role(&self) -> Role {
        Role(self.0.role.clone())
    }
    /// When the membership would end by itself; null: never.
    async fn membership_expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.membership_expires_at
    }
}

/// An invitation, as the invitee sees it.
#[derive(Description)]
pub struct ReceivedInvitation(pub(crate) invitations::Received);

#[Object(use_type_description)]
impl ReceivedInvitation {
    /// The invitation's global id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// The name of the organization.
    async fn organization_name(&self) -> &str {
        &self.0.organization
    }
    /// The role you would have in the organization; null where you are only invited to workspaces of it.
    async fn organization_role(&self) -> Option<OrganizationRole> {
        self.0.organization_role.map(Into::into)
    }
    /// The name of the person who sent it.
    async fn inviter_name(&self) -> &str {
        &self.0.inviter
    }
    /// The inviter's own words.
    async fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }
    /// The invitee's address with most of it hidden, enough to recognise one's own.
    async fn masked_email(&self) -> String {
        Email::from_stored(self.0.email.clone()).masked()
    }
    /// Where it stands.
    async fn status(&self) -> InvitationStatus {
        self.0.status.into()
    }
    /// When it expires.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }
    /// When it was answered or taken back.
    async fn responded_at(&self) -> Option<DateTime<Utc>> {
        self.0.responded_at
    }
    /// The workspaces it opens; none where it is only to the organization.
    #[graphql(complexity = "1 + 10 * child_complexity")]
    async fn workspaces(&self) -> Vec<InvitedWorkspace> {
        self.0.grants.iter().cloned().map(InvitedWorkspace).collect()
    }
}

pub(crate) struct Invitations {
    pub(crate) proof: Granted<perm::InvitationsView>,
    pub(crate) statuses: Vec<DomainStatus>,
    pub(crate) args: PageArgs<Uuid>,
}

impl Invitations {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Invitation>> {
        let key = Scoped { proof: self.proof.clone(), what: (self.statuses.clone(), self.args.clone()) };
        let page = loaders::load(ctx, key).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| Invitation::new(self.proof.clone(), row)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let count = Count::Invitations(self.proof.clone(), self.statuses.clone());
        loaders::number(ctx, count).await
    }
}

connection! {
    /// A list of a workspace's invitations.
    InvitationConnection, InvitationEdge, Invitation, Invitations, "invitation",
    |invitation| invitation.row.id.uuid()
}

pub(crate) struct ReceivedInvitations {
    pub(crate) proof: OwnSession,
    pub(crate) statuses: Vec<DomainStatus>,
    pub(crate) args: PageArgs<Uuid>,
}

impl ReceivedInvitations {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<ReceivedInvitation>> {
        let page = invitations::received_page(db(ctx), &self.proof, &self.statuses, &self.args).await;
        Ok(page.map_err(|fault| error::read(ctx, fault))?.map(ReceivedInvitation))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let total = invitations::count_received(db(ctx), &self.proof, &self.statuses).await;
        total.map_err(|fault| error::read(ctx, fault))
    }
}

connection! {
    /// A list of the invitations you received.
    ReceivedInvitationConnection, ReceivedInvitationEdge, ReceivedInvitation, ReceivedInvitations,
    "received", |invitation| invitation.0.id.uuid()
}

/// The invitation part of the query root.
#[derive(Default)]
pub struct InvitationQuery;

#[Object]
impl InvitationQuery {
    /// The invitation that a link belongs to, for a page that shows it before anybody signs in; null when
    /// the link is not valid, or not any more.
    #[graphql(directive = anonymous::apply("the secret of the invitation's link is required".to_owned()))]
    async fn invitation_by_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The secret of the link: the last part of its path.", secret)] token: String,
    ) -> Option<Result<ReceivedInvitation>> {
        if let Err(wait) = guard_token(ctx) {
            return Some(Err(wait));
        }
        let proof = open("guarded by the secret of the invitation's link");
        match invitations::by_token(db(ctx), &proof, &token).await {
            Ok(found) => found.map(|received| Ok(ReceivedInvitation(received))),
            Err(fault) => Some(Err(error::read(ctx, fault))),
        }
    }
}

/// Somebody to invite. Exactly one of `email` and `userId` is given.
#[derive(InputObject)]
pub struct InviteMemberInput {
    /// The workspace.
    workspace_id: ID,
    /// The invitee's e-mail address; at most 254 characters, in any case.
    email: Option<String>,
    /// A person found by `searchUsers`. They are asked too; nobody is added silently.
    user_id: Option<ID>,
    /// The role they would have: its id, or VIEWER, EDITOR or ADMIN.
    role: ID,
    /// When their membership ends by itself; null or absent: never. The invitation cannot be accepted later than that.
    membership_expires_at: Option<DateTime<Utc>>,
    /// Your own words for the mail; at most 500 characters.
    message: Option<String>,
}

/// One of several people to invite. Exactly one of `email` and `userId` is given.
#[derive(InputObject)]
pub struct InviteeInput {
    /// The invitee's e-mail address; at most 254 characters, in any case.
    email: Option<String>,
    /// A person found by `searchUsers`. They are asked too; nobody is added silently.
    user_id: Option<ID>,
    /// The role they would have: its id, or VIEWER, EDITOR or ADMIN.
    role: ID,
    /// When their membership ends by itself; null or absent: never. The invitation cannot be accepted later than that.
    membership_expires_at: Option<DateTime<Utc>>,
}

payload! {
    /// Who was invited.
    InviteMemberPayload, InviteMemberError = InviteMemberCode {
        /// The invitation, pending.
        invitation: Invitation,
    }
}

/// Several people to invite to one workspace.
#[derive(InputObject)]
pub struct InviteMembersInput {
    /// The workspace.
    workspace_id: ID,
    /// Whom; 1 to 100.
    invitees: Vec<InviteeInput>,
    /// Your own words for all the mails; at most 500 characters.
    message: Option<String>,
}

/// What became of one of several invitees.
#[derive(SimpleObject)]
pub struct InviteResult {
    /// The invitation, pending; null when this one was refused.
    invitation: Option<Invitation>,
    /// Why this one was not invited; empty after success.
    user_errors: Vec<InviteMemberError>,
}

payload! {
    /// What became of each invitee.
    InviteMembersPayload, InviteMemberError = InviteMemberCode {
        /// One result for each invitee, in the order of the input. Each stands for itself: the refusal of
        /// one leaves the others invited.
        results: Vec<InviteResult>,
    }
}

/// Which invitation to send again.
#[derive(InputObject)]
pub struct ResendInvitationInput {
    /// The workspace.
    workspace_id: ID,
    /// The invitation.
    invitation_id: ID,
    /// Another role: its id, or VIEWER, EDITOR or ADMIN. When absent, the role stays.
    role: Option<ID>,
}

payload! {
    /// What was sent again.
    ResendInvitationPayload, ResendInvitationError = ResendInvitationCode {
        /// The invitation, pending, with a new expiry. The link sent before is dead.
        invitation: Invitation,
    }
}

/// Which invitation to take back.
#[derive(InputObject)]
pub struct RevokeInvitationInput {
    /// The workspace.
    workspace_id: ID,
    /// The invitation.
    invitation_id: ID,
}

payload! {
    /// What was taken back.
    RevokeInvitationPayload, RevokeInvitationError = RevokeInvitationCode {
        /// The invitation, revoked.
        invitation: Invitation,
    }
}

/// Which invitation to answer.
#[derive(OneofObject)]
pub enum AnswerInvitationInput {
    /// The secret of the link: the last part of its path.
    Token(String),
    /// One of your own, as `viewer.invitations` lists them.
    InvitationId(ID),
}

payload! {
    /// What was accepted.
    AcceptInvitationPayload, AcceptInvitationError = AcceptInvitationCode {
        /// The invitation, accepted. You are a member of its workspaces.
        invitation: ReceivedInvitation,
    }
}

payload! {
    /// What was declined.
    DeclineInvitationPayload, DeclineInvitationError = DeclineInvitationCode {
        /// The invitation, declined.
        invitation: ReceivedInvitation,
    }
}

/// Reads an invitee; the faults name fields below `prefix`.
fn read_invitee(
    ctx: &Context<'_>,
    email: Option<&str>,
    user_id: Option<&ID>,
    role: &ID,
    membership_expires_at: Option<DateTime<Utc>>,
    message: Option<&Message>,
) -> Result<Invitee, Refusals<InviteMemberCode>> {
    let mut reader = InputReader::default();
    let who = match (email, user_id) {
        (Some(email), None) => reader.field("email", Email::parse(email)).map(Who::Email),
        (None, Some(user)) => reader.field("userId", input::id::<UserId>(user)).map(Who::User),
        _ => {
            let message = "Give exactly one of `email` and `userId`.";
            reader.refuse(Refusal::new(InviteMemberCode::InvalidInput, message).at("email"));
            None
        }
    };
    let role = reader.field("role", input::role(role));
    let end = membership_expires_at.map(|at| end_of_membership(at, db(ctx).now()));
    let membership_expires_at = reader.optional("membershipExpiresAt", end);
    let (who, (role, membership_expires_at)) = reader.all(who.zip(role.zip(membership_expires_at)))?;
    Ok(Invitee { who, role, membership_expires_at, message: message.cloned() })
}

/// Counts an invitation against the limits.
fn count(
    ctx: &Context<'_>,
    proof: &Granted<perm::MembersInvite>,
    recipient: &str,
) -> Result<(), Refusal<InviteMemberCode>> {
    let access = proof.access();
    throttle(ctx)
        .invitation(
            &access.actor().uuid().to_string(),
            &access.workspace().to_string(),
            caller(ctx).device.ip.as_deref(),
            recipient,
        )
        .map_err(|wait| Refusal::new(InviteMemberCode::RateLimited, wait))
}

/// Whom the limit per recipient counts for: the address, whichever way it is named.
struct Recipients(HashMap<UserId, Email>);

impl Recipients {
    /// Those of all these invitees, at the price of one statement if people are among them.
    async fn read<'a>(
        ctx: &Context<'_>,
        proof: &Granted<perm::MembersInvite>,
        invitees: impl IntoIterator<Item = &'a Invitee>,
    ) -> std::result::Result<Self, ReadError> {
        let person = |invitee: &Invitee| match &invitee.who {
            Who::Email(_) => None,
            Who::User(user) => Some(*user),
        };
        let people: Vec<_> = invitees.into_iter().filter_map(person).collect();
        Ok(Self(invitations::addresses_of_people(db(ctx), proof, &people).await?))
    }

    /// Who cannot be invited counts for themselves; the operation says why.
    fn of(&self, who: &Who) -> String {
        match who {
            Who::Email(email) => email.as_str().to_owned(),
            Who::User(user) => {
                self.0.get(user).map_or_else(|| user.to_string(), |email| email.as_str().to_owned())
            }
        }
    }
}

/// The invitation part of the mutation root.
#[derive(Default)]
pub struct InvitationMutation;

#[Object]
impl InvitationMutation {
    /// Invites somebody to a workspace by mail. The mail is queued in the same transaction; `delivery` of
    /// the invitation tells what became of it.
    #[graphql(directive = authorize::apply("MEMBERS_INVITE".to_owned()))]
    async fn invite_member(
        &self,
        ctx: &Context<'_>,
        input: InviteMemberInput,
    ) -> Result<InviteMemberPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let message = input.message.as_deref().map(Message::parse_optional);
            let message = reader.optional("message", message).map(Option::flatten);
            let invitee = read_invitee(
                ctx,
                input.email.as_deref(),
                input.user_id.as_ref(),
                &input.role,
                input.membership_expires_at,
                None,
            );
            let invitee = match invitee {
                Ok(invitee) => Some(invitee),
                Err(Refusals(faults)) => {
                    faults.into_iter().for_each(|fault| reader.refuse(fault));
                    None
                }
            };
            let (mut invitee, message) = reader.all(invitee.zip(message))?;
            invitee.message = message;
            let recipients = Recipients::read(ctx, &proof, [&invitee]).await?;
            count(ctx, &proof, &recipients.of(&invitee.who))?;
            invitations::invite(db(ctx), &proof, &invitee).await
        }
        .await;
        answer(ctx, outcome, |row| InviteMemberPayload {
            invitation: Invitation::changed(proof.access(), row),
            user_errors: Vec::new(),
        })
    }

    /// Invites up to 100 people to a workspace, with a result for each.
    #[graphql(directive = authorize::apply("MEMBERS_INVITE".to_owned()))]
    async fn invite_members(
        &self,
        ctx: &Context<'_>,
        input: InviteMembersInput,
    ) -> Result<InviteMembersPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let mut faults = Vec::with_capacity(input.invitees.len());
        let outcome = async {
            if !(1..=MAX_INVITEES).contains(&input.invitees.len()) {
                let message =
                    format!("`invitees` has {} entries: give 1 to {MAX_INVITEES}.", input.invitees.len());
                return Err(Refusal::new(InviteMemberCode::InvalidInput, message).at("invitees").into());
            }
            let mut reader = InputReader::default();
            let message = input.message.as_deref().map(Message::parse_optional);
            let message = reader.optional("message", message).map(Option::flatten);
            let message = reader.all(message)?;
            let read = input.invitees.iter().map(|invitee| {
                read_invitee(
                    ctx,
                    invitee.email.as_deref(),
                    invitee.user_id.as_ref(),
                    &invitee.role,
                    invitee.membership_expires_at,
                    message.as_ref(),
                )
            });
            let read: Vec<_> = read.collect();
            let recipients = Recipients::read(ctx, &proof, read.iter().flatten()).await?;
            let invitees = read.into_iter().map(|read| {
                // The first fault stands for the item in the operation; all of them stand in the answer.
                let counted = read.and_then(|invitee| {
                    count(ctx, &proof, &recipients.of(&invitee.who))?;
                    Ok(invitee)
                });
                let (invitee, all) = match counted {
                    Ok(invitee) => (Ok(invitee), Vec::new()),
                    Err(Refusals(all)) => (Err(all.first().cloned()), all),
                };
                faults.push(all);
                invitee.map_err(|fault| {
                    fault
                        .unwrap_or_else(|| Refusal::new(InviteMemberCode::InvalidInput, "It cannot be read."))
                })
            });
            let invitees = invitees.collect();
            invitations::invite_many(db(ctx), &proof, invitees).await
        }
        .await;
        answer(ctx, outcome, |results| {
            let results = results.into_iter().zip(faults).enumerate().map(|(index, (result, all))| {
                let (invitation, refusals) = match result {
                    Ok(row) => (Invitation::changed(proof.access(), row), Vec::new()),
                    Err(refusal) if all.is_empty() => (None, vec![refusal]),
                    Err(_) => (None, all),
                };
                let user_errors = refusals.into_iter().map(|refusal| below(index, refusal).into()).collect();
                InviteResult { invitation, user_errors }
            });
            InviteMembersPayload { results: Some(results.collect()), user_errors: Vec::new() }
        })
    }

    /// Sends a pending or expired invitation again, with a new link and a new expiry, and another role if
    /// one is given. The link sent before is dead from then on.
    #[graphql(directive = authorize::apply("MEMBERS_INVITE".to_owned()))]
    async fn resend_invitation(
        &self,
        ctx: &Context<'_>,
        input: ResendInvitationInput,
    ) -> Result<ResendInvitationPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("invitationId", input::id::<InvitationId>(&input.invitation_id));
            let role = reader.optional("role", input.role.as_ref().map(input::role));
            let (id, role) = reader.all(id.zip(role))?;
            let recipient = match invitations::address_of_invitation(db(ctx), &proof, id).await? {
                Some(email) => email.into_string(),
                None => id.to_string(),
            };
            count(ctx, &proof, &recipient)
                .map_err(|refusal| Refusal::new(ResendInvitationCode::RateLimited, refusal.message))?;
            invitations::resend(db(ctx), &proof, id, role).await
        }
        .await;
        answer(ctx, outcome, |row| ResendInvitationPayload {
            invitation: Invitation::changed(proof.access(), row),
            user_errors: Vec::new(),
        })
    }

    /// Takes a pending invitation back; its link is dead from then on.
    #[graphql(directive = authorize::apply("MEMBERS_INVITE".to_owned()))]
    async fn revoke_invitation(
        &self,
        ctx: &Context<'_>,
        input: RevokeInvitationInput,
    ) -> Result<RevokeInvitationPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("invitationId", input::id(&input.invitation_id));
            invitations::revoke(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |row| RevokeInvitationPayload {
            invitation: Invitation::changed(proof.access(), row),
            user_errors: Vec::new(),
        })
    }

    /// Accepts an invitation to your own verified e-mail address. Whoever has no account yet registers
    /// instead, which accepts as well. In a session that an organization's identity provider opened, that organization's: with
    /// the link of another one it is `ANOTHER_SIGN_IN_REQUIRED`.
    #[graphql(directive = signed_in_directive::apply())]
    async fn accept_invitation(
        &self,
        ctx: &Context<'_>,
        input: AnswerInvitationInput,
    ) -> Result<AcceptInvitationPayload> {
        let proof = signed_in(ctx).await?;
        guard_token(ctx)?;
        let outcome = async {
            let answer = match &input {
                AnswerInvitationInput::Token(token) => Answer::Token(token),
                AnswerInvitationInput::InvitationId(id) => Answer::Id(read_id(id)?),
            };
            invitations::accept(db(ctx), &proof, answer).await
        }
        .await;
        answer(ctx, outcome, |received| AcceptInvitationPayload {
            invitation: Some(ReceivedInvitation(received)),
            user_errors: Vec::new(),
        })
    }

    /// Declines an invitation. With the link's secret nobody needs to be signed in; with an id it must be
    /// your own.
    #[graphql(directive = anonymous::apply("holding the secret of the link is enough to say no; an id needs a signed-in caller".to_owned()))]
    async fn decline_invitation(
        &self,
        ctx: &Context<'_>,
        input: AnswerInvitationInput,
    ) -> Result<DeclineInvitationPayload> {
        guard_token(ctx)?;
        let outcome = match &input {
            AnswerInvitationInput::Token(token) => {
                let proof = open("guarded by the secret of the invitation's link");
                invitations::decline_by_token(db(ctx), &proof, token).await
            }
            AnswerInvitationInput::InvitationId(id) => {
                let proof = signed_in(ctx).await?;
                async { invitations::decline(db(ctx), &proof, read_id(id)?).await }.await
            }
        };
        answer(ctx, outcome, |received| DeclineInvitationPayload {
            invitation: Some(ReceivedInvitation(received)),
            user_errors: Vec::new(),
        })
    }
}

fn read_id<C: RefusalCode>(id: &ID) -> Result<InvitationId, Refusals<C>> {
    let mut reader = InputReader::default();
    let id = reader.field("invitationId", input::id(id));
    reader.all(id)
}

/// The same refusal, of the item at that place of the input.
fn below(index: usize, mut refusal: Refusal<InviteMemberCode>) -> Refusal<InviteMemberCode> {
    refusal.field.splice(0..0, ["invitees".into(), index.to_string().into()]);
    refusal
}

/// A change of an invitation of the workspace.
#[derive(SimpleObject)]
pub struct InvitationStatusChange {
    /// Where this change stands; give it as `after` to go on from here after a break.
    cursor: String,
    /// The status that the invitation took by this change; null when `resyncRequired`.
    status: Option<InvitationStatus>,
    /// The invitation as it is now; null when it is gone or `resyncRequired`.
    invitation: Option<Invitation>,
    /// Changes are missing that cannot be sent again: read `workspace.invitations` anew, then go on.
    resync_required: bool,
}

/// A change of an invitation that you received.
#[derive(SimpleObject)]
pub struct ViewerInvitationChange {
    /// Where this change stands; give it as `after` to go on from here after a break.
    cursor: String,
    /// The status that the invitation took by this change; null when `resyncRequired`.
    status: Option<InvitationStatus>,
    /// The invitation as it is now; null when it is gone or `resyncRequired`.
    invitation: Option<ReceivedInvitation>,
    /// Changes are missing that cannot be sent again: read `viewer.invitations` anew, then go on.
    resync_required: bool,
}

/// The invitation part of the subscription root.
#[derive(Default)]
pub struct InvitationSubscription;

fn status_of(event: &guildhall_domain::events::Recorded) -> Option<InvitationStatus> {
    event.state.as_deref().and_then(DomainStatus::from_word).map(Into::into)
}

/// The answer to one event.
async fn status_change(ctx: &Context<'_>, turn: Turn) -> Result<InvitationStatusChange> {
    let (event, access) = match turn.0 {
        Told::Event { event, access, .. } => (event, access),
        Told::Resync(seq) => {
            let cursor = live::cursor(seq);
            return Ok(InvitationStatusChange {
                cursor,
                status: None,
                invitation: None,
                resync_required: true,
            });
        }
    };
    let proof: Granted<perm::InvitationsView> = grant(&access)?;
    let row = match event.subject.map(InvitationId::from) {
        Some(id) => loaders::load(ctx, Scoped { proof: proof.clone(), what: id }).await?,
        None => None,
    };
    Ok(InvitationStatusChange {
        cursor: live::cursor(event.seq),
        status: status_of(&event),
        invitation: row.map(|row| Invitation::new(proof, row)),
        resync_required: false,
    })
}

#[Subscription]
impl InvitationSubscription {
    /// Every change of an invitation of the workspace, within a second: made, delivered, answered, revoked,
    /// sent again. It ends with an error once you may not see the invitations any more.
    #[graphql(directive = authorize::apply("INVITATIONS_VIEW".to_owned()))]
    async fn invitation_status_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(
            desc = "The cursor of the last change you know: those you missed since come first. With `now` the first change says \
                    `resyncRequired` and where you begin: what you read after it is complete with what comes. Absent: what \
                    happens once it runs, with no word of when that is."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<InvitationStatusChange>>> {
        let watching = Watching::of::<perm::InvitationsView>(
            ctx,
            &workspace_id,
            EventKind::Invitation,
            after.as_deref(),
        )
        .await?;
        Ok(watching.answers(move |turn| status_change(ctx, turn)))
    }

    /// Every change of an invitation to your own verified e-mail address, within a second. In a session that an organization's
    /// identity provider opened, of that organization's, and not of those that are gone.
    #[graphql(directive = signed_in_directive::apply())]
    async fn viewer_invitation_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The cursor of the last change you know: those you missed since come first. With `now` the first change says \
                    `resyncRequired` and where you begin: what you read after it is complete with what comes. Absent: what \
                    happens once it runs, with no word of when that is."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ViewerInvitationChange>>> {
        let proof = signed_in(ctx).await?;
        let after = after.as_deref().map(live::read_cursor).transpose()?;
        let announced =
            invitations::announced(db(ctx), &proof).await.map_err(|fault| error::read(ctx, fault))?;
        let Announced { address, by_provider } = announced.ok_or_else(|| {
            error::coded(
                "FORBIDDEN",
                "Verify your e-mail address first: invitations are told to verified addresses.",
            )
        })?;
        let (actor, user) = (proof.actor(), proof.user());
        let topics = (Topic::Email(address.into_string()), Some(Topic::User(user)));
        let db = db(ctx);
        let followed = live::follow(db.clone(), proof, topics.0, topics.1, EventKind::Invitation, after);
        Ok(stream! {
            futures_util::pin_mut!(followed);
            while let Some(occurrence) = followed.next().await {
                let occurrence = match occurrence {
                    Ok(occurrence) => occurrence,
                    Err(fault) => {
                        yield Err(error::internal(ctx, &fault));
                        return;
                    }
                };
                let proof = match db.own_session(actor).await {
                    Ok(proof) => proof,
                    Err(fault) => {
                        yield Err(error::read(ctx, fault));
                        return;
                    }
                };
                let event = match occurrence {
                    Occurrence::Event(event) | Occurrence::Missed(event) => event,
                    Occurrence::Resync(seq) => {
                        let cursor = live::cursor(seq);
                        yield Ok(ViewerInvitationChange { cursor, status: None, invitation: None, resync_required: true });
                        continue;
                    }
                    Occurrence::Recheck => continue,
                };
                if event.kind != EventKind::Invitation {
                    continue;
                }
                let Some(id) = event.subject.map(InvitationId::from) else { continue };
                match invitations::received(db, &proof, id).await {
                    // Gone, or another organization's, of which such a session is told nothing.
                    Ok(None) if by_provider => {}
                    Ok(received) => yield Ok(ViewerInvitationChange {
                        cursor: live::cursor(event.seq),
                        status: status_of(&event),
                        invitation: received.map(ReceivedInvitation),
                        resync_required: false,
                    }),
                    Err(fault) => {
                        yield Err(error::read(ctx, fault));
                        return;
                    }
                }
            }
        })
    }
}
