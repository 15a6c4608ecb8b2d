//! The server as a process of its own: starting and ending it, and what the system says it uses.

use std::{
    env, fs,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Result, client::Connection};

/// How a server is set up; every setting not named here has its default.
pub struct Setup {
    pub binary: PathBuf,
    /// Its data directory. What it logs is there too.
    pub directory: PathBuf,
    /// The URL of PostgreSQL; none: SQLite in the directory.
    pub database: Option<String>,
    /// The first process of PostgreSQL.
    pub database_process: Option<u32>,
    pub mail_port: u16,
}

impl Setup {
    /// Runs a command of the server that ends by itself.
    pub fn run_to_end(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        self.configure(&mut command);
        let output = command.args(arguments).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("guildhall {}: {}\n{said}", arguments.join(" "), output.status).into());
        }
        Ok(())
    }

    fn configure(&self, command: &mut Command) {
        let of_this_shell = |name: &String| {
            ["GUILDHALL_", "JWT_", "SMTP_", "PASSWORD_"].iter().any(|prefix| name.starts_with(prefix))
                || [
                    "APP_URL",
                    "DATABASE_URL",
                    "MASTER_KEY",
                    "TOKEN_HASH_SECRET",
                    "INVITE_TOKEN_EXPIRY_IN_HOURS",
                ]
                .contains(&name.as_str())
        };
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| of_this_shell(&name.to_owned())) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.directory).env("GUILDHALL_DATA_DIR", &self.directory);
        if let Some(url) = &self.database {
            command.env("DATABASE_URL", url);
        }
        command.envs([
            ("SMTP_HOST", "127.0.0.1"),
            ("SMTP_PORT", &self.mail_port.to_string()),
            ("SMTP_TLS", "none"),
        ]);
        command.envs([
            ("GUILDHALL_LIMITS_REQUESTS_PER_MINUTE", "0"),
            ("GUILDHALL_LIMITS_REQUESTS_PER_MINUTE_PER_IP", "0"),
            ("GUILDHALL_LIMITS_SIGN_IN_PER_MINUTE", "100000"),
            ("GUILDHALL_SIGN_IN_FREE_FAILURES", "100000"),
            ("GUILDHALL_LIMITS_TOKEN_ATTEMPTS_PER_MINUTE", "100000"),
            ("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR", "1000000"),
            ("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR_PER_WORKSPACE", "1000000"),
            ("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR_PER_IP", "1000000"),
            ("GUILDHALL_LIMITS_SOCKETS_PER_ACTOR", "3000"),
        ]);
    }
}

/// Becomes the server. Its standard input is a pipe that nobody writes to: the end of it tells the keeper, however
/// this program ended, to stop the server. The keeper is orphaned, so that it is no child of the server.
const SCRIPT: &str = r#"
exec 3<&0 </dev/null
( (
  read -r _ <&3
  kill -TERM $$
  tries=0
  while kill -0 $$ 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
  kill -KILL $$
) >/dev/null 2>&1 & )
exec 3<&-
exec "$@"
"#;

/// A running server. It ends with this value or with this program.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    database_process: Option<u32>,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub async fn start(setup: &Setup) -> Result<Self> {
        let binary = setup.binary.clone();
        Self::launch(setup, |command, _| {
            command.arg(binary).arg("serve");
        })
        .await
    }

    /// Starts what the server is compared with: this program, on the same database.
    pub async fn start_baseline(setup: &Setup, url: &str) -> Result<Self> {
        let binary = env::current_exe()?;
        Self::launch(setup, |command, address| {
            command.arg(binary).args(["baseline", &address.to_string(), url]);
        })
        .await
    }

    async fn launch(setup: &Setup, program: impl FnOnce(&mut Command, SocketAddr)) -> Result<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let log = setup.directory.join("server.log");
        let mut command = Command::new("/bin/sh");
        setup.configure(&mut command);
        command.env("GUILDHALL_LISTEN", address.to_string());
        command.args(["-c", SCRIPT, "sh"]).stdin(Stdio::piped());
        program(&mut command, address);
        let output = fs::File::create(&log)?;
        let process = command.stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut server = Self { address, process, database_process: setup.database_process };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let ended = server.process.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("the server does not become ready\n{said}").into());
            }
            if TcpStream::connect(address).is_ok() && is_ready(address).await {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// CPU time so far, of the server and of every process of its database.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(Stat::of(self.process.id())?.own + self.database_cpu()?)
    }

    /// CPU time so far of every process of the database, those that ended included.
    pub fn database_cpu(&self) -> Result<Duration> {
        let Some(first) = self.database_process else { return Ok(Duration::ZERO) };
        let first_stat = Stat::of(first)?;
        let mut total = first_stat.own + first_stat.ended_children;
        for entry in fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that ends meanwhile is counted by its parent the next time.
            if let Ok(stat) = Stat::of(id)
                && stat.parent == first
            {
                total += stat.own;
            }
        }
        Ok(total)
    }

    /// Memory that is resident, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or("the system does not tell the resident memory")? * 1024)
    }

    /// Stops it in order.
    pub fn stop(self) -> Result<()> {
        drop(self);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Nothing is left to be done about a server that cannot be waited for.
        let _ = self.process.wait();
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else { return false };
    let asked = connection.exchange(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    matches!(asked, Ok((200, _)))
}

/// What `/proc/<id>/stat` tells.
struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    fn of(id: u32) -> io::Result<Self> {
        let mut text = String::new();
        fs::File::open(format!("/proc/{id}/stat"))?.read_to_string(&mut text)?;
        // The second field is a name in parentheses, in which anything can be.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
        let number =
            |place| field(place).ok_or_else(|| io::Error::other("an unknown form of /proc/<id>/stat"));
        // Linux counts in hundredths of a second here, whatever its own clock does.
        let time = |ticks| Duration::from_millis(ticks * 10);
        Ok(Self {
            parent: u32::try_from(number(1)?).unwrap_or(0),
            own: time(number(11)? + number(12)?),
            ended_children: time(number(13)? + number(14)?),
        })
    }
}
