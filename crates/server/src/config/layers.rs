//! Lays file and environment over the defaults, and notes every fault with the place it came from.
//! Knows types, ranges and choices as `config.default.toml` declares them. Knows no setting by name.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::keys::{Key, keys};

/// File used when none is named, if it exists.
const DEFAULT_FILE: &str = "guildhall.toml";
/// Names the file; the one `GUILDHALL_` variable that is no setting.
const FILE_VARIABLE: &str = "GUILDHALL_CONFIG";
const PREFIX: &str = "GUILDHALL_";

/// What settings are read from, beside the defaults. Holds contents, so that loading touches nothing.
#[derive(Default)]
pub struct Sources {
    pub file: Option<SourceFile>,
    pub environment: Vec<(OsString, OsString)>,
}

/// A settings file and the name by which faults call it.
pub struct SourceFile {
    pub name: String,
    pub content: String,
}

impl Sources {
    /// The process's environment, and the file at `path`, else the one `GUILDHALL_CONFIG` names, else
    /// `./guildhall.toml` if there is one. A named file that cannot be read is a fault.
    pub fn of_process(path: Option<&Path>) -> Result<Self, ConfigFaults> {
        let environment: Vec<_> = std::env::vars_os().collect();
        let by_variable = environment.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        let (path, origin) = match (path, by_variable) {
            (Some(path), _) => (path.to_owned(), Some(Origin::Argument)),
            (None, Some((_, value))) => (value.into(), Some(Origin::Environment(FILE_VARIABLE.to_owned()))),
            (None, None) => (PathBuf::from(DEFAULT_FILE), None),
        };
        let file = match (fs::read_to_string(&path), origin) {
            (Ok(content), _) => {
                Some(SourceFile { name: path.to_string_lossy().escape_debug().to_string(), content })
            }
            (Err(fault), None) if fault.kind() == io::ErrorKind::NotFound => None,
            (Err(fault), origin) => {
                return Err(ConfigFaults(vec![Fault {
                    subject: path.display().to_string(),
                    problem: format!("the configuration file cannot be read: {fault}"),
                    origin: origin.unwrap_or(Origin::Default),
                }]));
            }
        };
        Ok(Self { file, environment })
    }
}

/// Where a setting's value came from. Displays as the end of a sentence: `guildhall.toml line 12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Not given, made at the first start and kept in this file.
    Generated(PathBuf),
    File {
        name: String,
        line: usize,
    },
    Environment(String),
    /// The command line's `--config`.
    Argument,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Generated(path) => {
                write!(f, "generated, in {}", path.display().to_string().escape_debug())
            }
            Self::File { name, line } => write!(f, "{name} line {line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Argument => f.write_str("--config"),
        }
    }
}

/// One fault: the key (or file, or variable), what is wrong with it, and where it was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub subject: String,
    pub problem: String,
    pub origin: Origin,
}

/// Every fault of a configuration, in the order found; displays as a list for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<Fault>);

impl std::error::Error for ConfigFaults {}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a fault:")?,
            count => write!(f, "the configuration has {count} faults:")?,
        }
        self.0
            .iter()
            .try_for_each(|fault| write!(f, "\n  {}: {} ({})", fault.subject, fault.problem, fault.origin))
    }
}

/// The value in force of one setting, and where it came from.
#[derive(Clone)]
pub(super) struct Setting {
    pub key: &'static Key,
    pub value: Value,
    pub origin: Origin,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.key.path, self.origin)
    }
}

/// All settings, typed as declared. After a fault the default stands in, so that reading goes on and every
/// fault is found.
pub(super) struct Layers {
    settings: BTreeMap<&'static str, Setting>,
    pub faults: Vec<Fault>,
}

impl Layers {
    pub fn new(sources: &Sources) -> Self {
        let settings = keys()
            .iter()
            .map(|key| {
                (key.path.as_str(), Setting { key, value: key.default.clone(), origin: Origin::Default })
            })
            .collect();
        let mut layers = Self { settings, faults: Vec::new() };
        if let Some(file) = &sources.file {
            layers.lay_file(file);
        }
        layers.lay_environment(&sources.environment);
        layers
    }

    fn lay_file(&mut self, file: &SourceFile) {
        let origin = |offset: usize| Origin::File {
            name: file.name.clone(),
            line: 1 + file.content.bytes().take(offset).filter(|byte| *byte == b'\n').count(),
        };
        let (places, values) = match parse(&file.content) {
            Ok(parsed) => parsed,
            Err((problem, offset)) => {
                let origin = origin(offset);
                return self.faults.push(Fault { subject: file.name.clone(), problem, origin });
            }
        };
        for (section, place) in places.get_ref() {
            let section_name: &str = section.get_ref();
            let DeValue::Table(entries) = place.get_ref() else {
                self.unknown_in_file(section_name, origin(section.span().start));
                continue;
            };
            if !keys().iter().any(|key| key.section == section_name) {
                let known = keys().iter().map(|key| key.section.as_str());
                let problem = format!("no such section{}", suggestion(section_name, known));
                let origin = origin(section.span().start);
                self.faults.push(Fault { subject: format!("[{section_name}]"), problem, origin });
                continue;
            }
            for name in entries.keys() {
                let path = format!("{section_name}.{}", name.get_ref());
                let origin = origin(name.span().start);
                match keys().iter().find(|key| key.path == path) {
                    Some(key) => {
                        let value = values[section_name][name.get_ref().as_ref()].clone();
                        self.lay(key, typed(key, value), origin);
                    }
                    None => self.unknown_in_file(&path, origin),
                }
            }
        }
        // The parser hands the keys out by name; people read their file from the top.
        self.faults.sort_by_key(|fault| match fault.origin {
            Origin::File { line, .. } => line,
            _ => 0,
        });
    }

    fn unknown_in_file(&mut self, path: &str, origin: Origin) {
        let problem = format!("no such key{}", suggestion(path, keys().iter().map(|key| key.path.as_str())));
        self.faults.push(Fault { subject: path.to_owned(), problem, origin });
    }

    fn lay_environment(&mut self, environment: &[(OsString, OsString)]) {
        for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
            let name = name.to_string_lossy();
            let origin = Origin::Environment(name.to_string());
            if let Some(key) = keys().iter().find(|key| key.environment == name) {
                let typed = match value.to_str() {
                    Some(text) => typed(key, from_text(key, text)),
                    None => Err("is not UTF-8 text".to_owned()),
                };
                self.lay(key, typed, origin);
            } else if name.starts_with(PREFIX)
                && name != FILE_VARIABLE
                && !set_by_orchestrator(&name, &value.to_string_lossy())
            {
                let known = keys().iter().map(|key| key.environment.as_str());
                let problem = format!("no such setting{}", suggestion(&name, known));
                self.faults.push(Fault { subject: name.to_string(), problem, origin });
            }
        }
    }

    fn lay(&mut self, key: &'static Key, typed: Result<Value, String>, origin: Origin) {
        match typed {
            Ok(value) => {
                self.settings.insert(&key.path, Setting { key, value, origin });
            }
            Err(problem) => self.faults.push(Fault { subject: key.path.clone(), problem, origin }),
        }
    }

    fn setting(&self, path: &str) -> &Setting {
        self.settings.get(path).expect("config.default.toml declares every key the program reads")
    }

    /// Notes that the value of `path` is at fault.
    pub fn fault(&mut self, path: &str, problem: impl Into<String>) {
        let Setting { key, origin, .. } = self.setting(path).clone();
        self.faults.push(Fault { subject: key.path.clone(), problem: problem.into(), origin });
    }

    /// The text in force; empty means not set.
    pub fn text(&self, path: &str) -> String {
        self.setting(path).value.as_str().unwrap_or_default().to_owned()
    }

    pub fn flag(&self, path: &str) -> bool {
        self.setting(path).value.as_bool().unwrap_or_default()
    }

    pub fn list(&self, path: &str) -> Vec<String> {
        let items = self.setting(path).value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub fn number<T: TryFrom<i64> + Default>(&mut self, path: &str) -> T {
        let value = self.setting(path).value.as_integer().unwrap_or_default();
        T::try_from(value).unwrap_or_else(|_| {
            self.fault(path, format!("{value} is out of range"));
            T::default()
        })
    }

    /// A duration, from a number of units of `unit` seconds.
    pub fn duration(&mut self, path: &str, unit: u64) -> Duration {
        Duration::from_secs(self.number::<u64>(path) * unit)
    }

    /// The text in force, parsed. `None` when it is empty, or at fault, which is then noted; `parse` names the
    /// fault without the key.
    pub fn parsed<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(path);
        if text.is_empty() {
            return None;
        }
        parse(&text).map_err(|problem| self.fault(path, problem)).ok()
    }

    /// Puts the value that an empty setting stands for in its place, for [`Self::into_settings`] to show.
    pub fn stands_for(&mut self, path: &str, value: String, origin: Option<Origin>) {
        if let Some(setting) = self.settings.get_mut(path) {
            setting.value = Value::String(value);
            setting.origin = origin.unwrap_or_else(|| setting.origin.clone());
        }
    }

    /// Every setting in the order of `config.default.toml`, secrets redacted.
    pub fn into_settings(mut self) -> Vec<Setting> {
        keys()
            .iter()
            .filter_map(|key| self.settings.remove(key.path.as_str()))
            .map(|mut setting| {
                if setting.key.secret {
                    redact(&mut setting.value);
                }
                setting
            })
            .collect()
    }
}

/// Hides what is given. That nothing is may be seen.
fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) if text.is_empty() => {}
        other => *other = Value::String("[redacted]".to_owned()),
    }
}

/// A file's tables with the places of their keys, and its values; else the fault and its offset in bytes.
fn parse(content: &str) -> Result<(Spanned<DeTable<'_>>, Table), (String, usize)> {
    let offset = |fault: &toml::de::Error| fault.span().map_or(0, |span| span.start);
    let places = DeTable::parse(content)
        .map_err(|fault| (format!("not valid TOML: {}", fault.message()), offset(&fault)))?;
    // Numbers are read only here, and the parser's message quotes them: an unquoted password could be one.
    let values = content.parse().map_err(|fault: toml::de::Error| {
        ("not valid TOML: a number is too large".to_owned(), offset(&fault))
    })?;
    Ok((places, values))
}

/// An environment variable's text as the type the key has; text that does not fit stays text.
fn from_text(key: &Key, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match &key.default {
        Value::Integer(_) => text.trim().parse().map_or_else(|_| as_text(), Value::Integer),
        Value::Boolean(_) => text.trim().parse().map_or_else(|_| as_text(), Value::Boolean),
        Value::Array(_) => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => as_text(),
    }
}

fn typed(key: &Key, value: Value) -> Result<Value, String> {
    // Only what cannot hold a password is shown: a database URL is text too.
    let shown = if key.secret { "the value".to_owned() } else { value.to_string() };
    let range = key.range.as_ref().map(|range| format!("allowed: {} to {}", range.start(), range.end()));
    let range = range.unwrap_or_default();
    match (&key.default, &value) {
        (Value::Integer(_), Value::Integer(number)) => match &key.range {
            Some(allowed) if !allowed.contains(number) => Err(format!("{shown} is out of range; {range}")),
            _ => Ok(value),
        },
        (Value::Integer(_), _) => Err(format!("{shown} is not a whole number; {range}")),
        (Value::Boolean(_), Value::Boolean(_)) => Ok(value),
        (Value::Boolean(_), _) => Err(format!("{shown} is neither true nor false")),
        (Value::Array(_), Value::Array(items)) if items.iter().all(Value::is_str) => Ok(value),
        (Value::Array(_), _) => Err(format!("{shown} is not a list of texts")),
        (_, Value::String(text)) => {
            if !key.choices.is_empty() && !key.choices.contains(text) {
                Err(format!("{shown} is not one of: {}", key.choices.join(", ")))
            } else if text.contains(char::is_control) {
                Err("the value holds a control character".to_owned())
            } else {
                Ok(value)
            }
        }
        (_, other) => Err(format!("a text in quotation marks is needed, not this {}", other.type_str())),
    }
}

/// Kubernetes and Docker links describe a service called “guildhall…” in variables of these forms.
fn set_by_orchestrator(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && value.contains("://")
        || name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP"))
}

/// `; did you mean X?` for the known name nearest to `unknown`, or nothing where none is near.
fn suggestion<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().replace('.', "_");
    let unknown = bare(unknown);
    let near = |name: &str| {
        let name = bare(name);
        // A right name in the wrong section, or with a section too many, is nearer than its spelling says.
        let nested = unknown.ends_with(&format!("_{name}")) || name.ends_with(&format!("_{unknown}"));
        let leaf = |path: &str| path.split_once('_').map(|(_, leaf)| leaf.to_owned());
        let moved = leaf(&unknown).is_some() && leaf(&unknown) == leaf(&name);
        strsim::normalized_damerau_levenshtein(&unknown, &name) + if nested || moved { 0.5 } else { 0.0 }
    };
    known
        .map(|name| (near(name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(nearness, _)| *nearness >= 0.6)
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}
