//! References and chains that lead nowhere, and what is left of an extraction then.

use freezeframe::archive::elsewhere::{Elsewhere, Place};
use freezeframe::archive::head::{PAGE, push_note};
use freezeframe::archive::{NOTE_ELSEWHERE, NOTE_OWNER};
use freezeframe::tools::extract::{ExtractArgs, extract};
use freezeframe::tools::scratch::Scratch;

use crate::common::{Draft, archive, names, write};
use crate::read;
use crate::{head_of, image_args};

#[test]
fn references_that_lead_nowhere_are_refused() {
    let target = Draft::new(2).memory(0, 4, &[1, 2]).memory(8, 1, &[3]);
    let from = |draft: Draft| [draft, target.clone()];
    let page = |place, pid, there| {
        Draft::new(1)
            .memory(0, 4, &[1])
            .elsewhere(2, 1, place, pid, there)
    };
    let taken = |drafts: &[Draft]| read(&archive("a", None, drafts), &[]);
    assert!(taken(&from(page(Place::SameArchive, 2, 1))).is_ok());
    assert!(
        taken(&from(page(Place::SameArchive, 1, 0))).is_ok(),
        "to its own data"
    );
    for (what, draft) in [
        ("at itself", page(Place::SameArchive, 1, 2)),
        ("to a hole of its own", page(Place::SameArchive, 1, 3)),
        ("to a hole", page(Place::SameArchive, 2, 2)),
        ("to nothing", page(Place::SameArchive, 2, 5)),
        ("behind the end", page(Place::SameArchive, 2, 9)),
        ("to nobody", page(Place::SameArchive, 3, 0)),
        ("to pid 0", page(Place::SameArchive, 0, 0)),
        ("to a negative pid", page(Place::SameArchive, -2, 0)),
        ("to no parent", page(Place::Parent, 2, 0)),
        (
            "more than there is",
            Draft::new(1)
                .memory(0, 4, &[])
                .elsewhere(0, 3, Place::SameArchive, 2, 0),
        ),
        (
            "over its own data",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(0, 1, Place::SameArchive, 2, 0),
        ),
        (
            "in no segment",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(4, 1, Place::SameArchive, 2, 0),
        ),
        (
            "over the end of a segment",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(3, 2, Place::SameArchive, 2, 0),
        ),
        (
            "twice",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(2, 1, Place::SameArchive, 2, 0)
                .elsewhere(2, 1, Place::SameArchive, 2, 0),
        ),
        (
            "not sorted",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(3, 1, Place::SameArchive, 2, 0)
                .elsewhere(2, 1, Place::SameArchive, 2, 0),
        ),
        (
            "none",
            Draft::new(1)
                .memory(0, 4, &[1])
                .elsewhere(2, 0, Place::SameArchive, 2, 0),
        ),
    ] {
        assert!(taken(&from(draft)).is_err(), "{what}");
    }
    let backwards = [target.clone(), page(Place::SameArchive, 2, 0)];
    assert!(taken(&backwards).is_err(), "backwards");
    let chained = [
        page(Place::SameArchive, 2, 2),
        target.clone().elsewhere(2, 1, Place::SameArchive, 3, 0),
        Draft::new(3).memory(0, 1, &[1]),
    ];
    assert!(taken(&chained).is_err(), "two hops");

    let numbers = |change: fn(&mut Elsewhere)| {
        let mut draft = page(Place::SameArchive, 2, 1);
        change(&mut draft.elsewhere[0]);
        taken(&from(draft)).is_err()
    };
    let damages: [fn(&mut Elsewhere); 6] = [
        |one| one.vaddr += 1,
        |one| one.bytes += 1,
        |one| one.bytes = u64::MAX - 4095,
        |one| one.vaddr_there += 8,
        |one| one.vaddr_there = u64::MAX - 4095,
        |one| one.vaddr = u64::MAX - 4095,
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        assert!(numbers(damage), "{index}");
    }
    let mut notes = Vec::new();
    push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &[0; 31]);
    assert!(head_of(&[], &notes, PAGE).is_err(), "half a record");
    let mut record = page(Place::SameArchive, 2, 1).elsewhere[0].to_bytes();
    record[28] = 7;
    let mut notes = Vec::new();
    push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &record);
    assert!(head_of(&[], &notes, PAGE).is_err(), "a place that nobody knows");
}

#[test]
fn chains_that_lead_nowhere_or_in_circles_are_refused() {
    let page = |pid, there| {
        [Draft::new(1)
            .memory(0, 4, &[])
            .elsewhere(2, 1, Place::Parent, pid, there)]
    };
    let child = archive("a", Some("b"), &page(1, 2));
    let holder = archive("b", None, &[Draft::new(1).memory(0, 4, &[1, 2, 3])]);
    assert!(read(&child, &[&holder]).is_ok());
    for wrong in [page(1, 3), page(1, 4), page(2, 0)] {
        let wrong = archive("a", Some("b"), &wrong);
        assert!(read(&wrong, &[&holder]).is_err());
    }
    // a is an increment to b, b to a: each sends the other on, for ever.
    let b = archive("b", Some("a"), &page(1, 2));
    let said = read(&child, &[&b, &child]).unwrap_err().to_string();
    assert!(said.contains("its own parent"), "{said}");
    let own = archive("a", Some("a"), &page(1, 2));
    let said = read(&own, &[&own]).unwrap_err().to_string();
    assert!(said.contains("its own parent"), "{said}");
}

/// Whatever is wrong, there is nothing in the folder afterwards, and nothing beside it.
#[test]
fn nothing_is_left_of_an_extraction_that_fails() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let image = archive("a", None, &[Draft::new(1).memory(0, 4, &[1, 2]), Draft::new(2)]);
    for cut in (0..image.len()).step_by(512) {
        let path = write(outer.path(), "image.tar", &image[..cut]);
        let args = ExtractArgs {
            image: image_args(&path),
            pids: Vec::new(),
            folder: folder.clone(),
        };
        assert!(extract(&args, &Scratch::default()).is_err());
        assert!(names(&folder).is_empty(), "{cut}");
    }
    assert_eq!(names(outer.path()), ["folder", "image.tar"]);
}
