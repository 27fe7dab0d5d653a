//! A site whose certificate has expired is healed: a real nginx serves it, a real ACME authority (pebble) looks at the answer to its
//! challenge over HTTP and signs, the shipped remedy renews and reloads, and the runner's own look finds the new one served.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use theriac_model::effect::{Effect, UndoOutcome};
use theriac_model::program::{Jail, Network, ProgramEnding, ProgramSpec};
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::Bytes;
use theriac_protocol::runner::RunnerAnswer;
use theriac_runner::backend::supervised::Supervised;
use theriac_runner::hands::Programs as _;

use crate::host::{Host, PATIENCE, Setup, binary, free_port, pause, playbook, proposal};

pub(crate) const NAME: &str = "app.test";
pub(crate) const TARGET: &str = "certificate:site";
const RUNG: &str = "  - remedy: certificate-renew\n    level: 2\n    healed_within: 20s\n    stable_for: 500ms\n";
const PROGRAMS: [&str; 5] =
    ["/usr/sbin/nginx", "/usr/bin/pebble", "/usr/bin/pebble-challtestsrv", "/usr/bin/openssl", "/usr/bin/curl"];

/// Why it can't be played here.
pub(crate) fn impossible() -> Option<&'static str> {
    let missing = PROGRAMS.into_iter().any(|program| !Path::new(program).exists());
    missing.then_some("nginx, pebble, openssl and curl are needed, and one is not installed")
}

/// The authority and the site's directory; the processes end with it.
#[derive(Debug)]
pub(crate) struct Site {
    dir: PathBuf,
    http: u16,
    https: u16,
    authority: u16,
    manager: u16,
    children: Vec<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Site {
    /// In a scratch directory of a host: an expired pair, nginx's configuration, and a running authority.
    pub(crate) fn make(scratch: &Path) -> Self {
        let dir = scratch.join("site");
        fs::create_dir_all(dir.join("www")).unwrap();
        fs::create_dir_all(dir.join("tls")).unwrap();
        // The authority's user is not asked for here, but nginx's workers read the answers.
        fs::set_permissions(scratch, fs::Permissions::from_mode(0o755)).unwrap();
        let [http, https, authority, manager, dns, dns_manager] = [(); 6].map(|()| free_port());
        let mut site = Self { dir, http, https, authority, manager, children: Vec::new() };
        site.expire();
        site.configure_nginx();
        site.start_authority(dns, dns_manager);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn expire(&self) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2025, 2, 1);
        write(&self.path("tls/cert.pem"), &params.self_signed(&key).unwrap().pem(), 0o644);
        write(&self.path("tls/key.pem"), &key.serialize_pem(), 0o600);
    }

    fn configure_nginx(&self) {
        let (dir, http, https) = (self.dir.display(), self.http, self.https);
        let user = if crate::host::is_root() { "user root;" } else { "" };
        let text = format!(
            "daemon off; {user} pid {dir}/nginx.pid; error_log {dir}/nginx-error.log; worker_processes 1;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {dir}/nginx-access.log; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;\n\
             fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
             server {{ listen 127.0.0.1:{http}; root {dir}/www; }}\n\
             server {{ listen 127.0.0.1:{https} ssl; ssl_certificate {dir}/tls/cert.pem; ssl_certificate_key {dir}/tls/key.pem; return 200 ok; }} }}\n"
        );
        write(&self.path("nginx.conf"), &text, 0o644);
    }

    fn start_authority(&mut self, dns: u16, dns_manager: u16) {
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "the authority's own authority");
        let root_key = KeyPair::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        write(&self.path("ca.pem"), &root.self_signed(&root_key).unwrap().pem(), 0o644);
        write(&self.path("pebble.pem"), &own.pem(), 0o644);
        write(&self.path("pebble.key"), &key.serialize_pem(), 0o600);
        let config = format!(
            r#"{{"pebble":{{"listenAddress":"127.0.0.1:{}","managementListenAddress":"127.0.0.1:{}","certificate":{:?},"privateKey":{:?},"httpPort":{},"tlsPort":{},"ocspResponderURL":"","externalAccountBindingRequired":false}}}}"#,
            self.authority,
            self.manager,
            self.path("pebble.pem"),
            self.path("pebble.key"),
            self.http,
            self.https,
        );
        write(&self.path("pebble.json"), &config, 0o644);
        let resolver = format!("127.0.0.1:{dns}");
        let mut names = Command::new("/usr/bin/pebble-challtestsrv");
        names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &resolver, "-http01", ""]);
        names.args(["-https01", "", "-tlsalpn01", "", "-management", &format!("127.0.0.1:{dns_manager}")]);
        self.start(names, "names.log", dns_manager);
        let mut pebble = Command::new("/usr/bin/pebble");
        pebble.arg("-config").arg(self.path("pebble.json")).args(["-dnsserver", &resolver]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        self.start(pebble, "pebble.log", self.authority);
    }

    fn start(&mut self, mut command: Command, log: &str, port: u16) {
        let log = fs::File::create(self.path(log)).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.children.push(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "nobody listens on {port}");
            pause();
        }
    }

    /// What a host needs to know of it.
    pub(crate) fn setup(&self, config: &Path) -> Setup {
        let (dir, https) = (self.dir.display(), self.https);
        let rules = format!(
            "\n[[service]]\nname = \"nginx\"\nverbs = [\"reload\"]\ntraffic_share = 0.1\nhealth = [{{ tcp = \"127.0.0.1:{https}\", timeout = \"500ms\" }}]\n\
             \n[[certificate]]\nname = \"site\"\ncertificate = \"{dir}/tls/cert.pem\"\nkey = \"{dir}/tls/key.pem\"\nnames = [\"{NAME}\"]\n\
             address = \"127.0.0.1:{https}\"\nunit = \"nginx\"\nverbs = [\"renew\"]\nwebroot = \"{dir}/www\"\n"
        );
        let launcher = format!(
            "[[service]]\nname = \"nginx\"\ncommand = [\"/usr/sbin/nginx\", \"-c\", \"{dir}/nginx.conf\"]\nautostart = true\nrestart = \"never\"\nreload_signal = \"HUP\"\nstop_timeout = \"2s\"\n"
        );
        let acme = format!(
            "directory = \"https://127.0.0.1:{}/dir\"\nterms_agreed = true\naccount_key = \"{}\"\npublic_roots = false\nca_files = [\"{}\"]\n",
            self.authority,
            config.join("acme.key").display(),
            config.join("acme-ca.pem").display(),
        );
        fs::create_dir_all(config).unwrap();
        let account = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        write(&config.join("acme.key"), &account.serialize_pem(), 0o600);
        fs::copy(self.path("ca.pem"), config.join("acme-ca.pem")).unwrap();
        Setup { rules, launcher, acme: Some(acme), ..Setup::default() }
    }

    /// nginx is up and serves what it has.
    pub(crate) fn wait_until_served(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.served().is_none() {
            assert!(
                Instant::now() < deadline,
                "nginx serves nothing: {:?}",
                fs::read_to_string(self.path("nginx-error.log"))
            );
            pause();
        }
    }

    /// Fingerprint, and whether it is good now, of what is served; with other eyes than the runner's.
    pub(crate) fn served(&self) -> Option<(String, bool)> {
        let shown = shell(&["s_client", "-connect", &format!("127.0.0.1:{}", self.https), "-servername", NAME], "")?;
        let told = shell(&["x509", "-noout", "-fingerprint", "-sha256"], &shown)?;
        Some((told, shell(&["x509", "-noout", "-checkend", "0"], &shown).is_some()))
    }

    fn of_file(&self) -> String {
        let text = fs::read_to_string(self.path("tls/cert.pem")).unwrap();
        shell(&["x509", "-noout", "-fingerprint", "-sha256"], &text).unwrap()
    }

    /// A client that trusts the authority's root finds nothing wrong with the name, the chain and the times.
    fn is_trusted(&self) -> bool {
        let fetch = |what: &str| {
            let url = format!("https://127.0.0.1:{}/{what}/0", self.manager);
            let output =
                Command::new("/usr/bin/curl").args(["-sSf", "--cacert"]).arg(self.path("ca.pem")).arg(url).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        write(&self.path("root.pem"), &fetch("roots"), 0o644);
        let root = self.path("root.pem").display().to_string();
        let connect = format!("127.0.0.1:{}", self.https);
        let arguments = [
            "s_client",
            "-connect",
            &connect,
            "-servername",
            NAME,
            "-CAfile",
            &root,
            "-verify_return_error",
            "-verify_hostname",
            NAME,
        ];
        shell(&arguments, "").is_some()
    }

    /// Key and certificate belong together, nobody else can read the key, and nothing is left over, whatever happened.
    pub(crate) fn check_whole(&self) {
        let public = |arguments: &[&str], file: &str| shell(arguments, &fs::read_to_string(self.path(file)).unwrap());
        let of_certificate = public(&["x509", "-noout", "-pubkey"], "tls/cert.pem").unwrap();
        assert_eq!(of_certificate, public(&["pkey", "-pubout"], "tls/key.pem").unwrap(), "they are no pair");
        assert_eq!(fs::metadata(self.path("tls/key.pem")).unwrap().permissions().mode() & 0o7777, 0o600);
        let names = |dir: &str| -> Vec<String> {
            let Ok(entries) = fs::read_dir(self.path(dir)) else { return Vec::new() };
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
        };
        let mut pair = names("tls");
        pair.sort();
        assert_eq!(pair, ["cert.pem", "key.pem"], "a half is left over");
        assert_eq!(names("www/.well-known/acme-challenge"), Vec::<String>::new(), "an answer is left over");
    }

    /// The file has a certificate that is good now.
    pub(crate) fn is_renewed(&self) -> bool {
        let text = fs::read_to_string(self.path("tls/cert.pem")).unwrap();
        shell(&["x509", "-noout", "-checkend", "0"], &text).is_some()
    }
}

/// openssl's answer, if it is content.
fn shell(arguments: &[&str], input: &str) -> Option<String> {
    use std::io::Write as _;
    let mut command = Command::new("/usr/bin/openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

struct Stage {
    // Dropped in this order: the host's processes first.
    host: Host,
    site: Site,
}

fn stage() -> Option<Stage> {
    if let Some(why) = impossible() {
        println!("not possible here: {why}");
        return None;
    }
    let dir = Host::scratch();
    let site = Site::make(dir.path());
    let mut setup = site.setup(&dir.path().join("config"));
    setup.remedies = vec!["certificate-renew"];
    setup.playbooks = vec![("case.yaml", playbook("case", "certificate-expiry", TARGET, RUNG))];
    let host = Host::start_in(dir, &setup);
    site.wait_until_served();
    Some(Stage { host, site })
}

#[test]
fn an_expired_certificate_is_renewed_by_a_real_authority_and_served() {
    let Some(Stage { host, site }) = stage() else { return };
    let (old, good) = site.served().unwrap();
    assert!(!good && !site.is_trusted(), "it has expired");
    let began = Instant::now();
    let run = host.heal(&proposal("i-1", "certificate-expiry", TARGET, "case", "certificate-renew"));
    println!("certificate healed after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(run.state, RunState::Committed, "{:#?}\n{}", host.records(), host.log("theriac-courier"));
    let (new, good) = site.served().unwrap();
    assert!(good && new != old && new == site.of_file());
    assert!(site.is_trusted(), "a client that trusts the authority is content");
    site.check_whole();
    let verbs: Vec<&str> = host
        .records()
        .iter()
        .filter_map(|record| if let Record::Intent { effect, .. } = record { Some(effect.verb()) } else { None })
        .collect();
    assert_eq!(verbs, ["renew", "reload"]);
    let asked = fs::read_to_string(site.path("nginx-access.log")).unwrap();
    assert!(asked.contains("/.well-known/acme-challenge/"), "the authority looked: {asked}");
    let written: String = host.records().iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    assert!(!written.contains("PRIVATE KEY"));
    host.verify_ledger();
}

#[test]
fn what_was_renewed_and_not_loaded_is_loaded_and_no_authority_is_asked() {
    let Some(Stage { host, site }) = stage() else { return };
    // Somebody renewed it by hand and forgot the reload.
    let key = KeyPair::generate().unwrap();
    let theirs = CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    write(&site.path("tls/key.pem"), &key.serialize_pem(), 0o600);
    write(&site.path("tls/cert.pem"), &theirs.pem(), 0o644);
    assert!(!site.served().unwrap().1);
    let run = host.heal(&proposal("i-1", "certificate-expiry", TARGET, "case", "certificate-renew"));
    assert_eq!(run.state, RunState::Committed, "{:#?}", host.records());
    assert_eq!(site.served().unwrap(), (site.of_file(), true));
    let renewed = |record: &Record| matches!(record, Record::Intent { effect: Effect::Certificate(_), .. });
    assert!(!host.records().iter().any(renewed));
    assert!(!fs::read_to_string(site.path("pebble.log")).unwrap().contains("new-order"), "nobody was asked");
}

#[test]
fn a_server_that_goes_on_with_the_old_one_gets_its_files_back_and_is_told_again() {
    if let Some(why) = impossible() {
        println!("not possible here: {why}");
        return;
    }
    let dir = Host::scratch();
    let site = Site::make(dir.path());
    // What it is told to load is not what it loads: only what is served tells.
    fs::copy(site.path("tls/cert.pem"), site.path("copy.pem")).unwrap();
    fs::copy(site.path("tls/key.pem"), site.path("copy.key")).unwrap();
    let conf = fs::read_to_string(site.path("nginx.conf")).unwrap();
    let conf = conf.replace("tls/cert.pem", "copy.pem").replace("tls/key.pem", "copy.key");
    write(&site.path("nginx.conf"), &conf.replace("nginx-error.log;", "nginx-error.log notice;"), 0o644);
    let mut setup = site.setup(&dir.path().join("config"));
    setup.remedies = vec!["certificate-renew"];
    let rung = RUNG.replace("20s", "2s");
    setup.playbooks = vec![("case.yaml", playbook("case", "certificate-expiry", TARGET, &rung))];
    let host = Host::start_in(dir, &setup);
    site.wait_until_served();
    let before = site.of_file();
    let run = host.heal(&proposal("i-1", "certificate-expiry", TARGET, "case", "certificate-renew"));
    assert_eq!(run.state, RunState::Undone, "{:#?}", host.records());
    assert_eq!(site.of_file(), before);
    site.check_whole();
    let reloads = || fs::read_to_string(site.path("nginx-error.log")).unwrap().matches("(SIGHUP) received").count();
    assert_eq!(reloads(), 2, "once for the new one, once for the old one");
    host.verify_ledger();
}

#[test]
fn an_authority_that_does_not_find_the_answer_changes_nothing_and_is_not_asked_again() {
    if let Some(why) = impossible() {
        println!("not possible here: {why}");
        return;
    }
    let dir = Host::scratch();
    let site = Site::make(dir.path());
    let mut setup = site.setup(&dir.path().join("config"));
    // The operator names a webroot that the web server does not show.
    fs::create_dir(dir.path().join("site/other")).unwrap();
    setup.rules = setup.rules.replace("/www\"", "/other\"");
    setup.remedies = vec!["certificate-renew"];
    setup.playbooks = vec![("case.yaml", playbook("case", "certificate-expiry", TARGET, RUNG))];
    let host = Host::start_in(dir, &setup);
    site.wait_until_served();
    let before = site.of_file();
    let first = proposal("i-1", "certificate-expiry", TARGET, "case", "certificate-renew");
    let run = host.heal(&first);
    assert_eq!(run.state, RunState::Undone, "{:#?}", host.records());
    assert_eq!(site.of_file(), before);
    site.check_whole();
    assert!(
        host.records()
            .iter()
            .any(|record| matches!(record, Record::UndoDone { outcome: UndoOutcome::NotNeeded { .. }, .. }))
    );
    let again = proposal("i-2", "certificate-expiry", TARGET, "case", "certificate-renew");
    let RunnerAnswer::Accepted { .. } = host.propose(&again) else { panic!("not accepted") };
    let run = host.wait_for(&again, RunState::is_terminal);
    assert_eq!(run.state, RunState::Refused, "{:#?}", host.records());
    let denied = |record: &Record| matches!(record, Record::Denied { denial, .. } if denial.rule == "between");
    assert!(host.records().iter().any(denied), "{:#?}", host.records());
}

const CERTBOT: &str = "/usr/bin/certbot";
/// The jail's user.
const NOBODY: u32 = 65_533;

/// For those who stay with certbot: it is a program like others.
#[test]
fn certbot_renews_in_the_jail_and_without_a_network_it_gets_nowhere() {
    let missing = [CERTBOT, "/usr/bin/bwrap"].into_iter().find(|path| !Path::new(path).exists());
    let root = crate::host::is_root();
    if let Some(why) = impossible().or(missing).or((!root).then_some("root is needed to become the jail's user")) {
        return println!("not possible here: {why}");
    }
    // Of what a program may change, every directory above is root's.
    let scratch = tempfile::tempdir_in("/opt").unwrap();
    let mut site = Site::make(scratch.path());
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.arg("-c").arg(site.path("nginx.conf"));
    site.start(nginx, "nginx.log", site.https);
    let (own, www) = (scratch.path().join("certbot"), site.path("www"));
    fs::create_dir(&own).unwrap();
    for dir in [&own, &www] {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    write(&scratch.path().join("launcher.toml"), &format!("[[program]]\npath = \"{CERTBOT}\"\n"), 0o644);
    let mut launcher = Command::new(binary("theriac-launcher"))
        .arg("--config")
        .arg(scratch.path())
        .arg("--state")
        .arg(scratch.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let socket = scratch.path().join("run/launcher.sock");
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "no launcher");
        pause();
    }
    let programs = Supervised::new(&socket, 1);
    let run = |network| {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut argv: Vec<String> = [CERTBOT, "certonly", "--non-interactive", "--agree-tos", "--no-verify-ssl", "-q"]
            .map(ToOwned::to_owned)
            .to_vec();
        argv.extend(["--register-unsafely-without-email", "--webroot", "-d", NAME, "-w"].map(ToOwned::to_owned));
        argv.extend([text(&www), "--server".to_owned(), format!("https://127.0.0.1:{}/dir", site.authority)]);
        for (option, dir) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
            argv.extend([option.to_owned(), text(&own.join(dir))]);
        }
        let write = [&own, &www].map(|dir| MountPath::parse(&text(dir)).unwrap()).to_vec();
        let jail = Jail { uid: NOBODY, gid: NOBODY, read: Vec::new(), write, network };
        programs.run(&ProgramSpec { argv, jail, timeout: Span::from_secs(120), output: Bytes(16 << 10) }).unwrap()
    };
    let renewed = own.join(format!("config/live/{NAME}/fullchain.pem"));

    let alone = run(Network::None);
    assert!(matches!(alone.ending, ProgramEnding::Exited { code: 1.. }) && !renewed.exists(), "{alone:?}");
    let output = run(Network::Host);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    assert_eq!(output.ending, ProgramEnding::Exited { code: 0 }, "{}", String::from_utf8_lossy(&output.stderr.0));
    let text = fs::read_to_string(renewed).unwrap();
    assert!(shell(&["x509", "-noout", "-checkend", "0", "-checkhost", NAME], &text).is_some());
}
