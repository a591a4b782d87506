//! The command line of entropysum.

fn main() -> std::process::ExitCode {
    entropysum::cli::main()
}
