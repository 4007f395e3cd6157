//! Who may use a store: what is said about its Secrets, and when pods are left as they are because of them.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kvs_operator::access::{Access, AccessProblem, CertificateAge, CertificateFacts, judge_certificate, judge_token};
use kvs_operator::apply::Outcome;
use kvs_operator::kinds::KnownKinds;
use kvs_operator::observe::Observed;
use kvs_operator::plan::{ChildKind, Plan, plan};
use kvs_operator::resource::KvsStore;
use kvs_operator::status::{Assessment, NoticeKind, Situation, assess};
use kvs_operator::validate::validate;
use rcgen::{CertificateParams, KeyPair};
use support::{applied, settings, store_with, valid};

const TOKEN: &str = "{auth: {mode: Token, tokenSecretRef: {name: t, key: token}}, tls: {mode: Server, secretName: c}}";
const TLS: &str = "{tls: {mode: Server, secretName: c}}";
const MUTUAL: &str = "{tls: {mode: Mutual, secretName: c}}";
const ISSUER: &str = "{tls: {mode: Server, issuerRef: {name: shop-ca}}}";

/// Seconds since 1970 at which the certificates of these tests are valid.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

/// Certificate and key as PEM, for these names and valid between these days from `NOW`.
fn pair(names: &[&str], from: i64, to: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let begin = rcgen::date_time_ymd(1970, 1, 1);
    let at = |days: i64| begin + std::time::Duration::from_secs(u64::try_from(NOW + days * DAY).unwrap());
    (params.not_before, params.not_after) = (at(from), at(to));
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn secret(data: &[(&str, &str)]) -> Secret {
    let data: BTreeMap<String, ByteString> =
        data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    Secret { data: Some(data), ..Secret::default() }
}

fn certificate(spec: &str, secret: Option<&Secret>) -> Result<CertificateFacts, AccessProblem> {
    let store = valid(&store_with(spec));
    judge_certificate(&store, store.tls.as_ref().unwrap(), secret, false)
}

fn reason<T: std::fmt::Debug>(judged: Result<T, AccessProblem>) -> &'static str {
    judged.unwrap_err().reason
}

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(NOW + days * DAY).unwrap()
}

#[test]
fn a_certificate_that_fits_is_known_by_its_dates_and_its_name() {
    let (chain, key) = pair(&["orders.shop.svc"], -1, 90);
    let facts = certificate(TLS, Some(&secret(&[("tls.crt", &chain), ("tls.key", &key), ("ca.crt", &chain)]))).unwrap();
    assert_eq!((facts.not_before, facts.not_after), (at(-1), at(90)));
    assert!(facts.names_service && facts.has_authorities);
    for (days, age) in [
        (-2, CertificateAge::NotYetValid),
        (0, CertificateAge::Valid),
        (77, CertificateAge::EndsSoon),
        (91, CertificateAge::Expired),
    ] {
        assert_eq!(facts.age(at(days)), age, "day {days}");
    }
    let (chain, key) = pair(&["elsewhere.example"], -1, 90);
    let facts = certificate(TLS, Some(&secret(&[("tls.crt", &chain), ("tls.key", &key)]))).unwrap();
    assert!(!facts.names_service && !facts.has_authorities);
}

#[test]
fn each_mistake_of_a_secret_has_a_reason_of_its_own_and_names_it() {
    let (chain, key) = pair(&["orders.shop.svc"], -1, 90);
    let (_, other_key) = pair(&["orders.shop.svc"], -1, 90);
    assert_eq!(reason(certificate(TLS, None)), "SecretMissing");
    assert_eq!(reason(certificate(TLS, Some(&secret(&[("tls.crt", &chain)])))), "SecretKeyMissing");
    assert_eq!(reason(certificate(TLS, Some(&secret(&[("tls.crt", "no"), ("tls.key", &key)])))), "CertificateUnusable");
    assert_eq!(
        reason(certificate(TLS, Some(&secret(&[("tls.crt", &chain), ("tls.key", "no")])))),
        "CertificateUnusable"
    );
    let mixed = secret(&[("tls.crt", &chain), ("tls.key", &other_key)]);
    assert_eq!(reason(certificate(TLS, Some(&mixed))), "CertificateMismatch");
    let no_authorities = secret(&[("tls.crt", &chain), ("tls.key", &key)]);
    assert_eq!(reason(certificate(MUTUAL, Some(&no_authorities))), "SecretKeyMissing");

    let store = valid(&store_with(TOKEN));
    let token = |secret: Option<Secret>| judge_token(&store, store.token_secret.as_ref().unwrap(), secret.as_ref());
    assert_eq!(token(Some(secret(&[("token", "s3cret\n")]))), Ok(()));
    assert_eq!(reason(token(None)), "SecretMissing");
    assert_eq!(reason(token(Some(secret(&[("other", "s3cret")])))), "SecretKeyMissing");
    assert_eq!(reason(token(Some(secret(&[("token", " \n")])))), "TokenUnusable");
}

#[test]
fn no_word_of_a_secret_is_repeated() {
    let (chain, key) = pair(&["orders.shop.svc"], -1, 90);
    let (_, other) = pair(&["x"], -1, 90);
    for wrong in [
        secret(&[("tls.crt", "hunter2"), ("tls.key", &key)]),
        secret(&[("tls.crt", &chain), ("tls.key", "hunter2")]),
        secret(&[("tls.crt", &chain), ("tls.key", &other)]),
        secret(&[("hunter2", "hunter2")]),
    ] {
        let problem = certificate(TLS, Some(&wrong)).unwrap_err();
        let text = format!("{problem:?}");
        assert!(text.contains("Secret c") && !text.contains("hunter2") && !text.contains("BEGIN"), "{text}");
    }
}

#[test]
fn an_issuer_without_cert_manager_is_told_and_with_it_waited_for() {
    let store = valid(&store_with(ISSUER));
    let judged = |knows| reason(judge_certificate(&store, store.tls.as_ref().unwrap(), None, knows));
    assert_eq!((judged(false), judged(true)), ("CertManagerMissing", "CertificatePending"));
}

fn written(plan: &Plan) -> Vec<ChildKind> {
    plan.writes.iter().map(|write| write.child.kind()).collect()
}

#[test]
fn a_secret_that_is_of_no_use_leaves_pods_as_they_are_and_a_mended_one_lets_them_go_on() {
    let problem = certificate(TLS, None).unwrap_err();
    let broken = Access { token: None, certificate: Some(Err(problem)) };
    let new = plan(&Observed { access: broken.clone(), ..Observed::default() }, &valid(&store_with(TLS)));
    let kinds = written(&new);
    assert!(!kinds.contains(&ChildKind::StatefulSet) && kinds.contains(&ChildKind::NetworkPolicy), "{kinds:?}");

    let mut running = applied(plan(&Observed::default(), &valid(&store_with("{}"))));
    running.access = broken;
    assert!(written(&plan(&running, &valid(&store_with(TLS)))).is_empty(), "the store in plain TCP goes on");
    running.config_map = None;
    let mut set = running.stateful_set.as_deref().unwrap().clone();
    set.spec.as_mut().unwrap().replicas = Some(0);
    running.stateful_set = Some(std::sync::Arc::new(set));
    let repairs = written(&plan(&running, &valid(&store_with("{}"))));
    assert_eq!(repairs, [ChildKind::StatefulSet], "what someone broke is restored");

    running.access = Access::default();
    let kinds = written(&plan(&running, &valid(&store_with(TLS))));
    assert_eq!(kinds, [ChildKind::ConfigMap, ChildKind::StatefulSet]);
}

#[test]
fn an_order_goes_to_cert_manager_only_where_there_is_one() {
    let knows = KnownKinds { certificates: true, pod_monitors: false };
    let wanted = valid(&store_with(ISSUER));
    let ordered = plan(&Observed { kinds: knows, ..Observed::default() }, &wanted);
    assert!(written(&ordered).contains(&ChildKind::Certificate));
    assert!(!written(&plan(&Observed::default(), &wanted)).contains(&ChildKind::Certificate));
}

/// What people are told of a store whose children are as wanted.
fn assessed(store: &KvsStore, access: Access, second: i64) -> Assessment {
    let verdict = validate(store, &settings());
    let mut observed = applied(plan(&Observed::default(), verdict.as_ref().unwrap()));
    observed.access = access;
    let verdict = verdict.as_ref().map_err(Vec::as_slice);
    let now = Time(Timestamp::from_second(second).unwrap());
    assess(&Situation {
        store,
        observed: &observed,
        verdict,
        obstacles: &[],
        held_back: None,
        outcome: &Outcome::default(),
        is_definition_old: false,
        now,
    })
}

fn condition<'a>(assessment: &'a Assessment, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = assessment.status.conditions.iter().find(|condition| condition.type_ == name)?;
    Some((&found.status, &found.reason, &found.message))
}

#[test]
fn an_expired_certificate_is_told_once_with_its_date_and_the_next_step() {
    let facts = CertificateFacts { not_before: at(-90), not_after: at(-1), names_service: true, has_authorities: true };
    let mut store = store_with(TLS);
    let access = Access { token: None, certificate: Some(Ok(facts)) };
    assert!(!access.stops_servers(), "a server starts with it, and clients are told why they refuse it");
    let first = assessed(&store, access.clone(), NOW);
    for name in ["TLSReady", "Ready"] {
        let (status, reason, message) = condition(&first, name).unwrap();
        assert_eq!((status, reason), ("False", "CertificateExpired"), "{name}");
        assert!(message.contains("2027-01-14T08:00:00Z") && message.contains("Secret c"), "{message}");
    }
    assert_eq!(first.status.tls.as_ref().unwrap().not_after.as_deref(), Some("2027-01-14T08:00:00Z"));
    let told: Vec<_> = first.notices.iter().filter(|notice| notice.reason == "CertificateExpired").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].kind, NoticeKind::Warning);
    store.status = Some(first.status.clone());
    let second = assessed(&store, access, NOW + 3600);
    assert_eq!((second.status, second.notices.len()), (first.status, 0), "an hour later nothing is written");
}

#[test]
fn tls_ready_is_only_where_there_is_tls() {
    assert_eq!(condition(&assessed(&store_with("{}"), Access::default(), NOW), "TLSReady"), None);
    let facts = CertificateFacts { not_before: at(-1), not_after: at(9), names_service: false, has_authorities: false };
    let ends_soon = assessed(&store_with(TLS), Access { token: None, certificate: Some(Ok(facts)) }, NOW);
    assert_eq!(condition(&ends_soon, "TLSReady").unwrap().1, "CertificateEndsSoon");
    let (status, reason, message) = condition(&ends_soon, "ConfigurationWarning").unwrap();
    assert_eq!((status, reason), ("True", "NameNotInCertificate"));
    assert!(message.contains("orders.shop.svc") && message.contains("has no ca.crt"), "{message}");
}

#[test]
fn a_token_in_the_clear_is_served_with_a_warning() {
    let store = store_with("{auth: {mode: Token, tokenSecretRef: {name: t, key: token}}}");
    let warned = assessed(&store, Access { token: Some(Ok(())), certificate: None }, NOW);
    assert_eq!(condition(&warned, "ConfigurationWarning").unwrap().1, "TokenInTheClear");
    let missing = Access { token: Some(Err(AccessProblem::unreadable("t", "no"))), certificate: None };
    assert!(!missing.stops_servers(), "the kubelet may read what the operator may not");
}
