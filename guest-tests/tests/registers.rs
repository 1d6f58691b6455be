//! The registers in the image are those of the instant, wherever a thread was: on a processor, waiting for one, or asleep.

use std::arch::x86_64::__cpuid_count;
use std::collections::HashMap;

use guest_tests::device::{Device, How, Snapshot};
use guest_tests::image::Image;
use guest_tests::target::Target;
use guest_tests::{has_protection_keys, rounds};
use snap_common::abi;

const NT_PRSTATUS: u32 = 1;
const NT_PRFPREG: u32 = 2;
const NT_X86_XSTATE: u32 = 0x202;

/// The sets that hold the vector registers.
const VECTOR: [u32; 2] = [NT_PRFPREG, NT_X86_XSTATE];

/// Indices into `user_regs_struct`.
const R13: usize = 2;
const R12: usize = 3;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;

/// XMM0 in the area of `fxsave`, with which that of `xsave` begins, too.
const XMM0: usize = 160;

/// Bits of the rights of protection keys that hold the count; those of key 0 are below.
const RIGHTS: u64 = (1 << 30) - 1;

/// With one, each thread can have a processor of its own; with more, some wait for one.
const BUSY: [&str; 2] = ["1", "6"];

#[test]
fn registers_are_of_the_instant() {
    for busy in BUSY {
        let target = Target::spawn("registers", &[busy]);
        for freeze in [abi::FREEZE_SOFT, abi::FREEZE_IPI, abi::FREEZE_SIGNAL] {
            let how = How {
                freeze,
                ..How::default()
            };
            let mut before = HashMap::new();
            for round in 0..rounds(10) {
                let snapshot = Device::open()
                    .take_how(&[target.pid()], how)
                    .unwrap_or_else(|failed| panic!("{failed:?}"));
                let name = format!("{busy} busy, {how:?}, round {round}");
                for (thread, count) in counts(&target, &snapshot, &name) {
                    let earlier = before.insert(thread.clone(), count).unwrap_or(0);
                    assert!(earlier <= count, "{name}, {thread}: {count} after {earlier}");
                }
            }
            assert!(before.values().all(|count| *count > 0), "{before:?}");
        }
    }
}

/// How far each thread is.
fn counts(target: &Target, snapshot: &Snapshot, name: &str) -> Vec<(String, u64)> {
    let image = Image::open(&snapshot.file);
    let process = image.process(target.pid());
    let threads: HashMap<_, _> = image
        .threads(&process)
        .into_iter()
        .map(|thread| (thread.pid, thread))
        .collect();
    let mut counts = Vec::new();
    for kind in ["busy", "calling", "sleeping"] {
        for number in 0..target.at(kind) {
            let thread = format!("{kind}{number}");
            let id = i32::try_from(target.at(&thread)).unwrap();
            let image_thread = &threads[&id];
            let area = target.at(&format!("{thread}_fs"));
            let bases = (image_thread.fs_base, image_thread.gs_base);
            assert_eq!(bases, (area, area + 1), "{name}, {thread}");
            counts.push((
                thread.clone(),
                count(&image.registers(image_thread), area, &format!("{name}, {thread}")),
            ));
        }
    }
    counts
}

/// What the thread has counted to.
fn count(registers: &HashMap<u32, Vec<u8>>, area: u64, name: &str) -> u64 {
    let general = |index: usize| word(registers, NT_PRSTATUS, index * 8);
    assert_eq!((general(FS_BASE), general(GS_BASE)), (area, area + 1), "{name}");
    let [first, last] = [R13, R12].map(general);
    let between = VECTOR.map(|set| word(registers, set, XMM0));
    assert!(
        fit(registers, registers),
        "{name}: {first:x}, {between:x?}, {last:x}"
    );
    last
}

/// Can the general registers of the one be of the same instant as the vector registers of the other?
fn fit(general: &HashMap<u32, Vec<u8>>, vector: &HashMap<u32, Vec<u8>>) -> bool {
    let [first, last] = [R13, R12].map(|index| word(general, NT_PRSTATUS, index * 8));
    VECTOR.iter().all(|set| {
        let between = word(vector, *set, XMM0);
        last <= between && between <= first && first <= last + 1
    }) && rights(vector).is_none_or(|rights| [first, last].map(|count| count & RIGHTS).contains(&rights))
}

/// What the rights of protection keys say of the count.
fn rights(registers: &HashMap<u32, Vec<u8>>) -> Option<u64> {
    const PKRU: u32 = 9;
    // Where `xsave` has them, in its standard format.
    let at = has_protection_keys().then(|| __cpuid_count(0xd, PKRU).ebx)?;
    let word = word(registers, NT_X86_XSTATE, usize::try_from(at).expect("small"));
    Some(word >> 2 & RIGHTS)
}

fn word(registers: &HashMap<u32, Vec<u8>>, set: u32, at: usize) -> u64 {
    let bytes = registers
        .get(&set)
        .unwrap_or_else(|| panic!("no set {set:#x} of registers"));
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[test]
fn registers_of_two_instants_do_not_fit() {
    let target = Target::spawn("registers", &["1"]);
    let busy = i32::try_from(target.at("busy0")).unwrap();
    let [first, second] = [(); 2].map(|()| {
        let snapshot = Device::open().take(&[target.pid()], 0);
        let snapshot = snapshot.unwrap_or_else(|failed| panic!("{failed:?}"));
        let image = Image::open(&snapshot.file);
        let threads = image.threads(&image.process(target.pid()));
        let thread = threads.iter().find(|thread| thread.pid == busy);
        image.registers(thread.expect("the thread is in the image"))
    });
    assert!(fit(&first, &first) && fit(&second, &second));
    assert!(!fit(&first, &second) && !fit(&second, &first));
}
