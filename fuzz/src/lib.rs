//! Reads what a fuzzer makes up, with the files, the readers and the damage of `tests/suite/mutations.rs`.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds   # whole files for each reader, to begin with
//! cargo +nightly fuzz run npy                                 # any name of READERS
//! ```

#[allow(dead_code, reason = "the plain loop reads all fields")]
#[path = "../../tests/suite/mutations/cases.rs"]
mod cases;
#[allow(dead_code, reason = "helpers of all tests, of which two are used")]
#[path = "../../tests/suite/common/mod.rs"]
mod common;
#[path = "../../tests/suite/mutations/damage.rs"]
mod damage;

use cases::Case;
use std::cell::OnceCell;
use std::path::PathBuf;

/// Folder of the crate.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Readers of files, each with a target of its name.
pub const READERS: [&str; 11] = [
    "npy",
    "text",
    "raw",
    "matrix_market",
    "npz",
    "compressed",
    "parquet",
    "model_json",
    "model_safetensors",
    "checkpoint",
    "learner",
];

/// Returns the cases of a reader.
fn cases_of(reader: &str) -> Vec<Case> {
    let all = match reader {
        "model_json" | "model_safetensors" => cases::models(),
        "checkpoint" | "learner" => cases::checkpoints(),
        _ => cases::points(),
    };
    let is_for = |case: &Case| {
        let ends = |end: &str| case.name.ends_with(end);
        match reader {
            "npy" => ends(".npy"),
            "text" => ends(".csv") || ends(".txt"),
            "raw" => ends(".raw"),
            "matrix_market" => ends(".mtx"),
            "npz" => ends(".npz"),
            "compressed" => ends(".zst") || ends(".gz"),
            "parquet" => ends(".parquet"),
            "model_json" => ends(".json"),
            "model_safetensors" => ends(".safetensors"),
            "learner" => ends("learner"),
            _ => !ends("learner"),
        }
    };
    all.into_iter().filter(is_for).collect()
}

/// Returns files that a reader accepts.
pub fn whole_files(reader: &str) -> Vec<Vec<u8>> {
    cases_of(reader).into_iter().map(|case| case.bytes).collect()
}

/// What a target needs for each input.
struct Target {
    cases: Vec<Case>,
    folder: tempfile::TempDir,
}

/// Reads bytes as a file of a reader, and uses what it accepts. A panic or a long time is the finding.
pub fn read(reader: &str, bytes: &[u8]) {
    thread_local! {
        static TARGET: OnceCell<Target> = const { OnceCell::new() };
    }
    TARGET.with(|target| {
        let target = target.get_or_init(|| Target {
            cases: cases_of(reader),
            folder: tempfile::tempdir().expect("a folder for files"),
        });
        // Models are used alike, whatever they are.
        let is_model = reader.starts_with("model_");
        for case in target.cases.iter().take(if is_model { 1 } else { usize::MAX }) {
            let mut bytes = bytes.to_vec();
            (case.seal)(&mut bytes);
            let path: PathBuf = target.folder.path().join(&case.name);
            std::fs::write(&path, &bytes).expect("a file in the folder");
            (case.use_file)(&path);
        }
    });
}

/// Damages the first `size` bytes as the plain loop does. Returns their new number, `max_size` at most.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut bytes = data[..size].to_vec();
    let mut state = u64::from(seed) | 1 << 32;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 * 2f64.powi(-53) * below as f64) as usize
    };
    let is_text = bytes.is_ascii();
    damage::damage(&mut bytes, is_text, &mut random);
    let size = bytes.len().min(max_size);
    data[..size].copy_from_slice(&bytes[..size]);
    size
}

/// Makes the target of a reader. Every other input is changed by libFuzzer itself.
#[macro_export]
macro_rules! target {
    ($reader:literal) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::read($reader, bytes));
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            match seed % 2 {
                0 => $crate::mutate(data, size, max_size, seed),
                _ => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
            }
        });
    };
}
