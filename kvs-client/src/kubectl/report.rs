//! `report`: a folder with what a maintainer needs to know about a store.
//!
//! What must hold: no byte of a Secret's value gets into it (see `redaction.rs`); what could not be read is listed and
//! the rest is there; the folder is new, and only its owner may read it.

mod redaction;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{ListParams, LogParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, Right, json};
use super::collect::{Collected, OPERATOR_SELECTOR, named_secrets};
use super::doctor::{self, diagnose};
use super::logs::{self, Run};
use super::{KubectlError, status};
use crate::arguments::ReportFlags;
use crate::error::Error;
use crate::output::Output;

use redaction::Redaction;

/// The most lines of each log.
const LOG_LINES: i64 = 10_000;
/// The most namespaces of operators that are looked into.
const MOST_OPERATORS: usize = 3;
/// The list of what could not be read.
const MISSING: &str = "missing.txt";

/// Writes it.
pub(super) async fn run(cluster: &Cluster, flags: &ReportFlags, output: Output) -> Result<(), Error> {
    let name = &flags.store.name;
    let folder = flags.to.clone().unwrap_or_else(|| PathBuf::from(format!("{name}-report")));
    let seen = Collected::read(cluster, name).await?;
    let mut report = Report { folder, redaction: Redaction::default(), files: 0, missing: Vec::new() };
    report.begin()?;
    report.learn_secrets(cluster, &seen).await;
    report.write_objects(cluster, &seen, name).await?;
    report.write_servers(cluster, &seen).await?;
    report.write_operators(cluster, &seen).await?;
    let (missing, files) = (report.missing.len(), report.files + 1);
    let list = report.missing.join("\n");
    report.write(MISSING, &if list.is_empty() { "nothing".to_owned() } else { list })?;
    let folder = report.folder.display();
    let text = format!(
        "{folder}: {files} files, without any Secret's value; {missing} parts could not be read ({MISSING}); look \
         through it before you give it away: names of keys can stand in it"
    );
    output.report(&text, &json!({"folder": folder.to_string(), "files": files, "missing": report.missing}))
}

/// A folder under construction.
struct Report {
    folder: PathBuf,
    redaction: Redaction,
    files: usize,
    missing: Vec<String>,
}

impl Report {
    fn begin(&self) -> Result<(), Error> {
        let made = fs::DirBuilder::new().mode(0o700).create(&self.folder);
        made.map_err(|error| self.cannot_write(&self.folder, &error))
    }

    fn cannot_write(&self, path: &Path, error: &std::io::Error) -> Error {
        Error::Data(format!("cannot write {}: {error}; name a new folder with --to FOLDER", path.display()))
    }

    /// The one way into the folder.
    fn write(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        let mut text = self.redaction.of_text(text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        fs::write(&path, text).map_err(|error| self.cannot_write(&path, &error))?;
        self.files += 1;
        Ok(())
    }

    fn write_object(&mut self, name: &str, mut object: Value) -> Result<(), Error> {
        redaction::of_object(&mut object);
        let text = serde_yaml::to_string(&object).expect("JSON always has a YAML form");
        self.write(name, &text)
    }

    /// A part that may be missing.
    fn write_part(&mut self, name: &str, part: Result<Value, String>) -> Result<(), Error> {
        match part {
            Ok(object) => self.write_object(name, object),
            Err(why) => {
                self.missing.push(format!("{name}: {why}"));
                Ok(())
            }
        }
    }

    /// Reads the values that must not get out.
    async fn learn_secrets(&mut self, cluster: &Cluster, seen: &Collected) {
        let api = Api::<Secret>::namespaced(cluster.client.clone(), &cluster.namespace);
        for (name, _) in named_secrets(&seen.store) {
            match cluster.call(Right::namespaced("get", "secrets", ""), api.get(&name)).await {
                Ok(secret) => secret.data.into_iter().flatten().for_each(|(_, value)| self.redaction.learn(&value.0)),
                Err(error) => {
                    let why = error.short();
                    self.missing.push(format!("Secret {name}: {why}; its value is not known, so it is not looked for"));
                }
            }
        }
    }

    async fn write_objects(&mut self, cluster: &Cluster, seen: &Collected, name: &str) -> Result<(), Error> {
        let findings = diagnose(seen, &cluster.namespace, name);
        self.write("doctor.txt", &doctor::text(seen, &findings, &cluster.namespace, name))?;
        self.write("status.txt", &status::describe(&seen.store, cluster, name))?;
        self.write_object("store.yaml", seen.store.clone())?;
        let list = |part: &Result<Vec<Value>, String>| part.clone().map(Value::Array);
        self.write_part("pods.yaml", list(&seen.pods))?;
        self.write_part("claims.yaml", list(&seen.claims))?;
        self.write_part("events.yaml", list(&seen.events))?;
        self.write_part("classes.yaml", list(&seen.classes))?;
        self.write_part("definition.yaml", seen.definition.clone())?;
        self.write_part("operators.yaml", list(&seen.operators))?;
        self.write_part("leases.yaml", list(&seen.leases))?;
        let ours = ListParams::default()
            .labels(&format!("app.kubernetes.io/managed-by=kvs-operator,app.kubernetes.io/instance={name}"));
        let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), &cluster.namespace);
        let found = cluster.call(Right::namespaced("list", "statefulsets", "apps"), sets.list(&ours)).await;
        self.write_part("statefulsets.yaml", found.map(|list| json(&list.items)).map_err(|error| error.short()))?;
        let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), &cluster.namespace);
        let found = cluster.call(Right::namespaced("list", "configmaps", ""), maps.list(&ours)).await;
        self.write_part("configuration.yaml", found.map(|list| json(&list.items)).map_err(|error| error.short()))?;
        let kubernetes = cluster.client.apiserver_version().await.map_or_else(
            |error| format!("unknown ({error})"),
            |version| format!("{} ({})", version.git_version, version.platform),
        );
        let image = seen.store["status"]["image"].as_str().unwrap_or("unknown");
        let versions = format!("kvs-client {}\nKubernetes {kubernetes}\nserver {image}", env!("CARGO_PKG_VERSION"));
        self.write("versions.txt", &versions)
    }

    /// Logs, figures and metrics of each member.
    async fn write_servers(&mut self, cluster: &Cluster, seen: &Collected) -> Result<(), Error> {
        for server in &seen.servers {
            match server {
                Ok(server) => {
                    self.write_object(&format!("server-{}.yaml", server.pod), server.status.clone())?;
                    self.write(&format!("metrics-{}.txt", server.pod), &server.metrics)?;
                }
                Err(why) => self.missing.push(format!("a server's figures and metrics: {why}")),
            }
        }
        for pod in seen.pods.iter().flatten() {
            let Ok(pod) = serde_json::from_value::<Pod>(pod.clone()) else { continue };
            let name = pod.metadata.name.clone().unwrap_or_default();
            for (run, file) in
                [(Run::Before, format!("log-{name}-before.txt")), (Run::Present, format!("log-{name}.txt"))]
            {
                match logs::of_run(cluster, &pod, run, LOG_LINES).await {
                    Ok(Some(text)) => self.write(&file, &text)?,
                    Ok(None) => {}
                    Err(error) => self.missing.push(format!("{file}: {}", error.short())),
                }
            }
        }
        Ok(())
    }

    /// The logs of the operator's pods.
    async fn write_operators(&mut self, cluster: &Cluster, seen: &Collected) -> Result<(), Error> {
        let mut namespaces: Vec<&str> =
            seen.operators.iter().flatten().filter_map(|found| found["metadata"]["namespace"].as_str()).collect();
        namespaces.dedup();
        for namespace in namespaces.into_iter().take(MOST_OPERATORS) {
            let there = cluster.in_namespace(namespace);
            let selector = ListParams::default().labels(OPERATOR_SELECTOR);
            let pods = match there.call(Right::LIST_PODS, there.pods().list(&selector)).await {
                Ok(pods) => pods.items,
                Err(error) => {
                    self.missing.push(format!("the operator's logs: {}", error.short()));
                    continue;
                }
            };
            for pod in pods {
                let name = pod.metadata.name.clone().unwrap_or_default();
                let file = format!("operator-{name}.txt");
                let parameters = LogParams { tail_lines: Some(LOG_LINES), ..LogParams::default() };
                match there.call(Right::READ_LOGS, there.pods().logs(&name, &parameters)).await {
                    Ok(text) => self.write(&file, &text)?,
                    Err(KubectlError::Refused { .. }) => {}
                    Err(error) => self.missing.push(format!("{file}: {}", error.short())),
                }
            }
        }
        Ok(())
    }
}
