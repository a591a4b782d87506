//! Sparse points: the same results as with the zeros filled in.

use crate::common;

use common::{Uniforms, assert_all_close, assert_close, sparse};
use entropysum::Scalar;
use entropysum::any;
use entropysum::data::{SparsePoints, Weighted};
use entropysum::em::{self, Config, Init, MixtureSpec, known_from_data};
use entropysum::expert::Sweeper;
use entropysum::expert::model::GenerativeModel;
use entropysum::family::{KnownParameters, Parameters, registry};
use entropysum::inference;
use entropysum::model::EntropySum;
use entropysum::{BlockBuf, DataSource, Executor, Mixture, Points, Posterior, Silent};

const DIM: usize = 37;
const COMPONENTS: usize = 11;

/// A family that takes sparse points, what is known of it, and the largest value of its points.
type Case = (&'static str, &'static [(&'static str, f64)], f64);

const FAMILIES: [Case; 7] = [
    ("poisson", &[], 6.0),
    ("multinomial", &[("total", 9.0)], 6.0),
    ("bernoulli", &[], 1.0),
    ("geometric", &[], 6.0),
    ("binomial", &[("trials", 6.0)], 6.0),
    ("negative-binomial", &[("successes", 2.5)], 6.0),
    ("poisson:0-20,bernoulli:21-36", &[], 1.0),
];

/// Counts of which most are zero, and the same sparse.
fn counts(n: usize, largest: f64, seed: u64) -> (Vec<f64>, SparsePoints<f64>) {
    let mut u = Uniforms::new(seed);
    let mut dense = vec![0.0; n * DIM];
    for (i, row) in dense.chunks_mut(DIM).enumerate() {
        for (d, value) in row.iter_mut().enumerate() {
            let often = if (d + i) % 5 == 0 { 0.6 } else { 0.05 };
            if u.next() < often {
                *value = (1.0 + u.next() * largest).floor().min(largest);
            }
        }
    }
    // A point of nothing but zeros.
    dense[..DIM].fill(0.0);
    let sparse = sparse(&dense, DIM);
    (dense, sparse)
}

fn family(
    name: &str,
    known: &[(&str, f64)],
) -> std::sync::Arc<dyn entropysum::expert::family::ExponentialFamily> {
    let known =
        known.iter().fold(KnownParameters::default(), |all, &(key, v)| all.with(key, vec![v]));
    registry::build_known(name, DIM, &known).unwrap()
}

/// A start that an M-step of dense points yields, away from the boundary.
fn start(name: &str, known: &[(&str, f64)], points: &Points<'_, f64>) -> Mixture {
    let spec = MixtureSpec::new(family(name, known), COMPONENTS).with_init(Init::Random);
    let executor = Executor::new(Some(1)).unwrap();
    entropysum::expert::start_mixture(&spec, points, &executor, &Config::default(), 0).unwrap().0
}

fn parameters(model: &Mixture) -> Vec<f64> {
    let Parameters { components, .. } = model.parameters();
    components.iter().flatten().chain(model.weights()).copied().collect()
}

#[test]
fn fits_of_sparse_points_are_those_of_the_same_dense_points() {
    let executor = Executor::new(Some(2)).unwrap();
    for (name, known, largest) in FAMILIES {
        let (dense, sparse) = counts(2500, largest, 3);
        let dense = Points::from_rows(&dense, DIM).unwrap();
        for posterior in [Posterior::Exact, Posterior::Hard] {
            for weighted in [false, true] {
                let what = format!("{name}, {}, weighted: {weighted}", posterior.name());
                let start = start(name, known, &dense).with_posterior(posterior);
                assert!(start.takes_sparse(), "{name}");
                let config = Config::default().max_iter(4).tol(0.0);
                let weights: Vec<f64> = (0..2500).map(|i| f64::from(i % 3)).collect();
                let (a, b) = if weighted {
                    let dense = dense.clone().with_weights(weights.clone()).unwrap();
                    // Weights of another file.
                    let sparse = Weighted::new::<f64>(sparse.clone(), weights).unwrap();
                    (
                        em::fit(&start, &dense, &executor, &config, &mut Silent).unwrap(),
                        em::fit(&start, &sparse, &executor, &config, &mut Silent).unwrap(),
                    )
                } else {
                    (
                        em::fit(&start, &dense, &executor, &config, &mut Silent).unwrap(),
                        em::fit(&start, &sparse, &executor, &config, &mut Silent).unwrap(),
                    )
                };
                for (a, b) in a.history.records.iter().zip(&b.history.records) {
                    assert_close(b.log_likelihood, a.log_likelihood, 1e-12, &what);
                    assert_close(b.lower_bound, a.lower_bound, 1e-12, &what);
                    let parts = |sum: &EntropySum| {
                        [sum.posterior, sum.prior, sum.observable, sum.base_measure]
                    };
                    let (a, b) = (parts(&a.entropy_sum), parts(&b.entropy_sum));
                    assert_all_close(&b, &a, 1e-12, &what);
                }
                assert_all_close(&parameters(&b.model), &parameters(&a.model), 1e-12, &what);
            }
        }
    }
}

#[test]
fn scores_and_posteriors_of_sparse_points_are_those_of_the_same_dense_points() {
    let executor = Executor::new(Some(2)).unwrap();
    for (name, known, largest) in FAMILIES {
        let (dense, sparse) = counts(1200, largest, 5);
        let dense = Points::from_rows(&dense, DIM).unwrap();
        let model = start(name, known, &dense);
        let results = |source: &dyn DataSource<f64>| {
            let (mut densities, mut posteriors) = (Vec::new(), Vec::new());
            let mut labels = Vec::new();
            inference::score_samples(&model, source, &executor, |_, values| {
                densities.extend_from_slice(values);
                Ok(())
            })
            .unwrap();
            inference::predict_proba(&model, source, &executor, |_, values| {
                posteriors.extend_from_slice(values);
                Ok(())
            })
            .unwrap();
            inference::predict(&model, source, &executor, |_, values| {
                labels.extend_from_slice(values);
                Ok(())
            })
            .unwrap();
            let score = inference::score(&model, source, &executor).unwrap();
            (densities, posteriors, labels, score)
        };
        let (a, b) = (results(&dense), results(&sparse));
        assert_all_close(&b.0, &a.0, 1e-12, name);
        assert_all_close(&b.1, &a.1, 1e-12, name);
        assert_eq!(b.2, a.2, "{name}");
        assert_close(b.3.log_likelihood, a.3.log_likelihood, 1e-12, name);
    }
}

#[test]
fn sweeps_in_two_halves_sum_the_same_of_sparse_points() {
    let executor = Executor::new(Some(2)).unwrap();
    let (dense, sparse) = counts(5000, 6.0, 9);
    let dense = Points::from_rows(&dense, DIM).unwrap();
    for posterior in [Posterior::Exact, Posterior::Hard] {
        let model = start("multinomial", &[], &dense).with_posterior(posterior);
        let whole = Sweeper::new(&sparse, &executor).sweep(&model).unwrap();
        let halves = Sweeper::new(&sparse, &executor).with_lane_memory(1).sweep(&model).unwrap();
        assert_all_close(halves.as_slice(), whole.as_slice(), 1e-12, posterior.name());
        let dense = Sweeper::new(&dense, &executor).with_lane_memory(1).sweep(&model).unwrap();
        assert_all_close(halves.as_slice(), dense.as_slice(), 1e-12, posterior.name());
    }
}

/// Texts of 30 to 90 words from `topics` vocabularies of 100 words each, of which a tenth is common to all; and their topics.
fn texts(n: usize, topics: usize) -> (Vec<f64>, Vec<usize>) {
    let dim = 100 * topics + 50;
    let mut u = Uniforms::new(11);
    let mut dense = vec![0.0; n * dim];
    let topic = |i: usize| i * 7 % topics;
    for (i, row) in dense.chunks_mut(dim).enumerate() {
        for _ in 0..30 + (60.0 * u.next()) as usize {
            let own = u.next() < 0.7;
            let word = u.next();
            let word = if own {
                topic(i) * 100 + (100.0 * word) as usize
            } else {
                100 * topics + (50.0 * word) as usize
            };
            row[word] += 1.0;
        }
    }
    (dense, (0..n).map(topic).collect())
}

#[test]
fn starts_on_sparse_texts_lead_to_their_topics_in_both_precisions() {
    fn finds_topics<T: Scalar>() {
        let (topics, executor) = (6, Executor::new(Some(2)).unwrap());
        let (dense, truth) = texts(3000, topics);
        let points = sparse::<T>(&dense, 100 * topics + 50);
        for name in ["multinomial", "poisson"] {
            let family = registry::build(name, points.rows().dim()).unwrap();
            let spec = MixtureSpec::new(family, topics);
            let config = Config::default().n_init(3).seed(1);
            let fit = em::fit(&spec, &points, &executor, &config, &mut Silent).unwrap();
            let mut table = vec![vec![0; topics]; fit.model.n_components()];
            inference::predict(&fit.model, &points, &executor, |first, labels| {
                for (&label, &topic) in labels.iter().zip(&truth[first as usize..]) {
                    table[label as usize][topic] += 1;
                }
                Ok(())
            })
            .unwrap();
            let right: i32 = table.iter().map(|row| row.iter().max().unwrap()).sum();
            assert!(right >= 2990, "{name}, {}: {table:?}", T::NAME);
            let gap = fit.last().unwrap().gap().abs();
            assert!(gap < if T::NAME == "f64" { 1e-10 } else { 1e-6 }, "{name}: gap {gap:e}");
        }
    }
    finds_topics::<f32>();
    finds_topics::<f64>();
}

#[test]
fn fewer_distinct_sparse_points_than_components_start_fewer() {
    let points = sparse::<f64>(&[1.0, 0.0, 1.0, 0.0, 0.0, 3.0], 2);
    let executor = Executor::new(Some(1)).unwrap();
    let spec = MixtureSpec::new(registry::build("poisson", 2).unwrap(), 3);
    let fit = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent).unwrap();
    assert_eq!(fit.model.n_components(), 2);
    assert!(fit.warnings[0].contains('3'), "{:?}", fit.warnings);
}

#[test]
fn sparse_values_outside_the_support_are_named_by_row_and_column() {
    let executor = Executor::new(Some(1)).unwrap();
    for (value, name, expected) in [
        (0.5, "poisson", "memory: row 1, column 2: the value is 0.5, expected a whole number ≥ 0"),
        (-1.0, "multinomial", "memory: row 1, column 2: the value is -1, expected a whole number"),
        (2.0, "bernoulli", "memory: row 1, column 2: the value is 2, expected 0 or 1"),
    ] {
        let points = sparse::<f64>(&[1.0, 0.0, 0.0, 0.0, 1.0, value], 3);
        let spec = MixtureSpec::new(registry::build(name, 3).unwrap(), 1);
        let fault = em::fit(&spec, &points, &executor, &Config::default(), &mut Silent);
        let fault = fault.unwrap_err().to_string();
        assert!(fault.starts_with(expected), "{fault}");
        // A given start looks at no points before the first sweep.
        let good = sparse::<f64>(&[1.0, 0.0, 0.0, 0.0, 1.0, 1.0], 3);
        let model =
            entropysum::expert::start_mixture(&spec, &good, &executor, &Config::default(), 0)
                .unwrap()
                .0;
        let config = Config::default();
        let fault = em::fit(&model, &points, &executor, &config, &mut Silent).unwrap_err();
        assert!(fault.to_string().starts_with(expected), "{fault}");
        let fault = inference::score(&model, &points, &executor).unwrap_err().to_string();
        assert!(fault.starts_with(expected), "{fault}");
    }
}

#[test]
fn models_that_take_no_sparse_points_get_the_zeros_filled_in() {
    let executor = Executor::new(Some(1)).unwrap();
    let (dense, sparse) = counts(600, 6.0, 17);
    let dense = Points::from_rows(&dense, DIM).unwrap();
    let spec = MixtureSpec::new(registry::build("gaussian-diag", DIM).unwrap(), 2);
    let config = Config::default().max_iter(3);
    let a = em::fit(&spec, &dense, &executor, &config, &mut Silent).unwrap();
    let b = em::fit(&spec, &sparse, &executor, &config, &mut Silent).unwrap();
    assert!(!a.model.takes_sparse());
    assert_eq!(parameters(&a.model), parameters(&b.model));
}

#[test]
fn totals_of_sparse_points_are_told_as_those_of_dense_ones() {
    let (dense, sparse) = counts(500, 6.0, 19);
    let dense = Points::from_rows(&dense, DIM).unwrap();
    for name in ["multinomial", "categorical"] {
        let a = known_from_data(name, &dense, KnownParameters::default()).unwrap();
        let b = known_from_data(name, &sparse, KnownParameters::default()).unwrap();
        assert_eq!(a, b, "{name}");
        assert!(a != KnownParameters::default());
    }
    let mut buffer = BlockBuf::default();
    assert_eq!(sparse.read(0, 500, &mut buffer).unwrap().points, dense.view());
}

/// A search would fill in the zeros.
#[test]
fn sparse_points_have_exact_posteriors_unless_others_are_asked_for() {
    let (values, family) = (vec![1.0; 40_000], registry::build("poisson", 2).unwrap());
    let (dense, sparse) = (Points::from_rows(&values, 2).unwrap(), sparse::<f64>(&values, 2));
    let chosen = |source: any::Source<'_>| {
        Posterior::automatic(&*family, 1000, source.len(), source.is_sparse()).name()
    };
    assert_eq!(chosen(any::Source::F64(&dense)), "truncated");
    assert_eq!(chosen(any::Source::F64(&sparse)), "exact");
}
