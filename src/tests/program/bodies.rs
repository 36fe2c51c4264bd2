//! Requests that are too large, torn, or not what they say: refused with a reason, in little memory, and never taken for
//! two.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::gauges;
use super::harness::{Home, Server, send};

/// All that the server says until it closes. Of a connection that it resets, what came before.
fn rest(mut stream: &TcpStream) -> String {
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        answer.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(answer).unwrap()
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn l05_bodies_without_an_end_are_refused_in_time() {
    let home = Home::new();
    let server = Server::start(&home);
    assert_eq!(server.get("/api/version").await.0, 200);
    let memory = gauges::memory(server.id());
    let head = "POST /api/show HTTP/1.1\r\nhost: localhost\r\n";
    // It says how long it is: not a byte of it is asked for, not even by those who wait to be asked.
    for expect in ["", "expect: 100-continue\r\n"] {
        let request = format!("{head}{expect}content-length: 2147483648\r\n\r\n");
        let answer = rest(&send(server.address(), request.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.ends_with("{\"error\":\"request body is larger than 67108864 bytes\"}"), "{answer}");
    }
    // It does not say.
    let stream = send(server.address(), format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
    let mut writes = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let piece = [b"100000\r\n", vec![b' '; 1 << 20].as_slice(), b"\r\n"].concat();
        (0..2048).take_while(|_| writes.write_all(&piece).is_ok()).count()
    });
    let answer = rest(&stream);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let written = writer.join().unwrap();
    assert!((64..256).contains(&written), "{written} MiB were taken");
    // Those who want to be asked are.
    let request = format!("{head}expect: 100-continue\r\ncontent-length: 18\r\n\r\n");
    let mut stream = send(server.address(), request.as_bytes());
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{\"model\":\"absent\"}").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");

    assert_eq!(server.get("/api/version").await.0, 200);
    let gained = gauges::memory(server.id()).saturating_sub(memory);
    assert!(gained < gauges::GAIN, "{gained} bytes more than before");
}

/// What one server takes for a body and another for a second request.
#[tokio::test]
async fn l05_no_request_hides_in_another() {
    let home = Home::new();
    let server = Server::start(&home);
    let hidden = "DELETE /api/delete HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "content-length: 2\r\ncontent-length: 0\r\n\r\n{}",
        "content-length: 0, 2\r\n\r\n{}",
        "content-length: +2\r\n\r\n{}",
        "content-length: -1\r\n\r\n{}",
        "content-length: 0x2\r\n\r\n{}",
        "content-length: 99999999999999999999\r\n\r\n{}",
        "content-length : 2\r\n\r\n{}",
        "transfer-encoding: identity, chunked\r\n\r\n2\r\n{}\r\n0 0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        "transfer-encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
        "transfer-encoding:\x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        let request = format!("POST /api/show HTTP/1.1\r\nhost: localhost\r\n{framing}{hidden}");
        let answer = rest(&send(server.address(), request.as_bytes()));
        assert!(answers(&answer) <= 1, "{framing:?}: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 40"), "{framing:?}: {answer}");
    }
    assert_eq!(server.get("/api/version").await.0, 200);
}

#[tokio::test]
async fn l05_heads_have_a_bound() {
    let home = Home::new();
    let server = Server::start(&home);
    assert_eq!(server.get("/api/version").await.0, 200);
    let memory = gauges::memory(server.id());
    let long = "x".repeat(8 << 20);
    for head in [format!("host: localhost\r\nx-long: {long}"), "a: b\r\n".repeat(200_000), format!("{long}: x")] {
        let stream = send(server.address(), b"GET /api/version HTTP/1.1\r\n");
        let mut writes = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || writes.write_all(head.as_bytes()).is_ok());
        let answer = rest(&stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        writer.join().unwrap();
    }
    let path = format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let stream = TcpStream::connect(server.address()).unwrap();
    (&stream).write_all(path.as_bytes()).ok();
    let answer = rest(&stream);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert_eq!(server.get("/api/version").await.0, 200);
    let gained = gauges::memory(server.id()).saturating_sub(memory);
    assert!(gained < gauges::GAIN, "{gained} bytes more than before");
}

/// JSON's corners, answered as Ollama answers them.
#[tokio::test]
async fn l06_json_at_its_limits() {
    let home = Home::new();
    let mut server = Server::start(&home);
    assert_eq!(server.get("/api/version").await.0, 200);
    let memory = gauges::memory(server.id());
    let absent = || b"{\"model\":\"absent\"".to_vec();
    let with = |more: &[u8]| [&absent(), b",".as_slice(), more, b"}"].concat();
    let many = |count: usize| (0..count).map(|number| format!("\"k{number}\":0")).collect::<Vec<_>>().join(",");
    let not_found = "model 'absent' not found";
    let cases: [(&str, Vec<u8>, u16, &str); 24] = [
        ("deep arrays", b"[".repeat(1_000_000), 400, "invalid character '[' exceeded max depth"),
        ("deep objects", b"{\"a\":".repeat(1_000_000), 400, "invalid character '{' exceeded max depth"),
        ("deep and unknown", with(&[b"\"x\":".as_slice(), &b"[".repeat(1_000_000)].concat()), 400, "max depth"),
        ("many keys", with(many(1_000_000).as_bytes()), 404, not_found),
        ("many options", with(format!("\"options\":{{{}}}", many(100_000)).as_bytes()), 404, not_found),
        (
            "more values than memory should be spent on",
            [b"[0,".as_slice(), &b"0,".repeat(30 << 20)].concat(),
            400,
            "more than",
        ),
        ("a name twice", b"{\"model\":\"first\",\"model\":\"absent\"}".to_vec(), 404, not_found),
        ("a name in capitals", b"{\"MODEL\":\"absent\"}".to_vec(), 404, not_found),
        ("half a surrogate", with(b"\"prompt\":\"\\ud800\""), 404, not_found),
        ("no UTF-8", with(b"\"prompt\":\"\xff\xfe\""), 404, not_found),
        ("half a surrogate in a name", b"{\"model\":\"\\udc00\"}".to_vec(), 400, "invalid model name"),
        ("a NUL byte", with(b"\"prompt\":\"\0\""), 400, "invalid character '\\x00' in string literal"),
        ("a NUL", b"{\"model\":\"a\\u0000b\"}".to_vec(), 400, "invalid model name"),
        ("NULs and nothing else", vec![0; 1000], 400, "invalid character '\\x00' looking for beginning of value"),
        (
            "a byte order mark",
            b"\xef\xbb\xbf{}".to_vec(),
            400,
            "invalid character '\u{ef}' looking for beginning of value",
        ),
        ("bytes behind it", b"{\"model\":\"absent\"} and more".to_vec(), 404, not_found),
        ("nothing", Vec::new(), 400, "missing request body"),
        ("an array", b"[]".to_vec(), 400, "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        (
            "a large number",
            with(b"\"options\":{\"temperature\":1e400}"),
            400,
            "json: cannot unmarshal number 1e400 into Go ",
        ),
        ("a number for a name", b"{\"model\":7}".to_vec(), 400, "json: cannot unmarshal number into Go struct field"),
        ("a text for a flag", with(b"\"stream\":\"yes\""), 400, "json: cannot unmarshal string into Go struct field"),
        ("an object for a text", with(b"\"prompt\":{}"), 400, "json: cannot unmarshal object into Go struct field"),
        ("a text for options", with(b"\"options\":\"\""), 400, "json: cannot unmarshal string into Go struct field"),
        ("a number for a keep_alive", with(b"\"keep_alive\":true"), 400, "Unsupported type: 'bool'"),
    ];
    for (what, body, status, error) in cases {
        let (seen, answer) = server.post("/api/generate", body.as_slice()).await;
        assert_eq!(seen, status, "{what}: {answer}");
        let Value::String(text) = &answer["error"] else { panic!("{what}: {answer}") };
        assert!(text.contains(error), "{what}: {text}");
        assert!(server.is_running(), "{what}");
    }
    // In each dialect's own envelope.
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"] {
        for body in [b"[".repeat(1_000_000).as_slice(), b"{", b"\0", b"[]", b"{\"model\":7}"] {
            let (status, answer) = server.post(path, body).await;
            assert_eq!(status, 400, "{path}: {answer}");
            assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {answer}");
        }
    }
    assert_eq!(server.get("/api/ps").await.1, json!({"models": []}));
    let gained = gauges::memory(server.id()).saturating_sub(memory);
    assert!(gained < gauges::GAIN, "{gained} bytes more than before");
}
