//! What the tables of an image say of a process, as [`Process`] tells it.

mod descriptors;
mod fdinfo;
mod lost;
mod memory;
mod socket;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use serde::{Serialize, Serializer};
use snap_common::abi;

use self::descriptors::Descriptors;

use super::process::{
    Credentials, Layout, Limit, Mapping, PendingSignal, Process, Rseq, Scheduling, SignalAction, Thread,
    Timer,
};
use crate::device::ImageSource;
use crate::image::{Image, ImageError, comm};

/// `RLIMIT_*`, in their order, by the names of prlimit(1).
const LIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// `enum ff_namespace`, by the names of `/proc/PID/ns`.
const NAMESPACES: [&str; abi::NS_COUNT as usize] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];

const NT_PRSTATUS: u32 = 1;
/// Bytes of `user_regs_struct`; that of 32-bit processes is shorter.
const REGISTERS_BYTES: usize = 27 * 8;
/// Where the number of the system call is in it.
const ORIG_RAX: usize = 15 * 8;

/// The arguments of a process, as they stand in its memory: `source` is the image's bytes.
///
/// # Errors
///
/// When they cannot be read.
pub fn arguments<S: ImageSource + ?Sized>(
    image: &Image,
    source: &S,
    process: &abi::ImageProcess,
) -> Result<Vec<String>, ImageError> {
    memory::arguments(image, source, process)
}

/// What belonged to the instant of a process and is not in the image, one sentence each.
#[must_use]
pub fn not_captured(image: &Image, process: &abi::ImageProcess) -> Vec<String> {
    lost::sentences(image, process)
}

/// What of a process's state is not in the image's tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// As [`arguments`] has read them.
    pub args: &'a [String],
    /// How many pages of each mapping are in the parent; none where it is not given.
    pub parent_pages: &'a [u64],
    /// As [`not_captured`] says it.
    pub not_captured: &'a [String],
}

/// A list that is made as it is written.
struct Each<F>(F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Writes the state of one process of an image, which is a [`Process`], as JSON. No more of it is in memory at once than one open file.
///
/// # Errors
///
/// When it is not taken.
pub fn write(
    to: impl io::Write,
    image: &Image,
    process: &abi::ImageProcess,
    known: Known<'_>,
) -> io::Result<()> {
    let threads = &main_first(image, process);
    let main = threads.first().copied();
    let descriptors = &Descriptors::new(image, process);
    let state = Process {
        pid: process.pid,
        ppid: process.ppid,
        pgid: process.pgid,
        sid: process.sid,
        comm: comm(&process.comm),
        exe: image.text(process.exe),
        args: known.args.to_vec(),
        cwd: image.text(process.cwd),
        root: image.text(process.root),
        start_time_ns: process.start_time_ns,
        umask: format!("{:03o}", process.umask),
        exit_signal: process.exit_signal,
        personality: process.personality,
        oom_score_adj: process.oom_score_adj,
        child_subreaper: process.flags & abi::PROCESS_SUBREAPER != 0,
        credentials: main.map_or_else(Credentials::default, |main| {
            credentials(image, process.credentials, main)
        }),
        limits: limits(image, process),
        cgroup: image.text(process.cgroup),
        namespaces: namespaces(process),
        layout: layout(process),
        auxv: auxv(image, process),
        signal_actions: actions(image, process),
        pending: pending(image, process.pending),
        timers: image
            .records::<abi::ImageTimer>(process.timers)
            .iter()
            .map(timer)
            .collect(),
        threads: Each(move || {
            let threads = threads.iter();
            threads.map(move |thread| describe_thread(image, process, main, thread))
        }),
        mappings: Each(move || mappings(image, process, known.parent_pages)),
        descriptors: Each(move || descriptors.all()),
        files: Each(move || descriptors.files().map(|(file, _)| descriptors.describe(file))),
        not_captured: known.not_captured,
    };
    Ok(serde_json::to_writer(to, &state)?)
}

/// The threads of a process, that with its own id first.
fn main_first<'a>(image: &'a Image, process: &abi::ImageProcess) -> Vec<&'a abi::ImageThread> {
    let mut threads: Vec<_> = image.threads_of(process).iter().collect();
    threads.sort_by_key(|thread| (thread.pid != process.pid, thread.pid));
    threads
}

fn credentials(image: &Image, blob: abi::Blob, thread: &abi::ImageThread) -> Credentials {
    let Some((record, groups)) = image.headed::<abi::ImageCredentials>(blob) else {
        return Credentials::default();
    };
    let sets = [
        ("inheritable", record.inheritable),
        ("permitted", record.permitted),
        ("effective", record.effective),
        ("bounding", record.bounding),
        ("ambient", record.ambient),
    ];
    Credentials {
        uid: record.uid,
        gid: record.gid,
        groups: groups
            .as_chunks()
            .0
            .iter()
            .take(record.group_count as usize)
            .map(|group| u32::from_ne_bytes(*group))
            .collect(),
        capabilities: sets
            .map(|(name, mask)| (name.to_owned(), format!("{mask:#x}")))
            .into(),
        securebits: record.securebits,
        no_new_privs: thread.flags & abi::THREAD_NO_NEW_PRIVS != 0,
        seccomp: thread.seccomp,
    }
}

fn limits(image: &Image, process: &abi::ImageProcess) -> Vec<Limit> {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    let records = image.records::<abi::ImageLimit>(process.limits);
    records
        .iter()
        .zip(LIMITS)
        .map(|(limit, name)| Limit {
            resource: name.to_owned(),
            soft: bound(limit.soft),
            hard: bound(limit.hard),
        })
        .collect()
}

fn namespaces(process: &abi::ImageProcess) -> BTreeMap<String, u64> {
    NAMESPACES
        .iter()
        .zip(process.namespaces)
        .filter(|(_, inode)| *inode != 0)
        .map(|(name, inode)| ((*name).to_owned(), u64::from(inode)))
        .collect()
}

fn layout(process: &abi::ImageProcess) -> Layout {
    Layout {
        start_code: process.start_code,
        end_code: process.end_code,
        start_data: process.start_data,
        end_data: process.end_data,
        start_brk: process.start_brk,
        brk: process.brk,
        start_stack: process.start_stack,
        arg_start: process.arg_start,
        arg_end: process.arg_end,
        env_start: process.env_start,
        env_end: process.env_end,
    }
}

/// Up to `AT_NULL`.
pub(super) fn auxv(image: &Image, process: &abi::ImageProcess) -> Vec<(u64, u64)> {
    let words = if process.flags & abi::PROCESS_32BIT == 0 {
        image.records::<u64>(process.auxv)
    } else {
        let words = image.records::<u32>(process.auxv);
        words.into_iter().map(u64::from).collect()
    };
    let pairs = words.as_chunks().0.iter().map(|[kind, value]| (*kind, *value));
    pairs.take_while(|(kind, _)| *kind != 0).collect()
}

fn actions(image: &Image, process: &abi::ImageProcess) -> Vec<SignalAction> {
    let records = image.records::<abi::ImageAction>(process.actions);
    records
        .iter()
        .map(|action| SignalAction {
            signal: action.signal,
            handler: action.handler,
            flags: action.flags,
            restorer: action.restorer,
            mask: action.mask,
        })
        .collect()
}

fn pending(image: &Image, blob: abi::Blob) -> Vec<PendingSignal> {
    let number = |info: &[u8; 48], at: usize| {
        info.get(at..)
            .and_then(|rest| rest.first_chunk())
            .map(|bytes| i32::from_ne_bytes(*bytes))
    };
    let records = image.records::<abi::ImageSignal>(blob);
    records
        .iter()
        .map(|signal| {
            let info = (signal.flags & abi::SIGNAL_INFO != 0).then_some(&signal.info);
            PendingSignal {
                signal: signal.signal.cast_signed(),
                code: info.and_then(|info| number(info, 8)),
                errno: info.and_then(|info| number(info, 4)),
                rest: info.map(|info| hexadecimal(&info[16..])),
            }
        })
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn timer(timer: &abi::ImageTimer) -> Timer {
    let posix = timer.kind == abi::TIMER_POSIX;
    Timer {
        id: match timer.kind {
            abi::TIMER_REAL => "real".to_owned(),
            abi::TIMER_VIRTUAL => "virtual".to_owned(),
            abi::TIMER_PROF => "prof".to_owned(),
            _ => timer.id.to_string(),
        },
        clock: timer.clock,
        value_ns: (timer.flags & abi::TIMER_NO_VALUE == 0).then_some(timer.value_ns),
        interval_ns: timer.interval_ns,
        overruns: timer.overruns,
        notify: posix.then_some(timer.notify),
        signal: (timer.signal != 0).then_some(timer.signal),
        sigev_value: posix.then_some(timer.sigev_value),
        thread: (timer.thread != 0).then_some(timer.thread),
    }
}

fn describe_thread(
    image: &Image,
    process: &abi::ImageProcess,
    main: Option<&abi::ImageThread>,
    thread: &abi::ImageThread,
) -> Thread {
    let blob = if thread.credentials.length == 0 {
        process.credentials
    } else {
        thread.credentials
    };
    let own = credentials(image, blob, thread);
    let differs = main.is_some_and(|main| own != credentials(image, process.credentials, main));
    Thread {
        tid: thread.pid,
        comm: comm(&thread.comm),
        state: match thread.state {
            abi::THREAD_PARKED => "parked",
            abi::THREAD_ASLEEP => "asleep",
            _ => "kernel",
        }
        .to_owned(),
        system_call: system_call(image, thread),
        blocked: thread.sigblocked,
        saved_blocked: (thread.flags & abi::THREAD_SIGSAVED != 0).then_some(thread.sigsaved),
        pending: pending(image, thread.pending),
        alternate_stack: (thread.altstack_bytes != 0).then_some((
            thread.altstack,
            thread.altstack_bytes,
            thread.altstack_flags,
        )),
        fs_base: thread.fs_base,
        gs_base: thread.gs_base,
        rseq: (thread.rseq != 0).then_some(Rseq {
            address: thread.rseq,
            length: thread.rseq_bytes,
            signature: thread.rseq_signature,
        }),
        robust_list: (thread.robust_list != 0).then_some((thread.robust_list, thread.robust_bytes)),
        clear_child_tid: thread.clear_child_tid,
        tls: if thread.tls == [0; 3] {
            Vec::new()
        } else {
            thread.tls.to_vec()
        },
        parent_death_signal: thread.death_signal,
        scheduling: scheduling(image, thread),
        credentials: differs.then_some(own),
    }
}

/// Registers of a system call's entry are there while the thread sleeps in it; a page fault's say -1.
fn system_call(image: &Image, thread: &abi::ImageThread) -> Option<i64> {
    if thread.state != abi::THREAD_ASLEEP {
        return None;
    }
    let sets = super::notes::register_sets(image.blob(thread.regs));
    let (_, registers) = sets.iter().find(|(kind, _)| *kind == NT_PRSTATUS)?;
    if registers.len() != REGISTERS_BYTES {
        return None;
    }
    let number = i64::from_ne_bytes(*registers.get(ORIG_RAX..)?.first_chunk()?);
    (number >= 0).then_some(number)
}

fn scheduling(image: &Image, thread: &abi::ImageThread) -> Scheduling {
    let times = (thread.dl_runtime, thread.dl_deadline, thread.dl_period);
    Scheduling {
        policy: thread.policy,
        nice: thread.nice,
        priority: thread.rt_priority,
        deadline_ns: (times != (0, 0, 0)).then_some(times),
        processors: processors(image.blob(thread.cpus)),
    }
}

/// The numbers of the bits that are set, as `0-3,8`.
fn processors(mask: &[u8]) -> String {
    let set = |bit: usize| mask.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
    let mut ranges = Vec::new();
    let mut bit = 0;
    while bit < mask.len() * 8 {
        let first = bit;
        while set(bit) {
            bit += 1;
        }
        match bit - first {
            0 => bit += 1,
            1 => ranges.push(first.to_string()),
            _ => ranges.push(format!("{first}-{}", bit - 1)),
        }
    }
    ranges.join(",")
}

fn mappings(
    image: &Image,
    process: &abi::ImageProcess,
    parent_pages: &[u64],
) -> impl Iterator<Item = Mapping> {
    let parent_pages = parent_pages.iter().copied().chain(std::iter::repeat(0));
    let vmas = image.vmas_of(process).iter().zip(parent_pages);
    vmas.map(|(vma, parent_pages)| mapping(image, vma, parent_pages))
}

fn mapping(image: &Image, vma: &abi::ImageVma, parent_pages: u64) -> Mapping {
    let flag =
        |vma: &abi::ImageVma, bit: u32, yes: char, no: char| if vma.flags & bit == 0 { no } else { yes };
    Mapping {
        start: vma.start,
        end: vma.end,
        permissions: [
            flag(vma, abi::VMA_READ, 'r', '-'),
            flag(vma, abi::VMA_WRITE, 'w', '-'),
            flag(vma, abi::VMA_EXEC, 'x', '-'),
            flag(vma, abi::VMA_SHARED, 's', 'p'),
        ]
        .iter()
        .collect(),
        offset: vma.file_offset,
        device: format!("{}:{}", vma.dev_major, vma.dev_minor),
        inode: vma.inode,
        path: image.text(vma.path),
        flags: mapping_flags(vma),
        pages: image
            .runs_of(vma)
            .iter()
            .filter(|run| run.flags & abi::RUN_UNREADABLE == 0)
            .map(|run| u64::from(run.pages))
            .sum(),
        parent_pages,
    }
}

fn mapping_flags(vma: &abi::ImageVma) -> Vec<String> {
    [
        (abi::VMA_SHMEM, "shared_memory"),
        (abi::VMA_GROWSDOWN, "grows_down"),
        (abi::VMA_DEVICE, "device"),
        (abi::VMA_SPECIAL, "special"),
        (abi::VMA_DONTDUMP, "dont_dump"),
        (abi::VMA_INTERNAL, "internal"),
    ]
    .iter()
    .filter(|(bit, _)| vma.flags & bit != 0)
    .map(|(_, name)| (*name).to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::processors;

    #[test]
    fn processors_are_ranges() {
        assert_eq!(processors(&[]), "");
        assert_eq!(processors(&[0b0000_0001]), "0");
        assert_eq!(processors(&[0b0000_1111, 0b0000_0001]), "0-3,8");
        assert_eq!(processors(&[0xff, 0xff]), "0-15");
        assert_eq!(processors(&[0b1000_0010, 0b1000_0001]), "1,7-8,15");
    }
}
