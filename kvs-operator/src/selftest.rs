//! `kvs-operator selftest`: makes a store, waits until it is Ready, deletes it with its data. `helm test` runs it.
//!
//! What must hold: it touches nothing but its own store; it cleans up when it fails, too; when the store does not
//! become Ready, the last thing it says is the cause that the store's conditions name.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use crate::error::{Error as CallError, in_time};
use crate::names;
use crate::resource::{ClaimRetention, KvsStore, KvsStoreSpec, RetentionPolicy, Storage};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(250);

/// What the test makes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub namespace: String,
    /// The longest wait for Ready, and again for the end of the data.
    pub limit: Duration,
    /// Size of the volume.
    pub storage_size: String,
    /// Class of the volume; `None` means the cluster's default.
    pub storage_class: Option<String>,
}

/// Why the test failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Call(#[from] CallError),

    /// The store did not become Ready. The conditions say who must act.
    #[error("KvsStore {store} is not Ready after {} s: {cause}", limit.as_secs())]
    NotReady {
        /// `namespace/name`.
        store: String,
        /// How long was waited.
        limit: Duration,
        /// What the Ready condition says.
        cause: String,
    },

    /// The store was deleted, but its data is still there.
    #[error("the volume claim {claim} is still there {} s after its store was deleted", limit.as_secs())]
    ClaimLeft {
        /// The claim's name.
        claim: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// Runs the test and says each step on `say`.
///
/// # Errors
/// What kept the store from becoming Ready or from going away. What the test made is deleted either way.
pub async fn run(client: Client, options: &Options, say: impl Fn(&str)) -> Result<(), Error> {
    let stores = Api::<KvsStore>::namespaced(client.clone(), &options.namespace);
    let claims = Api::<PersistentVolumeClaim>::namespaced(client, &options.namespace);
    let name = format!("selftest-{:08x}", RandomState::new().hash_one(Instant::now()) >> 32);
    let store = KvsStore::new(
        &name,
        KvsStoreSpec {
            replicas: 1,
            storage: Storage {
                size: options.storage_size.clone(),
                storage_class_name: options.storage_class.clone(),
                retention_policy: RetentionPolicy { when_deleted: ClaimRetention::Delete },
            },
            ..KvsStoreSpec::default()
        },
    );
    in_time(format!("creating KvsStore {}/{name}", options.namespace), stores.create(&PostParams::default(), &store))
        .await?;
    say(&format!("created KvsStore {}/{name}", options.namespace));
    let started = Instant::now();
    let ready = wait_until_ready(&stores, &name, options).await;
    if ready.is_ok() {
        say(&format!("it is Ready after {:.1} s", started.elapsed().as_secs_f32()));
    }
    let deleted = in_time(format!("deleting KvsStore {name}"), stores.delete(&name, &DeleteParams::default())).await;
    ready?;
    deleted?;
    wait_until_gone(&claims, &names::claim(&name, 0), options).await?;
    say("deleted it, and its volume claim is gone");
    Ok(())
}

async fn wait_until_ready(stores: &Api<KvsStore>, name: &str, options: &Options) -> Result<(), Error> {
    let deadline = Instant::now() + options.limit;
    loop {
        let store = in_time(format!("reading KvsStore {name}"), stores.get(name)).await?;
        let conditions = store.status.unwrap_or_default().conditions;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        if ready.as_ref().is_some_and(|ready| ready.status == "True") {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let cause = ready.map_or_else(
                || "the operator has not answered; is it running?".to_owned(),
                |ready| format!("{}: {}", ready.reason, ready.message),
            );
            return Err(Error::NotReady {
                store: format!("{}/{name}", options.namespace),
                limit: options.limit,
                cause,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn wait_until_gone(claims: &Api<PersistentVolumeClaim>, name: &str, options: &Options) -> Result<(), Error> {
    let deadline = Instant::now() + options.limit;
    while in_time(format!("reading the volume claim {name}"), claims.get_opt(name)).await?.is_some() {
        if Instant::now() >= deadline {
            return Err(Error::ClaimLeft { claim: name.to_owned(), limit: options.limit });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
