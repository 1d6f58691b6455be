//! One frame.

use std::io::{self, Write as _};

use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

use super::Compression;

/// What a thread compresses frames with: its tables and buffers, kept from one frame to the next.
pub(super) enum Compressor {
    Zstd {
        context: zstd::bulk::Compressor<'static>,
        /// A frame of several pieces, one after the other.
        gathered: Vec<u8>,
        output: Vec<u8>,
    },
    Lz4(Box<FrameEncoder<Vec<u8>>>),
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        match compression {
            Compression::Zstd { level } => {
                let mut context = zstd::bulk::Compressor::new(level)?;
                context.include_checksum(true)?;
                Ok(Self::Zstd {
                    context,
                    gathered: Vec::new(),
                    output: Vec::new(),
                })
            }
            Compression::Lz4 => {
                // Of 64 KiB, 256 KiB, 1 MiB and 4 MiB, the third was the fastest.
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max1MB)
                    .content_checksum(true);
                Ok(Self::Lz4(Box::new(FrameEncoder::with_frame_info(
                    info,
                    Vec::new(),
                ))))
            }
            Compression::None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Compresses what the pieces hold together. They are dropped as soon as they have been read.
    pub(super) fn frame(&mut self, pieces: Vec<Bytes>) -> io::Result<Bytes> {
        match self {
            Self::Zstd {
                context,
                gathered,
                output,
            } => {
                let one = <[Bytes; 1]>::try_from(pieces);
                let input: &[u8] = match &one {
                    Ok([piece]) => piece.as_ref(),
                    Err(pieces) => {
                        gathered.clear();
                        for piece in pieces {
                            gathered.extend_from_slice(piece);
                        }
                        gathered.as_slice()
                    }
                };
                output.clear();
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                context.compress_to_buffer(input, output)?;
                drop(one);
                // Exactly as large as it is: what waits behind must not hold the room of the incompressible.
                Ok(Bytes::copy_from_slice(output))
            }
            Self::Lz4(encoder) => {
                for piece in pieces {
                    encoder.write_all(&piece)?;
                }
                encoder.try_finish()?;
                let output = encoder.get_mut();
                let frame = Bytes::copy_from_slice(output);
                output.clear();
                Ok(frame)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;

    use super::{Compression, Compressor};

    #[test]
    fn frames_are_independent_and_as_large_as_they_are() {
        let text = b"the same again and again, ".repeat(1000);
        let pieces = |pieces: usize| {
            let size = text.len().div_ceil(pieces);
            text.chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>()
        };
        for compression in [Compression::Zstd { level: 1 }, Compression::Lz4] {
            let mut compressor = Compressor::new(compression).unwrap();
            for count in [1, 7, 2, 1] {
                let frame = compressor.frame(pieces(count)).unwrap();
                assert!(frame.len() < text.len() / 10, "{compression:?}: {}", frame.len());
                let mut back = Vec::new();
                match compression {
                    Compression::Lz4 => {
                        let mut decoder = lz4_flex::frame::FrameDecoder::new(frame.as_ref());
                        decoder.read_to_end(&mut back).unwrap();
                    }
                    _ => back = zstd::decode_all(frame.as_ref()).unwrap(),
                }
                assert_eq!(back, text, "{compression:?} of {count} pieces");
            }
        }
    }
}
