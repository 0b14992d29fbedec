//! Snapshots as data. Feature `serde`.

use ::serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::snapshot::Snapshot;

/// As `{"totals": {...}, "counters": [[key, count], ...]}`, in no order: pairs, and not a map,
/// since many formats have maps of strings only. For a map, collect the pairs that
/// [`iter`](Snapshot::iter) gives into one.
impl<K: Serialize + Send + Sync + 'static> Serialize for Snapshot<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut snapshot = serializer.serialize_struct("Snapshot", 2)?;
        snapshot.serialize_field("totals", &self.totals())?;
        snapshot.serialize_field("counters", &Counters(self))?;
        snapshot.end()
    }
}

struct Counters<'a, K: Send + Sync + 'static>(&'a Snapshot<K>);

impl<K: Serialize + Send + Sync + 'static> Serialize for Counters<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0)
    }
}
