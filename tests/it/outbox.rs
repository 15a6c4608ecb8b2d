//! The event log and its way to the subscribers, on the level of the persistence crate: what clients see of it
//! stands in the tests of the subscriptions.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use guildhall_domain::{
    access::{Actor, Granted, Open, System, SystemRole, WorkspaceAccess, catalog::PermissionType, perm},
    events::{EventKind, Recorded},
    ids::WorkspaceId,
    seams::{self, ShiftedClock},
    text::{DisplayName, Email, ImageRef},
};
use guildhall_persistence::{
    Db, Hasher, KeyMaterial, Keys, Options, Seams, Settings,
    accounts::{self, NewUser},
    events::{self, Feed, Lagged, Topic},
    housekeeping::{self, Swept},
    invitations::{self, Invitation, Invitee, Who},
    migrate,
    sessions::Device,
};
use guildhall_tests::{
    both_databases,
    databases::{Databases, Engine, TestDatabase},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

static DATABASES: Databases = Databases::migrated_by(|url| {
    Box::pin(async { migrate(&Options::new(url)).await.expect("migrate the template") })
});

/// An instance that was set up, with its admin, below the API.
pub struct House {
    pub db: Db,
    pub clock: Arc<ShiftedClock>,
    pub actor: Actor,
    pub workspace: WorkspaceId,
    tasks: JoinSet<()>,
    // Last: it goes when nothing uses it any more.
    pub database: TestDatabase,
}

/// Opens the database as a process of its own would.
async fn open(database: &TestDatabase, clock: &Arc<ShiftedClock>) -> Db {
    let material = KeyMaterial {
        access_secret: "an access secret that is long enough",
        refresh_secret: "a refresh secret that is long enough",
        token_hash_secret: "a token secret that is long enough",
        master_key: &[7; 32],
        previous_master_keys: Vec::new(),
        issuer: "https://guild.example",
        audience: "guildhall",
        access_lifetime: TimeDelta::minutes(15),
        refresh_lifetime: TimeDelta::days(30),
    };
    let settings = Settings {
        app_url: "https://guild.example".into(),
        invitation_hours: 168,
        refresh_grace: TimeDelta::seconds(30),
        password_reset: TimeDelta::minutes(30),
        lockout: Default::default(),
        open_organizations: false,
        default_image: ImageRef::from_stored("python:3".to_owned()),
    };
    let seams = Seams { clock: Arc::clone(clock) as _, ids: Arc::new(seams::System) };
    let hasher = Hasher::new(1, 1).expect("make a hasher");
    Db::connect(Options::new(&database.url), seams, Keys::new(&material), hasher, settings)
        .await
        .expect("connect to the database")
}

impl House {
    pub async fn start(engine: Engine) -> Self {
        let database = DATABASES.fresh(engine).await;
        let clock = Arc::new(ShiftedClock::default());
        let db = open(&database, &clock).await;
        #[expect(clippy::disallowed_methods, reason = "as the set-up link does")]
        let proof = Open::because("set-up");
        let owner = NewUser {
            email: Email::parse("olga@guild.example").unwrap(),
            display_name: DisplayName::parse("Olga").unwrap(),
            password: "seven tall ships at anchor".into(),
        };
        let organization = DisplayName::parse("Guild").unwrap();
        let token = db.keys().setup_token();
        let set_up = accounts::set_up(&db, &proof, &token, &owner, &organization, &Device::default()).await;
        let set_up = set_up.map_err(|_| "refused").expect("set up");
        let (actor, workspace) = (set_up.session.actor, set_up.workspace.id);
        Self { db, clock, actor, workspace, tasks: JoinSet::new(), database }
    }

    /// Another process on the same database.
    pub async fn neighbour(&self) -> Db {
        open(&self.database, &self.clock).await
    }

    /// A proof of the admin's.
    pub async fn grant<P: PermissionType<Access = WorkspaceAccess>>(&self) -> Granted<P> {
        let standing = self.db.standing(self.actor, self.workspace).await.map_err(|_| "denied");
        standing.expect("the admin stands in the workspace").access.grant().expect("the admin may")
    }

    pub async fn invite(&self, email: &str) -> Invitation {
        let who = Who::Email(Email::parse(email).unwrap());
        let invitee =
            Invitee { who, role: SystemRole::Viewer.id(), membership_expires_at: None, message: None };
        invitations::invite(&self.db, &self.grant::<perm::MembersInvite>().await, &invitee)
            .await
            .map_err(|_| "refused")
            .expect("invite")
    }

    /// Runs the tail of a process, and subscribes to it when it has found its place.
    async fn follow(&mut self, db: &Db, topics: &[Topic]) -> Feed {
        let mut feed = db.bus().subscribe(topics);
        self.tasks.spawn(events::tail(db.clone(), std::future::pending()));
        assert_eq!(next(&mut feed).await, Err(Lagged), "a subscriber from before the tail is told so");
        feed
    }

    /// Runs a statement past the service.
    pub async fn execute(&self, statement: impl Into<String>) -> u64 {
        let statement = AssertSqlSafe(statement.into());
        match self.database.engine() {
            Engine::Postgres => {
                let mut connection = PgConnection::connect(&self.database.url).await.expect("connect");
                sqlx::query(statement).execute(&mut connection).await.expect("execute").rows_affected()
            }
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.database.url).await.expect("connect");
                sqlx::query(statement).execute(&mut connection).await.expect("execute").rows_affected()
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "as the service itself")]
pub fn system() -> System {
    System::named("test")
}

/// The next event of the feed; waits at most five seconds.
async fn next(feed: &mut Feed) -> Result<Arc<Recorded>, Lagged> {
    timeout(Duration::from_secs(5), feed.next()).await.expect("an event arrives")
}

/// An `INSERT` of `count` events of a workspace that exists nowhere else.
fn events_of(workspace: u8, count: u32) -> String {
    let values = format!(
        "('ACCESS', '00000000-0000-7000-8000-0000000000{workspace:02x}', '2026-11-01 00:00:00+00:00')"
    );
    let values = vec![values; count as usize].join(", ");
    format!("INSERT INTO events (kind, workspace_id, created_at) VALUES {values}")
}

fn workspace_of(workspace: u8) -> Topic {
    Topic::Workspace(Uuid::from_u128(0x7000_8000_0000_0000_0000 + u128::from(workspace)).into())
}

both_databases!(
    House::start,
    an_event_reaches_those_who_watch_its_workspace_or_its_address,
    another_process_is_told_within_a_second,
    a_lagging_subscriber_reads_on_from_its_cursor,
    a_cursor_from_before_retention_is_told_from_one_that_missed_nothing,
);

async fn an_event_reaches_those_who_watch_its_workspace_or_its_address(mut house: House) {
    let db = house.db.clone();
    let mut admin = house.follow(&db, &[Topic::Workspace(house.workspace)]).await;
    let mut invitee = db.bus().subscribe(&[Topic::Email("ben@guild.example".into())]);
    let mut stranger = db.bus().subscribe(&[Topic::Email("zoe@guild.example".into()), workspace_of(1)]);
    let invitation = house.invite("ben@guild.example").await;
    let event = next(&mut admin).await.unwrap();
    assert_eq!(event.kind, EventKind::Invitation);
    assert_eq!(event.workspace, Some(house.workspace));
    assert_eq!(event.email.as_deref(), Some("ben@guild.example"));
    assert_eq!(event.subject, Some(invitation.id.uuid()));
    assert_eq!(event.state.as_deref(), Some("PENDING"));
    assert_eq!(next(&mut invitee).await.unwrap(), event);
    let replayed =
        events::since(&db, &system(), &Topic::Email("ben@guild.example".into()), 0, 10).await.unwrap();
    assert_eq!(replayed, [(*event).clone()]);
    assert_eq!(stranger.try_next(), None);
}

async fn another_process_is_told_within_a_second(mut house: House) {
    let neighbour = house.neighbour().await;
    let (topic, db) = (Topic::Workspace(house.workspace), house.db.clone());
    let mut here = house.follow(&db, std::slice::from_ref(&topic)).await;
    let mut there = house.follow(&neighbour, &[topic]).await;
    let mut waits = Vec::new();
    // SQLite belongs to one process; a second one, such as a command of the operator, is seen by polling.
    let (rounds, median) = if house.database.engine() == Engine::Postgres { (10, 100) } else { (2, 1500) };
    for round in 0..rounds {
        // Not in step with the polling.
        sleep(Duration::from_millis(130)).await;
        house.invite(&format!("ben{round}@guild.example")).await;
        let committed = Instant::now();
        let event = next(&mut there).await.unwrap();
        waits.push(committed.elapsed());
        assert_eq!(next(&mut here).await.unwrap(), event);
    }
    waits.sort();
    println!("from the commit to the other process: {waits:?}");
    assert!(waits[rounds / 2] < Duration::from_millis(median), "{waits:?}");
}

async fn a_lagging_subscriber_reads_on_from_its_cursor(mut house: House) {
    let db = house.db.clone();
    let mut feed = house.follow(&db, &[Topic::Workspace(house.workspace)]).await;
    house.invite("ann@guild.example").await;
    let cursor = next(&mut feed).await.unwrap().seq;
    let workspace = match house.database.engine() {
        Engine::Postgres => format!("'{}'", house.workspace.uuid()),
        Engine::Sqlite => format!("x'{}'", house.workspace.uuid().as_simple()),
    };
    let row = format!("('ACCESS', {workspace}, '2026-11-01 00:00:00+00:00')");
    // The last one is told elsewhere: once it has come, those before it have been told.
    let elsewhere = match house.database.engine() {
        Engine::Postgres => "'00000000-0000-7000-8000-000000000007'",
        Engine::Sqlite => "x'00000000000070008000000000000007'",
    };
    let uuid = Uuid::from_u128(0x7000_8000_0000_0000_0007);
    let mut last = db.bus().subscribe(&[Topic::Workspace(uuid.into())]);
    let rows =
        [vec![row; 300], vec![format!("('ACCESS', {elsewhere}, '2026-11-01 00:00:00+00:00')")]].concat();
    let rows = rows.join(", ");
    house.execute(format!("INSERT INTO events (kind, workspace_id, created_at) VALUES {rows}")).await;
    next(&mut last).await.unwrap();
    assert_eq!(next(&mut feed).await, Err(Lagged));
    let (mut after, mut seen) = (cursor, 0);
    loop {
        let topic = Topic::Workspace(house.workspace);
        let missed = events::since(&db, &system(), &topic, after, 100).await.unwrap();
        assert!(missed.is_sorted_by(|a, b| a.seq < b.seq));
        seen += missed.len();
        match missed.last() {
            Some(last) => after = last.seq,
            None => break,
        }
    }
    assert_eq!(seen, 300);
    house.invite("ben@guild.example").await;
    assert_eq!(next(&mut feed).await.unwrap().email.as_deref(), Some("ben@guild.example"));
}

async fn a_cursor_from_before_retention_is_told_from_one_that_missed_nothing(house: House) {
    let extent = async || events::extent(&house.db, &system()).await.unwrap();
    assert_eq!((extent().await.pruned_to, extent().await.newest), (0, 0));
    assert!(extent().await.reaches(0));
    house.invite("ann@guild.example").await;
    let first = extent().await.newest;
    house.invite("ben@guild.example").await;
    house.clock.advance(TimeDelta::days(6));
    house.invite("cia@guild.example").await;
    let last = extent().await.newest;
    assert_eq!(housekeeping::sweep(&house.db).await.unwrap(), Swept::default());
    assert!(extent().await.reaches(0) && extent().await.reaches(first));

    house.clock.advance(TimeDelta::days(2));
    assert_eq!(housekeeping::sweep(&house.db).await.unwrap().events, 2);
    assert!(!extent().await.reaches(first), "an event after it is gone");
    assert!(extent().await.reaches(last));
    assert!(!extent().await.reaches(last + 1), "no event has this number yet");

    house.clock.advance(TimeDelta::days(8));
    let neighbour = house.neighbour().await;
    let (one, other) = tokio::join!(housekeeping::sweep(&house.db), housekeeping::sweep(&neighbour));
    assert_eq!(one.unwrap().events + other.unwrap().events, 1);
    assert_eq!((extent().await.pruned_to, extent().await.newest), (last, last), "the log is empty, not new");
    assert!(extent().await.reaches(last) && !extent().await.reaches(first));
    house.invite("dan@guild.example").await;
    assert!(extent().await.newest > last, "no number is given out twice");
}

/// Runs a test on PostgreSQL only.
macro_rules! on_postgres {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[test]
            fn on_postgres() {
                use super::*;
                guildhall_tests::databases::run(Engine::Postgres, House::start, super::$test);
            }
        })+
    };
}

on_postgres!(
    what_commits_out_of_order_arrives_once,
    what_a_large_change_tells_arrives_though_another_commits_first,
    events_of_one_address_commit_in_order,
    lost_connections_are_made_anew,
);

async fn what_commits_out_of_order_arrives_once(mut house: House) {
    let db = house.db.clone();
    let mut feed = house.follow(&db, &[workspace_of(1), workspace_of(2), workspace_of(3)]).await;
    let mut slow = PgConnection::connect(&house.database.url).await.unwrap();
    let mut early = slow.begin().await.unwrap();
    sqlx::query(AssertSqlSafe(events_of(1, 2))).execute(&mut *early).await.unwrap();
    let mut broken = PgConnection::connect(&house.database.url).await.unwrap();
    let mut never = broken.begin().await.unwrap();
    sqlx::query(AssertSqlSafe(events_of(2, 1))).execute(&mut *never).await.unwrap();
    never.rollback().await.unwrap();
    house.execute(events_of(3, 1)).await;
    assert_eq!(next(&mut feed).await.unwrap().seq, 4);
    early.commit().await.unwrap();
    assert_eq!(next(&mut feed).await.unwrap().seq, 1);
    assert_eq!(next(&mut feed).await.unwrap().seq, 2);
    // Longer than the tail goes without reading the log.
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(feed.try_next(), None, "nothing twice");
    house.execute(events_of(3, 1)).await;
    assert_eq!(next(&mut feed).await.unwrap().seq, 5);
}

async fn what_a_large_change_tells_arrives_though_another_commits_first(mut house: House) {
    let db = house.db.clone();
    let mut feed = house.follow(&db, &[workspace_of(1), workspace_of(3)]).await;
    let mut slow = PgConnection::connect(&house.database.url).await.unwrap();
    let mut large = slow.begin().await.unwrap();
    for (workspace, number) in [(1, 1), (2, 1000)] {
        sqlx::query(AssertSqlSafe(events_of(workspace, number))).execute(&mut *large).await.unwrap();
    }
    house.execute(events_of(3, 1)).await;
    assert_eq!(next(&mut feed).await.unwrap().seq, 1002);
    large.commit().await.unwrap();
    assert_eq!(next(&mut feed).await.unwrap().seq, 1);
}

async fn events_of_one_address_commit_in_order(mut house: House) {
    let db = house.db.clone();
    let address = Topic::Email("ben@guild.example".into());
    let mut feed = house.follow(&db, &[address]).await;
    // What a transaction in another workspace does that has told the same address and is not yet committed.
    let mut other = PgConnection::connect(&house.database.url).await.unwrap();
    let mut open = other.begin().await.unwrap();
    let locked = "SELECT pg_advisory_xact_lock(hashtextextended('ben@guild.example', 0))";
    sqlx::query(locked).execute(&mut *open).await.unwrap();
    let told =
        "INSERT INTO events (kind, email, created_at) VALUES ('INVITATION', 'ben@guild.example', now())";
    sqlx::query(told).execute(&mut *open).await.unwrap();
    let invited = async {
        house.invite("ben@guild.example").await;
        Instant::now()
    };
    let committed = async {
        sleep(Duration::from_millis(300)).await;
        let committed = Instant::now();
        open.commit().await.unwrap();
        committed
    };
    let (invited, committed) = tokio::join!(invited, committed);
    assert!(invited > committed, "the second waits for the first");
    let (first, second) = (next(&mut feed).await.unwrap(), next(&mut feed).await.unwrap());
    assert!(first.workspace.is_none() && second.workspace.is_some() && first.seq < second.seq);
}

async fn lost_connections_are_made_anew(mut house: House) {
    let neighbour = house.neighbour().await;
    let (topic, db) = (Topic::Workspace(house.workspace), house.db.clone());
    let _here = house.follow(&db, std::slice::from_ref(&topic)).await;
    let mut there = house.follow(&neighbour, &[topic]).await;
    for round in 0..3 {
        house.database.kill_connections().await;
        house.invite(&format!("ben{round}@guild.example")).await;
        let event = next(&mut there).await.unwrap();
        assert_eq!(event.email, Some(format!("ben{round}@guild.example")));
    }
    // Listening again, not merely polling.
    sleep(Duration::from_millis(500)).await;
    house.invite("zoe@guild.example").await;
    let committed = Instant::now();
    next(&mut there).await.unwrap();
    println!("told {:?} after the commit", committed.elapsed());
    assert!(committed.elapsed() < Duration::from_millis(300));
}
