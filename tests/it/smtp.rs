//! The way of a mail through a real SMTP server, in good and bad weather.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    mail::{InvitationLetter, InvitedWorkspace, Letter},
    seams::{IdGen as _, System},
};
use guildhall_server::mail::{
    Letterhead, Mailer, Outgoing, SendError, SmtpConfig, SmtpConfigError, SmtpMailer, Templates, TlsMode,
};
use guildhall_tests::mailbox::{Encryption, Fault, MailServer};
use secrecy::SecretString;
use url::Url;

fn letterhead() -> Letterhead {
    Letterhead::new(
        "Gildenhaus Zürich <guildhall@example.com>",
        &Url::parse("https://guild.example").expect("it works"),
    )
    .expect("it works")
}

fn config(server: &MailServer, tls: TlsMode) -> SmtpConfig {
    SmtpConfig {
        host: MailServer::HOST.into(),
        port: server.port(),
        tls,
        force_plaintext: false,
        user: None,
        password: None,
        ca_file: None,
        timeout: Duration::from_secs(2),
    }
}

fn mailer(config: SmtpConfig) -> SmtpMailer {
    SmtpMailer::new(config, letterhead()).expect("it works")
}

fn plain(server: &MailServer) -> SmtpMailer {
    mailer(config(server, TlsMode::None))
}

fn with_password(
    server: &MailServer,
    tls: TlsMode,
    ca: &tempfile::NamedTempFile,
    password: &str,
) -> SmtpMailer {
    mailer(SmtpConfig {
        user: Some("guild".into()),
        password: Some(SecretString::from(password)),
        ca_file: Some(ca.path().to_owned()),
        ..config(server, tls)
    })
}

fn ca_file(server: &MailServer) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("it works");
    std::fs::write(file.path(), server.ca_pem()).expect("it works");
    file
}

fn invitation(to: &str) -> Outgoing {
    let letter = Letter::Invitation(InvitationLetter {
        recipient_email: to.into(),
        inviter_name: "Ann Émile".into(),
        inviter_email: "ann@example.com".into(),
        organization_name: "Acme".into(),
        organization_role: None,
        workspaces: vec![InvitedWorkspace { display_name: "Research".into(), role_name: "Viewer".into() }],
        link: "https://guild.example/invitations/abc_DEF-123".into(),
        expires_at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(7),
        message: Some(".\nA line of one dot must not end the mail".into()),
    });
    Outgoing {
        id: System.fresh(),
        date: DateTime::UNIX_EPOCH,
        to: to.into(),
        content: Templates::load("Guildhall", None).expect("it works").render(&letter).expect("it works"),
    }
}

#[tokio::test]
async fn an_invitation_arrives_whole() {
    let server = MailServer::start().await;
    let mail = invitation("ben+work@example.com");
    plain(&server).send(&mail).await.unwrap();
    let arrived = server.wait_for("ben+work@example.com").await;
    assert_eq!(arrived.from, "guildhall@example.com");
    assert_eq!(arrived.to, ["ben+work@example.com"]);
    assert_eq!(arrived.subject(), "Ann Émile invited you to Research");
    assert_eq!(arrived.link(), "https://guild.example/invitations/abc_DEF-123");
    assert_eq!(arrived.message_id(), format!("{}@guild.example", mail.id));
    assert!(arrived.text().contains("must not end the mail"), "{}", arrived.text());
    assert!(arrived.html().contains("See the invitation</a>"));
    assert!(!arrived.encrypted);
}

#[tokio::test]
async fn starttls_and_sign_in_work_with_an_own_authority() {
    let server = MailServer::start_with(Encryption::StartTls, Some(("guild", "pass word"))).await;
    let ca = ca_file(&server);
    with_password(&server, TlsMode::StartTls, &ca, "pass word")
        .send(&invitation("ben@example.com"))
        .await
        .unwrap();
    let arrived = server.wait_for("ben@example.com").await;
    assert!(arrived.encrypted);
    assert_eq!(arrived.user.as_deref(), Some("guild"));
}

#[tokio::test]
async fn tls_from_the_first_byte_works_with_an_own_authority() {
    let server = MailServer::start_with(Encryption::Tls, Some(("guild", "pass word"))).await;
    let ca = ca_file(&server);
    with_password(&server, TlsMode::Tls, &ca, "pass word")
        .send(&invitation("ben@example.com"))
        .await
        .unwrap();
    assert!(server.wait_for("ben@example.com").await.encrypted);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    for (encryption, tls) in [(Encryption::StartTls, TlsMode::StartTls), (Encryption::Tls, TlsMode::Tls)] {
        let server = MailServer::start_with(encryption, None).await;
        let error = mailer(config(&server, tls)).send(&invitation("ben@example.com")).await.unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("secure connection"), "{error}");
        assert!(server.messages().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_mail_when_tls_is_required() {
    let server = MailServer::start().await;
    let error =
        mailer(config(&server, TlsMode::StartTls)).send(&invitation("ben@example.com")).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(server.messages().is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_tried_again_and_never_shown() {
    let server = MailServer::start_with(Encryption::StartTls, Some(("guild", "right"))).await;
    let ca = ca_file(&server);
    let mailer = with_password(&server, TlsMode::StartTls, &ca, "wr0ng-secret");
    let error = mailer.send(&invitation("ben@example.com")).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("535"), "{error}");
    assert!(!format!("{error:?}").contains("wr0ng-secret"));
}

#[tokio::test]
async fn a_recipient_refused_for_now_is_tried_again() {
    let server = MailServer::start().await;
    let mailer = plain(&server);
    server.fault(Fault::Recipient(451, "4.7.1 greylisted, come back".into())).await;
    let mail = invitation("ben@example.com");
    let error = mailer.send(&mail).await.unwrap_err();
    assert_eq!(
        error,
        SendError::Transient("The mail server answered: 451 4.7.1 greylisted, come back".into())
    );
    server.fault(Fault::None).await;
    mailer.send(&mail).await.unwrap();
    assert_eq!(server.messages().len(), 1);
}

#[tokio::test]
async fn a_recipient_refused_for_ever_is_given_up() {
    let server = MailServer::start().await;
    server.fault(Fault::Recipient(550, format!("5.1.1 no such\u{7} user {}", "x".repeat(400)))).await;
    let error = plain(&server).send(&invitation("nobody@example.com")).await.unwrap_err();
    assert!(
        matches!(&error, SendError::Permanent(text) if text.starts_with("The mail server answered: 550 5.1.1 no such user")),
        "{error:?}"
    );
    assert_eq!(error.to_string().chars().count(), SendError::MAX_CHARS);
    assert!(!error.to_string().contains('\u{7}'));
}

#[tokio::test]
async fn a_server_that_is_down_and_comes_back_gets_the_mail() {
    let server = MailServer::start().await;
    let mailer = plain(&server);
    mailer.send(&invitation("first@example.com")).await.unwrap();
    server.fault(Fault::Refuse).await;
    let mail = invitation("ben@example.com");
    let error = mailer.send(&mail).await.unwrap_err();
    assert_eq!(error, SendError::Transient("The mail server refused the connection.".into()));
    server.fault(Fault::None).await;
    mailer.send(&mail).await.unwrap();
    server.wait_for("ben@example.com").await;
}

#[tokio::test]
async fn a_lost_acknowledgement_makes_a_duplicate_with_the_same_message_id() {
    let server = MailServer::start().await;
    let mailer = plain(&server);
    let mail = invitation("ben@example.com");
    server.fault(Fault::DropAfterData).await;
    let error = mailer.send(&mail).await.unwrap_err();
    assert_eq!(error, SendError::Transient("The mail server broke off, or did not speak SMTP.".into()));
    server.fault(Fault::None).await;
    mailer.send(&mail).await.unwrap();
    let arrived = server.messages();
    assert_eq!(arrived.len(), 2);
    assert_eq!(arrived[0].message_id(), arrived[1].message_id());
}

#[tokio::test]
async fn a_silent_server_does_not_hold_the_mailer() {
    let server = MailServer::start().await;
    let mailer = mailer(SmtpConfig { timeout: Duration::from_millis(100), ..config(&server, TlsMode::None) });
    server.fault(Fault::Silence).await;
    let error = mailer.send(&invitation("ben@example.com")).await.unwrap_err();
    assert_eq!(error, SendError::Transient("The mail server did not answer in time.".into()));
    server.fault(Fault::None).await;
    mailer.send(&invitation("ben@example.com")).await.unwrap();
}

/// The connection that was given up in the middle of a conversation must not be used for the next mail.
#[tokio::test]
async fn a_server_that_falls_silent_after_the_message_does_not_spoil_the_next_one() {
    let server = MailServer::start().await;
    let mailer = mailer(SmtpConfig { timeout: Duration::from_millis(100), ..config(&server, TlsMode::None) });
    server.fault(Fault::SilenceAfterData).await;
    let mail = invitation("ben@example.com");
    let error = mailer.send(&mail).await.unwrap_err();
    assert_eq!(error, SendError::Transient("The mail server did not answer in time.".into()));
    server.fault(Fault::None).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    mailer.send(&mail).await.unwrap();
    let arrived = server.messages();
    assert_eq!(arrived.len(), 2);
    assert_eq!(arrived[0].message_id(), arrived[1].message_id());
}

#[tokio::test]
async fn one_connection_carries_several_mails() {
    let server = MailServer::start().await;
    let mailer = plain(&server);
    for number in 0..3 {
        mailer.send(&invitation(&format!("ben{number}@example.com"))).await.unwrap();
        // The pool takes a connection back in a task of its own.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((server.messages().len(), server.connections()), (3, 1));
}

#[tokio::test]
async fn an_address_the_server_cannot_write_is_given_up() {
    let server = MailServer::start().await;
    let mailer = plain(&server);
    let error = mailer.send(&invitation("bén@example.com")).await.unwrap_err();
    assert!(matches!(error, SendError::Permanent(_)), "{error:?}");
    mailer.send(&invitation("ben@bücher.example")).await.unwrap();
    server.wait_for("ben@xn--bcher-kva.example").await;
}

#[tokio::test]
async fn a_faulty_configuration_is_explained() {
    let server = MailServer::start().await;
    let why = |config| {
        SmtpMailer::new(config, letterhead()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let base = || config(&server, TlsMode::StartTls);
    let remote = |force_plaintext| SmtpConfig {
        host: "mail.example.com".into(),
        tls: TlsMode::None,
        force_plaintext,
        ..base()
    };
    assert!(why(remote(false)).contains("starttls"));
    assert_eq!(why(remote(true)), "");
    for loopback in ["localhost", "127.0.0.1", "::1", "LOCALHOST"] {
        assert_eq!(why(SmtpConfig { host: loopback.into(), tls: TlsMode::None, ..base() }), "");
    }
    assert!(why(SmtpConfig { host: " ".into(), ..base() }).contains("empty"));
    assert!(why(SmtpConfig { user: Some("guild".into()), ..base() }).contains("both or neither"));
    assert!(
        why(SmtpConfig { ca_file: Some(PathBuf::from("missing.pem")), ..base() }).contains("missing.pem")
    );
    let not_pem = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(not_pem.path(), "hello").unwrap();
    let ca_file = Some(not_pem.path().to_owned());
    assert!(matches!(
        SmtpMailer::new(SmtpConfig { ca_file, ..base() }, letterhead()),
        Err(SmtpConfigError::CaInvalid(_))
    ));
}
