//! Manifests that are not what they should be.

use std::time::{Duration, Instant};

use super::super::Bench;
use super::super::registry::{Content, Registry};
use crate::types::Digest;

fn blob(digest: &Digest, size: &str, kind: &str) -> String {
    format!("{{\"mediaType\":\"application/vnd.ollama.image.{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}")
}

fn manifest(config: &str, layers: &str) -> String {
    format!("{{\"schemaVersion\":2,\"mediaType\":\"x\",\"config\":{config},\"layers\":[{layers}]}}")
}

/// The error of a pull of which only the manifest is wrong, and whether a blob was asked for.
async fn refused(content: Content) -> (String, bool) {
    let registry = Registry::honest(&content).await;
    let bench = Bench::with(|settings| settings.retries = 1);
    let error = bench.error(&registry.name()).await;
    assert!(bench.store().tags().list().is_empty());
    (error, !registry.blobs_seen().is_empty())
}

#[tokio::test]
async fn f19_sizes_that_cannot_be_or_are_not() {
    let content = Content::new(&[1000]);
    let (layer, config) = (content.order[0], blob(&content.order[1], "23", "config"));
    for (size, error, early) in [
        ("-1", "manifest is not readable", true),
        ("9223372036854775808", "not enough disk space", true),
        ("18446744073709551616", "manifest is not readable", true),
        ("1e3", "manifest is not readable", true),
        ("0", "digest mismatch", false),
        ("999", "is 1000 bytes long, and the manifest says 999", false),
        ("1001", "is 1000 bytes long, and the manifest says 1001", false),
    ] {
        let (error_seen, asked) =
            refused(content.clone().with_manifest(manifest(&config, &blob(&layer, size, "model")))).await;
        assert!(error_seen.contains(error), "{size}: {error_seen}");
        assert!(!(early && asked), "{size}: told before a byte is fetched");
    }
    let unsized_layer = blob(&layer, "1000", "model").replace(",\"size\":1000", "");
    let (error, asked) = refused(content.clone().with_manifest(manifest(&config, &unsized_layer))).await;
    assert!(error.contains("manifest is not readable") && !asked, "{error}");
}

#[tokio::test]
async fn f20_hostile_manifests() {
    let digest = Digest::of(b"x");
    let config = blob(&digest, "1", "config");
    let model = |size: &str| blob(&digest, size, "model");
    let plain = manifest(&config, &model("1"));
    let index = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{config}]}}"
    );
    let huge = "9223372036854775808";
    for (body, error) in [
        (String::new(), "manifest is not readable"),
        ("[".repeat(100_000), "manifest is not readable"),
        (manifest(&config, &format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))), "manifest is not readable"),
        (" ".repeat(5 << 20), "longer than"),
        (manifest(&config, &vec![model("1"); 100_000].join(",")), "longer than"),
        (format!("\u{feff}{plain}"), "manifest is not readable"),
        (manifest(&config, &model("NaN")), "manifest is not readable"),
        (plain.replace("\"layers\"", "\"layers\":[],\"layers\""), "manifest is not readable"),
        (plain.replace("\"schemaVersion\":2", "\"schemaVersion\":1"), "manifest is not readable"),
        (index, "manifest is not readable"),
        (manifest(&config, "{\"mediaType\":\"x\"}"), "manifest is not readable"),
        (plain.replace(&digest.to_string(), "sha256:../../x"), "manifest is not readable"),
        (manifest(&config, &model("2")), "has two sizes"),
        (manifest(&config, &format!("{0},{0}", model(huge))), "overflow"),
        (manifest(&blob(&digest, huge, "config"), &model(huge)), "overflow"),
        (
            manifest(&config, &blob(&digest, "1", "tensor")),
            "this model requires MLX support, but the MLX runtime is not available",
        ),
    ] {
        let start = Instant::now();
        let (seen, asked) = refused(Content::new(&[]).with_manifest(body)).await;
        assert!(seen.contains(error) && !asked, "{seen}, not {error}");
        assert!(start.elapsed() < Duration::from_secs(30), "{error}");
    }
}

#[tokio::test]
async fn f20_one_blob_in_many_places() {
    let content = Content::new(&[1000]);
    let layer = content.order[0];
    let places = [blob(&layer, "1000", "model"), blob(&layer, "1000", "license"), blob(&layer, "1000", "license")];
    let mut content = content.with_manifest(manifest(&blob(&layer, "1000", "config"), &places.join(",")));
    content.blobs.retain(|digest, _| *digest == layer);
    let registry = Registry::honest(&content).await;
    Bench::that_brings(&registry.name(), &content).await;
    assert_eq!(registry.blobs_seen().len(), 1);
}
