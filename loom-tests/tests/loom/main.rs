//! loom models: each is explored on the true sources, and each mutation must be caught by its model.
#![cfg(crossbeam_loom)]

mod explore;
mod watched;

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
    mod stripes;

    crate::models! {
        cell::two_adders_and_a_sealer,
        cell::adders_at_the_top,
        cell::a_sealer_an_adder_and_a_reader,
        cell::two_sealers_and_an_adder,
        budget::never_above_the_cap,
        budget::a_permit_publishes,
        index::two_inserters_of_one_key,
        index::find_against_unlink,
        index::inserts_against_unlink_of_the_head,
        index::an_insert_against_unlink_below_the_head,
        clock_list::arrivals_against_owners,
        clock_list::notes_against_owners,
        clock_list::an_arrival_that_is_over,
        clock_list::a_swept_dead_entry,
        ledger::a_credit_and_a_reader,
        ledger::two_credits_and_a_reader,
        ledger::two_owners_and_a_reader,
        ledger::a_credit_and_a_reader_that_credits,
        stripes::two_makers_and_a_sealer,
        stripes::an_adder_a_sealer_and_a_reader,
    }
}

/// Who frees: what is retired is freed at once.
mod at_once {
    use crate::trees::at_once as tree;

    mod limbo;

    crate::models! {
        limbo::all_holders_let_go,
        limbo::handles_against_the_store,
        limbo::a_handle_taken_before_the_free,
        limbo::two_that_are_let_go_of_at_once,
        limbo::a_slot_publishes,
    }
}

/// What waits for the collector: what is retired is freed when the model says so.
mod later {
    use crate::trees::later as tree;

    mod pile;

    crate::models! {
        pile::one_that_waits,
        pile::two_that_wait,
    }
}

/// Memory that is used again.
mod spares {
    use crate::trees::spares as tree;

    mod spare;

    crate::models! {
        spare::no_spare_twice,
    }
}

/// The whole store, on an epoch that frees nothing.
mod still {
    use crate::trees::still as tree;

    mod expiry;
    mod lanes;
    mod owners;
    mod race;
    mod sample;
    mod shards;
    mod snapshots;
    mod stripes;

    crate::models! {
        race::an_increment_a_remove_and_an_eviction_of_one_key,
        race::two_new_keys_for_one_place,
        sample::an_eviction_while_the_lists_are_taken,
        sample::two_evictions_at_once,
        expiry::an_expiry_against_a_use,
        expiry::an_expiry_against_a_large_use,
        expiry::an_eviction_against_a_use,
        expiry::two_uses_in_two_ticks,
        snapshots::two_snapshots_against_adds_and_an_eviction,
        snapshots::a_snapshot_against_the_end_of_a_held_key,
        owners::two_removes_and_the_next_owner,
        owners::an_admission_against_a_remove,
        shards::room_from_a_larger_shard,
        stripes::a_striped_handle_against_a_remove,
        stripes::a_handle_that_is_striped_during_a_remove,
        stripes::a_next_life_against_a_striped_handle,
        stripes::a_next_life_that_is_searched_for_again,
        stripes::a_next_life_step_by_step,
        expiry::an_expiry_against_a_striped_use,
        lanes::an_add_against_a_remove,
        lanes::an_expiry_against_a_use_of_a_lane,
        lanes::two_snapshots_of_lanes_against_an_eviction,
    }
}

/// As above, and a pass over the index that was overtaken is repeated.
mod again {
    use crate::trees::again as tree;

    mod passes;

    crate::models! {
        passes::an_eviction_that_is_overtaken,
    }
}

/// The whole store, on the real epoch.
mod store {
    use crate::trees::store as tree;

    mod bound;
    mod handles;
    mod whole;

    crate::models! {
        whole::an_increment_a_remove_and_an_eviction,
        whole::nothing_is_touched_after_its_end,
        whole::a_handle_against_an_eviction,
        whole::a_snapshot_against_an_eviction,
        whole::two_removes,
        handles::an_eviction_and_a_handle_that_admits_again,
        handles::a_handle_taken_during_a_remove,
        bound::a_thread_that_stays_pinned,
    }
}

/// As above, with statistics that are no branching point.
mod quiet {
    use crate::trees::quiet as tree;

    mod cap;

    crate::models! {
        cap::two_keys_at_capacity_one,
    }
}

/// The end of the store, on the real epoch.
mod drops {
    use crate::trees::drops as tree;

    mod end;

    crate::models! {
        end::a_handle_that_outlives_the_others,
        end::a_snapshot_that_outlives_the_store,
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
    mutants! { "drops";
        drops_free_what_is_held: end::a_snapshot_that_outlives_the_store, "Causality violation";
        drops_leak_the_live: end::a_handle_that_outlives_the_others, "leaked";
        drops_let_go_without_acquire: end::a_snapshot_that_outlives_the_store, "Causality violation";
    }

    mutants! { "quiet";
        quiet_evicts_without_a_permit: cap::two_keys_at_capacity_one, "above the cap";
    }

    mutants! { "store";
        store_counts_without_owning: whole::two_removes, "each life ends once";
        store_counts_on_the_dead: handles::an_eviction_and_a_handle_that_admits_again, "each unit once";
        store_frees_at_once: whole::nothing_is_touched_after_its_end, "Causality violation";
        store_gives_slots_back_early: bound::a_thread_that_stays_pinned, "went back early";
        store_has_one_slot_more: bound::a_thread_that_stays_pinned, "more than capacity and slack";
        store_holds_the_dead: handles::a_handle_taken_during_a_remove, "freed";
        store_keeps_the_reports_hold: whole::nothing_is_touched_after_its_end, "leaked";
        store_seals_blindly: whole::an_increment_a_remove_and_an_eviction, "(count, removed) == (2, 2)";
        store_lets_handles_go: whole::a_handle_against_an_eviction, "Causality violation";
        store_reads_once: whole::a_snapshot_against_an_eviction, "each unit once";
    }

    mutants! { "still";
        still_adds_large_relaxed: expiry::an_expiry_against_a_large_use, "ended early";
        still_adds_relaxed: expiry::an_expiry_against_a_use, "ended early";
        still_admits_without_a_permit: race::two_new_keys_for_one_place, "above the cap";
        still_counts_on_the_dead: race::an_increment_a_remove_and_an_eviction_of_one_key, "each life once";
        still_counts_the_credited: snapshots::two_snapshots_against_adds_and_an_eviction, "each unit once";
        still_forgets_the_lists: owners::an_admission_against_a_remove, "left the lists";
        still_forgets_the_uncredited: snapshots::two_snapshots_against_adds_and_an_eviction, "each unit once";
        still_heeds_and_counts: owners::two_removes_and_the_next_owner, "each life ends once";
        still_heeds_nothing: owners::two_removes_and_the_next_owner, "it is credited";
        still_judges_before_it_looks: expiry::an_expiry_against_a_use, "ended early";
        still_keeps_what_it_reads_again: snapshots::a_snapshot_against_the_end_of_a_held_key, "each unit once";
        still_leaves_no_note: owners::two_removes_and_the_next_owner, "it is credited";
        still_leaves_lanes_open: lanes::an_add_against_a_remove, "each unit once";
        still_leaves_stripes_open: stripes::a_striped_handle_against_a_remove, "each unit once";
        still_lets_a_stepwise_life_overlap: stripes::a_next_life_step_by_step, "the lives overlap";
        still_lets_an_owned_life_overlap: stripes::a_next_life_against_a_striped_handle, "the lives overlap";
        still_lets_the_next_life_overlap: stripes::a_next_life_that_is_searched_for_again, "the lives overlap";
        still_looks_relaxed: expiry::an_expiry_against_a_use, "ended early";
        still_loses_the_room_of_others: shards::room_from_a_larger_shard, "a permit for each live key";
        still_moves_the_tick_back: expiry::two_uses_in_two_ticks, "ended early";
        still_moves_the_tick_late: expiry::an_expiry_against_a_use, "ended early";
        still_samples_nobody: sample::two_evictions_at_once, "visible entr";
        still_seals_blindly: race::an_increment_a_remove_and_an_eviction_of_one_key, "let go of a hold twice";
        still_shows_what_it_kept: snapshots::a_snapshot_against_the_end_of_a_held_key, "each unit once";
        still_spares_what_is_in_use: sample::an_eviction_while_the_lists_are_taken, "a visible entry";
        still_sweeps_what_it_has_not_judged: expiry::an_eviction_against_a_use, "ended early";
        still_trusts_an_old_tick: expiry::an_expiry_against_a_striped_use, "ended early";
        still_reads_one_copy_of_a_lane: lanes::two_snapshots_of_lanes_against_an_eviction, "each unit once";
        still_uses_no_lane: lanes::an_expiry_against_a_use_of_a_lane, "ended early";
        still_uses_unseen_stripes: stripes::a_handle_that_is_striped_during_a_remove, "each unit once";
    }

    mutants! { "again";
        again_passes_once: passes::an_eviction_that_is_overtaken, "a visible entry";
    }

    mutants! { "at_once";
        limbo_counts_what_it_gave_back: limbo::handles_against_the_store, "given back";
        limbo_forgets_what_it_saw: limbo::all_holders_let_go, "its slot went back";
        limbo_frees_relaxed: limbo::all_holders_let_go, "Causality violation";
        limbo_frees_without_acquire: limbo::all_holders_let_go, "Causality violation";
        limbo_frees_without_looking: limbo::all_holders_let_go, "Causality violation";
        limbo_gives_slots_back_relaxed: limbo::a_slot_publishes, "Causality violation";
        limbo_handles_go_relaxed: limbo::handles_against_the_store, "Causality violation";
        limbo_handles_go_without_acquire: limbo::all_holders_let_go, "Causality violation";
        limbo_keeps_the_handles_slot: limbo::handles_against_the_store, "its slot went back";
        limbo_keeps_the_slot_of_late_handles: limbo::a_handle_taken_before_the_free, "its slot went back";
        limbo_lets_go_relaxed: limbo::all_holders_let_go, "Causality violation";
        limbo_looks_relaxed: limbo::all_holders_let_go, "Causality violation";
        limbo_pushes_relaxed: limbo::two_that_are_let_go_of_at_once, "Causality violation";
        limbo_takes_slots_relaxed: limbo::a_slot_publishes, "Causality violation";
        limbo_takes_stacks_relaxed: limbo::two_that_are_let_go_of_at_once, "Causality violation";
    }

    mutants! { "later";
        later_leaves_the_rest: pile::one_that_waits, "it was handed over";
        later_looks_once: pile::one_that_waits, "it was handed over";
        later_lowers_without_a_fence: pile::one_that_waits, "it was handed over";
        later_waits_without_a_fence: pile::one_that_waits, "it was handed over";
    }

    mutants! { "spares";
        spares_ignore_taken: spare::no_spare_twice, "Causality violation";
        spares_leave_relaxed: spare::no_spare_twice, "Causality violation";
        spares_take_relaxed: spare::no_spare_twice, "Causality violation";
    }

    mutants! { "layers";
        budget_one_too_many: budget::never_above_the_cap, "above the cap";
        budget_release_relaxed: budget::a_permit_publishes, "Causality violation";
        budget_takes_relaxed: budget::a_permit_publishes, "Causality violation";

        cell_announces_blindly: cell::two_sealers_and_an_adder, "a reader saw";
        cell_announces_nothing: cell::a_sealer_an_adder_and_a_reader, "a reader saw";
        cell_announces_what_is_over: cell::two_sealers_and_an_adder, "a reader saw";
        cell_is_born_with_another_count: cell::two_sealers_and_an_adder, "a reader saw";
        cell_loads_last_too_late: cell::two_sealers_and_an_adder, "a reader saw";
        cell_reads_relaxed: cell::a_sealer_an_adder_and_a_reader, "a reader saw";
        cell_seals_blindly: cell::two_adders_and_a_sealer, "the sealed count";
        cell_announces_without_release: cell::two_sealers_and_an_adder, "a reader saw";
        cell_loads_last_relaxed: cell::two_sealers_and_an_adder, "a reader saw";
        cell_seals_without_release: cell::a_sealer_an_adder_and_a_reader, "a reader saw";
        cell_seals_relaxed: cell::a_sealer_an_adder_and_a_reader, "a reader saw";
        cell_takes_back_too_much: cell::adders_at_the_top, "assertion";

        index_clears_what_it_unlinks_below: index::find_against_unlink, "is to be found";
        index_clears_what_it_unlinks_first: index::find_against_unlink, "is to be found";
        index_forgets_what_lies_behind: index::find_against_unlink, "found";
        index_forgets_what_lies_behind_when_it_unlinks: index::find_against_unlink, "is to be found";
        index_finds_relaxed: index::two_inserters_of_one_key, "Causality violation";
        index_inserts_anyway: index::two_inserters_of_one_key, "one life";
        index_inserts_blindly: index::inserts_against_unlink_of_the_head, "linked again or lost";
        index_leaves_what_has_a_new_head: index::inserts_against_unlink_of_the_head, "still linked";
        index_looks_for_the_head_relaxed: index::an_insert_against_unlink_below_the_head, "Causality violation";
        index_looks_again_relaxed: index::inserts_against_unlink_of_the_head, "Causality violation";
        index_publishes_relaxed: index::two_inserters_of_one_key, "Causality violation";
        index_unlinks_blindly: index::inserts_against_unlink_of_the_head, "still linked";
        index_walks_from_relaxed: index::inserts_against_unlink_of_the_head, "Causality violation";

        ledger_copies_relaxed: ledger::two_credits_and_a_reader, "each unit once";
        ledger_credits_relaxed: ledger::a_credit_and_a_reader, "each unit once";
        ledger_credits_what_is_unlinked: ledger::a_credit_and_a_reader, "each unit once";
        ledger_forgets_the_other_copy: ledger::a_credit_and_a_reader_that_credits, "each unit once";
        ledger_is_left_notes_relaxed: ledger::two_owners_and_a_reader, "the seal is not to be seen";
        ledger_reads_once: ledger::a_credit_and_a_reader, "each unit once";
        ledger_reads_relaxed: ledger::a_credit_and_a_reader, "each unit once";
        ledger_reads_without_a_fence: ledger::two_credits_and_a_reader, "each unit once";
        ledger_reuses_versions: ledger::two_credits_and_a_reader, "each unit once";
        ledger_settles_relaxed: ledger::a_credit_and_a_reader, "each unit once";
        ledger_settles_what_is_linked: ledger::a_credit_and_a_reader, "each unit once";
        ledger_writes_the_copy_in_use: ledger::a_credit_and_a_reader, "each unit once";
        ledger_unlinks_below_relaxed: ledger::a_credit_and_a_reader, "each unit once";
        ledger_unlinks_the_head_relaxed: ledger::a_credit_and_a_reader, "each unit once";

        roster_detaches_the_swept_again: clock_list::a_swept_dead_entry, "overflow";
        roster_forgets_who_departed: clock_list::notes_against_owners, "let go of once";
        roster_leaves_relaxed: clock_list::arrivals_against_owners, "Causality violation";
        roster_lets_go_of_arrivals: clock_list::an_arrival_that_is_over, "let go of once";
        roster_lets_go_of_the_dead: clock_list::notes_against_owners, "let go of once";
        roster_looks_before_it_takes: clock_list::arrivals_against_owners, "Causality violation";
        roster_loses_arrivals: clock_list::arrivals_against_owners, "each once";
        roster_loses_late_notes: clock_list::notes_against_owners, "let go of once";
        roster_loses_notes: clock_list::notes_against_owners, "let go of once";
        roster_pushes_relaxed: clock_list::notes_against_owners, "let go of once";
        roster_takes_arrivals_relaxed: clock_list::arrivals_against_owners, "overflow";
        roster_takes_notes_relaxed: clock_list::notes_against_owners, "let go of once";
        roster_takes_relaxed: clock_list::arrivals_against_owners, "Causality violation";

        stripes_are_found_relaxed: stripes::two_makers_and_a_sealer, "Causality violation";
        stripes_are_not_sealed_by_readers: stripes::an_adder_a_sealer_and_a_reader, "a reader saw";
        stripes_are_not_looked_for: stripes::two_makers_and_a_sealer, "the final count";
        stripes_are_not_shown: stripes::two_makers_and_a_sealer, "the final count";
        stripes_are_published_relaxed: stripes::two_makers_and_a_sealer, "Causality violation";
        stripes_of_others_relaxed: stripes::two_makers_and_a_sealer, "Causality violation";
        stripes_show_late_adds: stripes::an_adder_a_sealer_and_a_reader, "the final count";
    }
}

/// A mutation that no model is mounted on would be caught by nobody.
#[test]
fn each_mutation_has_a_model() {
    let mounted = include_str!("main.rs");
    let lone = |name: &&&str| !mounted.contains(&format!("{name}: "));
    let lone: Vec<_> = trees::MUTANTS.iter().filter(lone).collect();
    assert!(lone.is_empty(), "no model: {lone:?}");
}
