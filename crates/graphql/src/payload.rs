//! Payloads of mutations: typed user errors made from the domain's refusals.

use async_graphql::{Context, Interface, Result};
use guildhall_domain::{
    access::Denied,
    passwords,
    refusal::{self, Refusal, RefusalCode},
};
use guildhall_persistence::OpError;

use crate::{authz::db, error, schema::mirror};

mirror! {
    /// Why a workspace name cannot be had.
    enum NameUnavailableReason = refusal::NameUnavailable {
        /// Another workspace of the instance has it.
        Taken,
        /// The service keeps it for itself.
        Reserved,
        /// It does not have the form of a name.
        Invalid,
    }
}

/// A password rule that is not met.
#[derive(async_graphql::SimpleObject)]
pub struct UnmetPasswordRule {
    /// Which rule.
    rule: PasswordRule,
    /// What to do, as a sentence.
    message: String,
}

/// The rules for passwords.
#[derive(async_graphql::Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordRule {
    /// At least 8 characters.
    TooShort,
    /// At most 128 characters.
    TooLong,
    /// No control characters.
    ControlCharacters,
    /// Hard to guess, also for somebody who knows your name and e-mail address: zxcvbn's score 3 of 4.
    Guessable,
}

impl From<passwords::PasswordRule> for UnmetPasswordRule {
    fn from(rule: passwords::PasswordRule) -> Self {
        let message = rule.to_string();
        let rule = match rule {
            passwords::PasswordRule::TooShort => PasswordRule::TooShort,
            passwords::PasswordRule::TooLong => PasswordRule::TooLong,
            passwords::PasswordRule::ControlCharacters => PasswordRule::ControlCharacters,
            passwords::PasswordRule::Guessable { .. } => PasswordRule::Guessable,
        };
        Self { rule, message }
    }
}

/// The user errors of one mutation: the enum of its codes and the object that carries one.
macro_rules! user_errors {
    ($($error:ident, $code:ident = $remote:path { $($variant:ident),* $(,)? };)*) => {
        $(
            #[doc = concat!("The codes of `", stringify!($error), "`.")]
            #[derive(async_graphql::Enum, Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $code {
                #[doc = guildhall_domain::refusal_doc!(InvalidInput)]
                InvalidInput,
                $(#[doc = guildhall_domain::refusal_doc!($variant)] $variant,)*
            }

            impl From<$remote> for $code {
                fn from(code: $remote) -> Self {
                    use $remote as Remote;
                    match code {
                        Remote::InvalidInput => Self::InvalidInput,
                        $(Remote::$variant => Self::$variant,)*
                    }
                }
            }

            #[doc = "Why the mutation changed nothing."]
            #[derive(async_graphql::SimpleObject)]
            pub struct $error {
                #[doc = "Which rule refuses; for a program to branch on."]
                code: $code,
                #[doc = "The path in `input` to the field at fault; null when it is about the whole."]
                field: Option<Vec<String>>,
                #[doc = "What was wrong and what to do, in English."]
                message: String,
                #[doc = "Why the name cannot be had; only with `NAME_UNAVAILABLE`."]
                reason: Option<NameUnavailableReason>,
                #[doc = "The password rules that are not met; only with `WEAK_PASSWORD`."]
                unmet: Option<Vec<UnmetPasswordRule>>,
                #[doc = "When it can be tried again; only with `SIGN_IN_LOCKED`."]
                retry_at: Option<chrono::DateTime<chrono::Utc>>,
                #[doc = "Which quota leaves no room; only with `QUOTA_EXCEEDED`."]
                quota: Option<crate::quotas::QuotaExceeded>,
            }

            impl From<refusal::Refusal<$remote>> for $error {
                fn from(refusal: refusal::Refusal<$remote>) -> Self {
                    let (mut reason, mut unmet, mut retry_at, mut quota) = (None, None, None, None);
                    match refusal.detail {
                        Some(refusal::Detail::NameUnavailable(why)) => reason = Some(why.into()),
                        Some(refusal::Detail::WeakPassword(rules)) => {
                            unmet = Some(rules.into_iter().map(Into::into).collect());
                        }
                        Some(refusal::Detail::RetryAt(at)) => retry_at = Some(at),
                        Some(refusal::Detail::Quota(exceeded)) => quota = Some(exceeded.into()),
                        None => {}
                    }
                    let field = refusal.field.into_iter().map(Into::into).collect::<Vec<String>>();
                    Self {
                        code: refusal.code.into(),
                        field: (!field.is_empty()).then_some(field),
                        message: refusal.message,
                        reason,
                        unmet,
                        retry_at,
                        quota,
                    }
                }
            }
        )*

        /// Why a mutation changed nothing. Each mutation has its own type with its own codes.
        #[derive(Interface)]
        #[graphql(
            field(name = "message", ty = "&String", desc = "What was wrong and what to do, in English."),
            field(name = "field", ty = "&Option<Vec<String>>", desc = "The path in `input` to the field at fault; null when it is about the whole.")
        )]
        pub enum UserError { $($error($error),)* }
    };
}

use guildhall_domain::{
    accounts as a, api_keys as k, config as cf, credentials as c, home_page as h, invitations as i,
    life as l, members as m, organization_invitations as oi, organization_members as om, organizations as o,
    ownership as ow, quotas as q, recovery as re, roles as r, second_factor as sf, service_accounts as sa,
    sessions as s, single_sign_on as so, webhooks as wh, workspace_tokens as wt, workspaces as w,
};

user_errors! {
    SetQuotaError, SetQuotaErrorCode = q::SetQuotaCode { NotFound };
    SpendCreditsError, SpendCreditsErrorCode = q::SpendCreditsCode { QuotaExceeded, WorkspaceArchived };
    AdjustUsageError, AdjustUsageErrorCode = q::AdjustUsageCode { QuotaExceeded, WorkspaceArchived };
    IssueWorkspaceTokenError, IssueWorkspaceTokenErrorCode = wt::IssueWorkspaceTokenCode { WorkspaceArchived };
    CreateServiceAccountError, CreateServiceAccountErrorCode = sa::CreateServiceAccountCode {
        AlreadyExists, PrivilegeEscalation, LimitReached, WorkspaceArchived
    };
    UpdateServiceAccountError, UpdateServiceAccountErrorCode = sa::UpdateServiceAccountCode {
        NotFound, AlreadyExists, PrivilegeEscalation, WorkspaceArchived
    };
    RotateServiceAccountSecretError, RotateServiceAccountSecretErrorCode = sa::RotateServiceAccountSecretCode {
        NotFound, PrivilegeEscalation, WorkspaceArchived
    };
    DeleteServiceAccountError, DeleteServiceAccountErrorCode = sa::DeleteServiceAccountCode { NotFound, WorkspaceArchived };
    CreateApiKeyError, CreateApiKeyErrorCode = k::CreateApiKeyCode {
        NotFound, PrivilegeEscalation, LimitReached, WorkspaceArchived
    };
    RotateApiKeyError, RotateApiKeyErrorCode = k::RotateApiKeyCode {
        NotFound, KeyEnded, PrivilegeEscalation, WorkspaceArchived
    };
    RotateDefaultApiKeyError, RotateDefaultApiKeyErrorCode = k::RotateDefaultApiKeyCode {
        PrivilegeEscalation, LimitReached, WorkspaceArchived
    };
    RevokeApiKeyError, RevokeApiKeyErrorCode = k::RevokeApiKeyCode { NotFound, WorkspaceArchived };
    CreateWebhookError, CreateWebhookErrorCode = wh::CreateWebhookCode {
        DestinationRefused, PrivilegeEscalation, LimitReached, WorkspaceArchived
    };
    UpdateWebhookError, UpdateWebhookErrorCode = wh::UpdateWebhookCode {
        NotFound, DestinationRefused, PrivilegeEscalation, WorkspaceArchived
    };
    RotateWebhookSecretError, RotateWebhookSecretErrorCode = wh::RotateWebhookSecretCode {
        NotFound, PrivilegeEscalation, WorkspaceArchived
    };
    DeleteWebhookError, DeleteWebhookErrorCode = wh::DeleteWebhookCode { NotFound, WorkspaceArchived };
    ReplayWebhookDeliveryError, ReplayWebhookDeliveryErrorCode = wh::ReplayWebhookDeliveryCode {
        NotFound, PrivilegeEscalation, WebhookNotActive, LimitReached, WorkspaceArchived
    };
    SendTestWebhookError, SendTestWebhookErrorCode = wh::SendTestWebhookCode {
        NotFound, WebhookNotActive, LimitReached, WorkspaceArchived
    };
    CreateCredentialError, CreateCredentialErrorCode = c::CreateCredentialCode { AlreadyExists, WorkspaceArchived };
    UpdateCredentialError, UpdateCredentialErrorCode = c::UpdateCredentialCode { NotFound, SharedReadOnly, WorkspaceArchived };
    DeleteCredentialError, DeleteCredentialErrorCode = c::DeleteCredentialCode {
        NotFound, SharedReadOnly, InUse, WorkspaceArchived
    };
    RevealCredentialError, RevealCredentialErrorCode = c::RevealCredentialCode { NotFound, SharedReadOnly, WorkspaceArchived };
    TestCredentialError, TestCredentialErrorCode = c::TestCredentialCode {
        NotFound, NotTestable, ShareSuspended, RateLimited, WorkspaceArchived
    };
    ShareCredentialError, ShareCredentialErrorCode = c::ShareCredentialCode {
        NotFound, SharedReadOnly, AlreadyShared, WorkspaceArchived
    };
    UnshareCredentialError, UnshareCredentialErrorCode = c::UnshareCredentialCode { NotFound, ShareEnded, WorkspaceArchived };
    AcceptCredentialShareError, AcceptCredentialShareErrorCode = c::AcceptCredentialShareCode {
        NotFound, ShareNotPending, ShareExpired, WorkspaceArchived
    };
    DeclineCredentialShareError, DeclineCredentialShareErrorCode = c::DeclineCredentialShareCode {
        NotFound, ShareEnded, WorkspaceArchived
    };
    UseCredentialError, UseCredentialErrorCode = c::UseCredentialCode {
        NotFound, AmbiguousSlug, ShareNotAccepted, ShareExpired, ShareSuspended, WorkspaceArchived
    };
    SetUpError, SetUpErrorCode = a::SetUpCode { SetupDone, LinkInvalid, WeakPassword, NameUnavailable };
    SignInError, SignInErrorCode = a::SignInCode {
        InvalidCredentials, SecondFactorRequired, SecondFactorInvalid, UserDisabled, SignInLocked, RateLimited
    };
    RegisterError, RegisterErrorCode = a::RegisterCode {
        LinkInvalid, InvitationNotPending, InvitationExpired, InviterLostPermission, QuotaExceeded, WorkspaceArchived,
        AccountExists, WeakPassword
    };
    UpdateProfileError, UpdateProfileErrorCode = a::UpdateProfileCode {};
    ChangePasswordError, ChangePasswordErrorCode = a::ChangePasswordCode { InvalidCredentials, WeakPassword, RateLimited };
    RequestPasswordResetError, RequestPasswordResetErrorCode = re::RequestPasswordResetCode { RateLimited };
    ResetPasswordError, ResetPasswordErrorCode = re::ResetPasswordCode { LinkInvalid, WeakPassword };
    GenerateRecoveryCodesError, GenerateRecoveryCodesErrorCode = re::GenerateRecoveryCodesCode {
        InvalidCredentials, SecondFactorRequired, SecondFactorInvalid, RateLimited
    };
    EnrollSecondFactorError, EnrollSecondFactorErrorCode = sf::EnrollSecondFactorCode {
        InvalidCredentials, SecondFactorRequired, SecondFactorInvalid, RateLimited
    };
    ConfirmSecondFactorError, ConfirmSecondFactorErrorCode = sf::ConfirmSecondFactorCode {
        EnrollmentMissing, SecondFactorInvalid, RateLimited
    };
    DisableSecondFactorError, DisableSecondFactorErrorCode = sf::DisableSecondFactorCode {
        NotFound, InvalidCredentials, SecondFactorInvalid, RateLimited
    };
    ResetPasswordWithRecoveryCodeError, ResetPasswordWithRecoveryCodeErrorCode = re::ResetPasswordWithRecoveryCodeCode {
        InvalidCredentials, WeakPassword, RateLimited
    };
    RequestEmailChangeError, RequestEmailChangeErrorCode = re::RequestEmailChangeCode { InvalidCredentials, RateLimited };
    ConfirmEmailChangeError, ConfirmEmailChangeErrorCode = re::ConfirmEmailChangeCode { LinkInvalid };
    CancelEmailChangeError, CancelEmailChangeErrorCode = re::CancelEmailChangeCode { LinkInvalid };
    RefreshSessionError, RefreshSessionErrorCode = s::RefreshSessionCode { SessionInvalid };
    RevokeSessionError, RevokeSessionErrorCode = s::RevokeSessionCode { NotFound };
    EndMemberSessionsError, EndMemberSessionsErrorCode = s::EndMemberSessionsCode { NotFound, OwnerProtected };
    SignOutError, SignOutErrorCode = s::SignOutCode {};
    ConfigureSingleSignOnError, ConfigureSingleSignOnErrorCode = so::ConfigureSingleSignOnCode {
        DestinationRefused, ProviderUnproven, DomainUnverified
    };
    RemoveSingleSignOnError, RemoveSingleSignOnErrorCode = so::RemoveSingleSignOnCode { NotFound };
    AddDomainError, AddDomainErrorCode = so::AddDomainCode { AlreadyExists, LimitReached };
    VerifyDomainError, VerifyDomainErrorCode = so::VerifyDomainCode {
        NotFound, RecordMissing, LookupFailed, DomainTaken, RateLimited
    };
    RemoveDomainError, RemoveDomainErrorCode = so::RemoveDomainCode { NotFound };
    StartSingleSignOnError, StartSingleSignOnErrorCode = so::StartSingleSignOnCode {
        SingleSignOnUnavailable, ProviderFailed
    };
    FinishSingleSignOnError, FinishSingleSignOnErrorCode = so::FinishSingleSignOnCode {
        SignOnInvalid, DomainUnverified, NotInvited, IdentityMismatch, QuotaExceeded, UserDisabled
    };
    CreateWorkspaceError, CreateWorkspaceErrorCode = w::CreateWorkspaceCode { NameUnavailable, QuotaExceeded };
    UpdateWorkspaceError, UpdateWorkspaceErrorCode = w::UpdateWorkspaceCode { WorkspaceArchived };
    DescribeWorkspaceError, DescribeWorkspaceErrorCode = h::DescribeWorkspaceCode { Stale, WorkspaceArchived };
    SetConfigPropertyError, SetConfigPropertyErrorCode = cf::SetConfigPropertyCode { LimitReached, WorkspaceArchived };
    SetConfigPropertiesError, SetConfigPropertiesErrorCode = cf::SetConfigPropertiesCode { LimitReached, WorkspaceArchived };
    DeleteConfigPropertyError, DeleteConfigPropertyErrorCode = cf::DeleteConfigPropertyCode { NotFound, WorkspaceArchived };
    SwitchWorkspaceError, SwitchWorkspaceErrorCode = w::SwitchWorkspaceCode { WorkspaceArchived };
    SetDefaultWorkspaceError, SetDefaultWorkspaceErrorCode = w::SetDefaultWorkspaceCode { NotFound, WorkspaceArchived };
    ArchiveWorkspaceError, ArchiveWorkspaceErrorCode = l::ArchiveWorkspaceCode { DefaultProtected };
    RestoreWorkspaceError, RestoreWorkspaceErrorCode = l::RestoreWorkspaceCode {};
    DeleteWorkspaceError, DeleteWorkspaceErrorCode = l::DeleteWorkspaceCode {
        DefaultProtected, ConfirmationMismatch, WorkspaceNotEmpty
    };
    CreateOrganizationError, CreateOrganizationErrorCode = o::CreateOrganizationCode { OperatorOnly, NameUnavailable, RateLimited };
    UpdateOrganizationError, UpdateOrganizationErrorCode = o::UpdateOrganizationCode {};
    UpdateOrganizationPolicyError, UpdateOrganizationPolicyErrorCode = o::UpdateOrganizationPolicyCode { SecondFactorRequired };
    CreateRoleError, CreateRoleErrorCode = r::CreateRoleCode { AlreadyExists };
    UpdateRoleError, UpdateRoleErrorCode = r::UpdateRoleCode { NotFound, LastAdmin };
    DeleteRoleError, DeleteRoleErrorCode = r::DeleteRoleCode { NotFound, RoleInUse, LastAdmin };
    UpdateMemberRoleError, UpdateMemberRoleErrorCode = m::UpdateMemberRoleCode {
        NotFound, LastAdmin, PrivilegeEscalation, OwnerProtected, WorkspaceArchived
    };
    RemoveMemberError, RemoveMemberErrorCode = m::RemoveMemberCode {
        NotFound, LastAdmin, OwnerProtected, WorkspaceArchived
    };
    LeaveWorkspaceError, LeaveWorkspaceErrorCode = m::LeaveWorkspaceCode { NotFound, LastAdmin, WorkspaceArchived };
    UpdateOrganizationMemberError, UpdateOrganizationMemberErrorCode = om::UpdateOrganizationMemberCode {
        NotFound, LastOwner, OwnerProtected
    };
    RemoveOrganizationMemberError, RemoveOrganizationMemberErrorCode = om::RemoveOrganizationMemberCode {
        NotFound, LastAdmin, LastOwner, OwnerProtected
    };
    LeaveOrganizationError, LeaveOrganizationErrorCode = om::LeaveOrganizationCode { LastAdmin, LastOwner };
    DisableUserError, DisableUserErrorCode = om::DisableUserCode { NotFound, LastAdmin, LastOwner, OwnerProtected };
    EnableUserError, EnableUserErrorCode = om::EnableUserCode { NotFound, OwnerProtected };
    TransferOwnershipError, TransferOwnershipErrorCode = ow::TransferOwnershipCode { NotFound };
    AcceptOwnershipTransferError, AcceptOwnershipTransferErrorCode = ow::AcceptOwnershipTransferCode {
        NotFound, TransferNotPending, TransferExpired, TransferVoid
    };
    DeclineOwnershipTransferError, DeclineOwnershipTransferErrorCode = ow::DeclineOwnershipTransferCode {
        NotFound, TransferNotPending, TransferExpired
    };
    CancelOwnershipTransferError, CancelOwnershipTransferErrorCode = ow::CancelOwnershipTransferCode {
        NotFound, TransferNotPending, TransferExpired
    };
    InviteMemberError, InviteMemberErrorCode = i::InviteMemberCode {
        AlreadyMember, AlreadyInvited, PrivilegeEscalation, QuotaExceeded, WorkspaceArchived, RateLimited
    };
    ResendInvitationError, ResendInvitationErrorCode = i::ResendInvitationCode {
        NotFound, InvitationNotPending, OrganizationInvitation, PrivilegeEscalation, QuotaExceeded, WorkspaceArchived,
        RateLimited
    };
    RevokeInvitationError, RevokeInvitationErrorCode = i::RevokeInvitationCode {
        NotFound, InvitationNotPending, OrganizationInvitation, WorkspaceArchived
    };
    InviteOrganizationMemberError, InviteOrganizationMemberErrorCode = oi::InviteOrganizationMemberCode {
        AlreadyMember, AlreadyInvited, QuotaExceeded, WorkspaceArchived, RateLimited
    };
    ResendOrganizationInvitationError, ResendOrganizationInvitationErrorCode = oi::ResendOrganizationInvitationCode {
        NotFound, InvitationNotPending, AlreadyInvited, QuotaExceeded, WorkspaceArchived, RateLimited
    };
    RevokeOrganizationInvitationError, RevokeOrganizationInvitationErrorCode = oi::RevokeOrganizationInvitationCode {
        NotFound, InvitationNotPending
    };
    AcceptInvitationError, AcceptInvitationErrorCode = i::AcceptInvitationCode {
        NotFound, LinkInvalid, EmailMismatch, EmailUnverified, InvitationNotPending, InvitationExpired,
        InviterLostPermission, QuotaExceeded, WorkspaceArchived, UserDisabled
    };
    DeclineInvitationError, DeclineInvitationErrorCode = i::DeclineInvitationCode {
        NotFound, LinkInvalid, EmailMismatch, InvitationNotPending, InvitationExpired
    };
}

/// A payload that can say why nothing was changed.
pub(crate) trait Refusable: Sized {
    /// The mutation's codes.
    type Code: RefusalCode;
    /// The payload of a refusal.
    fn refused(refusals: refusal::Refusals<Self::Code>) -> Self;
}

/// Declares a payload: the changed objects, null when refused, and the user errors.
macro_rules! payload {
    ($(#[$doc:meta])* $name:ident, $error:ident = $code:path { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(async_graphql::SimpleObject)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$ty>,)*
            /// Why nothing was changed; empty after success.
            pub user_errors: Vec<$crate::payload::$error>,
        }

        impl $crate::payload::Refusable for $name {
            type Code = $code;

            fn refused(refusals: guildhall_domain::refusal::Refusals<$code>) -> Self {
                Self {
                    $($field: None,)*
                    user_errors: refusals.0.into_iter().map(Into::into).collect(),
                }
            }
        }
    };
}
pub(crate) use payload;

/// The payload of an operation: of its success by `payload`, of a refusal by itself. The rest is a top-level
/// error.
pub(crate) fn answer<T, P: Refusable>(
    ctx: &Context<'_>,
    outcome: Result<T, OpError<P::Code>>,
    payload: impl FnOnce(T) -> P,
) -> Result<P> {
    match outcome {
        Ok(value) => Ok(payload(value)),
        Err(OpError::Refused(refusals)) => {
            if let Some(claim) = db(ctx).claim()
                && refusals.0.iter().any(|refusal| refusal.code.passes())
            {
                claim.passes();
            }
            Ok(P::refused(refusals))
        }
        Err(OpError::Denied(denied)) => match (denied, P::Code::WORKSPACE_ARCHIVED) {
            (Denied::Archived, Some(code)) => Ok(P::refused(Refusal::new(code, error::ARCHIVED).into())),
            _ => Err(error::denied(denied)),
        },
        Err(OpError::Fault(fault)) => Err(error::internal(ctx, &fault)),
    }
}
