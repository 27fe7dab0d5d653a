//! Keys: ed25519, shown as C2SP verifier keys, kept as PKCS#8 PEM that `openssl pkey` reads.
//!
//! Owns making, sealing and opening of keys, and the rule that weak or non-canonical public keys don't exist here. It does
//! not say who may sign what (that is [`crate::trust`]) and never asks for a passphrase: the caller reads it from a file or
//! a terminal, never from the command line, where every process of the machine can see it.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use pkcs8::{DecodePrivateKey as _, LineEnding, PrivateKeyInfoRef, SecretDocument};
use sha2::Digest as _;
use theriac_model::id::KeyName;
use theriac_trusted::{self as trusted, TrustedError};
use zeroize::Zeroizing;

/// C2SP's number for plain ed25519 signatures.
const ED25519: u8 = 0x01;
/// A sealed key is about 400 bytes; a file larger than this is something else.
const MAX_KEY_FILE: u64 = 16 << 10;
/// OWASP's figure for PBKDF2-HMAC-SHA256. Scrypt would be stronger, but openssl refuses it at the memory it needs by default.
const PBKDF2_ROUNDS: u32 = 600_000;
const SALT_LEN: usize = 16;
const IV_LEN: usize = 16;
/// What precedes the key's name in a key file, above the PEM block (which RFC 7468 allows, and readers skip).
const NAME_LINE: &str = "theriac key ";

/// A public key with its name: `ops.example.com/alice+1a2b3c4d+AZ…`.
#[derive(Clone)]
pub struct VerifierKey {
    name: KeyName,
    id: [u8; 4],
    key: VerifyingKey,
}

/// Why a text is not a key that anything may be verified with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    /// Not `name+hash+base64`.
    #[error("`{}` is not a verifier key: write `name+hash+base64` as `theriac key new` prints it", text.escape_debug())]
    Form { text: String },
    /// Not ed25519.
    #[error("the key of `{name}` has algorithm {algorithm}; only ed25519 (1) is known")]
    Algorithm { name: KeyName, algorithm: u8 },
    /// The hash is that of another key or name.
    #[error("the hash in the key of `{name}` belongs to another key or name")]
    Hash { name: KeyName },
    /// No point of the curve, a second encoding of one, or of small order: such a key "verifies" what nobody signed.
    #[error("the key of `{name}` is weak or malformed: signatures under it prove nothing")]
    Weak { name: KeyName },
}

impl VerifierKey {
    /// Parses a verifier key; weak keys are refused here, once, so that none can be asked later.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        let form = || VerifierKeyError::Form { text: text.chars().take(80).collect() };
        // The base64 part may contain `+`, the two before it may not.
        let mut parts = text.splitn(3, '+');
        let (name, hash, key) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(hash), Some(key)) => (name, hash, key),
            (_, _, _) => return Err(form()),
        };
        let name = KeyName::parse(name).map_err(|_cause| form())?;
        let bytes = STANDARD.decode(key).map_err(|_cause| form())?;
        let (algorithm, point) = bytes.split_first().ok_or_else(form)?;
        if *algorithm != ED25519 {
            return Err(VerifierKeyError::Algorithm { name, algorithm: *algorithm });
        }
        let point: [u8; 32] = point.try_into().map_err(|_cause| form())?;
        let key = Self::from_point(name, &point)?;
        if key.hash() == hash { Ok(key) } else { Err(VerifierKeyError::Hash { name: key.name }) }
    }

    fn from_point(name: KeyName, point: &[u8; 32]) -> Result<Self, VerifierKeyError> {
        let sound = VerifyingKey::from_bytes(point)
            .ok()
            .filter(|key| !key.is_weak() && key.to_edwards().compress().as_bytes() == point);
        match sound {
            Some(key) => Ok(Self { id: key_id(&name, point), name, key }),
            None => Err(VerifierKeyError::Weak { name }),
        }
    }

    /// The key's name.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The first four bytes of its hash: a hint which key to try, never a proof.
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The public key itself: what makes two keys the same, whatever they are called.
    pub fn point(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether the signature is this key's over exactly these bytes. Strict: `verify` accepts every message under some keys.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    fn hash(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn key_id(name: &KeyName, point: &[u8; 32]) -> [u8; 4] {
    let mut hasher = sha2::Sha256::new();
    hasher.update(name.as_str());
    hasher.update([b'\n', ED25519]);
    hasher.update(point);
    let hash: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

impl PartialEq for VerifierKey {
    /// The same key under the same name. Whoever counts signers compares [`VerifierKey::point`] instead.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.point() == other.point()
    }
}

impl Eq for VerifierKey {}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.point());
        write!(f, "{}+{}+{}", self.name, self.hash(), STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({}+{})", self.name, self.hash())
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;
    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        Self::parse(text)
    }
}

/// What a private key is sealed with. Its text is wiped when it is dropped and shown nowhere.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase as it was typed or read; one line ending is cut off, because editors add one to files.
    pub fn new(text: String) -> Result<Self, KeyError> {
        let text = Zeroizing::new(text);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() { Err(KeyError::EmptyPassphrase) } else { Ok(Self(Zeroizing::new(line.to_owned()))) }
    }

    /// Reads a passphrase file; others may not be able to read it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::new(read_private(path)?.to_string())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// A private key that can sign.
pub struct Signer {
    public: VerifierKey,
    secret: SigningKey,
}

/// Why a key could not be made, kept or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes for a new key: {0}")]
    Random(getrandom::Error),
    /// No key is sealed with nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The file system said no.
    #[error("could not {doing} `{}`", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The opening rule refused the file.
    #[error(transparent)]
    Open(#[from] TrustedError),
    /// A secret that others can read is none.
    #[error("`{}` can be read by others (mode {mode:o}): run `chmod 600 {}`", path.display(), path.display())]
    Readable { path: PathBuf, mode: u32 },
    /// Not a key file of ours.
    #[error("`{}` holds no {wanted}", path.display())]
    Malformed { path: PathBuf, wanted: &'static str },
    /// Wrong passphrase, or the file was altered: with this sealing the two look alike.
    #[error("the passphrase does not open `{}`", path.display())]
    Locked { path: PathBuf },
    /// Encoding failed inside the PKCS#8 library.
    #[error("the key could not be encoded as PKCS#8")]
    Encode,
}

impl Signer {
    /// A new key from the kernel's randomness.
    pub fn generate(name: KeyName) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(KeyError::Random)?;
        Ok(Self::from_secret(name, SigningKey::from_bytes(&seed)))
    }

    fn from_secret(name: KeyName, secret: SigningKey) -> Self {
        let key = secret.verifying_key();
        Self { public: VerifierKey { id: key_id(&name, key.as_bytes()), name, key }, secret }
    }

    /// The public half.
    pub const fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// Signs exactly these bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }

    /// Writes the key to a new file of mode 0600, sealed with the passphrase.
    pub fn write_sealed(&self, path: &Path, passphrase: &Passphrase) -> Result<(), KeyError> {
        let der = self.der()?;
        let info = PrivateKeyInfoRef::try_from(der.as_bytes()).map_err(|_cause| KeyError::Encode)?;
        let (mut salt, mut iv) = ([0; SALT_LEN], [0; IV_LEN]);
        getrandom::fill(&mut salt).map_err(KeyError::Random)?;
        getrandom::fill(&mut iv).map_err(KeyError::Random)?;
        let parameters = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, &salt, iv)
            .map_err(|_cause| KeyError::Encode)?;
        let sealed =
            info.encrypt_with_params(parameters, passphrase.0.as_bytes()).map_err(|_cause| KeyError::Encode)?;
        self.write(path, &sealed, "ENCRYPTED PRIVATE KEY")
    }

    /// Reads a key that [`Signer::write_sealed`] wrote. A key that is not sealed is refused: a signer's key lies on a disk.
    pub fn read_sealed(path: &Path, passphrase: &Passphrase) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { path: path.to_owned(), wanted: "sealed key of Theriac" };
        let text = read_private(path)?;
        let (name, pem) = split_file(&text).ok_or_else(malformed)?;
        if !pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(malformed());
        }
        match SigningKey::from_pkcs8_encrypted_pem(pem, passphrase.0.as_bytes()) {
            Ok(secret) => Ok(Self::from_secret(name, secret)),
            Err(_) => Err(KeyError::Locked { path: path.to_owned() }),
        }
    }

    /// PKCS#8 version 1, without the public key: openssl before 3.5 reads no version 2.
    fn der(&self) -> Result<SecretDocument, KeyError> {
        use pkcs8::EncodePrivateKey as _;
        let pair = ed25519_dalek::pkcs8::KeypairBytes { secret_key: self.secret.to_bytes(), public_key: None };
        pair.to_pkcs8_der().map_err(|_cause| KeyError::Encode)
    }

    fn write(&self, path: &Path, document: &SecretDocument, label: &'static str) -> Result<(), KeyError> {
        let pem = document.to_pem(label, LineEnding::LF).map_err(|_cause| KeyError::Encode)?;
        let failed = |doing| move |source| KeyError::File { doing, path: path.to_owned(), source };
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("create"))?;
        let text = Zeroizing::new(format!("{NAME_LINE}{}\n{}", self.public.name, pem.as_str()));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?}, secret …)", self.public)
    }
}

/// The host's own key for ledger checkpoints. It signs nothing that gives rights, so it lies unsealed in the runner's state
/// directory: a daemon that starts by itself has nobody to ask.
#[derive(Debug)]
pub struct HostKey(Signer);

impl HostKey {
    /// Opens the key, or makes it when there is none yet.
    pub fn open_or_create(path: &Path, name: &KeyName) -> Result<Self, KeyError> {
        match Self::open(path) {
            Err(KeyError::Open(TrustedError::Absent { .. })) => {
                let signer = Signer::generate(name.clone())?;
                signer.write(path, &signer.der()?, "PRIVATE KEY")?;
                Ok(Self(signer))
            }
            opened => opened,
        }
    }

    /// Opens the key.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { path: path.to_owned(), wanted: "host key of Theriac" };
        let text = read_private(path)?;
        let (name, pem) = split_file(&text).ok_or_else(malformed)?;
        let secret = SigningKey::from_pkcs8_pem(pem).map_err(|_cause| malformed())?;
        Ok(Self(Signer::from_secret(name, secret)))
    }

    /// The key as a signer of checkpoints.
    pub const fn signer(&self) -> &Signer {
        &self.0
    }

    /// The seed, for the journal, which signs its checkpoints itself.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret.to_bytes())
    }
}

fn split_file(text: &str) -> Option<(KeyName, &str)> {
    let (first, pem) = text.split_once('\n')?;
    let name = KeyName::parse(first.strip_prefix(NAME_LINE)?).ok()?;
    Some((name, pem))
}

/// Reads a small file that nobody but its owner (or root) can read or change. The opening rule has shown by then that
/// nobody else can exchange the file either, so its mode may be asked by name.
fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let bytes = Zeroizing::new(trusted::read_bytes(path, MAX_KEY_FILE)?);
    let meta = std::fs::symlink_metadata(path).map_err(|source| KeyError::File {
        doing: "examine",
        path: path.to_owned(),
        source,
    })?;
    if meta.mode() & 0o077 != 0 {
        return Err(KeyError::Readable { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    let malformed = |_| KeyError::Malformed { path: path.to_owned(), wanted: "text" };
    std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(malformed)
}

#[cfg(test)]
pub(crate) mod tests;
