//! Which program goes where.

use std::any::Any;
use std::error::Error;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};

/// A program, and whether it sees anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name in the object.
    pub program: String,
    /// Whether it is attached.
    pub state: AttachState,
}

/// Whether a program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachState {
    /// It sees its events.
    Attached,
    /// Loaded, and attached while a snapshot is open, or active on disk.
    Detached,
    /// This kernel has no such hook, or refuses it.
    Unavailable(String),
}

/// The programs of the COW path.
const COW: [&str; 4] = [
    "do_wp_page_entry",
    "do_wp_page_exit",
    "folio_add_new_anon_rmap_entry",
    "page_add_new_anon_rmap_entry",
];

/// The programs of the stores.
const STORES: [&str; 4] = [
    "copy_callback_entry",
    "dm_kcopyd_prepare_callback_entry",
    "pending_complete_entry",
    "start_copy_entry",
];

/// When a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// From the beginning: an idle machine pays nothing for it.
    Always,
    /// While the COW breaks of some process are counted.
    TargetsAreWatched,
    /// While what goes into stores is counted.
    StoresAreWatched,
}

impl When {
    pub(super) fn of(program: &str) -> Self {
        if COW.contains(&program) {
            Self::TargetsAreWatched
        } else if STORES.contains(&program) {
            Self::StoresAreWatched
        } else {
            Self::Always
        }
    }
}

/// Functions that bear another name on other kernels: one of each pair is enough.
const RENAMED: [(&str, &str); 3] = [
    ("freeze_bdev", "bdev_freeze"),
    ("thaw_bdev", "bdev_thaw"),
    ("page_add_new_anon_rmap", "folio_add_new_anon_rmap"),
];

/// The programs that see nothing on this kernel, under neither name.
pub(super) fn missing(attached: &[Attached]) -> impl Iterator<Item = (&str, &str)> {
    let unavailable = |entry: &Attached| matches!(entry.state, AttachState::Unavailable(_));
    let stands_in = move |function: &str| {
        let other = RENAMED.iter().find_map(|(old, new)| match function {
            name if name == *old => Some(*new),
            name if name == *new => Some(*old),
            _ => None,
        });
        let is_other = |entry: &Attached| Some(function_of(&entry.program)) == other;
        attached
            .iter()
            .any(|entry| is_other(entry) && !unavailable(entry))
    };
    attached.iter().filter_map(move |entry| match &entry.state {
        AttachState::Unavailable(why) if !stands_in(function_of(&entry.program)) => {
            Some((entry.program.as_str(), why.as_str()))
        }
        _ => None,
    })
}

/// The kernel function that a program watches.
fn function_of(program: &str) -> &str {
    program.trim_end_matches("_entry").trim_end_matches("_exit")
}

/// Loads every program and attaches those that are always.
pub(super) fn load_all(ebpf: &mut Ebpf, btf: &Btf) -> Vec<Attached> {
    let mut attached: Vec<_> = ebpf
        .programs_mut()
        .map(|(name, program)| {
            let state = match load(name, program, btf) {
                Err(error) => AttachState::Unavailable(reason(&error)),
                Ok(()) if When::of(name) == When::Always => attach(name, program),
                Ok(()) => AttachState::Detached,
            };
            Attached {
                program: name.to_owned(),
                state,
            }
        })
        .collect();
    attached.sort_by(|one, other| one.program.cmp(&other.program));
    attached
}

fn load(name: &str, program: &mut Program, btf: &Btf) -> Result<(), ProgramError> {
    let function = function_of(name);
    match program {
        Program::FEntry(program) => program.load(function, btf),
        Program::FExit(program) => program.load(function, btf),
        Program::RawTracePoint(program) => program.load(),
        Program::KProbe(program) => program.load(),
        _ => Ok(()),
    }
}

fn attach(name: &str, program: &mut Program) -> AttachState {
    let done = match program {
        Program::FEntry(program) => program.attach().map(drop),
        Program::FExit(program) => program.attach().map(drop),
        Program::RawTracePoint(program) => program.attach(name).map(drop),
        _ => Ok(()),
    };
    match done {
        Ok(()) => AttachState::Attached,
        Err(error) if matches!(program, Program::RawTracePoint(_)) => AttachState::Unavailable(format!(
            "{}; tried again at each snapshot (is the module loaded?)",
            reason(&error)
        )),
        Err(error) => AttachState::Unavailable(reason(&error)),
    }
}

/// Attaches the tracepoints that were not there before: those of a module that was loaded after us.
pub(super) fn retry(ebpf: &mut Ebpf, attached: &mut [Attached]) {
    for entry in attached
        .iter_mut()
        .filter(|entry| matches!(entry.state, AttachState::Unavailable(_)))
    {
        if let Some(program @ Program::RawTracePoint(_)) = ebpf.program_mut(&entry.program) {
            entry.state = attach(&entry.program, program);
        }
    }
}

/// The innermost cause: the outer ones only say that something failed.
fn reason(error: &ProgramError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Programs that are attached for a while; dropping them detaches them, and they stay loaded.
pub(super) type Links = Vec<Box<dyn Any + Send>>;

/// Attaches the programs of a while. Those that could not be attached the last time are tried again: their module may be loaded
/// now.
pub(super) fn attach_while(ebpf: &mut Ebpf, attached: &mut [Attached], when: When) -> Links {
    let mut links = Links::new();
    for entry in attached
        .iter_mut()
        .filter(|entry| When::of(&entry.program) == when && entry.state != AttachState::Attached)
    {
        let Some(program) = ebpf.program_mut(&entry.program) else {
            continue;
        };
        entry.state = match hold(function_of(&entry.program), program) {
            Ok(link) => {
                links.push(link);
                AttachState::Attached
            }
            // It could not be loaded, and the reason for that is noted.
            Err(ProgramError::NotLoaded) => continue,
            Err(error) => AttachState::Unavailable(reason(&error)),
        };
    }
    links
}

fn hold(function: &str, program: &mut Program) -> Result<Box<dyn Any + Send>, ProgramError> {
    match program {
        Program::FEntry(program) => {
            let link = program.attach()?;
            Ok(Box::new(program.take_link(link)?))
        }
        Program::FExit(program) => {
            let link = program.attach()?;
            Ok(Box::new(program.take_link(link)?))
        }
        Program::KProbe(program) => {
            let link = program.attach(function, 0)?;
            Ok(Box::new(program.take_link(link)?))
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Notes that the programs of a while see nothing any more.
pub(super) fn note_detached(attached: &mut [Attached], when: When) {
    for entry in attached.iter_mut() {
        if When::of(&entry.program) == when && entry.state == AttachState::Attached {
            entry.state = AttachState::Detached;
        }
    }
}

/// Notes why the programs of a while see nothing.
pub(super) fn note_unavailable(attached: &mut [Attached], when: When, why: &str) {
    for entry in attached
        .iter_mut()
        .filter(|entry| When::of(&entry.program) == when)
    {
        entry.state = AttachState::Unavailable(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::{AttachState, Attached, missing};

    fn program(program: &str, state: AttachState) -> Attached {
        Attached {
            program: program.to_owned(),
            state,
        }
    }

    #[test]
    fn a_renamed_function_is_not_missed_where_the_other_name_is_there() {
        let gone = || AttachState::Unavailable("unknown".to_owned());
        let both = [
            program("bdev_freeze_entry", AttachState::Attached),
            program("freeze_bdev_entry", gone()),
            program("page_add_new_anon_rmap_entry", AttachState::Detached),
            program("folio_add_new_anon_rmap_entry", gone()),
        ];
        assert_eq!(missing(&both).count(), 0);
        let neither = [
            program("bdev_freeze_entry", gone()),
            program("freeze_bdev_entry", gone()),
        ];
        assert_eq!(missing(&neither).count(), 2);
        let alone = [program("do_wp_page_exit", gone())];
        assert_eq!(
            missing(&alone).collect::<Vec<_>>(),
            [("do_wp_page_exit", "unknown")]
        );
    }
}
