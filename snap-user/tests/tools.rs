//! Images are in formats of others: their own tools open what we write, and we open what they write. Needs `age`, `lz4` and `zstd`.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use freezeframe::stream::compress::Compression;
use freezeframe::stream::encrypt::{Encryption, Passphrase};
use freezeframe::stream::open::{Keys, Location, open};
use freezeframe::stream::options::StreamOptions;
use freezeframe::stream::sink::{Destination, Sink};
use freezeframe::stream::{Cancel, pipeline};

fn sample() -> Vec<u8> {
    (0..400_000_u32)
        .flat_map(|number| format!("{number} bottles, ").into_bytes())
        .collect()
}

/// What a tool makes of what it is given.
fn through(line: &[&str], input: &[u8]) -> Vec<u8> {
    let mut tool = Command::new(line[0])
        .args(&line[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: install the Debian package of that name", line[0]));
    let mut stdin = tool.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = tool.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    assert!(output.status.success(), "{line:?}");
    output.stdout
}

/// A key that age-keygen made, and its recipient.
fn keygen(folder: &Path) -> (String, String) {
    let file = folder.join("key").display().to_string();
    through(&["age-keygen", "-o", &file], b"");
    let recipient = String::from_utf8(through(&["age-keygen", "-y", &file], b"")).unwrap();
    (file, recipient.trim().to_owned())
}

async fn write(compression: Compression, encryption: Encryption, path: &Path, bytes: &[u8]) {
    let options = StreamOptions {
        compression,
        encryption,
        rate: None,
    };
    let sink = Sink::open(&Destination::File(path.to_owned())).await.unwrap();
    let (mut writer, pipeline) = pipeline(&options, sink, Arc::default(), Cancel::new());
    let bytes = Bytes::copy_from_slice(bytes);
    let writing = tokio::task::spawn_blocking(move || {
        writer.send(bytes)?;
        writer.finish()
    });
    pipeline.await.unwrap();
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn others_open_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let (key, recipient) = keygen(folder.path());
    let path = folder.path().join("image");
    let bytes = sample();
    let compressions = [
        (Compression::None, None),
        (Compression::Zstd { level: 3 }, Some(["zstd", "-d"])),
        (Compression::Lz4, Some(["lz4", "-d"])),
    ];
    for (compression, tool) in compressions {
        for encryption in [
            Encryption::None,
            Encryption::Recipients(vec![recipient.parse().unwrap()]),
        ] {
            let encrypted = encryption != Encryption::None;
            write(compression, encryption, &path, &bytes).await;
            let mut back = std::fs::read(&path).unwrap();
            if encrypted {
                back = through(&["age", "-d", "-i", &key], &back);
            }
            if let Some(tool) = tool {
                back = through(&tool, &back);
            }
            assert!(back == bytes, "{compression:?}, encrypted: {encrypted}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn we_open_what_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let (key, recipient) = keygen(folder.path());
    let path = folder.path().join("image");
    let bytes = sample();
    let keys = Keys {
        identity: Some(key.into()),
        passphrase: None,
    };
    let tools: [&[&str]; 6] = [
        &["cat"],
        &["zstd", "-3"],
        &["zstd", "-19", "--long=27", "-T2"],
        &["lz4"],
        &["lz4", "-9", "-BD", "--no-frame-crc"],
        &["zstd", "--format=lz4"],
    ];
    for tool in tools {
        let compressed = through(tool, &bytes);
        for age in [
            &["cat"][..],
            &["age", "-r", &recipient],
            &["age", "-a", "-r", &recipient],
        ] {
            std::fs::write(&path, through(age, &compressed)).unwrap();
            let mut back = Vec::new();
            let mut reader = open(&Location::File(path.clone()), &keys).unwrap();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{tool:?} {age:?}");
        }
    }
}

/// age asks for a passphrase on its terminal alone, and `script` is one.
#[tokio::test]
async fn a_passphrase_is_that_of_age() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let encryption = Encryption::Passphrase(Passphrase::from("correct horse".to_owned()));
    write(Compression::None, encryption, &path, b"secret").await;
    let plain = folder.path().join("plain");
    let line = format!("age -d -o {} {}", plain.display(), path.display());
    through(&["script", "-qec", &line, "/dev/null"], b"correct horse\n");
    assert_eq!(std::fs::read(plain).unwrap(), b"secret");
}
