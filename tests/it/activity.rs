//! What happens at the door, and who reads of it: each code, each organization its own, filters and pages, and for how
//! long.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_persistence::housekeeping;
use guildhall_tests::{
    Actor, Answer, App,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::Engine,
};
use http::{Request, header};
use serde_json::{Value, json};

both_databases!(
    behind_a_proxy,
    signing_in_and_out_is_listed_with_its_device_newest_first,
    each_refusal_has_its_code,
    an_address_that_nobody_has_is_nobody_s_and_is_not_stored,
    sign_ins_without_a_workspace_or_with_an_unproven_address_are_told_apart,
    a_replayed_refresh_token_is_listed,
    each_organization_sees_its_own_people_alone,
    who_disabled_somebody_hears_of_the_tries,
    only_admins_of_the_organization_read_it,
    activity_is_filtered_by_code_person_and_time,
    filters_that_make_no_sense_are_refused_or_find_nothing,
    activity_comes_in_pages,
    activity_of_many_organizations_takes_as_many_statements_as_that_of_two,
    activity_is_kept_as_long_as_the_policy_says,
    nobody_fills_the_disk_with_refusals,
);

pub(crate) async fn behind_a_proxy(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_TRUST_PROXY", true);
    })
    .await
}

const WRONG: &str = "granite otter violin 8 lantern";

const ACTIVITY: &str = "query($slug: String!, $filter: LoginActivityFilter, $first: Int, $after: String, $last: Int, $before: String) {
    organization(slug: $slug) { loginActivity(filter: $filter, first: $first, after: $after, last: $last, before: $before) {
        totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        nodes { id code userId user { email } ip userAgent at }
    } }
}";

/// Signs in, or tries to, from that address on that device.
pub(crate) async fn sign_in_from(app: &App, ip: &str, email: &str, password: &str) -> Answer {
    let document = "mutation($input: SignInInput!) { signIn(input: $input) {
        user { id email displayName } session { accessToken refreshToken } userErrors { code field message retryAt }
    } }";
    let body =
        json!({ "query": document, "variables": { "input": { "email": email, "password": password } } });
    let request = Request::post(format!("{}/graphql", app.url))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "Teapot/1")
        .header("x-forwarded-for", ip)
        .body(body.to_string().into())
        .unwrap();
    let page = app.anonymous().http(request).await;
    Answer { status: page.status, headers: page.headers, body: serde_json::from_slice(&page.body).unwrap() }
}

async fn listed(by: &Actor, slug: &str, filter: Value) -> Answer {
    by.query(ACTIVITY, json!({ "slug": slug, "filter": filter })).await
}

fn nodes(answer: &Answer) -> &[Value] {
    answer.data("/organization/loginActivity/nodes").as_array().unwrap()
}

/// The codes with the local part of the person's address.
pub(crate) fn told(answer: &Answer) -> Vec<String> {
    let told = |node: &Value| {
        let email = node["user"]["email"].as_str().unwrap_or("nobody@").to_owned();
        format!("{} {}", node["code"].as_str().unwrap(), email.split('@').next().unwrap())
    };
    nodes(answer).iter().map(told).collect()
}

pub(crate) async fn example(by: &Actor) -> Vec<String> {
    told(&listed(by, "example", json!(null)).await.ok())
}

/// Forgets what the preparation of a test left.
async fn forget(app: &App) {
    app.sql("DELETE FROM login_activity").await;
}

async fn signing_in_and_out_is_listed_with_its_device_newest_first(app: App) {
    let ada = app.set_up().await;
    assert_eq!(example(&ada).await, ["LOGIN ada"], "setting up signs in");
    forget(&app).await;
    let signed_in = sign_in_from(&app, "192.0.2.7", &ada.email, PASSWORD).await.ok();
    let mut phone = ada.clone();
    phone.access_token = Some(signed_in.text("/signIn/session/accessToken").to_owned());
    phone.mutate("signOut", Value::Null, "signedOut").await.ok();
    let session =
        ada.again().await.query("{ viewer { sessions { nodes { id isCurrent } } } }", json!({})).await;
    let last = session.data("/viewer/sessions/nodes/1/id").clone();
    ada.mutate("revokeSession", json!({ "sessionId": last }), "").await.ok();

    let answer = listed(&ada, "example", json!(null)).await.ok();
    assert_eq!(told(&answer), ["LOGOUT ada", "LOGIN ada", "LOGOUT ada", "LOGIN ada"]);
    assert_eq!(answer.data("/organization/loginActivity/totalCount"), 4);
    let nodes = nodes(&answer);
    for place in [2, 3] {
        assert_eq!(
            (&nodes[place]["ip"], &nodes[place]["userAgent"]),
            (&json!("192.0.2.7"), &json!("Teapot/1"))
        );
        assert_eq!(nodes[place]["userId"], ada.id);
    }
    assert!(nodes[0]["at"].as_str() >= nodes[3]["at"].as_str());

    // Registering signs in as well.
    forget(&app).await;
    app.person("eve@example.org", "Eve").await;
    assert_eq!(example(&ada).await, ["LOGIN eve"]);
}

async fn each_refusal_has_its_code(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    forget(&app).await;
    sign_in_from(&app, "192.0.2.7", &eve.email.to_uppercase(), WRONG).await.refused("INVALID_CREDENTIALS");
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&eve.id))).await;
    sign_in_from(&app, "192.0.2.7", &eve.email, PASSWORD).await.refused("USER_DISABLED");
    sign_in_from(&app, "192.0.2.7", &eve.email, WRONG).await.refused("INVALID_CREDENTIALS");
    let answer = listed(&ada, "example", json!(null)).await.ok();
    assert_eq!(told(&answer), ["WRONG_PASSWORD eve", "DISABLED eve", "WRONG_PASSWORD eve"]);
    assert!(nodes(&answer).iter().all(|node| node["ip"] == "192.0.2.7"));
    let stored = app.number("SELECT count(*) FROM login_activity WHERE user_agent LIKE '%otter%'").await;
    assert_eq!(stored, 0);
}

async fn an_address_that_nobody_has_is_nobody_s_and_is_not_stored(app: App) {
    let ada = app.set_up().await;
    forget(&app).await;
    for email in ["zoe@example.org", "ZOE@example.org", "yan@example.org", "no address", PASSWORD] {
        sign_in_from(&app, "192.0.2.7", email, WRONG).await.refused("INVALID_CREDENTIALS");
    }
    assert_eq!(example(&ada).await, Vec::<String>::new());
    let unknown = "SELECT count(*) FROM login_activity WHERE code = 'UNKNOWN_USER' AND organization_id IS NULL \
                   AND user_id IS NULL AND ip = '192.0.2.7'";
    assert_eq!(app.number(unknown).await, 5);
    // Tries of one address can be told to be that, and no address or password that was typed for one can be read.
    let fingerprints = "SELECT count(DISTINCT address) FROM login_activity WHERE length(address) = 16";
    assert_eq!(app.number(fingerprints).await, 3);
    let shown = app
        .number("SELECT count(*) FROM login_activity WHERE address LIKE '%@%' OR address LIKE '% %'")
        .await;
    assert_eq!(shown, 0);
}

async fn sign_ins_without_a_workspace_or_with_an_unproven_address_are_told_apart(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let members = format!("user_id = {}", app.literal(&eve.id));
    forget(&app).await;
    eve.again().await;
    app.sql(&format!("UPDATE memberships SET expires_at = '2000-01-01T00:00:00+00:00' WHERE {members}"))
        .await;
    eve.again().await;
    app.sql(&format!("UPDATE memberships SET expires_at = NULL WHERE {members}")).await;
    ada.mutate("archiveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    eve.again().await;
    app.sql(&format!("DELETE FROM memberships WHERE {members}")).await;
    eve.again().await;
    app.sql(&format!("UPDATE organization_members SET role = 'ADMIN' WHERE {members}")).await;
    eve.again().await;
    app.sql(&format!("UPDATE users SET status = 'UNVERIFIED' WHERE id = {}", app.literal(&eve.id))).await;
    eve.again().await;
    let expected = [
        "UNVERIFIED eve",
        "LOGIN eve",
        "NO_WORKSPACE eve",
        "NO_WORKSPACE eve",
        "NO_WORKSPACE eve",
        "LOGIN eve",
    ];
    assert_eq!(example(&ada).await, expected);
}

async fn a_replayed_refresh_token_is_listed(app: App) {
    let ada = app.set_up().await;
    forget(&app).await;
    let phone = ada.again().await;
    let refresh = async |token: &Value| {
        app.anonymous()
            .mutate("refreshSession", json!({ "refreshToken": token }), "session { refreshToken }")
            .await
    };
    let first = json!(phone.refresh_token);
    let second = refresh(&first).await.ok().data("/refreshSession/session/refreshToken").clone();
    refresh(&second).await.ok();
    for _ in 0..3 {
        refresh(&first).await.refused("SESSION_INVALID");
    }
    // Once: the session is over by then.
    assert_eq!(example(&ada).await, ["REFRESH_REUSED ada", "LOGIN ada"]);
}

async fn each_organization_sees_its_own_people_alone(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let of_olga = format!("of-{}", olga.id.trim_start_matches("usr_"));
    let eve = app.person("eve@example.org", "Eve").await;
    forget(&app).await;
    sign_in_from(&app, "192.0.2.1", &eve.email, WRONG).await.refused("INVALID_CREDENTIALS");
    eve.again().await;
    olga.again().await;
    assert_eq!(example(&ada).await, ["LOGIN eve", "WRONG_PASSWORD eve"]);
    let theirs = listed(&olga, &of_olga, json!(null)).await.ok();
    assert_eq!(told(&theirs), ["LOGIN olga"]);

    // From when she joins, each of her organizations sees what she does, and none what was before.
    let den = olga.workspace("Den").await;
    olga.invite(&den, &eve.email, "VIEWER").await.ok();
    let token = token_of(&app.mail_to(&eve.email).await.link()).to_owned();
    eve.mutate("acceptInvitation", json!({ "token": token }), "").await.ok();
    let theirs = listed(&olga, &of_olga, json!(null)).await.ok();
    assert_eq!(told(&theirs), ["LOGIN olga"]);
    eve.again().await;
    let theirs = listed(&olga, &of_olga, json!(null)).await.ok();
    assert_eq!(told(&theirs), ["LOGIN eve", "LOGIN olga"]);
    let ours = listed(&ada, "example", json!(null)).await.ok();
    assert_eq!(told(&ours), ["LOGIN eve", "LOGIN eve", "WRONG_PASSWORD eve"]);
    // Even of what both see, neither has the other's row.
    let ids =
        |answer: &Answer| -> Vec<Value> { nodes(answer).iter().map(|node| node["id"].clone()).collect() };
    assert!(ids(&ours).iter().all(|id| !ids(&theirs).contains(id)));
    // A foreign person's id finds what an unknown one finds.
    for id in [&olga.id, "usr_0193a1b2c3d47e8f9012345678901234"] {
        let found = listed(&ada, "example", json!({ "userId": id })).await.ok();
        assert_eq!(found.data("/organization/loginActivity/totalCount"), 0);
    }

    // Who leaves takes nothing along, and is not followed.
    let organization = ada.organization().await;
    let leave = json!({ "organizationId": organization, "userId": eve.id });
    ada.mutate("removeOrganizationMember", leave, "").await.ok();
    eve.again().await;
    let ours = listed(&ada, "example", json!({ "userId": eve.id })).await.ok();
    assert_eq!(told(&ours), ["LOGIN nobody", "LOGIN nobody", "WRONG_PASSWORD nobody"]);
    assert!(nodes(&ours).iter().all(|node| node["userId"] == eve.id));
    let theirs = listed(&olga, &of_olga, json!(null)).await.ok();
    assert_eq!(told(&theirs), ["LOGIN eve", "LOGIN eve", "LOGIN olga"]);
}

async fn who_disabled_somebody_hears_of_the_tries(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let eve = app.person("eve@example.org", "Eve").await;
    ada.mutate("disableUser", json!({ "organizationId": organization, "userId": eve.id }), "").await.ok();
    forget(&app).await;
    sign_in_from(&app, "192.0.2.1", &eve.email, PASSWORD).await.refused("USER_DISABLED");
    sign_in_from(&app, "192.0.2.1", &eve.email, WRONG).await.refused("INVALID_CREDENTIALS");
    assert_eq!(example(&ada).await, ["DISABLED eve"]);
}

async fn only_admins_of_the_organization_read_it(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let denied = listed(&adam, "example", json!(null)).await.denied("FORBIDDEN");
    assert_eq!(denied.body["data"]["organization"]["loginActivity"], Value::Null);
    assert_eq!(listed(&olga, "example", json!(null)).await.ok().data("/organization"), &Value::Null);
    listed(&app.anonymous(), "example", json!(null)).await.denied("UNAUTHENTICATED");
    let promoted =
        format!("UPDATE organization_members SET role = 'ADMIN' WHERE user_id = {}", app.literal(&adam.id));
    app.sql(&promoted).await;
    listed(&adam, "example", json!(null)).await.ok();
}

async fn activity_is_filtered_by_code_person_and_time(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    forget(&app).await;
    eve.again().await;
    sign_in_from(&app, "192.0.2.1", &eve.email, WRONG).await.refused("INVALID_CREDENTIALS");
    app.advance(TimeDelta::hours(3));
    let ada = ada.again().await;
    sign_in_from(&app, "192.0.2.1", &eve.email, WRONG).await.refused("INVALID_CREDENTIALS");
    let find = async |filter: Value| {
        let found = listed(&ada, "example", filter.clone()).await.ok();
        assert_eq!(found.data("/organization/loginActivity/totalCount"), told(&found).len(), "{filter}");
        told(&found)
    };
    let all = ["WRONG_PASSWORD eve", "LOGIN ada", "WRONG_PASSWORD eve", "LOGIN eve"];
    for filter in [json!(null), json!({}), json!({ "codes": [] }), json!({ "codes": null, "userId": null })] {
        assert_eq!(find(filter).await, all);
    }
    assert_eq!(find(json!({ "codes": ["LOGIN", "LOGIN"] })).await, ["LOGIN ada", "LOGIN eve"]);
    assert_eq!(find(json!({ "codes": ["LOGIN", "WRONG_PASSWORD"] })).await, all);
    assert_eq!(find(json!({ "codes": ["DISABLED"] })).await, [""; 0]);
    assert_eq!(find(json!({ "userId": ada.id })).await, ["LOGIN ada"]);
    assert_eq!(find(json!({ "userId": eve.id, "codes": ["LOGIN"] })).await, ["LOGIN eve"]);
    let answer = listed(&ada, "example", json!(null)).await.ok();
    let at = |place: usize| nodes(&answer)[place]["at"].clone();
    assert_eq!(find(json!({ "from": at(1) })).await, all[..2]);
    assert_eq!(find(json!({ "to": at(1) })).await, all[2..]);
    assert_eq!(find(json!({ "from": at(2), "to": at(0), "userId": ada.id })).await, ["LOGIN ada"]);
    assert_eq!(find(json!({ "from": at(0), "to": at(2) })).await, [""; 0]);
}

async fn filters_that_make_no_sense_are_refused_or_find_nothing(app: App) {
    let ada = app.set_up().await;
    for bad in ["", "usr_", "nobody", "org_0193a1b2c3d47e8f9012345678901234", "usr_\u{0}"] {
        let denied = listed(&ada, "example", json!({ "userId": bad })).await.denied("BAD_USER_INPUT");
        assert!(denied.errors()[0]["message"].as_str().unwrap().starts_with("`userId` "), "{denied}");
    }
    listed(&ada, "example", json!({ "codes": ["NONE"] })).await.denied("GRAPHQL_VALIDATION_FAILED");
    for (from, to, number) in [
        ("-262143-01-01T00:00:00Z", "+262142-12-31T23:59:59Z", 1),
        ("0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 1),
        ("+262142-12-31T23:59:59Z", "-262143-01-01T00:00:00Z", 0),
    ] {
        let found = listed(&ada, "example", json!({ "from": from, "to": to })).await.ok();
        assert_eq!(found.data("/organization/loginActivity/totalCount"), number);
    }
}

async fn activity_comes_in_pages(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    forget(&app).await;
    for password in [PASSWORD, WRONG, PASSWORD, WRONG, PASSWORD] {
        sign_in_from(&app, "192.0.2.1", &eve.email, password).await;
    }
    let all = example(&ada).await;
    let page = async |mut window: Value| {
        window["slug"] = json!("example");
        ada.query(ACTIVITY, window).await.ok()
    };
    let at = "/organization/loginActivity/pageInfo";
    let first = page(json!({ "first": 2 })).await;
    assert_eq!(told(&first), all[..2]);
    assert_eq!(first.data(&format!("{at}/hasNextPage")), true);
    let second = page(json!({ "first": 2, "after": first.text(&format!("{at}/endCursor")) })).await;
    assert_eq!(told(&second), all[2..4]);
    assert_eq!(second.data(&format!("{at}/hasPreviousPage")), true);
    // What comes meanwhile does not move what was read.
    eve.again().await;
    let third = page(json!({ "first": 2, "after": second.text(&format!("{at}/endCursor")) })).await;
    assert_eq!(told(&third), all[4..]);
    assert_eq!(third.data(&format!("{at}/hasNextPage")), false);
    let last = page(json!({ "last": 2 })).await;
    assert_eq!(told(&last), all[3..]);
    assert_eq!(last.data(&format!("{at}/hasPreviousPage")), true);
    let before = page(json!({ "last": 2, "before": last.text(&format!("{at}/startCursor")) })).await;
    assert_eq!(told(&before), all[1..3]);
    let wrong = json!({ "slug": "example", "after": "bm9uZTow" });
    ada.query(ACTIVITY, wrong).await.denied("BAD_USER_INPUT");
}

async fn activity_of_many_organizations_takes_as_many_statements_as_that_of_two(app: App) {
    let ada = app.set_up().await;
    let join = async |number: usize| {
        let id = app.literal(&format!("org_0193a1b2c3d47e8f9012{number:012x}"));
        app.sql(&format!(
            "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion, member_list_visibility,
                 share_acceptance, created_at, updated_at)
             SELECT {id}, 'other-{number}', 'Other', workspace_creation, workspace_deletion, member_list_visibility,
                 share_acceptance, created_at, updated_at FROM organizations WHERE slug = 'example'"
        ))
        .await;
        app.sql(&format!(
            "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
             SELECT {id}, user_id, role, status, created_at FROM organization_members WHERE user_id = {}
             ORDER BY created_at LIMIT 1",
            app.literal(&ada.id)
        ))
        .await;
    };
    let document = "{ viewer { organizations(first: 20) { nodes { loginActivity(first: 2) { totalCount nodes { code user { id } } } } } } }";
    join(1).await;
    ada.again().await;
    let two = app.count(async || _ = ada.query(document, json!({})).await.ok()).await;
    for number in 2..15 {
        join(number).await;
    }
    ada.again().await;
    let answer = ada.query(document, json!({})).await.ok();
    for place in 0..15 {
        let list = format!("/viewer/organizations/nodes/{place}/loginActivity/nodes");
        assert_eq!(answer.data(&format!("{list}/0/user/id")), &json!(ada.id));
    }
    let many = app.count(async || _ = ada.query(document, json!({})).await.ok()).await;
    assert_eq!(many, two);
}

async fn activity_is_kept_as_long_as_the_policy_says(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let of_olga = format!("of-{}", olga.id.trim_start_matches("usr_"));
    forget(&app).await;
    sign_in_from(&app, "192.0.2.1", "zoe@example.org", WRONG).await.refused("INVALID_CREDENTIALS");
    let (ada, olga) = (ada.again().await, olga.again().await);
    let organization = ada.organization().await;
    let keep = json!({ "organizationId": organization, "loginActivityDays": 7 });
    let selection = "organization { policy { loginActivityDays } }";
    let set = ada.mutate("updateOrganizationPolicy", keep, selection).await.ok();
    assert_eq!(set.data("/updateOrganizationPolicy/organization/policy/loginActivityDays"), 7);
    for bad in [0, -1, 3651, i32::MAX] {
        let keep = json!({ "organizationId": organization, "loginActivityDays": bad });
        let refused = ada.mutate("updateOrganizationPolicy", keep, selection).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["loginActivityDays"]));
    }
    let stored = async |which: &str| {
        app.number(&format!("SELECT count(*) FROM login_activity WHERE organization_id {which}")).await
    };
    let ours = format!("= {}", app.literal(&organization));
    app.advance(TimeDelta::days(6));
    housekeeping::sweep(app.db()).await.unwrap();
    let ada = ada.again().await;
    assert_eq!(example(&ada).await, ["LOGIN ada", "LOGIN ada"]);

    // Not shown at once, and gone with the next sweep.
    app.advance(TimeDelta::days(2));
    let ada = ada.again().await;
    assert_eq!(example(&ada).await, ["LOGIN ada", "LOGIN ada"]);
    assert_eq!(stored(&ours).await, 3);
    housekeeping::sweep(app.db()).await.unwrap();
    assert_eq!(stored(&ours).await, 2);
    assert_eq!(stored("IS NULL").await, 1);
    app.advance(TimeDelta::days(23));
    housekeeping::sweep(app.db()).await.unwrap();
    assert_eq!(stored("IS NULL").await, 0);
    // Another organization keeps its own as long as it says itself.
    app.advance(TimeDelta::days(58));
    let olga = olga.again().await;
    let theirs = listed(&olga, &of_olga, json!(null)).await.ok();
    assert_eq!(theirs.data("/organization/loginActivity/totalCount"), 2);
    app.advance(TimeDelta::days(2));
    assert_eq!(housekeeping::sweep(app.db()).await.unwrap().activity, 1);
}

async fn nobody_fills_the_disk_with_refusals(app: App) {
    let ada = app.set_up().await;
    forget(&app).await;
    let try_many = async |email: &str, times: usize| {
        for _ in 0..times {
            sign_in_from(&app, "192.0.2.1", email, WRONG).await.refused("INVALID_CREDENTIALS");
        }
    };
    try_many(&ada.email, 63).await;
    assert_eq!(app.number("SELECT count(*) FROM login_activity").await, 60);
    try_many("zoe@example.org", 3).await;
    assert_eq!(app.number("SELECT count(*) FROM login_activity WHERE user_id IS NULL").await, 3);
    // A sign-in is always written down, and an hour later so is what fails.
    ada.again().await;
    assert_eq!(example(&ada).await[0], "LOGIN ada");
    app.advance(TimeDelta::hours(1) + TimeDelta::seconds(1));
    try_many(&ada.email, 1).await;
    assert_eq!(app.number("SELECT count(*) FROM login_activity WHERE code = 'WRONG_PASSWORD'").await, 61);
}
