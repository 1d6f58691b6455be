//! Descriptors of every kind.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use guest_tests::cupboard::{FOLDER, IN_CONNECTION, IN_FIFO, IN_FILE, IN_PIPE, IN_SOCKET};
use guest_tests::image::Image;
use guest_tests::target::Target;
use guest_tests::{rounds, sh};
use snap_common::abi;

use crate::{Cupboard, take};

/// Numbers as `<linux/tcp.h>` has them.
const ESTABLISHED: u32 = 1;
const CLOSE_WAIT: u32 = 8;
const LISTEN: u32 = 10;

#[test]
fn every_descriptor_is_there() {
    for _ in 0..rounds(1) {
        let cupboard = Cupboard::new();
        let proc = std::fs::read_dir(format!("/proc/{}/fd", cupboard.target.pid())).unwrap();
        let mut numbers: Vec<i32> = proc
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        let image = cupboard.image();
        let fds = image.fds(&cupboard.process());
        let found: Vec<_> = fds.iter().map(|fd| fd.fd).collect();
        assert_eq!(found, numbers);
        for fd in fds {
            let path = std::fs::read_link(format!("/proc/{}/fd/{}", cupboard.target.pid(), fd.fd)).unwrap();
            let file = image.open_file(&fd);
            assert_eq!(
                image.text(file.path),
                path.to_string_lossy(),
                "descriptor {}",
                fd.fd
            );
            assert_eq!(file.id, u64::from(fd.file) + 1);
            let flags = flags_of(cupboard.target.pid(), fd.fd);
            let cloexec = flags & 0o2_000_000 != 0;
            assert_eq!(
                fd.flags,
                u32::from(cloexec),
                "descriptor {}, {}",
                fd.fd,
                path.display()
            );
            assert_eq!(
                file.flags,
                flags & !0o2_000_000,
                "descriptor {}, {}",
                fd.fd,
                path.display()
            );
        }
    }
}

/// `O_*`, from /proc.
fn flags_of(pid: i32, fd: i32) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[test]
fn files_are_as_they_were() {
    let cupboard = Cupboard::new();
    let image = cupboard.image();
    let (file, dup, far) = (cupboard.fd("file"), cupboard.fd("dup"), cupboard.fd("far"));
    assert_eq!((file.file, file.flags), (dup.file, 0));
    assert_eq!((far.file, far.flags), (file.file, abi::FD_CLOEXEC));
    assert_eq!(cupboard.target.at("far"), 300);
    let open = image.open_file(&file);
    let metadata = std::fs::metadata(format!("{FOLDER}/file")).unwrap();
    assert_eq!(
        (open.kind, open.position, open.size),
        (abi::FILE_REGULAR, 42, 100)
    );
    assert_eq!((open.inode, open.mode), (metadata.ino(), metadata.mode()));
    let device = (u64::from(open.dev_major) << 8) | u64::from(open.dev_minor);
    assert_eq!(device, metadata.dev());
    assert_eq!(open.notes, 0);
    let append = cupboard.file("append");
    let flags = u32::try_from(libc::O_APPEND | libc::O_WRONLY | libc::O_NONBLOCK).unwrap();
    assert_eq!(append.flags & 0o7777, flags & 0o7777);
    assert_eq!(cupboard.fd("append").flags, abi::FD_CLOEXEC);
    let deleted = cupboard.file("deleted");
    assert_eq!((deleted.notes, deleted.size), (abi::NOTE_DELETED, 4));
    for (name, kind) in [
        ("folder", abi::FILE_FOLDER),
        ("path", abi::FILE_FOLDER),
        ("null", abi::FILE_CHARACTER),
        ("memfd", abi::FILE_MEMFD),
        ("pidfd", abi::FILE_OTHER),
        ("namespace", abi::FILE_OTHER),
        ("userfaultfd", abi::FILE_OTHER),
    ] {
        assert_eq!(cupboard.file(name).kind, kind, "{name}");
    }
    let null = cupboard.file("null");
    assert_eq!((null.rdev_major, null.rdev_minor), (1, 3));
    let memfd = cupboard.file("memfd");
    assert_eq!((memfd.size, memfd.notes), (12_345, abi::NOTE_IN_MEMORY));
    let pidfd = format!("Pid:\t{}", cupboard.target.pid());
    assert!(
        cupboard.text("pidfd").contains(&pidfd),
        "{}",
        cupboard.text("pidfd")
    );
    assert!(
        cupboard.text("userfaultfd").contains("pending"),
        "{}",
        cupboard.text("userfaultfd")
    );
}

#[test]
fn locks_are_as_they_were() {
    let cupboard = Cupboard::new();
    let locks = |name: &str| -> Vec<_> {
        let mut locks: Vec<abi::ImageLock> = cupboard.image().records(cupboard.file(name).locks);
        locks.sort_by_key(|lock| lock.start);
        locks
            .iter()
            .map(|lock| (lock.kind, lock.write, lock.holder, lock.start, lock.end))
            .collect()
    };
    let posix = [(abi::LOCK_POSIX, 0, 0, 10, 19), (abi::LOCK_POSIX, 1, 0, 30, 30)];
    assert_eq!(locks("posix_lock"), posix);
    assert_eq!(locks("ofd_lock"), [(abi::LOCK_OFD, 1, -1, 1000, u64::MAX)]);
    assert_eq!(locks("flock"), [(abi::LOCK_FLOCK, 1, -1, 0, u64::MAX)]);
    assert_eq!(locks("lease"), [(abi::LOCK_LEASE, 0, -1, 0, u64::MAX)]);
    assert_eq!(locks("file"), []);
}

#[test]
fn pipes_hold_what_they_held() {
    let cupboard = Cupboard::new();
    let image = cupboard.image();
    for (name, kind, content, capacity, notes) in [
        ("pipe_reader", abi::FILE_PIPE, IN_PIPE, 1 << 17, 0),
        ("pipe_writer", abi::FILE_PIPE, IN_PIPE, 1 << 17, 0),
        ("fifo", abi::FILE_FIFO, IN_FIFO, 1 << 16, 0),
        (
            "spliced_reader",
            abi::FILE_PIPE,
            IN_FILE,
            1 << 16,
            abi::NOTE_PIPE_LENT,
        ),
        ("empty_writer", abi::FILE_PIPE, b"".as_slice(), 1 << 16, 0),
    ] {
        let file = cupboard.file(name);
        assert_eq!(
            String::from_utf8_lossy(&image.blob(file.pipe)),
            String::from_utf8_lossy(content),
            "{name}"
        );
        assert_eq!(
            (file.kind, file.capacity, file.notes),
            (kind, capacity, notes),
            "{name}"
        );
    }
}

fn socket(cupboard: &Cupboard, name: &str) -> abi::ImageSocket {
    let file = cupboard.file(name);
    assert_eq!(file.kind, abi::FILE_SOCKET, "{name}");
    cupboard.image().records(file.socket)[0]
}

/// An IPv4 address, and port.
fn inet(address: &[u8]) -> ([u8; 4], u16) {
    assert_eq!(address[..2], 2u16.to_ne_bytes());
    let port = u16::from_be_bytes([address[2], address[3]]);
    (address[4..8].try_into().unwrap(), port)
}

#[test]
fn sockets_of_the_internet_are_as_they_were() {
    let cupboard = Cupboard::new();
    let port = |name: &str| u16::try_from(cupboard.target.at(name)).unwrap();
    let local = [127, 0, 0, 1];
    let listener = socket(&cupboard, "tcp_listener");
    assert_eq!((listener.family, listener.kind, listener.protocol), (2, 1, 6));
    assert_eq!((listener.state, listener.flags), (LISTEN, abi::SOCKET_LISTENS));
    assert_eq!(inet(&listener.local), (local, port("tcp_port")));
    assert_eq!((listener.receive_queue, listener.peer_bytes), (0, 0));
    assert!(listener.send_queue > 0);
    let server = socket(&cupboard, "tcp_server");
    assert_eq!((server.state, server.flags), (ESTABLISHED, 0));
    assert_eq!(inet(&server.local), (local, port("tcp_port")));
    assert_eq!(inet(&server.peer), (local, port("client_port")));
    assert_eq!(
        (server.receive_queue, server.send_queue),
        (IN_CONNECTION.len() as u64, 0)
    );
    // That nothing more comes is none of what has come.
    let ended = socket(&cupboard, "tcp_ended");
    assert_eq!(
        (ended.state, ended.receive_queue),
        (CLOSE_WAIT, IN_CONNECTION.len() as u64)
    );
    let client = socket(&cupboard, "tcp_client");
    assert_eq!(inet(&client.peer), (local, port("tcp_port")));
    let udp = socket(&cupboard, "udp6");
    assert_eq!((udp.family, udp.kind, udp.peer_bytes), (10, 2, 0));
    assert_eq!(u16::from_be_bytes([udp.local[2], udp.local[3]]), port("udp_port"));
    assert_eq!(udp.local[8..24], Ipv6Addr::LOCALHOST.octets());
    let netlink = socket(&cupboard, "netlink");
    assert_eq!(
        (netlink.family, netlink.flags & abi::SOCKET_LATE),
        (16, abi::SOCKET_LATE)
    );
    assert_eq!(netlink.local_bytes, 12);
}

/// Such an address means something at its interface alone.
#[test]
fn addresses_of_a_link_say_of_which() {
    sh("ip -6 address replace fe80::7/64 dev lo");
    let index: u32 = std::fs::read_to_string("/sys/class/net/lo/ifindex")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let address = |port: u16| SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7), port, 0, index);
    let socket = UdpSocket::bind(address(0)).unwrap();
    socket
        .connect(address(socket.local_addr().unwrap().port()))
        .unwrap();
    // SAFETY: only its flag changes: the target inherits it.
    assert_eq!(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let target = Target::spawn("sh", &["-c", "echo pid $$; read line"]);
    let snapshot = take(&target);
    let image = Image::open(&snapshot.file);
    let fds = image.fds(&image.process(target.pid()));
    let fd = fds.iter().find(|fd| fd.fd == socket.as_raw_fd());
    let file = image.open_file(fd.expect("it was inherited"));
    let socket: abi::ImageSocket = image.records(file.socket)[0];
    for address in [socket.local, socket.peer] {
        assert_eq!(address[8..10], [0xfe, 0x80]);
        assert_eq!(address[24..28], index.to_ne_bytes());
    }
}

#[test]
fn unix_sockets_are_as_they_were() {
    let cupboard = Cupboard::new();
    let one = socket(&cupboard, "unix_one");
    assert_eq!((one.family, one.kind, one.state), (1, 1, ESTABLISHED));
    assert_eq!(one.receive_queue, IN_SOCKET.len() as u64);
    assert_eq!(one.peer_inode, cupboard.file("unix_other").inode);
    let other = socket(&cupboard, "unix_other");
    assert_eq!(
        (other.receive_queue, other.peer_inode),
        (0, cupboard.file("unix_one").inode)
    );
    assert!(other.send_queue >= IN_SOCKET.len() as u64);
    let path = |address: &[u8; 128], bytes: u32| {
        let text = &address[2..usize::try_from(bytes).unwrap()];
        String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
    };
    let listener = socket(&cupboard, "unix_listener");
    assert_eq!((listener.flags, listener.receive_queue), (abi::SOCKET_LISTENS, 1));
    assert_eq!(
        path(&listener.local, listener.local_bytes),
        format!("{FOLDER}/socket")
    );
    let client = socket(&cupboard, "unix_client");
    assert_eq!(path(&client.peer, client.peer_bytes), format!("{FOLDER}/socket"));
    let unbound = socket(&cupboard, "unix_unbound");
    assert_eq!((unbound.kind, unbound.local_bytes, unbound.peer_inode), (2, 0, 0));
    assert_eq!(socket(&cupboard, "unix_laden").descriptors, 1);
    assert_eq!(one.descriptors, 0);
}

#[test]
fn event_files_are_as_they_were() {
    let cupboard = Cupboard::new();
    let has = |name: &str, kind: u32, lines: &[&str]| {
        let file = cupboard.file(name);
        let text = cupboard.text(name);
        assert_eq!((file.kind, file.notes), (kind, 0), "{name}: {text}");
        for line in lines {
            assert!(text.contains(line), "{name} says {line}: {text}");
        }
    };
    has("eventfd", abi::FILE_EVENTFD, &["eventfd-count:               29"]);
    has(
        "semaphore",
        abi::FILE_EVENTFD,
        &["eventfd-count:                3"],
    );
    has(
        "timerfd",
        abi::FILE_TIMERFD,
        &["clockid: 1", "ticks: 0", "it_value: (9", "it_interval: (7, 500)"],
    );
    has("signalfd", abi::FILE_SIGNALFD, &["sigmask:\t0000001000000200"]);
    let watched = cupboard.target.at("eventfd");
    let entry = format!("tfd: {watched:8} events: 80000019 data:               4d");
    has("epoll", abi::FILE_EPOLL, &[&entry, "data: feed000000000001"]);
    let inode = std::fs::metadata(FOLDER).unwrap().ino();
    has(
        "inotify",
        abi::FILE_INOTIFY,
        &[&format!("inotify wd:1 ino:{inode:x} "), "mask:104 "],
    );
}
