// What the models must catch. Each patch must match its file exactly once, else the build fails: it then has to
// follow the source.

/// Whether a copy of the sources runs on the real epoch collector or on a stub that frees nothing.
#[derive(Clone, Copy, PartialEq)]
enum Epoch {
    Real,
    /// For models of single layers with three threads: the real one takes minutes there.
    Stub,
}

struct Mutation {
    name: &'static str,
    epoch: Epoch,
    patch: Patch,
}

struct Patch {
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn stub(name: &'static str, patch: Patch) -> Mutation {
    let epoch = Epoch::Stub;
    Mutation { name, epoch, patch }
}

const fn real(name: &'static str, patch: Patch) -> Mutation {
    let epoch = Epoch::Real;
    Mutation { name, epoch, patch }
}

const fn patch(file: &'static str, from: &'static str, to: &'static str) -> Patch {
    Patch { file, from, to }
}

/// Makes `reclaim.rs` a stub: a guard is a token and protects nothing.
const STUB: &[Patch] = &[
    patch("reclaim.rs", "struct Guard(epoch::Guard);", "struct Guard;"),
    patch("reclaim.rs", "unsafe { self.0.defer_unchecked(f) }", "let _ = f; unreachable!()"),
    patch("reclaim.rs", "self.0.flush();", ""),
    patch("reclaim.rs", "Guard(epoch::pin())", "Guard"),
    patch(
        "reclaim.rs",
        "use super::{Guard, epoch};\n\n    pub(crate) fn pin",
        "use super::Guard;\n\n    pub(crate) fn pin",
    ),
];

const SEAL_BLINDLY: Patch = patch(
    "cell.rs",
    "match self
            .word
            .compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire)",
    "match Ok::<u64, u64>(self.word.swap(sealed, Ordering::AcqRel))",
);

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
];
