//! Tokens that show other services who somebody is in a workspace.

use crate::{codes, refusal::FieldFault};

codes! {
    /// Why there is no token.
    IssueWorkspaceTokenCode { WorkspaceArchived }
}

/// The longest name of an audience, in characters.
const MAX_AUDIENCE: usize = 200;

/// The service that a token is for, mostly an address.
pub fn parse_audience(raw: &str) -> Result<String, FieldFault> {
    if (1..=MAX_AUDIENCE).contains(&raw.len()) && raw.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(raw.to_owned())
    } else {
        Err(FieldFault(format!(
            "is no audience: give 1 to {MAX_AUDIENCE} visible ASCII characters, such as an address"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_a_short_visible_text() {
        assert_eq!(
            parse_audience("https://pipelines.example.org/api").unwrap(),
            "https://pipelines.example.org/api"
        );
        for bad in ["", "a b", "ä", "a\n", &"a".repeat(201)] {
            assert!(parse_audience(bad).is_err(), "{bad:?}");
        }
    }
}
