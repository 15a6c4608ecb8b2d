//! Workspaces: their names, what can be changed of them, and which one a person lands in.

use crate::{
    access::policy::words,
    codes,
    refusal::{Detail, NameUnavailable, Refusal},
    text::Slug,
};

words! {
    /// Whether a workspace is in use.
    WorkspaceStatus {
        /// In use.
        Active = "ACTIVE",
        /// Kept, read-only and out of the way.
        Archived = "ARCHIVED",
    }
}

codes! {
    /// Why a workspace was not made.
    CreateWorkspaceCode { NameUnavailable, QuotaExceeded }
}
codes! {
    /// Why a workspace was not changed.
    UpdateWorkspaceCode { WorkspaceArchived }
}
codes! {
    /// Why a workspace did not become the active one.
    SwitchWorkspaceCode { WorkspaceArchived }
}
codes! {
    /// Why a workspace did not become the default one.
    SetDefaultWorkspaceCode { NotFound, WorkspaceArchived }
}

/// How many names are tried before a person is asked to choose one.
const SUFFIXES: u32 = 1000;

/// The names to try for a workspace that was given only a display name: the derived one, then `-2`, `-3` …
pub fn candidate_names(derived: &Slug) -> impl Iterator<Item = Slug> {
    std::iter::once(derived.clone()).chain((2..=SUFFIXES).map(|n| derived.with_suffix(n)))
}

/// The refusal of a name, with the reason and what to do.
pub fn name_unavailable<C>(code: C, field: &'static str, name: &str, reason: NameUnavailable) -> Refusal<C> {
    Refusal::new(code, name_unavailable_message(name, reason)).at(field).with(Detail::NameUnavailable(reason))
}

/// Why that name cannot be had, as a sentence.
pub fn name_unavailable_message(name: &str, reason: NameUnavailable) -> String {
    // A rejected name can be of any length and content; the readable part of a long one is enough.
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    match reason {
        NameUnavailable::Taken => format!("The name “{shown}” is taken. Choose another one."),
        NameUnavailable::Reserved => format!("The name “{shown}” is reserved. Choose another one."),
        NameUnavailable::Invalid => format!(
            "“{shown}” is not a workspace name: use 1 to 63 lower-case letters a–z, digits and single dashes, \
             beginning and ending with a letter or digit."
        ),
    }
}
