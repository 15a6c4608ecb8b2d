//! Documents: guarded, parsed, kept. Knows GraphQL's syntax and its operations; refuses to know the schema and who
//! asks. Nothing reaches async-graphql's recursive parser without passing the guard.

mod guard;

use std::sync::Arc;

use async_graphql::{
    Name, Pos, Positioned, ServerError, Value, Variables,
    parser::{
        self, parse_query,
        types::{
            BaseType, DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
            VariableDefinition,
        },
    },
};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::{
    errors::{Code, coded},
    limits::DocumentLimits,
    persisted::{self, DocumentId, Trusted},
    validation::Validator,
};

/// Rough memory of one token's share of a parsed document, in bytes.
const TOKEN_WEIGHT: usize = 256;
const LONGEST_SYNTAX_MESSAGE: usize = 200;

/// Parsed documents by the SHA-256 of their text, bounded by memory. They are what automatic persisted queries are
/// found in: whoever knows the hash has had the text.
#[derive(Debug)]
pub struct Documents {
    limits: DocumentLimits,
    /// The only ones that may run; any when there are none.
    trusted: Option<Trusted>,
    /// None in tests of syntax alone.
    validator: Option<Validator>,
    parsed: Cache<[u8; 32], Arc<Document>>,
}

/// A document that passed the guard and the parser.
#[derive(Debug)]
pub struct Document {
    pub ast: ExecutableDocument,
    /// SHA-256 of the text.
    pub digest: [u8; 32],
    /// Why it does not fit the schema; empty when it does, but for what variables decide.
    pub faults: Vec<ServerError>,
    weight: u32,
}

impl Documents {
    pub fn new(limits: DocumentLimits) -> Self {
        let parsed = Cache::builder()
            .max_capacity(limits.cache_bytes)
            .weigher(|_, document: &Arc<Document>| document.weight)
            .build();
        Self { limits, trusted: None, validator: None, parsed }
    }

    /// Finds what does not fit that schema from now on.
    pub fn validated_by(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// Runs the documents of that manifest and no others from now on. Returns how many they are; fails with a sentence.
    pub fn trust(&mut self, manifest: &str) -> Result<usize, String> {
        let trusted = Trusted::read(manifest, |text| self.parse(text))?;
        let count = trusted.len();
        self.trusted = Some(trusted);
        Ok(count)
    }

    /// The document that a request sends or names. Beside what [`Self::parse`] refuses: `PERSISTED_QUERY_NOT_FOUND`,
    /// and `DOCUMENT_NOT_TRUSTED` for whatever is not in the manifest, which is not even parsed.
    pub fn find(&self, text: Option<&str>, id: Option<&DocumentId>) -> Result<Arc<Document>, ServerError> {
        if let Some(text) = text {
            guard::bytes(text, &self.limits)?;
        }
        let digest = text.map(|text| Sha256::digest(text).into());
        if let Some(trusted) = &self.trusted {
            return trusted.find(digest, id);
        }
        match (text, digest, id) {
            (Some(_), Some(digest), Some(DocumentId::Sha256(hash))) if digest != *hash => {
                Err(persisted::mismatch())
            }
            (Some(text), Some(digest), _) => self.parsed_or(digest, text),
            (_, _, Some(DocumentId::Sha256(hash))) => self.parsed.get(hash).ok_or_else(persisted::not_found),
            _ => Err(persisted::not_found()),
        }
    }

    /// The parsed document of a text. Fails with `QUERY_TOO_COMPLEX` beyond a limit, `GRAPHQL_PARSE_FAILED` on a
    /// syntax error and `GRAPHQL_VALIDATION_FAILED` when fragments spread themselves.
    pub fn parse(&self, text: &str) -> Result<Arc<Document>, ServerError> {
        guard::bytes(text, &self.limits)?;
        self.parsed_or(Sha256::digest(text).into(), text)
    }

    fn parsed_or(&self, key: [u8; 32], text: &str) -> Result<Arc<Document>, ServerError> {
        if let Some(document) = self.parsed.get(&key) {
            return Ok(document);
        }
        let tokens = guard::check(text, &self.limits)?;
        let ast = parse_query(text).map_err(syntax_error)?;
        let faults = self.validator.as_ref().map(|validator| validator.faults(text)).unwrap_or_default();
        let weight = u32::try_from(text.len() + tokens * TOKEN_WEIGHT).unwrap_or(u32::MAX);
        let document = Arc::new(Document { ast, digest: key, faults, weight });
        self.parsed.insert(key, Arc::clone(&document));
        Ok(document)
    }
}

impl Document {
    /// Refuses an operation of too many root fields with `QUERY_TOO_COMPLEX`.
    pub fn limit_root_fields(&self, operation: &OperationDefinition, most: usize) -> Result<(), ServerError> {
        let count = root_fields(&operation.selection_set.node, &self.ast);
        if count <= most {
            return Ok(());
        }
        let message = format!("The operation may have {most} fields at its root, it has {count}.");
        Err(coded(Code::QueryTooComplex, message, None))
    }

    /// The operation that `operationName` selects: the only one when there is no name. A single *named* operation
    /// is a set of one to the parser, so both shapes are looked at.
    pub fn operation(&self, name: Option<&str>) -> Result<&Positioned<OperationDefinition>, ServerError> {
        let found = match (&self.ast.operations, name) {
            (DocumentOperations::Single(operation), None) => Some(operation),
            (DocumentOperations::Single(_), Some(_)) => None,
            (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
            (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => {
                operations.values().next()
            }
            (DocumentOperations::Multiple(operations), None) => {
                let message = format!(
                    "The document has {} operations: name the one to run in “operationName”.",
                    operations.len()
                );
                return Err(coded(Code::BadUserInput, message, None));
            }
        };
        found.ok_or_else(|| {
            let name: String = name.unwrap_or_default().chars().take(64).collect();
            coded(Code::BadUserInput, format!("The document has no operation named “{name}”."), None)
        })
    }
}

/// How many fields of the root an operation asks for, those in fragments among them. The guard has seen to it that fragments end
/// and do not multiply without bound.
fn root_fields(set: &SelectionSet, ast: &ExecutableDocument) -> usize {
    let count = |selection: &Positioned<Selection>| match &selection.node {
        Selection::Field(_) => 1,
        Selection::InlineFragment(inline) => root_fields(&inline.node.selection_set.node, ast),
        Selection::FragmentSpread(spread) => match ast.fragments.get(&spread.node.fragment_name.node) {
            Some(fragment) => root_fields(&fragment.node.selection_set.node, ast),
            None => 0,
        },
    };
    set.items.iter().map(count).sum()
}

/// Every variable that the operation requires and the request lacks. async-graphql misses them when they stand in no
/// argument, and else reports them only when the resolver runs.
pub fn missing_variables(operation: &OperationDefinition, variables: &Variables) -> Vec<ServerError> {
    let missing = operation.variable_definitions.iter().filter(|definition| {
        let definition = &definition.node;
        match variables.get(&definition.name.node) {
            None => !definition.var_type.node.nullable && definition.default_value.is_none(),
            Some(value) => !definition.var_type.node.nullable && *value == Value::Null,
        }
    });
    missing
        .map(|definition| {
            let node = &definition.node;
            let message =
                format!("Variable “${}” of type “{}” must have a value.", node.name.node, node.var_type.node);
            coded(Code::BadUserInput, message, Some(definition.pos))
        })
        .collect()
}

/// Gives null to every page size that the operation takes and the request leaves out: the two mean the same, and
/// async-graphql, which asks for the size to know the cost, takes a variable without a value for an undeclared one.
pub fn fill_page_sizes(operation: &OperationDefinition, variables: &mut Variables) {
    for definition in &operation.variable_definitions {
        let Positioned { node: VariableDefinition { name, var_type, default_value, .. }, .. } = definition;
        let is_size = var_type.node.nullable && var_type.node.base == BaseType::Named(Name::new("Int"));
        if is_size && default_value.is_none() {
            variables.entry(name.node.clone()).or_insert(Value::Null);
        }
    }
}

/// The parser's message shows the whole offending line, up to the whole document: keep only what was expected.
fn syntax_error(error: parser::Error) -> ServerError {
    let pos: Option<Pos> = error.positions().next();
    let full = error.to_string();
    let said = full.rsplit("= ").next().unwrap_or_default().trim();
    let said: String = said.chars().take(LONGEST_SYNTAX_MESSAGE).collect();
    coded(Code::ParseFailed, format!("Syntax error: {said}."), pos)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use async_graphql::parser::types::OperationType;

    use super::*;

    fn documents() -> Documents {
        Documents::new(DocumentLimits::default())
    }

    fn refusal(text: &str) -> (String, String) {
        let started = Instant::now();
        let error = documents().parse(text).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(2), "took {:?}: {text:.60}", started.elapsed());
        assert!(error.message.len() < 400, "{}", error.message);
        let code = error.extensions.unwrap().get("code").unwrap().to_string();
        (code.trim_matches('"').into(), error.message)
    }

    fn too_complex(text: &str, part: &str) {
        let (code, message) = refusal(text);
        assert_eq!(code, "QUERY_TOO_COMPLEX", "{message}");
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn nested_literals_are_refused_before_the_parser_can_overflow() {
        let nest = |open: &str, close: &str| format!("{}1{}", open.repeat(1_600), close.repeat(1_600));
        too_complex(&format!("{{node(id:{})}}", nest("[", "]")), "at most 64 levels deep");
        too_complex(&format!("{{node(id:{})}}", nest("{a:", "}")), "at most 64 levels deep");
        too_complex(&format!("query($a:I={}){{a}}", nest("[", "]")), "at most 64 levels deep");
        too_complex(&format!("{{a @d(x:{})}}", nest("[", "]")), "at most 64 levels deep");
        too_complex(&format!("query($a:{}){{a}}", nest("[", "]")), "at most 64 levels deep");
        too_complex(&nest("{a", "}"), "at most 64 levels deep");
        too_complex(&"[".repeat(60_000), "at most 64 levels deep");
    }

    #[test]
    fn doubling_fragments_are_counted_without_expanding_them() {
        let mut text = String::from("{...f0}");
        for n in 0..24 {
            text.push_str(&format!("fragment f{n} on Query{{...f{} ...f{}}}", n + 1, n + 1));
        }
        text.push_str("fragment f24 on Query{__typename}");
        too_complex(&text, "1000 fragment spreads");
    }

    #[test]
    fn a_fragment_cannot_hide_behind_a_keyword_glued_to_its_name() {
        let glued = "{...f0} fragmentf0 on Query{...f1 ...f1}";
        assert!(parse_query(glued).is_ok(), "the parser has become strict: the guard need not be");
        assert_eq!(refusal(glued).0, "GRAPHQL_PARSE_FAILED");
        assert_eq!(refusal("{...on} fragment on on Query{a}").0, "GRAPHQL_PARSE_FAILED");
    }

    #[test]
    fn thousands_of_directives_are_refused() {
        too_complex(&format!("query {} {{__typename}}", "@a".repeat(30_000)), "4000 tokens");
        too_complex(&format!("query {} {{__typename}}", "@a".repeat(50_000)), "65536 bytes");
    }

    #[test]
    fn a_large_fragment_spread_often_is_refused() {
        let text = format!("{{{}}} fragment f on Query{{{}}}", "...f ".repeat(900), "a ".repeat(1_900));
        too_complex(&text, "20000 tokens");
    }

    #[test]
    fn too_many_fragments_are_refused() {
        let text: String = (0..51).map(|n| format!("fragment f{n} on Query{{a}} ")).collect();
        too_complex(&format!("{{a}} {text}"), "50 fragments");
    }

    #[test]
    fn fragments_that_spread_themselves_are_refused() {
        for text in [
            "{...a} fragment a on Query{...a}",
            "{...a} fragment a on Query{...b ...b} fragment b on Query{...a ...a}",
            "{a} fragment a on Query{b{...a}}",
        ] {
            assert_eq!(refusal(text).0, "GRAPHQL_VALIDATION_FAILED");
        }
    }

    #[test]
    fn a_field_that_stands_twice_in_an_input_object_is_refused() {
        for text in [
            "{a(b:{c:1 d:2 c:3})}",
            "{a(b:[{c:{d:1 d:1}}])}",
            "query($a:I={b:1,b:2}){a}",
            "{a @d(x:{y:$z y:z})}",
        ] {
            let (code, message) = refusal(text);
            assert_eq!(code, "GRAPHQL_VALIDATION_FAILED", "{text}");
            assert!(message.contains("more than once"), "{text} {message}");
        }
        for text in [
            "{a(b:{c:{c:1} d:c e:[{c:1} {c:2}]}) c:a c:a}",
            "query($a:I $b:I){x:a(b:1){x:a x:b} y:a(b:{a:$a b:$b})}",
            "{a(b:{c:c d:c}) {b:c b:c}}",
        ] {
            documents().parse(text).unwrap();
        }
    }

    #[test]
    fn introspection_can_be_turned_off() {
        let limits = DocumentLimits { introspection: false, ..DocumentLimits::default() };
        let documents = Documents::new(limits);
        for text in ["{__schema{types{name}}}", "{a ...f} fragment f on Query{x:__type(name:\"A\"){name}}"] {
            assert!(documents.parse(text).unwrap_err().message.contains("introspection is turned off"));
        }
        documents.parse("{__typename a(b:\"__schema\")} # __type").unwrap();
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let many = "[{(".repeat(500);
        for text in [
            format!("{{a(b:\"{many}\")}}"),
            format!("{{a(b:\"\\\"{many}\\\\\")}}"),
            format!("{{a(b:\"\"\"{many}\n\\\"\"\" \" {many}\"\"\")}}"),
            format!("# {many}\n{{a #{many}\r}}"),
            "{a(b:\"\" c:\"\"\"\"\"\")}".into(),
        ] {
            documents().parse(&text).unwrap();
        }
    }

    #[test]
    fn brackets_after_a_string_do_count() {
        let deep = "[".repeat(100);
        for text in [
            format!("{{a(b:\"\" c:{deep}"),
            format!("{{a(b:\"\"\"\\\"\"\"\"\"\" c:{deep}"),
            format!("{{a(b:\"\\\\\" c:{deep}"),
            format!("#\r{{a(b:{deep}"),
        ] {
            too_complex(&text, "at most 64 levels deep");
        }
    }

    #[test]
    fn what_passes_the_guard_parses_quickly_on_a_small_stack() {
        let nest = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        let texts = [
            format!("{{node(id:{})}}", nest("[", "]", 62)),
            format!("{{node(id:{})}}", nest("{a:", "}", 62)),
            format!("query($a:I={}){{a}}", nest("[", "]", 63)),
            format!("query($a:I={}){{a}}", nest("{a:", "}", 63)),
            format!("{}{}", "{a".repeat(64), "}".repeat(64)),
            format!("{}{{a}}{}", "{...".repeat(63), "}".repeat(63)),
            format!("{}{{a}}{}", "{...on Query".repeat(63), "}".repeat(63)),
            format!("query($a:{}){{a}}", nest("[", "]", 63)),
            // The same without a valid end: the parser must not try all ways to fail.
            format!("{{node(id:{}!{})}}", "[".repeat(62), "]".repeat(62)),
            format!("{{node(id:{}!{})}}", "{a:".repeat(62), "}".repeat(62)),
            format!("{}!{}", "{a".repeat(64), "}".repeat(64)),
            format!("{}{{!}}{}", "{...".repeat(63), "}".repeat(63)),
            format!("{{a {}}}", "a(b:$c)".repeat(500)),
            format!("{{a {}!}}", "a:b ".repeat(1_300)),
        ];
        let small = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let run = move || {
            for text in texts {
                let started = Instant::now();
                let result = documents().parse(&text);
                assert!(started.elapsed() < Duration::from_secs(2), "{:?} {text:.60}", started.elapsed());
                if let Err(error) = result {
                    assert!(error.message.starts_with("Syntax error"), "{}", error.message);
                }
            }
        };
        small.spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn random_documents_never_panic() {
        const PARTS: [&str; 32] = [
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "\"",
            "\"\"\"",
            "\\",
            "#",
            "\n",
            "\r",
            "...",
            "..",
            "on ",
            "fragment ",
            "a",
            "query ",
            ":",
            "$",
            "@",
            "!",
            "=",
            ",",
            " ",
            "-1.5e9",
            "ä",
            "\u{feff}",
            "|",
            "&",
            "\u{0}",
            "🏃",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let documents = documents();
        for _ in 0..20_000 {
            let length = random() % 40;
            let text: String = (0..length).map(|_| PARTS[(random() % 32) as usize]).collect();
            let _ = documents.parse(&text);
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            let _ = documents.parse(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_single_named_operation_is_found_with_and_without_its_name() {
        let document = documents().parse("mutation M { a }").unwrap();
        for name in [None, Some("M")] {
            assert_eq!(document.operation(name).unwrap().node.ty, OperationType::Mutation);
        }
        assert!(document.operation(Some("N")).is_err());
    }

    #[test]
    fn several_operations_need_a_name() {
        let document = documents().parse("query A { a } subscription B { a }").unwrap();
        assert!(document.operation(None).unwrap_err().message.contains("2 operations"));
        assert_eq!(document.operation(Some("B")).unwrap().node.ty, OperationType::Subscription);
        assert!(documents().parse("{ a }").unwrap().operation(Some("A")).is_err());
    }

    #[test]
    fn fields_of_the_root_are_counted_wherever_they_stand() {
        let text = "query A { a b: a ... { c ...f } ...f } query B { a { b c d e } } fragment f on Query { d e { x } }";
        let document = documents().parse(text).unwrap();
        let limit = |name, most| {
            let operation = &document.operation(Some(name)).unwrap().node;
            document.limit_root_fields(operation, most).map_err(|error| error.message)
        };
        assert_eq!(limit("A", 7), Ok(()));
        assert!(limit("A", 6).unwrap_err().contains("6 fields at its root, it has 7"));
        assert_eq!(limit("B", 1), Ok(()));
    }

    #[test]
    fn the_same_text_is_parsed_once() {
        let documents = documents();
        let first = documents.parse("{ a }").unwrap();
        assert!(Arc::ptr_eq(&first, &documents.parse("{ a }").unwrap()));
        assert!(!Arc::ptr_eq(&first, &documents.parse("{ b }").unwrap()));
    }

    #[test]
    fn the_cache_stays_within_its_memory() {
        let documents = Documents::new(DocumentLimits { cache_bytes: 100_000, ..DocumentLimits::default() });
        for n in 0..1_000 {
            documents.parse(&format!("{{ a{n} }}")).unwrap();
        }
        documents.parsed.run_pending_tasks();
        assert!(documents.parsed.weighted_size() <= 100_000);
        assert!(documents.parsed.entry_count() > 10);
    }

    #[test]
    fn a_syntax_error_says_what_was_expected_and_where() {
        let error = documents().parse(&format!("{{ a(b:\"{}\") ! }}", "x".repeat(10_000))).unwrap_err();
        assert!(error.message.starts_with("Syntax error: expected "), "{}", error.message);
        assert_eq!(error.locations[0].line, 1);
    }
}
