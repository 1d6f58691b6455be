//! Throughput.

use serde_json::Value;

use super::tables::{beside, median};
use crate::bench::disk::{figures, spread};
use crate::bench::stats::time;
use crate::bench::table::{NOTHING, Table};

/// What is compared with what.
const PEERS: [(&str, &[&str]); 3] = [
    (
        "dd to null",
        &["image to null", "fd read", "fd mapped", "read and BLAKE3"],
    ),
    ("dd to file", &["image to file"]),
    ("zstd and age", &["image by zstd and age", "image by zstd"]),
];

/// What the table calls a method.
fn called(method: &str) -> &str {
    match method {
        "dd to null" => "`dd bs=1M` to `/dev/null`",
        "dd to file" => "`dd bs=1M` to a file",
        "zstd and age" => "`zstd -3 -T0 \\| age` to a file",
        "image to null" => "image to `/dev/null`",
        "image to file" => "image to a file",
        "image by zstd and age" => "image, `--compress zstd:3 --encrypt-to`, to a file",
        "image by zstd" => "image, `--compress zstd:3`, to a file",
        "fd read" => "the module's descriptor, by `read()`",
        "fd mapped" => "the module's descriptor, mapped and looked at",
        "read and BLAKE3" => "`read()` of the same bytes and BLAKE3 of them",
        other => other,
    }
}

/// How fast everything was.
pub fn speeds(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Throughput",
        "128 MiB, in pages of 4 KiB and in huge pages. Of ours the time is that of the phase `drain`, from the descriptor to the image under its \
         name; `dd`'s is what it says itself; the others are timed from their start to their end. Median (least – greatest); the \
         last column is the speed as a part of the first row's of each group. `waited for`: the stage that the others waited for, and \
         how long.",
        &["pages", "method", "time", "MiB/s", "waited for", "ratio"],
    );
    for kind in ["small", "huge"] {
        for (peer, ours) in PEERS {
            for method in [peer].iter().chain(ours) {
                let wanted = [("what", "speed"), ("kind", kind), ("method", method)];
                let times = figures(samples, &wanted, "ns");
                if kind == "huge" && times.is_empty() {
                    continue;
                }
                let own = median(samples, &wanted, "ns");
                let bytes = median(samples, &wanted, "bytes");
                let peer = [("what", "speed"), ("kind", kind), ("method", peer)];
                table.row(vec![
                    kind.to_owned(),
                    called(method).to_owned(),
                    spread(&times),
                    rate(bytes, own),
                    slowest(samples, &wanted),
                    beside(median(samples, &peer, "ns"), own),
                ]);
            }
        }
    }
    table
}

/// How fast it is where no processor is emulated.
pub fn host(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "On the host's own processor",
        "What comes after the module, of a snapshot that is made up: 512 MiB of programs and libraries in a tmpfs, mapped as the module's \
         descriptor is (`snap-user/examples/host_drain.rs`). Everything is timed from its start to its end. Median (least – greatest); \
         the last column is the speed as a part of that of the row above.",
        &["method", "time", "MiB/s", "ratio"],
    );
    for (peer, ours) in [
        ("dd to null", "image to null"),
        ("zstd and age", "image by zstd and age"),
    ] {
        let figure = |method, figure| median(samples, &[("what", "host"), ("method", method)], figure);
        for method in [peer, ours] {
            let times = figures(samples, &[("what", "host"), ("method", method)], "ns");
            let own = figure(method, "ns");
            table.row(vec![
                called(method).to_owned(),
                spread(&times),
                rate(figure(method, "bytes"), own),
                beside(figure(peer, "ns"), own),
            ]);
        }
    }
    table
}

fn rate(bytes: Option<u64>, ns: Option<u64>) -> String {
    let rate = bytes.zip(ns).map(|(bytes, ns)| {
        let per_second = u128::from(bytes) * 1_000_000_000 / u128::from(ns.max(1));
        (per_second >> 20).to_string()
    });
    rate.unwrap_or_else(|| NOTHING.to_owned())
}

/// The stage that had the others wait in the first sample that tells, and for how long.
fn slowest(samples: &[Value], wanted: &[(&str, &str)]) -> String {
    let mut found = samples
        .iter()
        .filter(|sample| wanted.iter().all(|(name, value)| sample[*name] == *value));
    let stages = found.find_map(|sample| sample["drain"]["stages"].as_array());
    let Some(stages) = stages else {
        return NOTHING.to_owned();
    };
    let ns = |stage: Option<&Value>, name: &str| stage.and_then(|stage| stage[name].as_u64()).unwrap_or(0);
    let all = (0..stages.len()).map(|index| {
        let before = index.checked_sub(1).and_then(|before| stages.get(before));
        let waited = ns(before, "blocked_ns").max(ns(stages.get(index + 1), "waited_ns"));
        (waited, stages[index]["name"].as_str().unwrap_or_default())
    });
    // The first stage itself waits for the snapshot's pages and their sums.
    let pages = (ns(stages.first(), "waited_ns"), "pages and sums");
    all.chain([pages]).max().map_or_else(
        || NOTHING.to_owned(),
        |(waited, name)| format!("{name}, {}", time(waited)),
    )
}

#[cfg(test)]
mod tests {
    use super::{slowest, speeds};
    use crate::bench::disk::parse;

    #[test]
    fn speeds_are_a_part_of_the_peers() {
        let samples = parse(
            "{\"what\":\"speed\",\"kind\":\"small\",\"method\":\"dd to null\",\"bytes\":1048576,\"ns\":500000000}\n\
             {\"what\":\"speed\",\"kind\":\"small\",\"method\":\"image to null\",\"bytes\":1048576,\"ns\":1000000000,\
             \"drain\":{\"stages\":[{\"name\":\"read\",\"waited_ns\":7,\"blocked_ns\":2},{\"name\":\"write\",\"waited_ns\":3000,\"blocked_ns\":0}]}}",
        )
        .unwrap();
        let table = speeds(&samples);
        assert_eq!(table.rows[1][3], "1");
        assert_eq!(table.rows[1][5], "0.50");
        assert_eq!(slowest(&samples, &[("method", "image to null")]), "read, 3.00 µs");
    }
}
