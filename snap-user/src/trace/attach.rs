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
    /// Loaded, and attached while a snapshot is open.
    Detached,
    /// This kernel has no such hook, or refuses it.
    Unavailable(String),
}

/// The programs of the COW path: attached only while there is somebody to watch.
const COW: [&str; 2] = ["do_wp_page_entry", "do_wp_page_exit"];

/// Loads every program and attaches all but those of the COW path.
pub(super) fn load_all(ebpf: &mut Ebpf, btf: &Btf) -> Vec<Attached> {
    let mut attached: Vec<_> = ebpf
        .programs_mut()
        .map(|(name, program)| {
            let state = match load(name, program, btf) {
                Err(error) => AttachState::Unavailable(reason(&error)),
                Ok(()) if COW.contains(&name) => AttachState::Detached,
                Ok(()) => attach(name, program),
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
    let function = name.trim_end_matches("_entry").trim_end_matches("_exit");
    match program {
        Program::FEntry(program) => program.load(function, btf),
        Program::FExit(program) => program.load(function, btf),
        Program::RawTracePoint(program) => program.load(),
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
        Err(error) => AttachState::Unavailable(reason(&error)),
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

/// Programs of the COW path that are attached; dropping them detaches them, and they stay loaded.
pub(super) type Links = Vec<Box<dyn Any + Send>>;

/// Attaches the programs of the COW path.
pub(super) fn attach_cow(ebpf: &mut Ebpf, attached: &mut [Attached]) -> Links {
    let mut links = Links::new();
    for entry in attached
        .iter_mut()
        .filter(|entry| entry.state == AttachState::Detached)
    {
        let Some(program) = ebpf.program_mut(&entry.program) else {
            continue;
        };
        entry.state = match hold(program) {
            Ok(link) => {
                links.push(link);
                AttachState::Attached
            }
            Err(error) => AttachState::Unavailable(reason(&error)),
        };
    }
    links
}

fn hold(program: &mut Program) -> Result<Box<dyn Any + Send>, ProgramError> {
    match program {
        Program::FEntry(program) => {
            let link = program.attach()?;
            Ok(Box::new(program.take_link(link)?))
        }
        Program::FExit(program) => {
            let link = program.attach()?;
            Ok(Box::new(program.take_link(link)?))
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Notes that the programs of the COW path see nothing any more.
pub(super) fn note_detached(attached: &mut [Attached]) {
    for entry in attached.iter_mut() {
        if COW.contains(&entry.program.as_str()) && entry.state == AttachState::Attached {
            entry.state = AttachState::Detached;
        }
    }
}
