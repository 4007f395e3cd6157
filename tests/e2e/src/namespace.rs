//! `Namespace`: the ground of one story. It admits only pods that satisfy the restricted pod security standard.

use std::rc::Rc;

use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::process::Program;
use crate::store::Store;

/// The label by which the namespaces of stories are found.
pub const MADE_BY_STORIES: &str = "kvs.aryavarth.io/e2e";
/// Bytes of a namespace's name.
const LONGEST_NAME: usize = 63;

/// A namespace and the way to its cluster.
#[derive(Clone)]
pub struct Namespace {
    /// The cluster.
    pub cluster: Rc<Cluster>,
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes the namespace of a story, `<run>-<story>`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn of_story(cluster: Rc<Cluster>, story: &str) -> Result<Self, Failure> {
        let mut name = format!("{}-{}", cluster.run, story.replace('_', "-"));
        name.truncate(LONGEST_NAME);
        Self::create(cluster, name.trim_end_matches('-').to_owned()).await
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(cluster: Rc<Cluster>, name: String) -> Result<Self, Failure> {
        let labels = [(MADE_BY_STORIES, "true"), ("pod-security.kubernetes.io/enforce", "restricted")];
        let object = NamespaceObject {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        let namespaces = Api::<NamespaceObject>::all(cluster.client.clone());
        let created = namespaces.create(&PostParams::default(), &object).await;
        created.map_err(Failure::kubernetes(format!("creating namespace {name}")))?;
        Ok(Self { cluster, name })
    }

    /// Begins to take it away, with all that is in it. [`Cluster::purge`] waits for the end.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self) -> Result<(), Failure> {
        let namespaces = Api::<NamespaceObject>::all(self.cluster.client.clone());
        let deleted = namespaces.delete(&self.name, &DeleteParams::default()).await;
        deleted.map(drop).map_err(Failure::kubernetes(format!("deleting namespace {}", self.name)))
    }

    /// kubectl in this namespace.
    #[must_use]
    pub fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        self.cluster.kubectl(&self.name).args(arguments)
    }

    /// A store of this namespace, whether it exists or not.
    #[must_use]
    pub fn store(&self, name: &str) -> Store {
        Store::new(self.clone(), name)
    }

    /// Applies the text of a manifest, as `kubectl apply -f -` does.
    ///
    /// # Errors
    /// What kubectl said.
    pub async fn apply(&self, manifest: impl Into<String>) -> Result<(), Failure> {
        self.kubectl(["apply", "--filename", "-"]).input(manifest.into()).succeed().await.map(drop)
    }
}
