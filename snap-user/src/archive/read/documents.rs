//! The documents of an archive, and whether its cores are what they say.

use serde::de::DeserializeOwned;

use super::core::CoreHead;
use crate::archive::elsewhere::Place;
use crate::archive::head::PAGE;
use crate::archive::manifest::ProcessEntry;
use crate::archive::process::Process;

/// Reads a document. serde would take a list of values for an object, too, and whoever changes it as JSON would not find its fields.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no object of JSON".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Reads the state of process `pid`.
pub(super) fn state(json: &[u8], pid: i32) -> Result<Process, String> {
    let process: Process = parse(json).map_err(|error| format!("it is no state of a process: {error}"))?;
    if process.pid != pid {
        return Err(format!("it is the state of process {}", process.pid));
    }
    Ok(process)
}

/// Compares a core, and the number of threads in its process's state, with what the manifest says of them.
pub(super) fn check(entry: &ProcessEntry, head: &CoreHead, threads: usize) -> Result<(), String> {
    let pages = |place| {
        let records = head.elsewhere.iter().filter(|record| record.place == place);
        records.map(|record| record.bytes / PAGE).sum::<u64>()
    };
    for (what, found, said) in [
        (
            "pages in other cores",
            pages(Place::SameArchive),
            entry.pages.elsewhere,
        ),
        ("pages in the parent", pages(Place::Parent), entry.pages.parent),
        ("threads in its state", threads as u64, entry.threads.into()),
    ] {
        if found != said {
            return Err(format!("it has {found} {what}, and the manifest says {said}"));
        }
    }
    Ok(())
}
