//! Handshakes, and when the server's certificate ends.

use prometheus::{IntCounter, IntGauge};

use super::catalogue;
use super::registry::Builder;

/// What is counted for TLS.
#[derive(Clone)]
pub(crate) struct TlsMetrics {
    pub(crate) succeeded: IntCounter,
    pub(crate) failed: IntCounter,
    expiry: IntGauge,
}

impl TlsMetrics {
    pub(super) fn new(builder: &Builder) -> Self {
        let handshakes = builder.counters(&catalogue::TLS_HANDSHAKES);
        Self {
            succeeded: handshakes.with_label_values(&["ok"]),
            failed: handshakes.with_label_values(&["error"]),
            expiry: builder.gauge(&catalogue::TLS_CERTIFICATE_EXPIRY),
        }
    }

    /// The certificate that is served from now on ends then, in seconds since 1970, as far as that is known.
    pub(crate) fn expires(&self, expires_s: Option<i64>) {
        self.expiry.set(expires_s.unwrap_or(0));
    }
}
