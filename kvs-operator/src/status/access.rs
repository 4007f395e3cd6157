//! What the Secrets of a store mean for people: the condition TLSReady, the fault that keeps a store from being Ready,
//! and the date in the status.
//!
//! What must hold: no message holds a time that moves (days left, say), or each look would be a write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::condition::Verdict;
use super::diagnosis::Fault;
use crate::access::{Access, AccessProblem, CertificateAge, CertificateFacts, PENDING};
use crate::resource::TlsStatus;
use crate::validate::{ServerTls, ValidStore};

/// What keeps clients out, or members from starting.
pub(super) fn fault(access: &Access, valid: &ValidStore, now: &Time) -> Option<Fault> {
    let problem = |problem: &AccessProblem| Fault { reason: problem.reason, message: problem.message.clone() };
    let token = access.token.as_ref().and_then(|token| token.as_ref().err());
    if let Some(token) = token {
        return Some(problem(token));
    }
    match access.certificate.as_ref()? {
        // Time heals it, as a rule.
        Err(certificate) if certificate.reason == PENDING => None,
        Err(certificate) => Some(problem(certificate)),
        Ok(facts) => out_of_date(facts, valid, now),
    }
}

/// What members wait for that another program is about to make.
pub(super) fn pending(access: &Access) -> Option<Verdict> {
    let problem = access.certificate.as_ref()?.as_ref().err()?;
    (problem.reason == PENDING).then(|| Verdict::yes(PENDING, problem.message.clone()))
}

fn out_of_date(facts: &CertificateFacts, valid: &ValidStore, now: &Time) -> Option<Fault> {
    let ServerTls { secret, is_mutual: _, issuer } = valid.tls.as_ref()?;
    let advice = match issuer {
        Some(_) => format!(
            "see kubectl --namespace {} describe certificate {}, which cert-manager should have renewed",
            valid.namespace, valid.name
        ),
        None => "put a certificate that is valid there; servers take it over without a restart".to_owned(),
    };
    match facts.age(now.0) {
        CertificateAge::Valid | CertificateAge::EndsSoon => None,
        CertificateAge::Expired => Some(Fault {
            reason: "CertificateExpired",
            message: format!("the certificate in Secret {secret} ended at {}; {advice}", facts.not_after),
        }),
        CertificateAge::NotYetValid => Some(Fault {
            reason: "CertificateNotYetValid",
            message: format!("the certificate in Secret {secret} begins at {}; {advice}", facts.not_before),
        }),
    }
}

/// The condition TLSReady; `None` for a store in plain TCP.
pub(super) fn tls_ready(access: &Access, valid: &ValidStore, now: &Time) -> Option<Verdict> {
    let ServerTls { secret, .. } = valid.tls.as_ref()?;
    let facts = match access.certificate.as_ref()? {
        Err(problem) if problem.stops_servers => return Some(Verdict::no(problem.reason, problem.message.clone())),
        Err(problem) => return Some(Verdict::unknown(problem.reason, problem.message.clone())),
        Ok(facts) => facts,
    };
    if let Some(Fault { reason, message }) = out_of_date(facts, valid, now) {
        return Some(Verdict::no(reason, message));
    }
    let until = format!("the certificate in Secret {secret} is valid until {}", facts.not_after);
    Some(match facts.age(now.0) {
        CertificateAge::EndsSoon => Verdict::yes("CertificateEndsSoon", format!("{until}; renew it")),
        _ => Verdict::yes("CertificateValid", until),
    })
}

/// What the status says of the certificate.
pub(super) fn tls_status(access: &Access, valid: &ValidStore) -> Option<TlsStatus> {
    let tls = valid.tls.as_ref()?;
    let facts = access.certificate.as_ref().and_then(|certificate| certificate.as_ref().ok());
    Some(TlsStatus { secret_name: tls.secret.clone(), not_after: facts.map(|facts| rfc3339(facts.not_after)) })
}

fn rfc3339(time: Timestamp) -> String {
    time.to_string()
}
