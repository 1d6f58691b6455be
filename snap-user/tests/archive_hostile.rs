//! Archives that somebody cut, changed or made up: refused, without a panic, without a write outside the folder, and without memory that
//! nobody's bytes have paid for.

mod common;

use std::io::Read;
use std::path::Path;

use common::{Draft, archive, assemble, at, chain, manifest, member, members, names, write};
use freezeframe::archive::elsewhere::{Elsewhere, Place};
use freezeframe::archive::head::{PAGE, Segment, head, push_note};
use freezeframe::archive::read::gather::{Depth, Follow, Gather, Wanted, gather};
use freezeframe::archive::read::{ArchiveReader, Fault, Item, ReadError, State, read_head};
use freezeframe::archive::{NOTE_ELSEWHERE, NOTE_OWNER};
use freezeframe::tools::extract::{ExtractArgs, extract};
use freezeframe::tools::input::{ImageArgs, ParentArgs};
use freezeframe::tools::scratch::Scratch;
use freezeframe::tools::verify::{VerifyArgs, verify};

/// All that a reader makes of an archive: names and contents.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen(Vec<(i32, Vec<u8>)>);

impl Gather for Seen {
    type Error = ReadError;

    fn state(&mut self, state: State) -> Result<(), ReadError> {
        state.parse()?;
        self.0.push((state.pid, state.json));
        Ok(())
    }

    fn core(
        &mut self,
        pid: i32,
        head: &mut freezeframe::archive::read::core::CoreHead,
    ) -> Result<Wanted, ReadError> {
        let head = format!("{:?}{:?}{:?}", head.segments, head.elsewhere, head.notes);
        self.0.push((pid, head.into_bytes()));
        Ok(Wanted::Yes)
    }

    fn fill(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) -> Result<(), ReadError> {
        self.0.push((pid, [&vaddr.to_le_bytes(), bytes].concat()));
        Ok(())
    }
}

/// Reads `image` to its end, with `parents`.
fn read(image: &[u8], parents: &[&[u8]]) -> Result<Seen, ReadError> {
    let mut seen = Seen::default();
    let mut parents = parents.iter();
    let open = |_: &_| ArchiveReader::new(*parents.next().expect("a parent"), "parent");
    let reader = ArchiveReader::new(image, "image")?;
    gather(reader, Follow::All, Depth::Whole, open, &mut seen)?;
    Ok(seen)
}

fn refused(image: &[u8]) -> String {
    match read(image, &[]) {
        Ok(seen) => panic!("it was taken: {seen:?}"),
        Err(error) => {
            assert!(error.fault.is_damage(), "{error}");
            error.to_string()
        }
    }
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let (base, _) = chain();
    assert!(read(&base, &[]).is_ok());
    // tar's end are two blocks of zeros: without all of them it is truncated as well.
    for length in (0..base.len()).step_by(512) {
        let said = refused(&base[..length]);
        assert!(said.contains("truncated"), "{length}: {said}");
    }
    for length in [1, 511, 513, base.len() - 1] {
        refused(&base[..length]);
    }
}

#[test]
fn a_byte_that_flips_anywhere_is_found_or_changes_nothing() {
    let image = archive("a", None, &[Draft::new(1).memory(0, 2, &[1])]);
    let sound = read(&image, &[]).unwrap();
    for index in 0..image.len() {
        // All bits of each byte, and of some bytes one.
        for flip in [0xff, 0x01].into_iter().take(1 + usize::from(index % 4 == 0)) {
            let mut image = image.clone();
            image[index] ^= flip;
            if let Ok(seen) = read(&image, &[]) {
                // Only in the digits of a header's own sum may a byte change and mean the same.
                assert_eq!(seen, sound, "byte {index}");
                assert!((148..156).contains(&(index % 512)), "byte {index} ^ {flip:#x}");
            }
        }
    }
}

#[test]
fn a_byte_that_flips_in_a_chain_never_panics() {
    let (base, child) = chain();
    let sound = read(&child, &[&base]).unwrap();
    for index in (0..child.len()).step_by(7) {
        let mut changed = child.clone();
        changed[index] ^= 0x41;
        if let Ok(seen) = read(&changed, &[&base]) {
            assert_eq!(seen, sound, "byte {index}");
        }
    }
}

/// The same, where whoever changes a byte sets the sums right: then it is up to the structure, and the tools must stand it.
#[test]
fn a_head_that_flips_with_right_sums_never_panics() {
    let draft = Draft::new(1)
        .memory(0, 2, &[1])
        .memory(4, 2, &[])
        .elsewhere(4, 1, Place::SameArchive, 1, 0);
    let core = draft.core();
    let head = core.len() - 4096;
    let manifest = serde_json::to_vec(&manifest("a", None, std::slice::from_ref(&draft))).unwrap();
    let state = draft.state();
    let rebuild = |core: &[u8]| {
        members(&[
            ("manifest.json", &manifest),
            ("process.1.json", &state),
            ("core.1", core),
        ])
    };
    assert!(read(&rebuild(&core), &[]).is_ok());
    for index in 0..head {
        for flip in [0xff, 0x01] {
            let mut core = core.clone();
            core[index] ^= flip;
            let _ = read(&rebuild(&core), &[]);
        }
    }
}

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
    // An endless end.
    let mut endless = ArchiveReader::new(members(&[m, s, c]).chain(std::io::repeat(0)), "image").unwrap();
    let error = loop {
        if let Err(error) = endless.next_item() {
            break error;
        }
    };
    assert!(error.to_string().contains("something follows"), "{error}");
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

fn manifest_says(change: impl Fn(&mut serde_json::Value)) -> ReadError {
    let draft = [Draft::new(1)];
    let mut json = serde_json::to_value(manifest("a", None, &draft)).unwrap();
    change(&mut json);
    let archive = members(&[("manifest.json", &serde_json::to_vec(&json).unwrap())]);
    ArchiveReader::new(archive.as_slice(), "image")
        .map(|_| ())
        .unwrap_err()
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    for version in [0_u64, 1, 3, u64::MAX] {
        let error = manifest_says(|json| json["manifest_version"] = version.into());
        assert!(matches!(error.fault, Fault::Version { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(&version.to_string()) && said.contains("reads 2"),
            "{said}"
        );
    }
    // Of another version nothing else is looked at.
    let error = manifest_says(|json| *json = serde_json::json!({"manifest_version": 9}));
    assert!(matches!(error.fault, Fault::Version { found: 9, .. }), "{error}");
    let damages: [fn(&mut serde_json::Value); 8] = [
        |json| json["manifest_version"] = "2".into(),
        |json| *json = serde_json::json!([]),
        |json| json["processes"][0]["pid"] = 0.into(),
        |json| json["processes"][0]["pid"] = (-1).into(),
        |json| json["processes"][0]["core"] = "core.2".into(),
        |json| json["processes"][0]["state"] = "../x".into(),
        |json| json["processes"][0]["core_bytes"] = (-1).into(),
        |json| {
            let again = json["processes"][0].clone();
            json["processes"].as_array_mut().unwrap().push(again);
        },
    ];
    for damage in damages {
        let error = manifest_says(damage);
        assert!(matches!(error.fault, Fault::Damaged { .. }), "{error}");
    }
    // Deeply nested, in a field that nobody knows.
    let deep = format!(
        "{{\"manifest_version\":2,\"x\":{}{}}}",
        "[".repeat(1 << 20),
        "]".repeat(1 << 20)
    );
    refused(&members(&[("manifest.json", deep.as_bytes())]));
    let state = format!("{{\"pid\":1,\"x\":{}", "{\"x\":".repeat(1 << 20));
    let draft = [Draft::new(1)];
    let json = serde_json::to_vec(&manifest("a", None, &draft)).unwrap();
    let mut tar = Vec::new();
    member(&mut tar, "manifest.json", json.len() as u64, &json, |_| {});
    member(
        &mut tar,
        "process.1.json",
        state.len() as u64,
        state.as_bytes(),
        |_| {},
    );
    let mut reader = ArchiveReader::new(tar.as_slice(), "image").unwrap();
    match reader.next_item().unwrap() {
        Some(Item::State(state)) => assert!(state.parse().is_err()),
        other => panic!("{other:?}"),
    }
}

fn head_of(segments: &[Segment], notes: &[u8], bytes: u64) -> Result<(), Fault> {
    read_head(head(segments, notes).as_slice(), bytes).map(|_| ())
}

#[test]
fn heads_of_cores_that_make_no_sense_are_refused() {
    let good = Segment {
        vaddr: at(0),
        memory_bytes: 2 * PAGE,
        file_bytes: PAGE,
        offset: PAGE,
        flags: 6,
    };
    head_of(&[good], b"", 2 * PAGE).unwrap();
    type Damage = fn(&mut Segment);
    let damages: [Damage; 12] = [
        |one| one.vaddr += 1,
        |one| one.vaddr = 0_u64.wrapping_sub(PAGE),
        |one| one.memory_bytes = 0,
        |one| one.memory_bytes = u64::MAX - 4095,
        |one| one.memory_bytes += 1,
        |one| one.file_bytes = 3 * PAGE,
        |one| one.file_bytes = 1,
        |one| one.offset = 0,
        |one| one.offset = PAGE + 512,
        |one| one.offset = 2 * PAGE,
        |one| one.offset = 1 << 40,
        |one| one.offset = u64::MAX - 4095,
    ];
    for (index, damage) in damages.iter().enumerate() {
        let mut segment = good;
        damage(&mut segment);
        assert!(head_of(&[segment], b"", 2 * PAGE).is_err(), "{index}");
    }
    assert!(head_of(&[good, good], b"", 2 * PAGE).is_err(), "they overlap");
    let other = Segment { vaddr: at(8), ..good };
    assert!(
        head_of(&[good, other], b"", 2 * PAGE).is_err(),
        "their data overlap"
    );
    assert!(
        head_of(
            &[
                other,
                Segment {
                    offset: 2 * PAGE,
                    ..good
                }
            ],
            b"",
            3 * PAGE
        )
        .is_err(),
        "they are not sorted"
    );
    assert!(head_of(&[good], b"", 3 * PAGE).is_err(), "something follows");
    for notes in [
        &b"x"[..],
        &[0xff; 12],
        &[0xff; 64],
        &[4, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert!(head_of(&[], notes, PAGE).is_err(), "{notes:?}");
    }
}

/// A million program headers are claimed, and few are there: by `e_phnum`, and by the section header of `PN_XNUM`.
#[test]
fn program_headers_that_are_claimed_take_no_memory() {
    let mut small = head(&[], b"");
    small[56..58].copy_from_slice(&0xfffe_u16.to_le_bytes());
    assert!(read_head(small.as_slice(), small.len() as u64).is_err());
    assert!(matches!(
        read_head(small.as_slice(), 1 << 40),
        Err(Fault::Damaged { .. } | Fault::Truncated { .. })
    ));
    for count in [1_000_000_u64, 19_000_000, 1 << 40, u64::MAX / 56] {
        let mut small = head(&[], b"");
        small[56..58].copy_from_slice(&0xffff_u16.to_le_bytes());
        let section = 64_u64.wrapping_add(count.wrapping_mul(56));
        small[40..48].copy_from_slice(&section.to_le_bytes());
        assert!(read_head(small.as_slice(), u64::MAX).is_err(), "{count}");
        assert!(
            read_head(small.as_slice(), small.len() as u64).is_err(),
            "{count}"
        );
    }
    // And that many that are there are taken.
    let segments: Vec<_> = (0..70_000)
        .map(|index| Segment {
            vaddr: at(2 * index),
            memory_bytes: PAGE,
            ..Segment::default()
        })
        .collect();
    let many = head(&segments, b"");
    let found = read_head(many.as_slice(), many.len() as u64).unwrap();
    assert_eq!(found.segments, segments);
}

#[test]
fn references_that_lead_nowhere_are_refused() {
    let target = Draft::new(2).memory(0, 4, &[1, 2]).memory(8, 1, &[3]);
    let from = |draft: Draft| [draft, target.clone()];
    let page = |place, pid, there| {
        Draft::new(1)
            .memory(0, 4, &[1])
            .elsewhere(2, 1, place, pid, there)
    };
    let taken = |drafts: &[Draft]| read(&archive("a", None, drafts), &[]);
    assert!(taken(&from(page(Place::SameArchive, 2, 1))).is_ok());
    assert!(
        taken(&from(page(Place::SameArchive, 1, 0))).is_ok(),
        "to its own data"
    );
    for (what, draft) in [
        ("at itself", page(Place::SameArchive, 1, 2)),
        ("to a hole of its own", page(Place::SameArchive, 1, 3)),
        ("to a hole", page(Place::SameArchive, 2, 2)),
        ("to nothing", page(Place::SameArchive, 2, 5)),
        ("behind the end", page(Place::SameArchive, 2, 9)),
        ("to nobody", page(Place::SameArchive, 3, 0)),
        ("to pid 0", page(Place::SameArchive, 0, 0)),
        ("to a negative pid", page(Place::SameArchive, -2, 0)),
        ("to no parent", page(Place::Parent, 2, 0)),
        (
            "more than there is",
            Draft::new(1)
                .memory(0, 4, &[])
                .elsewhere(0, 3, Place::SameArchive, 2, 0),
        ),
        (
            "over its own data",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(0, 1, Place::SameArchive, 2, 0),
        ),
        (
            "in no segment",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(4, 1, Place::SameArchive, 2, 0),
        ),
        (
            "over the end of a segment",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(3, 2, Place::SameArchive, 2, 0),
        ),
        (
            "twice",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(2, 1, Place::SameArchive, 2, 0)
                .elsewhere(2, 1, Place::SameArchive, 2, 0),
        ),
        (
            "not sorted",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(3, 1, Place::SameArchive, 2, 0)
                .elsewhere(2, 1, Place::SameArchive, 2, 0),
        ),
        (
            "none",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(2, 0, Place::SameArchive, 2, 0),
        ),
    ] {
        assert!(taken(&from(draft)).is_err(), "{what}");
    }
    let backwards = [target.clone(), page(Place::SameArchive, 2, 0)];
    assert!(taken(&backwards).is_err(), "backwards");
    let chained = [
        page(Place::SameArchive, 2, 2),
        target.clone().elsewhere(2, 1, Place::SameArchive, 3, 0),
        Draft::new(3).memory(0, 1, &[1]),
    ];
    assert!(taken(&chained).is_err(), "two hops");

    let numbers = |change: fn(&mut Elsewhere)| {
        let mut draft = page(Place::SameArchive, 2, 1);
        change(&mut draft.elsewhere[0]);
        taken(&from(draft)).is_err()
    };
    let damages: [fn(&mut Elsewhere); 6] = [
        |one| one.vaddr += 1,
        |one| one.bytes += 1,
        |one| one.bytes = u64::MAX - 4095,
        |one| one.vaddr_there += 8,
        |one| one.vaddr_there = u64::MAX - 4095,
        |one| one.vaddr = u64::MAX - 4095,
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        assert!(numbers(damage), "{index}");
    }
    let mut notes = Vec::new();
    push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &[0; 31]);
    assert!(head_of(&[], &notes, PAGE).is_err(), "half a record");
    let mut record = page(Place::SameArchive, 2, 1).elsewhere[0].to_bytes();
    record[28] = 7;
    let mut notes = Vec::new();
    push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &record);
    assert!(head_of(&[], &notes, PAGE).is_err(), "a place that nobody knows");
}

#[test]
fn chains_that_lead_nowhere_or_in_circles_are_refused() {
    let page = |pid, there| {
        [Draft::new(1)
            .memory(0, 4, &[])
            .elsewhere(2, 1, Place::Parent, pid, there)]
    };
    let child = archive("a", Some("b"), &page(1, 2));
    let holder = archive("b", None, &[Draft::new(1).memory(0, 4, &[1, 2, 3])]);
    assert!(read(&child, &[&holder]).is_ok());
    for wrong in [page(1, 3), page(1, 4), page(2, 0)] {
        let wrong = archive("a", Some("b"), &wrong);
        assert!(read(&wrong, &[&holder]).is_err());
    }
    // a is an increment to b, b to a: each sends the other on, for ever.
    let b = archive("b", Some("a"), &page(1, 2));
    let said = read(&child, &[&b, &child]).unwrap_err().to_string();
    assert!(said.contains("its own parent"), "{said}");
    let own = archive("a", Some("a"), &page(1, 2));
    let said = read(&own, &[&own]).unwrap_err().to_string();
    assert!(said.contains("its own parent"), "{said}");
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

fn image_args(path: &Path) -> ImageArgs {
    ImageArgs {
        image: path.to_owned().into(),
        parents: ParentArgs::default(),
    }
}

/// Whatever is wrong, there is nothing in the folder afterwards, and nothing beside it.
#[test]
fn nothing_is_left_of_an_extraction_that_fails() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let image = archive("a", None, &[Draft::new(1).memory(0, 4, &[1, 2]), Draft::new(2)]);
    for cut in (0..image.len()).step_by(512) {
        let path = write(outer.path(), "image.tar", &image[..cut]);
        let args = ExtractArgs {
            image: image_args(&path),
            pids: Vec::new(),
            folder: folder.clone(),
        };
        assert!(extract(&args, &Scratch::default()).is_err());
        assert!(names(&folder).is_empty(), "{cut}");
    }
    assert_eq!(names(outer.path()), ["folder", "image.tar"]);
}

#[test]
fn what_the_manifest_says_of_pages_and_threads_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let drafts = [
        Draft::new(1)
            .memory(0, 4, &[])
            .elsewhere(0, 1, Place::SameArchive, 2, 0),
        Draft::new(2).memory(0, 1, &[1]),
    ];
    let check = |change: fn(&mut freezeframe::archive::manifest::Manifest)| {
        let mut manifest = manifest("a", None, &drafts);
        change(&mut manifest);
        let path = write(folder.path(), "image.tar", &assemble(&manifest, &drafts));
        verify(&VerifyArgs {
            image: image_args(&path),
            alone: false,
            json: false,
        })
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    check(|_| {}).unwrap();
    let said = check(|manifest| manifest.processes[0].pages.elsewhere = 2).unwrap_err();
    assert!(said.contains("the manifest says 2"), "{said}");
    let said = check(|manifest| manifest.processes[1].threads = 7).unwrap_err();
    assert!(said.contains("the manifest says 7"), "{said}");
}

/// Seeds that nobody can read any more would keep the fuzz targets at the door.
#[test]
fn the_seeds_of_the_fuzz_targets_are_sound() {
    let again = "write them again: cargo run -p freezeframe --example fuzz_seeds";
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let seed = |name: &str| std::fs::read(seeds.join(name)).unwrap();
    let base = seed("archive/base.tar");
    for name in ["base", "child", "empty", "one"] {
        let image = seed(&format!("archive/{name}.tar"));
        read(&image, &[&base]).unwrap_or_else(|error| panic!("{error}; {again}"));
    }
    for name in ["core", "empty"] {
        let core = seed(&format!("core_head/{name}"));
        read_head(core.as_slice(), core.len() as u64).unwrap_or_else(|error| panic!("{error}; {again}"));
    }
    let image = seed("image/one.img");
    if let Err(error) = freezeframe::image::Image::read(image.as_slice(), image.len() as u64) {
        panic!("{error}; {again}");
    }
}
