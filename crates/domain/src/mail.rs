//! The letters this product writes: what each one says, as data.
//!
//! Knows the facts a letter carries. Refuses to know templates, MIME, queues and mail servers: a letter is
//! stored sealed in the queue as JSON and becomes text only at the moment it is sent.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One letter to one recipient. In JSON: `{"kind": "invitation", …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Letter {
    /// Someone is invited to one or more workspaces of an organization.
    Invitation(InvitationLetter),
    /// Somebody, most likely the recipient, wants to set a new password.
    PasswordReset(AccountLetter),
    /// The password was set by a link or a recovery code.
    PasswordChanged(AccountLetter),
    /// The account is to have another e-mail address: to both.
    EmailChange(AccountLetter),
    /// Nine tenths of a quota are used: to an admin.
    QuotaWarning(QuotaLetter),
    /// A second factor was put in force.
    SecondFactorOn(AccountLetter),
    /// The second factor was switched off.
    SecondFactorOff(AccountLetter),
    /// New recovery codes were made.
    RecoveryCodesMade(AccountLetter),
}

impl Letter {
    /// The name of the kind, as it stands in JSON and in the names of the templates.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invitation(_) => "invitation",
            Self::PasswordReset(_) => "password_reset",
            Self::PasswordChanged(_) => "password_changed",
            Self::EmailChange(_) => "email_change",
            Self::QuotaWarning(_) => "quota_warning",
            Self::SecondFactorOn(_) => "second_factor_on",
            Self::SecondFactorOff(_) => "second_factor_off",
            Self::RecoveryCodesMade(_) => "recovery_codes_made",
        }
    }

    /// When the letter is of no more use, since its link is dead; `None` where it is news all the same.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Invitation(letter) => Some(letter.expires_at),
            Self::PasswordReset(letter) => Some(letter.at),
            _ => None,
        }
    }

    /// The address the letter goes to.
    pub fn recipient(&self) -> &str {
        match self {
            Self::Invitation(letter) => &letter.recipient_email,
            Self::PasswordReset(letter)
            | Self::PasswordChanged(letter)
            | Self::EmailChange(letter)
            | Self::SecondFactorOn(letter)
            | Self::SecondFactorOff(letter)
            | Self::RecoveryCodesMade(letter) => &letter.recipient_email,
            Self::QuotaWarning(letter) => &letter.recipient_email,
        }
    }
}

/// The facts of an invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationLetter {
    pub recipient_email: String,
    pub inviter_name: String,
    pub inviter_email: String,
    pub organization_name: String,
    /// The role in the organization; absent where the invitation only opens workspaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_role: Option<String>,
    /// At least one, unless there is a role in the organization.
    pub workspaces: Vec<InvitedWorkspace>,
    /// Absolute URL that carries the invitation's secret token.
    pub link: String,
    pub expires_at: DateTime<Utc>,
    /// A personal note from the inviter; may have several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The facts of a letter about the recipient's own account.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLetter {
    pub recipient_email: String,
    pub recipient_name: String,
    /// Absolute URL; it carries a secret token, but where it only says where to go.
    pub link: String,
    /// Until when the link works, or when it happened.
    pub at: DateTime<Utc>,
    /// The address that the account has; empty where that is not the matter.
    #[serde(default)]
    pub current_email: String,
    /// The address that it is to have; empty where that is not the matter.
    #[serde(default)]
    pub new_email: String,
    /// Where it was done from.
    #[serde(default)]
    pub ip: Option<String>,
}

/// The facts of a warning that a quota is nearly used up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLetter {
    pub recipient_email: String,
    pub recipient_name: String,
    pub organization_name: String,
    /// The workspace whose own quota it is; absent where it is the organization's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_name: Option<String>,
    /// Of what, as it reads after a number: `items`.
    pub what: String,
    pub limit: i64,
    pub used: i64,
    /// When the count starts anew; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<DateTime<Utc>>,
    /// Absolute URL of the instance.
    pub link: String,
}

/// Leaves the link out: whoever reads it in a log could take the account.
impl fmt::Debug for AccountLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountLetter")
            .field("recipient_email", &self.recipient_email)
            .finish_non_exhaustive()
    }
}

/// One workspace of an invitation, with the role it would give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitedWorkspace {
    pub display_name: String,
    pub role_name: String,
}

/// Leaves the link out: whoever reads it in a log could accept the invitation.
impl fmt::Debug for InvitationLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvitationLetter")
            .field("recipient_email", &self.recipient_email)
            .field("inviter_email", &self.inviter_email)
            .field("organization_name", &self.organization_name)
            .field("workspaces", &self.workspaces)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter::Invitation(InvitationLetter {
            recipient_email: "ben@example.com".into(),
            inviter_name: "Ann".into(),
            inviter_email: "ann@example.com".into(),
            organization_name: "Acme".into(),
            organization_role: None,
            workspaces: vec![InvitedWorkspace {
                display_name: "Research".into(),
                role_name: "Viewer".into(),
            }],
            link: "https://example.com/invitations/s3cret-token".into(),
            expires_at: DateTime::UNIX_EPOCH,
            message: None,
        })
    }

    #[test]
    fn a_letter_survives_the_queue() {
        let json = serde_json::to_string(&letter()).unwrap();
        assert!(json.starts_with(r#"{"kind":"invitation","#), "{json}");
        assert_eq!(serde_json::from_str::<Letter>(&json).unwrap(), letter());
    }

    #[test]
    fn debug_output_does_not_reveal_the_link() {
        assert!(!format!("{:?}", letter()).contains("s3cret-token"));
        let link = "https://example.com/reset?token=s3cret-token".into();
        let reset = Letter::PasswordReset(AccountLetter { link, ..AccountLetter::default() });
        assert!(!format!("{reset:?}").contains("s3cret-token"));
    }
}
