//! `docs/performance.md` and its plot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::bench::plot;
use crate::bench::sample::Samples;
use crate::bench::table::Table;
use crate::paths;
use crate::qemu::Accel;

/// How the samples came about.
pub struct Setting {
    /// What to type to have them again.
    pub command: String,
    /// The guest's kernel.
    pub release: String,
    /// What executed the guest.
    pub accel: Accel,
    /// Samples of each kind.
    pub rounds: usize,
}

/// What the document begins with, and the terminal shows.
pub fn summary(setting: &Setting, samples: &Samples) -> String {
    let processors = match setting.accel {
        Accel::Icount => "one processor",
        Accel::Kvm | Accel::Tcg => "two processors",
    };
    let mut text = format!(
        "`{}`: kernel {} in a guest with {processors} under {}, {} samples of each kind, interleaved.",
        setting.command,
        setting.release,
        setting.accel.name(),
        setting.rounds
    );
    let peers = [("Redis", &samples.guest.redis), ("criu", &samples.guest.criu)];
    for (name, version) in peers {
        match version {
            Some(version) => text += &format!(" {name} {version}."),
            None => text += &format!(" {name} was not measured."),
        }
    }
    match setting.accel {
        Accel::Icount => {
            text += " Time is instructions executed. Targets sleep while they are snapshotted, and no gaps are compared: \
                     on one processor a target that spins only waits for its turn. For the same reason the longest writes \
                     include turns of other processes.";
        }
        Accel::Tcg => {
            text += " The processor is emulated: trust the ratios within this run, not the times.";
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

/// Writes both.
pub fn write(setting: &Setting, samples: &Samples, tables: &[Table], goals: &Table) -> Result<()> {
    let docs = paths::root().join("docs");
    let subtitle = format!(
        "median, min and max; Linux {}, {}",
        setting.release,
        setting.accel.name()
    );
    put(&docs.join("window.svg"), &plot::svg(samples, &subtitle))?;
    put(
        &docs.join("performance.md"),
        &text(setting, samples, tables, goals),
    )
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", paths::from_here(path).display());
    Ok(())
}

fn text(setting: &Setting, samples: &Samples, tables: &[Table], goals: &Table) -> String {
    let mut text = format!(
        "# Performance\n\n\
         <!-- Written by `{} --write-docs`. -->\n\n\
         How long processes stand still while they are snapshotted, beside what one would use otherwise, and what they pay\n\
         afterwards. Everything was measured in one run, on the same processes, in turn; before each sample all their\n\
         memory was written, so that every one of its pages had to be made copy-on-write again.\n\n{}\n\n\
         ![The window over the size of the process](window.svg)\n",
        setting.command,
        summary(setting, samples)
    );
    // Writing to a String cannot fail.
    let _ = write!(text, "\n{goals}");
    for table in tables {
        let _ = write!(text, "\n{table}");
    }
    text.replace("\n### ", "\n## ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Setting {
        Setting {
            command: "cargo xtask bench window".to_owned(),
            release: "6.12.1".to_owned(),
            accel: Accel::Tcg,
            rounds: 5,
        }
    }

    #[test]
    fn what_was_left_out_is_said() {
        let text = summary(&setting(), &Samples::default());
        assert!(
            text.contains("criu was not measured") && text.contains("emulated"),
            "{text}"
        );
    }

    #[test]
    fn the_document_names_the_command_and_the_kernel() {
        let goals = Table::new("Goals", "", &["x"]);
        let text = text(&setting(), &Samples::default(), &[], &goals);
        assert!(text.contains("cargo xtask bench window") && text.contains("6.12.1"));
        assert!(text.contains("\n## Goals\n"), "{text}");
    }
}
