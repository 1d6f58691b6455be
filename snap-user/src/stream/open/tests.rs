//! Archives that are not well, and keys that do not fit.

use std::io::{self, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::{Keys, Location, OpenError, open};

fn words() -> Vec<u8> {
    (0..60_000_u32)
        .flat_map(|number| format!("{number} bottles, ").into_bytes())
        .collect()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let frames = bytes.chunks(300_000).map(|frame| {
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor.include_checksum(true).unwrap();
        compressor.compress(frame).unwrap()
    });
    frames.collect::<Vec<_>>().concat()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let frames = bytes.chunks(300_000).map(|frame| {
        let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(frame).unwrap();
        encoder.finish().unwrap()
    });
    frames.collect::<Vec<_>>().concat()
}

fn encrypt(bytes: &[u8], recipient: &dyn age::Recipient) -> Vec<u8> {
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).unwrap();
    let mut encrypted = encryptor.wrap_output(Vec::new()).unwrap();
    encrypted.write_all(bytes).unwrap();
    encrypted.finish().unwrap()
}

struct Fixture {
    folder: TempDir,
    key: age::x25519::Identity,
    keys: Keys,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let key = age::x25519::Identity::generate();
    let keys = Keys {
        identity: Some(key_file(folder.path(), "key", &key)),
        passphrase: None,
    };
    Fixture { folder, key, keys }
}

fn key_file(folder: &Path, name: &str, key: &age::x25519::Identity) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, key.to_string().expose_secret()).unwrap();
    path
}

impl Fixture {
    fn read_with(&self, bytes: &[u8], keys: &Keys) -> Result<io::Result<Vec<u8>>, OpenError> {
        let path = self.folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        let mut reader = open(&Location::File(path), keys)?;
        let mut back = Vec::new();
        Ok(reader.read_to_end(&mut back).map(|_| back))
    }

    /// What it says, whenever it says it.
    fn complaint(&self, bytes: &[u8]) -> String {
        match self.read_with(bytes, &self.keys) {
            Ok(Ok(back)) => panic!("{} bytes came out", back.len()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn every_layer_is_told_by_its_magic() {
    let fixture = fixture();
    let words = words();
    let recipient = fixture.key.to_public();
    for packed in [words.clone(), zstd(&words), lz4(&words)] {
        for bytes in [packed.clone(), encrypt(&packed, &recipient)] {
            assert!(fixture.read_with(&bytes, &fixture.keys).unwrap().unwrap() == words);
        }
        let mut armored =
            age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).unwrap();
        armored.write_all(&encrypt(&packed, &recipient)).unwrap();
        let armored = armored.finish().unwrap();
        assert!(fixture.read_with(&armored, &fixture.keys).unwrap().unwrap() == words);
    }
}

#[test]
fn a_layer_that_is_cut_off_is_named() {
    let fixture = fixture();
    let words = words();
    let (zstd, lz4) = (zstd(&words), lz4(&words));
    for (bytes, layer) in [(&zstd, "zstd compression"), (&lz4, "lz4 compression")] {
        for cut in [5, 12, 1000, bytes.len() / 2, bytes.len() - 4, bytes.len() - 1] {
            let complaint = fixture.complaint(&bytes[..cut]);
            let wanted = format!("is cut off: its {layer} ends too early");
            assert!(
                complaint.contains(&wanted),
                "{cut} of {}: {complaint}",
                bytes.len()
            );
        }
        // The tail of what was encrypted, not of the encryption.
        let complaint = fixture.complaint(&encrypt(&bytes[..bytes.len() - 9], &fixture.key.to_public()));
        assert!(
            complaint.contains(&format!("its {layer} ends too early")),
            "{complaint}"
        );
    }
    let encrypted = encrypt(&zstd, &fixture.key.to_public());
    for cut in [
        30,
        100,
        190,
        300,
        encrypted.len() / 2,
        encrypted.len() - 20,
        encrypted.len() - 1,
    ] {
        let complaint = fixture.complaint(&encrypted[..cut]);
        assert!(
            complaint.contains("is cut off") && complaint.contains("its age encryption"),
            "{cut}: {complaint}"
        );
    }
    // Between two chunks: there is no half chunk that tells.
    let encrypted = encrypt(&vec![7; 200_000], &fixture.key.to_public());
    let header = encrypted.len() - (200_000 + 4 * 16);
    let complaint = fixture.complaint(&encrypted[..header + 2 * (65_536 + 16)]);
    assert!(
        complaint.contains("is cut off: its age encryption ends too early"),
        "{complaint}"
    );
}

#[test]
fn a_frame_of_lz4_that_ends_between_blocks_is_cut_off() {
    let fixture = fixture();
    let lz4 = lz4(&words()[..300_000]);
    // The end mark and the checksum are gone, every block is whole.
    let complaint = fixture.complaint(&lz4[..lz4.len() - 8]);
    assert!(
        complaint.contains("is cut off: its lz4 compression"),
        "{complaint}"
    );
}

#[test]
fn whatever_bit_flips_somebody_notices() {
    let fixture = fixture();
    let words = words();
    let packed = [zstd(&words), lz4(&words)];
    let encrypted = encrypt(&packed[0], &fixture.key.to_public());
    for bytes in packed.iter().chain([&encrypted]) {
        for at in (0..bytes.len()).step_by(bytes.len() / 41) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            match fixture.read_with(&bytes, &fixture.keys) {
                // Not every bit has a meaning. And without its magic it is a file like any other: no archive, as whoever reads it says.
                Ok(Ok(back)) => assert!(back == words || (at < 4 && back == bytes), "byte {at}"),
                Ok(Err(error)) => assert!(error.to_string().contains("image is "), "byte {at}: {error}"),
                Err(error) => assert!(error.to_string().contains("image"), "byte {at}: {error}"),
            }
        }
    }
    let mut late = encrypt(&words, &fixture.key.to_public());
    late[70_000] ^= 1;
    let complaint = fixture.complaint(&late);
    assert!(
        complaint.contains("is damaged: its age encryption makes no sense"),
        "{complaint}"
    );
}

#[test]
fn what_follows_the_last_frame_is_no_part_of_it() {
    let fixture = fixture();
    for mut bytes in [zstd(b"x"), lz4(b"x")] {
        bytes.extend(b"something else");
        let complaint = fixture.complaint(&bytes);
        assert!(complaint.contains("is damaged"), "{complaint}");
    }
}

#[test]
fn keys_that_do_not_fit_are_told_apart() {
    let fixture = fixture();
    let folder = fixture.folder.path();
    let to_key = encrypt(b"secret", &fixture.key.to_public());
    let mut recipient = age::scrypt::Recipient::new("right".to_owned().into());
    recipient.set_work_factor(2);
    let to_passphrase = encrypt(b"secret", &recipient);
    let passphrase = |text: &str| {
        let path = folder.join("passphrase");
        std::fs::write(&path, text).unwrap();
        Keys {
            identity: None,
            passphrase: Some(path),
        }
    };
    let identity = |path| Keys {
        identity: Some(path),
        passphrase: None,
    };
    let other = key_file(folder, "other", &age::x25519::Identity::generate());
    let none = Keys::default();

    let read = |bytes: &[u8], keys: &Keys| fixture.read_with(bytes, keys);
    assert_eq!(read(&to_key, &fixture.keys).unwrap().unwrap(), b"secret");
    assert_eq!(
        read(&to_passphrase, &passphrase("right\n")).unwrap().unwrap(),
        b"secret"
    );
    // A key that is not needed harms nobody.
    assert_eq!(read(b"open", &fixture.keys).unwrap().unwrap(), b"open");

    let error = |bytes: &[u8], keys: &Keys| match read(bytes, keys) {
        Err(error) => error,
        Ok(_) => panic!("it was opened"),
    };
    assert!(matches!(error(&to_key, &none), OpenError::NoIdentity(_)));
    assert!(matches!(
        error(&to_key, &passphrase("right")),
        OpenError::NoIdentity(_)
    ));
    assert!(matches!(
        error(&to_passphrase, &fixture.keys),
        OpenError::NoPassphrase(_)
    ));
    assert!(matches!(
        error(&to_key, &identity(other)),
        OpenError::WrongIdentity { .. }
    ));
    assert!(matches!(
        error(&to_passphrase, &passphrase("wrong")),
        OpenError::WrongPassphrase { .. }
    ));
    assert!(matches!(
        error(&to_key, &identity("/nonexistent".into())),
        OpenError::Keys(_)
    ));
    let empty = folder.join("empty");
    std::fs::write(&empty, "# nothing\n").unwrap();
    assert!(matches!(error(&to_key, &identity(empty)), OpenError::Keys(_)));
}

#[test]
fn a_passphrase_that_would_take_for_ever_is_refused() {
    let fixture = fixture();
    let mut recipient = age::scrypt::Recipient::new("right".to_owned().into());
    recipient.set_work_factor(2);
    let encrypted = encrypt(b"secret", &recipient);
    let at = encrypted.windows(3).position(|window| window == b" 2\n").unwrap();
    let costly = [&encrypted[..at], b" 40\n", &encrypted[at + 3..]].concat();
    let path = fixture.folder.path().join("passphrase");
    std::fs::write(&path, "right").unwrap();
    let keys = Keys {
        identity: None,
        passphrase: Some(path),
    };
    assert!(matches!(
        fixture.read_with(&costly, &keys),
        Err(OpenError::ExcessiveWork(_, 40))
    ));
}

#[test]
fn a_window_that_would_take_all_memory_is_refused() {
    let fixture = fixture();
    // A frame header that asks for a window of 2^31 bytes.
    let complaint = fixture.complaint(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00]);
    assert!(
        complaint.contains("is damaged: its zstd compression"),
        "{complaint}"
    );
}

#[test]
fn what_comes_in_drops_is_told_by_its_magic_too() {
    struct Dripping(Cursor<Vec<u8>>);
    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = buffer.len().min(1);
            self.0.read(&mut buffer[..size])
        }
    }
    let (magic, mut reader) = super::peek(Box::new(Dripping(Cursor::new(words())))).unwrap();
    assert_eq!(magic, &words()[..40]);
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    assert!(back == words());
}

#[test]
fn what_is_not_there_is_told() {
    let error = open(&Location::File("/nonexistent/image".into()), &Keys::default());
    let error = error.err().unwrap().to_string();
    assert!(
        error.starts_with("cannot open /nonexistent/image: No such file"),
        "{error}"
    );
    let error = open(&Location::File("/".into()), &Keys::default())
        .err()
        .unwrap()
        .to_string();
    assert!(error.starts_with("cannot read /: Is a directory"), "{error}");
}

#[test]
fn locations_are_told_apart() {
    assert_eq!("-".parse(), Ok(Location::Stdin));
    assert_eq!("a.tar".parse(), Ok(Location::File("a.tar".into())));
    assert!(matches!("s3://a/b".parse(), Ok(Location::Object(_))));
    assert!("s3://a".parse::<Location>().is_err());
}
