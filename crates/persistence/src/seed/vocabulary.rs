//! The words that made-up people, workspaces and texts are put together from.

use guildhall_domain::text::CountryCode;

/// A name that people have somewhere, of about 300 in six scripts.
pub(super) fn person(n: u32) -> String {
    let (given, family) = pick(CULTURES, n);
    let hash = scramble(u64::from(n));
    let of = |names: &[&'static str], hash: u64| names[(hash % names.len() as u64) as usize];
    format!("{} {}", of(given, hash), of(family, hash >> 32))
}

pub(super) fn countries(n: u32) -> Vec<CountryCode> {
    (0..1 + n % 3).filter_map(|part| CountryCode::parse(pick(COUNTRIES, n + part * 5)).ok()).collect()
}

pub(super) fn pick<T: Copy>(of: &[T], n: u32) -> T {
    of[n as usize % of.len()]
}

/// The finaliser of SplitMix64: a fixed number for each number, without a pattern.
pub(super) fn scramble(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

type Names = (&'static [&'static str], &'static [&'static str]);

const CULTURES: &[Names] = &[
    (
        &["Amina", "Chidi", "Fatou", "Kwame", "Ngozi", "Oumar", "Wanjiru", "Zola"],
        &["Abubakar", "Diallo", "Kamau", "Mensah", "Nkosi", "Okafor", "Ouédraogo", "Traoré"],
    ),
    (
        &["Anne-Sophie", "Björn", "Élodie", "Jürgen", "Łukasz", "María José", "Ørjan", "Siobhán"],
        &[
            "de la Cruz",
            "Dvořák",
            "García Márquez",
            "Johansson",
            "Müller",
            "O’Neill",
            "Şahin",
            "Van den Berg",
        ],
    ),
    (&["Алина", "Дмитрий", "Ольга", "Сергей"], &["Иваненко", "Кузнецов", "Петрова", "Шевченко"]),
    (&["أحمد", "خديجة", "فاطمة", "يوسف"], &["الحسن", "بن علي", "منصور", "التونسي"]),
    (&["李", "王", "佐藤", "김"], &["小明", "美玲", "健太", "민준"]),
    (&["अनिल", "प्रिया", "सुनीता", "विक्रम"], &["शर्मा", "गुप्ता", "पाटिल", "सिंह"]),
];

const COUNTRIES: &[&str] =
    &["KE", "SN", "BF", "NE", "CD", "CM", "ML", "TG", "BJ", "RW", "UG", "MZ", "MG", "HT", "NP", "BD", "FR"];

pub(super) const TOPICS: &[&str] = &[
    "Malaria surveillance",
    "Routine immunization",
    "Maternal health",
    "Cholera response",
    "Nutrition survey",
    "Supply chain",
    "Health facility registry",
    "Community health workers",
    "Laboratory network",
    "Seasonal forecasting",
    "Population estimates",
];

pub(super) const PARAGRAPHS: &[&str] = &[
    "Weekly figures of every district, checked on Mondays and published on Tuesdays.",
    "**Before you start**: read the data dictionary, and ask in the channel when a code is missing from it.",
    "- raw extracts: `raw/`\n- cleaned tables: `clean/`\n- what is published: `public/`",
    "The pipeline runs each night at 02:00 UTC. When it fails, the steps to repeat it by hand are below.",
    "Join us for the review of the second quarter: we go through completeness and timeliness together.",
];

#[cfg(test)]
mod tests {
    use guildhall_domain::text::{DisplayName, Markdown, Message};

    use super::*;

    #[test]
    fn every_name_and_text_is_one_that_the_api_would_take() {
        for n in 0..2000 {
            let person = person(n);
            assert_eq!(DisplayName::parse(&person).map(|name| name.as_str().to_owned()), Ok(person));
            assert_eq!(countries(n).len(), 1 + n as usize % 3);
        }
        for text in PARAGRAPHS {
            assert!(Message::parse(text).is_ok() && Markdown::parse(text).is_ok(), "{text}");
        }
    }
}
