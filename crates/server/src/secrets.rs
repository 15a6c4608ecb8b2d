//! The server's keys: those given are checked, the others made once and kept in `<data_dir>/secrets.toml`.
//! Knows what makes a key weak and how to create the file so that two processes agree. Uses no key itself.

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
}

/// Every key the server needs.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub access_token: Secret,
    pub refresh_token: Secret,
    pub token_hash: Secret,
    pub master_key: MasterKey,
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
        } => return Ok(Secrets { access_token, refresh_token, token_hash, master_key }),
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
    Ok(Secrets {
        access_token: given.access_token.unwrap_or(kept.access_token),
        refresh_token: given.refresh_token.unwrap_or(kept.refresh_token),
        token_hash: given.token_hash.unwrap_or(kept.token_hash),
        master_key: given.master_key.unwrap_or(kept.master_key),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    jwt_auth_token_secret: Zeroizing<String>,
    jwt_refresh_token_secret: Zeroizing<String>,
    token_hash_secret: Zeroizing<String>,
    master_key: Zeroizing<String>,
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
        })
    };
    checked().map(Some).map_err(|(name, problem): (_, String)| damaged(format!("{name}: {problem}")))
}

/// Writes new secrets under a temporary name, then names the whole, synced file in one step that never replaces
/// one already there. Losing that race is a success.
fn create(data_dir: &Path, path: &Path) -> Result<(), SecretsFault> {
    let io = |source| SecretsFault::Io { path: path.to_owned(), done: "created", source };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io)?;
    let content = Zeroizing::new(format!(
        "# Made by Guildhall at its first start. Keep this file secret, and back it up with the database:\n\
         # without master_key stored credentials cannot be read, without the others everyone signs in again.\n\
         jwt_auth_token_secret = \"{}\"\n\
         jwt_refresh_token_secret = \"{}\"\n\
         token_hash_secret = \"{}\"\n\
         master_key = \"{}\"\n",
        *random()?,
        *random()?,
        *random()?,
        *random()?
    ));
    // tempfile creates with O_EXCL and mode 600.
    let mut file = tempfile::Builder::new().prefix(".secrets-").tempfile_in(data_dir).map_err(io)?;
    file.write_all(content.as_bytes()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    match file.persist_noclobber(path) {
        Err(fault) if fault.error.kind() != io::ErrorKind::AlreadyExists => return Err(io(fault.error)),
        _ => {}
    }
    OpenOptions::new().read(true).open(data_dir).and_then(|dir| dir.sync_all()).map_err(io)
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
