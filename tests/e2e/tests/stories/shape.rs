//! The pods' shape: what is laid over them, when they are replaced, and what stands around them.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, until};
use serde_json::json;
use tokio::time::{Duration, sleep};

use super::access::{self, says};

/// How long nothing must be written after the operator came to rest.
const SILENCE: Duration = Duration::from_secs(2);
/// Words that the API server completes or spells otherwise, so that a pod with them could look changed at each look.
const SHAPE: &str = "scheduling: {nodeSelector: {kubernetes.io/os: linux}, tolerations: [{key: dedicated, operator: Exists}, {key: '', operator: Exists}], \
    topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway}]}, \
    service: {port: 4443}, networkPolicy: {clients: [{namespaceSelector: {}, podSelector: {matchLabels: {app: shop}}}, {ipBlock: {cidr: 10.0.0.0/8, except: []}}, {podSelector: {matchLabels: {}}}]}, \
    podTemplate: {metadata: {labels: {team: shop}}, spec: {hostNetwork: false, volumes: [{name: scratch, emptyDir: {medium: '', sizeLimit: 1024Mi}}, \
    {name: about, projected: {sources: [{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}], \
    containers: [{name: kvs-server, ports: [{name: extra, containerPort: 9999, protocol: TCP, hostPort: 0}], env: [{name: TZ, value: UTC}, {name: NOTHING, value: ''}], volumeMounts: [{name: scratch, mountPath: /tmp, readOnly: false}, {name: about, mountPath: /about}]}]}}";

/// The pod is as it was asked for and the operator is silent; a paused rollout leaves the pod; a policy goes when it is no
/// longer wanted; an overlay of what the operator owns is refused by its place and changes nothing.
pub(super) async fn taken_kept_and_refused(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply(&format!("{{{SHAPE}}}")).await?;
    let ready = store.ready().await?;
    assert_eq!(ready.data["status"]["endpoints"]["client"], format!("orders.{}.svc:4443", namespace.name));
    let pod = store.pod().await?;
    assert_eq!(pod.labels().get("team").map(String::as_str), Some("shop"));
    let container = &pod.spec.as_ref().map(|spec| spec.containers[0].clone()).unwrap_or_default();
    assert!(container.env.iter().flatten().any(|variable| variable.name == "TZ"), "{container:?}");
    store.set("order/1", "kept").await?;
    silent(&store).await?;

    let uid = pod.uid().unwrap_or_default();
    store.apply(&format!("{{{SHAPE}, threadPool: {{strategy: rayon}}, update: {{rollout: Paused}}}}")).await?;
    says(&store, "Ready", "RolloutPaused").await?;
    silent(&store).await?;
    assert_eq!(store.pod().await?.uid().as_deref(), Some(uid.as_str()), "the rollout waits");
    store.apply(&format!("{{{SHAPE}, threadPool: {{strategy: rayon}}}}")).await?;
    store.other_pod(&uid).await?;
    store.ready().await?;
    assert_eq!(store.server_status().await?["pool"], "rayon");
    assert_eq!(store.get("order/1").await?, "kept");

    let policies = Api::<NetworkPolicy>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let read = async || policies.get_opt("orders").await.map_err(Failure::kubernetes("reading the NetworkPolicy"));
    assert!(read().await?.is_some(), "there is one by default");
    store.apply("{networkPolicy: {mode: Disabled}, update: {rollout: Paused}}").await?;
    until("the NetworkPolicy is gone", READY_LIMIT, async || match read().await? {
        None => Ok(()),
        Some(_) => Err(NotYet("it is still there".into())),
    })
    .await?;

    store.apply("{podTemplate: {spec: {containers: [{name: kvs-server, command: [sh]}]}}}").await?;
    says(&store, "SpecAccepted", "SpecRefused").await?;
    let message = condition(&store.read().await?, "SpecAccepted")["message"].to_string();
    assert!(message.contains("spec.podTemplate.spec.containers[kvs-server].command"), "{message}");
    assert_eq!(store.get("order/1").await?, "kept", "and the store serves as before");
    Ok(())
}

/// On a cluster that learns other projects' kinds while the operator runs: the PodMonitor comes and goes, and a store that
/// names an issuer orders its certificate and starts when cert-manager has made it.
pub(super) async fn kinds_are_discovered(namespace: Namespace) -> Told {
    let definitions = Api::<CustomResourceDefinition>::all(namespace.cluster.client.clone());
    let monitored = namespace.store("monitored");
    let issued = namespace.store("issued");
    monitored.apply("{monitoring: {podMonitor: Enabled, labels: {release: prometheus}}}").await?;
    issued.apply("{tls: {mode: Server, issuerRef: {name: authority}}}").await?;
    says(&monitored, "ConfigurationWarning", "NoPodMonitors").await?;
    says(&issued, "TLSReady", "CertManagerMissing").await?;

    for (group, kind, plural) in KINDS {
        let created = definitions.create(&PostParams::default(), &definition(group, kind, plural)).await;
        created.map_err(Failure::kubernetes(format!("defining {kind}")))?;
    }
    says(&issued, "TLSReady", "CertificatePending").await?;
    let order =
        namespace.kubectl(["get", "certificates.cert-manager.io", "issued", "--output", "json"]).succeed().await?;
    assert!(order.contains("\"secretName\": \"issued-tls\""), "{order}");
    // What cert-manager would do.
    access::certificate(&namespace, "issued").await?;
    issued.ready().await?;
    issued.set("order/1", "kept").await?;
    assert_eq!(issued.get("order/1").await?, "kept", "the client finds the Secret that the operator named");

    says(&monitored, "ConfigurationWarning", "NoWarning").await?;
    let monitors = ["get", "podmonitors.monitoring.coreos.com", "--selector", "release=prometheus", "--output", "name"];
    assert_eq!(namespace.kubectl(monitors).succeed().await?, "podmonitor.monitoring.coreos.com/monitored\n");
    silent(&monitored).await?;
    monitored.apply("{monitoring: {podMonitor: Disabled}}").await?;
    until("the PodMonitor is gone", READY_LIMIT, async || {
        let left = namespace.kubectl(monitors).succeed().await?;
        if left.is_empty() { Ok(()) } else { Err(NotYet(left)) }
    })
    .await?;
    issued.apply("{}").await?;
    until("the Certificate is gone", READY_LIMIT, async || {
        let left = namespace.kubectl(["get", "certificates.cert-manager.io", "--output", "name"]).succeed().await?;
        if left.is_empty() { Ok(()) } else { Err(NotYet(left)) }
    })
    .await?;
    for (group, _, plural) in KINDS {
        let deleted = definitions.delete(&format!("{plural}.{group}"), &DeleteParams::default()).await;
        deleted.map_err(Failure::kubernetes("deleting a definition"))?;
    }
    Ok(())
}

const KINDS: [(&str, &str, &str); 2] =
    [("cert-manager.io", "Certificate", "certificates"), ("monitoring.coreos.com", "PodMonitor", "podmonitors")];

/// A kind that takes any spec. Its label lets what is left of it be found.
fn definition(group: &str, kind: &str, plural: &str) -> CustomResourceDefinition {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let object = json!({
        "metadata": {"name": format!("{plural}.{group}"), "labels": {"app.kubernetes.io/part-of": "aryavarth-kvs"}},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": any}}],
        },
    });
    serde_json::from_value(object).expect("a definition that is written out here")
}

/// The operator came to rest and stays there.
async fn silent(store: &Store) -> Told {
    let audit = &store.namespace.cluster.audit;
    let begin = audit.at_rest(&store.namespace.name).await?;
    sleep(SILENCE).await;
    // Whatever wakes it, it finds nothing to do.
    let annotation = format!("look={}", access::nonce());
    store.namespace.kubectl(["annotate", "kvsstore", &store.name, "--overwrite", &annotation]).succeed().await?;
    sleep(Duration::from_secs(1)).await;
    let writes = audit.operator_writes(&store.namespace.name, begin)?;
    assert!(writes.is_empty(), "a quiet store was written to: {writes:?}");
    Ok(())
}
