//! The ways to read an image: all of them yield the same bytes, for as long as the descriptor is open.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::{Device, Snapshot};
use guest_tests::target::Target;

/// Of the oracle: small enough to compare in memory, large enough for many pipes.
const PAGES: &str = "256";

fn snapshot() -> (Target, Snapshot) {
    let target = Target::spawn("oracle", &[PAGES, "small"]);
    target.assert_runs();
    let snapshot = Device::open()
        .take(&[target.pid()], 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    (target, snapshot)
}

/// The whole image by pread.
fn whole(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(snapshot.take.image_bytes).unwrap()];
    snapshot
        .file
        .read_exact_at(&mut bytes, 0)
        .expect("it can be read");
    bytes
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the kernel made them for us.
    ends.map(|end| File::from(unsafe { OwnedFd::from_raw_fd(end) }))
        .into()
}

/// splice(2) into a pipe; how many bytes moved. `None`: at the descriptor's own position.
fn splice(snapshot: &Snapshot, offset: Option<&mut i64>, pipe: &File, length: usize) -> io::Result<usize> {
    let offset = offset.map_or(std::ptr::null_mut(), |offset| offset);
    let (from, to) = (snapshot.file.as_raw_fd(), pipe.as_raw_fd());
    // SAFETY: `offset` is null or outlives the call; both descriptors are open.
    let moved = unsafe { libc::splice(from, offset, to, std::ptr::null_mut(), length, 0) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

#[test]
fn read_and_seek_yield_the_bytes_of_pread() {
    let (_target, snapshot) = snapshot();
    let expected = whole(&snapshot);
    let mut read = Vec::new();
    let mut file = &snapshot.file;
    file.read_to_end(&mut read).unwrap();
    assert!(read == expected, "read(2)");
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), snapshot.take.image_bytes);
    assert_eq!(file.read(&mut [0; 8]).unwrap(), 0, "nothing behind the end");
    file.seek(SeekFrom::Start(4095)).unwrap();
    let mut odd = [0; 4099];
    file.read_exact(&mut odd).unwrap();
    assert!(odd == expected[4095..4095 + 4099], "across pages");
    assert!(
        file.seek(SeekFrom::End(1)).is_err(),
        "there is nothing to seek to"
    );
}

#[test]
fn splice_yields_the_bytes_of_pread_at_any_offset() {
    let (_target, snapshot) = snapshot();
    let expected = whole(&snapshot);
    let (mut out, into) = pipe();
    let mut got = Vec::new();
    let mut piece = vec![0; 1 << 16];
    // Odd lengths: the offset within a page is different every time.
    while got.len() < expected.len() {
        let moved = splice(&snapshot, None, &into, 50_001).expect("it moves");
        assert!(moved > 0, "the image ends after {} bytes", got.len());
        out.read_exact(&mut piece[..moved]).unwrap();
        got.extend_from_slice(&piece[..moved]);
    }
    assert!(got == expected, "the whole");
    assert_eq!(splice(&snapshot, None, &into, 1).unwrap(), 0, "and then the end");

    let last = i64::try_from(expected.len()).unwrap() - 5;
    let mut at = last;
    assert_eq!(splice(&snapshot, Some(&mut at), &into, 4096).unwrap(), 5);
    assert_eq!(at, last + 5, "the offset moves by what was moved");
    out.read_exact(&mut piece[..5]).unwrap();
    assert!(piece[..5] == expected[expected.len() - 5..]);
}

#[test]
fn sendfile_yields_the_bytes_of_pread() {
    let (_target, snapshot) = snapshot();
    let expected = whole(&snapshot);
    let copy = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open("/tmp/sendfile")
        .unwrap();
    let mut left = expected.len();
    while left > 0 {
        let (to, from) = (copy.as_raw_fd(), snapshot.file.as_raw_fd());
        // SAFETY: both descriptors are open, and no memory is involved.
        let moved = unsafe { libc::sendfile(to, from, std::ptr::null_mut(), left) };
        assert!(moved > 0, "{}", io::Error::last_os_error());
        left -= usize::try_from(moved).unwrap();
    }
    let mut got = vec![0; expected.len()];
    copy.read_exact_at(&mut got, 0).unwrap();
    std::fs::remove_file("/tmp/sendfile").unwrap();
    assert!(got == expected);
}

#[test]
fn bytes_in_a_pipe_outlive_the_snapshot_and_the_target() {
    let (target, snapshot) = snapshot();
    let expected = whole(&snapshot);
    let (mut out, into) = pipe();
    // The end of the image: pages of the target, by reference.
    let start = expected.len() - 8 * 4096;
    let mut at = i64::try_from(start).unwrap();
    let moved = splice(&snapshot, Some(&mut at), &into, 8 * 4096).unwrap();
    assert!(moved > 0);
    drop(snapshot);
    assert_eq!(Device::open().open_snapshots(), 0);
    target.assert_runs();
    sleep(Duration::from_millis(200));
    drop(target);
    let mut got = vec![0; moved];
    out.read_exact(&mut got).unwrap();
    assert!(got == expected[start..start + moved]);
}

/// One without processes has nothing but a header.
#[test]
fn a_header_in_a_pipe_outlives_the_snapshot() {
    let device = Device::open();
    let take = || {
        device
            .take_filesystem("/")
            .unwrap_or_else(|failed| panic!("{failed:?}"))
    };
    let snapshot = take();
    let expected = whole(&snapshot);
    let (mut out, into) = pipe();
    let moved = splice(&snapshot, Some(&mut 0), &into, expected.len()).unwrap();
    assert_eq!(moved, expected.len());
    drop(snapshot);
    // Whoever takes the memory next.
    let _others: Vec<_> = (0..8).map(|_| take()).collect();
    let mut got = vec![0; moved];
    out.read_exact(&mut got).unwrap();
    assert!(got == expected);
}

#[test]
fn an_image_does_not_change_while_it_is_open() {
    let (target, snapshot) = snapshot();
    let before = whole(&snapshot);
    for _ in 0..5 {
        target.assert_runs();
        assert!(whole(&snapshot) == before);
    }
    drop(target);
    assert!(whole(&snapshot) == before, "nor after the target's end");
}

#[test]
fn an_image_is_for_reading_only() {
    let (_target, snapshot) = snapshot();
    let mut file = &snapshot.file;
    assert_eq!(
        file.write(&[0]).unwrap_err().raw_os_error(),
        Some(libc::EBADF),
        "write(2)"
    );
}

#[test]
fn descriptors_that_are_duplicated_keep_the_snapshot() {
    let (_target, snapshot) = snapshot();
    let expected = whole(&snapshot);
    let second = snapshot.file.try_clone().unwrap();
    drop(snapshot);
    assert_eq!(Device::open().open_snapshots(), 1);
    let mut got = vec![0; expected.len()];
    second.read_exact_at(&mut got, 0).unwrap();
    assert!(got == expected);
    drop(second);
    assert_eq!(Device::open().open_snapshots(), 0);
}
