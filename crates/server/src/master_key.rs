//! `guildhall keys`: tells how the master keys stand, makes a new one, seals everything with it, and forgets the old.
//! Knows what an operator has to do next; refuses to know how anything is sealed.

use std::error::Error;

use guildhall_domain::access::System;
use guildhall_persistence::{
    master_key_id,
    master_keys::{self, Census, Place},
};

use crate::{
    app,
    cli::Keys,
    config::Config,
    secrets::{self, FILE, GivenSecrets},
};

/// Carries out the command; what it has to say.
pub async fn run(command: Keys, config: Config) -> Result<String, Box<dyn Error>> {
    match command {
        Keys::Status => status(config).await,
        Keys::New => new(&config),
        Keys::Rotate => rotate(config).await,
        Keys::ForgetPrevious => forget_previous(config).await,
        Keys::RotateSigning => rotate_signing(config).await,
    }
}

async fn rotate_signing(mut config: Config) -> Result<String, Box<dyn Error>> {
    let db = app::open_database(&mut config, app::system_seams()).await?;
    let id = guildhall_persistence::workspace_tokens::rotate_key(&db).await?;
    db.close().await;
    Ok(format!(
        "Workspace tokens are signed with {id} from now on. The key before it stays published until its tokens end.\n"
    ))
}

/// Whether the keys are the operator's to keep, and not the data directory's.
fn are_given(config: &Config) -> bool {
    let given = &config.auth.given_secrets;
    given.master_key.is_some() || !given.master_key_previous.is_empty()
}

fn numbered(number: u64, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}

/// What is left to do, where something is.
fn next_step(census: &Census, are_given: bool) -> Option<&'static str> {
    let has_previous = census.keys.iter().any(|key| key.place == Place::Previous);
    match (census.is_pending(), has_previous, are_given) {
        (true, _, _) => Some(
            "When every server was started with this master key, encrypt everything with it: guildhall keys rotate",
        ),
        (false, true, true) => Some(
            "Nothing needs the previous master keys any more: take them out of MASTER_KEY_PREVIOUS. Backups from \
             before the rotation do: keep a copy for as long as you keep those.",
        ),
        (false, true, false) => Some(
            "Nothing needs the previous master keys any more: guildhall keys forget-previous. Backups from before the \
             rotation do: keep a copy for as long as you keep those.",
        ),
        (false, false, _) => None,
    }
}

/// What few instances have, where there is any.
fn more(signing_keys: u64, second_factors: u64, client_secrets: u64) -> String {
    let all = [
        (signing_keys, "signing key", "signing keys"),
        (second_factors, "second factor", "second factors"),
        (client_secrets, "client secret", "client secrets"),
    ];
    all.into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| format!(", {}", numbered(number, one, many)))
        .collect()
}

async fn status(mut config: Config) -> Result<String, Box<dyn Error>> {
    let are_given = are_given(&config);
    // Also where a server would not start.
    let db = app::connect(&mut config, app::system_seams()).await?;
    #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
    let census = master_keys::status(&db, &System::named("operator")).await?;
    db.close().await;
    let mut lines = Vec::new();
    for key in &census.keys {
        let place = match key.place {
            Place::Current => "master key",
            Place::Previous => "previous",
            Place::Missing => "NOT GIVEN",
        };
        let is_under = census.under.as_deref() == Some(&key.id);
        lines.push(format!(
            "{place:<10} {}  {}, {}{}{}",
            key.id,
            numbered(key.workspaces, "workspace", "workspaces"),
            numbered(key.mails, "queued mail", "queued mails"),
            more(key.signing_keys, key.second_factors, key.client_secrets),
            if is_under { "; the database is under it" } else { "" },
        ));
    }
    if let Some(under) = census.under.as_ref().filter(|under| census.keys.iter().all(|key| key.id != **under))
    {
        lines.push(format!("NOT GIVEN  {under}  the database is under it"));
    }
    if census.unnamed_mails > 0 {
        let mails = numbered(census.unnamed_mails, "queued mail", "queued mails");
        lines.push(format!("{mails} of an earlier version, which did not note the key"));
    }
    lines.extend(next_step(&census, are_given).map(str::to_owned));
    Ok(lines.join("\n"))
}

fn new(config: &Config) -> Result<String, Box<dyn Error>> {
    if config.auth.given_secrets.master_key.is_some() {
        return Err("the master key is given as MASTER_KEY, so it is yours to renew: make one with `openssl rand \
                    -base64 32`, and add it to MASTER_KEY_PREVIOUS of every server; then give it as MASTER_KEY and \
                    the old one in MASTER_KEY_PREVIOUS; then run `guildhall keys rotate`"
            .into());
    }
    let secrets = secrets::renew_master_key(&config.server.data_dir)?;
    let before = secrets.master_key_previous.first().map(|key| master_key_id(key.expose()));
    Ok(format!(
        "The new master key is {}; the one before, {}, is kept beside it in {}.\n\
         Back that file up, start every server again, then: guildhall keys rotate",
        master_key_id(secrets.master_key.expose()),
        before.unwrap_or_default(),
        config.server.data_dir.join(FILE).display(),
    ))
}

async fn rotate(mut config: Config) -> Result<String, Box<dyn Error>> {
    let are_given = are_given(&config);
    let db = app::open_database(&mut config, app::system_seams()).await?;
    #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
    let rotated = master_keys::rotate(&db, &System::named("operator")).await?;
    db.close().await;
    let current = rotated.census.keys.first().map(|key| key.id.as_str()).unwrap_or_default();
    let mut lines = vec![format!(
        "Sealed with the master key {current}: the keys of {}{} and {}.",
        numbered(rotated.workspaces, "workspace", "workspaces"),
        more(rotated.signing_keys, rotated.second_factors, rotated.client_secrets),
        numbered(rotated.mails, "queued mail", "queued mails"),
    )];
    lines.extend(rotated.damaged.iter().map(|id| {
        format!("The data key of {id} is damaged and stays as it is: restore its row from a backup.")
    }));
    lines.extend(rotated.unreadable.iter().map(|id| {
        format!("The mail {id} opens with none of the keys; it is given up two days after it was queued.")
    }));
    if rotated.damaged_signing_keys > 0 {
        lines.push(format!(
            "{} damaged and stays as it is: restore its row of signing_keys from a backup.",
            numbered(rotated.damaged_signing_keys as u64, "signing key is", "signing keys are")
        ));
    }
    if rotated.damaged_second_factors > 0 {
        lines.push(format!(
            "{} damaged and stays as it is: whoever has it gets in after `guildhall admin reset-second-factor`.",
            numbered(rotated.damaged_second_factors as u64, "second factor is", "second factors are")
        ));
    }
    if rotated.damaged_client_secrets > 0 {
        lines.push(format!(
            "{} damaged and stays as it is: have it configured anew (configureSingleSignOn).",
            numbered(rotated.damaged_client_secrets as u64, "client secret is", "client secrets are")
        ));
    }
    let damaged =
        rotated.damaged_signing_keys + rotated.damaged_second_factors + rotated.damaged_client_secrets;
    if !rotated.damaged.is_empty() || damaged > 0 {
        return Err(lines.join("\n").into());
    }
    let closed = u64::try_from(rotated.unreadable.len()).unwrap_or(u64::MAX);
    if rotated.census.left() + rotated.census.unnamed_mails > closed {
        lines.push(
            "Meanwhile more was sealed with another master key. Start every server with this one, then run this again."
                .to_owned(),
        );
        return Err(lines.join("\n").into());
    }
    lines.extend(next_step(&rotated.census, are_given).map(str::to_owned));
    Ok(lines.join("\n"))
}

async fn forget_previous(mut config: Config) -> Result<String, Box<dyn Error>> {
    if are_given(&config) {
        return Err(
            "the master keys are given by the configuration: when `guildhall keys status` says that nothing \
                    needs the previous ones, take them out of MASTER_KEY_PREVIOUS"
                .into(),
        );
    }
    let data_dir = config.server.data_dir.clone();
    let db = app::open_database(&mut config, app::system_seams()).await?;
    // Exactly those that the database was asked about, whatever becomes of the file meanwhile.
    let previous = secrets::resolve(&data_dir, GivenSecrets::default())?.master_key_previous;
    #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
    let census = master_keys::status(&db, &System::named("operator")).await?;
    db.close().await;
    let asked_about = |id: &str| census.keys.iter().any(|key| key.place == Place::Previous && key.id == id);
    if census.is_pending() || !previous.iter().all(|key| asked_about(&master_key_id(key.expose()))) {
        return Err("the previous master keys are still needed: run `guildhall keys rotate` first".into());
    }
    secrets::forget_master_keys(&data_dir, &previous)?;
    let forgotten: Vec<_> = previous.iter().map(|key| master_key_id(key.expose())).collect();
    Ok(match forgotten.as_slice() {
        [] => "There is no previous master key.".to_owned(),
        forgotten => format!("Forgotten: {}", forgotten.join(", ")),
    })
}
