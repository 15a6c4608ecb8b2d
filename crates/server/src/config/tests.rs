//! Layers, faults and redaction, through [`Config::load`] with sources made up here.

use std::collections::BTreeSet;

use toml::Table;

use super::{keys::keys, *};

const KEY: &str = "f0Kx9vQ2mZ7rT4bW8nL1cY6hJ3sD5gAaPpEeUuRrSs0=";
const OTHER_KEY: &str = "q7Bn2XwV5kLt9ZcJ4mYh8RfD1sGp6TaE3uQoNiWx0Mw=";
const OLDER_KEY: &str = "Zk3pQ9vXs1LrT7yWc5mNb8HfJ2gDa6Ue4oKiRx0MqYw=";

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigFaults> {
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let file = Some(SourceFile { name: "guildhall.toml".to_owned(), content: file.to_owned() });
    Config::load(&Sources { file, environment })
}

/// The faults, one a line, as the operator reads them.
fn faults(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let shown = load(file, environment).expect_err("there is a fault").to_string();
    shown.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn defaults_alone_are_a_configuration() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.app.url, "http://127.0.0.1:8080");
    assert_eq!(config.database.url.sqlite_path(), Some("./data/guildhall.db".as_ref()));
    assert!(matches!(config.mail.transport, MailTransport::Files(dir) if dir.as_path() == "./data/mail"));
    assert_eq!(config.mail.from.to_string(), "Guildhall <no-reply@localhost>");
    assert_eq!(config.invitations.lifetime, Duration::from_secs(168 * 3600));
    assert_eq!(config.server.cors_origins, CorsOrigins::These(vec![]));
    assert_eq!(config.workspaces.default_image.as_str(), "docker.io/library/python:3");
}

#[test]
fn the_default_image_is_checked_before_the_start() {
    let config = load("[workspaces]\ndefault_image = \"ghcr.io/acme/tools:2\"\n", &[]).unwrap();
    assert_eq!(config.workspaces.default_image.as_str(), "ghcr.io/acme/tools:2");
    for bad in ["Upper", "https://ghcr.io/acme", "  "] {
        let faults = faults(&format!("[workspaces]\ndefault_image = \"{bad}\"\n"), &[]);
        assert!(faults.len() == 1 && faults[0].contains("workspaces.default_image"), "{bad:?}: {faults:?}");
    }
}

#[test]
fn environment_wins_over_file_and_file_over_defaults() {
    let file = "[limits]\ndepth = 20\naliases = 7\n";
    let limits = load(file, &[("GUILDHALL_LIMITS_DEPTH", "30")]).unwrap().limits;
    assert_eq!((limits.depth, limits.aliases, limits.directives), (30, 7, 50));
}

#[test]
fn empty_variable_counts_as_not_set() {
    let config =
        load("[limits]\ndepth = 20\n", &[("GUILDHALL_LIMITS_DEPTH", ""), ("SMTP_PORT", "")]).unwrap();
    assert_eq!(config.limits.depth, 20);
}

#[test]
fn every_key_has_its_variable_and_is_printed() {
    let names: BTreeSet<_> = keys().iter().map(|key| key.environment.as_str()).collect();
    assert_eq!(names.len(), keys().len(), "two keys share a variable");
    let printed = Config::load(&Sources::default()).unwrap().print();
    for key in keys() {
        assert!(!key.environment.is_empty() && !key.meaning.is_empty(), "{} is not documented", key.path);
        assert!(printed.contains(&format!("\n{} = ", key.name)), "{} is not printed", key.path);
        let is_number = key.default.is_integer();
        assert_eq!(key.range.is_some(), is_number, "{}: a number has a range", key.path);
        let name = key.name.to_uppercase();
        let composed = [
            name.clone(),
            format!("GUILDHALL_{name}"),
            format!("{}_{name}", key.section.to_uppercase()),
            format!("GUILDHALL_{}_{name}", key.section.to_uppercase()),
        ];
        let expected = composed.contains(&key.environment) || key.path == "log.filter";
        assert!(expected, "{} is called {}", key.path, key.environment);
    }
}

#[test]
fn every_default_and_both_ends_of_every_range_are_accepted() {
    for key in keys() {
        for value in key.range.iter().flat_map(|range| [range.start(), range.end()]) {
            let shown =
                load("", &[(&key.environment, &value.to_string())]).err().map(|faults| faults.to_string());
            // Faults between two settings are fine here, a range its own type refuses is not.
            assert!(!shown.is_some_and(|shown| shown.contains("out of range")), "{} {value}", key.path);
        }
        for choice in &key.choices {
            load("", &[(&key.environment, choice)]).unwrap();
        }
    }
}

#[test]
fn every_fault_is_reported_with_key_value_range_and_origin() {
    let file = "\
[mail]
smtp_port = \"x\"
smtp_hots = \"mail\"

[limits]
depth = 65

[lgo]
filter = \"info\"
";
    let environment = [
        ("GUILDHALL_LIMITS_ALIASES", "-1"),
        ("GUILDHALL_PLAYGROUND", "maybe"),
        ("SMTP_TLS", "ssl"),
        ("JWT_AUTH_TOKEN_SECRET", "secret"),
        ("GUILDHALL_LISTEN", "localhost"),
        ("GUILDHALL_LIMIT_DEPTH", "3"),
    ];
    assert_eq!(
        faults(file, &environment),
        [
            "mail.smtp_port: \"x\" is not a whole number; allowed: 1 to 65535 (guildhall.toml line 2)",
            "mail.smtp_hots: no such key; did you mean mail.smtp_host? (guildhall.toml line 3)",
            "limits.depth: 65 is out of range; allowed: 3 to 64 (guildhall.toml line 6)",
            "[lgo]: no such section; did you mean log? (guildhall.toml line 8)",
            "limits.aliases: -1 is out of range; allowed: 0 to 1000 (environment variable GUILDHALL_LIMITS_ALIASES)",
            "server.playground: \"maybe\" is neither true nor false (environment variable GUILDHALL_PLAYGROUND)",
            "mail.smtp_tls: \"ssl\" is not one of: auto, starttls, tls, none (environment variable SMTP_TLS)",
            "GUILDHALL_LIMIT_DEPTH: no such setting; did you mean GUILDHALL_LIMITS_DEPTH? (environment variable GUILDHALL_LIMIT_DEPTH)",
            "server.listen: \"localhost\" is not an IP address and port, such as 127.0.0.1:8080 (environment variable GUILDHALL_LISTEN)",
            "auth.jwt_auth_token_secret: the value has 6 bytes, at least 32 are needed; make one with: openssl rand -base64 32 (environment variable JWT_AUTH_TOKEN_SECRET)",
        ]
    );
}

#[test]
fn fault_in_one_section_hides_none_in_another() {
    let environment = [
        ("GUILDHALL_LISTEN", "x"),
        ("APP_URL", "x"),
        ("DATABASE_URL", "x"),
        ("JWT_ISSUER", " "),
        ("SMTP_HOST", "mx.example.org:25"),
        ("SMTP_FROM", "x"),
        ("GUILDHALL_LOG", "x"),
        ("GUILDHALL_CORS_ORIGINS", "x"),
    ];
    let origins: BTreeSet<_> =
        load("", &environment).unwrap_err().0.into_iter().map(|fault| fault.origin.to_string()).collect();
    assert_eq!(origins.len(), environment.len(), "{origins:#?}");
}

#[test]
fn misplaced_names_are_told_their_place() {
    for (file, place) in [
        ("smtp_host = \"mail\"", "mail.smtp_host"),
        ("[server]\nsmtp_host = \"mail\"", "mail.smtp_host"),
        ("[limits]\nplayground = true", "server.playground"),
    ] {
        let shown = faults(file, &[]);
        assert!(shown[0].contains(&format!("did you mean {place}?")), "{shown:?}");
    }
    for (name, right) in
        [("GUILDHALL_SERVER_LISTEN", "GUILDHALL_LISTEN"), ("GUILDHALL_SMTP_HOST", "SMTP_HOST")]
    {
        let shown = faults("", &[(name, "x")]);
        assert!(shown[0].contains(&format!("did you mean {right}?")), "{shown:?}");
    }
    assert_eq!(faults("[server]\nzebra = 1", &[]), ["server.zebra: no such key (guildhall.toml line 2)"]);
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_that_name_are_no_typos() {
    let environment = [
        ("GUILDHALL_CONFIG", "x.toml"),
        ("GUILDHALL_SERVICE_HOST", "10.0.0.1"),
        ("GUILDHALL_SERVICE_PORT_HTTP", "80"),
        ("GUILDHALL_PORT", "tcp://10.0.0.1:80"),
        ("GUILDHALL_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("GUILDHALL_WEB_SERVICE_HOST", "10.0.0.1"),
    ];
    load("", &environment).unwrap();
    assert_eq!(faults("", &[("GUILDHALL_PORT", "8080")]).len(), 1);
}

#[test]
fn broken_toml_names_the_line_and_quotes_no_content() {
    let shown = faults("[mail]\nsmtp_password = hunter2\nsmtp_port = 70000\n", &[("SMTP_TLS", "ssl")]);
    assert_eq!(shown.len(), 2, "the environment is checked all the same: {shown:?}");
    assert!(shown[0].starts_with("guildhall.toml: not valid TOML: "), "{shown:?}");
    assert!(shown[0].ends_with("(guildhall.toml line 2)") && !shown[0].contains("hunter2"), "{shown:?}");
}

#[test]
fn number_too_large_for_toml_is_not_quoted() {
    assert_eq!(
        faults("[mail]\nsmtp_password = 99999999999999999999\n", &[]),
        ["guildhall.toml: not valid TOML: a number is too large (guildhall.toml line 2)"]
    );
}

#[test]
fn settings_that_contradict_each_other_are_faults() {
    for (environment, fault) in [
        (
            &[("SMTP_USER", "ada")][..],
            "mail.smtp_user: given without mail.smtp_password (environment variable SMTP_USER)",
        ),
        (
            &[
                ("SMTP_HOST", "mx.example.org"),
                ("SMTP_USER", "a"),
                ("SMTP_PASSWORD", "b"),
                ("SMTP_TLS", "none"),
            ],
            "mail.smtp_tls: \"none\" would send mail.smtp_password in the clear; use starttls or tls (environment variable SMTP_TLS)",
        ),
        (
            &[("SMTP_HOST", "mx.example.org")],
            "mail.smtp_from: needed, since the host of app.url is an address and no domain name (default)",
        ),
        (
            &[("GUILDHALL_DATABASE_MIN_CONNECTIONS", "17")],
            "database.min_connections: 17 is more than database.max_connections, 16 (environment variable GUILDHALL_DATABASE_MIN_CONNECTIONS)",
        ),
        (
            &[("GUILDHALL_LIMITS_DEPTH", "10")],
            "limits.depth: 10 is too little for introspection, which needs 15; raise it, or turn server.introspection off (environment variable GUILDHALL_LIMITS_DEPTH)",
        ),
        (
            &[("JWT_AUTH_TOKEN_SECRET", KEY), ("TOKEN_HASH_SECRET", KEY)],
            "auth.token_hash_secret: the same value as auth.jwt_auth_token_secret; each secret must be another one (environment variable TOKEN_HASH_SECRET)",
        ),
        (
            &[("MASTER_KEY", KEY), ("MASTER_KEY_PREVIOUS", KEY)],
            "auth.master_key_previous: holds the value of auth.master_key; each secret must be another one (environment variable MASTER_KEY_PREVIOUS)",
        ),
        (
            &[("JWT_TOKEN_EXPIRY_IN_MINUTES", "60"), ("JWT_REFRESH_TOKEN_EXPIRY_IN_MINUTES", "60")],
            "auth.jwt_refresh_token_expiry_in_minutes: must be more than auth.jwt_token_expiry_in_minutes (environment variable JWT_REFRESH_TOKEN_EXPIRY_IN_MINUTES)",
        ),
    ] {
        assert!(faults("", environment).contains(&fault.to_owned()), "{:?}", faults("", environment));
    }
    load("", &[("GUILDHALL_LIMITS_DEPTH", "10"), ("GUILDHALL_INTROSPECTION", "false")]).unwrap();
}

#[test]
fn app_url_is_absolute_and_loses_its_trailing_slash() {
    for (given, kept) in [
        ("https://guild.example.org/", "https://guild.example.org"),
        ("https://Guild.example.org/app//", "https://guild.example.org/app"),
    ] {
        assert_eq!(load("", &[("APP_URL", given)]).unwrap().app.url, kept);
    }
    for wrong in
        ["guild.example.org", "/app", "ftp://a.b", "https://a.b/?x=1", "https://a.b/#x", "https://u:p@a.b"]
    {
        assert_eq!(faults("", &[("APP_URL", wrong)]).len(), 1, "{wrong}");
    }
    let config = load("", &[("GUILDHALL_LISTEN", "[::]:9000")]).unwrap();
    assert_eq!(config.app.url, "http://[::1]:9000");
}

#[test]
fn database_urls_are_sqlite_or_postgres_files_and_servers() {
    for right in ["sqlite:///var/lib/g.db", "sqlite://g.db", "postgres://u@h/d", "postgresql:///d?host=/run"]
    {
        assert_eq!(load("", &[("DATABASE_URL", right)]).unwrap().database.url.expose(), right);
    }
    for wrong in
        ["mysql://h/d", "sqlite://", "sqlite::memory:", "sqlite://a.db?mode=ro", "postgres://u:p ss@h:x/d"]
    {
        assert_eq!(faults("", &[("DATABASE_URL", wrong)]).len(), 1, "{wrong}");
    }
}

#[test]
fn encryption_to_the_mail_server_follows_port_and_host() {
    let tls = |environment: &[(&str, &str)]| {
        let from = [("SMTP_FROM", "no-reply@example.org")];
        match load("", &[environment, &from].concat()).unwrap().mail.transport {
            MailTransport::Smtp(smtp) => smtp.tls,
            MailTransport::Files(_) => panic!("files"),
        }
    };
    assert_eq!(tls(&[("SMTP_HOST", "mx.example.org")]), SmtpTls::StartTls);
    assert_eq!(tls(&[("SMTP_HOST", "mx.example.org"), ("SMTP_PORT", "465")]), SmtpTls::Tls);
    assert_eq!(tls(&[("SMTP_HOST", "localhost"), ("SMTP_PORT", "1025")]), SmtpTls::None);
    assert_eq!(tls(&[("SMTP_HOST", "::1")]), SmtpTls::None);
    assert_eq!(tls(&[("SMTP_HOST", "127.0.0.1"), ("SMTP_TLS", "starttls")]), SmtpTls::StartTls);
}

#[test]
fn cors_origins_are_normalised_and_each_fault_is_told() {
    let config =
        load("", &[("GUILDHALL_CORS_ORIGINS", "https://a.example:443/, http://b.example:81")]).unwrap();
    let origins = ["https://a.example", "http://b.example:81"].map(str::to_owned).to_vec();
    assert_eq!(config.server.cors_origins, CorsOrigins::These(origins));
    assert_eq!(load("", &[("GUILDHALL_CORS_ORIGINS", "*")]).unwrap().server.cors_origins, CorsOrigins::Any);
    assert_eq!(faults("[server]\ncors_origins = [\"x\", \"https://a/b\"]", &[]).len(), 2);
}

#[test]
fn destinations_of_tests_are_read_and_each_fault_is_told() {
    let variable = "GUILDHALL_CREDENTIALS_TEST_DESTINATIONS";
    let listed = load("", &[(variable, "10.1.0.0/16, db.internal")]).unwrap().credentials.test_destinations;
    assert_eq!(listed, ["10.1.0.0/16", "db.internal"].map(|text| Destination::parse(text).unwrap()));
    assert!(Config::load(&Sources::default()).unwrap().credentials.test_destinations.is_empty());
    assert_eq!(
        faults("[credentials]\ntest_destinations = [\"10.1.2.3/8\", \"db:5432\"]", &[]),
        [
            "credentials.test_destinations: \"10.1.2.3/8\" is an address within a network; the network is 10.0.0.0/8 (guildhall.toml line 2)",
            "credentials.test_destinations: \"db:5432\" is no network, address or host name, such as 10.1.0.0/16, 10.1.2.3 or db.internal (guildhall.toml line 2)",
        ]
    );
}

#[test]
fn printed_configuration_is_toml_with_origins_and_no_secret() {
    let environment = [
        ("DATABASE_URL", "postgres://guild:hunter2@db.example.org:5432/guild?sslpassword=hunter2"),
        ("SMTP_HOST", "mx.example.org"),
        ("SMTP_USER", "ada"),
        ("SMTP_PASSWORD", "hunter2"),
        ("SMTP_FROM", "no-reply@example.org"),
        ("JWT_AUTH_TOKEN_SECRET", KEY),
        ("MASTER_KEY", KEY),
    ];
    let shared = load("", &environment).expect_err("one value in two places").to_string();
    let previous = "dGhlIG1hc3RlciBrZXkgb2YgdGhlIHRlc3RzLCAzMiE=";
    let both = format!("{previous}, {OLDER_KEY}");
    let environment =
        [&environment[..6], &[("MASTER_KEY", OTHER_KEY), ("MASTER_KEY_PREVIOUS", &both)]].concat();
    let config = load("[limits]\ndepth = 20\n", &environment).unwrap();
    let printed = config.print();
    for line in [
        "url = \"postgres://guild:***@db.example.org:5432/guild?sslpassword=***\" # environment variable DATABASE_URL",
        "smtp_password = \"[redacted]\" # environment variable SMTP_PASSWORD",
        "token_hash_secret = \"\" # generated, in ./data/secrets.toml",
        "master_key_previous = [\"[redacted]\", \"[redacted]\"] # environment variable MASTER_KEY_PREVIOUS",
        "depth = 20 # guildhall.toml line 2",
        "aliases = 50 # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    let parsed: Table = printed.parse().unwrap();
    assert_eq!(parsed["limits"]["depth"].as_integer(), Some(20));
    let debugged = format!("{config:?}");
    assert_eq!(config.auth.given_secrets.master_key_previous.len(), 2);
    for secret in ["hunter2", KEY, OTHER_KEY, OLDER_KEY, previous] {
        assert!(![&printed, &debugged, &shared].into_iter().any(|text| text.contains(secret)), "{secret}");
    }
}

#[test]
fn faults_show_no_secret() {
    let environment = [
        ("DATABASE_URL", "postgres://guild:hunter2@x@db:port/guild"),
        ("APP_URL", "https://ada:hunter2@example.org"),
        ("TOKEN_HASH_SECRET", "hunter2"),
        ("SMTP_PASSWORD", "hunter2\n"),
        ("MASTER_KEY", "hunter2"),
        ("MASTER_KEY_PREVIOUS", "hunter2"),
    ];
    let file = "[mail]\nsmtp_password = [\"hunter2\"]\n[database]\nurl = [\"postgres://guild:hunter2@db\"]\n";
    let shown = faults(file, &environment);
    assert_eq!(shown.len(), 9, "{shown:#?}");
    assert!(!shown.concat().contains("hunter2"), "{shown:#?}");
}

#[test]
fn passwords_are_hidden_wherever_they_stand_in_a_url() {
    for (url, shown) in [
        ("postgres://u:pw@h/d", "postgres://u:***@h/d"),
        ("postgres://u@h/d?password=pw&x=1", "postgres://u@h/d?password=***&x=1"),
        ("postgres://u@h/d?password=p@w", "postgres://***"),
        ("postgres://u:p@s/w@h/d", "postgres://***"),
        ("postgres://u:p#w@h/d", "postgres://***"),
        ("sqlite:///home/a@b/g.db", "sqlite:///home/a@b/g.db"),
    ] {
        assert_eq!(values::redacted_url(url), shown);
    }
}

#[test]
fn senders_that_could_smuggle_a_header_are_refused() {
    for wrong in ["x", "A <b>", "=?utf-8?q?x?= <a@example.org>", "\"=?utf-8?q?x?=\" <a@example.org>"] {
        assert_eq!(faults("", &[("SMTP_FROM", wrong)]).len(), 1, "{wrong}");
    }
    assert_eq!(faults("", &[("SMTP_FROM", "A\r\nBcc: x@y.z <a@b.c>")]).len(), 1);
}

#[test]
fn misspelt_log_level_is_not_taken_for_a_module() {
    for right in ["debug", "INFO,guildhall=debug", "off", "warn,sqlx[query]=trace"] {
        load("", &[("GUILDHALL_LOG", right)]).unwrap();
    }
    assert_eq!(
        faults("", &[("GUILDHALL_LOG", "inof")]),
        [
            "log.filter: \"inof\" is no level; allowed: off, error, warn, info, debug, trace, and MODULE=LEVEL (environment variable GUILDHALL_LOG)"
        ]
    );
    assert_eq!(faults("", &[("GUILDHALL_LOG", "guildhall=inof")]).len(), 1);
}

#[test]
fn values_that_are_not_unicode_are_a_fault() {
    use std::os::unix::ffi::OsStringExt;
    let environment = vec![("SMTP_HOST".into(), std::ffi::OsString::from_vec(vec![0xff]))];
    let shown = Config::load(&Sources { file: None, environment }).unwrap_err();
    assert_eq!(shown.0[0].problem, "is not UTF-8 text");
}

#[test]
fn named_file_that_is_missing_is_a_fault() {
    let shown = Sources::of_process(Some("/nonexistent/g.toml".as_ref())).err().unwrap().to_string();
    assert!(shown.contains("/nonexistent/g.toml: the configuration file cannot be read"), "{shown}");
    assert!(shown.ends_with("(--config)"), "{shown}");
}

#[test]
fn reference_table_has_a_row_of_four_cells_for_each_key() {
    let table = reference_markdown();
    assert_eq!(table.lines().count(), keys().len() + 2);
    assert!(
        table.contains("| `SMTP_PORT` | `mail.smtp_port` | `587` | Port of the mail server. (1 to 65535) |")
    );
    for row in table.lines() {
        assert_eq!(row.replace("\\|", "").matches('|').count(), 5, "{row}");
    }
}
