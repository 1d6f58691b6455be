//! Pipes and sockets. Whoever reads them may never do so: nothing here waits in the kernel, so everything can be given up at any time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use bytes::Bytes;
use rustix::net::{SendFlags, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;

/// A pipe or a socket.
#[derive(Debug)]
pub(super) enum Ready {
    /// Ours alone: it does not block, and nobody else notices.
    Pipe(pipe::Sender),
    /// Shared with whoever gave it to us, for whom it must go on to block or not as it did.
    Socket(AsyncFd<OwnedFd>),
}

impl Ready {
    /// Opens a pipe once more. O_NONBLOCK belongs to the open file, which we share with others: the shell, a `tee` beside us.
    pub(super) fn reopen(pipe: &File) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(io::ErrorKind::BrokenPipe.into()),
            opened => Ok(Self::Pipe(opened?)),
        }
    }

    /// A socket, which can be told not to block for one call.
    pub(super) fn socket(socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and nobody takes it out of the `AsyncFd`.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) };
        Ok(Self::Socket(socket?))
    }

    /// A second handle. Of a pipe it does not block, either; whoever takes it opens the pipe once more.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Pipe(pipe) => pipe.as_fd().try_clone_to_owned(),
            Self::Socket(socket) => socket.get_ref().try_clone(),
        }
    }

    /// Writes all. Dropped in the middle, some of it is written.
    pub(super) async fn write(&mut self, pieces: Vec<Bytes>) -> io::Result<()> {
        for piece in pieces {
            match self {
                Self::Pipe(pipe) => pipe.write_all(&piece).await?,
                Self::Socket(socket) => send_all(socket, &piece).await?,
            }
        }
        Ok(())
    }
}

async fn send_all(socket: &AsyncFd<OwnedFd>, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        let sent = socket
            .async_io(Interest::WRITABLE, |socket| {
                Ok(send(socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
            })
            .await?;
        piece = &piece[sent..];
    }
    Ok(())
}
