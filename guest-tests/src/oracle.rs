//! What must hold in every snapshot of `oracle`, and of its child.

use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::device::{Device, How, Snapshot};
use crate::image::Image;
use crate::target::Target;

/// An oracle that runs, and how large its region is.
pub struct Oracle {
    /// The process.
    pub target: Target,
    pages: usize,
}

impl Oracle {
    /// Starts one; `kind` is `small` or `thp`.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn spawn(pages: usize, kind: &str) -> Self {
        let target = Target::spawn("oracle", &[&pages.to_string(), kind]);
        target.assert_runs();
        Self { target, pages }
    }

    /// Its child.
    ///
    /// # Panics
    ///
    /// Never: pids are small.
    #[must_use]
    pub fn child(&self) -> i32 {
        i32::try_from(self.target.at("child")).expect("pids are small")
    }

    /// A snapshot of both.
    ///
    /// # Panics
    ///
    /// When the take fails.
    #[must_use]
    pub fn take(&self, how: How) -> Snapshot {
        Device::open()
            .take_how(&[self.target.pid(), self.child()], how)
            .unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"))
    }

    /// A snapshot of both, from before everything was written again.
    #[must_use]
    pub fn take_and_wait(&self, how: How) -> Snapshot {
        let snapshot = self.take(how);
        self.overwritten();
        snapshot
    }

    /// Waits until every page has been written again: what is not copy-on-write is wrong by then.
    ///
    /// # Panics
    ///
    /// When the writer stands still.
    pub fn overwritten(&self) {
        let before = self.generation();
        let begin = Instant::now();
        while self.generation() < before + 2 {
            assert!(begin.elapsed() < crate::patience(60), "the writer stands still");
            sleep(Duration::from_millis(5));
        }
    }

    /// The generation of the region's first word now.
    fn generation(&self) -> u64 {
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.target.pid())).unwrap();
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, self.target.at("region")).unwrap();
        u64::from_ne_bytes(word)
    }

    /// Everything that is wrong with the memory of a snapshot; nothing, if the module does its work.
    ///
    /// # Panics
    ///
    /// When the image is not readable.
    #[must_use]
    pub fn wrong(&self, snapshot: &Snapshot) -> Vec<String> {
        let image = Image::open(&snapshot.file);
        let mut wrong = Vec::new();
        wrong.extend(self.wrong_generations(&image));
        wrong.extend(self.wrong_counters(&image));
        wrong.extend(self.wrong_constants(&image));
        let child = self.child();
        let sent = image.word(self.target.pid(), self.target.at("pipe"));
        let received = image.word(child, self.target.at("pipe") + 8);
        if received > sent || sent > received + 65_537 {
            wrong.push(format!("{received} bytes received of {sent} sent"));
        }
        wrong
    }

    fn wrong_generations(&self, image: &Image) -> Option<String> {
        let pages = image.pages(self.target.pid(), self.target.at("region"), self.pages);
        if let Some(missing) = pages.iter().position(Option::is_none) {
            return Some(format!("page {missing} of the region is not in the image"));
        }
        let words: Vec<_> = pages
            .into_iter()
            .flatten()
            .flat_map(|page| page.into_iter().step_by(64))
            .collect();
        let (first, last) = (words[0], words[words.len() - 1]);
        (first - last.min(first) > 1 || last > first || !words.is_sorted_by(|one, next| one >= next))
            .then(|| format!("the generations go from {first} to {last}, not in order"))
    }

    fn wrong_counters(&self, image: &Image) -> Option<String> {
        let count = usize::try_from(self.target.at("count")).unwrap();
        let pages = image.pages(self.target.pid(), self.target.at("counters"), count + 1);
        let words: Vec<_> = pages
            .iter()
            .map(|page| page.as_ref().map_or(0, |page| page[0]))
            .collect();
        let (counters, held) = (&words[..count], words[count] == 1);
        let ahead = counters
            .iter()
            .take_while(|counter| **counter == counters[0])
            .count();
        let rest = &counters[ahead..];
        let explained = rest.is_empty() || held && rest.iter().all(|counter| counter + 1 == counters[0]);
        (!explained).then(|| format!("the counters differ: {counters:?}, lock held: {held}"))
    }

    fn wrong_constants(&self, image: &Image) -> Vec<String> {
        let mut wrong = Vec::new();
        let pages = usize::try_from(self.target.at("constant_pages")).unwrap();
        for pid in [self.target.pid(), self.child()] {
            for (number, page) in image
                .pages(pid, self.target.at("constant"), pages)
                .into_iter()
                .enumerate()
            {
                let expected =
                    (0..512).map(|word| (number as u64 * 512 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                if !page.is_some_and(|page| page.into_iter().eq(expected)) {
                    wrong.push(format!("page {number} shared by fork is wrong in {pid}"));
                }
            }
            for name in ["zero", "untouched"] {
                let pages = image.pages(pid, self.target.at(name), pages);
                if pages.iter().flatten().flatten().any(|word| *word != 0) {
                    wrong.push(format!("{name} pages are not zero in {pid}"));
                }
            }
            for (number, page) in image
                .pages(pid, self.target.at("file"), pages)
                .into_iter()
                .enumerate()
            {
                let written = number % 2 == 0;
                let right = match page {
                    Some(page) => written && page.iter().all(|word| *word == 0x2222_2222_2222_2222),
                    None => !written,
                };
                if !right {
                    wrong.push(format!(
                        "page {number} of the private file mapping is wrong in {pid}"
                    ));
                }
            }
        }
        let shared = image.pages(
            self.target.pid(),
            self.target.at("shared"),
            usize::try_from(self.target.at("shared_pages")).unwrap(),
        );
        let words: Vec<_> = shared
            .iter()
            .map(|page| page.as_ref().map_or(0, |page| page[0]))
            .collect();
        if !words.is_sorted_by(|one, next| one >= next) || words[0] - words[words.len() - 1] > 1 {
            wrong.push(format!("the shared pages are not of one instant: {words:?}"));
        }
        wrong
    }
}
