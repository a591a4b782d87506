//! Pictures from the command line: SVG or PNG by the name, bars where points or lines say nothing.
#![cfg(feature = "cli")]

use crate::common::Uniforms;
use crate::common::place::Place;
use std::fmt::Write as _;
use std::fs;

/// Points of two clusters.
fn clusters(place: &Place) {
    let mut random = Uniforms::new(3);
    let mut text = "a,b\n".to_owned();
    for i in 0..200 {
        let centre = f64::from(i % 2) * 6.0;
        let _ = writeln!(text, "{:.3},{:.3}", centre + random.normal(), random.normal() - centre);
    }
    fs::write(place.path("points.csv"), text).unwrap();
}

/// The size of a PNG.
fn size(place: &Place, name: &str) -> (u32, u32) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(fs::read(place.path(name)).unwrap()))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert!(pixels.iter().any(|&byte| byte != pixels[0]), "{name} is blank");
    (info.width, info.height)
}

#[test]
fn the_name_of_a_picture_says_its_format() {
    let place = Place::new();
    clusters(&place);
    place.succeed(
        "fit points.csv -k 2 --plot fit.png --plot-clusters clusters.PNG -o model.json -q",
    );
    place.succeed("fit points.csv -k 2 --plot fit.svg -q");
    place.succeed("plot model.json points.csv -o clusters.svg");
    place.succeed("select points.csv -k 1..3 --plot sizes.png -q");
    for name in ["fit.png", "clusters.PNG", "sizes.png"] {
        let (width, height) = size(&place, name);
        assert!((900..3000).contains(&width) && (700..3000).contains(&height), "{name}");
    }
    for name in ["fit.svg", "clusters.svg"] {
        assert!(fs::read_to_string(place.path(name)).unwrap().starts_with("<svg"), "{name}");
    }
}

#[test]
fn a_fit_of_one_iteration_has_bars() {
    let place = Place::new();
    clusters(&place);
    place.succeed("fit points.csv -k 2 --max-iter 1 --plot one.svg -q");
    let picture = fs::read_to_string(place.path("one.svg")).unwrap();
    for expected in ["entropy sum: -", "lower bound: -", "log-likelihood before the M-step: -"] {
        assert!(picture.contains(expected), "{expected}: {picture}");
    }
    assert!(!picture.contains("<circle"));
}

#[test]
fn counts_have_bars_of_rates() {
    let place = Place::new();
    let mut text = String::new();
    for i in 0..100 {
        let (a, b) = if i % 2 == 0 { (20, 1) } else { (2, 9) };
        let _ = writeln!(text, "{},{},{}", a + i % 5, b + i % 3, i % 4);
    }
    fs::write(place.path("counts.csv"), text).unwrap();
    place.succeed("fit counts.csv --model poisson -k 2 -o model.json --plot-clusters rates.svg -q");
    let picture = fs::read_to_string(place.path("rates.svg")).unwrap();
    assert!(picture.contains("component 0: 50 %") && picture.contains(">mean<"), "{picture}");
    assert!(!picture.contains("<circle"));
    place.succeed("plot model.json counts.csv -o rates.png");
    assert!(size(&place, "rates.png").0 > 600);
}

#[test]
fn whole_numbers_that_would_be_rounded_are_refused() {
    let place = Place::new();
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 2), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let length = 118 - 10;
    bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    for value in [1, 2, 3, (1i64 << 53) + 1, 5, 6] {
        bytes.extend(value.to_le_bytes());
    }
    fs::write(place.path("ids.npy"), bytes).unwrap();
    place.refuse(
        "fit ids.npy -k 1",
        "row 1, column 1: the whole number 9007199254740993 is beyond 2^53",
    );
}
