use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

fn signer(name: &str) -> Signer {
    Signer::generate(KeyName::parse(name).unwrap()).unwrap()
}

fn passphrase() -> Passphrase {
    Passphrase::new("correct horse\n".to_owned()).unwrap()
}

#[test]
fn a_verifier_key_reads_back_as_it_is_shown() {
    let key = signer("ops.example.com/alice").public().clone();
    assert_eq!(VerifierKey::parse(&key.to_string()).unwrap(), key);
}

#[test]
fn the_published_c2sp_example_is_understood() {
    // From the package documentation of golang.org/x/mod/sumdb/note.
    let key = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    assert_eq!(key.name().as_str(), "PeterNeumann");
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let signature = STANDARD
        .decode("x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=")
        .unwrap();
    let (id, signature) = signature.split_at(4);
    assert_eq!(id, key.id());
    assert!(key.verifies(text.as_bytes(), signature.try_into().unwrap()));
}

// SG09.
#[test]
fn a_key_that_is_not_exactly_one_is_refused() {
    let key = signer("alice").public().to_string();
    let (name, rest) = key.split_once('+').unwrap();
    let (hash, point) = rest.split_once('+').unwrap();
    let wrong_algorithm = {
        let mut bytes = STANDARD.decode(point).unwrap();
        bytes[0] = 2;
        STANDARD.encode(bytes)
    };
    for wrong in [
        String::new(),
        name.to_owned(),
        format!("bob+{hash}+{point}"),
        format!("{name}+00000000+{point}"),
        format!("{name}+{}+{point}", hash.to_uppercase() + "0"),
        format!("{name}+{hash}+{wrong_algorithm}"),
        format!("{name}+{hash}+{point}="),
        format!("{name}+{hash}+{}", &point[..20]),
        format!("{key}\n"),
        format!(" {key}"),
    ] {
        assert!(VerifierKey::parse(&wrong).is_err(), "{wrong:?}");
    }
}

// SG10.
#[test]
fn small_order_and_non_canonical_keys_are_refused() {
    // The eight small-order points and their non-canonical encodings, as y with either sign.
    let ys: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    for y in ys {
        let mut point = [0; 32];
        for (byte, pair) in point.iter_mut().zip(y.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        for sign in [0, 0x80] {
            let mut point = point;
            point[31] |= sign;
            let name = KeyName::parse("mallory").unwrap();
            assert!(VerifierKey::from_point(name, &point).is_err(), "{y} {sign:x}");
        }
    }
}

#[test]
fn a_sealed_key_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alice.key");
    let alice = signer("ops.example.com/alice");
    alice.write_sealed(&path, &passphrase()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Signer::read_sealed(&path, &passphrase()).unwrap();
    assert_eq!(read.public(), alice.public());
    assert!(alice.public().verifies(b"x", &read.sign(b"x")));

    let other = Passphrase::new("correct horsf".to_owned()).unwrap();
    assert!(matches!(Signer::read_sealed(&path, &other), Err(KeyError::Locked { .. })));
    assert!(alice.write_sealed(&path, &passphrase()).is_err(), "a key is never overwritten");
}

// SG16, SG18.
#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.key");
    let name = KeyName::parse("host").unwrap();
    let made = HostKey::open_or_create(&path, &name).unwrap();
    assert_eq!(HostKey::open_or_create(&path, &name).unwrap().signer().public(), made.signer().public());
    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(HostKey::open(&path).is_err(), "mode {mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let link = dir.path().join("link.key");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(HostKey::open(&link).is_err());
    assert!(HostKey::open(&path).is_ok());
}

#[test]
fn an_unsealed_key_is_no_signers_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.key");
    HostKey::open_or_create(&path, &KeyName::parse("host").unwrap()).unwrap();
    assert!(matches!(Signer::read_sealed(&path, &passphrase()), Err(KeyError::Malformed { .. })));
}

#[test]
fn openssl_reads_a_sealed_key_and_names_the_same_public_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alice.key");
    let alice = signer("alice");
    alice.write_sealed(&path, &passphrase()).unwrap();
    let secret = dir.path().join("passphrase");
    std::fs::write(&secret, "correct horse\n").unwrap();
    let answer = Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-passin"])
        .arg(format!("file:{}", secret.display()))
        .arg("-in")
        .arg(&path)
        .output();
    let Ok(answer) = answer else { return };
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    assert!(answer.stdout.ends_with(alice.public().point()));
}

// SG18.
#[test]
fn a_secret_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.key");
    let host = HostKey::open_or_create(&path, &KeyName::parse("host").unwrap()).unwrap();
    let seed = host.seed();
    let shown = format!("{host:?} {:?} {:?}", host.signer(), passphrase());
    assert!(!shown.contains("horse"));
    assert!(!shown.contains(&STANDARD.encode(*seed)));
    assert!(!shown.contains(&format!("{:?}", &seed[..4])));
}

#[test]
fn a_passphrase_loses_one_line_ending_and_nothing_else() {
    let text = |text: &str| Passphrase::new(text.to_owned()).unwrap().0.to_string();
    assert_eq!(text("a b \r\n"), "a b ");
    assert_eq!(text("a\n\n"), "a\n");
    assert!(Passphrase::new("\n".to_owned()).is_err());
}

/// The same key under another name.
pub(crate) fn renamed(signer: &Signer, name: &str) -> Signer {
    Signer::from_secret(KeyName::parse(name).unwrap(), SigningKey::from_bytes(&signer.secret.to_bytes()))
}

/// The identity point as a verifier key with the right hash.
pub(crate) fn weak_key(name: &str) -> String {
    let name = KeyName::parse(name).unwrap();
    let mut point = [0; 32];
    point[0] = 1;
    let hash: String = key_id(&name, &point).iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = [[ED25519].as_slice(), &point].concat();
    format!("{name}+{hash}+{}", STANDARD.encode(bytes))
}
