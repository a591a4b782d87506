//! A folder in which commands of the program run.
#![cfg(feature = "cli")]

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A folder of its own.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command; `DATA` is the folder of real data. Whether it succeeded, and what it printed.
    pub fn run(&self, arguments: &str) -> (bool, String) {
        let data = format!("{}/data", env!("CARGO_MANIFEST_DIR"));
        let arguments = arguments.split_whitespace().map(|it| it.replace("DATA", &data));
        let output = Command::new(env!("CARGO_BIN_EXE_entropysum"))
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let (out, err) = (output.stdout, output.stderr);
        (output.status.success(), String::from_utf8([out, err].concat()).unwrap())
    }

    #[track_caller]
    pub fn succeed(&self, arguments: &str) -> String {
        let (success, text) = self.run(arguments);
        assert!(success, "{arguments}: {text}");
        text
    }

    #[track_caller]
    pub fn json(&self, arguments: &str) -> Value {
        let text = self.succeed(&format!("{arguments} --json"));
        serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{arguments}: {fault}: {text}"))
    }

    #[track_caller]
    pub fn refuse(&self, arguments: &str, expected: &str) {
        let (success, text) = self.run(arguments);
        assert!(!success && text.contains(expected), "{arguments}: {text}");
    }
}
