//! `freezeframe show`: what is in an image. Only the begin of the archive is read, where no memory is.

mod process;

use std::fmt::Write as _;

use clap::Args;

use super::input;
use super::text::{count, utc};
use super::{ToolError, print};
use crate::archive::head::PAGE;
use crate::archive::manifest::{Manifest, Pages, ProcessEntry};
use crate::archive::read::error::plain_lines;
use crate::archive::read::{Item, State};
use crate::exit::Exit;
use crate::report::bytes;
use crate::stream::open::{Keys, Location};

/// `freezeframe show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The image; - for standard input
    #[arg(value_name = "IMAGE|-|s3://BUCKET/KEY")]
    pub image: Location,
    /// What opens it.
    #[command(flatten)]
    pub keys: Keys,
    /// Only these processes
    #[arg(long = "pid", num_args = 1.., value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pids: Vec<i32>,
    /// List each mapping
    #[arg(long)]
    pub mappings: bool,
    /// Print the manifest and the states of the processes as JSON
    #[arg(long, conflicts_with = "mappings")]
    pub json: bool,
}

/// How mappings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mappings {
    Each,
    Summed,
}

/// Runs the verb.
///
/// # Errors
///
/// When the begin of the image cannot be read, or is damaged.
pub fn run(args: &ShowArgs) -> anyhow::Result<Exit> {
    show(args, &mut print)?;
    Ok(Exit::Ok)
}

/// Gives `print` what there is to show, one process after the other: together they may be larger than memory.
///
/// # Errors
///
/// As [`run`], and what `print` fails with.
pub fn show(args: &ShowArgs, print: &mut dyn FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut reader = input::reader(&args.image, &args.keys)?;
    let manifest = reader.manifest().clone();
    let wanted = |pid: i32| args.pids.is_empty() || args.pids.contains(&pid);
    let held = |pid: &i32| manifest.processes.iter().any(|entry| entry.pid == *pid);
    if let Some(pid) = args.pids.iter().find(|pid| !held(pid)) {
        let (image, pid) = (args.image.to_string(), *pid);
        return Err(ToolError::NoProcess { image, pid }.into());
    }
    if args.json {
        let json = String::from_utf8_lossy(reader.manifest_json());
        print(&format!("{{\"manifest\":{json},\"processes\":["))?;
    } else {
        print(&plain_lines(&image(&args.image.to_string(), &manifest)))?;
    }
    let mut first = true;
    for entry in &manifest.processes {
        let Some(Item::State(state)) = reader.next_item().map_err(ToolError::from)? else {
            break;
        };
        if !wanted(entry.pid) {
            continue;
        }
        if args.json {
            print(if first { "" } else { "," })?;
            print(&String::from_utf8_lossy(&state.json))?;
        } else {
            print(&plain_lines(&one(entry, &state, args)))?;
        }
        first = false;
    }
    print(if args.json { "]}\n" } else { "" })
}

fn one(entry: &ProcessEntry, state: &State, args: &ShowArgs) -> String {
    let mappings = if args.mappings {
        Mappings::Each
    } else {
        Mappings::Summed
    };
    process::tree(entry, &state.process, mappings)
}

// Writing to a String cannot fail: results of `writeln!` to one are dropped here and below.

fn image(name: &str, manifest: &Manifest) -> String {
    let mut text = format!("{name}\n");
    let _ = writeln!(text, "  image        {}", manifest.image_id);
    let _ = writeln!(
        text,
        "  instant      {} on {} (Linux {}), snapshot {}, by freezeframe {}",
        utc(manifest.instant_unix_ns),
        manifest.host,
        manifest.kernel,
        manifest.snapshot_id,
        manifest.freezeframe_version,
    );
    if let Some(parent) = &manifest.parent {
        let _ = writeln!(text, "  parent       {} ({})", parent.name, parent.image_id);
    }
    let threads: u64 = manifest
        .processes
        .iter()
        .map(|entry| u64::from(entry.threads))
        .sum();
    let cores = manifest
        .processes
        .iter()
        .fold(0_u64, |sum, entry| sum.saturating_add(entry.core_bytes));
    let _ = writeln!(
        text,
        "  holds        {}, {}, {} of cores",
        count(manifest.processes.len() as u64, "process", "processes"),
        count(threads, "thread", "threads"),
        bytes(cores),
    );
    for line in &manifest.not_captured {
        let _ = writeln!(text, "  without      {line}");
    }
    text
}

/// Where pages are, in words.
fn pages(pages: Pages) -> String {
    let size = |pages: u64| bytes(pages.saturating_mul(PAGE));
    let mut text = format!("{} here", size(pages.here));
    if pages.elsewhere != 0 {
        text += &format!(", {} in other cores", size(pages.elsewhere));
    }
    if pages.parent != 0 {
        text += &format!(", {} in the parent", size(pages.parent));
    }
    text
}
