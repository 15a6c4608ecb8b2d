//! API keys: what they may be made for, how long they last, and when they are good. Knows no secret: its form and its hash are
//! the storage's business.

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

use crate::{
    access::{Permission, PermissionSet, machine::is_for_machines, policy::words},
    codes,
    members::LAST_YEAR,
    refusal::{FieldFault, Refusal},
};

codes! {
    /// Why an API key was not made.
    CreateApiKeyCode { NotFound, PrivilegeEscalation, LimitReached, WorkspaceArchived }
}
codes! {
    /// Why an API key got no new secret.
    RotateApiKeyCode { NotFound, KeyEnded, PrivilegeEscalation, WorkspaceArchived }
}
codes! {
    /// Why the default API key of a workspace was not made anew.
    RotateDefaultApiKeyCode { PrivilegeEscalation, LimitReached, WorkspaceArchived }
}
codes! {
    /// Why an API key was not revoked.
    RevokeApiKeyCode { NotFound, WorkspaceArchived }
}

words! {
    /// Whether a key is good.
    ApiKeyStatus {
        /// It is, as long as its workspace is in use.
        Active = "ACTIVE",
        /// It came to the end that it was given.
        Expired = "EXPIRED",
        /// Somebody ended it.
        Revoked = "REVOKED",
    }
}

impl ApiKeyStatus {
    /// Of a key that ends, or was ended, then.
    pub fn of(
        expires_at: Option<DateTime<Utc>>,
        revoked_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        match (revoked_at, expires_at) {
            (Some(_), _) => Self::Revoked,
            (None, Some(end)) if end <= now => Self::Expired,
            (None, _) => Self::Active,
        }
    }
}

/// How many keys that are good a workspace can have.
pub const MAX_KEYS: u64 = 500;

/// How long the secret before the newest can be good beside it, in minutes: a week.
pub const MAX_OVERLAP_MINUTES: i32 = 7 * 24 * 60;

/// What the default key of a workspace is called.
pub const DEFAULT_NAME: &str = "Default key";

/// What the default key of a workspace allows: what a Viewer may do, as far as machines have it without its being named.
pub fn default_permissions() -> PermissionSet {
    crate::access::machine::of_role(&crate::access::SystemRole::Viewer.into())
}

/// What a key is limited to, of the permissions that were asked for. Seeing the workspace is part of every key.
pub fn permissions_of_key(asked: &[Permission]) -> Result<PermissionSet, FieldFault> {
    let others: Vec<&str> =
        asked.iter().filter(|asked| !is_for_machines(**asked)).map(|asked| asked.name()).collect();
    if others.is_empty() {
        return Ok(asked.iter().copied().collect::<PermissionSet>().with(Permission::WorkspaceView));
    }
    Err(FieldFault(format!("holds {}, which only people have: leave it out", others.join(", "))))
}

/// When a key is to end: later than now, and no later than the organization's policy allows. Without a wish it is the latest
/// moment that this allows, or never.
pub fn end_of_key(
    wish: Option<DateTime<Utc>>,
    max_lifetime_days: Option<u16>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, FieldFault> {
    let latest = max_lifetime_days.map(|days| now + TimeDelta::days(days.into()));
    match (wish, latest) {
        (Some(wish), _) if wish <= now => Err(FieldFault("lies in the past: give a later time".to_owned())),
        (Some(wish), _) if wish.year() > LAST_YEAR => {
            Err(FieldFault(format!("lies beyond the year {LAST_YEAR}: leave it out for no end")))
        }
        (Some(wish), Some(latest)) if wish > latest => Err(FieldFault(format!(
            "lies more than {} days ahead, which is the longest that the organization's policy lets a key last",
            max_lifetime_days.unwrap_or_default()
        ))),
        (Some(wish), _) => Ok(Some(wish)),
        (None, latest) => Ok(latest),
    }
}

/// How long the secret before the newest stays good.
pub fn overlap(minutes: Option<i32>) -> Result<TimeDelta, FieldFault> {
    match minutes.unwrap_or(0) {
        minutes @ 0..=MAX_OVERLAP_MINUTES => Ok(TimeDelta::minutes(minutes.into())),
        _ => Err(FieldFault(format!("is out of range: give 0 to {MAX_OVERLAP_MINUTES} minutes"))),
    }
}

/// Judges who hands out what a key allows, by making it or by taking a new secret of it: nobody hands out what they lack.
/// `given` is what the key gives at most.
pub fn judge_grant<C>(held: PermissionSet, given: PermissionSet, escalation: C) -> Result<(), Refusal<C>> {
    let lacking: Vec<&str> =
        given.grantable().iter().filter(|one| !held.holds(*one)).map(Permission::name).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let message = format!("You lack what the key would allow: {}.", lacking.join(", "));
    Err(Refusal::new(escalation, message).at("permissions"))
}

/// Refuses one more than a workspace can have.
pub fn judge_room<C>(present: u64, limit_reached: C) -> Result<(), Refusal<C>> {
    if present < MAX_KEYS {
        return Ok(());
    }
    let message = format!("The workspace has {present} API keys, as many as it can have. Revoke one first.");
    Err(Refusal::new(limit_reached, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::SystemRole;

    #[test]
    fn a_key_holds_what_machines_can_have() {
        let held = permissions_of_key(&[Permission::ItemRun, Permission::MembersManage]).unwrap();
        assert!(held.holds(Permission::WorkspaceView) && held.holds(Permission::MembersManage));
        let asked = [Permission::ItemRun, Permission::OrganizationManage, Permission::MembersInvite];
        let fault = permissions_of_key(&asked).unwrap_err();
        assert!(fault.0.contains("organization.manage, members.invite") && !fault.0.contains("item.run"));
    }

    #[test]
    fn a_key_lasts_no_longer_than_the_policy_lets_it() {
        let now = DateTime::UNIX_EPOCH;
        let days = |days| Some(now + TimeDelta::days(days));
        assert_eq!(end_of_key(None, None, now), Ok(None));
        assert_eq!(end_of_key(None, Some(30), now), Ok(days(30)));
        assert_eq!(end_of_key(days(30), Some(30), now), Ok(days(30)));
        assert_eq!(end_of_key(days(400), None, now), Ok(days(400)));
        assert!(end_of_key(days(31), Some(30), now).is_err());
        assert!(end_of_key(Some(now), None, now).is_err());
        assert!(end_of_key(days(4_000_000), None, now).is_err());
    }

    #[test]
    fn an_overlap_is_at_most_a_week() {
        assert_eq!(overlap(None), Ok(TimeDelta::zero()));
        assert_eq!(overlap(Some(MAX_OVERLAP_MINUTES)), Ok(TimeDelta::days(7)));
        for bad in [-1, MAX_OVERLAP_MINUTES + 1, i32::MAX, i32::MIN] {
            assert!(overlap(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_hands_out_what_they_lack() {
        let (viewer, editor) = (SystemRole::Viewer.permissions(), SystemRole::Editor.permissions());
        assert!(judge_grant(editor, viewer, ()).is_ok());
        let refused = judge_grant(viewer, editor, ()).unwrap_err();
        assert!(refused.message.contains("credential.use"), "{}", refused.message);
    }

    #[test]
    fn a_revoked_key_is_revoked_even_after_its_end() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(ApiKeyStatus::of(None, None, now), ApiKeyStatus::Active);
        assert_eq!(ApiKeyStatus::of(Some(now), None, now), ApiKeyStatus::Expired);
        assert_eq!(ApiKeyStatus::of(Some(now), Some(now), now), ApiKeyStatus::Revoked);
    }
}
