//! Segments a photograph: a mixture of eight Gaussians in colour space, each pixel painted with its component's mean.
//!
//! `cargo run --release --example segment_photo [PICTURE.png]`

use entropysum::family::registry;
use entropysum::{Config, Executor, MixtureSpec, Points, Silent, em, inference};
use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

const WIDTH: usize = 640;
const COLOURS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(root.join("target"))?;
    let out = std::env::args_os().nth(1).map_or(root.join("target/segmented.png"), PathBuf::from);

    // Red, green and blue of 273,280 pixels. Statistics are summed in f64 whatever the type of the points.
    let file = entropysum::data::NpyFile::open(root.join("data/china.npy"))?;
    let points: Points<'_, f32> = entropysum::data::load(&file)?;

    let executor = Executor::new(None)?;
    let family = registry::build("gaussian-full", 3)?;
    let config = Config::default().tol(1e-4);
    let fit =
        em::fit(&MixtureSpec::new(family, COLOURS), &points, &executor, &config, &mut Silent)?;
    println!(
        "{} after {} iterations and {:.1} s: {:.4} nats per pixel",
        fit.stop_reason.name(),
        fit.history.records.len(),
        fit.seconds,
        fit.last().ok_or("no iteration")?.entropy_sum.total()
    );

    // Paint: each pixel its original colour, and the mean of the component that most probably made it.
    let means = fit.model.parameter("means").ok_or("Gaussians have means")?;
    let byte = |value: f64| value.round().clamp(0.0, 255.0) as u8;
    let palette: Vec<[u8; 3]> =
        means.chunks(3).map(|mean| [byte(mean[0]), byte(mean[1]), byte(mean[2])]).collect();
    let mut segmented: Vec<u8> = Vec::new();
    inference::predict(&fit.model, &points, &executor, |_, labels| {
        segmented.extend(labels.iter().flat_map(|&c| palette[c as usize]));
        Ok(())
    })?;
    let original: Vec<u8> =
        points.view().row_iter().flat_map(|row| row.iter().map(|&v| v as u8)).collect();
    write_side_by_side(&out, &original, &segmented)?;
    println!("{}", out.display());

    // Every pixel has a colour, and eight colours tell what is to be seen.
    assert!(fit.converged());
    assert_eq!(segmented.len(), original.len());
    let error: f64 = original.iter().zip(&segmented).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    let error = error / original.len() as f64;
    println!("mean absolute error {error:.2} of 255");
    assert!(error < 20.0);
    Ok(())
}

/// Writes two pictures of the same size, one beside the other, as PNG.
fn write_side_by_side(path: &Path, left: &[u8], right: &[u8]) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let height = left.len() / (3 * WIDTH);
    let rows = left.chunks(3 * WIDTH).zip(right.chunks(3 * WIDTH));
    let pixels: Vec<u8> = rows.flat_map(|(l, r)| l.iter().chain(r).copied()).collect();
    let mut encoder =
        png::Encoder::new(BufWriter::new(File::create(path)?), 2 * WIDTH as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(())
}
