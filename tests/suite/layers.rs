//! The edges between modules: which may name which.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file under `src`: its path from there with `/`, and its code without comments and white space.
///
/// Doc comments may link to anything; so only code counts.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let files: Vec<_> = paths
        .iter()
        .map(|path| {
            let parts = path.strip_prefix(&root).unwrap().iter();
            let name: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
            (name.join("/"), code(&fs::read_to_string(path).unwrap()))
        })
        .collect();
    assert!(files.len() > 20, "only {} files under {}", files.len(), root.display());
    files
}

fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.trim())
        .filter(|line| !line.starts_with("//"))
        .map(|line| line.split(" // ").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
        .replace([' ', '\n', '\t'], "")
}

/// Modules of this crate that code names by `crate::module` or in a group `crate::{module, ...}`.
fn modules(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at + "crate::".len()..];
        let mut depth = 0;
        let mut name = String::new();
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => found.push(std::mem::take(&mut name)),
                c if depth <= 1 && (c.is_alphanumeric() || c == '_') => name.push(c),
                // The rest of a path inside a group belongs to the module before it.
                ':' if depth == 1 => name.push(' '),
                _ if depth >= 1 => {}
                _ => break,
            }
            if depth == 0 && c == '}' {
                break;
            }
        }
        found.push(name);
    }
    found.iter().filter_map(|name| name.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn modules_are_found_in_paths_and_groups() {
    assert_eq!(modules("usecrate::em::fit;usecrate::error::{Error,Result};"), ["em", "error"]);
    assert_eq!(modules("usecrate::{data::{a,b},em::fit,scalar};"), ["data", "em", "scalar"]);
    assert_eq!(code("use crate::em; // crate::a\n/// crate::b\nfn f() {}"), "usecrate::em;fnf(){}");
}

#[test]
fn lower_layers_name_no_higher_ones() {
    // Layer, and what it must not name. Anything may name scalar, block and error; nothing but the binary names cli.
    let edges: [(&str, &[&str]); 9] = [
        (
            "special",
            &[
                "kernels",
                "family",
                "model",
                "em",
                "monitor",
                "data",
                "store",
                "inference",
                "criterion",
            ],
        ),
        (
            "kernels/",
            &[
                "special",
                "family",
                "model",
                "em",
                "monitor",
                "data",
                "cli",
                "store",
                "inference",
                "criterion",
            ],
        ),
        (
            "family/",
            &["criterion", "model", "em", "data", "cli", "store", "monitor", "inference", "exec"],
        ),
        ("model/", &["criterion", "data", "cli", "store", "em", "inference", "exec"]),
        (
            "monitor/",
            &["criterion", "data", "em", "family", "kernels", "store", "inference", "exec"],
        ),
        (
            "data/",
            &[
                "criterion",
                "family",
                "model",
                "em",
                "monitor",
                "cli",
                "store",
                "inference",
                "kernels",
            ],
        ),
        ("em/", &["cli", "store", "criterion"]),
        ("store", &["cli", "criterion"]),
        ("", &["cli"]),
    ];
    let mut faults = Vec::new();
    for (file, code) in files() {
        for (layer, forbidden) in edges {
            if !file.starts_with(layer) || file.starts_with("cli") || file == "main.rs" {
                continue;
            }
            for module in modules(&code) {
                if forbidden.contains(&module.as_str()) {
                    faults.push(format!("src/{file} names crate::{module}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_outside_crate_that_could_spread_is_named_in_one_place() {
    let homes: [(&str, &[&str]); 5] = [
        ("rayon::", &["exec.rs"]),
        ("pulp::", &["kernels/dispatch.rs"]),
        ("clap::", &["cli", "main.rs"]),
        ("indicatif::", &["cli", "main.rs"]),
        ("ctrlc::", &["cli", "main.rs"]),
    ];
    let mut faults = Vec::new();
    for (file, code) in files() {
        for (name, allowed) in homes {
            if code.contains(name) && !allowed.iter().any(|home| file.starts_with(home)) {
                faults.push(format!("src/{file} names {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
