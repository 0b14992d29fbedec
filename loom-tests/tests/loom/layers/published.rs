// Included by models of single layers: an entry that threads share, in one chain with all others.

#[allow(dead_code)] // No file uses all of it.
mod published {
    use super::super::tree::cell::Amount;
    use super::super::tree::entry::{Entry, Ref, SHARD};
    use super::super::tree::hash::KeyHash;

    /// With one bucket all keys are in one chain; their marks differ.
    pub(super) fn hash(key: usize) -> KeyHash {
        KeyHash::mixed(key as u64)
    }

    /// A new life, of so many units.
    pub(super) fn entry(key: usize, units: u64) -> Box<Entry<usize>> {
        let mut entry = Box::new(Entry::new(hash(key), key, None, SHARD));
        entry.prepare(Amount::once(units), 0, None);
        entry
    }

    /// An entry that lives to the end of the execution, whoever has let go of it.
    #[derive(Clone, Copy)]
    pub(super) struct Published(*mut Entry<usize>);

    // SAFETY: entries are there to be shared, and these live to the end of the execution.
    unsafe impl Send for Published {}

    impl Published {
        pub(super) fn new(key: usize) -> Self {
            Self(Box::into_raw(entry(key, 1)))
        }

        pub(super) fn of(entry: Ref<'_, usize>) -> Self {
            Self(entry.as_ptr())
        }

        pub(super) fn get(self) -> Ref<'static, usize> {
            // SAFETY: made by `Box`, and lives to the end of the execution.
            unsafe { Ref::new(self.0) }.unwrap()
        }

        pub(super) fn free(self) {
            // SAFETY: as above, and nobody else is left.
            drop(unsafe { Box::from_raw(self.0) });
        }
    }
}
