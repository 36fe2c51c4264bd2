//! Where a redirect may lead.

use super::super::Bench;
use super::super::registry::{Content, Registry, redirect};
use super::LARGE;

#[tokio::test]
async fn f17_redirects() {
    let content = Content::new(&[LARGE]);
    let store = Registry::honest(&content).await;
    for status in [301, 302, 303, 307, 308] {
        let (honest, there) = (content.clone(), store.url(""));
        let registry = Registry::new(move |seen| match (seen.is_blob(), seen.query.as_str()) {
            (true, "") => redirect(status, &format!("{}?again", seen.path)),
            (true, _) => redirect(status, &format!("{there}{}?signature=x", seen.path)),
            _ => honest.serve(seen),
        })
        .await;
        Bench::that_brings(&registry.name(), &content).await;
        assert_eq!(registry.blobs_seen().len(), 4, "the direct address is remembered");
    }

    let own = "http://127.0.0.1:1/";
    for (location, error) in [
        ("", "refused to go to ADDRESS: too many redirects"),
        ("http://169.254.169.254/latest", "refused to go to 169.254.169.254: a link-local address"),
        ("http://me:secret@127.0.0.1/", "refused to go to 127.0.0.1: a redirect with a password in it"),
        ("ftp://127.0.0.1/", "refused to go to 127.0.0.1: a redirect that is not to http"),
        (own, "max retries exceeded: Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused"),
    ] {
        let honest = content.clone();
        let registry = Registry::new(move |seen| match seen.is_blob() {
            true => redirect(307, location),
            false => honest.serve(seen),
        })
        .await;
        let seen = Bench::new().error(&registry.name()).await;
        assert_eq!(seen, error.replace("ADDRESS", &registry.address.to_string()));
    }
}

#[tokio::test]
async fn f17_ten_hops_and_no_more() {
    let content = Content::new(&[1000]);
    for (hops, ends) in [(10, true), (20, false)] {
        let honest = content.clone();
        let registry = Registry::new(move |seen| {
            let hop = seen.query.parse().unwrap_or(0);
            match seen.is_blob() && hop < hops {
                // Relative to the address it came from.
                true => redirect(307, &format!("?{}", hop + 1)),
                false => honest.serve(seen),
            }
        })
        .await;
        let bench = Bench::new();
        let ended = bench.pull(&registry.name()).await.1;
        assert_eq!(ended.is_ok(), ends, "{hops}: {ended:?}");
        assert!(registry.blobs_seen().len() <= 22);
    }
}
