//! `flatten`: one image of a chain.

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use freezeframe::archive::elsewhere::Place;
use freezeframe::cli::{Cli, Command};
use freezeframe::stream::Cancel;
use freezeframe::tools::ToolError;
use freezeframe::tools::flatten::{FlattenArgs, flatten};
use freezeframe::tools::verify::verify;

use crate::common::{Draft, archive, names, write};
use crate::{CHILD_10, CHILD_20, addresses, extract_to, folder, pages, verify_args};

fn flatten_args(image: &Path, output: &Path, more: &[&str]) -> anyhow::Result<FlattenArgs> {
    let (image, output) = (image.to_str().unwrap(), output.to_str().unwrap());
    let line = [&["freezeframe", "flatten", image, "-o", output], more].concat();
    match Cli::try_parse_from(line)?.command {
        Command::Flatten(args) => Ok(args),
        other => panic!("{other:?}"),
    }
}

/// `freezeframe flatten`, with more on its command line.
pub fn flattened(image: &Path, output: &Path, more: &[&str]) -> anyhow::Result<()> {
    let args = flatten_args(image, output, more)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(flatten(&args, Arc::default(), &Cancel::new()))
}

#[test]
fn a_joined_image_that_is_cancelled_is_not_there() {
    let (folder, _, child) = folder();
    let args = flatten_args(&child, &folder.path().join("joined.tar"), &[]).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime
        .block_on(flatten(&args, Arc::default(), &cancel))
        .unwrap_err();
    assert!(error.to_string().contains("nothing is left"), "{error}");
    assert_eq!(names(folder.path()), ["base.tar", "child.tar"]);
}

#[test]
fn a_joined_image_is_compressed_and_encrypted() {
    let (folder, _, child) = folder();
    let joined = folder.path().join("joined");
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    flattened(
        &child,
        &joined,
        &["--compress", "zstd", "--encrypt-to", &recipient],
    )
    .unwrap();
    let sealed = std::fs::read(&joined).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1"));
    let opened = age::decrypt(&key, &sealed).unwrap();
    assert!(opened.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "a frame of zstd");
    verify(&verify_args(&write(folder.path(), "opened.tar.zst", &opened))).unwrap();
    // Neither is replaced.
    flattened(&child, &joined, &[]).unwrap_err();
    assert_eq!(std::fs::read(&joined).unwrap(), sealed);
}

#[test]
fn a_joined_image_is_sound_and_has_the_same_memory() {
    let (folder, base, child) = folder();
    let joined = folder.path().join("joined.tar");
    flattened(&child, &joined, &[]).unwrap();
    std::fs::remove_file(base).unwrap();
    let verdict = verify(&verify_args(&joined)).unwrap();
    assert_eq!(
        (verdict.images.len(), verdict.images[0].image_id.as_str()),
        (1, "child")
    );
    // Pages 10 and 11 of process 10 are pages 31 and 32 of process 20: the parent shared them, and so does this.
    let found = verdict.images[0].pages;
    assert_eq!((found.elsewhere, found.parent), (3, 0));
    assert_eq!(found.here, 1 + 1 + 1 + 3);
    let to = folder.path().join("out");
    std::fs::create_dir(&to).unwrap();
    extract_to(&joined, &[], &[], &to).unwrap();
    assert_eq!(pages(&to.join("core.10")), addresses(&CHILD_10));
    assert_eq!(pages(&to.join("core.20")), addresses(&CHILD_20));
    let state = std::fs::read_to_string(to.join("process.10.json")).unwrap();
    assert!(!state.contains("\"parent_pages\": 6"), "{state}");
    let error = flattened(&joined, &folder.path().join("again.tar"), &[]).unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(ToolError::Whole(_))),
        "{error}"
    );
    assert_eq!(
        names(folder.path()),
        ["child.tar", "joined.tar", "out"],
        "nothing else is left"
    );
}

#[test]
fn zeros_at_the_end_of_what_is_joined_are_pages_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let base = Draft::new(1).memory(0, 4, &[1, 2, 0]);
    let child = Draft::new(1)
        .memory(0, 1, &[9])
        .memory(1, 3, &[])
        .elsewhere(1, 2, Place::Parent, 1, 1);
    write(folder.path(), "base.tar", &archive("base", None, &[base]));
    let child = write(
        folder.path(),
        "child.tar",
        &archive("child", Some("base"), &[child]),
    );
    let joined = folder.path().join("joined.tar");
    flattened(&child, &joined, &[]).unwrap();
    extract_to(&joined, &[], &[], folder.path()).unwrap();
    assert_eq!(
        pages(&folder.path().join("core.1")),
        addresses(&[(0, 9), (1, 2), (2, 0)])
    );
}

#[test]
fn an_increment_to_a_joined_image_finds_its_pages() {
    let (folder, _, child) = folder();
    let joined = folder.path().join("joined.tar");
    flattened(&child, &joined, &[]).unwrap();
    let grandchild = Draft::new(10)
        .memory(10, 3, &[])
        .elsewhere(10, 3, Place::Parent, 10, 10);
    let grandchild = write(
        folder.path(),
        "grandchild.tar",
        &archive("grandchild", Some("child"), &[grandchild]),
    );
    for parent in ["child.tar", "joined.tar"] {
        let to = tempfile::tempdir().unwrap();
        let parent = folder.path().join(parent);
        let base = folder.path().join("base.tar");
        extract_to(&grandchild, &[&parent, &base], &[], to.path()).unwrap();
        assert_eq!(
            pages(&to.path().join("core.10")),
            addresses(&[(10, 4), (11, 5), (12, 8)])
        );
    }
}
