//! A store, what is known of it from outside, and the check that both agree.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use counterclock::{Cause, CounterStore, Removal, Snapshot, WeakStore};

use crate::books::{Tally, Told, check_snapshot};
use crate::key::{Key, Pool, turn_over};
use crate::plan::{Listening, Plan};

/// Prunes after which everything that has ended must be freed. The collector's queue is one for all
/// stores, and each prune takes a few batches from it: what a large store has cleared may be ahead.
const PRUNES: usize = 10_000;
/// The same for grace periods after the store is gone.
const GRACE_PERIODS: usize = 10_000;

pub struct Bed<S> {
    pub store: CounterStore<Key, S>,
    pub plan: Plan,
    pub pool: Pool,
    told: Arc<Told>,
}

impl<S: BuildHasher + Send + Sync + 'static> Bed<S> {
    pub fn new(plan: Plan, pool: Pool, hasher: S) -> Result<Self> {
        let told = Arc::new(Told::new(plan.keys()));
        let own = Arc::new(OnceLock::new());
        let mut builder = CounterStore::builder()
            .capacity(plan.capacity)
            .slack(plan.slack)
            .at_capacity(plan.at_capacity)
            .hasher(hasher);
        if let Some(shards) = plan.shards {
            builder = builder.shards(shards);
        }
        if let Some(ttl) = plan.ttl {
            builder = builder.idle_ttl(ttl);
        }
        if plan.listening != Listening::No {
            builder = builder.on_removal(listener(&told, &own));
        }
        let store = builder.build()?;
        if plan.listening == Listening::LooksBack {
            // Just made, so it is empty.
            let _ = own.set(store.downgrade());
        }
        Ok(Self { store, plan, pool, told })
    }

    /// A picture between whose parts no life has ended. Nobody else uses the store, so each try in
    /// vain has ended an idle life.
    fn picture(&self) -> Snapshot<Key> {
        loop {
            let before = self.store.stats();
            let snapshot = self.store.snapshot();
            if self.store.stats() == before {
                return snapshot;
            }
        }
    }

    /// With nothing in flight: each unit and each life is where the tallies say.
    pub fn check(&self, tally: &Tally) -> Result<()> {
        let snapshot = self.picture();
        let (stats, totals, len) = (self.store.stats(), snapshot.totals(), self.store.len());
        ensure!(
            totals.recorded == tally.units(),
            "{} units were added and {} are recorded: {totals:?}",
            tally.units(),
            totals.recorded
        );
        check_snapshot(&snapshot)?;
        tally.check_live(&snapshot)?;
        ensure!(
            stats.admitted == stats.evicted + stats.expired + stats.removed + len as u64,
            "{len} lives and {stats:?} do not add up"
        );
        ensure!(len == snapshot.len(), "{len} live, of which {} are seen", snapshot.len());
        ensure!(len <= self.plan.capacity, "{len} live under a cap of {}", self.plan.capacity);
        let (calls, units) = (tally.may_be_rejections(), tally.may_be_rejected());
        ensure!(
            calls.contains(&stats.rejections) && units.contains(&totals.rejected),
            "rejected calls, {calls:?}, and units, {units:?}, are not as in {stats:?}, {totals:?}"
        );
        let removed = tally.removed;
        ensure!(
            removed == totals.removed || (tally.clears > 0 && removed < totals.removed),
            "`remove` returned {removed} units, after {} clears: {totals:?}",
            tally.clears
        );
        if self.plan.listening != Listening::No {
            for (cause, lives, units) in [
                (Cause::Capacity, stats.evicted, totals.evicted),
                (Cause::Idle, stats.expired, totals.expired),
                (Cause::Removed, stats.removed, totals.removed),
            ] {
                let told = self.told.by(cause);
                ensure!(
                    told == (lives, units),
                    "{cause:?}: the listener was told of {told:?} lives and units, and it was \
                     {:?}",
                    (lives, units)
                );
            }
            let unsaid = tally.check_keys(&self.told, &snapshot)?;
            ensure!(
                tally.rejected + unsaid == totals.rejected,
                "{} units were rejected and {unsaid} more are missing: {totals:?}",
                tally.rejected
            );
        }
        Ok(())
    }

    /// With nothing in flight: what has ended is freed, but for what `snapshot`s still hold.
    pub fn check_freed(&self) -> Result<()> {
        for _ in 0..PRUNES {
            self.store.prune();
            if self.store.waiting() == 0 {
                return Ok(());
            }
        }
        let waiting = self.store.waiting();
        ensure!(waiting == 0, "{waiting} ended entries are not freed after {PRUNES} prunes");
        Ok(())
    }

    /// The end of the store, and of snapshots that outlive it.
    pub fn check_end(self, snapshots: Vec<Snapshot<Key>>) -> Result<()> {
        let Self { store, pool, .. } = self;
        let shown: Vec<_> = snapshots.iter().map(numbers).collect();
        drop(store);
        let held: HashSet<_> = snapshots.iter().flat_map(Snapshot::iter).map(address).collect();
        // All else is freed, and then what is held is still there.
        check_keys_left(pool, held.len())?;
        let same = shown == snapshots.iter().map(numbers).collect::<Vec<_>>();
        ensure!(same, "a snapshot changed after its store was gone");
        drop(snapshots);
        check_keys_left(pool, 0)
    }
}

/// Where the key is: each life of one key has its own.
fn address((key, _): (&Key, u64)) -> *const Key {
    key
}

/// Read from the entries that the snapshot holds. (The counts are its own.)
fn numbers(snapshot: &Snapshot<Key>) -> Vec<u64> {
    snapshot.iter().map(|(key, _)| key.number()).collect()
}

/// The store of these keys is gone, and so many are held.
fn check_keys_left(pool: Pool, held: usize) -> Result<()> {
    for _ in 0..GRACE_PERIODS {
        if pool.alive() == held {
            return Ok(());
        }
        turn_over();
    }
    let alive = pool.alive();
    ensure!(alive == held, "{alive} keys are alive, {held} are held, and their store is gone");
    Ok(())
}

fn listener<S: BuildHasher + Send + Sync + 'static>(
    told: &Arc<Told>,
    own: &Arc<OnceLock<WeakStore<Key, S>>>,
) -> impl Fn(&Removal<'_, Key>) + Send + Sync + 'static {
    let (told, own) = (Arc::clone(told), Arc::clone(own));
    move |removal| {
        told.note(removal);
        if let Some(store) = own.get().and_then(WeakStore::upgrade) {
            // Nothing that ends a life: that would call this again.
            let (len, capacity) = (store.len(), store.capacity());
            assert!(len <= capacity, "the listener saw {len} live under a cap of {capacity}");
        }
    }
}
