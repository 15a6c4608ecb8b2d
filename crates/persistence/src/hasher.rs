//! Password hashing: argon2id on a bounded number of threads that each reuse their memory.
//!
//! A hash takes 19 MiB and tens of milliseconds of a core. Unbounded, a burst of sign-ins would starve every
//! other request and leave hundreds of megabytes resident; here it waits in line.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::phc::{Output, Salt},
};
use tokio::sync::Semaphore;

use crate::{error::Fault, keys::random};

/// The memory of one hash in KiB, from OWASP's password storage cheat sheet: 19 MiB with 2 iterations and
/// one lane.
const MEMORY_KIB: u32 = 19 * 1024;

/// The length of a hash in bytes.
const HASH_LEN: usize = 32;

/// Hashes and verifies passwords; cheap to clone.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    params: Params,
    turns: Semaphore,
    /// Memory of hashes that are done, for the next: at most as many as there are turns.
    idle: Mutex<Vec<Vec<Block>>>,
    /// The hash that an unknown address is checked against, so that it takes as long as a known one.
    nobody: String,
}

impl Hasher {
    /// A hasher with that many iterations, on at most `threads` threads at once.
    pub fn new(iterations: u32, threads: usize) -> Result<Self, Fault> {
        let params = Params::new(MEMORY_KIB, iterations, 1, Some(HASH_LEN))
            .map_err(|_| Fault::Crypto("the password hash parameters are out of range"))?;
        let salt = random::<16>()?;
        let nobody = phc(&params, &salt, &random::<HASH_LEN>()?)?;
        Ok(Self(Arc::new(Inner {
            params,
            turns: Semaphore::new(threads.max(1)),
            idle: Mutex::new(Vec::new()),
            nobody,
        })))
    }

    /// The hash to store for a password.
    pub async fn hash(&self, password: &str) -> Result<String, Fault> {
        let salt = random::<16>()?;
        let params = self.0.params.clone();
        let output = self.derive(password, salt.to_vec(), params.clone()).await?;
        phc(&params, &salt, &output)
    }

    /// What is stored where there is no password: random, so that nobody has one that it is the hash of.
    pub(crate) fn of_nothing(&self) -> Result<String, Fault> {
        phc(&self.0.params, &random::<16>()?, &random::<HASH_LEN>()?)
    }

    /// Whether `password` is the one that was stored. With nothing stored the answer is no, after the time
    /// that a check takes.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, Fault> {
        let unreadable = || Fault::Stored("a password hash is not readable".to_owned());
        let text = stored.unwrap_or(&self.0.nobody);
        let parsed = PasswordHash::new(text).map_err(|_| unreadable())?;
        let (Some(salt), Some(wanted)) = (parsed.salt, parsed.hash) else { return Err(unreadable()) };
        let params = Params::try_from(&parsed).map_err(|_| unreadable())?;
        let output = self.derive(password, salt.as_ref().to_vec(), params).await?;
        let same: bool = subtle::ConstantTimeEq::ct_eq(output.as_slice(), wanted.as_ref()).into();
        Ok(same && stored.is_some())
    }

    async fn derive(&self, password: &str, salt: Vec<u8>, params: Params) -> Result<[u8; HASH_LEN], Fault> {
        let gone = |_| Fault::Worker("the password hasher stopped".to_owned());
        let _turn =
            self.0.turns.acquire().await.map_err(|_| Fault::Worker("the password hasher closed".into()))?;
        let inner = Arc::clone(&self.0);
        let password = zeroize::Zeroizing::new(guildhall_domain::passwords::prepare(password));
        tokio::task::spawn_blocking(move || {
            let mut memory =
                inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            memory.resize(params.block_count(), Block::default());
            let mut output = [0; HASH_LEN];
            let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into_with_memory(password.as_bytes(), &salt, &mut output, &mut memory);
            inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            derived.map(|()| output).map_err(|_| Fault::Crypto("a password could not be hashed"))
        })
        .await
        .map_err(gone)?
    }
}

/// The PHC string of a hash, which says how it was made.
fn phc(params: &Params, salt: &[u8], output: &[u8]) -> Result<String, Fault> {
    let fault = |_| Fault::Crypto("a password hash could not be written");
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: params.try_into().map_err(|_| Fault::Crypto("password hash parameters"))?,
        salt: Some(Salt::new(salt).map_err(fault)?),
        hash: Some(Output::new(output).map_err(fault)?),
    };
    Ok(hash.to_string())
}
