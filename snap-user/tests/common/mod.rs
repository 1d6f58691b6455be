//! Archives made by hand.

#![expect(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use freezeframe::archive::elsewhere::{Elsewhere, Place};
use freezeframe::archive::head::{PAGE, Segment, head, head_bytes, push_note};
use freezeframe::archive::manifest::{Manifest, Pages, Parent, ProcessEntry};
use freezeframe::archive::members::{MemberWriter, ToWriter};
use freezeframe::archive::process::{
    Credentials, Descriptor, Details, Layout, Mapping, OpenFile, Process, Scheduling, Thread,
};
use freezeframe::archive::{NOTE_ELSEWHERE, NOTE_OWNER, NOTE_STATE, core_name, state_name};

/// Where page 0 of every process is.
pub const START: u64 = 0x7000_0000;

/// The address of a page.
pub fn at(page: u64) -> u64 {
    START + page * PAGE
}

/// The first page of a mapping, its length, and the data with which it begins, each page one byte, repeated.
#[derive(Clone)]
pub struct Memory {
    pub first: u64,
    pub pages: u64,
    pub data: Vec<u8>,
}

/// A process of an archive.
#[derive(Clone)]
pub struct Draft {
    pub pid: i32,
    pub memory: Vec<Memory>,
    pub elsewhere: Vec<Elsewhere>,
    pub descriptors: Vec<(i32, OpenFile)>,
    pub threads: Vec<i32>,
    /// What stands where its state should.
    pub document: Option<Vec<u8>>,
    /// The data stand in the core by address, or the other way round.
    pub backwards: bool,
}

impl Draft {
    pub fn new(pid: i32) -> Self {
        Self {
            pid,
            memory: Vec::new(),
            elsewhere: Vec::new(),
            descriptors: Vec::new(),
            threads: vec![pid],
            document: None,
            backwards: false,
        }
    }

    pub fn memory(mut self, first: u64, pages: u64, data: &[u8]) -> Self {
        let data = data.to_vec();
        self.memory.push(Memory { first, pages, data });
        self
    }

    /// `pages` pages from page `here` are those from page `there` of another process.
    pub fn elsewhere(mut self, here: u64, pages: u64, place: Place, pid: i32, there: u64) -> Self {
        self.elsewhere.push(Elsewhere {
            vaddr: at(here),
            bytes: pages * PAGE,
            vaddr_there: at(there),
            pid_there: pid,
            place,
        });
        self
    }

    pub fn descriptor(mut self, fd: i32, path: &str, position: u64) -> Self {
        let file = OpenFile {
            id: u64::try_from(fd).unwrap(),
            kind: "file".into(),
            path: path.into(),
            flags: 0,
            mode: 0o100_644,
            position,
            inode: 7,
            device: "8:1".into(),
            size: 0,
            special: None,
            deleted: false,
            locks: Vec::new(),
            details: Details::None,
        };
        self.descriptors.push((fd, file));
        self
    }

    pub fn backwards(mut self) -> Self {
        self.backwards = true;
        self
    }

    fn count(&self, place: Place) -> u64 {
        let records = self.elsewhere.iter().filter(|record| record.place == place);
        records.map(|record| record.bytes / PAGE).sum()
    }

    fn here(&self) -> u64 {
        self.memory.iter().map(|memory| memory.data.len() as u64).sum()
    }

    pub fn process(&self) -> Process {
        let mapping = |memory: &Memory| Mapping {
            start: at(memory.first),
            end: at(memory.first + memory.pages),
            permissions: "rw-p".into(),
            offset: 0,
            device: "0:0".into(),
            inode: 0,
            path: String::new(),
            flags: Vec::new(),
            pages: memory.data.len() as u64,
            parent_pages: self.count(Place::Parent),
        };
        let thread = |tid: &i32| Thread {
            tid: *tid,
            comm: "test".into(),
            state: "parked".into(),
            system_call: None,
            blocked: 0,
            pending: Vec::new(),
            alternate_stack: None,
            fs_base: 0,
            gs_base: 0,
            rseq: None,
            robust_list: None,
            saved_blocked: None,
            tls: Vec::new(),
            parent_death_signal: 0,
            clear_child_tid: 0,
            scheduling: Scheduling::default(),
            credentials: None,
        };
        Process {
            pid: self.pid,
            ppid: 1,
            pgid: self.pid,
            sid: self.pid,
            comm: "test".into(),
            exe: "/bin/test".into(),
            args: vec!["test".into(), "\x1b[31mred".into()],
            cwd: "/".into(),
            root: "/".into(),
            start_time_ns: 1,
            umask: "022".into(),
            personality: 0,
            oom_score_adj: 0,
            child_subreaper: false,
            exit_signal: 17,
            credentials: Credentials::default(),
            limits: Vec::new(),
            cgroup: "/".into(),
            namespaces: BTreeMap::new(),
            layout: Layout::default(),
            auxv: Vec::new(),
            signal_actions: Vec::new(),
            pending: Vec::new(),
            timers: Vec::new(),
            threads: self.threads.iter().map(thread).collect(),
            mappings: self.memory.iter().map(mapping).collect(),
            descriptors: self
                .descriptors
                .iter()
                .map(|(fd, file)| Descriptor {
                    fd: *fd,
                    cloexec: false,
                    file: file.id,
                })
                .collect(),
            files: self.descriptors.iter().map(|(_, file)| file.clone()).collect(),
            not_captured: Vec::new(),
        }
    }

    pub fn state(&self) -> Vec<u8> {
        let document = self.document.clone();
        document.unwrap_or_else(|| serde_json::to_vec(&self.process()).unwrap())
    }

    pub fn core(&self) -> Vec<u8> {
        let mut notes = Vec::new();
        push_note(&mut notes, "CORE", 1, &[7; 336]);
        push_note(&mut notes, NOTE_OWNER, NOTE_STATE, &self.state());
        if !self.elsewhere.is_empty() {
            let records: Vec<u8> = self.elsewhere.iter().flat_map(Elsewhere::to_bytes).collect();
            push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &records);
        }
        let mut offset = head_bytes(self.memory.len(), notes.len() as u64);
        let mut segments = vec![Segment::default(); self.memory.len()];
        let mut data = Vec::new();
        let mut order: Vec<_> = (0..self.memory.len()).collect();
        if self.backwards {
            order.reverse();
        }
        for index in order {
            let memory = &self.memory[index];
            let file_bytes = memory.data.len() as u64 * PAGE;
            segments[index] = Segment {
                vaddr: at(memory.first),
                memory_bytes: memory.pages * PAGE,
                file_bytes,
                offset,
                flags: 6,
            };
            offset += file_bytes;
            for byte in &memory.data {
                data.extend([*byte; 4096]);
            }
        }
        let mut core = head(&segments, &notes);
        core.extend(data);
        core
    }

    pub fn entry(&self) -> ProcessEntry {
        ProcessEntry {
            pid: self.pid,
            ppid: 1,
            comm: "test".into(),
            exe: "/bin/test".into(),
            state: state_name(self.pid),
            core: core_name(self.pid),
            core_bytes: self.core().len() as u64,
            threads: u32::try_from(self.threads.len()).unwrap(),
            arm: "lazy".into(),
            arm_reason: "the default".into(),
            pages: Pages {
                here: self.here(),
                elsewhere: self.count(Place::SameArchive),
                parent: self.count(Place::Parent),
            },
            whole_because: None,
            not_captured: Vec::new(),
        }
    }
}

/// The manifest of an archive.
pub fn manifest(id: &str, parent: Option<&str>, processes: &[Draft]) -> Manifest {
    Manifest {
        manifest_version: 2,
        freezeframe_version: "0.1.0".into(),
        image_id: id.into(),
        snapshot_id: 1,
        module_instance: "instance".into(),
        boot_id: "boot".into(),
        host: "host".into(),
        kernel: "6.12".into(),
        instant_ns: 1,
        instant_unix_ns: 1_700_000_000_000_000_000,
        parent: parent.map(|id| Parent {
            image_id: id.into(),
            snapshot_id: 1,
            name: format!("{id}.tar"),
        }),
        processes: processes.iter().map(Draft::entry).collect(),
        not_captured: Vec::new(),
    }
}

/// An archive.
pub fn archive(id: &str, parent: Option<&str>, processes: &[Draft]) -> Vec<u8> {
    assemble(&manifest(id, parent, processes), processes)
}

/// An archive with that manifest.
pub fn assemble(manifest: &Manifest, processes: &[Draft]) -> Vec<u8> {
    let mut writer = MemberWriter::new(ToWriter(Vec::new()), 0);
    writer.manifest(manifest).unwrap();
    for process in processes {
        let state = process.state();
        let mut member = writer.state(process.pid, state.len() as u64).unwrap();
        member.put(Bytes::from(state)).unwrap();
        member.finish().unwrap();
    }
    for process in processes {
        let core = process.core();
        let mut member = writer.core(process.pid, core.len() as u64).unwrap();
        member.put(Bytes::from(core)).unwrap();
        member.finish().unwrap();
    }
    writer.finish().unwrap().0
}

/// Any members, with sums that are right.
pub fn members(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut sums = String::new();
    for (name, content) in members {
        member(&mut tar, name, content.len() as u64, content, |_| {});
        sums += &format!("{}  {name}\n", blake3::hash(content));
    }
    member(&mut tar, "BLAKE3SUMS", sums.len() as u64, sums.as_bytes(), |_| {});
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Appends a member whose header says what it likes.
pub fn member(tar: &mut Vec<u8>, name: &str, bytes: u64, content: &[u8], change: impl Fn(&mut tar::Header)) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    change(&mut header);
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// Writes an archive to a file.
pub fn write(folder: &Path, name: &str, archive: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, archive).unwrap();
    path
}

/// The names in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A whole image, and an increment to it: shared pages, pages in the parent, pages of the parent that are shared there, data in both orders.
pub fn chain() -> (Vec<u8>, Vec<u8>) {
    let base = [
        Draft::new(10)
            .memory(0, 4, &[1, 2])
            .memory(10, 4, &[])
            .elsewhere(10, 2, Place::SameArchive, 20, 31),
        Draft::new(20).memory(30, 4, &[3, 4, 5, 0]),
    ];
    let child = [
        Draft::new(10)
            .memory(0, 1, &[9])
            .memory(1, 1, &[])
            .memory(10, 4, &[])
            .elsewhere(1, 1, Place::Parent, 10, 1)
            .elsewhere(10, 2, Place::Parent, 10, 10)
            .elsewhere(12, 1, Place::SameArchive, 20, 40)
            .backwards(),
        Draft::new(20)
            .memory(30, 4, &[])
            .memory(40, 1, &[8])
            .elsewhere(30, 3, Place::Parent, 20, 30)
            .backwards(),
    ];
    (
        archive("base", None, &base),
        archive("child", Some("base"), &child),
    )
}
