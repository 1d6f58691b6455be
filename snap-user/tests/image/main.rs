//! Images made by hand: what is damaged is refused, and what is sound becomes an archive of cores that hold what they should.

#[path = "../../examples/made_up/blobs.rs"]
mod blobs;
mod draft;
#[path = "../../examples/made_up/mod.rs"]
mod made_up;

use std::cell::RefCell;
use std::io::Read as _;

use bytes::Bytes;
use freezeframe::archive::members::ToWriter;
use freezeframe::archive::order::Order;
use freezeframe::archive::read::ArchiveReader;
use freezeframe::archive::write::{Archive, Facts};
use freezeframe::device::ImageSource;
use freezeframe::image::{Image, ImageError};
use object::Endianness;
use object::elf::{FileHeader64, NT_AUXV, NT_FILE, NT_PRPSINFO, NT_PRSTATUS, NT_SIGINFO, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use snap_common::abi;

use crate::draft::Draft;
use crate::made_up::zeroed;

const PAGE: u64 = 4096;
/// Where page 0 is.
const START: u64 = 0x7000_0000;
const READ_WRITE: u32 = abi::VMA_READ | abi::VMA_WRITE;

fn read(image: &[u8]) -> Result<Image, ImageError> {
    Image::read(image, image.len() as u64)
}

fn facts() -> Facts {
    Facts {
        image_id: "an-image".into(),
        boot_id: "a-boot".into(),
        host: "a-host".into(),
        kernel: "6.12".into(),
    }
}

/// The archive of an image.
fn tar_of(image: &Image, source: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive =
        Archive::new(image, source, None, Order::Likely, facts()).map_err(std::io::Error::other)?;
    archive.write(ToWriter(Vec::new())).map(|written| written.0)
}

/// The members of the archive of an image.
fn archive(image: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tar = tar_of(&read(image).unwrap(), image).unwrap();
    let mut reader = ArchiveReader::new(tar.as_slice(), "image.tar").unwrap();
    while reader.next_item().unwrap().is_some() {}
    let mut archive = tar::Archive::new(tar.as_slice());
    let members = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    });
    members.collect()
}

/// The segments of the only core of an image: first page, pages in memory, and the first byte of each page in the file.
fn segments(image: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let core = &archive(image)[2].1;
    let elf = FileHeader64::<Endianness>::parse(core.as_slice()).unwrap();
    let endian = elf.endian().unwrap();
    let headers = elf.program_headers(endian, core.as_slice()).unwrap();
    let loads = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
    loads
        .map(|load| {
            let data = load.data(endian, core.as_slice()).unwrap();
            let pages = data.chunks(4096).map(|page| {
                assert!(
                    page.iter().all(|byte| *byte == page[0]),
                    "a page is one byte, repeated"
                );
                page[0]
            });
            let first = (load.p_vaddr(endian) - START) / PAGE;
            (first, load.p_memsz(endian) / PAGE, pages.collect())
        })
        .collect()
}

#[test]
fn memory_is_where_it_belongs() {
    let image = Draft::new()
        .vma(0, 3, READ_WRITE, "", &[(0, 3, 0)])
        .vma(10, 2, READ_WRITE, "", &[])
        .vma(20, 4, READ_WRITE, "", &[(2, 1, abi::RUN_COPIED)])
        .build();
    assert_eq!(
        segments(&image),
        [
            (0, 3, vec![1, 2, 3]),
            (10, 2, vec![]),
            (20, 2, vec![]),
            (22, 2, vec![4])
        ]
    );
}

#[test]
fn holes_stay_holes() {
    let runs = [(0, 1, 0), (2, 1, 0), (200, 1, 0)];
    let image = Draft::new().vma(0, 201, READ_WRITE, "", &runs).build();
    assert_eq!(
        segments(&image),
        [(0, 2, vec![1]), (2, 198, vec![2]), (200, 1, vec![3])]
    );
}

#[test]
fn what_a_file_has_is_left_to_the_file() {
    let image = Draft::new()
        .vma(0, 4, READ_WRITE, "/a/file", &[(0, 1, 0), (2, 1, 0)])
        .build();
    assert_eq!(
        segments(&image),
        [(0, 1, vec![1]), (1, 1, vec![]), (2, 1, vec![2]), (3, 1, vec![])]
    );
}

#[test]
fn memory_that_could_not_be_read_is_in_no_segment_and_the_manifest_says_so() {
    let runs = [(0, 1, 0), (1, 2, abi::RUN_UNREADABLE), (3, 1, 0)];
    let image = Draft::new().vma(0, 6, READ_WRITE, "", &runs).build();
    assert_eq!(
        segments(&image),
        [(0, 1, vec![1]), (3, 3, vec![2])],
        "zeros would be a lie"
    );
    let manifest = String::from_utf8(archive(&image)[0].1.clone()).unwrap();
    assert!(
        manifest.contains("0x70001000-0x70003000: the memory is defective"),
        "{manifest}"
    );
}

#[test]
fn the_manifest_names_what_is_not_captured() {
    let shared = READ_WRITE | abi::VMA_SHARED;
    let image = Draft::new()
        .vma(0, 1, shared, "/srv/data", &[])
        .vma(
            1,
            1,
            shared | abi::VMA_SHMEM,
            "/memfd:x (deleted)",
            &[(0, 1, abi::RUN_COPIED)],
        )
        .vma(2, 1, shared | abi::VMA_INTERNAL, "/[aio] (deleted)", &[])
        .vma(3, 1, abi::VMA_READ | abi::VMA_SPECIAL, "[vvar]", &[])
        .build();
    let members = archive(&image);
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["manifest.json", "process.42.json", "core.42", "BLAKE3SUMS"]
    );
    let manifest: serde_json::Value = serde_json::from_slice(&members[0].1).unwrap();
    assert_eq!(manifest["snapshot_id"], 7);
    let process = &manifest["processes"][0];
    assert_eq!(process["comm"], "test");
    let state: serde_json::Value = serde_json::from_slice(&members[1].1).unwrap();
    assert_eq!(state["threads"][0]["state"], "parked");
    let missing: Vec<_> = process["not_captured"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let expected = [
        "0x70000000-0x70001000 /srv/data: a shared mapping of a file belongs to its filesystem",
        "0x70002000-0x70003000 /[aio] (deleted): a shared mapping of a file of the kernel's own",
        "0x70003000-0x70004000 [vvar]: the kernel's own pages",
    ];
    assert_eq!(missing.len(), expected.len(), "{missing:?}");
    for (line, begin) in missing.iter().zip(expected) {
        assert!(line.starts_with(begin), "{line}");
    }
}

/// A process whose vDSO has so many pages, and with that auxiliary vector: how many bytes of it are in the core, and what is not captured.
fn vdso_in_the_core(pages: u64, auxv: &[u8]) -> (usize, String) {
    let mut draft = Draft::new().vma(
        0,
        pages,
        abi::VMA_READ | abi::VMA_EXEC | abi::VMA_SPECIAL,
        "[vdso]",
        &[],
    );
    draft.process.auxv = draft.blobs.push(auxv);
    let members = archive(&draft.build());
    let core = &members[2].1;
    let elf = FileHeader64::<Endianness>::parse(core.as_slice()).unwrap();
    let endian = elf.endian().unwrap();
    let headers = elf.program_headers(endian, core.as_slice()).unwrap();
    let loads = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
    let data = loads
        .map(|load| load.data(endian, core.as_slice()).unwrap().len())
        .sum();
    let manifest: serde_json::Value = serde_json::from_slice(&members[0].1).unwrap();
    (data, manifest["processes"][0]["not_captured"].to_string())
}

#[test]
fn a_vdso_is_there_where_it_is_the_one_that_we_know() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let (start, end) = ours.split_once(' ').unwrap().0.split_once('-').unwrap();
    let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
    let pages = (end - start) / PAGE;
    let wide = [33, START, 0, 0].map(u64::to_ne_bytes).concat();
    let narrow = [32, 0x7000_0400, 33, 0x7000_0000, 0, 0]
        .map(u32::to_ne_bytes)
        .concat();

    let (bytes, missing) = vdso_in_the_core(pages, &wide);
    assert_eq!(bytes as u64, pages * PAGE);
    assert_eq!(missing, "[]");
    for (what, pages, auxv) in [
        ("of 32 bits", pages, &narrow),
        ("of another size", pages + 1, &wide),
    ] {
        let (bytes, missing) = vdso_in_the_core(pages, auxv);
        assert_eq!(bytes, 0, "{what}");
        assert!(
            missing.contains("[vdso]: the kernel's own pages"),
            "{what}: {missing}"
        );
    }
}

/// How pages are asked for: the first, how many, and whether for the last time.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Again(u64, usize),
    Last(u64, usize),
}

/// An image that takes down which pages are asked for.
struct Watched<'a> {
    image: &'a [u8],
    data_offset: u64,
    asked: RefCell<Vec<Asked>>,
}

impl ImageSource for Watched<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.image.read_exact_at(buffer, offset)
    }

    fn pages(&self, offset: u64, bytes: usize) -> std::io::Result<Bytes> {
        let page = (offset - self.data_offset) / PAGE;
        self.asked.borrow_mut().push(Asked::Again(page, bytes / 4096));
        self.image.pages(offset, bytes)
    }

    fn last_pages(&self, offset: u64, bytes: usize, page: u64) -> std::io::Result<Bytes> {
        self.asked.borrow_mut().push(Asked::Last(page, bytes / 4096));
        self.image.pages(offset, bytes)
    }
}

#[test]
fn what_several_have_is_let_go_when_it_is_written_for_the_last_time() {
    let shared = |process: abi::ImageProcess| {
        let mut draft =
            Draft::new()
                .vma(0, 3, READ_WRITE, "", &[(0, 3, 0)])
                .vma(10, 3, READ_WRITE, "", &[(0, 3, 0)]);
        // The same pages at two addresses, of which one process has the first.
        draft.runs[1].page = 0;
        draft.pages = 3;
        draft.process.vma_count = 1;
        draft.others = vec![process];
        let bytes = draft.build();
        let image = read(&bytes).unwrap();
        let source = Watched {
            image: &bytes,
            data_offset: image.header.data_offset,
            asked: RefCell::default(),
        };
        let mut archive = Archive::new(&image, &source, None, Order::Address, facts()).unwrap();
        archive.write(ToWriter(Vec::new())).unwrap();
        source.asked.into_inner()
    };
    let other = |vma_count| abi::ImageProcess {
        pid: 43,
        thread_count: 0,
        vma_count,
        ..zeroed()
    };
    assert_eq!(shared(other(1)), [Asked::Last(0, 3)]);
    assert_eq!(shared(other(2)), [Asked::Again(0, 3), Asked::Last(0, 3)]);
}

#[test]
fn arguments_that_are_no_text_are_octal_in_the_state_and_themselves_in_the_core() {
    // A page's bytes are its number, counted from 1.
    let mut draft = Draft::new().vma(0, 255, READ_WRITE, "", &[(0, 255, 0)]);
    draft.process.arg_start = START + 254 * PAGE;
    draft.process.arg_end = draft.process.arg_start + 2;
    let members = archive(&draft.build());
    let state: serde_json::Value = serde_json::from_slice(&members[1].1).unwrap();
    assert_eq!(state["args"][0], "\\377\\377");
    let core = &members[2].1;
    let elf = FileHeader64::<Endianness>::parse(core.as_slice()).unwrap();
    let endian = elf.endian().unwrap();
    let headers = elf.program_headers(endian, core.as_slice()).unwrap();
    let mut notes = headers[0].notes(endian, core.as_slice()).unwrap().unwrap();
    let mut about = std::iter::from_fn(|| notes.next().unwrap());
    let about = about.find(|note| note.n_type(endian) == NT_PRPSINFO).unwrap();
    assert_eq!(about.desc()[56..59], *b"\xff\xff\0");
}

#[test]
fn a_core_has_the_notes_that_debuggers_look_for() {
    let image = Draft::new()
        .vma(0, 1, READ_WRITE, "/a/file", &[(0, 1, 0)])
        .build();
    let core = &archive(&image)[2].1;
    let elf = FileHeader64::<Endianness>::parse(core.as_slice()).unwrap();
    let endian = elf.endian().unwrap();
    let headers = elf.program_headers(endian, core.as_slice()).unwrap();
    let notes = headers
        .iter()
        .find(|header| header.p_type(endian) == PT_NOTE)
        .unwrap();
    let mut notes = notes.notes(endian, core.as_slice()).unwrap().unwrap();
    let mut found = Vec::new();
    while let Some(note) = notes.next().unwrap() {
        if note.n_type(endian) == NT_PRSTATUS {
            // pr_pid, and the registers behind it.
            assert_eq!(note.desc()[32..36], 42_u32.to_ne_bytes());
            assert_eq!(note.desc()[112 + 8..112 + 16], 1_u64.to_ne_bytes());
        }
        if note.n_type(endian) == NT_FILE {
            assert!(note.desc().ends_with(b"/a/file\0"));
        }
        found.push(note.n_type(endian));
    }
    assert_eq!(found[0], NT_PRSTATUS, "{found:?}");
    assert!(found.contains(&NT_FILE), "{found:?}");
}

/// The types of the notes of a core, without ours.
fn notes_of_the_kernel(threads: &[(i32, u32)]) -> Vec<u32> {
    let mut draft = Draft::new().vma(0, 1, READ_WRITE, "/a/file", &[(0, 1, 0)]);
    draft.threads = threads.to_vec();
    draft.process.thread_count = u32::try_from(threads.len()).unwrap();
    let core = &archive(&draft.build())[2].1;
    let elf = FileHeader64::<Endianness>::parse(core.as_slice()).unwrap();
    let endian = elf.endian().unwrap();
    let headers = elf.program_headers(endian, core.as_slice()).unwrap();
    let mut notes = headers[0].notes(endian, core.as_slice()).unwrap().unwrap();
    let mut found = Vec::new();
    while let Some(note) = notes.next().unwrap() {
        found.extend((note.name() == b"CORE").then(|| note.n_type(endian)));
    }
    found
}

#[test]
fn notes_of_the_process_are_there_whoever_comes_first() {
    let once = [NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE];
    let registers = [NT_PRSTATUS];
    let (worker, thread) = ((42, abi::THREAD_KERNEL), (43, abi::THREAD_PARKED));
    assert_eq!(
        notes_of_the_kernel(&[worker, thread, (44, abi::THREAD_PARKED)]),
        [&registers[..], &once, &registers].concat()
    );
    assert_eq!(notes_of_the_kernel(&[worker]), once);
    assert_eq!(notes_of_the_kernel(&[]), once);
}

#[test]
fn damage_is_refused() {
    let good = Draft::new().vma(0, 4, READ_WRITE, "", &[(1, 2, 0)]).build();
    assert!(read(&good).is_ok());
    let refused = |what: &str, image: &[u8]| match read(image) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{what} was taken"),
    };
    for length in [0, 8, size_of::<abi::ImageHeader>() - 1, 4096, good.len() - 1] {
        refused("a piece", &good[..length]);
    }
    let mut longer = good.clone();
    longer.push(0);
    refused("more than it says", &longer);

    type Damage = fn(&mut Draft);
    let damages: [(&str, Damage); 7] = [
        ("another magic number", |draft| draft.header.magic ^= 1),
        ("another page size", |draft| draft.header.page_size = 65_536),
        ("threads of nobody", |draft| draft.process.thread_count = 2),
        ("mappings of nobody", |draft| draft.process.first_vma = u32::MAX),
        ("a run before its mapping", |draft| {
            draft.runs[0].vaddr -= 2 * PAGE;
        }),
        ("a run that is too long", |draft| draft.runs[0].pages = 4),
        ("a run of pages that are not there", |draft| {
            draft.runs[0].page = u64::MAX;
        }),
    ];
    for (what, damage) in damages {
        let mut draft = Draft::new().vma(0, 4, READ_WRITE, "", &[(1, 2, 0)]);
        damage(&mut draft);
        let said = refused(what, &draft.build());
        assert!(said.starts_with("the image is damaged: "), "{what}: {said}");
    }
    let mut later = Draft::new();
    later.header.version += 1;
    let said = refused("another version", &later.build());
    assert!(said.contains("use the release that matches the module"), "{said}");
}

#[test]
fn no_bit_that_flips_in_the_tables_makes_it_panic() {
    let good = Draft::new()
        .vma(
            0,
            4,
            READ_WRITE,
            "/a/file",
            &[(0, 1, 0), (2, 2, abi::RUN_UNREADABLE)],
        )
        .vma(9, 1, READ_WRITE, "[heap]", &[(0, 1, 0)])
        .build();
    for bit in 0..4096 * 8 {
        let mut image = good.clone();
        image[bit / 8] ^= 1 << (bit % 8);
        // Refused, or an archive of something: both are fine.
        if let Ok(read) = read(&image) {
            let _ = tar_of(&read, &image);
        }
    }
}
