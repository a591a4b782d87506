//! Every reader on damaged files: whatever is read, it is an error or a value, never a panic, and never takes long.
//!
//! Files of all kinds are changed at random and read. Of a file that is still accepted all is used: points are loaded, models score and draw
//! points, checkpoints are gone on from. Checksums are made to agree, since damage would not get past them. The loop takes some seconds;
//! `ENTROPYSUM_MUTATION_SECONDS` asks for more, and `ENTROPYSUM_MUTATION_SEED` for other damage.
//!
//! The targets in `fuzz/` share files, readers and damage with this loop.

mod cases;
mod damage;

use cases::{checkpoints, models, points};
use damage::damage;
use entropysum::expert::rng;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Folder of the crate.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Longest time that a small file may take.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn no_damage_makes_a_reader_panic_or_hang() {
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("ENTROPYSUM_MUTATION_SECONDS").unwrap_or(4);
    let seed = number("ENTROPYSUM_MUTATION_SEED").unwrap_or(0);
    let only = std::env::var("ENTROPYSUM_MUTATION_CASE").ok();
    let mut cases = points();
    cases.extend(models());
    cases.extend(checkpoints());
    cases.retain(|case| only.as_ref().is_none_or(|only| case.name.contains(only)));
    let folder = tempfile::tempdir().unwrap();
    let mut rng = rng::stream(seed, 0);
    let mut random = |below: usize| (rng::uniform(&mut rng) * below as f64) as usize;
    let (begin, mut rounds) = (Instant::now(), 0u64);
    let failed = Mutex::new(Vec::new());
    while begin.elapsed() < Duration::from_secs(seconds) || rounds < 2 {
        for (index, case) in cases.iter().enumerate() {
            let path = folder.path().join(&case.name);
            let mut bytes = case.bytes.clone();
            // The first round shows that whole files are accepted.
            if rounds > 0 {
                damage(&mut bytes, case.is_text, &mut random);
            }
            (case.seal)(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            if let Some(kept) = std::env::var_os("ENTROPYSUM_MUTATION_LAST") {
                let kept = Path::new(&kept).join(&case.name);
                fs::write(kept, &bytes).unwrap();
            }
            let start = Instant::now();
            let read = std::panic::AssertUnwindSafe(|| (case.use_file)(&path));
            let accepted = std::panic::catch_unwind(read);
            let is_panic = accepted.is_err();
            assert!(rounds > 0 || accepted.is_ok_and(|it| it), "{} is refused whole", case.name);
            if is_panic || start.elapsed() > LONGEST {
                let what = if is_panic { "panics" } else { "takes long" };
                let text =
                    format!("case {index}, {}: {what}, round {rounds} of seed {seed}", case.name);
                failed.lock().unwrap().push(text);
            }
        }
        rounds += 1;
    }
    println!("{} rounds of {} files in {:?}", rounds, cases.len(), begin.elapsed());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
