//! The home page of a workspace. Knows which edits are stale.

use crate::{codes, refusal::Refusal};

codes! {
    /// Why a home page was not changed.
    DescribeWorkspaceCode { Stale, WorkspaceArchived }
}

/// Whether an edit that started from the version `started_from` may replace the `current` one. Whoever names none
/// replaces what is there.
pub fn judge_edit(current: i32, started_from: Option<i32>) -> Result<(), Refusal<DescribeWorkspaceCode>> {
    match started_from {
        Some(version) if version != current => {
            let message = format!(
                "The home page was changed meanwhile: `version` is {version}, and the page is at {current}. Take over what \
                 `current` says, and send your text with that version."
            );
            Err(Refusal::new(DescribeWorkspaceCode::Stale, message).at("version"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_holds_for_the_version_it_started_from() {
        assert!(judge_edit(3, None).is_ok());
        assert!(judge_edit(3, Some(3)).is_ok());
        for stale in [2, 4, 0, -1, i32::MAX] {
            assert_eq!(judge_edit(3, Some(stale)).unwrap_err().code, DescribeWorkspaceCode::Stale);
        }
    }
}
