//! The state of a process, out of images made by hand: what is in the tables is told, and what is damaged does no harm.

#[path = "../examples/made_up/blobs.rs"]
mod blobs;
#[path = "../examples/made_up/mod.rs"]
mod made_up;

use blobs::Blobs;
use freezeframe::archive::process::{Details, Process};
use freezeframe::archive::state::{Known, arguments, not_captured, write};
use freezeframe::image::{Image, ImageError};
use made_up::{Head, bytes_of, zeroed};
use snap_common::abi;

const PAGE: u64 = 4096;
const STACK: u64 = 0x7000_0000;

/// An image in the making: one process, with a page of stack that begins with its arguments.
struct Draft {
    process: abi::ImageProcess,
    threads: Vec<abi::ImageThread>,
    fds: Vec<abi::ImageFd>,
    files: Vec<abi::ImageFile>,
    blobs: Blobs,
    page: [u8; 4096],
}

impl Draft {
    fn new() -> Self {
        let mut process: abi::ImageProcess = zeroed();
        process.pid = 42;
        process.vma_count = 1;
        process.comm[..4].copy_from_slice(b"test");
        let mut thread: abi::ImageThread = zeroed();
        thread.pid = 42;
        thread.state = abi::THREAD_PARKED;
        Self {
            process,
            threads: vec![thread],
            fds: Vec::new(),
            files: Vec::new(),
            blobs: Blobs::default(),
            page: [0; 4096],
        }
    }

    /// A descriptor of an open file of its own.
    fn file(&mut self, kind: u32, path: &str) -> &mut abi::ImageFile {
        let number = u32::try_from(self.files.len()).unwrap();
        self.fd(number);
        let mut file: abi::ImageFile = zeroed();
        file.id = u64::from(number) + 1;
        file.kind = kind;
        file.path = self.blobs.push(path.as_bytes());
        self.files.push(file);
        self.files.last_mut().unwrap()
    }

    fn fd(&mut self, file: u32) {
        let fd = i32::try_from(self.fds.len()).unwrap();
        self.fds.push(abi::ImageFd {
            fd,
            flags: 0,
            file,
            reserved: 0,
        });
    }

    fn build(mut self) -> Vec<u8> {
        let mut vma: abi::ImageVma = zeroed();
        vma.start = STACK;
        vma.end = STACK + PAGE;
        vma.flags = abi::VMA_READ | abi::VMA_WRITE;
        vma.run_count = 1;
        let run = abi::ImageRun {
            vaddr: STACK,
            page: 0,
            pages: 1,
            flags: 0,
        };
        self.process.thread_count = u32::try_from(self.threads.len()).unwrap();
        self.process.fd_count = u32::try_from(self.fds.len()).unwrap();
        let mut head = Head::new(1);
        head.header.processes = head.table(&[self.process]);
        head.header.threads = head.table(&self.threads);
        head.header.vmas = head.table(&[vma]);
        head.header.runs = head.table(&[run]);
        head.header.fds = head.table(&self.fds);
        head.header.files = head.table(&self.files);
        head.header.blobs = head.table(&self.blobs.0);
        let mut image = head.bytes();
        image.extend(self.page);
        image
    }

    fn describe(self) -> Process {
        let bytes = self.build();
        let image = Image::read(bytes.as_slice(), bytes.len() as u64).unwrap();
        described(&image, bytes.as_slice(), &image.processes[0])
    }
}

/// The state of a process, as whoever reads the archive finds it.
fn described(image: &Image, source: &[u8], process: &abi::ImageProcess) -> Process {
    let known = Known {
        args: &arguments(image, source, process).unwrap_or_default(),
        not_captured: &not_captured(image, process),
        ..Known::default()
    };
    let mut json = Vec::new();
    write(&mut json, image, process, known).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// The only sentence about this.
fn missing<'a>(process: &'a Process, about: &str) -> &'a str {
    let mut found = process.not_captured.iter().filter(|text| text.contains(about));
    let one = found
        .next()
        .unwrap_or_else(|| panic!("{about}: {:?}", process.not_captured));
    assert!(found.next().is_none(), "{about}: {:?}", process.not_captured);
    one
}

#[test]
fn arguments_come_from_memory() {
    let mut draft = Draft::new();
    let text = b"/bin/test\0--flag\0\0end\xff\0";
    draft.page[100..100 + text.len()].copy_from_slice(text);
    draft.process.arg_start = STACK + 100;
    draft.process.arg_end = STACK + 100 + text.len() as u64;
    assert_eq!(draft.describe().args, ["/bin/test", "--flag", "", "end\\377"]);
}

#[test]
fn names_that_are_no_text_are_told_apart() {
    let exe = |name: &[u8]| {
        let mut draft = Draft::new();
        draft.process.exe = draft.blobs.push(name);
        draft.describe().exe
    };
    assert_eq!([exe(b"/caf\xe9"), exe(b"/caf\xe8")], ["/caf\\351", "/caf\\350"]);
}

#[test]
fn arguments_that_are_nowhere_are_none() {
    for (start, end) in [
        (0, 0),
        (0x1000, 0x2000),
        (u64::MAX - 5, u64::MAX),
        (STACK + 50, STACK),
        (1, u64::MAX),
    ] {
        let mut draft = Draft::new();
        draft.process.arg_start = start;
        draft.process.arg_end = end;
        assert_eq!(draft.describe().args, [""; 0], "{start:#x} {end:#x}");
    }
    // Those that end behind what is there are told as far as they go.
    let mut draft = Draft::new();
    draft.page[4090..].copy_from_slice(b"abcdef");
    draft.process.arg_start = STACK + 4090;
    draft.process.arg_end = STACK + 9000;
    assert_eq!(draft.describe().args, ["abcdef"]);
}

#[test]
fn a_process_is_described() {
    let mut draft = Draft::new();
    draft.process.umask = 0o27;
    draft.process.namespaces[abi::NS_NET as usize] = 4_026_531_840;
    draft.process.cwd = draft.blobs.push(b"/srv");
    let mut limits = [abi::ImageLimit {
        soft: u64::MAX,
        hard: u64::MAX,
    }; 16];
    limits[7].soft = 1024;
    draft.process.limits = draft.blobs.push(bytes_of(&limits));
    let mut record: abi::ImageCredentials = zeroed();
    record.uid = [1, 2, 3, 4];
    record.effective = 0x21;
    record.group_count = 2;
    let bytes = [bytes_of(&[record]), &7u32.to_ne_bytes(), &9u32.to_ne_bytes()].concat();
    draft.process.credentials = draft.blobs.push(&bytes);
    record.uid = [9; 4];
    let other = draft.blobs.push(bytes_of(&[record]));
    let mut thread: abi::ImageThread = zeroed();
    thread.pid = 43;
    thread.credentials = other;
    thread.seccomp = 2;
    thread.flags = abi::THREAD_OWN_FILES;
    draft.threads.insert(0, thread);
    let process = draft.describe();
    assert_eq!((process.umask.as_str(), process.cwd.as_str()), ("027", "/srv"));
    assert_eq!(process.namespaces.len(), 1);
    assert_eq!(process.namespaces["net"], 4_026_531_840);
    let nofile = &process.limits[7];
    assert_eq!(
        (nofile.resource.as_str(), nofile.soft, nofile.hard),
        ("nofile", Some(1024), None)
    );
    assert_eq!(
        (process.credentials.uid, process.credentials.groups.as_slice()),
        ([1, 2, 3, 4], [7, 9].as_slice())
    );
    assert_eq!(process.credentials.capabilities["effective"], "0x21");
    let tids: Vec<_> = process.threads.iter().map(|thread| thread.tid).collect();
    assert_eq!(tids, [42, 43]);
    assert_eq!(process.threads[0].credentials, None);
    assert_eq!(process.threads[1].credentials.as_ref().unwrap().uid, [9; 4]);
    assert!(missing(&process, "thread 43").contains("descriptors"));
    missing(&process, "seccomp");
}

#[test]
fn signals_and_timers_are_described() {
    let mut draft = Draft::new();
    let mut with = abi::ImageSignal {
        signal: 34,
        flags: abi::SIGNAL_INFO,
        info: [0; 48],
    };
    with.info[8..12].copy_from_slice(&(-1i32).to_ne_bytes());
    with.info[16] = 0xab;
    let without = abi::ImageSignal {
        signal: 10,
        flags: 0,
        info: [0xff; 48],
    };
    draft.process.pending = draft.blobs.push(bytes_of(&[with, without]));
    let mut timer: abi::ImageTimer = zeroed();
    timer.kind = abi::TIMER_POSIX;
    timer.flags = abi::TIMER_NO_VALUE;
    timer.id = 3;
    let real: abi::ImageTimer = zeroed();
    draft.process.timers = draft.blobs.push(bytes_of(&[timer, real]));
    let process = draft.describe();
    assert_eq!(
        (process.pending[0].signal, process.pending[0].code),
        (34, Some(-1))
    );
    let rest = process.pending[0].rest.as_deref().unwrap();
    assert!(rest.starts_with("ab00") && rest.len() == 64, "{rest}");
    assert_eq!(
        (process.pending[1].code, process.pending[1].rest.as_deref()),
        (None, None)
    );
    assert_eq!(
        (process.timers[0].id.as_str(), process.timers[0].value_ns),
        ("3", None)
    );
    assert_eq!(
        (process.timers[1].id.as_str(), process.timers[1].value_ns),
        ("real", Some(0))
    );
    assert_eq!(process.timers[1].notify, None);
    missing(&process, "timer 3");
}

#[test]
fn an_open_file_is_there_once() {
    let mut draft = Draft::new();
    draft.file(abi::FILE_REGULAR, "/srv/data").position = 7;
    draft.fd(0);
    draft.fds[1].flags = abi::FD_CLOEXEC;
    let process = draft.describe();
    let ids: Vec<_> = process
        .descriptors
        .iter()
        .map(|fd| (fd.fd, fd.cloexec, fd.file))
        .collect();
    assert_eq!(ids, [(0, false, 1), (1, true, 1)]);
    assert_eq!(process.files.len(), 1);
    assert_eq!(
        (process.files[0].kind.as_str(), process.files[0].position),
        ("file", 7)
    );
    assert_eq!(process.not_captured, [""; 0]);
}

#[test]
fn locks_are_those_of_the_process() {
    let mut draft = Draft::new();
    let lock = |kind: u32, holder: i32, end: u64| abi::ImageLock {
        kind,
        write: 1,
        holder,
        reserved: 0,
        start: 5,
        end,
    };
    let locks = [
        lock(abi::LOCK_POSIX, 0, 9),
        lock(abi::LOCK_POSIX, 1, 9),
        lock(abi::LOCK_POSIX, -1, 9),
        lock(abi::LOCK_FLOCK, -1, u64::MAX),
    ];
    let blob = draft.blobs.push(bytes_of(&locks));
    draft.file(abi::FILE_REGULAR, "/srv/data").locks = blob;
    let process = draft.describe();
    let locks: Vec<_> = process.files[0]
        .locks
        .iter()
        .map(|lock| (lock.kind.as_str(), lock.end))
        .collect();
    assert_eq!(locks, [("posix", Some(9)), ("flock", None)]);
}

#[test]
fn what_is_in_pipes_is_base64() {
    let mut draft = Draft::new();
    let content = draft.blobs.push(b"left");
    let file = draft.file(abi::FILE_PIPE, "pipe:[7]");
    file.capacity = 65536;
    file.pipe = content;
    let file = draft.file(abi::FILE_FIFO, "/srv/fifo");
    file.capacity = 4096;
    file.notes = abi::NOTE_PIPE_BUSY;
    let process = draft.describe();
    let pipe = |capacity: u64, content: Option<&str>| Details::Pipe {
        capacity,
        content: content.map(str::to_owned),
    };
    assert_eq!(process.files[0].details, pipe(65536, Some("bGVmdA==")));
    assert_eq!(process.files[1].details, pipe(4096, None));
    assert!(missing(&process, "/srv/fifo").starts_with("descriptor 1 (/srv/fifo): what was in it"));
}

#[test]
fn what_is_left_out_is_said() {
    let mut draft = Draft::new();
    let mut socket: abi::ImageSocket = zeroed();
    socket.family = 1;
    socket.kind = 1;
    socket.state = 1;
    socket.receive_queue = 5;
    let socket = draft.blobs.push(bytes_of(&[socket]));
    draft.file(abi::FILE_SOCKET, "socket:[1]").socket = socket;
    draft.file(abi::FILE_SOCKET, "socket:[2]");
    draft.file(abi::FILE_CHARACTER, "/dev/null").rdev_major = 1;
    draft.file(abi::FILE_CHARACTER, "/dev/pts/0").rdev_major = 136;
    draft.file(abi::FILE_OTHER, "anon_inode:[io_uring]");
    draft.file(abi::FILE_EPOLL, "anon_inode:[eventpoll]").notes = abi::NOTE_TEXT_LATE;
    let file = draft.file(abi::FILE_MEMFD, "/memfd:x (deleted)");
    file.notes = abi::NOTE_IN_MEMORY;
    file.size = 5;
    draft.file(99, "");
    draft.process.flags = abi::PROCESS_AIO;
    let process = draft.describe();
    assert!(missing(&process, "socket:[1]").contains("5 bytes that were not read"));
    missing(&process, "socket:[2]");
    missing(&process, "/dev/pts/0");
    missing(&process, "io_uring");
    assert!(missing(&process, "eventpoll").contains("after the instant"));
    missing(&process, "memfd");
    missing(&process, "io_setup");
    assert!(!process.not_captured.iter().any(|text| text.contains("/dev/null")));
    let kinds: Vec<_> = process.files.iter().map(|file| file.kind.as_str()).collect();
    assert_eq!(kinds[4..7], ["[io_uring]", "epoll", "memfd"]);
    let Details::Socket(socket) = &process.files[0].details else {
        panic!("{:?}", process.files[0]);
    };
    assert_eq!(
        (socket.family.as_str(), socket.state.as_str()),
        ("unix", "established")
    );
}

#[test]
fn blobs_that_point_anywhere_do_no_harm() {
    let wild = abi::Blob {
        offset: u32::MAX - 3,
        length: 77,
    };
    let mut draft = Draft::new();
    for kind in 0..20 {
        let file = draft.file(kind, "x");
        (file.path, file.locks, file.text, file.pipe, file.socket) = (wild, wild, wild, wild, wild);
        file.capacity = 1;
        file.notes = u32::MAX;
    }
    let process = &mut draft.process;
    (process.cwd, process.root, process.cgroup, process.credentials) = (wild, wild, wild, wild);
    (process.limits, process.actions, process.pending, process.timers) = (wild, wild, wild, wild);
    process.flags = u32::MAX;
    let thread = &mut draft.threads[0];
    (thread.cpus, thread.pending, thread.credentials, thread.regs) = (wild, wild, wild, wild);
    thread.flags = u32::MAX;
    thread.state = abi::THREAD_ASLEEP;
    let process = draft.describe();
    assert_eq!(process.files.len(), 20);
    // And back again.
    let text = serde_json::to_string(&process).unwrap();
    assert_eq!(serde_json::from_str::<Process>(&text).unwrap(), process);
}

#[test]
fn tables_that_point_outside_are_refused() {
    type Damage = fn(&mut Draft);
    let damages: [Damage; 3] = [
        |draft| draft.fds[0].file = 1,
        |draft| draft.process.first_fd = 1,
        |draft| draft.fds[0].file = u32::MAX,
    ];
    for damage in damages {
        let mut draft = Draft::new();
        draft.file(abi::FILE_REGULAR, "/srv/data");
        damage(&mut draft);
        let bytes = draft.build();
        let error = Image::read(bytes.as_slice(), bytes.len() as u64).unwrap_err();
        assert!(matches!(error, ImageError::Damaged(_)), "{error}");
    }
}

#[test]
fn no_bit_that_flips_makes_it_panic() {
    let mut draft = Draft::new();
    draft.page[..4].copy_from_slice(b"a\0b\0");
    draft.process.arg_start = STACK;
    draft.process.arg_end = STACK + 4;
    let socket: abi::ImageSocket = zeroed();
    let socket = draft.blobs.push(bytes_of(&[socket]));
    let content = draft.blobs.push(b"content");
    draft.file(abi::FILE_SOCKET, "socket:[1]").socket = socket;
    let file = draft.file(abi::FILE_PIPE, "pipe:[2]");
    file.pipe = content;
    file.capacity = 4096;
    let text = draft
        .blobs
        .push(b"clockid: 1\nticks: 0\nit_value: (1, 2)\nit_interval: (3, 4)\n");
    draft.file(abi::FILE_TIMERFD, "anon_inode:[timerfd]").text = text;
    let good = draft.build();
    for bit in 0..4096 * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Refused, or a process of some kind: both are fine.
        if let Ok(image) = Image::read(bytes.as_slice(), bytes.len() as u64) {
            for process in &image.processes {
                described(&image, bytes.as_slice(), process);
            }
        }
    }
}
