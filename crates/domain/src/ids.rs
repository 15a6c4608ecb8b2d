//! Typed identifiers. Knows their text form; refuses to know where they are stored.
//!
//! Every id is a UUIDv7, so ids sort by the time they were made. Its text form is a prefix that names the
//! kind, an underscore and 32 hexadecimal digits: `wks_0193a1b2c3d47e8f9012345678901234`. Clients treat it
//! as opaque.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The text is no id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an id of this kind: it begins with `{prefix}_`")]
pub struct NotAnId {
    /// The prefix an id of the wanted kind begins with.
    pub prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(Uuid);

            impl $name {
                /// What the text form begins with.
                pub const PREFIX: &'static str = $prefix;

                /// The id of a thing that is the same in every instance.
                pub const fn fixed(id: Uuid) -> Self {
                    Self(id)
                }

                /// The bare UUID, as it is stored.
                pub fn uuid(self) -> Uuid {
                    self.0
                }
            }

            impl From<Uuid> for $name {
                fn from(id: Uuid) -> Self {
                    Self(id)
                }
            }

            impl From<$name> for Uuid {
                fn from(id: $name) -> Self {
                    id.0
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($prefix, "_{}"), self.0.as_simple())
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(self, f)
                }
            }

            impl FromStr for $name {
                type Err = NotAnId;

                fn from_str(text: &str) -> Result<Self, NotAnId> {
                    let wrong = NotAnId { prefix: $prefix };
                    let hex = text.strip_prefix(concat!($prefix, "_")).ok_or(wrong)?;
                    // `Uuid` reads several forms and both cases; an id has exactly one.
                    if hex.len() != 32 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                        return Err(wrong);
                    }
                    Uuid::try_parse(hex).map(Self).map_err(|_| wrong)
                }
            }
        )*

        /// An id of any kind, read from its text form by the prefix.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AnyId {
            $(
                #[doc = concat!("An id that begins with `", $prefix, "_`.")]
                $name($name),
            )*
        }

        impl FromStr for AnyId {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                match text.split_once('_').map(|(prefix, _)| prefix) {
                    $(Some($prefix) => text.parse().map(Self::$name),)*
                    _ => Err(NotAnId { prefix: "usr" }),
                }
            }
        }
    };
}

ids! {
    /// An organization.
    OrganizationId = "org";
    /// A person's account.
    UserId = "usr";
    /// A workspace.
    WorkspaceId = "wks";
    /// A principal's membership of a workspace.
    MembershipId = "mbr";
    /// A role, system or custom.
    RoleId = "rol";
    /// An invitation.
    InvitationId = "inv";
    /// A transfer of an organization's ownership.
    OwnershipTransferId = "otr";
    /// A credential.
    CredentialId = "crd";
    /// The loan of a credential to another workspace.
    CredentialShareId = "shr";
    /// A credential as the workspace that borrows it sees it: the number is that of the loan.
    BorrowedCredentialId = "bor";
    /// One use of a credential, or a try.
    CredentialUseId = "use";
    /// A service account: a machine with a role in one workspace.
    ServiceAccountId = "sva";
    /// An API key.
    ApiKeyId = "key";
    /// A webhook: an address at which a workspace's events are told.
    WebhookId = "whk";
    /// One message to a webhook, the same at every try.
    WebhookDeliveryId = "whd";
    /// A signed-in device: one family of refresh tokens.
    SessionId = "ses";
    /// Something that happened at the door, as one organization sees it.
    LoginActivityId = "lga";
    /// A mail in the queue.
    MailId = "mai";
    /// An entry of the audit log.
    AuditEventId = "aud";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = WorkspaceId::from(Uuid::from_u128(0x0193_a1b2_c3d4_7e8f_9012_3456_7890_1234));
        assert_eq!(id.to_string(), "wks_0193a1b2c3d47e8f9012345678901234");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().parse(), Ok(AnyId::WorkspaceId(id)));
    }

    #[test]
    fn an_id_of_another_kind_or_form_is_refused() {
        for text in [
            "",
            "wks_",
            "usr_0193a1b2c3d47e8f9012345678901234",
            "wks_0193A1B2C3D47E8F9012345678901234",
            "wks_0193a1b2-c3d4-7e8f-9012-345678901234",
            "wks_{193a1b2c3d47e8f90123456789012}",
            "0193a1b2c3d47e8f9012345678901234",
        ] {
            assert_eq!(text.parse::<WorkspaceId>(), Err(NotAnId { prefix: "wks" }), "{text:?}");
        }
    }
}
