//! `hanzod runner`: one model in a process of its own, served or quantised.
//!
//! Commands come in on standard input and events go out on standard output. Whatever a library prints to standard output
//! goes to standard error instead, so that it cannot break a frame. When standard input ends, the server is gone or wants
//! the memory back, and the process ends at once, whatever it was doing. A runner that saves prompts is told before that to
//! leave, and ends by itself.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::process::exit;
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use super::backend::Events;
use super::protocol::{self, Command, Event};

/// Runs until standard input ends.
///
/// # Errors
/// When the pipes cannot be set up or the first frame is neither a load nor a quantisation.
pub fn main() -> io::Result<()> {
    // What we and the libraries have to say goes where the server reads it; it puts the time to it.
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).without_time();
    log.with_max_level(tracing::Level::WARN).try_init().ok();

    leave_signals_to_the_server()?;
    let pipe = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;

    let (events, outgoing) = mpsc::channel();
    let (commands, incoming) = mpsc::channel();
    thread::Builder::new().name("events".into()).spawn(move || write_events(pipe, &outgoing))?;
    let backend = thread::current();
    thread::Builder::new().name("commands".into()).spawn(move || read_commands(&commands, &backend))?;

    let events = Events::new(events);
    match incoming.recv() {
        Ok(Command::Load(spec)) => {
            let backend = super::backend_of(spec.engine);
            match backend.and_then(|backend| backend.serve(&spec, &incoming, &events)) {
                Ok(()) => exit(0),
                Err(error) => events.send(Event::LoadFailed(error)),
            }
        }
        Ok(Command::Quantize(spec)) => events.send(Event::Quantized(super::quantize_here(&spec, &events))),
        _ => return Err(io::Error::other("the first command says neither what to load nor what to quantize")),
    }
    // The server closes standard input when it has read the event; the reading thread then ends the process.
    loop {
        thread::park();
    }
}

/// A terminal's Ctrl-C and a service manager's stop reach the children too. When a runner ends is the server's to say: it
/// lets answers end first.
fn leave_signals_to_the_server() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _within = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        // The handler stays in place of the default, which would be to die; nobody looks at what it heard.
        drop(signal(kind)?);
    }
    Ok(())
}

/// Wakes `backend` with each command: it may wait for other things besides.
fn read_commands(commands: &mpsc::Sender<Command>, backend: &thread::Thread) {
    let mut pipe = BufReader::new(io::stdin());
    loop {
        match protocol::read(&mut pipe) {
            Ok(Some(command)) => {
                if commands.send(command).is_err() {
                    exit(1);
                }
                backend.unpark();
            }
            Ok(None) => exit(0),
            Err(error) => {
                tracing::error!(%error, "the pipe from the server is broken");
                exit(1);
            }
        }
    }
}

fn write_events(pipe: File, outgoing: &mpsc::Receiver<Event>) {
    let mut pipe = BufWriter::new(pipe);
    while let Ok(event) = outgoing.recv() {
        let mut written = protocol::write(&mut pipe, &event);
        while let (Ok(()), Ok(event)) = (&written, outgoing.try_recv()) {
            written = protocol::write(&mut pipe, &event);
        }
        if written.and_then(|()| pipe.flush()).is_err() {
            exit(1);
        }
    }
}
