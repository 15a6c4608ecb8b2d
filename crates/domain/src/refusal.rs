//! Refusals: what a correct client has to handle. Each operation declares its own enum of codes with
//! [`codes!`]; every code has one documentation text, in [`refusal_doc!`], which the schema shows too.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::{passwords::PasswordRule, quotas::Exceeded, text::TextFault};

/// One reason why an operation changed nothing, for the reader who asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal<C> {
    /// Which rule, from the operation's own set.
    pub code: C,
    /// The path in the input, such as `["email"]` or `["invitees", "3", "role"]`; empty for the whole.
    pub field: Vec<Cow<'static, str>>,
    /// What was wrong and what to do, as a sentence.
    pub message: String,
    /// More for a program, where the code has more to say.
    pub detail: Option<Detail>,
}

/// What a refusal carries beside its code.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    /// Why a name cannot be had.
    NameUnavailable(NameUnavailable),
    /// The password rules that are not met.
    WeakPassword(Vec<PasswordRule>),
    /// When it can be tried again.
    RetryAt(DateTime<Utc>),
    /// Which quota leaves no room.
    Quota(Exceeded),
}

crate::access::policy::words! {
    /// Why a workspace name cannot be had.
    NameUnavailable {
        /// Another workspace of the instance has it.
        Taken = "TAKEN",
        /// The service keeps it for itself.
        Reserved = "RESERVED",
        /// It does not have the form of a name.
        Invalid = "INVALID",
    }
}

impl<C> Refusal<C> {
    /// A refusal of the whole input.
    pub fn new(code: C, message: impl Into<String>) -> Self {
        Self { code, field: Vec::new(), message: message.into(), detail: None }
    }

    /// The same, about one field.
    pub fn at(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field.push(field.into());
        self
    }

    /// The same, with more for a program.
    pub fn with(mut self, detail: Detail) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// The codes of one operation.
pub trait RefusalCode: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// The code of an input that cannot be read.
    const INVALID_INPUT: Self;
    /// The code of a change in an archived workspace, where the operation changes something in a workspace.
    const WORKSPACE_ARCHIVED: Option<Self>;
    /// Whether it passes by itself: the same, sent again later, may be accepted.
    fn passes(self) -> bool;
}

/// Everything that was wrong with an input: never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusals<C>(pub Vec<Refusal<C>>);

impl<C> From<Refusal<C>> for Refusals<C> {
    fn from(refusal: Refusal<C>) -> Self {
        Self(vec![refusal])
    }
}

/// Reads the fields of an input one after the other and keeps every fault, so that a form shows all of them
/// at once.
#[derive(Debug)]
pub struct InputReader<C> {
    faults: Vec<Refusal<C>>,
}

impl<C: RefusalCode> Default for InputReader<C> {
    fn default() -> Self {
        Self { faults: Vec::new() }
    }
}

impl<C: RefusalCode> InputReader<C> {
    /// The parsed field, or `None` with the fault kept.
    pub fn field<T, E: Into<FieldFault>>(&mut self, name: &'static str, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(fault) => {
                let message = format!("`{name}` {}", fault.into().0);
                self.faults.push(Refusal::new(C::INVALID_INPUT, message).at(name));
                None
            }
        }
    }

    /// An optional field: absent is no fault.
    pub fn optional<T, E: Into<FieldFault>>(
        &mut self,
        name: &'static str,
        parsed: Option<Result<T, E>>,
    ) -> Option<Option<T>> {
        match parsed {
            None => Some(None),
            Some(parsed) => self.field(name, parsed).map(Some),
        }
    }

    /// A field of a patch that can be left out and cannot be cleared: absent, null or a value.
    pub fn kept<T, E: Into<FieldFault>>(
        &mut self,
        name: &'static str,
        parsed: Option<Option<Result<T, E>>>,
    ) -> Option<T> {
        match parsed? {
            None => {
                self.field(name, Err(FieldFault("cannot be cleared: leave it out or give a value".into())))
            }
            Some(parsed) => self.field(name, parsed),
        }
    }

    /// A field of an item of a list, named by its path.
    pub fn item<T, E: Into<FieldFault>>(
        &mut self,
        list: &'static str,
        index: usize,
        name: &'static str,
        parsed: Result<T, E>,
    ) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(fault) => {
                let message = format!("`{list}.{index}.{name}` {}", fault.into().0);
                let refusal = Refusal::new(C::INVALID_INPUT, message);
                self.faults.push(refusal.at(list).at(index.to_string()).at(name));
                None
            }
        }
    }

    /// Keeps a refusal found on the way.
    pub fn refuse(&mut self, refusal: Refusal<C>) {
        self.faults.push(refusal);
    }

    /// Everything that was refused, if anything was.
    pub fn finish(self) -> Result<(), Refusals<C>> {
        if self.faults.is_empty() { Ok(()) } else { Err(Refusals(self.faults)) }
    }

    /// `parsed` when nothing was refused: it is `Some` then.
    pub fn all<T>(self, parsed: Option<T>) -> Result<T, Refusals<C>> {
        match parsed {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(Refusals(self.faults)),
        }
    }
}

/// What is wrong with a field, phrased to follow its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault(pub String);

impl From<TextFault> for FieldFault {
    fn from(fault: TextFault) -> Self {
        Self(fault.message())
    }
}

impl From<crate::ids::NotAnId> for FieldFault {
    fn from(fault: crate::ids::NotAnId) -> Self {
        Self(fault.to_string())
    }
}

/// Declares the refusal codes of an operation. `InvalidInput` is always among them.
#[macro_export]
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($code:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            #[doc = $crate::refusal_doc!(InvalidInput)]
            InvalidInput,
            $(#[doc = $crate::refusal_doc!($code)] $code,)*
        }

        impl $crate::refusal::RefusalCode for $name {
            const INVALID_INPUT: Self = Self::InvalidInput;
            const WORKSPACE_ARCHIVED: Option<Self> = $crate::archived_code!($($code)*);
            fn passes(self) -> bool {
                let name = match self {
                    Self::InvalidInput => "InvalidInput",
                    $(Self::$code => stringify!($code),)*
                };
                ["RateLimited", "SignInLocked"].contains(&name)
            }
        }
    };
}

/// `WorkspaceArchived`, if it is among the codes.
#[macro_export]
macro_rules! archived_code {
    () => { None };
    (WorkspaceArchived $($rest:ident)*) => { Some(Self::WorkspaceArchived) };
    ($other:ident $($rest:ident)*) => { $crate::archived_code!($($rest)*) };
}

/// The documentation of a refusal code: one text wherever the code stands.
#[macro_export]
macro_rules! refusal_doc {
    (InvalidInput) => {
        "A field of the input cannot be read; `field` says which, `message` what to change."
    };
    (AlreadyExists) => {
        "It exists already."
    };
    (NameUnavailable) => {
        "The name cannot be had; `reason` says why."
    };
    (LastAdmin) => {
        "The workspace would be left without an admin. Give another member the Admin role first."
    };
    (OperatorOnly) => {
        "Only an operator of this instance makes organizations. Ask one."
    };
    (RoleInUse) => {
        "Members or pending invitations have the role. Name the role that replaces it."
    };
    (LastOwner) => {
        "The organization would be left without an owner. Transfer the ownership first."
    };
    (TransferNotPending) => {
        "The transfer was answered, taken back or replaced before, or is void."
    };
    (TransferExpired) => {
        "Nobody answered the transfer in time. An owner can ask again."
    };
    (TransferVoid) => {
        "The giver is no owner any more, or the receiver no active member. Ask an owner for a new transfer."
    };
    (OwnerProtected) => {
        "Only an owner changes, disables or removes an owner of the organization, or unlinks one from a workspace they created."
    };
    (PrivilegeEscalation) => {
        "Nobody grants a role that holds a permission they lack."
    };
    (DefaultProtected) => {
        "It is the organization's default workspace, which can be neither archived nor deleted."
    };
    (ConfirmationMismatch) => {
        "`confirmName` is not the workspace's name."
    };
    (WorkspaceNotEmpty) => {
        "Members who do not own the organization would lose the workspace. Remove them first, or give `removeMembers: true`."
    };
    (WorkspaceArchived) => {
        "The workspace is archived and so read-only. Restore it first."
    };
    (SharedReadOnly) => {
        "The credential is lent to this workspace: it can be used here, and only its owner changes, shows, lends or deletes it."
    };
    (InUse) => {
        "Other workspaces borrow it; `message` names them. With `force` it is taken back from them first."
    };
    (NotTestable) => {
        "There is no way to try a credential of this kind."
    };
    (AlreadyShared) => {
        "The credential is lent or offered to that workspace already."
    };
    (ShareNotPending) => {
        "The offer of the credential was answered, taken back or has ended before."
    };
    (ShareNotAccepted) => {
        "The credential is offered to this workspace, and no admin of it has accepted it yet."
    };
    (ShareEnded) => {
        "The loan was taken back, given back or has ended before."
    };
    (ShareExpired) => {
        "The time of the loan is over. Ask the workspace that owns the credential to lend it again."
    };
    (ShareSuspended) => {
        "The workspace that lends the credential is archived."
    };
    (AmbiguousSlug) => {
        "Several workspaces lend a credential of that slug here. Say whose, as `workspace/slug`."
    };
    (QuotaExceeded) => {
        "It would be more than the workspace or its organization may have; `quota` says of what, how much, and when the count starts anew."
    };
    (AlreadyMember) => {
        "The person is a member already."
    };
    (AlreadyInvited) => {
        "Another invitation for this e-mail address is pending. Wait for its answer, send it again or revoke it."
    };
    (InvitationNotPending) => {
        "The invitation was answered, revoked or replaced before."
    };
    (OrganizationInvitation) => {
        "The invitation is to the organization itself. An admin of the organization sends it again or revokes it."
    };
    (InvitationExpired) => {
        "The invitation has expired. Ask the inviter to send it again."
    };
    (LinkInvalid) => {
        "The link is not valid, or not any more. A resent invitation makes the earlier link invalid."
    };
    (EmailMismatch) => {
        "The invitation is for another e-mail address than the one you are signed in with."
    };
    (EmailUnverified) => {
        "Your e-mail address is not verified yet. Open the link in the mail instead."
    };
    (InviterLostPermission) => {
        "The inviter may no longer invite to this workspace, so the invitation is void. Ask for a new one."
    };
    (InvalidCredentials) => {
        "E-mail address and password do not belong together."
    };
    (SecondFactorRequired) => {
        "A second factor is needed: a code of your authenticator app or a recovery code in `code`; or, to demand one of others, that your account has one."
    };
    (SecondFactorInvalid) => {
        "The code is not right, not any more, or was used before: each works once. Wait for the next one, or give a recovery code."
    };
    (EnrollmentMissing) => {
        "No second factor waits to be confirmed, or it was begun more than an hour ago. Begin again."
    };
    (UserDisabled) => {
        "The account is disabled. An admin of the organization can enable it."
    };
    (SignInLocked) => {
        "Too many sign-ins of the account from this network failed, or of the account, or from the network. Wait until `retryAt`, or set a new password by mail. It is the same for an address that nobody has."
    };
    (WeakPassword) => {
        "The password does not meet every rule; `unmet` lists those it does not."
    };
    (SetupDone) => {
        "The instance was set up before. Sign in instead."
    };
    (SessionInvalid) => {
        "The refresh token is unknown, expired, was used before, or its session has ended. Sign in again."
    };
    (NotFound) => {
        "There is no such object, or you may not know of it."
    };
    (AccountExists) => {
        "The address of this invitation has an account already. Sign in to accept."
    };
    (Stale) => {
        "Somebody changed it since the version that the edit started from. The payload has what is there now."
    };
    (KeyEnded) => {
        "The key was revoked or has expired. Make a new one."
    };
    (LimitReached) => {
        "There are as many as there can be. Delete some first."
    };
    (DestinationRefused) => {
        "The instance does not send anything there: a private network or this machine, or `http` instead of `https`. Its operator can allow it."
    };
    (WebhookNotActive) => {
        "The webhook is paused or was disabled. Enable it first."
    };
    (ProviderUnproven) => {
        "Nobody has signed in by this provider yet, so signing in by password stays. Sign in by it once, then switch that off."
    };
    (ProviderFailed) => {
        "The identity provider cannot be reached, or does not answer as OpenID Connect has it. Try again, or tell an admin of the organization."
    };
    (SingleSignOnUnavailable) => {
        "There is no single sign-on for this address or organization. It is the same for one that does not exist."
    };
    (SignOnInvalid) => {
        "Code and secret are not of one sign-in, or it was finished before or took too long. Begin anew."
    };
    (DomainUnverified) => {
        "The organization has not verified the domain of the address at the provider, or of the account; or, where passwords are to be switched off, any."
    };
    (NotInvited) => {
        "The organization lets in its members and those whom it has invited. Ask an admin of it for an invitation."
    };
    (IdentityMismatch) => {
        "The account of this address is known as somebody else at the provider."
    };
    (RecordMissing) => {
        "The TXT record is not there, or not yet: what was published may take a while to be seen."
    };
    (LookupFailed) => {
        "DNS did not answer. Try again in a while."
    };
    (DomainTaken) => {
        "Another organization of this instance has verified the domain. Its operator can settle that."
    };
    (RateLimited) => {
        "Too many tries in a short time. Wait as long as `message` says."
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    codes! {
        /// Codes of a test.
        TestCode { AlreadyMember }
    }

    #[test]
    fn every_fault_of_an_input_is_kept() {
        let mut input = InputReader::<TestCode>::default();
        assert_eq!(input.field::<(), _>("email", Err(FieldFault("is empty".into()))), None);
        assert_eq!(input.field::<_, FieldFault>("name", Ok(1)), Some(1));
        input.refuse(Refusal::new(TestCode::AlreadyMember, "twice").at("role"));
        input.item::<(), _>("items", 3, "key", Err(FieldFault("is empty".into())));
        let Refusals(faults) = input.finish().unwrap_err();
        assert_eq!(faults.len(), 3);
        assert_eq!(
            (faults[2].message.as_str(), &faults[2].field[..]),
            ("`items.3.key` is empty", &["items", "3", "key"].map(Into::into)[..])
        );
        assert_eq!(faults[0].message, "`email` is empty");
        assert_eq!(faults[0].field, ["email"]);
    }
}
