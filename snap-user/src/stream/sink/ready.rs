//! Pipes and sockets. Whoever reads them may never do so: nothing here waits in the kernel, so everything can be given up at any time.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use rustix::pipe::PIPE_BUF;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;

/// A pipe or a socket.
#[derive(Debug)]
pub(super) enum Ready {
    /// Ours alone: it does not block, and nobody else notices.
    Pipe(pipe::Sender),
    /// Shared with whoever gave it to us, for whom it must go on to block or not as it did.
    SharedPipe(AsyncFd<OwnedFd>),
    /// Shared likewise.
    Socket(AsyncFd<OwnedFd>),
}

impl Ready {
    /// Opens a pipe once more. O_NONBLOCK belongs to the open file, which we share with others: the shell, a `tee` beside us.
    pub(super) fn pipe(pipe: OwnedFd) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        match pipe::OpenOptions::new().open_sender(path) {
            Ok(opened) => Ok(Self::Pipe(opened)),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(io::ErrorKind::BrokenPipe.into()),
            // It is another user's, as behind sudo, or there is no /proc.
            Err(_) => Ok(Self::SharedPipe(registered(pipe)?)),
        }
    }

    /// A socket, which can be told not to block for one call.
    pub(super) fn socket(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self::Socket(registered(socket)?))
    }

    /// A second handle. Of a pipe it does not block, either; whoever takes it opens the pipe once more.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Pipe(pipe) => pipe.as_fd().try_clone_to_owned(),
            Self::SharedPipe(shared) | Self::Socket(shared) => shared.get_ref().try_clone(),
        }
    }

    /// Writes all. Dropped in the middle, some of it is written.
    pub(super) async fn write(&mut self, pieces: Vec<Bytes>) -> io::Result<()> {
        for piece in pieces {
            match self {
                Self::Pipe(pipe) => pipe.write_all(&piece).await?,
                Self::SharedPipe(pipe) => write_all(pipe, &piece, write_some).await?,
                Self::Socket(socket) => write_all(socket, &piece, send_some).await?,
            }
        }
        Ok(())
    }
}

fn registered(shared: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and nobody takes it out of the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(shared, Interest::WRITABLE) }?)
}

async fn write_all(
    shared: &AsyncFd<OwnedFd>,
    mut piece: &[u8],
    some: fn(&OwnedFd, &[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    while !piece.is_empty() {
        let written = shared
            .async_io(Interest::WRITABLE, |shared| some(shared, piece))
            .await?;
        piece = &piece[written..];
    }
    Ok(())
}

/// No more than there is room for where there is room at all (`pipe_poll`). Where somebody else takes that first, this waits for a reader.
fn write_some(pipe: &OwnedFd, piece: &[u8]) -> io::Result<usize> {
    let now = Timespec::default();
    if poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&now))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::write(pipe, &piece[..piece.len().min(PIPE_BUF)])?)
}

fn send_some(socket: &OwnedFd, piece: &[u8]) -> io::Result<usize> {
    Ok(send(socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}
