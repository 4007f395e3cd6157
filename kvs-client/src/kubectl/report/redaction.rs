//! `Redaction`: takes out what nobody else may know.
//!
//! What must hold: every text passes it before it is written. It knows the values of the Secrets that the store names,
//! whole, line by line, word by word and in base64; and what secrets look like, for those that it could not read: private
//! keys, bearer tokens, JSON Web Tokens, the values of environment variables.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// What stands in its place.
const REMOVED: &str = "[removed]";
/// A whole value shorter than this, in bytes, is no secret and stands in every text.
const SHORTEST_VALUE_BYTES: usize = 3;
/// The same for a part of a value, such as a word of a list of tokens: shorter ones are words of that list's own form.
const SHORTEST_PART_BYTES: usize = 8;
/// A JSON Web Token has three parts and is longer than this, in bytes.
const SHORTEST_WEB_TOKEN_BYTES: usize = 32;

/// What must not get out.
#[derive(Default)]
pub(super) struct Redaction {
    /// The longest first, so that no rest of one stays.
    secrets: Vec<String>,
}

impl Redaction {
    /// Learns a value.
    pub(super) fn learn(&mut self, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let whole = text.trim();
        let mut learn = |secret: &str, shortest: usize| {
            if secret.len() >= shortest {
                self.secrets.push(secret.to_owned());
            }
        };
        learn(whole, SHORTEST_VALUE_BYTES);
        learn(&STANDARD.encode(value), SHORTEST_VALUE_BYTES);
        learn(&STANDARD.encode(whole), SHORTEST_VALUE_BYTES);
        learn(URL_SAFE_NO_PAD.encode(whole).as_str(), SHORTEST_VALUE_BYTES);
        whole.lines().for_each(|line| learn(line.trim(), SHORTEST_PART_BYTES));
        let ends = |letter: char| letter.is_whitespace() || "\"'{}[],:".contains(letter);
        whole.split(ends).for_each(|word| learn(word, SHORTEST_PART_BYTES));
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.secrets.dedup();
    }

    /// A text without any of it.
    pub(super) fn of_text(&self, text: &str) -> String {
        let mut text = without_private_keys(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REMOVED);
            }
        }
        without_bearers(&text)
    }
}

/// Takes out what an object holds in fields that people put secrets into.
pub(super) fn of_object(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            // Who changed what is long and helps nobody; the last applied text is the object once more.
            fields.remove("managedFields");
            if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            if let Some(Value::Array(variables)) = fields.get_mut("env") {
                for variable in variables.iter_mut().filter_map(|variable| variable.get_mut("value")) {
                    *variable = REMOVED.into();
                }
            }
            fields.values_mut().for_each(of_object);
        }
        Value::Array(items) => items.iter_mut().for_each(of_object),
        _ => {}
    }
}

/// Private keys in PEM, on lines of their own or within a string.
fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const MARK: &str = "PRIVATE KEY-----";
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(BEGIN) {
        let label = &rest[start + BEGIN.len()..];
        let is_key = label.find("-----").is_some_and(|end| label[..end].ends_with("PRIVATE KEY"));
        let end = if is_key {
            let body = start + BEGIN.len() + label.find(MARK).map_or(0, |place| place + MARK.len());
            // One that is cut off is taken out to the end of the text.
            rest[body..].find(MARK).map_or(rest.len(), |place| body + place + MARK.len())
        } else {
            start + BEGIN.len()
        };
        kept.push_str(&rest[..start]);
        kept.push_str(if is_key { REMOVED } else { BEGIN });
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// The word after `Bearer`, and words that are JSON Web Tokens.
fn without_bearers(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.=+/~".contains(letter);
    let (mut kept, mut rest, mut is_after_bearer) = (String::with_capacity(text.len()), text, false);
    while let Some(start) = rest.find(is_part) {
        let end = rest[start..].find(|letter: char| !is_part(letter)).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        let is_web_token =
            word.starts_with("eyJ") && word.matches('.').count() == 2 && word.len() >= SHORTEST_WEB_TOKEN_BYTES;
        kept.push_str(&rest[..start]);
        kept.push_str(if is_web_token || is_after_bearer { REMOVED } else { word });
        is_after_bearer = word.eq_ignore_ascii_case("bearer");
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_taken_out_in_every_form() {
        let mut redaction = Redaction::default();
        redaction.learn(b"canary-of-the-token\n");
        redaction.learn(b"tokens:\n- {name: a, role: write, token: canary-in-a-list}\n");
        let base64 = STANDARD.encode("canary-of-the-token\n");
        let text = redaction.of_text(&format!("a canary-of-the-token, {base64}; {{\"token\": \"canary-in-a-list\"}}"));
        assert!(!text.contains("canary") && !text.contains(&base64) && text.starts_with("a [removed], "), "{text}");
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_a_certificate_stays() {
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\
                    -----BEGIN EC PRIVATE KEY-----\nBBBB\n-----END EC PRIVATE KEY-----\nend \
                    authorization: Bearer abc.def x eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl y";
        let cleaned = Redaction::default().of_text(text);
        assert!(cleaned.contains("AAAA") && !cleaned.contains("BBBB"), "{cleaned}");
        assert!(cleaned.ends_with("end authorization: Bearer [removed] x [removed] y"), "{cleaned}");
        let cut = Redaction::default().of_text("x -----BEGIN PRIVATE KEY-----\nCCCC");
        assert_eq!(cut, "x [removed]");
        let escaped =
            Redaction::default().of_text(r#""-----BEGIN PRIVATE KEY-----\nDD\n-----END PRIVATE KEY-----\n" z"#);
        assert_eq!(escaped, r#""[removed]\n" z"#);
    }

    #[test]
    fn variables_of_containers_keep_their_names_only() {
        let mut pod = json!({"metadata": {"managedFields": [], "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "canary", "kept": "yes"}},
            "spec": {"containers": [{"env": [{"name": "A", "value": "canary"}, {"name": "B", "valueFrom": {}}]}]}});
        of_object(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains("canary") && text.contains("[removed]") && text.contains("\"kept\""), "{text}");
    }
}
