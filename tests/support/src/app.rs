//! A Guildhall that runs in the test's process, on a fresh database and a real port.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::TimeDelta;
use guildhall_domain::{access::SystemRole, seams};
use guildhall_persistence::{Db, Options, Seams};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    actor::{Actor, Workspace, token_of},
    databases::{Databases, Engine, TestDatabase},
    environment::Environment,
    mailbox::{Captured, MailServer},
};

static DATABASES: Databases = Databases::migrated_by(|url| {
    Box::pin(async {
        guildhall_persistence::migrate(&Options::new(url)).await.expect("migrate the template");
    })
});

/// A migrated database that no other test sees.
pub async fn fresh_database(engine: Engine) -> TestDatabase {
    DATABASES.fresh(engine).await
}

/// A running server. Dropping it ends it without ado; [`App::stop`] lets it finish.
pub struct App {
    /// Where it answers, without a trailing slash.
    pub url: String,
    /// The secret of the one-time link that [`App::set_up`] uses.
    pub setup_token: String,
    /// Where its mail goes, unless `SMTP_HOST` is unset.
    pub mail: Arc<MailServer>,
    db: Db,
    schema: guildhall_graphql::Schema,
    clock: Arc<seams::ShiftedClock>,
    founded: OnceLock<(Actor, Workspace)>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    data: TempDir,
    environment: Environment,
    // Last, so that it is dropped after what uses it.
    database: Arc<TestDatabase>,
}

impl App {
    /// With the usual settings: see [`Environment`].
    pub async fn start(engine: Engine) -> Self {
        Self::start_with(engine, |_| {}).await
    }

    /// With other settings.
    pub async fn start_with(engine: Engine, change: impl FnOnce(&mut Environment)) -> Self {
        let database = Arc::new(fresh_database(engine).await);
        let mail = Arc::new(MailServer::start().await);
        Self::launch(database, mail, Arc::default(), change).await
    }

    /// Another server on the same PostgreSQL database, with the same secrets, clock and mail server. Real processes
    /// are [`Process`](crate::Process)es.
    pub async fn second_process(&self) -> Self {
        self.second_process_with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn second_process_with(&self, change: impl FnOnce(&mut Environment)) -> Self {
        assert_eq!(self.engine(), Engine::Postgres, "one process has a SQLite database to itself");
        let mail = Arc::clone(&self.mail);
        let other = Self::launch(Arc::clone(&self.database), mail, Arc::clone(&self.clock), change).await;
        if let Some(founded) = self.founded.get() {
            other.founded.set(founded.clone()).expect("it is new");
        }
        other
    }

    async fn launch(
        database: Arc<TestDatabase>,
        mail: Arc<MailServer>,
        clock: Arc<seams::ShiftedClock>,
        change: impl FnOnce(&mut Environment),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let data = TempDir::new().expect("a directory");
        let mut environment = Environment::new(&url, &database.url, data.path(), &mail);
        change(&mut environment);
        let seams = Seams { clock: clock.clone(), ids: Arc::new(seams::System) };
        let app = guildhall_server::app::App::start(environment.config(), seams).await;
        let app = app.unwrap_or_else(|error| panic!("the server does not start: {error}"));
        let welcome = app.welcome().await.expect("the welcome");
        let setup_token = welcome.rsplit_once("/setup?token=").map(|(_, token)| token.trim().to_owned());
        let (db, schema) = (app.db().clone(), app.schema().clone());
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(app.serve(listener, async {
            // Sent or dropped: both mean to stop.
            let _ = stopped.await;
        }));
        Self {
            url,
            setup_token: setup_token.unwrap_or_default(),
            mail,
            db,
            schema,
            clock,
            founded: OnceLock::new(),
            stop: Some(stop),
            server,
            data,
            environment,
            database,
        }
    }

    /// Stops as a signal would, and waits until everything has ended.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let ended = timeout(Duration::from_secs(15), &mut self.server).await.expect("the server stops");
        ended.expect("the server does not panic");
    }

    /// Stops in the background: open sockets see the close code of a shutdown.
    pub fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// The database on the server's side, to kill its connections.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// The server's own handle, for what the API does not show.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The server's own schema, for whoever stands where a transport stands.
    pub fn schema(&self) -> &guildhall_graphql::Schema {
        &self.schema
    }

    /// The variables it was started with: for a command that works beside it.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.environment.variables()
    }

    /// Where it keeps files.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Moves the server's clock ahead. Tokens expire by that clock: see [`Actor::again`].
    pub fn advance(&self, span: TimeDelta) {
        self.clock.advance(span);
    }

    /// From now on the server's clock moves by [`App::advance`] only.
    pub fn stop_the_clock(&self) {
        self.clock.stop();
    }

    /// Sets the instance up: Ada owns the organization, and administers its default workspace.
    pub async fn set_up(&self) -> Actor {
        let founded = Actor::set_up(&self.url, &self.setup_token, "ada@example.org", "Ada").await;
        let ada = founded.0.clone();
        self.founded.set(founded).unwrap_or_else(|_| panic!("set up twice"));
        ada
    }

    /// The owner, after [`App::set_up`].
    pub fn owner(&self) -> &Actor {
        &self.founded.get().expect("call set_up first").0
    }

    /// The default workspace, after [`App::set_up`].
    pub fn default_workspace(&self) -> &Workspace {
        &self.founded.get().expect("call set_up first").1
    }

    /// Nobody in particular.
    pub fn anonymous(&self) -> Actor {
        Actor::anonymous(&self.url)
    }

    /// Somebody new in the owner's organization, a Viewer of the default workspace: invited and registered by mail.
    pub async fn person(&self, email: &str, name: &str) -> Actor {
        self.newcomer(self.default_workspace(), SystemRole::Viewer, email, name).await
    }

    /// Somebody new with this role in a workspace, invited by its admin: Eve is `eve@example.org`.
    pub async fn member(&self, workspace: &Workspace, role: SystemRole, name: &str) -> Actor {
        let email = format!("{}@example.org", name.to_lowercase().replace(' ', "."));
        self.newcomer(workspace, role, &email, name).await
    }

    async fn newcomer(&self, workspace: &Workspace, role: SystemRole, email: &str, name: &str) -> Actor {
        let role = format!("{role:?}").to_uppercase();
        workspace.admin.at(&self.url).invite(workspace, email, &role).await.ok();
        let link = self.mail_to(email).await.link();
        Actor::register(&self.url, token_of(&link), name).await
    }

    /// Somebody with an account in this instance and nothing to do with the owner's organization: owner of another
    /// one, in which [`Actor::workspace`] makes workspaces.
    pub async fn stranger(&self, email: &str, name: &str) -> Actor {
        let actor = self.person(email, name).await;
        let user = self.literal(&actor.id);
        // The stranger's own id serves as the organization's too.
        for statement in [
            format!(
                "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at)
                 SELECT {user}, 'of-' || '{id}', '{name} and Sons', workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at
                 FROM organizations ORDER BY created_at LIMIT 1",
                id = actor.id.trim_start_matches("usr_"),
            ),
            format!(
                "UPDATE organization_members SET organization_id = {user}, role = 'OWNER' WHERE user_id = {user}"
            ),
            format!("DELETE FROM memberships WHERE user_id = {user}"),
            format!("DELETE FROM invitations WHERE email = '{email}'"),
            format!(
                "UPDATE users SET default_workspace_id = NULL, last_workspace_id = NULL WHERE id = {user}"
            ),
        ] {
            self.sql(&statement).await;
        }
        actor
    }

    /// The next mail to an address that this was not asked for before; waits up to ten seconds for it.
    pub async fn mail_to(&self, email: &str) -> Captured {
        self.mail.next_for(email).await
    }

    /// How many SQL statements the work takes: the fewest of three runs, since on a busy machine a batch may be cut in two.
    pub async fn count(&self, mut work: impl AsyncFnMut()) -> u64 {
        let mut fewest = u64::MAX;
        for _ in 0..3 {
            let before = self.statements();
            work().await;
            fewest = fewest.min(self.statements() - before);
        }
        fewest
    }

    /// How many SQL statements the server has run for requests.
    pub fn statements(&self) -> u64 {
        self.db.statements()
    }

    /// How many SQL statements the server has run beside its requests.
    pub fn background_statements(&self) -> u64 {
        self.db.background_statements()
    }

    /// Runs a statement behind the server's back; the number of rows it changed.
    pub async fn sql(&self, statement: &str) -> u64 {
        let url = self.database.url.as_str();
        let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        let done = match self.engine() {
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await.expect("connect");
                query.execute(&mut connection).await.map(|done| done.rows_affected())
            }
            Engine::Postgres => {
                let mut connection = PgConnection::connect(url).await.expect("connect");
                query.execute(&mut connection).await.map(|done| done.rows_affected())
            }
        };
        done.unwrap_or_else(|error| panic!("{error} in {statement}"))
    }

    /// The whole number that a `SELECT` answers.
    pub async fn number(&self, select: &str) -> i64 {
        let url = self.database.url.as_str();
        let select = AssertSqlSafe(select.to_owned());
        match self.engine() {
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await.expect("connect");
                sqlx::query_scalar(select).fetch_one(&mut connection).await
            }
            Engine::Postgres => {
                let mut connection = PgConnection::connect(url).await.expect("connect");
                sqlx::query_scalar(select).fetch_one(&mut connection).await
            }
        }
        .expect("a number")
    }

    /// The texts that a `SELECT` of one column answers.
    pub async fn texts(&self, select: &str) -> Vec<String> {
        let url = self.database.url.as_str();
        let select = AssertSqlSafe(select.to_owned());
        match self.engine() {
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await.expect("connect");
                sqlx::query_scalar(select).fetch_all(&mut connection).await
            }
            Engine::Postgres => {
                let mut connection = PgConnection::connect(url).await.expect("connect");
                sqlx::query_scalar(select).fetch_all(&mut connection).await
            }
        }
        .expect("texts")
    }

    /// Waits until every entry of the audit log has its place in the chain.
    pub async fn chained(&self) {
        while self.number("SELECT count(*) FROM audit_events WHERE place IS NULL").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it is written down of every mail that the mail server took it, which comes after it took it.
    pub async fn mailed(&self) {
        const PAUSE: Duration = Duration::from_millis(20);
        let mut waited = 0;
        while self.number("SELECT count(*) FROM mails WHERE status = 'QUEUED'").await > 0 {
            waited += 1;
            assert!(waited < 3000, "mails that the mail server does not take");
            tokio::time::sleep(PAUSE).await;
        }
        // Those whose invitation was answered first; one that had failed before stays as it is.
        let answered_first = "SELECT count(*) FROM mails WHERE status = 'CANCELLED' AND attempts > 0 AND NOT EXISTS \
             (SELECT 1 FROM mails n WHERE n.invitation_id = mails.invitation_id AND n.id > mails.id)";
        for _ in 0..500 {
            if self.number(answered_first).await == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Every table that there is.
    pub async fn tables(&self) -> Vec<String> {
        self.texts(match self.engine() {
            Engine::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
            }
            Engine::Postgres => {
                "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
            }
        })
        .await
    }

    /// The columns of a table; with `ids` only those that hold UUIDs.
    pub async fn columns(&self, table: &str, ids: bool) -> Vec<String> {
        let select = match (self.engine(), ids) {
            (Engine::Sqlite, false) => format!("SELECT name FROM pragma_table_info('{table}')"),
            (Engine::Sqlite, true) => {
                format!("SELECT name FROM pragma_table_info('{table}') WHERE lower(type) LIKE '%uuid%'")
            }
            (Engine::Postgres, _) => format!(
                "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public' \
                 AND table_name = '{table}' {} ORDER BY ordinal_position",
                if ids { "AND data_type = 'uuid'" } else { "" }
            ),
        };
        self.texts(&select).await
    }

    /// Every row of a table as a text, in order.
    pub async fn rows(&self, table: &str) -> Vec<String> {
        let select = match self.engine() {
            Engine::Sqlite => {
                let columns = self.columns(table, false).await;
                let columns: Vec<_> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
                format!("SELECT {} AS row FROM \"{table}\" ORDER BY 1", columns.join(" || ', ' || "))
            }
            Engine::Postgres => format!("SELECT t::text FROM \"{table}\" t ORDER BY 1"),
        };
        self.texts(&select).await
    }

    /// Every row of every table as a text that begins with the table's name, in order.
    pub async fn everything(&self) -> Vec<String> {
        let selects = self
            .texts(match self.engine() {
                Engine::Sqlite => {
                    "SELECT 'SELECT ''' || m.name || ': '' || ' || group_concat('quote(\"' || p.name || '\")', ' || '', '' || ') \
                     || ' FROM \"' || m.name || '\"' FROM sqlite_master m, pragma_table_info(m.name) p \
                     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' GROUP BY m.name"
                }
                Engine::Postgres => {
                    "SELECT format('SELECT %L || t::text FROM %I t', tablename || ': ', tablename) FROM pg_tables \
                     WHERE schemaname = 'public'"
                }
            })
            .await;
        let mut rows = self.texts(&selects.join(" UNION ALL ")).await;
        rows.sort_unstable();
        rows
    }

    /// A global id such as `usr_…` as SQL writes the UUID.
    pub fn literal(&self, id: &str) -> String {
        let hex = id.split_once('_').map(|(_, hex)| hex).expect("a global id");
        match self.engine() {
            Engine::Sqlite => format!("x'{hex}'"),
            Engine::Postgres => format!("'{hex}'::uuid"),
        }
    }
}
