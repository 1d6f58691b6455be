//! A process of 32 bits, on a kernel of 64.

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::Device;
use guest_tests::image::Image;
use snap_common::abi;

const PROGRAM: &str = "/tmp/narrow";
const BASE: u32 = 0x0804_8000;
const EBX: u32 = 0x1122_3344;

const NT_PRSTATUS: u32 = 1;
/// Indices into `user_regs_struct` of 64 bits.
const RBX: usize = 5;
const RIP: usize = 16;

const AT_ENTRY: u32 = 9;

/// An ELF file of 32 bits with one segment: it sets a register, and runs in a circle.
fn program() -> Vec<u8> {
    const HEADERS: u32 = 52 + 32;
    let mut code = vec![0xbb]; // mov ebx, …
    code.extend(EBX.to_le_bytes());
    code.extend([0xeb, 0xfe]); // jmp to itself
    let bytes = HEADERS + u32::try_from(code.len()).unwrap();
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let half =
        |file: &mut Vec<u8>, numbers: &[u16]| file.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    let word =
        |file: &mut Vec<u8>, numbers: &[u32]| file.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    half(&mut file, &[2, 3]); // a program, for the 386
    word(&mut file, &[1, BASE + HEADERS, 52, 0, 0]);
    half(&mut file, &[52, 32, 1, 40, 0, 0]);
    word(&mut file, &[1, 0, BASE, BASE, bytes, bytes, 5, 4096]); // to be loaded, and run
    file.extend(code);
    file
}

#[test]
fn a_process_of_32_bits_has_its_registers() {
    std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(PROGRAM)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &program()))
        .unwrap();
    let mut child = Command::new(PROGRAM)
        .spawn()
        .expect("the kernel runs such programs");
    let pid = child.id().cast_signed();
    let ran = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // Nanoseconds; it was in the kernel first.
    let begin = ran();
    while ran() < begin + 50_000_000 {
        sleep(Duration::from_millis(5));
    }
    let snapshot = Device::open()
        .take(&[pid], 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    let image = Image::open(&snapshot.file);
    let process = image.process(pid);
    assert_ne!(process.flags & abi::PROCESS_32BIT, 0);
    let threads = image.threads(&process);
    let registers = &image.registers(&threads[0])[&NT_PRSTATUS];
    let register = |index: usize| u64::from_ne_bytes(registers[index * 8..index * 8 + 8].try_into().unwrap());
    let entry = u64::from(BASE + 52 + 32);
    assert_eq!((register(RBX), register(RIP)), (u64::from(EBX), entry + 5));
    let auxv: Vec<u32> = image.records(process.auxv);
    let (pairs, _) = auxv.as_chunks::<2>();
    assert!(pairs.contains(&[AT_ENTRY, BASE + 52 + 32]), "{pairs:x?}");
    child.kill().unwrap();
    child.wait().unwrap();
}
