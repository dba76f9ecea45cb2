//! The `sluice` command; called `kubectl-sluice`, it is the kubectl plugin `kubectl sluice`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::cli::main(std::env::args_os())
}
