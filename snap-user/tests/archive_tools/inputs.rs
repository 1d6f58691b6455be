//! What an image comes through: compression, encryption, pipes.

use std::path::{Path, PathBuf};

use freezeframe::archive::elsewhere::Place;

use crate::common::{Draft, archive, write};
use crate::freezeframe;

/// What `verify --json` ends with and prints.
fn verified(arguments: &[&std::ffi::OsStr]) -> (Option<i32>, String) {
    let output = freezeframe(&[&["verify".as_ref(), "--json".as_ref()], arguments].concat())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn damage_within_what_is_around_an_image_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..200).collect();
    let whole = archive("a", None, &[Draft::new(1).memory(0, 200, &data)]);
    let zstd = zstd::encode_all(whole.as_slice(), 3).unwrap();
    let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
    let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    std::io::Write::write_all(&mut lz4, &whole).unwrap();
    let lz4 = lz4.finish().unwrap();
    let key = age::x25519::Identity::generate();
    let sealed = age::encrypt(&key.to_public(), &zstd).unwrap();
    let key = write(
        folder.path(),
        "key",
        age::secrecy::ExposeSecret::expose_secret(&key.to_string()).as_bytes(),
    );
    for (name, image) in [("zstd", zstd), ("lz4", lz4), ("age", sealed)] {
        let verified = |image: &[u8]| {
            let path = write(folder.path(), name, image);
            verified(&[path.as_ref(), "--identity".as_ref(), key.as_ref()])
        };
        assert_eq!(verified(&image).0, Some(0), "{name}");
        let mut flipped = image.clone();
        let middle = image.len() / 2;
        flipped[middle..middle + 8].fill_with(|| 0xa5);
        for damaged in [
            flipped.as_slice(),
            &image[..60],
            &image[..middle],
            &image[..image.len() - 1],
        ] {
            let (code, said) = verified(damaged);
            assert_eq!(code, Some(10), "{name}: {said}");
            assert!(said.starts_with("{\"sound\":false"), "{name}: {said}");
        }
    }
}

/// A chain of three: the names of the oldest first.
fn chain_of_three(folder: &Path) -> [PathBuf; 3] {
    let increment = || {
        Draft::new(1)
            .memory(0, 1, &[7])
            .memory(1, 3, &[])
            .elsewhere(1, 2, Place::Parent, 1, 1)
    };
    let base = Draft::new(1).memory(0, 4, &[1, 2, 3]);
    std::fs::create_dir(folder.join("child")).unwrap();
    [
        ("base.tar", archive("base", None, &[base])),
        ("middle.tar", archive("middle", Some("base"), &[increment()])),
        (
            "child/child.tar",
            archive("child", Some("middle"), &[increment()]),
        ),
    ]
    .map(|(name, image)| write(folder, name, &image))
}

/// What a command of the shell ends with.
fn shell(folder: &Path, command: &str) -> (Option<i32>, String) {
    let output = std::process::Command::new("bash")
        .args(["-c", command, "bash", env!("CARGO_BIN_EXE_freezeframe")])
        .current_dir(folder)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn parents_that_come_through_pipes_are_found_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    chain_of_three(folder.path());
    for command in [
        "$1 verify child/child.tar --parent <(cat base.tar) --parent middle.tar",
        "$1 verify child/child.tar --parent <(cat base.tar) --parent <(cat middle.tar)",
        "$1 verify child/child.tar --parent - --parent middle.tar < base.tar",
        "cat base.tar | $1 verify child/child.tar --parent - --parent middle.tar",
        "$1 diff base.tar child/child.tar --parent <(cat base.tar) --parent middle.tar",
        "$1 diff child/child.tar middle.tar --parent <(cat middle.tar) --parent base.tar",
    ] {
        assert_eq!(
            shell(folder.path(), command),
            (Some(0), String::new()),
            "{command}"
        );
    }
    // Both sides want it, and it can be read only once.
    let command = "$1 diff child/child.tar middle.tar --parent <(cat base.tar) --parent middle.tar";
    let (code, said) = shell(folder.path(), command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("can be read only once"), "{said}");
}

#[test]
fn standard_input_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    chain_of_three(folder.path());
    for command in [
        "$1 diff - - < base.tar",
        "$1 diff - base.tar --parent - < base.tar",
        "$1 verify - --parent - < middle.tar",
        "$1 flatten middle.tar --parent - --parent - -o x.tar < base.tar",
    ] {
        let (code, said) = shell(folder.path(), command);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("standard input is needed twice"), "{said}");
    }
}
