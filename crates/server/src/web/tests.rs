//! The pages as a browser meets them: each test sends requests to the routes over a fresh SQLite database.

use std::{num::NonZeroU32, time::Duration};

use axum::{
    body::Body,
    http::{Method, Request},
};
use chrono::TimeDelta;
use futures_util::FutureExt;
use guildhall_domain::second_factor::Typed;
use guildhall_domain::{
    access::{Open, SystemRole},
    ids::{InvitationId, WorkspaceId},
    mail::Letter,
    seams::{self, ShiftedClock},
    text::{DisplayName, Email, ImageRef, Message},
};
use guildhall_graphql::Rates;
use guildhall_persistence::{
    Hasher, KeyMaterial, Keys, Options, Seams, Settings, accounts,
    invitations::{self, Invitee, Who},
    mails, members, migrate,
    sessions::SignedIn,
};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::{dns::Dns, outbound::Outbound};

const PASSWORD: &str = "seven purple kettles whistle";
const FORM: &str = "application/x-www-form-urlencoded";

struct Site {
    db: Db,
    clock: Arc<ShiftedClock>,
    router: Router,
    _directory: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    html: String,
}

/// The first account, signed in.
struct Admin {
    actor: Actor,
    workspace: WorkspaceId,
}

fn open() -> Open {
    #[expect(clippy::disallowed_methods, reason = "a test stands in for the routes of the API")]
    Open::because("a test")
}

impl Site {
    async fn start() -> Self {
        Self::with_rate(10_000).await
    }

    async fn with_rate(per_minute: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new(format!("sqlite://{}/test.db", directory.path().display()));
        migrate(&options).await.unwrap();
        let keys = Keys::new(&KeyMaterial {
            access_secret: "access access access access access",
            refresh_secret: "refresh refresh refresh refresh refresh",
            token_hash_secret: "hash hash hash hash hash hash hash hash",
            master_key: &[7; 32],
            previous_master_keys: Vec::new(),
            issuer: "guildhall",
            audience: "guildhall",
            access_lifetime: TimeDelta::minutes(10),
            refresh_lifetime: TimeDelta::days(30),
        });
        let clock = Arc::new(ShiftedClock::default());
        let seams = Seams { clock: Arc::<ShiftedClock>::clone(&clock), ids: Arc::new(seams::System) };
        let settings = Settings {
            app_url: "https://app.example.org".into(),
            invitation_hours: 24,
            refresh_grace: TimeDelta::seconds(10),
            password_reset: TimeDelta::minutes(30),
            lockout: Default::default(),
            open_organizations: false,
            default_image: ImageRef::from_stored("python:3".to_owned()),
        };
        let db = Db::connect(options, seams, keys, Hasher::new(1, 2).unwrap(), settings).await.unwrap();
        let rate = NonZeroU32::new(per_minute).unwrap();
        let rates = Rates {
            sign_in_per_minute: rate,
            tokens_per_minute: NonZeroU32::new(per_minute.saturating_mul(2)).unwrap(),
            invitations_per_hour: rate,
            invitations_per_hour_per_workspace: rate,
            invitations_per_hour_per_ip: rate,
            invitations_per_hour_per_recipient: rate,
        };
        let router = router(Arc::new(Web {
            db: db.clone(),
            pages: Pages::new("Guildhall").unwrap(),
            throttle: Arc::new(Throttle::new(&rates)),
            app_url: "https://app.example.org".into(),
            trust_proxy: false,
            single_sign_on: Arc::new(SingleSignOn::new(
                Outbound::new(Vec::new(), None).unwrap(),
                Dns::new(&[]),
                "https://app.example.org",
                Vec::new(),
            )),
            playground: true,
        }));
        Self { db, clock, router, _directory: directory }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let html = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        // The templates' engine escapes slashes too, which only clutters what the tests look for.
        let html = html.replace("&#x2f;", "/");
        Answer { status: parts.status, headers: parts.headers, html }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(path).header(header::CONTENT_TYPE, FORM).body(Body::from(body));
        self.send(request.unwrap()).await
    }

    async fn set_up(&self) -> Admin {
        let new = accounts::NewUser {
            email: Email::parse("ann@example.org").unwrap(),
            display_name: DisplayName::parse("Ann").unwrap(),
            password: PASSWORD.into(),
        };
        let token = self.db.keys().setup_token();
        let acme = DisplayName::parse("Acme & Sons").unwrap();
        let (proof, device) = (open(), Device::default());
        let made = accounts::set_up(&self.db, &proof, &token, &new, &acme, &device).await;
        let made = made.unwrap_or_else(|_| panic!("set up"));
        Admin { actor: made.session.actor, workspace: made.workspace.id }
    }

    /// Invites, and answers the path of the link in the mail.
    async fn invite(&self, admin: &Admin, email: &str) -> (String, InvitationId) {
        let standing = self.db.standing(admin.actor, admin.workspace).await.unwrap();
        let invitee = Invitee {
            who: Who::Email(Email::parse(email).unwrap()),
            role: SystemRole::Viewer.id(),
            membership_expires_at: None,
            message: Some(Message::parse("Come <b>in</b>\n\nand stay").unwrap()),
        };
        let proof = standing.access.grant().unwrap();
        let invitation = invitations::invite(&self.db, &proof, &invitee).await.unwrap();
        let mail = mails::claim(&self.db, 1).await.unwrap().pop().unwrap();
        mails::ack(&self.db, &mail.claim).await.unwrap();
        let Letter::Invitation(letter) = mail.letter.unwrap() else { panic!("an invitation") };
        (letter.link.strip_prefix("https://app.example.org").unwrap().to_owned(), invitation.id)
    }

    async fn sign_in(&self, email: &str) -> SignedIn {
        let email = Email::parse(email).unwrap();
        let device = Device::default();
        let signed_in =
            accounts::sign_in(&self.db, &open(), Some(&email), PASSWORD, &Typed::Nothing, &device).await;
        signed_in.unwrap_or_else(|_| panic!("sign in")).1
    }

    /// How many sessions the person has, this check's own apart.
    async fn sessions_of(&self, email: &str) -> u64 {
        let proof = self.db.own_session(self.sign_in(email).await.actor).await.unwrap();
        let live = sessions::count_live(&self.db, &proof).await.unwrap();
        sessions::sign_out(&self.db, &proof).await.unwrap();
        live - 1
    }
}

impl Answer {
    #[track_caller]
    fn shows(&self, status: StatusCode, texts: &[&str]) {
        assert_eq!(self.status, status, "{}", self.html);
        for text in texts {
            assert!(self.html.contains(text), "no {text} in {}", self.html);
        }
        assert!(!self.html.contains(PASSWORD));
    }
}

#[tokio::test]
async fn the_set_up_link_makes_the_first_account_once_and_leaves_no_session() {
    let site = Site::start().await;
    let token = site.db.keys().setup_token();
    site.get("/").await.shows(StatusCode::OK, &["set-up link", "href=\"/playground\""]);
    site.get("/setup?token=wrong").await.shows(StatusCode::FORBIDDEN, &["This link is not valid"]);
    site.get("/setup").await.shows(StatusCode::FORBIDDEN, &[]);
    let form = site.get(&format!("/setup?token={token}")).await;
    form.shows(StatusCode::OK, &["action=\"/setup\"", &format!("value=\"{token}\"")]);

    let names = [("organization_name", "Acme <i>"), ("display_name", "Ann"), ("email", "ann@example.org")];
    let with = |token: &'static str| [("token", token)];
    let stranger =
        site.post("/setup", &[&names[..], &with("wrong"), &[("password", PASSWORD)]].concat()).await;
    stranger.shows(StatusCode::FORBIDDEN, &["This link is not valid"]);
    let fields = [&names[..], &[("token", &token)]].concat();
    let weak = site.post("/setup", &[&fields[..], &[("password", "ann")]].concat()).await;
    weak.shows(
        StatusCode::UNPROCESSABLE_ENTITY,
        &["Use at least 8 characters.", "harder to guess", "Acme &lt;i&gt;", "value=\"ann@example.org\""],
    );
    let empty = site.post("/setup", &[("token", &token), ("email", "ann")]).await;
    empty.shows(
        StatusCode::UNPROCESSABLE_ENTITY,
        &["The organization is empty", "Your name is empty", "The address must have exactly one @"],
    );
    let done = site.post("/setup", &[&fields[..], &[("password", PASSWORD)]].concat()).await;
    done.shows(StatusCode::OK, &["Guildhall is ready", "Acme &lt;i&gt;", "https://app.example.org"]);
    let late = site.post("/setup", &[&fields[..], &[("password", PASSWORD)]].concat()).await;
    late.shows(StatusCode::OK, &["Already set up"]);
    site.get(&format!("/setup?token={token}")).await.shows(StatusCode::OK, &["Already set up"]);
    assert!(!site.get("/").await.html.contains("set-up link"));
    assert_eq!(site.sessions_of("ann@example.org").await, 0);
}

#[tokio::test]
async fn registering_through_the_link_accepts_and_leaves_no_session() {
    let site = Site::start().await;
    let admin = site.set_up().await;
    let (link, _) = site.invite(&admin, "ben@example.com").await;
    site.get(&link).await.shows(
        StatusCode::OK,
        &[
            "Ann invites you to Acme &amp; Sons",
            "Viewer",
            "b•••@e•••.com",
            "Come &lt;b&gt;in&lt;/b&gt;",
            "and stay",
        ],
    );
    let register = |name, password| [("intent", "register"), ("display_name", name), ("password", password)];
    let nameless = site.post(&link, &register(" ", PASSWORD)).await;
    nameless.shows(StatusCode::UNPROCESSABLE_ENTITY, &["Your name is empty"]);
    let weak = site.post(&link, &register("Ben \"B\"", "ben")).await;
    weak.shows(
        StatusCode::UNPROCESSABLE_ENTITY,
        &["Use at least 8 characters.", "harder to guess", "value=\"Ben &quot;B&quot;\""],
    );
    let welcome = site.post(&link, &register("Ben", PASSWORD)).await;
    welcome.shows(StatusCode::OK, &["Welcome!", "<strong>Acme &amp; Sons</strong>"]);
    assert!(welcome.headers.get(header::SET_COOKIE).is_none());

    let again = site.post(&link, &register("Ben", PASSWORD)).await;
    again.shows(StatusCode::CONFLICT, &["already answered"]);
    site.get(&link).await.shows(StatusCode::OK, &["already answered"]);
    assert_eq!(site.sessions_of("ben@example.com").await, 0);
    let ben = site.sign_in("ben@example.com").await.actor;
    assert!(site.db.standing(ben, admin.workspace).await.is_ok());
}

#[tokio::test]
async fn whoever_has_an_account_signs_in_to_accept_and_leaves_no_session() {
    let site = Site::start().await;
    let admin = site.set_up().await;
    let (first, _) = site.invite(&admin, "ben@example.com").await;
    let register = [("intent", "register"), ("display_name", "Ben"), ("password", PASSWORD)];
    site.post(&first, &register).await.shows(StatusCode::OK, &["Welcome!"]);
    let ben = site.sign_in("ben@example.com").await.actor;
    let proof = site.db.own_session(ben).await.unwrap();
    let standing = site.db.standing(ben, admin.workspace).await.unwrap();
    members::leave(&site.db, &standing.access.grant().unwrap()).await.unwrap();
    sessions::sign_out(&site.db, &proof).await.unwrap();
    let (link, _) = site.invite(&admin, "ben@example.com").await;

    site.post(&link, &register).await.shows(
        StatusCode::UNPROCESSABLE_ENTITY,
        &["has an account already", "<details class=\"other\" open>", "value=\"Ben\""],
    );
    let sign_in = |email, password| [("intent", "sign_in"), ("email", email), ("password", password)];
    let wrong = site.post(&link, &sign_in("ben@example.com", "not my password")).await;
    wrong.shows(StatusCode::UNPROCESSABLE_ENTITY, &["do not belong together", "value=\"ben@example.com\""]);
    let unknown = site.post(&link, &sign_in("nobody@example.com", "not my password")).await;
    assert_eq!(unknown.html.replace("nobody@", "ben@"), wrong.html);
    let garbled = site.post(&link, &sign_in("ben", PASSWORD)).await;
    garbled.shows(StatusCode::UNPROCESSABLE_ENTITY, &["The address must have exactly one @"]);
    let other = site.post(&link, &sign_in("ann@example.org", PASSWORD)).await;
    other.shows(StatusCode::UNPROCESSABLE_ENTITY, &["This invitation is for b•••@e•••.com"]);
    assert_eq!(site.sessions_of("ann@example.org").await, 1, "set-up's own");

    site.post(&link, &sign_in("Ben@Example.com", PASSWORD)).await.shows(StatusCode::OK, &["Welcome!"]);
    assert_eq!(site.sessions_of("ben@example.com").await, 0);
}

#[tokio::test]
async fn a_browser_that_goes_away_leaves_no_session_behind() {
    let site = Site::start().await;
    let admin = site.set_up().await;
    let (link, _) = site.invite(&admin, "ben@example.com").await;
    let register = [("intent", "register"), ("display_name", "Ben"), ("password", PASSWORD)];
    assert!(site.post(&link, &register).now_or_never().is_none(), "dropped while the password is hashed");
    let settled = async {
        while !site.get(&link).await.html.contains("already answered") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while site.sessions_of("ben@example.com").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap();
}

#[tokio::test]
async fn an_invitation_is_declined_with_the_link_alone() {
    let site = Site::start().await;
    let admin = site.set_up().await;
    let (link, _) = site.invite(&admin, "ben@example.com").await;
    let unclear = site.post(&link, &[("intent", "accept")]).await;
    unclear.shows(StatusCode::BAD_REQUEST, &["use one of its buttons"]);
    site.post(&link, &[("intent", "decline")]).await.shows(StatusCode::OK, &["You declined"]);
    site.post(&link, &[("intent", "decline")]).await.shows(StatusCode::CONFLICT, &["You declined"]);
    site.get(&link).await.shows(StatusCode::OK, &["You declined"]);
}

#[tokio::test]
async fn what_is_over_says_so_and_takes_no_answer() {
    let site = Site::start().await;
    let admin = site.set_up().await;
    let register = [("intent", "register"), ("display_name", "Ben"), ("password", PASSWORD)];

    let (revoked, id) = site.invite(&admin, "cy@example.com").await;
    let standing = site.db.standing(admin.actor, admin.workspace).await.unwrap();
    invitations::revoke(&site.db, &standing.access.grant().unwrap(), id).await.unwrap();
    site.get(&revoked).await.shows(StatusCode::OK, &["no longer applies"]);
    site.post(&revoked, &register).await.shows(StatusCode::CONFLICT, &["no longer applies"]);

    let (late, _) = site.invite(&admin, "ben@example.com").await;
    site.clock.advance(TimeDelta::hours(24));
    site.get(&late).await.shows(StatusCode::OK, &["This invitation has expired"]);
    site.post(&late, &register).await.shows(StatusCode::CONFLICT, &["This invitation has expired"]);
}

#[tokio::test]
async fn without_the_link_nobody_learns_who_has_an_account() {
    let site = Site::start().await;
    site.set_up().await;
    let mut answers = Vec::new();
    for email in ["ann@example.org", "nobody@example.org"] {
        for password in [PASSWORD, "wrong"] {
            let fields = [("intent", "sign_in"), ("email", email), ("password", password)];
            let answer = site.post("/invitations/guess", &fields).await;
            answer.shows(StatusCode::NOT_FOUND, &["This link is not valid"]);
            answers.push(answer.html);
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    for path in ["/invitations/%FF", "/invitations/%00", "/invitations/<script>"] {
        if let Ok(request) = Request::get(path).body(Body::empty()) {
            site.send(request).await.shows(StatusCode::NOT_FOUND, &["This link is not valid"]);
        }
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_and_what_was_typed_stays() {
    let site = Site::with_rate(2).await;
    let admin = site.set_up().await;
    let (link, _) = site.invite(&admin, "ben@example.com").await;
    let fields = [("intent", "sign_in"), ("email", "ben@example.com"), ("password", "wrong")];
    for _ in 0..2 {
        site.post(&link, &fields).await.shows(StatusCode::UNPROCESSABLE_ENTITY, &["do not belong together"]);
    }
    site.post(&link, &fields)
        .await
        .shows(StatusCode::TOO_MANY_REQUESTS, &["Too many tries", "value=\"ben@example.com\""]);
    site.get(&link).await.shows(StatusCode::OK, &[]);
    let refused = site.get(&link).await;
    refused.shows(StatusCode::TOO_MANY_REQUESTS, &["A little slower", "Too many tries"]);
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn only_short_forms_are_read() {
    let site = Site::start().await;
    for path in ["/setup", "/invitations/any"] {
        let long = site.post(path, &[("password", &"x".repeat(20 * 1024))]).await;
        long.shows(StatusCode::PAYLOAD_TOO_LARGE, &["16384 bytes"]);
        for media in ["application/json", "multipart/form-data; boundary=x", "text/plain", ""] {
            let request = Request::post(path).header(header::CONTENT_TYPE, media).body(Body::from("{}"));
            let answer = site.send(request.unwrap()).await;
            answer.shows(StatusCode::UNSUPPORTED_MEDIA_TYPE, &["application/x-www-form-urlencoded"]);
        }
    }
    let charset = Request::post("/setup").header(header::CONTENT_TYPE, format!("{FORM};charset=UTF-8"));
    let answer = site.send(charset.body(Body::from("token=%00&token=x")).unwrap()).await;
    answer.shows(StatusCode::FORBIDDEN, &["This link is not valid"]);
}

#[tokio::test]
async fn every_page_forbids_caching_framing_and_sending_its_address_on() {
    let site = Site::start().await;
    for (method, path, status) in [
        (Method::GET, "/", 200),
        (Method::HEAD, "/", 200),
        (Method::GET, "/setup", 403),
        (Method::HEAD, "/invitations/x", 404),
        (Method::POST, "/setup", 415),
        (Method::DELETE, "/setup", 405),
        (Method::GET, "/wp-login.php", 404),
        (Method::POST, "/nothing/here", 404),
    ] {
        let request = Request::builder().method(&method).uri(path).body(Body::empty()).unwrap();
        let answer = site.send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert_eq!(answer.html.is_empty(), method == Method::HEAD, "{method} {path}");
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("content-security-policy", CONTENT_SECURITY_POLICY),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-robots-tag", "noindex"),
        ] {
            assert_eq!(answer.headers.get(name).unwrap(), value, "{method} {path}");
        }
    }
    let wrong = Request::delete("/setup").body(Body::empty()).unwrap();
    assert_eq!(site.send(wrong).await.headers[header::ALLOW], "GET,HEAD,POST");
}

#[tokio::test]
async fn a_fault_shows_only_the_id_under_which_it_is_logged() {
    let site = Site::start().await;
    site.db.close().await;
    let mut request = Request::get("/invitations/x").body(Body::empty()).unwrap();
    request.extensions_mut().insert(RequestId::accept("req-42").unwrap());
    let answer = site.send(request).await;
    answer.shows(StatusCode::INTERNAL_SERVER_ERROR, &["req-42", "Something went wrong on our side"]);
    for internal in ["sql", "pool", "database", "Connection"] {
        assert!(!answer.html.contains(internal), "{internal}");
    }
}

#[tokio::test]
async fn the_style_sheet_is_kept_and_revalidated() {
    let site = Site::start().await;
    let first = site.get(CSS_PATH).await;
    assert_eq!((first.status, first.html.as_str()), (StatusCode::OK, CSS));
    assert_eq!(first.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    let tag = first.headers[header::ETAG].to_str().unwrap();
    for (known, status) in
        [(tag, 304), (&format!("\"x\", {tag}"), 304), (tag.trim_start_matches("W/"), 304), ("\"x\"", 200)]
    {
        let request = Request::get(CSS_PATH).header(header::IF_NONE_MATCH, known).body(Body::empty());
        assert_eq!(site.send(request.unwrap()).await.status.as_u16(), status, "{known}");
    }
}
