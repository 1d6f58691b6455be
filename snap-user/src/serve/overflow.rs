//! What is done about a store that fills.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::str::FromStr;

use tokio::process::Command;

use crate::disk::error::DiskError;
use crate::disk::extend::{Extended, extend};
use crate::disk::store::StoreError;
use crate::disk::watch::{Level, Outlook, Reading};
use crate::report::bytes;

/// What the daemon does besides saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnOverflow {
    /// Nothing.
    Warn,
    /// Extends the snapshot's slices, as `freezeframe extend` does.
    Extend,
    /// Runs a command, by the shell.
    Exec(String),
}

impl FromStr for OnOverflow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "warn" => Ok(Self::Warn),
            None if text == "extend" => Ok(Self::Extend),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Exec(command.to_owned())),
            _ => Err("it is warn, extend, or exec:COMMAND".to_owned()),
        }
    }
}

/// Does it.
pub(super) struct Remedy {
    what: OnOverflow,
    /// Snapshots that could not be extended, and why: told once, and tried again, for room may come.
    refused: BTreeMap<String, String>,
}

impl Remedy {
    pub(super) fn new(what: OnOverflow) -> Self {
        Self {
            what,
            refused: BTreeMap::new(),
        }
    }

    /// About one slice, at every look.
    pub(super) async fn apply(
        &mut self,
        reading: &Reading,
        outlook: &Outlook,
        slices: &[(Reading, Outlook)],
    ) {
        match &self.what {
            OnOverflow::Warn => {}
            OnOverflow::Exec(command) => {
                if outlook.news.is_some() {
                    execute(command, reading, outlook);
                }
            }
            OnOverflow::Extend => {
                if matches!(outlook.level, Level::Nearly | Level::Close) {
                    self.extend(reading, slices).await;
                }
            }
        }
    }

    /// Doubles what the snapshot has, or gives it what there is.
    async fn extend(&mut self, reading: &Reading, slices: &[(Reading, Outlook)]) {
        let id = reading.snapshot.clone();
        let size = slices
            .iter()
            .filter(|(other, _)| other.snapshot == id)
            .map(|(other, _)| other.size_bytes)
            .sum();
        let done = tokio::task::spawn_blocking({
            let id = id.clone();
            move || match extend(&id, Some(size)) {
                Err(DiskError::Store(StoreError::Full { .. })) => extend(&id, None),
                other => other,
            }
        });
        let failure = match done.await {
            Ok(Ok(extended)) => {
                self.refused.remove(&id);
                return tell(&id, &extended);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if self.refused.get(&id) != Some(&failure) {
            tell!("the store of {id} is not extended: {failure}");
            self.refused.insert(id, failure);
        }
    }
}

fn tell(id: &str, extended: &[Extended]) {
    for one in extended.iter().filter(|one| one.added_bytes > 0) {
        tell!(
            "extended the store of {id} on {} by {}, to {}",
            one.top,
            bytes(one.added_bytes),
            bytes(one.store_bytes)
        );
    }
}

/// Runs the command, and waits for it elsewhere.
fn execute(command: &str, reading: &Reading, outlook: &Outlook) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .envs(environment(reading, outlook));
    let command = command.to_owned();
    tokio::spawn(async move {
        match shell.status().await {
            Ok(status) if status.success() => {}
            Ok(status) => tell!("`{command}` (--on-overflow): {status}"),
            Err(error) => tell!("cannot run `{command}` (--on-overflow): {error}"),
        }
    });
}

fn environment(reading: &Reading, outlook: &Outlook) -> [(&'static str, String); 6] {
    let seconds = outlook.seconds.map(|seconds| seconds.to_string());
    [
        ("FREEZEFRAME_SNAPSHOT", reading.snapshot.clone()),
        ("FREEZEFRAME_DEVICE", reading.top.clone()),
        ("FREEZEFRAME_USED_BYTES", reading.used_bytes.to_string()),
        ("FREEZEFRAME_SIZE_BYTES", reading.size_bytes.to_string()),
        ("FREEZEFRAME_OVERFLOW_SECONDS", seconds.unwrap_or_default()),
        ("FREEZEFRAME_OVERFLOWED", u8::from(reading.overflowed).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::OnOverflow;

    #[test]
    fn a_remedy_has_a_name() {
        assert_eq!("warn".parse(), Ok(OnOverflow::Warn));
        assert_eq!("extend".parse(), Ok(OnOverflow::Extend));
        assert_eq!(
            "exec:page --who oncall:db".parse(),
            Ok(OnOverflow::Exec("page --who oncall:db".to_owned()))
        );
        for wrong in ["", "exec", "exec:", "exec: ", "extend:1", "panic"] {
            assert!(wrong.parse::<OnOverflow>().is_err(), "{wrong}");
        }
    }
}
