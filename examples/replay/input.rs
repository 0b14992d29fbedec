//! Which input is meant, and its files opened one after the other.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::batch::Position;
use crate::interrupt;

const BUFFER_BYTES: usize = 64 * 1024;

/// What is replayed.
#[derive(Debug)]
pub enum Input {
    Day,
    Text(Vec<Origin>),
    Trace(Vec<Origin>),
}

/// Where bytes come from.
#[derive(Clone, Debug)]
pub enum Origin {
    Stdin,
    File(PathBuf),
}

impl Input {
    /// Looks at the arguments, and at standard input when no file is named.
    ///
    /// Each file is opened once here, so that a wrong name is told before hours of reading.
    pub fn choose(args: &Args) -> Result<Self> {
        if args.files.is_empty() {
            return Self::without_files(args);
        }
        let origins: Vec<Origin> = args.files.iter().map(|path| Origin::named(path)).collect();
        let stdins = origins.iter().filter(|o| matches!(o, Origin::Stdin));
        ensure!(stdins.count() <= 1, "standard input is named twice");
        for origin in &origins {
            origin.check()?;
        }
        match origins.iter().filter(|origin| origin.is_trace()).count() {
            0 => Ok(Self::Text(origins)),
            n if n == origins.len() && args.field.is_some() => {
                bail!("--field is for logs: a trace holds nothing but keys")
            }
            n if n == origins.len() => Ok(Self::Trace(origins)),
            _ => bail!("logs and traces (.u64) cannot be counted together: their keys differ"),
        }
    }

    fn without_files(args: &Args) -> Result<Self> {
        let asks_for_day = args.seed.is_some() || args.events.is_some();
        if !asks_for_day && stdin_is_input() {
            return Ok(Self::Text(vec![Origin::Stdin]));
        }
        ensure!(
            args.field.is_none(),
            "--field needs a log: name a file, or pipe one to standard input"
        );
        Ok(Self::Day)
    }

    pub fn can_be_read_twice(&self) -> bool {
        match self {
            Self::Day => true,
            Self::Text(origins) | Self::Trace(origins) => {
                origins.iter().all(|origin| origin.len().is_some())
            }
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("a simulated day of SSE sessions"),
            Self::Text(origins) | Self::Trace(origins) => match origins.as_slice() {
                [one] => f.write_str(&one.short_name()),
                [first, rest @ ..] => write!(f, "{} and {} more", first.short_name(), rest.len()),
                [] => Ok(()),
            },
        }
    }
}

impl Origin {
    fn named(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path.to_owned()) }
    }

    /// Fails when it cannot be read. A named pipe is left alone: opening it is an event.
    fn check(&self) -> Result<()> {
        let Self::File(path) = self else {
            return Ok(());
        };
        let metadata = path.metadata().with_context(|| self.to_string())?;
        ensure!(!metadata.is_dir(), "{self}: is a directory, not a log");
        if metadata.is_file() {
            File::open(path).with_context(|| self.to_string())?;
        }
        Ok(())
    }

    fn is_trace(&self) -> bool {
        let Self::File(path) = self else { return false };
        let inner =
            if self.is_zstd() { Path::new(path.file_stem().unwrap_or_default()) } else { path };
        inner.extension() == Some(OsStr::new("u64"))
    }

    fn is_zstd(&self) -> bool {
        matches!(self, Self::File(path) if path.extension() == Some(OsStr::new("zst")))
    }

    /// The length of a regular file; other things have none.
    fn len(&self) -> Option<u64> {
        let Self::File(path) = self else { return None };
        let metadata = path.metadata().ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    fn short_name(&self) -> String {
        match self {
            Self::File(path) => {
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            }
            Self::Stdin => self.to_string(),
        }
    }

    fn open(&self, done: Rc<Cell<u64>>) -> Result<OpenFile> {
        let raw: Box<dyn Read> = match self {
            Self::Stdin => Box::new(interrupt::Stdin::open().context("standard input")?),
            Self::File(path) => Box::new(File::open(path).with_context(|| self.to_string())?),
        };
        let counted = CountedRead { raw, done };
        let bytes: Box<dyn Read> = if self.is_zstd() {
            Box::new(zstd::Decoder::new(counted).with_context(|| self.to_string())?)
        } else {
            Box::new(counted)
        };
        Ok(OpenFile {
            name: self.to_string(),
            reader: BufReader::with_capacity(BUFFER_BYTES, bytes),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// True for a pipe or a file; false for a terminal, and for the null device that scripts and
/// services hand over when they mean "nothing". An empty pipe is an empty log.
#[cfg(unix)]
fn stdin_is_input() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;

    let Ok(copy) = io::stdin().as_fd().try_clone_to_owned() else {
        return false;
    };
    File::from(copy).metadata().is_ok_and(|metadata| !metadata.file_type().is_char_device())
}

#[cfg(not(unix))]
fn stdin_is_input() -> bool {
    !io::IsTerminal::is_terminal(&io::stdin())
}

/// A file while it is read.
pub struct OpenFile {
    pub name: String,
    pub reader: BufReader<Box<dyn Read>>,
}

/// The files of an input, each opened when the one before it has ended.
pub struct Files {
    waiting: VecDeque<Origin>,
    position: Position,
    done: Rc<Cell<u64>>,
}

impl Files {
    pub fn new(origins: &[Origin]) -> Self {
        let total = origins.iter().map(Origin::len).sum();
        Self {
            waiting: origins.iter().cloned().collect(),
            position: Position { done: 0, total },
            done: Rc::default(),
        }
    }

    pub fn open_next(&mut self) -> Result<Option<OpenFile>> {
        let Some(origin) = self.waiting.pop_front() else {
            return Ok(None);
        };
        origin.open(Rc::clone(&self.done)).map(Some)
    }

    /// In bytes as they lie in the files.
    pub fn progress(&self) -> Position {
        Position { done: self.done.get(), ..self.position }
    }
}

/// Counts what is read, before it is decompressed.
struct CountedRead {
    raw: Box<dyn Read>,
    done: Rc<Cell<u64>>,
}

impl Read for CountedRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.raw.read(buffer)?;
        self.done.set(self.done.get() + n as u64);
        Ok(n)
    }
}
