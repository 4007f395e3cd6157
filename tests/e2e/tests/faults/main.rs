//! The operator among faults, on a real API server: killed at any call, lied to, stopped, contradicted, left alone.
//!
//! `make test` tells these stories in their short form, `make torture-operator` in their long one (`KVS_TORTURE=full`);
//! `make scale` tells one of its own (`KVS_TORTURE=scale`).
//! By hand, with a part of a story's name to tell only some:
//!
//! ```text
//! KVS_E2E_STATE=.cluster/test KVS_E2E_TOOLS=~/.cache/aryavarth-kvs/tools \
//!   cargo test -p kvs-e2e --features cluster --test faults -- crash
//! ```
//!
//! The operator is a process of this machine, before a proxy where faults are needed, and serves one namespace. No pod runs
//! there: what is proven is what the operator writes, and that takes no kubelet.
//!
//! What must hold: no other operator is at work meanwhile; whatever is done to it, a store ends as it does without.

mod crash;
mod ground;
mod handover;
mod hostile;
mod lifetime;
mod mending;
mod scale;
mod silence;
mod upgrade;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use kvs_e2e::cluster::{Cluster, Helm, OPERATOR_NAMESPACE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::{self, Story, Summary};
use kvs_e2e::{Failure, Settings};

/// Stories at a time: more would make each slower, and none faster.
const SIDE_BY_SIDE: usize = 4;
/// The longest that a story may take in its long form.
const TORTURE_LIMIT: Duration = Duration::from_secs(3600);

fn stories() -> Vec<Story> {
    if std::env::var("KVS_TORTURE").is_ok_and(|word| word == "scale") {
        return vec![
            Story::new("a_thousand_stores_cost_one_operator_little", scale::thousand_stores).within(TORTURE_LIMIT),
        ];
    }
    let mut stories = vec![
        Story::new("an_operator_that_ends_dies_or_stops_is_followed_and_never_are_there_two", handover::handed_over),
        Story::new("an_operator_cut_off_from_its_lease_stops_before_it_is_followed", handover::cut_off),
        Story::new("a_hostile_api_server_changes_nothing_in_the_end", hostile::converges),
        Story::new("an_operator_that_dies_after_each_write_ends_where_it_would_have", crash::after_each_write),
        Story::new(
            "an_operator_that_dies_before_each_second_write_ends_where_it_would_have",
            crash::before_each_second,
        ),
        Story::new("an_operator_that_dies_at_one_call_ends_where_it_would_have", crash::at_one_call),
        Story::new("a_pod_whose_store_goes_while_it_is_resized_goes_too", crash::resized_and_deleted),
        Story::new("every_field_that_is_ours_is_restored_and_no_other", mending::every_field),
        Story::new("stores_that_are_well_cost_no_write", silence::nothing_is_written),
    ];
    if upgrade::previous().is_some() {
        stories.push(Story::new("the_previous_operator_this_one_and_back_restart_no_pod", upgrade::there_and_back));
    } else {
        eprintln!(
            "left out: the change from the previous operator to this one and back; tests/bin/previous builds what it needs"
        );
    }
    stories
}

fn main() -> ExitCode {
    // Flags of the usual test program have no meaning here.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
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

/// Installs the definition and the rights, and no operator; tells the stories; cleans up.
async fn tell(words: &[String]) -> Result<Summary, Failure> {
    let mut cluster = Cluster::connect(Settings::from_environment()?).await?;
    cluster.prepare().await?;
    let cluster = Rc::new(cluster);
    runner::remember_panics();
    Namespace::create(Rc::clone(&cluster), OPERATOR_NAMESPACE.to_owned()).await?;
    cluster.install_operator_with(Helm::Four, &["--set=replicas=0"]).await?;
    ground::make_class(&cluster).await?;
    let is_wanted = |story: &Story| words.is_empty() || words.iter().any(|word| story.name().contains(word.as_str()));
    let (wanted, others): (Vec<Story>, Vec<Story>) = stories().into_iter().partition(is_wanted);
    let mut summary = Summary { left_out: others.len(), ..Summary::default() };
    let wanted = wanted.into_iter().map(|story| if is_torture() { story.within(TORTURE_LIMIT) } else { story });
    runner::tell(&cluster, wanted.collect(), SIDE_BY_SIDE, &mut summary).await;
    if summary.failed.is_empty() || !cluster.settings.keep_failed {
        cluster.purge().await?;
        ground::remove_class(&cluster).await?;
    }
    Ok(summary)
}

/// Whether the long form is wanted.
fn is_torture() -> bool {
    std::env::var("KVS_TORTURE").is_ok_and(|word| word == "full")
}
