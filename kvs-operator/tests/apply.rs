//! The calls that a plan makes, one by one, before an API server whose answers this test writes.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use kvs_operator::apply::{Applier, Outcome};
use kvs_operator::metrics::Metrics;
use kvs_operator::observe::{Freshness, Observed};
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
            Applier::new(Client::new(service, "default"), Arc::new(Freshness::default()), Arc::clone(&metrics));
        applier.apply("shop", plan, &mut observed).await
    };
    (calls.await.unwrap(), outcome, observed, metrics)
}

#[tokio::test]
async fn a_new_store_takes_five_calls_and_the_pods_come_last() {
    let (calls, outcome, observed, metrics) = apply(|_| StatusCode::OK).await;
    assert_eq!(
        calls,
        [
            "/api/v1/namespaces/shop/serviceaccounts/orders-server",
            "/api/v1/namespaces/shop/configmaps/orders-config",
            "/api/v1/namespaces/shop/services/orders-peers",
            "/api/v1/namespaces/shop/services/orders",
            "/apis/apps/v1/namespaces/shop/statefulsets/orders",
        ]
    );
    assert_eq!(outcome.deeds.len(), 5);
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
async fn a_server_that_is_not_well_is_no_refusal() {
    let (_, outcome, ..) = apply(|_| StatusCode::INTERNAL_SERVER_ERROR).await;
    let failure = outcome.failure.unwrap();
    assert!(!failure.is_refusal());
    assert_eq!(failure.reason(), "server");
}
