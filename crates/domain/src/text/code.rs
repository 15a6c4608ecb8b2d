//! Short texts that programs compare: regions, labels as Kubernetes has them, and keys of configuration. Knows their form
//! only.

use std::collections::BTreeMap;

use super::{TextFault, text_type};

const MAX_REGION: usize = 63;
const MAX_KEY: usize = 128;
/// Of a label's name and of its value.
const MAX_LABEL: usize = 63;
/// Of the domain before a label's name.
const MAX_PREFIX: usize = 253;
/// How many labels something has at the most.
pub const MAX_LABELS: usize = 64;

fn at_most(text: &str, max: usize) -> Result<(), TextFault> {
    // Every character that passes is one byte long.
    match text.len() > max {
        true => Err(TextFault::TooLong { length: text.chars().count(), max, unit: "characters" }),
        false => Ok(()),
    }
}

/// Letters and digits, with those bytes between them but neither first nor last.
fn is_word(text: &str, between: &[u8]) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || between.contains(&byte);
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    outer(text.bytes().next()) && outer(text.bytes().last()) && text.bytes().all(inner)
}

text_type! {
    /// Where something runs, as its operator calls it, such as `eu-west-1`.
    Region
}

impl Region {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let text = raw.trim();
        if text.is_empty() {
            return Err(TextFault::Empty);
        }
        at_most(text, MAX_REGION)?;
        if !is_word(text, b"-_./") {
            return Err(TextFault::Malformed(
                "must be letters and digits, with - _ . or / between them, as in eu-west-1".into(),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// `None` for blank text.
    pub fn parse_or_clear(raw: &str) -> Result<Option<Self>, TextFault> {
        if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
    }
}

text_type! {
    /// The key of a configuration property, such as `DHIS2_TIMEOUT` or `report.page-size`.
    ConfigKey
}

impl ConfigKey {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        if raw.is_empty() {
            return Err(TextFault::Empty);
        }
        at_most(raw, MAX_KEY)?;
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if raw.starts_with(|first: char| first.is_ascii_digit()) || !raw.split(['.', '-']).all(is_part) {
            return Err(TextFault::Malformed(
                "must be letters, digits and _, with single . or - between them and no digit first, as in REPORT_YEAR or \
                 report.page-size"
                    .into(),
            ));
        }
        Ok(Self(raw.to_owned()))
    }
}

text_type! {
    /// How keys of configuration properties begin, such as `report.`.
    ConfigPrefix
}

impl ConfigPrefix {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        if raw.is_empty() {
            return Err(TextFault::Empty);
        }
        at_most(raw, MAX_KEY)?;
        if !raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) {
            return Err(TextFault::Malformed(
                "has a character that no key has: they are of letters, digits, _ . and -".into(),
            ));
        }
        Ok(Self(raw.to_owned()))
    }

    /// `None` for blank text: every key.
    pub fn parse_optional(raw: &str) -> Result<Option<Self>, TextFault> {
        if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
    }
}

/// Labels by their keys: both as Kubernetes has them, at most [`MAX_LABELS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

/// What is wrong with a list of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFault {
    /// The place in the list, counted from 0, and whether it is the `key` or the `value`; `None` for the whole list.
    pub at: Option<(usize, &'static str)>,
    /// To follow the name of the field.
    pub message: String,
}

impl Labels {
    /// The labels of a list, or everything that is wrong with it.
    pub fn parse(list: &[(&str, &str)]) -> Result<Self, Vec<LabelFault>> {
        if list.len() > MAX_LABELS {
            let message = format!("has {} labels: give at most {MAX_LABELS}", list.len());
            return Err(vec![LabelFault { at: None, message }]);
        }
        let mut labels = BTreeMap::new();
        let mut faults = Vec::new();
        for (index, (key, value)) in list.iter().enumerate() {
            let mut fault = |part, message| faults.push(LabelFault { at: Some((index, part)), message });
            if let Err(wrong) = judge_key(key) {
                fault("key", wrong.message());
            } else if labels.contains_key(*key) {
                fault("key", format!("stands in the list twice: {key}"));
            }
            if let Err(wrong) = judge_value(value) {
                fault("value", wrong.message());
            }
            labels.insert((*key).to_owned(), (*value).to_owned());
        }
        if faults.is_empty() { Ok(Self(labels)) } else { Err(faults) }
    }

    /// Takes back what `parse` once made, from our own storage only.
    pub fn from_stored(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok().map(Self)
    }

    /// As they are stored.
    pub fn to_stored(&self) -> String {
        serde_json::Value::from_iter(self.iter()).to_string()
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

fn judge_key(key: &str) -> Result<(), TextFault> {
    if key.is_empty() {
        return Err(TextFault::Empty);
    }
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    at_most(name, MAX_LABEL)?;
    let malformed = || {
        Err(TextFault::Malformed(
            "must be letters and digits, with - _ or . between them, after a domain and a / if need be, as in team or \
             example.org/cost-center"
                .into(),
        ))
    };
    if !is_word(name, b"-_.") {
        return malformed();
    }
    let Some(prefix) = prefix else { return Ok(()) };
    at_most(prefix, MAX_PREFIX)?;
    let is_part = |part: &str| {
        part.len() <= MAX_LABEL && is_word(part, b"-") && !part.bytes().any(|b| b.is_ascii_uppercase())
    };
    if prefix.split('.').all(is_part) { Ok(()) } else { malformed() }
}

fn judge_value(value: &str) -> Result<(), TextFault> {
    at_most(value, MAX_LABEL)?;
    match value.is_empty() || is_word(value, b"-_.") {
        true => Ok(()),
        false => Err(TextFault::Malformed(
            "must be letters and digits, with - _ or . between them, or empty".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_the_names_that_operators_give() {
        for good in ["eu-west-1", "europe-west4", "us-pdx-1", "K", "eu/lon.2", "on_premises", " eu "] {
            assert_eq!(Region::parse(good).map(Region::into_string).as_deref(), Ok(good.trim()));
        }
        for bad in ["-eu", "eu-", "eu west", "été", "eu\u{0}", "eu\n1", "eu;1"] {
            assert!(matches!(Region::parse(bad), Err(TextFault::Malformed(_))), "{bad:?}");
        }
        assert!(Region::parse(&"r".repeat(63)).is_ok());
        assert!(matches!(Region::parse(&"r".repeat(64)), Err(TextFault::TooLong { length: 64, .. })));
        assert_eq!(Region::parse_or_clear(" "), Ok(None));
    }

    #[test]
    fn keys_of_configuration_are_named_like_variables_or_with_dots() {
        for good in ["A", "_x", "REPORT_YEAR", "report.page-size", "a.0", "camelCase", "__", &"k".repeat(128)]
        {
            assert_eq!(ConfigKey::parse(good).map(ConfigKey::into_string).as_deref(), Ok(good));
        }
        for bad in [
            "1a", "a b", " a", "a.", ".a", "a..b", "a-", "-a", "a.-b", "a/b", "é", "a\u{0}", "a\n", "a=b",
            "$a",
        ] {
            assert!(matches!(ConfigKey::parse(bad), Err(TextFault::Malformed(_))), "{bad:?}");
        }
        assert_eq!(ConfigKey::parse(""), Err(TextFault::Empty));
        assert!(matches!(ConfigKey::parse(&"k".repeat(129)), Err(TextFault::TooLong { length: 129, .. })));
    }

    #[test]
    fn a_prefix_is_of_what_keys_are_of() {
        for good in ["report.", "A", "a-b_c.", "1"] {
            assert_eq!(ConfigPrefix::parse_optional(good).unwrap().unwrap().as_str(), good);
        }
        for bad in ["a b", "%", "é", "a\u{0}"] {
            assert!(ConfigPrefix::parse_optional(bad).is_err(), "{bad:?}");
        }
        assert!(ConfigPrefix::parse(&"k".repeat(129)).is_err());
        assert_eq!(ConfigPrefix::parse_optional(" "), Ok(None));
    }

    #[test]
    fn labels_are_those_of_kubernetes() {
        let (long, prefix) = ("n".repeat(63), format!("{}.org/x", "p".repeat(63)));
        for key in ["team", "example.org/cost-center", "A_b.c-d", "7", &long, &prefix] {
            assert!(Labels::parse(&[(key, "v")]).is_ok(), "{key}");
        }
        for key in [
            "",
            "-a",
            "a-",
            "a b",
            "a/b/c",
            "/a",
            "a/",
            "Example.org/a",
            "a..b/c",
            "é",
            "a\u{0}",
            &format!("{long}n"),
            &format!("{}.org/x", "p".repeat(64)),
        ] {
            let faults = Labels::parse(&[("fine", "v"), (key, "v")]).unwrap_err();
            assert_eq!(faults[0].at, Some((1, "key")), "{key:?}");
        }
        for (value, is_good) in [
            ("", true),
            ("v1.2_x-3", true),
            (long.as_str(), true),
            (&format!("{long}n"), false),
            ("-", false),
            ("a b", false),
            ("a/b", false),
        ] {
            assert_eq!(Labels::parse(&[("key", value)]).is_ok(), is_good, "{value:?}");
        }
    }

    #[test]
    fn every_fault_of_a_list_of_labels_is_told() {
        let faults = Labels::parse(&[("a", "1"), ("a", "-"), ("", "x")]).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.at).collect();
        assert_eq!(places, [Some((1, "key")), Some((1, "value")), Some((2, "key"))]);
        assert!(faults[0].message.ends_with("twice: a"), "{faults:?}");
        let keys: Vec<String> = (0..65).map(|n| format!("k{n}")).collect();
        let list: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        assert!(Labels::parse(&list[..64]).is_ok());
        assert_eq!(Labels::parse(&list).unwrap_err()[0].at, None);
    }

    #[test]
    fn labels_come_back_from_storage_by_key() {
        let labels = Labels::parse(&[("b", "2"), ("a", "")]).unwrap();
        assert_eq!(labels.to_stored(), r#"{"a":"","b":"2"}"#);
        assert_eq!(Labels::from_stored(&labels.to_stored()), Some(labels.clone()));
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
        assert_eq!(Labels::from_stored("{}"), Some(Labels::default()));
    }
}
