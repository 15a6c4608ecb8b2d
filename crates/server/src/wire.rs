//! The JSON a client sends: strict, bounded in depth, free of duplicated keys. Knows the shape of a GraphQL request;
//! refuses to know over which transport it came.

use std::{collections::HashMap, fmt};

use async_graphql::{Name, Request, ServerError, Value, Variables, indexmap::IndexMap};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use crate::{
    errors::{Code, coded},
    persisted::DocumentId,
};

/// A JSON object as sent.
pub type Object = IndexMap<Name, Value>;

/// Parses one JSON object. Fails with a sentence for the client on anything else, on a duplicated key at any depth
/// and on nesting beyond 128.
pub fn object(json: &[u8]) -> Result<Object, String> {
    match serde_json::from_slice(json) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(Strict(Value::List(_))) => Err("batches are not supported, send one JSON object".into()),
        Ok(_) => Err("expected a JSON object".into()),
        Err(error) => Err(format!("not valid JSON: {error}")),
    }
}

/// A GraphQL request as sent: nothing but its shape has been checked.
#[derive(Debug)]
pub struct Envelope {
    /// The document's text; none only where it is named.
    pub query: Option<String>,
    /// What the document is called.
    pub document_id: Option<DocumentId>,
    pub operation_name: Option<String>,
    pub variables: Variables,
    pub extensions: HashMap<String, Value>,
    /// What the mutation is known by when it is sent again; no part of the JSON.
    pub key: Option<String>,
}

impl Envelope {
    /// Reads the request's members; others are ignored, as the HTTP specification asks. Fails with
    /// `BAD_USER_INPUT` naming the member.
    pub fn read(mut object: Object) -> Result<Self, ServerError> {
        let bad = |message: &str| coded(Code::BadUserInput, message, None);
        let extensions: HashMap<_, _> = match object.swap_remove("extensions") {
            None | Some(Value::Null) => HashMap::new(),
            Some(Value::Object(map)) => {
                map.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
            }
            Some(_) => return Err(bad("“extensions” must be an object or null.")),
        };
        let document_id =
            DocumentId::read(object.swap_remove("documentId"), extensions.get("persistedQuery"))
                .map_err(bad)?;
        let query = match object.swap_remove("query") {
            Some(Value::String(query)) => Some(query),
            // Some clients send null or nothing in its place.
            None | Some(Value::Null) if document_id.is_some() => None,
            None => return Err(bad("“query” is missing: send the GraphQL document as a string.")),
            Some(_) => return Err(bad("“query” must be a string.")),
        };
        let operation_name = match object.swap_remove("operationName") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name),
            Some(_) => return Err(bad("“operationName” must be a string or null.")),
        };
        let variables = match object.swap_remove("variables") {
            None | Some(Value::Null) => Variables::default(),
            Some(value @ Value::Object(_)) => Variables::from_value(value),
            Some(_) => return Err(bad("“variables” must be an object or null.")),
        };
        Ok(Self { query, document_id, operation_name, variables, extensions, key: None })
    }

    /// The executor's request, without its document parsed yet.
    pub fn into_request(self) -> Request {
        let mut request = Request::new(self.query.unwrap_or_default()).variables(self.variables);
        request.operation_name = self.operation_name;
        request.extensions.extend(self.extensions);
        request
    }
}

/// Any JSON value without duplicated keys. serde's own maps let the last one win, so a proxy that reads the first
/// one would have checked another request than the one that runs.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(key) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if object.insert(Name::new(&key), value).is_some() {
                return Err(de::Error::custom(format_args!("duplicated key {key:?}")));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicated_keys_are_refused_at_any_depth() {
        for json in [r#"{"query":"a","query":"b"}"#, r#"{"variables":{"x":{"a":1,"a":2}}}"#] {
            assert!(object(json.as_bytes()).unwrap_err().contains("duplicated key"), "{json}");
        }
    }

    #[test]
    fn deep_json_is_refused_and_not_recursed_into() {
        let json = format!(r#"{{"variables":{}"#, "[".repeat(1_000_000));
        assert!(object(json.as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn only_one_object_makes_a_request() {
        for json in ["[]", "[{}]", "1", "null", "\"a\"", "", "{} {}", "{\"a\":1e999}"] {
            assert!(object(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn a_document_is_sent_or_named() {
        let read = |body: &str| Envelope::read(object(body.as_bytes()).unwrap());
        let named = read(r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#).unwrap();
        assert!(named.query.is_none() && named.document_id.is_some());
        assert!(read(r#"{"query":null,"documentId":"a"}"#).unwrap().document_id.is_some());
        assert!(read(r#"{"query":null}"#).is_err());
        assert!(read(r#"{"query":1,"documentId":"a"}"#).is_err());
    }
}
