//! Secrets at rest: each workspace has a data key, which the master key wraps and which seals the secrets of its
//! credentials. Knows what a sealed value is bound to; refuses to know what a credential is and who may read it.

use std::{collections::HashMap, fmt};

use guildhall_domain::ids::{CredentialId, WebhookId, WorkspaceId};
use sea_orm::FromQueryResult;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    db::{Ask, Tx},
    error::Fault,
    instance,
    keys::{Keys, Seal, hex8, mac, random, tag},
    sql::Sql,
};

/// The form of a sealed value: its first byte, and part of what it is bound to.
const VERSION: u8 = 1;

/// What stands in the place of a field's code for what belongs to a webhook.
const WEBHOOK: &str = "signing secret of a webhook";

/// The key that one workspace's secrets are sealed with. Its Debug shows nothing; zeroized on drop.
pub(crate) struct DataKey {
    workspace: WorkspaceId,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// A row of `workspace_keys`.
#[derive(FromQueryResult)]
struct Wrapped {
    master_key_id: String,
    wrapped: Vec<u8>,
}

/// The workspace's key, made when it has none yet. Whoever asks has locked the workspace.
pub(crate) async fn data_key(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<DataKey, Fault> {
    let keys = tx.db().keys();
    if let Some(key) = existing_data_key(tx, keys, workspace).await? {
        return Ok(key);
    }
    // Whoever was not told of a new master key wraps nothing more with the old one, which may be gone tomorrow.
    let under = instance::hold_master_key(tx).await?;
    if let Some(id) = under.filter(|under| keys.master_key_ids().all(|id| id != under)) {
        return Err(Fault::MasterKeyMissing { what: "this database".to_owned(), id });
    }
    let key = Zeroizing::new(random()?);
    // At once and not with the next statement: whoever asks again in this transaction finds it.
    tx.run(Sql::insert(
        "workspace_keys",
        [
            ("workspace_id", workspace.uuid().into()),
            ("master_key_id", keys.master_key_id().into()),
            ("wrapped", keys.wrap(workspace, &key)?.into()),
            ("created_at", tx.now().into()),
            ("wrapped_at", tx.now().into()),
        ],
    ))
    .await?;
    Ok(DataKey { workspace, key })
}

/// The workspace's key, if it has one.
pub(crate) async fn existing_data_key(
    ask: &impl Ask,
    keys: &Keys,
    workspace: WorkspaceId,
) -> Result<Option<DataKey>, Fault> {
    let sql = Sql::new("SELECT master_key_id, wrapped FROM workspace_keys WHERE workspace_id = ")
        .bind(workspace.uuid());
    let Some(Wrapped { master_key_id, wrapped }) = ask.one(sql).await? else { return Ok(None) };
    Ok(Some(DataKey { workspace, key: keys.unwrap(workspace, &master_key_id, &wrapped)? }))
}

/// The keys of those workspaces, as far as they have any. One that does not open says so, and does not stand in the way of
/// the others.
pub(crate) async fn existing_data_keys(
    ask: &impl Ask,
    keys: &Keys,
    workspaces: &[WorkspaceId],
) -> Result<HashMap<WorkspaceId, Result<DataKey, Fault>>, Fault> {
    #[derive(FromQueryResult)]
    struct Row {
        workspace_id: Uuid,
        master_key_id: String,
        wrapped: Vec<u8>,
    }
    let sql =
        Sql::new("SELECT workspace_id, master_key_id, wrapped FROM workspace_keys WHERE workspace_id IN ")
            .bind_list(workspaces.iter().map(|id| id.uuid()));
    let rows: Vec<Row> = ask.all(sql).await?;
    let open = |row: Row| {
        let workspace = WorkspaceId::from(row.workspace_id);
        let key = keys.unwrap(workspace, &row.master_key_id, &row.wrapped);
        (workspace, key.map(|key| DataKey { workspace, key }))
    };
    Ok(rows.into_iter().map(open).collect())
}

impl DataKey {
    /// XChaCha20-Poly1305; the associated data binds it to workspace, credential and field.
    pub(crate) fn seal(&self, credential: CredentialId, code: &str, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let sealed = self.cipher().seal(&self.place(credential, code), plain)?;
        Ok([&[VERSION], sealed.as_slice()].concat())
    }

    /// Opens what was sealed for that field of that credential.
    pub(crate) fn open(
        &self,
        credential: CredentialId,
        code: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let opened = match sealed.split_first() {
            Some((&VERSION, sealed)) => self.cipher().open(&self.place(credential, code), sealed),
            _ => None,
        };
        opened.ok_or_else(|| Fault::Stored(format!("the field {code} of {credential} does not open")))
    }

    /// The same for the secret that a webhook's messages are signed with. Ids are given once, and a field's code has no
    /// space, so it opens in no other place.
    pub(crate) fn seal_webhook(&self, webhook: WebhookId, secret: &[u8]) -> Result<Vec<u8>, Fault> {
        self.seal(webhook.uuid().into(), WEBHOOK, secret)
    }

    /// Opens what was sealed for that webhook.
    pub(crate) fn open_webhook(
        &self,
        webhook: WebhookId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.open(webhook.uuid().into(), WEBHOOK, sealed)
            .map_err(|_| Fault::Stored(format!("the secret of {webhook} does not open")))
    }

    /// Tells two addresses of a webhook apart without telling either, since there may be a secret in them.
    pub(crate) fn fingerprint_of_url(&self, webhook: WebhookId, url: &str) -> String {
        self.fingerprint(webhook.uuid().into(), WEBHOOK, url.as_bytes())
    }

    /// Tells two values of one field apart without telling either: 8 hexadecimal digits. Equal values of two fields
    /// have nothing in common.
    pub(crate) fn fingerprint(&self, credential: CredentialId, code: &str, plain: &[u8]) -> String {
        // The place is of no fixed length, so its tag stands for it.
        let place = tag(&mac(self.derived(b"places").as_slice()), &[&self.place(credential, code)]);
        hex8(&tag(&mac(self.derived(b"fingerprints").as_slice()), &[&place, plain]))
    }

    fn cipher(&self) -> Seal {
        Seal::new(&self.derived(b"seal"))
    }

    fn derived(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(tag(&mac(self.key.as_slice()), &[purpose]))
    }

    /// Where a value belongs. Only the last part has no fixed length, so no two places read alike.
    fn place(&self, credential: CredentialId, code: &str) -> Vec<u8> {
        [
            &[VERSION],
            self.workspace.uuid().as_bytes().as_slice(),
            credential.uuid().as_bytes(),
            code.as_bytes(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeDelta;
    use guildhall_domain::{access::System, seams};

    use super::*;
    use crate::{
        Hasher, Options, Seams, Settings,
        db::{Db, migrate},
        error::OpError,
        keys::KeyMaterial,
        master_keys, seed,
        sql::Single,
    };

    const SECRET: &[u8] = b"a planted otter";

    fn key(workspace: u128, fill: u8) -> DataKey {
        DataKey { workspace: Uuid::from_u128(workspace).into(), key: Zeroizing::new([fill; 32]) }
    }

    fn credential(n: u128) -> CredentialId {
        Uuid::from_u128(n).into()
    }

    fn keys(master_key: &[u8; 32]) -> Keys {
        with_previous(master_key, Vec::new())
    }

    fn with_previous(master_key: &[u8; 32], previous_master_keys: Vec<&[u8; 32]>) -> Keys {
        Keys::new(&KeyMaterial {
            access_secret: "access",
            refresh_secret: "refresh",
            token_hash_secret: "links",
            master_key,
            previous_master_keys,
            issuer: "guildhall",
            audience: "guildhall",
            access_lifetime: TimeDelta::minutes(15),
            refresh_lifetime: TimeDelta::days(30),
        })
    }

    #[test]
    fn a_value_opens_in_its_own_place_alone() {
        let mine = key(1, 7);
        let sealed = mine.seal(credential(1), "password", SECRET).unwrap();
        assert_eq!(mine.open(credential(1), "password", &sealed).unwrap().as_slice(), SECRET);
        // Each differs in one thing only: the workspace's id, its key, the credential, the field.
        for (other, credential, code) in [
            (key(2, 7), credential(1), "password"),
            (key(1, 8), credential(1), "password"),
            (key(1, 7), credential(2), "password"),
            (key(1, 7), credential(1), "passwor"),
            (key(1, 7), credential(1), "password2"),
            (key(1, 7), credential(1), ""),
        ] {
            assert!(other.open(credential, code, &sealed).is_err(), "{credential} {code}");
        }
    }

    #[test]
    fn a_value_that_was_changed_does_not_open() {
        let key = key(1, 7);
        let sealed = key.seal(credential(1), "password", SECRET).unwrap();
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[place] ^= 1 << bit;
                assert!(key.open(credential(1), "password", &changed).is_err(), "{place} {bit}");
            }
            assert!(key.open(credential(1), "password", &sealed[..place]).is_err(), "{place}");
        }
        assert!(key.open(credential(1), "password", &[sealed.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let key = key(1, 7);
        let seal = || key.seal(credential(1), "password", SECRET).unwrap();
        assert_ne!(seal(), seal());
        assert!(!seal().windows(SECRET.len()).any(|piece| piece == SECRET));
        let empty = key.seal(credential(1), "password", b"").unwrap();
        assert!(key.open(credential(1), "password", &empty).unwrap().is_empty());
    }

    #[test]
    fn a_fingerprint_tells_values_of_one_field_apart_and_nothing_of_others() {
        let of = |key: DataKey, n, code, plain| key.fingerprint(credential(n), code, plain);
        let mine = of(key(1, 7), 1, "password", SECRET);
        assert!(mine.len() == 8 && mine.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mine}");
        assert_eq!(mine, of(key(1, 7), 1, "password", SECRET));
        for other in [
            of(key(1, 7), 1, "password", b"another otter"),
            of(key(1, 7), 1, "passworda", b" planted otter"),
            of(key(1, 7), 1, "user", SECRET),
            of(key(1, 7), 2, "password", SECRET),
            of(key(2, 7), 1, "password", SECRET),
            of(key(1, 8), 1, "password", SECRET),
        ] {
            assert_ne!(mine, other);
        }
    }

    #[test]
    fn a_wrapped_key_opens_for_its_workspace_with_its_master_key_alone() {
        let (mine, other) = (keys(&[1; 32]), keys(&[2; 32]));
        let (lab, field) = (Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
        let wrapped = mine.wrap(lab, &[7; 32]).unwrap();
        assert_eq!(*mine.unwrap(lab, mine.master_key_id(), &wrapped).unwrap(), [7; 32]);
        assert!(mine.unwrap(field, mine.master_key_id(), &wrapped).is_err());
        // Even where somebody writes the other key's id into the row.
        assert!(other.unwrap(lab, other.master_key_id(), &wrapped).is_err());
        let fault = other.unwrap(lab, mine.master_key_id(), &wrapped).unwrap_err().to_string();
        for told in [mine.master_key_id(), &lab.to_string(), "MASTER_KEY_PREVIOUS"] {
            assert!(fault.contains(told), "{fault}");
        }
        for place in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[place] ^= 1;
            assert!(mine.unwrap(lab, mine.master_key_id(), &changed).is_err(), "{place}");
        }
    }

    #[test]
    fn a_previous_master_key_opens_and_does_not_wrap() {
        let (old, new) =
            (keys(&[1; 32]), with_previous(&[2; 32], vec![&[3; 32], &[1; 32], &[2; 32], &[1; 32]]));
        let lab = Uuid::from_u128(1).into();
        assert_eq!(new.master_key_ids().count(), 3);
        let wrapped = old.wrap(lab, &[7; 32]).unwrap();
        assert_eq!(*new.unwrap(lab, old.master_key_id(), &wrapped).unwrap(), [7; 32]);
        let again = new.wrap(lab, &[7; 32]).unwrap();
        assert!(old.unwrap(lab, new.master_key_id(), &again).is_err());
        assert_eq!(*keys(&[2; 32]).unwrap(lab, new.master_key_id(), &again).unwrap(), [7; 32]);

        let mail = Uuid::from_u128(3).into();
        let sealed = old.seal_mail(mail, SECRET).unwrap();
        for id in [None, Some(old.master_key_id())] {
            assert_eq!(new.open_mail(mail, id, &sealed).unwrap().as_slice(), SECRET);
        }
        assert!(new.open_mail(mail, Some(new.master_key_id()), &sealed).is_err());
        assert!(new.open_mail(Uuid::from_u128(4).into(), None, &sealed).is_err());
        let sealed = new.seal_mail(mail, SECRET).unwrap();
        let fault = old.open_mail(mail, Some(new.master_key_id()), &sealed).unwrap_err();
        assert!(matches!(fault, Fault::MasterKeyMissing { .. }), "{fault}");
    }

    /// The instance's database, as a process with these keys opens it.
    async fn open(path: &std::path::Path, keys: Keys) -> Db {
        let options = Options::new(format!("sqlite://{}", path.join("test.db").display()));
        migrate(&options).await.unwrap();
        let seams = Seams { clock: Arc::new(seams::System), ids: Arc::new(seams::System) };
        let settings = Settings {
            app_url: "https://guild.example".into(),
            invitation_hours: 168,
            refresh_grace: TimeDelta::seconds(30),
            password_reset: TimeDelta::minutes(30),
            lockout: Default::default(),
            open_organizations: false,
            default_image: guildhall_domain::text::ImageRef::from_stored("python:3".to_owned()),
        };
        Db::connect(options, seams, keys, Hasher::new(1, 1).unwrap(), settings).await.unwrap()
    }

    #[tokio::test]
    async fn process_that_was_not_told_of_the_master_key_makes_no_data_key() {
        #[expect(clippy::disallowed_methods, reason = "a test has no actor")]
        let proof = System::named("test");
        let directory = tempfile::tempdir().unwrap();
        let old = open(directory.path(), keys(&[1; 32])).await;
        let seeded = seed::seed(&old, &proof, &seed::Plan { users: 1, workspaces: 2, members: 1 }).await;
        assert_eq!(seeded.unwrap().workspaces, 2);
        instance::check_keys(&old).await.unwrap();
        let sql = Sql::new("SELECT id FROM workspaces ORDER BY id");
        let workspaces: Vec<Single<Uuid>> = old.read(&proof).all(sql).await.unwrap();
        let [lab, field]: [WorkspaceId; 2] =
            workspaces.into_iter().map(|Single(id)| id.into()).collect::<Vec<_>>().try_into().unwrap();
        let made = async |db: &Db, workspace| {
            let made = db.write::<_, ()>(&proof, async |tx| Ok(data_key(tx, workspace).await?)).await;
            made.map_err(OpError::into_fault)
        };
        let existing = async |db: &Db, workspace| {
            existing_data_key(&db.read(&proof), db.keys(), workspace).await.map(|key| key.map(|key| *key.key))
        };
        assert_eq!(existing(&old, lab).await.unwrap(), None);
        let key = *made(&old, lab).await.unwrap().key;
        assert_eq!(*made(&old, lab).await.unwrap().key, key, "it is made once");
        assert_eq!(existing(&old, lab).await.unwrap(), Some(key));
        assert_eq!(existing(&old, field).await.unwrap(), None);

        // While the rotation is due, each seals with its own.
        let new = open(directory.path(), with_previous(&[2; 32], vec![&[1; 32]])).await;
        instance::check_keys(&new).await.unwrap();
        assert_eq!(existing(&new, lab).await.unwrap(), Some(key));
        let rotated = master_keys::rotate(&new, &proof).await.unwrap();
        assert_eq!((rotated.workspaces, rotated.census.is_pending()), (1, false));
        assert_eq!(existing(&new, lab).await.unwrap(), Some(key));
        let id = new.keys().master_key_id();
        for fault in [existing(&old, lab).await.unwrap_err(), made(&old, field).await.unwrap_err()] {
            assert!(
                matches!(&fault, Fault::MasterKeyMissing { id: missing, .. } if missing == id),
                "{fault}"
            );
        }
        assert_eq!(existing(&new, field).await.unwrap(), None);
        made(&new, field).await.unwrap();
        assert_eq!(master_keys::status(&new, &proof).await.unwrap().keys[0].workspaces, 2);
        for db in [old, new] {
            db.close().await;
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        assert_eq!(format!("{:?}", key(1, 7)), "DataKey");
        assert_eq!(format!("{:?}", keys(&[1; 32])), "Keys { .. }");
    }
}
