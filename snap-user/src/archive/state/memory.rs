//! Memory of a process, read out of the image by its address.

use snap_common::abi;

use crate::device::ImageSource;
use crate::image::{Image, ImageError, PAGE};
use crate::octal::escape;

/// How much of the arguments is told; all of them are in the core.
const ARGUMENTS_BYTES: u64 = 4096;

/// The arguments, as they stand in its memory.
pub(super) fn arguments<S: ImageSource + ?Sized>(
    image: &Image,
    source: &S,
    process: &abi::ImageProcess,
) -> Result<Vec<String>, ImageError> {
    let length = process
        .arg_end
        .saturating_sub(process.arg_start)
        .min(ARGUMENTS_BYTES);
    let mut bytes = Vec::new();
    let mut at = process.arg_start;
    while let Some(end) = process.arg_start.checked_add(length)
        && at < end
    {
        // To the end of its page at most.
        let until = end.min((at & !(PAGE - 1)).saturating_add(PAGE));
        let Some(piece) = read(image, source, process, at, until - at)? else {
            break;
        };
        bytes.extend(piece);
        at = until;
    }
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let words = text.split(|byte| *byte == 0);
    Ok(words.map(escape).collect())
}

/// `length` bytes within a page; nothing where the image has none.
fn read<S: ImageSource + ?Sized>(
    image: &Image,
    source: &S,
    process: &abi::ImageProcess,
    address: u64,
    length: u64,
) -> Result<Option<Vec<u8>>, ImageError> {
    let vmas = image.vmas_of(process);
    let vma = vmas.iter().find(|vma| vma.start <= address && address < vma.end);
    let run = vma.and_then(|vma| {
        let mut runs = image.runs_of(vma).iter();
        runs.find(|run| run.vaddr <= address && address - run.vaddr < u64::from(run.pages) * PAGE)
    });
    let Some(run) = run.filter(|run| run.flags & abi::RUN_UNREADABLE == 0) else {
        return Ok(None);
    };
    let offset = image.page_offset(run.page) + (address - run.vaddr);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    source
        .read_exact_at(&mut bytes, offset)
        .map_err(|source| ImageError::Read { offset, source })?;
    Ok(Some(bytes))
}
