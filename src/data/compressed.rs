//! Compressed text: gzip and Zstandard, told by their first bytes.

use std::io::{self, BufRead, Read};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// What a compressed file would be called without its compression.
pub(super) fn inner_name(name: &str) -> &str {
    let lower = name.to_lowercase();
    let suffix = [".gz", ".zst"].into_iter().find(|suffix| lower.ends_with(suffix));
    &name[..name.len() - suffix.map_or(0, str::len)]
}

/// The bytes that a reader yields, decompressed if they are compressed.
pub(super) fn decompressed<'r>(mut reader: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let head = reader.fill_buf()?;
    if head.starts_with(GZIP) {
        return gzip(reader);
    }
    if head.starts_with(ZSTD) {
        return zstd(reader);
    }
    Ok(Box::new(reader))
}

#[cfg(feature = "compression")]
fn gzip<'r>(reader: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    // Files of several members are what parallel compressors write.
    Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
}

#[cfg(feature = "compression")]
fn zstd<'r>(reader: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    Ok(Box::new(Frames { reader, decoder: None }))
}

/// Zstandard files are one frame after another; the decoder knows one.
#[cfg(feature = "compression")]
struct Frames<R> {
    reader: R,
    decoder: Option<ruzstd::decoding::FrameDecoder>,
}

#[cfg(feature = "compression")]
impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError};
        let fault = |fault: FrameDecoderError| io::Error::new(io::ErrorKind::InvalidData, fault);
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                None if self.reader.fill_buf()?.is_empty() => return Ok(0),
                None => {
                    let mut decoder = FrameDecoder::new();
                    decoder.init(&mut self.reader).map_err(fault)?;
                    self.decoder.insert(decoder)
                }
            };
            if decoder.can_collect() == 0 && !decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(out.len());
                decoder.decode_blocks(&mut self.reader, strategy).map_err(fault)?;
            }
            let count = decoder.read(out)?;
            if count > 0 {
                return Ok(count);
            }
            if decoder.is_finished() {
                let stored = decoder.get_checksum_from_data();
                if stored.is_some() && stored != decoder.get_calculated_checksum() {
                    let message = "damaged: the checksum of a Zstandard frame does not agree";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                self.decoder = None;
            }
        }
    }
}

#[cfg(not(feature = "compression"))]
fn gzip<'r>(_: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    Err(without("gzip"))
}

#[cfg(not(feature = "compression"))]
fn zstd<'r>(_: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    Err(without("Zstandard"))
}

#[cfg(not(feature = "compression"))]
fn without(format: &str) -> io::Error {
    let message = format!("{format} data, and this build lacks the feature `compression`");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

#[cfg(all(test, feature = "compression"))]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        decompressed(bytes)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn gzipped(text: &str) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    fn zstandard(text: &str) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(text.as_bytes(), level)
    }

    #[test]
    fn both_formats_are_read_and_others_pass_through() {
        let text: String = (0..50_000_u64).map(|i| format!("{i},{}\n", i * i)).collect();
        assert_eq!(read(text.as_bytes()).unwrap(), text);
        for compress in [gzipped, zstandard] {
            let bytes = compress(&text);
            assert!(bytes.len() < text.len());
            assert_eq!(read(&bytes).unwrap(), text);
            // Several members or frames are one text.
            let (head, tail) = text.split_at(text.len() / 2);
            assert_eq!(read(&[compress(head), compress(tail)].concat()).unwrap(), text);
            assert!(read(&bytes[..bytes.len() / 2]).is_err());
        }
    }

    /// Frames as the `zstd` program writes them, with a checksum.
    #[test]
    fn no_bit_of_a_packed_text_flips_unnoticed() {
        let text: String = (0..300_u64).map(|i| format!("{},{i}\n", i * i % 97)).collect();
        for compress in [gzipped, zstandard] {
            let bytes = compress(&text);
            let same = |bytes: &[u8]| read(bytes).is_ok_and(|found| found != text);
            for at in 0..8 * bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at / 8] ^= 1 << (at % 8);
                assert!(!same(&damaged), "bit {at} of {}", 8 * bytes.len());
            }
        }
    }

    #[test]
    fn names_lose_their_compression() {
        assert_eq!(inner_name("a/points.csv.gz"), "a/points.csv");
        assert_eq!(inner_name("points.TSV.ZST"), "points.TSV");
        assert_eq!(inner_name("points.npy"), "points.npy");
    }
}
