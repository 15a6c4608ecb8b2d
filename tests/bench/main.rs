//! `just bench`: what a request costs. Starts the real `guildhall` next to this program on SQLite and on a
//! PostgreSQL of its own, fills it with `guildhall seed`, and measures CPU time, memory and fan-out from outside.
//!
//! Knows the targets and prints a table; refuses to judge: a busy machine is no defect.

mod baseline;
mod client;
mod load;
mod process;
mod report;
mod subscribers;

use std::{
    env,
    error::Error,
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use guildhall_tests::databases::{
    Engine,
    cluster::{Binaries, Cluster, Purpose},
};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::signal::unix::{SignalKind, signal};

use client::Connection;
use load::{Load, Scenario};
use process::{Server, Setup};
use report::Report;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The whole never takes longer; it stops with what it started if it would.
const LIMIT: Duration = Duration::from_secs(235);
/// Of everybody that `guildhall seed` makes up.
const PASSWORD: &str = "correct horse battery staple 42";
/// User *n* is the Admin of workspace *n*: that many pairs take part.
const PAIRS: usize = 100;
const VIEWER: &str = "rol_00000000000070008000000000000001";
const ADMIN: &str = "rol_00000000000070008000000000000003";

const OVERVIEW: &str = "query Overview($name: String!) { workspace(name: $name) { name displayName \
    countries { code name } viewerRole { key } \
    members(first: 10) { totalCount nodes { principal { ... on User { displayName email } } } } \
    invitations(status: [PENDING]) { totalCount } } }";
const CHECK: &str =
    "query Check($name: String!) { workspace(name: $name) { can(permission: MEMBERS_INVITE) } }";
const INVITE: &str = "mutation Invite($input: InviteMemberInput!) { inviteMember(input: $input) { \
    invitation { id email status delivery } userErrors { code message } } }";
const SIGN_IN: &str = "mutation SignIn($input: SignInInput!) { signIn(input: $input) { \
    session { accessToken refreshToken } userErrors { code message } } }";
const IDENTIFY: &str = "query Id($name: String!) { workspace(name: $name) { id } }";
const TEAM: &str = "query Team($name: String!) { workspace(name: $name) { id \
    members(first: 10) { nodes { id principal { ... on User { email } } } } } }";
const PROMOTE: &str = "mutation Promote($input: UpdateMemberRoleInput!) { updateMemberRole(input: $input) { \
    member { id } userErrors { code message } } }";
const WATCH: &str = "subscription Watch($workspace: ID!) { invitationStatusChanged(workspaceId: $workspace) { \
    cursor status invitation { id email status delivery role { key } } } }";

const HELP: &str = "Usage: bench [sqlite] [postgres] [--seconds N] [--connections N]

Measures `guildhall` beside this program (or GUILDHALL_BIN) on the named databases, else on both:
three rounds of N seconds (default 3) over N connections (default 8) for each kind of request.";

/// What was asked for on the command line.
struct Options {
    engines: Vec<Engine>,
    load: Load,
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let mut options =
            Self { engines: Vec::new(), load: Load { connections: 8, round: Duration::from_secs(3) } };
        let mut arguments = arguments;
        let number = |name: &str, value: Option<String>| {
            let number = value.as_deref().and_then(|value| value.parse::<u16>().ok());
            number.filter(|number| *number > 0).ok_or_else(|| format!("{name} needs a number above 0"))
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "sqlite" => options.engines.push(Engine::Sqlite),
                "postgres" => options.engines.push(Engine::Postgres),
                "--seconds" => {
                    options.load.round = Duration::from_secs(number(&argument, arguments.next())?.into());
                }
                "--connections" => {
                    options.load.connections = number(&argument, arguments.next())?.into();
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        if options.engines.is_empty() {
            options.engines = vec![Engine::Sqlite, Engine::Postgres];
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    if let [_, command, address, url] = env::args().collect::<Vec<_>>().as_slice()
        && command == "baseline"
    {
        let served = address.parse().map_err(Into::into).and_then(|address| baseline::serve(address, url));
        return served.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let options = match Options::read(env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("{fault}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match raise_file_limit().map_err(Into::into).and_then(|()| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A thousand sockets need more open files than many systems allow at first: starts this program anew under a
/// higher limit, which the servers inherit.
fn raise_file_limit() -> io::Result<()> {
    const RAISED: &str = "GUILDHALL_BENCH_FILE_LIMIT_RAISED";
    if env::var_os(RAISED).is_some() {
        return Ok(());
    }
    let mut again = Command::new("/bin/sh");
    again.args(["-c", r#"ulimit -n 8192 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@""#, "sh"]);
    Err(again.arg(env::current_exe()?).args(env::args_os().skip(1)).env(RAISED, "1").exec())
}

fn run(options: &Options) -> Result<()> {
    // One thread: what drives the load should take as little of the machine as it can.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut report = Report::begin();
        let all = async {
            for engine in &options.engines {
                measure(*engine, &options.load, &mut report)
                    .await
                    .map_err(|error| format!("{engine}: {error}"))?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        };
        // Whatever ends it, what was started is stopped and removed as the values that hold it go.
        let mut ended = signal(SignalKind::terminate())?;
        let done = tokio::select! {
            done = all => done,
            () = tokio::time::sleep(LIMIT) => Err(format!("stopped after {} s", LIMIT.as_secs()).into()),
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = ended.recv() => Err("told to stop".into()),
        };
        println!("{report}");
        done
    })
}

async fn measure(engine: Engine, load: &Load, report: &mut Report) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("guildhall-bench-").tempdir()?;
    let cluster = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => {
            let Some(binaries) = Binaries::find() else {
                eprintln!("{engine}: no server binaries found, left out");
                return Ok(());
            };
            eprintln!("{engine}: starting {}", binaries.version);
            Some(Cluster::start(&binaries, Purpose::Measuring).await)
        }
    };
    // Takes every connection and never says a word, so that mail stays in the queue: this measures the request,
    // not the delivery.
    let mail = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let setup = Setup {
        binary: binary()?,
        directory: directory.path().to_owned(),
        database: cluster.as_ref().map(|cluster| cluster.url.to_string()),
        database_process: cluster.as_ref().map(Cluster::process_id),
        mail_port: mail.local_addr()?.port(),
    };

    let begun = Instant::now();
    let seed = ["seed", "--users", "10000", "--workspaces", "1000", "--members", "20"];
    setup.run_to_end(&["migrate"])?;
    setup.run_to_end(&seed)?;
    report.seconds(
        engine,
        "`seed`: 10,000 users, 1,000 workspaces × 20 members",
        Some(30.0),
        begun.elapsed(),
    );
    if let Some(url) = &setup.database {
        // What autovacuum would do within minutes, now rather than during a measurement.
        let mut connection = sqlx::PgConnection::connect(url).await?;
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await?;
        connection.close().await?;
    }

    let least = match &setup.database {
        Some(url) => least(engine, &setup, url, load, report).await?,
        None => Least::default(),
    };
    requests(engine, &setup, load, &least, report).await?;
    for (users, name) in [(10, "10 users"), (1, "one user")] {
        fan_out(engine, &setup, users, name, report).await?;
    }
    Ok(())
}

/// The server beside this program: built together with it.
fn binary() -> Result<PathBuf> {
    let binary = match env::var_os("GUILDHALL_BIN") {
        Some(path) => PathBuf::from(path),
        None => env::current_exe()?.with_file_name("guildhall"),
    };
    if !binary.is_file() {
        return Err(
            format!("{} is missing: build guildhall-server, or set GUILDHALL_BIN", binary.display()).into()
        );
    }
    Ok(binary)
}

/// What the baseline took for each kind of request; nothing where it was not measured.
#[derive(Default)]
struct Least {
    query: Option<Duration>,
    check: Option<Duration>,
    invite: Option<Duration>,
}

async fn least(engine: Engine, setup: &Setup, url: &str, load: &Load, report: &mut Report) -> Result<Least> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let users = "SELECT u.id FROM users u WHERE u.email LIKE 'user-%' ORDER BY u.email LIMIT $1";
    let users: Vec<uuid::Uuid> =
        sqlx::query_scalar(users).bind(2 * PAIRS as i64).fetch_all(&mut connection).await?;
    connection.close().await?;
    let server = Server::start_baseline(setup, url).await?;
    let ask = |operation: &str, n: usize, email: &str| {
        let (user, name) = (users[n % PAIRS], format!("workspace-{:05}", n % PAIRS + 1));
        client::request(None, operation, &json!({ "name": name, "user": user, "email": email }))
    };
    let fixed = |operation: &str| (0..PAIRS).map(|n| ask(operation, n, "")).collect::<Vec<_>>();
    let mut run = async |what: &str, scenario| {
        let measured = load.run(&server, scenario).await?;
        let least = report::median(&measured.cpu);
        report.cpu(engine, &format!("baseline: {what}"), None, measured, None);
        Ok::<_, Box<dyn Error + Send + Sync>>(least)
    };
    let query = run("query", Scenario::fixed(fixed("query"), r#""totalCount":20"#)).await?;
    let check = run("permission check", Scenario::fixed(fixed("check"), r#""role":""#)).await?;
    let users = users.clone();
    // In other workspaces than those that the server is measured with, which stay as they are.
    let invite = move |n: usize, request: &mut Vec<u8>| {
        let (user, name) = (users[n % PAIRS + PAIRS], format!("workspace-{:05}", n % PAIRS + PAIRS + 1));
        let email = format!("least-{n}@example.com");
        *request = client::request(None, "invite", &json!({ "name": name, "user": user, "email": email }));
    };
    let invite =
        run("`inviteMember`", Scenario { request: Box::new(invite), expect: r#""written":1"# }).await?;
    server.stop()?;
    Ok(Least { query, check, invite })
}

async fn requests(
    engine: Engine,
    setup: &Setup,
    load: &Load,
    least: &Least,
    report: &mut Report,
) -> Result<()> {
    let server = Server::start(setup).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    report.megabytes(engine, "idle process", Some(30.0), server.resident()?);

    let mut admins = Vec::new();
    let mut connection = Connection::open(server.address).await?;
    for n in 1..=PAIRS {
        let token = sign_in(&mut connection, &format!("user-{n:05}@example.org")).await?;
        let name = format!("workspace-{n:05}");
        let found = connection.query(Some(&token), IDENTIFY, json!({ "name": name })).await?;
        let id = text(&found, "/workspace/id")?;
        admins.push(Admin { token, name, id });
    }

    let named = |document: &str| {
        let request =
            |admin: &Admin| client::request(Some(&admin.token), document, &json!({ "name": admin.name }));
        admins.iter().map(request).collect::<Vec<_>>()
    };
    let query = Scenario::fixed(named(OVERVIEW), r#""members":{"totalCount":20"#);
    report.cpu(
        engine,
        "query: workspace, 10 members, counts",
        Some(0.30),
        load.run(&server, query).await?,
        least.query,
    );
    let check = Scenario::fixed(named(CHECK), r#""can":true"#);
    report.cpu(engine, "permission check", Some(0.11), load.run(&server, check).await?, least.check);

    let invite = move |n: usize, request: &mut Vec<u8>| {
        let admin = &admins[n % admins.len()];
        *request = client::request(Some(&admin.token), INVITE, &invitation(&admin.id, &format!("load-{n}")));
    };
    let invite = Scenario { request: Box::new(invite), expect: r#""status":"PENDING""# };
    report.cpu(
        engine,
        "`inviteMember`, committed",
        Some(0.50),
        load.run(&server, invite).await?,
        least.invite,
    );

    let sign_ins = (1..=PAIRS)
        .map(|n| client::request(None, SIGN_IN, &credentials(&format!("user-{n:05}@example.org"))));
    let sign_ins = Scenario::fixed(sign_ins.collect(), r#""accessToken":""#);
    let four = Load { connections: 4, ..*load };
    report.cpu(engine, "`signIn`", None, four.run(&server, sign_ins).await?, None);
    report.megabytes(engine, "resident after those, 4 sign-ins at a time", None, server.resident()?);
    server.stop()
}

struct Admin {
    token: String,
    name: String,
    id: String,
}

/// A thousand subscribers of one workspace, on a server that did nothing else before.
async fn fan_out(engine: Engine, setup: &Setup, users: usize, name: &str, report: &mut Report) -> Result<()> {
    const SUBSCRIBERS: usize = 1000;
    const EVENTS: usize = 20;
    let server = Server::start(setup).await?;
    let mut connection = Connection::open(server.address).await?;
    let token = sign_in(&mut connection, "user-00001@example.org").await?;
    let team = connection.query(Some(&token), TEAM, json!({ "name": "workspace-00001" })).await?;
    let workspace = text(&team, "/workspace/id")?;
    let mut tokens = vec![token.clone()];
    for place in 1..users {
        let member = text(&team, &format!("/workspace/members/nodes/{place}/id"))?;
        let email = text(&team, &format!("/workspace/members/nodes/{place}/principal/email"))?;
        let input = json!({ "input": { "workspaceId": workspace, "memberId": member, "role": ADMIN } });
        connection.query(Some(&token), PROMOTE, input).await?;
        tokens.push(sign_in(&mut connection, &email).await?);
    }

    let before = server.resident()?;
    let watch = json!({ "query": WATCH, "variables": { "workspace": workspace } });
    let subscribers = subscribers::open(server.address, &tokens, SUBSCRIBERS, &watch).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = |before: u64, now: u64| now.saturating_sub(before) as f64 / SUBSCRIBERS as f64 / 1024.0;
    let first = server.resident()?;
    // To open many at once takes memory that is used again and again, and belongs to none of them: what a subscriber
    // takes is what a second thousand adds.
    let more = subscribers::open(server.address, &tokens, SUBSCRIBERS, &watch).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beside = format!("{:.1} KiB in the first thousand, with what opening them took", each(before, first));
    let what = format!("a further subscriber after 1,000 ({name})");
    report.kibibytes(engine, &what, Some(20.0), each(first, server.resident()?), beside);
    drop(more);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut times = Vec::with_capacity(EVENTS);
    let mut cpu = Duration::ZERO;
    for n in 0..=EVENTS {
        let variables = invitation(&workspace, &format!("told-{users}-{n}"));
        let cpu_before = server.cpu()?;
        let sent = Instant::now();
        connection.query(Some(&token), INVITE, variables).await?;
        let told = subscribers.all_told(n + 1).await?;
        // The first one warms up.
        if n > 0 {
            times.push(told.duration_since(sent));
            cpu += server.cpu()?.saturating_sub(cpu_before);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let what = format!("last of 1,000 told ({name}), from sending `inviteMember`");
    report.milliseconds(engine, &what, Some(60.0), &mut times);
    report.cpu_only(engine, &format!("one event for 1,000 ({name})"), cpu / EVENTS as u32);
    drop(subscribers);
    server.stop()
}

async fn sign_in(connection: &mut Connection, email: &str) -> Result<String> {
    let answer = connection.query(None, SIGN_IN, credentials(email)).await?;
    text(&answer, "/signIn/session/accessToken")
}

fn credentials(email: &str) -> Value {
    json!({ "input": { "email": email, "password": PASSWORD } })
}

fn invitation(workspace: &str, who: &str) -> Value {
    json!({ "input": { "workspaceId": workspace, "email": format!("{who}@example.com"), "role": VIEWER } })
}

fn text(answer: &Value, pointer: &str) -> Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("the answer has nothing at {pointer}: {answer}"))?.to_owned())
}
