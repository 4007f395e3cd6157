//! Who of several operators works: the one that holds a Lease. The others stand by and write nothing.
//!
//! What must hold: [`election`] decides, this makes its calls; a leader whose Lease is not confirmed in time ends, and
//! its process with it, because what it knows may be old; a leader that is told to end gives the Lease back after its
//! last write. What goes on between a leader's last moment and its successor's first one is bounded by [`gate`].

pub mod election;
pub mod gate;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::metrics::Metrics;
use crate::names;

use election::{Answer, Call, Election, Timing};
use gate::Permit;

/// The longest wait for one answer: three tries fit between a leader's last confirmed renewal and its deadline.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// Calls that giving back the Lease may take: a read of what a lost answer left, and the write.
const RELEASE_CALLS: usize = 3;

/// Which Lease, and who asks for it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Lease's namespace: the operator's own.
    pub namespace: String,
    /// Its name. Operators that serve the same stores must name the same.
    pub name: String,
    /// Who this process is, see [`identity`].
    pub identity: String,
}

/// Takes part in the election.
pub struct Candidate {
    leases: Api<Lease>,
    options: Options,
    election: Election,
    permit: Arc<Permit>,
    metrics: Arc<Metrics>,
    /// The last thing that was logged about why it does not lead, so that it is logged once.
    told: String,
}

/// The time as a leader. Dropping it ends it without giving the Lease back.
pub struct Term {
    renewals: JoinHandle<Candidate>,
    stop: oneshot::Sender<()>,
}

impl Candidate {
    /// A candidate that has not looked yet. `permit` is set while it leads.
    #[must_use]
    pub fn new(client: Client, options: Options, permit: Arc<Permit>, metrics: Arc<Metrics>) -> Self {
        let election = Election::new(options.identity.clone(), Timing::USUAL, Instant::now());
        let leases = Api::namespaced(client, &options.namespace);
        Self { leases, options, election, permit, metrics, told: String::new() }
    }

    /// Waits until this process leads.
    pub async fn lead(&mut self) {
        while self.election.leads_until().is_none() {
            self.turn().await;
            if let Some(holder) = self.election.holder().filter(|holder| *holder != self.options.identity) {
                let holder = holder.to_owned();
                self.tell(format!("stands by while {holder} leads"));
            }
        }
        tracing::info!(lease = %self.full_name(), identity = self.options.identity, "leads");
    }

    /// Renews in a task of its own, so that no reconcile delays it.
    #[must_use]
    pub fn begin(mut self) -> Term {
        let (stop, stopped) = oneshot::channel();
        let renewals = tokio::spawn(async move {
            tokio::select! {
                () = self.renew() => {}
                // An error means that nobody can stop it any more: the program ends.
                _ = stopped => {}
            }
            self
        });
        Term { renewals, stop }
    }

    /// Gives the Lease back, if this process has it. A Lease that can't be given back runs out by itself.
    pub async fn release(mut self) {
        self.permit.set(None);
        for _ in 0..RELEASE_CALLS {
            let Some(call) = self.election.release(&time_of_day()) else { break };
            self.make(call).await;
        }
        self.metrics.leader.set(0);
    }

    /// Renews until the Lease is lost.
    async fn renew(&mut self) {
        while let Some(until) = self.election.leads_until() {
            tokio::select! {
                // First of all: after a pause both are due, and what is over is over.
                biased;
                () = sleep_until(until.into()) => break,
                () = self.turn() => {}
            }
        }
        self.permit.set(None);
        self.metrics.leader.set(0);
    }

    /// Waits for the next call and makes it.
    async fn turn(&mut self) {
        sleep_until(self.election.due().into()).await;
        let call = self.election.call(Instant::now(), &time_of_day());
        self.make(call).await;
        let until = self.election.leads_until();
        self.permit.set(until);
        self.metrics.leader.set(i64::from(until.is_some()));
    }

    async fn make(&mut self, call: Call) {
        let sent = Instant::now();
        let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        let name = self.options.name.as_str();
        let request = async {
            match &call {
                Call::Read => self.leases.get(name).await,
                Call::Create(lease) => {
                    let mut lease = lease.as_ref().clone();
                    lease.metadata.name = Some(name.to_owned());
                    self.leases.create(&parameters, &lease).await
                }
                Call::Replace(lease) => self.leases.replace(name, &parameters, lease).await,
            }
        };
        let (answer, trouble) = match timeout(CALL_LIMIT, request).await {
            Ok(Ok(lease)) => (Answer::Found(Box::new(lease)), None),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && !matches!(call, Call::Create(_)) => {
                (Answer::Absent, None)
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => (Answer::Conflict, None),
            Ok(Err(error)) => (Answer::Lost, Some(error.to_string())),
            Err(_elapsed) => (Answer::Lost, Some(format!("no answer within {} s", CALL_LIMIT.as_secs()))),
        };
        if let Some(trouble) = trouble {
            self.tell(format!("the Lease can't be had: {trouble}"));
        }
        self.election.answered(&call, sent, Instant::now(), answer);
    }

    /// Logs what is new.
    fn tell(&mut self, news: String) {
        if self.told != news {
            tracing::info!(lease = %self.full_name(), identity = self.options.identity, "{news}");
            self.told = news;
        }
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.options.namespace, self.options.name)
    }
}

impl Term {
    /// Waits until the Lease is lost. May be called again after it was cancelled.
    pub async fn lost(&mut self) {
        // An error means that the renewals panicked, which ends them as well.
        let _ = (&mut self.renewals).await;
    }

    /// Ends the renewals and gives the Lease back.
    pub async fn release(self) {
        let Self { renewals, stop } = self;
        // It may have ended already.
        let _ = stop.send(());
        if let Ok(candidate) = renewals.await {
            candidate.release().await;
        }
    }
}

/// Who a process is: its pod, because a container that starts again in its pod follows one that is dead for certain
/// and may go on at once; without a pod, something that no other process has.
#[must_use]
pub fn identity(pod_name: Option<&str>, pod_uid: Option<&str>) -> String {
    match (pod_name, pod_uid) {
        (Some(name), Some(uid)) => format!("{name}_{uid}"),
        // Each RandomState has keys of its own, which are random.
        (name, _) => format!("{}_{:016x}", name.unwrap_or(names::OPERATOR), RandomState::new().hash_one(name)),
    }
}

/// As precise as a Lease keeps it.
fn time_of_day() -> MicroTime {
    let now = Timestamp::now();
    MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_the_same_after_a_restart_and_another_process_never() {
        assert_eq!(identity(Some("operator-1"), Some("u")), "operator-1_u");
        assert_ne!(identity(None, None), identity(None, None));
        assert_ne!(identity(Some("operator-1"), None), identity(Some("operator-1"), None), "a name may come again");
    }
}
