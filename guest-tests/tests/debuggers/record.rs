//! Where the threads of a target were, by their own account: they keep it in their memory, and so it is of the instant.

use guest_tests::memory::Memory;
use guest_tests::target::Target;

/// Words of a record; see `struct record` in `debuggees/places.c`.
const WORDS: usize = 64;
/// Where in it the places begin.
const PLACES: usize = 8;

/// The functions of the targets that are recorded, by number from 1 on.
const NAMES: [&str; 9] = [
    "serve",
    "descend",
    "wander",
    "await_byte",
    "await_signal",
    "sleep_on",
    "spin",
    "walk",
    "climb",
];

/// A function that a thread was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub function: &'static str,
    /// Its argument.
    pub level: u32,
}

/// Which of the functions is meant by a debugger, if any: names come with a crate or a class, mangled, with a hash, or in another style.
pub fn function(named: &str) -> Option<&'static str> {
    let bare = named.split("::h").next().unwrap_or(named);
    NAMES.into_iter().find(|name| {
        let camel: String = name
            .split('_')
            .enumerate()
            .map(|(index, word)| {
                let (first, rest) = word.split_at(usize::from(index > 0));
                first.to_uppercase() + rest
            })
            .collect();
        bare == *name
            || bare.ends_with(&format!("::{name}"))
            || bare.ends_with(&format!("6places{}{name}", name.len()))
            || bare == format!("Places.{camel}")
    })
}

/// What a thread had recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id, where the target knows it.
    pub tid: u64,
    /// What it had counted to.
    pub count: u64,
    /// The outermost first.
    places: Vec<Place>,
}

/// The records of all threads of a target.
pub fn records(target: &Target, memory: &impl Memory) -> Vec<Record> {
    let count = usize::try_from(target.at("count")).unwrap();
    let words = memory.words(target.pid(), target.at("records"), count * WORDS);
    words.chunks_exact(WORDS).map(Record::new).collect()
}

impl Record {
    fn new(words: &[u64]) -> Self {
        let depth = usize::try_from(words[1]).unwrap();
        let places = words[PLACES..PLACES + depth].iter().map(|word| Place {
            function: NAMES[usize::try_from((word >> 32) - 1).unwrap()],
            level: u32::try_from(word & 0xffff_ffff).unwrap(),
        });
        Self {
            tid: words[0],
            count: words[2],
            places: places.collect(),
        }
    }

    /// The innermost function.
    pub fn innermost(&self) -> &'static str {
        self.places.last().expect("it is somewhere").function
    }

    /// How many functions a backtrace has that are not recorded, which is 1 at the most: the thread may have just entered it, or be
    /// about to leave it.
    ///
    /// # Panics
    ///
    /// When the backtrace (the innermost function first) is not what was recorded.
    pub fn unrecorded(&self, functions: &[&str], name: &str) -> usize {
        let expected: Vec<_> = self.places.iter().rev().map(|place| place.function).collect();
        let more = functions.len().saturating_sub(expected.len());
        assert!(
            more <= 1 && functions[more..] == expected,
            "{name}: the backtrace says {functions:?}, the thread {expected:?}"
        );
        more
    }

    /// The levels, the innermost first.
    pub fn levels(&self) -> impl Iterator<Item = u32> {
        self.places.iter().rev().map(|place| place.level)
    }
}
