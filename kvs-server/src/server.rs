//! `Server`: from settings to the last answer.
//!
//! The way up: listen (so that a taken port fails before data is touched), open the store, serve.
//! The way down: not ready, stop accepting, finish what is in flight, make it durable, close.
//!
//! What must hold: nothing that was acknowledged is lost on any way down; a server whose engine can't go on ends with
//! an error within a second.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kvs_engine::{Error, KvStore, KvsEngine, Observer};
use kvs_protocol::names::EngineName;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{Admin, AdminState};
use crate::budget::Budget;
use crate::data_folder::DataFolder;
use crate::error::ServerError;
use crate::handler::Handler;
use crate::health::{Health, State};
use crate::identity::Identity;
use crate::limits::{DRAIN_DEADLINE, FATAL_CHECK, FATAL_DRAIN_DEADLINE, LISTEN_BACKLOG, Limits, RUNTIME_END_DEADLINE};
use crate::listener::{Connections, accept_clients};
use crate::metrics::{Figures, Labels, Metrics};
use crate::pool::{ChosenPool, PoolOptions};
use crate::settings::Settings;
use crate::shared::{Fatal, Shared};
use crate::stop::{Stop, Urgency};
use crate::store::Store;

/// A server that listens and does not serve yet.
pub struct Server {
    settings: Settings,
    runtime: Runtime,
    listener: TcpListener,
    state: Arc<AdminState>,
    /// Ends last, so that the state can be asked until the end.
    admin: Option<Admin>,
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
}

/// Runs a whole server until a signal or `stop` ends it.
///
/// # Errors
/// Every [`ServerError`].
pub fn run(settings: Settings, stop: &Stop) -> Result<(), ServerError> {
    let folder = DataFolder::choose(&settings)?;
    let server = Server::bind(settings, folder.engine, &folder.path)?;
    server.stop_on_signals(stop)?;
    let options = server.settings.engine_options(server.observer());
    match folder.engine {
        EngineName::Kvs => server.open(KvStore::open_with(&folder.path, options)?, &folder, stop),
        #[cfg(feature = "sled")]
        EngineName::Sled => server.open(kvs_engine::SledEngine::open_with(&folder.path, options)?, &folder, stop),
        #[cfg(not(feature = "sled"))]
        EngineName::Sled => {
            drop(options);
            Err(ServerError::Configuration("this server was built without the sled engine; use --engine kvs".into()))
        }
    }
}

impl Server {
    /// Takes the addresses and answers on the admin port that the server is starting.
    ///
    /// # Errors
    /// [`ServerError::Listen`] and [`ServerError::Io`].
    pub fn bind(settings: Settings, engine: EngineName, data_dir: &Path) -> Result<Self, ServerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("kvs-io")
            .enable_all()
            .build()
            .map_err(|source| ServerError::io("cannot start the threads for sockets", source))?;
        let (listener, addr) = listen(&runtime, settings.addr, "--addr")?;
        let labels = Labels { engine, pool: settings.pool, sync: settings.sync };
        let state = Arc::new(AdminState {
            metrics: Arc::new(Metrics::new(labels)),
            health: Health::default(),
            labels,
            addr: addr.to_string(),
            threads: settings.threads,
            data_dir: data_dir.display().to_string(),
            started: Instant::now(),
            identity: OnceLock::new(),
            source: OnceLock::new(),
        });
        let (mut admin, mut admin_addr) = (None, None);
        if let Some(wanted) = settings.admin_addr {
            let (listener, addr) = listen(&runtime, wanted, "--admin-addr")?;
            let listener =
                listener.into_std().map_err(|source| ServerError::io("cannot start the admin port", source))?;
            admin = Some(Admin::start(listener, Arc::clone(&state))?);
            admin_addr = Some(addr);
        }
        Ok(Self { settings, runtime, listener, state, admin, addr, admin_addr })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Turns what an engine does into metrics; for the options that it is opened with.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.state.metrics.engine.clone())
    }

    /// Asks for an end at SIGTERM and SIGINT; a second signal hastens it.
    fn stop_on_signals(&self, stop: &Stop) -> Result<(), ServerError> {
        let failed = |source| ServerError::io("cannot listen to signals", source);
        let _inside = self.runtime.enter();
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let stop = stop.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("asked to end");
                stop.request();
            }
        });
        Ok(())
    }

    /// Writes down whose folder this is, now that the engine has locked it, and serves.
    fn open<E: KvsEngine>(self, engine: E, folder: &DataFolder, stop: &Stop) -> Result<(), ServerError> {
        let identity = Identity::establish(&folder.path, folder.engine, self.settings.store.as_deref())?;
        // Set once, here.
        let _ = self.state.identity.set(identity);
        self.serve(engine, stop)
    }

    /// Serves an open engine until `stop` is asked for; then closes the engine.
    ///
    /// # Errors
    /// [`ServerError::Pool`], and [`ServerError::Engine`] when the engine could not go on or close.
    pub fn serve<E: KvsEngine>(self, engine: E, stop: &Stop) -> Result<(), ServerError> {
        let Self { settings, runtime, listener, state, admin, addr, admin_addr } = self;
        let store: Arc<dyn Store> = Arc::new(engine);
        let limits = Limits::for_values(settings.max_value_bytes);
        let observer = Arc::new(state.metrics.pool.clone());
        let options = PoolOptions { observer, ..PoolOptions::new(settings.threads) };
        let shared = Arc::new(Shared {
            handler: Arc::new(Handler::new(Arc::clone(&store))),
            pool: ChosenPool::open(settings.pool, options)?,
            limits,
            budget: Budget::new(limits.in_flight_bytes),
            metrics: Arc::clone(&state.metrics),
            fatal: Fatal::default(),
        });
        let connections = Arc::new(Connections::default());
        show_figures(&state, &shared, &store, &connections);
        state.health.advance(State::Ready);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            engine = %state.labels.engine,
            %addr,
            admin_addr = admin_addr.map(tracing::field::display),
            pool = %settings.pool,
            threads = settings.threads,
            sync = %settings.sync,
            data_dir = state.data_dir,
            "kvs-server {} is listening on {addr} with the {} engine",
            env!("CARGO_PKG_VERSION"),
            state.labels.engine,
        );

        let failure = runtime.block_on(async {
            let accepting =
                tokio::spawn(accept_clients(listener, Arc::clone(&shared), Arc::clone(&connections), stop.clone()));
            let failure = tokio::select! {
                () = stop.requested(Urgency::Drain) => None,
                error = engine_failure(&*store, &shared.fatal) => Some(error),
            };
            state.health.advance(if failure.is_none() { State::Draining } else { State::Failed });
            stop.at_least(Urgency::Drain);
            // The loop ends by itself; it has nothing to tell.
            let _ = accepting.await;
            connections.drain();
            let patience = if failure.is_none() { DRAIN_DEADLINE } else { FATAL_DRAIN_DEADLINE };
            tokio::select! {
                () = connections.all_closed() => {}
                () = stop.requested(Urgency::Now), if failure.is_none() => {}
                () = tokio::time::sleep(patience) => {}
            }
            failure
        });

        if let Some(error) = failure {
            // A job may be stuck in the engine, and a pool waits for its jobs: the process ends without both.
            std::mem::forget(shared);
            runtime.shutdown_background();
            return Err(error.into());
        }
        let open = connections.count();
        if open > 0 {
            tracing::warn!(connections = open, "closing connections that did not end in time");
        }
        let closed = store.close();
        runtime.shutdown_timeout(RUNTIME_END_DEADLINE);
        drop(admin);
        closed?;
        tracing::info!("ended in good order; all that was acknowledged is durable");
        Ok(())
    }
}

/// Lets the admin port see what the store, the pool and the connections do.
fn show_figures(state: &AdminState, shared: &Arc<Shared>, store: &Arc<dyn Store>, connections: &Arc<Connections>) {
    let (shared, store, connections) = (Arc::downgrade(shared), Arc::downgrade(store), Arc::downgrade(connections));
    let source = move || {
        let (Some(shared), Some(store)) = (shared.upgrade(), store.upgrade()) else { return Default::default() };
        let figures = Figures {
            engine: store.stats(),
            pool: shared.pool.figures(),
            in_flight_bytes: shared.budget.used_bytes(),
            in_flight_limit_bytes: shared.budget.limit_bytes(),
        };
        (figures, connections.upgrade().map_or(0, |connections| connections.count()))
    };
    // Set once, here.
    let _ = state.source.set(Box::new(source));
}

/// Waits until the engine says that it can't go on: asked when an answer looks like it, and now and then.
async fn engine_failure(store: &dyn Store, fatal: &Fatal) -> Error {
    loop {
        if let Some(error) = store.fatal() {
            return error;
        }
        // Either way it is time to ask again.
        let _ = tokio::time::timeout(FATAL_CHECK, fatal.suspected()).await;
    }
}

/// Listens on an address, of which port 0 becomes a real one.
fn listen(runtime: &Runtime, addr: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let _inside = runtime.enter();
    let listen = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart may listen while the system still remembers the connections of the last run.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(LISTEN_BACKLOG)?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    listen().map_err(|source| ServerError::Listen { addr, flag, source })
}
