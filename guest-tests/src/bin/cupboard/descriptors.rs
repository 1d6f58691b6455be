//! Descriptors of every kind.

use std::ffi::CString;
use std::fs;
use std::mem::zeroed;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::ptr::{null, null_mut};

use guest_tests::cupboard::{FOLDER, IN_CONNECTION, IN_FIFO, IN_FILE, IN_PIPE, IN_SOCKET};

use super::{Says, descriptor, sure};

/// All of them, to be closed on demand.
pub fn hold(says: &mut Says) -> Vec<i32> {
    let start = says.len();
    files(says);
    locks(says);
    pipes(says);
    unix(says);
    internet(says);
    events(says);
    others(says);
    says[start..]
        .iter()
        .filter(|(name, _)| !name.ends_with("port"))
        .map(|(_, fd)| i32::try_from(*fd).expect("a descriptor"))
        .collect()
}

fn push(says: &mut Says, name: &'static str, fd: i32) -> i32 {
    says.push((name, u64::try_from(fd).expect("a descriptor")));
    fd
}

fn open(path: &str, flags: i32) -> i32 {
    let text = CString::new(path).expect("no zeros");
    // SAFETY: the path ends with a zero.
    descriptor(unsafe { libc::open(text.as_ptr(), flags, 0o640) }, path)
}

fn write(fd: i32, bytes: &[u8]) {
    // SAFETY: as many bytes as there are.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(written, isize::try_from(bytes.len()).expect("few"));
}

fn files(says: &mut Says) {
    let file = push(
        says,
        "file",
        open(
            &format!("{FOLDER}/file"),
            libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC,
        ),
    );
    write(file, &[7; 100]);
    // SAFETY: moves the position of a descriptor of ours.
    sure(unsafe { libc::lseek(file, 42, libc::SEEK_SET) }, "lseek");
    // SAFETY: makes a descriptor.
    push(says, "dup", descriptor(unsafe { libc::dup(file) }, "dup"));
    // SAFETY: makes a descriptor.
    let far = unsafe { libc::fcntl(file, libc::F_DUPFD_CLOEXEC, 300) };
    push(says, "far", descriptor(far, "F_DUPFD_CLOEXEC"));
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NONBLOCK;
    push(says, "append", open(&format!("{FOLDER}/append"), flags));
    let deleted = push(
        says,
        "deleted",
        open(&format!("{FOLDER}/deleted"), libc::O_RDWR | libc::O_CREAT),
    );
    write(deleted, b"gone");
    fs::remove_file(format!("{FOLDER}/deleted")).expect("it is there");
    push(says, "folder", open(FOLDER, libc::O_RDONLY | libc::O_DIRECTORY));
    push(says, "path", open(FOLDER, libc::O_PATH));
    push(says, "null", open("/dev/null", libc::O_RDWR));
    // SAFETY: the name ends with a zero.
    let memfd = unsafe { libc::memfd_create(c"thing".as_ptr(), 0) };
    let memfd = push(says, "memfd", descriptor(memfd, "memfd_create"));
    // SAFETY: a descriptor of ours.
    sure(i64::from(unsafe { libc::ftruncate(memfd, 12_345) }), "ftruncate");
}

fn lock(fd: i32, command: i32, kind: i32, start: i64, length: i64) {
    // SAFETY: made of integers alone.
    let mut lock: libc::flock = unsafe { zeroed() };
    lock.l_type = i16::try_from(kind).expect("small");
    lock.l_start = start;
    lock.l_len = length;
    // SAFETY: the lock outlives the call.
    sure(
        i64::from(unsafe { libc::fcntl(fd, command, &raw const lock) }),
        "fcntl",
    );
}

fn locks(says: &mut Says) {
    let path = format!("{FOLDER}/locked");
    let posix = push(says, "posix_lock", open(&path, libc::O_RDWR | libc::O_CREAT));
    lock(posix, libc::F_SETLK, libc::F_RDLCK, 10, 10);
    lock(posix, libc::F_SETLK, libc::F_WRLCK, 30, 1);
    let ofd = push(says, "ofd_lock", open(&path, libc::O_RDWR));
    lock(ofd, libc::F_OFD_SETLK, libc::F_WRLCK, 1000, 0);
    let flock = push(says, "flock", open(&path, libc::O_RDWR));
    // SAFETY: a descriptor of ours.
    sure(i64::from(unsafe { libc::flock(flock, libc::LOCK_EX) }), "flock");
    fs::write(format!("{FOLDER}/leased"), "").expect("the disk takes a file");
    let lease = push(says, "lease", open(&format!("{FOLDER}/leased"), libc::O_RDONLY));
    // SAFETY: a descriptor of ours.
    sure(
        i64::from(unsafe { libc::fcntl(lease, libc::F_SETLEASE, libc::F_RDLCK) }),
        "F_SETLEASE",
    );
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    sure(
        i64::from(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }),
        "pipe2",
    );
    ends
}

fn pipes(says: &mut Says) {
    let [reader, writer] = pipe();
    push(says, "pipe_reader", reader);
    push(says, "pipe_writer", writer);
    // SAFETY: a descriptor of ours.
    sure(
        i64::from(unsafe { libc::fcntl(writer, libc::F_SETPIPE_SZ, 1 << 17) }),
        "F_SETPIPE_SZ",
    );
    // In two pieces, the first of them read.
    write(writer, b"already read");
    write(writer, IN_PIPE);
    let mut gone = [0; 12];
    // SAFETY: there is room for so many bytes.
    let read = unsafe { libc::read(reader, gone.as_mut_ptr().cast(), gone.len()) };
    assert_eq!(read, 12);
    let fifo = CString::new(format!("{FOLDER}/fifo")).expect("no zeros");
    // SAFETY: the path ends with a zero. It may be there already.
    unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) };
    let both = push(says, "fifo", open(&format!("{FOLDER}/fifo"), libc::O_RDWR));
    write(both, IN_FIFO);
    let [reader, writer] = pipe();
    push(says, "spliced_reader", reader);
    push(says, "spliced_writer", writer);
    let path = format!("{FOLDER}/spliced");
    fs::write(&path, IN_FILE).expect("the disk takes a file");
    let from = open(&path, libc::O_RDONLY);
    // SAFETY: descriptors of ours, no offsets.
    let spliced = unsafe { libc::splice(from, null_mut(), writer, null_mut(), IN_FILE.len(), 0) };
    assert_eq!(spliced, isize::try_from(IN_FILE.len()).expect("few"));
    // SAFETY: a descriptor of ours.
    unsafe { libc::close(from) };
    let [reader, writer] = pipe();
    push(says, "empty_reader", reader);
    push(says, "empty_writer", writer);
}

fn unix(says: &mut Says) {
    let (one, other) = UnixStream::pair().expect("two sockets");
    write(other.as_raw_fd(), IN_SOCKET);
    push(says, "unix_one", one.into_raw_fd());
    let other = push(says, "unix_other", other.into_raw_fd());
    let path = format!("{FOLDER}/socket");
    let _ = fs::remove_file(&path);
    push(
        says,
        "unix_listener",
        UnixListener::bind(&path).expect("a listener").into_raw_fd(),
    );
    push(
        says,
        "unix_client",
        UnixStream::connect(&path).expect("it listens").into_raw_fd(),
    );
    push(
        says,
        "unix_unbound",
        UnixDatagram::unbound().expect("a socket").into_raw_fd(),
    );
    let (one, two) = UnixStream::pair().expect("two sockets");
    send_descriptor(one.as_raw_fd(), other);
    push(says, "unix_sender", one.into_raw_fd());
    push(says, "unix_laden", two.into_raw_fd());
}

/// Sends a descriptor that nobody takes.
fn send_descriptor(socket: i32, sent: i32) {
    let mut byte = 1u8;
    let mut piece = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // A struct cmsghdr: length, level and type; then the descriptor.
    let kind =
        u64::from(libc::SCM_RIGHTS.cast_unsigned()) << 32 | u64::from(libc::SOL_SOCKET.cast_unsigned());
    let mut control = [20, kind, u64::try_from(sent).expect("a descriptor")];
    // SAFETY: made of integers and pointers alone.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 24;
    // SAFETY: the message and all that it points to outlive the call.
    assert_eq!(unsafe { libc::sendmsg(socket, &raw const message, 0) }, 1);
}

fn internet(says: &mut Says) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("it listens");
    let (server, _) = listener.accept().expect("it was connected to");
    write(client.as_raw_fd(), IN_CONNECTION);
    // What is sent has come.
    server.peek(&mut [0; 1]).expect("it comes");
    says.push(("tcp_port", u64::from(address.port())));
    says.push((
        "client_port",
        u64::from(client.local_addr().expect("an address").port()),
    ));
    push(says, "tcp_ended", ended(&listener).into_raw_fd());
    push(says, "tcp_listener", listener.into_raw_fd());
    push(says, "tcp_client", client.into_raw_fd());
    push(says, "tcp_server", server.into_raw_fd());
    let udp = UdpSocket::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).expect("a port is free");
    says.push((
        "udp_port",
        u64::from(udp.local_addr().expect("an address").port()),
    ));
    push(says, "udp6", udp.into_raw_fd());
    // SAFETY: makes a descriptor.
    let netlink = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE) };
    push(says, "netlink", descriptor(netlink, "socket"));
}

/// A connection whose other end has said something, and that there is nothing more.
fn ended(listener: &TcpListener) -> TcpStream {
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
    let (server, _) = listener.accept().expect("it was connected to");
    write(client.as_raw_fd(), IN_CONNECTION);
    drop(client);
    let mut poll = libc::pollfd {
        fd: server.as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: there is one of them, and it outlives the call.
    let polled = unsafe { libc::poll(&raw mut poll, 1, -1) };
    sure(i64::from(polled), "poll");
    server
}

fn watch(epoll: i32, fd: i32, events: i32, data: u64) {
    let mut event = libc::epoll_event {
        events: events.cast_unsigned(),
        u64: data,
    };
    // SAFETY: the event outlives the call.
    let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    sure(i64::from(added), "epoll_ctl");
}

/// A set of signals.
pub fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: made of integers alone.
    let mut set = unsafe { zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: as above.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

fn events(says: &mut Says) {
    // SAFETY: makes a descriptor.
    let count = push(
        says,
        "eventfd",
        descriptor(unsafe { libc::eventfd(41, 0) }, "eventfd"),
    );
    // SAFETY: as above.
    let semaphore = unsafe { libc::eventfd(3, libc::EFD_SEMAPHORE) };
    push(says, "semaphore", descriptor(semaphore, "eventfd"));
    // SAFETY: as above.
    let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) };
    let timer = push(says, "timerfd", descriptor(timer, "timerfd_create"));
    let when = libc::itimerspec {
        it_value: libc::timespec {
            tv_sec: 1000,
            tv_nsec: 0,
        },
        it_interval: libc::timespec {
            tv_sec: 7,
            tv_nsec: 500,
        },
    };
    // SAFETY: the time outlives the call.
    let armed = unsafe { libc::timerfd_settime(timer, 0, &raw const when, null_mut()) };
    sure(i64::from(armed), "timerfd_settime");
    let signals = set(&[libc::SIGUSR1, libc::SIGRTMIN() + 3]);
    // SAFETY: the set outlives the call.
    let taker = unsafe { libc::signalfd(-1, &raw const signals, 0) };
    push(says, "signalfd", descriptor(taker, "signalfd"));
    // SAFETY: makes a descriptor.
    let epoll = push(
        says,
        "epoll",
        descriptor(unsafe { libc::epoll_create1(0) }, "epoll_create1"),
    );
    watch(epoll, count, libc::EPOLLIN | libc::EPOLLET, 77);
    let pipe = says
        .iter()
        .find(|(name, _)| *name == "empty_reader")
        .expect("it is there")
        .1;
    watch(
        epoll,
        i32::try_from(pipe).expect("a descriptor"),
        libc::EPOLLIN,
        0xfeed_0000_0000_0001,
    );
    // SAFETY: makes a descriptor.
    let inotify = push(
        says,
        "inotify",
        descriptor(unsafe { libc::inotify_init1(0) }, "inotify_init1"),
    );
    let folder = CString::new(FOLDER).expect("no zeros");
    // SAFETY: the path ends with a zero.
    let added =
        unsafe { libc::inotify_add_watch(inotify, folder.as_ptr(), libc::IN_CREATE | libc::IN_ATTRIB) };
    descriptor(added, "inotify_add_watch");
}

fn others(says: &mut Says) {
    let own = std::process::id();
    // SAFETY: asks for a descriptor by a number.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, own, 0) };
    push(
        says,
        "pidfd",
        i32::try_from(sure(pidfd, "pidfd_open")).expect("a descriptor"),
    );
    push(says, "namespace", open("/proc/self/ns/net", libc::O_RDONLY));
    // SAFETY: no argument is read.
    let userfault = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC, null::<u8>()) };
    push(
        says,
        "userfaultfd",
        i32::try_from(sure(userfault, "userfaultfd")).expect("a descriptor"),
    );
}
