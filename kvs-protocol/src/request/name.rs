//! `VerbName`: a verb without what it is about, for whoever decides or counts by verb.

use std::fmt;

use super::Verb;

/// Declares the names with one spelling each and the list of all.
macro_rules! names {
    ($($(#[$meta:meta])* $variant:ident => $word:literal),+ $(,)?) => {
        /// The name of a verb. `set` has two forms, plain and with a condition, and one name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum VerbName {
            $($(#[$meta])* $variant,)+
        }

        impl VerbName {
            /// Every name, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in a request.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

names! {
    /// Answers, no more.
    Ping => "ping",
    /// Says who asks.
    Auth => "auth",
    /// Reads a value.
    Get => "get",
    /// Looks for a key.
    Exists => "exists",
    /// Measures a value.
    Length => "length",
    /// Stores a value.
    Set => "set",
    /// Reads and removes a value.
    Take => "take",
    /// Removes a key.
    Remove => "rm",
    /// Stores and removes many.
    Batch => "batch",
    /// Reads entries.
    Scan => "scan",
    /// Counts keys.
    Count => "count",
    /// Removes all keys.
    Clear => "clear",
    /// Tells of the server.
    Info => "info",
    /// Reads everything.
    Backup => "backup",
}

impl fmt::Display for VerbName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Verb {
    /// The verb's name.
    #[must_use]
    pub const fn name(&self) -> VerbName {
        match self {
            Self::Ping => VerbName::Ping,
            Self::Auth { .. } => VerbName::Auth,
            Self::Get { .. } => VerbName::Get,
            Self::Exists { .. } => VerbName::Exists,
            Self::Length { .. } => VerbName::Length,
            Self::Set { .. } | Self::SetIf { .. } => VerbName::Set,
            Self::Take { .. } => VerbName::Take,
            Self::Remove { .. } => VerbName::Remove,
            Self::Batch(_) => VerbName::Batch,
            Self::Scan { .. } => VerbName::Scan,
            Self::Count => VerbName::Count,
            Self::Clear => VerbName::Clear,
            Self::Info { .. } => VerbName::Info,
            Self::Backup => VerbName::Backup,
        }
    }
}
