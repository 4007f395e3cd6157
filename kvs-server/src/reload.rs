//! `Reloader`: takes over what has changed while the server runs: settings, certificates and tokens, on SIGHUP or when
//! their files change.
//!
//! What must hold: what is wrong changes nothing, is logged once with file, line and column, and shows in the metrics
//! until that part itself is taken over, whatever becomes of the others; what can't change while the server runs is
//! named and left; no connection notices any of it, but those whose token is gone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;

use crate::access::{Access, Grants};
use crate::config::{FIELDS, flat};
use crate::error::ServerError;
use crate::files::WatchedFiles;
use crate::limits::{FILE_CHECK, Limits};
use crate::listener::Connections;
use crate::logging;
use crate::metrics::ReloadMetrics;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::tls::Tls;

/// Where the settings came from.
pub struct Source {
    /// Gives them anew.
    pub read: Box<dyn Fn() -> Result<Settings, ServerError> + Send>,
    /// The file that says most of them, if there is one.
    pub file: Option<PathBuf>,
}

impl Source {
    /// Watches the file, if it is one that can be read more than once.
    pub(crate) fn watched(&self) -> Option<WatchedFiles> {
        let file = self.file.as_ref().filter(|file| file.is_file())?;
        Some(WatchedFiles::new(vec![file.clone()]))
    }
}

/// What is read again by itself, and can be wrong by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Settings,
    Certificates,
    Tokens,
}

/// The parts of which the last look was refused.
#[derive(Debug, Default)]
pub(crate) struct Refused(BTreeSet<Part>);

impl Refused {
    /// Notes how a part went.
    fn note(&mut self, part: Part, is_well: bool) {
        if is_well {
            self.0.remove(&part)
        } else {
            self.0.insert(part)
        };
    }
}

/// What can be taken over by a running server, and from where.
pub(crate) struct Reloader {
    pub(crate) source: Option<Source>,
    /// The file of settings, if there is one.
    pub(crate) config: Option<WatchedFiles>,
    /// What the server runs with now.
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: ReloadMetrics,
    /// Nothing at the start: a server does not start with what is wrong.
    pub(crate) refused: Refused,
    pub(crate) tls: Option<(Arc<Tls>, WatchedFiles)>,
    pub(crate) tokens: Option<(PathBuf, WatchedFiles)>,
    pub(crate) access: Arc<Access>,
    pub(crate) connections: Arc<Connections>,
}

impl Reloader {
    /// Looks for changes until the server ends.
    pub(crate) async fn run(mut self, mut hangup: Option<Signal>) {
        loop {
            let at_once = tokio::select! {
                () = received(&mut hangup) => true,
                () = tokio::time::sleep(FILE_CHECK), if self.watches_files() => false,
            };
            // Files may lie on a disk that takes its time.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(at_once);
                self
            });
            match looked.await {
                Ok(reloader) => self = reloader,
                Err(error) => return tracing::error!(%error, "nothing is reloaded any more; restart the server"),
            }
        }
    }

    fn watches_files(&self) -> bool {
        self.config.is_some() || self.tls.is_some() || self.tokens.is_some()
    }

    /// Takes over what has changed. `at_once`: somebody asked for it.
    fn look(&mut self, at_once: bool) {
        let mut outcomes = Vec::new();
        let has_changed = self.config.as_mut().is_some_and(|file| file.have_changed(at_once));
        if at_once || has_changed {
            outcomes.extend(self.reload_settings().map(|outcome| (Part::Settings, outcome)));
        }
        if let Some((tls, files)) = &mut self.tls
            && files.have_changed(at_once)
        {
            outcomes.push((Part::Certificates, tls.reload().map(|()| "certificates".to_owned())));
        }
        if let Some((path, files)) = &mut self.tokens
            && files.have_changed(at_once)
        {
            let outcome = Grants::read(path).map(|grants| {
                let (tokens, certificates) = grants.counts();
                self.access.replace(grants);
                self.connections.look_at_themselves();
                format!("{tokens} tokens and {certificates} names of certificates")
            });
            outcomes.push((Part::Tokens, outcome));
        }
        if outcomes.is_empty() {
            return;
        }
        for (part, outcome) in &outcomes {
            self.refused.note(*part, outcome.is_ok());
        }
        self.metrics.ended(self.refused.0.is_empty());
        for (_, outcome) in outcomes {
            match outcome {
                Ok(what) => tracing::info!("read again and taken over: {what}"),
                Err(error) => tracing::error!("cannot take a change over, and go on as before: {error}"),
            }
        }
    }

    /// Reads the settings again, if there is where they came from, and takes over those that can be.
    fn reload_settings(&mut self) -> Option<Result<String, ServerError>> {
        let new = (self.source.as_ref()?.read)().and_then(|settings| {
            logging::set_level(&settings.log)?;
            Ok(settings)
        });
        let new = match new {
            Ok(new) => new,
            Err(error) => return Some(Err(error)),
        };
        let (held, wanted) = (flat(&self.settings.to_config()), flat(&new.to_config()));
        let mut taken = Vec::new();
        for field in FIELDS.iter().filter(|field| held.get(field.path) != wanted.get(field.path)) {
            let text = |value: Option<&String>| value.map_or_else(|| "nothing".to_owned(), Clone::clone);
            let (from, to) = (text(held.get(field.path)), text(wanted.get(field.path)));
            if field.reloads {
                taken.push(format!("{} from {from} to {to}", field.path));
            } else {
                tracing::warn!("{} changed from {from} to {to}, which takes a restart: it stays", field.path);
            }
        }
        // Taken apart whole, so that a new limit asks whether it can change.
        let Limits {
            connections: _,
            frame_bytes: _,
            pipeline_requests,
            pipeline_bytes,
            output_bytes,
            in_flight_bytes,
            queue_jobs: _,
            frame_deadline,
            write_deadline,
            idle_deadline,
            auth_deadline,
            handshake_deadline,
            drain_deadline,
            slow_request,
        } = new.limits;
        let limits = Limits {
            pipeline_requests,
            pipeline_bytes,
            output_bytes,
            in_flight_bytes,
            frame_deadline,
            write_deadline,
            idle_deadline,
            auth_deadline,
            handshake_deadline,
            drain_deadline,
            slow_request,
            ..self.settings.limits.clone()
        };
        self.shared.set_limits(limits.clone());
        self.settings.limits = limits;
        self.settings.log.level = new.log.level;
        Some(Ok(if taken.is_empty() { "settings, with no change".to_owned() } else { taken.join(", ") }))
    }
}

async fn received(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}
