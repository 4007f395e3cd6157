//! `repair`: a Job on the volume of a hibernated store says what can be saved and what is lost; with `--yes` another one
//! saves it.
//!
//! What must hold: nothing is written without `--yes`, and what would be lost is shown before anything is; only the
//! volume of a store that is hibernated is touched, and the server's own lock keeps a member that starts meanwhile out;
//! the pods satisfy Pod Security `restricted` and have no token.

use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kvs_protocol::termination::TerminationMessage;
use serde_json::{Value, json};

use super::KubectlError;
use super::cluster::{Cluster, Condition, Right, json};
use crate::arguments::RepairFlags;
use crate::error::Error;
use crate::escape;
use crate::output::{self, Format, Output};

/// Where the operator mounts a member's volume, and the data's folder in it.
const DATA_MOUNT: &str = "/var/lib/kvs";
const DATA_FOLDER: &str = "/var/lib/kvs/data";
/// Where Kubernetes takes a container's last words from.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// The user and group of our images.
const USER_ID: i64 = 65532;
/// So long a Job that is done stays, in seconds, for whoever wants to read its log.
const KEPT_SECONDS: i64 = 3_600;
const CREATE_JOB: Right = Right::namespaced("create", "jobs", "batch");
const GET_JOB: Right = Right::namespaced("get", "jobs", "batch");

/// Which of the two Jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Only says what a repair would do.
    Look,
    /// Does it.
    Replace,
}

/// Does the first of them, shows what it found, and does the second if that was asked for.
pub(super) async fn run(cluster: &Cluster, flags: &RepairFlags, output: Output) -> Result<(), Error> {
    let name = &flags.store.name;
    let store = cluster.store(name).await?;
    let pods = cluster.pods_of(&store, name).await?.len();
    let store = json(&store);
    let place = format!("{}/{name}", cluster.namespace);
    let volume = Volume::of(&store, pods, &cluster.namespace, name).map_err(KubectlError::WrongState)?;
    let limit = Duration::from_secs(flags.wait);
    let plan = volume.work(cluster, Step::Look, limit).await?;
    let is_sound = is_sound(&plan);
    if !flags.yes || is_sound {
        let advice = if is_sound {
            format!(
                "nothing is damaged, so nothing was changed; `{}` starts the store",
                cluster.command("resume", name)
            )
        } else {
            format!("nothing was changed; `{} --yes` saves it", cluster.command("repair", name))
        };
        output.report(&format!("{}\n{advice}", text(&place, &plan)), &object(&place, &plan, None))?;
        // Like `verify`: that something is damaged is an answer, and no good one.
        return if is_sound { Ok(()) } else { Err(Error::Said(7)) };
    }
    if output.format != Format::Json {
        output::write(&[text(&place, &plan).as_bytes(), b"\n"])?;
    }
    let done = volume.work(cluster, Step::Replace, limit).await?;
    let keys = done["repaired"]["keys"].as_u64();
    let saved = keys.map_or_else(|| "nothing had to be saved".to_owned(), |keys| format!("saved {keys} keys"));
    let advice = format!(
        "{saved}; the damaged data is kept on the volume, in data.damaged; `{}` starts the store",
        cluster.command("resume", name)
    );
    output.report(&advice, &object(&place, &plan, Some(&done)))
}

/// The volume of a store's only member, and what a pod on it needs.
#[derive(Debug, PartialEq, Eq)]
struct Volume {
    store: String,
    claim: String,
    image: String,
    /// Fields of the pod that the store's own pod has, too.
    pod: Value,
    /// What the container may use.
    resources: Value,
}

impl Volume {
    /// The volume of a store that sleeps; else what to do first. Pure.
    fn of(store: &Value, pods: usize, namespace: &str, name: &str) -> Result<Self, String> {
        let text = |path: &str| store.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let asleep = Condition::find(store, "Available")
            .is_some_and(|available| available.is_current && available.reason == "Hibernated");
        if text("/spec/desiredState") != Some("Hibernated") || !asleep || pods > 0 {
            return Err(format!(
                "{namespace}/{name} is not hibernated, and the data of a store that runs can't be repaired; first \
                 `kubectl kvs hibernate {name} --namespace {namespace}`"
            ));
        }
        let members = store.pointer("/status/members").and_then(Value::as_array).map_or(0, Vec::len);
        if members > 1 {
            return Err(format!("{namespace}/{name} has {members} members; this repairs stores of one member"));
        }
        let image = text("/status/image").or_else(|| text("/spec/image"));
        let image = image.ok_or_else(|| format!("{namespace}/{name} does not say which image its pods run"))?;
        let claim = text("/status/members/0/volumeClaim").map_or_else(|| format!("data-{name}-0"), str::to_owned);
        let mut pod = json!({});
        for (field, path) in [
            ("imagePullSecrets", "/spec/imagePullSecrets"),
            ("nodeSelector", "/spec/scheduling/nodeSelector"),
            ("tolerations", "/spec/scheduling/tolerations"),
            ("affinity", "/spec/scheduling/affinity"),
            ("priorityClassName", "/spec/scheduling/priorityClassName"),
        ] {
            if let Some(value) = store.pointer(path).filter(|value| !value.is_null()) {
                pod[field] = value.clone();
            }
        }
        let resources = store.pointer("/spec/resources").cloned().unwrap_or_else(|| json!({}));
        Ok(Self { store: name.to_owned(), claim, image: image.to_owned(), pod, resources })
    }

    /// The Job of a step. Its labels are not those of the store's members: no Service and no budget may count it.
    fn job(&self, step: Step) -> Value {
        let Self { store, claim, image, pod, resources } = self;
        let labels = json!({
            "app.kubernetes.io/name": "kvs-repair", "app.kubernetes.io/instance": store,
            "app.kubernetes.io/component": "repair", "app.kubernetes.io/part-of": "aryavarth-kvs",
            "app.kubernetes.io/managed-by": "kubectl-kvs",
        });
        let (word, flag) = match step {
            Step::Look => ("look", "--dry-run"),
            Step::Replace => ("replace", "--replace"),
        };
        let mut spec = pod.clone();
        let fixed = json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            "containers": [{
                "name": "repair", "image": image, "imagePullPolicy": "IfNotPresent", "resources": resources,
                "command": ["/kvs-server", "repair", "--data-dir", DATA_FOLDER, flag, "--json",
                            "--termination-log", TERMINATION_LOG],
                "terminationMessagePath": TERMINATION_LOG,
                "volumeMounts": [{"name": "data", "mountPath": DATA_MOUNT}],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        });
        for (field, value) in fixed.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"generateName": format!("{store}-repair-{word}-"), "labels": labels},
            "spec": {
                // Damage gives an exit code that is not 0, and looking again finds the same.
                "backoffLimit": 0, "ttlSecondsAfterFinished": KEPT_SECONDS,
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        })
    }

    /// Runs a step to its end and gives its report.
    async fn work(&self, cluster: &Cluster, step: Step, limit: Duration) -> Result<Value, Error> {
        let jobs = Api::<Job>::namespaced(cluster.client.clone(), &cluster.namespace);
        let job: Job = serde_json::from_value(self.job(step)).expect("the fields of a Job");
        let created = cluster.call(CREATE_JOB, jobs.create(&PostParams::default(), &job)).await?;
        let job = created.metadata.name.unwrap_or_default();
        let describe = format!("kubectl --namespace {} describe job {job}", cluster.namespace);
        let pods: Api<Pod> = cluster.pods();
        let ours = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let words = cluster
            .wait_for(&format!("Job {job} is done"), limit, &describe, async || {
                let found = cluster.call(Right::LIST_PODS, pods.list(&ours)).await?;
                let pods: Vec<Value> = found.items.iter().map(json).collect();
                match last_words(&pods) {
                    Ok(words) => Ok(Ok(words)),
                    Err(seen) => {
                        let status = json(&cluster.call(GET_JOB, jobs.get(&job)).await?)["status"].clone();
                        // A pod that a quota or Pod Security refuses is never made, and its Job never ends.
                        let failed = status["failed"].as_i64().unwrap_or(0) > 0;
                        Ok(Err(if failed { format!("Job {job} failed; {seen}") } else { seen }))
                    }
                }
            })
            .await?;
        let report = serde_json::from_str::<Value>(&words).ok().filter(Value::is_object);
        report.ok_or_else(|| {
            let cause = TerminationMessage::parse(&words).map_or_else(|| "without a word".to_owned(), |said| said.text);
            KubectlError::WrongState(format!("Job {job} failed: {}; `{describe}` says more", escape::line(&cause)))
                .into()
        })
    }
}

/// What the container of a Job's pod left behind; what is seen while it has not ended.
fn last_words(pods: &[Value]) -> Result<String, String> {
    let Some(pod) = pods.last() else { return Err("its pod is not made yet".to_owned()) };
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let state = &pod["status"]["containerStatuses"][0]["state"];
    if !state["terminated"].is_null() {
        return Ok(state["terminated"]["message"].as_str().unwrap_or_default().to_owned());
    }
    if let Some(reason) = state["waiting"]["reason"].as_str() {
        let message = state["waiting"]["message"].as_str().unwrap_or_default();
        return Err(format!("pod {name} waits: {reason} {message}").trim_end().to_owned());
    }
    let conditions = pod["status"]["conditions"].as_array();
    let unscheduled = conditions.into_iter().flatten().find(|condition| condition["type"] == "PodScheduled");
    match unscheduled.filter(|condition| condition["status"] == "False") {
        Some(condition) => Err(format!("pod {name}: {}", condition["message"].as_str().unwrap_or_default())),
        None => Err(format!("pod {name} reads the volume")),
    }
}

fn is_sound(plan: &Value) -> bool {
    plan["losses"].as_array().is_none_or(Vec::is_empty)
        && plan["lossesLeftOut"].as_u64().unwrap_or(0) == 0
        && plan["withoutManifest"] != true
}

/// What a person reads of a plan.
fn text(place: &str, plan: &Value) -> String {
    let number = |field: &str| plan[field].as_u64().unwrap_or(0);
    let mut text =
        format!("{place}: {} keys can be saved, from {} intact records", number("savedKeys"), number("records"));
    let mut line = |words: &str| write!(text, "\n{}", escape::line(words)).expect("writing into a string can't fail");
    for loss in plan["losses"].as_array().into_iter().flatten() {
        let at = |field: &str| loss[field].as_u64().unwrap_or(0);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        line(&format!(
            "lost: {} at byte {}, {} bytes: {}",
            word(&loss["file"]),
            at("offset"),
            at("bytes"),
            word(&loss["reason"])
        ));
        for key in loss["keys"].as_array().into_iter().flatten() {
            let what = if key["was_removal"] == true { "a removal of" } else { "a value of" };
            let then = match key["then"].as_str().unwrap_or_default() {
                "nothingIsLost" => "a newer record is intact, nothing is lost",
                "olderValue" => "an older value comes back",
                "removedKeyComesBack" => "the removed key comes back",
                _ => "the key will be missing",
            };
            line(&format!("  {what} {:?}: {then}", word(&key["key"])));
        }
        if loss["others"] == true {
            line(
                "  records whose keys can't be read: their keys lose their newest value, or come back although removed",
            );
        }
    }
    if number("lossesLeftOut") > 0 {
        line(&format!("and {} more damaged places; the Job's log has them all", number("lossesLeftOut")));
    }
    if plan["withoutManifest"] == true {
        line("caution: without a manifest, values that a compaction had dropped may come back");
    }
    text
}

fn object(place: &str, plan: &Value, done: Option<&Value>) -> Value {
    let repaired = done.map_or(Value::Null, |done| done["repaired"].clone());
    json!({"store": place, "sound": is_sound(plan), "plan": plan, "changed": done.is_some(), "repaired": repaired})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep() -> Value {
        json!({
            "metadata": {"generation": 2},
            "spec": {"desiredState": "Hibernated", "scheduling": {"tolerations": [{"key": "disk"}]}},
            "status": {"image": "registry/kvs-server:1", "conditions": [
                {"type": "Available", "status": "False", "reason": "Hibernated", "observedGeneration": 2},
            ]},
        })
    }

    #[test]
    fn a_store_that_is_not_asleep_is_refused() {
        let volume = Volume::of(&asleep(), 0, "shop", "orders").unwrap();
        assert_eq!((volume.claim.as_str(), volume.image.as_str()), ("data-orders-0", "registry/kvs-server:1"));
        let mut awake = asleep();
        awake["spec"]["desiredState"] = "Running".into();
        let mut unseen = asleep();
        unseen["metadata"]["generation"] = 3.into();
        for (store, pods) in [(awake, 0), (unseen, 0), (asleep(), 1)] {
            let refused = Volume::of(&store, pods, "shop", "orders").unwrap_err();
            assert!(refused.contains("kubectl kvs hibernate orders --namespace shop"), "{refused}");
        }
    }

    #[test]
    fn the_job_is_restricted_has_no_token_and_is_no_member() {
        let volume = Volume::of(&asleep(), 0, "shop", "orders").unwrap();
        for (step, flag, other) in [(Step::Look, "--dry-run", "--replace"), (Step::Replace, "--replace", "--dry-run")] {
            let job = volume.job(step);
            let pod = &job["spec"]["template"]["spec"];
            assert_eq!(pod["automountServiceAccountToken"], false);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(pod["containers"][0]["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(pod["tolerations"], json!([{"key": "disk"}]));
            let command = pod["containers"][0]["command"].as_array().unwrap();
            assert!(command.contains(&flag.into()) && !command.contains(&other.into()), "{command:?}");
            assert_ne!(job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], "kvs-store");
            serde_json::from_value::<Job>(job).unwrap();
        }
    }

    #[test]
    fn a_plan_is_told_line_by_line() {
        let plan = json!({"savedKeys": 21, "records": 24, "withoutManifest": false, "lossesLeftOut": 2, "losses": [{
            "file": "data/1.log", "offset": 7, "bytes": 60, "reason": "the checksum differs", "others": true,
            "keys": [{"key": "a\u{1b}b", "was_removal": true, "then": "removedKeyComesBack"}],
        }]});
        let text = text("shop/orders", &plan);
        assert!(
            text.starts_with("shop/orders: 21 keys can be saved, from 24 intact records\nlost: data/1.log"),
            "{text}"
        );
        assert!(text.contains("a removal of \"a\\u{1b}b\": the removed key comes back"), "{text}");
        assert!(text.contains("can't be read") && text.ends_with("2 more damaged places; the Job's log has them all"));
        assert!(!is_sound(&plan) && is_sound(&json!({"savedKeys": 1, "losses": []})));
    }

    #[test]
    fn a_pod_that_has_not_ended_says_what_it_waits_for() {
        assert!(last_words(&[]).unwrap_err().contains("not made"));
        let pod = |status: Value| [json!({"metadata": {"name": "p"}, "status": status})];
        let waiting = pod(json!({"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}));
        assert_eq!(last_words(&waiting), Err("pod p waits: ErrImagePull".into()));
        let ended = pod(json!({"containerStatuses": [{"state": {"terminated": {"message": "{}"}}}]}));
        assert_eq!(last_words(&ended), Ok("{}".into()));
    }
}
