//! Heads of cores that make no sense.

use freezeframe::archive::head::{PAGE, Segment, head, push_note};
use freezeframe::archive::read::{Fault, read_head};
use freezeframe::archive::{NOTE_OWNER, NOTE_STATE};

use crate::common::at;
use crate::head_of;

#[test]
fn heads_of_cores_that_make_no_sense_are_refused() {
    let good = Segment {
        vaddr: at(0),
        memory_bytes: 2 * PAGE,
        file_bytes: PAGE,
        offset: PAGE,
        flags: 6,
    };
    head_of(&[good], b"", 2 * PAGE).unwrap();
    type Damage = fn(&mut Segment);
    let damages: [Damage; 12] = [
        |one| one.vaddr += 1,
        |one| one.vaddr = 0_u64.wrapping_sub(PAGE),
        |one| one.memory_bytes = 0,
        |one| one.memory_bytes = u64::MAX - 4095,
        |one| one.memory_bytes += 1,
        |one| one.file_bytes = 3 * PAGE,
        |one| one.file_bytes = 1,
        |one| one.offset = 0,
        |one| one.offset = PAGE + 512,
        |one| one.offset = 2 * PAGE,
        |one| one.offset = 1 << 40,
        |one| one.offset = u64::MAX - 4095,
    ];
    for (index, damage) in damages.iter().enumerate() {
        let mut segment = good;
        damage(&mut segment);
        assert!(head_of(&[segment], b"", 2 * PAGE).is_err(), "{index}");
    }
    assert!(head_of(&[good, good], b"", 2 * PAGE).is_err(), "they overlap");
    let other = Segment { vaddr: at(8), ..good };
    assert!(
        head_of(&[good, other], b"", 2 * PAGE).is_err(),
        "their data overlap"
    );
    assert!(
        head_of(
            &[
                other,
                Segment {
                    offset: 2 * PAGE,
                    ..good
                }
            ],
            b"",
            3 * PAGE
        )
        .is_err(),
        "they are not sorted"
    );
    assert!(head_of(&[good], b"", 3 * PAGE).is_err(), "something follows");
    for notes in [
        &b"x"[..],
        &[0xff; 12],
        &[0xff; 64],
        &[4, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert!(head_of(&[], notes, PAGE).is_err(), "{notes:?}");
    }
}

/// A million program headers are claimed, and few are there: by `e_phnum`, and by the section header of `PN_XNUM`.
#[test]
fn program_headers_that_are_claimed_take_no_memory() {
    let mut small = head(&[], b"");
    small[56..58].copy_from_slice(&0xfffe_u16.to_le_bytes());
    assert!(read_head(small.as_slice(), small.len() as u64).is_err());
    assert!(matches!(
        read_head(small.as_slice(), 1 << 40),
        Err(Fault::Damaged { .. } | Fault::Truncated { .. })
    ));
    for count in [1_000_000_u64, 19_000_000, 1 << 40, u64::MAX / 56] {
        let mut small = head(&[], b"");
        small[56..58].copy_from_slice(&0xffff_u16.to_le_bytes());
        let section = 64_u64.wrapping_add(count.wrapping_mul(56));
        small[40..48].copy_from_slice(&section.to_le_bytes());
        assert!(read_head(small.as_slice(), u64::MAX).is_err(), "{count}");
        assert!(
            read_head(small.as_slice(), small.len() as u64).is_err(),
            "{count}"
        );
    }
    // And that many that are there are taken.
    let segments: Vec<_> = (0..70_000)
        .map(|index| Segment {
            vaddr: at(2 * index),
            memory_bytes: PAGE,
            ..Segment::default()
        })
        .collect();
    let many = head(&segments, b"");
    let found = read_head(many.as_slice(), many.len() as u64).unwrap();
    assert_eq!(found.segments, segments);
}

/// Otherwise `flatten` would not find it again, and leave the old one in the core.
#[test]
fn a_state_is_known_by_the_whole_name_of_its_owner() {
    let state = |owner: &str| {
        let mut notes = Vec::new();
        push_note(&mut notes, owner, NOTE_STATE, b"{}");
        let core = head(&[], &notes);
        read_head(core.as_slice(), core.len() as u64).unwrap().state
    };
    assert_eq!(state(NOTE_OWNER), Some(blake3::hash(b"{}")));
    assert_eq!(state(&format!("{NOTE_OWNER}\0x")), None);
}
