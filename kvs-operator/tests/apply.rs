//! The calls that a plan makes, one by one, before an API server whose answers this test writes.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use kvs_operator::apply::{Applier, Deed, Outcome};
use kvs_operator::metrics::Metrics;
use kvs_operator::observe::{Observed, Settled};
use kvs_operator::plan::plan;
use support::{store_with, valid};

/// Applies the plan of a new store; `answer` says what the API server does with each call's path.
async fn apply(answer: fn(&str) -> StatusCode) -> (Vec<String>, Outcome, Observed, Arc<Metrics>) {
    let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let calls = tokio::spawn(async move {
        let mut calls = Vec::new();
        while let Some((request, reply)) = server.next_request().await {
            let path = request.uri().path().to_owned();
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert_eq!(request.method(), http::Method::PATCH);
            assert_eq!(request.headers()["content-type"], "application/apply-patch+yaml");
            for parameter in ["fieldManager=kvs-operator", "force=true", "fieldValidation=Strict"] {
                assert!(query.contains(parameter), "{parameter} in {query}");
            }
            let status = answer(&path);
            let body = if status.is_success() {
                request.into_body().collect_bytes().await.unwrap().to_vec()
            } else {
                let code = status.as_u16();
                format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","code":{code}}}"#)
                    .into()
            };
            reply.send_response(Response::builder().status(status).body(Body::from(body)).unwrap());
            calls.push(path);
        }
        calls
    });
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut observed = Observed::default();
    let plan = plan(&observed, &valid(&store_with("{}")));
    let outcome = {
        let applier =
            Applier::new(Client::new(service, "default"), Arc::default(), Arc::default(), Arc::clone(&metrics));
        applier.apply("shop", plan, &mut observed).await
    };
    (calls.await.unwrap(), outcome, observed, metrics)
}

#[tokio::test]
async fn a_new_store_takes_six_calls_and_the_pods_come_last() {
    let (calls, outcome, observed, metrics) = apply(|_| StatusCode::OK).await;
    assert_eq!(
        calls,
        [
            "/api/v1/namespaces/shop/serviceaccounts/orders-server",
            "/api/v1/namespaces/shop/configmaps/orders-config",
            "/api/v1/namespaces/shop/services/orders-peers",
            "/api/v1/namespaces/shop/services/orders",
            "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/orders",
            "/apis/apps/v1/namespaces/shop/statefulsets/orders",
        ]
    );
    assert_eq!(outcome.deeds.len(), 6);
    let again = plan(&observed, &valid(&store_with("{}")));
    assert!(again.writes.is_empty(), "what was answered is what is observed: {again:?}");
    let text = String::from_utf8(metrics.text().unwrap()).unwrap();
    assert!(
        text.contains(r#"kvs_operator_api_writes_total{kind="StatefulSet",outcome="ok",verb="apply"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_refusal_ends_the_list_and_is_known_as_one() {
    let (calls, outcome, ..) =
        apply(|path| if path.contains("configmaps") { StatusCode::FORBIDDEN } else { StatusCode::OK }).await;
    assert_eq!(calls.len(), 2, "nothing that depends on the configuration is written");
    assert_eq!(outcome.deeds.len(), 1);
    let failure = outcome.failure.unwrap();
    assert!(failure.is_refusal() && !failure.is_invalid());
    assert!(failure.to_string().starts_with("applying ConfigMap shop/orders-config: "), "{failure}");
}

#[tokio::test]
async fn a_stateful_set_is_deleted_alone_and_under_its_uid() {
    let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let mut observed = support::applied(plan(&Observed::default(), &valid(&store_with("{storage: {size: 1Gi}}"))));
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.metadata.uid = Some("first".into());
    let mut going = set.clone();
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    observed.stateful_set = Some(Arc::new(set));
    let call = tokio::spawn(async move {
        let (request, reply) = server.next_request().await.unwrap();
        assert_eq!(request.method(), http::Method::DELETE);
        assert_eq!(request.uri().path(), "/apis/apps/v1/namespaces/shop/statefulsets/orders");
        let body = request.into_body().collect_bytes().await.unwrap();
        let going = serde_json::to_vec(&going).unwrap();
        reply.send_response(Response::new(Body::from(going)));
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()
    });
    let plan = plan(&observed, &valid(&store_with("{storage: {size: 2Gi}}")));
    let applier = Applier::new(
        Client::new(service, "default"),
        Arc::default(),
        Arc::default(),
        Arc::new(Metrics::new().unwrap()),
    );
    let outcome = applier.apply("shop", plan, &mut observed).await;
    let body = call.await.unwrap();
    assert_eq!((&body["propagationPolicy"], &body["preconditions"]["uid"]), (&"Orphan".into(), &"first".into()));
    assert!(matches!(outcome.deeds.as_slice(), [Deed::Orphaned(_)]), "{outcome:?}");
    assert!(
        observed.stateful_set.unwrap().metadata.deletion_timestamp.is_some(),
        "what was answered is what is observed"
    );
}

#[tokio::test]
async fn what_is_no_longer_asked_for_is_deleted_under_its_uid_and_may_be_gone_already() {
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let mut observed = support::applied(plan(&Observed::default(), &valid(&store_with("{}"))));
        let mut policy = observed.network_policy.as_deref().unwrap().clone();
        policy.metadata.uid = Some("first".into());
        observed.network_policy = Some(Arc::new(policy));
        let call = tokio::spawn(async move {
            let (request, reply) = server.next_request().await.unwrap();
            assert_eq!(request.method(), http::Method::DELETE);
            assert_eq!(request.uri().path(), "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/orders");
            let body = request.into_body().collect_bytes().await.unwrap();
            let code = status.as_u16();
            let word = if status.is_success() { "Success" } else { "Failure" };
            let answer =
                format!(r#"{{"kind":"Status","apiVersion":"v1","status":"{word}","message":"m","code":{code}}}"#);
            reply.send_response(Response::builder().status(status).body(Body::from(answer.into_bytes())).unwrap());
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()
        });
        let plan = plan(&observed, &valid(&store_with("{networkPolicy: {mode: Disabled}}")));
        let applier = Applier::new(
            Client::new(service, "default"),
            Arc::default(),
            Arc::default(),
            Arc::new(Metrics::new().unwrap()),
        );
        let outcome = applier.apply("shop", plan, &mut observed).await;
        assert_eq!(call.await.unwrap()["preconditions"]["uid"], "first");
        assert!(matches!(outcome.deeds.as_slice(), [Deed::Removed { .. }]) && outcome.failure.is_none(), "{outcome:?}");
        assert!(observed.network_policy.is_none());
    }
}

#[tokio::test]
async fn a_server_that_is_not_well_is_no_refusal() {
    let (_, outcome, ..) = apply(|_| StatusCode::INTERNAL_SERVER_ERROR).await;
    let failure = outcome.failure.unwrap();
    assert!(!failure.is_refusal());
    assert_eq!(failure.reason(), "server");
}

#[tokio::test]
async fn an_apply_that_changes_nothing_is_no_deed_and_is_remembered() {
    let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let wanted = valid(&store_with(
        "{podTemplate: {spec: {containers: [{name: kvs-server, ports: [{name: extra, containerPort: 9999, protocol: TCP, hostPort: 0}]}]}}}",
    ));
    let mut observed = support::applied(plan(&Observed::default(), &wanted));
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.metadata.uid = Some("u".into());
    for port in set.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap() {
        // As the API server does.
        port.host_port = None;
    }
    observed.stateful_set = Some(Arc::new(set.clone()));
    let call = tokio::spawn(async move {
        let (_, reply) = server.next_request().await.unwrap();
        // Its controller wrote meanwhile.
        set.metadata.resource_version = Some("9".into());
        set.status = Some(Default::default());
        reply.send_response(Response::new(Body::from(serde_json::to_vec(&set).unwrap())));
    });
    let settled = Arc::new(Settled::default());
    let applier = Applier::new(
        Client::new(service, "default"),
        Arc::default(),
        Arc::clone(&settled),
        Arc::new(Metrics::new().unwrap()),
    );
    let outcome = applier.apply("shop", plan(&observed, &wanted), &mut observed).await;
    call.await.unwrap();
    assert!(outcome.deeds.is_empty() && outcome.failure.is_none(), "nobody changed anything: {outcome:?}");
    observed.settled = settled.of("u").into_iter().collect();
    assert!(plan(&observed, &wanted).writes.is_empty(), "and it is not asked again");
}
