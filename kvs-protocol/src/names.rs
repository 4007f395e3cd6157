//! The words that a person meets everywhere: as a flag, in the YAML file, in the resource and in a log line.
//!
//! What must hold: one spelling each, chosen by serde's `camelCase`, and `Display` and `FromStr` agree with it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is none of the ones that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{word}' is unknown; use one of: {known}")]
pub struct UnknownName {
    /// What kind of name was asked for, such as `engine`.
    pub what: &'static str,
    /// The word that was given.
    pub word: String,
    /// The words that are known, joined by a comma.
    pub known: String,
}

/// Declares a closed set of names with one spelling for serde, `Display`, `FromStr` and the list of all.
macro_rules! names {
    ($(#[$outer:meta])* $type:ident, $what:literal, { $($(#[$inner:meta])* $variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum $type {
            $($(#[$inner])* #[serde(rename = $word)] $variant,)+
        }

        impl $type {
            /// Every name, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The one spelling of this name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(word: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|name| name.as_str() == word).ok_or_else(|| UnknownName {
                    what: $what,
                    word: word.to_owned(),
                    known: Self::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

names! {
    /// Which engine keeps the data.
    EngineName, "engine", {
        /// Our own log-structured engine: JSON log, in-memory index, values on disk.
        #[default]
        Kvs => "kvs",
        /// The `sled` crate behind the same trait.
        Sled => "sled",
    }
}

names! {
    /// How the server runs the decoded batch of one connection's pending requests.
    PoolStrategy, "pool strategy", {
        /// A new thread for each job.
        Naive => "naive",
        /// A bounded queue that a fixed number of workers share.
        SharedQueue => "sharedQueue",
        /// Rayon's work-stealing pool.
        Rayon => "rayon",
        /// On the connection's own I/O task: no hand-off between threads.
        #[default]
        Inline => "inline",
    }
}

names! {
    /// When an acknowledged write is on stable storage.
    SyncMode, "sync mode", {
        /// Before it is acknowledged: survives the loss of power.
        #[default]
        Always => "always",
        /// Within a fixed time after it was acknowledged: that much can be lost with the power.
        Interval => "interval",
        /// When the operating system likes: survives the death of the process, not of the machine.
        Os => "os",
    }
}

names! {
    /// How the server writes its own log lines.
    LogFormat, "log format", {
        /// Readable on a terminal, JSON elsewhere.
        #[default]
        Auto => "auto",
        /// For people.
        Text => "text",
        /// One JSON object a line.
        Json => "json",
    }
}

names! {
    /// What a client that has proved who it is may do.
    Role, "role", {
        /// Look: everything that changes nothing.
        #[default]
        Read => "read",
        /// Everything.
        Write => "write",
    }
}

names! {
    /// Whether clients must show a certificate.
    ClientCertificates, "mode of client certificates", {
        /// A client may show one; one that is shown must be valid.
        Optional => "optional",
        /// Without a valid one there is no connection.
        #[default]
        Required => "required",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_spelled_the_same_way_everywhere() {
        for strategy in PoolStrategy::ALL {
            let word = serde_json::to_string(strategy).unwrap();
            assert_eq!(word, format!("\"{strategy}\""));
            assert_eq!(strategy.as_str().parse::<PoolStrategy>().unwrap(), *strategy);
        }
        for engine in EngineName::ALL {
            assert_eq!(engine.to_string().parse::<EngineName>().unwrap(), *engine);
        }
        for mode in SyncMode::ALL {
            assert_eq!(mode.to_string().parse::<SyncMode>().unwrap(), *mode);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "shared".parse::<PoolStrategy>().unwrap_err().to_string();
        assert_eq!(error, "pool strategy 'shared' is unknown; use one of: naive, sharedQueue, rayon, inline");
    }
}
