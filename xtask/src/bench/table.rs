//! A table that reads well on a terminal and as Markdown.

use std::fmt;

/// What the cell of something unmeasured says.
pub const NOTHING: &str = "–";

/// A table with a title, and a word about what it shows.
pub struct Table {
    /// Its title.
    pub title: String,
    /// What there is to know; may be empty.
    pub note: String,
    /// One row: the names of the columns.
    pub head: Vec<String>,
    /// The other rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(title: &str, note: &str, head: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().chain([&self.head]);
        let widths = cells.map(|row| row.get(column).map_or(0, |cell| cell.chars().count()));
        widths.max().unwrap_or(0).max(3)
    }

    fn line(&self, f: &mut fmt::Formatter, row: &[String]) -> fmt::Result {
        for column in 0..self.head.len() {
            let cell = row.get(column).map_or("", String::as_str);
            write!(f, "| {cell:<width$} ", width = self.width(column))?;
        }
        writeln!(f, "|")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        if !self.note.is_empty() {
            writeln!(f, "{}\n", self.note)?;
        }
        self.line(f, &self.head)?;
        for column in 0..self.head.len() {
            write!(f, "|{:-<width$}", "", width = self.width(column) + 2)?;
        }
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| self.line(f, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let mut table = Table::new("Times", "", &["what", "x"]);
        table.row(vec!["one µs".into(), "1".into()]);
        assert_eq!(
            table.to_string(),
            "### Times\n\n| what   | x   |\n|--------|-----|\n| one µs | 1   |\n"
        );
    }
}
