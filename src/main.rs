//! The program: the command line's door.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "runner") {
        return match hanzod::engine::child::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("hanzod runner: {error}");
                ExitCode::FAILURE
            }
        };
    }
    ExitCode::FAILURE
}
