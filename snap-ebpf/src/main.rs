//! The BPF programs of Freezeframe.
//!
//! - [`phase`]: the module's own tracepoints: phases, threads that stand still, address spaces that were armed;
//! - [`freezer`]: the cgroup freezer;
//! - [`fs`]: filesystems and block devices that are frozen and thawed;
//! - [`cow`]: the COW breaks of the targets, in a histogram per CPU;
//! - [`store`]: what goes into the stores of snapshots on disk, counted per CPU.
#![no_std]
#![no_main]

mod cow;
mod freezer;
mod fs;
mod phase;
mod ring;
mod store;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses programs that could get here.
    loop {}
}

/// Some helpers are for GPL programs alone.
// SAFETY: the loader reads the licence from this section; nothing else is in it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
