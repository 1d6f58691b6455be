//! `freezeframe verify`: whether an image is whole and sound, and its parents with it.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::input::ImageArgs;
use super::text::{count, utc};
use super::{ToolError, print, print_json};
use crate::archive::manifest::Pages;
use crate::archive::read::State;
use crate::archive::read::core::CoreHead;
use crate::archive::read::error::plain_lines;
use crate::archive::read::gather::{Depth, Done, Follow, Gather, Wanted, gather};
use crate::exit::Exit;
use crate::report::bytes;

/// `freezeframe verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes:\n  0   it is sound\n  1   it cannot be read, or a parent is not there\n  10  it is damaged"
)]
pub struct VerifyArgs {
    /// Which image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Leave its parents out, and what it has there
    #[arg(long, conflicts_with = "parents")]
    pub alone: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What `verify --json` prints. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether all that was checked is sound.
    pub sound: bool,
    /// What is wrong, where something is.
    pub error: Option<String>,
    /// The archives that were read to their end and are sound: the image, its parent, and so on.
    pub images: Vec<Verified>,
    /// The parent that was left out.
    pub parent_left_out: Option<String>,
}

/// An archive that is sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its id.
    pub image_id: String,
    /// The snapshot.
    pub snapshot_id: u64,
    /// The host.
    pub host: String,
    /// The instant, nanoseconds since 1970.
    pub instant_unix_ns: u64,
    /// How many processes it holds.
    pub processes: u64,
    /// How many bytes it has, as a tar.
    pub bytes: u64,
    /// How many members' sums were compared.
    pub members: u64,
    /// Where the pages of its processes are.
    pub pages: Pages,
}

impl Verified {
    fn new(done: &Done) -> Self {
        let manifest = &done.manifest;
        let mut pages = Pages::default();
        for entry in &manifest.processes {
            pages.here = pages.here.saturating_add(entry.pages.here);
            pages.elsewhere = pages.elsewhere.saturating_add(entry.pages.elsewhere);
            pages.parent = pages.parent.saturating_add(entry.pages.parent);
        }
        Self {
            image_id: manifest.image_id.clone(),
            snapshot_id: manifest.snapshot_id,
            host: manifest.host.clone(),
            instant_unix_ns: manifest.instant_unix_ns,
            processes: manifest.processes.len() as u64,
            bytes: done.bytes,
            members: 1 + 2 * manifest.processes.len() as u64,
            pages,
        }
    }
}

/// Runs the verb.
///
/// # Errors
///
/// When the image cannot be read, is damaged, or is an increment whose parent is not there.
pub fn run(args: &VerifyArgs) -> anyhow::Result<Exit> {
    match verify(args) {
        Ok(verdict) if args.json => print_json(&verdict)?,
        Ok(verdict) => print(&table(&args.image, &verdict))?,
        Err(error) => {
            if args.json && error.is_damage() {
                print_json(&Verdict {
                    sound: false,
                    error: Some(error.to_string()),
                    images: Vec::new(),
                    parent_left_out: None,
                })?;
            }
            return Err(error.into());
        }
    }
    Ok(Exit::Ok)
}

/// Checks an image.
///
/// # Errors
///
/// As [`run`].
pub fn verify(args: &VerifyArgs) -> Result<Verdict, ToolError> {
    let (reader, mut chain) = args.image.open()?;
    let depth = if args.alone {
        Depth::ImageOnly
    } else {
        Depth::Whole
    };
    let done = gather(
        reader,
        Follow::All,
        depth,
        |parent| chain.open(parent),
        &mut Nothing,
    )?;
    let left_out = done.last().and_then(|last| last.manifest.parent.as_ref());
    Ok(Verdict {
        sound: true,
        error: None,
        images: done.iter().map(Verified::new).collect(),
        parent_left_out: left_out.map(|parent| parent.name.clone()),
    })
}

/// Has no use for what it reads: what reading finds is all that is asked.
struct Nothing;

impl Gather for Nothing {
    type Error = ToolError;

    fn state(&mut self, _: State) -> Result<(), ToolError> {
        Ok(())
    }

    fn core(&mut self, _: i32, _: &mut CoreHead) -> Result<Wanted, ToolError> {
        Ok(Wanted::No)
    }

    fn fill(&mut self, _: i32, _: u64, _: &[u8]) -> Result<(), ToolError> {
        Ok(())
    }
}

fn table(image: &ImageArgs, verdict: &Verdict) -> String {
    let mut table = format!("{}: sound\n", image.image);
    for (index, one) in verdict.images.iter().enumerate() {
        let Pages {
            here,
            elsewhere,
            parent,
        } = one.pages;
        // Writing to a String cannot fail.
        let _ = write!(
            table,
            "  {:<10} {} of {}, snapshot {} at {}\n  {:<10} {}, {} members, all their sums right\n  {:<10} {}, {} here",
            if index == 0 { "image" } else { "parent" },
            one.image_id,
            one.host,
            one.snapshot_id,
            utc(one.instant_unix_ns),
            "",
            bytes(one.bytes),
            one.members,
            "",
            count(one.processes, "process", "processes"),
            count(here, "page", "pages"),
        );
        if elsewhere != 0 {
            let _ = write!(table, ", {elsewhere} in other cores");
        }
        if parent != 0 {
            let _ = write!(table, ", {parent} in the parent");
        }
        table.push('\n');
    }
    if let Some(name) = &verdict.parent_left_out {
        let _ = writeln!(table, "  {:<10} {name}: left out", "parent");
    }
    plain_lines(&table)
}
