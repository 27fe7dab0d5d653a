//! A real engine of the test's own: podman's Docker-compatible service on a socket in a scratch directory, with storage of its own and
//! one image made of a static busybox.

use std::cell::RefCell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const BUSYBOX: &str = "/bin/busybox";
/// Ends at once when it is asked to, unlike a shell that waits for its child.
pub(super) const OBEDIENT: &str = "trap 'exit 0' TERM; echo started; echo trouble >&2; while :; do sleep 0.05; done";

/// What the engine needs on any machine: no systemd, no limits that an outer one forbids.
const ENGINE: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"#;

pub(super) struct Podman {
    service: Child,
    dir: tempfile::TempDir,
    created: RefCell<Vec<String>>,
}

/// Runs the test with an engine, or says why there is none.
pub(super) fn with_podman(test: impl FnOnce(&Podman)) {
    let missing: Vec<&str> =
        ["/usr/bin/podman", BUSYBOX].into_iter().filter(|path| !Path::new(path).exists()).collect();
    if !missing.is_empty() || !rustix::process::geteuid().is_root() {
        return println!(
            "not possible here: a container engine needs root, podman and busybox-static ({missing:?} missing)"
        );
    }
    test(&Podman::start());
}

/// Waits for the thing itself.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Podman {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n", path("graph"), path("run"));
        fs::write(path("containers.conf"), ENGINE).unwrap();
        fs::write(path("storage.conf"), storage).unwrap();
        let service = Command::new("/usr/bin/podman")
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", path("engine.sock").display()))
            .env("CONTAINERS_CONF", path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", path("storage.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let podman = Self { service, dir, created: RefCell::default() };
        until("the engine", || UnixStream::connect(podman.socket()).ok());
        podman.image("localhost/test:latest", "test", &[]);
        podman
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// An image cannot be pulled where there is no network: it is a tar of busybox, links to it, a file that says which version this
    /// is, and empty files. The tag names the newest one.
    pub(super) fn image(&self, name: &str, version: &str, files: &[&str]) {
        let root = self.dir.path().join(format!("root-{version}"));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "cat"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("version"), format!("{version}\n")).unwrap();
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-cf", "-", "."]).output().unwrap();
        assert!(tar.status.success());
        let path = format!("/images/create?fromSrc=-&repo={}", name.replace(':', "%3A"));
        let (status, answer) = self.ask("POST", &path, "application/x-tar", &tar.stdout);
        assert_eq!(status, 200, "{answer}");
    }

    /// One request, as a person with the socket would send it.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} /v1.41{path} HTTP/1.1\r\nhost: engine\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    /// Makes a container that runs this script; its id.
    pub(super) fn create(&self, name: &str, script: &str, more: &Value) -> String {
        self.make(name, "localhost/test", script, more)
    }

    /// The same from an image.
    pub(super) fn create_from(&self, name: &str, image: &str, script: &str) -> String {
        self.make(name, image, script, &json!({}))
    }

    fn make(&self, name: &str, image: &str, script: &str, more: &Value) -> String {
        let mut wish = json!({
            "Image": image,
            "Cmd": ["/bin/sh", "-c", script],
            "HostConfig": { "NetworkMode": "none" },
        });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/containers/create?name={name}");
        let (status, answer) = self.ask("POST", &path, "application/json", wish.to_string().as_bytes());
        assert_eq!(status, 201, "{answer}");
        // The answer may come in chunks: the id is the only text of 64 digits in it.
        let digits = |part: &&str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let id = answer.split('"').find(digits).unwrap().to_owned();
        self.created.borrow_mut().push(id.clone());
        id
    }

    /// The engine's own word for how it is.
    pub(super) fn status(&self, name: &str) -> String {
        let (_, answer) = self.ask("GET", &format!("/containers/{name}/json"), "text/plain", b"");
        answer.split_once("\"Status\":\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default().to_owned()
    }

    /// A person's own `start`, `stop` or `restart`.
    pub(super) fn by_hand(&self, name: &str, verb: &str) {
        let (status, answer) = self.ask("POST", &format!("/containers/{name}/{verb}?t=5"), "text/plain", b"");
        assert!(matches!(status, 204 | 304), "{status} {answer}");
    }

    pub(super) fn remove(&self, name: &str) {
        let (status, answer) = self.ask("DELETE", &format!("/containers/{name}?force=1"), "text/plain", b"");
        assert!(matches!(status, 200 | 204 | 404), "{status} {answer}");
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What runs in them outlives the engine. One that is removed while it is being stopped is forgotten, and runs on.
        for id in self.created.take() {
            self.ask("POST", &format!("/containers/{id}/kill?signal=KILL"), "text/plain", b"");
            until("a container to be down", || (!matches!(&*self.status(&id), "running" | "stopping")).then_some(()));
            until("a container to be gone", || {
                let (status, _) = self.ask("DELETE", &format!("/containers/{id}?force=1&t=0"), "text/plain", b"");
                matches!(status, 200 | 204 | 404).then_some(())
            });
        }
        self.service.kill().unwrap();
        self.service.wait().unwrap();
    }
}
