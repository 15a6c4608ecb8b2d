//! An exported audit log, and whether it is whole. The file is lines of JSON: a [`Header`], then the records in the order
//! of their places. It is read line by line, however long it is.
//!
//! What each kind of tampering leaves behind: a record that was changed does not have its hash; one that was inserted or
//! removed leaves a place twice or not at all; and whoever computes all hashes anew after that cannot sign the
//! checkpoints. The header is signed as well, so that the file cannot be cut at either end.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::chain::{Checkpoint, Record, canonical};

/// The form of the file.
pub const VERSION: u32 = 1;

/// A key that signed, as the file tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What it is called.
    pub id: String,
    /// The Ed25519 public key, in hexadecimal.
    pub public_key: String,
}

/// The first line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The form of the file.
    pub guildhall_audit: u32,
    /// The organization.
    pub organization: String,
    /// Its name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// When the file was made.
    pub exported_at: String,
    /// The place of the first record in it.
    pub first: u64,
    /// The hash of the record before that.
    pub previous_hash: String,
    /// The place of the last record in it; one less than the first where there is none.
    pub last: u64,
    /// The hash of the last record.
    pub last_hash: String,
    /// Every key that signed checkpoints of the instance.
    pub keys: Vec<Key>,
    /// The checkpoints at places that are in the file.
    pub checkpoints: Vec<Checkpoint>,
    /// The key that signed this header.
    pub key: String,
    /// Its signature, in hexadecimal.
    pub signature: String,
}

impl Header {
    /// What is signed: the fields that say what belongs into the file, as netstrings (see the module `chain`).
    pub fn signed_text(&self) -> String {
        let (first, last) = (self.first.to_string(), self.last.to_string());
        let keys = self.keys.len().to_string();
        let mut fields = vec![
            Some("guildhall.audit.file.1"),
            Some(self.organization.as_str()),
            Some(self.slug.as_str()),
            Some(self.name.as_str()),
            Some(&self.exported_at),
            Some(&first),
            Some(&self.previous_hash),
            Some(&last),
            Some(&self.last_hash),
            Some(&keys),
        ];
        fields
            .extend(self.keys.iter().flat_map(|key| [Some(key.id.as_str()), Some(key.public_key.as_str())]));
        fields.extend(self.checkpoints.iter().map(|checkpoint| Some(checkpoint.signature.as_str())));
        canonical(&fields)
    }
}

/// The first thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It does not begin with a header of this form.
    NoHeader(String),
    /// The header was not signed by a key that is trusted.
    HeaderNotGenuine,
    /// A checkpoint was not signed by a key that is trusted.
    CheckpointNotGenuine {
        /// Its place.
        place: u64,
    },
    /// A line is no record.
    Unreadable {
        /// Which line, the header being the first.
        line: u64,
    },
    /// A record is not as it was written.
    Changed {
        /// Its place.
        place: u64,
        /// On which line.
        line: u64,
    },
    /// A record that does not belong there.
    Inserted {
        /// The place it claims.
        place: u64,
        /// On which line.
        line: u64,
    },
    /// A record stands behind one that came later.
    Reordered {
        /// The place of the record that stands too late.
        place: u64,
        /// On which line it belongs.
        line: u64,
        /// On which line it stands.
        found: u64,
    },
    /// A record is missing.
    Removed {
        /// Its place.
        place: u64,
        /// On which line it belongs.
        line: u64,
    },
    /// The records end too early.
    CutOff {
        /// The place of the last one.
        after: u64,
        /// The place of the last one that was signed.
        signed: u64,
    },
    /// Hashes were computed anew: the one at a checkpoint is not the one that was signed.
    Rewritten {
        /// The first record that may be affected.
        from: u64,
        /// The checkpoint.
        to: u64,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader(why) => write!(f, "this is no exported audit log: {why}"),
            Self::HeaderNotGenuine => {
                f.write_str("the header was not signed by a key that is trusted, or was changed")
            }
            Self::CheckpointNotGenuine { place } => {
                write!(
                    f,
                    "the checkpoint at record {place} was not signed by a key that is trusted, or was changed"
                )
            }
            Self::Unreadable { line } => write!(f, "line {line} is no record: it was changed, or inserted"),
            Self::Changed { place, line } => write!(f, "record {place}, on line {line}, was changed"),
            Self::Inserted { place, line } => {
                write!(f, "line {line}, which claims to be record {place}, was inserted")
            }
            Self::Reordered { place, line, found } => {
                write!(
                    f,
                    "record {place} belongs on line {line} and stands on line {found}: records were reordered"
                )
            }
            Self::Removed { place, line } => {
                write!(f, "record {place}, which belongs on line {line}, was removed")
            }
            Self::CutOff { after, signed } => {
                write!(f, "the records are cut off after record {after}: record {signed} was signed")
            }
            Self::Rewritten { from, to } => write!(
                f,
                "record {to} is not the one that was signed: a record from {from} to {to} was changed, inserted or removed, and \
                 all hashes after it were computed anew"
            ),
        }
    }
}

impl std::error::Error for Wrong {}

/// What a file that is whole holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The number of its records.
    pub records: u64,
    /// The number of its checkpoints.
    pub checkpoints: u64,
}

/// What was found out so far.
enum State {
    Good,
    /// A later record stands where `place` belongs: it comes further down, or is gone.
    Missing {
        place: u64,
        line: u64,
    },
    /// The record of this place stands twice, the second time on this line and with this hash.
    Twice {
        place: u64,
        line: u64,
        hash: String,
    },
    /// The record of this place, on this line, does not follow the one before.
    Unlinked {
        place: u64,
        line: u64,
        hash: String,
    },
    Wrong(Wrong),
}

/// Reads a file line by line.
pub struct Verifier {
    header: Header,
    signed: BTreeMap<u64, String>,
    state: State,
    /// The line that was read last.
    line: u64,
    /// The last record that was good.
    place: u64,
    hash: String,
}

impl Verifier {
    /// Begins with the header. `trusted` are public keys in hexadecimal; without any, the keys in the file are believed.
    /// `verifies` checks the signature of a message: key, message, signature.
    pub fn new(
        line: &str,
        trusted: &[String],
        verifies: impl Fn(&[u8], &[u8], &[u8]) -> bool,
    ) -> Result<Self, Wrong> {
        let header: Header =
            serde_json::from_str(line).map_err(|error| Wrong::NoHeader(error.to_string()))?;
        if header.guildhall_audit != VERSION {
            return Err(Wrong::NoHeader(format!("its form is {}, not {VERSION}", header.guildhall_audit)));
        }
        let genuine = |key: &str, text: &str, signature: &str| {
            let key = header.keys.iter().find(|other| other.id == key);
            let key = key.filter(|key| trusted.is_empty() || trusted.contains(&key.public_key));
            let (Some(key), Ok(signature)) =
                (key.and_then(|key| hex::decode(&key.public_key).ok()), hex::decode(signature))
            else {
                return false;
            };
            verifies(&key, text.as_bytes(), &signature)
        };
        if header.first == 0 || !genuine(&header.key, &header.signed_text(), &header.signature) {
            return Err(Wrong::HeaderNotGenuine);
        }
        let mut signed = BTreeMap::new();
        for Checkpoint { place, hash, at, key, signature } in &header.checkpoints {
            if !genuine(key, &Checkpoint::signed_text(&header.organization, *place, hash, at), signature) {
                return Err(Wrong::CheckpointNotGenuine { place: *place });
            }
            signed.insert(*place, hash.clone());
        }
        if header.last >= header.first {
            signed.entry(header.last).or_insert_with(|| header.last_hash.clone());
        }
        let (place, hash) = (header.first - 1, header.previous_hash.clone());
        Ok(Self { header, signed, state: State::Good, line: 1, place, hash })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next line; whether it wants to see more.
    pub fn read(&mut self, line: &str) -> bool {
        self.line += 1;
        let line_number = self.line;
        let record: Option<Record> = serde_json::from_str(line).ok();
        self.state = match std::mem::replace(&mut self.state, State::Good) {
            State::Good => match record {
                None => State::Wrong(Wrong::Unreadable { line: line_number }),
                Some(record) => self.follow(record),
            },
            State::Missing { place, line } => match record {
                Some(record) if record.place == place => {
                    State::Wrong(Wrong::Reordered { place, line, found: line_number })
                }
                _ => State::Missing { place, line },
            },
            // The record after them tells which of the two is the one that was there.
            State::Twice { place, line, hash } => {
                let second = record.is_some_and(|record| record.previous_hash == hash);
                State::Wrong(Wrong::Inserted { place, line: if second { line - 1 } else { line } })
            }
            State::Unlinked { place, line, hash } => {
                State::Wrong(match record.is_some_and(|record| record.previous_hash == hash) {
                    true if place > self.header.first => Wrong::Changed { place: place - 1, line: line - 1 },
                    _ => Wrong::Changed { place, line },
                })
            }
            wrong @ State::Wrong(_) => wrong,
        };
        !matches!(self.state, State::Wrong(_))
    }

    fn follow(&mut self, record: Record) -> State {
        let (line, expected) = (self.line, self.place + 1);
        let place = record.place;
        if record.hash != record.computed_hash(&self.header.organization) {
            return State::Wrong(Wrong::Changed { place, line });
        }
        if place > self.last() {
            return State::Wrong(Wrong::Inserted { place, line });
        }
        if place > expected {
            return State::Missing { place: expected, line };
        }
        if place + 1 == expected && place >= self.header.first && record.hash != self.hash {
            return State::Twice { place, line, hash: record.hash };
        }
        if place < expected {
            return State::Wrong(Wrong::Inserted { place, line });
        }
        if record.previous_hash != self.hash {
            return State::Unlinked { place, line, hash: record.hash };
        }
        if self.signed.get(&place).is_some_and(|hash| *hash != record.hash) {
            let before = self.signed.range(..place).next_back().map_or(0, |(place, _)| *place);
            return State::Wrong(Wrong::Rewritten { from: (before + 1).max(self.header.first), to: place });
        }
        self.place = place;
        self.hash = record.hash;
        State::Good
    }

    /// The place at which the records have to end.
    fn last(&self) -> u64 {
        self.signed.keys().next_back().copied().unwrap_or(0).max(self.header.last)
    }

    /// Says what the file holds, or what is wrong with it.
    pub fn end(self) -> Result<Verified, Wrong> {
        let last = self.last();
        match self.state {
            State::Good if self.place < last => Err(Wrong::CutOff { after: self.place, signed: last }),
            State::Good => Ok(Verified {
                records: self.place + 1 - self.header.first,
                checkpoints: self.header.checkpoints.len() as u64,
            }),
            State::Missing { place, line } => Err(Wrong::Removed { place, line }),
            State::Twice { place, line, .. } => Err(Wrong::Inserted { place, line }),
            State::Unlinked { place, line, .. } => Err(Wrong::Changed { place, line }),
            State::Wrong(wrong) => Err(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::chain::FIRST, *};

    const ORGANIZATION: &str = "org_1";

    /// Stands for a signature: whoever has the key can make it.
    fn sign(key: &str, text: &str) -> String {
        hex::encode(format!("{key}:{text}"))
    }

    fn verifies(key: &[u8], text: &[u8], signature: &[u8]) -> bool {
        [key, b":", text].concat() == signature
    }

    fn rehash(records: &mut [Record]) {
        let mut previous = FIRST.to_owned();
        for (place, record) in (1..).zip(records) {
            record.place = place;
            record.previous_hash = previous.clone();
            record.hash = record.computed_hash(ORGANIZATION);
            previous.clone_from(&record.hash);
        }
    }

    fn records(number: u64) -> Vec<Record> {
        let record = |place: u64| Record {
            place,
            id: format!("aud_{place}"),
            at: "2026-11-21T13:23:28.000000Z".to_owned(),
            workspace: None,
            actor_kind: "PERSON".to_owned(),
            actor_id: Some("usr_1".to_owned()),
            actor_name: "Ada".to_owned(),
            action: "createRole".to_owned(),
            object_kind: "ROLE".to_owned(),
            object_id: format!("rol_{place}"),
            object_name: "Auditor".to_owned(),
            before: None,
            after: Some("{}".to_owned()),
            request_id: None,
            ip: None,
            previous_hash: String::new(),
            hash: String::new(),
        };
        let mut records: Vec<_> = (1..=number).map(record).collect();
        rehash(&mut records);
        records
    }

    fn header(records: &[Record], checkpoints: &[u64]) -> Header {
        let key = Key { id: "key_1".to_owned(), public_key: hex::encode("secret") };
        let checkpoints = checkpoints.iter().map(|place| {
            let hash = &records[*place as usize - 1].hash;
            let text = Checkpoint::signed_text(ORGANIZATION, *place, hash, "then");
            let signature = sign("secret", &text);
            let (at, key) = ("then".to_owned(), "key_1".to_owned());
            Checkpoint { place: *place, hash: hash.clone(), at, key, signature }
        });
        let mut header = Header {
            guildhall_audit: VERSION,
            organization: ORGANIZATION.to_owned(),
            slug: "acme".to_owned(),
            name: "Acme".to_owned(),
            exported_at: "now".to_owned(),
            first: records[0].place,
            previous_hash: records[0].previous_hash.clone(),
            last: records[records.len() - 1].place,
            last_hash: records[records.len() - 1].hash.clone(),
            keys: vec![key],
            checkpoints: checkpoints.collect(),
            key: "key_1".to_owned(),
            signature: String::new(),
        };
        header.signature = sign("secret", &header.signed_text());
        header
    }

    fn verify(header: &Header, records: &[Record]) -> Result<Verified, Wrong> {
        let mut verifier = Verifier::new(&serde_json::to_string(header).unwrap(), &[], verifies)?;
        for record in records {
            if !verifier.read(&serde_json::to_string(record).unwrap()) {
                break;
            }
        }
        verifier.end()
    }

    #[test]
    fn a_whole_file_is_whole_and_so_is_a_part() {
        let all = records(9);
        assert_eq!(verify(&header(&all, &[4, 9]), &all), Ok(Verified { records: 9, checkpoints: 2 }));
        let part = &all[3..6];
        assert_eq!(verify(&header(part, &[]), part), Ok(Verified { records: 3, checkpoints: 0 }));
    }

    #[test]
    fn a_changed_record_is_named() {
        let all = records(9);
        let header = header(&all, &[4]);
        let change: [fn(&mut Record); 17] = [
            |record| record.place += 100,
            |record| record.id.push('x'),
            |record| record.at.push('x'),
            |record| record.workspace = Some("wks_1".to_owned()),
            |record| record.actor_kind.push('x'),
            |record| record.actor_id = None,
            |record| record.actor_name.push('x'),
            |record| record.action.push('x'),
            |record| record.object_kind.push('x'),
            |record| record.object_id.push('x'),
            |record| record.object_name.push('x'),
            |record| record.before = Some(String::new()),
            |record| record.after = None,
            |record| record.request_id = Some("x".to_owned()),
            |record| record.ip = Some("::1".to_owned()),
            |record| record.previous_hash = FIRST.to_owned(),
            |record| record.hash = FIRST.to_owned(),
        ];
        for change in change {
            let mut changed = all.clone();
            change(&mut changed[5]);
            assert!(matches!(verify(&header, &changed), Err(Wrong::Changed { line: 7, .. })));
        }
    }

    #[test]
    fn a_record_that_was_changed_and_hashed_anew_is_named() {
        for at in 0..9 {
            let mut all = records(9);
            let header = header(&all, &[9]);
            all[at].actor_name = "Eve".to_owned();
            all[at].hash = all[at].computed_hash(ORGANIZATION);
            let (place, line) = (at as u64 + 1, at as u64 + 2);
            // Of the last two the file itself does not say which is genuine; of the last one its signature does.
            let expected = match at {
                8 => Wrong::Rewritten { from: 1, to: 9 },
                7 => Wrong::Changed { place: 9, line: 10 },
                _ => Wrong::Changed { place, line },
            };
            assert_eq!(verify(&header, &all), Err(expected));
        }
    }

    #[test]
    fn a_record_that_is_missing_or_elsewhere_is_named() {
        let all = records(9);
        let header = header(&all, &[4, 9]);
        let mut removed = all.clone();
        removed.remove(4);
        assert_eq!(verify(&header, &removed), Err(Wrong::Removed { place: 5, line: 6 }));
        let mut removed = all.clone();
        removed.remove(0);
        assert_eq!(verify(&header, &removed), Err(Wrong::Removed { place: 1, line: 2 }));
        let mut swapped = all.clone();
        swapped.swap(4, 6);
        assert_eq!(verify(&header, &swapped), Err(Wrong::Reordered { place: 5, line: 6, found: 8 }));
        assert_eq!(verify(&header, &all[..7]), Err(Wrong::CutOff { after: 7, signed: 9 }));
        assert_eq!(verify(&header, &[]), Err(Wrong::CutOff { after: 0, signed: 9 }));
    }

    #[test]
    fn an_inserted_record_is_named() {
        let all = records(9);
        let header = header(&all, &[4, 9]);
        let mut copied = all.clone();
        copied.insert(6, all[2].clone());
        assert_eq!(verify(&header, &copied), Err(Wrong::Inserted { place: 3, line: 8 }));
        let mut copied = all.clone();
        copied.insert(4, all[3].clone());
        assert_eq!(verify(&header, &copied), Err(Wrong::Inserted { place: 4, line: 6 }));
        // One that was made up follows the record before, so only what comes after tells it from the genuine one.
        let mut forged = all[5].clone();
        forged.actor_name = "Eve".to_owned();
        forged.hash = forged.computed_hash(ORGANIZATION);
        for (at, line) in [(5, 7), (6, 8)] {
            let mut inserted = all.clone();
            inserted.insert(at, forged.clone());
            assert_eq!(verify(&header, &inserted), Err(Wrong::Inserted { place: 6, line }));
        }
        let mut longer = records(10);
        assert_eq!(verify(&header, &longer), Err(Wrong::Inserted { place: 10, line: 11 }));
        longer.truncate(9);
        assert!(verify(&header, &longer).is_ok());
    }

    #[test]
    fn whoever_computes_all_hashes_anew_cannot_sign_them() {
        let all = records(9);
        let genuine = header(&all, &[4, 9]);
        let mut rewritten = all.clone();
        rewritten.remove(6);
        rewritten.push(all[8].clone());
        rehash(&mut rewritten);
        assert_eq!(verify(&genuine, &rewritten), Err(Wrong::Rewritten { from: 5, to: 9 }));
        let mut other = genuine.clone();
        other.last = 8;
        assert_eq!(verify(&other, &rewritten[..8]), Err(Wrong::HeaderNotGenuine));
        let mut other = genuine.clone();
        other.checkpoints[0].hash = FIRST.to_owned();
        assert_eq!(verify(&other, &all), Err(Wrong::CheckpointNotGenuine { place: 4 }));
        let mut other = genuine;
        other.checkpoints.pop();
        assert_eq!(verify(&other, &all), Err(Wrong::HeaderNotGenuine));
    }

    #[test]
    fn only_trusted_keys_are_believed_where_any_are_named() {
        let all = records(2);
        let line = serde_json::to_string(&header(&all, &[])).unwrap();
        assert!(Verifier::new(&line, &[hex::encode("secret")], verifies).is_ok());
        let other = Verifier::new(&line, &[hex::encode("another")], verifies);
        assert_eq!(other.err(), Some(Wrong::HeaderNotGenuine));
        assert!(matches!(Verifier::new("{}", &[], verifies).err(), Some(Wrong::NoHeader(_))));
    }
}
