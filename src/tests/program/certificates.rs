//! A real nginx over TLS with a certificate that only the user trusts, reached directly and through a proxy.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use hanzod::store::{Descriptor, Manifest, MediaType};
use hanzod::types::Digest;

use super::harness::{Home, bad, good, tiny, wait_until};

/// A name that no resolver knows, so only the proxy can be asked for it.
const HOST: &str = "registry.invalid";

/// Ends with the test.
struct Nginx {
    child: Child,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `None` where the program is not installed.
fn found(program: &str) -> Option<String> {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let path = folders.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if path.is_none() {
        println!("skipped: `{program}` is not installed (script/test installs it)");
    }
    Some(path?.display().to_string())
}

/// An authority (`ca.pem`), and a certificate of its for this machine and [`HOST`].
fn certify(openssl: &str, folder: &Path) {
    std::fs::write(
        folder.join("names"),
        format!("subjectAltName=DNS:{HOST},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"),
    )
    .unwrap();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let run = |arguments: &[&[&str]]| {
        let done = Command::new(openssl).args(arguments.concat()).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run(&[
        &["req", "-x509"],
        &key,
        &["-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"],
    ]);
    run(&[&["req"], &key, &["-subj", "/CN=Test registry", "-keyout", "own.key", "-out", "own.csr"]]);
    let sign = ["x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run(&[&sign, &["-days", "2", "-extfile", "names", "-out", "own.pem"]]);
}

/// The tiny model, as files that a registry would serve.
fn fill(folder: &Path) {
    let base = folder.join("v2/team/tiny");
    std::fs::create_dir_all(base.join("manifests")).unwrap();
    std::fs::create_dir_all(base.join("blobs")).unwrap();
    let blob = |kind, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(base.join("blobs").join(digest.to_string()), bytes).unwrap();
        Descriptor::new(kind, digest, bytes.len() as u64)
    };
    let weights = blob(MediaType::Model, &std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap());
    let config = blob(MediaType::Config, b"{\"model_format\":\"gguf\",\"model_family\":\"llama\"}");
    std::fs::write(base.join("manifests/latest"), Manifest::new(config, vec![weights]).to_bytes()).unwrap();
}

fn start(nginx: &str, folder: &Path) -> Nginx {
    // A port is free until somebody has it, and that may be another than nginx, which then ends.
    loop {
        let mut started =
            start_at(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(), nginx, folder);
        let mut ended = false;
        wait_until("nginx", || {
            ended = started.child.try_wait().unwrap().is_some();
            ended || folder.join("pid").exists()
        });
        if !ended {
            return started;
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(log.contains("in use"), "{log}");
    }
}

/// It writes its number into a file once it listens.
fn start_at(port: u16, nginx: &str, folder: &Path) -> Nginx {
    let at = folder.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.iter().map(|kind| format!("{kind}_temp_path {at}/{kind}; ")).collect();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/log;\nevents {{}}\nhttp {{ access_log off; {temporary}\n\
         server {{ listen 127.0.0.1:{port} ssl; root {at}; ssl_certificate {at}/own.pem; ssl_certificate_key {at}/own.key; }} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let (config, prefix) = (folder.join("nginx.conf"), folder.display().to_string());
    let child = Command::new(nginx)
        .args(["-c", config.to_str().unwrap(), "-p", &prefix, "-e", &format!("{prefix}/log")])
        .stderr(Stdio::null())
        .spawn();
    Nginx { child: child.unwrap(), port }
}

/// Opens a way to `to` for whoever asks for one, and notes what was asked for.
fn proxy(to: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let kept = asked.clone();
    std::thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            kept.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
            for (mut from, mut into) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    std::io::copy(&mut from, &mut into).ok();
                    into.shutdown(Shutdown::Write).ok();
                });
            }
        }
    });
    (port, asked)
}

#[test]
fn certificates_and_proxies_of_the_users_own() {
    let (Some(nginx), Some(openssl)) = (found("nginx"), found("openssl")) else { return };
    let folder = tempfile::tempdir().unwrap();
    certify(&openssl, folder.path());
    fill(folder.path());
    let nginx = start(&nginx, folder.path());
    let authority = folder.path().join("ca.pem").display().to_string();
    let pull = |host: &str, settings: &[(&str, &str)]| -> Output {
        let home = Home::new();
        let mut command = home.program(&["pull", &format!("{host}/team/tiny")]);
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        command.envs(settings.iter().copied()).output().unwrap()
    };

    let direct = format!("127.0.0.1:{}", nginx.port);
    let words = bad(pull(&direct, &[]));
    assert!(words.contains("certificate"), "{words}");
    for name in ["HANZOD_CA_FILE", "SSL_CERT_FILE"] {
        good(pull(&direct, &[(name, &authority)]));
    }

    let (port, asked) = proxy(nginx.port);
    let address = format!("http://127.0.0.1:{port}");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        good(pull(HOST, &[(name, &address), ("HANZOD_CA_FILE", &authority)]));
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        assert!(
            !asked.is_empty() && asked.iter().all(|line| *line == format!("CONNECT {HOST}:443 HTTP/1.1")),
            "{asked:?}"
        );
    }
    // This machine is never reached through one, nor is what the user names.
    good(pull(&direct, &[("HTTPS_PROXY", &address), ("HANZOD_CA_FILE", &authority)]));
    bad(pull(HOST, &[("HTTPS_PROXY", &address), ("NO_PROXY", HOST), ("HANZOD_CA_FILE", &authority)]));
    assert!(asked.lock().unwrap().is_empty());
}
