//! The verbs about archives, on archives made by hand.

#[path = "../common/mod.rs"]
mod common;
mod diff;
mod extract;
mod flatten;
mod inputs;
mod show;

use std::path::{Path, PathBuf};

use common::{Draft, archive, at, chain, names, write};
use freezeframe::stream::open::Keys;
use freezeframe::tools::ToolError;
use freezeframe::tools::extract::{ExtractArgs, extract};
use freezeframe::tools::input::{ImageArgs, InputError, ParentArgs};
use freezeframe::tools::scratch::Scratch;
use freezeframe::tools::verify::{VerifyArgs, verify};
use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

fn image(path: &Path, parents: &[&Path]) -> ImageArgs {
    ImageArgs {
        image: path.to_owned().into(),
        parents: ParentArgs {
            parents: parents.iter().map(|path| path.to_path_buf().into()).collect(),
            keys: Keys::default(),
        },
    }
}

fn verify_args(path: &Path) -> VerifyArgs {
    VerifyArgs {
        image: image(path, &[]),
        alone: false,
        json: false,
    }
}

fn extract_to(path: &Path, parents: &[&Path], pids: &[i32], folder: &Path) -> Result<Vec<String>, ToolError> {
    let args = ExtractArgs {
        image: image(path, parents),
        pids: pids.to_vec(),
        folder: folder.to_owned(),
    };
    extract(&args, &Scratch::default())
}

/// The memory that a core has: address and the byte of which the page consists.
fn pages(core: &Path) -> Vec<(u64, u8)> {
    let core = std::fs::read(core).unwrap();
    let elf = FileHeader64::<LittleEndian>::parse(core.as_slice()).unwrap();
    let mut pages = Vec::new();
    let (mut offset, mut vaddr) = (0, 0);
    for load in elf.program_headers(LittleEndian, core.as_slice()).unwrap() {
        if load.p_type(LittleEndian) != PT_LOAD {
            continue;
        }
        assert!(load.p_vaddr(LittleEndian) >= vaddr, "sorted by address");
        vaddr = load.p_vaddr(LittleEndian) + load.p_memsz(LittleEndian);
        let data = load.data(LittleEndian, core.as_slice()).unwrap();
        if !data.is_empty() {
            assert!(load.p_offset(LittleEndian) >= offset, "and so are the data");
            offset = load.p_offset(LittleEndian);
        }
        for (page, content) in data.chunks(4096).enumerate() {
            assert!(content.iter().all(|byte| *byte == content[0]));
            pages.push((load.p_vaddr(LittleEndian) + page as u64 * 4096, content[0]));
        }
    }
    pages
}

/// A folder with the image and the increment to it.
fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (base, child) = chain();
    let base = write(folder.path(), "base.tar", &base);
    let child = write(folder.path(), "child.tar", &child);
    (folder, base, child)
}

const CHILD_10: [(u64, u8); 5] = [(0, 9), (1, 2), (10, 4), (11, 5), (12, 8)];

const CHILD_20: [(u64, u8); 4] = [(30, 3), (31, 4), (32, 5), (40, 8)];

fn addresses(pages: &[(u64, u8)]) -> Vec<(u64, u8)> {
    pages.iter().map(|(page, byte)| (at(*page), *byte)).collect()
}

#[test]
fn a_chain_is_sound_and_says_what_was_checked() {
    let (_folder, base, child) = folder();
    let verdict = verify(&verify_args(&child)).unwrap();
    assert!(verdict.sound);
    let ids: Vec<_> = verdict
        .images
        .iter()
        .map(|image| image.image_id.as_str())
        .collect();
    assert_eq!(ids, ["child", "base"]);
    assert_eq!(verdict.images[0].members, 5);
    assert_eq!(verdict.images[0].pages.parent, 6);
    assert_eq!(verify(&verify_args(&base)).unwrap().images.len(), 1);
}

#[test]
fn a_parent_that_is_not_there_is_asked_for() {
    let (folder, base, child) = folder();
    let elsewhere = folder.path().join("elsewhere.tar");
    std::fs::rename(&base, &elsewhere).unwrap();
    let error = verify(&verify_args(&child)).unwrap_err();
    assert!(
        matches!(error, ToolError::Input(InputError::NoParent { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("--parent"), "{error}");
    let mut args = verify_args(&child);
    args.image = image(&child, &[&child, &elsewhere]);
    assert!(verify(&args).unwrap().sound, "whatever the order");
    args.image = image(&child, &[&child]);
    let error = verify(&args).unwrap_err();
    assert!(
        matches!(error, ToolError::Input(InputError::OtherParents { .. })),
        "{error}"
    );
    args.image = image(&child, &[]);
    args.alone = true;
    assert_eq!(
        verify(&args).unwrap().parent_left_out.as_deref(),
        Some("base.tar")
    );
    // Another image by the same name is not taken for the parent.
    write(
        folder.path(),
        "base.tar",
        &archive("other", None, &[Draft::new(10)]),
    );
    let error = verify(&verify_args(&child)).unwrap_err();
    assert!(
        matches!(&error, ToolError::Input(InputError::OtherBeside { found, .. }) if found == "other"),
        "{error}"
    );
    assert!(!error.is_damage(), "the image is sound: {error}");
}

fn freezeframe(arguments: &[&std::ffi::OsStr]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_freezeframe"));
    command.args(arguments);
    command
}

#[test]
fn exit_codes_tell_damage_from_all_else() {
    let (folder, _, child) = folder();
    let code = |arguments: &[&std::ffi::OsStr]| {
        let mut command = freezeframe(arguments);
        command.current_dir(folder.path()).output().unwrap().status.code()
    };
    assert_eq!(code(&["verify".as_ref(), child.as_ref()]), Some(0));
    let cut = write(folder.path(), "cut.tar", &std::fs::read(&child).unwrap()[..9000]);
    for verb in ["verify", "extract"] {
        assert_eq!(
            code(&[verb.as_ref(), cut.as_ref(), "--parent".as_ref(), cut.as_ref()]),
            Some(10)
        );
    }
    assert_eq!(code(&["verify".as_ref(), "/nonexistent".as_ref()]), Some(1));
    let to = folder.path().join("core.10");
    std::fs::write(to, "theirs").unwrap();
    let into = folder.path().as_os_str();
    assert_eq!(
        code(&["extract".as_ref(), child.as_ref(), "-C".as_ref(), into]),
        Some(5)
    );
    assert_eq!(
        names(folder.path()),
        ["base.tar", "child.tar", "core.10", "cut.tar"]
    );
}
