// What the copies of the sources stand on, and what the models must catch. Each patch must match
// its file exactly once, else the build fails: it then has to follow the source.

/// What a copy of the sources stands on.
#[derive(Clone, Copy)]
enum Base {
    /// The sources as they are, on the real epoch collector.
    Real,
    /// The same, and dropping a handle of the store orders what std's `Arc` orders, which loom does
    /// not see: for models in which any thread may drop the last handle.
    Drops,
    /// A guard is a token that protects nothing, and nothing may be retired: for single layers with
    /// three threads and more, where the real collector takes minutes.
    Stub,
    /// What is retired is forgotten, leaks are not looked for, and what other models look at is no
    /// branching point: statistics, limbo, and arrivals where no room is needed; and a pass over
    /// the index that was overtaken is not repeated. For the whole store with three threads, or
    /// with more preemptions.
    Still,
    /// What is retired is freed at once: for who frees, and when.
    AtOnce,
    /// As `Stub`, and memory is used again, which loom's marker in each entry else forbids.
    Spares,
}

/// The copies without a mutation.
const BASES: &[(&str, Base)] = &[
    ("store", Base::Real),
    ("drops", Base::Drops),
    ("layers", Base::Stub),
    ("still", Base::Still),
    ("at_once", Base::AtOnce),
    ("spares", Base::Spares),
];

struct Mutation {
    name: &'static str,
    base: Base,
    patch: Patch,
}

struct Patch {
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn on(base: Base, name: &'static str, patch: Patch) -> Mutation {
    Mutation { name, base, patch }
}

const fn stub(name: &'static str, patch: Patch) -> Mutation {
    on(Base::Stub, name, patch)
}

const fn still(name: &'static str, patch: Patch) -> Mutation {
    on(Base::Still, name, patch)
}

const fn real(name: &'static str, patch: Patch) -> Mutation {
    on(Base::Real, name, patch)
}

const fn patch(file: &'static str, from: &'static str, to: &'static str) -> Patch {
    Patch { file, from, to }
}

impl Base {
    fn patches(self) -> Vec<&'static Patch> {
        let patches: &[&[Patch]] = match self {
            Base::Real => &[],
            Base::Drops => &[DROPS],
            Base::Stub => &[TOKEN, NO_DEFER, WATCHED],
            Base::Still => &[TOKEN, FORGETS, WATCHED],
            Base::AtOnce => &[TOKEN, AT_ONCE, WATCHED],
            Base::Spares => &[TOKEN, NO_DEFER, SPARES, WATCHED],
        };
        patches.iter().copied().flatten().collect()
    }
}

/// Makes a guard a token that protects nothing.
const TOKEN: &[Patch] = &[
    patch("reclaim.rs", "struct Guard(epoch::Guard);", "struct Guard;"),
    patch("reclaim.rs", "self.0.flush();", ""),
    patch("reclaim.rs", "Guard(epoch::pin())", "Guard"),
    patch(
        "reclaim.rs",
        "use super::{Guard, epoch};\n\n    pub(crate) fn pin",
        "use super::Guard;\n\n    pub(crate) fn pin",
    ),
];

/// loom overlooks loads that an exchange follows, see `watched.rs`.
const WATCHED: &[Patch] = &[patch(
    "sync.rs",
    "pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};",
    "pub(crate) use super::super::super::super::watched::{
        AtomicBool, AtomicPtr, AtomicU64, AtomicUsize,
    };
    pub(crate) use loom::sync::atomic::fence;",
)];

const DEFER: &str = "unsafe { self.0.defer_unchecked(f) }";

const NO_DEFER: &[Patch] = &[patch("reclaim.rs", DEFER, "let _ = f; unreachable!()")];

const AT_ONCE: &[Patch] = &[patch("reclaim.rs", DEFER, "f()")];

const FORGETS: &[Patch] = &[
    patch("reclaim.rs", DEFER, "drop(f)"),
    patch("reclaim.rs", "Some(loom::alloc::Track::new(()))", "None"),
    patch("shard.rs", "use crate::sync::{AtomicU64,", "use std::sync::atomic::{AtomicU64,"),
    patch(
        "limbo.rs",
        "AtomicPtr, AtomicUsize, CachePadded, Ordering, yield_now};",
        "CachePadded, Ordering, yield_now};\nuse std::sync::atomic::{AtomicPtr, AtomicUsize};",
    ),
    patch("admit.rs", "if earlier == Some(self.turnover()) {", "if earlier == earlier {"),
    patch(
        "admit.rs",
        "SETTLE_EVERY: u64 = if cfg!(crossbeam_loom) { 1 }",
        "SETTLE_EVERY: u64 = if cfg!(crossbeam_loom) { 8 }",
    ),
];

const SPARES: &[Patch] = &[patch("spare.rs", "if cfg!(crossbeam_loom) { 0 } else { max }", "max")];

/// Each decrement of std's `Arc` is Release, and the last is followed by an Acquire fence. There is
/// no operation of loom's between this one and the decrement, so for loom they are one.
const DROPS: &[Patch] = &[patch(
    "store.rs",
    "impl<K, S> Clone for CounterStore<K, S> {",
    "impl<K, S> Drop for CounterStore<K, S> {
        fn drop(&mut self) {
            let hand = &self.inner.engine.shards[0].idle_hand;
            hand.fetch_add(0, crate::sync::Ordering::AcqRel);
        }
    }

    impl<K, S> Clone for CounterStore<K, S> {",
)];

const SEAL_BLINDLY: Patch = patch(
    "cell.rs",
    "match self
            .word
            .compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire)",
    "match Ok::<u64, u64>(self.word.swap(sealed, Ordering::AcqRel))",
);

const COUNT_ON_THE_DEAD: Patch =
    patch("cell.rs", "if (old & CAUSE) | (after & HEADROOM) != 0 {", "if after & HEADROOM != 0 {");

const MUTATIONS: &[Mutation] = &[
    stub("cell_seals_blindly", SEAL_BLINDLY),
    stub("cell_takes_back_too_much", patch("cell.rs", "before.max(MAX_COUNT)", "MAX_COUNT")),
    stub(
        "cell_announces_blindly",
        patch(
            "cell.rs",
            ".last\n                .compare_exchange(last, units, Ordering::AcqRel, Ordering::Relaxed)\n                .is_err()",
            ".last.swap(units, Ordering::AcqRel) == u64::MAX",
        ),
    ),
    stub(
        "cell_loads_last_too_late",
        patch(
            "cell.rs",
            "        let units = seen.units();\n        if last != units",
            "        let units = seen.units();\n        let last = self.last.load(Ordering::Acquire);\n        if last != units",
        ),
    ),
    stub(
        "budget_one_too_many",
        patch("budget.rs", "while used < self.cap {", "while used <= self.cap {"),
    ),
    stub(
        "budget_release_relaxed",
        patch("budget.rs", "fetch_sub(1, Ordering::Release)", "fetch_sub(1, Ordering::Relaxed)"),
    ),
    stub(
        "index_inserts_anyway",
        patch(
            "index.rs",
            "        let bucket = self.bucket(entry.hash());\n        entry.next()",
            "        let bucket = self.bucket(entry.hash());\n        let head = Head(bucket.load(Ordering::Acquire));\n        entry.next()",
        ),
    ),
    stub(
        "index_publishes_relaxed",
        patch(
            "index.rs",
            "bucket.compare_exchange(head.0, raw, Ordering::Release,",
            "bucket.compare_exchange(head.0, raw, Ordering::Relaxed,",
        ),
    ),
    stub(
        "index_unlinks_from_marked",
        patch(
            "index.rs",
            "if pred\n                    .compare_exchange(current, end, Ordering::AcqRel, Ordering::Relaxed)\n                    .is_err()",
            "if pred.swap(end, Ordering::AcqRel).addr() == MARK",
        ),
    ),
    stub(
        "index_forgets_the_run",
        patch("index.rs", ".take_while(|e| e.as_ptr() != end)", ".take(1)"),
    ),
    stub(
        "index_walk_stops_at_marks",
        patch(
            "index.rs",
            "self.current = unmarked(entry.next().load(Ordering::Acquire));",
            "let next = entry.next().load(Ordering::Acquire);\n        self.current = if is_marked(next) { ptr::null_mut() } else { next };",
        ),
    ),
    stub(
        "roster_looks_before_it_takes",
        patch(
            "clock_list.rs",
            "|| self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err()",
            "|| { self.taken.store(true, Ordering::Release); false }",
        ),
    ),
    stub(
        "roster_leaves_relaxed",
        patch(
            "clock_list.rs",
            "self.taken.store(false, Ordering::Release);",
            "self.taken.store(false, Ordering::Relaxed);",
        ),
    ),
    stub(
        "roster_loses_arrivals",
        patch(
            "clock_list.rs",
            "self.backlog = arrivals.swap(ptr::null_mut(), Ordering::Acquire);",
            "self.backlog = arrivals.load(Ordering::Acquire);\n            arrivals.store(ptr::null_mut(), Ordering::Release);",
        ),
    ),
    stub(
        "roster_loses_notes",
        patch(
            "clock_list.rs",
            "push(&self.departures, note, |head| unsafe { (*note).next = head });",
            "let _ = note;",
        ),
    ),
    stub(
        "roster_lets_go_of_arrivals",
        patch("clock_list.rs", "Place::Arriving => return false,", "Place::Arriving => {}"),
    ),
    stub(
        "roster_forgets_who_departed",
        patch(
            "clock_list.rs",
            "        if departed {\n",
            "        if departed && known != known {\n",
        ),
    ),
    stub(
        "ledger_skips_the_mark",
        patch(
            "ledger.rs",
            "                index::mark(&replaced);\n",
            "                let _ = replaced;\n",
        ),
    ),
    stub(
        "index_inserts_blindly",
        patch(
            "index.rs",
            "match bucket.compare_exchange(head.0, raw, Ordering::Release, Ordering::Relaxed) {",
            "match Ok::<*mut Entry<K>, *mut Entry<K>>(bucket.swap(raw, Ordering::Release)) {",
        ),
    ),
    stub(
        "ledger_settles_blindly",
        patch(
            "ledger.rs",
            "match self.head.compare_exchange(expected,settled(version),Ordering::AcqRel,Ordering::Acquire,) {",
            "match Ok::<_, *mut Entry<K>>({ let _ = expected; self.head.swap(settled(version), Ordering::AcqRel) }) {",
        ),
    ),
    stub("ledger_reads_without_a_fence", patch("ledger.rs", "fence(Ordering::Acquire);", "")),
    stub(
        "ledger_credits_relaxed",
        patch(
            "ledger.rs",
            "match self.head.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {",
            "match self.head.compare_exchange(head, new, Ordering::Relaxed, Ordering::Acquire) {",
        ),
    ),
    stub(
        "cell_reads_relaxed",
        patch(
            "cell.rs",
            "let word = self.word.load(Ordering::Acquire);\n        match Cause",
            "let word = self.word.load(Ordering::Relaxed);\n        match Cause",
        ),
    ),
    stub(
        "cell_seals_relaxed",
        patch(
            "cell.rs",
            "compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire)",
            "compare_exchange(seen.0, sealed, Ordering::Relaxed, Ordering::Relaxed)",
        ),
    ),
    stub(
        "ledger_settles_relaxed",
        patch(
            "ledger.rs",
            "self.settled.store(head.record().load(), Ordering::Release);",
            "self.settled.store(head.record().load(), Ordering::Relaxed);",
        ),
    ),
    stub(
        "index_marks_relaxed",
        patch(
            "index.rs",
            "compare_exchange_weak(next, marked, Ordering::Release, Ordering::Relaxed)",
            "compare_exchange_weak(next, marked, Ordering::Relaxed, Ordering::Relaxed)",
        ),
    ),
    stub(
        "cell_announces_what_is_over",
        patch("cell.rs", "if now != seen || seen.is_ended() {", "if now != seen && seen.is_ended() {"),
    ),
    stub("ledger_reuses_versions", patch("ledger.rs", "version(before) + 1", "version(before)")),
    real("store_frees_at_once", patch("reclaim.rs", "unsafe { self.0.defer_unchecked(f) }", "f()")),
    real("store_leaks_the_ledgers_hold", patch("engine.rs", "done |= LEDGER;", "")),
    real("store_seals_blindly", SEAL_BLINDLY),
    real(
        "store_evicts_without_a_permit",
        patch("budget.rs", "while used < self.cap {", "while used <= self.cap {"),
    ),
    real("store_lets_handles_go", patch("entry.rs", "holds + HANDLE,", "holds,")),
    real(
        "store_reads_once",
        patch(
            "ledger.rs",
            "self.groups[group].head.load(Ordering::Relaxed) == reading.head",
            "group < self.groups() || reading.head.is_null()",
        ),
    ),
    on(
        Base::AtOnce,
        "limbo_lets_go_relaxed",
        patch(
            "limbo.rs",
            "entry.holds().fetch_sub(bits, Ordering::AcqRel);",
            "entry.holds().fetch_sub(bits, Ordering::Relaxed);",
        ),
    ),
    on(
        Base::AtOnce,
        "limbo_lets_go_without_acquire",
        patch(
            "limbo.rs",
            "entry.holds().fetch_sub(bits, Ordering::AcqRel);",
            "entry.holds().fetch_sub(bits, Ordering::Release);",
        ),
    ),
    on(
        Base::AtOnce,
        "limbo_handles_go_relaxed",
        patch(
            "limbo.rs",
            "held.holds().fetch_sub(HANDLE, Ordering::AcqRel);",
            "held.holds().fetch_sub(HANDLE, Ordering::Relaxed);",
        ),
    ),
    on(
        Base::AtOnce,
        "limbo_counts_what_it_gave_back",
        patch("limbo.rs", "held.holds().store(UNCOUNTED, Ordering::Relaxed);", ""),
    ),
    on(
        Base::AtOnce,
        "limbo_keeps_the_handles_slot",
        patch(
            "limbo.rs",
            "// Only handles are left. The bits of the store never come back, so this happens once.\n            self.release(1);",
            "",
        ),
    ),
    on(
        Base::Spares,
        "spares_ignore_taken",
        patch(
            "spare.rs",
            "if self.len() == 0\n            || self\n                .taken\n                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)\n                .is_err()\n",
            "if self.len() == 0\n",
        ),
    ),
    on(
        Base::Spares,
        "spares_leave_relaxed",
        patch(
            "spare.rs",
            "self.taken.store(false, Ordering::Release);\n        blank",
            "self.taken.store(false, Ordering::Relaxed);\n        blank",
        ),
    ),
    still("still_seals_blindly", SEAL_BLINDLY),
    still("still_counts_on_the_dead", COUNT_ON_THE_DEAD),
    still(
        "still_admits_without_a_permit",
        patch("budget.rs", "while used < self.cap {", "while used <= self.cap {"),
    ),
    still(
        "still_samples_nobody",
        patch(
            "admit.rs",
            "let sealed = self.sample(hash, time, guard)?;",
            "let sealed: Sealed<'_, K> = None?;",
        ),
    ),
    still(
        "still_spares_what_is_in_use",
        patch(
            "admit.rs",
            "if let Some(units) = entry.cell().seal(Cause::Capacity) {",
            "if let Some(units) = entry.cell().seal(Cause::Capacity).filter(|_| false) {",
        ),
    ),
    still(
        "still_judges_before_it_looks",
        patch(
            "engine.rs",
            "let seen = entry.cell().look();\n            if seen.is_ended() || !is_idle(&entry, time) {",
            "let idle = is_idle(&entry, time);\n            let seen = entry.cell().look();\n            if seen.is_ended() || !idle {",
        ),
    ),
    still(
        "still_adds_relaxed",
        patch(
            "cell.rs",
            "self.word.fetch_add(USE + n, Ordering::Release)",
            "self.word.fetch_add(USE + n, Ordering::Relaxed)",
        ),
    ),
    still(
        "still_moves_the_tick_back",
        patch(
            "engine.rs",
            "entry.tick().fetch_max(this_tick, Ordering::Relaxed);",
            "entry.tick().store(this_tick, Ordering::Relaxed);",
        ),
    ),
    still(
        "still_forgets_the_uncredited",
        patch(
            "groups.rs",
            "State::Ended(cause, count) if !reading.has(entry) => {",
            "State::Ended(cause, count) if reading.has(entry) && count == u64::MAX => {",
        ),
    ),
    still(
        "still_counts_the_credited",
        patch(
            "groups.rs",
            "State::Ended(cause, count) if !reading.has(entry) => {",
            "State::Ended(cause, count) => {",
        ),
    ),
    real("store_counts_on_the_dead", COUNT_ON_THE_DEAD),
    real(
        "store_holds_the_dead",
        patch("entry.rs", "while holds & CORE != 0 {", "while holds != u64::MAX {"),
    ),
    real(
        "store_has_one_slot_more",
        patch("limbo.rs", "while exist < self.max {", "while exist <= self.max {"),
    ),
    real(
        "store_gives_slots_back_early",
        patch(
            "limbo.rs",
            "if after == 0 {\n            self.retire(entry, guard);",
            "if after == 0 {\n            entry.holds().store(UNCOUNTED, Ordering::Relaxed);\n            self.release(1);\n            self.retire(entry, guard);",
        ),
    ),
    on(
        Base::Drops,
        "drops_free_what_is_held",
        patch("limbo.rs", "if before == bits {", "if (before - bits) & CORE == 0 {"),
    ),
    on(
        Base::Drops,
        "drops_leak_the_live",
        patch(
            "engine.rs",
            "let bits = if ended { INDEX } else { INDEX | of_sealer };",
            "let bits = if ended { INDEX } else { let _ = of_sealer; INDEX };",
        ),
    ),
];
