//! Connections that send slowly, or nothing, and how many there may be. No database decides anything here.

use std::time::{Duration, Instant};

use guildhall_tests::{
    App, Environment,
    databases::{self, Engine},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(20);
const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

fn with(change: impl FnOnce(&mut Environment), test: impl AsyncFnOnce(App)) {
    databases::run(Engine::Sqlite, async |engine| App::start_with(engine, change).await, test);
}

async fn connect(app: &App) -> TcpStream {
    TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap()
}

async fn say(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).await.unwrap();
}

/// The first piece of what is answered; empty: the connection was closed.
async fn heard(stream: &mut TcpStream) -> String {
    let mut piece = vec![0; 4096];
    let read =
        timeout(PATIENCE, stream.read(&mut piece)).await.expect("the connection stays open and silent");
    String::from_utf8_lossy(&piece[..read.unwrap_or(0)]).into_owned()
}

#[test]
fn a_head_that_never_ends_is_cut_off_and_so_is_silence() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_REQUEST_HEAD_SECONDS", 2);
        },
        async |app| {
            let (mut silent, mut half, mut idle) =
                (connect(&app).await, connect(&app).await, connect(&app).await);
            say(&mut half, b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-le").await;
            say(&mut idle, WHOLE).await;
            assert!(heard(&mut idle).await.starts_with("HTTP/1.1 200"));
            // A byte now and then is no reason to wait longer.
            for _ in 0..3 {
                sleep(Duration::from_millis(500)).await;
                say(&mut half, b"n").await;
            }
            for (stream, what) in [(&mut silent, "silent"), (&mut half, "half"), (&mut idle, "idle")] {
                let last = heard(stream).await;
                assert!(last.is_empty() || last.starts_with("HTTP/1.1 408"), "{what}: {last}");
                assert_eq!(heard(stream).await, "", "{what}");
            }
        },
    );
}

#[test]
fn a_connection_in_use_is_not_cut_off() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_REQUEST_HEAD_SECONDS", 2);
        },
        async |app| {
            let mut busy = connect(&app).await;
            for _ in 0..6 {
                say(&mut busy, WHOLE).await;
                assert!(heard(&mut busy).await.starts_with("HTTP/1.1 200"));
                sleep(Duration::from_millis(700)).await;
            }
            // Nor is an answer that takes its time.
            let ada = app.set_up().await;
            let mut watching = connect(&app).await;
            let body = r#"{"query":"subscription { viewerInvitationChanged { status } }"}"#;
            let token = ada.access_token.as_deref().unwrap();
            let request = format!(
                "POST /graphql/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            say(&mut watching, request.as_bytes()).await;
            assert!(heard(&mut watching).await.starts_with("HTTP/1.1 200"));
            let silence = async { while !heard(&mut watching).await.is_empty() {} };
            assert!(timeout(Duration::from_secs(5), silence).await.is_err(), "the stream was cut off");
        },
    );
}

#[test]
fn whoever_comes_when_all_places_are_taken_waits_for_one() {
    with(
        |env| {
            env.set("GUILDHALL_LIMITS_CONNECTIONS", 10).set("GUILDHALL_LIMITS_SOCKETS", 5);
            env.set("GUILDHALL_LIMITS_REQUEST_HEAD_SECONDS", 3);
        },
        async |app| {
            let began = Instant::now();
            let mut taken = Vec::new();
            for _ in 0..10 {
                let mut stream = connect(&app).await;
                say(&mut stream, WHOLE).await;
                assert!(heard(&mut stream).await.starts_with("HTTP/1.1 200"));
                taken.push(stream);
            }
            let mut late = connect(&app).await;
            say(&mut late, WHOLE).await;
            assert!(heard(&mut late).await.starts_with("HTTP/1.1 200"), "whoever waited was forgotten");
            assert!(began.elapsed() > Duration::from_secs(2), "there was a place for an eleventh");
        },
    );
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    with(
        |_| {},
        async |app| {
            let mut half = connect(&app).await;
            say(&mut half, b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
                .await;
            sleep(Duration::from_secs(15)).await;
            let answer = heard(&mut half).await;
            assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
            assert!(answer.contains("did not come to its end in time"), "{answer}");
        },
    );
}
