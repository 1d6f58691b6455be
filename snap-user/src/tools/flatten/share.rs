//! Pages of a parent that several processes share stay shared in the joined image: the last of its cores that wants a page has it, and the
//! others say so.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::elsewhere::{Elsewhere, Place};
use crate::archive::read::needs::Need;

/// Where sharing would need more pieces than so many for each stretch, each core gets pages of its own instead.
const MOST_PIECES: usize = 64;
/// And where it would need more pieces than so many in all.
const MOST_IN_ALL: usize = 1 << 25;

/// Pages that a process has elsewhere.
pub(super) type Shared = Vec<(i32, Elsewhere)>;

/// Divides `needs` of one core of a parent into what cores get and what they have elsewhere; `order` is that of the cores in the joined
/// image.
pub(super) fn share(mut needs: Vec<Need>, order: &BTreeMap<i32, usize>) -> (Vec<Need>, Shared) {
    needs.sort_unstable_by_key(|need| need.there);
    let mut end = 0;
    let mut overlap = false;
    for need in &needs {
        overlap |= need.there < end;
        end = end.max(need.end());
    }
    if !overlap {
        return (needs, Vec::new());
    }
    divide(&needs, order).unwrap_or_else(|| (needs, Vec::new()))
}

fn divide(needs: &[Need], order: &BTreeMap<i32, usize>) -> Option<(Vec<Need>, Shared)> {
    let mut edges: Vec<u64> = needs.iter().flat_map(|need| [need.there, need.end()]).collect();
    edges.sort_unstable();
    edges.dedup();
    let rank = |need: &Need| order.get(&need.pid).copied().unwrap_or_default();
    let mut next = needs.iter().enumerate().peekable();
    // Those that cover the stretch at hand; the last has the pages.
    let mut active: BTreeSet<(usize, usize)> = BTreeSet::new();
    let (mut keep, mut shared) = (Vec::<Need>::new(), Shared::new());
    let most = needs.len().saturating_mul(MOST_PIECES).min(MOST_IN_ALL);
    for edge in edges.windows(2) {
        let [begin, end] = *edge else { continue };
        active.retain(|(_, index)| needs[*index].end() > begin);
        while let Some((index, need)) = next.next_if(|(_, need)| need.there <= begin) {
            active.insert((rank(need), index));
        }
        let Some((owner_rank, owner)) = active.last().copied() else {
            continue;
        };
        let owner = needs[owner].part(begin, end);
        for (rank, index) in &active {
            let part = needs[*index].part(begin, end);
            if *rank == owner_rank {
                push_need(&mut keep, part);
            } else {
                push_shared(&mut shared, &part, &owner);
            }
        }
        if keep.len() + shared.len() > most {
            return None;
        }
    }
    Some((keep, shared))
}

/// Adds a need, or lengthens the last.
fn push_need(needs: &mut Vec<Need>, part: Need) {
    match needs.last_mut() {
        Some(last)
            if last.pid == part.pid && last.end() == part.there && last.vaddr + last.bytes == part.vaddr =>
        {
            last.bytes += part.bytes;
        }
        _ => needs.push(part),
    }
}

fn push_shared(shared: &mut Shared, part: &Need, owner: &Need) {
    let record = Elsewhere {
        vaddr: part.vaddr,
        bytes: part.bytes,
        vaddr_there: owner.vaddr,
        pid_there: owner.pid,
        place: Place::SameArchive,
    };
    match shared.last_mut() {
        Some((pid, last))
            if *pid == part.pid
                && last.pid_there == record.pid_there
                && last.vaddr + last.bytes == record.vaddr
                && last.vaddr_there + last.bytes == record.vaddr_there =>
        {
            last.bytes += record.bytes;
        }
        _ => shared.push((part.pid, record)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::share;
    use crate::archive::read::needs::{Hop, Need, Wanted};

    fn need(pid: i32, there: u64, bytes: u64) -> Need {
        Need {
            there,
            bytes,
            pid,
            vaddr: there + 1000,
            hop: Hop::Any,
            wanted: Wanted::Yes,
        }
    }

    #[test]
    fn the_last_core_has_what_several_want() {
        let order = BTreeMap::from([(1, 0), (2, 1), (3, 2)]);
        let (keep, shared) = share(vec![need(1, 0, 10), need(2, 20, 10)], &order);
        assert_eq!((keep.len(), shared.len()), (2, 0), "nothing is shared");
        let (mut keep, shared) = share(vec![need(2, 0, 10), need(1, 5, 10), need(3, 7, 1)], &order);
        keep.sort_by_key(|need| (need.pid, need.there));
        let keep: Vec<_> = keep
            .iter()
            .map(|need| (need.pid, need.there, need.bytes))
            .collect();
        assert_eq!(keep, [(1, 10, 5), (2, 0, 7), (2, 8, 2), (3, 7, 1)]);
        let mut shared: Vec<_> = shared
            .iter()
            .map(|(pid, record)| (*pid, record.vaddr, record.bytes, record.pid_there))
            .collect();
        shared.sort_unstable();
        assert_eq!(
            shared,
            [(1, 1005, 2, 2), (1, 1007, 1, 3), (1, 1008, 2, 2), (2, 1007, 1, 3)]
        );
    }

    #[test]
    fn a_process_that_has_a_page_twice_keeps_both() {
        let order = BTreeMap::from([(1, 0)]);
        let (keep, shared) = share(vec![need(1, 0, 10), need(1, 0, 10)], &order);
        assert_eq!(keep.iter().map(|need| need.bytes).sum::<u64>(), 20);
        assert!(shared.is_empty());
    }
}
