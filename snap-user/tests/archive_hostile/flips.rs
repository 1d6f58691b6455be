//! Archives that are cut, or in which bytes flip.

use std::path::Path;

use freezeframe::archive::elsewhere::Place;
use freezeframe::archive::read::read_head;

use crate::common::{Draft, archive, chain, manifest, members};
use crate::{read, refused};

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let (base, _) = chain();
    assert!(read(&base, &[]).is_ok());
    // tar's end are two blocks of zeros: without all of them it is truncated as well.
    for length in (0..base.len()).step_by(512) {
        let said = refused(&base[..length]);
        assert!(said.contains("truncated"), "{length}: {said}");
    }
    for length in [1, 511, 513, base.len() - 1] {
        refused(&base[..length]);
    }
}

#[test]
fn a_byte_that_flips_anywhere_is_found_or_changes_nothing() {
    let image = archive("a", None, &[Draft::new(1).memory(0, 2, &[1])]);
    let sound = read(&image, &[]).unwrap();
    for index in 0..image.len() {
        // All bits of each byte, and of some bytes one.
        for flip in [0xff, 0x01].into_iter().take(1 + usize::from(index % 4 == 0)) {
            let mut image = image.clone();
            image[index] ^= flip;
            if let Ok(seen) = read(&image, &[]) {
                // Only in the digits of a header's own sum may a byte change and mean the same.
                assert_eq!(seen, sound, "byte {index}");
                assert!((148..156).contains(&(index % 512)), "byte {index} ^ {flip:#x}");
            }
        }
    }
}

#[test]
fn a_byte_that_flips_in_a_chain_never_panics() {
    let (base, child) = chain();
    let sound = read(&child, &[&base]).unwrap();
    for index in (0..child.len()).step_by(7) {
        let mut changed = child.clone();
        changed[index] ^= 0x41;
        if let Ok(seen) = read(&changed, &[&base]) {
            assert_eq!(seen, sound, "byte {index}");
        }
    }
}

/// The same, where whoever changes a byte sets the sums right: then it is up to the structure, and the tools must stand it.
#[test]
fn a_head_that_flips_with_right_sums_never_panics() {
    let draft = Draft::new(1)
        .memory(0, 2, &[1])
        .memory(4, 2, &[])
        .elsewhere(4, 1, Place::SameArchive, 1, 0);
    let core = draft.core();
    let head = core.len() - 4096;
    let manifest = serde_json::to_vec(&manifest("a", None, std::slice::from_ref(&draft))).unwrap();
    let state = draft.state();
    let rebuild = |core: &[u8]| {
        members(&[
            ("manifest.json", &manifest),
            ("process.1.json", &state),
            ("core.1", core),
        ])
    };
    assert!(read(&rebuild(&core), &[]).is_ok());
    for index in 0..head {
        for flip in [0xff, 0x01] {
            let mut core = core.clone();
            core[index] ^= flip;
            let _ = read(&rebuild(&core), &[]);
        }
    }
}

/// Seeds that nobody can read any more would keep the fuzz targets at the door.
#[test]
fn the_seeds_of_the_fuzz_targets_are_sound() {
    let again = "write them again: cargo run -p freezeframe --example fuzz_seeds";
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let seed = |name: &str| std::fs::read(seeds.join(name)).unwrap();
    let base = seed("archive/base.tar");
    for name in ["base", "child", "empty", "one"] {
        let image = seed(&format!("archive/{name}.tar"));
        read(&image, &[&base]).unwrap_or_else(|error| panic!("{error}; {again}"));
    }
    for name in ["core", "empty"] {
        let core = seed(&format!("core_head/{name}"));
        read_head(core.as_slice(), core.len() as u64).unwrap_or_else(|error| panic!("{error}; {again}"));
    }
    let image = seed("image/one.img");
    if let Err(error) = freezeframe::image::Image::read(image.as_slice(), image.len() as u64) {
        panic!("{error}; {again}");
    }
}
