//! The command line: a thin layer over the library.
//!
//! Arguments (`args`) are checked and become objects of the library. Commands (`run`, `fit`, `select`, `check`, `bench`) run
//! these, watched by `progress`, on one or several processes (`ranks`). `guard` checks the files of a command, `output` writes
//! and prints the results. `kinds` holds all that differs between kinds of models, and `source` all that differs between
//! precisions; the rest is compiled once.

mod append;
mod args;
mod bench;
mod check;
mod checkpoint;
mod columns;
mod fit;
mod guard;
mod kinds;
mod labels;
mod output;
mod plot;
mod progress;
mod ranks;
mod run;
mod select;
mod source;
mod stream;
mod table;

pub use ranks::main_of_ranks;

use clap::Parser;
use std::process::ExitCode;

/// Runs the command that was typed. Exit code 1 is an error; 2 is one in what was typed; 128 and more are signals.
pub fn main() -> ExitCode {
    match run::run(&args::Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::complain("error", &error);
            progress::exit_code_of_signal().unwrap_or(ExitCode::FAILURE)
        }
    }
}
