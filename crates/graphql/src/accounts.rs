//! Accounts: setting up, signing in, registering, and the person's own view of things.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, InputObject, Object, Result, Union};
use guildhall_domain::access::{Denied, OwnSession};
use guildhall_domain::{
    accounts::{
        ChangePasswordCode, RegisterCode, SetUpCode, SignInCode, TakesPassword, UpdateProfileCode,
        UserStatus as DomainStatus, check_password,
    },
    ids::WorkspaceId,
    invitations::InvitationStatus as DomainInvitationStatus,
    refusal::{InputReader, Refusal, RefusalCode},
    text::{DisplayName, Email},
};
use guildhall_persistence::{ReadError, accounts, recovery_codes, second_factor};

use crate::{
    authz::{anonymous, caller, db, open, signed_in, signed_in_directive},
    connection::{Order, Window},
    error, input,
    invitations::{InvitationStatus, ReceivedInvitation, ReceivedInvitationConnection, ReceivedInvitations},
    organizations::{OrganizationConnection, Organizations},
    ownership::{OwnershipTransferConnection, OwnershipTransfers},
    payload::{answer, payload},
    rehearsal::only_now,
    schema::mirror,
    second_factor::{SecondFactor, shown},
    sessions::{SessionConnection, SessionTokens, Sessions},
    throttle::Throttle,
    workspaces::{Workspace, WorkspaceConnection, WorkspaceStatus, Workspaces},
};

mirror! {
    /// The state of an account.
    enum UserStatus = DomainStatus {
        /// The e-mail address is not proven yet.
        Unverified,
        /// In use.
        Active,
        /// Closed by an admin; nothing is lost, and it can be opened again.
        Disabled,
    }
}

/// A person. Seen by those who share a workspace or organization with them.
#[derive(Description)]
pub struct User(pub(crate) accounts::User);

#[Object(use_type_description)]
impl User {
    /// The person's global id.
    pub(crate) async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// The e-mail address, in lower case.
    async fn email(&self) -> &str {
        &self.0.email
    }
    /// The name people read.
    async fn display_name(&self) -> &str {
        &self.0.display_name
    }
    /// The state of the account.
    async fn status(&self) -> UserStatus {
        self.0.status.into()
    }
}

/// Who holds rights in a workspace. People today; other kinds join later, so ask for `__typename`.
#[derive(Union)]
pub enum Principal {
    /// A person.
    User(User),
}

/// The signed-in person's own view.
#[derive(Description)]
pub struct Viewer {
    proof: OwnSession,
    account: tokio::sync::OnceCell<accounts::Account>,
}

impl Viewer {
    pub(crate) fn new(proof: OwnSession) -> Self {
        Self { proof, account: tokio::sync::OnceCell::new() }
    }

    async fn account(&self, ctx: &Context<'_>) -> Result<&accounts::Account> {
        self.account
            .get_or_try_init(|| accounts::account(db(ctx), &self.proof))
            .await
            .map_err(|fault| error::read(ctx, fault))
    }
}

impl Viewer {
    /// The workspace that the person chose, or else where they land without it: while it is archived or out of their sight, the
    /// choice is only passed over, so that it holds again afterwards.
    async fn landing(&self, ctx: &Context<'_>, chosen: Option<WorkspaceId>) -> Result<Option<Workspace>> {
        let Some(chosen) = chosen else { return Ok(None) };
        let actor = self.proof.actor();
        match db(ctx).standing(actor, chosen).await {
            Ok(standing) if !standing.access.is_archived() => return Ok(Some(Workspace::new(standing)?)),
            Ok(_) | Err(ReadError::Denied(_)) => {}
            Err(fault) => return Err(error::read(ctx, fault)),
        }
        let landing = db(ctx).landing(&self.proof).await.map_err(|fault| error::read(ctx, fault))?;
        landing.map(Workspace::new).transpose()
    }
}

#[Object(use_type_description)]
impl Viewer {
    /// The person.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        Ok(User(self.account(ctx).await?.user.clone()))
    }

    /// Where the person lands after signing in: the default workspace, or the one they joined first where that one is
    /// archived or they have no access to it any more; null without any workspace.
    async fn default_workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        match self.account(ctx).await {
            Ok(account) => self.landing(ctx, account.default_workspace).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// The workspace the person was in last, as `switchWorkspace` remembered it, or the one they joined first where that
    /// one is archived or they have no access to it any more.
    async fn last_workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        match self.account(ctx).await {
            Ok(account) => self.landing(ctx, account.last_workspace).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// The organizations the person belongs to; the oldest first.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn organizations(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<OrganizationConnection> {
        let args = Window { first, after, last, before }.read(OrganizationConnection::LIST)?;
        Ok(OrganizationConnection::new(Organizations { actor: self.proof.actor(), args }))
    }

    /// The pending transfers of ownership that wait for the person's answer; the oldest first. In a session that an
    /// organization's identity provider opened, those of that organization.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn ownership_transfers(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<OwnershipTransferConnection> {
        let args = Window { first, after, last, before }.read(OwnershipTransferConnection::LIST)?;
        Ok(OwnershipTransferConnection::new(OwnershipTransfers { proof: self.proof, args }))
    }

    /// The workspaces the person is a member of, and every workspace of an organization they are an admin
    /// of; the oldest first. Archived ones are left out unless asked for.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn workspaces(
        &self,
        #[graphql(desc = "Only workspaces in one of these statuses; when absent or empty, those in use.")]
        status: Option<Vec<WorkspaceStatus>>,
        #[graphql(desc = "How they are sorted; when absent, the oldest first.")] order_by: Option<Order>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<WorkspaceConnection> {
        let args = Window { first, after, last, before }.read(WorkspaceConnection::LIST)?;
        Ok(WorkspaceConnection::new(Workspaces {
            proof: self.proof,
            statuses: input::distinct(status),
            order: Order::read(order_by),
            args,
        }))
    }

    /// The invitations to the person's verified e-mail address; the oldest first. In a session that an organization's identity
    /// provider opened, those of that organization.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn invitations(
        &self,
        #[graphql(desc = "Only invitations in one of these statuses.")] status: Option<Vec<InvitationStatus>>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<ReceivedInvitationConnection> {
        let args = Window { first, after, last, before }.read(ReceivedInvitationConnection::LIST)?;
        let statuses: Vec<DomainInvitationStatus> = input::distinct(status);
        Ok(ReceivedInvitationConnection::new(ReceivedInvitations { proof: self.proof, statuses, args }))
    }

    /// How many recovery codes the person has left: each sets a new password once, without any mail, or stands once for a code
    /// of the second factor. None at first; see `generateRecoveryCodes`.
    async fn recovery_codes_left(&self, ctx: &Context<'_>) -> Result<i32> {
        let left =
            recovery_codes::left(db(ctx), &self.proof).await.map_err(|fault| error::read(ctx, fault))?;
        Ok(i32::try_from(left).unwrap_or(i32::MAX))
    }

    /// The second factor that the person has; null without one. See `enrollSecondFactor`.
    async fn second_factor(&self, ctx: &Context<'_>) -> Option<Result<SecondFactor>> {
        let since = second_factor::since(db(ctx), &self.proof).await;
        since.map_err(|fault| error::read(ctx, fault)).map(|since| since.map(SecondFactor::new)).transpose()
    }

    /// The person's signed-in devices; the oldest first.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn sessions(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<SessionConnection> {
        let args = Window { first, after, last, before }.read(SessionConnection::LIST)?;
        Ok(SessionConnection::new(Sessions { proof: self.proof, args }))
    }
}

/// The account part of the query root.
#[derive(Default)]
pub struct AccountQuery;

#[Object]
impl AccountQuery {
    /// The signed-in person's own view; null when nobody is signed in, and for a key or service account.
    #[graphql(directive = anonymous::apply("answers null to whoever is not signed in".to_owned()))]
    async fn viewer(&self, ctx: &Context<'_>) -> Option<Result<Viewer>> {
        let actor = caller(ctx).actor?;
        match db(ctx).own_session(actor).await {
            Ok(proof) => Some(Ok(Viewer::new(proof))),
            Err(ReadError::Denied(Denied::SignedOut | Denied::KeyEnded | Denied::NoPerson)) => None,
            Err(fault) => Some(Err(error::read(ctx, fault))),
        }
    }
}

/// What setting up takes.
#[derive(InputObject)]
pub struct SetUpInput {
    /// The secret of the set-up link that the server prints when it starts.
    token: String,
    /// The first person's e-mail address; at most 254 characters. They become the organization's owner.
    email: String,
    /// The first person's name; 1 to 80 characters.
    display_name: String,
    /// The first person's password; 8 to 128 characters and hard to guess.
    password: String,
    /// The name of the organization and of its default workspace; 1 to 80 characters.
    organization_name: String,
}

payload! {
    /// What setting up made.
    SetUpPayload, SetUpError = SetUpCode {
        /// The first person, owner of the organization.
        user: User,
        /// The organization's default workspace.
        workspace: Workspace,
        /// The person is signed in with these.
        session: SessionTokens,
    }
}

/// What signing in takes.
#[derive(InputObject)]
pub struct SignInInput {
    /// The e-mail address of the account.
    email: String,
    /// The password of the account.
    password: String,
    /// A code of the account's second factor, where it has one: the 6 digits that the authenticator app shows, or a recovery code,
    /// which is used up by it. Without one the answer to the right password is `SECOND_FACTOR_REQUIRED`.
    code: Option<String>,
}

payload! {
    /// Who was signed in.
    SignInPayload, SignInError = SignInCode {
        /// The person.
        user: User,
        /// The person is signed in with these.
        session: SessionTokens,
    }
}

/// What registering takes.
#[derive(InputObject)]
pub struct RegisterInput {
    /// The secret of the invitation's link: the last part of its path.
    token: String,
    /// The person's name; 1 to 80 characters.
    display_name: String,
    /// The password; 8 to 128 characters and hard to guess.
    password: String,
}

payload! {
    /// Who was registered, and the invitation they accepted by it.
    RegisterPayload, RegisterError = RegisterCode {
        /// The person. The e-mail address is the invitation's, and verified since the link came by mail.
        user: User,
        /// The invitation, accepted.
        invitation: ReceivedInvitation,
        /// The person is signed in with these.
        session: SessionTokens,
    }
}

/// What of a profile changes.
#[derive(InputObject)]
pub struct UpdateProfileInput {
    /// The name people read; 1 to 80 characters.
    display_name: String,
}

payload! {
    /// The changed profile.
    UpdateProfilePayload, UpdateProfileError = UpdateProfileCode {
        /// The person.
        user: User,
    }
}

/// What changing a password takes.
#[derive(InputObject)]
pub struct ChangePasswordInput {
    /// The password until now.
    current_password: String,
    /// The password from now on; 8 to 128 characters and hard to guess.
    new_password: String,
}

payload! {
    /// Whether the password was changed.
    ChangePasswordPayload, ChangePasswordError = ChangePasswordCode {
        /// The person's own view. All other sessions have ended.
        viewer: Viewer,
    }
}

/// Adds what is wrong with the password to what is wrong with other fields, so that a form shows all of it at once. Where
/// nothing else is wrong, the operation itself checks it.
fn also_password<C: TakesPassword + RefusalCode>(
    reader: &mut InputReader<C>,
    password: &str,
    email: Option<&Email>,
    name: Option<&DisplayName>,
) {
    if let Err(weak) = check_password("password", password, email, name) {
        reader.refuse(weak);
    }
}

/// The account part of the mutation root.
#[derive(Default)]
pub struct AccountMutation;

/// A password that is far too long is not even hashed.
pub(crate) const MAX_PASSWORD_BYTES: usize = 4096;

#[Object]
impl AccountMutation {
    /// Makes the first user, the organization and its default workspace, once in the life of an instance.
    #[graphql(directive = anonymous::apply("nobody has an account yet; the secret of the set-up link is required".to_owned()))]
    async fn set_up(&self, ctx: &Context<'_>, input: SetUpInput) -> Result<SetUpPayload> {
        guard_token(ctx)?;
        let proof = open("guarded by the secret of the set-up link");
        let outcome = async {
            let mut reader = InputReader::default();
            let email = reader.field("email", Email::parse(&input.email));
            let name = reader.field("displayName", DisplayName::parse(&input.display_name));
            let organization = reader.field("organizationName", DisplayName::parse(&input.organization_name));
            if email.is_none() || name.is_none() || organization.is_none() {
                also_password(&mut reader, &input.password, email.as_ref(), name.as_ref());
            }
            let (email, display_name, organization) =
                reader.all((|| Some((email?, name?, organization?)))())?;
            let new = accounts::NewUser { email, display_name, password: input.password };
            accounts::set_up(db(ctx), &proof, &input.token, &new, &organization, &caller(ctx).device).await
        }
        .await;
        let made = match outcome {
            Ok(made) => made,
            Err(error) => return answer(ctx, Err::<SetUpPayload, _>(error), |payload| payload),
        };
        let standing = db(ctx)
            .standing(made.session.actor, made.workspace.id)
            .await
            .map_err(|fault| error::read(ctx, fault))?;
        Ok(SetUpPayload {
            user: Some(User(made.user)),
            workspace: Some(Workspace::new(standing)?),
            session: only_now(ctx, SessionTokens(made.session)),
            user_errors: Vec::new(),
        })
    }

    /// Signs a person in. An unknown address and a wrong password get the same answer; whether the account has a second factor
    /// is told to nobody without the right password.
    #[graphql(directive = anonymous::apply("this is how a caller stops being anonymous".to_owned()))]
    async fn sign_in(&self, ctx: &Context<'_>, input: SignInInput) -> Result<SignInPayload> {
        let proof = open("the password is checked");
        let email = Email::parse(&input.email).ok();
        let account = email.as_ref().map_or("", Email::as_str);
        let outcome = async {
            throttle(ctx)
                .sign_in(caller(ctx).device.ip.as_deref(), account)
                .map_err(|wait| Refusal::new(SignInCode::RateLimited, wait))?;
            let password = input.password.get(..MAX_PASSWORD_BYTES).unwrap_or(&input.password);
            let (typed, device) = (shown(input.code.as_deref())?, &caller(ctx).device);
            accounts::sign_in(db(ctx), &proof, email.as_ref(), password, &typed, device).await
        }
        .await;
        answer(ctx, outcome, |(user, session)| SignInPayload {
            user: Some(User(user)),
            session: only_now(ctx, SessionTokens(session)),
            user_errors: Vec::new(),
        })
    }

    /// Makes an account for the holder of an invitation's link, accepts the invitation and signs them in.
    #[graphql(directive = anonymous::apply("the secret of the invitation's link is required".to_owned()))]
    async fn register(&self, ctx: &Context<'_>, input: RegisterInput) -> Result<RegisterPayload> {
        guard_token(ctx)?;
        let proof = open("guarded by the secret of the invitation's link");
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("displayName", DisplayName::parse(&input.display_name));
            if name.is_none() {
                also_password(&mut reader, &input.password, None, None);
            }
            let name = reader.all(name)?;
            let device = &caller(ctx).device;
            accounts::register(db(ctx), &proof, &input.token, &name, &input.password, device).await
        }
        .await;
        answer(ctx, outcome, |(user, session, invitation)| RegisterPayload {
            user: Some(User(user)),
            invitation: Some(ReceivedInvitation(invitation)),
            session: only_now(ctx, SessionTokens(session)),
            user_errors: Vec::new(),
        })
    }

    /// Changes the signed-in person's own profile.
    #[graphql(directive = signed_in_directive::apply())]
    async fn update_profile(
        &self,
        ctx: &Context<'_>,
        input: UpdateProfileInput,
    ) -> Result<UpdateProfilePayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("displayName", DisplayName::parse(&input.display_name));
            accounts::update_profile(db(ctx), &proof, &reader.all(name)?).await
        }
        .await;
        answer(ctx, outcome, |account| UpdateProfilePayload {
            user: Some(User(account.user)),
            user_errors: Vec::new(),
        })
    }

    /// Changes the signed-in person's own password and ends all their other sessions.
    #[graphql(directive = signed_in_directive::apply())]
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        input: ChangePasswordInput,
    ) -> Result<ChangePasswordPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            throttle(ctx)
                .sign_in(None, &proof.user().to_string())
                .map_err(|wait| Refusal::new(ChangePasswordCode::RateLimited, wait))?;
            let current = input.current_password.get(..MAX_PASSWORD_BYTES).unwrap_or(&input.current_password);
            accounts::change_password(db(ctx), &proof, current, &input.new_password).await
        }
        .await;
        answer(ctx, outcome, |()| ChangePasswordPayload {
            viewer: Some(Viewer::new(proof)),
            user_errors: Vec::new(),
        })
    }
}

/// Counts a try of a link's secret.
pub(crate) fn guard_token(ctx: &Context<'_>) -> Result<()> {
    throttle(ctx).token(caller(ctx).device.ip.as_deref()).map_err(error::too_often)
}

pub(crate) fn throttle<'a>(ctx: &Context<'a>) -> &'a Throttle {
    ctx.data_unchecked::<Arc<Throttle>>()
}
