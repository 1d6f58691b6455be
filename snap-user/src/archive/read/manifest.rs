//! The manifest, read and checked before anything else.

use std::collections::BTreeMap;
use std::io::Read;

use super::documents;
use super::error::Fault;
use super::member::{Input, Member};
use crate::archive::manifest::{MANIFEST_VERSION, Manifest};
use crate::archive::{core_name, state_name};

/// The version is looked at before anything else: other versions may have other fields.
#[derive(serde::Deserialize)]
struct Version {
    manifest_version: u64,
}

/// Reads the manifest, which is the content of `member`.
pub(super) fn parse<R: Read>(json: &[u8], member: &Member, input: &Input<R>) -> Result<Manifest, Fault> {
    let damaged = |error| member.damaged(input, format!("it is no manifest: {error}"));
    let version: Version = documents::parse(json).map_err(damaged)?;
    if version.manifest_version != u64::from(MANIFEST_VERSION) {
        return Err(Fault::Version {
            found: version.manifest_version,
            wanted: MANIFEST_VERSION,
        });
    }
    documents::parse(json).map_err(damaged)
}

/// Checks what the manifest says of its members, and returns where each process is in it.
pub(super) fn check(manifest: &Manifest) -> Result<BTreeMap<i32, usize>, String> {
    let mut cores = BTreeMap::new();
    for (index, entry) in manifest.processes.iter().enumerate() {
        let pid = entry.pid;
        if pid <= 0 {
            return Err(format!("there is no process {pid}"));
        }
        if entry.state != state_name(pid) || entry.core != core_name(pid) {
            return Err(format!("the members of process {pid} have other names"));
        }
        if cores.insert(pid, index).is_some() {
            return Err(format!("process {pid} comes twice"));
        }
    }
    Ok(cores)
}
