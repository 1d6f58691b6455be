//! A process with files open, which does what it is told, and says how that went: `0`, or the errno.
//! Usage: `scribe FILE...`, each opened for reading and writing and named by its place from 0 on. Commands: `write N`, `pwrite N`,
//! `read N`, `map N` (shared, for writing), `store N` (into that), `close N`, `open PATH` (for writing, closed again), `run PATH`.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _, stdin};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

const SIZE: usize = 4096;

struct Page(*mut u8);

fn main() {
    let mut files: Vec<_> = std::env::args().skip(1).map(|path| Some(open(&path))).collect();
    let mut pages: Vec<Option<Page>> = files.iter().map(|_| None).collect();
    println!("pid {} files {}", std::process::id(), files.len());
    for line in stdin().lines() {
        let line = line.expect("it is text");
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let result = match (command, argument.parse::<usize>()) {
            ("close", Ok(number)) => {
                files[number] = None;
                Ok(())
            }
            ("store", Ok(number)) => {
                let page = pages[number].as_ref().expect("it is mapped");
                // SAFETY: the page is mapped for writing, and stays so.
                unsafe { page.0.write_volatile(page.0.read_volatile().wrapping_add(1)) };
                Ok(())
            }
            ("map", Ok(number)) => map(&file(&files, number)).map(|page| pages[number] = Some(page)),
            (_, Ok(number)) => with_file(command, &file(&files, number)),
            ("open", Err(_)) => File::options().write(true).open(argument).map(drop),
            ("run", Err(_)) => Command::new(argument).status().map(drop),
            (other, Err(_)) => panic!("what is {other}?"),
        };
        println!(
            "{}",
            result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0)
        );
    }
}

fn open(path: &str) -> File {
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = file.expect("it can be opened");
    if file.metadata().expect("it is open").len() == 0 {
        file.set_len(SIZE as u64).expect("it can be made larger");
    }
    file
}

fn file(files: &[Option<File>], number: usize) -> File {
    let file = files[number].as_ref().expect("it is open");
    file.try_clone().expect("there is a free descriptor")
}

fn with_file(command: &str, mut file: &File) -> io::Result<()> {
    match command {
        "write" => {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(b"w")
        }
        "pwrite" => file.write_all_at(b"p", 0),
        "read" => {
            file.seek(SeekFrom::Start(0))?;
            file.read_exact(&mut [0; 8])
        }
        other => panic!("what is {other}?"),
    }
}

fn map(file: &File) -> io::Result<Page> {
    // SAFETY: a new mapping, where there is room.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if page == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(Page(page.cast()))
    }
}
