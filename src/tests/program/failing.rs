//! A disk that fails, as `strace` makes it: pulls say so, nothing wrong stays, and the next one goes well.

use std::path::Path;
use std::process::Output;

use super::calls::{can_watch, under_strace};
use super::harness::{Home, bad};
use super::store::check;
use crate::registry::{Registry, pushed};

/// Runs the program while these system calls of its fail.
fn with_fault(home: &Home, fault: &str, arguments: &[&str]) -> Output {
    let inject = format!("inject={fault}");
    under_strace(&home.program(arguments), &["-qq", "-o", "/dev/null", "-e", &inject]).output().unwrap()
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).into_iter().flatten().flatten().count()
}

#[tokio::test]
async fn f30_f31_f32_syncs_and_writes_that_fail() {
    let folder = tempfile::tempdir().unwrap();
    if !can_watch() {
        return;
    }
    let Some(registry) = Registry::start(folder.path()) else { return };
    let (name, _) = pushed(&registry, folder.path()).await;
    // After a sync that failed nothing of the file is kept; what a full disk has taken is.
    for (fault, why, kept) in [
        ("fsync:error=EIO", "Input/output error", false),
        ("pwrite64:error=ENOSPC:when=2+", "No space left on device", true),
        ("pwrite64:error=EDQUOT:when=2+", "Disk quota exceeded", true),
        ("pwrite64:error=EIO", "Input/output error", true),
    ] {
        let home = Home::new();
        let words = bad(with_fault(&home, fault, &["pull", &name, "--insecure"]));
        assert!(words.contains(why), "{fault}: {words}");
        assert_eq!(check(&home.store()), 0, "{fault}");
        assert_eq!(count(&home.store().join("hanzod/partial")) > 0, kept, "{fault}");
        home.good(&["pull", &name, "--insecure"]);
        assert_eq!(check(&home.store()), 1, "{fault}");
        assert_eq!(count(&home.store().join("hanzod/partial")), 0, "{fault}");
    }
}
