//! Files and sources that claim what they do not hold.

use entropysum::data::{self, BadRows, DataSource, OpenOptions, Points};
use entropysum::em::{
    self, Config, FactorAnalyzersSpec, Fitting, LinearGaussianSpec, MixtureSpec, SbnSpec, Spec,
    StreamConfig,
};
use entropysum::expert::SparseRows;
use entropysum::family::registry;
use entropysum::model::{LinearGaussian, Mixture, Noise};
use entropysum::monitor::Silent;
use entropysum::store;
use entropysum::{Block, BlockBuf, Executor, inference};
use std::fs;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, entropysum::Error>;

/// What a source may do wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Short,
    Long,
    Narrow,
    FewWeights,
    NegativeWeight,
    NanWeight,
}

/// Points in two dimensions from a source that is at fault from some row on.
struct Faulty {
    points: Points<'static, f64>,
    wrong: Wrong,
    from: u64,
}

impl DataSource<f64> for Faulty {
    fn name(&self) -> String {
        "mine".to_owned()
    }
    fn dim(&self) -> usize {
        2
    }
    fn len(&self) -> u64 {
        600
    }
    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<f64>,
    ) -> Result<Block<'a, f64>> {
        let end = start + count as u64;
        if end <= self.from || count == 0 {
            return self.points.read(start, count, buffer);
        }
        buffer.weights.clear();
        buffer.weights.resize(count, 1.0);
        let at = self.from.saturating_sub(start) as usize;
        match self.wrong {
            Wrong::Short => return self.points.read(start, count - 1, buffer),
            // No point follows the last; a block of all is cut instead.
            Wrong::Long if count == 600 => return self.points.read(start, count - 1, buffer),
            Wrong::Long if end == 600 => return self.points.read(start - 1, count + 1, buffer),
            Wrong::Long => return self.points.read(start, count + 1, buffer),
            Wrong::Narrow => {
                let block = self.points.read(start, count, buffer)?;
                return Ok(Block { points: block.points.subcols(0, 1), ..block });
            }
            Wrong::FewWeights => drop(buffer.weights.pop()),
            Wrong::NegativeWeight => buffer.weights[at] = -1.0,
            Wrong::NanWeight => buffer.weights[at] = f64::NAN,
        }
        let block = self.points.view().subrows(start as usize, count);
        Ok(Block { weights: Some(&buffer.weights), first: start, ..Block::dense(block) })
    }
}

/// Fits, scores and copies of sources that break their promise are errors that say so, whoever reads the points.
#[test]
fn blocks_that_were_not_asked_for_are_errors() {
    let executor = Executor::new(Some(2)).unwrap();
    let values: Vec<f64> = (0..1200).map(|i| f64::from(i % 7 % 2)).collect();
    for from in [0, 599] {
        for (wrong, expected) in [
            (Wrong::Short, "the source returned a block of "),
            (Wrong::Long, "the source returned a block of "),
            (Wrong::Narrow, "the source returned points of dimension 1, expected 2"),
            (Wrong::FewWeights, " weights for "),
            (Wrong::NegativeWeight, "the source returned the weight -1, expected a finite"),
            (Wrong::NanWeight, "the source returned the weight NaN, expected a finite"),
        ] {
            let source = Faulty { points: Points::owned(values.clone(), 2).unwrap(), wrong, from };
            let source = &source;
            let says_so = |what: &str, found: Option<entropysum::Error>| {
                let found = found.unwrap_or_else(|| panic!("{what}: {wrong:?} was accepted"));
                let text = found.to_string();
                assert!(text.contains("mine"), "{what}, {wrong:?}: {text}");
                assert!(text.contains(expected), "{what}, {wrong:?}: {text}");
            };
            let mixture = |name| MixtureSpec::new(registry::build(name, 2).unwrap(), 2);
            let config = Config::default().max_iter(3);
            let minibatches = StreamConfig::default().batch_size(100).epochs(2);
            let skipping = minibatches.clone().bad_rows(BadRows::Skip);
            fn fit<S: Spec<f64>>(
                spec: &S,
                source: &Faulty,
                executor: &Executor,
                stream: Option<&StreamConfig>,
            ) -> Option<entropysum::Error> {
                let config = Config::default().max_iter(3);
                let fitting = Fitting::new(source, executor).config(&config);
                match stream {
                    None => fitting.fit(spec).err(),
                    Some(stream) => fitting.minibatches(stream).fit(spec).err(),
                }
            }
            for stream in [None, Some(&minibatches), Some(&skipping)] {
                says_so("diag", fit(&mixture("gaussian-diag"), source, &executor, stream));
                says_so("bernoulli", fit(&mixture("bernoulli"), source, &executor, stream));
                let noise = entropysum::model::NoiseStructure::Isotropic;
                let spec = FactorAnalyzersSpec::new(noise, 2, 1);
                says_so("mppca", fit(&spec, source, &executor, stream));
                says_so("sbn", fit(&SbnSpec::new(1), source, &executor, stream));
            }
            says_so("ppca", fit(&LinearGaussianSpec::ppca(1), source, &executor, None));
            says_so("load", data::load(source).err());
            let sides = data::split(source, 0.5, 1).unwrap();
            says_so("split", sides.iter().find_map(|side| data::load(side).err()));
            let all: Vec<Box<dyn DataSource<f64>>> = vec![
                Box::new(Points::owned(values.clone(), 2).unwrap()),
                Box::new(Faulty { points: source.points.clone(), wrong, from }),
            ];
            let all = data::Concat::new(all).unwrap();
            says_so("concat", data::load(&all).err());
            let sound = Points::owned(values.clone(), 2).unwrap();
            let spec = mixture("gaussian-diag");
            let model = em::fit(&spec, &sound, &executor, &config, &mut Silent).unwrap().model;
            says_so("score", inference::score(&model, source, &executor).err());
        }
    }
}

#[test]
fn sparse_blocks_that_cannot_be_read_are_errors() {
    struct Sparse(Vec<usize>, Vec<u32>);
    impl DataSource<f64> for Sparse {
        fn name(&self) -> String {
            "mine".to_owned()
        }
        fn dim(&self) -> usize {
            3
        }
        fn len(&self) -> u64 {
            2
        }
        fn read<'a>(
            &'a self,
            start: u64,
            count: usize,
            buffer: &'a mut BlockBuf<f64>,
        ) -> Result<Block<'a, f64>> {
            buffer.values.resize(3 * count, 1.0);
            let block = Block::from_rows(&buffer.values[..3 * count], 3)?;
            Ok(Block { first: start, ..block })
        }
        fn read_sparse<'a>(
            &'a self,
            start: u64,
            count: usize,
            _: &'a mut BlockBuf<f64>,
        ) -> Option<Block<'a, f64>> {
            let values = &[1.0, 1.0][..];
            let rows = SparseRows::new(&self.0, &self.1, values, 3);
            Some(Block::of_sparse(rows, None, 0).slice(start as usize, count))
        }
    }
    let executor = Executor::new(Some(1)).unwrap();
    for (starts, columns, expected) in [
        (vec![0, 1, 5], vec![0, 1], "rows that do not lie within its 2 values"),
        (vec![0, 2, 1], vec![0, 1], "rows that do not lie within its 2 values"),
        (vec![0, 1, 2], vec![0, 3], "a value in column 3 of 3"),
    ] {
        let source = Sparse(starts, columns);
        let spec = MixtureSpec::new(registry::build("poisson", 3).unwrap(), 1);
        let fault = em::fit(&spec, &source, &executor, &Config::default(), &mut Silent);
        let fault = fault.unwrap_err().to_string();
        assert!(fault.contains(&format!("the source returned {expected}")), "{fault}");
    }
}

/// Parameters that are finite but define no density are no model.
#[test]
fn linear_gaussian_models_beyond_f64_are_refused() {
    for (loadings, noise) in [(1e154, 1.0), (1e160, 1e-100), (1.0, 2.3e-308), (1e5, 1e-300)] {
        for kind in Noise::ALL {
            let noise = if kind == Noise::Isotropic { vec![noise] } else { vec![noise; 3] };
            let model = LinearGaussian::new(kind, vec![0.0; 3], &[loadings; 3], noise);
            let Ok(model) = model else { continue };
            let score = |values: &[f64]| {
                let points = Points::from_rows(values, 3).unwrap();
                inference::score(&model, &points, &Executor::new(Some(1)).unwrap())
            };
            assert!(score(&[0.0; 3]).is_ok_and(|score| score.log_likelihood.is_finite()));
            let _ = (score(&[1e200, -1e200, 0.0]), model.stationary_entropy_sum());
        }
    }
    let refused = LinearGaussian::new(Noise::Isotropic, vec![0.0; 2], &[1e154; 2], vec![1e-300]);
    let fault = refused.unwrap_err().to_string();
    assert!(fault.contains("too large for the noise variances"), "{fault}");
}

#[test]
fn short_names_of_many_columns_are_refused() {
    let model = |text: &str| store::from_bytes::<Mixture>(text.as_bytes()).unwrap_err().to_string();
    for (text, expected) in [
        (
            r#"{"model": "x", "dim": 4000000000, "weights": [1], "blocks": [{"family": "poisson",
                "columns": [0], "parameters": {"rate": [[1]]}}]}"#,
            "points of 4000000000 columns, expected up to 4194304",
        ),
        (
            r#"{"model": "x", "weights": [1], "blocks": [{"family": "poisson",
                "columns": [4000000000], "parameters": {"rate": [[1]]}}]}"#,
            "\"4000000000\" is no column",
        ),
        (r#"{"model": "gaussian-full:0-99999", "weights": [1]}"#, "\"blocks.0.means\" is missing"),
        (
            r#"{"model": "poisson:0-4000000+0-4000000", "weights": [1]}"#,
            "has more than 4194304 columns",
        ),
        (
            r#"{"model": "categorical", "weights": [1], "levels": [999999],
                "probabilities": [[[0.5, 0.5]]]}"#,
            "\"levels\" has 999999, but \"probabilities\" ends at 2",
        ),
    ] {
        let found = model(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn refusal(path: &PathBuf) -> String {
    data::open::<f64>(path, &OpenOptions::default()).unwrap_err().to_string()
}

#[test]
fn lines_have_an_end() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let long = folder.write("long.csv", vec![b'1'; (32 << 20) + 1]);
    assert!(refusal(&long).contains("a line of more than 32 MiB, expected a point a line"));
    let wide = folder.write("wide.csv", "1,".repeat(1 << 19) + "1\n");
    assert!(refusal(&wide).contains("more than 524288 cells"), "{}", refusal(&wide));
    let wide = folder.write("wide.txt", "1 ".repeat((1 << 19) + 1) + "\n");
    assert!(refusal(&wide).contains("more than 524288 cells"));
    let below = folder.write("below.csv", format!("1,2\n3,4\n{}\n", "5".repeat((32 << 20) + 1)));
    assert!(refusal(&below).contains("a line of more than 32 MiB"));
    // Half a million cells are a point.
    let most = folder.write("most.csv", "1,".repeat((1 << 19) - 1) + "1\n");
    let source = data::open::<f64>(most, &OpenOptions::default()).unwrap();
    assert_eq!((source.len(), source.dim()), (1, 1 << 19));

    #[cfg(feature = "compression")]
    {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let bomb = ruzstd::encoding::compress_to_vec(&vec![b'1'; 64 << 20][..], level);
        assert!(bomb.len() < 1 << 20);
        let bomb = folder.write("bomb.csv.zst", bomb);
        assert!(refusal(&bomb).contains("a line of more than 32 MiB"));
    }
}

/// A thousand files are read with as many descriptors as a hundred.
#[cfg(all(feature = "cli", unix))]
#[test]
fn many_files_hold_few_descriptors() {
    use entropysum::data::{Dtype, NpyWriter};
    use std::process::Command;

    let folder = Folder(tempfile::tempdir().unwrap());
    for i in 0..400 {
        let values: Vec<f64> = (0..60).map(|j| f64::from((7 * i + j * j) % 10)).collect();
        let path = folder.0.path().join(format!("a{i}.npy"));
        let mut writer = NpyWriter::create(path, Dtype::F64, Some(2)).unwrap();
        writer.write(&values).unwrap();
        writer.finish().unwrap();
        let line = |pair: &[f64]| format!("{},{}\n", pair[0], pair[1]);
        folder.write(&format!("a{i}.csv"), values.chunks(2).map(line).collect::<String>());
    }
    let program = env!("CARGO_BIN_EXE_entropysum");
    let fit = |files: &str| {
        let options = "-k 2 --batch-size 100 --epochs 2 --memory 4K --json -q";
        let script = format!("ulimit -n 200 && exec {program} fit {files} {options}");
        let output = Command::new("sh").args(["-c", &script]).current_dir(&folder.0).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (binary, text) = (fit("'a*.npy'"), fit("'a*.csv'"));
    assert_eq!(binary["n_points"], 12_000);
    assert_eq!(binary["entropy_sum"], text["entropy_sum"]);
}

/// Values that `f64` has no number for are errors; those that round to the edge of a support stay within it.
#[test]
fn samples_lie_in_the_support() {
    let executor = Executor::new(Some(1)).unwrap();
    let draw = |name: &str, theta: Vec<f64>| {
        let known = entropysum::family::KnownParameters::default();
        let known = if name == "weibull" { known.with("shape", vec![1e-3]) } else { known };
        let dim = if name == "von-mises-fisher" { 3 } else { 1 };
        let family = registry::build_known(name, dim, &known).unwrap();
        let parameters =
            entropysum::family::Parameters { components: vec![theta], shared: Vec::new() };
        let model = Mixture::new(family, vec![1.0], parameters).unwrap();
        let mut all = Vec::new();
        let drawn = inference::sample(&model, 2000, 1, &executor, |values, _| {
            all.extend_from_slice(values);
            Ok(())
        });
        drawn.map(|()| all)
    };
    for (name, theta) in [
        ("log-normal", vec![0.0, 1e6]),
        ("weibull", vec![1.0]),
        ("gamma", vec![1e3, 1e-307]),
        ("inverse-gamma", vec![1e-4, 1.0]),
    ] {
        let fault = draw(name, theta).map(drop).unwrap_err().to_string();
        let expected =
            "the parameters of component 0 reach beyond the numbers of f64: a value drawn";
        assert!(fault.contains(expected), "{name}: {fault}");
    }
    for (name, theta) in [
        ("log-normal", vec![-800.0, 1.0]),
        ("gamma", vec![1e-3, 1e10]),
        ("exponential", vec![1e308]),
    ] {
        let values = draw(name, theta).unwrap();
        assert!(values.iter().all(|&value| value > 0.0 && value.is_finite()), "{name}");
    }

    // Of concentration κ, 1 - w has the mean (D - 1) / 2κ to first order, here 1 / κ.
    for kappa in [0.0, 1e-3, 1.0, 1e6, 1e16, 1e100, 1e308] {
        let values = draw("von-mises-fisher", vec![0.0, 0.0, 1.0, kappa]).unwrap();
        let mut across = 0.0;
        for point in values.chunks(3) {
            let length = point.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-12, "{kappa}: {point:?}");
            across += point[0] * point[0] + point[1] * point[1];
        }
        // The expected square of the part across, 1 - ⟨w²⟩ = 2 A / κ with A = coth κ - 1/κ.
        let mean = match kappa {
            0.0 => 2.0 / 3.0,
            kappa if kappa < 1e-2 => 2.0 / 3.0,
            kappa => 2.0 * (1.0 / kappa.tanh() - 1.0 / kappa) / kappa,
        };
        let error = across / 2000.0 / mean - 1.0;
        // Of 2000 draws the relative standard error is 1 / √2000 = 0.022 at most.
        assert!(error.abs() < 0.1 || mean < 1e-300, "{kappa}: {error}");
    }
}
