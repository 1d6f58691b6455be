//! How much memory the controller takes.

use serde_json::json;

use crate::speed;
use crate::take::{Watch, watched};
use crate::{Out, larder};

/// Sizes of the process, in MiB.
const SIZES: [u64; 2] = [128, 512];

/// More would tell the same.
const MOST_ROUNDS: usize = 2;

/// Watches it with processes of several sizes.
pub fn measure(out: &mut Out, rounds: usize) {
    let key = speed::key();
    for mib in SIZES {
        let target = larder(mib, "small");
        for round in 0..rounds.min(MOST_ROUNDS) {
            let compressed = ["-o", "/dev/null", "--compress", "zstd:3", "--encrypt-to", &key];
            for (method, options) in [("plain", &compressed[..2]), ("zstd and age", &compressed)] {
                let (_, most) = watched(&target, options, Watch::Memory);
                let case = json!({ "mib": mib, "method": method, "round": round });
                out.sample("memory", &[&case, &most]);
            }
        }
    }
}
