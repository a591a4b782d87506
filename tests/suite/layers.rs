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
        .replace(" as ", "=")
        .replace([' ', '\n', '\t'], "")
}

/// Modules of the crate, bottom to top. A file may name modules of its own layer and of lower ones.
const LAYERS: [&[&str]; 17] = [
    &["codec", "error", "work"],
    &["ranks"],
    &["pairwise"],
    // A number knows its vectorised functions, kernels are generic over numbers, and a block is a view of them.
    &["scalar", "kernels", "block"],
    &[
        "aligned", "atomic", "entropy", "lbfgs", "linalg", "picture", "rng", "setters", "special",
        "stats",
    ],
    &["family"],
    &["monitor"],
    &["model"],
    &["data", "exec"],
    &["point_faults", "predictor"],
    &["search"],
    &["inference"],
    &["em"],
    &["store"],
    &["any", "criterion", "selection"],
    &["expert"],
    &["cli"],
];

/// Modules that do not name lower ones either: a source knows nothing of what is learned from it.
const APART: [(&str, &[&str]); 3] = [
    ("data", &["special", "stats", "kernels", "family", "monitor", "model", "exec"]),
    ("special", &["kernels"]),
    ("monitor", &["kernels", "family", "stats"]),
];

/// Files of a circle at most.
const LARGEST_CIRCLE: usize = 3;

/// Paths that code names by `crate::`, `super::` or `self::`, as names from the root of the crate.
fn paths(module: &[&str], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            // A part of a longer path or name, such as the second of `super::super::`.
            let is_part = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            // White space is gone: what was `use crate::` is `usecrate::`.
            let words = ["use", "(in", "impl", "dyn", "for", "mut", "return"];
            if is_part && !words.iter().any(|word| before.ends_with(word)) {
                continue;
            }
            let mut base: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
            let mut rest = &code[at + root.len()..];
            match root {
                "crate::" => base.clear(),
                "super::" => drop(base.pop()),
                _ => {}
            }
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            expand(base, rest, &mut found);
        }
    }
    found
}

/// Adds the paths of `a::b`, or of each member of a group `a::{b, c::d}`. Returns what follows.
fn expand<'a>(mut path: Vec<String>, code: &'a str, found: &mut Vec<Vec<String>>) -> &'a str {
    if let Some(mut rest) = code.strip_prefix('{') {
        while !rest.starts_with('}') && !rest.is_empty() {
            rest = expand(path.clone(), rest, found);
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'));
    let (name, rest) = code.split_at(end.unwrap_or(code.len()));
    path.push(name.to_owned());
    match rest.strip_prefix("::") {
        Some(rest) => expand(path, rest, found),
        None => {
            found.push(path);
            // An end that is none, such as of `{self as name}`, must not be met twice.
            if name.is_empty() { rest.get(1..).unwrap_or_default() } else { rest }
        }
    }
}

/// Code without its unit tests, which may use anything.
fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]modtests{").next().unwrap_or_default()
}

/// Names of the module that a file holds.
fn module_of(file: &str) -> Vec<&str> {
    let mut names: Vec<_> = file.trim_end_matches(".rs").split('/').collect();
    if names.last().is_some_and(|&name| name == "mod") {
        names.pop();
    }
    names
}

/// For each file the files that its code names, by their numbers.
fn edges(files: &[(String, String)]) -> Vec<Vec<usize>> {
    let modules: Vec<_> = files.iter().map(|(file, _)| module_of(file)).collect();
    let edges_of = |from: usize| {
        let code = without_tests(&files[from].1);
        let mut found: Vec<usize> = paths(&modules[from], code)
            .iter()
            .filter_map(|path| {
                (1..=path.len()).rev().find_map(|n| modules.iter().position(|it| *it == path[..n]))
            })
            .filter(|&to| to != from)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    (0..files.len()).map(edges_of).collect()
}

/// Circles of files: each file of a circle reaches every other.
fn circles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let reached: Vec<Vec<bool>> = (0..edges.len())
        .map(|from| {
            let (mut reached, mut next) = (vec![false; edges.len()], vec![from]);
            while let Some(file) = next.pop() {
                for &to in &edges[file] {
                    if !std::mem::replace(&mut reached[to], true) {
                        next.push(to);
                    }
                }
            }
            reached
        })
        .collect();
    let mut circles: Vec<Vec<usize>> = (0..edges.len())
        .map(|a| (0..edges.len()).filter(|&b| reached[a][b] && reached[b][a]).collect())
        .filter(|circle: &Vec<usize>| !circle.is_empty())
        .collect();
    circles.sort();
    circles.dedup();
    circles
}

/// Names that stand where they must not, of all files.
fn faults_of_layers(files: &[(String, String)]) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let top =
        |file: &str| file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    let mut faults = Vec::new();
    for ((file, _), found) in files.iter().zip(edges(files)) {
        let from = top(file);
        if from == "lib" || from == "main" {
            continue;
        }
        let Some(own) = layer(&from) else {
            faults.push(format!("src/{file} has no layer: enter {from} into LAYERS"));
            continue;
        };
        for to in found {
            let (named, to) = (&files[to].0, top(&files[to].0));
            let is_apart =
                APART.iter().any(|(name, apart)| *name == from && apart.contains(&to.as_str()));
            if is_apart || layer(&to).is_some_and(|other| other > own) {
                faults.push(format!("src/{file} names src/{named}"));
            }
        }
    }
    faults
}

fn made_up(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(file, text)| ((*file).to_owned(), code(text))).collect()
}

#[test]
fn paths_are_found_in_uses_groups_and_code() {
    let text = "use crate::{data::{self, a::B}, em::fit};\nuse super::super::error as e;\nfn f() { crate::exec::go(super::h()) }";
    let mut found: Vec<_> =
        paths(&["em", "inner", "file"], &code(text)).iter().map(|path| path.join("::")).collect();
    found.sort();
    // The new name after `as` is found too, and is no module.
    let expected = ["data::a::B", "data::self", "em::error", "em::fit", "em::inner::h", "exec::go"];
    assert_eq!(found, expected);
    assert_eq!(code("use crate::em; // crate::a\n/// crate::b\nfn f() {}"), "usecrate::em;fnf(){}");
}

#[test]
fn a_made_up_circle_is_found() {
    let files = made_up(&[
        ("em/mod.rs", "pub mod a; pub mod b; pub mod c; pub mod d;"),
        ("em/a.rs", "use super::b::B;"),
        ("em/b.rs", "use crate::em::{c::C};"),
        ("em/c.rs", "fn f() { super::d::g() }"),
        ("em/d.rs", "use crate::{em::a::A, error};"),
        ("error.rs", ""),
    ]);
    assert_eq!(circles(&edges(&files)), [vec![1, 2, 3, 4]]);
    let open = made_up(&[
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
    ]);
    assert!(circles(&edges(&open)).is_empty());
}

#[test]
fn made_up_faults_of_layers_are_found() {
    let files = made_up(&[
        ("inference.rs", "use crate::em::sweep::check;"),
        ("em/sweep.rs", "use crate::inference;"),
        ("data/mod.rs", "use crate::model::Mixture;"),
        ("model/mod.rs", "use crate::em::sweep::check;"),
        ("stray.rs", ""),
    ]);
    let faults = [
        "src/inference.rs names src/em/sweep.rs",
        "src/data/mod.rs names src/model/mod.rs",
        "src/model/mod.rs names src/em/sweep.rs",
        "src/stray.rs has no layer: enter stray into LAYERS",
    ];
    assert_eq!(faults_of_layers(&files), faults);
}

#[test]
fn lower_layers_name_no_higher_ones() {
    let faults = faults_of_layers(&files());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn circles_of_files_are_small() {
    // Commands share the helpers of the file that hands out commands.
    let files: Vec<_> = files().into_iter().filter(|(file, _)| !file.starts_with("cli/")).collect();
    let circles = circles(&edges(&files));
    let large: Vec<String> = circles
        .iter()
        .filter(|circle| circle.len() > LARGEST_CIRCLE)
        .map(|circle| circle.iter().map(|&it| files[it].0.as_str()).collect::<Vec<_>>().join(", "))
        .collect();
    assert!(large.is_empty(), "files that import each other in a circle: {}", large.join("; "));
    assert!(
        !circles.is_empty(),
        "a number and its functions are a circle; is none found any more?"
    );
}

#[test]
fn each_outside_crate_that_could_spread_is_named_in_one_place() {
    let homes: [(&str, &[&str]); 9] = [
        ("rayon::", &["exec.rs"]),
        ("pulp::", &["kernels/dispatch.rs"]),
        ("clap::", &["cli", "main.rs"]),
        ("indicatif::", &["cli", "main.rs"]),
        ("ctrlc::", &["cli", "main.rs"]),
        ("signal_hook::", &["cli", "main.rs"]),
        ("postcard::", &["codec.rs"]),
        ("crc32fast::", &["store/checkpoint.rs", "store/learner.rs", "store/safetensors.rs"]),
        ("tempfile::", &["atomic.rs", "data/spool.rs", "em/row_memory.rs"]),
    ];
    let mut faults = Vec::new();
    for (file, code) in files() {
        let code = without_tests(&code);
        for (name, allowed) in homes {
            if code.contains(name) && !allowed.iter().any(|home| file.starts_with(home)) {
                faults.push(format!("src/{file} names {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
