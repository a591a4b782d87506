//! The command line of entropysum.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
