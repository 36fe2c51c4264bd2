//! What clients have not read yet, as the system's table of connections tells.
//!
//! A socket says that there is room again when a third of what it holds is gone, which is a megabyte and more, and the other
//! side acknowledges nothing new until a good part of its own buffer was read. Over loopback a client may so read a kilobyte a
//! second for minutes without a sign. The table shows what was not acknowledged and, of clients on this machine, what they
//! have received and not read, to the byte. Only Linux has it; elsewhere nothing is told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The table is long where there are many connections: it is read once for all who ask within this time.
const FRESH: Duration = Duration::from_secs(1);

/// The queues of all connections of this machine. Clones share what was read.
#[derive(Clone, Debug, Default)]
pub struct Queues(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    /// `None` where there is no such table.
    table: Option<Table>,
}

/// One end of a connection: its own address and the other's.
type End = (SocketAddr, SocketAddr);
/// Ends that hold something.
type Table = HashMap<End, Queue>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Queue {
    /// Not acknowledged.
    sent: u64,
    /// Not read.
    received: u64,
}

impl Queues {
    /// Bytes that went from `ours` to `theirs` and were not read, as far as the system knows.
    pub async fn unread(&self, ours: SocketAddr, theirs: SocketAddr) -> Option<u64> {
        // Held while the table is read: whoever comes meanwhile takes what is being read.
        let mut seen = self.0.lock().await;
        if seen.at.is_none_or(|at| at.elapsed() >= FRESH) {
            seen.table = tokio::task::spawn_blocking(read).await.ok().flatten();
            seen.at = Some(Instant::now());
        }
        let table = seen.table.as_ref()?;
        let (ours, theirs) = (plain(ours), plain(theirs));
        let queue = |end| table.get(&end).copied().unwrap_or_default();
        Some(queue((ours, theirs)).sent + queue((theirs, ours)).received)
    }
}

/// IPv4 as such, also over a socket for both.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn read() -> Option<Table> {
    let texts: Vec<String> = TABLES.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    (!texts.is_empty()).then(|| texts.iter().flat_map(|text| text.lines().skip(1).filter_map(row)).collect())
}

/// A line of the table: number, own address, the other's, state, what was sent and what was received.
fn row(line: &str) -> Option<(End, Queue)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let end = (address(words.next()?)?, address(words.next()?)?);
    let (sent, received) = words.nth(1)?.split_once(':')?;
    let bytes = |digits| u64::from_str_radix(digits, 16).ok();
    let queue = Queue { sent: bytes(sent)?, received: bytes(received)? };
    (queue != Queue::default()).then_some((end, queue))
}

/// Words of 32 bits as they lie in memory, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(words.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match words.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(plain(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn every_byte_that_is_read_is_seen() {
        use std::io::{ErrorKind, Read as _, Write as _};
        use std::net::{TcpListener, TcpStream};

        for place in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(place).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, theirs) = listener.accept().unwrap();
            let ours = server.local_addr().unwrap();
            // A new one each time: nothing that was read before counts.
            let unread = || async { Queues::default().unread(ours, theirs).await.unwrap() };
            assert_eq!(unread().await, 0);
            server.set_nonblocking(true).unwrap();
            let full = loop {
                if let Err(error) = server.write(&[0; 64 << 10]) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            // What has come and is not acknowledged yet counts twice.
            let mut before = unread().await;
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                match unread().await {
                    now if now == before => break,
                    now => before = now,
                }
            }
            assert!(before > 64 << 10);
            client.read_exact(&mut [0; 100]).unwrap();
            assert_eq!(unread().await, before - 100, "{place}");
        }
    }

    #[test]
    fn lines_of_the_table() {
        let line =
            "  12: 0100007F:0E6A 0200A8C0:D431 01 003DE000:00000010 04:00000034 00000000     0        0 802332 1";
        let v4 = cfg!(target_endian = "little").then(|| row(line).unwrap());
        let end = ("127.0.0.1:3690".parse().unwrap(), "192.168.0.2:54321".parse().unwrap());
        assert!(v4.is_none_or(|row| row == (end, Queue { sent: 0x3d_e000, received: 16 })));
        assert_eq!(row("sl local_address rem_address st tx_queue rx_queue"), None);
        assert_eq!(row(""), None);
    }
}
