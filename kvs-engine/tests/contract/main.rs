//! One contract for every engine. A test of this suite says what a caller may rely on, whichever engine it has.
//!
//! To add an engine: write its [`Fixture`](fixture::Fixture) and give it a line at the end of this file.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod batches;
mod clearing;
mod concurrency;
mod conditions;
mod fixture;
mod history;
mod lifecycle;
mod model;
mod order;
mod pipeline;
mod scan;
mod values;

/// Declares a module of tests for one engine: each named generic function with the engine's fixture.
macro_rules! tests {
    ($fixture:ty; $($module:ident: $($test:ident),+;)+) => {
        $($(
            #[test]
            fn $test() {
                crate::$module::$test::<$fixture>();
            }
        )+)+
    };
}

/// What every engine must pass.
macro_rules! every_engine {
    ($fixture:ty) => {
        tests! { $fixture;
            values:
                a_value_that_was_set_is_got,
                a_missing_key_has_no_value,
                the_newest_value_wins,
                a_removed_key_is_gone_and_can_come_back,
                removing_a_missing_key_is_an_error,
                all_bytes_are_welcome_in_keys_and_values,
                keys_and_values_may_be_empty,
                a_key_is_found_by_all_its_bytes,
                sizes_up_to_the_limits_are_accepted,
                sizes_over_the_limits_are_refused_by_name;
            batches:
                a_batch_applies_its_changes_in_order,
                a_batch_may_remove_what_is_not_there,
                a_batch_over_a_limit_changes_nothing,
                a_batch_is_seen_whole;
            conditions:
                a_condition_decides_and_the_answer_says_how,
                the_old_value_comes_back_and_tells_what_happened,
                a_taking_removes_what_it_answers,
                a_pipeline_decides_conditions_in_order,
                one_of_many_wins_a_missing_key,
                every_set_is_taken_at_most_once,
                conditions_keep_the_limits;
            clearing:
                a_count_is_the_number_of_keys,
                a_cleared_store_is_empty_and_goes_on,
                what_is_set_after_a_clear_stays,
                a_clear_beside_writers_removes_what_was_there;
            order:
                submits_of_one_thread_take_effect_in_order,
                a_pipeline_reads_its_own_writes,
                a_pipeline_decides_removals_in_order;
            concurrency:
                two_removals_of_one_key_never_both_succeed,
                every_set_is_removed_at_most_once,
                clones_on_many_threads_are_one_store,
                histories_on_few_keys_are_linearizable;
            scan:
                a_scan_finds_every_key_with_its_prefix_once,
                a_page_keeps_its_limits,
                a_cursor_travels_as_text_and_a_foreign_one_is_refused,
                keys_that_stay_are_found_exactly_once_among_writers,
                a_scan_shows_whole_values_of_the_newest_kind;
            lifecycle:
                a_closed_store_says_so,
                closing_twice_is_no_error,
                every_operation_is_answered_once_across_a_close,
                a_flush_returns_when_all_before_it_is_answered;
            model:
                random_pipelines_agree_with_a_map;
        }
    };
}

/// What an engine with a disk must pass as well.
macro_rules! engine_with_disk {
    ($fixture:ty) => {
        tests! { $fixture;
            lifecycle:
                everything_is_there_after_reopening,
                a_dropped_store_needs_no_close,
                thousands_of_keys_come_back,
                what_was_acknowledged_before_a_close_is_there,
                a_store_is_open_once;
            clearing:
                what_was_cleared_stays_away;
            model:
                random_stories_with_reopening_agree_with_a_map;
        }
    };
}

mod memory {
    every_engine!(crate::fixture::Memory);
}

#[cfg(feature = "sled")]
mod sled {
    every_engine!(crate::fixture::Sled);
    engine_with_disk!(crate::fixture::Sled);
}

mod kvs {
    every_engine!(crate::fixture::Kvs);
    engine_with_disk!(crate::fixture::Kvs);
}

/// The same engine with the smallest segments, so that it rotates and compacts all the time.
mod kvs_with_small_segments {
    every_engine!(crate::fixture::KvsSmallSegments);
    engine_with_disk!(crate::fixture::KvsSmallSegments);
}
