//! Names that people read: of persons, workspaces and organizations. Knows which characters can deceive a
//! reader or a mail header; refuses to know whether a name is true or unique.

use super::{CharacterFault, TextFault, at_most, refuse_encoded_word, reorders_text, text_type, trimmed};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeEmoji, UnicodeGeneralCategory};
use unicode_script::{Script, UnicodeScript};
use unicode_security::{mixed_script::AugmentedScriptSet, skeleton};

const MAX_CHARS: usize = 80;
/// UTS 39, 5.4: no living orthography stacks more marks on one letter; beyond it lies text that climbs over
/// its neighbours.
const MAX_STACKED_MARKS: usize = 4;

text_type! {
    /// A name for people to read: NFC, 1–80 characters, single spaces, at least one letter, digit or emoji, in
    /// any script. What deceives is refused: controls, invisible characters, words of mixed alphabets.
    DisplayName
}

impl DisplayName {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let text = trimmed(raw, MAX_CHARS)?;
        refuse_deceptive_characters(text)?;
        let name = text.nfc().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
        at_most(&name, MAX_CHARS)?;
        refuse_encoded_word(&name)?;
        if !name.chars().any(|c| c.is_alphanumeric() || is_emoji(c)) {
            return Err(TextFault::Malformed("needs at least one letter, digit or emoji".into()));
        }
        if name.starts_with(is_mark) {
            return Err(TextFault::Malformed(
                "begins with an accent that belongs to no letter: remove it".into(),
            ));
        }
        if imitates_letters(&name) {
            return Err(TextFault::MixedScripts);
        }
        Ok(Self(name))
    }
}

fn refuse_deceptive_characters(text: &str) -> Result<(), TextFault> {
    let characters: Vec<char> = text.chars().collect();
    let mut stacked = 0;
    for (index, &c) in characters.iter().enumerate() {
        let (before, after) = (characters[..index].last().copied(), characters.get(index + 1).copied());
        stacked = if c.general_category() == GeneralCategory::NonspacingMark { stacked + 1 } else { 0 };
        let kind = if c.is_control() {
            CharacterFault::Control
        } else if steers_direction(c) {
            CharacterFault::Direction
        } else if is_never_visible(c) && !shapes_neighbours(&characters[..index], c, after)
            || is_variation_selector(c) && !before.is_some_and(|before| varies(before, c))
        {
            CharacterFault::Invisible
        } else if stacked > MAX_STACKED_MARKS {
            CharacterFault::NotAllowed
        } else {
            continue;
        };
        return Err(TextFault::Character { kind, found: c, position: index + 1 });
    }
    Ok(())
}

/// All bidirectional controls: those that reorder text, and the marks that steer neutral characters.
pub(super) fn steers_direction(c: char) -> bool {
    reorders_text(c) || matches!(c, '\u{200E}' | '\u{200F}' | '\u{061C}')
}

/// Characters that draw nothing by themselves, or that nobody has defined: zero-width ones, tags, fillers,
/// private use, unassigned. Variation selectors are left to [`is_variation_selector`].
pub(super) fn is_never_visible(c: char) -> bool {
    use GeneralCategory::{Format, PrivateUse, Unassigned};
    // Blank letters, marks and symbols, whose category does not tell; U+FFFC and U+FFFD stand for lost content.
    matches!(
        c,
        '\u{034F}'
            | '\u{115F}'
            | '\u{1160}'
            | '\u{17B4}'
            | '\u{17B5}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{FFA0}'
            | '\u{FFFC}'
            | '\u{FFFD}'
            | '\u{1D159}'
    ) || !c.is_ascii() && matches!(c.general_category(), Format | PrivateUse | Unassigned)
}

fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{180B}'..='\u{180D}' | '\u{180F}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

/// Whether `selector` picks a form of the character before it that exists: text or emoji style, variants of a
/// Han character (Japanese family names need them), Mongolian forms.
fn varies(before: char, selector: char) -> bool {
    match selector {
        '\u{FE0E}' | '\u{FE0F}' => before.is_emoji_char(),
        '\u{FE00}'..='\u{FE02}' | '\u{E0100}'..='\u{E01EF}' => before.script() == Script::Han,
        '\u{180B}'..='\u{180F}' => before.script() == Script::Mongolian,
        _ => false,
    }
}

/// Whether `c` is a joiner where writing needs one: between emoji, after a virama, or between two letters of a
/// script whose letters join (RFC 5892, A.1 and A.2, slightly simplified).
fn shapes_neighbours(before: &[char], c: char, after: Option<char>) -> bool {
    let (is_zwj, is_zwnj) = (c == '\u{200D}', c == '\u{200C}');
    let Some(&previous) = before.last().filter(|_| is_zwj || is_zwnj) else { return false };
    if canonical_combining_class(previous) == 9 {
        return true;
    }
    let Some(next) = after else { return false };
    let pictograph = || before.iter().rev().find(|&&c| !is_variation_selector(c));
    is_zwj && is_emoji(next) && pictograph().is_some_and(|&c| is_emoji(c))
        || joins(previous.script()) && (previous.script(), is_mark(next)) == (next.script(), false)
}

fn joins(script: Script) -> bool {
    use Script::*;
    matches!(
        script,
        Arabic
            | Syriac
            | Mandaic
            | Nko
            | Mongolian
            | Devanagari
            | Bengali
            | Gurmukhi
            | Gujarati
            | Oriya
            | Tamil
            | Telugu
            | Kannada
            | Malayalam
            | Sinhala
            | Khmer
            | Myanmar
    )
}

fn is_emoji(c: char) -> bool {
    !c.is_ascii() && c.is_emoji_char()
}

fn is_mark(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Mark
}

/// Applies the "highly restrictive" level of UTS 39 to each word, since bilingual names are honest
/// ("IT-отдел", "Ministry وزارة") while a word of two alphabets is a disguise ("pаypal"). Beside Latin words, the
/// others together must have a letter that Latin lacks: in "Acme Со" they imitate it throughout.
fn imitates_letters(name: &str) -> bool {
    if name.is_ascii() || is_coherent(name) {
        return false;
    }
    let words = || name.split(|c: char| !c.is_alphanumeric() && !is_mark(c)).filter(|word| !word.is_empty());
    let foreign: String = words().filter(|word| !is_latin(word)).collect();
    let looks_latin = || skeleton(&foreign).filter(|&c| !is_mark(c)).all(|c| c.is_ascii());
    !words().all(is_coherent) || !foreign.is_empty() && looks_latin()
}

/// One script, or one of the sets that Japanese, Chinese and Korean write together with Latin.
fn is_coherent(text: &str) -> bool {
    let (mut all, mut beyond_latin) = (AugmentedScriptSet::default(), AugmentedScriptSet::default());
    for set in text.chars().map(AugmentedScriptSet::for_char) {
        all.intersect_with(set);
        if !set.base.contains_script(Script::Latin) {
            beyond_latin.intersect_with(set);
        }
    }
    !all.is_empty() || beyond_latin.jpan || beyond_latin.hanb || beyond_latin.kore
}

fn is_latin(word: &str) -> bool {
    AugmentedScriptSet::for_str(word).base.contains_script(Script::Latin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_world_are_accepted_as_written() {
        for name in [
            "Ann",
            "acme.org",
            "O'Brien & Söhne (3)",
            "X Æ A-12",
            "Nguyễn Thị Ánh",
            "Ibrahim Işık",
            "Łódź",
            "7",
            "Министерство здравоохранения",
            "وزارة الصحة",
            "می‌خواهم",
            "Υπουργείο Υγείας",
            "משרד הבריאות",
            "स्वास्थ्य मंत्रालय",
            "क्‍ष",
            "നന്‍",
            "শ্রী",
            "กระทรวงสาธารณสุข",
            "보건복지부",
            "Samsung 삼성",
            "厚生労働省",
            "さくらチームA",
            "ラーメン屋 Tokyo",
            "北京 Lab",
            "ㄅㄆ 北京",
            "葛\u{E0100}城",
            "የጤና ሚኒስቴር",
            "Հայաստան",
            "საქართველო",
            "🚀",
            "Team 🚀",
            "👩‍⚕️ Health",
            "👨‍👩‍👧‍👦",
            "👍🏽",
            "❤️‍🔥",
            "1️⃣ First",
            "🇫🇷 France",
            "™",
            "IT-отдел",
            "Отдел IT",
            "Работа с IT",
            "Ministry وزارة",
            "Москва Lab 北京",
            "β-carotene",
            "µ-Lab",
            "Čačak",
            "שָׁלוֹם",
        ] {
            assert_eq!(
                DisplayName::parse(name).map(DisplayName::into_string).as_deref(),
                Ok(name),
                "{name:?}"
            );
        }
    }

    #[test]
    fn white_space_and_composition_are_normalised() {
        for (raw, name) in [
            ("  Ann \u{A0}\u{3000} Lee\n", "Ann Lee"),
            ("Zoe\u{308}", "Zoë"),
            ("Ann\u{2028}Lee", "Ann Lee"),
            ("\u{1112}\u{1161}\u{11AB}", "한"),
        ] {
            assert_eq!(DisplayName::parse(raw).unwrap().as_str(), name, "{raw:?}");
        }
        assert!(DisplayName::parse(&"e\u{301}".repeat(80)).is_ok());
        assert!(DisplayName::parse(&"e\u{301}".repeat(81)).is_err());
    }

    #[test]
    fn each_trick_is_refused_for_its_own_reason() {
        use CharacterFault::{Control, Direction, Invisible, NotAllowed};
        for (raw, expected) in [
            ("Ann\u{0}Lee", Control),
            ("Acme\r\nBcc: x@y.org", Control),
            ("a\tb", Control),
            ("a\u{7F}b", Control),
            ("a\u{85}b", Control),
            ("\u{1B}[31mred", Control),
            ("abc\u{202E}fdp.exe", Direction),
            ("a\u{202A}b", Direction),
            ("a\u{2066}b", Direction),
            ("a\u{2069}b", Direction),
            ("a\u{200F}b", Direction),
            ("a\u{200E}b", Direction),
            ("a\u{61C}b", Direction),
            ("pay\u{200B}pal", Invisible),
            ("pay\u{AD}pal", Invisible),
            ("pay\u{2060}pal", Invisible),
            ("pay\u{FEFF}pal", Invisible),
            ("pay\u{200D}pal", Invisible),
            ("pay\u{200C}pal", Invisible),
            ("\u{200D}a", Invisible),
            ("🚀\u{200D}", Invisible),
            ("🚀\u{200D}a", Invisible),
            ("می\u{200C}\u{200C}خ", Invisible),
            ("a\u{E0041}", Invisible),
            ("a\u{E000}", Invisible),
            ("a\u{F0000}", Invisible),
            ("a\u{378}", Invisible),
            ("a\u{FFFE}", Invisible),
            ("\u{3164}", Invisible),
            ("a\u{115F}b", Invisible),
            ("\u{2800}", Invisible),
            ("a\u{034F}b", Invisible),
            ("a\u{FE0F}", Invisible),
            ("a\u{FE00}", Invisible),
            ("a\u{E0100}", Invisible),
            ("a\u{FFFD}", Invisible),
            ("a\u{180E}b", Invisible),
            ("Z\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}algo", NotAllowed),
        ] {
            match DisplayName::parse(raw) {
                Err(TextFault::Character { kind, .. }) => assert_eq!(kind, expected, "{raw:?}"),
                other => panic!("{raw:?} gave {other:?}"),
            }
        }
        assert_eq!(DisplayName::parse("=?utf-8?q?x?="), Err(TextFault::EncodedWord));
        for nothing_to_read in ["...", "—", "( )", "\u{301}"] {
            assert!(
                matches!(DisplayName::parse(nothing_to_read), Err(TextFault::Malformed(_))),
                "{nothing_to_read:?}"
            );
        }
        assert!(matches!(DisplayName::parse("\u{301}nn"), Err(TextFault::Malformed(_))));
    }

    #[test]
    fn words_that_imitate_another_alphabet_are_refused() {
        for raw in [
            "pаypal",
            "Раypal",
            "Αpple",
            "аdmin",
            "Gооgle Team",
            "micrоsoft.com",
            "Acme Со",
            "paypal раураl",
            "pay-рау",
            "scоре",
            "Adminа",
            "ꓮpple",
            "ϹompanyX",
        ] {
            assert_eq!(DisplayName::parse(raw), Err(TextFault::MixedScripts), "{raw:?}");
        }
    }

    #[test]
    fn eighty_characters_pass_and_one_more_does_not() {
        assert!(DisplayName::parse(&"한".repeat(80)).is_ok());
        assert_eq!(
            DisplayName::parse(&"한".repeat(81)),
            Err(TextFault::TooLong { length: 81, max: 80, unit: "characters" })
        );
    }

    proptest::proptest! {
        #[test]
        fn parsing_a_name_again_changes_nothing(raw in "\\PC{0,90}|[ \\p{Greek}\\p{Cyrillic}a-z\\p{M}]{0,30}") {
            if let Ok(name) = DisplayName::parse(&raw) {
                proptest::prop_assert_eq!(DisplayName::parse(name.as_str()), Ok(name));
            }
        }
    }
}
