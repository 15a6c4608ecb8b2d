//! The form of a record that is hashed, and what a checkpoint signs. Both are texts that anybody can make again from an
//! exported file, in any language.
//!
//! Every organization has a chain. The hash of a record is the SHA-256, in hexadecimal, of these fields, each as a
//! netstring (`5:hello,`; an absent one as `-,`), one after the other:
//!
//! `guildhall.audit.1`, organization, place, previous hash, id, at, workspace, actor's kind, actor's id, actor's name,
//! action, object's kind, object's id, object's name, before, after, request id, ip
//!
//! The first record has place 1 and sixty-four zeros as its previous hash. `at` is as `2026-11-21T13:23:28.000000Z`, and
//! before and after are the JSON texts as they are stored. A checkpoint is the Ed25519 signature of the netstrings
//! `guildhall.audit.checkpoint.1`, organization, place, the hash at that place, at.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The previous hash of the first record.
pub const FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An entry in its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its place in the chain of its organization: 1, 2, 3 and so on.
    pub place: u64,
    /// Its id.
    pub id: String,
    /// When it was done.
    pub at: String,
    /// In which workspace.
    pub workspace: Option<String>,
    /// What kind of actor did it.
    pub actor_kind: String,
    /// The actor's id.
    pub actor_id: Option<String>,
    /// The actor's name at the time.
    pub actor_name: String,
    /// What was done.
    pub action: String,
    /// What kind of thing it was done to.
    pub object_kind: String,
    /// Its id.
    pub object_id: String,
    /// Its name at the time.
    pub object_name: String,
    /// What it was before, as JSON.
    pub before: Option<String>,
    /// What it is after, as JSON.
    pub after: Option<String>,
    /// The request that did it.
    pub request_id: Option<String>,
    /// Where that came from.
    pub ip: Option<String>,
    /// The hash of the record before.
    pub previous_hash: String,
    /// The hash of this one.
    pub hash: String,
}

impl Record {
    /// The hash that it has to have, in the chain of that organization.
    pub fn computed_hash(&self, organization: &str) -> String {
        let place = self.place.to_string();
        let text = canonical(&[
            Some("guildhall.audit.1"),
            Some(organization),
            Some(&place),
            Some(&self.previous_hash),
            Some(&self.id),
            Some(&self.at),
            self.workspace.as_deref(),
            Some(&self.actor_kind),
            self.actor_id.as_deref(),
            Some(&self.actor_name),
            Some(&self.action),
            Some(&self.object_kind),
            Some(&self.object_id),
            Some(&self.object_name),
            self.before.as_deref(),
            self.after.as_deref(),
            self.request_id.as_deref(),
            self.ip.as_deref(),
        ]);
        hex::encode(Sha256::digest(text))
    }
}

/// A place in a chain whose hash was signed: nothing before it can change unnoticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The place.
    pub place: u64,
    /// The hash of the record there.
    pub hash: String,
    /// When it was signed.
    pub at: String,
    /// With which key.
    pub key: String,
    /// The signature, in hexadecimal.
    pub signature: String,
}

impl Checkpoint {
    /// What is signed.
    pub fn signed_text(organization: &str, place: u64, hash: &str, at: &str) -> String {
        let place = place.to_string();
        let name = "guildhall.audit.checkpoint.1";
        canonical(&[Some(name), Some(organization), Some(&place), Some(hash), Some(at)])
    }
}

/// The fields as netstrings, one after the other.
pub fn canonical(fields: &[Option<&str>]) -> String {
    let mut text = String::new();
    for field in fields {
        // Writing to a text does not fail.
        let _ = match field {
            Some(field) => write!(text, "{}:{field},", field.len()),
            None => write!(text, "-,"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart_whatever_stands_in_them() {
        assert_eq!(canonical(&[Some("ä"), None, Some("")]), "2:ä,-,0:,");
        assert_ne!(canonical(&[Some("a,1:b")]), canonical(&[Some("a"), Some("b")]));
        assert_ne!(canonical(&[Some("-")]), canonical(&[None]));
    }
}
