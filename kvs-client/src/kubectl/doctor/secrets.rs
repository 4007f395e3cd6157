//! What is wrong with the Secrets that a store names, by our own look or, where we may not look, by the operator's.

use k8s_openapi::jiff::Timestamp;

use super::{Case, Finding, Place};
use crate::kubectl::cluster::Condition;
use crate::kubectl::collect::{Purpose, SecretFacts};

/// What the operator says of a Secret that is of no use.
const OF_OPERATOR: [&str; 7] = [
    "SecretMissing",
    "SecretKeyMissing",
    "TokenUnusable",
    "CertManagerMissing",
    "CertificateUnusable",
    "CertificateMismatch",
    "CertificateExpired",
];

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = case.seen.secrets.iter().filter_map(|secret| of_secret(case, secret)).collect();
    let told = case.degraded().filter(|degraded| OF_OPERATOR.contains(&degraded.reason.as_str()));
    if let Some(degraded) = told.filter(|_| findings.is_empty()) {
        findings.extend(of_operator(case, &degraded));
    }
    findings
}

fn of_secret(case: &Case<'_>, secret: &SecretFacts) -> Option<Finding> {
    let SecretFacts { name, purpose, unknown, exists, missing_keys, not_after_s } = secret;
    if unknown.is_some() {
        return None;
    }
    if !exists {
        let says = format!("Secret {name}, which the store names, does not exist");
        let evidence = format!("namespace {} has no Secret {name}; {}", case.namespace, wanted(purpose));
        return Some(Finding::new(Place::Start(0), "SecretMissing", says, evidence, create(case, name, purpose)));
    }
    if !missing_keys.is_empty() {
        let says = format!("Secret {name}, which the store names, lacks what the store needs");
        let evidence = format!("Secret {name} has no key {}; {}", missing_keys.join(", "), wanted(purpose));
        let next = case.kubectl(&format!("describe secret {name}"));
        return Some(Finding::new(Place::Start(0), "SecretKeyMissing", says, evidence, next));
    }
    let ended = not_after_s.filter(|end| *end < case.seen.now.as_second())?;
    let evidence = format!("the certificate in Secret {name} ended at {}", time(ended));
    Some(expired(case, name, purpose, evidence))
}

/// Where we may not read Secrets: what the operator says of them.
fn of_operator(case: &Case<'_>, degraded: &Condition) -> Option<Finding> {
    // Of those that the store names, the one that the message is about.
    let is_meant = |secret: &&SecretFacts| degraded.message.contains(&format!("Secret {}", secret.name));
    let secret = case.seen.secrets.iter().find(is_meant);
    if secret.is_some_and(|secret| secret.unknown.is_none()) && degraded.reason == "SecretMissing" {
        // It is there by now; the operator has not looked again.
        return None;
    }
    let message = degraded.message.clone();
    if degraded.reason == "CertificateExpired" {
        let (name, purpose) = secret.map_or(("NAME", &Purpose::Certificate), |found| (&found.name, &found.purpose));
        return Some(expired(case, name, purpose, message));
    }
    let next = match (degraded.reason.as_str(), secret) {
        ("SecretMissing", Some(secret)) => create(case, &secret.name, &secret.purpose),
        (_, Some(secret)) => case.kubectl(&format!("describe secret {}", secret.name)),
        (_, None) => case.kubectl(&format!("describe kvsstore {}", case.name)),
    };
    let says = "a Secret that the store names is of no use";
    Some(Finding::new(Place::Start(0), &degraded.reason, says, message, next))
}

fn expired(case: &Case<'_>, name: &str, purpose: &Purpose, evidence: String) -> Finding {
    let says = "the certificate has ended: clients refuse the server";
    let next = match purpose {
        Purpose::IssuedCertificate => case.kubectl(&format!("describe certificate {}", case.name)),
        _ => format!(
            "{} --dry-run=client --output yaml | {}",
            create(case, name, purpose),
            case.kubectl("apply --filename -")
        ),
    };
    Finding::new(Place::Running(1), "CertificateExpired", says, evidence, next)
}

fn wanted(purpose: &Purpose) -> String {
    match purpose {
        Purpose::Token(key) => format!("spec.auth.tokenSecretRef wants the token under the key {key}"),
        Purpose::Certificate => "spec.tls.secretName wants tls.crt and tls.key".to_owned(),
        Purpose::IssuedCertificate => "cert-manager makes it for spec.tls.issuerRef".to_owned(),
    }
}

fn create(case: &Case<'_>, name: &str, purpose: &Purpose) -> String {
    match purpose {
        Purpose::Token(key) => case.kubectl(&format!("create secret generic {name} --from-file={key}=token.txt")),
        Purpose::Certificate => case.kubectl(&format!("create secret tls {name} --cert=certificate.pem --key=key.pem")),
        Purpose::IssuedCertificate => case.kubectl(&format!("describe certificate {}", case.name)),
    }
}

fn time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}
