//! `Store`: an engine as the server holds it, whichever it is.

use kvs_engine::{Completion, Error, KvsEngine, Operation, Result, Stats};

/// The part of [`KvsEngine`] that the server needs, in a form that can be chosen when it starts.
pub(crate) trait Store: Send + Sync + 'static {
    /// As [`KvsEngine::submit`].
    fn submit(&self, operation: Operation, completion: Completion);
    /// As [`KvsEngine::stats`].
    fn stats(&self) -> Stats;
    /// As [`KvsEngine::fatal`].
    fn fatal(&self) -> Option<Error>;
    /// As [`KvsEngine::close`].
    fn close(&self) -> Result<()>;
}

impl<E: KvsEngine> Store for E {
    fn submit(&self, operation: Operation, completion: Completion) {
        KvsEngine::submit(self, operation, completion);
    }

    fn stats(&self) -> Stats {
        KvsEngine::stats(self)
    }

    fn fatal(&self) -> Option<Error> {
        KvsEngine::fatal(self)
    }

    fn close(&self) -> Result<()> {
        KvsEngine::close(self)
    }
}
