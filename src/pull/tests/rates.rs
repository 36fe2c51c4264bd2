//! Pulls that keep to a rate.

use std::time::Duration;

use tokio::time::Instant;

use super::registry::{Content, Registry};
use super::{Bench, RANGE, collect};
use crate::types::{ByteRate, ModelName};

const LARGE: usize = 10 * RANGE as usize;

#[tokio::test(start_paused = true)]
async fn a_limit_of_all_or_of_one() {
    let content = Content::new(&[LARGE]);
    let registry = Registry::honest(&content).await;
    let rate = ByteRate::new(2 * RANGE);
    for (all, one) in [(rate, None), (None, rate), (ByteRate::new(1 << 30), rate)] {
        let bench = Bench::with(|settings| settings.limit = all);
        let start = Instant::now();
        let pull = bench.puller.limited(one).pull(ModelName::parse(&registry.name()).unwrap(), true);
        collect(pull).await.1.unwrap();
        bench.holds(&registry.name(), &content);
        let time = start.elapsed();
        assert!((Duration::from_millis(4800)..Duration::from_secs(9)).contains(&time), "{all:?} {one:?}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_it_faster_has_his_way() {
    let content = Content::new(&[LARGE]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::new();
    let name = ModelName::parse(&registry.name()).unwrap();
    let start = Instant::now();
    let slow = tokio::spawn(collect(bench.puller.limited(ByteRate::new(1000)).pull(name.clone(), true)));
    while bench.puller.transfers_under_way() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    collect(bench.puller.pull(name, true)).await.1.unwrap();
    slow.await.unwrap().1.unwrap();
    bench.holds(&registry.name(), &content);
    assert!(start.elapsed() < Duration::from_secs(100), "alone it would be 650 s: {:?}", start.elapsed());
}
