//! The last descriptions that are missing: of scalars and directives that come from the library, in whose words nobody
//! learns a form or a unit, and of directives' arguments, which its export leaves out.

use std::borrow::Cow;

use async_graphql::{
    ContextSelectionSet, OutputType, Positioned, ServerResult, Value,
    parser::types::Field,
    registry::{MetaType, Registry},
};

const DATE_TIME: &str = "A moment, as RFC 3339 writes it: `2026-12-31T18:00:00Z`. Answers are in UTC, with fractions of a second \
     where there are some; of input any offset is understood.";

/// The directives of the schema: which argument, and what it says.
const ARGUMENTS: [(&str, &str); 5] = [
    ("@anonymous(reason: ", "Why that is safe."),
    ("@authorize(permission: ", "The permission, as the enum `Permission` has it."),
    ("@include(if: ", "Whether it is included."),
    ("@skip(if: ", "Whether it is left out."),
    ("@specifiedBy(url: ", "Where the scalar's form is specified."),
];

/// A type that is never answered: registering it mends the descriptions of others.
pub(crate) struct Described;

impl OutputType for Described {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("DateTime")
    }

    fn create_type_info(registry: &mut Registry) -> String {
        if let Some(MetaType::Scalar { description, .. }) = registry.types.get_mut("DateTime") {
            *description = Some(DATE_TIME.to_owned());
        }
        "DateTime".to_owned()
    }

    async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(Value::Null)
    }
}

/// The export with what directives' arguments say.
pub(crate) fn of_directives(sdl: &str) -> String {
    let mut described = String::with_capacity(sdl.len());
    for line in sdl.lines() {
        let argument = ARGUMENTS.iter().find_map(|(start, text)| {
            let start = format!("directive {start}");
            let (argument, rest) = line.strip_prefix(&start)?.split_once(')')?;
            let (directive, name) = start.trim_end_matches(": ").split_once('(')?;
            Some(format!("{directive}(\n\t\"\"\"\n\t{text}\n\t\"\"\"\n\t{name}: {argument}\n){rest}"))
        });
        described += argument.as_deref().unwrap_or(line);
        described.push('\n');
    }
    described
}
