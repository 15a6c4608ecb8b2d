//! People's accounts: setting the instance up, registering, signing in, changing a password. Knows the
//! rules; refuses to know how a password is hashed.

use crate::{
    access::policy::words,
    codes,
    passwords::{PasswordPolicy, Unmet},
    refusal::{Detail, Refusal, RefusalCode},
    text::{DisplayName, Email},
};

words! {
    /// The state of an account.
    UserStatus {
        /// The e-mail address is not proven yet.
        Unverified = "UNVERIFIED",
        /// In use.
        Active = "ACTIVE",
        /// Closed by an admin; nothing is lost, and it can be opened again.
        Disabled = "DISABLED",
    }
}

codes! {
    /// Why an instance was not set up.
    SetUpCode { SetupDone, LinkInvalid, WeakPassword, NameUnavailable }
}
codes! {
    /// Why a person was not signed in.
    SignInCode {
        InvalidCredentials, SecondFactorRequired, SecondFactorInvalid, UserDisabled, SignInLocked, RateLimited
    }
}
codes! {
    /// Why a person was not registered.
    RegisterCode {
        LinkInvalid, InvitationNotPending, InvitationExpired, InviterLostPermission, WorkspaceArchived, AccountExists, WeakPassword
    }
}
codes! {
    /// Why a profile was not changed.
    UpdateProfileCode {}
}
codes! {
    /// Why a password was not changed.
    ChangePasswordCode { InvalidCredentials, WeakPassword, RateLimited }
}

/// The codes of an operation that takes a new password.
pub trait TakesPassword: RefusalCode {
    /// The code of a password that does not meet every rule.
    const WEAK_PASSWORD: Self;
}
impl TakesPassword for SetUpCode {
    const WEAK_PASSWORD: Self = Self::WeakPassword;
}
impl TakesPassword for RegisterCode {
    const WEAK_PASSWORD: Self = Self::WeakPassword;
}
impl TakesPassword for ChangePasswordCode {
    const WEAK_PASSWORD: Self = Self::WeakPassword;
}

/// Refuses a password that breaks a rule, naming each rule that it breaks. `email` and `name` are what an attacker would
/// try first; a form in which one of them is at fault hears of its password all the same.
pub fn check_password<C: TakesPassword>(
    field: &'static str,
    password: &str,
    email: Option<&Email>,
    name: Option<&DisplayName>,
) -> Result<(), Refusal<C>> {
    let (email, name) = (email.map_or("", Email::as_str), name.map_or("", DisplayName::as_str));
    let (local, domain) = email.split_once('@').unwrap_or((email, ""));
    PasswordPolicy::check(password, &[email, local, domain, name, "guildhall"]).map_err(|Unmet(rules)| {
        let sentences: Vec<String> = rules.iter().map(ToString::to_string).collect();
        Refusal::new(C::WEAK_PASSWORD, sentences.join(" ")).at(field).with(Detail::WeakPassword(rules))
    })
}
