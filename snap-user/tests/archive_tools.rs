//! The verbs about archives, on archives made by hand.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use common::{Draft, archive, at, chain, names, write};
use freezeframe::archive::elsewhere::Place;
use freezeframe::archive::read::{ArchiveReader, Item};
use freezeframe::cli::{Cli, Command};
use freezeframe::stream::Cancel;
use freezeframe::stream::open::Keys;
use freezeframe::tools::ToolError;
use freezeframe::tools::diff::{DiffArgs, Difference, ProcessDifference, diff};
use freezeframe::tools::extract::{ExtractArgs, extract};
use freezeframe::tools::flatten::{FlattenArgs, flatten};
use freezeframe::tools::input::{ImageArgs, InputError, ParentArgs};
use freezeframe::tools::scratch::Scratch;
use freezeframe::tools::show::{ShowArgs, show};
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

#[test]
fn extracted_cores_are_complete_and_by_address() {
    let (folder, base, child) = folder();
    let to = folder.path().join("out");
    std::fs::create_dir(&to).unwrap();
    extract_to(&child, &[], &[], &to).unwrap();
    assert_eq!(
        names(&to),
        ["core.10", "core.20", "process.10.json", "process.20.json"]
    );
    assert_eq!(pages(&to.join("core.10")), addresses(&CHILD_10));
    assert_eq!(pages(&to.join("core.20")), addresses(&CHILD_20));
    // Once more: what is there stays.
    let error = extract_to(&child, &[], &[], &to).unwrap_err();
    assert!(matches!(error, ToolError::Output(_)), "{error}");
    assert_eq!(names(&to).len(), 4);
    // One process of the parent alone, whose pages are in a core that is not wanted.
    let to = folder.path().join("one");
    std::fs::create_dir(&to).unwrap();
    extract_to(&base, &[], &[10], &to).unwrap();
    assert_eq!(names(&to), ["core.10", "process.10.json"]);
    assert_eq!(
        pages(&to.join("core.10")),
        addresses(&[(0, 1), (1, 2), (10, 4), (11, 5)])
    );
    assert!(matches!(
        extract_to(&base, &[], &[11], &to),
        Err(ToolError::NoProcess { pid: 11, .. })
    ));
}

#[test]
fn pages_of_zeros_are_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut data = vec![0; 600];
    data[300] = 7;
    let image = write(
        folder.path(),
        "a.tar",
        &archive("a", None, &[Draft::new(1).memory(0, 600, &data)]),
    );
    let to = tempfile::tempdir().unwrap();
    extract_to(&image, &[], &[], to.path()).unwrap();
    let core = to.path().join("core.1");
    let metadata = core.metadata().unwrap();
    assert!(metadata.len() > 600 * 4096);
    assert!(
        metadata.blocks() * 512 < 100 * 4096,
        "{} blocks",
        metadata.blocks()
    );
    assert_eq!(pages(&core)[300], (at(300), 7));
}

#[test]
fn what_is_damaged_at_its_end_leaves_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let (base, child) = chain();
    write(folder.path(), "base.tar", &base[..base.len() - 2048]);
    let child = write(folder.path(), "child.tar", &child);
    let to = tempfile::tempdir().unwrap();
    let error = extract_to(&child, &[], &[], to.path()).unwrap_err();
    assert!(error.to_string().contains("base.tar: truncated"), "{error}");
    assert!(names(to.path()).is_empty());
    flattened(&child, &to.path().join("joined.tar"), &[]).unwrap_err();
    assert!(names(to.path()).is_empty());
}

fn flatten_args(image: &Path, output: &Path, more: &[&str]) -> anyhow::Result<FlattenArgs> {
    let (image, output) = (image.to_str().unwrap(), output.to_str().unwrap());
    let line = [&["freezeframe", "flatten", image, "-o", output], more].concat();
    match Cli::try_parse_from(line)?.command {
        Command::Flatten(args) => Ok(args),
        other => panic!("{other:?}"),
    }
}

/// `freezeframe flatten`, with more on its command line.
fn flattened(image: &Path, output: &Path, more: &[&str]) -> anyhow::Result<()> {
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

/// What `show` prints, and what it ends with.
fn shown(args: &ShowArgs) -> (String, anyhow::Result<()>) {
    let mut text = String::new();
    let end = show(args, &mut |more| {
        text += more;
        Ok(())
    });
    (text, end)
}

/// All of them together may be larger than memory.
#[test]
fn show_prints_each_process_as_it_has_read_it() {
    let (folder, _, child) = folder();
    let whole = std::fs::read(&child).unwrap();
    let second = whole
        .windows(16)
        .position(|window| window == b"process.20.json\0");
    let cut = second.unwrap() + 600;
    let mut args = ShowArgs {
        image: write(folder.path(), "short.tar", &whole[..cut]).into(),
        keys: Keys::default(),
        pids: Vec::new(),
        mappings: false,
        json: false,
    };
    for (json, first) in [(false, "process 10 test"), (true, "\"pid\":10")] {
        args.json = json;
        let (text, end) = shown(&args);
        assert!(text.contains(first), "{text}");
        let error = end.unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
    }
}

#[test]
fn show_needs_no_more_than_the_head() {
    let (folder, _, child) = folder();
    let whole = std::fs::read(&child).unwrap();
    let mut archive = ArchiveReader::new(whole.as_slice(), "child").unwrap();
    while !matches!(archive.next_item().unwrap(), Some(Item::Core(..))) {}
    let head = usize::try_from(archive.offset()).unwrap();
    drop(archive);
    let short = write(folder.path(), "short.tar", &whole[..head]);
    let mut args = ShowArgs {
        image: short.into(),
        keys: Keys::default(),
        pids: Vec::new(),
        mappings: true,
        json: false,
    };
    let (text, end) = shown(&args);
    end.unwrap();
    assert!(text.contains("process 20 test"), "{text}");
    assert!(text.contains("base.tar (base)"), "the parent is named: {text}");
    assert!(!text.contains('\x1b'), "no colours from an archive: {text}");
    args.mappings = false;
    args.json = true;
    args.pids = vec![20];
    let json: serde_json::Value = serde_json::from_str(&shown(&args).0).unwrap();
    assert_eq!(json["manifest"]["image_id"], "child");
    assert_eq!(json["processes"][0]["pid"], 20);
    assert_eq!(json["processes"].as_array().unwrap().len(), 1);
}

fn difference(folder: &Path, a: &[u8], b: &[u8]) -> Difference {
    let args = DiffArgs {
        a: write(folder, "a.tar", a).into(),
        b: write(folder, "b.tar", b).into(),
        parents: ParentArgs::default(),
        json: false,
    };
    diff(&args).unwrap()
}

#[test]
fn differences_are_found_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let before = [
        Draft::new(1)
            .memory(0, 4, &[1, 2, 3])
            .memory(10, 2, &[5])
            .descriptor(0, "/dev/null", 0)
            .descriptor(3, "/srv/log", 10)
            .descriptor(4, "/srv/old", 0),
        Draft::new(2),
    ];
    let mut after = Draft::new(1)
        .memory(0, 6, &[1, 9, 3, 4])
        .memory(20, 1, &[1])
        .descriptor(0, "/dev/null", 0)
        .descriptor(3, "/srv/log", 30)
        .descriptor(5, "/srv/new", 0);
    after.threads.push(17);
    let found = difference(
        folder.path(),
        &archive("a", None, &before),
        &archive("b", None, &[after, Draft::new(3)]),
    );
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["come"][0]["id"], 3);
    assert_eq!(json["gone"][0]["id"], 2);
    let process = &json["processes"][0];
    assert_eq!(process["threads_come"][0]["id"], 17);
    let changes: Vec<_> = process["descriptors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["fd"].as_i64().unwrap(), change["change"].as_str().unwrap()))
        .collect();
    assert_eq!(changes, [(3, "within"), (4, "gone"), (5, "come")]);
    assert_eq!(process["descriptors"][0]["position"], serde_json::json!([10, 30]));
    let mappings = process["mappings"].as_array().unwrap();
    assert_eq!(mappings.len(), 3);
    assert_eq!(mappings[0]["change"], "changed");
    assert_eq!(mappings[0]["grown_bytes"], 2 * 4096);
    assert_eq!(
        mappings[0]["pages"],
        serde_json::json!({"same": 2, "changed": 1, "new": 1, "gone": 0})
    );
    assert_eq!(mappings[1]["change"], "gone");
    assert_eq!(mappings[2]["change"], "come");
    assert_eq!(
        process["pages"],
        serde_json::json!({"same": 2, "changed": 1, "new": 2, "gone": 1})
    );
}

#[test]
fn an_increment_is_compared_with_its_parent_and_with_others() {
    let folder = tempfile::tempdir().unwrap();
    let (base, child) = chain();
    write(folder.path(), "base.tar", &base);
    let child_to_base = difference(folder.path(), &base, &child);
    let counts = |difference: &Difference| -> Vec<_> {
        let processes = difference.processes.iter().map(|process| process.pages);
        processes
            .map(|pages| (pages.same, pages.changed, pages.new, pages.gone))
            .collect()
    };
    // 10: page 0 changed, page 12 is new. 20: page 33 is gone, page 40 is new.
    assert_eq!(counts(&child_to_base), [(3, 1, 1, 0), (3, 0, 1, 1)]);
    let same = difference(folder.path(), &child, &child);
    assert_eq!(counts(&same), [(5, 0, 0, 0), (4, 0, 0, 0)]);
    assert!(same.processes.iter().all(ProcessDifference::is_none));
}

fn freezeframe(arguments: &[&std::ffi::OsStr]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_freezeframe"));
    command.args(arguments);
    command
}

/// The input is a pipe in which nothing comes any more.
#[test]
fn an_interrupted_extraction_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (base, _) = chain();
    let mut child = freezeframe(&[
        "extract".as_ref(),
        "-".as_ref(),
        "-C".as_ref(),
        folder.path().as_ref(),
    ])
    .stdin(std::process::Stdio::piped())
    .stderr(std::process::Stdio::piped())
    .spawn()
    .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, &base[..20_000]).unwrap();
    while names(folder.path()).len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(pipe);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("interrupted; nothing was written"), "{said}");
    assert!(names(folder.path()).is_empty());
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
