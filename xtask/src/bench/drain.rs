//! `cargo xtask bench drain`: one guest run, the samples it left, and the tables made of them.

mod goals;
mod speed;
mod tables;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::disk::parse;
use crate::bench::frame::{self, Frame};
use crate::kernel::Series;
use crate::setup::{self, Need};
use crate::{build, paths, qemu, run};

/// Measures how fast images are written, what that takes of memory and costs writers, and how large they are: beside dd, zstd and age on the
/// same bytes, and beside gcore and criu of the same process.
///
/// Compare within one run only: a guest without KVM is slow, and slower on a busy machine.
#[derive(clap::Args)]
pub struct Args {
    /// The guest's kernel
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// Samples of each kind
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Write docs/performance-drain.md
    #[arg(long)]
    write_docs: bool,
    /// Measure nothing: the tables of the last run again, which had as many rounds
    #[arg(long)]
    again: bool,
}

const FRAME: Frame = Frame {
    name: "drain",
    programs: &["larder"],
    arguments: "\"$FF_BENCH_ROUNDS\" $(ls \"$PWD/criu.tar\" 2>/dev/null)",
    criu: true,
};

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let out = FRAME.results(args.kernel, "");
    if !args.again {
        let code = FRAME.measure(args.kernel, args.rounds, &out, |job| {
            // The largest process, an image of it, and the room that a take wants for copies.
            job.mem_mib = 4096;
            job.timeout = Duration::from_secs(7200);
        })?;
        if code != 0 {
            return Ok(ExitCode::from(code));
        }
        measure_host(args.rounds, &out)?;
    }
    let mut samples = frame::samples(&out, parse)?;
    samples.extend(parse(&fs::read_to_string(out.join(HOST)).unwrap_or_default())?);
    let tables = [goals::table(&samples)]
        .into_iter()
        .chain(tables::all(&samples))
        .map(|table| table.to_string())
        .collect::<Vec<_>>()
        .join("\n");
    println!("\n{tables}");
    if args.write_docs {
        let accel = qemu::accel(&args.kernel.unpacked()?)?;
        let text = document(args, accel.name(), &samples, &tables);
        frame::put(&paths::root().join("docs/performance-drain.md"), &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the host leaves, beside what the guest does.
const HOST: &str = "host.jsonl";

/// Measures what needs no module on a processor that is not emulated.
fn measure_host(rounds: u32, out: &Path) -> Result<()> {
    setup::ensure(&[Need::Formats])?;
    let mut cargo = build::cargo();
    cargo.args([
        "run",
        "--release",
        "--package",
        "freezeframe",
        "--example",
        "host_drain",
        "--",
    ]);
    let text = run::output_with_progress(cargo.arg(rounds.to_string()))?;
    let path = out.join(HOST);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn document(args: &Args, accel: &str, samples: &[Value], tables: &str) -> String {
    let command = format!(
        "cargo xtask bench drain --kernel {} --rounds {}",
        args.kernel.name(),
        args.rounds
    );
    let guest = samples.iter().find(|sample| sample["what"] == "guest");
    let said = |name: &str| {
        let text = guest.and_then(|guest| guest[name].as_str());
        text.unwrap_or("(not measured)").to_owned()
    };
    format!(
        "# Performance: images\n\n\
         <!-- Written by `{command} --write-docs`. -->\n\n\
         How fast an image goes where it is wanted, beside `dd`, `zstd -T0` and `age` on the same bytes; what that takes of memory, and costs\n\
         those who write meanwhile; and how large images are, beside `gcore` and criu of the same process. All of it is measured in one\n\
         guest, the methods in turn, everything in a tmpfs. Misses are published as misses.\n\n\
         `{command}`: {} samples of each kind; kernel {} in a guest with {} processors under {accel}; zstd {}, age {}, gdb {}, criu {}.\n\n\
         Under TCG the processor is emulated: trust the ratios within this run, not the times, and those only where both sides do the same kind\n\
         of work. The kernel's copy is a handful of emulated instructions for each eight bytes; the sums (BLAKE3) and the encryption\n\
         (ChaCha20-Poly1305) are arithmetic in vector registers, which is slowest of all there. So an image to `/dev/null`, of which\n\
         `BLAKE3SUMS` has to be reckoned, is as fast as BLAKE3 on one processor, whatever else is done: `read()` and BLAKE3 of the same bytes\n\
         is the row to compare it with, and what the host's own processor does has a table of its own. To sum on both\n\
         of its processors brought nothing there.\n\n\
         {tables}",
        args.rounds,
        said("kernel"),
        said("processors"),
        said("zstd"),
        said("age"),
        said("gdb"),
        said("criu"),
    )
}
