//! Model files: exact round trips, and clear errors for everything else.

use entropysum::error::Error;
use entropysum::expert::family::ExponentialFamily;
use entropysum::expert::rng;
use entropysum::family::{Covariance, Gaussian, Parameters};
use entropysum::model::{Mixture, Posterior};
use entropysum::store::{self, save, to_json};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

fn load(path: impl AsRef<Path>) -> entropysum::Result<Mixture> {
    store::load(path)
}

fn from_json(value: &Value) -> entropysum::Result<Mixture> {
    store::from_json(value)
}

/// Numbers in [0, 1) with all their digits.
fn digits(seed: u64) -> impl FnMut() -> f64 {
    let mut rng = rng::stream(seed, 0);
    move || rng::uniform(&mut rng)
}

/// A mixture without a round number in it.
fn example(covariance: Covariance, n_components: usize, dim: usize) -> Mixture {
    let mut next = digits(n_components as u64 * 31 + dim as u64);
    let mut covariance_values = |scale: f64| -> Vec<f64> {
        let mut values = match covariance {
            Covariance::Full | Covariance::Tied => vec![0.0; dim * dim],
            Covariance::Diag | Covariance::TiedDiag => vec![0.0; dim],
            Covariance::Spherical | Covariance::TiedSpherical => vec![0.0],
        };
        if values.len() == dim * dim {
            for i in 0..dim {
                for j in 0..i {
                    values[i * dim + j] = 0.1 * next() * scale;
                    values[j * dim + i] = values[i * dim + j];
                }
                values[i * dim + i] = (dim as f64 + next()) * scale;
            }
        } else {
            values.iter_mut().for_each(|value| *value = next() * scale);
        }
        values
    };
    let is_tied = Gaussian::new(covariance, dim).parameters()[1].shared;
    let shared = if is_tied { covariance_values(1e-30) } else { Vec::new() };
    let own: Vec<Vec<f64>> = (0..n_components)
        .map(|c| if is_tied { Vec::new() } else { covariance_values(10f64.powi(c as i32 * 20)) })
        .collect();
    let mut next = digits(7);
    let components = own
        .into_iter()
        .map(|own| (0..dim).map(|_| (next() - 0.5) * 1e6).chain(own).collect())
        .collect();
    let masses: Vec<f64> = (0..n_components).map(|_| next()).collect();
    let total: f64 = masses.iter().sum();
    let weights = masses.iter().map(|mass| mass / total).collect();
    let family = Arc::new(Gaussian::new(covariance, dim));
    Mixture::new(family, weights, Parameters { components, shared }).unwrap()
}

fn bits(mixture: &Mixture) -> Vec<u64> {
    let parameters = mixture.parameters();
    let values = mixture.weights().iter().chain(parameters.components.iter().flatten());
    values.chain(&parameters.shared).map(|value| value.to_bits()).collect()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What `load` says to a file of these bytes, without the path it begins with.
    fn refusal(&self, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path("given");
        fs::write(&path, bytes).unwrap();
        let fault = load(&path).expect_err("not a model");
        assert!(matches!(fault, Error::Model(_)), "{fault:?}");
        let text = fault.to_string();
        text.strip_prefix(&format!("{}: ", path.display())).expect("the path comes first").into()
    }
}

fn bytes_of(mixture: &Mixture, name: &str) -> Vec<u8> {
    let folder = Folder::new();
    save(folder.path(name), mixture).unwrap();
    fs::read(folder.path(name)).unwrap()
}

/// Splits safetensors into header and data.
fn header(bytes: &[u8]) -> (Value, &[u8]) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), &bytes[8 + length..])
}

/// Joins a header that was changed on purpose, without the checksum of the old one, and tensors.
fn with_header(header: &Value, data: &[u8]) -> Vec<u8> {
    let mut header = header.clone();
    if let Some(metadata) = header.get_mut("__metadata__").and_then(Value::as_object_mut) {
        metadata.remove("checksum");
    }
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn every_gaussian_comes_back_to_the_bit() {
    let folder = Folder::new();
    for covariance in Covariance::ALL {
        for (n_components, dim) in [(1, 1), (1, 3), (3, 1), (5, 4), (300, 2)] {
            // Powers of ten in the covariances end at 1e308.
            if n_components == 300 && !covariance.name().starts_with("tied") {
                continue;
            }
            for posterior in [Posterior::Exact, Posterior::Hard] {
                let mixture = example(covariance, n_components, dim).with_posterior(posterior);
                for name in ["model.json", "model.JSON", "model.safetensors", "model"] {
                    let path = folder.path(name);
                    save(&path, &mixture).unwrap();
                    let loaded = load(&path).unwrap();
                    assert_eq!(loaded.family().name(), mixture.family().name());
                    assert_eq!(loaded.posterior(), posterior);
                    assert_eq!(bits(&loaded), bits(&mixture), "{name} {covariance:?}");
                    let is_json = name.to_lowercase().ends_with(".json");
                    assert_eq!(fs::read(&path).unwrap()[0] == b'{', is_json);
                }
                assert_eq!(bits(&from_json(&to_json(&mixture)).unwrap()), bits(&mixture));
            }
        }
    }
}

#[test]
fn arrays_have_the_documented_shapes() {
    let shapes = |covariance: Covariance| {
        let mixture = example(covariance, 5, 3);
        let mut shape = Vec::new();
        let value = to_json(&mixture);
        let mut inner = &value["covariances"];
        while let Some(entries) = inner.as_array() {
            shape.push(entries.len() as u64);
            inner = &entries[0];
        }
        assert!(inner.is_f64());
        let bytes = bytes_of(&mixture, "model");
        assert_eq!(header(&bytes).0["covariances"]["shape"], json!(shape));
        shape
    };
    assert_eq!(shapes(Covariance::Full), [5, 3, 3]);
    assert_eq!(shapes(Covariance::Tied), [3, 3]);
    assert_eq!(shapes(Covariance::Diag), [5, 3]);
    assert_eq!(shapes(Covariance::Spherical), [5]);
    assert_eq!(shapes(Covariance::TiedDiag), [3]);
    assert!(shapes(Covariance::TiedSpherical).is_empty());
}

#[test]
fn safetensors_are_plain_and_always_the_same() {
    let mixture = example(Covariance::TiedSpherical, 2, 3).with_posterior(Posterior::Hard);
    let bytes = bytes_of(&mixture, "model.safetensors");
    let (header, data) = header(&bytes);
    let expected = json!({
        "__metadata__": {
            "format": "entropysum",
            "version": "1",
            "model": "gaussian-tied-spherical",
            "posterior": "hard",
            "created_by": concat!("entropysum ", env!("CARGO_PKG_VERSION")),
            "checksum": header["__metadata__"]["checksum"],
        },
        "weights": { "dtype": "F64", "shape": [2], "data_offsets": [0, 16] },
        "means": { "dtype": "F64", "shape": [2, 3], "data_offsets": [16, 64] },
        "covariances": { "dtype": "F64", "shape": [], "data_offsets": [64, 72] },
    });
    // As text, since the order counts.
    assert_eq!(header.to_string(), expected.to_string());
    assert_eq!((bytes.len() - data.len()) % 8, 0);
    assert_eq!(data[..8], mixture.weights()[0].to_le_bytes());
    assert_eq!(data[64..], mixture.parameters().shared[0].to_le_bytes());
    for _ in 0..5 {
        assert_eq!(bytes_of(&mixture, "model.safetensors"), bytes);
    }
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("means").unwrap().shape(), [2, 3]);
}

/// As the documentation of the module says it, by other means.
#[test]
fn the_checksum_is_the_documented_one() {
    let mixture = example(Covariance::TiedSpherical, 2, 3);
    let bytes = bytes_of(&mixture, "model.safetensors");
    let (header, data) = header(&bytes);
    let metadata = header["__metadata__"].as_object().unwrap();
    let mut text = Vec::new();
    let mut keys: Vec<_> = metadata.keys().filter(|key| *key != "checksum").collect();
    keys.sort();
    for key in keys {
        text.extend(format!("{key}\0{}\0", metadata[key].as_str().unwrap()).into_bytes());
    }
    for (name, sizes, values) in [
        ("covariances", &[][..], &data[64..72]),
        ("means", &[2, 3], &data[16..64]),
        ("weights", &[2], &data[..16]),
    ] {
        text.extend(name.bytes());
        sizes.iter().for_each(|size: &u64| text.extend(size.to_le_bytes()));
        text.extend(values);
    }
    assert_eq!(metadata["checksum"], format!("{:08x}", crc32fast::hash(&text)));
}

#[test]
fn no_bit_of_a_model_file_flips_unnoticed() {
    let mixture = example(Covariance::Diag, 2, 3);
    let bytes = bytes_of(&mixture, "model");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        match store::from_bytes::<Mixture>(&damaged) {
            // White space, and the name of the checksum, say nothing of the model.
            Ok(found) => assert!(at / 8 < start && bits(&found) == bits(&mixture), "bit {at}"),
            Err(fault) => assert!(matches!(fault, Error::Model(_)), "bit {at}: {fault}"),
        }
    }
    let mut damaged = bytes.clone();
    damaged[start + 20] ^= 1;
    let fault = store::from_bytes::<Mixture>(&damaged).unwrap_err().to_string();
    assert!(
        fault.starts_with("damaged safetensors: the checksum does not agree; if a program"),
        "{fault}"
    );
    // Another order of metadata and tensors is the same model.
    let (header, data) = header(&bytes);
    let mut other = serde_json::Map::new();
    header.as_object().unwrap().iter().rev().for_each(|(key, value)| {
        other.insert(key.clone(), value.clone());
    });
    let text = Value::from(other).to_string();
    let copied = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat();
    assert_eq!(bits(&store::from_bytes(&copied).unwrap()), bits(&mixture));
}

#[test]
fn single_precision_and_other_orders_are_read() {
    let mixture = example(Covariance::Diag, 3, 2);
    let bytes = bytes_of(&mixture, "model");
    let (header, data) = header(&bytes);
    let mut metadata = header["__metadata__"].clone();
    metadata.as_object_mut().unwrap().remove("posterior");
    metadata["model"] = "gaussian-diag".into();
    let values: Vec<f32> =
        data.chunks(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()) as f32).collect();
    let of = |values: &[f32]| values.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
    // Covariances stay below f32's largest number for the first component only; take ones.
    let data = [of(&[1.0; 6]), of(&values[3..9]), of(&values[..3]), vec![7; 3]].concat();
    let header = json!({
        "covariances": { "dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24] },
        "means": { "dtype": "F32", "shape": [3, 2], "data_offsets": [24, 48] },
        "weights": { "dtype": "F32", "shape": [3], "data_offsets": [48, 60] },
        "unknown": { "dtype": "U8", "shape": [3], "data_offsets": [60, 63] },
        "__metadata__": metadata,
    });
    let folder = Folder::new();
    fs::write(folder.path("f32"), with_header(&header, &data)).unwrap();
    let loaded = load(folder.path("f32")).unwrap();
    assert_eq!(loaded.posterior(), Posterior::Exact);
    for (found, expected) in loaded.weights().iter().zip(mixture.weights()) {
        assert!((found - expected).abs() < 1e-6);
    }
    let means: Vec<f64> = values[3..9].iter().map(|&it| it.into()).collect();
    assert_eq!(loaded.parameter("means").unwrap(), means);
}

#[test]
fn json_needs_little_and_ignores_the_rest() {
    let value = json!({
        "entropy_contributions": [1, 2],
        "posterior": "hard",
        "parameters": { "covariances": [[1, 2], [3, 4]] },
        "model": "gaussian-diag",
        "means": [[0, 1], [2, 3]],
        "weights": [0.5, 0.5],
    });
    let mixture = from_json(&value).unwrap();
    assert_eq!(mixture.posterior(), Posterior::Hard);
    assert_eq!(mixture.parameter("means").unwrap(), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(mixture.parameter("covariances").unwrap(), [1.0, 2.0, 3.0, 4.0]);

    let folder = Folder::new();
    fs::write(folder.path("any name"), format!("\n\t {value}\n")).unwrap();
    assert_eq!(bits(&load(folder.path("any name")).unwrap()), bits(&mixture));
}

#[test]
fn json_faults_name_the_key_and_the_index() {
    let good = to_json(&example(Covariance::Full, 2, 2));
    let refusal = |path: &str, replacement: Value| {
        let mut value = good.clone();
        *value.pointer_mut(path).expect("there is such a place") = replacement;
        from_json(&value).unwrap_err().to_string()
    };
    let removed = |key: &str| {
        let mut value = good.clone();
        value.as_object_mut().unwrap().remove(key).unwrap();
        from_json(&value).unwrap_err().to_string()
    };
    let cases = [
        (refusal("/format", json!("onnx")), r#"the format is "onnx", expected "entropysum""#),
        (refusal("/format", json!(1)), r#""format" is 1, expected a string"#),
        (
            refusal("/version", json!(2)),
            "written by a newer entropysum: format 2, this one reads 1",
        ),
        (refusal("/version", json!(0)), "the version is 0, expected 1"),
        (refusal("/version", json!("1")), r#""version" is "1", expected a whole number"#),
        (removed("model"), r#""model" is missing: not a model, or not one of entropysum"#),
        (
            refusal("/posterior", json!("soft")),
            r#"the posterior is "soft", expected exact or hard"#,
        ),
        (refusal("/n_components", json!(3)), r#""n_components" is 3, but the arrays have 2"#),
        (refusal("/dim", json!(7)), r#""dim" is 7, but the arrays have 2"#),
        (removed("means"), r#""means" is missing, which gaussian-full needs"#),
        (removed("weights"), r#""weights" is missing, which gaussian-full needs"#),
        (
            refusal("/weights", json!([])),
            r#""weights" has shape 0, expected one number a component"#,
        ),
        (
            refusal("/weights", json!(1)),
            r#""weights" has shape [] (one number), expected one number a component"#,
        ),
        (refusal("/weights/1", json!(null)), r#""weights"[1] is null, expected a number"#),
        (
            refusal("/weights/1", json!([0.5])),
            r#""weights"[1] is an array of 1, expected a number"#,
        ),
        (refusal("/means/0/1", json!("1")), r#""means"[0][1] is "1", expected a number"#),
        (
            refusal("/means/1", json!([1, 2, 3])),
            r#""means"[1] is an array of 3, expected an array of 2 as those before it"#,
        ),
        (
            refusal("/means/1", json!(1)),
            r#""means"[1] is 1, expected an array of 2 as those before it"#,
        ),
        (
            refusal("/means", json!([1, 2])),
            r#""means" has shape 2, expected 2 (components) × D (dimensions)"#,
        ),
        (
            refusal("/means", json!([[], []])),
            r#""means" has shape 2 × 0, expected 2 (components) × D (dimensions)"#,
        ),
        (
            refusal("/means", json!([[1, 2], [3, 4], [5, 6]])),
            r#""means" has shape 3 × 2, expected 2 (components) × D (dimensions)"#,
        ),
        (
            refusal("/means", json!([[[1], [2]], [[3], [4]]])),
            r#""means" has shape 2 × 2 × 1, expected 2 × 2"#,
        ),
        (
            refusal("/covariances", json!([[1, 0], [0, 1]])),
            r#""covariances" has shape 2 × 2, expected 2 × 2 × 2"#,
        ),
        (refusal("/covariances/1/0", json!({})), r#"is an object, expected an array of 2"#),
        (
            refusal("/covariances/0/0/0", json!(-1)),
            "component 0: covariance is not positive definite",
        ),
        (refusal("/covariances/1/0/1", json!(9e99)), "component 1: covariance is not symmetric"),
        (refusal("/weights", json!([0.5, 0.6])), "weights sum to 1.1, expected 1"),
        (refusal("/weights", json!([1.5, -0.5])), "weight of component 1 is -0.5"),
        (refusal("/model", json!("gaussian-round")), r#"no model is called "gaussian-round""#),
        (
            from_json(&json!([1])).unwrap_err().to_string(),
            "found an array of 1, expected an object",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn safetensors_faults_are_named() {
    let folder = Folder::new();
    let bytes = bytes_of(&example(Covariance::TiedDiag, 2, 3), "model");
    let (good, data) = header(&bytes);
    let refusal = |path: &str, replacement: Value| {
        let mut header = good.clone();
        *header.pointer_mut(path).expect("there is such a place") = replacement;
        folder.refusal(with_header(&header, data))
    };
    let nan_at = |offset: usize| {
        let mut data = data.to_vec();
        data[offset..offset + 8].copy_from_slice(&f64::NAN.to_le_bytes());
        folder.refusal(with_header(&good, &data))
    };
    let renamed = with_header(&good, data).iter().map(|&b| b as char).collect::<String>();
    let renamed: Vec<u8> =
        renamed.replace("\"means\"", "\"meens\"").chars().map(|c| c as u8).collect();
    let foreign = json!({ "x": { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] } });
    let cases = [
        (folder.refusal(""), "the file is empty, expected a model"),
        (folder.refusal(" \n\n"), "the file is empty, expected a model"),
        (folder.refusal("PK\x03\x04 and so on"), "neither JSON nor safetensors, expected a model"),
        (folder.refusal("0.1,0.2\n"), "neither JSON nor safetensors, expected a model"),
        (folder.refusal("{\"model\": "), "damaged JSON: EOF while parsing"),
        (
            folder.refusal(with_header(&foreign, &[0; 4])),
            "safetensors without metadata of entropysum: not one of its models",
        ),
        (
            refusal("/__metadata__/format", json!("pt")),
            r#"the format is "pt", expected "entropysum""#,
        ),
        (
            refusal("/__metadata__/version", json!("2")),
            "written by a newer entropysum: format 2, this one reads 1",
        ),
        (refusal("/__metadata__/version", json!("one")), r#"the version is "one", expected 1"#),
        (refusal("/__metadata__/version", json!(1)), "damaged safetensors header"),
        (refusal("/__metadata__/model", json!("poisson?")), r#"no model is called "poisson?""#),
        (
            refusal("/__metadata__/posterior", json!("")),
            r#"the posterior is "", expected exact or hard"#,
        ),
        (folder.refusal(renamed), r#"tensor "means" is missing, which gaussian-tied-diag needs"#),
        (
            refusal("/means/dtype", json!("I64")),
            r#"tensor "means" has type I64, expected F64 or F32"#,
        ),
        (refusal("/means/dtype", json!("F32")), "damaged safetensors header"),
        (
            refusal("/covariances/shape", json!([3, 1])),
            r#""covariances" has shape 3 × 1, expected 3"#,
        ),
        (
            refusal("/means/shape", json!([3, 2])),
            r#""means" has shape 3 × 2, expected 2 (components)"#,
        ),
        (refusal("/means/shape", json!([6])), r#""means" has shape 6, expected 2 (components)"#),
        (refusal("/weights/shape", json!([2, 1])), r#""weights" has shape 2 × 1"#),
        (nan_at(8), r#""weights"[1] is NaN, expected a finite number"#),
        (nan_at(16 + 4 * 8), r#""means"[1][1] is NaN, expected a finite number"#),
        (nan_at(16 + 48), r#""covariances"[0] is NaN, expected a finite number"#),
        (folder.refusal(&bytes[..bytes.len() - 1]), "bytes of tensors, expected 88"),
        (folder.refusal(&bytes[..100]), "damaged safetensors: 100 bytes, expected a header of"),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "found    {found}\nexpected {expected}");
    }
    // Sizes that no memory holds.
    let huge = 1u64 << 57;
    for shape in [json!([huge]), json!([0, huge, huge]), json!([u64::MAX])] {
        refusal("/weights/shape", shape);
    }
    let mut header = json!({ "__metadata__": good["__metadata__"] });
    for i in 0..9u64 {
        let size = 1u64 << 60;
        let (start, end) = (i.wrapping_mul(size), (i + 1).wrapping_mul(size));
        header[format!("t{i}")] =
            json!({ "dtype": "F64", "shape": [1u64 << 57], "data_offsets": [start, end] });
    }
    folder.refusal(with_header(&header, data));
    let nested = "[".repeat(100_000);
    folder.refusal(format!("{{\"model\": {nested}"));
}

#[test]
fn no_bytes_make_it_panic() {
    let folder = Folder::new();
    let path = folder.path("damaged");
    let try_load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        load(&path)
    };
    for name in ["model.json", "model.safetensors"] {
        let bytes = bytes_of(&example(Covariance::Full, 2, 2), name);
        for length in 0..bytes.len() {
            // JSON may lack its last line end.
            let complete = bytes[..length].trim_ascii_end() == bytes.trim_ascii_end();
            assert_eq!(try_load(&bytes[..length]).is_ok(), complete, "{name} cut at {length}");
        }
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[i] ^= 1 << bit;
                if let Ok(mixture) = try_load(&damaged) {
                    // A digit that became another one: still a valid model.
                    assert!(mixture.weights().iter().all(|w| w.is_finite()));
                }
            }
        }
    }
    let mut next = digits(3);
    for length in 0..2000 {
        let random: Vec<u8> = (0..length % 200).map(|_| (next() * 256.0) as u8).collect();
        assert!(try_load(&random).is_err());
        let mut framed = ((length % 64) as u64).to_le_bytes().to_vec();
        framed.push(b'{');
        framed.extend(random);
        assert!(try_load(&framed).is_err());
    }
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let folder = Folder::new();
    let mixture = example(Covariance::Diag, 2, 2);
    let io = |fault: Error, expected: &Path| match fault {
        Error::Io { path, .. } => assert_eq!(path, expected),
        other => panic!("{other:?}"),
    };
    let missing = folder.path("nowhere/model.json");
    io(load(&missing).unwrap_err(), &missing);
    io(save(&missing, &mixture).unwrap_err(), &missing);
    assert!(!folder.path("nowhere").exists());
    io(load(folder.0.path()).unwrap_err(), folder.0.path());

    // A directory has the name: it stays, with what it holds.
    let taken = folder.path("taken.json");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("file"), "kept").unwrap();
    io(save(&taken, &mixture).unwrap_err(), &taken);
    assert_eq!(fs::read_to_string(taken.join("file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn the_old_file_survives_a_failed_save() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.path("model.json");
    save(&path, &example(Covariance::Diag, 2, 2)).unwrap();
    let before = fs::read(&path).unwrap();
    let allow = |mode| fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(mode));
    allow(0o555).unwrap();
    let saved = save(&path, &example(Covariance::Diag, 3, 3));
    allow(0o755).unwrap();
    // The superuser is not held back by permissions.
    if saved.is_err() {
        assert_eq!(fs::read(&path).unwrap(), before);
    } else {
        assert_eq!(load(&path).unwrap().n_components(), 3);
    }
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
}
