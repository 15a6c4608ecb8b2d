//! Validation of documents by every rule of the specification. async-graphql leaves some out: it accepts variables of a wrong
//! type in directives, integers beyond 32 bits, two root fields of a subscription. Knows schema and
//! text; refuses to know variables and costs, which async-graphql checks each time.

use apollo_compiler::{ExecutableDocument, Schema, validation::Valid};
use async_graphql::{Pos, ServerError};

use crate::errors::{Code, coded};

/// Most errors that are kept of a document.
const FAULTS: usize = 5;

/// What introspection tells here and apollo-compiler does not know yet: whether an input is `@oneOf`.
const NEWER: &str = "\nextend type __Type { isOneOf: Boolean }\n";

/// The rules, for one schema.
#[derive(Debug)]
pub struct Validator(Valid<Schema>);

impl Validator {
    /// Reads the schema; fails where it is none.
    pub fn new(sdl: &str) -> Result<Self, String> {
        match Schema::parse_and_validate(format!("{sdl}{NEWER}"), "schema.graphql") {
            Ok(schema) => Ok(Self(schema)),
            Err(invalid) => Err(invalid.errors.to_string()),
        }
    }

    /// What is wrong with a document that passed the guard; nothing if it is valid.
    pub fn faults(&self, text: &str) -> Vec<ServerError> {
        let Err(invalid) = ExecutableDocument::parse_and_validate(&self.0, text, "document") else {
            return Vec::new();
        };
        let faults = invalid.errors.iter().take(FAULTS).map(|fault| {
            let pos = fault.line_column_range().map(|range| range.start);
            let pos = pos.map(|start| Pos { line: start.line, column: start.column });
            coded(Code::ValidationFailed, sentence(&fault.error.to_string()), pos)
        });
        faults.collect()
    }
}

/// The message as a sentence, without a value that the client wrote: it may be a secret in the wrong place.
fn sentence(message: &str) -> String {
    const UNKNOWN: &str = "` does not exist on `";
    let message = match (message.strip_prefix("value `"), message.find(UNKNOWN)) {
        (Some(_), Some(at)) => format!("The value does not exist on `{}", &message[at + UNKNOWN.len()..]),
        _ => message.to_owned(),
    };
    let mut letters = message.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let mut sentence: String = first.into_iter().chain(letters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn faults(document: &str) -> Vec<String> {
        let validator = Validator::new(&guildhall_graphql::sdl()).unwrap();
        validator.faults(document).into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn what_async_graphql_lets_pass_is_found() {
        for (document, part) in [
            ("query($a: Int) { __typename @skip(if: $a) }", "cannot be used for argument"),
            ("{ __typename @nope }", "directive"),
            ("{ viewer { workspaces(first: 99999999999) { totalCount } } }", "32-bit"),
            (
                "subscription { a: viewerInvitationChanged { status } b: viewerInvitationChanged { status } }",
                "one root field",
            ),
            ("{ viewer {} }", "subselection"),
        ] {
            let faults = faults(document);
            assert!(faults.first().is_some_and(|fault| fault.contains(part)), "{document} {faults:?}");
        }
        assert_eq!(faults("query($n: String!) { workspace(name: $n) { id } }"), [""; 0]);
        assert_eq!(faults("{ __schema { types { name isOneOf specifiedByURL } } }"), [""; 0]);
    }

    #[test]
    fn an_unknown_value_is_not_repeated() {
        let faults = faults("{ viewer { workspaces { nodes { can(permission: HUNTER2) } } } }");
        assert!(!faults.is_empty() && !faults.concat().contains("HUNTER2"), "{faults:?}");
    }

    #[test]
    fn the_worst_that_passes_the_guard_takes_no_time() {
        let links: String =
            (0..49).map(|n| format!("fragment f{n} on Query{{...f{} {}}}", n + 1, "a ".repeat(8))).collect();
        let validator = Validator::new(&guildhall_graphql::sdl()).unwrap();
        for document in [
            format!("{{{}}} fragment f on Query{{{}}}", "...f ".repeat(999), "__typename ".repeat(18)),
            format!("{{...f0}} {links} fragment f49 on Query{{__typename}}"),
            format!("{}{{__typename}}{}", "{...on Query".repeat(63), "}".repeat(63)),
            format!("{{ {} }}", "a: __typename a: viewer { __typename } ".repeat(400)),
            format!("{{ {} }}", "viewer { user { id } } ".repeat(600)),
            format!("{{ nodes(ids: {}1{}) {{ id }} }}", "[".repeat(60), "]".repeat(60)),
            format!(
                "query({}) {{ __typename }}",
                (0..900).map(|n| format!("$v{n}: Int ")).collect::<String>()
            ),
        ] {
            let started = Instant::now();
            let faults = validator.faults(&document);
            assert!(faults.len() <= FAULTS);
            assert!(started.elapsed() < Duration::from_secs(1), "{:?} {document:.60}", started.elapsed());
        }
    }
}
