//! The cores of images, opened by the debuggers of others: backtraces and variables are what the targets themselves had recorded at the
//! instant, every byte is the oracle's, and nobody complains.

mod java;
mod native;
mod notes;
mod pattern;
mod python;
mod record;
mod scene;
mod tools;
