//! The server's keys: those given are checked, the others made once and kept in `<data_dir>/secrets.toml`, where the
//! master key can be followed by a new one. Knows what makes a key weak, how to create the file so that two processes
//! agree, and how to change it so that no key is ever lost. Uses no key itself.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Name of the file in the data directory.
pub const FILE: &str = "secrets.toml";

const LEAST_BYTES: usize = 32;
const MOST_PREVIOUS: usize = 8;
/// Stand-ins from examples and other products' documentation, in lower case without punctuation.
const KNOWN: [&str; 10] = [
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "placeholder",
    "yoursecret",
    "supersecret",
    "mysecret",
    "secretkey",
    "examplesecret",
];

/// A secret text, wiped from memory when dropped; Debug shows `[redacted]`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A key that is long enough and no known or patterned one. The error says what is wrong, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() < LEAST_BYTES {
            return Err(format!(
                "the value has {} bytes, at least {LEAST_BYTES} are needed; make one with: openssl rand -base64 32",
                text.len()
            ));
        }
        let bare: String =
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        if KNOWN.iter().any(|known| bare.contains(known)) || is_patterned(text.as_bytes()) {
            return Err("the value can be guessed; make one with: openssl rand -base64 32".to_owned());
        }
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The 256-bit key that wraps the workspaces' data keys; wiped when dropped, Debug shows `[redacted]`.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 32 bytes in standard base64. The error says what is wrong, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mend = "make one with: openssl rand -base64 32";
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).ok();
        let key = bytes
            .as_deref()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok())
            .ok_or_else(|| format!("the value is not 32 bytes in base64 (44 characters); {mend}"))?;
        if is_patterned(&key) {
            return Err(format!("the value can be guessed; {mend}"));
        }
        Ok(Self(Zeroizing::new(key)))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Few different bytes, a repeated piece, or a run such as `abcdef…`: not the work of a random generator.
fn is_patterned(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let distinct = seen.iter().filter(|seen| **seen).count();
    let repeats = (1..=bytes.len() / 2).any(|period| bytes[period..] == bytes[..bytes.len() - period]);
    let steps = bytes.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
    distinct < 8 || repeats || steps > bytes.len() / 2
}

/// The keys given by configuration, checked.
#[derive(Debug, Default)]
pub struct GivenSecrets {
    pub access_token: Option<Secret>,
    pub refresh_token: Option<Secret>,
    pub token_hash: Option<Secret>,
    pub master_key: Option<MasterKey>,
    pub master_key_previous: Vec<MasterKey>,
}

/// Every key the server needs.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub access_token: Secret,
    pub refresh_token: Secret,
    pub token_hash: Secret,
    pub master_key: MasterKey,
    /// They open what they encrypted before `master_key`, the newest first.
    pub master_key_previous: Vec<MasterKey>,
}

/// Why the secrets file could not be used; each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretsFault {
    #[error("{path} can be used by others (mode {mode:03o}); mend it with: chmod 600 {quoted}", path = path.display(), quoted = shell_quoted(path))]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(
        "{path} is damaged: {problem}. Restore it from a backup. Only where no data depends on it, move it away and new secrets are made",
        path = path.display()
    )]
    Damaged { path: PathBuf, problem: String },
    #[error("{path} cannot be {done}: {source}", path = path.display())]
    Io { path: PathBuf, done: &'static str, source: io::Error },
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("there is no {path} in which a master key could be renewed: no server was started here yet, or it was given its keys", path = path.display())]
    Missing { path: PathBuf },
    #[error("{path} holds {MOST_PREVIOUS} previous master keys already: run `guildhall keys rotate`, then `guildhall keys forget-previous`", path = path.display())]
    TooMany { path: PathBuf },
}

/// The given keys, and for the others those of the secrets file in `data_dir`, which is made when it is missing.
/// Where every key is given, no file is touched.
pub fn resolve(data_dir: &Path, given: GivenSecrets) -> Result<Secrets, SecretsFault> {
    let given = match given {
        GivenSecrets {
            access_token: Some(access_token),
            refresh_token: Some(refresh_token),
            token_hash: Some(token_hash),
            master_key: Some(master_key),
            master_key_previous,
        } => {
            return Ok(Secrets { access_token, refresh_token, token_hash, master_key, master_key_previous });
        }
        given => given,
    };
    let path = data_dir.join(FILE);
    let kept = match read(&path)? {
        Some(kept) => kept,
        None => {
            create(data_dir, &path)?;
            // Read back: another process may have been first, and its secrets are then ours.
            let vanished = || SecretsFault::Io {
                path: path.clone(),
                done: "read",
                source: io::Error::from(io::ErrorKind::NotFound),
            };
            read(&path)?.ok_or_else(vanished)?
        }
    };
    // The file's previous keys belong to its own master key.
    let mut master_key_previous = given.master_key_previous;
    if given.master_key.is_none() {
        master_key_previous.extend(kept.master_key_previous);
    }
    Ok(Secrets {
        access_token: given.access_token.unwrap_or(kept.access_token),
        refresh_token: given.refresh_token.unwrap_or(kept.refresh_token),
        token_hash: given.token_hash.unwrap_or(kept.token_hash),
        master_key: given.master_key.unwrap_or(kept.master_key),
        master_key_previous,
    })
}

/// Makes a new master key in the secrets file of `data_dir`; the one before becomes the newest of the previous ones.
/// The keys as they are now.
pub fn renew_master_key(data_dir: &Path) -> Result<Secrets, SecretsFault> {
    change(data_dir, |secrets, path| {
        if secrets.master_key_previous.len() >= MOST_PREVIOUS {
            return Err(SecretsFault::TooMany { path: path.to_owned() });
        }
        let new = MasterKey::parse(&random()?).map_err(|problem| SecretsFault::Damaged {
            path: path.to_owned(),
            problem: format!("the new master key is of no use: {problem}"),
        })?;
        let before = std::mem::replace(&mut secrets.master_key, new);
        secrets.master_key_previous.insert(0, before);
        Ok(())
    })
}

/// Takes these previous master keys out of the secrets file of `data_dir`, and no others.
pub fn forget_master_keys(data_dir: &Path, keys: &[MasterKey]) -> Result<Secrets, SecretsFault> {
    change(data_dir, |secrets, _| {
        secrets.master_key_previous.retain(|kept| keys.iter().all(|key| key.expose() != kept.expose()));
        Ok(())
    })
}

/// Replaces the secrets file by a changed one, in one step: whoever reads it, even after a power loss, finds all of
/// the one or all of the other. Changes of several processes come one after the other.
fn change(
    data_dir: &Path,
    change: impl FnOnce(&mut Secrets, &Path) -> Result<(), SecretsFault>,
) -> Result<Secrets, SecretsFault> {
    let path = data_dir.join(FILE);
    let missing = || SecretsFault::Missing { path: path.clone() };
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => missing(),
        _ => SecretsFault::Io { path: path.clone(), done: "changed", source },
    };
    // Where the file is a link, what it points to is replaced.
    let real = path.canonicalize().map_err(io)?;
    let directory = real.parent().unwrap_or(data_dir);
    let lock = File::open(directory).map_err(io)?;
    lock.lock().map_err(io)?;
    let mut secrets = read(&real)?.ok_or_else(missing)?;
    change(&mut secrets, &path)?;
    let key = |key: &MasterKey| Zeroizing::new(STANDARD.encode(key.expose()));
    let previous: Vec<_> = secrets.master_key_previous.iter().map(key).collect();
    let content = content(
        secrets.access_token.expose(),
        secrets.refresh_token.expose(),
        secrets.token_hash.expose(),
        &key(&secrets.master_key),
        &previous.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
    );
    written(directory, &content).and_then(|file| Ok(file.persist(&real)?)).map_err(io)?;
    lock.sync_all().map_err(io)?;
    Ok(secrets)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    jwt_auth_token_secret: Zeroizing<String>,
    jwt_refresh_token_secret: Zeroizing<String>,
    token_hash_secret: Zeroizing<String>,
    master_key: Zeroizing<String>,
    #[serde(default)]
    master_key_previous: Vec<Zeroizing<String>>,
}

fn read(path: &Path) -> Result<Option<Secrets>, SecretsFault> {
    let io = |source| SecretsFault::Io { path: path.to_owned(), done: "read", source };
    let damaged = |problem| SecretsFault::Damaged { path: path.to_owned(), problem };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(io(fault)),
    };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & !0o600 != 0 {
        return Err(SecretsFault::OpenToOthers { path: path.to_owned(), mode });
    }
    let mut content = Zeroizing::new(String::new());
    file.read_to_string(&mut content).map_err(|fault| match fault.kind() {
        io::ErrorKind::InvalidData => damaged("it is not text".to_owned()),
        _ => io(fault),
    })?;
    // The parser's own message can quote the line, and so a secret: say only where it stumbled.
    let kept: Kept = toml::from_str(&content).map_err(|fault| {
        let before = fault.span().map_or(0, |span| span.start);
        let line = 1 + content.bytes().take(before).filter(|byte| *byte == b'\n').count();
        damaged(format!("line {line} is not as written, or a secret is missing"))
    })?;
    let wrong = |name: &'static str| move |problem: String| (name, problem);
    let checked = || {
        Ok(Secrets {
            access_token: Secret::parse(&kept.jwt_auth_token_secret)
                .map_err(wrong("jwt_auth_token_secret"))?,
            refresh_token: Secret::parse(&kept.jwt_refresh_token_secret)
                .map_err(wrong("jwt_refresh_token_secret"))?,
            token_hash: Secret::parse(&kept.token_hash_secret).map_err(wrong("token_hash_secret"))?,
            master_key: MasterKey::parse(&kept.master_key).map_err(wrong("master_key"))?,
            master_key_previous: kept
                .master_key_previous
                .iter()
                .map(|key| MasterKey::parse(key))
                .collect::<Result<_, _>>()
                .map_err(wrong("master_key_previous"))?,
        })
    };
    checked().map(Some).map_err(|(name, problem): (_, String)| damaged(format!("{name}: {problem}")))
}

/// Writes new secrets under a temporary name, then names the whole, synced file in one step that never replaces
/// one already there. Losing that race is a success.
fn create(data_dir: &Path, path: &Path) -> Result<(), SecretsFault> {
    let io = |source| SecretsFault::Io { path: path.to_owned(), done: "created", source };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io)?;
    let content = content(&random()?, &random()?, &random()?, &random()?, &[]);
    let file = written(data_dir, &content).map_err(io)?;
    match file.persist_noclobber(path) {
        Err(fault) if fault.error.kind() != io::ErrorKind::AlreadyExists => return Err(io(fault.error)),
        _ => {}
    }
    OpenOptions::new().read(true).open(data_dir).and_then(|dir| dir.sync_all()).map_err(io)
}

/// What the file says.
fn content(
    access_token: &str,
    refresh_token: &str,
    token_hash: &str,
    master_key: &str,
    previous: &[&str],
) -> Zeroizing<String> {
    let mut content = Zeroizing::new(format!(
        "# Made by Guildhall at its first start. Keep this file secret, and back it up with the database:\n\
         # without master_key stored credentials cannot be read, without the others everyone signs in again.\n\
         jwt_auth_token_secret = \"{access_token}\"\n\
         jwt_refresh_token_secret = \"{refresh_token}\"\n\
         token_hash_secret = \"{token_hash}\"\n\
         master_key = \"{master_key}\"\n"
    ));
    if !previous.is_empty() {
        let previous = Zeroizing::new(previous.join("\", \""));
        content.push_str(&format!("master_key_previous = [\"{}\"]\n", *previous));
    }
    content
}

/// A synced file without a name that anybody knows, readable by its owner alone.
fn written(directory: &Path, content: &str) -> io::Result<tempfile::NamedTempFile> {
    // tempfile creates with O_EXCL and mode 600.
    let mut file = tempfile::Builder::new().prefix(".secrets-").tempfile_in(directory)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn random() -> Result<Zeroizing<String>, SecretsFault> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(SecretsFault::Random)?;
    Ok(Zeroizing::new(STANDARD.encode(*bytes)))
}

fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
