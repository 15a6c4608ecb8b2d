//! Organizations: their name and their policy. Knows the ranges of what the policy counts.

use chrono::{DateTime, Utc};

use crate::{
    access::{Arrival, OrganizationPolicy},
    codes,
    refusal::{FieldFault, Refusal},
};

codes! {
    /// Why an organization was not made.
    CreateOrganizationCode { OperatorOnly, NameUnavailable, RateLimited }
}
codes! {
    /// Why an organization was not changed.
    UpdateOrganizationCode {}
}
codes! {
    /// Why an organization's policy was not changed.
    UpdateOrganizationPolicyCode { SecondFactorRequired }
}

/// Switches on or off that people need a second factor; `None` leaves it. It counts from now on, also where it was switched on
/// before and off since. Nobody demands of others what they have not, nor shuts themselves out by it.
pub fn require_two_factor(
    policy: &mut OrganizationPolicy,
    required: Option<bool>,
    by: Option<Arrival>,
    now: DateTime<Utc>,
) -> Result<(), Refusal<UpdateOrganizationPolicyCode>> {
    let was = policy.two_factor_required_since;
    match required {
        Some(true) => policy.two_factor_required_since = was.or(Some(now)),
        Some(false) => policy.two_factor_required_since = None,
        None => {}
    }
    let is_switched_on = was.is_none() && policy.two_factor_required_since.is_some();
    let has_one = by.is_some_and(|by| by.has_second_factor);
    if (is_switched_on && !has_one) || policy.unmet(by, now).is_some() {
        return Err(Refusal::new(
            UpdateOrganizationPolicyCode::SecondFactorRequired,
            "Set up a second factor of your own first, by `enrollSecondFactor`: you would shut yourself out.",
        )
        .at("requireTwoFactor"));
    }
    Ok(())
}

/// The longest that an invitation may be answered: 90 days.
const MAX_INVITATION_HOURS: u16 = 2160;
/// The longest life of a key that a policy may ask for: ten years.
const MAX_KEY_DAYS: u16 = 3650;

/// How long an invitation can be answered, in hours.
pub fn invitation_lifetime(hours: i32) -> Result<u16, FieldFault> {
    within(hours, MAX_INVITATION_HOURS, "hours")
}

/// The longest life of an API key, in days.
pub fn api_key_lifetime(days: i32) -> Result<u16, FieldFault> {
    within(days, MAX_KEY_DAYS, "days")
}

fn within(number: i32, max: u16, unit: &str) -> Result<u16, FieldFault> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=max).contains(number))
        .ok_or_else(|| FieldFault(format!("is out of range: give 1 to {max} {unit}, or null for no rule")))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn by(has_second_factor: bool) -> Option<Arrival> {
        Some(Arrival {
            joined_at: NOW,
            has_second_factor,
            by: crate::access::Entrance::Password,
            is_owner: true,
        })
    }

    #[test]
    fn only_who_has_a_second_factor_demands_one() {
        let mut policy = OrganizationPolicy::default();
        for by in [None, by(false)] {
            let refused = require_two_factor(&mut policy.clone(), Some(true), by, NOW).unwrap_err();
            assert_eq!(refused.code, UpdateOrganizationPolicyCode::SecondFactorRequired);
        }
        require_two_factor(&mut policy, Some(true), by(true), NOW).unwrap();
        assert_eq!(policy.two_factor_required_since, Some(NOW));
        // Asked for again, it counts from when it was switched on.
        require_two_factor(&mut policy, Some(true), by(true), NOW + TimeDelta::days(1)).unwrap();
        assert_eq!(policy.two_factor_required_since, Some(NOW));
        // Another owner, who still has time, changes what they like, but for the time itself.
        require_two_factor(&mut policy, None, by(false), NOW).unwrap();
        policy.two_factor_grace_hours = 0;
        assert!(require_two_factor(&mut policy.clone(), None, by(false), NOW).is_err());
        require_two_factor(&mut policy, Some(false), by(false), NOW).unwrap();
        assert_eq!(policy.two_factor_required_since, None);
    }
}
