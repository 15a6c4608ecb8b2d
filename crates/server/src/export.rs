//! Workspaces as files, on the command line: where they are written to and read from, and what the operator is told. What
//! stands in a file is the domain's business, and making a workspace of it the storage's.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use guildhall_domain::{
    access::System,
    export::{Document, FileFault, MAX_FILE, judge, judge_length},
};
use guildhall_persistence::{
    Db,
    export::{self as stored, ImportError, Imported},
};

use crate::cli::{Export, Import};

/// What went wrong, for the operator.
type Trouble = Box<dyn Error>;

#[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
fn operator() -> System {
    System::named("operator")
}

/// Writes a workspace into its file, or to standard output.
pub async fn export(db: &Db, wanted: &Export) -> Result<(), Trouble> {
    let document = stored::export(db, &operator(), &wanted.workspace).await?;
    let document = document.ok_or_else(|| format!("there is no workspace named {}", wanted.workspace))?;
    let text = document.to_json().map_err(|faults| all("exported", &faults))?;
    match &wanted.file {
        Some(file) => write(file, &text).map_err(|wrong| format!("{}: {wrong}", file.display()))?,
        None => io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(())
}

/// Writes a file at once: whoever is interrupted leaves no half of it.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    fs::write(&beside, text)?;
    fs::rename(&beside, file)
}

/// Makes a workspace of a file, or only tells what would be made; answers what the operator is told.
pub async fn import(db: &Db, wanted: &Import) -> Result<String, Trouble> {
    let document = Document::parse(&read(&wanted.file)?).map_err(|fault| all("imported", &[fault]))?;
    let plan =
        judge(document, wanted.name.as_deref(), db.now()).map_err(|faults| all("imported", &faults))?;
    let made = stored::import(db, &operator(), &plan, wanted.organization.as_deref(), wanted.dry_run).await;
    match made {
        Ok(imported) => Ok(told(&imported, wanted.dry_run)),
        Err(ImportError::Faults(faults)) => Err(all("imported", &faults)),
        Err(ImportError::Fault(fault)) => Err(fault.into()),
    }
}

fn read(file: &Path) -> Result<String, Trouble> {
    let trouble = |wrong: &dyn Error| format!("{}: {wrong}", file.display());
    let open = fs::File::open(file).map_err(|wrong| trouble(&wrong))?;
    let mut text = String::new();
    let length = open.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|wrong| trouble(&wrong))?;
    judge_length(length as u64).map_err(|fault| all("imported", &[fault]))?;
    Ok(text)
}

/// What was not done, and every fault on a line of its own.
fn all(done: &str, faults: &[FileFault]) -> Trouble {
    let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    format!("nothing was {done}:{}", lines.concat()).into()
}

fn told(imported: &Imported, dry_run: bool) -> String {
    let Imported { name, display_name, organization, admin, roles, invited, config, credentials, missing } =
        imported;
    let mut text = String::new();
    let verb = if dry_run { "Would make" } else { "Made" };
    // Writing to a text does not fail.
    let _ = writeln!(text, "{verb} the workspace “{display_name}”, named {name}, in {organization}.");
    let _ = writeln!(text, "  admin          {admin}");
    for role in roles {
        let _ = writeln!(text, "  new role       {role}");
    }
    for (email, role) in invited {
        let _ = writeln!(text, "  invitation     {email} as {role}");
    }
    let _ = writeln!(text, "  configuration  {config} properties");
    let _ = writeln!(text, "  credentials    {credentials}");
    for (slug, codes) in missing {
        let _ = writeln!(text, "  to be given    {slug}: {}", codes.join(", "));
    }
    if dry_run {
        text.push_str("Nothing was made: this was a dry run.\n");
    }
    text
}
