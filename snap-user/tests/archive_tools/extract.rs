//! `extract`: cores that are complete.

use freezeframe::tools::ToolError;

use crate::common::{Draft, archive, at, chain, names, write};
use crate::flatten::flattened;
use crate::{CHILD_10, CHILD_20, addresses, extract_to, folder, freezeframe, pages};

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
