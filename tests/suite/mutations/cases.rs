//! Files of all kinds, and how their readers use them.

use super::ROOT;
use crate::common::{clusters, example_points};
use entropysum::data::{self, Dtype, NpyWriter, OpenOptions, Points, TableOptions};
use entropysum::em::{
    AutoencoderSpec, Config, FactorAnalyzersSpec, Fitting, LinearGaussianAlgorithm,
    LinearGaussianSpec, MixtureSpec, SbnSpec, Spec, StepSize, StreamConfig,
};
use entropysum::expert::em::Stepwise;
use entropysum::expert::model::GenerativeModel;
use entropysum::expert::store::Stored;
use entropysum::family::{Regularization, registry};
use entropysum::model::{Activation, LatentPosterior, Mixture, NoiseStructure};
use entropysum::store::{self, Model, WithSchema};
use entropysum::{Executor, inference};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Reads and uses a file; tells whether it was accepted.
pub type Use = Box<dyn Fn(&Path) -> bool + Send>;

/// A file that a reader takes, what to do before its checksums are tested, and how it is read and used.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Whether it is text, in which numbers are words.
    pub is_text: bool,
    pub seal: fn(&mut Vec<u8>),
    pub use_file: Use,
}

impl Case {
    fn new(
        name: &str,
        bytes: impl Into<Vec<u8>>,
        use_file: impl Fn(&Path) -> bool + Send + 'static,
    ) -> Self {
        let bytes = bytes.into();
        let is_text = bytes.is_ascii();
        Self { name: name.to_owned(), bytes, is_text, seal: |_| {}, use_file: Box::new(use_file) }
    }
}

/// Opens a file of points and loads it.
fn load(path: &Path, options: &OpenOptions) -> bool {
    let loaded = data::open::<f64>(path, options).and_then(|source| data::load(&*source));
    let _ = data::open::<f32>(path, &options.clone().memory(Some(100)).missing(true));
    loaded.is_ok()
}

/// Files of points.
pub fn points() -> Vec<Case> {
    let x = clusters(40, 3, 2, 2.0, 1);
    let folder = tempfile::tempdir().unwrap();
    let npy = |dtype| {
        let path = folder.path().join("points.npy");
        let mut writer = NpyWriter::create(&path, dtype, Some(3)).unwrap();
        writer.write(&x).unwrap();
        writer.finish().unwrap();
        fs::read(path).unwrap()
    };
    let line = |row: &[f64]| format!("{},{},{}\n", row[0], row[1], row[2].abs());
    let csv = "x,y,w\n".to_owned() + &x.chunks(3).map(line).collect::<String>();
    let quoted = "id;\"na;me\";city;v\n1;\"a \"\"b\"\" c\";Rome;1,5\n2;\"d\ne\";Paris;-2,25\n# note\n3;f;NA;4\n";
    let mtx = "%%MatrixMarket matrix coordinate integer general\n% note\n4 5 5\n1 1 3\n2 5 1\n4 2 2\n4 3 7\n1 4 1\n";
    let plain = |path: &Path| load(path, &OpenOptions::default());
    let mut cases = vec![
        Case::new("points.npy", npy(Dtype::F64), plain),
        Case::new("points.npy", npy(Dtype::F32), plain),
        Case::new("points.csv", csv.clone(), plain),
        Case::new("points.csv", csv.clone(), |path| {
            let options = OpenOptions::default().weights_column(Some("w".to_owned()));
            load(path, &options.complete(true).bad_rows(data::BadRows::Skip))
        }),
        Case::new("points.csv", quoted, |path| {
            let table = TableOptions::default().named_by_model(vec![("city".to_owned(), true)]);
            if let Ok(mut lines) = data::Lines::open(path, &TableOptions::default()) {
                while let Ok(Some(_)) = lines.next_line() {}
            }
            load(path, &OpenOptions::default().missing(true).table(table))
        }),
        Case::new("points.txt", csv.replace(',', "  "), plain),
        Case::new("points.mtx", mtx, plain),
        Case::new("points.raw", npy(Dtype::F32), |path| {
            load(path, &OpenOptions::default().raw(Some((Dtype::F32, 2))))
        }),
    ];
    let scipy = Path::new(ROOT).join("tests/fixtures/scipy");
    for name in ["float64_int32.npz", "float32_int64_stored.npz"] {
        cases.push(Case::new("points.npz", fs::read(scipy.join(name)).unwrap(), plain));
    }
    #[cfg(feature = "compression")]
    {
        use std::io::Write;
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(csv.as_bytes(), level);
        cases.push(Case::new("points.csv.zst", zstd, plain));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(csv.as_bytes()).unwrap();
        cases.push(Case::new("points.csv.gz", gzip.finish().unwrap(), plain));
    }
    #[cfg(feature = "parquet")]
    for is_packed in [false, true] {
        cases.push(Case::new("points.parquet", parquet(is_packed), |path| {
            load(path, &OpenOptions::default().missing(true))
        }));
    }
    cases
}

/// A table of numbers, texts, booleans, nulls and lists, in two row groups.
#[cfg(feature = "parquet")]
fn parquet(is_packed: bool) -> Vec<u8> {
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type,
    };
    use ::parquet::file::properties::{WriterProperties, WriterVersion};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    let schema = "message schema { required double a; optional float b; required int64 n; required boolean ok;
        required binary city (UTF8); optional group v (LIST) { repeated group list { optional double element; } } }";
    let (compression, version) = match is_packed {
        false => (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        true => (Compression::ZSTD(ZstdLevel::default()), WriterVersion::PARQUET_2_0),
    };
    let properties = WriterProperties::builder().set_compression(compression);
    let properties = Arc::new(properties.set_writer_version(version).build());
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let n = 30usize;
    for _ in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        let numbers: Vec<f64> = (0..2 * n).map(|i| (i as f64 * 0.37).sin()).collect();
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            match index {
                0 => column.typed::<DoubleType>().write_batch(&numbers[..n], None, None).unwrap(),
                1 => {
                    let levels: Vec<i16> = (0..n).map(|i| i16::from(i % 5 > 0)).collect();
                    let some = vec![1.5f32; levels.iter().filter(|level| **level > 0).count()];
                    column.typed::<FloatType>().write_batch(&some, Some(&levels), None).unwrap()
                }
                2 => {
                    let values: Vec<i64> = (0..n as i64).collect();
                    column.typed::<Int64Type>().write_batch(&values, None, None).unwrap()
                }
                3 => {
                    let values: Vec<bool> = (0..n).map(|i| i % 3 == 0).collect();
                    column.typed::<BoolType>().write_batch(&values, None, None).unwrap()
                }
                4 => {
                    let city = |i| ByteArray::from(["Rome", "Paris"][i % 2]);
                    let values: Vec<ByteArray> = (0..n).map(city).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap()
                }
                _ => {
                    let repetitions: Vec<i16> = (0..2 * n).map(|i| (i % 2) as i16).collect();
                    let definitions = vec![3; 2 * n];
                    let column = column.typed::<DoubleType>();
                    column.write_batch(&numbers, Some(&definitions), Some(&repetitions)).unwrap()
                }
            };
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn executor() -> Executor {
    Executor::new(Some(1)).unwrap()
}

/// Reads a model and does with it what commands do.
fn use_model(path: &Path) -> bool {
    let Ok(WithSchema::<Model> { model, .. }) = store::load(path) else { return false };
    let _ = store::to_json(&model);
    macro_rules! use_each {
        ($($kind:ident),*) => {
            match model {
                $(Model::$kind(model) => {
                    let dim = GenerativeModel::dim(&model);
                    let values: Vec<f64> = (0..4 * dim).map(|i| (i % 2) as f64).collect();
                    let points = Points::from_rows(&values, dim).unwrap();
                    let executor = executor();
                    let _ = inference::score(&model, &points, &executor);
                    let _ = inference::sample(&model, 8, 1, &executor, |_, _| Ok(()));
                })*
                _ => unreachable!("all kinds are there"),
            }
        };
    }
    use_each!(
        Mixture,
        MixtureOfFactorAnalyzers,
        LinearGaussian,
        SigmoidBeliefNet,
        VariationalAutoencoder
    );
    true
}

/// Fits a model as the `Spec` says, and makes cases of its files.
fn add_model<S: Spec<f64, Model: Stored>>(
    name: &str,
    spec: &S,
    x: &[f64],
    dim: usize,
    cases: &mut Vec<Case>,
) {
    let points = Points::from_rows(x, dim).unwrap();
    let config = Config::default().max_iter(2);
    let executor = executor();
    let model = Fitting::new(&points, &executor).config(&config).fit(spec).unwrap().model;
    let json = store::to_json(&model).to_string();
    cases.push(Case::new(&format!("{name}.json"), json, use_model));
    let mut bytes = store::to_bytes(&model);
    drop_checksum(&mut bytes);
    cases.push(Case {
        is_text: false,
        ..Case::new(&format!("{name}.safetensors"), bytes, use_model)
    });
}

/// Takes the checksum out of a model, as a program would that writes one of its own.
fn drop_checksum(bytes: &mut Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header["__metadata__"].as_object_mut().unwrap().remove("checksum").unwrap();
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    *bytes = [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[8 + length..]].concat();
}

/// Model files in both formats.
pub fn models() -> Vec<Case> {
    let mut cases = Vec::new();
    let x = clusters(60, 3, 2, 2.0, 3);
    for name in ["gaussian-full", "gaussian-tied-diag", "laplace"] {
        let known = entropysum::family::KnownParameters::default();
        let known = if name == "laplace" { known.with("location", vec![0.0]) } else { known };
        let family = registry::build_known(name, 3, &known).unwrap();
        add_model(name, &MixtureSpec::new(family, 2), &x, 3, &mut cases);
    }
    for name in ["gamma", "von-mises-fisher", "dirichlet", "von-mises"] {
        let family = registry::build(name, 3).unwrap();
        let y = example_points(&*family, 60, 3, 5);
        add_model(name, &MixtureSpec::new(family, 2), &y, 3, &mut cases);
    }
    let mixed: Vec<f64> = (0..180).map(|i| f64::from(i * i % 5)).collect();
    let name = "gaussian-diag:0,poisson:2,categorical:1";
    let known = entropysum::family::KnownParameters::default().with("levels", vec![5.0]);
    let family = registry::build_known(name, 3, &known).unwrap();
    add_model("product", &MixtureSpec::new(family, 2), &mixed, 3, &mut cases);
    for noise in NoiseStructure::ALL {
        let spec = FactorAnalyzersSpec::new(noise, 2, 1);
        add_model(noise.model_name(), &spec, &x, 3, &mut cases);
    }
    add_model("ppca", &LinearGaussianSpec::ppca(1), &x, 3, &mut cases);
    add_model("factor-analysis", &LinearGaussianSpec::factor_analysis(1), &x, 3, &mut cases);
    add_model("vae", &autoencoder(), &x, 3, &mut cases);
    let code = AutoencoderSpec::sparse_coding(2).hidden(vec![3]);
    add_model("sparse-coding", &code, &x, 3, &mut cases);
    let bits: Vec<f64> = (0..240).map(|i| f64::from(i * i % 3 % 2)).collect();
    add_model("sbn", &SbnSpec::new(2), &bits, 4, &mut cases);
    add_model("sbn", &truncated(), &bits, 4, &mut cases);
    let code = SbnSpec::binary_sparse_coding(3);
    add_model("binary-sparse-coding", &code, &x, 3, &mut cases);
    let code = code.with_hidden_units(vec![2], Activation::Tanh);
    add_model("binary-sparse-coding", &code, &x, 3, &mut cases);
    cases
}

fn autoencoder() -> AutoencoderSpec {
    AutoencoderSpec::new(2).hidden(vec![3])
}

fn truncated() -> SbnSpec {
    SbnSpec::new(5).with_posterior(LatentPosterior::Truncated { states: 4 })
}

/// Makes a case of a checkpoint, which is gone on from.
fn add_checkpoint<S>(
    name: &str,
    spec: S,
    x: Vec<f64>,
    dim: usize,
    stream: Option<StreamConfig>,
    cases: &mut Vec<Case>,
) where
    S: Spec<f64, Model: Stored> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let fit = move |path: &Path, resumed: bool| {
        let points = Points::from_rows(&x, dim).unwrap();
        let executor = executor();
        let iterations = if resumed { 5 } else { 3 };
        let config = Config::default().max_iter(iterations).tol(0.0);
        let mut fitting = Fitting::new(&points, &executor).config(&config);
        if let Some(stream) = &stream {
            fitting = fitting.minibatches(stream);
        }
        if resumed {
            let Ok(saved) = store::load_checkpoint(path) else { return false };
            fitting.resume(saved).fit(&spec).is_ok()
        } else {
            let mut kept = 0;
            let save = |state: &entropysum::em::Checkpoint<'_, S::Model>| {
                kept += 1;
                if kept <= 3 { store::save_checkpoint(path, state) } else { Ok(()) }
            };
            fitting.checkpoints(Duration::ZERO, save).fit(&spec).is_ok()
        }
    };
    assert!(fit(&path, false), "{name}");
    let bytes = fs::read(&path).unwrap();
    let case = Case::new(name, bytes, move |path| fit(path, true));
    cases.push(Case { seal: seal_checkpoint, ..case });
}

/// Makes the checksums of a checkpoint agree with what it holds, as far as its parts can still be told.
fn seal_checkpoint(bytes: &mut Vec<u8>) {
    let Some(length) = bytes.get(24..32) else { return };
    let length = u64::from_le_bytes(length.try_into().unwrap());
    let Some(end) = usize::try_from(length).ok().and_then(|length| length.checked_add(32)) else {
        return;
    };
    let Some(header) = bytes.get(32..end) else { return };
    let Ok(mut header) = serde_json::from_slice::<serde_json::Value>(header) else { return };
    let size = |key: &str| header[key].as_u64().and_then(|size| usize::try_from(size).ok());
    let (Some(model), Some(state)) = (size("model_bytes"), size("state_bytes")) else { return };
    let begin = end + 4;
    let Some(middle) = model.checked_add(state).and_then(|size| size.checked_add(begin)) else {
        return;
    };
    let Some(parts) = bytes.get(begin..middle) else { return };
    // The checksum within the model is that of another layer.
    header["checksum"] = crc32fast::hash(parts).into();
    header["row_checksum"] = crc32fast::hash(&bytes[middle..]).into();
    header["row_bytes"] = (bytes.len() - middle).into();
    let text = header.to_string().into_bytes();
    let mut sealed = [&bytes[..24], &(text.len() as u64).to_le_bytes(), &text].concat();
    sealed.extend(crc32fast::hash(&text).to_le_bytes());
    sealed.extend_from_slice(&bytes[begin..]);
    *bytes = sealed;
}

/// Checkpoints, and a learner.
pub fn checkpoints() -> Vec<Case> {
    let mut cases = Vec::new();
    let x = || clusters(60, 3, 2, 2.0, 3);
    let bits = || (0..240).map(|i| f64::from(i * i % 3 % 2)).collect::<Vec<f64>>();
    let mixture = || MixtureSpec::new(registry::build("gaussian-full", 3).unwrap(), 2);
    let stream = StreamConfig::default().batch_size(20).epochs(4);
    let incremental = stream.clone().algorithm(entropysum::em::StreamAlgorithm::Incremental);
    let analysers = || FactorAnalyzersSpec::new(NoiseStructure::Isotropic, 2, 1);
    let ppca = LinearGaussianSpec::ppca(1).with_algorithm(LinearGaussianAlgorithm::Em);
    add_checkpoint("mixture", mixture(), x(), 3, None, &mut cases);
    add_checkpoint("mixture-stream", mixture(), x(), 3, Some(stream.clone()), &mut cases);
    add_checkpoint("mixture-incremental", mixture(), x(), 3, Some(incremental), &mut cases);
    add_checkpoint("mppca", analysers(), x(), 3, None, &mut cases);
    add_checkpoint("mppca-stream", analysers(), x(), 3, Some(stream.clone()), &mut cases);
    add_checkpoint("ppca", ppca, x(), 3, None, &mut cases);
    add_checkpoint("sbn", SbnSpec::new(2), bits(), 4, None, &mut cases);
    add_checkpoint("truncated", truncated(), bits(), 4, None, &mut cases);
    add_checkpoint("vae-stream", autoencoder(), x(), 3, Some(stream.clone()), &mut cases);
    add_checkpoint("truncated-stream", truncated(), bits(), 4, Some(stream), &mut cases);

    let points = clusters(60, 3, 2, 2.0, 3);
    let points = Points::from_rows(&points, 3).unwrap();
    let executor = executor();
    let model = Fitting::new(&points, &executor).fit(&mixture()).unwrap().model;
    let learner = Stepwise::new(model, StepSize::default(), Regularization::default()).unwrap();
    let seal = |bytes: &mut Vec<u8>| {
        let content = bytes.len().saturating_sub(4);
        let checksum = crc32fast::hash(&bytes[..content]).to_le_bytes();
        bytes.truncate(content);
        bytes.extend(checksum);
    };
    let case = Case::new("learner", store::learner_to_bytes(&learner), |path| {
        store::learner_from_bytes::<Mixture>(&fs::read(path).unwrap()).is_ok()
    });
    cases.push(Case { seal, ..case });
    cases
}
