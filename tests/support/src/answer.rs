//! The answer to a GraphQL operation, and what tests want to know of it. Each question that cannot be answered
//! stops the test and shows the whole answer.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// An answer: status and headers of HTTP (200 and none on a socket), and the body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `{ "data": …, "errors": … }`.
    pub body: Value,
}

impl Answer {
    /// The value at a JSON pointer below `data`, such as `/workspace/members/nodes/0`; null is a value.
    #[track_caller]
    pub fn data(&self, pointer: &str) -> &Value {
        let found = self.body.get("data").and_then(|data| data.pointer(pointer));
        found.unwrap_or_else(|| panic!("no data at {pointer} in {self}"))
    }

    /// The text at a JSON pointer below `data`.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> &str {
        self.data(pointer).as_str().unwrap_or_else(|| panic!("no text at {pointer} in {self}"))
    }

    /// The length of the list at a JSON pointer below `data`.
    #[track_caller]
    pub fn len(&self, pointer: &str) -> usize {
        self.data(pointer).as_array().unwrap_or_else(|| panic!("no list at {pointer} in {self}")).len()
    }

    /// The top-level errors.
    pub fn errors(&self) -> &[Value] {
        self.body.get("errors").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Every user error, wherever it stands in `data`, in the order of the answer.
    pub fn user_errors(&self) -> Vec<&Value> {
        let mut found = Vec::new();
        collect(&self.body["data"], &mut found);
        found
    }

    /// The answer, which has neither errors nor user errors.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            self.errors().is_empty() && self.user_errors().is_empty(),
            "expected success, but this was refused: {self}"
        );
        self
    }

    /// `extensions.code` of the first top-level error.
    #[track_caller]
    pub fn code(&self) -> &str {
        let code = self.errors().first().and_then(|error| error["extensions"]["code"].as_str());
        code.unwrap_or_else(|| panic!("no error with a code in {self}"))
    }

    /// `code` of the first user error, wherever it stands; select it.
    #[track_caller]
    pub fn user_error(&self) -> &str {
        let code = self.user_errors().first().and_then(|error| error["code"].as_str());
        code.unwrap_or_else(|| panic!("no user error with a code in {self}"))
    }

    /// The answer, which refuses with this code of a user error and has no top-level errors.
    #[track_caller]
    pub fn refused(self, code: &str) -> Self {
        assert!(self.errors().is_empty(), "expected the user error {code}: {self}");
        assert_eq!(self.user_error(), code, "{self}");
        self
    }

    /// The answer, which fails with this code of a top-level error.
    #[track_caller]
    pub fn denied(self, code: &str) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:#}", self.status, self.body)
    }
}

fn collect<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(errors) if name == "userErrors" => found.extend(errors),
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
