//! The head of a core: headers and notes of any kind.

#![no_main]

use freezeframe::archive::read::read_head;
use freezeframe::tools::place::{find, lay_out};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The size is that of the input, or one that it only claims.
    for size in [bytes.len() as u64, 1 << 40] {
        let Ok(head) = read_head(bytes, size) else {
            continue;
        };
        let mut last = 0;
        for range in head.ranges() {
            assert!(range.vaddr >= last && range.bytes != 0, "sorted, and not empty");
            last = range.end();
        }
        let data = head.ranges().map(|range| (range.vaddr, range.bytes));
        let layout = lay_out(&head.segments, data, head.notes.len());
        for range in head.ranges() {
            assert!(find(&layout.placed, range.vaddr, range.bytes).is_some());
        }
        let memory = |segments: &[freezeframe::archive::head::Segment]| -> u128 {
            segments
                .iter()
                .map(|segment| u128::from(segment.memory_bytes))
                .sum()
        };
        assert_eq!(memory(&head.segments), memory(&layout.segments));
    }
});
