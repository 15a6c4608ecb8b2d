//! The command line: which commands there are and what each takes. Runs none of them.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};

/// Guildhall: a GraphQL server for workspaces, their members and invitations.
///
/// Without a command it serves. Settings come from defaults, a file and the environment;
/// `guildhall config` shows them all.
#[derive(Debug, Parser)]
#[command(
    name = "guildhall",
    bin_name = "guildhall",
    version,
    after_help = "Example:\n  guildhall --config /etc/guildhall.toml serve\n\nExit codes: 0 done, 1 failed, 2 wrong use or wrong configuration."
)]
pub struct Cli {
    /// Settings file [default: GUILDHALL_CONFIG, else ./guildhall.toml if it exists]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The command given, else `serve`.
    pub fn chosen(&self) -> &Command {
        self.command.as_ref().unwrap_or(&Command::Serve)
    }
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Bring the database up to date and serve until stopped [the default]
    #[command(after_help = "Example:\n  GUILDHALL_LISTEN=0.0.0.0:8080 guildhall serve")]
    Serve,
    /// Bring the database up to date and exit
    ///
    /// Safe to run beside running servers: whoever comes first takes a lock, the others wait.
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://guildhall@db/guildhall guildhall migrate")]
    Migrate,
    /// Print the GraphQL schema, for client generators
    #[command(after_help = "Example:\n  guildhall schema > schema.graphql")]
    Schema,
    /// Check the configuration and print it as TOML, with the origin of each value; secrets are redacted
    #[command(after_help = "Example:\n  guildhall --config staging.toml config")]
    Config,
    /// Fill the database with made-up data for measurements, the same for the same numbers
    #[command(after_help = "Example:\n  guildhall seed --users 10000 --workspaces 1000 --members 20")]
    Seed(Seed),
    /// Write a workspace into a file, to be imported by another instance; secrets stay behind
    #[command(after_help = "Example:\n  guildhall export malaria-atlas malaria-atlas.json")]
    Export(Export),
    /// Make a workspace of an exported file: all of it, or nothing
    ///
    /// An owner of the organization becomes its Admin; everybody else in the file gets an invitation by mail, and no place
    /// before they accept. Secrets of credentials are to be given afterwards.
    #[command(
        after_help = "Example:\n  guildhall import malaria-atlas.json --name malaria-atlas-2 --dry-run"
    )]
    Import(Import),
    /// What an operator with access to the machine can put right
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:\n  guildhall admin reset-password ada@example.org"
    )]
    Admin(Admin),
    /// The master key, with which stored credentials are encrypted, and its successor
    #[command(subcommand, arg_required_else_help = true, after_help = "Example:\n  guildhall keys status")]
    Keys(Keys),
    /// Who did what: an organization's audit log as a file that can be verified anywhere
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_help = "Example:\n  guildhall audit verify acme.jsonl"
    )]
    Audit(Audit),
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Audit {
    /// Write an organization's audit log into a file, with its hash chain and signed checkpoints
    #[command(after_help = "Example:\n  guildhall audit export --organization acme acme.jsonl")]
    Export(ExportAudit),
    /// Tell whether an exported audit log is whole, and else which record is the first that is not
    ///
    /// Needs neither configuration nor database. Exits with 1 where a record was changed, inserted, reordered, removed or cut
    /// off.
    #[command(after_help = "Example:\n  guildhall audit verify acme.jsonl")]
    Verify(VerifyAudit),
}

/// What to write down, and where.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ExportAudit {
    /// Slug of the organization
    #[arg(long, value_name = "SLUG")]
    pub organization: String,
    /// Only entries from this moment on, such as 2026-11-21T00:00:00Z
    #[arg(long, value_name = "MOMENT")]
    pub from: Option<DateTime<Utc>>,
    /// Only entries before this moment
    #[arg(long, value_name = "MOMENT")]
    pub to: Option<DateTime<Utc>>,
    /// The file, which is replaced if it exists
    pub file: PathBuf,
}

/// What to verify.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct VerifyAudit {
    /// The file that `audit export` wrote
    pub file: PathBuf,
    /// A public key of the instance, in hexadecimal; may be given several times [default: those that the file names]
    #[arg(long, value_name = "KEY")]
    pub public_key: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Keys {
    /// List the master keys and how much each of them encrypts
    #[command(after_help = "Example:\n  guildhall keys status")]
    Status,
    /// Make a new master key in the data directory; the one before is kept as a previous one
    ///
    /// Servers take it at their next start. Refused where MASTER_KEY is given: then it is yours to make.
    #[command(after_help = "Example:\n  guildhall keys new")]
    New,
    /// Encrypt with the master key whatever previous ones encrypted
    ///
    /// Servers may run meanwhile, once each was started with the new key. It can be interrupted anywhere and run again.
    #[command(after_help = "Example:\n  guildhall keys rotate")]
    Rotate,
    /// Take the previous master keys out of the data directory, when nothing needs them any more
    ///
    /// Backups from before the rotation still do: keep a copy for as long as you keep those.
    #[command(after_help = "Example:\n  guildhall keys forget-previous")]
    ForgetPrevious,
    /// Make a new key that signs workspace tokens
    ///
    /// Servers sign with it at once, and go on publishing the one before until its tokens have ended.
    #[command(after_help = "Example:\n  guildhall keys rotate-signing")]
    RotateSigning,
}

/// How much to make.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// People in the instance
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub users: u32,
    /// Workspaces in the instance
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub workspaces: u32,
    /// Members of each workspace; not more than users
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub members: u32,
}

/// What to write down, and where.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The workspace's name in addresses
    pub workspace: String,
    /// The file, which is replaced if it exists [default: standard output]
    pub file: Option<PathBuf>,
}

/// What to make a workspace of, and where.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The file that `export` wrote
    pub file: PathBuf,
    /// Slug of the organization [default: the only one]
    #[arg(long, value_name = "SLUG")]
    pub organization: Option<String>,
    /// Another name for the workspace than the one in the file
    #[arg(long, value_name = "NEW")]
    pub name: Option<String>,
    /// Tell what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Admin {
    /// Give a locked-out user a fresh random password, print it, and end all their sessions
    #[command(after_help = "Example:\n  guildhall admin reset-password ada@example.org")]
    ResetPassword {
        /// The user's e-mail address
        email: String,
    },
    /// Take the second factor from somebody who lost it and every recovery code, and end all their sessions
    ///
    /// They sign in with their password and set up another one. Make sure first that it is them who asks.
    #[command(after_help = "Example:\n  guildhall admin reset-second-factor ada@example.org")]
    ResetSecondFactor {
        /// The user's e-mail address
        email: String,
    },
    /// Make an organization with a default workspace, owned by somebody who has an account
    #[command(
        after_help = "Example:\n  guildhall admin create-organization \"Field Studies\" ada@example.org"
    )]
    CreateOrganization {
        /// The name people read
        name: String,
        /// The owner's e-mail address
        owner: String,
    },
    /// Say how much an organization may have of something at the most, whatever its admins allow
    #[command(after_help = "Example:\n  guildhall admin set-quota acme API_CALLS 100000")]
    SetQuota {
        /// Slug of the organization
        organization: String,
        /// What: MEMBERS, WORKSPACES, ITEMS, STORAGE_BYTES, API_CALLS (a day) or CREDITS (a month)
        metric: String,
        /// How much, from 0; `none` takes the limit away
        limit: String,
    },
    /// Say that a domain is an organization's, where DNS does not: its identity provider is believed of addresses there
    ///
    /// Whoever administers the organization can then sign in as everybody who has an address in the domain.
    #[command(after_help = "Example:\n  guildhall admin verify-domain acme acme.example")]
    VerifyDomain {
        /// Slug of the organization
        organization: String,
        /// What stands after the @ of its addresses
        domain: String,
    },
    /// Take a domain from the organization that has verified it, as when it was sold
    ///
    /// Its identity provider is believed of addresses there no more. Sessions that it opened go on: see endMemberSessions.
    #[command(after_help = "Example:\n  guildhall admin unverify-domain acme.example")]
    UnverifyDomain {
        /// What stands after the @ of its addresses
        domain: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["guildhall"], arguments].concat())
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        assert_eq!(parse(&[]).unwrap().chosen(), &Command::Serve);
    }

    #[test]
    fn config_file_is_accepted_before_and_after_the_command() {
        for arguments in [["--config", "a.toml", "migrate"], ["migrate", "--config", "a.toml"]] {
            let cli = parse(&arguments).unwrap();
            assert_eq!((cli.config.as_deref(), cli.chosen()), (Some("a.toml".as_ref()), &Command::Migrate));
        }
    }

    #[test]
    fn reset_password_needs_an_address() {
        let email = "ada@example.org".to_owned();
        assert_eq!(
            parse(&["admin", "reset-password", "ada@example.org"]).unwrap().chosen(),
            &Command::Admin(Admin::ResetPassword { email })
        );
        assert!(parse(&["admin", "reset-password"]).is_err());
        assert!(parse(&["admin"]).is_err());
    }

    #[test]
    fn wrong_use_exits_with_2() {
        assert_eq!(parse(&["sevre"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["seed", "--users", "0"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
