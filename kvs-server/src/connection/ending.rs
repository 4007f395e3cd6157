//! `Ending`: why a connection ended, as the metrics tell it.

/// Why a connection ended; the label `reason` of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client closed it.
    Client,
    /// The client said that it goes.
    Quit,
    /// The client sent what can't be read.
    Protocol,
    /// The client was idle, or too slow in sending a line.
    Timeout,
    /// The client did not read its answers.
    Unread,
    /// There was no memory for the client's large line.
    Busy,
    /// No TLS was agreed on.
    Tls,
    /// The client did not authenticate in time, or failed too often.
    Unauthenticated,
    /// The server is ending.
    Drain,
    /// Reading or writing failed.
    Error,
}

impl Ending {
    pub(crate) const ALL: [Self; 10] = [
        Self::Client,
        Self::Quit,
        Self::Protocol,
        Self::Timeout,
        Self::Unread,
        Self::Busy,
        Self::Tls,
        Self::Unauthenticated,
        Self::Drain,
        Self::Error,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Quit => "quit",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Unread => "unread",
            Self::Busy => "busy",
            Self::Tls => "tls",
            Self::Unauthenticated => "unauthenticated",
            Self::Drain => "drain",
            Self::Error => "error",
        }
    }
}
