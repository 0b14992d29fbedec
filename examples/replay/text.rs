//! Logs: one key a line, or one field of each line.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::batch::{Position, Request, Source, TextBatch};
use crate::format::plural;
use crate::input::{Files, OpenFile, Origin};
use crate::interrupt::interrupted;

/// A longer line is no line of a log, and would be held in memory as a whole.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// The keys of logs.
pub struct Text {
    files: Files,
    current: Option<OpenFile>,
    /// Of the current file, from 1.
    line_number: u64,
    line: Vec<u8>,
    columns: Columns,
    blank: u64,
    missing: u64,
    not_utf8: u64,
}

impl Text {
    pub fn open(args: &Args, origins: &[Origin]) -> Result<Self> {
        let mut files = Files::new(origins);
        Ok(Self {
            current: open_next(&mut files)?,
            files,
            line_number: 0,
            line: Vec::new(),
            columns: Columns {
                field: args.field.map(|n| n.get()),
                delimiter: args.delimiter,
                skip_missing: args.skip_missing,
            },
            blank: 0,
            missing: 0,
            not_utf8: 0,
        })
    }

    /// Reads a line into `self.line`, its end taken off; false at the end of the file.
    fn read_line(&mut self) -> Result<bool> {
        let Some(OpenFile { name, reader }) = &mut self.current else {
            return Ok(false);
        };
        self.line.clear();
        self.line_number += 1;
        let read = reader
            .take(LONGEST_LINE + 1)
            .read_until(b'\n', &mut self.line)
            .with_context(|| format!("{name}, line {}", self.line_number))?;
        ensure!(
            read as u64 <= LONGEST_LINE,
            "{name}, line {}: longer than 16 MiB, so this is no log",
            self.line_number
        );
        for end in [b'\n', b'\r'] {
            if self.line.last() == Some(&end) {
                self.line.pop();
            }
        }
        Ok(read > 0)
    }

    /// Puts the key of `self.line` into the batch.
    fn take_line(&mut self, batch: &mut TextBatch) -> Result<()> {
        let text = String::from_utf8_lossy(&self.line);
        if text.trim_ascii().is_empty() {
            self.blank += 1;
            return Ok(());
        }
        // Owned: something had to be replaced.
        self.not_utf8 += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        match self.columns.key(&text) {
            Some(key) => batch.push(Request::Count, key),
            None if self.columns.skip_missing => self.missing += 1,
            None => {
                let name = self.current.as_ref().map_or("", |file| &file.name);
                let number = self.line_number;
                bail!("{name}, line {number}: {}", self.columns.complaint(&text));
            }
        }
        Ok(())
    }

    /// True when the next line would have to be waited for, perhaps long on a live pipe.
    fn has_run_dry(&self) -> bool {
        self.current.as_ref().is_some_and(|file| file.reader.buffer().is_empty())
    }
}

impl Source for Text {
    type Key = String;
    type Batch = TextBatch;

    fn next_batch(&mut self, room: usize) -> Result<Option<TextBatch>> {
        let mut batch = TextBatch::default();
        while self.current.is_some() && !batch.is_full(room) && !interrupted() {
            if self.read_line()? {
                self.take_line(&mut batch)?;
            } else {
                self.current = open_next(&mut self.files)?;
                self.line_number = 0;
            }
            if self.has_run_dry() && !batch.is_empty() {
                break;
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn progress(&self) -> Position {
        self.files.progress()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut remark = |n: u64, what: &str| {
            if n > 0 {
                remarks.push(format!("{} {what}", plural(n, "line", "lines")));
            }
        };
        remark(self.blank, "skipped: blank");
        remark(self.missing, "skipped: without the field");
        remark(
            self.not_utf8,
            "not UTF-8: bad bytes became U+FFFD, so that keys may have become one",
        );
        remarks
    }
}

/// Opens the next file, and turns away what is known to be no text.
fn open_next(files: &mut Files) -> Result<Option<OpenFile>> {
    let Some(mut file) = files.open_next()? else {
        return Ok(None);
    };
    // Peeking would wait for a pipe; a pipe of gzip shows itself as lines that are not UTF-8.
    if files.progress().total.is_some() {
        let begin = file.reader.fill_buf().with_context(|| file.name.clone())?;
        ensure!(
            !begin.starts_with(&[0x1f, 0x8b]),
            "{}: is compressed by gzip; pipe it: zcat FILE | replay",
            file.name
        );
    }
    Ok(Some(file))
}

/// Where in a line the key stands.
struct Columns {
    field: Option<usize>,
    delimiter: Option<char>,
    skip_missing: bool,
}

impl Columns {
    fn key<'a>(&self, line: &'a str) -> Option<&'a str> {
        match (self.field, self.delimiter) {
            (None, _) => Some(line),
            (Some(n), None) => line.split_ascii_whitespace().nth(n - 1),
            (Some(n), Some(delimiter)) => line.split(delimiter).nth(n - 1),
        }
    }

    fn complaint(&self, line: &str) -> String {
        let fields = match self.delimiter {
            None => line.split_ascii_whitespace().count(),
            Some(delimiter) => line.split(delimiter).count(),
        };
        format!(
            "it has {}, and field {} is asked for (--skip-missing counts such lines instead)",
            plural(fields as u64, "field", "fields"),
            self.field.unwrap_or(0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(field: usize, delimiter: Option<char>) -> Columns {
        Columns { field: Some(field), delimiter, skip_missing: false }
    }

    #[test]
    fn runs_of_whitespace_part_fields_and_each_delimiter_does() {
        assert_eq!(columns(2, None).key(" a \t b c"), Some("b"));
        assert_eq!(columns(4, None).key("a b c"), None);
        assert_eq!(columns(2, Some(',')).key("a,,c"), Some(""));
        assert_eq!(columns(4, Some(',')).key("a,,c"), None);
    }
}
