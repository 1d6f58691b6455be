//! Members that are not where or what they have to be, and sums and sources that fail.

use std::io::{Read, Write as _};

use freezeframe::archive::read::{ArchiveReader, Behind, ReadError};
use freezeframe::stream::open::{Keys, Location, open};

use crate::common::{Draft, archive, assemble, manifest, member, members};
use crate::{read, refused};

#[test]
fn names_that_lead_elsewhere_and_members_that_are_no_files_are_refused() {
    let draft = [Draft::new(1)];
    let json = serde_json::to_vec(&manifest("a", None, &draft)).unwrap();
    for name in [
        "../core.1",
        "/etc/passwd",
        "a/core.1",
        "..",
        ".",
        "",
        "core.1/",
        "core.01",
        "core.+1",
        "other",
    ] {
        let mut tar = Vec::new();
        member(&mut tar, "manifest.json", json.len() as u64, &json, |_| {});
        member(&mut tar, name, 1, b"x", |_| {});
        refused(&tar);
    }
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::Block,
        tar::EntryType::Directory,
        tar::EntryType::Fifo,
        tar::EntryType::GNUSparse,
        tar::EntryType::GNULongName,
        tar::EntryType::GNULongLink,
        tar::EntryType::XHeader,
        tar::EntryType::XGlobalHeader,
        tar::EntryType::Continuous,
    ] {
        let mut tar = Vec::new();
        member(&mut tar, "manifest.json", json.len() as u64, &json, |_| {});
        member(&mut tar, "process.1.json", 0, b"", |header| {
            header.set_entry_type(kind);
        });
        let said = refused(&tar);
        assert!(said.contains("no regular file"), "{kind:?}: {said}");
    }
}

#[test]
fn members_out_of_place_are_refused() {
    let draft = Draft::new(1);
    let json = serde_json::to_vec(&manifest("a", None, std::slice::from_ref(&draft))).unwrap();
    let (manifest, state, core) = (&json[..], &draft.state()[..], &draft.core()[..]);
    let (m, s, c) = (
        ("manifest.json", manifest),
        ("process.1.json", state),
        ("core.1", core),
    );
    assert!(read(&members(&[m, s, c]), &[]).is_ok());
    for order in [
        &[][..],
        &[s, m, c],
        &[m],
        &[m, s],
        &[m, c],
        &[m, c, s],
        &[m, m, s, c],
        &[m, s, s, c],
        &[m, s, c, c],
        &[m, s, c, s],
        &[m, s, c, ("core.2", core)],
        &[m, s, ("core.2", core)],
        &[m, s, c, ("BLAKE3SUMS", b"")],
    ] {
        refused(&members(order));
    }
    // Something behind the end.
    let mut longer = members(&[m, s, c]);
    longer.resize(longer.len() + 10_240, 0);
    assert!(read(&longer, &[]).is_ok(), "tars are padded");
    *longer.last_mut().unwrap() = 1;
    assert!(refused(&longer).contains("something follows"));
    // On a device, what was there before is no part of it; but its own end is.
    let to_its_end = |archive: &[u8]| {
        let mut reader = ArchiveReader::new(archive, "image")
            .unwrap()
            .followed_by(Behind::Anything);
        while reader.next_item()?.is_some() {}
        Ok::<_, ReadError>(())
    };
    assert!(to_its_end(&longer).is_ok());
    let end = members(&[m, s, c]).len();
    longer[end - 1] = 1;
    assert!(
        to_its_end(&longer)
            .unwrap_err()
            .to_string()
            .contains("something follows")
    );
    assert!(
        to_its_end(&longer[..end - 1])
            .unwrap_err()
            .to_string()
            .contains("truncated")
    );
    // An endless end.
    let mut endless = ArchiveReader::new(members(&[m, s, c]).chain(std::io::repeat(0)), "image").unwrap();
    let error = loop {
        if let Err(error) = endless.next_item() {
            break error;
        }
    };
    assert!(error.to_string().contains("something follows"), "{error}");
}

#[test]
fn a_compressed_archive_on_a_device_ends_where_its_tar_ends() {
    let image = archive("a", None, &[Draft::new(1).memory(0, 2, &[1, 2])]);
    let zstd = zstd::bulk::compress(&image, 3).unwrap();
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(&image).unwrap();
    let lz4 = encoder.finish().unwrap();
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    for compressed in [&zstd, &lz4] {
        for before in [&b"whatever there was before"[..], &[0; 4096], compressed] {
            std::fs::write(&path, [compressed, before].concat()).unwrap();
            let source = open(&Location::File(path.to_path_buf()), &Keys::default()).unwrap();
            let mut reader = ArchiveReader::new(source, "device")
                .unwrap()
                .followed_by(Behind::Anything);
            while reader.next_item().unwrap().is_some() {}
        }
    }
}

/// `&[u8]` and an owned vector read alike.
trait Chain {
    fn chain(self, more: std::io::Repeat) -> std::io::Chain<std::io::Cursor<Vec<u8>>, std::io::Repeat>;
}

impl Chain for Vec<u8> {
    fn chain(self, more: std::io::Repeat) -> std::io::Chain<std::io::Cursor<Vec<u8>>, std::io::Repeat> {
        Read::chain(std::io::Cursor::new(self), more)
    }
}

#[test]
fn sizes_that_lie_are_refused() {
    let draft = Draft::new(1).memory(0, 2, &[1]);
    let drafts = [draft.clone()];
    let mut lying = manifest("a", None, &drafts);
    lying.processes[0].core_bytes += 4096;
    assert!(refused(&assemble(&lying, &drafts)).contains("should have"));
    // Both lie, and the file ends early: nothing of that size is taken as memory.
    for bytes in [1 << 40, i64::MAX.unsigned_abs(), u64::MAX - 511, u64::MAX] {
        lying.processes[0].core_bytes = bytes;
        let json = serde_json::to_vec(&lying).unwrap();
        let mut tar = Vec::new();
        member(&mut tar, "manifest.json", json.len() as u64, &json, |_| {});
        let state = draft.state();
        member(&mut tar, "process.1.json", state.len() as u64, &state, |_| {});
        member(&mut tar, "core.1", bytes, &draft.core(), |_| {});
        let said = refused(&tar);
        assert!(said.contains("longer than its segments say"), "{bytes}: {said}");
    }
    for (name, bytes) in [
        ("manifest.json", 1 << 26),
        ("manifest.json", (1 << 26) + 1),
        ("manifest.json", u64::MAX),
    ] {
        let mut tar = Vec::new();
        member(&mut tar, name, bytes, b"{}", |_| {});
        refused(&tar);
    }
    let json = serde_json::to_vec(&manifest("a", None, &drafts)).unwrap();
    for bytes in [1 << 28, (1 << 28) + 1, u64::MAX] {
        let mut tar = Vec::new();
        member(&mut tar, "manifest.json", json.len() as u64, &json, |_| {});
        member(&mut tar, "process.1.json", bytes, b"{}", |_| {});
        refused(&tar);
    }
}

#[test]
fn sums_that_are_wrong_name_the_member() {
    let image = archive("a", None, &[Draft::new(1).memory(0, 1, &[1])]);
    let mut changed = image.clone();
    // The last page of the core stands in front of BLAKE3SUMS (one block of header, one of content, two of end).
    let index = image.len() - 4 * 512 - 100;
    changed[index] ^= 1;
    let said = refused(&changed);
    assert!(
        said.contains("damaged: core.1, at byte") && said.contains("BLAKE3"),
        "{said}"
    );
}

/// A reader that fails as a decoder or a disk does.
struct Failing<'a>(&'a [u8], std::io::ErrorKind);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(self.1.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn whoever_fails_to_deliver_is_told_apart_from_damage() {
    let image = archive("a", None, &[Draft::new(1)]);
    for (kind, damage) in [
        (std::io::ErrorKind::UnexpectedEof, true),
        (std::io::ErrorKind::InvalidData, true),
        (std::io::ErrorKind::PermissionDenied, false),
        (std::io::ErrorKind::TimedOut, false),
    ] {
        let mut reader = ArchiveReader::new(Failing(&image[..image.len() - 512], kind), "image").unwrap();
        let error = loop {
            match reader.next_item() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was taken"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.fault.is_damage(), damage, "{error}");
    }
}
