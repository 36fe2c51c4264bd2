//! A pull whose process is stopped for longer than it waits for anybody (F28), and goes on as if nothing had been.

use std::time::Duration;

use hanzod::store::Store;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Home, wait_until};
use super::puller::{self, RANGE, STALL, STREAMS};
use super::served::{Registry, noise};
use super::store::check;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_end_a_pull() {
    let weights = noise(&mut ChaCha8Rng::seed_from_u64(28), 16 << 20);
    let registry = Registry::new(&[("model", weights)], 16 << 10, Duration::from_millis(60));
    let name = format!("{}/library/random:latest", registry.serve().await);
    let home = Home::new();
    Store::open(&home.store()).unwrap();
    let mut child =
        puller::program(&home.store(), &name, u64::MAX).stdout(std::process::Stdio::null()).spawn().unwrap();
    // All of it would take a quarter of a minute.
    wait_until("a part of it", || registry.sent() > registry.size() / 32);
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    std::thread::sleep(3 * STALL / 2);
    assert!(child.try_wait().unwrap().is_none() && check(&home.store()) == 0, "it was too quick to be stopped");
    registry.hurry();
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(check(&home.store()), 1);
    // What was on its way may have been given up, on every connection.
    let most = registry.size() + STREAMS as u64 * RANGE;
    assert!(registry.sent() <= most, "{} bytes were sent of {}", registry.sent(), registry.size());
}
