//! Binary traces: one little-endian u64 a request, nothing else.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, bail};

use crate::batch::{Position, Source, TraceBatch};
use crate::format::grouped;
use crate::input::{Files, OpenFile, Origin};

const KEY_BYTES: usize = size_of::<u64>();

/// The keys of traces.
pub struct Trace {
    files: Files,
    current: Option<OpenFile>,
    /// Keys of the current file so far.
    keys: u64,
    bytes: Vec<u8>,
}

impl Trace {
    pub fn open(origins: &[Origin]) -> Result<Self> {
        let mut files = Files::new(origins);
        Ok(Self { current: files.open_next()?, files, keys: 0, bytes: Vec::new() })
    }

    /// Reads up to `room` keys; none at the end of the file.
    fn read_keys(&mut self, file: &mut OpenFile, room: usize) -> Result<Vec<u64>> {
        self.bytes.resize(room * KEY_BYTES, 0);
        let read = fill(&mut file.reader, &mut self.bytes)
            .with_context(|| format!("{}, after {} keys", file.name, grouped(self.keys)))?;
        let whole = self.bytes[..read].chunks_exact(KEY_BYTES);
        let left_over = whole.remainder().len();
        let keys: Vec<u64> = whole
            .map(|chunk| {
                let mut key = [0; KEY_BYTES];
                key.copy_from_slice(chunk);
                u64::from_le_bytes(key)
            })
            .collect();
        self.keys += keys.len() as u64;
        if left_over > 0 {
            bail!(
                "{}: {left_over} of its bytes are left over after {} keys of {KEY_BYTES} bytes",
                file.name,
                grouped(self.keys)
            );
        }
        Ok(keys)
    }
}

impl Source for Trace {
    type Key = u64;
    type Batch = TraceBatch;

    fn next_batch(&mut self, room: usize) -> Result<Option<TraceBatch>> {
        while let Some(mut file) = self.current.take() {
            let keys = self.read_keys(&mut file, room)?;
            if !keys.is_empty() {
                self.current = Some(file);
                return Ok(Some(TraceBatch(keys)));
            }
            self.current = self.files.open_next()?;
            self.keys = 0;
        }
        Ok(None)
    }

    fn progress(&self) -> Position {
        self.files.progress()
    }
}

/// Reads until `buffer` is full or the file ends, so that no key is cut at a block's edge.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut used = 0;
    while used < buffer.len() {
        match reader.read(&mut buffer[used..]) {
            Ok(0) => break,
            Ok(n) => used += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(used)
}
