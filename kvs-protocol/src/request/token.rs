//! `Token`: a secret on its way.
//!
//! What must hold: no log line, error or dump shows it; its memory is overwritten when it is dropped; comparing two takes
//! the same time wherever they differ.

use std::fmt;

use zeroize::Zeroizing;

/// A secret.
#[derive(Clone)]
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// A token of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The secret itself, for whoever checks or sends it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(other.0.iter()).fold(0, |seen, (one, other)| seen | (one ^ other));
        self.0.len() == other.0.len() && std::hint::black_box(differences) == 0
    }
}

impl Eq for Token {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_and_is_compared_whole() {
        let token = Token::new("canary-secret");
        assert_eq!(format!("{token:?}"), "Token(hidden)");
        assert_eq!(token, Token::new("canary-secret"));
        assert_ne!(token, Token::new("canary-secreT"));
        assert_ne!(token, Token::new("canary-secret-and-more"));
        assert_eq!(token.as_bytes(), b"canary-secret");
    }
}
