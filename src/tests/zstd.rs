//! Bodies that come as zstd, through the router.

use async_compression::Level;
use async_compression::tokio::write::ZstdEncoder;
use async_compression::zstd::CParameter;
use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::stream;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::util::{Reply, TestApp};

async fn packed(content: &[u8], parameters: &[CParameter]) -> Vec<u8> {
    let mut encoder = ZstdEncoder::with_quality_and_params(Vec::new(), Level::Fastest, parameters);
    encoder.write_all(content).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn post(app: &TestApp, path: &str, encoding: &str, body: impl Into<Body>) -> Reply {
    app.send(Method::POST, path, &[("content-encoding", encoding)], body).await
}

fn question() -> Vec<u8> {
    json!({ "model": "tiny", "messages": [{ "role": "user", "content": "Ping" }], "max_tokens": 9 }).to_string().into()
}

#[tokio::test]
async fn v1_takes_zstd() {
    let app = TestApp::with_tiny().await;
    let body = packed(&question(), &[]).await;
    for (path, encoding) in
        [("/v1/chat/completions", "zstd"), ("/v1/chat/completions", "ZSTD"), ("/v1/messages", "zstd")]
    {
        let reply = post(&app, path, encoding, body.clone()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    // in frames of their own, and in pieces as a network brings them
    let question = question();
    let (one, two) = question.split_at(20);
    let bytes = [packed(one, &[]).await, packed(two, &[]).await].concat();
    let pieces = bytes.chunks(7).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
    let pieces = Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()));
    assert_eq!(post(&app, "/v1/chat/completions", "zstd", pieces).await.status, 200);
    // the native API does not, and of gzip nothing is known
    let reply = post(&app, "/api/chat", "zstd", body).await;
    assert_eq!((reply.status, reply.text().contains("invalid character")), (400, true));
    let reply = post(&app, "/v1/chat/completions", "gzip", &b"\x1f\x8b\x08"[..]).await;
    assert_eq!((reply.status, reply.text().contains("invalid character")), (400, true));
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_refused() {
    let app = TestApp::with_tiny().await;
    let good = packed(&question(), &[]).await;
    let bomb = packed(&vec![b' '; (20 << 20) + 1], &[]).await;
    assert!(bomb.len() < 10_000);
    let wide = packed(&question(), &[CParameter::window_log(24)]).await;
    let mut broken = good.clone();
    broken[8] ^= 0x55;
    for (what, body) in [
        ("a bomb", bomb),
        ("a window of 16 MiB", wide),
        ("half a frame", good[..good.len() - 4].to_vec()),
        ("broken bytes", broken),
        ("no zstd at all", question()),
        ("rubbish behind a frame", [good.as_slice(), b"rubbish"].concat()),
    ] {
        let reply = post(&app, "/v1/chat/completions", "zstd", body).await;
        let expected = (400, r#"{"error":"failed to decompress request body"}"#);
        assert_eq!((reply.status, reply.text().as_str()), expected, "{what}");
    }
    let most = [question(), vec![b' '; (20 << 20) - question().len()]].concat();
    let most = packed(&most, &[CParameter::window_log(23)]).await;
    assert_eq!(post(&app, "/v1/chat/completions", "zstd", most).await.status, 200);
    assert_eq!(post(&app, "/v1/chat/completions", "zstd", "").await.status, 400);
    // frames that hold nothing, without end
    let skipped = Bytes::from([&b"\x50\x2a\x4d\x18\x00\x00\x10\x00"[..], &[0; 1 << 20]].concat());
    let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(skipped.clone()));
    assert_eq!(post(&app, "/v1/chat/completions", "zstd", Body::from_stream(endless)).await.status, 400);
}
