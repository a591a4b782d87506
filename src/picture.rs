//! Writes pictures: plots, and features of a model as tiles.

use crate::atomic::write_atomically;
use crate::error::{Error, Result};
use kuva::backend::png::PngBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::figure::Figure;
use std::io::{self, Write as _};
use std::path::Path;

/// Pixels between tiles, and around them.
const MARGIN: usize = 2;

/// Width that small tiles are enlarged to, at least, by whole factors.
const TILE_WIDTH: usize = 48;

/// Pixels of a PNG for each pixel of a plot: as sharp as screens and paper show it.
const SCALE: f32 = 2.0;

/// Writes a plot: as PNG if the name of the file ends in `.png`, else as SVG.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub(crate) fn write_figure(path: &Path, figure: Figure) -> Result<()> {
    let scene = figure.render();
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    let bytes = match is_png {
        true => {
            let drawn = PngBackend::new().with_scale(SCALE).render_scene(&scene);
            drawn.map_err(|fault| Error::Config(format!("{}: {fault}", path.display())))?
        }
        false => SvgBackend::new().render_scene(&scene).into_bytes(),
    };
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Writes features as a PNG of tiles, row by row: white is 0, red positive, blue negative, each tile relative to the
/// size that nine in ten of its values do not exceed.
///
/// # Shapes
/// Each feature has `width × height` values, row-major.
///
/// # Errors
/// [`Error::Config`] if there are no features or they have another size; [`Error::Io`] if the file cannot be written.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("features.png");
/// let features = vec![vec![0.0, 1.0, -2.0, 0.5, 0.0, 0.0]; 5];
/// entropysum::expert::write_features(&path, &features, 3, 2)?;
/// assert!(std::fs::read(&path)?.starts_with(b"\x89PNG"));
/// let fault = entropysum::expert::write_features(&path, &features, 3, 3).unwrap_err();
/// assert!(fault.to_string().contains("6 values, a tile of 3x3 needs 9"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_features(
    path: impl AsRef<Path>,
    features: &[Vec<f64>],
    width: usize,
    height: usize,
) -> Result<()> {
    let columns = (features.len() as f64).sqrt().ceil() as usize;
    write_tiles(path.as_ref(), features, columns, [width, height])
}

/// Does the same with so many tiles in a row.
///
/// # Errors
/// As [`write_features`].
pub(crate) fn write_tiles(
    path: &Path,
    features: &[Vec<f64>],
    columns: usize,
    [width, height]: [usize; 2],
) -> Result<()> {
    let refuse = |message: String| Err(Error::Config(format!("{}: {message}", path.display())));
    if features.is_empty() || width * height == 0 {
        return refuse("there is nothing to draw".into());
    }
    if let Some(feature) = features.iter().find(|feature| feature.len() != width * height) {
        let (found, needed) = (feature.len(), width * height);
        return refuse(format!(
            "a feature has {found} values, a tile of {width}x{height} needs {needed}"
        ));
    }
    let rows = features.len().div_ceil(columns);
    let zoom = TILE_WIDTH.div_ceil(width);
    let (tile_width, tile_height) = (zoom * width + MARGIN, zoom * height + MARGIN);
    let (full_width, full_height) = (columns * tile_width + MARGIN, rows * tile_height + MARGIN);
    let mut pixels = vec![128; 3 * full_width * full_height];
    for (k, feature) in features.iter().enumerate() {
        let (left, top) = (MARGIN + k % columns * tile_width, MARGIN + k / columns * tile_height);
        // A few pixels that a latent is sure of have weights without measure, and would hide all others.
        let mut sizes: Vec<f64> = feature.iter().map(|v| v.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let full = sizes[(9 * sizes.len() / 10).min(sizes.len() - 1)];
        for y in 0..zoom * height {
            for x in 0..zoom * width {
                let value = feature[y / zoom * width + x / zoom] / full.max(f64::MIN_POSITIVE);
                let at = 3 * ((top + y) * full_width + left + x);
                pixels[at..at + 3].copy_from_slice(&colour(value));
            }
        }
    }
    write_atomically(path, |file| {
        let mut encoder = png::Encoder::new(file, full_width as u32, full_height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(io::Error::from)?;
        writer.write_image_data(&pixels).map_err(io::Error::from)?;
        writer.finish().map_err(io::Error::from)
    })
}

/// From blue (-1) by white (0) to red (1).
fn colour(value: f64) -> [u8; 3] {
    let fade = |strength: f64| (255.0 * (1.0 - strength)).round() as u8;
    let size = value.abs().min(1.0);
    if value > 0.0 {
        [fade(0.2 * size), fade(0.9 * size), fade(0.9 * size)]
    } else {
        [fade(0.9 * size), fade(0.7 * size), fade(0.2 * size)]
    }
}
