//! What has no freezing of its own is read-only for the instant, with the descriptors that are open for writing, and afterwards as it
//! was; and unions: a filesystem that stays as it is, with an overlay over it.

mod instant;
mod union;

use guest_tests::disk::MOUNTS;
use guest_tests::disk::snapshot::What;
use guest_tests::sh;
use guest_tests::target::Target;

const EBADF: &str = "9";
const EACCES: &str = "13";

/// A filesystem without a device, unmounted when it goes out of scope.
struct Place(String);

impl Place {
    fn tmpfs(name: &str) -> Self {
        let dir = format!("{MOUNTS}/{name}");
        sh(&format!("mkdir -p {dir}; mount -t tmpfs {name} {dir}"));
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    fn scribe(&self, files: &[&str]) -> Scribe {
        let paths: Vec<_> = files.iter().map(|name| self.path(name)).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        Scribe(Target::spawn("scribe", &paths))
    }

    fn what(&self) -> What<'_> {
        What {
            mounts: vec![&self.0],
            more: vec!["--unfreezable", "remount-ro", "--deadline", "60000"],
            ..What::default()
        }
    }

    /// Nobody has it open by now: every counter of writers is 0, and it goes as it always did.
    fn assert_goes(self) {
        sh(&format!(
            "mkdir -p {0}/folder; touch {0}/folder/file; rm -r {0}/folder
             mount -o remount,ro {0}
             if touch {0}/file 2>/dev/null; then exit 1; fi
             mount -o remount,rw {0}
             touch {0}/file
             umount {0}",
            self.0
        ));
        std::mem::forget(self);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that fails has more to say than this.
        let _ = std::process::Command::new("umount")
            .args(["-l", &self.0])
            .output();
    }
}

/// A running `scribe`.
struct Scribe(Target);

impl Scribe {
    fn tell(&mut self, command: &str) -> String {
        self.0.tell(command).trim().to_owned()
    }

    fn assert_writes(&mut self) {
        for command in ["write 0", "pwrite 0", "map 0", "store 0"] {
            assert_eq!(self.tell(command), "0", "{command}");
        }
    }

    fn assert_downgraded(&mut self) {
        for (command, error) in [
            ("write 0", EBADF),
            ("pwrite 0", EBADF),
            ("map 0", EACCES),
            ("read 0", "0"),
        ] {
            assert_eq!(self.tell(command), error, "{command}");
        }
    }
}
