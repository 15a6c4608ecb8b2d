//! Admins sign members out: everywhere, at once, and without learning or setting anything that signs them in.

use std::time::Duration;

use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, actor::PASSWORD, both_databases, subscription::End};
use serde_json::json;

both_databases!(
    App::start,
    a_member_is_signed_out_everywhere_at_once,
    only_owners_sign_owners_out_and_only_admins_anybody,
    who_signs_in_meanwhile_is_signed_out_or_stays,
);

async fn end(by: &Actor, organization: &str, user: &str) -> Answer {
    let input = json!({ "organizationId": organization, "userId": user });
    by.mutate("endMemberSessions", input, "member { user { email } status }").await
}

async fn is_signed_in(actor: &Actor) -> bool {
    !actor.query("{ viewer { user { id } } }", json!({})).await.ok().data("/viewer").is_null()
}

async fn a_member_is_signed_out_everywhere_at_once(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    let phone = eve.again().await;
    let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    let mut changes = phone.subscribe(changes, json!({ "id": lab.id })).await;
    changes.no_event_for(100).await;

    let ended = end(&ada, &organization, &eve.id).await.ok();
    assert_eq!(
        ended.data("/endMemberSessions/member"),
        &json!({ "user": { "email": eve.email }, "status": "ACTIVE" })
    );
    match tokio::time::timeout(Duration::from_secs(2), changes.ended()).await.expect("it ends by itself") {
        End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "UNAUTHENTICATED", "{errors:?}"),
        other => panic!("expected the end of a session, but: {other:?}"),
    }
    for device in [&eve, &phone] {
        assert!(!is_signed_in(device).await);
        let token = json!({ "refreshToken": device.refresh_token });
        app.anonymous().mutate("refreshSession", token, "").await.refused("SESSION_INVALID");
    }
    assert!(is_signed_in(&bob).await && is_signed_in(&ada).await);
    // The password is as it was, and nobody but she knows it.
    assert!(is_signed_in(&Actor::sign_in(&app.url, &eve.email, PASSWORD).await).await);
    // Once more, of somebody who is nowhere signed in, and of oneself.
    end(&ada, &organization, &eve.id).await.ok();
    end(&ada, &organization, &eve.id).await.ok();
    end(&ada, &organization, &ada.id).await.ok();
    assert!(!is_signed_in(&ada).await);
}

async fn only_owners_sign_owners_out_and_only_admins_anybody(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let promote = json!({ "organizationId": organization, "userId": orla.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", promote, "").await.ok();

    end(&adam, &organization, &orla.id).await.denied("FORBIDDEN");
    end(&olga, &organization, &adam.id).await.denied("NOT_FOUND");
    end(&app.anonymous(), &organization, &adam.id).await.denied("UNAUTHENTICATED");
    end(&orla, &organization, &ada.id).await.refused("OWNER_PROTECTED");
    for nobody in [olga.id.as_str(), "usr_0193a1b2c3d47e8f9012345678901234"] {
        end(&ada, &organization, nobody).await.refused("NOT_FOUND");
    }
    for bad in ["", "usr_", &organization, "usr_\u{0}"] {
        let refused = end(&ada, &organization, bad).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["userId"]));
    }
    for person in [&ada, &adam, &orla, &olga] {
        assert!(is_signed_in(person).await, "{person:?}");
    }
    end(&orla, &organization, &adam.id).await.ok();
    end(&ada, &organization, &orla.id).await.ok();
    assert!(!is_signed_in(&adam).await && !is_signed_in(&orla).await);
}

async fn who_signs_in_meanwhile_is_signed_out_or_stays(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    for _ in 0..5 {
        let (ended, signed_in) = tokio::join!(end(&ada, &organization, &eve.id), eve.again());
        ended.ok();
        // One of the two was first; whichever it was, what is told of the session is so.
        let alive = is_signed_in(&signed_in).await;
        let open = format!(
            "SELECT count(*) FROM sessions WHERE ended_at IS NULL AND user_id = {}",
            app.literal(&eve.id)
        );
        assert_eq!(app.number(&open).await, i64::from(alive));
    }
}
