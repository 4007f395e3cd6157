//! Alerts proved by faults: the shipped rules, with every time divided by sixty, in a real Prometheus that watches real
//! servers. Each fault makes its alerts fire, no page fires that they don't name as their company, and they end with it.
//!
//! The short version takes three faults; `KVS_TORTURE=full` (make torture-alerts) takes all; `KVS_FAULTS=full-disk,flood` takes
//! those that it names, for whoever works on them.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that meets the unexpected ends")]

mod faults;
mod panicking;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use faults::{Effect, FAULTS, Fault, Scene};
use kvs_monitoring::prometheus::{Prometheus, Series, tool};
use kvs_monitoring::rules::{ALERTS, Severity, company, milliseconds, rule_file};
use kvs_torture::{FileSystem, LoopMount, is_full};
use support::kubernetes::{Kubernetes, OperatorProcess};
use support::{Operator, PATIENCE, Server, disk_library, say, until};
use tempfile::tempdir;

/// What every time of the rules is divided by.
const SCALE: u32 = 60;
/// How long everything is well before the faults begin.
const CALM: Duration = Duration::from_secs(4);
/// How long faults go on after the last of their alerts: what fires late fires within this time.
const AFTERWARDS: Duration = Duration::from_secs(20);
/// Alerts that look back for days: they end hours after their fault, scaled minutes.
const LOOK_FAR_BACK: [&str; 2] = ["KvsErrorBudgetSlowBurn", "KvsLatencyBudgetSlowBurn"];
/// Alerts that no server raises; each has a test of its own below.
const OF_NO_SERVER: [&str; 7] = [
    "KvsMetricsAbsent",
    "KvsOperatorDown",
    "KvsOperatorNoLeader",
    "KvsOperatorTwoLeaders",
    "KvsOperatorReconcileErrors",
    "KvsOperatorStoresFailing",
    "KvsStoreNotReady",
];
/// What fires where the disk of the machine that runs the tests is nearly full: it is right.
const OF_THE_MACHINE: [&str; 2] = ["KvsDiskSpaceLow", "KvsDiskWillFill"];
/// Servers whose data lies on a volume of their own.
const OWN_VOLUME: [&str; 2] = ["full-disk", "filling-disk"];
/// What fires when scrapes fail: for a test's servers that is so, too, when the machine has no time for them.
const UNREACHABLE: [&str; 3] = ["KvsDown", "KvsOperatorDown", "KvsMetricsAbsent"];

/// What fires when requests or syncs take long: on a machine with far more to do than it can, they do.
const SLOW: [&str; 4] = ["KvsLatencyBudgetBurn", "KvsLatencyBudgetSlowBurn", "KvsFsyncSlow", "KvsFsyncVerySlow"];

/// Whether others want more than twice the processor time that there is.
fn machine_is_overloaded() -> bool {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    load > 2.0 * std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Whether scrapes have run into their limit of half a second, as they do where builds take all of a small machine.
fn machine_is_too_slow(prometheus: &Prometheus) -> bool {
    let slow = prometheus.api.query("max(max_over_time(scrape_duration_seconds[15s])) > 0.4").unwrap();
    if let Some(series) = slow.first() {
        say(&format!("a scrape took {:.1} s: the machine is busy with something else", series.points[0].1));
    }
    !slow.is_empty()
}

/// The faults of the short version: none of them needs root, and each is of another kind.
const SHORT: [&str; 3] = ["slow-disk", "bad-config", "flood"];
/// Faults whose clients take all the time that the machine has: beside them, others would look slow.
const HUNGRY: [&str; 3] = ["saturated", "rejecting", "guessing"];

/// One run: faults side by side, and what watches them.
struct Run<'a> {
    faults: &'a [&'a Fault],
    prometheus: Prometheus,
    began: Instant,
    /// When each alert of a fault fired first.
    raised: BTreeMap<(&'static str, &'static str), Duration>,
    /// Whatever fired, of which server.
    seen: BTreeSet<(String, String)>,
    /// Of these, tickets that no alert of the server's fault names.
    strangers: BTreeSet<(String, String)>,
}

impl Run<'_> {
    /// Looks once: an alert that belongs to no fault, or a page that a fault's alerts don't name, fails the test.
    fn watch(&mut self) {
        for alert in self.prometheus.api.firing().unwrap() {
            let (store, name) = (alert.label("kvsstore").to_owned(), alert.label("alertname").to_owned());
            let has = |fault: &&&Fault| fault.alerts.contains(&name.as_str());
            let of_store = self.faults.iter().find(|fault| fault.name == store);
            // What is of all servers together bears no server's name.
            let fault = if store.is_empty() { self.faults.iter().find(has) } else { of_store };
            if fault.as_ref().is_none_or(|fault| !has(fault)) && self.is_the_machine(&name, &store) {
                continue;
            }
            let Some(fault) = fault else {
                panic!("{alert:?} belongs to no fault; scrapes: {:?}", self.prometheus.api.scrape_errors());
            };
            if let Some(own) = fault.alerts.iter().find(|own| **own == name) {
                let took = self.began.elapsed();
                self.raised.entry((fault.name, own)).or_insert(took);
            } else {
                let is_known = fault.alerts.iter().any(|own| company(own).contains(name.as_str()));
                let is_page = alert.label("severity") == Severity::Page.as_str();
                assert!(
                    is_known || !is_page,
                    "{name} pages for {store}, and {:?} don't name it: {alert:?}",
                    fault.alerts
                );
                // Tickets of small servers with little to do come with many faults; nobody is woken by them. They are told.
                if !is_known {
                    self.strangers.insert((fault.name.to_owned(), name.clone()));
                }
            }
            self.seen.insert((fault.name.to_owned(), name));
        }
    }

    /// Whether an alert may come from the machine that runs the tests.
    fn is_the_machine(&self, name: &str, store: &str) -> bool {
        OF_THE_MACHINE.contains(&name) && !OWN_VOLUME.contains(&store)
            || SLOW.contains(&name) && machine_is_overloaded()
            || UNREACHABLE.contains(&name) && machine_is_too_slow(&self.prometheus)
    }

    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let wanted = self.faults.iter().flat_map(|fault| fault.alerts.iter().map(|alert| (fault.name, *alert)));
        wanted.filter(|wanted| !self.raised.contains_key(wanted)).collect()
    }

    fn say(&self) {
        for ((name, alert), took) in &self.raised {
            let wait = ALERTS.iter().find(|found| found.name == *alert).unwrap().wait;
            let others: Vec<&str> = self
                .seen
                .iter()
                .filter(|(store, other)| store == name && other != alert)
                .map(|(_, other)| other.as_str())
                .collect();
            say(&format!(
                "{name:18} {alert:26} after {:5.1} s (for: {:.1} s), with {others:?}",
                took.as_secs_f64(),
                milliseconds(wait) as f64 / 1e3 / f64::from(SCALE)
            ));
        }
        for (name, ticket) in &self.strangers {
            say(&format!("{name:18} {ticket:26} is a ticket that no alert of the fault names"));
        }
    }
}

/// Begins faults side by side, waits for their alerts, ends the faults, and waits until the alerts have ended.
fn prove(faults: &[&Fault]) {
    let folder = tempdir().unwrap();
    let needs = |name: &str| faults.iter().any(|fault| fault.name == name);
    let mount = |megabytes| LoopMount::new(FileSystem::Ext4Ordered, megabytes).unwrap();
    let scene = Scene {
        library: disk_library(folder.path()),
        full: needs("full-disk").then(|| mount(64)),
        filling: needs("filling-disk").then(|| mount(260)),
        folder: folder.path().to_owned(),
    };
    let operator = Operator::start();
    let mut servers: Vec<Server> = faults.iter().map(|fault| (fault.server)(&scene)).collect();
    servers.iter_mut().for_each(Server::run);
    let mut targets: Vec<_> = servers.iter().map(Server::target).collect();
    targets.push(operator.target());
    let prometheus = Prometheus::start(folder.path(), &targets, &rule_file(SCALE)).unwrap();

    // A certificate is old from the beginning; what was absent before the first scrapes is not.
    let is_usual = |alert: &Series| {
        alert.label("kvsstore").ends_with("-certificate")
            || alert.label("alertname") == "KvsVersionSkew"
            || OF_THE_MACHINE.contains(&alert.label("alertname"))
            || UNREACHABLE.contains(&alert.label("alertname")) && machine_is_too_slow(&prometheus)
    };
    until("all is well", || prometheus.api.firing().unwrap().iter().all(is_usual).then_some(()));
    let calm_until = Instant::now() + CALM;
    while Instant::now() < calm_until {
        for alert in prometheus.api.firing().unwrap() {
            assert!(is_usual(&alert), "{alert:?} fires while all is well");
        }
        std::thread::sleep(Duration::from_millis(100));
    }

    let began = Instant::now();
    let mut run =
        Run { faults, prometheus, began, raised: BTreeMap::new(), seen: BTreeSet::new(), strangers: BTreeSet::new() };
    let mut effects: Vec<Effect> = Vec::new();
    for (fault, server) in faults.iter().zip(&mut servers) {
        effects.push((fault.begin)(server));
        run.watch();
    }
    let last = Instant::now();
    while !run.missing().is_empty() {
        run.watch();
        let missing = run.missing();
        assert!(last.elapsed() < PATIENCE, "no alert for {missing:?}; there are {:?}", run.seen);
        std::thread::sleep(Duration::from_millis(100));
    }
    let until_then = Instant::now() + if is_full() { AFTERWARDS } else { Duration::from_secs(2) };
    while Instant::now() < until_then {
        run.watch();
        std::thread::sleep(Duration::from_millis(100));
    }
    run.say();

    drop(effects);
    let mut ended: Vec<(&str, &str)> = Vec::new();
    for (fault, server) in faults.iter().zip(&mut servers) {
        if (fault.end)(server) {
            ended.extend(fault.alerts.iter().map(|alert| (fault.name, *alert)));
        }
    }
    ended.retain(|(_, alert)| !LOOK_FAR_BACK.contains(alert));
    let last = Instant::now();
    until("the alerts end with their faults", || {
        let firing = run.prometheus.api.firing().unwrap();
        let fires = |(name, alert): &(&str, &str)| {
            firing.iter().any(|found| found.label("alertname") == *alert && found.label("kvsstore") == *name)
        };
        let left: Vec<_> = ended.iter().filter(|one| fires(one)).collect();
        assert!(last.elapsed() + Duration::from_secs(1) < PATIENCE, "still there: {left:?}");
        left.is_empty().then_some(())
    });
    say(&format!("{} alerts ended within {:.1} s of their faults", ended.len(), last.elapsed().as_secs_f64()));
}

#[test]
fn each_fault_raises_its_alerts_and_no_other() {
    let named = std::env::var("KVS_FAULTS").ok();
    let wanted = |fault: &&Fault| match &named {
        Some(names) => names.split(',').any(|name| name == fault.name),
        None if is_full() => !HUNGRY.contains(&fault.name),
        None => SHORT.contains(&fault.name),
    };
    prove(&FAULTS.iter().filter(wanted).collect::<Vec<_>>());
}

/// Alone, because they leave others no time; in the long version only, for that reason.
#[test]
fn hungry_clients_raise_their_alerts_and_no_other() {
    if is_full() {
        prove(&FAULTS.iter().filter(|fault| HUNGRY.contains(&fault.name)).collect::<Vec<_>>());
    }
}

#[test]
fn every_alert_has_a_fault() {
    let known: BTreeSet<&str> = FAULTS.iter().flat_map(|fault| fault.alerts).chain(&OF_NO_SERVER).copied().collect();
    let all: BTreeSet<&str> = ALERTS.iter().map(|alert| alert.name).collect();
    assert_eq!(known, all);
    let names: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), FAULTS.len(), "two faults have one name");
    for name in SHORT.iter().chain(&HUNGRY) {
        assert!(names.contains(name), "there is no fault {name}");
    }
}

#[test]
fn a_prometheus_without_servers_says_so() {
    let folder = tempdir().unwrap();
    let operator = Operator::start();
    let prometheus = Prometheus::start(folder.path(), &[operator.target()], &rule_file(SCALE)).unwrap();
    until("KvsMetricsAbsent fires", || {
        let firing = prometheus.api.firing().unwrap();
        firing.iter().any(|alert| alert.label("alertname") == "KvsMetricsAbsent").then_some(())
    });
}

/// The operator's alerts, raised by real operators whose API servers fail them. That operators bear the same on a real
/// Kubernetes, and go on, is shown in tests/e2e.
#[test]
fn operators_in_trouble_raise_their_alerts_and_no_other() {
    let folder = tempdir().unwrap();
    let [kubernetes, elsewhere] = [(); 2].map(|()| Kubernetes::start());
    // It stands by until it gets a Lease of its own: as where two halves of a network believe different things.
    elsewhere.gives_leases(false);
    let mut leader = OperatorProcess::start("leader", &kubernetes, folder.path());
    let mut other = OperatorProcess::start("other", &elsewhere, folder.path());
    let mut server = Server::start("beside", None, None, &[]);
    server.run();
    let targets = [leader.target(), other.target(), server.target()];
    let prometheus = Prometheus::start(folder.path(), &targets, &rule_file(SCALE)).unwrap();
    let expect = |wanted: &[&str]| {
        let began = Instant::now();
        let what = if wanted.is_empty() { "all is well".to_owned() } else { format!("{wanted:?} fire") };
        until(&what, || {
            let firing = prometheus.api.firing().unwrap();
            let names: BTreeSet<&str> = firing.iter().map(|alert| alert.label("alertname")).collect();
            for alert in &firing {
                let name = alert.label("alertname");
                let is_known = wanted.iter().any(|own| *own == name || company(own).contains(name));
                let is_page = alert.label("severity") == Severity::Page.as_str();
                // Who waits until all is well sees what ends.
                assert!(
                    wanted.is_empty()
                        || is_known
                        || !is_page
                        || UNREACHABLE.contains(&name) && machine_is_too_slow(&prometheus),
                    "{name} pages, and {wanted:?} don't name it: {alert:?}"
                );
            }
            let is_well = names.iter().all(|name| OF_THE_MACHINE.contains(name));
            (if wanted.is_empty() { is_well } else { wanted.iter().all(|name| names.contains(name)) }).then_some(())
        });
        say(&format!("{what} after {:.1} s", began.elapsed().as_secs_f64()));
    };
    expect(&[]);

    elsewhere.gives_leases(true);
    expect(&["KvsOperatorTwoLeaders"]);
    other.kill();
    expect(&[]);

    if is_full() {
        // So many that one or the other fails again at any time: their tries are minutes apart after a while, and a test's
        // minutes are seconds.
        let names: Vec<String> = (0..60).map(|number| format!("orders-{number}")).collect();
        kubernetes.has_stores(&names.iter().map(String::as_str).collect::<Vec<_>>());
        expect(&["KvsStoreNotReady", "KvsOperatorReconcileErrors", "KvsOperatorStoresFailing"]);
        kubernetes.has_stores(&[]);
        expect(&[]);
    }

    // Who can't renew the Lease ends; whoever comes after it can't have it.
    kubernetes.gives_leases(false);
    leader.wait();
    leader.run();
    expect(&["KvsOperatorNoLeader"]);
    kubernetes.gives_leases(true);
    expect(&[]);

    leader.kill();
    expect(&["KvsOperatorDown"]);
    leader.run();
    expect(&[]);
}

#[test]
fn each_rule_passes_its_own_tests() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    for arguments in [["check", "rules", "kvs.rules.yaml"], ["test", "rules", "kvs.test.yaml"]] {
        let output = Command::new(tool("promtool").unwrap()).current_dir(&rules).args(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    }
}
