//! The JSON documents of a joined image. They are changed as JSON, so that fields stay that this release does not know.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde_json::{Error, Map, Value, json};

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
    let fields = object(&mut manifest)?;
    fields.insert("parent".to_owned(), Value::Null);
    for process in list(fields, "processes") {
        let process = object(process)?;
        let pid = process.get("pid").and_then(Value::as_i64);
        let Some(entry) = pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(|pid| entries.get(&pid))
        else {
            continue;
        };
        let here = process.get("pages").and_then(|pages| pages.get("here"));
        let here = here.and_then(Value::as_u64).unwrap_or(0);
        let pages = json!({
            "here": here.saturating_add(entry.from_parents),
            "elsewhere": entry.elsewhere,
            "parent": 0,
        });
        for (field, value) in [
            ("core_bytes", json!(entry.core_bytes)),
            ("pages", pages),
            ("whole_because", Value::Null),
        ] {
            process.insert(field.to_owned(), value);
        }
    }
    Ok(manifest)
}

/// The state of a process that has nothing in a parent any more.
pub(super) fn state(json: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut state: Value = serde_json::from_slice(&json)?;
    let mut changed = false;
    for mapping in list(object(&mut state)?, "mappings") {
        if let Some(pages) = object(mapping)?.get_mut("parent_pages")
            && pages.as_u64() != Some(0)
        {
            *pages = json!(0);
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

/// An object, which serde takes a list of values for, too.
fn object(value: &mut Value) -> Result<&mut Map<String, Value>, Error> {
    value
        .as_object_mut()
        .ok_or_else(|| Error::custom("there is something else where an object should be"))
}

fn list<'a>(fields: &'a mut Map<String, Value>, name: &str) -> impl Iterator<Item = &'a mut Value> {
    fields
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
