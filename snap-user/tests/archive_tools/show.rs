//! `show`: what an image has.

use freezeframe::archive::read::{ArchiveReader, Item};
use freezeframe::stream::open::Keys;
use freezeframe::tools::show::{ShowArgs, show};

use crate::common::write;
use crate::folder;

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
