//! The audit log as a file, on the command line: writing it, and verifying it without configuration and database. What makes
//! a file whole is the domain's business.

use std::{
    error::Error,
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write},
    path::Path,
};

use guildhall_domain::{
    access::System,
    audit::file::{Header, Verified, Verifier, Wrong},
};
use guildhall_persistence::{Db, audit as stored, signing};

use crate::cli::{ExportAudit, VerifyAudit};

type Trouble = Box<dyn Error>;

/// The longest line that is read: an entry is a good deal shorter.
const LONGEST_LINE: u64 = 1024 * 1024;
/// The longest header: it has a checkpoint for a hundred entries, or a minute.
const LONGEST_HEADER: u64 = 1024 * 1024 * 1024;

/// Writes an organization's audit log into a file; what the operator is told.
pub async fn export(db: &Db, wanted: &ExportAudit) -> Result<String, Trouble> {
    #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
    let proof = System::named("operator");
    let found = stored::export(db, &proof, &wanted.organization, wanted.from, wanted.to).await?;
    let mut export =
        found.ok_or_else(|| format!("there is no organization named {}", wanted.organization))?;
    let file = &wanted.file;
    let trouble = |wrong: io::Error| format!("{}: {wrong}", file.display());
    // Beside it first: whoever is interrupted leaves no half of it under its name.
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let mut out = BufWriter::new(File::create(&beside).map_err(trouble)?);
    write_line(&mut out, &export.header).map_err(trouble)?;
    let mut number = 0;
    loop {
        let records = export.next().await?;
        if records.is_empty() {
            break;
        }
        number += records.len();
        for record in records {
            write_line(&mut out, &record).map_err(trouble)?;
        }
    }
    out.into_inner().map_err(|error| trouble(error.into_error()))?.sync_all().map_err(trouble)?;
    std::fs::rename(&beside, file).map_err(trouble)?;
    let header = &export.header;
    let mut text = format!("Wrote {number} entries of {} to {}.\n", header.slug, file.display());
    if let Some(key) = header.keys.iter().find(|key| key.id == header.key) {
        text.push_str(&format!(
            "It is signed with the key {}, whose public half is\n{}\n",
            key.id, key.public_key
        ));
    }
    Ok(text)
}

fn write_line(out: &mut impl Write, line: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Verifies a file; what the operator is told of one that is whole.
pub fn verify(wanted: &VerifyAudit) -> Result<String, Trouble> {
    let name = wanted.file.display();
    let (header, whole) = check(&wanted.file, &wanted.public_key)?;
    let whole = whole.map_err(|wrong| format!("{name}: {wrong}"))?;
    let mut text = format!(
        "{name} is whole: {} entries of {}, from {} to {}, with {} checkpoints; exported at {}.\n",
        whole.records, header.slug, header.first, header.last, whole.checkpoints, header.exported_at
    );
    if wanted.public_key.is_empty() {
        text.push_str(
            "Whoever made the file named the keys itself. Give those that you know are the instance's with --public-key:\n",
        );
        for key in &header.keys {
            text.push_str(&format!("{}\n", key.public_key));
        }
    }
    Ok(text)
}

type Checked = (Header, Result<Verified, Wrong>);

fn check(file: &Path, trusted: &[String]) -> Result<Checked, Trouble> {
    let trouble = |wrong: &dyn Error| format!("{}: {wrong}", file.display());
    let mut lines = BufReader::new(File::open(file).map_err(|wrong| trouble(&wrong))?);
    let mut line = String::new();
    let mut read = |line: &mut String, longest: u64| {
        line.clear();
        match lines.by_ref().take(longest).read_line(line) {
            // What is no text is no record.
            Err(wrong) if wrong.kind() == io::ErrorKind::InvalidData => {
                line.clear();
                Ok(1)
            }
            read => read.map_err(|wrong| trouble(&wrong)),
        }
    };
    read(&mut line, LONGEST_HEADER)?;
    let trusted: Vec<String> = trusted.iter().map(|key| key.to_lowercase()).collect();
    let mut verifier = Verifier::new(&line, &trusted, signing::verifies).map_err(|wrong| trouble(&wrong))?;
    while read(&mut line, LONGEST_LINE)? > 0 {
        if !verifier.read(&line) {
            break;
        }
    }
    Ok((verifier.header().clone(), verifier.end()))
}
