//! What the program `cupboard` and its test agree on.

/// Left in its pipe.
pub const IN_PIPE: &[u8] = b"left in the pipe";
/// Left in its FIFO.
pub const IN_FIFO: &[u8] = b"first in";
/// In the file that it has spliced into a pipe.
pub const IN_FILE: &[u8] = b"what the file holds";
/// Not read from its Unix socket.
pub const IN_SOCKET: &[u8] = b"unread";
/// Not read from its TCP connection.
pub const IN_CONNECTION: &[u8] = b"7 bytes";
/// The values of the signals that it has sent itself.
pub const SIGNAL_VALUES: [u64; 3] = [11, 12, 13];
/// Where it holds its files.
pub const FOLDER: &str = "/var/tmp/cupboard";
