//! Reads interactions from RecBole's `.inter` files and from plain csv.
//!
//! `.inter` is tab-separated and its header types each column, `user_id:token`; csv is
//! comma-separated with bare names. A tab in the header tells the first from the second.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use csv::StringRecord;

use super::{Interaction, Interactions};

/// The names of the columns that matter; all others are ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) user: &'a str,
    pub(crate) item: &'a str,
    pub(crate) time: &'a str,
}

/// Reads a file. Users and items are numbered in the order of their first appearance.
pub(crate) fn read(path: &Path, columns: Columns<'_>) -> Result<Interactions> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    parse(BufReader::new(file), columns).with_context(|| format!("cannot use {}", path.display()))
}

fn parse(source: impl BufRead, columns: Columns<'_>) -> Result<Interactions> {
    let mut lines = Lines { source, number: 0, bytes: Vec::new() };
    let Some(header) = lines.next_line()? else { bail!("the file is empty: expected a header line") };
    let delimiter = if header.contains('\t') { Delimiter::Tab } else { Delimiter::Comma };
    let header = delimiter.split(header.trim_start_matches('\u{feff}')).context("line 1")?;
    let place = |name| find_column(&header, name).context("line 1");
    let (user, item, time) = (place(columns.user)?, place(columns.item)?, place(columns.time)?);

    let mut users = Numbering::default();
    let mut items = Numbering::default();
    let mut all = Vec::new();
    while let Some(line) = lines.next_line()? {
        let mut interaction = || {
            let record = delimiter.split(line)?;
            let (found, expected) = (record.len(), header.len());
            ensure!(found == expected, "found {found} fields, the header has {expected}");
            Ok(Interaction {
                user: users.number(field(&record, user, columns.user)?)?,
                item: items.number(field(&record, item, columns.item)?)?,
                time: parse_time(field(&record, time, columns.time)?, columns.time)?,
            })
        };
        let interaction = interaction();
        all.push(interaction.with_context(|| format!("line {}", lines.number))?);
    }
    ensure!(!all.is_empty(), "there is a header but no interaction below it");
    Ok(Interactions { users: users.len(), items: items.len(), all })
}

/// Lines that are not blank, and the number (from 1) of the one at hand.
struct Lines<R> {
    source: R,
    number: usize,
    bytes: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn next_line(&mut self) -> Result<Option<&str>> {
        loop {
            self.bytes.clear();
            self.number += 1;
            let line = || format!("line {}", self.number);
            if self.source.read_until(b'\n', &mut self.bytes).with_context(line)? == 0 {
                return Ok(None);
            }
            if !self.bytes.trim_ascii().is_empty() {
                let text = std::str::from_utf8(&self.bytes).with_context(line)?;
                return Ok(Some(text.trim_end_matches(['\r', '\n'])));
            }
        }
    }
}

/// What stands between fields.
#[derive(Clone, Copy)]
enum Delimiter {
    Tab,
    Comma,
}

impl Delimiter {
    /// The fields of one line. Between commas a field may be quoted; between tabs quotes mean
    /// nothing.
    fn split(self, line: &str) -> Result<StringRecord> {
        match self {
            Delimiter::Tab => Ok(line.split('\t').collect()),
            Delimiter::Comma => {
                let mut reader = csv::ReaderBuilder::new()
                    .has_headers(false)
                    .buffer_capacity(line.len())
                    .from_reader(line.as_bytes());
                let mut record = StringRecord::new();
                reader.read_record(&mut record)?;
                Ok(record)
            }
        }
    }
}

/// The position of a column whose name, less a RecBole type such as `:token`, is `name`.
fn find_column(header: &StringRecord, name: &str) -> Result<usize> {
    let names: Vec<&str> =
        header.iter().map(|column| column.split(':').next().unwrap_or(column).trim()).collect();
    match names.iter().position(|&found| found == name) {
        Some(position) => Ok(position),
        None => bail!("no column {name:?}; found {}", names.join(", ")),
    }
}

fn field<'a>(record: &'a StringRecord, position: usize, name: &str) -> Result<&'a str> {
    let value = record.get(position).unwrap_or_default().trim();
    ensure!(!value.is_empty(), "{name} is empty");
    Ok(value)
}

fn parse_time(text: &str, name: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(time) if time.is_finite() => Ok(time),
        _ => bail!("{name} {text:?} is not a finite number"),
    }
}

/// Gives each distinct token the next number.
#[derive(Default)]
struct Numbering(HashMap<String, u32>);

impl Numbering {
    fn number(&mut self, token: &str) -> Result<u32> {
        if let Some(&number) = self.0.get(token) {
            return Ok(number);
        }
        let number = u32::try_from(self.0.len()).context("more than 2^32 distinct ids")?;
        self.0.insert(token.to_owned(), number);
        Ok(number)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Columns<'static> = Columns { user: "user_id", item: "item_id", time: "timestamp" };

    fn parse_text(text: &str) -> Result<Interactions> {
        parse(text.as_bytes(), NAMES)
    }

    fn message(text: &str) -> String {
        format!("{:#}", parse_text(text).expect_err("malformed text was accepted"))
    }

    fn triples(found: &Interactions) -> Vec<(u32, u32, f64)> {
        found.all.iter().map(|one| (one.user, one.item, one.time)).collect()
    }

    #[test]
    fn recbole_with_typed_header() {
        let text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
                    196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250950.5\n";
        let found = parse_text(text).unwrap();
        assert_eq!((found.users, found.items), (2, 2));
        assert_eq!(triples(&found), [(0, 0, 881250949.0), (1, 1, 891717742.0), (0, 1, 881250950.5)]);
    }

    #[test]
    fn csv_in_any_column_order_with_quotes_and_windows_line_ends() {
        let text = "timestamp,item_id,user_id\r\n5,\"a, b\",u\r\n6,c,u\r\n";
        let found = parse_text(text).unwrap();
        assert_eq!((found.users, found.items), (1, 2));
        assert_eq!(triples(&found), [(0, 0, 5.0), (0, 1, 6.0)]);
    }

    #[test]
    fn quotes_mean_nothing_between_tabs() {
        let text = "user_id\titem_id\ttimestamp\n\"a\tb\t1\n\"a\tc\t2\n";
        assert_eq!(parse_text(text).unwrap().users, 1);
    }

    #[test]
    fn other_column_names() {
        let names = Columns { user: "userId", item: "movieId", time: "when" };
        let found = parse("userId,movieId,rating,when\n1,2,5,3\n".as_bytes(), names).unwrap();
        assert_eq!(triples(&found), [(0, 0, 3.0)]);
    }

    #[test]
    fn malformed_lines_are_named() {
        let header = "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n";
        for (line, expected) in [
            ("1\t2\n", "line 3: found 2 fields, the header has 3"),
            ("1\t2\t3\t4\n", "line 3: found 4 fields, the header has 3"),
            ("1\t2\tyesterday\n", "line 3: timestamp \"yesterday\" is not a finite number"),
            ("1\t2\tNaN\n", "line 3: timestamp \"NaN\" is not a finite number"),
            ("\t2\t3\n", "line 3: user_id is empty"),
            ("1\t \t3\n", "line 3: item_id is empty"),
            ("1\t2\t\n", "line 3: timestamp is empty"),
        ] {
            assert_eq!(message(&format!("{header}{line}")), expected);
        }
    }

    #[test]
    fn blank_lines_do_not_shift_line_numbers() {
        assert_eq!(
            message("user_id,item_id,timestamp\n1,2,3\n\r\n1,2"),
            "line 4: found 2 fields, the header has 3"
        );
    }

    #[test]
    fn text_that_is_not_utf8_names_its_line() {
        let bytes: &[u8] = b"user_id,item_id,timestamp\n1,2,3\n\xff,2,3\n";
        let message = format!("{:#}", parse(bytes, NAMES).expect_err("accepted"));
        assert!(message.starts_with("line 3: "), "{message}");
    }

    #[test]
    fn missing_columns_are_named_with_those_found() {
        assert_eq!(
            message("user_id:token\titem_id:token\trating:float\n1\t2\t3\n"),
            "line 1: no column \"timestamp\"; found user_id, item_id, rating"
        );
    }

    #[test]
    fn nothing_to_read() {
        assert!(message("").contains("the file is empty"), "{}", message(""));
        let header_only = message("user_id,item_id,timestamp\n");
        assert!(header_only.contains("no interaction"), "{header_only}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("no/such/file.inter"), NAMES).expect_err("read a missing file");
        assert!(format!("{error:#}").contains("no/such/file.inter"));
    }
}
