//! Descriptors, and the open files that they refer to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use snap_common::abi;

use super::{fdinfo, socket};
use crate::archive::process::{Descriptor, Details, Lock, OpenFile};
use crate::image::Image;

/// Those of one process. It may have a million.
pub(super) struct Descriptors<'a> {
    image: &'a Image,
    process: &'a abi::ImageProcess,
    /// By open file: which it is, and the place of the descriptor in the process's table.
    by_file: Vec<(u32, u32)>,
}

impl<'a> Descriptors<'a> {
    pub(super) fn new(image: &'a Image, process: &'a abi::ImageProcess) -> Self {
        let fds = image.fds_of(process).iter().map(|fd| fd.file);
        let mut by_file: Vec<_> = fds.zip(0..).collect();
        by_file.sort_unstable();
        Self {
            image,
            process,
            by_file,
        }
    }

    /// By number.
    pub(super) fn all(&self) -> impl Iterator<Item = Descriptor> {
        self.image.fds_of(self.process).iter().filter_map(|fd| {
            Some(Descriptor {
                fd: fd.fd,
                cloexec: fd.flags & abi::FD_CLOEXEC != 0,
                file: self.image.file_of(fd)?.id,
            })
        })
    }

    /// Each open file once, with the numbers of the descriptors that refer to it; by the first of them.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'a abi::ImageFile, impl Iterator<Item = i32>)> {
        let fds = self.image.fds_of(self.process);
        fds.iter().zip(0..).filter_map(move |(fd, place)| {
            let begin = self.by_file.partition_point(|(file, _)| *file < fd.file);
            let end = self.by_file.partition_point(|(file, _)| *file <= fd.file);
            let same = &self.by_file[begin..end];
            let is_first = same.first() == Some(&(fd.file, place));
            let numbers = same.iter().map(|(_, place)| fds[*place as usize].fd);
            Some((self.image.file_of(fd).filter(|_| is_first)?, numbers))
        })
    }

    pub(super) fn describe(&self, file: &abi::ImageFile) -> OpenFile {
        open_file(self.image, self.process, file)
    }
}

fn open_file(image: &Image, process: &abi::ImageProcess, file: &abi::ImageFile) -> OpenFile {
    let path = image.text(file.path);
    let device = matches!(file.kind, abi::FILE_CHARACTER | abi::FILE_BLOCK);
    OpenFile {
        id: file.id,
        kind: kind(file.kind, &path),
        flags: file.flags,
        mode: file.mode,
        position: file.position,
        inode: file.inode,
        device: format!("{}:{}", file.dev_major, file.dev_minor),
        special: device.then(|| format!("{}:{}", file.rdev_major, file.rdev_minor)),
        deleted: file.notes & abi::NOTE_DELETED != 0,
        size: file.size,
        locks: locks(image, process, file),
        details: details(image, file),
        path,
    }
}

fn kind(number: u32, path: &str) -> String {
    match number {
        abi::FILE_REGULAR => "file",
        abi::FILE_FOLDER => "folder",
        abi::FILE_SYMLINK => "symbolic_link",
        abi::FILE_CHARACTER => "character_device",
        abi::FILE_BLOCK => "block_device",
        abi::FILE_PIPE => "pipe",
        abi::FILE_FIFO => "fifo",
        abi::FILE_SOCKET => "socket",
        abi::FILE_EPOLL => "epoll",
        abi::FILE_EVENTFD => "eventfd",
        abi::FILE_TIMERFD => "timerfd",
        abi::FILE_SIGNALFD => "signalfd",
        abi::FILE_INOTIFY => "inotify",
        abi::FILE_MEMFD => "memfd",
        // `anon_inode:[io_uring]`, `net:[4026531840]`, `/secretmem (deleted)`
        _ => match path.split_once(':') {
            Some(("anon_inode", name)) => name,
            Some((name, _)) => name,
            None => path.trim_start_matches('/').trim_end_matches(" (deleted)"),
        },
    }
    .to_owned()
}

/// Those of the process, and those that belong to the open file.
fn locks(image: &Image, process: &abi::ImageProcess, file: &abi::ImageFile) -> Vec<Lock> {
    let own = |lock: &abi::ImageLock| {
        lock.kind != abi::LOCK_POSIX
            || usize::try_from(lock.holder)
                .ok()
                .and_then(|holder| image.processes.get(holder))
                .is_some_and(|holder| holder.pid == process.pid)
    };
    let records = image.records::<abi::ImageLock>(file.locks);
    let mut locks: Vec<_> = records
        .iter()
        .filter(|lock| own(lock))
        .map(|lock| Lock {
            kind: match lock.kind {
                abi::LOCK_POSIX => "posix",
                abi::LOCK_OFD => "ofd",
                abi::LOCK_FLOCK => "flock",
                _ => "lease",
            }
            .to_owned(),
            mode: if lock.write == 0 { "read" } else { "write" }.to_owned(),
            start: lock.start,
            end: (lock.end != u64::MAX).then_some(lock.end),
        })
        .collect();
    locks.sort_by_key(|lock| lock.start);
    locks
}

/// What keeps the content of a pipe from being in the image.
pub(super) const PIPE_LOST: u32 = abi::NOTE_PIPE_BUSY | abi::NOTE_PIPE_ODD | abi::NOTE_PIPE_FULL;

fn details(image: &Image, file: &abi::ImageFile) -> Details {
    let text = || image.text(file.text);
    let words = || {
        if file.text.length == 0 {
            Details::None
        } else {
            Details::Text(text())
        }
    };
    match file.kind {
        abi::FILE_PIPE | abi::FILE_FIFO if file.capacity != 0 => Details::Pipe {
            capacity: file.capacity,
            content: (file.notes & PIPE_LOST == 0).then(|| STANDARD.encode(image.blob(file.pipe))),
        },
        abi::FILE_SOCKET => image
            .headed::<abi::ImageSocket>(file.socket)
            .map_or(Details::None, |(socket, _)| {
                Details::Socket(socket::describe(&socket))
            }),
        abi::FILE_EVENTFD => fdinfo::eventfd(&text()).unwrap_or_else(words),
        abi::FILE_TIMERFD => fdinfo::timerfd(&text()).unwrap_or_else(words),
        abi::FILE_SIGNALFD => fdinfo::signalfd(&text()).unwrap_or_else(words),
        abi::FILE_EPOLL => fdinfo::epoll(&text()),
        abi::FILE_INOTIFY => fdinfo::inotify(&text()),
        _ => words(),
    }
}
