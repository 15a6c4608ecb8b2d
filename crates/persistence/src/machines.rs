//! What is remembered of machines beside what they are: who did something, under the name it had then, and when each was
//! here last.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, OwnSession, System},
    ids::{ApiKeyId, ServiceAccountId, WorkspaceId},
    machines::MachineKind,
};
use sea_orm::{DbErr, QueryResult};
use uuid::Uuid;

use crate::{
    access::{in_sight, word},
    db::Db,
    error::{Fault, ReadError},
    mails::fault,
    sql::{Single, Sql},
};

/// A machine as it was called when it did something. It may be gone since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineRef {
    /// What kind of machine.
    pub kind: MachineKind,
    /// The number in its id.
    pub id: Uuid,
    /// Its name then.
    pub name: String,
}

impl MachineRef {
    /// Of the columns `machine_kind`, `machine_id` and `machine_name`.
    pub(crate) fn read(row: &QueryResult, prefix: &str) -> Result<Option<Self>, DbErr> {
        let Some(kind) = row.try_get::<Option<String>>(prefix, "machine_kind")? else { return Ok(None) };
        Ok(Some(Self {
            kind: word(&kind, MachineKind::from_word)?,
            id: row.try_get(prefix, "machine_id")?,
            name: row.try_get::<Option<String>>(prefix, "machine_name")?.unwrap_or_default(),
        }))
    }

    /// Its id, as the schema has it.
    pub fn global_id(&self) -> String {
        match self.kind {
            MachineKind::ApiKey => ApiKeyId::from(self.id).to_string(),
            MachineKind::ServiceAccount => ServiceAccountId::from(self.id).to_string(),
        }
    }
}

/// Which machines were here since that was written down last, and when: a request writes nothing for it.
#[derive(Debug, Default)]
pub(crate) struct MachinesSeen(Mutex<HashMap<(MachineKind, Uuid), DateTime<Utc>>>);

impl MachinesSeen {
    pub(crate) fn note(&self, actor: Actor, now: DateTime<Utc>) {
        let kind = match actor {
            Actor::User { .. } => return,
            Actor::Key { .. } => MachineKind::ApiKey,
            Actor::ServiceAccount { .. } => MachineKind::ServiceAccount,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, actor.uuid()), now);
    }

    /// Unless it was here again since.
    fn put_back(&self, machine: (MachineKind, Uuid), at: DateTime<Utc>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(machine).or_insert(at);
    }

    fn take(&self) -> HashMap<(MachineKind, Uuid), DateTime<Utc>> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The workspace that a service account or key is of, if the actor knows of it: where to ask whether it may be seen.
pub async fn place_of(
    db: &Db,
    proof: &OwnSession,
    kind: MachineKind,
    id: Uuid,
) -> Result<Option<WorkspaceId>, ReadError> {
    let sql = Sql::new(format!(
        "SELECT x.workspace_id FROM {} x JOIN workspaces w ON w.id = x.workspace_id WHERE x.id = ",
        table(kind)
    ));
    let sql = in_sight(sql.bind(id), proof.actor());
    Ok(db.read(proof).one::<Single<Uuid>>(sql).await?.map(|Single(id)| id.into()))
}

fn table(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::ApiKey => "api_keys",
        MachineKind::ServiceAccount => "service_accounts",
    }
}

/// Writes down when machines were here last. What a process had not written when it died is forgotten: the time is for people
/// who look for keys that nobody uses, and may be some seconds behind.
pub async fn write_seen(db: &Db, proof: &System) -> Result<(), Fault> {
    let mut outcome = Ok::<_, Fault>(());
    // One by one: what waits for a row that is being revoked or deleted holds no other meanwhile.
    for ((kind, id), at) in db.machines_seen().take() {
        // Each would wait for the database as long as the first.
        if outcome.as_ref().is_err_and(Fault::lost_connection) {
            db.machines_seen().put_back((kind, id), at);
            continue;
        }
        let written = db.write(proof, async |tx| {
            let sql = Sql::new(format!("UPDATE {} SET last_used_at = ", table(kind))).bind(at);
            let sql = sql.push(" WHERE id = ").bind(id).push(" AND (last_used_at IS NULL OR last_used_at < ");
            tx.run(sql.bind(at).push(")")).await?;
            Ok(())
        });
        if let Err(error) = written.await {
            db.machines_seen().put_back((kind, id), at);
            outcome = Err(fault(error));
        }
    }
    outcome
}
