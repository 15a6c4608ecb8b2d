//! Documents that clients name instead of sending: by the hash of Apollo's automatic persisted queries, by `documentId` as the
//! GraphQL-over-HTTP specification's appendix has it, and the manifest of those that are trusted. Knows names and
//! manifests; refuses to know how a document is parsed, and who asks.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{ServerError, Value};
use serde::Deserialize;

use crate::{
    document::Document,
    errors::{Code, coded},
    wire::Object,
};

/// What stands for a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentId {
    /// The SHA-256 of its text.
    Sha256([u8; 32]),
    /// What a build tool calls it.
    Custom(String),
}

impl DocumentId {
    fn of_hash(text: &str) -> Self {
        let mut hash = [0; 32];
        match hex::decode_to_slice(text, &mut hash) {
            Ok(()) => Self::Sha256(hash),
            Err(_) => Self::Custom(text.to_owned()),
        }
    }

    /// The name in `documentId` or in `extensions.persistedQuery`; none when neither is given. Fails with a sentence for
    /// the client.
    pub fn read(
        document_id: Option<Value>,
        persisted_query: Option<&Value>,
    ) -> Result<Option<Self>, &'static str> {
        let named = match document_id {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(match text.strip_prefix("sha256:") {
                Some(hash) => Self::of_hash(hash),
                None => Self::Custom(text),
            }),
            Some(_) => return Err("“documentId” must be a string or null."),
        };
        let hashed = match persisted_query {
            None | Some(Value::Null) => None,
            Some(Value::Object(of)) => Some(Self::automatic(of)?),
            Some(_) => return Err("“extensions.persistedQuery” must be an object."),
        };
        match (named, hashed) {
            (Some(named), Some(hashed)) if named != hashed => {
                Err("“documentId” and “extensions.persistedQuery” name different documents.")
            }
            (named, hashed) => Ok(named.or(hashed)),
        }
    }

    fn automatic(of: &Object) -> Result<Self, &'static str> {
        match of.get("version") {
            Some(Value::Number(version)) if version.as_u64() == Some(1) => {}
            _ => return Err("“extensions.persistedQuery.version” must be 1."),
        }
        match of.get("sha256Hash") {
            Some(Value::String(hash)) => Ok(Self::of_hash(hash)),
            _ => Err("“extensions.persistedQuery.sha256Hash” must be a string."),
        }
    }
}

/// No document has that name, or none any more. Apollo's clients send the text on reading message or code.
pub fn not_found() -> ServerError {
    coded(Code::PersistedQueryNotFound, "PersistedQueryNotFound", None)
}

/// The text is not what the hash was made of.
pub fn mismatch() -> ServerError {
    let message = "“extensions.persistedQuery.sha256Hash” or “documentId” is not the SHA-256 of “query”.";
    coded(Code::BadUserInput, message, None)
}

/// The documents that may run, and no other.
#[derive(Debug, Default)]
pub struct Trusted {
    /// By what the manifest calls them.
    by_id: HashMap<String, Arc<Document>>,
    by_digest: HashMap<[u8; 32], Arc<Document>>,
}

/// The two forms of a manifest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Manifest {
    /// Apollo's, as `generate-persisted-query-manifest` writes it.
    Apollo { format: String, version: u32, operations: Vec<Operation> },
    /// Texts by their ids, as graphql-codegen and Relay's compiler write them.
    Texts(HashMap<String, String>),
}

#[derive(Deserialize)]
struct Operation {
    id: String,
    body: String,
}

impl Trusted {
    /// Reads a manifest. Every document in it must pass `parse`. Fails with a sentence for the operator.
    pub fn read(
        manifest: &str,
        parse: impl Fn(&str) -> Result<Arc<Document>, ServerError>,
    ) -> Result<Self, String> {
        let manifest = serde_json::from_str(manifest).map_err(|_| {
            "neither an Apollo persisted-query manifest nor a JSON object of ids and documents".to_owned()
        })?;
        let documents: Vec<(String, String)> = match manifest {
            Manifest::Apollo { format, version, operations } => {
                if format != "apollo-persisted-query-manifest" || version != 1 {
                    return Err(format!(
                        "a manifest of the format {format:?}, version {version}, is not understood"
                    ));
                }
                operations.into_iter().map(|operation| (operation.id, operation.body)).collect()
            }
            Manifest::Texts(texts) => texts.into_iter().collect(),
        };
        let mut trusted = Self::default();
        for (id, text) in documents {
            let document = parse(&text).map_err(|error| format!("the document {id:?}: {}", error.message))?;
            if let Some(other) = trusted.by_id.get(&id)
                && other.digest != document.digest
            {
                return Err(format!("two documents have the id {id:?}"));
            }
            if let Some(fault) = document.faults.first() {
                // Perhaps of a version before or after this one, so no reason to serve nobody.
                tracing::warn!(%id, fault = %fault.message, "a trusted document does not fit the schema and is refused");
            }
            trusted.by_digest.insert(document.digest, Arc::clone(&document));
            trusted.by_id.insert(id, document);
        }
        Ok(trusted)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// The document that text and id agree on, given the text's digest.
    pub fn find(
        &self,
        digest: Option<[u8; 32]>,
        id: Option<&DocumentId>,
    ) -> Result<Arc<Document>, ServerError> {
        let by_text = digest.map(|digest| self.by_digest.get(&digest));
        let by_id = id.map(|id| match id {
            // An id of Apollo's manifests is a hash too, but need not be that of the text.
            DocumentId::Sha256(hash) => {
                self.by_id.get(&hex::encode(hash)).or_else(|| self.by_digest.get(hash))
            }
            DocumentId::Custom(id) => self.by_id.get(id),
        });
        let found = match (by_text, by_id) {
            (Some(Some(text)), Some(Some(named))) if text.digest == named.digest => Some(text),
            (Some(text), None) => text,
            (None, Some(named)) => named,
            _ => None,
        };
        found.cloned().ok_or_else(|| {
            let message = "Only the documents that this server was given beforehand are run here, and this is none of them.";
            coded(Code::DocumentNotTrusted, message, None)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{document::Documents, limits::DocumentLimits, wire};

    fn id(json: &str) -> Result<Option<DocumentId>, &'static str> {
        let mut object = wire::object(json.as_bytes()).unwrap();
        let (named, hashed) = (object.swap_remove("documentId"), object.swap_remove("persistedQuery"));
        DocumentId::read(named, hashed.as_ref())
    }

    #[test]
    fn a_document_is_named_in_two_ways() {
        let hash = "ab".repeat(32);
        let sha256 = Some(DocumentId::Sha256([0xab; 32]));
        assert_eq!(id("{}"), Ok(None));
        assert_eq!(id(r#"{"documentId":null}"#), Ok(None));
        assert_eq!(id(&format!(r#"{{"documentId":"sha256:{hash}"}}"#)), Ok(sha256.clone()));
        let apollo = format!(r#"{{"persistedQuery":{{"version":1,"sha256Hash":"{hash}"}}}}"#);
        assert_eq!(id(&apollo), Ok(sha256));
        assert_eq!(id(r#"{"documentId":"a"}"#), Ok(Some(DocumentId::Custom("a".into()))));
        for wrong in [
            r#"{"documentId":1}"#,
            r#"{"persistedQuery":1}"#,
            r#"{"persistedQuery":{"sha256Hash":"ab"}}"#,
            r#"{"persistedQuery":{"version":2,"sha256Hash":"ab"}}"#,
            r#"{"persistedQuery":{"version":1}}"#,
            r#"{"documentId":"a","persistedQuery":{"version":1,"sha256Hash":"b"}}"#,
        ] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_manifest_is_read_in_both_forms_and_doubted() {
        let documents = Documents::new(DocumentLimits::default());
        let read = |manifest: &str| Trusted::read(manifest, |text| documents.parse(text));
        let apollo = r#"{"format":"apollo-persisted-query-manifest","version":1,
            "operations":[{"id":"x","name":"A","type":"query","body":"query A { a }"}]}"#;
        for manifest in [apollo, r#"{"x":"query A { a }"}"#] {
            let trusted = read(manifest).unwrap();
            assert_eq!(trusted.len(), 1);
            let named = DocumentId::Custom("x".into());
            let digest = trusted.find(None, Some(&named)).unwrap().digest;
            assert_eq!(trusted.find(Some(digest), None).unwrap().digest, digest);
            assert_eq!(trusted.find(None, Some(&DocumentId::Sha256(digest))).unwrap().digest, digest);
            assert!(trusted.find(Some(digest), Some(&named)).is_ok());
            assert!(trusted.find(Some([0; 32]), Some(&named)).is_err(), "text and id disagree");
            assert!(trusted.find(Some(digest), Some(&DocumentId::Custom("y".into()))).is_err());
            assert!(trusted.find(Some([0; 32]), None).is_err());
        }
        assert_eq!(read("{}").unwrap().len(), 0);
        for (manifest, why) in [
            ("", "neither"),
            ("[]", "neither"),
            (r#"{"x":1}"#, "neither"),
            (r#"{"x":"query {"}"#, "the document \"x\": Syntax error"),
            (r#"{"format":"other","version":1,"operations":[]}"#, "is not understood"),
            (
                r#"{"format":"apollo-persisted-query-manifest","version":1,
                    "operations":[{"id":"x","body":"{a}"},{"id":"x","body":"{b}"}]}"#,
                "two documents",
            ),
        ] {
            assert!(read(manifest).unwrap_err().contains(why), "{manifest}");
        }
    }
}
