//! A server in this process whose engine panics at one key, as a fault of ours would.

use std::path::Path;

use kvs_engine::{Completion, KvsEngine, MemoryEngine, Operation, Page, Result, Scan, Stats};
use kvs_protocol::config::ServerConfig;
use kvs_protocol::names::EngineName;
use kvs_server::{Settings, Stop};

use crate::support::Server;

/// A memory engine with a fault.
#[derive(Clone, Default)]
struct Panicking(MemoryEngine);

impl KvsEngine for Panicking {
    const NAME: &'static str = "panicking";

    fn submit(&self, operation: Operation, completion: Completion) {
        if let Operation::Set { key, .. } = &operation {
            assert!(key != b"panic", "a panic that a test wants");
        }
        self.0.submit(operation, completion);
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        self.0.scan(scan)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }

    fn fatal(&self) -> Option<kvs_engine::Error> {
        None
    }
}

/// Ends the server when the test lets go of it.
struct Ends(Stop);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// The server, which serves already.
pub fn server(name: &'static str) -> Server {
    let free = Some(([127, 0, 0, 1], 0).into());
    let config = ServerConfig { addr: free, admin_addr: free, threads: Some(1), ..ServerConfig::default() };
    let server =
        kvs_server::Server::bind(Settings::from_config(config).unwrap(), EngineName::Kvs, Path::new("none")).unwrap();
    let (addr, admin_addr, stop) = (server.addr(), server.admin_addr().unwrap(), Stop::default());
    let asked = stop.clone();
    std::thread::spawn(move || server.serve(Panicking::default(), &asked));
    Server::of_thread(name, addr, admin_addr, Box::new(Ends(stop)))
}
