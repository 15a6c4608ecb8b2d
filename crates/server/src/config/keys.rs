//! The list of settings, read from `config.default.toml`: name, default, meaning, limits, environment variable.
//! Knows the form of that file's comments. Knows no layer above the defaults and no meaning of a value.

use std::{ops::RangeInclusive, sync::LazyLock};

use toml::{Table, Value};

const DEFAULTS: &str = include_str!("../config.default.toml");

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| declared(DEFAULTS));

/// One setting, as `config.default.toml` declares it.
#[derive(Debug)]
pub(super) struct Key {
    pub section: String,
    /// `section.name`, by which the program and its messages call the setting.
    pub path: String,
    pub name: String,
    pub default: Value,
    pub meaning: String,
    pub range: Option<RangeInclusive<i64>>,
    /// The texts allowed; empty where any text is.
    pub choices: Vec<String>,
    pub environment: String,
    pub secret: bool,
}

/// Every setting, in the order of the file.
pub(super) fn keys() -> &'static [Key] {
    &KEYS
}

fn declared(document: &str) -> Vec<Key> {
    let values: Table = document.parse().expect("config.default.toml is TOML, which a test holds");
    let (mut keys, mut section, mut comment) = (Vec::new(), String::new(), Vec::new());
    for line in document.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            comment.clear();
        } else if let Some((name, _)) = line.split_once(" = ") {
            keys.push(key(&section, name, values[&section][name].clone(), &comment));
            comment.clear();
        } else {
            comment.clear();
        }
    }
    keys
}

fn key(section: &str, name: &str, default: Value, comment: &[&str]) -> Key {
    let mut key = Key {
        section: section.to_owned(),
        path: format!("{section}.{name}"),
        name: name.to_owned(),
        default,
        meaning: String::new(),
        range: None,
        choices: Vec::new(),
        environment: String::new(),
        secret: false,
    };
    let mut meaning = Vec::new();
    for line in comment {
        if let Some(range) = line.strip_prefix("Range: ") {
            key.range = range
                .split_once(" to ")
                .and_then(|(least, most)| Some(least.parse().ok()?..=most.parse().ok()?));
        } else if let Some(choices) = line.strip_prefix("One of: ") {
            key.choices = choices.split(", ").map(str::to_owned).collect();
        } else if let Some(name) = line.strip_prefix("Environment: ") {
            key.environment = name.to_owned();
        } else if *line == "Secret." {
            key.secret = true;
        } else {
            meaning.push(*line);
        }
    }
    key.meaning = meaning.join(" ");
    key
}

/// The Markdown table of every setting for the README: environment variable, file key, default, meaning.
pub fn reference_markdown() -> String {
    let mut table =
        String::from("| environment variable | file key | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in keys() {
        let default = match &key.default {
            Value::String(text) if text.is_empty() => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let limits = match &key.range {
            Some(range) => format!(" ({} to {})", range.start(), range.end()),
            None if !key.choices.is_empty() => format!(" (one of: {})", key.choices.join(", ")),
            None => String::new(),
        };
        let meaning = key.meaning.replace('<', "&lt;").replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | `{}` | {default} | {meaning}{limits} |\n",
            key.environment, key.path
        ));
    }
    table
}
