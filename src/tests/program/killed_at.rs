//! A pull that is killed before each call by which it changes the store, one after another (F27): in the last moments too, when a
//! blob gets its name and the manifest comes.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::Value;

use super::calls::{can_watch, under_strace, watch};
use super::harness::{Home, good};
use super::served::{Registry, noise};
use super::store::check;

/// Calls that change what stands in the store, or make sure of it.
const CHANGES: &str = "openat,write,pwrite64,ftruncate,fchmod,fsync,fdatasync,?rename,renameat2,?link,linkat,?unlink,unlinkat,?mkdir,\
    mkdirat";

/// Kills a pull at one of its calls, the `number`th of a thread, there or anywhere. What has a name then is whole, and the next
/// pull ends well. Gives whether there was such a call.
fn kill_at(model: &str, call: &str, place: Option<&Path>, number: u32) -> bool {
    let home = Home::new();
    let at = format!("{call} {number} {place:?}");
    // Without a slash at the end.
    let place = place.map(|place| home.store().join(place).components().collect::<PathBuf>());
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}"));
    let mut options = vec!["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    options.extend(place.iter().flat_map(|place| ["-P", place.to_str().unwrap()]));
    let output = under_strace(&home.program(&["pull", "--insecure", model]), &options).output().unwrap();
    let there = check(&home.store());
    let list: Value = serde_json::from_str(&home.good(&["list", "--json"])).unwrap();
    assert_eq!(list["models"].as_array().unwrap().len(), there, "{at}");
    let killed = output.status.signal() == Some(9);
    assert!(killed || (output.status.success() && there == 1), "{at}: {}", String::from_utf8_lossy(&output.stderr));
    home.good(&["pull", "--insecure", model]);
    assert_eq!(check(&home.store()), 1, "{at}");
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_every_step_leave_the_old_state_or_the_new_one() {
    if !can_watch() {
        return;
    }
    let weights = noise(&mut ChaCha8Rng::seed_from_u64(27), 300 << 10);
    let registry = Registry::new(&[("model", weights)], 64 << 10, Duration::ZERO);
    let model = format!("{}/library/random:latest", registry.serve().await);
    let home = Home::new();
    let (output, calls) = watch(&home.program(&["pull", "--insecure", &model]), CHANGES, 0);
    good(output);
    // `strace` counts the calls of each thread, and the threads take turns. So a call is known by the file as well, unless that
    // has a name by chance.
    let mut steps: BTreeMap<(&str, Option<PathBuf>), u32> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.name != "openat" || call.says("O_CREAT")) {
        // What is written is text as well.
        let named = if call.name.contains("write") { None } else { call.names().into_iter().next() };
        let place = named.or_else(|| call.file(0));
        if let Some(place) = place.as_ref().and_then(|place| place.strip_prefix(home.store()).ok()) {
            let by_chance = place.to_str().unwrap().contains("ingest-") || place.starts_with("hanzod/pins/");
            *steps.entry((&call.name, (!by_chance).then(|| place.to_owned()))).or_default() += 1;
        }
    }
    let mut kills = 0;
    for ((call, place), count) in &steps {
        let known = place.as_deref();
        let all = match known {
            Some(_) => *count,
            None if ["fchmod", "fsync"].contains(call) || call.starts_with("rename") => u32::MAX,
            // Others come too often, or before nothing that counts.
            None => continue,
        };
        for number in 1..=all {
            let killed = kill_at(&model, call, known, number);
            assert!(killed || number > 1, "{call} {known:?}");
            if !killed {
                break;
            }
            kills += 1;
        }
    }
    println!("{kills} kills: {:?}", steps.keys());
    assert!(kills > 30, "{kills} kills are too few: {steps:?}");
}
