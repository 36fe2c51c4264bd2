//! The program: parses arguments, starts the log, runs the command, turns its error into an exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use hanzod::cli::Cli;

/// Called by the loader before every constructor.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[used]
// SAFETY: the section holds pointers to functions, and this is one; it needs nothing that is not set up by then.
#[unsafe(link_section = ".preinit_array")]
static FIRST_OF_ALL: extern "C" fn() = hanzod::cpu::check;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(&cli);
    let done = if cli.is_runner() { hanzod::engine::child::main().map_err(anyhow::Error::from) } else { run(cli) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody need be left to read it.
            writeln!(std::io::stderr(), "Error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(cli.execute());
    // Blocking reads of a file or a terminal must not keep the program alive.
    runtime.shutdown_background();
    done
}

/// The log goes to standard error. `HANZOD_LOG` (such as `debug` or `hanzod::pull=trace`) says how much of it; `OLLAMA_DEBUG`
/// is heard too. When nobody reads it any more, the program goes on.
fn log(cli: &Cli) {
    let debug = std::env::var("OLLAMA_DEBUG").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let default = match (debug, cli.is_server()) {
        (true, _) => "hanzod=debug,warn",
        (false, true) => "hanzod=info,warn",
        (false, false) => "error",
    };
    let filter = EnvFilter::try_from_env("HANZOD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.log_internal_errors(false);
    log.with_ansi(std::io::stderr().is_terminal()).with_target(cli.is_server()).init();
}
