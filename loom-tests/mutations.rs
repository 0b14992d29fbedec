// What the copies of the sources stand on, and what the models must catch. Each patch must match
// its file exactly once, else the build fails: it then has to follow the source.

/// What a copy of the sources stands on.
#[derive(Clone, Copy)]
enum Base {
    /// The sources as they are, on the real epoch collector.
    Real,
    /// The same, and statistics are no branching point: for admissions that fail to find room, which
    /// read all of them again and again.
    Quiet,
    /// As `Real`, and dropping a handle of the store orders what std's `Arc` orders, which loom does
    /// not see: for models in which any thread may drop the last handle.
    Drops,
    /// A guard is a token that protects nothing, and nothing may be retired: for single layers with
    /// three threads and more, where the real collector takes minutes.
    Stub,
    /// What is retired is forgotten, leaks are not looked for, and what other models look at is no
    /// branching point: statistics and limbo; and a pass over the index that was overtaken is not
    /// repeated. For the whole store with three threads, or with more preemptions.
    Still,
    /// As `Still`, with all passes.
    Again,
    /// What is retired is freed at once: for who frees, and when.
    AtOnce,
    /// What is retired is freed when the model says so: for what waits till then.
    Later,
    /// As `Stub`, and memory is used again, which loom's marker in each entry else forbids.
    Spares,
}

/// The copies without a mutation.
const BASES: &[(&str, Base)] = &[
    ("store", Base::Real),
    ("quiet", Base::Quiet),
    ("drops", Base::Drops),
    ("layers", Base::Stub),
    ("still", Base::Still),
    ("again", Base::Again),
    ("at_once", Base::AtOnce),
    ("later", Base::Later),
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

const fn at_once(name: &'static str, patch: Patch) -> Mutation {
    on(Base::AtOnce, name, patch)
}

const fn patch(file: &'static str, from: &'static str, to: &'static str) -> Patch {
    Patch { file, from, to }
}

/// The modules below the shards: all that models of single layers need. To compile the rest as well
/// takes most of the time that the models take.
const LAYERS: &[&str] = &[
    "budget", "cell", "clock_list", "entry", "hash", "index", "ledger", "limbo", "policy", "reclaim",
    "spare", "stripes", "sweep", "sync", "tick",
];

impl Base {
    fn is_layers(self) -> bool {
        matches!(self, Base::Stub | Base::AtOnce | Base::Later | Base::Spares)
    }

    fn patches(self) -> Vec<&'static Patch> {
        let patches: &[&[Patch]] = match self {
            Base::Real => &[],
            Base::Quiet => &[UNCOUNTED],
            Base::Drops => &[DROPS],
            Base::Stub => &[TOKEN, NO_DEFER, WATCHED],
            Base::Still => &[TOKEN, FORGETS, UNCOUNTED, ONE_PASS, WATCHED],
            Base::Again => &[TOKEN, FORGETS, UNCOUNTED, WATCHED],
            Base::AtOnce => &[TOKEN, AT_ONCE, WATCHED],
            Base::Later => &[TOKEN, LATER, PILES, WATCHED],
            Base::Spares => &[TOKEN, NO_DEFER, SPARES, WATCHED],
        };
        patches.iter().copied().flatten().collect()
    }
}

/// Makes a guard a token that protects nothing.
const TOKEN: &[Patch] = &[
    patch("reclaim.rs", "struct Guard(epoch::Guard);", "struct Guard;"),
    patch("reclaim.rs", "self.0.flush();", ""),
    patch("reclaim.rs", "unsafe { self.0.defer_unchecked(|| ()) };", ""),
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

/// loom runs the threads of a model on one of the system's.
const LATER: &[Patch] = &[
    patch(
        "reclaim.rs",
        DEFER,
        "{
            let f: Box<dyn FnOnce() + '_> = Box::new(f);
            let f = unsafe { std::mem::transmute::<_, Box<dyn FnOnce()>>(f) };
            DEFERRED.with_borrow_mut(|all| all.push_back(f));
        }",
    ),
    patch(
        "reclaim.rs",
        "pub(crate) use collector::{pin, prepare};",
        "pub(crate) use collector::{pin, prepare};

        thread_local! {
            static DEFERRED: std::cell::RefCell<std::collections::VecDeque<Box<dyn FnOnce()>>> =
                std::cell::RefCell::default();
        }

        pub(crate) fn fall_due() -> bool {
            let oldest = DEFERRED.with_borrow_mut(|all| all.pop_front());
            oldest.map(|oldest| oldest()).is_some()
        }",
    ),
];

const PILES: &[Patch] = &[
    patch("limbo.rs", "if cfg!(crossbeam_loom) { 1 } else { 32 }", "2"),
    patch("limbo.rs", "const PILE: usize = 4;", "const PILE: usize = 1;"),
];

const FORGETS: &[Patch] = &[
    patch("reclaim.rs", DEFER, "drop(f)"),
    patch("reclaim.rs", "Some(loom::alloc::Track::new(()))", "None"),
    patch(
        "limbo.rs",
        "AtomicPtr, AtomicUsize, CachePadded, Ordering, fence, yield_now};",
        "CachePadded, Ordering, fence, yield_now};\nuse std::sync::atomic::{AtomicPtr, AtomicUsize};",
    ),
    // The same on each machine.
    patch("striped.rs", "std::thread::available_parallelism().map_or(1, NonZero::get)", "2"),
];

const UNCOUNTED: &[Patch] =
    &[patch("shard.rs", "use crate::sync::{AtomicU64,", "use std::sync::atomic::{AtomicU64,")];

const PASS_ONCE: Patch =
    patch("admit.rs", "if earlier == Some(self.turnover()) {", "if earlier == earlier {");

const ONE_PASS: &[Patch] = &[PASS_ONCE];

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
    "match self.word.compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire)",
    "match Ok::<u64, u64>(self.word.swap(sealed, Ordering::AcqRel))",
);

const READ_ONCE: Patch = patch(
    "ledger.rs",
    "self.groups[group].head.load(Ordering::Relaxed) == reading.head",
    "group < self.groups() || reading.head.is_null()",
);

const COUNT_ON_THE_DEAD: Patch =
    patch("cell.rs", "if (old & CAUSE) | (after & HEADROOM) != 0 {", "if after & HEADROOM != 0 {");

const MUTATIONS: &[Mutation] = &[
    // ---- the cell -------------------------------------------------------------------------------
    stub("cell_seals_blindly", SEAL_BLINDLY),
    stub("cell_takes_back_too_much", patch("cell.rs", "before.max(MAX_COUNT)", "MAX_COUNT")),
    stub(
        "cell_announces_blindly",
        patch(
            "cell.rs",
            "self.last.compare_exchange(last, units, Ordering::AcqRel, Ordering::Relaxed).is_err()",
            "self.last.swap(units, Ordering::AcqRel) == u64::MAX",
        ),
    ),
    stub(
        "cell_announces_nothing",
        patch("cell.rs", "if last != units &&", "if last != units && units == u64::MAX &&"),
    ),
    stub(
        "cell_announces_what_is_over",
        patch(
            "cell.rs",
            "if now != seen || seen.is_ended() {",
            "if now != seen && seen.is_ended() {",
        ),
    ),
    // What is no larger than the count would only cost an announcement.
    stub(
        "cell_is_born_with_another_count",
        patch("cell.rs", "last: AtomicU64::new(units) }", "last: AtomicU64::new(units + 1) }"),
    ),
    stub(
        "cell_loads_last_too_late",
        patch(
            "cell.rs",
            "let units = seen.units(); if last != units",
            "let units = seen.units();
            let last = self.last.load(Ordering::Acquire);
            if last != units",
        ),
    ),
    stub(
        "cell_reads_relaxed",
        patch(
            "cell.rs",
            "let word = self.word.load(Ordering::Acquire); match Cause",
            "let word = self.word.load(Ordering::Relaxed); match Cause",
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
        "cell_seals_without_release",
        patch(
            "cell.rs",
            "compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire)",
            "compare_exchange(seen.0, sealed, Ordering::Acquire, Ordering::Acquire)",
        ),
    ),
    stub(
        "cell_loads_last_relaxed",
        patch(
            "cell.rs",
            "let last = self.last.load(Ordering::Acquire);",
            "let last = self.last.load(Ordering::Relaxed);",
        ),
    ),
    stub(
        "cell_announces_without_release",
        patch(
            "cell.rs",
            "compare_exchange(last, units, Ordering::AcqRel, Ordering::Relaxed)",
            "compare_exchange(last, units, Ordering::Acquire, Ordering::Relaxed)",
        ),
    ),
    // ---- the cap --------------------------------------------------------------------------------
    stub(
        "budget_one_too_many",
        patch("budget.rs", "while used < self.cap {", "while used <= self.cap {"),
    ),
    stub(
        "budget_release_relaxed",
        patch("budget.rs", "fetch_sub(1, Ordering::Release)", "fetch_sub(1, Ordering::Relaxed)"),
    ),
    stub(
        "budget_takes_relaxed",
        patch(
            "budget.rs",
            "used + 1, Ordering::Acquire, Ordering::Relaxed",
            "used + 1, Ordering::Relaxed, Ordering::Relaxed",
        ),
    ),
    // ---- chains ---------------------------------------------------------------------------------
    stub(
        "index_inserts_anyway",
        patch(
            "index.rs",
            "let bucket = self.bucket(entry.hash()); entry.next()",
            "let bucket = self.bucket(entry.hash());
            let head = Head(bucket.load(Ordering::Acquire));
            entry.next()",
        ),
    ),
    stub(
        "index_inserts_blindly",
        patch(
            "index.rs",
            "match bucket.compare_exchange(head.0, link, Ordering::Release, Ordering::Relaxed) {",
            "match Ok::<*mut Entry<K>, *mut Entry<K>>(bucket.swap(link, Ordering::Release)) {",
        ),
    ),
    stub(
        "index_forgets_what_lies_behind",
        patch("index.rs", "addr | self.0 | chain.addr() & MARKS", "addr | self.0"),
    ),
    stub(
        "index_forgets_what_lies_behind_when_it_unlinks",
        patch(
            "index.rs",
            "let next = entry.next().load(Ordering::Relaxed);
            let mut head",
            "let next = entry_of(entry.next().load(Ordering::Relaxed));
            let mut head",
        ),
    ),
    stub(
        "index_publishes_relaxed",
        patch(
            "index.rs",
            "bucket.compare_exchange(head.0, link, Ordering::Release,",
            "bucket.compare_exchange(head.0, link, Ordering::Relaxed,",
        ),
    ),
    stub(
        "index_finds_relaxed",
        patch(
            "index.rs",
            "let head = self.bucket(hash).load(Ordering::Acquire);",
            "let head = self.bucket(hash).load(Ordering::Relaxed);",
        ),
    ),
    stub(
        "index_unlinks_blindly",
        patch(
            "index.rs",
            "match bucket.compare_exchange(head, next, Ordering::Release, Ordering::Acquire) {",
            "bucket.store(next, Ordering::Release);
            match Ok::<(), *mut Entry<K>>(()) {",
        ),
    ),
    stub(
        "index_leaves_what_has_a_new_head",
        patch("index.rs", "Err(now) => head = now, } }", "Err(_) => return, } }"),
    ),
    stub(
        "index_looks_for_the_head_relaxed",
        patch(
            "index.rs",
            "let mut head = bucket.load(Ordering::Acquire);",
            "let mut head = bucket.load(Ordering::Relaxed);",
        ),
    ),
    stub(
        "index_looks_again_relaxed",
        patch(
            "index.rs",
            "compare_exchange(head, next, Ordering::Release, Ordering::Acquire)",
            "compare_exchange(head, next, Ordering::Release, Ordering::Relaxed)",
        ),
    ),
    stub(
        "index_clears_what_it_unlinks_first",
        patch(
            "index.rs",
            "Ok(_) => return, Err(now) => head = now,",
            "Ok(_) => return entry.next().store(ptr::null_mut(), Ordering::Release),
            Err(now) => head = now,",
        ),
    ),
    stub(
        "index_clears_what_it_unlinks_below",
        patch(
            "index.rs",
            "pred.next().store(next, Ordering::Release);",
            "pred.next().store(next, Ordering::Release);
            entry.next().store(ptr::null_mut(), Ordering::Release);",
        ),
    ),
    // ---- the ledger, and the orderings of chains that it needs ----------------------------------
    stub(
        "ledger_copies_relaxed",
        patch(
            "ledger.rs",
            ".wrapping_add(units), Ordering::Release)",
            ".wrapping_add(units), Ordering::Relaxed)",
        ),
    ),
    stub(
        "ledger_credits_relaxed",
        patch(
            "ledger.rs",
            "head.store(crediting(entry.as_ptr(), new), Ordering::Release);",
            "head.store(crediting(entry.as_ptr(), new), Ordering::Relaxed);",
        ),
    ),
    stub(
        "ledger_settles_relaxed",
        patch(
            "ledger.rs",
            "head.store(settled(version + 1), Ordering::Release);",
            "head.store(settled(version + 1), Ordering::Relaxed);",
        ),
    ),
    stub(
        "ledger_credits_what_is_unlinked",
        patch(
            "ledger.rs",
            "head.store(crediting(entry.as_ptr(), new), Ordering::Release); unlink(pen);",
            "unlink(pen);
            head.store(crediting(entry.as_ptr(), new), Ordering::Release);",
        ),
    ),
    stub(
        "ledger_settles_what_is_linked",
        patch(
            "ledger.rs",
            "unlink(pen); head.store(settled(version + 1), Ordering::Release);",
            "head.store(settled(version + 1), Ordering::Release);
            unlink(pen);",
        ),
    ),
    stub(
        "ledger_writes_the_copy_in_use",
        patch(
            "ledger.rs",
            "(old, new) = (version & 1, !version & 1);",
            "(old, new) = (version & 1, version & 1);
            let version = version + 1;",
        ),
    ),
    // With the right parity.
    stub(
        "ledger_reuses_versions",
        patch("ledger.rs", "settled(version + 1)", "settled((version + 1) % 2)"),
    ),
    stub(
        "ledger_reads_relaxed",
        patch(
            "ledger.rs",
            "let group = &self.groups[group]; let head = group.head.load(Ordering::Acquire);",
            "let group = &self.groups[group];
            let head = group.head.load(Ordering::Relaxed);",
        ),
    ),
    stub(
        "ledger_forgets_the_other_copy",
        patch(
            "ledger.rs",
            "new.store(old.load(Ordering::Relaxed).wrapping_add(units), Ordering::Release);",
            "let _ = old;
            new.store(units, Ordering::Release);",
        ),
    ),
    // What ended while the shard was owned is credited by another thread than the one that sealed it.
    stub(
        "ledger_is_left_notes_relaxed",
        patch(
            "clock_list.rs",
            "stack.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)",
            "stack.compare_exchange_weak(head, new, Ordering::Relaxed, Ordering::Relaxed)",
        ),
    ),
    stub("ledger_reads_without_a_fence", patch("ledger.rs", "fence(Ordering::Acquire);", "")),
    stub("ledger_reads_once", READ_ONCE),
    stub(
        "ledger_unlinks_below_relaxed",
        patch(
            "index.rs",
            "pred.next().store(next, Ordering::Release);",
            "pred.next().store(next, Ordering::Relaxed);",
        ),
    ),
    stub(
        "ledger_unlinks_the_head_relaxed",
        patch(
            "index.rs",
            "compare_exchange(head, next, Ordering::Release, Ordering::Acquire)",
            "compare_exchange(head, next, Ordering::Relaxed, Ordering::Acquire)",
        ),
    ),
    stub(
        "index_walks_from_relaxed",
        patch(
            "index.rs",
            "self.buckets[bucket].load(Ordering::Acquire)",
            "self.buckets[bucket].load(Ordering::Relaxed)",
        ),
    ),
    // ---- the lists and their owners -------------------------------------------------------------
    stub(
        "roster_looks_before_it_takes",
        patch(
            "clock_list.rs",
            "|| self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err()",
            "|| { self.taken.store(true, Ordering::Release); false }",
        ),
    ),
    stub(
        "roster_takes_relaxed",
        patch(
            "clock_list.rs",
            "|| self.taken.compare_exchange(false, true, Ordering::Acquire,",
            "|| self.taken.compare_exchange(false, true, Ordering::Relaxed,",
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
            "self.backlog = arrivals.load(Ordering::Acquire);
            arrivals.swap(ptr::null_mut(), Ordering::AcqRel);",
        ),
    ),
    stub(
        "roster_takes_arrivals_relaxed",
        patch(
            "clock_list.rs",
            "self.backlog = arrivals.swap(ptr::null_mut(), Ordering::Acquire);",
            "self.backlog = arrivals.swap(ptr::null_mut(), Ordering::Relaxed);",
        ),
    ),
    // Arrivals and notes.
    stub(
        "roster_pushes_relaxed",
        patch(
            "clock_list.rs",
            "stack.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)",
            "stack.compare_exchange_weak(head, new, Ordering::Relaxed, Ordering::Relaxed)",
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
        "roster_loses_late_notes",
        patch(
            "clock_list.rs",
            "self.departing = departures.swap(ptr::null_mut(), Ordering::Acquire);",
            "self.departing = departures.load(Ordering::Acquire);
            departures.swap(ptr::null_mut(), Ordering::AcqRel);",
        ),
    ),
    stub(
        "roster_takes_notes_relaxed",
        patch(
            "clock_list.rs",
            "self.departing = departures.swap(ptr::null_mut(), Ordering::Acquire);",
            "self.departing = departures.swap(ptr::null_mut(), Ordering::Relaxed);",
        ),
    ),
    stub(
        "roster_lets_go_of_arrivals",
        patch("clock_list.rs", "Place::Arriving => return,", "Place::Arriving => {}"),
    ),
    stub(
        "roster_forgets_who_departed",
        patch("clock_list.rs", "if departed {", "if departed && known != known {"),
    ),
    // One that a later owner is to bury.
    stub(
        "roster_lets_go_of_the_dead",
        patch("clock_list.rs", "if departed {", "if departed || entry.cell().look().is_ended() {"),
    ),
    stub(
        "roster_detaches_the_swept_again",
        patch("clock_list.rs", "std::mem::replace(&mut seat.place, Place::None)", "seat.place"),
    ),
    // ---- stripes --------------------------------------------------------------------------------
    stub(
        "stripes_are_published_relaxed",
        patch(
            "stripes.rs",
            "compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire)",
            "compare_exchange(null, new, Ordering::Relaxed, Ordering::Acquire)",
        ),
    ),
    stub(
        "stripes_of_others_relaxed",
        patch(
            "stripes.rs",
            "compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire)",
            "compare_exchange(null, new, Ordering::AcqRel, Ordering::Relaxed)",
        ),
    ),
    stub(
        "stripes_are_found_relaxed",
        patch(
            "stripes.rs",
            "self.0.load(Ordering::Acquire).as_ref()",
            "self.0.load(Ordering::Relaxed).as_ref()",
        ),
    ),
    // What a handle writes to the entry's own cell shows the stripes to who seals that cell, though
    // the word is the same after it.
    stub(
        "stripes_are_not_looked_for",
        patch(
            "cell.rs",
            "compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire)",
            "compare_exchange(seen.0, sealed, Ordering::Release, Ordering::Acquire)",
        ),
    ),
    stub(
        "stripes_are_not_shown",
        patch(
            "cell.rs",
            "self.word.fetch_add(uses + n, Ordering::Release)",
            "self.word.fetch_add(uses + n, Ordering::Relaxed)",
        ),
    ),
    stub(
        "stripes_show_late_adds",
        patch(
            "stripes.rs",
            "match cell.read() { State::Live(units) | State::Ended(_, units) => units, }",
            "cell.look().units()",
        ),
    ),
    stub(
        "stripes_are_not_sealed_by_readers",
        patch(
            "entry.rs",
            "State::Ended(cause, self.seal_rest(units, cause))",
            "State::Ended(cause, self.with_stripes(units))",
        ),
    ),
    // ---- who frees ------------------------------------------------------------------------------
    at_once(
        "limbo_lets_go_relaxed",
        patch(
            "limbo.rs",
            "entry.holds().fetch_sub(bits, Ordering::AcqRel);",
            "entry.holds().fetch_sub(bits, Ordering::Relaxed);",
        ),
    ),
    at_once(
        "limbo_handles_go_without_acquire",
        patch(
            "limbo.rs",
            "held.holds().fetch_sub(HANDLE, Ordering::AcqRel) == HANDLE;",
            "held.holds().fetch_sub(HANDLE, Ordering::Release) == HANDLE;",
        ),
    ),
    at_once(
        "limbo_handles_go_relaxed",
        patch(
            "limbo.rs",
            "held.holds().fetch_sub(HANDLE, Ordering::AcqRel) == HANDLE;",
            "held.holds().fetch_sub(HANDLE, Ordering::Relaxed) == HANDLE;",
        ),
    ),
    at_once(
        "limbo_counts_what_it_gave_back",
        patch("limbo.rs", "held.holds().store(UNCOUNTED, Ordering::Relaxed);", ""),
    ),
    at_once(
        "limbo_keeps_the_handles_slot",
        patch(
            "limbo.rs",
            "// Only handles are left. The bits of the store never come back, so this happens once.
            self.release(1);",
            "",
        ),
    ),
    at_once(
        "limbo_keeps_the_slot_of_late_handles",
        patch("limbo.rs", "if (holds - SHARD) & CORE == 0 {", "if (holds - SHARD) & CORE == 1 {"),
    ),
    at_once(
        "limbo_looks_relaxed",
        patch(
            "limbo.rs",
            "let mut holds = entry.holds().load(Ordering::Acquire);",
            "let mut holds = entry.holds().load(Ordering::Relaxed);",
        ),
    ),
    at_once(
        "limbo_frees_without_looking",
        patch("limbo.rs", "if holds != SHARD { holds =", "if holds == u64::MAX { holds ="),
    ),
    at_once(
        "limbo_frees_relaxed",
        patch(
            "limbo.rs",
            "holds = entry.holds().fetch_sub(SHARD, Ordering::AcqRel);",
            "holds = entry.holds().fetch_sub(SHARD, Ordering::Relaxed);",
        ),
    ),
    at_once(
        "limbo_frees_without_acquire",
        patch(
            "limbo.rs",
            "holds = entry.holds().fetch_sub(SHARD, Ordering::AcqRel);",
            "holds = entry.holds().fetch_sub(SHARD, Ordering::Release);",
        ),
    ),
    // Whoever else had a hold when it looked may have let go before it did.
    at_once(
        "limbo_forgets_what_it_saw",
        patch(
            "limbo.rs",
            "holds = entry.holds().fetch_sub(SHARD, Ordering::AcqRel);",
            "entry.holds().fetch_sub(SHARD, Ordering::AcqRel);",
        ),
    ),
    at_once(
        "limbo_pushes_relaxed",
        patch(
            "limbo.rs",
            "top.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)",
            "top.compare_exchange_weak(head, new, Ordering::Relaxed, Ordering::Relaxed)",
        ),
    ),
    at_once(
        "limbo_takes_stacks_relaxed",
        patch(
            "limbo.rs",
            "without_count(top.swap(ptr::null_mut(), Ordering::Acquire))",
            "without_count(top.swap(ptr::null_mut(), Ordering::Relaxed))",
        ),
    ),
    at_once(
        "limbo_takes_slots_relaxed",
        patch(
            "limbo.rs",
            "exist + 1, Ordering::Acquire, Ordering::Relaxed",
            "exist + 1, Ordering::Relaxed, Ordering::Relaxed",
        ),
    ),
    at_once(
        "limbo_gives_slots_back_relaxed",
        patch(
            "limbo.rs",
            "self.exist.fetch_sub(n, Ordering::Release)",
            "self.exist.fetch_sub(n, Ordering::Relaxed)",
        ),
    ),
    on(
        Base::Later,
        "later_waits_without_a_fence",
        patch("limbo.rs", "// Pairs with the one in `defer`. fence(Ordering::SeqCst);", ""),
    ),
    on(
        Base::Later,
        "later_lowers_without_a_fence",
        patch("limbo.rs", "// Pairs with the one in `defer_stack`. fence(Ordering::SeqCst);", ""),
    ),
    on(
        Base::Later,
        "later_looks_once",
        patch(
            "limbo.rs",
            "fence(Ordering::SeqCst); if self.is_piled_up(shard) { return false; }",
            "fence(Ordering::SeqCst); return false;",
        ),
    ),
    on(
        Base::Later,
        "later_leaves_the_rest",
        patch("limbo.rs", "limbo.defer_rest(shard);", ""),
    ),
    on(
        Base::Spares,
        "spares_ignore_taken",
        patch(
            "spare.rs",
            "self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;",
            "self.taken.store(true, Ordering::Relaxed);",
        ),
    ),
    on(
        Base::Spares,
        "spares_take_relaxed",
        patch(
            "spare.rs",
            "self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;",
            "self.taken.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed).ok()?;",
        ),
    ),
    on(
        Base::Spares,
        "spares_leave_relaxed",
        patch(
            "spare.rs",
            "self.taken.store(false, Ordering::Release);",
            "self.taken.store(false, Ordering::Relaxed);",
        ),
    ),
    // ---- the whole store, on an epoch that frees nothing ----------------------------------------
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
    on(Base::Again, "again_passes_once", PASS_ONCE),
    still(
        "still_spares_what_is_in_use",
        patch(
            "admit.rs",
            "if let Some(units) = entry.seal(Cause::Capacity) {",
            "if let Some(units) = entry.seal(Cause::Capacity).filter(|_| false) {",
        ),
    ),
    still(
        "still_judges_before_it_looks",
        patch(
            "engine.rs",
            "let seen = entry.cell().look(); if seen.is_ended() || !is_idle(&entry, time) {",
            "let idle = is_idle(&entry, time);
            let seen = entry.cell().look();
            if seen.is_ended() || !idle {",
        ),
    ),
    still(
        "still_adds_relaxed",
        patch(
            "cell.rs",
            "self.word.fetch_add(uses + n, Ordering::Release)",
            "self.word.fetch_add(uses + n, Ordering::Relaxed)",
        ),
    ),
    still(
        "still_adds_large_relaxed",
        patch(
            "cell.rs",
            "compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed)",
            "compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed)",
        ),
    ),
    still(
        "still_looks_relaxed",
        patch(
            "cell.rs",
            "Seen(self.word.load(Ordering::Acquire))",
            "Seen(self.word.load(Ordering::Relaxed))",
        ),
    ),
    still(
        "still_moves_the_tick_late",
        patch(
            "engine.rs",
            "entry.tick().fetch_max(this_tick, Ordering::Relaxed);
                moved = true;
            }
        }
        match entry.cell().add_amount(n) {
            Ok(count) => (Touch::Counted",
            "moved = true;
            }
        }
        let added = entry.cell().add_amount(n);
        if moved {
            entry.tick().fetch_max(Self::tick(time), Ordering::Relaxed);
        }
        match added {
            Ok(count) => (Touch::Counted",
        ),
    ),
    still(
        "still_sweeps_what_it_has_not_judged",
        patch(
            "sweep.rs",
            "let units = entry.seal_if(seen, cause).ok()?;",
            "let _ = seen;
            let units = entry.seal_if(entry.cell().look(), cause).ok()?;",
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
            "State::Ended(cause, first) if !reading.has(entry) => {",
            "State::Ended(cause, first) if reading.has(entry) && first == u64::MAX => {",
        ),
    ),
    still(
        "still_counts_the_credited",
        patch(
            "groups.rs",
            "State::Ended(cause, first) if !reading.has(entry) => {",
            "State::Ended(cause, first) => {",
        ),
    ),
    still(
        "still_shows_what_it_kept",
        patch(
            "snapshot.rs",
            "if !entry.hold() { all.iter_mut().zip(before).for_each(|(it, before)| it.let_go_from(before)); return false; }",
            "let _ = before;
            if !entry.hold() {
                continue;
            }",
        ),
    ),
    still(
        "still_keeps_what_it_reads_again",
        patch(
            "snapshot.rs",
            "all.iter_mut().zip(before).for_each(|(it, before)| it.let_go_from(before)); return false;",
            "let _ = before;
            return false;",
        ),
    ),
    still(
        "still_heeds_nothing",
        patch(
            "engine.rs",
            "if let State::Ended(cause, units) = entry.read() {",
            "if let (State::Ended(cause, units), false) = (entry.read(), true) {",
        ),
    ),
    still(
        "still_heeds_and_counts",
        patch(
            "engine.rs",
            "if let State::Ended(cause, units) = entry.read() {",
            "if let State::Ended(cause, units) = entry.read() {
                Tally::count_owned(&self.shard(entry.hash()).owned.ended[cause.index()]);",
        ),
    ),
    still("still_leaves_no_note", patch("engine.rs", "shard.roster.depart(entry);", "")),
    still("still_forgets_the_lists", patch("engine.rs", "lists.bury(entry);", "")),
    still(
        "still_leaves_stripes_open",
        patch(
            "entry.rs",
            "self.cell().seal(cause).map(|units| self.seal_rest(units, cause))",
            "self.cell().seal(cause).map(|units| self.with_stripes(units))",
        ),
    ),
    still(
        "still_loses_the_room_of_others",
        patch(
            "admit.rs",
            "kit.room = Some(Room { permit: self.live.of_sealed(), known: None });",
            "",
        ),
    ),
    still(
        "still_lets_an_owned_life_overlap",
        patch("engine.rs", "entry.read(); Err(Missed(Some(head)))", "Err(Missed(Some(head)))"),
    ),
    still(
        "still_lets_the_next_life_overlap",
        patch(
            "admit.rs",
            "matches!(entry.read(), State::Ended(..))",
            "entry.cell().look().is_ended()",
        ),
    ),
    still(
        "still_lets_a_stepwise_life_overlap",
        patch("admit.rs", "Touch::Ended => _ = entry.read(),", "Touch::Ended => {}"),
    ),
    still(
        "still_trusts_an_old_tick",
        patch(
            "striped.rs",
            "Engine::<K>::tick(time) == self.tick.get()",
            "Engine::<K>::tick(time) >= self.tick.get()",
        ),
    ),
    still(
        "still_leaves_lanes_open",
        patch("entry.rs", "lane.seal(cause);", "let _ = (lane, cause);"),
    ),
    still(
        "still_uses_no_lane",
        patch(
            "store.rs",
            "hit(hash, key, n.first, &guard, |entry| bind(entry, false))",
            "hit(
                hash,
                key,
                Amount { units: n.first.units, uses: (n.first.units > 0).into() },
                &guard,
                |entry| bind(entry, false),
            )",
        ),
    ),
    still(
        "still_reads_one_copy_of_a_lane",
        patch("ledger.rs", "[lane - 1][copy_of(reading.head)]", "[lane - 1][0]"),
    ),
    still(
        "still_uses_unseen_stripes",
        patch(
            "striped.rs",
            "let all = entry.stripes_or_make(stripes());",
            "let counted = entry.cell().add(0);
            let all = entry.stripes_or_make(stripes());
            if counted.is_ok() {
                self.stripe.set(Some(NonNull::from(all.cell(0))));
            }
            return;",
        ),
    ),
    // ---- the whole store, on the real epoch -----------------------------------------------------
    real("store_frees_at_once", patch("reclaim.rs", "unsafe { self.0.defer_unchecked(f) }", "f()")),
    real(
        "store_keeps_the_reports_hold",
        patch(
            "removal.rs",
            "unsafe { self.engine.limbo().let_go(held, REPORT, &guard) };",
            "let _ = (held, REPORT, guard);",
        ),
    ),
    real(
        "store_counts_without_owning",
        patch(
            "engine.rs",
            "Tally::count(&shard.tally.ended[cause.index()]);",
            "Tally::count_owned(&shard.owned.ended[cause.index()]);",
        ),
    ),
    real("store_seals_blindly", SEAL_BLINDLY),
    on(
        Base::Quiet,
        "quiet_evicts_without_a_permit",
        patch("budget.rs", "while used < self.cap {", "while used <= self.cap {"),
    ),
    real("store_lets_handles_go", patch("entry.rs", "holds + HANDLE,", "holds,")),
    real("store_reads_once", READ_ONCE),
    real("store_counts_on_the_dead", COUNT_ON_THE_DEAD),
    real(
        "store_holds_the_dead",
        patch("entry.rs", "while holds & CORE != 0 {", "while holds != u64::MAX {"),
    ),
    real(
        "store_has_one_slot_more",
        patch("limbo.rs", "while exist < self.max {", "while exist <= self.max {"),
    ),
    // As soon as the entry has ended, and not when it is freed.
    real(
        "store_gives_slots_back_early",
        patch(
            "limbo.rs",
            "// SAFETY: the owner took it out of everybody's reach, and handed it over.",
            "self.release(1);
            // SAFETY: the owner took it out of everybody's reach, and handed it over.",
        ),
    ),
    on(
        Base::Drops,
        "drops_free_what_is_held",
        patch("limbo.rs", "if before == bits {", "if (before - bits) & CORE == 0 {"),
    ),
    on(
        Base::Drops,
        "drops_let_go_without_acquire",
        patch(
            "limbo.rs",
            "entry.as_ref() }.holds().fetch_sub(bits, Ordering::AcqRel)",
            "entry.as_ref() }.holds().fetch_sub(bits, Ordering::Release)",
        ),
    ),
    on(
        Base::Drops,
        "drops_leak_the_live",
        patch(
            "engine.rs",
            "let bits = if ended { SHARD } else { live };",
            "let bits = if ended { SHARD } else { let _ = live; SHARD };",
        ),
    ),
];
