//! A PostgreSQL cluster that lives as long as the test process.
//!
//! Knows how to find the server's binaries, and how to make, start and surely end a cluster. Refuses to know what
//! databases it will hold. Nothing in it is meant to last.

use std::{
    env, fs,
    io::{self, Read as _},
    net::TcpListener,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use url::Url;

use super::temporary_directory;

/// The directory of PostgreSQL's server programs.
pub struct Binaries {
    directory: PathBuf,
    /// For people: `PostgreSQL 15.18`.
    pub version: String,
}

impl Binaries {
    /// Looks where `pg_config` points, then in Debian's directories, newest first, then in `PATH`.
    pub fn find() -> Option<Self> {
        let configured = Command::new("pg_config").arg("--bindir").output().ok();
        let configured =
            configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
            })
            .collect();
        packaged.sort_by(|a, b| b.cmp(a));
        let path = env::var_os("PATH").unwrap_or_default();
        configured
            .into_iter()
            .chain(packaged.into_iter().map(|(_, directory)| directory))
            .chain(env::split_paths(&path))
            .filter(|directory| directory.is_absolute() && directory.join("initdb").is_file())
            .find_map(Self::at)
    }

    fn at(directory: PathBuf) -> Option<Self> {
        // Answers "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
        let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let number = answer.split_whitespace().nth(2)?;
        Some(Self { directory, version: format!("PostgreSQL {number}") })
    }
}

/// A running cluster. It ends with this value or with the process that holds it, however that ends.
pub struct Cluster {
    /// Its maintenance database, as a superuser.
    pub url: Url,
    process: Child,
}

/// Runs in the cluster's directory and becomes the server. Its standard input is a pipe that nobody writes to: the
/// end of it tells the keeper that the tests' process is gone, even when that was killed. Orphaned on purpose, for
/// the server reckons with no children but its own.
const SCRIPT: &str = r#"
umask 077
exec 3<&0 </dev/null
( (
  trap '' QUIT
  read -r _ <&3
  kill -QUIT -$$
  tries=0
  while kill -0 $$ 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
  rm -rf "$PWD" || { sleep 1; rm -rf "$PWD"; }
) & )
exec >log 2>&1 3<&-
printf %s "$PASSWORD" >password
"$BINARIES/initdb" --pgdata=data --username=guildhall --pwfile=password --auth=password \
  --encoding=UTF8 --locale=C.UTF-8 --no-sync || exit 1
exec "$BINARIES/postgres" -D data "$@"
"#;

/// What a cluster is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Speed: it gives up every durability.
    Tests,
    /// Likeness: it runs with the server's own defaults, on disk, as in production.
    Measuring,
}

const SETTINGS: [&str; 2] = ["listen_addresses=127.0.0.1", "unix_socket_directories="];

const FAST: [&str; 9] = [
    "max_connections=400",
    "shared_buffers=32MB",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "checkpoint_timeout=1h",
    "autovacuum=off",
];

impl Cluster {
    /// Makes and starts a cluster on a free port of 127.0.0.1; takes a second or two.
    ///
    /// # Panics
    /// When the server does not come up; the message holds its log.
    pub async fn start(binaries: &Binaries, purpose: Purpose) -> Self {
        let mut failure = String::new();
        // The free port may be taken by another process before the server listens on it.
        for _ in 0..3 {
            match Self::try_start(binaries, purpose).await {
                Ok(cluster) => return cluster,
                Err(error) => failure = error.to_string(),
            }
        }
        panic!("cannot start a temporary {}: {failure}", binaries.version)
    }

    /// The id of the server's first process, the parent of its others.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    async fn try_start(binaries: &Binaries, purpose: Purpose) -> io::Result<Self> {
        const PREFIX: &str = "guildhall-postgres-";
        let (directory, more): (_, &[&str]) = match purpose {
            Purpose::Tests => (temporary_directory(PREFIX)?, &FAST),
            Purpose::Measuring => (tempfile::Builder::new().prefix(PREFIX).tempdir()?, &[]),
        };
        let path = directory.path().to_owned();
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let password = password()?;

        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "guildhall-postgres", "-c", &format!("port={port}")]);
        command.args(SETTINGS.iter().chain(more).flat_map(|setting| ["-c", setting]));
        command.current_dir(&path).env("BINARIES", &binaries.directory).env("PASSWORD", &password);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own, so that Ctrl-C in a terminal reaches the tests and not the keeper.
        command.process_group(0);
        if fs::metadata(&path)?.uid() == 0 {
            // PostgreSQL refuses to run as root.
            let (uid, gid) = unprivileged_account()?;
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
            command.uid(uid).gid(gid);
        }
        let mut process = command.spawn()?;
        // From here the keeper removes it.
        let _ = directory.keep();

        wait_until_ready(&mut process, &path).await?;
        let url = format!("postgres://guildhall:{password}@127.0.0.1:{port}/postgres");
        Ok(Self { url: Url::parse(&url).map_err(io::Error::other)?, process })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Nothing is left to be done about a server that cannot be waited for.
        let _ = self.process.wait();
    }
}

async fn wait_until_ready(process: &mut Child, directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        // The server writes its state into this file: unlike an answer on the port, it cannot be another server's.
        let state = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
        if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok(());
        }
        let ended = process.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            let reason =
                ended.map_or_else(|| "not ready after 120 s".to_owned(), |status| status.to_string());
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            return Err(io::Error::other(format!("{reason}\n{log}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The user and group id of `postgres`, or else of `nobody`.
fn unprivileged_account() -> io::Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let mut fields = accounts
            .lines()
            .map(|line| line.split(':'))
            .find(|fields| fields.clone().next() == Some(name))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).ok_or_else(|| {
        io::Error::other(
            "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as",
        )
    })
}

/// 128 random bits: other users of the machine can reach the port too.
fn password() -> io::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
