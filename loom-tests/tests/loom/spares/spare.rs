// Spares: each is handed out once. In a copy in which loom may see memory used again.

use std::collections::BTreeSet;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use loom::thread;

use super::tree::cell::Cause;
use super::tree::entry::{Entry, SHARD};
use super::tree::hash::KeyHash;
use super::tree::spare::{Batch, Spares};
use crate::explore::explore;

fn batch(keys: Range<usize>) -> Batch<usize> {
    let mut batch = Batch::new();
    for key in keys {
        let entry = Box::new(Entry::new(KeyHash::mixed(0), key, None, SHARD));
        entry.seal(Cause::Removed);
        batch.push(NonNull::from(Box::leak(entry)));
    }
    batch
}

/// The owner of the shard, an admission that is not, and a free.
pub(crate) fn no_spare_twice() {
    explore("spare, an owner, a taker and one that keeps", 3, 1000, || {
        let spares = Arc::new(Spares::new(2));
        assert_eq!(spares.keep(batch(0..2)).len(), 0);
        let owner = {
            let spares = Arc::clone(&spares);
            thread::spawn(move || {
                let mut own = Batch::new();
                let spare = spares.pop_into(&mut own);
                (vec![spare, spares.pop_into(&mut own)], own)
            })
        };
        let taker = {
            let spares = Arc::clone(&spares);
            thread::spawn(move || {
                // As a free that follows an admission.
                let mut used = Batch::new();
                spares.pop().into_iter().for_each(|entry| used.push(entry));
                let too_many = spares.keep(used);
                (spares.pop(), too_many)
            })
        };
        let mut too_many = spares.keep(batch(2..3));
        let (mut taken, mut own) = owner.join().unwrap();
        let (spare, mut also) = taker.join().unwrap();
        taken.push(spare);
        for batch in [&mut own, &mut too_many, &mut also] {
            taken.extend(std::iter::from_fn(|| batch.pop().map(Some)));
        }
        taken.extend(std::iter::from_fn(|| spares.pop().map(Some)));
        let entries: Vec<_> = taken.into_iter().flatten().collect();
        let places: BTreeSet<_> = entries.iter().map(|entry| entry.as_ptr().addr()).collect();
        assert_eq!((places.len(), entries.len()), (3, 3), "each spare is handed out once");
        for entry in entries {
            // SAFETY: made by a box, and nobody else has it.
            drop(unsafe { Box::from_raw(entry.as_ptr()) });
        }
    });
}
