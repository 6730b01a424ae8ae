//! Columns for people: words to the left, numbers to the right.

/// A table; the first row is its heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Only a heading so far.
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|&word| word.to_owned()).collect();
        Self {
            rows: vec![heading],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is nothing under the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The text, lines ended.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cell =
            |row: usize, column: usize| self.rows[row].get(column).map_or("", String::as_str);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let lengths = (0..self.rows.len()).map(|row| cell(row, column).chars().count());
                lengths.max().unwrap_or(0)
            })
            .collect();
        let numeric = |column| (1..self.rows.len()).all(|row| is_number(cell(row, column)));
        let right: Vec<bool> = (0..columns).map(numeric).collect();
        let line = |row: usize| {
            let cells = (0..columns).map(|column| {
                let (text, width) = (cell(row, column), widths[column]);
                match right[column] && !self.is_empty() {
                    true => format!("{text:>width$}"),
                    false => format!("{text:width$}"),
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        (0..self.rows.len()).map(line).collect()
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && (text == "-" || text.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let mut table = Table::new(&["NAME", "COUNT", "WHY"]);
        table.row(vec!["a".to_owned(), "7".to_owned(), "this".to_owned()]);
        table.row(vec!["longer".to_owned(), "-".to_owned(), "".to_owned()]);
        assert_eq!(
            table.render(),
            "NAME    COUNT  WHY\na           7  this\nlonger      -\n"
        );
    }

    #[test]
    fn a_heading_alone_is_a_table() {
        let table = Table::new(&["NAME", "COUNT"]);
        assert!(table.is_empty());
        assert_eq!(table.render(), "NAME  COUNT\n");
    }
}
