//! `freezeframe diff`: what changed between two images.

mod changes;
mod pages;
mod side;
mod sums;
mod table;

use clap::Args;

use self::side::Side;
use super::input::{Chain, ParentArgs};
use super::{ToolError, print, print_json};
use crate::archive::read::error::plain_lines;
use crate::exit::Exit;
use crate::stream::open::Location;

pub use self::changes::{Difference, ProcessDifference};

/// `freezeframe diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier image; - for standard input
    #[arg(value_name = "A|-")]
    pub a: Location,
    /// The later image; - for standard input
    #[arg(value_name = "B|-")]
    pub b: Location,
    /// Parents of either, where they are increments.
    #[command(flatten)]
    pub parents: ParentArgs,
    /// Print the differences as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// When an image or a parent cannot be read, or is damaged.
pub fn run(args: &DiffArgs) -> anyhow::Result<Exit> {
    let difference = diff(args)?;
    if args.json {
        print_json(&difference)?;
    } else {
        print(&plain_lines(&table::table(&difference)))?;
    }
    Ok(Exit::Ok)
}

/// Compares two images. Each is read once; a hash of 16 bytes is kept of every page of 4 KiB.
///
/// # Errors
///
/// As [`run`].
pub fn diff(args: &DiffArgs) -> Result<Difference, ToolError> {
    let mut chain = Chain::new(&[&args.a, &args.b], &args.parents)?;
    let a = Side::read(&args.a, &args.parents.keys, &mut chain, None)?;
    chain.of(&args.b);
    let b = Side::read(
        &args.b,
        &args.parents.keys,
        &mut chain,
        Some(&a.manifest.image_id),
    )?;
    Ok(changes::compare(&a, &b))
}
