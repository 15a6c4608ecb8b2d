//! The built binary, as an operator runs it: a process of its own.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{databases::TestDatabase, environment::Environment, mailbox::MailServer};

/// A running process; killed when dropped. A test that fails shows what it printed.
pub struct Process {
    /// Where it answers, without a trailing slash.
    pub url: String,
    child: Child,
    data: TempDir,
}

/// A free port below the range from which the system gives ports away, so that nobody is given it before the
/// process listens there.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut candidates = (0..200).map(|_| {
        let place = std::process::id() % 50 * 200 + NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        21_000 + u16::try_from(place).expect("below 10,000")
    });
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port")
}

impl Process {
    /// Starts one on this database and mail server, with the usual settings, and waits until it is ready.
    pub async fn spawn(database: &TestDatabase, mail: &MailServer) -> Self {
        Self::spawn_with(database, mail, |_| {}).await
    }

    /// As [`Process::spawn`], with other settings.
    pub async fn spawn_with(
        database: &TestDatabase,
        mail: &MailServer,
        change: impl FnOnce(&mut Environment),
    ) -> Self {
        let data = TempDir::new().expect("a directory");
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let mut environment = Environment::new(&url, &database.url, data.path(), mail);
        change(&mut environment);
        let log = |name| fs::File::create(data.path().join(name)).expect("a log");
        let child = Command::new(binary())
            .current_dir(data.path())
            .env_clear()
            .envs(environment.variables())
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("start the binary");
        let mut process = Self { url, child, data };
        process.wait_until_ready().await;
        process
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        // Printed when everything but the last step is done; the listener is open since the beginning.
        while !self.output().contains("Guildhall answers at") {
            let ended = self.child.try_wait().expect("ask for the process");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "not ready ({ended:?}):\n{}",
                self.output()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everything it has printed: the welcome, then the log.
    pub fn output(&self) -> String {
        let read = |name| fs::read_to_string(self.data.path().join(name)).expect("read what was printed");
        read("stdout") + &read("stderr")
    }

    /// The secret of the one-time link it printed.
    pub fn setup_token(&self) -> String {
        let output = self.output();
        let token = output.split("/setup?token=").nth(1).and_then(|rest| rest.split_whitespace().next());
        token.unwrap_or_else(|| panic!("no set-up link in:\n{output}")).to_owned()
    }

    /// Where it keeps files; what it printed is there as well.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("ask for the process").is_none()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the process");
        self.child.wait().expect("wait for the process");
    }

    /// Sends SIGTERM.
    pub fn tell_to_stop(&self) {
        // Not the command `kill`: a bare Debian has none.
        let sent = kill_process(Pid::from_child(&self.child), Signal::TERM);
        assert!(sent.is_ok(), "the process is gone:\n{}", self.output());
    }

    /// `kill -TERM`, and how the process ended; within fifteen seconds.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.tell_to_stop();
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for the process") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not stop:\n{}", self.output());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what {} had to say:\n{}", self.url, self.output());
        }
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary of the profile that the tests were built with, brought up to date first: cargo builds it for a test of
/// its own package only.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            // target/<profile>/deps/it-…
            let tests = env::current_exe().expect("the path of the tests");
            let profile = tests.parent().and_then(|deps| deps.parent()).expect("cargo's layout");
            let target = profile.parent().expect("cargo's layout");
            let name = profile.file_name().and_then(|name| name.to_str()).expect("cargo's layout");
            let output = Command::new(env!("CARGO"))
                .args(["build", "--workspace", "--bin", "guildhall", "--locked", "--profile"])
                .arg(if name == "debug" { "dev" } else { name })
                .arg("--target-dir")
                .arg(target)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .expect("run cargo");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            profile.join("guildhall")
        })
        .clone()
}
