//! dm tables: devices by number, as the kernel has them, or by a path that lasts, as a record has them.

use std::io;
use std::path::Path;

use crate::disk::blockdev::{self, Devno};
use crate::disk::record::TableLine;

/// The table with every device as a path that names it after the next boot too.
#[must_use]
pub fn lasting(table: &[TableLine]) -> Vec<TableLine> {
    map_words(table, |word| {
        let path = word.parse::<Devno>().ok().and_then(blockdev::stable_path);
        Ok(path.map_or_else(|| word.to_owned(), |path| path.display().to_string()))
    })
    .unwrap_or_else(|_| table.to_vec())
}

/// The table with every device as its number of now.
///
/// # Errors
///
/// When a device is not there.
pub fn numbered(table: &[TableLine]) -> io::Result<Vec<TableLine>> {
    map_words(table, |word| {
        if !word.starts_with('/') {
            return Ok(word.to_owned());
        }
        blockdev::devno(Path::new(word))
            .map(|devno| devno.to_string())
            .map_err(|error| io::Error::new(error.kind(), format!("{word}: {error}")))
    })
}

/// The devices of a table that are not there.
#[must_use]
pub fn missing(table: &[TableLine]) -> Vec<String> {
    table
        .iter()
        .flat_map(|line| line.params.split_whitespace())
        .filter(|word| word.starts_with('/') && blockdev::devno(Path::new(word)).is_err())
        .map(ToOwned::to_owned)
        .collect()
}

fn map_words(table: &[TableLine], map: impl Fn(&str) -> io::Result<String>) -> io::Result<Vec<TableLine>> {
    table
        .iter()
        .map(|line| {
            let words: io::Result<Vec<_>> = line.params.split_whitespace().map(&map).collect();
            Ok(TableLine {
                params: words?.join(" "),
                ..line.clone()
            })
        })
        .collect()
}

/// Whether the kernel's table is the one that was loaded. It may print parameters that were left at their defaults.
#[must_use]
pub fn same(loaded: &[TableLine], live: &[TableLine]) -> bool {
    loaded.len() == live.len()
        && loaded.iter().zip(live).all(|(loaded, live)| {
            let mut words = live.params.split_whitespace();
            (loaded.start, loaded.sectors, &loaded.kind) == (live.start, live.sectors, &live.kind)
                && loaded
                    .params
                    .split_whitespace()
                    .all(|word| words.next() == Some(word))
        })
}

/// The table in one line, for messages.
#[must_use]
pub fn join(table: &[TableLine]) -> String {
    let lines: Vec<_> = table.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::{join, lasting, missing, numbered, same};
    use crate::disk::record::TableLine;

    fn line(params: &str) -> TableLine {
        TableLine {
            start: 0,
            sectors: 8,
            kind: "linear".to_owned(),
            params: params.to_owned(),
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let table = [line("/dev/nowhere 0")];
        assert!(
            numbered(&table)
                .unwrap_err()
                .to_string()
                .starts_with("/dev/nowhere: ")
        );
        assert_eq!(missing(&table), ["/dev/nowhere"]);
        assert_eq!(numbered(&[line("253:9 0")]).unwrap(), [line("253:9 0")]);
    }

    #[test]
    fn a_number_without_a_device_stays() {
        assert_eq!(lasting(&[line("4000:9 0")]), [line("4000:9 0")]);
    }

    #[test]
    fn the_kernel_may_say_more() {
        assert!(same(&[line("8:1 0")], &[line("8:1 0")]));
        assert!(same(&[line("8:1 0")], &[line("8:1 0 1 x")]));
        assert!(!same(&[line("8:1 0")], &[line("8:1 08")]));
        assert!(!same(&[line("8:1 0")], &[]));
        assert_eq!(
            join(&[line("8:1 0"), line("8:2 0")]),
            "0 8 linear 8:1 0; 0 8 linear 8:2 0"
        );
    }
}
