//! Organizations: their name and their policy. Knows the ranges of what the policy counts.

use crate::{codes, refusal::FieldFault};

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
    UpdateOrganizationPolicyCode {}
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
