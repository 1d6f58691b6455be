//! What a pipeline does on the way, as the command line says it.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::compress::Compression;
use super::encrypt::{Encryption, KeyError, Recipient};

/// The options of whatever writes an archive.
#[derive(Clone, Debug, Args)]
pub struct StreamArgs {
    /// Compress the image, on all processors; the level is 1 to 19, and 3 by default
    #[arg(long, value_name = "zstd[:LEVEL]|lz4|none", default_value = "none")]
    pub compress: Compression,
    /// Encrypt the image to this age recipient (age1…); may be given more than once, and any one of their keys opens it
    #[arg(long, value_name = "RECIPIENT")]
    pub encrypt_to: Vec<Recipient>,
    /// Encrypt the image with the passphrase that is the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "encrypt_to")]
    pub passphrase_file: Option<PathBuf>,
    /// Read the image no faster than this many bytes per second, before compression; with k, M or G for powers of 1000, and KiB,
    /// MiB or GiB for powers of 1024
    #[arg(long, value_name = "BYTES")]
    pub rate: Option<Rate>,
}

impl StreamArgs {
    /// What the pipeline is to do. Reads the passphrase.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn options(&self) -> Result<StreamOptions, KeyError> {
        Ok(StreamOptions {
            compression: self.compress,
            encryption: Encryption::chosen(&self.encrypt_to, self.passphrase_file.as_deref())?,
            rate: self.rate,
        })
    }
}

/// What a pipeline does on the way. Serialised, it holds the passphrase: only for the daemon's socket, which is root's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// How it compresses.
    #[serde(default)]
    pub compression: Compression,
    /// How it encrypts.
    #[serde(default)]
    pub encryption: Encryption,
    /// How fast it may be.
    #[serde(default)]
    pub rate: Option<Rate>,
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// How long so many bytes take.
    #[must_use]
    pub fn time_for(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.0.get() as f64)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_bytes(text)
            .and_then(NonZeroU64::new)
            .map(Self)
            .ok_or_else(|| "it is a number of bytes above 0, such as 50000000, 50M or 48MiB".to_owned())
    }
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// How many.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_bytes(text)
            .map(Self)
            .ok_or_else(|| "it is a number of bytes, such as 500000000, 500M or 2GiB".to_owned())
    }
}

/// A number of bytes with a unit or without; `None` where it is none, or more than 2^64.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "k" | "kB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::{Rate, StreamArgs, StreamOptions, parse_bytes};
    use crate::stream::compress::Compression;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        stream: StreamArgs,
    }

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn options(line: &[&str]) -> Option<StreamOptions> {
        let line = [&["x"], line].concat();
        Line::try_parse_from(line).ok()?.stream.options().ok()
    }

    #[test]
    fn the_command_line_says_what_happens_on_the_way() {
        assert_eq!(options(&[]), Some(StreamOptions::default()));
        let all = options(&[
            "--compress",
            "zstd:7",
            "--encrypt-to",
            RECIPIENT,
            "--rate",
            "3MiB",
        ])
        .unwrap();
        assert_eq!(all.compression, Compression::Zstd { level: 7 });
        assert_eq!(all.rate, Some("3145728".parse().unwrap()));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<StreamOptions>(&text).unwrap(), all);
        for wrong in [
            ["--compress", "gzip"],
            ["--compress", "zstd:20"],
            ["--compress", "zstd:"],
            ["--encrypt-to", "age1nobody"],
            ["--passphrase-file", "/nonexistent"],
            ["--rate", "0"],
        ] {
            assert_eq!(options(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("7"), Some(7));
        assert_eq!(parse_bytes("5k"), Some(5000));
        assert_eq!(parse_bytes("5KiB"), Some(5120));
        assert_eq!(parse_bytes("2G"), Some(2_000_000_000));
        for wrong in ["", "k", "1K", "-1", "1.5M", "99999999999GiB", "1 M", "1é"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
        let rate: Rate = "4M".parse().unwrap();
        assert_eq!(rate.time_for(1_000_000), Duration::from_millis(250));
    }
}
