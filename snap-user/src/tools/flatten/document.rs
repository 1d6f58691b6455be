//! The JSON documents of a joined image. They are changed as JSON, so that fields stay that this release does not know.

use std::collections::BTreeMap;

use serde_json::{Error, Value, json};

/// What of a process's entry in the manifest is new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Size of its core.
    pub core_bytes: u64,
    /// Pages that came from parents, and are in its core now.
    pub from_parents: u64,
    /// Pages in other cores.
    pub elsewhere: u64,
}

/// The manifest of the joined image. It keeps its `image_id`: it holds the same, and increments to the one are increments to the other.
pub(super) fn manifest(json: &[u8], entries: &BTreeMap<i32, Entry>) -> Result<Value, Error> {
    let mut manifest: Value = serde_json::from_slice(json)?;
    manifest["parent"] = Value::Null;
    for process in manifest["processes"].as_array_mut().into_iter().flatten() {
        let pid = process["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let Some(entry) = pid.and_then(|pid| entries.get(&pid)) else {
            continue;
        };
        process["core_bytes"] = json!(entry.core_bytes);
        let here = process["pages"]["here"].as_u64().unwrap_or(0);
        process["pages"] = json!({
            "here": here.saturating_add(entry.from_parents),
            "elsewhere": entry.elsewhere,
            "parent": 0,
        });
        process["whole_because"] = Value::Null;
    }
    Ok(manifest)
}

/// The state of a process that has nothing in a parent any more.
pub(super) fn state(json: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut state: Value = serde_json::from_slice(&json)?;
    let mut changed = false;
    for mapping in state["mappings"].as_array_mut().into_iter().flatten() {
        if mapping["parent_pages"].as_u64().is_some_and(|pages| pages != 0) {
            mapping["parent_pages"] = json!(0);
            changed = true;
        }
    }
    if !changed {
        return Ok(json);
    }
    let mut text = serde_json::to_vec_pretty(&state)?;
    text.push(b'\n');
    Ok(text)
}
