//! loom models: each is explored on the true sources, and each mutation must be caught by its model.
#![cfg(crossbeam_loom)]

mod explore;

/// Copies of the store's sources, see `build.rs`. Most of each is not used.
#[allow(dead_code, unused, missing_docs, unexpected_cfgs, clippy::all)]
#[allow(unreachable_pub, rustdoc::all)]
mod trees {
    include!(concat!(env!("OUT_DIR"), "/trees.rs"));
}

/// Layers by themselves, on a stubbed epoch.
mod layers {
    use crate::trees::layers as tree;

    mod budget;
    mod cell;
    mod clock_list;
    mod index;
    mod ledger;

    crate::models! {
        cell::two_adders_and_a_sealer,
        cell::adders_at_the_top,
        cell::two_sealers_an_adder_and_a_reader,
        budget::never_above_the_cap,
        budget::a_permit_publishes,
        index::two_inserters_of_one_key,
        index::find_against_unlink,
        index::two_unlinkers_of_neighbours,
        index::insert_against_unlink,
        clock_list::arrivals_against_owners,
        clock_list::a_dead_entry_leaves,
        ledger::two_credits,
        ledger::two_credits_and_a_reader,
        ledger::a_credit_and_a_reader_that_credits,
    }
}

/// The whole store, on the real epoch.
mod store {
    use crate::trees::store as tree;

    mod whole;

    crate::models! {
        whole::two_keys_at_capacity_one,
        whole::an_increment_a_remove_and_an_eviction,
        whole::nothing_is_touched_after_its_end,
        whole::a_handle_against_an_eviction,
        whole::a_snapshot_against_an_eviction,
    }
}

/// Makes a test of each model.
#[macro_export]
macro_rules! models {
    ($($file:ident :: $model:ident),* $(,)?) => { $(
        #[test]
        fn $model() {
            $file::$model();
        }
    )* };
}

/// Mounts a model on a mutated copy of the sources.
macro_rules! mutants {
    ($dir:literal; $($mutant:ident: $file:ident::$model:ident, $message:literal;)*) => { $(
        mod $mutant {
            use crate::trees::$mutant as tree;

            #[allow(dead_code)]
            mod $file {
                include!(concat!($dir, "/", stringify!($file), ".rs"));
            }

            #[test]
            fn caught() {
                crate::explore::must_fail(module_path!(), $file::$model, $message);
            }
        }
    )* };
}

mod mutants {
    mutants! { "store";
        store_frees_at_once: whole::nothing_is_touched_after_its_end, "Causality violation";
        store_leaks_the_ledgers_hold: whole::nothing_is_touched_after_its_end, "leaked";
        store_seals_blindly: whole::an_increment_a_remove_and_an_eviction, "(count, removed) == (2, 2)";
        store_evicts_without_a_permit: whole::two_keys_at_capacity_one, "above the cap";
        store_lets_handles_go: whole::a_handle_against_an_eviction, "used after it was freed";
        store_reads_once: whole::a_snapshot_against_an_eviction, "each unit once";
    }

    mutants! { "layers";
        cell_seals_blindly: cell::two_adders_and_a_sealer, "the sealed count";
        cell_takes_back_too_much: cell::adders_at_the_top, "assertion";
        cell_announces_blindly: cell::two_sealers_an_adder_and_a_reader, "a reader saw";
        cell_loads_last_too_late: cell::two_sealers_an_adder_and_a_reader, "a reader saw";
        budget_one_too_many: budget::never_above_the_cap, "above the cap";
        budget_release_relaxed: budget::a_permit_publishes, "Causality violation";
        index_inserts_anyway: index::two_inserters_of_one_key, "one life";
        index_publishes_relaxed: index::two_inserters_of_one_key, "Causality violation";
        index_unlinks_from_marked: index::two_unlinkers_of_neighbours, "still linked";
        index_forgets_the_run: index::two_unlinkers_of_neighbours, "let go of exactly once";
        index_walk_stops_at_marks: index::find_against_unlink, "found";
        roster_looks_before_it_takes: clock_list::arrivals_against_owners, "Causality violation";
        roster_leaves_relaxed: clock_list::arrivals_against_owners, "Causality violation";
        roster_loses_arrivals: clock_list::arrivals_against_owners, "each once";
        roster_loses_notes: clock_list::a_dead_entry_leaves, "left the lists";
        roster_lets_go_of_arrivals: clock_list::a_dead_entry_leaves, "left the lists";
        roster_forgets_who_departed: clock_list::a_dead_entry_leaves, "left the lists";
        ledger_skips_the_mark: ledger::a_credit_and_a_reader_that_credits, "each unit once";
        ledger_reuses_versions: ledger::two_credits_and_a_reader, "each unit once";
    }
}
