//! The faults: what is done to real servers, and the alerts that it must raise.
//!
//! What must hold: every alert of a server has a fault here; a fault says how it ends, and whether its alerts end with it.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvs_load::load::Pace;
use kvs_load::{Group, Wire};
use kvs_torture::LoopMount;
use rustix::process::Signal;

use crate::panicking;
use crate::support::{self, Background, Server};

/// What a fault leaves running.
pub type Effect = Box<dyn std::any::Any>;

/// A fault and the alerts that it must raise.
pub struct Fault {
    /// The name of its server.
    pub name: &'static str,
    pub alerts: &'static [&'static str],
    /// Makes the server, with what it needs.
    pub server: fn(&Scene) -> Server,
    /// Begins the fault.
    pub begin: fn(&mut Server) -> Effect,
    /// Ends it, after its effect was dropped. False: its alerts stay.
    pub end: fn(&mut Server) -> bool,
}

/// What servers are made from.
pub struct Scene {
    pub library: PathBuf,
    /// A small file system, to be filled.
    pub full: Option<LoopMount>,
    /// Another one, to be filled slowly.
    pub filling: Option<LoopMount>,
    pub folder: PathBuf,
}

fn plain(scene: &Scene, name: &'static str, arguments: &[&str]) -> Server {
    Server::start(name, None, Some(&scene.library), arguments)
}

/// The end of a fault of the disk, and of one that its effect was all of.
fn heal(server: &mut Server) -> bool {
    server.fault("");
    true
}

/// The end of what does not end: a certificate stays old.
const fn stays(_: &mut Server) -> bool {
    false
}

fn paced_sets(rate: f64) -> Group {
    Group::sets(2, 1, 100).at(Pace::PerSecond(rate))
}

/// Writes 2.5 MB under one key, so many times.
fn overwrite(server: &Server, times: usize) {
    let line = format!("{{\"set\":{{\"key\":\"same\",\"value\":\"{}\"}}}}\n", "v".repeat(50_000));
    for _ in 0..times {
        server.ask(&line.repeat(50)).unwrap();
    }
}

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "slow-disk",
        alerts: &["KvsFsyncVerySlow"],
        end: heal,
        server: |scene| plain(scene, "slow-disk", &[]),
        begin: |server| {
            server.fault("slow 700");
            Box::new(Background::start(server.addr, Wire::JsonLines, vec![Group::sets(4, 1, 100)]))
        },
    },
    Fault {
        name: "slower-disk",
        alerts: &["KvsFsyncSlow", "KvsLatencyBudgetBurn", "KvsLatencyBudgetSlowBurn"],
        end: heal,
        server: |scene| plain(scene, "slower-disk", &[]),
        begin: |server| {
            server.fault("slow 200");
            Box::new(Background::start(server.addr, Wire::JsonLines, vec![Group::sets(4, 1, 100)]))
        },
    },
    Fault {
        name: "no-segment-in-time",
        alerts: &["KvsWriteStalls"],
        end: heal,
        server: |scene| plain(scene, "no-segment-in-time", &[]),
        // What is written is durable soon, and files to write to come late, as on a volume whose metadata is far away.
        begin: |server| {
            server.fault("prepare 700");
            Box::new(Background::with_values(server.addr, Wire::JsonLines, 20_000, vec![Group::sets(4, 8, 100)]))
        },
    },
    Fault {
        name: "hung-end",
        alerts: &["KvsNotReady"],
        end: |server| {
            server.fault("");
            server.wait();
            server.run();
            true
        },
        server: |scene| plain(scene, "hung-end", &["--limits-drain-deadline-ms", "600000"]),
        begin: |server| {
            server.fault("hang");
            let mut writer = TcpStream::connect(server.addr).unwrap();
            writer.write_all(b"{\"set\":{\"key\":\"k\",\"value\":\"v\"}}\n").unwrap();
            // So that the write is under way.
            std::thread::sleep(Duration::from_millis(500));
            server.signal(Signal::TERM);
            Box::new(writer)
        },
    },
    Fault {
        name: "damaged",
        alerts: &["KvsCorruption"],
        end: heal,
        server: |scene| plain(scene, "damaged", &[]),
        begin: |server| {
            let value = "v".repeat(10_000);
            for part in 0..40 {
                let lines: String = (part * 50..part * 50 + 50)
                    .map(|number| format!("{{\"set\":{{\"key\":\"k{number}\",\"value\":\"<{number}>{value}\"}}}}\n"))
                    .collect();
                server.ask(&lines).unwrap();
            }
            // An end in good order leaves a checkpoint, so that the next start does not read the record.
            server.signal(Signal::TERM);
            server.wait();
            flip_a_bit(&server.folder().join("data"), b"<7>vvvv");
            server.run();
            let answer = server.ask("{\"get\":{\"key\":\"k7\"}}\n").unwrap();
            assert!(answer.contains("corruption"), "{answer}");
            Box::new(())
        },
    },
    Fault {
        name: "no-compaction",
        alerts: &["KvsCompactionFailing"],
        end: heal,
        server: |scene| plain(scene, "no-compaction", &["--compaction-threshold-bytes", "65536"]),
        begin: |server| {
            server.fault("create");
            overwrite(server, 20);
            // A failed compaction is tried again when there is more to gain.
            Box::new(Background::with_values(server.addr, Wire::JsonLines, 50_000, vec![paced_sets(20.0)]))
        },
    },
    Fault {
        name: "mostly-dead",
        alerts: &["KvsSpaceAmplification"],
        end: stays,
        server: |scene| plain(scene, "mostly-dead", &["--compaction-threshold-bytes", "1073741824", "--sync", "os"]),
        begin: |server| {
            // 300 MB under one key.
            overwrite(server, 120);
            Box::new(())
        },
    },
    Fault {
        name: "filling-disk",
        alerts: &["KvsDiskWillFill", "KvsDiskSpaceLow"],
        end: |server| {
            drop(fs::remove_file(server.data().join("../elsewhere")));
            true
        },
        server: |scene| {
            let folder = scene.filling.as_ref().unwrap().folder().join("data");
            Server::start("filling-disk", Some(&folder), None, &[])
        },
        // Somebody else's file on the same volume grows.
        begin: |server| Box::new(Filling::start(server.data().join("../elsewhere"), 130, 500_000)),
    },
    Fault {
        name: "no-descriptor",
        alerts: &["KvsAcceptErrors"],
        end: heal,
        server: |scene| plain(scene, "no-descriptor", &[]),
        begin: |server| {
            server.fault(&format!("accept {}", server.addr.port()));
            Box::new(TcpStream::connect(server.addr).unwrap())
        },
    },
    Fault {
        name: "few-descriptors",
        alerts: &["KvsDescriptorsLow"],
        end: heal,
        server: |scene| plain(scene, "few-descriptors", &[]),
        begin: |server| {
            let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
            support::until("all are accepted", || {
                (server.metric("kvs_connections{listener=\"client\"}") >= 100.0).then_some(())
            });
            // Nearly all of them are open.
            let open = server.open_descriptors();
            server.allow_descriptors(open + open * 6 / 100);
            Box::new(idle)
        },
    },
    Fault {
        name: "half-sent",
        alerts: &["KvsLargeRequestsFillMemory"],
        end: heal,
        server: |scene| {
            plain(scene, "half-sent", &["--limits-in-flight-bytes", "33554432", "--limits-frame-deadline-ms", "600000"])
        },
        begin: |server| {
            let half = format!("{{\"set\":{{\"key\":\"k\",\"value\":\"{}", "v".repeat(900_000));
            let mut senders = Vec::new();
            // One after the other: who is refused gives back what its half had taken.
            support::until("half requests take the memory", || {
                let mut stream = TcpStream::connect(server.addr).ok()?;
                stream.set_write_timeout(Some(Duration::from_secs(1))).ok()?;
                let _ = stream.write_all(half.as_bytes());
                senders.push(stream);
                (server.metric("kvs_in_flight_bytes") > 0.92 * 33_554_432.0).then_some(())
            });
            Box::new(senders)
        },
    },
    Fault {
        name: "panicking",
        alerts: &["KvsPoolPanics", "KvsInternalErrors"],
        end: heal,
        server: |_| panicking::server("panicking"),
        begin: |server| {
            let answer = server.ask("{\"set\":{\"key\":\"panic\",\"value\":\"v\"}}\n").unwrap();
            assert!(answer.contains("internal"), "{answer}");
            Box::new(())
        },
    },
    Fault {
        name: "older",
        alerts: &["KvsVersionSkew"],
        end: stays,
        // A server of a version that there never was.
        server: |_| Server::of_text("older", "kvs_build_info{version=\"0.0.0-older\"} 1\nkvs_ready 1\n"),
        begin: |_| Box::new(()),
    },
    Fault {
        name: "older-certificate",
        alerts: &["KvsCertificateExpiresSoon"],
        end: stays,
        server: |scene| {
            let (cert, key) = certificate(&scene.folder, "10 days");
            let (cert, key) = (cert.display().to_string(), key.display().to_string());
            plain(scene, "older-certificate", &["--tls-cert", &cert, "--tls-key", &key])
        },
        begin: |_| Box::new(()),
    },
    Fault {
        name: "bad-config",
        alerts: &["KvsConfigReloadFailed"],
        end: |server| {
            fs::write(server.folder().join("kvs.yaml"), "limits: {queueJobs: 100}\n").unwrap();
            server.signal(Signal::HUP);
            true
        },
        server: |scene| {
            let server = plain(scene, "bad-config", &["--config", "{folder}/kvs.yaml"]);
            fs::write(server.folder().join("kvs.yaml"), "limits: {queueJobs: 100}\n").unwrap();
            server
        },
        begin: |server| {
            fs::write(server.folder().join("kvs.yaml"), "limits: {queueJbos: 100}\n").unwrap();
            server.signal(Signal::HUP);
            Box::new(())
        },
    },
    Fault {
        name: "flood",
        alerts: &["KvsConnectionsNearLimit"],
        end: heal,
        server: |scene| plain(scene, "flood", &["--limits-connections", "50"]),
        begin: |server| Box::new((0..48).map(|_| TcpStream::connect(server.addr).unwrap()).collect::<Vec<_>>()),
    },
    Fault {
        name: "saturated",
        alerts: &["KvsPoolSaturated"],
        end: heal,
        server: |scene| plain(scene, "saturated", &["--pool", "sharedQueue", "--threads", "1", "--sync", "os"]),
        begin: |server| Box::new(Background::start(server.addr, Wire::Resp, vec![Group::sets(128, 128, 10_000)])),
    },
    Fault {
        name: "rejecting",
        alerts: &["KvsPoolRejectingWork"],
        end: heal,
        server: |scene| {
            plain(
                scene,
                "rejecting",
                &["--pool", "sharedQueue", "--threads", "1", "--limits-queue-jobs", "1", "--sync", "os"],
            )
        },
        begin: |server| Box::new(Background::start(server.addr, Wire::Resp, vec![Group::sets(32, 64, 1_000)])),
    },
    Fault {
        name: "full-disk",
        alerts: &["KvsReadOnly", "KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn"],
        end: |server| {
            fs::remove_file(server.data().join("../elsewhere")).unwrap();
            true
        },
        server: |scene| {
            let folder = scene.full.as_ref().unwrap().folder().join("data");
            Server::start("full-disk", Some(&folder), None, &["--compaction-threshold-bytes", "1073741824"])
        },
        begin: |server| {
            // Somebody else's file takes all that the store has not set aside. It is not the store that fills the volume, as
            // fast as it can: a disk with so much to do would be slow, which is another fault.
            let mut file = fs::File::create(server.data().join("../elsewhere")).unwrap();
            while file.write_all(&[1; 100_000]).is_ok() {}
            let value = "v".repeat(100_000);
            let refused = (0..400).any(|number| {
                let line = format!("{{\"set\":{{\"key\":\"{number}\",\"value\":\"{value}\"}}}}\n");
                server.ask(&line).unwrap().contains("no_space")
            });
            assert!(refused, "the disk is not full");
            // Clients go on to write, and are refused.
            Box::new(Background::start(server.addr, Wire::JsonLines, vec![paced_sets(20.0)]))
        },
    },
    Fault {
        name: "failed-sync",
        alerts: &["KvsStoreFailed"],
        end: heal,
        server: |scene| plain(scene, "failed-sync", &[]),
        begin: |server| {
            server.fault("fail");
            let answer = server.ask("{\"set\":{\"key\":\"k\",\"value\":\"v\"}}\n").unwrap_or_default();
            assert!(answer.is_empty() || answer.contains("poisoned"), "{answer}");
            server.wait();
            // As a supervisor does.
            server.fault("");
            server.run();
            Box::new(())
        },
    },
    Fault {
        name: "old-certificate",
        alerts: &["KvsCertificateExpires"],
        end: stays,
        server: |scene| {
            let (cert, key) = certificate(&scene.folder, "tomorrow");
            let (cert, key) = (cert.display().to_string(), key.display().to_string());
            plain(scene, "old-certificate", &["--tls-cert", &cert, "--tls-key", &key])
        },
        // It is old from the beginning; nothing is to be done.
        begin: |_| Box::new(()),
    },
    Fault {
        name: "stuck-compaction",
        alerts: &["KvsCompactionStuck"],
        end: heal,
        server: |scene| plain(scene, "stuck-compaction", &["--compaction-threshold-bytes", "65536"]),
        begin: |server| {
            server.fault("stuck");
            overwrite(server, 20);
            Box::new(())
        },
    },
    Fault {
        name: "restarts",
        alerts: &["KvsRestarting"],
        end: heal,
        server: |scene| plain(scene, "restarts", &[]),
        begin: |server| {
            for _ in 0..4 {
                server.kill();
                server.run();
                // Long enough to be seen by some scrapes.
                std::thread::sleep(Duration::from_millis(1100));
            }
            Box::new(())
        },
    },
    Fault {
        name: "gone",
        alerts: &["KvsDown"],
        end: |server| {
            server.run();
            true
        },
        server: |scene| plain(scene, "gone", &[]),
        begin: |server| {
            server.kill();
            Box::new(())
        },
    },
    Fault {
        name: "guessing",
        alerts: &["KvsAuthFailures"],
        end: heal,
        server: |scene| {
            let server = plain(scene, "guessing", &["--auth-tokens", "{folder}/tokens"]);
            fs::write(server.folder().join("tokens"), "0123456789abcdef0123456789abcdef\n").unwrap();
            server
        },
        begin: |server| Box::new(Guessing::start(server.addr)),
    },
];

/// Tries tokens until it is dropped.
struct Guessing(Arc<AtomicBool>);

impl Guessing {
    fn start(addr: std::net::SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let stopped = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    if let Ok(mut stream) = TcpStream::connect(addr) {
                        let _ = stream.write_all(b"{\"auth\":{\"token\":\"guess\"}}\n");
                        let _ = std::io::copy(&mut std::io::Read::take(&mut stream, 10), &mut std::io::sink());
                    }
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Guessing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A file that grows until it is dropped: at once by some megabytes, then steadily.
struct Filling(Arc<AtomicBool>);

impl Filling {
    fn start(path: PathBuf, first_mb: usize, bytes_per_second: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut file = fs::File::create(path).unwrap();
            let part = vec![1; 1_000_000];
            (0..first_mb).for_each(|_| file.write_all(&part).unwrap());
            // Until the volume is full, too.
            while !stopped.load(Ordering::SeqCst) && file.write_all(&part[..bytes_per_second / 4]).is_ok() {
                let _ = file.sync_data();
                std::thread::sleep(Duration::from_millis(250));
            }
        });
        Self(stop)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Flips a bit of the place in a folder's files that holds these bytes.
fn flip_a_bit(folder: &Path, bytes: &[u8]) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let content = fs::read(&path).unwrap();
        if let Some(place) = content.windows(bytes.len()).position(|window| window == bytes) {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[content[place] ^ 1], place as u64).unwrap();
            return file.sync_all().unwrap();
        }
    }
    panic!("no file of {} holds the bytes", folder.display());
}

/// A certificate that ends at midnight of a day in the words of `date`, and its key.
fn certificate(folder: &Path, until: &str) -> (PathBuf, PathBuf) {
    let output = Command::new("date").args(["-u", "-d", until, "+%Y %m %d"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<i32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after =
        rcgen::date_time_ymd(numbers[0], u8::try_from(numbers[1]).unwrap(), u8::try_from(numbers[2]).unwrap());
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let name = until.replace(' ', "-");
    let (cert, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")));
    fs::write(&cert, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    (cert, key_file)
}
