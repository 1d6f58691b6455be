//! Files that appear all at once, or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::output::{OutputError, PartialFile};

/// What was left of the files that a tool was to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// All of them: they were whole already.
    Whole,
}

/// The files that a tool writes. Whoever holds a clone can take them away at any moment, also while the tool waits for its input.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    state: Arc<Mutex<State>>,
    abandoned: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// With the path that each will have.
    files: Vec<(PathBuf, PartialFile)>,
    whole: bool,
}

impl Scratch {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    ///
    /// When there is something already, or the folder takes no file.
    pub fn create(&self, path: &Path) -> Result<File, OutputError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.go_on(path)?;
        let partial = PartialFile::create(path)?;
        let file = partial.handle()?;
        state.files.push((path.to_owned(), partial));
        Ok(file)
    }

    /// Gives all files their names. Where that fails for one, none is left.
    ///
    /// # Errors
    ///
    /// When the disk does not take them, or somebody else took a name.
    pub fn finish(&self) -> Result<(), OutputError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = Vec::new();
        for (path, partial) in std::mem::take(&mut state.files) {
            if let Err(error) = self.go_on(&path).and_then(|()| partial.finish()) {
                remove(&named);
                return Err(put_away(error)); // the others go as they are dropped
            }
            named.push(path);
        }
        state.whole = true;
        Ok(())
    }

    /// Removes all files that have not been finished, and lets no other begin.
    #[must_use]
    pub fn abandon(&self) -> Left {
        self.abandoned.store(true, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.files.clear();
        if state.whole { Left::Whole } else { Left::Nothing }
    }

    fn go_on(&self, path: &Path) -> Result<(), OutputError> {
        if self.abandoned.load(Ordering::SeqCst) {
            return Err(OutputError::Write {
                path: path.to_owned(),
                source: std::io::ErrorKind::Interrupted.into(),
            });
        }
        Ok(())
    }
}

/// One that has no name is of no use without the others.
fn put_away(error: OutputError) -> OutputError {
    match error {
        OutputError::Rename {
            path,
            partial,
            source,
        } => {
            remove(&[partial]);
            OutputError::Write { path, source }
        }
        other => other,
    }
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = std::fs::remove_file(path) {
            tell!("cannot remove {}: {error}", path.display());
        }
    }
}

/// What the kernel grants at the most, where nobody has changed `fs.nr_open`.
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// Lets this process have as many descriptors as it may: a file takes two until it is finished.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS));
    // Where it is refused, few processes fit still, and many get an error of their own.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Left, OutputError, Scratch};

    fn names(folder: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_appear_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let scratch = Scratch::default();
        scratch.create(&a).unwrap();
        scratch.create(&b).unwrap();
        assert!(!a.exists());
        fs::write(&b, "theirs").unwrap();
        scratch.finish().unwrap_err();
        assert_eq!(names(folder.path()), ["b"]);
        assert_eq!(fs::read(&b).unwrap(), b"theirs");
        fs::remove_file(&b).unwrap();
        let scratch = Scratch::default();
        scratch.create(&a).unwrap();
        scratch.create(&b).unwrap();
        scratch.finish().unwrap();
        assert_eq!(names(folder.path()), ["a", "b"]);
        assert_eq!(scratch.abandon(), Left::Whole);
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn what_cannot_have_its_name_goes_with_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (a, gone) = (folder.path().join("a"), folder.path().join("gone"));
        fs::create_dir(&gone).unwrap();
        let scratch = Scratch::default();
        scratch.create(&a).unwrap();
        scratch.create(&gone.join("b")).unwrap();
        let away = folder.path().join("elsewhere");
        fs::rename(&gone, &away).unwrap();
        let error = scratch.finish().unwrap_err();
        assert!(matches!(error, OutputError::Write { .. }), "{error}");
        assert_eq!(names(folder.path()), ["elsewhere"]);
    }

    #[test]
    fn what_is_abandoned_leaves_nothing_and_begins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::default();
        scratch.create(&folder.path().join("a")).unwrap();
        assert_eq!(scratch.clone().abandon(), Left::Nothing);
        assert!(scratch.create(&folder.path().join("b")).is_err());
        scratch.finish().unwrap();
        assert!(names(folder.path()).is_empty());
    }
}
