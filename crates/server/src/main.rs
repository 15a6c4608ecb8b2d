//! The command line at work.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use guildhall_domain::{
    access::System,
    quotas::{self, Metric},
    single_sign_on,
    text::{DisplayName, Email},
};
use guildhall_persistence::{
    accounts,
    audit::Origin,
    organizations,
    quotas::set_ceiling,
    second_factor::{self, Reset},
    seed,
    single_sign_on::{Verified, take_as_operator, verify_as_operator},
};
use guildhall_server::{
    app::{self, App, StartError},
    audit,
    cli::{Admin, Audit, Cli, Command},
    config::{Config, Sources},
    export, master_key, telemetry,
};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a wrong use or configuration; clap's too.
const MISUSED: u8 = 2;

/// How long work that blocks a thread has to come to its end, once everything else has.
const LAST_WORK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if *cli.chosen() == Command::Schema {
        return print(&guildhall_graphql::sdl());
    }
    if let Command::Audit(Audit::Verify(wanted)) = cli.chosen() {
        return match audit::verify(wanted) {
            Ok(told) => print(&told),
            Err(error) => failed(&*error),
        };
    }
    let config = Sources::of_process(cli.config.as_deref()).and_then(|sources| Config::load(&sources));
    let config = match config {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(MISUSED);
        }
    };
    if *cli.chosen() == Command::Config {
        return print(&config.print());
    }
    telemetry::start(&config.log);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let result = runtime.block_on(run(cli.chosen(), config));
    // A name that is being looked up cannot be called off, and nobody waits for it any more.
    runtime.shutdown_timeout(LAST_WORK);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("guildhall: {error}");
    ExitCode::FAILURE
}

/// Prints a text; a reader that went away is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(&error),
        _ => ExitCode::SUCCESS,
    }
}

async fn run(command: &Command, mut config: Config) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Serve => serve(config).await,
        Command::Migrate => {
            Ok(guildhall_persistence::migrate(&app::database_options(&config.database)).await?)
        }
        Command::Seed(plan) => {
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("seed");
            let plan = seed::Plan { users: plan.users, workspaces: plan.workspaces, members: plan.members };
            let seeded = seed::seed(&db, &proof, &plan).await?;
            println!(
                "{} people, {} workspaces, {} memberships, {} pending invitations.\n\
                 Sign in as {} (the owner) or any other, with the password: {}",
                seeded.users,
                seeded.workspaces,
                seeded.memberships,
                seeded.invitations,
                seeded.owner,
                seeded.password
            );
            db.close().await;
            Ok(())
        }
        Command::Export(wanted) => {
            let db = app::open_database(&mut config, app::system_seams()).await?;
            let written = export::export(&db, wanted).await;
            db.close().await;
            written
        }
        Command::Import(wanted) => {
            let db = app::open_database(&mut config, app::system_seams()).await?;
            let told = export::import(&db.on_behalf_of(Origin::operator()), wanted).await;
            db.close().await;
            print!("{}", told?);
            Ok(())
        }
        Command::Admin(Admin::ResetPassword { email }) => {
            let email =
                Email::parse(email).map_err(|fault| format!("the e-mail address {}", fault.message()))?;
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("operator");
            let password =
                accounts::reset_password(&db.on_behalf_of(Origin::operator()), &proof, &email).await?;
            db.close().await;
            let Some(password) = password else {
                return Err(format!("no account has the address {email}").into());
            };
            println!("{email} signs in with this password from now on; all sessions have ended:\n{password}");
            Ok(())
        }
        Command::Admin(Admin::ResetSecondFactor { email }) => {
            let email =
                Email::parse(email).map_err(|fault| format!("the e-mail address {}", fault.message()))?;
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("operator");
            let reset = second_factor::reset(&db.on_behalf_of(Origin::operator()), &proof, &email).await?;
            db.close().await;
            match reset {
                Some(Reset::Done) => println!(
                    "{email} signs in with the password alone from now on; all sessions and recovery codes have ended"
                ),
                Some(Reset::HadNone) => return Err(format!("{email} has no second factor").into()),
                None => return Err(format!("no account has the address {email}").into()),
            }
            Ok(())
        }
        Command::Admin(Admin::CreateOrganization { name, owner }) => {
            let name = DisplayName::parse(name).map_err(|fault| format!("the name {}", fault.message()))?;
            let owner =
                Email::parse(owner).map_err(|fault| format!("the e-mail address {}", fault.message()))?;
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("operator");
            let made = organizations::create_for(&db.on_behalf_of(Origin::operator()), &proof, &name, &owner)
                .await?;
            db.close().await;
            let Some(made) = made else {
                return Err(format!("no account that is in use has the address {owner}").into());
            };
            println!(
                "{owner} owns the organization “{}”, at {}, with the workspace {}.",
                name, made.slug, made.workspace.name
            );
            Ok(())
        }
        Command::Admin(Admin::SetQuota { organization, metric, limit }) => {
            let metric = Metric::from_word(&metric.to_ascii_uppercase()).ok_or_else(|| {
                let known: Vec<_> = Metric::ALL.iter().map(|metric| metric.word()).collect();
                format!("there is no quota of “{metric}”, but of {}", known.join(", "))
            })?;
            let most = match limit.as_str() {
                "none" => None,
                number => match number.parse::<i64>() {
                    Ok(number @ 0..=quotas::MOST) => Some(number),
                    _ => {
                        return Err(
                            "the limit is no number from 0 to 9007199254740991, and not `none`".into()
                        );
                    }
                },
            };
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("operator");
            let db_of_operator = db.on_behalf_of(Origin::operator());
            let name = set_ceiling(&db_of_operator, &proof, organization, metric, most).await?;
            db.close().await;
            let Some(name) = name else {
                return Err(format!("there is no organization “{organization}”").into());
            };
            match most {
                Some(most) => println!("“{name}” may have {most} {} at the most.", metric.title()),
                None => println!("“{name}” may have as many {} as its admins allow.", metric.title()),
            }
            Ok(())
        }
        Command::Admin(Admin::UnverifyDomain { domain }) => {
            let domain = single_sign_on::domain(domain).map_err(|fault| format!("the domain {}", fault.0))?;
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("operator");
            let holder = take_as_operator(&db.on_behalf_of(Origin::operator()), &proof, &domain).await?;
            db.close().await;
            let Some(holder) = holder else {
                return Err(format!("no organization has verified {domain}").into());
            };
            println!("{domain} is {holder}'s no more.");
            Ok(())
        }
        Command::Admin(Admin::VerifyDomain { organization, domain }) => {
            let domain = single_sign_on::domain(domain).map_err(|fault| format!("the domain {}", fault.0))?;
            let db = app::open_database(&mut config, app::system_seams()).await?;
            #[expect(clippy::disallowed_methods, reason = "an operator's command has no actor")]
            let proof = System::named("operator");
            let operator = db.on_behalf_of(Origin::operator());
            let verified = verify_as_operator(&operator, &proof, organization, &domain).await?;
            db.close().await;
            match verified {
                Verified::Now => println!("{domain} is verified for {organization}."),
                Verified::Before => println!("{domain} was verified for {organization} before."),
                Verified::NoOrganization => {
                    return Err(format!("there is no organization {organization}").into());
                }
                Verified::Taken(owner) => {
                    return Err(format!(
                        "{domain} is verified for {owner}: an admin there has to remove it first"
                    )
                    .into());
                }
            }
            Ok(())
        }
        Command::Keys(command) => {
            println!("{}", master_key::run(*command, config).await?);
            Ok(())
        }
        Command::Audit(Audit::Export(wanted)) => {
            let db = app::open_database(&mut config, app::system_seams()).await?;
            let told = audit::export(&db, wanted).await;
            db.close().await;
            print!("{}", told?);
            Ok(())
        }
        Command::Schema | Command::Config | Command::Audit(Audit::Verify(_)) => Ok(()),
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let address = config.server.listen;
    // Before anything else, so that a second process on the same address changes nothing.
    let listener = TcpListener::bind(address).await.map_err(|error| StartError::Listen(address, error))?;
    raise_file_limit(config.limits.connections + config.limits.sockets);
    let app = App::start(config, app::system_seams()).await?;
    // Whole lines, so in one piece: whoever reads the first finds the others.
    print!("{}", app.welcome().await?);
    tokio::select! {
        () = app.serve(listener, signalled(1)?) => {}
        () = signalled(2)? => tracing::warn!("told twice to stop: stopped at once"),
    }
    Ok(())
}

/// Each connection is a file: lets the process open as many as the system allows it, which is mostly not what it may do at
/// first. Says so where that is too few for the connections that it is to take.
fn raise_file_limit(connections: usize) {
    let allowed = match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(allowed) => allowed,
        Err(error) => return tracing::warn!(%error, "the limit on open files could not be raised"),
    };
    if allowed < connections as u64 {
        tracing::info!(
            allowed,
            connections,
            "fewer connections are possible than limits.connections and limits.sockets say: each takes one of the open files allowed"
        );
    }
}

/// Resolves when Ctrl-C or SIGTERM came that many times.
fn signalled(times: u32) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for _ in 0..times {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}
