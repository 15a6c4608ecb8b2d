//! Countries of ISO 3166-1, by their two-letter codes. Refuses to know any other division of the world.

use super::TextFault;
use serde::{Deserialize, Serialize};
use std::fmt;

/// No list is longer: the standard has 249 codes.
pub const MAX_COUNTRIES: usize = 250;

/// An officially assigned ISO 3166-1 alpha-2 code, in upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub struct CountryCode(&'static str);

impl CountryCode {
    /// Takes the code in either case.
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let code = raw.trim();
        if code.is_empty() {
            return Err(TextFault::Empty);
        }
        match rust_iso3166::ALL.iter().find(|country| country.alpha2.eq_ignore_ascii_case(code)) {
            Some(country) => Ok(Self(country.alpha2)),
            None => Err(TextFault::Malformed(
                "must be a two-letter country code of ISO 3166-1, such as FR".into(),
            )),
        }
    }

    /// Every country, by name.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<_> = rust_iso3166::ALL.iter().map(|country| Self(country.alpha2)).collect();
        // Without their accents, so that Åland does not stand after Zimbabwe.
        all.sort_by_cached_key(|code| deunicode::deunicode(code.name()));
        all
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The English short name of the standard.
    pub fn name(self) -> &'static str {
        rust_iso3166::from_alpha2(self.0).map_or(self.0, |country| country.name)
    }

    /// The flag emoji: the two letters as regional indicators.
    pub fn flag(self) -> String {
        self.0
            .bytes()
            .filter_map(|letter| char::from_u32(0x1F1E6 + u32::from(letter) - u32::from(b'A')))
            .collect()
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl From<CountryCode> for &'static str {
    fn from(code: CountryCode) -> Self {
        code.0
    }
}

impl TryFrom<String> for CountryCode {
    type Error = TextFault;

    fn try_from(raw: String) -> Result<Self, TextFault> {
        Self::parse(&raw)
    }
}

/// The distinct countries of a list in its order, or the index of the first faulty item (counted from 0).
pub fn parse_countries(raw: &[String]) -> Result<Vec<CountryCode>, (usize, TextFault)> {
    let mut countries = Vec::new();
    for (index, item) in raw.iter().enumerate() {
        if index == MAX_COUNTRIES {
            return Err((
                index,
                TextFault::TooLong { length: raw.len(), max: MAX_COUNTRIES, unit: "countries in the list" },
            ));
        }
        let country = CountryCode::parse(item).map_err(|fault| (index, fault))?;
        if !countries.contains(&country) {
            countries.push(country);
        }
    }
    Ok(countries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_has_a_code_a_name_and_a_flag() {
        for (raw, code, name, flag) in [
            ("FR", "FR", "France", "🇫🇷"),
            (" cd ", "CD", "Congo (Democratic Republic of the)", "🇨🇩"),
            ("tR", "TR", "Türkiye", "🇹🇷"),
            ("CI", "CI", "Côte d'Ivoire", "🇨🇮"),
        ] {
            let country = CountryCode::parse(raw).unwrap();
            assert_eq!((country.as_str(), country.name(), country.flag().as_str()), (code, name, flag));
        }
        let all = CountryCode::all();
        assert_eq!(all.len(), 249);
        let names = |codes: &[CountryCode]| codes.iter().map(|code| code.name()).collect::<Vec<_>>();
        assert_eq!(names(&all[..3]), ["Afghanistan", "Åland Islands", "Albania"]);
        assert_eq!(names(&all[248..]), ["Zimbabwe"]);
    }

    #[test]
    fn what_is_no_assigned_code_is_refused() {
        for bad in ["", "F", "FRA", "XX", "ZZ", "EU", "UK", "SU", "F R", "ＦＲ", "F\u{0}", "ſR", "12"] {
            assert!(CountryCode::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_drops_repeats() {
        let list = |codes: &[&str]| codes.iter().map(|code| code.to_string()).collect::<Vec<_>>();
        let codes = parse_countries(&list(&["SN", "fr", "sn", "BE", "FR"])).unwrap();
        assert_eq!(codes.iter().map(|code| code.as_str()).collect::<Vec<_>>(), ["SN", "FR", "BE"]);
        assert_eq!(parse_countries(&list(&["FR", "SN", "XX"])).unwrap_err().0, 2);
        assert_eq!(parse_countries(&vec!["FR".to_owned(); 250]).unwrap().len(), 1);
        assert_eq!(parse_countries(&vec!["FR".to_owned(); 251]).unwrap_err().0, 250);
        assert_eq!(parse_countries(&[]), Ok(vec![]));
    }
}
