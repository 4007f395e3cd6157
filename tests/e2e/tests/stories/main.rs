//! The stories of Aryavarth KVS, told on a real Kubernetes.
//!
//! `make test` runs them. By hand, on a test cluster that runs (`tests/bin/test` says how), and with a part of a story's
//! name to tell only some:
//!
//! ```text
//! KVS_E2E_STATE=.cluster/test KVS_E2E_TOOLS=~/.cache/aryavarth-kvs/tools \
//!   cargo test -p kvs-e2e --features cluster -- strategy
//! ```
//! `make torture-operator` tells more of them (`KVS_TORTURE=full`): those that disturb nodes.
//! `KVS_E2E_KEEP=1` leaves the namespaces of failed stories. What the stories stand on is the library of this crate.
//!
//! What must hold: the operator is installed once; stories that need it run side by side, each in its own namespace;
//! those that take it away come last.

mod access;
mod backup;
mod charts;
mod commands;
mod damage;
mod doctor;
mod durability;
mod growth;
mod helm;
mod life;
mod metrics;
mod mishaps;
mod monitoring;
mod namespaced;
mod nodes;
mod refusals;
mod repair;
mod restricted;
mod retention;
mod rights;
mod serving;
mod shape;
mod sleep;
mod strategy;

use std::process::ExitCode;
use std::rc::Rc;

use kvs_e2e::cluster::{Cluster, OPERATOR_NAMESPACE};
use kvs_e2e::runner::{self, Story, Summary};
use kvs_e2e::{Failure, Settings};

/// Stories at a time: they mostly wait for pods, and two cores start about so many at once.
const SIDE_BY_SIDE: usize = 5;

/// The story before all others.
fn first_act() -> Vec<Story> {
    vec![
        Story::new("the_chart_installs_the_operator_under_restricted_pod_security", charts::operator_installs)
            .leaves(OPERATOR_NAMESPACE),
    ]
}

/// The stories that run side by side, the longest first.
fn second_act() -> Vec<Story> {
    vec![
        Story::new("every_acknowledged_key_survives_sigkill_and_the_pods_end", durability::acknowledged_keys_survive),
        Story::new("what_kubectl_breaks_is_repaired_and_then_nothing_is_written", repair::broken_children_are_repaired),
        Story::new("a_schedule_makes_backups_and_keeps_the_last", backup::schedule_makes_and_replaces),
        Story::new("a_backup_is_restored_into_a_new_store_or_refused", backup::backup_is_restored),
        Story::new("a_store_with_token_and_tls_is_backed_up", backup::secured_store_is_backed_up),
        Story::new("damage_of_acknowledged_data_is_told_and_not_served", damage::damage_is_told),
        Story::new("the_doctor_names_what_is_wrong_with_a_volume_and_a_job_repairs_it", doctor::faults_of_volumes),
        Story::new("the_doctor_names_what_is_wrong_with_a_spec", doctor::faults_of_specs),
        Story::new("every_engine_and_strategy_serves", serving::every_engine_and_strategy),
        Story::new("tokens_and_certificates_are_asked_for_and_taken_over", access::token_and_tls),
        Story::new("pods_take_their_shape_and_keep_it", shape::taken_kept_and_refused),
        Story::new("a_deleted_store_leaves_its_claim_to_the_next_of_its_name", retention::claim_is_adopted),
        Story::new("a_change_of_strategy_rolls_the_pod_and_keeps_the_data", strategy::change_keeps_the_data),
        Story::new("a_larger_volume_grows_and_keeps_the_data", growth::volume_grows),
        Story::new("a_claim_deleted_by_mistake_takes_no_data_with_it", mishaps::claim_deleted),
        Story::new("a_configuration_that_was_spoiled_is_named_and_repaired", mishaps::configuration_spoiled),
        Story::new("a_disk_that_fails_is_told_and_the_data_comes_back_with_it", mishaps::disk_fails),
        Story::new("a_volume_of_another_store_is_refused_and_left_as_it_is", mishaps::foreign_volume),
        Story::new("an_image_that_no_node_has_is_told_and_the_former_one_serves_again", mishaps::image_missing),
        Story::new("a_volume_that_goes_with_its_store_grows_first", life::volume_that_goes_with_its_store_grows),
        Story::new("a_store_that_sleeps_in_a_paused_rollout_wakes_whole", life::paused_rollout_sleeps),
        Story::new("a_pod_without_a_store_goes_and_no_other", life::pod_of_no_store),
        Story::new("every_query_and_every_alert_has_an_answer_in_a_real_prometheus", monitoring::every_query_answers),
        Story::new("a_pod_that_no_node_takes_is_told", life::no_node_takes_it),
        Story::new("a_class_that_cannot_grow_is_told_with_what_to_do", growth::class_that_cannot_grow),
        Story::new("a_store_sleeps_and_wakes_with_its_data", sleep::store_sleeps_and_wakes),
        Story::new("a_paused_store_is_only_looked_at", sleep::paused_store_is_looked_at),
        Story::new("the_operators_chart_passes_its_helm_test", charts::operator_passes_its_test),
        Story::new("the_stores_chart_makes_a_store_that_passes_its_helm_test", charts::store_passes_its_test),
        Story::new("pods_of_ours_write_no_root_and_carry_no_idle_token", restricted::pods_as_they_live),
        Story::new("what_is_refused_is_refused_in_words", refusals::refused_in_words),
        Story::new("metrics_are_what_prometheus_reads", metrics::promtool_agrees),
    ]
}

/// The stories that nothing else may run beside. In the long form only.
fn long_act() -> Vec<Story> {
    if !std::env::var("KVS_TORTURE").is_ok_and(|word| word == "full") {
        return Vec::new();
    }
    vec![
        Story::new("a_drained_node_keeps_the_volume_and_gives_the_member_back", nodes::drained),
        Story::new("a_node_that_is_cut_off_is_told_and_gives_the_member_back", nodes::cut_off),
    ]
}

/// What can be said when all that was told, and the stories that take the operator away.
fn last_act() -> Vec<Story> {
    vec![
        Story::new("kinds_of_other_projects_are_discovered", shape::kinds_are_discovered),
        Story::new("the_operators_rights_sufficed_so_far", rights::suffice),
        Story::new("every_right_of_the_operator_was_used", rights::are_all_used),
        Story::new("the_doctor_names_what_is_wrong_without_an_operator", doctor::faults_without_an_operator),
        Story::new("stores_outlive_helm_uninstall_and_are_adopted_again", retention::stores_outlive_the_operator),
        Story::new("the_manifests_serve_without_helm", retention::manifests_serve_without_helm),
        Story::new("helm_3_upgrades_rolls_back_and_takes_over", helm::generation_three),
        Story::new("helm_4_upgrades_rolls_back_and_takes_over", helm::generation_four),
        Story::new("an_operator_of_one_namespace_needs_no_more_than_its_role", namespaced::serves_with_a_role),
        Story::new("the_commands_of_the_documents_work_word_for_word", commands::work_word_for_word),
    ]
}

fn main() -> ExitCode {
    // Flags of the usual test program have no meaning here.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    // One thread: the stories wait, and what they wait for needs the machine more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = runtime.map_err(Failure::io("starting")).and_then(|runtime| runtime.block_on(tell(&words)));
    match told {
        Ok(summary) => {
            eprintln!("{summary}");
            if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprintln!("kvs-e2e: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the acts one after the other and cleans up. Without the first act there is nothing to tell.
async fn tell(words: &[String]) -> Result<Summary, Failure> {
    let mut cluster = Cluster::connect(Settings::from_environment()?).await?;
    cluster.prepare().await?;
    let cluster = Rc::new(cluster);
    runner::remember_panics();
    let mut summary = Summary::default();
    runner::tell(&cluster, first_act(), 1, &mut summary).await;
    if summary.failed.is_empty() {
        runner::tell(&cluster, chosen(second_act(), words, &mut summary), SIDE_BY_SIDE, &mut summary).await;
        runner::tell(&cluster, chosen(long_act(), words, &mut summary), 1, &mut summary).await;
        runner::tell(&cluster, chosen(last_act(), words, &mut summary), 1, &mut summary).await;
    }
    if summary.failed.is_empty() || !cluster.settings.keep_failed {
        cluster.purge().await?;
    }
    Ok(summary)
}

/// The stories whose name holds one of the words, or all where there are none.
fn chosen(act: Vec<Story>, words: &[String], summary: &mut Summary) -> Vec<Story> {
    let is_wanted = |story: &Story| words.is_empty() || words.iter().any(|word| story.name().contains(word.as_str()));
    let (wanted, others): (Vec<Story>, Vec<Story>) = act.into_iter().partition(is_wanted);
    summary.left_out += others.len();
    wanted
}
