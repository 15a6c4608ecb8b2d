//! Mail as `.eml` files in a directory, for a start without a mail server.
//!
//! Knows the file system. A file appears complete or not at all, and only the server's own user can read it: it
//! holds links that act for the recipient.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::{Letterhead, Mailer, Outgoing, SendError};

/// Writes `<directory>/<UTC time>-<mail id>.eml`.
#[derive(Clone, Debug)]
pub struct FileMailer {
    directory: PathBuf,
    letterhead: Letterhead,
}

impl FileMailer {
    /// The directory is created, with its parents, when the first mail is written.
    pub fn new(directory: PathBuf, letterhead: Letterhead) -> Self {
        Self { directory, letterhead }
    }
}

#[async_trait]
impl Mailer for FileMailer {
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        let message = self.letterhead.compose(mail)?.formatted();
        let directory = self.directory.clone();
        let (id, stamp) = (mail.id.to_string(), mail.date.format("%Y%m%dT%H%M%SZ").to_string());
        let written = tokio::task::spawn_blocking(move || write(&directory, &stamp, &id, &message)).await;
        match written {
            Ok(Ok(path)) => {
                tracing::info!(mail = %mail.id, path = %path.display(), "mail written to a file");
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::warn!(mail = %mail.id, directory = %self.directory.display(), %error, "mail not written");
                Err(SendError::transient("The mail could not be written to the server's mail directory."))
            }
            Err(_) => Err(SendError::transient("Writing the mail was interrupted.")),
        }
    }
}

fn write(directory: &Path, stamp: &str, id: &str, message: &[u8]) -> io::Result<PathBuf> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;

    // A second attempt may carry another time, the id decides.
    let suffix = format!("-{id}.eml");
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(&suffix)) {
            return Ok(directory.join(name));
        }
    }

    let path = directory.join(format!("{stamp}{suffix}"));
    let unfinished = directory.join(format!(".{stamp}-{id}.part"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(message)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    // The rename itself is durable only once the directory is.
    File::open(directory)?.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use url::Url;
    use uuid::Uuid;

    use super::*;
    use crate::mail::Rendered;

    fn mailer(directory: &Path) -> FileMailer {
        let url = Url::parse("http://localhost:8080").unwrap();
        FileMailer::new(directory.to_owned(), Letterhead::new(Letterhead::DEFAULT_FROM, &url).unwrap())
    }

    fn mail() -> Outgoing {
        Outgoing {
            id: Uuid::from_u128(7),
            date: DateTime::from_timestamp(1_795_219_200, 0).unwrap(),
            to: "ben@example.com".into(),
            content: Rendered { subject: "Hi".into(), text: "Hello".into(), html: "<p>Hello</p>".into() },
        }
    }

    fn files(directory: &Path) -> Vec<String> {
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_mail_becomes_one_private_file_however_often_it_is_sent() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("data/mail");
        let mailer = mailer(&directory);
        mailer.send(&mail()).await.unwrap();
        mailer.send(&Outgoing { date: mail().date + TimeDelta::hours(1), ..mail() }).await.unwrap();
        assert_eq!(files(&directory), ["20261121T000000Z-00000000-0000-0000-0000-000000000007.eml"]);

        let raw = std::fs::read(directory.join(&files(&directory)[0])).unwrap();
        let parsed = mail_parser::MessageParser::default().parse(&raw).unwrap();
        assert_eq!(parsed.body_text(0).unwrap().trim(), "Hello");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&directory), 0o700);
            assert_eq!(mode(&directory.join(&files(&directory)[0])), 0o600);
        }
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_is_worth_another_try() {
        let root = tempfile::tempdir().unwrap();
        let occupied = root.path().join("mail");
        std::fs::write(&occupied, "a file").unwrap();
        let error = mailer(&occupied).send(&mail()).await.unwrap_err();
        assert!(error.is_transient());
        assert!(!error.to_string().contains(occupied.to_str().unwrap()));
    }
}
