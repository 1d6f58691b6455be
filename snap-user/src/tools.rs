//! The verbs that work on archives. They need no kernel module and no root.

pub mod diff;
pub mod extract;
pub mod flatten;
pub mod input;
pub mod kept;
pub mod place;
pub mod schema;
pub mod scratch;
pub mod show;
pub mod text;
pub mod verify;

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use anyhow::Context as _;
use clap::Subcommand;

use self::input::InputError;
use self::scratch::{Left, Scratch};
use crate::archive::read::ReadError;
use crate::exit::Exit;
use crate::output::OutputError;
use crate::stream::open::OpenError;
use crate::take::Interrupts;
use crate::words::{print, print_json};

/// The commands that read archives.
#[derive(Debug, Subcommand)]
pub enum ToolCommand {
    /// Show what is in an image: processes, threads, memory, descriptors
    Show(show::ShowArgs),
    /// Check that an image is whole and sound, and its parents with it
    Verify(verify::VerifyArgs),
    /// Write the cores of an image as files that stand alone, for gdb and others
    Extract(extract::ExtractArgs),
    /// Tell what changed between two images
    Diff(diff::DiffArgs),
    /// Write the JSON schemas of the archive's documents into a folder
    #[command(hide = true)]
    Schema(schema::SchemaArgs),
}

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// An archive cannot be read, or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An archive cannot be had.
    #[error(transparent)]
    Input(#[from] InputError),
    /// What is made of it cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The image does not hold a process that was asked for.
    #[error("{image} does not hold process {pid}; `freezeframe show {image}` lists what it holds")]
    NoProcess {
        /// The image.
        image: String,
        /// The process.
        pid: i32,
    },
    /// There is nothing to join.
    #[error("{0} has no parent: it is whole already")]
    Whole(String),
    /// It would take too much memory.
    #[error(
        "{image} has more states and heads of cores than {limit} bytes in all, which is the most that is kept of an image; `freezeframe extract --pid` takes it apart process by process"
    )]
    TooMuch {
        /// The image.
        image: String,
        /// The limit.
        limit: u64,
    },
    /// Scratch files fail.
    #[error("cannot use a scratch file in {}: {cause}; make room there, or write the output to another folder", folder.display())]
    Scratch {
        /// Where.
        folder: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl ToolError {
    /// Whether an image is at fault, and not whoever had to deliver it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Read(error) => error.fault.is_damage(),
            Self::Input(InputError::Open(OpenError::Read(error))) => error.is_damage(),
            _ => false,
        }
    }
}

const FAILED: &str = "the thread that read the archive failed";

/// Runs a command.
///
/// # Errors
///
/// See [`ToolError`].
pub async fn run(command: ToolCommand) -> anyhow::Result<Exit> {
    // Before the work begins.
    let interrupts = Interrupts::catch()?;
    let scratch = Scratch::default();
    let ours = scratch.clone();
    let mut work = in_a_thread(move || dispatch(&command, &ours))?;
    tokio::select! {
        name = interrupts.wait() => match scratch.abandon() {
            Left::Nothing => anyhow::bail!("{name}; nothing was written"),
            Left::Whole => {}
        },
        result = &mut work => {
            // Here, and not when the thread lets go of them: the process may end before that.
            let _ = scratch.abandon();
            return result?;
        }
    }
    work.await?
}

/// What a thread of ours comes to.
type Working<T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send>>;

/// Starts a thread. None of the runtime's: that would wait for it, and it may wait for a pipe that nobody writes to.
fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<Working<T>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("archive".to_owned())
        .spawn(move || sender.send(work()))
        .context("cannot start a thread")?;
    Ok(Box::pin(async { receiver.await.context(FAILED) }))
}

fn dispatch(command: &ToolCommand, scratch: &Scratch) -> anyhow::Result<Exit> {
    match command {
        ToolCommand::Show(args) => show::run(args),
        ToolCommand::Verify(args) => verify::run(args),
        ToolCommand::Extract(args) => extract::run(args, scratch),
        ToolCommand::Diff(args) => diff::run(args),
        ToolCommand::Schema(args) => schema::run(args),
    }
}
