//! The table. Knows units and targets; refuses to know how anything was measured.

use std::{fmt, fs, thread, time::Duration};

use guildhall_tests::databases::Engine;

use crate::load::Measured;

/// What was measured so far. Shown, it is Markdown.
pub struct Report {
    machine: String,
    rows: Vec<Row>,
}

struct Row {
    engine: Engine,
    what: String,
    target: Option<f64>,
    measured: f64,
    unit: &'static str,
    digits: usize,
    beside: String,
}

impl Report {
    /// An empty one, with the machine as it is now.
    pub fn begin() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let machine = format!(
            "{} cores, {}, load {} at the start",
            thread::available_parallelism().map_or(0, usize::from),
            model.unwrap_or("unknown processor"),
            load.split(' ').next().unwrap_or("unknown"),
        );
        Self { machine, rows: Vec::new() }
    }

    /// CPU time per request: the median round.
    pub fn cpu(
        &mut self,
        engine: Engine,
        what: &str,
        target: Option<f64>,
        measured: Measured,
        least: Option<Duration>,
    ) {
        let Measured { cpu, database_share, rate, latencies } = measured;
        let times_the_least = least.zip(median(&cpu)).map_or_else(String::new, |(least, cpu)| {
            format!("{:.1} times the baseline; ", cpu.as_secs_f64() / least.as_secs_f64())
        });
        let beside = format!(
            "{times_the_least}rounds {:.3}–{:.3} ms; {}{rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
            millis(cpu.first().copied()),
            millis(cpu.last().copied()),
            if engine == Engine::Postgres {
                format!("database {:.0} %; ", database_share * 100.0)
            } else {
                String::new()
            },
            millis(at(&latencies, 0.5)),
            millis(at(&latencies, 0.99)),
        );
        self.add(engine, format!("{what}, CPU"), target, millis(at(&cpu, 0.5)), ("ms", 3), beside);
    }

    /// CPU time of something that was done a few times only.
    pub fn cpu_only(&mut self, engine: Engine, what: &str, cpu: Duration) {
        self.add(engine, format!("{what}, CPU"), None, millis(Some(cpu)), ("ms", 1), String::new());
    }

    /// A span as the client saw it: the median.
    pub fn milliseconds(&mut self, engine: Engine, what: &str, target: Option<f64>, times: &mut [Duration]) {
        times.sort();
        let beside =
            format!("p95 {:.1} ms, longest {:.1} ms", millis(at(times, 0.95)), millis(times.last().copied()));
        self.add(engine, what.to_owned(), target, millis(at(times, 0.5)), ("ms", 1), beside);
    }

    pub fn seconds(&mut self, engine: Engine, what: &str, target: Option<f64>, time: Duration) {
        self.add(engine, what.to_owned(), target, time.as_secs_f64(), ("s", 1), String::new());
    }

    pub fn megabytes(&mut self, engine: Engine, what: &str, target: Option<f64>, bytes: u64) {
        let megabytes = bytes as f64 / 1e6;
        self.add(engine, format!("{what}, resident"), target, megabytes, ("MB", 1), String::new());
    }

    pub fn kibibytes(&mut self, engine: Engine, what: &str, target: Option<f64>, kib: f64, beside: String) {
        self.add(engine, format!("{what}, resident"), target, kib, ("KiB", 1), beside);
    }

    fn add(
        &mut self,
        engine: Engine,
        what: String,
        target: Option<f64>,
        measured: f64,
        (unit, digits): (&'static str, usize),
        beside: String,
    ) {
        let row = Row { engine, what, target, measured, unit, digits, beside };
        // Said at once, since the whole takes minutes.
        eprintln!("{engine}: {}: {measured:.digits$} {unit}", row.what);
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(f, "| what | database | target | measured | of target | beside |")?;
        writeln!(f, "|---|---|---:|---:|---:|---|")?;
        for Row { engine, what, target, measured, unit, digits, beside } in &self.rows {
            let (target, ratio) = match target {
                Some(target) => (format!("≤ {target} {unit}"), format!("{:.0} %", measured / target * 100.0)),
                None => (String::new(), String::new()),
            };
            writeln!(
                f,
                "| {what} | {engine} | {target} | {measured:.digits$} {unit} | {ratio} | {beside} |"
            )?;
        }
        write!(
            f,
            "\nCPU is that of the server and of all processes of PostgreSQL together, per request: the median of \
             three rounds. Times are what the client saw on the same machine."
        )
    }
}

/// The value that so large a part of the sorted values does not exceed.
fn at(sorted: &[Duration], part: f64) -> Option<Duration> {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.checked_sub(1)?).copied()
}

fn millis(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64() * 1000.0
}

/// The middle one of what is sorted.
pub fn median(sorted: &[Duration]) -> Option<Duration> {
    at(sorted, 0.5)
}
