//! Tables, CSV files, and on which machine they were made.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::stats::Estimate;

/// Rounds that a figure needs.
pub const ROUNDS: usize = 15;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The directory for the files of figures that count.
pub fn default_directory() -> PathBuf {
    repository().join("docs/performance")
}

/// Where the files go, if anywhere.
pub struct Out(Option<PathBuf>);

impl Out {
    /// Files of a run that is too short to count go where they are sent, and nowhere by default: a
    /// quick try must not replace what is published.
    pub fn new(directory: Option<PathBuf>, counts: bool) -> Result<Self> {
        let directory = match directory {
            None if !counts => {
                eprintln!("too short a run to count: no files are written without --out");
                return Ok(Self(None));
            }
            given => given.unwrap_or_else(default_directory),
        };
        fs::create_dir_all(&directory).with_context(|| format!("--out {}", directory.display()))?;
        Ok(Self(Some(directory)))
    }

    pub fn directory(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Writes the file anew.
    pub fn write<T: Serialize>(&self, name: &str, rows: &[T]) -> Result<()> {
        let Some(directory) = &self.0 else {
            return Ok(());
        };
        let path = directory.join(name);
        let write = || -> Result<()> {
            let mut writer = csv::Writer::from_path(&path)?;
            rows.iter().try_for_each(|row| writer.serialize(row))?;
            Ok(writer.flush()?)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

/// All rows of a CSV file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let open = || File::open(path).map(csv::Reader::from_reader);
    let mut reader = open().with_context(|| path.display().to_string())?;
    let rows: csv::Result<_> = reader.deserialize().collect();
    rows.with_context(|| path.display().to_string())
}

/// A Markdown table: a column whose title ends with `:` is set to the right.
pub struct Table {
    text: String,
    columns: usize,
}

impl Table {
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self::with_titles(&titles.map(str::to_owned))
    }

    pub fn with_titles(titles: &[String]) -> Self {
        let names: Vec<_> = titles.iter().map(|title| title.trim_end_matches(':')).collect();
        let sides = titles.iter().map(|title| if title.ends_with(':') { "--:" } else { "---" });
        let sides: Vec<_> = sides.collect();
        let text = format!("| {} |\n|{}|\n", names.join(" | "), sides.join("|"));
        Self { text, columns: titles.len() }
    }

    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<_> = cells.into_iter().map(|cell| cell.as_ref().to_owned()).collect();
        assert_eq!(cells.len(), self.columns, "as many cells as titles");
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// As `1.23 (1.20-1.26)`.
pub fn ratio(estimate: Estimate) -> String {
    let Estimate { value, low, high } = estimate;
    // A small ratio would lose its digits.
    let digits = if value < 0.1 { 4 } else { 2 };
    format!("{value:.digits$} ({low:.digits$}-{high:.digits$})")
}

/// 1234567 as `1,234,567`.
pub fn grouped(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What a figure must be printed with: machine, date, command.
pub fn preamble() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    // Of the last minute, before this run: on a quiet machine it is near 0.
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let date = humantime::format_rfc3339_seconds(SystemTime::now());
    let mut command: Vec<_> = std::env::args().collect();
    if let Some(program) = command.first_mut() {
        let name = Path::new(program.as_str()).file_name().unwrap_or_default();
        *program = name.to_string_lossy().into_owned();
    }
    format!(
        "{model}, {} cores ({}), load {load} before; {date}; `{}`\n",
        cores(),
        std::env::consts::ARCH,
        command.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0_u64), "0");
        assert_eq!(grouped(999_u64), "999");
        assert_eq!(grouped(1_048_576_u64), "1,048,576");
    }

    #[test]
    fn tables_are_markdown() {
        let mut table = Table::new(["store", "ns:"]);
        table.row(["counterclock", "20"]);
        assert_eq!(table.to_string(), "| store | ns |\n|---|--:|\n| counterclock | 20 |\n");
    }
}
