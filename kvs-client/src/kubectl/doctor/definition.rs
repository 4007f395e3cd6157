//! Whether the definition of KvsStore in the cluster is older than the operator: fields that it lacks are dropped
//! without a word, in the spec and in the status.
//!
//! What is compared: the names of the fields, with those of the definition that belongs to this program. So an operator
//! of another version is not judged.

use serde::Deserialize as _;
use serde_json::Value;

use super::operator::is_down;
use super::{Case, Finding, Place};

/// The definitions of this version, one document for each kind.
const OWN: &str = include_str!("../../../../deploy/crds.yaml");
/// The version that both definitions have in common.
const VERSION: &str = "v1alpha1";
/// The most fields that are named.
const MOST_NAMED: usize = 3;

pub(super) fn find(case: &Case<'_>) -> Option<Finding> {
    let evidence = compared(case).or_else(|| told(case))?;
    // An operator that waits for its definition is down because of it.
    let place = if case.is_left_alone() && is_down(case) { Place::NobodyActs(0) } else { Place::Running(2) };
    let says = "the definition of KvsStore is older than the operator: fields that it lacks are dropped";
    Some(Finding::new(place, "DefinitionTooOld", says, evidence, next(case)))
}

/// The fields that the installed definition lacks.
fn compared(case: &Case<'_>) -> Option<String> {
    let installed = case.seen.definition.as_ref().ok()?;
    if operator_version(case).is_some_and(|version| version != env!("CARGO_PKG_VERSION")) {
        return None;
    }
    let missing = missing_fields(&own("KvsStore")?, installed);
    let named: Vec<&str> = missing.iter().take(MOST_NAMED).map(String::as_str).collect();
    let more = match missing.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let fields = named.join(", ");
    (!missing.is_empty()).then(|| format!("the installed definition of KvsStore has no {fields}{more}"))
}

/// What the operator says of it, which sees what becomes of its own writes.
fn told(case: &Case<'_>) -> Option<String> {
    let warning = case.condition("ConfigurationWarning").filter(|warning| warning.holds)?;
    (warning.reason == "DefinitionOld").then_some(warning.message)
}

/// Asks the operator itself for its definition, where its Deployment is known.
fn next(case: &Case<'_>) -> String {
    let deployment = case.seen.operators.as_ref().ok().and_then(|found| found.first());
    let text = |path: &str| deployment.and_then(|found| found.pointer(path)).and_then(Value::as_str);
    match (text("/metadata/namespace"), text("/metadata/name")) {
        (Some(namespace), Some(name)) => format!(
            "kubectl --namespace {namespace} exec deployment/{name} -- /kvs-operator crd | kubectl apply --server-side --force-conflicts --filename -"
        ),
        _ => "kubectl apply --server-side --force-conflicts --filename deploy/crds.yaml".to_owned(),
    }
}

/// The version of the operator, as its Deployment is labelled.
fn operator_version<'a>(case: &'a Case<'_>) -> Option<&'a str> {
    let deployment = case.seen.operators.as_ref().ok()?.first()?;
    deployment.pointer("/metadata/labels/app.kubernetes.io~1version")?.as_str()
}

/// Our own definition of a kind.
fn own(kind: &str) -> Option<Value> {
    let mut documents =
        serde_yaml::Deserializer::from_str(OWN).filter_map(|document| Value::deserialize(document).ok());
    documents.find(|document| document["spec"]["names"]["kind"] == kind)
}

/// The fields that one definition has and the other lacks, the nearest to the top first. Pure.
fn missing_fields(wanted: &Value, found: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    let (Some(wanted), Some(found)) = (schema(wanted), schema(found)) else { return missing };
    compare("", wanted, found, &mut missing);
    missing.sort_by_key(|path| path.matches('.').count());
    missing
}

fn schema(definition: &Value) -> Option<&Value> {
    let versions = definition.pointer("/spec/versions")?.as_array()?;
    versions.iter().find(|version| version["name"] == VERSION)?.pointer("/schema/openAPIV3Schema")
}

fn compare(path: &str, wanted: &Value, found: &Value, missing: &mut Vec<String>) {
    for (name, field) in wanted["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match found["properties"].get(name) {
            Some(found) => compare(&path, field, found, missing),
            // Where every field is kept, none is dropped.
            None if found["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => missing.push(path),
        }
    }
    if let (Some(wanted), Some(found)) = (wanted.get("items"), found.get("items")) {
        compare(path, wanted, found, missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_there_is_named_and_a_description_does_not_count() {
        let own = own("KvsStore").unwrap();
        let mut old = own.clone();
        assert_eq!(missing_fields(&own, &old), [""; 0]);
        let schema = &mut old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        schema["spec"]["description"] = "other words".into();
        schema["spec"]["properties"].as_object_mut().unwrap().remove("tls");
        schema["status"]["properties"]["members"]["items"]["properties"].as_object_mut().unwrap().remove("node");
        assert_eq!(missing_fields(&own, &old), ["spec.tls", "status.members.node"]);
    }

    #[test]
    fn a_newer_definition_lacks_nothing() {
        let own = own("KvsStore").unwrap();
        let mut newer = own.clone();
        newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["more"] =
            serde_json::json!({"type": "string"});
        assert_eq!(missing_fields(&own, &newer), [""; 0]);
    }
}
