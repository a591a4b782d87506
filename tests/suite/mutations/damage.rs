//! Damage of files.

/// Changes some bytes, in one of the ways in which files are damaged or forged.
pub fn damage(bytes: &mut Vec<u8>, is_text: bool, random: &mut impl FnMut(usize) -> usize) {
    for _ in 0..1 + random(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random(bytes.len());
        let length = (1 + random(16)).min(bytes.len() - at);
        match random(if is_text { 12 } else { 9 }) {
            0 | 1 => bytes[at] ^= 1 << random(8),
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80, 1][random(5)],
            3 => bytes[at..at + length].fill([0, 0xff, 0x7f][random(3)]),
            4 => drop(bytes.drain(at..at + length)),
            5 => bytes.truncate(at),
            6 => {
                let copied = bytes[at..at + length].to_vec();
                let to = random(bytes.len());
                bytes.splice(to..to, copied);
            }
            7 => {
                // A number of eight bytes: sizes, and values of parameters.
                let values = [
                    u64::MAX,
                    1 << 63,
                    1 << 32,
                    1 << 40,
                    3_000_000_000,
                    0,
                    f64::NAN.to_bits(),
                    f64::INFINITY.to_bits(),
                    1e154f64.to_bits(),
                    1e-300f64.to_bits(),
                    (-1f64).to_bits(),
                ];
                let value = values[random(values.len())].to_le_bytes();
                let at = if random(2) == 0 { at } else { at / 8 * 8 };
                let length = 8.min(bytes.len() - at);
                bytes[at..at + length].copy_from_slice(&value[..length]);
            }
            8 => {
                let value = [u32::MAX, 1 << 31, 0x7fff_ffff, 1 << 28, 0][random(5)].to_le_bytes();
                let length = 4.min(bytes.len() - at);
                bytes[at..at + length].copy_from_slice(&value[..length]);
            }
            _ => {
                let words = [
                    "4000000000",
                    "1e154",
                    "1e-300",
                    "-1",
                    "nan",
                    "1e400",
                    "\"",
                    "[",
                    "{}",
                    "null",
                    "99999999999999999999",
                    ",",
                    ";",
                    "\n",
                    "0",
                    "1e308",
                    "#",
                    "\0",
                    "\u{e9}",
                ];
                let end = bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(0);
                bytes.splice(at..at + end, words[random(words.len())].bytes());
            }
        }
    }
}
