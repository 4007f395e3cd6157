//! `Grants`: what the file of tokens says, one name, role and proof an entry.
//!
//! What must hold: nothing of the file's text is ever repeated in an error, because any of it may be a secret; tokens
//! are kept as their SHA-256 only; looking for one takes the same time whichever it is, and whether it is there.

use std::collections::HashSet;
use std::path::Path;

use kvs_protocol::names::Role;
use serde::Deserialize;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::error::ServerError;
use crate::files::read_bounded;

/// The most entries of one file: each attempt to authenticate looks at all of them.
const MAX_ENTRIES: usize = 1024;
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 1024;
/// What a token should have at least, in bytes, to be beyond guessing.
const GOOD_TOKEN_BYTES: usize = 16;
/// The form of an entry, for errors.
const FORM: &str = "an entry of `tokens` has `name`, `role` (read or write) and `token` or `sha256`, an entry of \
    `certificates` has `name`, `role` and `dns` or `uri`";

/// The SHA-256 of a token.
pub(crate) type Digest = [u8; 32];

/// The SHA-256 of a token.
pub(crate) fn digest(token: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    bytes
}

/// Who is granted what.
#[derive(Default)]
pub(crate) struct Grants {
    tokens: Vec<TokenGrant>,
    certificates: Vec<CertificateGrant>,
    /// What any certificate of our authority permits, where no file says more.
    any_certificate: Option<Role>,
    /// How many tokens are short enough to be guessed.
    pub(crate) short_tokens: usize,
}

struct TokenGrant {
    digest: Digest,
    role: Role,
}

struct CertificateGrant {
    /// A DNS name or URI of the certificate, in lower case.
    name: String,
    role: Role,
}

/// The file, as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tokens: Vec<TokenEntry>,
    #[serde(default)]
    certificates: Vec<CertificateEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    role: Role,
    token: Option<String>,
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    role: Role,
    dns: Option<String>,
    uri: Option<String>,
}

impl Grants {
    /// What any certificate of our authority permits, where no file says more.
    pub(crate) fn of_any_certificate() -> Self {
        Self { any_certificate: Some(Role::Write), ..Self::default() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ServerError::Configuration`] names the file and what is wrong, without a word of it.
    pub(crate) fn read(path: &Path) -> Result<Self, ServerError> {
        let wrong = |cause: &str| ServerError::Configuration(format!("auth-tokens {}: {cause}", path.display()));
        let bytes = read_bounded(path).map_err(|error| wrong(&error.to_string()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8; write it again as text"))?;
        Self::parse(text).map_err(|cause| wrong(&cause))
    }

    /// Reads the file's text. A file with one word and nothing else is one token that permits everything.
    ///
    /// # Errors
    /// What is wrong and where, without a word of the file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let word = text.trim();
        if word.is_empty() {
            return Err(format!("the file is empty; {FORM}"));
        }
        if !word.contains(|character: char| character.is_whitespace() || character == ':') {
            if is_empty_document(word) {
                return Err(format!("the file says nothing; {FORM}"));
            }
            let mut grants = Self::default();
            grants.add_token(word, Role::Write)?;
            return Ok(grants);
        }
        let file: File = serde_yaml::from_str(text).map_err(|error| match error.location() {
            Some(place) => format!("not understood at line {} column {}; {FORM}", place.line(), place.column()),
            None => format!("not understood; {FORM}"),
        })?;
        if file.tokens.len() + file.certificates.len() > MAX_ENTRIES {
            return Err(format!("more than the limit of {MAX_ENTRIES} entries; take some away"));
        }
        let mut grants = Self::default();
        let mut names = HashSet::new();
        for (number, entry) in (1..).zip(file.tokens) {
            let TokenEntry { name, role, token, sha256 } = entry;
            let wrong = |cause: &str| format!("entry {number} of `tokens`: {cause}");
            if name.is_empty() || !names.insert(name) {
                return Err(wrong("its `name` is empty or stands for another token too; give each one of its own"));
            }
            match (token, sha256) {
                (Some(token), None) => grants.add_token(&token, role).map_err(|cause| wrong(&cause))?,
                (None, Some(hex)) => {
                    let digest = from_hex(&hex)
                        .ok_or_else(|| wrong("`sha256` is not 64 hexadecimal digits; printf %s TOKEN | sha256sum"))?;
                    grants.tokens.push(TokenGrant { digest, role });
                }
                _ => return Err(wrong("it needs one of `token` and `sha256`")),
            }
        }
        names.clear();
        for (number, entry) in (1..).zip(file.certificates) {
            let CertificateEntry { name, role, dns, uri } = entry;
            let wrong = |cause: &str| format!("entry {number} of `certificates`: {cause}");
            if name.is_empty() || !names.insert(name) {
                return Err(wrong("its `name` is empty or stands for another one too; give each one of its own"));
            }
            match (dns, uri) {
                (Some(name), None) | (None, Some(name)) if !name.is_empty() => {
                    grants.certificates.push(CertificateGrant { name: name.to_ascii_lowercase(), role });
                }
                _ => return Err(wrong("it needs one of `dns` and `uri`")),
            }
        }
        Ok(grants)
    }

    fn add_token(&mut self, token: &str, role: Role) -> Result<(), String> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(format!("a token has 1 to {MAX_TOKEN_BYTES} bytes; openssl rand -hex 32 makes a good one"));
        }
        self.short_tokens += usize::from(token.len() < GOOD_TOKEN_BYTES);
        self.tokens.push(TokenGrant { digest: digest(token.as_bytes()), role });
        Ok(())
    }

    /// What the token with this digest permits. Looks at all of them, whichever it is.
    pub(crate) fn of_token(&self, digest: &Digest) -> Option<Role> {
        let mut found = 0_u8;
        for grant in &self.tokens {
            let number = match grant.role {
                Role::Read => 1,
                Role::Write => 2,
            };
            found.conditional_assign(&number, grant.digest.ct_eq(digest));
        }
        match found {
            0 => None,
            1 => Some(Role::Read),
            _ => Some(Role::Write),
        }
    }

    /// What a verified certificate with these names permits: the most that one of them does.
    pub(crate) fn of_certificate(&self, names: &[String]) -> Option<Role> {
        let granted = |role: Role| {
            self.certificates
                .iter()
                .any(|grant| grant.role == role && names.iter().any(|name| name.eq_ignore_ascii_case(&grant.name)))
        };
        match self.any_certificate {
            Some(role) => Some(role),
            None if granted(Role::Write) => Some(Role::Write),
            None if granted(Role::Read) => Some(Role::Read),
            None => None,
        }
    }

    /// How many tokens and how many certificates are granted something.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.tokens.len(), self.certificates.len())
    }
}

/// Whether one word is YAML for nothing, as templates without values leave it: as a token, anybody would guess it.
fn is_empty_document(word: &str) -> bool {
    use serde_yaml::Value;
    match serde_yaml::from_str(word) {
        Ok(Value::Null | Value::Bool(_) | Value::Sequence(_) | Value::Mapping(_)) => true,
        Ok(Value::String(text)) => text.is_empty(),
        Ok(Value::Number(_) | Value::Tagged(_)) | Err(_) => false,
    }
}

fn from_hex(text: &str) -> Option<Digest> {
    let bytes = text.trim().as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (place, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *place = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).expect("two hexadecimal digits fill a byte");
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_or_its_digest_grants_its_role_and_nothing_else_does() {
        let text = "tokens:\n- {name: a, role: write, token: one-of-some-length}\n\
            - {name: b, role: read, sha256: 2333c02a42fff984c3d1eb34b94d4a445e861a79493831ef6ffe695c4b31f6bf}\n";
        let grants = Grants::parse(text).unwrap();
        assert_eq!(grants.of_token(&digest(b"one-of-some-length")), Some(Role::Write));
        // printf %s second-token-of-some-length | sha256sum
        assert_eq!(grants.of_token(&digest(b"second-token-of-some-length")), Some(Role::Read));
        for wrong in [&b""[..], b"one-of-some-lengt", b"one-of-some-length\n", b"One-of-some-length"] {
            assert_eq!(grants.of_token(&digest(wrong)), None);
        }
    }

    #[test]
    fn a_file_with_one_word_is_a_token() {
        let grants = Grants::parse("0123456789012345678901234567890\n").unwrap();
        assert_eq!(grants.of_token(&digest(b"0123456789012345678901234567890")), Some(Role::Write));
        assert_eq!(Grants::parse("short").unwrap().short_tokens, 1);
        assert_eq!(Grants::parse("*no-yaml-but-a-token").unwrap().counts(), (1, 0));
        for nothing in ["{}", "[]", "null", "~", "---", "\"\"", "''", "false", "\u{feff}"] {
            let cause = Grants::parse(nothing).err().unwrap_or_else(|| panic!("{nothing} is no token"));
            assert!(cause.contains("the file says nothing"), "{cause}");
        }
    }

    #[test]
    fn names_of_certificates_are_compared_whole_and_the_highest_role_counts() {
        let text = "certificates:\n- {name: a, role: read, dns: A.example}\n- {name: b, role: write, uri: 'x:/b'}\n";
        let grants = Grants::parse(text).unwrap();
        let of = |names: &[&str]| grants.of_certificate(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["a.example"]), Some(Role::Read));
        assert_eq!(of(&["a.example", "x:/b"]), Some(Role::Write));
        assert_eq!((of(&[]), of(&["b.a.example"]), of(&["*.example"])), (None, None, None));
        assert_eq!(Grants::of_any_certificate().of_certificate(&[]), Some(Role::Write));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_without_a_secret() {
        for (text, expected) in [
            ("", "the file is empty"),
            ("tokens:\n- name: a\n  role: admin-canary\n  token: canary\n", "line 3 column 9"),
            ("tokens:\n- {name: a, role: read}\n", "entry 1 of `tokens`: it needs one of `token` and `sha256`"),
            ("tokens:\n- {name: a, role: read, sha256: canary}\n", "entry 1 of `tokens`: `sha256` is not 64"),
            ("tokens:\n- {name: a, role: read, token: ''}\n", "1 to 1024 bytes"),
            ("tokens:\n- {name: a, role: read, token: x}\n- {name: a, role: read, token: y}\n", "entry 2 of `tokens`"),
            ("canary: write\n", "line 1 column 1"),
            ("canary and more", "not understood"),
            ("tokens: [canary", "not understood at line"),
            ("certificates:\n- {name: a, role: read}\n", "entry 1 of `certificates`: it needs one of"),
        ] {
            let cause = Grants::parse(text).err().unwrap();
            assert!(cause.contains(expected), "{text:?}: {cause}");
            assert!(!cause.contains("canary"), "{cause}");
        }
    }
}
