//! The power fails at every step of a snapshot's life: at the next boot the layer comes up as it must, and every record that was flushed is
//! there.

use guest_tests::disk::base::{Base, Kind::LayerOnPartition};
use guest_tests::disk::fs::Kind;
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{assert_nothing_left, done, list, refused};
use guest_tests::disk::{Disk, dm, origin::Origin};
use guest_tests::reset::{Case, Step};
use guest_tests::sectors::{Bounds, Floor, Grain, Mode, Writer};
use guest_tests::{rounds_of, sh};
use snap_common::phase::Phase;

/// A case's disk, filesystem and writer, before the reset.
fn set_up(kind: Kind) -> (Disk, Place, Writer) {
    let disk = Disk::usual();
    let place = Place::new(&disk, LayerOnPartition, kind);
    let mut writer = place.writer(Mode::Direct);
    writer.goes_on(100);
    (disk, place, writer)
}

/// The disk and the filesystem after the reset, mounted as a boot does it.
fn boot(kind: Kind) -> (Disk, Place) {
    let disk = Disk::found(&["data", "key"]);
    done(&["layer", "up"]);
    let mut place = Place::found(&disk, Base::found(LayerOnPartition), kind);
    place.remount();
    (disk, place)
}

/// All that had been flushed is there, whole.
fn assert_there(place: &Place, must: &Bounds, when: &str) {
    place.mounted().again();
    let wrong = must.wrong(&place.mounted().open("direct"), Grain::Sector);
    assert_eq!(wrong, [""; 0], "{when}");
}

fn assert_over(place: &mut Place) {
    assert_nothing_left();
    assert!(list().is_empty());
    place.mounted().assert_writable();
    place.unmount();
    place.kind.check(&place.base.node);
}

/// The only snapshot there is.
fn only() -> (String, String) {
    let all = list();
    assert_eq!(all.len(), 1, "{all:?}");
    let text = |field: &str| all[0][field].as_str().expect("it is text").to_owned();
    (text("id"), text("state"))
}

fn held(phase: Phase, kind: Kind) {
    let (case, step) = Case::at(&format!("held_{}_{}", phase.name(), kind.name()));
    let must = match step {
        Step::Over => return,
        Step::First => {
            let (_disk, place, mut writer) = set_up(kind);
            // In the window its memory cannot be read, for the module has its lock.
            let before = writer.live(Floor::Flushed);
            let _held = HeldTake::at(phase, &place.what(&[writer.target.pid()]));
            if phase == Phase::Finalize {
                writer.goes_on(100);
            }
            let must = match phase.in_window() {
                true => before,
                false => writer.live(Floor::Flushed),
            };
            case.reset(&must.or_newer().to_text())
        }
        Step::Second(note) => Bounds::from_text(&note),
    };
    let (_disk, mut place) = boot(kind);
    assert_there(&place, &must, "after the boot");
    // Until the filesystem thaws nobody can write, so the store is empty, and not needed.
    if phase <= Phase::ThawFs {
        assert_eq!(dm::target("ff-data"), "linear");
    } else {
        assert_eq!(dm::target("ff-data"), "snapshot");
        let (id, state) = only();
        assert_eq!(state, "active");
        let origin = Origin::mount(&id, &[]).expect("it mounts");
        let whole = Bounds(must.0.iter().map(|_| 1..=u64::MAX).collect());
        assert_eq!(whole.wrong(&origin.open("direct"), Grain::Block), [""; 0]);
        origin.unmount();
        done(&["commit", &id]);
        assert_there(&place, &must, "at the end");
    }
    assert_over(&mut place);
    case.right();
}

#[test]
fn while_a_snapshot_is_taken() {
    for (number, phase) in PHASES.into_iter().enumerate() {
        let kinds = [[Kind::Ext4, Kind::Xfs], [Kind::Xfs, Kind::Ext4]][number % 2];
        for kind in kinds.into_iter().take(rounds_of(1, 2)) {
            held(phase, kind);
        }
    }
}

#[test]
fn while_a_snapshot_is_there() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let (case, step) = Case::at(&format!("active_{}", kind.name()));
        let note = match step {
            Step::Over => continue,
            Step::First => {
                let (_disk, place, mut writer) = set_up(kind);
                let snapshot = place.what(&[writer.target.pid()]).take();
                writer.goes_on(200);
                let instant = writer.bounds(snapshot.memory(), Floor::Written);
                let must = writer.live(Floor::Flushed).or_newer();
                case.reset(&format!("{}\n{}", instant.to_text(), must.to_text()));
            }
            Step::Second(note) => note,
        };
        let (instant, must) = note.split_once('\n').expect("two lines");
        let (instant, must) = (Bounds::from_text(instant), Bounds::from_text(must));
        let (_disk, mut place) = boot(kind);
        assert_there(&place, &must, "after the boot");
        let (id, state) = only();
        assert_eq!(
            (state.as_str(), dm::target("ff-data").as_str()),
            ("active", "snapshot")
        );
        let origin = Origin::mount(&id, &[]).expect("it mounts");
        assert_eq!(instant.wrong(&origin.open("direct"), Grain::Block), [""; 0]);
        origin.unmount();
        done(&["commit", &id]);
        assert_there(&place, &must, "after the commit");
        assert_over(&mut place);
        case.right();
    }
}

#[test]
fn while_a_snapshot_is_there_that_is_discarded_afterwards() {
    for kind in [Kind::Xfs, Kind::Ext4].into_iter().take(rounds_of(1, 2)) {
        let (case, step) = Case::at(&format!("discarded_{}", kind.name()));
        let instant = match step {
            Step::Over => continue,
            Step::First => {
                let (_disk, place, mut writer) = set_up(kind);
                let snapshot = place.what(&[writer.target.pid()]).take();
                let after = place.mounted().path("after");
                sh(&format!("echo after >{after}; sync -f {after}"));
                writer.goes_on(200);
                case.reset(&writer.bounds(snapshot.memory(), Floor::Written).to_text())
            }
            Step::Second(note) => Bounds::from_text(&note),
        };
        let (_disk, mut place) = boot(kind);
        let after = place.mounted().path("after");
        let there = || std::fs::exists(&after).expect("it is readable");
        assert!(there(), "it was flushed");
        let (id, state) = only();
        assert_eq!(
            (state.as_str(), dm::target("ff-data").as_str()),
            ("active", "snapshot")
        );
        place.unmount();
        done(&["discard", &id]);
        assert_eq!(dm::target("ff-data"), "linear");
        place.remount();
        assert!(!there(), "it was written after the instant");
        let wrong = instant.wrong(&place.mounted().open("direct"), Grain::Block);
        assert_eq!(wrong, [""; 0], "as at the instant");
        assert_over(&mut place);
        case.right();
    }
}

#[test]
fn while_a_snapshot_is_committed() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let (case, step) = Case::at(&format!("merging_{}", kind.name()));
        let must = match step {
            Step::Over => continue,
            Step::First => {
                let (_disk, place, mut writer) = set_up(kind);
                let snapshot = place.what(&[]).take();
                sh(&format!(
                    "dd if=/dev/urandom of={} bs=1M count=48 oflag=direct conv=fsync status=none",
                    place.mounted().path("large")
                ));
                writer.goes_on(100);
                let mut commit = std::process::Command::new("freezeframe")
                    .args(["commit", &snapshot.id])
                    .spawn()
                    .expect("freezeframe runs");
                dm::wait_until("the merge", || dm::target("ff-data") == "snapshot-merge");
                let before = used();
                dm::wait_until("some progress", || used() < before);
                assert!(
                    commit.try_wait().expect("it is ours").is_none(),
                    "the merge goes on"
                );
                case.reset(&writer.live(Floor::Flushed).or_newer().to_text())
            }
            Step::Second(note) => Bounds::from_text(&note),
        };
        let (_disk, mut place) = boot(kind);
        assert_there(&place, &must, "after the boot");
        let (id, state) = only();
        assert!(["merging", "interrupted"].contains(&state.as_str()), "{state}");
        refused(&["origin", &id], &[&id, "freezeframe commit"]);
        refused(&["discard", &id], &[&id, "freezeframe commit"]);
        done(&["commit", &id]);
        assert_there(&place, &must, "after the commit");
        assert_over(&mut place);
        case.right();
    }
}

/// The sectors of the store that are in use, its metadata included; none when it is not there.
fn used() -> u64 {
    let status = sh("dmsetup status ff-data");
    let used = status
        .split_whitespace()
        .nth(3)
        .and_then(|field| field.split_once('/'));
    used.map_or(0, |(used, _)| used.parse().expect("a number"))
}
