//! The ed25519 key by which a registry knows this user: an OpenSSH file, read or made, and signatures with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};

use super::PullError;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const KIND: &[u8] = b"ssh-ed25519";
/// A key file longer than this is none.
const LONGEST: u64 = 64 << 10;

pub(super) struct Key(SigningKey);

impl Key {
    /// Reads the key at `path`; makes one, and its `.pub`, where there is none.
    pub(super) fn load_or_create(path: &Path) -> Result<Self, PullError> {
        let failed = |why: String| PullError::Key { path: path.display().to_string(), why };
        match OpenOptions::new().read(true).open(path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(LONGEST).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
                Self::decode(&text).map_err(|why| failed(why.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(path).map_err(|error| failed(error.to_string()))?;
                let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
                Self::decode(&text).map_err(|why| failed(why.into()))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Writes a new key whole, beside `path`, and links it there: of two programs that do so, one wins for both.
    fn create(path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            fs::create_dir_all(folder)?;
        }
        let key = Self(SigningKey::from_bytes(&random()?));
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        fs::remove_file(&fresh).ok();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(key.encode(random()?).as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&fresh, path);
        fs::remove_file(&fresh)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            linked => linked?,
        }
        let public = path.with_extension("pub");
        fs::write(&public, key.public_line())?;
        fs::set_permissions(&public, fs::Permissions::from_mode(0o644))
    }

    fn public_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put(&mut blob, KIND);
        put(&mut blob, self.0.verifying_key().as_bytes());
        blob
    }

    pub(super) fn public_line(&self) -> String {
        format!("ssh-ed25519 {}\n", STANDARD.encode(self.public_blob()))
    }

    /// `<public key>:<signature>`, as a registry wants it in `Authorization`.
    pub(super) fn authorization(&self, message: &str) -> String {
        let signature = self.0.sign(message.as_bytes()).to_bytes();
        format!("{}:{}", STANDARD.encode(self.public_blob()), STANDARD.encode(signature))
    }

    fn encode(&self, salt: [u8; 32]) -> String {
        let mut private = Vec::new();
        // Twice the same number: how a reader knows that it has decrypted well.
        private.extend_from_slice(&salt[..4]);
        private.extend_from_slice(&salt[..4]);
        private.extend_from_slice(&self.public_blob());
        put(&mut private, &self.0.to_keypair_bytes());
        put(&mut private, b"");
        for pad in 1..=(8 - private.len() % 8) % 8 {
            private.push(u8::try_from(pad).expect("padding is short: a bug"));
        }
        let mut blob = MAGIC.to_vec();
        put(&mut blob, b"none");
        put(&mut blob, b"none");
        put(&mut blob, b"");
        blob.extend_from_slice(&1_u32.to_be_bytes());
        put(&mut blob, &self.public_blob());
        put(&mut blob, &private);
        let text = STANDARD.encode(blob);
        let mut lines = vec![BEGIN];
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(70));
            lines.push(line);
            rest = tail;
        }
        lines.extend([END, ""]);
        lines.join("\n")
    }

    fn decode(text: &str) -> Result<Self, &'static str> {
        const BROKEN: &str = "it is no OpenSSH key";
        let text = text.trim();
        let body = text.strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END)).ok_or(BROKEN)?;
        let body: String = body.split_ascii_whitespace().collect();
        let blob = STANDARD.decode(body).map_err(|_| BROKEN)?;
        let mut rest = blob.strip_prefix(MAGIC).ok_or(BROKEN)?;
        let cipher = take(&mut rest).ok_or(BROKEN)?;
        take(&mut rest).and_then(|_| take(&mut rest)).ok_or(BROKEN)?;
        if cipher != b"none" {
            return Err("it has a passphrase");
        }
        rest = rest.strip_prefix(&1_u32.to_be_bytes()).ok_or(BROKEN)?;
        take(&mut rest).ok_or(BROKEN)?;
        let mut private = take(&mut rest).and_then(|private| private.get(8..)).ok_or(BROKEN)?;
        if take(&mut private) != Some(KIND) {
            return Err("it is no ed25519 key");
        }
        take(&mut private).ok_or(BROKEN)?;
        let pair = take(&mut private).and_then(|pair| pair.try_into().ok()).ok_or(BROKEN)?;
        SigningKey::from_keypair_bytes(&pair).map(Self).map_err(|_| BROKEN)
    }
}

/// Appends a string of the SSH protocol: its length, then itself.
fn put(blob: &mut Vec<u8>, text: &[u8]) {
    let length = u32::try_from(text.len()).expect("a field of a key is short: a bug");
    blob.extend_from_slice(&length.to_be_bytes());
    blob.extend_from_slice(text);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (text, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = tail;
    Some(text)
}

/// Random bytes of the system's.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519` for this test alone.
    const FOREIGN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
        b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
        QyNTUxOQAAACDvZsTvvBp28M5qW+RwvUnwghwcMYExpGSRWIpMrg21XAAAAIjpIexw6SHs\n\
        cAAAAAtzc2gtZWQyNTUxOQAAACDvZsTvvBp28M5qW+RwvUnwghwcMYExpGSRWIpMrg21XA\n\
        AAAEA1TRD0vqfx9rk4cU4VKmtm9jNAr/R5qywRo4NV0/xj9u9mxO+8Gnbwzmpb5HC9SfCC\n\
        HBwxgTGkZJFYikyuDbVcAAAABHRlc3QB\n\
        -----END OPENSSH PRIVATE KEY-----";
    const FOREIGN_PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO9mxO+8Gnbwzmpb5HC9SfCCHBwxgTGkZJFYikyuDbVc";

    #[test]
    fn made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("id_ed25519");
        let made = Key::load_or_create(&path).unwrap();
        let read = Key::load_or_create(&path).unwrap();
        assert_eq!(made.0.to_bytes(), read.0.to_bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(path.with_extension("pub")).unwrap(), read.public_line());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn reads_what_openssh_writes() {
        let key = Key::decode(FOREIGN).unwrap();
        assert!(key.public_line().trim_end() == FOREIGN_PUBLIC, "{}", key.public_line());
        assert_eq!(Key::decode(&key.encode([7; 32])).unwrap().public_line(), key.public_line());
        let cut = FOREIGN.len() / 2;
        for bad in ["", BEGIN, &FOREIGN[..cut], &format!("{BEGIN}\nAAAA\n{END}"), &FOREIGN.replacen("AAAA", "////", 1)]
        {
            assert!(Key::decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signatures_hold() {
        use ed25519_dalek::{Signature, Verifier as _};
        let key = Key(SigningKey::from_bytes(&[7; 32]));
        let header = key.authorization("GET,https://a.example/token?x=1,hash");
        let (public, signature) = header.split_once(':').unwrap();
        assert!(key.public_line().contains(public));
        let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
        key.0.verifying_key().verify(b"GET,https://a.example/token?x=1,hash", &signature).unwrap();
    }
}
