//! What is accepted and served, and yet probably not what a person wants: the condition ConfigurationWarning.
//!
//! What must hold: a warning names the field and what to do; nothing here keeps a store from being Ready.

use super::condition::Verdict;
use crate::observe::Observed;
use crate::plan::{Obstacle, ObstacleOwner};
use crate::resource::PodMonitorMode;
use crate::validate::{Refusal, ValidStore};

/// All warnings in one verdict; its reason is that of the first.
pub(super) fn find(
    observed: &Observed,
    verdict: Result<&ValidStore, &[Refusal]>,
    obstacles: &[Obstacle],
    is_definition_old: bool,
) -> Verdict {
    let Ok(valid) = verdict else { return Verdict::unknown("SpecRefused", "the spec must be corrected first") };
    let mut warnings: Vec<(&'static str, String)> =
        valid.warnings.iter().map(|warning| ("SpecMaySurprise", warning.clone())).collect();
    warnings.extend(of_access(observed, valid));
    if valid.monitoring.pod_monitor == PodMonitorMode::Enabled && !observed.kinds.pod_monitors {
        let text = "spec.monitoring.podMonitor is Enabled, but this cluster knows no PodMonitor; install the \
                Prometheus operator's definitions, or set it to Auto";
        warnings.push(("NoPodMonitors", text.to_owned()));
    }
    for Obstacle { kind, name, owner } in obstacles.iter().filter(|obstacle| !obstacle.blocks()) {
        debug_assert_eq!(*owner, ObstacleOwner::Other, "a former store's children block");
        let text = format!(
            "{kind} {name} exists and belongs to someone else, so the operator keeps none of its own; delete or rename \
             it, or disable the field that asks for it"
        );
        warnings.push(("NameTaken", text));
    }
    if is_definition_old {
        let text = "the cluster's definition of a KvsStore is older than the operator, so a part of the status is lost; \
                    install the operator's own: kubectl apply --server-side -f deploy/crds.yaml";
        warnings.push(("DefinitionOld", text.to_owned()));
    }
    match warnings.first() {
        None => Verdict::no("NoWarning", "nothing in the spec is known to surprise"),
        Some((reason, _)) => {
            let texts: Vec<&str> = warnings.iter().map(|(_, text)| text.as_str()).collect();
            Verdict::yes(reason, texts.join("; "))
        }
    }
}

fn of_access(observed: &Observed, valid: &ValidStore) -> Vec<(&'static str, String)> {
    let mut warnings = Vec::new();
    if valid.token_secret.is_some() && valid.tls.is_none() {
        let text = "spec.auth asks for a token, which travels unencrypted; turn spec.tls on";
        warnings.push(("TokenInTheClear", text.to_owned()));
    }
    if let (Some(tls), Some(Ok(facts))) = (&valid.tls, &observed.access.certificate) {
        if !facts.names_service {
            let text = format!(
                "the certificate in Secret {} does not bear the name {}, so kvs-client --store and clients that use it \
                 refuse the server; add it to the certificate's DNS names",
                tls.secret,
                valid.host()
            );
            warnings.push(("NameNotInCertificate", text));
        }
        if !facts.has_authorities {
            let text = format!(
                "Secret {} has no ca.crt, so kvs-client --store can't check the server unless --tls-ca is given; add it",
                tls.secret
            );
            warnings.push(("NoAuthorities", text));
        }
    }
    warnings
}
