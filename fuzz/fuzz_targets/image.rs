//! The tables of the module's descriptor.

#![no_main]

use freezeframe::image::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = Image::read(bytes, bytes.len() as u64) else {
        return;
    };
    for process in &image.processes {
        let _ = image.text(process.exe);
        for thread in image.threads_of(process) {
            let _ = image.blob(thread.regs);
        }
        for vma in image.vmas_of(process) {
            let _ = image.text(vma.path);
            for run in image.runs_of(vma) {
                let _ = image.page_offset(run.page);
            }
        }
    }
});
