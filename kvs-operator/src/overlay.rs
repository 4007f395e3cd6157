//! `Overlay`: what a person lays over the pods' template, checked.
//!
//! What must hold: it names nothing that the operator owns, so that laying it over can't break a server; it names no
//! field that a pod does not have, because one that is dropped in silence would be a lie; and it is in the form that the
//! API server gives back, so that a pod with it does not look changed at each look.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, PodTemplateSpec, VolumeMount};
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, PEER_PORT};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::names;
use crate::plan::list_keys;
use crate::plan::pod_template::{
    ADMIN_PORT_NAME, AUTH_MOUNT, AUTH_VOLUME, CLIENT_PORT_NAME, CONFIG_MOUNT, CONFIG_VOLUME, DATA_MOUNT,
    PEER_PORT_NAME, TLS_MOUNT, TLS_VOLUME,
};
use crate::resource::{OverlayMetadata, PodTemplateOverlay};

/// The prefix of labels and annotations that are the operator's.
const OWN_PREFIX: &str = "kvs.aryavarth.io/";
/// The prefix of variables that are the server's settings and would win over its file.
const SETTINGS_PREFIX: &str = "KVS_";

/// What is laid over a pod template.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    spec: Map<String, Value>,
}

/// A part of an overlay that can't be laid over: where, and what to do.
pub type OverlayProblem = (String, String);

impl Overlay {
    /// Checks what a person wrote.
    ///
    /// # Errors
    /// Everything that must be taken out or corrected.
    pub fn check(overlay: &PodTemplateOverlay) -> Result<Self, Vec<OverlayProblem>> {
        let PodTemplateOverlay { metadata, spec } = overlay;
        let OverlayMetadata { labels, annotations } = metadata.clone().unwrap_or_default();
        let mut problems = Vec::new();
        let labels = labels.unwrap_or_default();
        let annotations = annotations.unwrap_or_default();
        let owned = names::labels("");
        for label in labels.keys().filter(|label| owned.contains_key(*label) || label.starts_with(OWN_PREFIX)) {
            problems.push((format!("metadata.labels.{label}"), "is the operator's own; leave it out".to_owned()));
        }
        for annotation in annotations.keys().filter(|annotation| annotation.starts_with(OWN_PREFIX)) {
            let problem = "is the operator's own; leave it out".to_owned();
            problems.push((format!("metadata.annotations.{annotation}"), problem));
        }
        let spec = match spec.as_ref().map_or_else(|| Ok(PodSpec::default()), typed::<PodSpec>) {
            Ok(spec) => checked(spec, &mut problems),
            Err(problem) => {
                problems.push(("spec".to_owned(), problem));
                PodSpec::default()
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let Value::Object(mut spec) = json(&spec) else { unreachable!("a struct is an object in JSON") };
        // A pod's spec always has this list; empty, it says nothing.
        if spec.get("containers").is_some_and(|containers| containers.as_array().is_some_and(Vec::is_empty)) {
            spec.remove("containers");
        }
        Ok(Self { labels, annotations, spec })
    }

    /// The template with this laid over it.
    ///
    /// # Panics
    /// Never: both are typed, so what comes out has a pod template's form.
    #[must_use]
    pub fn lay_over(&self, template: PodTemplateSpec) -> PodTemplateSpec {
        let Self { labels, annotations, spec } = self;
        if labels.is_empty() && annotations.is_empty() && spec.is_empty() {
            return template;
        }
        let mut template = template;
        let metadata = template.metadata.get_or_insert_default();
        metadata.labels.get_or_insert_default().extend(labels.clone());
        metadata.annotations.get_or_insert_default().extend(annotations.clone());
        let mut value = json(&template);
        merge(&mut value["spec"], Value::Object(spec.clone()), "spec");
        serde_json::from_value(value).expect("two pod specs, merged, are a pod spec")
    }
}

/// A value as a type of Kubernetes, without a field that the type does not have.
///
/// # Errors
/// What is no field, or has a wrong type.
pub fn typed<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T, String> {
    let typed: T = serde_json::from_value(value.clone()).map_err(|error| format!("is not understood: {error}"))?;
    match first_lost(value, &json(&typed), "") {
        Some(path) => Err(format!("{path} is no field of a pod, or is null; correct it or leave it out")),
        None => Ok(typed),
    }
}

/// The path of the first field that is in one value and not in the other.
fn first_lost(before: &Value, after: &Value, path: &str) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().find_map(|(name, field)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match after.get(name) {
                Some(after) => first_lost(field, after, &path),
                None => Some(path),
            }
        }),
        (Value::Array(before), Value::Array(after)) => before
            .iter()
            .zip(after)
            .enumerate()
            .find_map(|(index, (before, after))| first_lost(before, after, &format!("{path}[{index}]"))),
        _ => None,
    }
}

/// The spec in the form that the API server gives back. What can't be overlaid goes to `problems`.
fn checked(mut spec: PodSpec, problems: &mut Vec<OverlayProblem>) -> PodSpec {
    let mut refuse = |place: String, problem: &str| problems.push((place, problem.to_owned()));
    for (field, is_set) in [("hostname", spec.hostname.is_some()), ("subdomain", spec.subdomain.is_some())] {
        if is_set {
            refuse(format!("spec.{field}"), "is the StatefulSet's own; leave it out");
        }
    }
    for volume in spec.volumes.iter().flatten() {
        if [names::DATA_VOLUME, CONFIG_VOLUME, AUTH_VOLUME, TLS_VOLUME].contains(&volume.name.as_str()) {
            refuse(format!("spec.volumes[{}]", volume.name), "is a volume of the operator; choose another name");
        }
    }
    for container in spec.containers.iter().filter(|container| container.name == names::SERVER_CONTAINER) {
        check_server(container, &mut refuse);
    }
    for container in spec.init_containers.iter().flatten() {
        if container.name == names::SERVER_CONTAINER {
            refuse("spec.initContainers[kvs-server]".to_owned(), "is the server's name; choose another");
        }
    }
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for (index, container) in all.enumerate() {
        if container.name.is_empty() {
            refuse(format!("spec.containers[{index}]"), "has no name; give it one");
        }
        for port in container.ports.iter().flatten().filter(|port| is_our_port(port)) {
            let place = format!("spec.containers[{}].ports[{}]", container.name, port.container_port);
            refuse(place, "has the number or the name of a port of the server; choose others");
        }
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        normalize(container);
    }
    for flag in [&mut spec.host_network, &mut spec.host_pid, &mut spec.host_ipc] {
        drop_false(flag);
    }
    spec
}

fn check_server(server: &Container, refuse: &mut impl FnMut(String, &str)) {
    let elsewhere = [
        ("image", server.image.is_some(), "stands in spec.image"),
        ("imagePullPolicy", server.image_pull_policy.is_some(), "stands in spec.imagePullPolicy"),
        ("resources", server.resources.is_some(), "stand in spec.resources"),
        ("command", server.command.is_some(), "is the operator's own; leave it out"),
        ("args", server.args.is_some(), "are the operator's own; leave them out"),
        ("workingDir", server.working_dir.is_some(), "is the operator's own; leave it out"),
        ("envFrom", server.env_from.is_some(), "could change the server's settings; name each variable in env"),
        ("terminationMessagePath", server.termination_message_path.is_some(), "is the operator's own; leave it out"),
        (
            "terminationMessagePolicy",
            server.termination_message_policy.is_some(),
            "is the operator's own; leave it out",
        ),
    ];
    for (field, is_set, problem) in elsewhere {
        if is_set {
            refuse(format!("spec.containers[kvs-server].{field}"), problem);
        }
    }
    for variable in server.env.iter().flatten().filter(|variable| variable.name.starts_with(SETTINGS_PREFIX)) {
        let place = format!("spec.containers[kvs-server].env[{}]", variable.name);
        refuse(place, "is a setting of the server; use the field of the KvsStore for it");
    }
    for mount in server.volume_mounts.iter().flatten().filter(|mount| is_our_mount(mount)) {
        let place = format!("spec.containers[kvs-server].volumeMounts[{}]", mount.mount_path);
        refuse(place, "would cover or show a volume of the operator; choose another path or volume");
    }
}

fn is_our_port(port: &ContainerPort) -> bool {
    let number = u16::try_from(port.container_port).ok();
    let names = [CLIENT_PORT_NAME, PEER_PORT_NAME, ADMIN_PORT_NAME];
    number.is_some_and(|number| [CLIENT_PORT, PEER_PORT, ADMIN_PORT].contains(&number))
        || port.name.as_deref().is_some_and(|name| names.contains(&name))
}

/// Whether a mount of the server's container lies at, above or below a path of ours, or is one of our volumes.
fn is_our_mount(mount: &VolumeMount) -> bool {
    let path = format!("{}/", mount.mount_path.trim_end_matches('/'));
    let covers = |own: &str| format!("{own}/").starts_with(&path) || path.starts_with(&format!("{own}/"));
    [CONFIG_MOUNT, DATA_MOUNT, AUTH_MOUNT, TLS_MOUNT].into_iter().any(covers)
        || [names::DATA_VOLUME, CONFIG_VOLUME, AUTH_VOLUME, TLS_VOLUME].contains(&mount.name.as_str())
}

/// Sets what the API server would set, because it keys a list by it, and drops what it would drop.
fn normalize(container: &mut Container) {
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    for mount in container.volume_mounts.iter_mut().flatten() {
        drop_false(&mut mount.read_only);
    }
    for variable in container.env.iter_mut().flatten() {
        if variable.value.as_deref() == Some("") {
            variable.value = None;
        }
    }
    for flag in [&mut container.stdin, &mut container.stdin_once, &mut container.tty] {
        drop_false(flag);
    }
}

fn drop_false(flag: &mut Option<bool>) {
    *flag = flag.filter(|flag| *flag);
}

/// Lays one value over another, as the module's user is told: maps merged, keyed lists by key, the rest replaced.
fn merge(into: &mut Value, from: Value, name: &str) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(&name) {
                    Some(there) => merge(there, value, &name),
                    None => {
                        into.insert(name, value);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            let Some(keys) = list_keys(name, &from) else {
                *into = from;
                return;
            };
            for entry in from {
                let twin = into.iter_mut().find(|there| keys.iter().all(|key| there.get(key) == entry.get(key)));
                match twin {
                    Some(twin) => merge(twin, entry, ""),
                    None => into.push(entry),
                }
            }
        }
        (into, from) => *into = from,
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("a Kubernetes object always has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<Overlay, String> {
        let overlay: PodTemplateOverlay = serde_yaml::from_str(yaml).unwrap();
        Overlay::check(&overlay).map_err(|problems| {
            problems.iter().map(|(place, problem)| format!("{place}: {problem}")).collect::<Vec<_>>().join("; ")
        })
    }

    fn template() -> PodTemplateSpec {
        serde_yaml::from_str(
            "{metadata: {labels: {a: '1'}}, spec: {tolerations: [{key: x}], containers: [{name: kvs-server, image: i, \
             ports: [{name: client, containerPort: 4000, protocol: TCP}], env: [{name: A, value: '1'}]}]}}",
        )
        .unwrap()
    }

    #[test]
    fn nothing_laid_over_changes_nothing() {
        for empty in ["{}", "{spec: {}}", "{metadata: {}}", "{metadata: {labels: {}}, spec: {containers: []}}"] {
            assert_eq!(check(empty).unwrap().lay_over(template()), template(), "{empty}");
        }
    }

    #[test]
    fn maps_and_keyed_lists_are_merged_and_other_lists_replaced() {
        let overlay = check(
            "{metadata: {labels: {team: shop}, annotations: {a.example/b: c}}, spec: {hostAliases: [{ip: 10.0.0.1}], \
             tolerations: [{key: y}], runtimeClassName: gvisor, volumes: [{name: scratch, emptyDir: {}}], containers: [\
             {name: kvs-server, env: [{name: A, value: '2'}, {name: B, value: ''}], volumeMounts: [{name: scratch, mountPath: /tmp}]}, \
             {name: proxy, image: p, ports: [{containerPort: 8080}], tty: false}]}}",
        )
        .unwrap();
        let laid = overlay.lay_over(template());
        assert_eq!(laid.metadata.unwrap().labels.unwrap().len(), 2);
        let spec = laid.spec.unwrap();
        assert_eq!(spec.tolerations.unwrap()[0].key.as_deref(), Some("y"));
        assert_eq!(spec.containers.len(), 2);
        let [server, proxy] = &spec.containers[..] else { panic!("two containers") };
        assert_eq!((server.image.as_deref(), server.ports.as_ref().unwrap().len()), (Some("i"), 1));
        let env: Vec<_> =
            server.env.iter().flatten().map(|entry| (entry.name.as_str(), entry.value.as_deref())).collect();
        assert_eq!(env, [("A", Some("2")), ("B", None)], "an empty value is what the API server drops");
        assert_eq!(proxy.ports.as_ref().unwrap()[0].protocol.as_deref(), Some("TCP"));
        assert_eq!(proxy.tty, None);
    }

    #[test]
    fn what_the_operator_owns_is_refused_by_its_place() {
        for (yaml, words) in [
            (
                "{metadata: {labels: {app.kubernetes.io/instance: x}}}",
                "metadata.labels.app.kubernetes.io/instance: is the operator's own",
            ),
            ("{metadata: {labels: {kvs.aryavarth.io/role: x}}}", "metadata.labels.kvs.aryavarth.io/role"),
            (
                "{metadata: {annotations: {kvs.aryavarth.io/config-hash: x}}}",
                "metadata.annotations.kvs.aryavarth.io/config-hash",
            ),
            ("{spec: {hostname: x}}", "spec.hostname: is the StatefulSet's own"),
            ("{spec: {volumes: [{name: data, emptyDir: {}}]}}", "spec.volumes[data]: is a volume of the operator"),
            ("{spec: {volumes: [{name: tls, emptyDir: {}}]}}", "spec.volumes[tls]"),
            ("{spec: {containers: [{name: kvs-server, image: x}]}}", "image: stands in spec.image"),
            ("{spec: {containers: [{name: kvs-server, command: [x]}]}}", "command: is the operator's own"),
            ("{spec: {containers: [{name: kvs-server, args: [x]}]}}", "args: are the operator's own"),
            ("{spec: {containers: [{name: kvs-server, resources: {}}]}}", "resources: stand in spec.resources"),
            ("{spec: {containers: [{name: kvs-server, envFrom: []}]}}", "envFrom: could change"),
            (
                "{spec: {containers: [{name: kvs-server, env: [{name: KVS_SYNC, value: os}]}]}}",
                "env[KVS_SYNC]: is a setting",
            ),
            (
                "{spec: {containers: [{name: kvs-server, ports: [{containerPort: 4000}]}]}}",
                "ports[4000]: has the number",
            ),
            (
                "{spec: {containers: [{name: proxy, ports: [{name: client, containerPort: 1}]}]}}",
                "ports[1]: has the number or the name",
            ),
            (
                "{spec: {containers: [{name: kvs-server, volumeMounts: [{name: x, mountPath: /var/lib/kvs/data}]}]}}",
                "volumeMounts[/var/lib/kvs/data]",
            ),
            (
                "{spec: {containers: [{name: kvs-server, volumeMounts: [{name: x, mountPath: /var}]}]}}",
                "volumeMounts[/var]",
            ),
            (
                "{spec: {containers: [{name: kvs-server, volumeMounts: [{name: data, mountPath: /x}]}]}}",
                "volumeMounts[/x]",
            ),
            ("{spec: {initContainers: [{name: kvs-server}]}}", "initContainers[kvs-server]"),
            ("{spec: {containers: [{image: x}]}}", "has no name"),
            ("{spec: {contaniers: []}}", "spec: contaniers is no field of a pod"),
            ("{spec: {containers: [{name: a, imgae: x}]}}", "containers[0].imgae is no field"),
            ("{spec: {priority: null}}", "priority is no field of a pod, or is null"),
            ("{spec: {priority: high}}", "spec: is not understood"),
        ] {
            let refused = check(yaml).unwrap_err();
            assert!(refused.contains(words), "{yaml}: {refused}");
        }
    }

    #[test]
    fn a_path_beside_ours_is_free() {
        for path in ["/etc/kvs-more", "/var/lib/kvs2", "/tmp"] {
            let yaml = format!(
                "{{spec: {{containers: [{{name: kvs-server, volumeMounts: [{{name: x, mountPath: {path}}}]}}]}}}}"
            );
            assert!(check(&yaml).is_ok(), "{path}");
        }
    }
}
