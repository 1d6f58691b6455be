//! Manifests that make no sense, or do not fit what follows.

use freezeframe::archive::elsewhere::Place;
use freezeframe::archive::read::{ArchiveReader, Fault, ReadError};
use freezeframe::tools::verify::{VerifyArgs, verify};

use crate::common::{Draft, assemble, manifest, member, members, write};
use crate::image_args;
use crate::refused;

fn manifest_says(change: impl Fn(&mut serde_json::Value)) -> ReadError {
    let draft = [Draft::new(1)];
    let mut json = serde_json::to_value(manifest("a", None, &draft)).unwrap();
    change(&mut json);
    let archive = members(&[("manifest.json", &serde_json::to_vec(&json).unwrap())]);
    ArchiveReader::new(archive.as_slice(), "image")
        .map(|_| ())
        .unwrap_err()
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    for version in [0_u64, 1, 3, u64::MAX] {
        let error = manifest_says(|json| json["manifest_version"] = version.into());
        assert!(matches!(error.fault, Fault::Version { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(&version.to_string()) && said.contains("reads 2"),
            "{said}"
        );
    }
    // Of another version nothing else is looked at.
    let error = manifest_says(|json| *json = serde_json::json!({"manifest_version": 9}));
    assert!(matches!(error.fault, Fault::Version { found: 9, .. }), "{error}");
    let damages: [fn(&mut serde_json::Value); 8] = [
        |json| json["manifest_version"] = "2".into(),
        |json| *json = serde_json::json!([]),
        |json| json["processes"][0]["pid"] = 0.into(),
        |json| json["processes"][0]["pid"] = (-1).into(),
        |json| json["processes"][0]["core"] = "core.2".into(),
        |json| json["processes"][0]["state"] = "../x".into(),
        |json| json["processes"][0]["core_bytes"] = (-1).into(),
        |json| {
            let again = json["processes"][0].clone();
            json["processes"].as_array_mut().unwrap().push(again);
        },
    ];
    for damage in damages {
        let error = manifest_says(damage);
        assert!(matches!(error.fault, Fault::Damaged { .. }), "{error}");
    }
    // Deeply nested, in a field that nobody knows.
    let deep = format!(
        "{{\"manifest_version\":2,\"x\":{}{}}}",
        "[".repeat(1 << 20),
        "]".repeat(1 << 20)
    );
    refused(&members(&[("manifest.json", deep.as_bytes())]));
    let state = format!("{{\"pid\":1,\"x\":{}", "{\"x\":".repeat(1 << 20));
    let draft = [Draft::new(1)];
    let json = serde_json::to_vec(&manifest("a", None, &draft)).unwrap();
    let mut tar = Vec::new();
    member(&mut tar, "manifest.json", json.len() as u64, &json, |_| {});
    member(
        &mut tar,
        "process.1.json",
        state.len() as u64,
        state.as_bytes(),
        |_| {},
    );
    let mut reader = ArchiveReader::new(tar.as_slice(), "image").unwrap();
    let error = reader.next_item().unwrap_err();
    assert!(error.to_string().contains("process.1.json"), "{error}");
}

#[test]
fn what_the_manifest_says_of_pages_and_threads_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let drafts = [
        Draft::new(1)
            .memory(0, 4, &[])
            .elsewhere(0, 1, Place::SameArchive, 2, 0),
        Draft::new(2).memory(0, 1, &[1]),
    ];
    let check = |change: fn(&mut freezeframe::archive::manifest::Manifest)| {
        let mut manifest = manifest("a", None, &drafts);
        change(&mut manifest);
        let path = write(folder.path(), "image.tar", &assemble(&manifest, &drafts));
        verify(&VerifyArgs {
            image: image_args(&path),
            alone: false,
            json: false,
        })
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    check(|_| {}).unwrap();
    let said = check(|manifest| manifest.processes[0].pages.elsewhere = 2).unwrap_err();
    assert!(said.contains("the manifest says 2"), "{said}");
    let said = check(|manifest| manifest.processes[1].threads = 7).unwrap_err();
    assert!(said.contains("the manifest says 7"), "{said}");
}
