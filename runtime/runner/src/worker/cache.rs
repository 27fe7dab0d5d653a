//! Compiled components, each with a MAC under a key of this host.
//!
//! `Component::deserialize` accepts 97 % of artefacts with a flipped bit and a wrong one can crash its worker, so nothing is
//! handed to a worker that a compile worker of ours did not make. A cache that can't be read or written is no fault: the
//! component is compiled again.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use theriac_model::id::Digest;
use theriac_protocol::worker::MAX_ARTEFACT;

use super::Artefact;

const MAC_LEN: usize = 32;
const KEY_LEN: usize = 32;

/// The cache directory and its key.
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; KEY_LEN],
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
#[error("can't use the cache `{}`", dir.display())]
pub(crate) struct CacheError {
    dir: PathBuf,
    #[source]
    source: io::Error,
}

impl std::fmt::Debug for Cache {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens the cache, and makes directory and key where they are missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError { dir: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let meta = fs::symlink_metadata(dir).map_err(failed)?;
        if !meta.is_dir() || meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(failed(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it must be a directory of ours with mode 0700",
            )));
        }
        Ok(Self { dir: dir.to_owned(), key: key(&dir.join("mac.key")).map_err(failed)? })
    }

    /// The artefact of this component and engine, if it is there and is ours.
    pub(crate) fn get(&self, component: Digest, engine: &str) -> Option<Artefact> {
        let file = file(&self.path(component, engine)).ok()?;
        let mut all = Vec::new();
        file.take(MAX_ARTEFACT + 65_536).read_to_end(&mut all).ok()?;
        let (mac, body) = all.split_at_checked(MAC_LEN)?;
        self.mac(component, engine, body)?.verify_slice(mac).ok()?;
        let (length, rest) = body.split_first_chunk::<4>()?;
        let (imports, bytes) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let imports = serde_json::from_slice(imports).ok()?;
        Some(Artefact { bytes: bytes.to_vec(), imports, engine: engine.to_owned() })
    }

    /// Keeps it: temporary file, then rename, so that a half-written one is never found.
    pub(crate) fn put(&self, component: Digest, artefact: &Artefact) -> io::Result<()> {
        let imports = serde_json::to_vec(&artefact.imports)?;
        let length = u32::try_from(imports.len()).map_err(io::Error::other)?;
        let mut body = length.to_be_bytes().to_vec();
        body.extend_from_slice(&imports);
        body.extend_from_slice(&artefact.bytes);
        let mac = self
            .mac(component, &artefact.engine, &body)
            .ok_or_else(|| io::Error::other("no MAC"))?
            .finalize()
            .into_bytes();
        let path = self.path(component, &artefact.engine);
        let half = path.with_extension("half");
        // What a runner that died left there. Made anew, so that no link is written through.
        match fs::remove_file(&half) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        file.write_all(&mac)?;
        file.write_all(&body)?;
        fs::rename(half, path)
    }

    fn path(&self, component: Digest, engine: &str) -> PathBuf {
        self.dir.join(format!("{}-{}.artefact", component.hex(), Digest::of(engine.as_bytes()).short()))
    }

    /// Over what the artefact was made from as well, so that one remedy's artefact is never taken for another's.
    fn mac(&self, component: Digest, engine: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(b"theriac.artefact/v1\0");
        mac.update(component.as_bytes());
        mac.update(&(engine.len() as u64).to_be_bytes());
        mac.update(engine.as_bytes());
        mac.update(body);
        Some(mac)
    }
}

/// A regular file of ours with one name: a link is not followed, and a FIFO does not hold the runner up.
fn file(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.nlink() == 1 && meta.uid() == rustix::process::geteuid().as_raw() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it must be a regular file of ours with one name"))
    }
}

fn key(path: &Path) -> io::Result<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    match file(path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            return Ok(key);
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artefact() -> Artefact {
        Artefact {
            bytes: b"machine code".to_vec(),
            imports: vec!["theriac:remedy/log@0.1.0".into()],
            engine: "e1".into(),
        }
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        (dir, cache)
    }

    #[test]
    fn what_was_kept_comes_back_after_a_restart() {
        let (dir, cache) = cache();
        let component = Digest::of(b"c");
        cache.put(component, &artefact()).unwrap();
        let again = Cache::open(&dir.path().join("cache")).unwrap();
        assert_eq!(again.get(component, "e1").unwrap().bytes, b"machine code");
    }

    // AC01, AC03.
    #[test]
    fn a_flipped_bit_anywhere_means_compile_again() {
        let (_dir, cache) = cache();
        let component = Digest::of(b"c");
        cache.put(component, &artefact()).unwrap();
        let path = cache.path(component, "e1");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(cache.get(component, "e1").is_none(), "byte {at}");
        }
    }

    // AC01.
    #[test]
    fn an_artefact_of_another_remedy_or_engine_is_not_taken() {
        let (_dir, cache) = cache();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        cache.put(a, &artefact()).unwrap();
        fs::copy(cache.path(a, "e1"), cache.path(b, "e1")).unwrap();
        fs::copy(cache.path(a, "e1"), cache.path(a, "e2")).unwrap();
        assert!(cache.get(b, "e1").is_none() && cache.get(a, "e2").is_none());
        assert!(cache.get(a, "e1").is_some());
    }

    // AC02.
    #[test]
    fn a_directory_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cache::open(dir.path()).is_err());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Cache::open(dir.path()).is_ok());
    }

    // AC02.
    #[test]
    fn a_link_a_second_name_or_a_fifo_in_the_cache_is_not_taken() {
        let (dir, cache) = cache();
        let component = Digest::of(b"c");
        cache.put(component, &artefact()).unwrap();
        let path = cache.path(component, "e1");
        assert!(cache.get(component, "e1").is_some());
        let aside = dir.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        assert!(cache.get(component, "e1").is_none(), "a link to the very artefact");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&aside, &path).unwrap();
        assert!(cache.get(component, "e1").is_none(), "a second name of it");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(cache.get(component, "e1").is_none(), "and nobody waits for a writer");
        // What is written takes the place of what was there, and follows nothing.
        let victim = dir.path().join("victim");
        fs::write(&victim, "theirs").unwrap();
        std::os::unix::fs::symlink(&victim, path.with_extension("half")).unwrap();
        cache.put(component, &artefact()).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"theirs");
        assert_eq!(cache.get(component, "e1").unwrap().bytes, b"machine code");
    }

    // AC05.
    #[test]
    fn what_was_only_half_written_is_never_found() {
        let (_dir, cache) = cache();
        let component = Digest::of(b"c");
        cache.put(component, &artefact()).unwrap();
        let path = cache.path(component, "e1");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(cache.get(component, "e1").is_none(), "{length} bytes");
        }
        fs::remove_file(&path).unwrap();
        fs::write(path.with_extension("half"), &whole).unwrap();
        assert!(cache.get(component, "e1").is_none());
        cache.put(component, &artefact()).unwrap();
        assert!(cache.get(component, "e1").is_some());
    }
}
