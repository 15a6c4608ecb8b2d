//! What an organization demands of people who come in, beside a place in it. Knows how somebody came in and gives the
//! verdict; refuses to know where second factors are kept and how a code is checked.
//!
//! A demand takes nothing from what somebody may do there: it stands before all of it, until it is met. Of the organization
//! itself they go on seeing what it is and what it demands. Machines came in by a key, and are not asked.

use chrono::{DateTime, TimeDelta, Utc};

use super::policy::{OrganizationPolicy, OrganizationRole};
use crate::refusal::FieldFault;

/// How long people have to set a second factor up unless their organization says, in hours.
pub const DEFAULT_GRACE_HOURS: u16 = 168;
/// The most that it may say.
const MAX_GRACE_HOURS: u16 = 720;

/// What a person has to do before anything in the organization opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Demand {
    /// Set a second factor up, where the account has none and the time to do it is over; or come in by it.
    SecondFactor,
    /// Come in by the organization's identity provider: it takes nothing else.
    SingleSignOn,
    /// Come in otherwise than by another organization's identity provider: of what that one says nothing is believed here.
    AnotherSignIn,
}

impl Demand {
    /// Everything that can be demanded.
    pub const ALL: [Self; 3] = [Self::SecondFactor, Self::SingleSignOn, Self::AnotherSignIn];
}

/// What opened a person's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// A password, and the second factor of an account that has one.
    Password,
    /// The identity provider that the organization has now, which is in charge of factors.
    OwnProvider,
    /// Another organization's, which opens nothing here: whoever administers that one says who it is that comes.
    OtherProvider,
}

impl Entrance {
    /// What somebody in that role is in such a session. Admins name the provider, and it says who comes: so it makes nobody
    /// more than an admin, and an owner governs in a session that a password opened.
    pub fn caps(self, role: OrganizationRole) -> OrganizationRole {
        match self {
            Self::Password => role,
            Self::OwnProvider | Self::OtherProvider => role.min(OrganizationRole::Admin),
        }
    }
}

/// How a person comes into an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since when they belong to it.
    pub joined_at: DateTime<Utc>,
    /// Whether their account has a second factor, which every sign-in by a password needs then.
    pub has_second_factor: bool,
    /// What opened their session.
    pub by: Entrance,
    /// Whether they own it: owners are let in without its provider, so that one which is down locks nobody out for good.
    pub is_owner: bool,
}

impl OrganizationPolicy {
    /// Whether something is demanded of everybody.
    pub fn demands_anything(&self) -> bool {
        self.demands_second_factor() || !self.password_sign_in
    }

    /// Whether people need a second factor.
    pub fn demands_second_factor(&self) -> bool {
        self.two_factor_required_since.is_some()
    }

    /// Until when somebody who joined then can do without a second factor; `None`: for good. The time counts from when it was
    /// demanded of them, so that nobody who joins later finds the door closed.
    pub fn second_factor_due(&self, joined_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let since = self.two_factor_required_since?;
        Some(since.max(joined_at) + TimeDelta::hours(self.two_factor_grace_hours.into()))
    }

    /// What is demanded of a person and not met. Of somebody of whom it was not read how they came in, everything.
    pub fn unmet(&self, arrival: Option<Arrival>, now: DateTime<Utc>) -> Option<Demand> {
        let Some(arrival) = arrival else { return self.demands_anything().then_some(self.first_demand()) };
        if !self.password_sign_in && arrival.by != Entrance::OwnProvider && !arrival.is_owner {
            return Some(Demand::SingleSignOn);
        }
        let is_met = match arrival.by {
            // Whoever controls that provider would be in, in every organization that the person belongs to.
            Entrance::OtherProvider => return Some(Demand::AnotherSignIn),
            Entrance::OwnProvider => true,
            Entrance::Password if arrival.has_second_factor => true,
            Entrance::Password => self.second_factor_due(arrival.joined_at).is_none_or(|due| now < due),
        };
        (!is_met).then_some(Demand::SecondFactor)
    }

    fn first_demand(&self) -> Demand {
        if self.password_sign_in { Demand::SecondFactor } else { Demand::SingleSignOn }
    }
}

/// The time that people have to set a second factor up.
pub fn grace(hours: i32) -> Result<u16, FieldFault> {
    u16::try_from(hours)
        .ok()
        .filter(|hours| *hours <= MAX_GRACE_HOURS)
        .ok_or_else(|| FieldFault(format!("is out of range: give 0 to {MAX_GRACE_HOURS} hours")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    fn demanding(since: i64, grace: u16) -> OrganizationPolicy {
        OrganizationPolicy {
            two_factor_required_since: Some(at(since)),
            two_factor_grace_hours: grace,
            ..OrganizationPolicy::default()
        }
    }

    fn arrival(joined: i64, has_second_factor: bool) -> Option<Arrival> {
        Some(Arrival { joined_at: at(joined), has_second_factor, by: Entrance::Password, is_owner: false })
    }

    #[test]
    fn nothing_is_demanded_unless_somebody_says_so() {
        let policy = OrganizationPolicy::default();
        for arrival in [None, arrival(0, false), arrival(0, true)] {
            assert_eq!(policy.unmet(arrival, at(1_000_000)), None);
        }
        assert_eq!(policy.second_factor_due(at(0)), None);
    }

    #[test]
    fn the_time_counts_from_the_demand_or_from_joining_whichever_is_later() {
        let policy = demanding(100, 10);
        for (joined, due) in [(0, 110), (100, 110), (105, 115), (1000, 1010)] {
            assert_eq!(policy.second_factor_due(at(joined)), Some(at(due)), "{joined}");
            let of = |now| policy.unmet(arrival(joined, false), now);
            assert_eq!(of(at(due) - TimeDelta::nanoseconds(1)), None, "{joined}");
            assert_eq!(of(at(due)), Some(Demand::SecondFactor), "{joined}");
            assert_eq!(policy.unmet(arrival(joined, true), at(due)), None, "{joined}");
        }
        assert_eq!(demanding(100, 0).unmet(arrival(0, false), at(100)), Some(Demand::SecondFactor));
    }

    #[test]
    fn who_came_in_unseen_meets_no_demand() {
        assert_eq!(demanding(100, 720).unmet(None, at(100)), Some(Demand::SecondFactor));
    }

    #[test]
    fn by_which_door_somebody_came_counts() {
        use Entrance::{OtherProvider, OwnProvider, Password};
        let come = |policy: &OrganizationPolicy, by, has_second_factor, is_owner| {
            policy.unmet(Some(Arrival { joined_at: at(0), has_second_factor, by, is_owner }), at(100))
        };
        let (free, strict) = (OrganizationPolicy::default(), demanding(0, 0));
        let closed = OrganizationPolicy { password_sign_in: false, ..free };
        let both = OrganizationPolicy { password_sign_in: false, ..strict };
        let (factor, provider) = (Some(Demand::SecondFactor), Some(Demand::SingleSignOn));
        let another = Some(Demand::AnotherSignIn);
        for (policy, by, has_second_factor, is_owner, unmet) in [
            (free, Password, false, false, None),
            (free, OwnProvider, true, false, None),
            (free, OtherProvider, false, false, another),
            (free, OtherProvider, true, false, another),
            (free, OtherProvider, true, true, another),
            (strict, Password, false, false, factor),
            (strict, Password, true, false, None),
            (strict, OwnProvider, false, false, None),
            (strict, OtherProvider, false, false, another),
            (strict, OtherProvider, true, false, another),
            (closed, Password, true, false, provider),
            (closed, OtherProvider, false, false, provider),
            (closed, OwnProvider, false, false, None),
            (closed, Password, false, true, None),
            (closed, OtherProvider, false, true, another),
            (both, OwnProvider, false, false, None),
            (both, Password, true, false, provider),
            (both, Password, false, true, factor),
            (both, Password, true, true, None),
        ] {
            assert_eq!(
                come(&policy, by, has_second_factor, is_owner),
                unmet,
                "{by:?} {has_second_factor} {is_owner}"
            );
        }
        assert_eq!(closed.unmet(None, at(0)), provider);
    }

    #[test]
    fn the_grace_is_thirty_days_at_most() {
        for hours in [0, 168, 720] {
            assert_eq!(grace(hours).map(i32::from), Ok(hours));
        }
        for hours in [-1, 721, i32::MAX, i32::MIN] {
            assert!(grace(hours).is_err(), "{hours}");
        }
    }
}
