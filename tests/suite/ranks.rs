//! Processes that share a fit: the bits of one process on any number of them, and faults that end all of them.

use crate::common;

use common::{OnRead, clusters, example_mixture, on_ranks, rounded, told};
use entropysum::data::{DataSource, Points};
use entropysum::em::{Checkpoint, Config, Fitting, MixtureSpec, Spec, StreamConfig};
use entropysum::error::DataError;
use entropysum::expert::Sweeper;
use entropysum::expert::store::Stored;
use entropysum::family::registry;
use entropysum::model::{Mixture, Posterior, TruncatedSearch};
use entropysum::monitor::{IterRecord, Observer, StopReason, observe};
use entropysum::ranks::Ranks;
use entropysum::store;
use entropysum::{Executor, Scalar, inference};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn assert_same<T: Scalar, S: Spec<T, Model: Stored> + Sync>(
    name: &str,
    spec: &S,
    points: &(dyn DataSource<T> + Sync),
    stream: Option<&StreamConfig>,
    sizes: &[usize],
) {
    let fit = |executor: &Executor| {
        let config = Config::default().max_iter(3).tol(0.0).seed(3);
        let fitting = Fitting::new(points, executor).config(&config);
        match stream {
            Some(stream) => told(&fitting.minibatches(stream).fit(spec).unwrap()),
            None => told(&fitting.fit(spec).unwrap()),
        }
    };
    let alone = fit(&Executor::new(Some(2)).unwrap());
    for &size in sizes {
        for (rank, found) in on_ranks(size, fit).into_iter().enumerate() {
            assert!(found == alone, "{name} {}: rank {rank} of {size}", T::NAME);
        }
    }
}

/// Three ranks share fits of every kind of model in `laws.rs`.
#[test]
fn fits_have_the_bits_of_one_process_on_any_number_of_ranks() {
    let (n, dim, components) = (8_099, 6, 6);
    let values: Vec<f32> = rounded(&clusters(n, dim, components, 2.0, 4));
    let points = Points::from_rows(&values, dim).unwrap();
    let spec = |family| MixtureSpec::new(registry::build(family, dim).unwrap(), components);
    // Several lanes, also of a minibatch.
    let stream = StreamConfig::default().batch_size(4000).epochs(1).polish(1);
    assert_same("batch", &spec("gaussian-full"), &points, None, &[2, 7]);
    assert_same("minibatches", &spec("gaussian-full"), &points, Some(&stream), &[2, 7]);
    // Fewer points than a lane has.
    let few = Points::from_rows(&values[..50 * dim], dim).unwrap();
    assert_same("few", &spec("gaussian-diag"), &few, None, &[3]);
}

#[test]
fn truncated_mixtures_are_shared_by_windows_and_go_on_from_a_checkpoint_of_all_ranks() {
    let (n, dim) = (70_000, 2);
    let values = clusters(n, dim, 8, 2.0, 8);
    let points = Points::from_rows(&values, dim).unwrap();
    let search = TruncatedSearch::default().states(2).neighbours(4);
    let spec = MixtureSpec::new(registry::build("gaussian-diag", dim).unwrap(), 10)
        .with_posterior(Posterior::Truncated(search));
    let stream = StreamConfig::default().batch_size(70_000).epochs(1).polish(1);
    assert_same("minibatches", &spec, &points, Some(&stream), &[3]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let model = |executor: &Executor, iterations, goes_on: bool| {
        let config = Config::default().max_iter(iterations).tol(0.0);
        let is_first = executor.ranks().is_none_or(|ranks| ranks.rank() == 0);
        let mut save = |state: &Checkpoint<'_, Mixture>| match is_first {
            true => store::save_checkpoint(&path, state),
            false => Ok(()),
        };
        let mut fitting = Fitting::new(&points, executor).config(&config);
        fitting = fitting.checkpoints(Duration::MAX, &mut save);
        if goes_on {
            fitting = fitting.resume(store::load_checkpoint(&path).unwrap());
        }
        let fit = fitting.fit(&spec).unwrap();
        (store::to_json(&fit.model).to_string(), fit.truncation_loss.map(|it| it.loss.to_bits()))
    };
    let alone = Executor::new(Some(2)).unwrap();
    let expected = model(&alone, 3, false);
    assert_eq!(on_ranks(3, |executor| model(executor, 3, false)), vec![expected.clone(); 3]);
    on_ranks(3, |executor| model(executor, 2, false));
    assert_eq!(model(&alone, 3, true), expected);
    on_ranks(2, |executor| model(executor, 2, false));
    assert_eq!(on_ranks(3, |executor| model(executor, 3, true)), vec![expected; 3]);
}

#[test]
fn large_sums_have_the_bits_of_one_process_on_any_number_of_ranks() {
    let (n, dim) = (140_000, 2);
    let values: Vec<f32> = rounded(&clusters(n, dim, 3, 2.0, 8));
    let points = Points::from_rows(&values, dim).unwrap();
    let model = example_mixture("gaussian-full", dim, 3);
    let sweep = |executor: &Executor| {
        let mut sweeper = Sweeper::new(&points, executor).with_lane_memory(0);
        sweeper.sweep(&model).unwrap()
    };
    let alone = sweep(&Executor::new(Some(2)).unwrap());
    for size in [2, 3, 4] {
        assert!(on_ranks(size, sweep).iter().all(|sums| *sums == alone), "{size}");
    }
}

#[test]
fn scores_and_labels_are_shared() {
    let (n, dim) = (150_001, 2);
    let values = clusters(n, dim, 3, 2.0, 8);
    let points = Points::from_rows(&values, dim).unwrap();
    let model = example_mixture("gaussian-full", dim, 3);
    let results = |executor: &Executor| {
        let score = inference::score(&model, &points, executor).unwrap();
        let mut labels = Vec::new();
        let sink = |first: u64, some: &[u32]| {
            assert_eq!(first, labels.len() as u64);
            labels.extend_from_slice(some);
            Ok(())
        };
        inference::predict(&model, &points, executor, sink).unwrap();
        (score, labels)
    };
    let alone = results(&Executor::new(Some(2)).unwrap());
    assert_eq!(alone.1.len(), n);
    for size in [2, 3, 7] {
        assert!(on_ranks(size, results).iter().all(|found| *found == alone), "{size}");
    }
}

#[test]
fn rank_0_decides_between_the_phases_and_the_starts_of_a_fit() {
    let values = clusters(3_000, 2, 3, 2.0, 8);
    let points = Points::from_rows(&values, 2).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 3);
    let stream = StreamConfig::default().batch_size(1000).epochs(2).records(4).polish(3);
    let (config, executor) = (Config::default(), Executor::new(Some(1)).unwrap());
    let fitting = || Fitting::new(&points, &executor).config(&config).minibatches(&stream);
    let whole = fitting().fit(&spec).unwrap();
    // The last record of the stream is made after its last minibatch, from averages.
    let of_stream = whole.history.records.iter().filter(|it| it.minibatch.is_some()).count();
    let steps: Vec<usize> = whole.history.records.iter().map(|it| it.iteration).collect();
    assert_eq!(steps[of_stream - 2], steps[of_stream - 1]);
    let ends = on_ranks(3, |executor| {
        let rank = executor.ranks().map_or(0, Ranks::rank);
        let mut left = if rank == 0 { of_stream } else { usize::MAX };
        let mut observer = observe(|_| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(StopReason::Observer),
                _ => ControlFlow::Continue(()),
            }
        });
        let fitting = Fitting::new(&points, executor).config(&config).minibatches(&stream);
        let fit = fitting.observer(&mut observer).fit(&spec).unwrap();
        (fit.stop_reason, fit.history.records.len())
    });
    assert_eq!(ends, [(StopReason::Observer, of_stream); 3]);

    // One rank has no time left after its first start.
    let ends = on_ranks(3, |executor| {
        let rank = executor.ranks().map_or(0, Ranks::rank);
        let limit = [None, Some(Duration::ZERO), None][rank];
        let config = Config::default().n_init(3).max_iter(4).tol(0.0).max_time(limit);
        let fit = Fitting::new(&points, executor).config(&config).fit(&spec).unwrap();
        (fit.stop_reason, fit.history.records.len())
    });
    assert_eq!(ends, [(StopReason::MaxIterations, 4); 3]);
}

/// Returns points that can no longer be read on rank 1.
fn lost_on_rank_1<'a>(points: &'a Points<'a, f64>, executor: &Executor) -> impl DataSource<f64> {
    let is_lost = executor.ranks().is_some_and(|ranks| ranks.rank() == 1);
    let before = move |_| match is_lost {
        true => Err(DataError::new("memory", "the disk is gone").into()),
        false => Ok(()),
    };
    OnRead { points, before }
}

#[test]
fn each_rank_reads_its_share_of_a_sweep_and_of_minibatches() {
    let (n, dim) = (40_000, 2);
    let values = clusters(n, dim, 3, 2.0, 8);
    let points = Points::from_rows(&values, dim).unwrap();
    let model = example_mixture("gaussian-full", dim, 3);
    let read = |work: &(dyn Fn(&Executor, &dyn DataSource<f64>) + Sync)| {
        on_ranks(4, |executor| {
            let rows_read = AtomicU64::new(0);
            let before = |count| {
                rows_read.fetch_add(count as u64, Ordering::Relaxed);
                Ok(())
            };
            work(executor, &OnRead { points: &points, before });
            rows_read.into_inner()
        })
    };
    let rows = read(&|executor, watched| {
        Sweeper::new(watched, executor).sweep(&model).unwrap();
    });
    assert_eq!(rows.iter().sum::<u64>(), n as u64);
    assert!(rows.iter().all(|rows| (5_000..15_000).contains(rows)), "{rows:?}");
    // Beside it, each rank looks whether values are rounded.
    let stream = StreamConfig::default().batch_size(1000).epochs(1);
    let rows = read(&|executor, watched| {
        let config = Config::default();
        let fitting = Fitting::new(watched, executor).config(&config).minibatches(&stream);
        fitting.fit(&MixtureSpec::from_model(model.clone())).unwrap();
    });
    assert!(rows.iter().all(|rows| (9_000..16_000).contains(rows)), "{rows:?}");
}

#[test]
fn the_first_fault_in_the_order_of_points_is_told_by_all_ranks() {
    let (n, dim) = (40_000, 2);
    let mut values = clusters(n, dim, 3, 2.0, 8);
    for row in [39_000, 21_000, 31_000] {
        values[row * dim + 1] = f64::NAN;
    }
    let points = Points::from_rows(&values, dim).unwrap();
    let model = example_mixture("gaussian-full", dim, 3);
    let fault = |executor: &Executor| {
        Sweeper::new(&points, executor).sweep(&model).unwrap_err().to_string()
    };
    let alone = fault(&Executor::new(Some(2)).unwrap());
    assert!(alone.contains("row 21000, column 1"), "{alone}");
    for size in [2, 4, 7] {
        assert_eq!(on_ranks(size, fault), vec![alone.clone(); size]);
    }
}

/// Asks for an end after so many iterations.
struct EndAfter(usize);

impl Observer for EndAfter {
    fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason> {
        match record.iteration >= self.0 {
            true => ControlFlow::Break(StopReason::Observer),
            false => ControlFlow::Continue(()),
        }
    }
}

#[test]
fn rank_0_decides_when_a_fit_ends() {
    let values = clusters(3_000, 2, 3, 2.0, 8);
    let points = Points::from_rows(&values, 2).unwrap();
    let config = Config::default().max_iter(20).tol(0.0);
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 3);
    let ends = on_ranks(3, |executor| {
        // Others would go on, or end before.
        let rank = executor.ranks().map_or(0, Ranks::rank);
        let mut observer = EndAfter([5, 2, 100][rank]);
        let fitting = Fitting::new(&points, executor).config(&config).observer(&mut observer);
        let fit = fitting.fit(&spec).unwrap();
        (fit.stop_reason, fit.history.records.len())
    });
    assert_eq!(ends, [(StopReason::Observer, 5); 3]);
}

#[test]
fn ranks_with_other_points_are_refused() {
    let values = clusters(3_000, 2, 3, 2.0, 8);
    let config = Config::default().max_iter(3);
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 3);
    let told = on_ranks(3, |executor| {
        let rank = executor.ranks().map_or(0, Ranks::rank);
        let points = Points::from_rows(&values[..2 * (3_000 - rank / 2)], 2).unwrap();
        let fitting = Fitting::new(&points, executor).config(&config);
        fitting.fit(&spec).map(|_| ()).unwrap_err().to_string()
    });
    assert!(told.iter().all(|text| text.contains("rank 2 sees other points")), "{told:?}");
}

#[test]
fn a_rank_that_fails_alone_ends_all() {
    let values = clusters(30_000, 2, 3, 2.0, 8);
    let points = Points::from_rows(&values, 2).unwrap();
    let config = Config::default().max_iter(3);
    let spec = MixtureSpec::new(registry::build("gaussian-full", 2).unwrap(), 3);
    let told = on_ranks(3, |executor| {
        let source = lost_on_rank_1(&points, executor);
        let stream = StreamConfig::default().batch_size(500);
        let fitting = Fitting::new(&source, executor).config(&config).minibatches(&stream);
        fitting.fit(&spec).map(|_| ()).unwrap_err().to_string()
    });
    assert!(told.iter().all(|text| text.contains("rank 1 sees other points")), "{told:?}");
    let model = example_mixture("gaussian-full", 2, 3);
    let told = on_ranks(3, |executor| {
        let source = lost_on_rank_1(&points, executor);
        Sweeper::new(&source, executor).sweep(&model).unwrap_err().to_string()
    });
    assert!(told.iter().all(|text| text.contains("the disk is gone")), "{told:?}");
}

#[test]
fn a_rank_that_panics_ends_all() {
    let values = clusters(30_000, 2, 3, 2.0, 8);
    let points = Points::from_rows(&values, 2).unwrap();
    let model = example_mixture("gaussian-full", 2, 3);
    let ends = on_ranks(3, |executor| {
        let panics = executor.ranks().is_some_and(|ranks| ranks.rank() == 1);
        let before = move |_| {
            assert!(!panics, "a fault of the program");
            Ok(())
        };
        let source = OnRead { points: &points, before };
        let sweep = || Sweeper::new(&source, executor).sweep(&model).map(|_| ()).unwrap_err();
        std::panic::catch_unwind(AssertUnwindSafe(sweep)).map(|fault| fault.to_string()).ok()
    });
    // Its connections close with it.
    assert_eq!(ends[1], None);
    assert!(ends[0].as_ref().is_some_and(|text| text.contains("rank 1 has ended")), "{ends:?}");
    assert!(ends[2].is_some(), "{ends:?}");
}
