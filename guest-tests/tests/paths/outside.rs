//! What is done to a target from outside, and what the cases need around them.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Once;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::sh;
use guest_tests::target::Target;

const PAGE: u64 = 4096;
/// The pages that are written, as `paths` knows them, and with what.
const FIRST: u64 = 100;
const LAST: u64 = 400;
const BYTE: u8 = 0x5a;
const POKED: u64 = 0x7777_7777_7777_7777;

pub const fn nothing(_: &Target) {}

fn length() -> usize {
    usize::try_from((LAST - FIRST) * PAGE).unwrap()
}

pub fn write_by_vm(target: &Target) {
    let bytes = vec![BYTE; length()];
    let from = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let to = libc::iovec {
        iov_base: (target.at("region") + FIRST * PAGE) as *mut _,
        iov_len: bytes.len(),
    };
    // SAFETY: both name what outlives the call, and it writes to none of it.
    let written = unsafe { libc::process_vm_writev(target.pid(), &raw const from, 1, &raw const to, 1, 0) };
    assert_eq!(
        written.unsigned_abs(),
        bytes.len(),
        "{}",
        std::io::Error::last_os_error()
    );
}

pub fn write_by_proc(target: &Target) {
    let memory = File::options()
        .write(true)
        .open(format!("/proc/{}/mem", target.pid()))
        .expect("root may write");
    memory
        .write_all_at(&vec![BYTE; length()], target.at("region") + FIRST * PAGE)
        .expect("with force, if need be");
}

/// The file that a target has mapped.
fn file(target: &Target) -> File {
    File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/{}/fd/{}", target.pid(), target.at("file")))
        .expect("it has the file open")
}

pub fn write_to_file(target: &Target) {
    file(target)
        .write_all_at(&vec![BYTE; length()], FIRST * PAGE)
        .expect("it may be written");
}

/// All of a target's file, mapped for writing; unmapped at the end.
pub struct Mapped {
    start: *mut u8,
    bytes: usize,
}

impl Mapped {
    pub fn new(target: &Target) -> Self {
        let bytes = usize::try_from(target.at("pages") * PAGE).unwrap();
        let start = map(&file(target), 0, bytes);
        Self { start, bytes }
    }

    /// Maps every page.
    pub fn read(&self) {
        for page in (0..self.bytes).step_by(4096) {
            // SAFETY: within the mapping; the target may write there, so it is volatile.
            unsafe { self.start.wrapping_add(page).read_volatile() };
        }
    }

    pub fn write(&self) {
        let first = usize::try_from(FIRST * PAGE).unwrap();
        // SAFETY: within the mapping, and the target waits meanwhile.
        unsafe { self.start.wrapping_add(first).write_bytes(BYTE, length()) };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into it.
        assert_eq!(unsafe { libc::munmap(self.start.cast(), self.bytes) }, 0);
    }
}

fn map(file: &File, offset: i64, bytes: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            protection,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            offset,
        )
    };
    assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    start.cast()
}

pub fn map_and_write(target: &Target) {
    Mapped::new(target).write();
}

/// What is read is mapped with its neighbours, and so that it can be written to without another page fault.
pub fn map_read_and_write(target: &Target) {
    let mapped = Mapped::new(target);
    mapped.read();
    mapped.write();
}

/// A debugger writes the first word of pages.
pub fn poke(target: &Target) {
    let trace = |request, address: u64, data: u64| {
        // SAFETY: these requests write to no memory of ours.
        let answer = unsafe { libc::ptrace(request, target.pid(), address, data) };
        assert_eq!(answer, 0, "ptrace: {}", std::io::Error::last_os_error());
    };
    trace(libc::PTRACE_SEIZE, 0, 0);
    trace(libc::PTRACE_INTERRUPT, 0, 0);
    // SAFETY: nobody wants the status.
    let stopped = unsafe { libc::waitpid(target.pid(), std::ptr::null_mut(), libc::__WALL) };
    assert_eq!(stopped, target.pid());
    for page in FIRST..LAST {
        trace(libc::PTRACE_POKEDATA, target.at("region") + page * PAGE, POKED);
    }
    trace(libc::PTRACE_DETACH, 0, 0);
}

pub fn kill(target: &Target) {
    // SAFETY: no memory is involved; the process is our child and not reaped yet.
    assert_eq!(unsafe { libc::kill(target.pid(), libc::SIGKILL) }, 0);
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", target.pid())).expect("it is not reaped");
        stat.contains(") Z ")
    };
    let begin = Instant::now();
    while !gone() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it lives on");
        sleep(Duration::from_millis(5));
    }
}

pub fn clear_soft_dirty(target: &Target) {
    for what in ["1", "4"] {
        fs::write(format!("/proc/{}/clear_refs", target.pid()), what).expect("root may");
    }
}

/// Moves pages about, as far as it likes to.
pub fn compact(_: &Target) {
    fs::write("/proc/sys/vm/compact_memory", "1").expect("the kernel can compact");
}

/// Lets KSM look at everything a few times. Pages that are held it leaves.
pub fn merge(target: &Target) {
    let ksm = |name: &str, value: &str| {
        fs::write(format!("/sys/kernel/mm/ksm/{name}"), value).expect("the kernel has KSM");
    };
    let scans = || -> u64 {
        let scans = fs::read_to_string("/sys/kernel/mm/ksm/full_scans").expect("the kernel has KSM");
        scans.trim().parse().expect("a number")
    };
    assert!(target.at("pages") > 0);
    ksm("pages_to_scan", "10000");
    ksm("sleep_millisecs", "5");
    let before = scans();
    ksm("run", "1");
    let begin = Instant::now();
    while scans() < before + 6 {
        assert!(begin.elapsed() < Duration::from_secs(60), "KSM stands still");
        sleep(Duration::from_millis(10));
    }
    ksm("run", "0");
}

/// A block device full of 0x5a.
pub struct Disk(String);

impl Disk {
    pub fn new() -> Self {
        sh("modprobe loop; head -c 2M /dev/zero | tr '\\0' '\\132' >/tmp/disk");
        Self(sh("losetup -f --show /tmp/disk").trim().to_owned())
    }

    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh(&format!("losetup -d {}; rm /tmp/disk", self.0));
    }
}

/// Lets khugepaged sleep for as long as the guest lives. It comes every ten seconds, and what is armed and torn it makes
/// huge pages of again: the pages are held because of that, and not because of what the case does.
pub fn send_khugepaged_to_sleep() {
    static ONCE: Once = Once::new();
    let day = 24 * 3600 * 1000;
    ONCE.call_once(|| {
        fs::write(
            format!("{SIZES}/khugepaged/scan_sleep_millisecs"),
            day.to_string(),
        )
        .expect("the kernel has it");
    });
}

/// Huge pages for shared memory of which that is advised.
pub struct HugeShared;

const SHARED_SIZE: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

impl HugeShared {
    pub fn on() -> Self {
        fs::write(SHARED_SIZE, "advise").expect("the kernel has them");
        Self
    }
}

impl Drop for HugeShared {
    fn drop(&mut self) {
        fs::write(SHARED_SIZE, "never").expect("the kernel has them");
    }
}

/// Pages of 64 KiB where there would be huge ones (6.8).
pub struct MidSize;

const SIZES: &str = "/sys/kernel/mm/transparent_hugepage";

impl MidSize {
    pub fn is_there() -> bool {
        Path::new(SIZES).join("hugepages-64kB").exists()
    }

    pub fn on() -> Self {
        Self::set("always", "never");
        Self
    }

    fn set(mid: &str, huge: &str) {
        for (size, value) in [("64kB", mid), ("2048kB", huge)] {
            fs::write(format!("{SIZES}/hugepages-{size}/enabled"), value).expect("the kernel has them");
        }
    }
}

impl Drop for MidSize {
    fn drop(&mut self) {
        Self::set("never", "inherit");
    }
}
