//! The same as `places.c`, in Rust.

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy)]
enum Place {
    Serve = 1,
    Descend,
    Wander,
    AwaitByte,
    AwaitSignal,
    SleepOn,
    Spin,
    Walk,
    Climb,
}

#[repr(C)]
struct Record {
    tid: AtomicU64,
    depth: AtomicU64,
    count: AtomicU64,
    spare: [AtomicU64; 5],
    places: [AtomicU64; 56],
}

struct Note {
    level: i32,
    half: f64,
    name: &'static str,
}

struct Pair {
    first: AtomicU64,
    second: AtomicU64,
}

enum Mood {
    Idle,
    Busy { since: u32, with: &'static str },
}

type Wait = fn(&'static Record, i32);

static RECORDS: [Record; 8] = [const {
    Record {
        tid: AtomicU64::new(0),
        depth: AtomicU64::new(0),
        count: AtomicU64::new(0),
        spare: [const { AtomicU64::new(0) }; 5],
        places: [const { AtomicU64::new(0) }; 56],
    }
}; 8];

static PAIR: Pair = Pair {
    first: AtomicU64::new(0),
    second: AtomicU64::new(0),
};
static GREETING: &str = "frozen in time";
static PRIMES: [u16; 4] = [2, 3, 5, 7];
static MOODS: [Mood; 2] = [
    Mood::Idle,
    Mood::Busy {
        since: 1987,
        with: "rust",
    },
];

static MUTEX: Mutex<()> = Mutex::new(());
static NEVER: Condvar = Condvar::new();
static NAMES: [&str; 16] = [
    "level 0", "level 1", "level 2", "level 3", "level 4", "level 5", "level 6", "level 7", "level 8",
    "level 9", "level 10", "level 11", "level 12", "level 13", "level 14", "level 15",
];

fn raise(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}

fn enter(record: &Record, place: Place, level: i32) {
    let depth = record.depth.load(Ordering::Relaxed);
    let here = (place as u64) << 32 | level as u64;
    record.places[depth as usize].store(here, Ordering::Release);
    record.depth.store(depth + 1, Ordering::Release);
}

fn leave(record: &Record) {
    let depth = record.depth.load(Ordering::Relaxed);
    record.depth.store(depth - 1, Ordering::Release);
}

fn await_byte(record: &'static Record, level: i32) {
    enter(record, Place::AwaitByte, level);
    let (mut reader, _writer) = std::io::pipe().expect("a pipe");
    reader.read_exact(&mut [0]).expect("nobody writes");
    leave(record);
}

fn await_signal(record: &'static Record, level: i32) {
    enter(record, Place::AwaitSignal, level);
    let mut guard = MUTEX.lock().expect("nobody panics");
    loop {
        guard = NEVER.wait(guard).expect("nobody panics");
    }
}

fn sleep_on(record: &'static Record, level: i32) {
    enter(record, Place::SleepOn, level);
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

fn spin(record: &'static Record, level: i32) {
    enter(record, Place::Spin, level);
    let (before, after) = (AtomicU64::new(0), AtomicU64::new(0));
    loop {
        raise(&before);
        raise(&PAIR.first);
        raise(&record.count);
        raise(&PAIR.second);
        raise(&after);
    }
}

fn climb(record: &'static Record, level: i32) {
    enter(record, Place::Climb, level);
    if level > 0 {
        climb(record, level - 1);
    }
    leave(record);
}

fn walk(record: &'static Record, level: i32) {
    enter(record, Place::Walk, level);
    loop {
        for height in 0..24 {
            climb(record, height);
        }
    }
}

fn note(level: i32) -> Note {
    Note {
        level,
        half: f64::from(level) / 2.0,
        name: NAMES[level as usize],
    }
}

fn descend(record: &'static Record, level: i32, wait: Wait) {
    let note = note(level);
    enter(record, Place::Descend, level);
    if level == 0 {
        wait(record, level);
    } else {
        wander(record, note.level - 1, wait);
    }
    leave(record);
    std::hint::black_box((note.half, note.name));
}

fn wander(record: &'static Record, level: i32, wait: Wait) {
    let note = note(level);
    enter(record, Place::Wander, level);
    if level == 0 {
        wait(record, level);
    } else {
        descend(record, note.level - 1, wait);
    }
    leave(record);
    std::hint::black_box((note.half, note.name));
}

static WAITS: [Wait; 6] = [await_byte, await_signal, sleep_on, spin, walk, sleep_on];

fn serve(number: i32) {
    let record = &RECORDS[number as usize];
    let link = std::fs::read_link("/proc/thread-self").expect("proc");
    let tid = link
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok());
    record.tid.store(tid.expect("a number"), Ordering::Relaxed);
    enter(record, Place::Serve, number);
    descend(record, 3 + 2 * number, WAITS[number as usize]);
}

/// The functions that a thread is in before it waits.
fn depth(number: i32) -> u64 {
    1 + (3 + 2 * number as u64 + 1) + 1
}

fn main() {
    let threads = WAITS.len() as i32;
    for number in 1..threads {
        thread::spawn(move || serve(number));
        while RECORDS[number as usize].depth.load(Ordering::Acquire) < depth(number) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let moods = MOODS
        .iter()
        .filter(|mood| {
            matches!(
                mood,
                Mood::Busy {
                    since: 1987,
                    with: "rust"
                }
            )
        })
        .count();
    println!(
        "records {} count {threads} moods {moods}",
        (&raw const RECORDS).addr()
    );
    assert!(!GREETING.is_empty() && PRIMES[0] == 2 && RECORDS[0].spare.len() == 5);
    serve(0);
}
