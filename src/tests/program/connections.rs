//! Clients that connect and say nothing, or say it very slowly: others are answered meanwhile, and what they hold is given
//! back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::gauges;
use super::harness::{Home, Server, send, wait_until, wrapped};

const VERSION: &[u8] = b"GET /api/version HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Whether the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

fn answered(stream: &mut TcpStream) {
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn l04_slow_and_silent_clients_keep_nobody_out() {
    let home = Home::new();
    let server = Server::start(&home);
    assert_eq!(server.get("/api/version").await.0, 200);
    let files = gauges::files(server.id());
    let silent: Vec<TcpStream> = (0..300).map(|_| send(server.address(), b"")).collect();
    let mut heads: Vec<TcpStream> =
        (0..100).map(|_| send(server.address(), b"GET /api/version HTTP/1.1\r\nhost: local")).collect();
    let head = b"POST /api/show HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let bodies: Vec<TcpStream> = (0..100).map(|_| send(server.address(), head)).collect();
    // One that has asked already, and may ask again at any time.
    let mut used = send(server.address(), VERSION);
    answered(&mut used);

    // As long as the heads are waited for, and longer than a head that comes byte by byte may take.
    let mut still = 0;
    while heads.iter_mut().any(|head| !is_closed(head)) {
        assert_eq!(server.get("/api/version").await.0, 200);
        for head in &mut heads {
            head.write_all(b"h").ok();
        }
        still += 1;
        assert!(still < 300, "heads that never end are waited for");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = Vec::new();
    used.set_nonblocking(true).unwrap();
    used.read_to_end(&mut rest).unwrap_err();
    used.set_nonblocking(false).unwrap();
    used.write_all(VERSION).unwrap();
    answered(&mut used);
    assert!(gauges::files(server.id()) >= files + 400, "the others are still there");
    drop((silent, heads, bodies, used));
    wait_until("as many open files as before", || gauges::files(server.id()) <= files + 2);
}

/// With few files to open, those who use their connections have precedence.
#[tokio::test]
async fn idle_connections_make_room_for_others() {
    let home = Home::new();
    let program = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    let limited = wrapped(&["/bin/sh", "-c", "ulimit -n 200; exec \"$0\" \"$@\""], &program);
    let server = Server::start_with(limited, 1);
    let (mut idle, mut kept) = (Vec::new(), 0);
    for _ in 0..350 {
        idle.push(send(server.address(), b""));
        // Each finds its place before the next one comes.
        let mut asks = send(server.address(), VERSION);
        answered(&mut asks);
        kept += usize::from(!is_closed(idle.last_mut().unwrap()));
    }
    assert!(is_closed(&mut idle[0]), "the first have been closed");
    // Where the machine takes its time, one may be old enough to go at once.
    assert!(kept > 250, "of those that had just come {kept} were kept");
    assert!(gauges::files(server.id()) < 200);
}
