//! Who may do what, written out: every role × every permission as a text that is reviewed in diffs, and the domain's
//! table as it was promised. Knows both by heart; refuses to take either from the code under test.
//!
//! `UPDATE_SNAPSHOTS=1` rewrites the text.

use std::{env, fmt::Write as _, fs, path::Path};

use chrono::DateTime;
use guildhall_domain::{
    access::{
        Actor, MemberListVisibility, OrganizationAccess, OrganizationPolicy, OrganizationRole, Permission,
        PermissionSet, ShareAcceptance, SystemRole, WorkspaceAccess, WorkspaceCreation, WorkspaceDeletion,
        catalog::Scope,
        machine::{MachineRights, is_for_machines},
        proof::{OrganizationFacts, Place as InWorkspace, WorkspaceFacts},
    },
    ids::{ApiKeyId, OrganizationId, SessionId, UserId, WorkspaceId},
    workspaces::WorkspaceStatus,
};
use uuid::Uuid;

/// The table of the domain's contract, for Viewer, Editor and Admin under the default policy. The rows marked ● are
/// promised to hold exactly in every instance.
const CONTRACT: &str = "
    workspace.view          ✓ ✓ ✓
    workspace.describe      – ✓ ✓ ●
    workspace.update        – – ✓
    workspace.archive       – – ✓
    workspace.delete        – – –
    config.view             ✓ ✓ ✓
    config.manage           – – ✓
    members.view            ✓ ✓ ✓
    members.manage          – – ✓ ●
    members.invite          – – ✓ ●
    invitations.view        – – ✓
    apikeys.manage          – – ✓
    serviceaccounts.manage  – – ✓
    quota.view              ✓ ✓ ✓
    audit.view              – – ✓
    policy.view             ✓ ✓ ✓
    policy.manage           – – ✓
    integration.manage      – – ✓
    credential.list         – ✓ ✓
    credential.use          – ✓ ✓ ●
    credential.manage       – – ✓ ●
    credential.share        – – ✓
    credential.reveal       – – –
    file.read               ✓ ✓ ✓ ●
    file.write              – ✓ ✓ ●
    database.read           ✓ ✓ ✓ ●
    database.credentials    – ✓ ✓ ●
    database.write          – ✓ ✓ ●
    database.rotate         – – ✓ ●
    dataset.read            ✓ ✓ ✓ ●
    dataset.write           – ✓ ✓ ●
    pipeline.launch         ✓ ✓ ✓ ●
    pipeline.create         – ✓ ✓ ●
    notebook.use            – ✓ ✓ ●
    item.read               ✓ ✓ ✓
    item.write              – ✓ ✓
    item.run                ✓ ✓ ✓
";

/// What each switch can be set to beside its default, one at a time.
pub(crate) fn policies() -> Vec<(String, OrganizationPolicy)> {
    let usual = OrganizationPolicy::default();
    let mut policies = vec![("the default policy".to_owned(), usual)];
    policies.extend(WorkspaceCreation::ALL.iter().map(|value| {
        let policy = OrganizationPolicy { workspace_creation: *value, ..usual };
        (format!("workspaceCreation {}", value.word()), policy)
    }));
    policies.extend(WorkspaceDeletion::ALL.iter().map(|value| {
        let policy = OrganizationPolicy { workspace_deletion: *value, ..usual };
        (format!("workspaceDeletion {}", value.word()), policy)
    }));
    policies.extend(MemberListVisibility::ALL.iter().map(|value| {
        let policy = OrganizationPolicy { member_list_visibility: *value, ..usual };
        (format!("memberListVisibility {}", value.word()), policy)
    }));
    policies.extend(ShareAcceptance::ALL.iter().map(|value| {
        let policy = OrganizationPolicy { share_acceptance: *value, ..usual };
        (format!("shareAcceptance {}", value.word()), policy)
    }));
    policies.extend(
        [false, true].map(|value| {
            (format!("allowReveal {value}"), OrganizationPolicy { allow_reveal: value, ..usual })
        }),
    );
    // A policy equal to the default is the default.
    let mut kept = policies.drain(..1).collect::<Vec<_>>();
    kept.extend(policies.into_iter().filter(|(_, policy)| *policy != usual));
    kept
}

/// A place in the organization: the role there and the one in the workspace.
pub(crate) type Place = (Option<OrganizationRole>, Option<SystemRole>);

fn places() -> Vec<Place> {
    let roles = || std::iter::once(None).chain(SystemRole::ALL.map(Some));
    let in_organization = OrganizationRole::ALL.iter().flat_map(|role| roles().map(|of| (Some(*role), of)));
    std::iter::once((None, None)).chain(in_organization).collect()
}

const ACTOR: Actor = Actor::User { user: UserId::fixed(Uuid::nil()), session: SessionId::fixed(Uuid::nil()) };

/// What somebody at that place holds there; none where they may not know of it.
pub(crate) fn held(
    policy: OrganizationPolicy,
    (organization_role, role): Place,
    scope: Scope,
) -> Option<PermissionSet> {
    let organization = OrganizationId::fixed(Uuid::nil());
    match scope {
        Scope::Workspace => {
            let workspace = WorkspaceId::fixed(Uuid::nil());
            let membership = role.map(|role| (Uuid::nil().into(), role.into()));
            let status = WorkspaceStatus::Active;
            let place = InWorkspace::Person { organization_role, membership, arrival: None };
            let facts = WorkspaceFacts { workspace, organization, status, policy, place };
            WorkspaceAccess::assess(ACTOR, facts, DateTime::UNIX_EPOCH)
                .ok()
                .map(|access| access.permissions())
        }
        Scope::Organization => {
            let administers_a_workspace = role == Some(SystemRole::Admin);
            let facts = OrganizationFacts {
                organization,
                policy,
                role: organization_role,
                administers_a_workspace,
                arrival: None,
            };
            OrganizationAccess::assess(ACTOR, facts, DateTime::UNIX_EPOCH)
                .ok()
                .map(|access| access.permissions())
        }
    }
}

/// What a machine with those rights holds; none where it does not even see the workspace.
fn held_by_machine(policy: OrganizationPolicy, rights: MachineRights) -> Option<PermissionSet> {
    let actor = Actor::Key { key: ApiKeyId::fixed(Uuid::nil()), hash: [0; 32] };
    let facts = WorkspaceFacts {
        workspace: WorkspaceId::fixed(Uuid::nil()),
        organization: OrganizationId::fixed(Uuid::nil()),
        status: WorkspaceStatus::Active,
        policy,
        place: InWorkspace::Machine(rights),
    };
    WorkspaceAccess::assess(actor, facts, DateTime::UNIX_EPOCH).ok().map(|access| access.permissions())
}

/// Service accounts with each system role, and keys that are limited to everything a key can name: of the workspace, and of
/// those accounts.
fn machines() -> String {
    let limit = Permission::ALL.iter().copied().filter(|permission| is_for_machines(*permission)).collect();
    let rights: Vec<(String, MachineRights)> = SystemRole::ALL
        .map(|role| (role.key().to_owned(), MachineRights { role: Some(role.into()), limit: None }))
        .into_iter()
        .chain([("KEY".to_owned(), MachineRights { role: None, limit: Some(limit) })])
        .chain(SystemRole::ALL.map(|role| {
            let rights = MachineRights { role: Some(role.into()), limit: Some(limit) };
            (format!("K.{}", role.key()), rights)
        }))
        .collect();
    let head: String = rights.iter().map(|(title, _)| format!("{title:>9}")).collect();
    let mut text = format!("\n# machines with the default policy\n{:24}{head}\n", "");
    for permission in Permission::ALL {
        let cells = rights.iter().map(|(_, rights)| {
            match held_by_machine(OrganizationPolicy::default(), rights.clone()) {
                None => "        ·",
                Some(held) if held.holds(*permission) => "        ✓",
                Some(_) => "        –",
            }
        });
        text += &format!("{:<24}{}\n", permission.name(), cells.collect::<String>());
    }
    text
}

fn row(policy: OrganizationPolicy, permission: Permission) -> String {
    let cells = places().into_iter().map(|place| match held(policy, place, permission.scope()) {
        None => "      ·",
        Some(held) if held.holds(permission) => "      ✓",
        Some(_) => "      –",
    });
    format!("{:<24}{}\n", permission.name(), cells.collect::<String>())
}

fn matrix() -> String {
    let mut text =
        "Who may do what. Across: the role in the organization, and below it the role in the workspace.\n\
         ✓ may; – may not, and is told FORBIDDEN; · is told NOT_FOUND, for they may not know of it.\n"
            .to_owned();
    let usual = OrganizationPolicy::default();
    for (title, policy) in policies() {
        write!(text, "\n# {title}\n").unwrap();
        let rows = Permission::ALL
            .iter()
            .filter(|permission| policy == usual || row(policy, **permission) != row(usual, **permission));
        let rows: String = rows.map(|permission| row(policy, *permission)).collect();
        if rows.is_empty() {
            text.push_str("(nothing changes here)\n");
            continue;
        }
        let head = |word: fn(Place) -> &'static str| {
            let words: String = places().into_iter().map(|place| format!("{:>7}", word(place))).collect();
            format!("{:24}{words}\n", "")
        };
        text += &head(|(organization, _)| organization.map_or("none", OrganizationRole::word));
        text += &head(|(_, role)| role.map_or("none", SystemRole::key));
        text += &rows;
    }
    text += &machines();
    text
}

#[test]
fn who_may_do_what_is_as_it_was_reviewed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/snapshots/policy_matrix.txt");
    let written = matrix();
    if env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&file, &written).unwrap();
    }
    let reviewed = fs::read_to_string(&file).unwrap_or_default();
    let changed: Vec<_> =
        written.lines().filter(|line| !reviewed.lines().any(|known| known == *line)).collect();
    assert!(
        written == reviewed,
        "the matrix changed. If it is meant, run with UPDATE_SNAPSHOTS=1 and review the diff of {}:\n{}",
        file.display(),
        changed.join("\n")
    );
}

#[test]
fn the_system_roles_hold_what_the_contract_promises() {
    let mut promised = Vec::new();
    for line in CONTRACT.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let permission =
            Permission::from_name(words[0]).unwrap_or_else(|| panic!("no permission {}", words[0]));
        promised.push(permission);
        for (role, word) in SystemRole::ALL.into_iter().zip(&words[1..4]) {
            let expected = *word == "✓";
            let place = (Some(OrganizationRole::Member), Some(role));
            let has = |policy| held(policy, place, Scope::Workspace).unwrap().holds(permission);
            assert_eq!(has(OrganizationPolicy::default()), expected, "{} of {role:?}", permission.name());
            if words.get(4) == Some(&"●") {
                assert!(
                    policies().into_iter().all(|(_, policy)| has(policy) == expected),
                    "{} of {role:?} hangs on a policy",
                    permission.name()
                );
            }
        }
    }
    let mut catalogued: Vec<_> =
        Permission::ALL.iter().copied().filter(|permission| permission.scope() == Scope::Workspace).collect();
    catalogued.sort_unstable();
    promised.sort_unstable();
    assert_eq!(promised, catalogued, "the contract's table and the catalogue name the same permissions");
}

#[test]
fn the_organization_s_roles_hold_what_the_contract_promises() {
    let in_organization = |role| {
        let place = (Some(role), None);
        held(OrganizationPolicy::default(), place, Scope::Organization).unwrap().iter().collect::<Vec<_>>()
    };
    use Permission::{OrganizationGovern, OrganizationManage, OrganizationView, WorkspaceCreate};
    assert_eq!(in_organization(OrganizationRole::Member), [OrganizationView]);
    assert_eq!(
        in_organization(OrganizationRole::Admin),
        [OrganizationView, OrganizationManage, WorkspaceCreate]
    );
    assert_eq!(
        in_organization(OrganizationRole::Owner),
        [OrganizationView, OrganizationManage, OrganizationGovern, WorkspaceCreate]
    );
    // They see and administer every workspace, and may delete it, whatever role they were given in it.
    for role in [OrganizationRole::Admin, OrganizationRole::Owner] {
        for place in places().into_iter().filter(|(of, _)| *of == Some(role)) {
            let held = held(OrganizationPolicy::default(), place, Scope::Workspace).unwrap();
            let revealing = Permission::CredentialReveal;
            assert_eq!(held, SystemRole::Admin.permissions().without(revealing), "{place:?}");
        }
    }
}
