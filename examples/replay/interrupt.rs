//! Ctrl-C: the first one stops the reading, so that the report so far is still printed.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a reader that waits for a pipe takes to see an interrupt.
const GLANCE: Duration = Duration::from_millis(50);

/// Blocks of a pipe read ahead.
const BLOCKS: usize = 4;
const BLOCK_BYTES: usize = 64 * 1024;

/// Catches Ctrl-C from now on. The second one ends the process at once.
pub fn listen() {
    // Where no handler can be set, Ctrl-C ends the process as it always does.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Relaxed)
}

/// Standard input that ends at an interrupt, even while it waits for a silent pipe.
///
/// A blocked read cannot be called off, so a thread of its own does the reading; at an interrupt
/// it is left where it is.
pub struct Stdin {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    used: usize,
}

impl Stdin {
    pub fn open() -> io::Result<Self> {
        let (sender, blocks) = mpsc::sync_channel(BLOCKS);
        thread::Builder::new().spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut block = vec![0; BLOCK_BYTES];
                let read = loop {
                    match stdin.read(&mut block) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        result => break result,
                    }
                };
                let last = !matches!(read, Ok(1..));
                let message = read.map(|n| {
                    block.truncate(n);
                    block
                });
                if sender.send(message).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self { blocks, block: Vec::new(), used: 0 })
    }

    /// Waits for a block; an empty one is the end.
    fn next_block(&self) -> io::Result<Vec<u8>> {
        loop {
            match self.blocks.recv_timeout(GLANCE) {
                Ok(block) => return block,
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Timeout) if interrupted() => return Ok(Vec::new()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() {
            self.block = self.next_block()?;
            self.used = 0;
        }
        let rest = &self.block[self.used..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.used += n;
        Ok(n)
    }
}
