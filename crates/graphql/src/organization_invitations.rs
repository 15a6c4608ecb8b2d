//! Invitations to an organization in the schema.

use async_graphql::{Context, Description, ID, InputObject, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    ids::InvitationId,
    invitations::InvitationStatus as DomainStatus,
    members::end_of_membership,
    organization_invitations::{
        InviteOrganizationMemberCode, MAX_WORKSPACES, ResendOrganizationInvitationCode,
        RevokeOrganizationInvitationCode, judge_role,
    },
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader, Refusal, Refusals},
    text::{Email, Message},
};
use guildhall_persistence::organization_invitations::{self as invitations, NewGrant, NewInvitation};
use uuid::Uuid;

use crate::{
    accounts::{User, throttle},
    authz::{authorize, authorize_in_organization, caller, db},
    connection::connection,
    input,
    invitations::{DeliveryState, InvitationStatus, InvitedWorkspace},
    loaders::{self, Scoped},
    organizations::OrganizationRole,
    payload::{answer, payload},
};

/// An invitation to an organization, as its admins see it. Needs `ORGANIZATION_MANAGE`.
#[derive(Description)]
pub struct OrganizationInvitation {
    proof: Granted<perm::OrganizationManage>,
    row: invitations::OrganizationInvitation,
}

#[Object(use_type_description)]
impl OrganizationInvitation {
    /// The invitation's id, as the mutations about it take it.
    async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The invitee's e-mail address, in lower case.
    async fn email(&self) -> &str {
        &self.row.email
    }
    /// The role it gives in the organization.
    async fn role(&self) -> OrganizationRole {
        self.row.role.into()
    }
    /// The workspaces it opens, each with the role there; may be none.
    #[graphql(complexity = "1 + 10 * child_complexity")]
    async fn workspaces(&self) -> Vec<InvitedWorkspace> {
        self.row.grants.iter().cloned().map(InvitedWorkspace).collect()
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

pub(crate) struct OrganizationInvitations {
    pub(crate) proof: Granted<perm::OrganizationManage>,
    pub(crate) statuses: Vec<DomainStatus>,
    pub(crate) args: PageArgs<Uuid>,
}

impl OrganizationInvitations {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<OrganizationInvitation>> {
        let what = (self.statuses.clone(), self.args.clone());
        let page = loaders::load(ctx, Scoped { proof: self.proof.clone(), what }).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| OrganizationInvitation { proof: self.proof.clone(), row }))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let key = Scoped { proof: self.proof.clone(), what: self.statuses.clone() };
        Ok(loaders::load(ctx, key).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of an organization's invitations.
    OrganizationInvitationConnection, OrganizationInvitationEdge, OrganizationInvitation,
    OrganizationInvitations, "organization invitation", |invitation| invitation.row.id.uuid()
}

/// A workspace to invite to.
#[derive(InputObject)]
pub struct WorkspaceGrantInput {
    /// The workspace.
    workspace_id: ID,
    /// The role they would have there: its id, or VIEWER, EDITOR or ADMIN.
    role: ID,
    /// When their membership ends by itself; null or absent: never. The invitation cannot be accepted later than that.
    membership_expires_at: Option<DateTime<Utc>>,
}

/// Somebody to invite to an organization.
#[derive(InputObject)]
pub struct InviteOrganizationMemberInput {
    /// The organization.
    organization_id: ID,
    /// The invitee's e-mail address; at most 254 characters, in any case.
    email: String,
    /// The role they would have in the organization: MEMBER or ADMIN.
    #[graphql(default_with = "OrganizationRole::Member")]
    role: OrganizationRole,
    /// The workspaces that the invitation opens, at most 100; none by default. One that cannot be opened refuses the whole.
    #[graphql(default)]
    workspaces: Vec<WorkspaceGrantInput>,
    /// Your own words for the mail; at most 500 characters.
    message: Option<String>,
}

payload! {
    /// Who was invited.
    InviteOrganizationMemberPayload, InviteOrganizationMemberError = InviteOrganizationMemberCode {
        /// The invitation, pending.
        invitation: OrganizationInvitation,
    }
}

/// Which invitation to send again.
#[derive(InputObject)]
pub struct ResendOrganizationInvitationInput {
    /// The organization.
    organization_id: ID,
    /// The invitation, as `OrganizationInvitation.id` gives it.
    invitation_id: ID,
}

payload! {
    /// What was sent again.
    ResendOrganizationInvitationPayload, ResendOrganizationInvitationError = ResendOrganizationInvitationCode {
        /// The invitation, pending.
        invitation: OrganizationInvitation,
    }
}

/// Which invitation to take back.
#[derive(InputObject)]
pub struct RevokeOrganizationInvitationInput {
    /// The organization.
    organization_id: ID,
    /// The invitation, as `OrganizationInvitation.id` gives it.
    invitation_id: ID,
}

payload! {
    /// What was taken back.
    RevokeOrganizationInvitationPayload, RevokeOrganizationInvitationError = RevokeOrganizationInvitationCode {
        /// The invitation, revoked.
        invitation: OrganizationInvitation,
    }
}

fn read_grant(
    ctx: &Context<'_>,
    index: usize,
    grant: &WorkspaceGrantInput,
) -> Result<NewGrant, Refusals<InviteOrganizationMemberCode>> {
    let mut reader = InputReader::default();
    let workspace = reader.field("workspaceId", input::id(&grant.workspace_id));
    let role = reader.field("role", input::role(&grant.role));
    let end = grant.membership_expires_at.map(|at| end_of_membership(at, db(ctx).now()));
    let end = reader.optional("membershipExpiresAt", end);
    let grant = (|| Some(NewGrant { workspace: workspace?, role: role?, membership_expires_at: end? }))();
    reader.all(grant).map_err(|Refusals(faults)| {
        let below = faults.into_iter().map(|mut fault| {
            fault.field.splice(0..0, ["workspaces".into(), index.to_string().into()]);
            fault
        });
        Refusals(below.collect())
    })
}

fn read(
    ctx: &Context<'_>,
    input: &InviteOrganizationMemberInput,
) -> Result<NewInvitation, Refusals<InviteOrganizationMemberCode>> {
    let mut reader = InputReader::default();
    let email = reader.field("email", Email::parse(&input.email));
    let message = reader.optional("message", input.message.as_deref().map(Message::parse_optional));
    let role = judge_role(input.role.into()).map_err(|refusal| reader.refuse(refusal)).ok();
    let mut workspaces = Vec::with_capacity(input.workspaces.len().min(MAX_WORKSPACES));
    if input.workspaces.len() > MAX_WORKSPACES {
        let number = input.workspaces.len();
        let fault = FieldFault(format!("has {number} entries: give at most {MAX_WORKSPACES}"));
        reader.field::<(), _>("workspaces", Err(fault));
    } else {
        for (index, grant) in input.workspaces.iter().enumerate() {
            match read_grant(ctx, index, grant) {
                Ok(grant) => workspaces.push(grant),
                Err(Refusals(faults)) => faults.into_iter().for_each(|fault| reader.refuse(fault)),
            }
        }
    }
    let new =
        (|| Some(NewInvitation { email: email?, role: role?, workspaces, message: message?.flatten() }))();
    reader.all(new)
}

/// Counts an invitation against the limits.
fn count<C>(
    ctx: &Context<'_>,
    proof: &Granted<perm::OrganizationManage>,
    recipient: &str,
    limited: C,
) -> Result<(), Refusal<C>> {
    let access = proof.access();
    throttle(ctx)
        .invitation(
            &access.actor().uuid().to_string(),
            &access.organization().to_string(),
            caller(ctx).device.ip.as_deref(),
            recipient,
        )
        .map_err(|wait| Refusal::new(limited, wait))
}

/// The part of the mutation root about invitations to an organization.
#[derive(Default)]
pub struct OrganizationInvitationMutation;

#[Object]
impl OrganizationInvitationMutation {
    /// Invites somebody to an organization, and to any number of its workspaces at once, by one mail. One bad entry
    /// refuses the whole; `userErrors` name each.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn invite_organization_member(
        &self,
        ctx: &Context<'_>,
        input: InviteOrganizationMemberInput,
    ) -> Result<InviteOrganizationMemberPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let new = read(ctx, &input)?;
            count(ctx, &proof, new.email.as_str(), InviteOrganizationMemberCode::RateLimited)?;
            invitations::invite(db(ctx), &proof, &new).await
        }
        .await;
        answer(ctx, outcome, |row| InviteOrganizationMemberPayload {
            invitation: Some(OrganizationInvitation { proof, row }),
            user_errors: Vec::new(),
        })
    }

    /// Sends an invitation to an organization again, with a new link and a new expiry. The link sent before is dead from
    /// then on.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn resend_organization_invitation(
        &self,
        ctx: &Context<'_>,
        input: ResendOrganizationInvitationInput,
    ) -> Result<ResendOrganizationInvitationPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("invitationId", input::id::<InvitationId>(&input.invitation_id));
            let id = reader.all(id)?;
            if let Some(email) = invitations::address_of(db(ctx), &proof, id).await? {
                count(ctx, &proof, email.as_str(), ResendOrganizationInvitationCode::RateLimited)?;
            }
            invitations::resend(db(ctx), &proof, id).await
        }
        .await;
        answer(ctx, outcome, |row| ResendOrganizationInvitationPayload {
            invitation: Some(OrganizationInvitation { proof, row }),
            user_errors: Vec::new(),
        })
    }

    /// Takes an invitation to an organization back. Its link is dead from then on.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn revoke_organization_invitation(
        &self,
        ctx: &Context<'_>,
        input: RevokeOrganizationInvitationInput,
    ) -> Result<RevokeOrganizationInvitationPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("invitationId", input::id::<InvitationId>(&input.invitation_id));
            invitations::revoke(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |row| RevokeOrganizationInvitationPayload {
            invitation: Some(OrganizationInvitation { proof, row }),
            user_errors: Vec::new(),
        })
    }
}
