//! Turns the text of an option into its value.

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use std::path::PathBuf;
use std::time::Duration;

/// Numbers that were typed as a list with ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(pub Vec<u64>);

/// Takes a value by its name.
pub fn named<V: Copy + Send + Sync + 'static, const N: usize>(
    values: [V; N],
    name: fn(V) -> &'static str,
) -> impl TypedValueParser<Value = V> {
    PossibleValuesParser::new(values.map(name)).map(move |text| {
        *values.iter().find(|value| name(**value) == text).expect("clap took one of the names")
    })
}

/// Takes the name of a file to read; `-` is standard input.
pub fn input() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new()
        .map(|text| if text == "-" { "/dev/stdin".into() } else { PathBuf::from(text) })
}

/// Takes the name of a file to write; `-` is standard output.
pub fn output() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new()
        .map(|text| if text == "-" { "/dev/stdout".into() } else { PathBuf::from(text) })
}

pub fn decimal(text: &str) -> Result<char, String> {
    match text {
        "." => Ok('.'),
        "," => Ok(','),
        _ => Err("expected . or ,".to_owned()),
    }
}

/// Reads `1..5`, `1-5` or `1,2,8..12`, and drops repetitions.
pub fn counts(text: &str) -> Result<Counts, String> {
    // A range this long is a slip of the keyboard.
    const MOST: u64 = 10_000;
    let mut counts = Vec::new();
    let number = |text: &str| {
        positive(text).map_err(
            |_| "expected whole numbers of at least 1 and ranges, such as 1..20 or 2,4,8..12",
        )
    };
    for part in text.split(',') {
        let (first, last) = match part.split_once("..").or_else(|| part.split_once('-')) {
            None => (number(part)?, number(part)?),
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
        };
        if last < first {
            return Err(format!("the range {part} is empty"));
        }
        if last - first >= MOST {
            return Err(format!("the range {part} is too long"));
        }
        counts.extend(first..=last);
    }
    let mut seen = std::collections::HashSet::new();
    counts.retain(|count| seen.insert(*count));
    Ok(Counts(counts))
}

pub fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number >= 1 => Ok(number),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}

/// Reads a number of threads. A number far beyond the cores of any machine is refused: its threads would hardly run.
pub fn threads(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (1..=1024).contains(&number) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".to_owned()),
    }
}

pub fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

pub fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1.0 => Ok(number),
        _ => Err("expected a number between 0 and 1".to_owned()),
    }
}

/// Reads a number of bytes: `1000000`, `512K`, `256M`, `2G`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected a number of bytes, such as 1000000, 256M or 2G".to_owned()),
    }
}

/// Reads the width and height of a picture: `28x28`.
pub fn image(text: &str) -> Result<(usize, usize), String> {
    let sizes = text.split_once('x').map(|(w, h)| (w.parse(), h.parse()));
    match sizes {
        Some((Ok(width), Ok(height))) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err("expected WIDTHxHEIGHT, such as 28x28".to_owned()),
    }
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = not_negative(text)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| "the time is too long; leave it out for no limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_lists_of_numbers_and_ranges() {
        let all = |text| counts(text).map(|counts| counts.0);
        assert_eq!(all("3"), Ok(vec![3]));
        assert_eq!(all("1..4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(all("1..=4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(all("1-3,7"), Ok(vec![1, 2, 3, 7]));
        assert_eq!(all("8,2..3,2"), Ok(vec![8, 2, 3]));
        for wrong in
            ["", "0..3", "4..2", "1..", "..3", "a", "1.5", "1..1000000", "-1..2", "-3", "2-"]
        {
            assert!(all(wrong).is_err(), "{wrong}");
        }
    }
}
