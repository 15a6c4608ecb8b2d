//! The life of a workspace: archiving, restoring and deleting it, and what stands against that.

use crate::{
    codes,
    refusal::{Refusal, Refusals},
};

codes! {
    /// Why a workspace was not archived.
    ArchiveWorkspaceCode { DefaultProtected }
}
codes! {
    /// Why a workspace was not restored.
    RestoreWorkspaceCode {}
}
codes! {
    /// Why a workspace was not deleted.
    DeleteWorkspaceCode { DefaultProtected, ConfirmationMismatch, WorkspaceNotEmpty }
}

/// The organization's default workspace is where everybody can land, so it stays, and stays in use.
fn protect_default<C>(is_default: bool, code: C) -> Result<(), Refusal<C>> {
    if is_default {
        return Err(Refusal::new(
            code,
            "This is the organization's default workspace. It can be neither archived nor deleted.",
        )
        .at("workspaceId"));
    }
    Ok(())
}

/// Judges archiving.
pub fn judge_archiving(is_default: bool) -> Result<(), Refusal<ArchiveWorkspaceCode>> {
    protect_default(is_default, ArchiveWorkspaceCode::DefaultProtected)
}

/// What is known of a workspace that is to be deleted, read while it is locked.
#[derive(Clone, Copy, Debug)]
pub struct DeletionFacts<'a> {
    /// Its name in addresses.
    pub name: &'a str,
    /// Whether it is the organization's default workspace.
    pub is_default: bool,
    /// How many members it has who do not own the organization. Whoever deletes it counts like everybody else: the answer
    /// does not depend on who asks.
    pub members_besides_owners: u64,
}

/// What whoever deletes a workspace says to it.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation<'a> {
    /// The workspace's name, typed once more; `None` where only a preview is asked for.
    pub name: Option<&'a str>,
    /// Whether its members may lose it.
    pub remove_members: bool,
}

/// Judges deleting: everything that stands against it at once, unless it is out of the question anyway.
pub fn judge_deletion(
    facts: &DeletionFacts<'_>,
    confirmation: &Confirmation<'_>,
) -> Result<(), Refusals<DeleteWorkspaceCode>> {
    use DeleteWorkspaceCode as Code;
    protect_default(facts.is_default, Code::DefaultProtected)?;
    let mut refusals = Vec::new();
    if confirmation.name.is_some_and(|name| name != facts.name) {
        refusals.push(
            Refusal::new(
                Code::ConfirmationMismatch,
                format!("`confirmName` is not the workspace's name. Give “{}” to delete it.", facts.name),
            )
            .at("confirmName"),
        );
    }
    if facts.members_besides_owners > 0 && !confirmation.remove_members {
        refusals.push(
            Refusal::new(
                Code::WorkspaceNotEmpty,
                format!(
                    "{} member(s) who do not own the organization would lose the workspace. Remove them first, or give \
                     `removeMembers: true`.",
                    facts.members_besides_owners
                ),
            )
            .at("removeMembers"),
        );
    }
    if refusals.is_empty() { Ok(()) } else { Err(Refusals(refusals)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(
        facts: &DeletionFacts<'_>,
        name: Option<&str>,
        remove_members: bool,
    ) -> Vec<DeleteWorkspaceCode> {
        let judged = judge_deletion(facts, &Confirmation { name, remove_members });
        judged.err().map_or(Vec::new(), |Refusals(all)| all.into_iter().map(|refusal| refusal.code).collect())
    }

    #[test]
    fn the_default_workspace_stays_whatever_is_said() {
        let facts = DeletionFacts { name: "lab", is_default: true, members_besides_owners: 3 };
        assert_eq!(codes(&facts, Some("lab"), true), [DeleteWorkspaceCode::DefaultProtected]);
        assert_eq!(codes(&facts, Some("den"), false), [DeleteWorkspaceCode::DefaultProtected]);
        assert!(judge_archiving(true).is_err());
        assert!(judge_archiving(false).is_ok());
    }

    #[test]
    fn everything_that_stands_against_a_deletion_is_said_at_once() {
        use DeleteWorkspaceCode::{ConfirmationMismatch, WorkspaceNotEmpty};
        let facts = DeletionFacts { name: "lab", is_default: false, members_besides_owners: 2 };
        assert_eq!(codes(&facts, Some("Lab"), false), [ConfirmationMismatch, WorkspaceNotEmpty]);
        assert_eq!(codes(&facts, Some("lab "), true), [ConfirmationMismatch]);
        assert_eq!(codes(&facts, Some("lab"), false), [WorkspaceNotEmpty]);
        assert_eq!(codes(&facts, None, false), [WorkspaceNotEmpty]);
        assert_eq!(codes(&facts, Some("lab"), true), []);
        let empty = DeletionFacts { members_besides_owners: 0, ..facts };
        assert_eq!(codes(&empty, Some("lab"), false), []);
    }
}
