//! `Server`: from settings to the last answer.
//!
//! The way up: listen (so that a taken port fails before data is touched), open the store, serve.
//! The way down: not ready, stop accepting, finish what is in flight, make it durable, close.
//!
//! What must hold: nothing that was acknowledged is lost on any way down; a server whose engine can't go on ends with
//! an error within a second.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Instant;

use kvs_engine::{Error, KvStore, KvsEngine, Observer};
use kvs_protocol::names::EngineName;
use rustix::fs::statvfs;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::about::About;
use crate::access::{Access, Grants};
use crate::admin::{Admin, AdminState};
use crate::budget::Budget;
use crate::data_folder::DataFolder;
use crate::error::ServerError;
use crate::failed_requests::FailedRequests;
use crate::files::WatchedFiles;
use crate::handler::Handler;
use crate::health::{Health, State};
use crate::identity::Identity;
use crate::last_failure::LastFailure;
use crate::limits::{FATAL_CHECK, FATAL_DRAIN_DEADLINE, LISTEN_BACKLOG, RUNTIME_END_DEADLINE, SEND_BUFFER_BYTES};
use crate::listener::{Connections, Gate, accept_clients};
use crate::metrics::{Figures, Labels, Metrics};
use crate::pool::{ChosenPool, PoolOptions};
use crate::reload::{Refused, Reloader, Source};
use crate::settings::Settings;
use crate::shared::{Fatal, Shared};
use crate::stop::{Stop, Urgency};
use crate::store::Store;
use crate::tls::{Tls, TlsFiles};

/// A server that listens and does not serve yet.
pub struct Server {
    settings: Settings,
    runtime: Runtime,
    listener: TcpListener,
    state: Arc<AdminState>,
    access: Arc<Access>,
    tls: Option<(Arc<Tls>, WatchedFiles)>,
    tokens: Option<(PathBuf, WatchedFiles)>,
    reloads: Reloads,
    /// Ends last, so that the state can be asked until the end.
    admin: Option<Admin>,
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
}

/// When settings are read again, and from where.
#[derive(Default)]
struct Reloads {
    source: Option<Source>,
    /// Watched from the time on when the settings were read.
    config: Option<WatchedFiles>,
    hangup: Option<Signal>,
}

/// Runs a whole server until a signal or `stop` ends it. At SIGHUP, and when their file changes, it asks `source` for its
/// settings again.
///
/// # Errors
/// Every [`ServerError`].
pub fn run(settings: Settings, source: Source, stop: &Stop) -> Result<(), ServerError> {
    let folder = DataFolder::choose(&settings)?;
    let mut server = Server::bind(settings, folder.engine, &folder.path)?;
    server.listen_to_signals(source, stop)?;
    let options = server.settings.engine_options(server.observer());
    let began = Instant::now();
    match folder.engine {
        EngineName::Kvs => server.open(KvStore::open_with(&folder.path, options)?, began, &folder, stop),
        #[cfg(feature = "sled")]
        EngineName::Sled => {
            server.open(kvs_engine::SledEngine::open_with(&folder.path, options)?, began, &folder, stop)
        }
        #[cfg(not(feature = "sled"))]
        EngineName::Sled => {
            drop((options, began));
            Err(ServerError::Configuration("this server was built without the sled engine; use --engine kvs".into()))
        }
    }
}

impl Server {
    /// Takes the addresses, reads certificates and tokens, and answers on the admin port that the server is starting.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::Io`], and [`ServerError::Configuration`] for a file that is wrong.
    pub fn bind(settings: Settings, engine: EngineName, data_dir: &Path) -> Result<Self, ServerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("kvs-io")
            .enable_all()
            .build()
            .map_err(|source| ServerError::io("cannot start the threads for sockets", source))?;
        let (listener, addr) = listen(&runtime, settings.addr, "--addr")?;
        let labels = Labels { engine, pool: settings.pool, sync: settings.sync };
        let metrics = Arc::new(Metrics::new(labels, settings.limits.connections));
        let (access, tokens) = access_of(&settings, &metrics, &runtime)?;
        let tls = match &settings.tls {
            None => None,
            Some(files) => {
                // Watched before they are read, so that no change falls between the two.
                let watched = WatchedFiles::new(TlsFiles::of(files).paths());
                Some((Tls::load(files, metrics.tls.clone())?, watched))
            }
        };
        let state = Arc::new(AdminState {
            metrics,
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
        let reloads = Reloads::default();
        Ok(Self { settings, runtime, listener, state, access, tls, tokens, reloads, admin, addr, admin_addr })
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

    /// Asks for an end at SIGTERM and SIGINT; a second signal hastens it. At SIGHUP settings are read again.
    fn listen_to_signals(&mut self, source: Source, stop: &Stop) -> Result<(), ServerError> {
        let failed = |source| ServerError::io("cannot listen to signals", source);
        let _inside = self.runtime.enter();
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        // From now on, so that one that comes while the store is being opened does not end the process.
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let config = source.watched();
        self.reloads = Reloads { source: Some(source), config, hangup: Some(hangup) };
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
    fn open<E: KvsEngine>(
        self,
        engine: E,
        began: Instant,
        folder: &DataFolder,
        stop: &Stop,
    ) -> Result<(), ServerError> {
        self.state.metrics.engine.opened(began.elapsed());
        if let Some(failure) = LastFailure::read(&folder.path) {
            tracing::warn!(at_s = failure.at_s, error = failure.cause, "a server of this folder once could not go on");
            self.state.metrics.has_failed_at(failure.at_s);
        }
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
        let Self { settings, runtime, listener, state, access, tls, tokens, reloads, admin, addr, admin_addr } = self;
        let store: Arc<dyn Store> = Arc::new(engine);
        let limits = settings.limits.clone();
        let observer = Arc::new(state.metrics.pool.clone());
        let options = PoolOptions { threads: settings.threads, queue_jobs: limits.queue_jobs, observer };
        let about = About::new(state.labels, state.started, Arc::clone(&state.metrics), settings.threads);
        let shared = Arc::new(Shared {
            handler: Arc::new(Handler::new(Arc::clone(&store), about)?),
            pool: ChosenPool::open(settings.pool, options)?,
            budget: Budget::new(limits.in_flight_bytes),
            limits: RwLock::new(Arc::new(limits)),
            metrics: Arc::clone(&state.metrics),
            fatal: Fatal::default(),
            failed_requests: FailedRequests::default(),
            resp_connections: AtomicU64::new(0),
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
            tls = tls.is_some(),
            authentication = settings.needs_authentication(),
            "kvs-server {} is listening on {addr} with the {} engine",
            env!("CARGO_PKG_VERSION"),
            state.labels.engine,
        );

        if !settings.needs_authentication() && !addr.ip().is_loopback() {
            tracing::warn!(%addr, "whoever reaches {addr} may read and write, without authentication");
        }
        let max_connections = settings.limits.connections;
        let gate =
            Gate { tls: tls.as_ref().map(|(tls, _)| Arc::clone(tls)), access: Arc::clone(&access), max_connections };
        let metrics = state.metrics.reload.clone();
        let Reloads { source, config, hangup } = reloads;
        let reloader = Reloader {
            source,
            config,
            settings,
            shared: Arc::clone(&shared),
            metrics,
            refused: Refused::default(),
            tls,
            tokens,
            access,
            connections: Arc::clone(&connections),
        };

        let failure = runtime.block_on(async {
            let accepting = tokio::spawn(accept_clients(
                listener,
                gate,
                Arc::clone(&shared),
                Arc::clone(&connections),
                stop.clone(),
            ));
            let reloading = tokio::spawn(reloader.run(hangup));
            let failure = tokio::select! {
                () = stop.requested(Urgency::Drain) => None,
                error = engine_failure(&*store, &shared.fatal) => Some(error),
            };
            state.health.advance(if failure.is_none() { State::Draining } else { State::Failed });
            stop.at_least(Urgency::Drain);
            // The loop ends by itself; it has nothing to tell.
            let _ = accepting.await;
            connections.drain();
            // Nothing can change for connections that end; and what it holds of the store must be let go.
            reloading.abort();
            let _ = reloading.await;
            let patience = if failure.is_none() { shared.limits().drain_deadline } else { FATAL_DRAIN_DEADLINE };
            tokio::select! {
                () = connections.all_closed() => {}
                () = stop.requested(Urgency::Now), if failure.is_none() => {}
                () = tokio::time::sleep(patience) => {}
            }
            if failure.is_none() {
                let open = connections.count();
                if open > 0 {
                    tracing::warn!(connections = open, "closing connections that did not end in time");
                }
                // Before the engine is closed: a closed connection says that the outcome is unknown, which it is.
                connections.cut();
                let _ = tokio::time::timeout(RUNTIME_END_DEADLINE, connections.all_closed()).await;
            }
            failure
        });

        if let Some(error) = failure {
            // A job may be stuck in the engine, and a pool waits for its jobs: the process ends without both.
            LastFailure::write(Path::new(&state.data_dir), &error.to_string());
            std::mem::forget(shared);
            runtime.shutdown_background();
            return Err(error.into());
        }
        let closed = store.close();
        runtime.shutdown_timeout(RUNTIME_END_DEADLINE);
        drop(admin);
        closed?;
        tracing::info!("ended in good order; all that was acknowledged is durable");
        Ok(())
    }
}

/// Who may do what, and the file that says so, if clients must authenticate.
type Guarded = (Arc<Access>, Option<(PathBuf, WatchedFiles)>);

fn access_of(settings: &Settings, metrics: &Metrics, runtime: &Runtime) -> Result<Guarded, ServerError> {
    let mut watched = None;
    let grants = match &settings.auth_tokens {
        Some(path) => {
            // Watched before it is read, so that no change falls between the two.
            watched = Some((path.clone(), WatchedFiles::new(vec![path.clone()])));
            Some(Grants::read(path)?)
        }
        None => settings.needs_authentication().then(Grants::of_any_certificate),
    };
    if let Some(short @ 1..) = grants.as_ref().map(|grants| grants.short_tokens) {
        tracing::warn!(short, "some tokens are short enough to be guessed; openssl rand -hex 32 makes good ones");
    }
    let (failures, refusals) = (metrics.auth_failures.clone(), metrics.auth_refusals.clone());
    Ok((Access::new(grants, failures, refusals, runtime.handle().clone()), watched))
}

/// Lets the admin port see what the store, the pool and the connections do.
fn show_figures(state: &AdminState, shared: &Arc<Shared>, store: &Arc<dyn Store>, connections: &Arc<Connections>) {
    let (shared, store, connections) = (Arc::downgrade(shared), Arc::downgrade(store), Arc::downgrade(connections));
    let folder = PathBuf::from(&state.data_dir);
    let source = move || {
        let (Some(shared), Some(store)) = (shared.upgrade(), store.upgrade()) else { return Default::default() };
        // A file system that does not say counts as one without size.
        let (disk_capacity_bytes, disk_available_bytes) =
            statvfs(&folder).map_or((0, 0), |disk| (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize));
        let figures = Figures {
            disk_capacity_bytes,
            disk_available_bytes,
            is_poisoned: store.fatal().is_some(),
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
        // Connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        let listener = socket.listen(LISTEN_BACKLOG)?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    listen().map_err(|source| ServerError::Listen { addr, flag, source })
}
