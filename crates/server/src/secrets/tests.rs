//! Making, keeping and refusing keys, on real files, from threads and from processes.

use std::{env, fs, os::unix::fs::symlink, process::Command, thread};

use super::*;

const DIRECTORY: &str = "SECRETS_TEST_DIRECTORY";

fn shown(secrets: &Secrets) -> String {
    let Secrets { access_token, refresh_token, token_hash, master_key, master_key_previous } = secrets;
    let texts = [access_token, refresh_token, token_hash].map(|secret| secret.expose().to_owned());
    let keys = [master_key].into_iter().chain(master_key_previous).map(|key| STANDARD.encode(key.expose()));
    texts.into_iter().chain(keys).collect::<Vec<_>>().join(" ")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn made() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    resolve(&dir, GivenSecrets::default()).unwrap();
    let file = dir.join(FILE);
    (root, dir, file)
}

#[test]
fn secrets_are_made_once_for_the_owner_alone() {
    let (_root, dir, file) = made();
    let first = resolve(&dir, GivenSecrets::default()).unwrap();
    let content = fs::read_to_string(&file).unwrap();
    assert_eq!(shown(&first), shown(&resolve(&dir, GivenSecrets::default()).unwrap()));
    assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
    assert_eq!(content, fs::read_to_string(&file).unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no temporary file stays");
    assert_eq!(shown(&first).split(' ').collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn given_secrets_win_and_all_given_touch_no_file() {
    let (_root, dir, _) = made();
    let text = "f0Kx9vQ2mZ7rT4bW8nL1cY6hJ3sD5gAaPpEeUuRrSs0=";
    let given = GivenSecrets { token_hash: Some(Secret::parse(text).unwrap()), ..GivenSecrets::default() };
    assert_eq!(resolve(&dir, given).unwrap().token_hash.expose(), text);

    let all = || Some(Secret::new(text));
    let master_key = Some(MasterKey::parse(text).unwrap());
    let given = GivenSecrets {
        access_token: all(),
        refresh_token: all(),
        token_hash: all(),
        master_key,
        master_key_previous: Vec::new(),
    };
    let absent = dir.join("absent");
    resolve(&absent, given).unwrap();
    assert!(!absent.exists());
}

#[test]
fn threads_that_start_together_agree() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let dir = root.path().join(round.to_string());
        let starters: Vec<_> = (0..8)
            .map(|_| {
                let dir = dir.clone();
                thread::spawn(move || shown(&resolve(&dir, GivenSecrets::default()).unwrap()))
            })
            .collect();
        let results: std::collections::BTreeSet<_> =
            starters.into_iter().map(|starter| starter.join().unwrap()).collect();
        assert_eq!(results.len(), 1);
    }
}

#[test]
#[ignore = "the part that `processes_that_start_together_agree` runs in other processes"]
fn print_secrets() {
    let dir = PathBuf::from(env::var_os(DIRECTORY).unwrap());
    println!("\nSECRETS {}", shown(&resolve(&dir, GivenSecrets::default()).unwrap()));
}

#[test]
fn processes_that_start_together_agree() {
    let root = tempfile::tempdir().unwrap();
    let test = format!("{}::print_secrets", module_path!().split_once("::").unwrap().1);
    let children: Vec<_> = (0..6)
        .map(|_| {
            Command::new(env::current_exe().unwrap())
                .args([&test, "--exact", "--ignored", "--nocapture"])
                .env(DIRECTORY, root.path().join("data"))
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let results: std::collections::BTreeSet<_> = children
        .into_iter()
        .map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
        .map(|output| output.lines().find(|line| line.starts_with("SECRETS ")).unwrap().to_owned())
        .collect();
    assert_eq!(results.len(), 1);
}

#[test]
fn file_open_to_others_is_refused_with_the_command_that_mends_it() {
    let (_root, dir, file) = made();
    for wide in [0o640, 0o604, 0o644, 0o700] {
        fs::set_permissions(&file, fs::Permissions::from_mode(wide)).unwrap();
        let fault = resolve(&dir, GivenSecrets::default()).unwrap_err().to_string();
        let path = file.display();
        assert_eq!(
            fault,
            format!("{path} can be used by others (mode {wide:o}); mend it with: chmod 600 {path}")
        );
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    resolve(&dir, GivenSecrets::default()).unwrap();
}

#[test]
fn damaged_file_is_named_and_never_overwritten() {
    let (_root, dir, file) = made();
    let sound = fs::read_to_string(&file).unwrap();
    let without_line =
        |name: &str| sound.lines().filter(|line| !line.contains(name)).collect::<Vec<_>>().join("\n");
    for damaged in [
        String::new(),
        "\0\0\0".to_owned(),
        sound[..sound.len() / 2].to_owned(),
        without_line("token_hash_secret ="),
        format!("{sound}extra = \"hunter2\"\n"),
        sound.replace("master_key = \"", "master_key = \"hunter2"),
        sound.replace("jwt_auth_token_secret = \"", "jwt_auth_token_secret = [\"hunter2\"] #"),
    ] {
        fs::write(&file, &damaged).unwrap();
        let fault = resolve(&dir, GivenSecrets::default()).unwrap_err();
        assert!(matches!(fault, SecretsFault::Damaged { .. }), "{fault}");
        let fault = fault.to_string();
        assert!(fault.contains(&file.display().to_string()) && !fault.contains("hunter2"), "{fault}");
        assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    }
}

#[test]
fn name_already_taken_by_a_dangling_link_is_a_fault() {
    let root = tempfile::tempdir().unwrap();
    symlink(root.path().join("nowhere"), root.path().join(FILE)).unwrap();
    assert!(matches!(resolve(root.path(), GivenSecrets::default()), Err(SecretsFault::Io { .. })));
}

/// The master key and the previous ones, as text.
fn master_keys(secrets: &Secrets) -> Vec<String> {
    shown(secrets).split(' ').skip(3).map(str::to_owned).collect()
}

#[test]
fn new_master_key_keeps_those_before_and_everything_else() {
    let (_root, dir, file) = made();
    let before = shown(&resolve(&dir, GivenSecrets::default()).unwrap());
    let renewed = renew_master_key(&dir).unwrap();
    let again = renew_master_key(&dir).unwrap();
    let kept = resolve(&dir, GivenSecrets::default()).unwrap();
    assert_eq!(shown(&kept), shown(&again));
    assert_eq!(
        shown(&kept).split(' ').take(3).collect::<Vec<_>>(),
        before.split(' ').take(3).collect::<Vec<_>>()
    );
    let keys = master_keys(&kept);
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[1], master_keys(&renewed)[0]);
    assert_eq!(keys[2], before.rsplit(' ').next().unwrap());
    assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no temporary file stays");
    let debugged = format!("{kept:?}");
    assert_eq!(debugged.matches("[redacted]").count(), 6);

    // A given master key is not followed by those of the file, which belong to another one.
    let text = "f0Kx9vQ2mZ7rT4bW8nL1cY6hJ3sD5gAaPpEeUuRrSs0=";
    let given = GivenSecrets { master_key: Some(MasterKey::parse(text).unwrap()), ..GivenSecrets::default() };
    assert_eq!(master_keys(&resolve(&dir, given).unwrap()), [text]);
    let given = GivenSecrets {
        master_key_previous: vec![MasterKey::parse(text).unwrap()],
        ..GivenSecrets::default()
    };
    assert_eq!(master_keys(&resolve(&dir, given).unwrap()).len(), 4);

    // Only what is named is forgotten.
    let (second, third) = (&again.master_key_previous[0], &again.master_key_previous[1]);
    forget_master_keys(&dir, std::slice::from_ref(third)).unwrap();
    let kept = resolve(&dir, GivenSecrets::default()).unwrap();
    assert_eq!(master_keys(&kept), keys[..2]);
    // The current one is no previous one.
    forget_master_keys(&dir, &[second.clone(), again.master_key.clone()]).unwrap();
    let kept = resolve(&dir, GivenSecrets::default()).unwrap();
    assert_eq!(master_keys(&kept), keys[..1]);
    assert!(!fs::read_to_string(&file).unwrap().contains("previous"));
}

#[test]
fn those_who_renew_at_once_lose_no_key_and_readers_always_find_all() {
    let (_root, dir, _) = made();
    let first = master_keys(&resolve(&dir, GivenSecrets::default()).unwrap()).remove(0);
    let renewing: Vec<_> = (0..MOST_PREVIOUS)
        .map(|_| {
            let dir = dir.clone();
            thread::spawn(move || master_keys(&renew_master_key(&dir).unwrap()).remove(0))
        })
        .collect();
    while !renewing.iter().all(thread::JoinHandle::is_finished) {
        assert!(master_keys(&resolve(&dir, GivenSecrets::default()).unwrap()).contains(&first));
    }
    let kept = master_keys(&resolve(&dir, GivenSecrets::default()).unwrap());
    assert_eq!(kept.len(), 1 + MOST_PREVIOUS);
    for renewed in renewing {
        assert!(kept.contains(&renewed.join().unwrap()));
    }
    let fault = renew_master_key(&dir).unwrap_err();
    assert!(matches!(fault, SecretsFault::TooMany { .. }), "{fault}");
    assert_eq!(master_keys(&resolve(&dir, GivenSecrets::default()).unwrap()), kept);
}

#[test]
fn master_key_is_renewed_only_where_one_was_made() {
    let root = tempfile::tempdir().unwrap();
    for dir in [root.path().to_owned(), root.path().join("absent")] {
        let fault = renew_master_key(&dir).unwrap_err();
        assert!(matches!(fault, SecretsFault::Missing { .. }), "{fault}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
    let (_root, dir, file) = made();
    fs::write(&file, "damaged").unwrap();
    assert!(matches!(renew_master_key(&dir).unwrap_err(), SecretsFault::Damaged { .. }));
    assert_eq!(fs::read_to_string(&file).unwrap(), "damaged");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(renew_master_key(&dir).unwrap_err(), SecretsFault::OpenToOthers { .. }));
}

#[test]
fn file_behind_a_link_is_the_one_that_changes() {
    let (_root, dir, file) = made();
    let other = tempfile::tempdir().unwrap();
    symlink(&file, other.path().join(FILE)).unwrap();
    let renewed = renew_master_key(other.path()).unwrap();
    assert!(other.path().join(FILE).is_symlink());
    assert_eq!(shown(&renewed), shown(&resolve(&dir, GivenSecrets::default()).unwrap()));
}

#[test]
fn weak_and_known_keys_are_refused() {
    for weak in [
        "secret",
        "changeme",
        "AABBCCDDAABBCCDDAABBCCDDAABBCCDDAABBCCDD",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0123456789abcdef0123456789abcdef",
        "12345678901234567890123456789012",
        "abcdefghijklmnopqrstuvwxyz123456",
        "please-change-me-please-change-me-now!",
        "Your_Secret-Key-For-Development-0815",
        "my very own super-secret passphrase 7",
    ] {
        let fault = Secret::parse(weak).expect_err(weak);
        assert!(fault.ends_with("openssl rand -base64 32") && !fault.contains(weak), "{fault}");
    }
    for weak in [
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "c2hvcnQ=",
    ] {
        MasterKey::parse(weak).expect_err(weak);
    }
}

#[test]
fn generated_keys_are_never_taken_for_weak_ones() {
    for _ in 0..2000 {
        let text = random().unwrap();
        Secret::parse(&text).unwrap();
        MasterKey::parse(&text).unwrap();
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        Secret::parse(&bytes.map(|byte| format!("{byte:02x}")).concat()).unwrap();
    }
}

#[test]
fn secrets_are_redacted_in_debug() {
    let (_root, dir, _) = made();
    let secrets = resolve(&dir, GivenSecrets::default()).unwrap();
    let debugged = format!("{secrets:?}");
    assert_eq!(debugged.matches("[redacted]").count(), 4);
    assert!(shown(&secrets).split(' ').all(|secret| !debugged.contains(secret)));
}

#[test]
fn command_that_mends_is_quoted_for_the_shell() {
    assert_eq!(shell_quoted("./data/secrets.toml".as_ref()), "./data/secrets.toml");
    assert_eq!(shell_quoted("/a b/it's".as_ref()), r"'/a b/it'\''s'");
}
