//! All benches, as one program: each program of its own would compile the engine's generic code anew.
//!
//! `cargo bench --bench suite -- sbn/rate` runs a part, by a pattern that names of benches contain. `-- --test` runs each
//! bench once, without a time.

mod common;

mod init;
mod kernels;
mod linear;
mod monitor;
mod predictor;
mod sbn;
mod sources;
mod sparse;
mod sweep;

use criterion::Criterion;

/// The benches of a module.
type Benches = fn(&mut Criterion);

const MODULES: [(&str, Benches); 9] = [
    ("init", init::benches),
    ("kernels", kernels::benches),
    ("linear", linear::benches),
    ("monitor", monitor::benches),
    ("predictor", predictor::benches),
    ("sbn", sbn::benches),
    ("sources", sources::benches),
    ("sparse", sparse::benches),
    ("sweep", sweep::benches),
];

/// Runs the modules that arguments begin with, as in `sbn/rate`, or all modules if no argument begins with a module.
/// The pattern alone would skip the timing, but not the points that each module draws and checks first.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name| arguments.iter().any(|it| it.split('/').next() == Some(name));
    let any_is_asked = MODULES.iter().any(|&(name, _)| is_asked(name));
    let mut criterion = Criterion::default().configure_from_args();
    for (name, benches) in MODULES {
        if is_asked(name) || !any_is_asked {
            benches(&mut criterion);
        }
    }
    criterion.final_summary();
}
