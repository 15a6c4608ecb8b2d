//! A workspace as a file, for moving it to another instance: its settings, who belongs to it, the roles they have, its
//! configuration and its credentials without their secrets. Knows the form of the file and judges all of it by the same
//! rules as what comes over the API; refuses to know what the other instance has.

use std::{collections::BTreeSet, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    access::{Permission, PermissionSet, SystemRole},
    config::{ConfigKind, ConfigValue, MAX_PROPERTIES},
    credentials::{CreateCredentialCode, CredentialKind, GivenField, PlannedField, StoredField, plan_fields},
    members::end_of_membership,
    refusal::FieldFault,
    roles::{parse_key, permissions_of_role},
    text::{
        ConfigKey, CountryCode, CredentialSlug, DisplayName, Email, ImageRef, Labels, Markdown, Message,
        Region, Slug, parse_countries,
    },
};

/// What the file says it is.
const FORMAT: &str = "guildhall-workspace";
/// The form that this version writes and reads.
const VERSION: u32 = 1;
/// The largest file, in bytes.
pub const MAX_FILE: u64 = 64 * 1024 * 1024;
/// The most members of a file: each gets a mail.
const MAX_MEMBERS: usize = 2000;
/// The most roles of a file, and the most credentials.
const MAX_ENTRIES: usize = 1000;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Document {
    format: String,
    version: u32,
    /// The workspace itself.
    pub workspace: WorkspaceEntry,
    /// The organization's own roles that somebody in it has, by key.
    pub roles: Vec<RoleEntry>,
    /// Everybody who is a member or has a pending invitation, by address; nobody who is disabled.
    pub members: Vec<MemberEntry>,
    /// The configuration properties, by key.
    pub config: Vec<PropertyEntry>,
    /// The workspace's own credentials, by slug.
    pub credentials: Vec<CredentialEntry>,
}

/// A workspace's settings.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the API has them")]
pub struct WorkspaceEntry {
    pub name: String,
    pub display_name: String,
    pub description: Option<String>,
    pub countries: Vec<String>,
    pub docker_image: Option<String>,
    pub region: Option<String>,
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A role.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the API has them")]
pub struct RoleEntry {
    pub key: String,
    pub name: String,
    pub description: String,
    pub permissions: Vec<String>,
}

/// Somebody who belongs to the workspace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the API has them")]
pub struct MemberEntry {
    pub email: String,
    /// The key of a role.
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// A configuration property. The value is JSON, with every digit of a number.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the API has them")]
pub struct PropertyEntry {
    pub key: String,
    pub kind: String,
    pub value: Box<RawValue>,
}

/// A credential.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the API has them")]
pub struct CredentialEntry {
    pub slug: String,
    pub kind: String,
    pub name: String,
    pub description: String,
    pub fields: Vec<FieldEntry>,
}

/// A field of a credential. The value of a secret one is never here: it is to be given in the other instance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the API has them")]
pub struct FieldEntry {
    pub code: String,
    pub is_secret: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What is wrong with the file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Such as `workspace.countries[1]`; empty for the whole.
    pub path: String,
    /// To follow the path.
    pub message: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "the file {}", self.message),
            path => write!(f, "`{path}` {}", self.message),
        }
    }
}

/// What is wrong with the file as a whole.
fn whole(message: String) -> FileFault {
    FileFault { path: String::new(), message }
}

/// Whether a file of that many bytes is neither written nor read.
pub fn judge_length(bytes: u64) -> Result<(), FileFault> {
    match bytes > MAX_FILE {
        true => Err(whole(format!("is larger than {MAX_FILE} bytes"))),
        false => Ok(()),
    }
}

impl Document {
    /// A document of a workspace with nothing else in it yet.
    pub fn of(workspace: WorkspaceEntry) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            workspace,
            roles: Vec::new(),
            members: Vec::new(),
            config: Vec::new(),
            credentials: Vec::new(),
        }
    }

    /// The file of the document. What [`judge`] would refuse as too much is refused here, so that nobody keeps a file that
    /// cannot be imported.
    pub fn to_json(&self) -> Result<String, Vec<FileFault>> {
        let mut faults = Faults::default();
        faults.too_much(self);
        if !faults.0.is_empty() {
            return Err(faults.0);
        }
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|wrong| vec![whole(format!("cannot be written: {wrong}"))])? + "\n";
        judge_length(text.len() as u64).map_err(|fault| vec![fault])?;
        Ok(text)
    }

    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, FileFault> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        match serde_json::from_str::<Head>(text) {
            Ok(head) if head.format != FORMAT => Err(whole(format!("is of another format than {FORMAT}"))),
            Ok(head) if head.version != VERSION => {
                Err(whole(format!("is of version {}: this Guildhall reads version {VERSION}", head.version)))
            }
            Ok(_) => serde_json::from_str(text).map_err(|wrong| whole(format!("cannot be read: {wrong}"))),
            Err(wrong) => Err(whole(format!("is no exported workspace: {wrong}"))),
        }
    }
}

/// A workspace that can be made.
#[derive(Debug)]
#[expect(missing_docs, reason = "as the API has them")]
pub struct Plan {
    pub name: Slug,
    pub display_name: DisplayName,
    pub description: Option<Markdown>,
    pub countries: Vec<CountryCode>,
    pub docker_image: Option<ImageRef>,
    pub region: Option<Region>,
    pub labels: Labels,
    pub roles: Vec<PlannedRole>,
    pub members: Vec<PlannedMember>,
    pub config: Vec<(ConfigKey, ConfigValue)>,
    pub credentials: Vec<PlannedCredential>,
}

/// A role that the organization needs.
#[derive(Debug)]
#[expect(missing_docs, reason = "as the API has them")]
pub struct PlannedRole {
    pub key: String,
    pub name: DisplayName,
    pub description: Option<Message>,
    pub permissions: PermissionSet,
}

/// Somebody to invite.
#[derive(Debug)]
#[expect(missing_docs, reason = "as the API has them")]
pub struct PlannedMember {
    pub email: Email,
    /// The key of a role.
    pub role: String,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A credential to make, whose secrets are to be given.
#[derive(Debug)]
#[expect(missing_docs, reason = "as the API has them")]
pub struct PlannedCredential {
    pub slug: CredentialSlug,
    pub kind: CredentialKind,
    pub name: DisplayName,
    pub description: Option<Message>,
    /// Those without a value are secret.
    pub fields: Vec<PlannedField>,
}

/// Collects what is wrong, each with its path.
#[derive(Default)]
struct Faults(Vec<FileFault>);

impl Faults {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FileFault { path: path.into(), message: message.into() });
    }

    fn read<T, E: Into<FieldFault>>(&mut self, path: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|fault| self.add(path, fault.into().0)).ok()
    }

    fn at_most<T>(&mut self, path: &str, entries: &[T], max: usize) {
        if entries.len() > max {
            self.add(path, format!("has {} entries: at most {max}", entries.len()));
        }
    }

    /// Refuses lists that are too long, whether they are to be written or were read.
    fn too_much(&mut self, document: &Document) {
        self.at_most("roles", &document.roles, MAX_ENTRIES);
        self.at_most("members", &document.members, MAX_MEMBERS);
        self.at_most("config", &document.config, MAX_PROPERTIES);
        self.at_most("credentials", &document.credentials, MAX_ENTRIES);
    }

    /// Refuses what stands there twice.
    fn once(&mut self, path: &str, seen: &mut BTreeSet<String>, what: &str) {
        if !seen.insert(what.to_owned()) {
            self.add(path, format!("stands there twice: {what}"));
        }
    }
}

/// Judges all of a document, as a workspace that is made now. `name` goes before the name in the file.
pub fn judge(document: Document, name: Option<&str>, now: DateTime<Utc>) -> Result<Plan, Vec<FileFault>> {
    let mut faults = Faults::default();
    faults.too_much(&document);
    let Document { workspace, roles, members, config, credentials, .. } = document;
    let settings = judge_settings(&mut faults, &workspace, name);
    let roles = judge_roles(&mut faults, roles);
    let keys: BTreeSet<&str> =
        roles.iter().map(|role| role.key.as_str()).chain(SystemRole::ALL.map(SystemRole::key)).collect();
    let members = judge_members(&mut faults, members, &keys, now);
    let config = judge_config(&mut faults, config);
    let credentials = judge_credentials(&mut faults, credentials);
    match settings {
        Some(plan) if faults.0.is_empty() => Ok(Plan { roles, members, config, credentials, ..plan }),
        _ => Err(faults.0),
    }
}

fn judge_settings(faults: &mut Faults, entry: &WorkspaceEntry, name: Option<&str>) -> Option<Plan> {
    let name = match name {
        Some(name) => faults.read("--name", Slug::parse(name)),
        None => faults.read("workspace.name", Slug::parse(&entry.name)),
    };
    let display_name = faults.read("workspace.displayName", DisplayName::parse(&entry.display_name));
    let description = entry.description.as_deref().map(Markdown::parse_or_clear).transpose();
    let description = faults.read("workspace.description", description);
    let countries = match parse_countries(&entry.countries) {
        Ok(countries) => Some(countries),
        Err((index, fault)) => {
            faults.add(format!("workspace.countries[{index}]"), fault.message());
            None
        }
    };
    let docker_image = entry.docker_image.as_deref().map(ImageRef::parse).transpose();
    let docker_image = faults.read("workspace.dockerImage", docker_image);
    let region = faults.read("workspace.region", entry.region.as_deref().map(Region::parse).transpose());
    let labels: Vec<_> = entry.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let labels = match Labels::parse(&labels) {
        Ok(labels) => Some(labels),
        Err(wrong) => {
            for fault in wrong {
                let key = fault.at.and_then(|(index, _)| labels.get(index)).map(|(key, _)| *key);
                let path = key.map_or("workspace.labels".to_owned(), |key| format!("workspace.labels.{key}"));
                faults.add(path, fault.message);
            }
            None
        }
    };
    Some(Plan {
        name: name?,
        display_name: display_name?,
        description: description?.flatten(),
        countries: countries?,
        docker_image: docker_image?,
        region: region?,
        labels: labels?,
        roles: Vec::new(),
        members: Vec::new(),
        config: Vec::new(),
        credentials: Vec::new(),
    })
}

fn judge_roles(faults: &mut Faults, entries: Vec<RoleEntry>) -> Vec<PlannedRole> {
    let mut seen = BTreeSet::new();
    let mut planned = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |field: &str| format!("roles[{index}].{field}");
        let key = faults.read(&at("key"), parse_key(&entry.key));
        if SystemRole::ALL.iter().any(|role| role.key() == entry.key) {
            faults.add(
                at("key"),
                format!("is {}, which every organization has: leave the role out", entry.key),
            );
        }
        faults.once(&at("key"), &mut seen, &entry.key);
        let name = faults.read(&at("name"), DisplayName::parse(&entry.name));
        let description = faults.read(&at("description"), Message::parse_optional(&entry.description));
        let mut permissions = Vec::new();
        for (place, name) in entry.permissions.iter().enumerate() {
            match Permission::from_name(name) {
                Some(permission) => permissions.push(permission),
                None => faults.add(
                    format!("roles[{index}].permissions[{place}]"),
                    format!("is no permission that this version knows: {}", shown(name)),
                ),
            }
        }
        let permissions = faults.read(&at("permissions"), permissions_of_role(&permissions));
        if let (Some(key), Some(name), Some(description), Some(permissions)) =
            (key, name, description, permissions)
        {
            planned.push(PlannedRole { key, name, description, permissions });
        }
    }
    planned
}

/// The readable beginning of what somebody wrote.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn judge_members(
    faults: &mut Faults,
    entries: Vec<MemberEntry>,
    roles: &BTreeSet<&str>,
    now: DateTime<Utc>,
) -> Vec<PlannedMember> {
    let mut seen = BTreeSet::new();
    let mut planned = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |field: &str| format!("members[{index}].{field}");
        let email = faults.read(&at("email"), Email::parse(&entry.email));
        if let Some(email) = &email {
            faults.once(&at("email"), &mut seen, email.as_str());
        }
        if !roles.contains(entry.role.as_str()) {
            let message = format!("is no role of the file or the system: {}", shown(&entry.role));
            faults.add(at("role"), message);
        }
        let expires_at = entry.expires_at.map(|end| end_of_membership(end, now)).transpose();
        let expires_at = faults.read(&at("expiresAt"), expires_at);
        if let (Some(email), Some(expires_at)) = (email, expires_at) {
            planned.push(PlannedMember { email, role: entry.role, expires_at });
        }
    }
    planned
}

fn judge_config(faults: &mut Faults, entries: Vec<PropertyEntry>) -> Vec<(ConfigKey, ConfigValue)> {
    let mut seen = BTreeSet::new();
    let mut planned = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |field: &str| format!("config[{index}].{field}");
        let key = faults.read(&at("key"), ConfigKey::parse(&entry.key));
        faults.once(&at("key"), &mut seen, &entry.key);
        let Some(kind) = ConfigKind::from_word(&entry.kind) else {
            let words: Vec<_> = ConfigKind::ALL.iter().map(|kind| kind.word()).collect();
            let message =
                format!("is no kind of value, which are {}: {}", words.join(", "), shown(&entry.kind));
            faults.add(at("kind"), message);
            continue;
        };
        let value = faults.read(&at("value"), config_value(kind, entry.value.get()));
        planned.extend(key.zip(value));
    }
    planned
}

fn config_value(kind: ConfigKind, json: &str) -> Result<ConfigValue, FieldFault> {
    let other = |what: &str| FieldFault(format!("is not {what}, as `kind` says"));
    match kind {
        ConfigKind::String => {
            ConfigValue::string(&serde_json::from_str::<String>(json).map_err(|_| other("a text"))?)
        }
        ConfigKind::Boolean => {
            Ok(ConfigValue::boolean(serde_json::from_str(json).map_err(|_| other("true or false"))?))
        }
        ConfigKind::Number => ConfigValue::number(json),
        ConfigKind::Json => ConfigValue::json(json),
    }
}

fn judge_credentials(faults: &mut Faults, entries: Vec<CredentialEntry>) -> Vec<PlannedCredential> {
    let mut seen = BTreeSet::new();
    let mut planned = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |field: &str| format!("credentials[{index}].{field}");
        let slug = faults.read(&at("slug"), CredentialSlug::parse(&entry.slug));
        faults.once(&at("slug"), &mut seen, &entry.slug);
        let name = faults.read(&at("name"), DisplayName::parse(&entry.name));
        let description = faults.read(&at("description"), Message::parse_optional(&entry.description));
        let Some(kind) = CredentialKind::from_word(&entry.kind) else {
            let message = format!("is no kind of credential that this version knows: {}", shown(&entry.kind));
            faults.add(at("kind"), message);
            continue;
        };
        let fields = judge_fields(faults, index, kind, entry.fields);
        if let (Some(slug), Some(name), Some(description), Some(fields)) = (slug, name, description, fields) {
            planned.push(PlannedCredential { slug, kind, name, description, fields });
        }
    }
    planned
}

/// The fields, judged as if the secrets were stored and kept.
fn judge_fields(
    faults: &mut Faults,
    credential: usize,
    kind: CredentialKind,
    entries: Vec<FieldEntry>,
) -> Option<Vec<PlannedField>> {
    let before = faults.0.len();
    for (place, entry) in entries.iter().enumerate() {
        let path = format!("credentials[{credential}].fields[{place}].value");
        match (entry.is_secret, &entry.value) {
            (true, Some(_)) => {
                faults.add(path, "is of a secret field, and does not belong into a file: leave it out")
            }
            (false, None) => faults.add(path, "is missing"),
            _ => {}
        }
    }
    let secret = entries.iter().filter(|entry| entry.is_secret);
    let stored: Vec<_> =
        secret.map(|entry| StoredField { code: entry.code.clone(), is_secret: true }).collect();
    let given = entries.into_iter().map(|entry| GivenField {
        code: entry.code,
        value: entry.value.filter(|_| !entry.is_secret).map(Into::into),
        is_secret: Some(entry.is_secret),
    });
    match plan_fields::<CreateCredentialCode>(kind, given.collect(), &stored) {
        Ok(fields) if faults.0.len() == before => Some(fields),
        Ok(_) => None,
        // What is missing was told already.
        Err(_) if faults.0.len() > before => None,
        Err(refusals) => {
            for refusal in refusals {
                let path: String =
                    refusal.field.iter().fold(format!("credentials[{credential}]"), |path, part| match part
                        .parse::<usize>(
                    ) {
                        Ok(index) => format!("{path}[{index}]"),
                        Err(_) => format!("{path}.{part}"),
                    });
                faults.add(path, format!("is refused: {}", refusal.message));
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    const FILE: &str = r#"{
        "format": "guildhall-workspace", "version": 1,
        "workspace": { "name": "lab", "displayName": "Lab", "description": "Home", "countries": ["FR"],
            "dockerImage": null, "region": null, "labels": { "team": "x" } },
        "roles": [{ "key": "READER", "name": "Reader", "description": "", "permissions": ["file.read"] }],
        "members": [{ "email": "ada@example.org", "role": "ADMIN" },
            { "email": "eve@example.org", "role": "READER", "expiresAt": "2999-01-01T00:00:00Z" }],
        "config": [{ "key": "size", "kind": "NUMBER", "value": 12345678901234567890.1230 }],
        "credentials": [{ "slug": "other", "kind": "CUSTOM", "name": "Other", "description": "", "fields": [
            { "code": "host", "isSecret": false, "value": "example.org" }, { "code": "password", "isSecret": true } ] }]
    }"#;

    fn faults(file: &str) -> Vec<String> {
        let document = match Document::parse(file) {
            Ok(document) => document,
            Err(fault) => return vec![fault.to_string()],
        };
        let judged = judge(document, None, now());
        judged.err().map_or(Vec::new(), |faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_good_file_is_planned_with_every_digit() {
        let plan = judge(Document::parse(FILE).unwrap(), None, now()).unwrap();
        assert_eq!(plan.config[0].1.as_json(), "12345678901234567890.1230");
        assert_eq!(plan.members[1].role, "READER");
        assert!(plan.roles[0].permissions.holds(Permission::WorkspaceView));
        let fields: Vec<_> = plan.credentials[0]
            .fields
            .iter()
            .map(|field| (field.code.as_str(), field.value.is_some()))
            .collect();
        assert_eq!(fields, [("host", true), ("password", false)]);
        let renamed = judge(Document::parse(FILE).unwrap(), Some("den"), now()).unwrap();
        assert_eq!(renamed.name.as_str(), "den");
        // What is written reads as what was read.
        let again = Document::parse(FILE).unwrap().to_json().unwrap();
        assert_eq!(Document::parse(&again).unwrap().to_json().unwrap(), again);
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        for (good, bad, path) in [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("guildhall-workspace", "something", "another format"),
            ("\"roles\"", "\"rules\"", "unknown field `rules`"),
            ("\"name\": \"lab\"", "\"name\": \"Lab\"", "`workspace.name`"),
            ("\"name\": \"lab\"", "\"name\": \"admin\"", "`workspace.name`"),
            ("\"FR\"", "\"FR\", \"XX\"", "`workspace.countries[1]`"),
            ("\"team\": \"x\"", "\"te am\": \"x\"", "`workspace.labels.te am`"),
            ("file.read", "file.raed", "`roles[0].permissions[0]`"),
            ("file.read", "organization.govern", "`roles[0].permissions`"),
            ("\"key\": \"READER\"", "\"key\": \"ADMIN\"", "`roles[0].key`"),
            ("\"role\": \"READER\"", "\"role\": \"WRITER\"", "`members[1].role`"),
            ("eve@example.org", "Ada@Example.org", "`members[1].email`"),
            ("2999-01-01", "1969-01-01", "`members[1].expiresAt`"),
            ("\"NUMBER\"", "\"NUMERAL\"", "`config[0].kind`"),
            ("\"NUMBER\"", "\"STRING\"", "`config[0].value`"),
            ("\"CUSTOM\"", "\"CUSTOMARY\"", "`credentials[0].kind`"),
            (
                "\"isSecret\": true",
                "\"isSecret\": true, \"value\": \"x\"",
                "`credentials[0].fields[1].value`",
            ),
            (", \"value\": \"example.org\"", "", "`credentials[0].fields[0].value`"),
            ("\"code\": \"password\"", "\"code\": \"Password\"", "`credentials[0].fields[1].code`"),
        ] {
            assert!(FILE.contains(good), "{good}");
            let told = faults(&FILE.replacen(good, bad, 1));
            assert!(!told.is_empty() && told.iter().any(|fault| fault.contains(path)), "{bad}: {told:?}");
        }
        assert_eq!(
            faults(&FILE.replace("\"FR\"", "\"XX\"").replace("file.read", "x")).len(),
            2,
            "all at once"
        );
    }

    #[test]
    fn what_is_too_much_to_be_imported_is_not_written() {
        let mut document = Document::parse(FILE).unwrap();
        let member = |number: usize| MemberEntry {
            email: format!("g{number}@example.org"),
            role: "VIEWER".to_owned(),
            expires_at: None,
        };
        document.members = (0..MAX_MEMBERS).map(member).collect();
        assert!(document.to_json().is_ok());
        document.members.push(member(MAX_MEMBERS));
        let refused = document.to_json().unwrap_err();
        let told: Vec<_> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["`members` has 2001 entries: at most 2000"]);
        assert_eq!(judge(document, None, now()).unwrap_err(), refused, "in the same words");
        assert_eq!(judge_length(MAX_FILE), Ok(()));
        assert_eq!(
            judge_length(MAX_FILE + 1).unwrap_err().to_string(),
            "the file is larger than 67108864 bytes"
        );
    }

    #[test]
    fn a_secret_in_a_file_is_refused_and_not_repeated() {
        let planted =
            FILE.replacen("\"isSecret\": true", "\"isSecret\": true, \"value\": \"planted otter\"", 1);
        assert!(faults(&planted).iter().all(|fault| !fault.contains("otter")));
    }
}
