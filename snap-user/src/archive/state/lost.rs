//! What belonged to the instant and is not in the image: one sentence each, so that nothing is left out in silence.

use snap_common::abi;

use super::descriptors::{Descriptors, PIPE_LOST};
use super::main_first;
use crate::archive::copies::vdso;
use crate::archive::process::{Details, OpenFile};
use crate::image::{Image, PAGE, comm};

/// `SECCOMP_MODE_FILTER`.
const FILTERS: u32 = 2;
/// Character devices behind which nothing is: `/dev/null`, `/dev/zero` and the like.
const MEMORY_DEVICES: u32 = 1;

pub(super) fn sentences(image: &Image, process: &abi::ImageProcess) -> Vec<String> {
    let mut missing = Vec::new();
    of_process(image, process, &mut missing);
    of_threads(image, process, &mut missing);
    of_descriptors(image, process, &mut missing);
    of_mappings(image, process, &mut missing);
    missing
}

fn of_process(image: &Image, process: &abi::ImageProcess, missing: &mut Vec<String>) {
    for (flag, sentence) in [
        (
            abi::PROCESS_PARTIAL,
            "it was exiting: what it had given back by then is missing",
        ),
        (
            abi::PROCESS_AIO,
            "it has used io_setup(): what was submitted there and not done is missing",
        ),
        (abi::PROCESS_KEYRINGS, "the keyrings that it has of its own"),
    ] {
        if process.flags & flag != 0 {
            missing.push(sentence.to_owned());
        }
    }
    of_timers(image, process, missing);
}

fn of_timers(image: &Image, process: &abi::ImageProcess, missing: &mut Vec<String>) {
    let timers = image.records::<abi::ImageTimer>(process.timers);
    for timer in timers
        .iter()
        .filter(|timer| timer.flags & abi::TIMER_NO_VALUE != 0)
    {
        missing.push(format!(
            "timer {}: how long it has left, by the processor time of a thread or of another process",
            timer.id
        ));
    }
}

fn of_threads(image: &Image, process: &abi::ImageProcess, missing: &mut Vec<String>) {
    let threads = main_first(image, process);
    let mut all = |flag: u32, sentence: &str| {
        if threads.iter().any(|thread| thread.flags & flag != 0) {
            missing.push(sentence.to_owned());
        }
    };
    all(
        abi::THREAD_IO_URING,
        "it has used io_uring: what was submitted there and not done is missing",
    );
    all(
        abi::THREAD_SEM_UNDO,
        "its adjustments of System V semaphores (SEM_UNDO)",
    );
    if threads.iter().any(|thread| thread.seccomp == FILTERS) {
        missing.push("the filters of seccomp".to_owned());
    }
    for thread in &threads {
        let who = format!("thread {} ({})", thread.pid, comm(&thread.comm));
        for (flag, sentence) in [
            (
                abi::THREAD_OWN_FILES,
                "the descriptors, which are others than its process's",
            ),
            (
                abi::THREAD_OWN_FS,
                "the folders and umask, which are others than its process's",
            ),
            (abi::THREAD_TRACED, "who traces it (ptrace), and what for"),
            (
                abi::THREAD_FOREIGN,
                "it is of another process, which shares this memory: what else that has is missing",
            ),
        ] {
            // Who is of another process has other files as a matter of course.
            let implied = thread.flags & abi::THREAD_FOREIGN != 0 && flag != abi::THREAD_FOREIGN;
            if thread.flags & flag != 0 && !implied {
                missing.push(format!("{who}: {sentence}"));
            }
        }
    }
}

/// Of each open file, with the descriptors that refer to it.
fn of_descriptors(image: &Image, process: &abi::ImageProcess, missing: &mut Vec<String>) {
    let descriptors = Descriptors::new(image, process);
    for (file, fds) in descriptors.files() {
        let open = &descriptors.describe(file);
        let fds: Vec<_> = fds.map(|fd| fd.to_string()).collect();
        let plural = if fds.len() == 1 { "" } else { "s" };
        let who = format!("descriptor{plural} {} ({})", fds.join(", "), open.path);
        let mut say = |sentence: &str| missing.push(format!("{who}: {sentence}"));
        of_notes(file, open, &mut say);
        match file.kind {
            abi::FILE_SOCKET => of_socket(image, file, open, &mut say),
            abi::FILE_CHARACTER if file.rdev_major != MEMORY_DEVICES => {
                say("what the device and its driver hold");
            }
            abi::FILE_OTHER => say("what it is in the kernel, but for what /proc says of it"),
            abi::FILE_EVENTFD | abi::FILE_TIMERFD | abi::FILE_SIGNALFD
                if matches!(open.details, Details::None | Details::Text(_)) =>
            {
                say("what it holds: this kernel's words are not understood");
            }
            abi::FILE_EVENTFD if matches!(open.details, Details::Eventfd { semaphore: None, .. }) => {
                say("whether it is a semaphore, which this kernel does not tell");
            }
            abi::FILE_INOTIFY => say("events that were not read"),
            _ => {}
        }
    }
}

fn of_notes(file: &abi::ImageFile, open: &OpenFile, say: &mut impl FnMut(&str)) {
    for (note, sentence) in [
        (
            abi::NOTE_TEXT_LATE,
            "read after the instant, and not the same before it: it changed in between",
        ),
        (abi::NOTE_TEXT_CUT, "some of it: there was more than fits"),
        (
            abi::NOTE_PIPE_BUSY,
            "what was in it: somebody was about to write or read",
        ),
        (
            abi::NOTE_PIPE_ODD,
            "what was in it: notifications of the kernel, or pages that cannot be held",
        ),
        (
            abi::NOTE_PIPE_FULL,
            "what was in it: all pipes together held more than 8 MiB",
        ),
        (
            abi::NOTE_PIPE_LENT,
            "what was in it was not copied there (splice, vmsplice), and may have changed since where it comes from",
        ),
    ] {
        let told = note != abi::NOTE_PIPE_LENT || file.notes & PIPE_LOST == 0;
        if file.notes & note != 0 && told {
            say(sentence);
        }
    }
    if file.notes & abi::NOTE_IN_MEMORY != 0 && open.size != 0 {
        say("what the file holds, but for what is mapped: it is on no disk");
    }
}

fn of_socket(image: &Image, file: &abi::ImageFile, open: &OpenFile, say: &mut impl FnMut(&str)) {
    let Details::Socket(socket) = &open.details else {
        say("what it is");
        return;
    };
    let record = image.headed::<abi::ImageSocket>(file.socket);
    let flags = record.map_or(0, |(record, _)| record.flags);
    if flags & abi::SOCKET_LISTENS != 0 {
        if socket.receive_queue != 0 {
            say(&format!(
                "{} connections that were not accepted yet",
                socket.receive_queue
            ));
        }
    } else {
        let about = if socket.queues_are_rough { "at most " } else { "" };
        if socket.receive_queue != 0 {
            say(&format!(
                "{about}{} bytes that were not read yet",
                socket.receive_queue
            ));
        }
        if socket.send_queue != 0 {
            say(&format!(
                "{about}{} bytes that the other side had not taken yet",
                socket.send_queue
            ));
        }
    }
    if socket.descriptors_under_way != 0 {
        say(&format!(
            "{} descriptors on their way to it",
            socket.descriptors_under_way
        ));
    }
    if flags & abi::SOCKET_LATE != 0 {
        say("its addresses at the instant: they were read after it");
    }
}

/// Debuggers read unwritten pages of private mappings from their files.
fn is_of_a_nameless_file(image: &Image, vma: &abi::ImageVma) -> bool {
    let pages: u64 = image.runs_of(vma).iter().map(|run| u64::from(run.pages)).sum();
    vma.flags & abi::VMA_SHARED == 0
        && image.text(vma.path).ends_with(" (deleted)")
        && pages * PAGE < vma.end - vma.start
}

fn of_mappings(image: &Image, process: &abi::ImageProcess, missing: &mut Vec<String>) {
    for vma in image.vmas_of(process) {
        let range = format!("{:#x}-{:#x} {}", vma.start, vma.end, image.text(vma.path));
        let elsewhere = abi::VMA_SHMEM | abi::VMA_DEVICE | abi::VMA_INTERNAL;
        let special = vma.flags & abi::VMA_SPECIAL != 0 && vdso(image, process, vma).is_none();
        let of_a_file = vma.flags & (abi::VMA_SHARED | elsewhere) == abi::VMA_SHARED;
        for (is, sentence) in [
            (
                is_of_a_nameless_file(image, vma),
                "its unwritten pages, of a file that has no name any more",
            ),
            (vma.flags & abi::VMA_DEVICE != 0, "device memory"),
            (special, "the kernel's own pages"),
            (
                vma.flags & abi::VMA_INTERNAL != 0,
                "a shared mapping of a file of the kernel's own",
            ),
            (of_a_file, "a shared mapping of a file belongs to its filesystem"),
        ] {
            if is {
                missing.push(format!("{range}: {sentence}"));
            }
        }
        let lost = image.runs_of(vma).iter();
        for run in lost.filter(|run| run.flags & abi::RUN_UNREADABLE != 0) {
            let end = run.vaddr + u64::from(run.pages) * PAGE;
            missing.push(format!(
                "{:#x}-{end:#x}: the memory is defective and could not be read",
                run.vaddr
            ));
        }
    }
}
