//! `diff`: two images, page by page.

use std::path::Path;

use freezeframe::tools::diff::{DiffArgs, Difference, ProcessDifference, diff};
use freezeframe::tools::input::ParentArgs;

use crate::common::{Draft, archive, chain, write};

fn difference(folder: &Path, a: &[u8], b: &[u8]) -> Difference {
    let args = DiffArgs {
        a: write(folder, "a.tar", a).into(),
        b: write(folder, "b.tar", b).into(),
        parents: ParentArgs::default(),
        json: false,
    };
    diff(&args).unwrap()
}

#[test]
fn differences_are_found_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let before = [
        Draft::new(1)
            .memory(0, 4, &[1, 2, 3])
            .memory(10, 2, &[5])
            .descriptor(0, "/dev/null", 0)
            .descriptor(3, "/srv/log", 10)
            .descriptor(4, "/srv/old", 0),
        Draft::new(2),
    ];
    let mut after = Draft::new(1)
        .memory(0, 6, &[1, 9, 3, 4])
        .memory(20, 1, &[1])
        .descriptor(0, "/dev/null", 0)
        .descriptor(3, "/srv/log", 30)
        .descriptor(5, "/srv/new", 0);
    after.threads.push(17);
    let found = difference(
        folder.path(),
        &archive("a", None, &before),
        &archive("b", None, &[after, Draft::new(3)]),
    );
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["come"][0]["id"], 3);
    assert_eq!(json["gone"][0]["id"], 2);
    let process = &json["processes"][0];
    assert_eq!(process["threads_come"][0]["id"], 17);
    let changes: Vec<_> = process["descriptors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["fd"].as_i64().unwrap(), change["change"].as_str().unwrap()))
        .collect();
    assert_eq!(changes, [(3, "within"), (4, "gone"), (5, "come")]);
    assert_eq!(process["descriptors"][0]["position"], serde_json::json!([10, 30]));
    let mappings = process["mappings"].as_array().unwrap();
    assert_eq!(mappings.len(), 3);
    assert_eq!(mappings[0]["change"], "changed");
    assert_eq!(mappings[0]["grown_bytes"], 2 * 4096);
    assert_eq!(
        mappings[0]["pages"],
        serde_json::json!({"same": 2, "changed": 1, "new": 1, "gone": 0})
    );
    assert_eq!(mappings[1]["change"], "gone");
    assert_eq!(mappings[2]["change"], "come");
    assert_eq!(
        process["pages"],
        serde_json::json!({"same": 2, "changed": 1, "new": 2, "gone": 1})
    );
}

#[test]
fn an_increment_is_compared_with_its_parent_and_with_others() {
    let folder = tempfile::tempdir().unwrap();
    let (base, child) = chain();
    write(folder.path(), "base.tar", &base);
    let child_to_base = difference(folder.path(), &base, &child);
    let counts = |difference: &Difference| -> Vec<_> {
        let processes = difference.processes.iter().map(|process| process.pages);
        processes
            .map(|pages| (pages.same, pages.changed, pages.new, pages.gone))
            .collect()
    };
    // 10: page 0 changed, page 12 is new. 20: page 33 is gone, page 40 is new.
    assert_eq!(counts(&child_to_base), [(3, 1, 1, 0), (3, 0, 1, 1)]);
    let same = difference(folder.path(), &child, &child);
    assert_eq!(counts(&same), [(5, 0, 0, 0), (4, 0, 0, 0)]);
    assert!(same.processes.iter().all(ProcessDifference::is_none));
}
