//! `Access` and `Session`: who may do what. The one place where that is decided.
//!
//! What must hold:
//! * [`need`] names every verb, so that a new one can't be forgotten; whatever is not granted is refused;
//! * before a client has authenticated it gets nothing but `auth` and `ping` (as which RESP's commands count that touch no
//!   store, such as ECHO), one request at a time, in small frames, for a short time, and few tries; so again when its token is revoked;
//! * a token is compared in a time that says nothing about it, and never stands in an error, a log line or a metric;
//! * what the file of tokens no longer grants, sessions that are open lose too.

mod grants;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kvs_protocol::names::Role;
use kvs_protocol::{ErrorCode, Token, VerbName, WireError};
use prometheus::IntCounter;
use tokio::runtime::Handle;

use crate::limits::{FAILED_AUTH_DELAY, MAX_FAILED_AUTHS};

pub(crate) use grants::{Digest, Grants, digest};

/// What a client is told that has failed too often.
const EXPELLED: &str = "WRONGPASS the server knows no such token; the connection is closed";

/// What a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it is how a client begins.
    Nothing,
    /// At least this role.
    Role(Role),
}

/// What this verb needs.
const fn need(verb: VerbName) -> Need {
    match verb {
        VerbName::Ping | VerbName::Auth => Need::Nothing,
        VerbName::Get | VerbName::Exists | VerbName::Length | VerbName::Scan | VerbName::Count | VerbName::Info => {
            Need::Role(Role::Read)
        }
        // A backup shows what was overwritten and removed as well, and keeps the disk busy for long.
        VerbName::Set | VerbName::Take | VerbName::Remove | VerbName::Batch | VerbName::Clear | VerbName::Backup => {
            Need::Role(Role::Write)
        }
    }
}

/// Who may do what on one server.
pub(crate) struct Access {
    /// Whether clients must authenticate at all. Never changes while the server runs.
    is_required: bool,
    /// Replaced whole when the file of tokens changes. Held for a look or a swap.
    grants: RwLock<Arc<Grants>>,
    /// Counts the replacements, so that a session asks again after one and not before.
    generation: AtomicU64,
    failures: IntCounter,
    refusals: IntCounter,
    /// Where the answers to failed attempts wait.
    runtime: Handle,
}

impl Access {
    /// Everything is permitted to everybody, or, with grants, what these say.
    pub(crate) fn new(
        grants: Option<Grants>,
        failures: IntCounter,
        refusals: IntCounter,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            is_required: grants.is_some(),
            grants: RwLock::new(Arc::new(grants.unwrap_or_default())),
            generation: AtomicU64::new(1),
            failures,
            refusals,
            runtime,
        })
    }

    /// Permits from now on what these grants say, in sessions that are open too.
    pub(crate) fn replace(&self, grants: Grants) {
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grants);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn grants(&self) -> Arc<Grants> {
        Arc::clone(&self.grants.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who one client is, as far as it has proved it.
pub(crate) struct Session {
    access: Arc<Access>,
    /// Names in the client's certificate, which TLS has verified.
    certificate_names: Option<Vec<String>>,
    /// The digest of the token that the client gave. Held while a role is decided, so that nobody keeps one that was
    /// decided without the token; only the grants are looked at meanwhile.
    token: Mutex<Option<Digest>>,
    /// The role as a number, see [`Session::role`]; right as long as `decided` is the generation of the access.
    role: AtomicU8,
    /// The generation for which `role` was decided; 0 before the first time.
    decided: AtomicU64,
    failed: AtomicU32,
}

impl Session {
    /// The session of a client that showed a certificate with these names, or none.
    pub(crate) fn new(access: Arc<Access>, certificate_names: Option<Vec<String>>) -> Arc<Self> {
        Arc::new(Self {
            access,
            certificate_names,
            token: Mutex::default(),
            role: AtomicU8::new(0),
            decided: AtomicU64::new(0),
            failed: AtomicU32::new(0),
        })
    }

    /// Whether the client may have this done now.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`] and [`ErrorCode::Forbidden`].
    pub(crate) fn authorize(&self, verb: VerbName) -> Result<(), WireError> {
        let refusal = match (need(verb), self.access.is_required) {
            (_, false) | (Need::Nothing, _) => return Ok(()),
            (Need::Role(needed), true) => match self.role() {
                Some(role) if role == needed || role == Role::Write => return Ok(()),
                Some(role) => WireError::new(
                    ErrorCode::Forbidden,
                    format!("the role `{role}` does not permit `{verb}`; use a token with the role `{needed}`"),
                ),
                None => {
                    WireError::new(ErrorCode::Unauthenticated, "authenticate first: {\"auth\":{\"token\":\"...\"}}")
                }
            },
        };
        self.access.refusals.inc();
        Err(refusal)
    }

    /// Looks whether a token is one that is granted something, and gives the answer: at once when it is, and otherwise
    /// after a while, so that guessing takes long.
    pub(crate) fn authenticate(&self, token: &Token, answer: impl FnOnce(Result<(), WireError>) + Send + 'static) {
        if !self.access.is_required {
            let message = "this server asks for no authentication; send no token";
            return answer(Err(WireError::new(ErrorCode::InvalidRequest, message)));
        }
        if self.is_expelled() {
            // Not even looked at: what was sent ahead in one go is no way to guess more often.
            return answer(Err(WireError::new(ErrorCode::Unauthenticated, EXPELLED)));
        }
        let digest = digest(token.as_bytes());
        if self.access.grants().of_token(&digest).is_some() {
            let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
            *token = Some(digest);
            self.decided.store(0, Ordering::SeqCst);
            drop(token);
            return answer(Ok(()));
        }
        self.access.failures.inc();
        self.failed.fetch_add(1, Ordering::SeqCst);
        // The first word is what clients of Redis look for.
        let message = match self.is_expelled() {
            false => "WRONGPASS the server knows no such token",
            true => EXPELLED,
        };
        self.access.runtime.spawn(async move {
            tokio::time::sleep(FAILED_AUTH_DELAY).await;
            answer(Err(WireError::new(ErrorCode::Unauthenticated, message)));
        });
    }

    /// Whether the client still has to authenticate: then its frames are small, and it has one request at a time.
    pub(crate) fn is_stranger(&self) -> bool {
        self.access.is_required && self.role().is_none()
    }

    /// Whether the client has failed too often, and is to be disconnected when it has its answer.
    pub(crate) fn is_expelled(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= MAX_FAILED_AUTHS
    }

    /// What the client may do. Decided anew only after the grants or the token have changed.
    fn role(&self) -> Option<Role> {
        let generation = self.access.generation.load(Ordering::SeqCst);
        if self.decided.load(Ordering::SeqCst) != generation {
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
            let grants = self.access.grants();
            let by_token = token.and_then(|digest| grants.of_token(&digest));
            let by_certificate = self.certificate_names.as_ref().and_then(|names| grants.of_certificate(names));
            let role = match (by_token, by_certificate) {
                (Some(Role::Write), _) | (_, Some(Role::Write)) => 2,
                (Some(Role::Read), _) | (_, Some(Role::Read)) => 1,
                (None, None) => 0,
            };
            // In this order: a look between the two decides once more, and never takes an old role for a new one.
            self.role.store(role, Ordering::SeqCst);
            self.decided.store(generation, Ordering::SeqCst);
            drop(token);
        }
        match self.role.load(Ordering::SeqCst) {
            2 => Some(Role::Write),
            1 => Some(Role::Read),
            _ => None,
        }
    }
}
