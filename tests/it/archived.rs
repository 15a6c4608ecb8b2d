//! In an archived workspace nothing changes: every mutation that there is tries, as the workspace's admin, and is told why
//! not. Those that concern something else are named here with what they concern, so that a new mutation either refuses or is
//! thought of.

use guildhall_tests::{App, both_databases};
use serde_json::json;

use crate::{
    guards_enforced::{Cast, root_fields},
    life::everything,
};

both_databases!(App::start, every_change_in_an_archived_workspace_is_refused);

/// Mutations that change nothing in a workspace that they name, and what they change instead.
const ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "the asker's own account, and the way to it",
        &[
            "changePassword",
            "refreshSession",
            "register",
            "revokeSession",
            "setUp",
            "cancelEmailChange",
            "confirmEmailChange",
            "finishSingleSignOn",
            "confirmSecondFactor",
            "disableSecondFactor",
            "enrollSecondFactor",
            "generateRecoveryCodes",
            "resetPasswordWithRecoveryCode",
            "requestEmailChange",
            "requestPasswordReset",
            "resetPassword",
            "signIn",
            "signOut",
            "startSingleSignOn",
            "updateProfile",
        ],
    ),
    ("an invitation of one's own: `life` tries them", &["acceptInvitation", "declineInvitation"]),
    ("whether the workspace is archived", &["archiveWorkspace", "deleteWorkspace", "restoreWorkspace"]),
    (
        "the organization, whose security goes before: `life` tries what of it reaches into a workspace",
        &[
            "acceptOwnershipTransfer",
            "addDomain",
            "cancelOwnershipTransfer",
            "configureSingleSignOn",
            "createOrganization",
            "createRole",
            "createWorkspace",
            "declineOwnershipTransfer",
            "deleteRole",
            "disableUser",
            "endMemberSessions",
            "enableUser",
            "inviteOrganizationMember",
            "leaveOrganization",
            "removeDomain",
            "removeOrganizationMember",
            "removeSingleSignOn",
            "setQuota",
            "resendOrganizationInvitation",
            "revokeOrganizationInvitation",
            "transferOwnership",
            "updateOrganization",
            "updateOrganizationMember",
            "updateOrganizationPolicy",
            "updateRole",
            "verifyDomain",
        ],
    ),
];

fn is_elsewhere(mutation: &str) -> bool {
    ELSEWHERE.iter().any(|(_, names)| names.contains(&mutation))
}

#[test]
fn what_is_excepted_exists() {
    let fields = root_fields();
    for name in ELSEWHERE.iter().flat_map(|(_, names)| *names) {
        assert!(fields.iter().any(|field| field.name() == *name), "{name} is no mutation any more");
    }
}

async fn every_change_in_an_archived_workspace_is_refused(app: App) {
    let cast = Cast::assemble(&app).await;
    for workspace in [&cast.workspace.0, &cast.attic] {
        let archived = format!(
            "UPDATE workspaces SET status = 'ARCHIVED', is_default = FALSE, archived_at = created_at WHERE id = {}",
            app.literal(workspace)
        );
        assert_eq!(app.sql(&archived).await, 1);
    }
    app.sql("UPDATE organizations SET allow_reveal = TRUE").await;
    let admin = &cast.people.iter().find(|person| person.what == "an admin").unwrap().actor;
    let owner = &cast.people.iter().find(|person| person.what.starts_with("an owner")).unwrap().actor;
    let before = everything(&app).await;
    let (mut tried, mut wrong) = (0, Vec::new());
    for field in root_fields().iter().filter(|field| field.operation == "mutation") {
        if is_elsewhere(field.name()) {
            continue;
        }
        let documents = cast.documents("late");
        let (name, rest) = documents.iter().find(|(name, _)| *name == field.name()).unwrap();
        let document = format!("mutation {{ {name}{} }}", rest.replace("{ message }", "{ code message }"));
        for actor in [admin, owner] {
            tried += 1;
            let answer = actor.query(&document, json!({})).await;
            if answer.errors().is_empty()
                && answer.data(&format!("/{name}/userErrors/0/code")) == "WORKSPACE_ARCHIVED"
            {
                continue;
            }
            wrong.push(format!("{name} as {}: {answer}", actor.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= 18, "only {tried} changes were tried");
    let noted = app.sql("DELETE FROM credential_uses WHERE outcome = 'SUSPENDED'").await;
    assert_eq!(noted, 2, "whose credential it is can see that somebody tried to use it");
    assert_eq!(everything(&app).await, before);
}
