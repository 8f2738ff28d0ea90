//! What of an address may be shown, and what must not: keys stand in user parts, paths and queries.

use reqwest::Url;

/// The public face of an address, and the secrets that must be taken out of foreign text.
#[derive(Clone)]
pub(super) struct Guarded {
    shown: String,
    secrets: Vec<String>,
}

impl Guarded {
    /// Looks at an address once.
    pub fn new(url: &Url) -> Self {
        Self { shown: shown(url), secrets: secrets(url) }
    }

    /// Scheme, host and port; the rest may be secret.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Takes every secret of the address out of foreign text: servers and libraries echo what they were sent.
    pub fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let more = if url.path().len() > 1 || url.query().is_some() { "/…" } else { "" };
    format!("{}://{}{port}{more}", url.scheme(), url.host_str().unwrap_or_default())
}

/// Whatever of an address may be a key: user, password, long parts of the path, values of the query.
///
/// Longest first, so that a secret within another one does not leave half of it standing.
fn secrets(url: &Url) -> Vec<String> {
    let path = url.path().split('/').filter(|part| part.len() >= 8);
    let query = url.query().into_iter().flat_map(|query| query.split('&'));
    let values = query.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
    let user = [url.username(), url.password().unwrap_or_default()];
    let texts = user.into_iter().chain(path).chain(values).map(str::to_owned).chain(decoded);
    let mut secrets: Vec<String> = texts.filter(|secret| !secret.is_empty()).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(url: &str) -> Guarded {
        Guarded::new(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn only_scheme_host_and_port_are_shown() {
        let cases = [
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
            ("ws://127.0.0.1:8546/", "ws://127.0.0.1:8546"),
            ("https://user:hunter2@node.example/", "https://node.example"),
            ("https://mainnet.example/v3/0123456789abcdef", "https://mainnet.example/…"),
            ("https://mainnet.example:444/?apikey=k3y", "https://mainnet.example:444/…"),
        ];
        for (url, shown) in cases {
            assert_eq!(guarded(url).shown(), shown);
        }
    }

    #[test]
    fn echoed_secrets_are_taken_out() {
        let text = guarded("https://user:hunter2@node.example/v3/0123456789abcdef?apikey=k%2By")
            .redact("project 0123456789abcdef of user with hunter2, k%2By or k+y: https://a/v3/0123456789abcdef");
        for secret in ["0123456789abcdef", "user", "hunter2", "k%2By", "k+y"] {
            assert!(!text.contains(secret), "{secret} stands in {text}");
        }
    }
}
