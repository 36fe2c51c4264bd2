//! A connection whose client may not keep us waiting: neither with the head of a request that it has begun, nor with an
//! answer that it does not read. And one that has left is missed, whatever it sent before.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::seats::Seat;

/// Bytes behind a request that are read to see whether its client is still there.
const AHEAD: usize = 16 << 10;

/// Looks, while a client is waited for, at whether it reads.
const LOOKS: u32 = 6;

/// Tells how much a client has not read of what was sent, where that is known.
pub type Meter = Arc<dyn Fn() -> BoxFuture<'static, Option<u64>> + Send + Sync>;

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// While it reads nothing of its answer; all that time the answer holds its model in memory.
    pub unread: Duration,
}

/// A stream whose reads and writes fail when its patience is over.
pub struct Patient<S> {
    stream: S,
    /// What came before anybody wanted to read it.
    ahead: Vec<u8>,
    patience: Patience,
    meter: Meter,
    seat: Seat,
    working: Working,
    /// As it was when we looked last.
    worked: usize,
    /// Since a head has begun.
    reading: Option<Pin<Box<Sleep>>>,
    /// Since a write found no room; over when the client is to be given up.
    writing: Option<BoxFuture<'static, ()>>,
}

/// Whether a request's head was read and its answer has not begun: what is read meanwhile is its body. Odd while it is so, and
/// another number each time.
#[derive(Clone, Debug, Default)]
pub struct Working(Arc<AtomicUsize>);

/// Dropped, it says that the work is over.
pub struct Work(Working);

impl Working {
    pub fn begin(&self) -> Work {
        self.0.fetch_add(1, Ordering::AcqRel);
        Work(self.clone())
    }

    fn is_going_on(&self) -> bool {
        self.0.load(Ordering::Acquire) % 2 == 1
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Waits until a client has read nothing for so long, whatever its socket says: that may have no room for minutes while the
/// client reads on, slowly. Where nothing is known of its reading, the socket's word counts.
async fn nothing_read(meter: Meter, time: Duration) {
    let mut read = Instant::now();
    sleep(time / LOOKS).await;
    let mut left = meter().await;
    while read.elapsed() < time {
        sleep(time / LOOKS).await;
        let now = meter().await;
        if now != left {
            (read, left) = (Instant::now(), now);
        }
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    /// `seat` is told when a request begins to come.
    pub fn new(stream: S, patience: Patience, meter: Meter, seat: Seat) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            patience,
            meter,
            seat,
            working: Working::default(),
            worked: 0,
            reading: None,
            writing: None,
        }
    }

    /// To be told when a head has come and a request is worked at.
    pub fn working(&self) -> Working {
        self.working.clone()
    }

    /// Whether the client is still there. hyper finds out by reading, but reads no more when something came behind a request:
    /// the next one, or a line's end too many.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.ahead.len() < AHEAD {
            let mut bytes = [0; 1024];
            let mut into = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut into) {
                Poll::Pending => break,
                Poll::Ready(read) => read?,
            }
            if into.filled().is_empty() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client has left"));
            }
            self.ahead.extend_from_slice(into.filled());
        }
        Ok(())
    }

    fn wrote(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.writing = None;
            // Nobody is in the midst of a head while an answer is written: something stray came behind the request.
            self.reading = None;
            return written;
        }
        let waited = || Box::pin(nothing_read(self.meter.clone(), self.patience.unread)) as BoxFuture<'_, _>;
        let writing = self.writing.get_or_insert_with(waited);
        ready!(writing.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let worked = self.working.0.load(Ordering::Acquire);
        if worked != self.worked {
            // That head is whole.
            self.worked = worked;
            self.reading = None;
        }
        let before = into.filled().len();
        let read = match self.ahead.is_empty() {
            true => Pin::new(&mut self.stream).poll_read(context, into),
            false => {
                let count = self.ahead.len().min(into.remaining());
                into.put_slice(&self.ahead[..count]);
                self.ahead.drain(..count);
                match into.remaining() {
                    0 => Poll::Ready(Ok(())),
                    // A body comes in larger pieces than what was looked at ahead.
                    _ => match Pin::new(&mut self.stream).poll_read(context, into) {
                        Poll::Pending => Poll::Ready(Ok(())),
                        ready => ready,
                    },
                }
            }
        };
        if worked % 2 == 1 {
            return read;
        }
        if read.is_ready() {
            if into.filled().len() > before && self.reading.is_none() {
                self.reading = Some(Box::pin(sleep(self.patience.head)));
                self.seat.begin();
            }
            return read;
        }
        let Some(reading) = &mut self.reading else { return Poll::Pending };
        ready!(reading.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request's head comes too slowly")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.working.is_going_on() {
            self.look(context)?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::server::seats::Idle;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(10), unread: Duration::from_secs(60) };

    fn patient<S: AsyncRead + Unpin>(stream: S) -> Patient<S> {
        Patient::new(stream, PATIENCE, Arc::new(|| Box::pin(async { None })), Idle::default().seat())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (ours, _theirs) = duplex(16);
        let begun = Instant::now();
        let error = patient(ours).write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((PATIENCE.unread..PATIENCE.unread * 2).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_a_little_now_and_then_is_waited_for() {
        let (ours, mut theirs) = duplex(16);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            while all.len() < 100 {
                sleep(PATIENCE.unread / 2).await;
                let mut some = [0; 8];
                let count = theirs.read(&mut some).await.unwrap();
                all.extend_from_slice(&some[..count]);
            }
            all
        });
        patient(ours).write_all(&[7; 100]).await.unwrap();
        assert_eq!(reader.await.unwrap(), [7; 100]);
    }

    /// What the socket holds is more than such a client reads in all that time.
    #[tokio::test(start_paused = true)]
    async fn so_is_one_whose_socket_has_no_room_all_the_while() {
        let (ours, _theirs) = duplex(16);
        let begun = Instant::now();
        let reads = PATIENCE.unread * 10;
        let meter = move || {
            // 100 bytes every few seconds, and then nothing any more.
            let left = (1 << 20) - begun.elapsed().min(reads).as_secs() / 7 * 100;
            Box::pin(async move { Some(left) }) as BoxFuture<'static, _>
        };
        let mut stream = Patient::new(ours, PATIENCE, Arc::new(meter), Idle::default().seat());
        let error = stream.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let last = PATIENCE.unread * 2 / LOOKS;
        assert!((reads + PATIENCE.unread - last..reads + PATIENCE.unread + last).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_byte_by_byte_is_given_up_and_a_body_is_not() {
        let (ours, mut theirs) = duplex(16);
        let mut stream = patient(ours);
        let working = stream.working();
        tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(PATIENCE.head / 4).await;
            }
        });
        let begun = Instant::now();
        let mut byte = [0];
        for _ in 0..3 {
            stream.read_exact(&mut byte).await.unwrap();
        }
        // The head is whole; what comes now is the body.
        let work = working.begin();
        for _ in 0..20 {
            stream.read_exact(&mut byte).await.unwrap();
        }
        drop(work);
        assert!(begun.elapsed() > PATIENCE.head * 4);
        let begun = Instant::now();
        let error = loop {
            if let Err(error) = stream.read_exact(&mut byte).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((PATIENCE.head..PATIENCE.head * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn who_leaves_is_missed_whatever_came_before() {
        let (ours, mut theirs) = duplex(64);
        let mut stream = patient(ours);
        let work = stream.working().begin();
        theirs.write_all(b"a next request").await.unwrap();
        stream.flush().await.unwrap();
        let mut next = [0; 6];
        stream.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"a next");
        drop(theirs);
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(work);
        stream.flush().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, " request");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_has_to_ask_at_once_or_again() {
        let (ours, mut theirs) = duplex(16);
        let mut stream = patient(ours);
        let working = stream.working();
        tokio::spawn(async move {
            for _ in 0..3 {
                sleep(PATIENCE.head * 5).await;
                theirs.write_all(b"x").await.unwrap();
            }
        });
        let mut byte = [0];
        for _ in 0..3 {
            stream.read_exact(&mut byte).await.unwrap();
            drop(working.begin());
        }
    }
}
