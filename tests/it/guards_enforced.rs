//! Every root field lets in exactly those whom its directive and the permission catalogue name. Knows one document per
//! root field; refuses to know who may use it: that is predicted from the schema and the domain's rules.

use std::time::Duration;

use async_graphql::{
    Value,
    parser::{
        parse_schema,
        types::{FieldDefinition, TypeDefinition, TypeKind, TypeSystemDefinition},
    },
};
use guildhall_domain::access::{
    OrganizationPolicy, OrganizationRole, Permission, PermissionSet, SystemRole, WorkspaceCreation,
    WorkspaceDeletion, catalog::Scope,
};
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases, subscription::End};
use serde_json::json;

use crate::members::membership;

both_databases!(
    App::start,
    every_root_field_lets_in_whom_its_directive_names,
    who_creates_workspaces_is_the_policy_s_choice,
    who_deletes_workspaces_is_the_policy_s_choice,
    who_is_shown_a_secret_is_the_policy_s_choice,
    nested_lists_ask_for_a_permission_of_their_own,
);

/// The types of the schema.
pub(crate) fn types() -> Vec<TypeDefinition> {
    let document = parse_schema(guildhall_graphql::sdl()).expect("the schema can be parsed");
    let definitions = document.definitions.into_iter();
    definitions
        .filter_map(|definition| match definition {
            TypeSystemDefinition::Type(of) => Some(of.node),
            _ => None,
        })
        .collect()
}

/// A field of a root, with the operation type it belongs to.
pub(crate) struct RootField {
    /// `query`, `mutation` or `subscription`.
    pub(crate) operation: &'static str,
    pub(crate) definition: FieldDefinition,
}

impl RootField {
    pub(crate) fn name(&self) -> &str {
        self.definition.name.node.as_str()
    }

    fn guard(&self) -> Guard {
        let guards = self.definition.directives.iter().filter_map(|directive| {
            Some(match directive.node.name.node.as_str() {
                "anonymous" => Guard::Anonymous,
                "signedIn" => Guard::SignedIn,
                "authorize" => {
                    let Value::String(name) = &directive.node.get_argument("permission")?.node else {
                        panic!("{}: a permission is a text", self.name())
                    };
                    let wire = name.to_lowercase().replace('_', ".");
                    let permission = Permission::from_name(&wire);
                    Guard::Authorize(
                        permission.unwrap_or_else(|| panic!("{}: no permission {name}", self.name())),
                    )
                }
                _ => return None,
            })
        });
        let [guard] = guards.collect::<Vec<_>>()[..] else { panic!("{} needs one guard", self.name()) };
        guard
    }
}

/// Every field that a client can begin with.
pub(crate) fn root_fields() -> Vec<RootField> {
    let roots = types().into_iter().filter_map(|of| {
        let operation = match of.name.node.as_str() {
            "Query" => "query",
            "Mutation" => "mutation",
            "Subscription" => "subscription",
            _ => return None,
        };
        let TypeKind::Object(object) = of.kind else { panic!("a root is an object") };
        Some(object.fields.into_iter().map(move |field| RootField { operation, definition: field.node }))
    });
    roots.flatten().collect()
}

#[derive(Clone, Copy)]
enum Guard {
    Anonymous,
    SignedIn,
    Authorize(Permission),
}

/// What a guard says to somebody.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Unauthenticated,
    /// As if it did not exist: `NOT_FOUND`, or null where null is an answer.
    Unseen,
    Forbidden,
    /// Whatever the operation itself says then.
    Passes,
    /// No word of a guard.
    Strange(String),
}

impl Verdict {
    fn of_code(code: &str) -> Self {
        match code {
            "UNAUTHENTICATED" => Self::Unauthenticated,
            "NOT_FOUND" => Self::Unseen,
            "FORBIDDEN" => Self::Forbidden,
            other => Self::Strange(other.to_owned()),
        }
    }
}

/// Somebody, and what of them the rules ask.
pub(crate) struct Person {
    pub(crate) what: &'static str,
    pub(crate) actor: Actor,
    is_signed_in: bool,
    organization_role: Option<OrganizationRole>,
    /// What the role in the workspace holds; of a machine everything that it has there.
    role: Option<PermissionSet>,
    is_machine: bool,
}

/// Fields that only people can use, though their directive names a permission that machines have, too.
const OF_PEOPLE: [&str; 3] = ["explainAccess", "setDefaultWorkspace", "switchWorkspace"];

impl Person {
    fn judge(held: PermissionSet, sight: Permission, needed: Permission) -> Verdict {
        if !held.holds(sight) {
            Verdict::Unseen
        } else if held.holds(needed) {
            Verdict::Passes
        } else {
            Verdict::Forbidden
        }
    }

    fn predict_field(&self, field: &RootField, policy: &OrganizationPolicy) -> Verdict {
        match self.predict(field.guard(), policy) {
            // It is asked of another workspace, so as not to lose this one.
            Verdict::Passes if self.is_machine && field.name() == "leaveWorkspace" => Verdict::Unseen,
            Verdict::Passes if self.is_machine && OF_PEOPLE.contains(&field.name()) => Verdict::Forbidden,
            predicted => predicted,
        }
    }

    fn predict(&self, guard: Guard, policy: &OrganizationPolicy) -> Verdict {
        match guard {
            Guard::Anonymous => Verdict::Passes,
            _ if !self.is_signed_in => Verdict::Unauthenticated,
            Guard::SignedIn if self.is_machine => Verdict::Forbidden,
            Guard::SignedIn => Verdict::Passes,
            Guard::Authorize(permission) => match permission.scope() {
                Scope::Workspace => {
                    let held = policy.in_workspace(self.role, self.organization_role);
                    Self::judge(held, Permission::WorkspaceView, permission)
                }
                Scope::Organization => {
                    let administers = self.role.is_some_and(|role| role.holds(Permission::MembersManage));
                    let held = policy.in_organization(self.organization_role, administers);
                    Self::judge(held, Permission::OrganizationView, permission)
                }
            },
        }
    }

    /// What the server says. `predicted` only decides how long to listen to a subscription.
    async fn ask(&self, field: &RootField, rest: &str, predicted: &Verdict) -> Verdict {
        let (name, operation) = (field.name(), field.operation);
        let document = format!("{operation} {{ {name}{rest} }}");
        if operation == "subscription" {
            let mut subscription = self.actor.subscribe(&document, json!({})).await;
            if *predicted == Verdict::Passes {
                // What others did a moment ago may still be told; being refused would be told at once.
                let told = tokio::time::timeout(Duration::from_millis(150), subscription.next()).await;
                return told.map_or(Verdict::Passes, |event| heard(field, &event));
            }
            let heard = heard(field, &subscription.next().await);
            assert_eq!(subscription.ended().await, End::Complete, "{} on {name}", self.what);
            return heard;
        }
        // Signing out takes the session along, and others still need it.
        let answer = if name == "signOut" && self.is_signed_in && !self.is_machine {
            self.actor.again().await.query(&document, json!({})).await
        } else {
            self.actor.query(&document, json!({})).await
        };
        heard(field, &answer)
    }
}

fn heard(field: &RootField, answer: &Answer) -> Verdict {
    let name = field.name();
    let guarded = matches!(field.guard(), Guard::Authorize(_));
    match answer.errors() {
        [] if guarded && answer.data(&format!("/{name}")).is_null() => Verdict::Unseen,
        [] => Verdict::Passes,
        [error] if error["path"] == json!([name]) => Verdict::of_code(answer.code()),
        _ => Verdict::Strange(answer.to_string()),
    }
}

/// Everybody, and what they are asked about: an organization with a workspace in it.
#[derive(Default)]
pub(crate) struct Cast {
    pub(crate) people: Vec<Person>,
    organization: String,
    /// Its id and name. It is its organization's default one, so that nobody archives or deletes it.
    pub(crate) workspace: (String, String),
    /// A second workspace with the same members in the same roles, for leaving.
    pub(crate) attic: String,
    /// A second organization with the same members in the same roles, for leaving.
    annex: String,
    /// Somebody's membership of the workspace, as a Viewer.
    member: String,
    /// A credential of the workspace: its id, and its slug.
    credential: (String, String),
}

impl Cast {
    pub(crate) async fn assemble(app: &App) -> Self {
        // Whoever set the instance up owns an organization, and is a stranger to this one.
        let ada = app.set_up().await;
        let olga = app.stranger("olga@example.org", "Olga").await;
        let (lab, attic) = (olga.workspace("Lab").await, olga.workspace("Attic").await);
        let mut people = vec![
            Person::new("anonymous", app.anonymous(), None, None).signed_out(),
            Person::new("a stranger", ada, None, None),
        ];
        let members = [("a viewer", "Vera"), ("an editor", "Edda"), ("an admin", "Adam")];
        for ((what, name), role) in members.into_iter().zip(SystemRole::ALL) {
            let actor = app.member(&lab, role, name).await;
            join(&attic, &actor, role.key()).await;
            people.push(Person::new(what, actor, Some(OrganizationRole::Member), Some(role.permissions())));
        }
        let organization = olga.organization().await;
        let helps = ["MEMBERS_VIEW", "MEMBERS_INVITE", "INVITATIONS_VIEW", "WORKSPACE_DESCRIBE"];
        let helper = crate::roles::made(&olga, &organization, "Helper", &helps).await;
        let hetty = app.member(&attic, SystemRole::Viewer, "Hetty").await;
        crate::members::set_role(&olga, &attic, &membership(&attic, &hetty).await, &helper).await.ok();
        join(&lab, &hetty, &helper).await;
        let held = [
            Permission::WorkspaceView,
            Permission::MembersView,
            Permission::MembersInvite,
            Permission::InvitationsView,
            Permission::WorkspaceDescribe,
        ];
        let held = Some(held.into_iter().collect());
        people.push(Person::new("a custom role", hetty, Some(OrganizationRole::Member), held));
        let nora = app.member(&lab, SystemRole::Viewer, "Nora").await;
        app.sql(&format!("DELETE FROM memberships WHERE user_id = {}", app.literal(&nora.id))).await;
        let nowhere = "a member of the organization without a workspace";
        people.push(Person::new(nowhere, nora, Some(OrganizationRole::Member), None));
        let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
        let orla_is = format!("WHERE user_id = {}", app.literal(&orla.id));
        app.sql(&format!("UPDATE organization_members SET role = 'ADMIN' {orla_is}")).await;
        app.sql(&format!("DELETE FROM memberships {orla_is}")).await;
        people.push(Person::new("an admin of the organization", orla, Some(OrganizationRole::Admin), None));
        let gone = app.member(&lab, SystemRole::Admin, "Rita").await;
        gone.mutate("signOut", json!(null), "").await.ok();
        people.push(Person::new("somebody signed out", gone, None, None).signed_out());
        let barred = app.member(&lab, SystemRole::Admin, "Bert").await;
        app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&barred.id)))
            .await;
        people.push(Person::new("somebody disabled", barred, None, None).signed_out());
        app.member(&lab, SystemRole::Viewer, "Dora").await;
        let members = format!(
            r#"{{ workspace(name: "{}") {{ members(search: "dora") {{ nodes {{ id }} }} }} }}"#,
            lab.name
        );
        let member =
            olga.query(&members, json!({})).await.ok().text("/workspace/members/nodes/0/id").to_owned();
        let credential = crate::credential_nets::custom(&olga, &lab, "Store").await;
        let annex = "org_0193a1b2c3d47e8f9012345678901234".to_owned();
        let (annexed, original) = (app.literal(&annex), app.literal(&organization));
        app.sql(&format!(
            "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion, member_list_visibility,
                 share_acceptance, created_at, updated_at)
             SELECT {annexed}, 'annex', 'Annex', workspace_creation, workspace_deletion, member_list_visibility,
                 share_acceptance, created_at, updated_at FROM organizations WHERE id = {original}"
        ))
        .await;
        app.sql(&format!(
            "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
             SELECT {annexed}, user_id, role, status, created_at FROM organization_members
             WHERE organization_id = {original}"
        ))
        .await;
        app.sql(&format!("UPDATE workspaces SET is_default = TRUE WHERE id = {}", app.literal(&lab.id)))
            .await;
        for (what, role) in [
            ("a service account that is a Viewer", SystemRole::Viewer),
            ("a service account that is an Admin", SystemRole::Admin),
        ] {
            let (id, secret) = crate::machines::account(&olga, &lab, what, role.key()).await;
            let token = crate::machines::access_token(app, &id, &secret).await;
            // What concerns people and keys it has only by name, and what ends the workspace not at all.
            let named = [
                Permission::WorkspaceDelete,
                Permission::CredentialReveal,
                Permission::MembersView,
                Permission::MembersManage,
                Permission::MembersInvite,
                Permission::ApiKeysManage,
            ];
            let held = named.into_iter().fold(role.permissions(), PermissionSet::without);
            people.push(Person::machine(what, app, &token, held));
        }
        let (_, secret) = crate::machines::key(&olga, &lab, &["MEMBERS_MANAGE", "APIKEYS_MANAGE"]).await;
        let held = [Permission::WorkspaceView, Permission::MembersManage, Permission::ApiKeysManage];
        let held = held.into_iter().collect();
        people.push(Person::machine("a key over members and keys", app, &secret, held));
        let (_, secret) = crate::machines::key(&olga, &lab, &[]).await;
        let held = PermissionSet::EMPTY.with(Permission::WorkspaceView);
        people.push(Person::machine("a key for nothing", app, &secret, held));
        let (id, secret) = crate::machines::key(&olga, &lab, &["MEMBERS_MANAGE"]).await;
        let input = json!({ "workspaceId": lab.id, "apiKeyId": id });
        olga.mutate("revokeApiKey", input, "").await.ok();
        people.push(Person::machine("a revoked key", app, &secret, PermissionSet::EMPTY).signed_out());
        let owner = Some(OrganizationRole::Owner);
        let admin = Some(SystemRole::Admin.permissions());
        people.push(Person::new("an owner of the organization", olga, owner, admin));
        let credential = (credential, "store".to_owned());
        Self {
            people,
            organization,
            workspace: (lab.id, lab.name),
            attic: attic.id,
            annex,
            member,
            credential,
        }
    }

    /// What follows the name of each root field. Changes either leave everything as it was, or are of something made
    /// for them, or are refused by a rule behind the guard; `turn` makes addresses that are used once.
    pub(crate) fn documents(&self, turn: &str) -> Vec<(&'static str, String)> {
        let Self { organization, workspace: (workspace, name), attic, annex, member, credential, .. } = self;
        let (credential, slug) = credential;
        let nobody = "0193a1b2c3d47e8f9012345678901234";
        let of_workspace = format!(r#"workspaceId: "{workspace}""#);
        let of_nobody = format!(r#"organizationId: "{organization}", userId: "usr_{nobody}""#);
        let change = |input: String| format!("(input: {{ {input} }}) {{ userErrors {{ message }} }}");
        vec![
            ("deletionImpact", format!("({of_workspace}) {{ refusals {{ code }} }}")),
            ("credential", format!(r#"({of_workspace}, slug: "{slug}") {{ id }}"#)),
            ("credentialShareTargets", format!(r#"({of_workspace}, credentialId: "{credential}") {{ id }}"#)),
            ("credentialTypes", " { name }".to_owned()),
            ("countries", " { code }".to_owned()),
            ("explainAccess", format!(r#"({of_workspace}, permission: FILE_READ) {{ isAllowed }}"#)),
            ("invitationByToken", r#"(token: "guessed") { id }"#.to_owned()),
            ("node", format!(r#"(id: "{workspace}") {{ id }}"#)),
            ("nodes", format!(r#"(ids: ["{workspace}", "{member}"]) {{ id }}"#)),
            // Its owner's id is the organization's too, and stands in its slug.
            ("organization", format!(r#"(slug: "of-{}") {{ id }}"#, organization.trim_start_matches("org_"))),
            ("permissionCatalogue", " { name }".to_owned()),
            ("removalImpact", format!(r#"({of_workspace}, memberId: "{member}") {{ member {{ id }} }}"#)),
            ("searchUsers", format!(r#"({of_workspace}, query: "dora") {{ id }}"#)),
            (
                "simulateRoleChange",
                format!(r#"({of_workspace}, memberId: "{member}", role: "EDITOR") {{ gained }}"#),
            ),
            ("viewer", " { user { id } }".to_owned()),
            ("workspace", format!(r#"(name: "{name}") {{ id }}"#)),
            ("workspaceNameAvailability", format!(r#"(name: "{name}") {{ isAvailable }}"#)),
            ("acceptCredentialShare", change(format!(r#"{of_workspace}, shareId: "shr_{nobody}""#))),
            ("acceptInvitation", change(r#"token: "guessed""#.to_owned())),
            ("acceptOwnershipTransfer", change(format!(r#"transferId: "otr_{nobody}""#))),
            (
                "cancelOwnershipTransfer",
                change(format!(r#"organizationId: "{organization}", transferId: "otr_{nobody}""#)),
            ),
            ("archiveWorkspace", change(of_workspace.clone())),
            ("restoreWorkspace", change(of_workspace.clone())),
            ("deleteWorkspace", change(format!(r#"{of_workspace}, confirmName: "{name}""#))),
            ("changePassword", change(r#"currentPassword: "guessed", newPassword: "granite otter 9 violin""#.to_owned())),
            (
                "createCredential",
                change(format!(
                    r#"{of_workspace}, type: CUSTOM, name: "Taken", slug: "{slug}", fields: [{{ code: "a", value: "b" }}]"#
                )),
            ),
            (
                "createApiKey",
                change(format!(r#"{of_workspace}, name: "Key of {turn}", permissions: []"#)),
            ),
            (
                "createServiceAccount",
                change(format!(r#"{of_workspace}, name: "Account of {turn}", role: "VIEWER""#)),
            ),
            ("createOrganization", change(r#"name: "Mine""#.to_owned())),
            (
                "createRole",
                change(format!(r#"organizationId: "{organization}", name: "Role of {turn}", permissions: []"#)),
            ),
            ("createWorkspace", change(format!(r#"organizationId: "{organization}", displayName: "Den""#))),
            ("declineCredentialShare", change(format!(r#"{of_workspace}, shareId: "shr_{nobody}""#))),
            ("declineInvitation", change(r#"token: "guessed""#.to_owned())),
            ("deleteCredential", change(format!(r#"{of_workspace}, credentialId: "crd_{nobody}""#))),
            ("deleteConfigProperty", change(format!(r#"{of_workspace}, key: "NO_SUCH""#))),
            ("deleteRole", change(format!(r#"organizationId: "{organization}", roleId: "rol_{nobody}""#))),
            ("declineOwnershipTransfer", change(format!(r#"transferId: "otr_{nobody}""#))),
            ("describeWorkspace", change(format!(r##"{of_workspace}, description: "# Lab""##))),
            ("disableUser", change(of_nobody.clone())),
            ("cancelEmailChange", change(r#"token: "guessed""#.to_owned())),
            ("confirmEmailChange", change(r#"token: "guessed""#.to_owned())),
            ("generateRecoveryCodes", change(r#"password: "guessed""#.to_owned())),
            ("confirmSecondFactor", change(r#"code: "guessed""#.to_owned())),
            ("disableSecondFactor", change(r#"password: "guessed", code: "guessed""#.to_owned())),
            ("enrollSecondFactor", change(r#"password: "guessed""#.to_owned())),
            (
                "resetPasswordWithRecoveryCode",
                change(
                    r#"email: "new@example.org", recoveryCode: "guessed", newPassword: "guessed""#.to_owned(),
                ),
            ),
            ("requestEmailChange", change(r#"password: "guessed", newEmail: "new@example.org""#.to_owned())),
            ("requestPasswordReset", change(r#"email: "no address""#.to_owned())),
            ("resetPassword", change(r#"token: "guessed", newPassword: "guessed""#.to_owned())),
            ("endMemberSessions", change(of_nobody.clone())),
            ("enableUser", change(of_nobody.clone())),
            ("inviteMember", change(format!(r#"{of_workspace}, role: "VIEWER", email: "{turn}@example.org""#))),
            (
                "inviteMembers",
                change(format!(r#"{of_workspace}, invitees: [{{ role: "VIEWER", email: "{turn}.too@example.org" }}]"#)),
            ),
            ("leaveOrganization", change(format!(r#"organizationId: "{annex}""#))),
            (
                "inviteOrganizationMember",
                change(format!(r#"organizationId: "{organization}", email: "{turn}.org@example.org""#)),
            ),
            (
                "resendOrganizationInvitation",
                change(format!(r#"organizationId: "{organization}", invitationId: "inv_{nobody}""#)),
            ),
            (
                "revokeOrganizationInvitation",
                change(format!(r#"organizationId: "{organization}", invitationId: "inv_{nobody}""#)),
            ),
            ("leaveWorkspace", change(format!(r#"workspaceId: "{attic}""#))),
            ("refreshSession", change(r#"refreshToken: "guessed""#.to_owned())),
            ("register", change(r#"token: "guessed", displayName: "Eve", password: "granite otter 9 violin""#.to_owned())),
            ("removeMember", change(format!(r#"{of_workspace}, memberId: "mbr_{nobody}""#))),
            ("removeOrganizationMember", change(of_nobody.clone())),
            ("resendInvitation", change(format!(r#"{of_workspace}, invitationId: "inv_{nobody}""#))),
            ("revealCredential", change(format!(r#"{of_workspace}, credentialId: "{credential}""#))),
            ("revokeInvitation", change(format!(r#"{of_workspace}, invitationId: "inv_{nobody}""#))),
            ("revokeSession", change(format!(r#"sessionId: "ses_{nobody}""#))),
            ("setConfigProperty", change(format!(r#"{of_workspace}, key: "YEAR", value: {{ number: 2026 }}"#))),
            (
                "setConfigProperties",
                change(format!(r#"{of_workspace}, properties: [{{ key: "YEAR", value: {{ number: 2026 }} }}]"#)),
            ),
            ("setDefaultWorkspace", change(of_workspace.clone())),
            (
                "shareCredential",
                change(format!(
                    r#"{of_workspace}, credentialId: "{credential}", targetWorkspaceId: "wks_{nobody}""#
                )),
            ),
            (
                "setUp",
                change(
                    r#"token: "guessed", email: "eve@example.org", displayName: "Eve", organizationName: "Eve",
                       password: "granite otter 9 violin""#
                        .to_owned(),
                ),
            ),
            ("signIn", change(r#"email: "ada@example.org", password: "guessed""#.to_owned())),
            ("signOut", " { userErrors { message } }".to_owned()),
            ("switchWorkspace", change(of_workspace.clone())),
            ("transferOwnership", change(of_nobody.clone())),
            ("testCredential", change(format!(r#"{of_workspace}, credentialId: "{credential}""#))),
            ("unshareCredential", change(format!(r#"{of_workspace}, shareId: "shr_{nobody}""#))),
            ("updateCredential", change(format!(r#"{of_workspace}, credentialId: "crd_{nobody}""#))),
            ("updateMemberRole", change(format!(r#"{of_workspace}, memberId: "{member}", role: "VIEWER""#))),
            ("updateOrganization", change(format!(r#"organizationId: "{organization}""#))),
            ("updateOrganizationPolicy", change(format!(r#"organizationId: "{organization}""#))),
            (
                "configureSingleSignOn",
                change(format!(
                    r#"organizationId: "{organization}", issuer: "https://login.invalid", clientId: "x", clientSecret: "y""#
                )),
            ),
            ("removeSingleSignOn", change(format!(r#"organizationId: "{organization}""#))),
            ("addDomain", change(format!(r#"organizationId: "{organization}", domain: "{turn}.invalid""#))),
            ("verifyDomain", change(format!(r#"organizationId: "{organization}", domain: "nobodys.invalid""#))),
            ("removeDomain", change(format!(r#"organizationId: "{organization}", domain: "{turn}.invalid""#))),
            ("startSingleSignOn", change(r#"email: "eve@nobodys.invalid""#.to_owned())),
            ("finishSingleSignOn", change(r#"code: "guessed", secret: "guessed""#.to_owned())),
            ("checkAccess", r#"(token: "guessed", permissions: [FILE_READ]) { isActive }"#.to_owned()),
            ("issueWorkspaceToken", change(of_workspace.clone())),
            ("deleteServiceAccount", change(format!(r#"{of_workspace}, serviceAccountId: "sva_{nobody}""#))),
            ("revokeApiKey", change(format!(r#"{of_workspace}, apiKeyId: "key_{nobody}""#))),
            ("rotateApiKey", change(format!(r#"{of_workspace}, apiKeyId: "key_{nobody}""#))),
            ("rotateDefaultApiKey", change(of_workspace.clone())),
            (
                "rotateServiceAccountSecret",
                change(format!(r#"{of_workspace}, serviceAccountId: "sva_{nobody}""#)),
            ),
            ("updateServiceAccount", change(format!(r#"{of_workspace}, serviceAccountId: "sva_{nobody}""#))),
            (
                "createWebhook",
                change(format!(
                    r#"{of_workspace}, name: "Hook", url: "https://hooks.invalid/", events: [WORKSPACE_CHANGED], isEnabled: false"#
                )),
            ),
            ("updateWebhook", change(format!(r#"{of_workspace}, webhookId: "whk_{nobody}""#))),
            ("rotateWebhookSecret", change(format!(r#"{of_workspace}, webhookId: "whk_{nobody}""#))),
            ("deleteWebhook", change(format!(r#"{of_workspace}, webhookId: "whk_{nobody}""#))),
            ("replayWebhookDelivery", change(format!(r#"{of_workspace}, deliveryId: "whd_{nobody}""#))),
            ("sendTestWebhook", change(format!(r#"{of_workspace}, webhookId: "whk_{nobody}""#))),
            ("updateRole", change(format!(r#"organizationId: "{organization}", roleId: "rol_{nobody}""#))),
            ("updateOrganizationMember", change(format!("{of_nobody}, role: MEMBER"))),
            ("updateProfile", change(r#"displayName: "Somebody""#.to_owned())),
            ("updateWorkspace", change(format!(r#"{of_workspace}, displayName: "Lab""#))),
            (
                "useCredential",
                change(format!(r#"{of_workspace}, slug: "{slug}", purpose: "Turn of {turn}""#)),
            ),
            (
                "usage",
                format!(r#"({of_workspace}, metric: CREDITS, from: "2026-01-01", to: "2026-01-02") {{ used }}"#),
            ),
            ("setQuota", change(format!(r#"organizationId: "{organization}", metric: ITEMS, limit: 1000000"#))),
            ("spendCredits", change(format!(r#"{of_workspace}, amount: 1, purpose: "Turn of {turn}""#))),
            ("adjustUsage", change(format!(r#"{of_workspace}, metric: ITEMS, by: 1"#))),
            ("quotaWarning", format!("({of_workspace}) {{ cursor }}")),
            ("credentialChanged", format!("({of_workspace}) {{ cursor }}")),
            ("invitationStatusChanged", format!("({of_workspace}) {{ cursor }}")),
            ("auditLogChanged", format!("({of_workspace}) {{ cursor }}")),
            ("organizationAuditLogChanged", format!(r#"(organizationId: "{organization}") {{ cursor }}"#)),
            ("workspaceChanged", format!("({of_workspace}) {{ cursor }}")),
            ("viewerInvitationChanged", " { cursor }".to_owned()),
        ]
    }

    /// Has everybody try the fields, and notes whoever hears something else than predicted.
    async fn compare(&self, policy: &OrganizationPolicy, only: impl Fn(&RootField) -> bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let fields: Vec<_> = root_fields().into_iter().filter(only).collect();
        for (turn, person) in self.people.iter().enumerate() {
            let documents = self.documents(&format!("guest{turn}"));
            for field in &fields {
                let (_, rest) = documents.iter().find(|(name, _)| *name == field.name()).unwrap();
                let predicted = person.predict_field(field, policy);
                let heard = person.ask(field, rest, &predicted).await;
                if heard != predicted {
                    wrong.push(format!(
                        "{} on {}: {heard:?} instead of {predicted:?}",
                        person.what,
                        field.name()
                    ));
                }
            }
        }
        wrong
    }
}

impl Person {
    fn new(
        what: &'static str,
        actor: Actor,
        organization_role: Option<OrganizationRole>,
        role: Option<PermissionSet>,
    ) -> Self {
        Self { what, actor, is_signed_in: true, organization_role, role, is_machine: false }
    }

    fn machine(what: &'static str, app: &App, secret: &str, held: PermissionSet) -> Self {
        let actor = Actor::machine(&app.url, secret);
        Self { is_machine: true, ..Self::new(what, actor, None, Some(held)) }
    }

    fn signed_out(self) -> Self {
        Self { is_signed_in: false, ..self }
    }
}

/// Makes somebody who has an account a member of another workspace.
async fn join(workspace: &Workspace, actor: &Actor, role: &str) {
    let invited = workspace.admin.invite(workspace, &actor.email, role).await.ok();
    let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
    actor.mutate("acceptInvitation", input, "").await.ok();
}

#[test]
fn every_root_field_has_a_document_here() {
    let fields = root_fields();
    let documents = Cast::default().documents("");
    let missing: Vec<_> = fields
        .iter()
        .map(RootField::name)
        .filter(|field| documents.iter().all(|(name, _)| name != field))
        .collect();
    assert!(missing.is_empty(), "write a document in Cast::documents for: {missing:?}");
    let stale: Vec<_> = documents
        .iter()
        .map(|(name, _)| name)
        .filter(|name| fields.iter().all(|field| field.name() != **name))
        .collect();
    assert!(stale.is_empty(), "these are no root fields any more: {stale:?}");
}

async fn every_root_field_lets_in_whom_its_directive_names(app: App) {
    let cast = Cast::assemble(&app).await;
    let wrong = cast.compare(&OrganizationPolicy::default(), |_| true).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn who_creates_workspaces_is_the_policy_s_choice(app: App) {
    let cast = Cast::assemble(&app).await;
    // Last comes what makes admins of everybody.
    for creation in [
        WorkspaceCreation::OrganizationAdmins,
        WorkspaceCreation::WorkspaceAdmins,
        WorkspaceCreation::AnyMember,
    ] {
        app.sql(&format!("UPDATE organizations SET workspace_creation = '{}'", creation.word())).await;
        let policy = OrganizationPolicy { workspace_creation: creation, ..OrganizationPolicy::default() };
        let wrong = cast.compare(&policy, |field| field.name() == "createWorkspace").await;
        assert!(wrong.is_empty(), "{creation:?}: {wrong:#?}");
    }
}

async fn who_deletes_workspaces_is_the_policy_s_choice(app: App) {
    let cast = Cast::assemble(&app).await;
    for deletion in WorkspaceDeletion::ALL {
        app.sql(&format!("UPDATE organizations SET workspace_deletion = '{}'", deletion.word())).await;
        let policy = OrganizationPolicy { workspace_deletion: *deletion, ..OrganizationPolicy::default() };
        let about = ["deleteWorkspace", "deletionImpact"];
        let wrong = cast.compare(&policy, |field| about.contains(&field.name())).await;
        assert!(wrong.is_empty(), "{deletion:?}: {wrong:#?}");
    }
}

async fn who_is_shown_a_secret_is_the_policy_s_choice(app: App) {
    let cast = Cast::assemble(&app).await;
    for allow_reveal in [false, true] {
        app.sql(&format!("UPDATE organizations SET allow_reveal = {allow_reveal}")).await;
        let policy = OrganizationPolicy { allow_reveal, ..OrganizationPolicy::default() };
        let wrong = cast.compare(&policy, |field| field.name() == "revealCredential").await;
        assert!(wrong.is_empty(), "{allow_reveal}: {wrong:#?}");
    }
}

async fn nested_lists_ask_for_a_permission_of_their_own(app: App) {
    let cast = Cast::assemble(&app).await;
    for visibility in guildhall_domain::access::MemberListVisibility::ALL {
        app.sql(&format!("UPDATE organizations SET member_list_visibility = '{}'", visibility.word())).await;
        let policy =
            OrganizationPolicy { member_list_visibility: *visibility, ..OrganizationPolicy::default() };
        for person in cast.people.iter().filter(|person| person.is_signed_in) {
            for (list, permission) in [
                ("members", Permission::MembersView),
                ("invitations", Permission::InvitationsView),
                ("credentials", Permission::CredentialList),
                ("credentialOffers", Permission::CredentialList),
                ("credentialUsages", Permission::CredentialManage),
                ("apiKeys", Permission::ApiKeysManage),
                ("serviceAccounts", Permission::ServiceAccountsManage),
                ("auditLog", Permission::AuditView),
                ("webhooks", Permission::IntegrationManage),
            ] {
                let document =
                    format!(r#"{{ workspace(name: "{}") {{ {list} {{ totalCount }} }} }}"#, cast.workspace.1);
                let answer = person.actor.query(&document, json!({})).await;
                let heard = match answer.errors() {
                    [] if answer.data("/workspace").is_null() => Verdict::Unseen,
                    [] => Verdict::Passes,
                    _ => {
                        assert!(answer.data(&format!("/workspace/{list}")).is_null(), "{answer}");
                        Verdict::of_code(answer.code())
                    }
                };
                let predicted = person.predict(Guard::Authorize(permission), &policy);
                assert_eq!(heard, predicted, "{} on {list} with {visibility:?}: {answer}", person.what);
            }
        }
    }
}
