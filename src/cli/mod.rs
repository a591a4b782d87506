//! The command line: a thin layer over the library.
//!
//! What was typed ([`args`]) is checked and turned into objects of the library, these run ([`run`], [`fit`], [`select`], [`check`], [`bench`]), watched by
//! [`progress`], and what comes out is written and printed ([`output`]). [`kinds`] knows what differs between kinds of models, and
//! [`source`] what differs between precisions; all else is compiled once.

mod args;
mod bench;
mod check;
mod checkpoint;
mod fit;
mod kinds;
mod output;
mod progress;
mod run;
mod select;
mod source;
mod stream;

use clap::Parser;
use std::process::ExitCode;

/// Exit code of a command that the user interrupted before it had a result.
const INTERRUPTED: u8 = 130;

/// Runs the command that was typed. Exit code 1 is an error; 2 is one in what was typed.
pub fn main() -> ExitCode {
    match run::run(&args::Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::complain("error", &error);
            ExitCode::from(if progress::interrupted() { INTERRUPTED } else { 1 })
        }
    }
}
