//! Configuration properties: what a workspace keeps by name, in the clear and for all its members. Knows which values there
//! are and how many; refuses to know who may change them.

mod suspicion;

pub use suspicion::{Part, Suspicion, suspicions};

use crate::{
    access::policy::words,
    codes,
    refusal::{FieldFault, Refusal},
};

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// The longest number, in characters.
const MAX_NUMBER: usize = 1000;
/// How many properties a workspace has at the most.
pub const MAX_PROPERTIES: usize = 1000;
/// How many are set at once at the most.
pub const MAX_BATCH: usize = 100;
/// A number of more digits may have lost some on the way here: a double keeps this many of any.
const SAFE_DIGITS: usize = 15;

codes! {
    /// Why a configuration property was not set.
    SetConfigPropertyCode { LimitReached, WorkspaceArchived }
}
codes! {
    /// Why no configuration property was set.
    SetConfigPropertiesCode { LimitReached, WorkspaceArchived }
}
codes! {
    /// Why a configuration property was not deleted.
    DeleteConfigPropertyCode { NotFound, WorkspaceArchived }
}

words! {
    /// What kind of value a property has.
    ConfigKind {
        /// A text.
        String = "STRING",
        /// A number of any size.
        Number = "NUMBER",
        /// True or false.
        Boolean = "BOOLEAN",
        /// Any other JSON: an object or a list, mostly.
        Json = "JSON",
    }
}

/// A value, as JSON text: of a number every digit is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigValue {
    kind: ConfigKind,
    json: String,
}

impl ConfigValue {
    /// A text, whatever is in it.
    pub fn string(text: &str) -> Result<Self, FieldFault> {
        at_most(text)?;
        Ok(Self { kind: ConfigKind::String, json: serde_json::Value::from(text).to_string() })
    }

    /// True or false.
    pub fn boolean(value: bool) -> Self {
        Self { kind: ConfigKind::Boolean, json: value.to_string() }
    }

    /// A number as JSON writes it, with all its digits.
    pub fn number(text: &str) -> Result<Self, FieldFault> {
        let text = text.trim();
        if text.len() > MAX_NUMBER {
            let message = format!("is too long: {} characters, at most {MAX_NUMBER}", text.chars().count());
            return Err(FieldFault(message));
        }
        if !is_number(text) {
            return Err(FieldFault("is no number as JSON writes it, such as -12.50 or 6.02e23".to_owned()));
        }
        Ok(Self { kind: ConfigKind::Number, json: text.to_owned() })
    }

    /// A number that came as one: of more digits than those who carry it keep, it must come as a text.
    pub fn carried_number(number: &serde_json::Number) -> Result<Self, FieldFault> {
        if !is_exact(number) {
            return Err(FieldFault(
                "has more digits than a JSON number carries: give it as a text, as in \"12345678901234567890123\""
                    .to_owned(),
            ));
        }
        Self::number(&number.to_string())
    }

    /// Any JSON.
    pub fn json(text: &str) -> Result<Self, FieldFault> {
        at_most(text)?;
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|_| FieldFault("is no JSON".to_owned()))?;
        if !holds_exact_numbers(&value) {
            return Err(FieldFault(
                "holds a number of more digits than a JSON number carries: write that one as a text"
                    .to_owned(),
            ));
        }
        Ok(Self { kind: ConfigKind::Json, json: text.to_owned() })
    }

    /// Takes back what was made by one of the others, from our own storage only.
    pub fn from_stored(kind: ConfigKind, json: String) -> Self {
        Self { kind, json }
    }

    /// What kind it is.
    pub fn kind(&self) -> ConfigKind {
        self.kind
    }

    /// The value as JSON text.
    pub fn as_json(&self) -> &str {
        &self.json
    }
}

fn at_most(text: &str) -> Result<(), FieldFault> {
    match text.len() > MAX_VALUE {
        true => Err(FieldFault(format!("is too long: {} bytes, at most {MAX_VALUE}", text.len()))),
        false => Ok(()),
    }
}

/// The grammar of RFC 8259, section 6.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// Whether no digit can have been lost of a number that came as a JSON number: integers of 64 bits are kept, larger ones
/// are doubles, in which a long one may have been rounded. Fractions are taken for the doubles that they mostly are.
fn is_exact(number: &serde_json::Number) -> bool {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 => {
            let text = number.to_string();
            let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
            let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            digits.trim_start_matches('0').trim_end_matches('0').len() <= SAFE_DIGITS
        }
        _ => true,
    }
}

fn holds_exact_numbers(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => is_exact(number),
        serde_json::Value::Array(items) => items.iter().all(holds_exact_numbers),
        serde_json::Value::Object(members) => members.values().all(holds_exact_numbers),
        _ => true,
    }
}

/// Whether a workspace that has so many properties may have so many more.
pub fn judge_room<C>(limit_reached: C, present: usize, added: usize) -> Result<(), Refusal<C>> {
    if present + added <= MAX_PROPERTIES {
        return Ok(());
    }
    let message = format!(
        "The workspace has {present} configuration properties, and {} would be more than the {MAX_PROPERTIES} it can have. \
         Delete some first.",
        present + added
    );
    Err(Refusal::new(limit_reached, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        for good in [
            "0",
            "-0",
            "7",
            "-12.50",
            "1e400",
            "6.02e23",
            "1E-7",
            "12345678901234567890123456789012345678901234567890",
            "3.14159265358979323846264338327950288",
            " 1 ",
        ] {
            assert_eq!(ConfigValue::number(good).unwrap().as_json(), good.trim());
        }
        for bad in [
            "", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x10", "1_000", "NaN", "Infinity", "1 2", "１",
            "1\u{0}",
        ] {
            assert!(ConfigValue::number(bad).is_err(), "{bad:?}");
        }
        assert!(ConfigValue::number(&"9".repeat(1000)).is_ok());
        assert!(ConfigValue::number(&"9".repeat(1001)).is_err());
    }

    #[test]
    fn a_number_that_may_have_lost_digits_is_refused() {
        let carried = |text: &str| ConfigValue::carried_number(&serde_json::from_str(text).unwrap());
        for (given, kept) in [
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9007199254740993", "9007199254740993"),
            ("0.1", "0.1"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("100000000000000000000", "100000000000000000000"),
            ("1e100", "1e100"),
        ] {
            let number = carried(given).unwrap();
            let same = |text: &str| text.parse::<f64>().unwrap();
            assert_eq!(same(number.as_json()), same(kept), "{given}");
            if !given.contains("000000000000000000") && !given.contains('e') {
                assert_eq!(number.as_json(), kept);
            }
        }
        for lost in ["18446744073709551617", "123456789012345678901234567890", "-92233720368547758091"] {
            assert!(carried(lost).is_err(), "{lost}");
            assert!(ConfigValue::json(&format!(r#"{{"a":[1,{lost}]}}"#)).is_err(), "{lost}");
        }
    }

    #[test]
    fn values_are_sixty_four_kibibytes_at_the_most() {
        assert!(ConfigValue::string(&"x".repeat(65_536)).is_ok());
        assert!(ConfigValue::string(&"é".repeat(32_769)).is_err());
        assert!(ConfigValue::json(&format!("\"{}\"", "x".repeat(65_534))).is_ok());
        assert!(ConfigValue::json(&format!("\"{}\"", "x".repeat(65_535))).is_err());
        assert_eq!(ConfigValue::string("a\u{0}\n\"é").unwrap().as_json(), r#""a\u0000\n\"é""#);
        assert!(ConfigValue::json("{").is_err());
    }

    #[test]
    fn a_thousand_properties_are_enough() {
        assert!(judge_room((), 900, 100).is_ok());
        let refusal = judge_room((), 950, 51).unwrap_err();
        assert!(refusal.message.contains("1001 would be more than the 1000"), "{}", refusal.message);
        assert!(judge_room((), 1000, 0).is_ok());
    }
}
