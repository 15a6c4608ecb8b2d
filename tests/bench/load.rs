//! Rounds of one kind of request over several connections. Knows how long and how many; refuses to know what is
//! asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    Result,
    client::{Connection, find},
    process::Server,
};

const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(1500);

/// How hard to press.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub round: Duration,
}

/// Writes the `n`th request into the buffer.
type Write = dyn Fn(usize, &mut Vec<u8>) + Send + Sync;

/// One kind of request.
pub struct Scenario {
    pub request: Box<Write>,
    /// What every answer contains.
    pub expect: &'static str,
}

impl Scenario {
    /// The same requests in turn.
    pub fn fixed(requests: Vec<Vec<u8>>, expect: &'static str) -> Self {
        let request = move |n: usize, buffer: &mut Vec<u8>| {
            buffer.clear();
            buffer.extend_from_slice(&requests[n % requests.len()]);
        };
        Self { request: Box::new(request), expect }
    }
}

/// What the rounds showed.
pub struct Measured {
    /// CPU time per request of each round, of server and database together, the least first.
    pub cpu: Vec<Duration>,
    /// The database's part of all.
    pub database_share: f64,
    /// Requests a second in the mean.
    pub rate: f64,
    /// As the client saw it, the shortest first.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// Warms up and measures; any answer that is not as expected ends it.
    pub async fn run(&self, server: &Server, scenario: Scenario) -> Result<Measured> {
        let scenario = Arc::new(scenario);
        let next = Arc::new(AtomicUsize::new(0));
        let round = |length| self.round(server, length, &scenario, &next);
        round(WARM_UP).await?;
        let mut measured =
            Measured { cpu: Vec::new(), database_share: 0.0, rate: 0.0, latencies: Vec::new() };
        let (mut total, mut database, mut time) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let (before, database_before, begun) = (server.cpu()?, server.database_cpu()?, Instant::now());
            let latencies = round(self.round).await?;
            time += begun.elapsed();
            let spent = server.cpu()?.saturating_sub(before);
            total += spent;
            database += server.database_cpu()?.saturating_sub(database_before);
            measured.cpu.push(spent.div_f64(latencies.len().max(1) as f64));
            measured.latencies.extend(latencies);
        }
        measured.cpu.sort();
        measured.latencies.sort();
        measured.rate = measured.latencies.len() as f64 / time.as_secs_f64();
        measured.database_share = database.as_secs_f64() / total.as_secs_f64().max(f64::EPSILON);
        Ok(measured)
    }

    async fn round(
        &self,
        server: &Server,
        length: Duration,
        scenario: &Arc<Scenario>,
        next: &Arc<AtomicUsize>,
    ) -> Result<Vec<Duration>> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::open(server.address).await?);
        }
        let until = Instant::now() + length;
        let press =
            |connection| tokio::spawn(press(connection, until, Arc::clone(scenario), Arc::clone(next)));
        let mut latencies = Vec::new();
        for task in connections.into_iter().map(press).collect::<Vec<_>>() {
            latencies.append(&mut task.await??);
        }
        Ok(latencies)
    }
}

async fn press(
    mut connection: Connection,
    until: Instant,
    scenario: Arc<Scenario>,
    next: Arc<AtomicUsize>,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(16 * 1024);
    let mut request = Vec::with_capacity(2048);
    loop {
        (scenario.request)(next.fetch_add(1, Ordering::Relaxed), &mut request);
        let sent = Instant::now();
        if sent >= until {
            return Ok(latencies);
        }
        let (status, body) = connection.exchange(&request).await?;
        latencies.push(sent.elapsed());
        if status != 200 || find(body, scenario.expect.as_bytes()).is_none() {
            return Err(
                format!("unexpected answer, status {status}: {}", String::from_utf8_lossy(body)).into()
            );
        }
    }
}
