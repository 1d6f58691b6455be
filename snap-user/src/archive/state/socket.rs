//! Sockets: numbers become names, and addresses text.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use snap_common::abi;

use super::hexadecimal;
use crate::archive::process::Socket;
use crate::octal::escape;

const STATES: [&str; 13] = [
    "",
    "established",
    "syn_sent",
    "syn_received",
    "fin_wait_1",
    "fin_wait_2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_received",
];

pub(super) fn describe(socket: &abi::ImageSocket) -> Socket {
    Socket {
        family: family(socket.family),
        kind: kind(socket.kind),
        protocol: socket.protocol,
        state: state(socket),
        local: address(&socket.local, socket.local_bytes),
        peer: address(&socket.peer, socket.peer_bytes),
        peer_inode: socket.peer_inode,
        receive_queue: socket.receive_queue,
        send_queue: socket.send_queue,
        queues_are_rough: socket.flags & abi::SOCKET_ROUGH != 0,
        descriptors_under_way: socket.descriptors,
    }
}

fn family(number: u32) -> String {
    match number.cast_signed() {
        libc::AF_UNIX => "unix".to_owned(),
        libc::AF_INET => "inet".to_owned(),
        libc::AF_INET6 => "inet6".to_owned(),
        libc::AF_NETLINK => "netlink".to_owned(),
        libc::AF_PACKET => "packet".to_owned(),
        libc::AF_VSOCK => "vsock".to_owned(),
        libc::AF_ALG => "alg".to_owned(),
        libc::AF_XDP => "xdp".to_owned(),
        libc::AF_BLUETOOTH => "bluetooth".to_owned(),
        number => number.to_string(),
    }
}

fn kind(number: u32) -> String {
    match number.cast_signed() {
        libc::SOCK_STREAM => "stream".to_owned(),
        libc::SOCK_DGRAM => "dgram".to_owned(),
        libc::SOCK_SEQPACKET => "seqpacket".to_owned(),
        libc::SOCK_RAW => "raw".to_owned(),
        libc::SOCK_RDM => "rdm".to_owned(),
        number => number.to_string(),
    }
}

/// Of sockets that have connections; of the others the number means nothing.
fn state(socket: &abi::ImageSocket) -> String {
    let connects = matches!(
        socket.kind.cast_signed(),
        libc::SOCK_STREAM | libc::SOCK_SEQPACKET
    );
    let name = STATES.get(socket.state as usize).filter(|_| connects);
    name.map(|name| (*name).to_owned()).unwrap_or_default()
}

/// A `struct sockaddr_*` of so many bytes.
fn address(bytes: &[u8; 128], length: u32) -> String {
    let bytes = bytes.get(..length as usize).unwrap_or(bytes);
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
        return String::new();
    };
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => inet(rest),
        libc::AF_INET6 => inet6(rest),
        libc::AF_UNIX => Some(unix(rest)),
        libc::AF_NETLINK => netlink(rest),
        _ => None,
    }
    .unwrap_or_else(|| hexadecimal(bytes))
}

fn inet(bytes: &[u8]) -> Option<String> {
    let (port, rest) = bytes.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    Some(if port == 0 && address.is_unspecified() {
        String::new()
    } else {
        SocketAddrV4::new(address, port).to_string()
    })
}

/// Port, flow label, address, scope.
fn inet6(bytes: &[u8]) -> Option<String> {
    let (port, rest) = bytes.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk::<4>()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let scope = rest.first_chunk().map_or(0, |scope| u32::from_ne_bytes(*scope));
    let port = u16::from_be_bytes(*port);
    let address = Ipv6Addr::from(*address);
    Some(if port == 0 && address.is_unspecified() {
        String::new()
    } else {
        SocketAddrV6::new(address, port, u32::from_be_bytes(*flow), scope).to_string()
    })
}

fn unix(bytes: &[u8]) -> String {
    match bytes.strip_prefix(b"\0") {
        // Of abstract names every byte counts.
        Some(name) if !name.is_empty() => format!("@{}", escape(name)),
        _ => {
            let path = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            escape(path)
        }
    }
}

/// Padding, port id, groups.
fn netlink(bytes: &[u8]) -> Option<String> {
    let (_, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (port, groups) = (
        u32::from_ne_bytes(*port),
        u32::from_ne_bytes(*rest.first_chunk()?),
    );
    Some(match (port, groups) {
        (0, 0) => String::new(),
        (port, 0) => port.to_string(),
        (port, groups) => format!("{port} groups {groups:#x}"),
    })
}

#[cfg(test)]
mod tests {
    use super::address;

    fn text(bytes: &[u8]) -> String {
        let mut all = [0; 128];
        all[..bytes.len()].copy_from_slice(bytes);
        address(&all, u32::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn addresses_are_text() {
        assert_eq!(text(&[]), "");
        assert_eq!(
            text(&[2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            "127.0.0.1:80"
        );
        assert_eq!(text(&[2, 0, 0, 0, 0, 0, 0, 0]), "");
        let mut local = [0; 28];
        local[0] = 10;
        local[3] = 80;
        local[23] = 1;
        assert_eq!(text(&local), "[::1]:80");
        assert_eq!(text(b"\x01\0/run/x.sock\0"), "/run/x.sock");
        assert_eq!(text(b"\x01\0\0name\0x"), "@name\0x");
        assert_eq!(text(b"\x01\0\0caf\xe9"), "@caf\\351");
        assert_eq!(text(b"\x01\0"), "");
        assert_eq!(text(&[16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]), "7");
    }

    #[test]
    fn what_is_cut_or_strange_is_hexadecimal() {
        assert_eq!(text(&[2, 0, 0]), "020000");
        assert_eq!(text(&[99, 0, 1]), "630001");
        assert_eq!(text(&[2]), "");
        // A length beyond the field is that of the field.
        assert_eq!(address(&[0; 128], u32::MAX).len(), 256);
    }
}
