//! Finds out by its first bytes how a stream is compressed, and uncompresses it.

use super::error::ImageError;
use std::io::{self, BufRead, BufReader, Read};

/// Largest zstd window that is accepted, as a power of two (128 MiB, what the reference tool accepts without asking).
const ZSTD_WINDOW_LOG: u32 = 27;

/// Signatures of compressions that are named in the refusal.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x5d\0\0", "lzma"),
    (b"PK\x03\x04", "zip"),
];

/// Gives the uncompressed stream. `what` names it in errors.
pub(crate) fn uncompress<'a>(
    source: impl Read + 'a,
    what: &str,
) -> Result<Box<dyn Read + 'a>, ImageError> {
    let mut source = BufReader::with_capacity(128 * 1024, source);
    let head = peek(&mut source).map_err(|cause| ImageError::read(what, cause))?;
    if head.starts_with(b"\x1f\x8b") {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source)));
    }
    if is_zstd(&head) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(source)
            .map_err(|cause| ImageError::read(what, cause))?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|cause| ImageError::read(what, cause))?;
        return Ok(Box::new(decoder));
    }
    match FOREIGN.iter().find(|(signature, _)| head.starts_with(signature)) {
        // A tar archive may begin with any name, so a signature counts only when there is no tar header.
        Some((_, method)) if !looks_like_tar(&head) => {
            Err(ImageError::UnknownCompression { what: what.to_owned(), method })
        }
        _ => Ok(Box::new(source)),
    }
}

/// Whether the bytes begin a gzip or zstd stream.
pub(crate) fn is_compressed(head: &[u8]) -> bool {
    head.starts_with(b"\x1f\x8b") || is_zstd(head)
}

/// A zstd frame, or a skippable frame as the seekable variants begin with.
fn is_zstd(head: &[u8]) -> bool {
    let magic = head.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    magic.is_some_and(|magic| magic == 0xfd2f_b528 || magic & 0xffff_fff0 == 0x184d_2a50)
}

fn looks_like_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// The first bytes of a stream, without taking them.
fn peek(source: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    Ok(source.fill_buf()?.iter().take(512).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        uncompress(bytes, "layer")?
            .read_to_end(&mut out)
            .map_err(|cause| ImageError::read("layer", cause))?;
        Ok(out)
    }

    #[test]
    fn gzip_zstd_and_plain_give_the_same() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").unwrap();
        assert_eq!(read(&gzip.finish().unwrap()).unwrap(), b"hello");
        assert_eq!(read(&zstd::encode_all(&b"hello"[..], 1).unwrap()).unwrap(), b"hello");
        assert_eq!(read(b"hello").unwrap(), b"hello");
    }

    #[test]
    fn an_unknown_compression_is_named() {
        let refused = read(b"\xfd7zXZ\0\0rest").unwrap_err();
        assert!(matches!(refused, ImageError::UnknownCompression { method: "xz", .. }));
    }

    #[test]
    fn a_cut_stream_is_truncated() {
        let whole = zstd::encode_all(&[7u8; 100_000][..], 1).unwrap();
        let refused = read(&whole[..whole.len() - 3]).unwrap_err();
        assert!(matches!(refused, ImageError::Truncated(_)), "{refused}");
    }
}
