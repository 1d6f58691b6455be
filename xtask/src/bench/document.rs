//! `docs/performance.md` and its plot.

use std::fmt::Write as _;

use anyhow::Result;

use crate::bench::frame::put;
use crate::bench::sample::Samples;
use crate::bench::{goals, plot, tables};
use crate::paths;
use crate::qemu::Accel;

/// A run, and how it came about.
pub struct Run {
    /// What to type to have them again.
    pub command: String,
    /// What executed the guest.
    pub accel: Accel,
    /// What it left.
    pub samples: Samples,
}

impl Run {
    /// All that was measured.
    pub fn tables(&self) -> String {
        let goals = goals::table(&self.samples);
        let tables = tables::all(&self.samples);
        let all = [goals].into_iter().chain(tables);
        all.map(|table| table.to_string()).collect::<Vec<_>>().join("\n")
    }

    /// How it was measured.
    pub fn summary(&self) -> String {
        summary(self)
    }
}

fn summary(run: &Run) -> String {
    let (accel, samples) = (run.accel, &run.samples);
    let processors = match accel {
        Accel::Icount => "one processor",
        Accel::Kvm | Accel::Tcg => "two processors",
    };
    let mut text = format!(
        "`{}`: kernel {} in a guest with {processors} under {}, {} samples of each kind, interleaved.",
        run.command,
        samples.guest.kernel,
        accel.name(),
        samples.rounds()
    );
    let peers = [("Redis", &samples.guest.redis), ("criu", &samples.guest.criu)];
    for (name, version) in peers {
        match version {
            Some(version) => text += &format!(" {name} {version}."),
            None => text += &format!(" {name} was not measured."),
        }
    }
    match accel {
        Accel::Icount => {
            text += " Time is instructions executed. No target watches its snapshot: on one processor it would only wait \
                     for its turn. For the same reason the longest writes include turns of other processes.";
        }
        Accel::Tcg => {
            text += " The processor is emulated: trust the ratios within this run, not the times. It is slowest with code and \
                     memory that it has not met since it last switched, which is most of a short window: how long that of \
                     `--arm pud` is without this, a run with an instruction clock tells.";
        }
        Accel::Kvm => {}
    }
    let mut instead: Vec<_> = samples
        .windows
        .iter()
        .filter_map(|window| Some(format!("{} as {}", window.method, window.instead.as_ref()?)))
        .collect();
    instead.sort();
    instead.dedup();
    if !instead.is_empty() {
        text += &format!(
            " Some memory was armed otherwise than asked for: {}.",
            instead.join(", ")
        );
    }
    let split = samples
        .windows
        .iter()
        .filter(|window| window.case.huge && window.huge_kib < window.case.mib * 1024)
        .count();
    if split != 0 {
        text += &format!(" In {split} samples of huge pages, not all of them were huge.");
    }
    text
}

/// Writes the document and the plot: a run, and another one with the other clock.
pub fn write(run: &Run, other: Option<&Run>) -> Result<()> {
    let docs = paths::root().join("docs");
    let subtitle = format!(
        "median, min and max; Linux {}, {}",
        run.samples.guest.kernel,
        run.accel.name()
    );
    put(&docs.join("window.svg"), &plot::svg(&run.samples, &subtitle))?;
    put(&docs.join("performance.md"), &text(run, other))
}

fn text(run: &Run, other: Option<&Run>) -> String {
    let mut text = format!(
        "# Performance\n\n\
         <!-- Written by `{} --write-docs`. -->\n\n\
         How long processes stand still while they are snapshotted, beside what one would use otherwise, and what they pay\n\
         afterwards. All methods of a run are measured in one guest, on the same processes, in turn; before each sample all\n\
         their memory is written, so that every page has to be made copy-on-write again. Misses are published as misses.\n\n\
         ![The window over the size of the process](window.svg)\n",
        run.command
    );
    for run in [run].into_iter().chain(other) {
        let title = match run.accel {
            Accel::Icount => "In instructions",
            Accel::Kvm | Accel::Tcg => "In time",
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {title}\n\n{}\n\n{}", run.summary(), run.tables());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(accel: Accel) -> Run {
        let line = r#"{"what":"guest","kernel":"6.12.1","arms":[],"freezes":[]}"#;
        Run {
            command: "cargo xtask bench window".to_owned(),
            accel,
            samples: Samples::parse(line).unwrap(),
        }
    }

    #[test]
    fn what_was_left_out_is_said() {
        let text = run(Accel::Tcg).summary();
        assert!(
            text.contains("criu was not measured") && text.contains("emulated"),
            "{text}"
        );
    }

    #[test]
    fn the_document_names_the_command_and_the_kernel() {
        let text = text(&run(Accel::Tcg), Some(&run(Accel::Icount)));
        assert!(text.contains("cargo xtask bench window") && text.contains("6.12.1"));
        assert!(text.contains("## In time\n") && text.contains("## In instructions\n"));
        assert!(text.contains("### Goals\n"), "{text}");
    }
}
