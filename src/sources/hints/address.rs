//! One address that pushes: where it is, what of it may be shown, and what must not.

use reqwest::Url;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::sources::secrets::Guarded;
use crate::sources::tls;

/// One address of a list.
pub(super) struct Address {
    guarded: Guarded,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl Address {
    /// Reads an address; nothing is sent. `place` is its position in the list, from 1: the text may hold a key, so no
    /// error repeats it.
    pub fn new(text: &str, place: usize) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|e| format!("hint {place} is no URL: {e}; write ws://HOST:PORT"))?;
        if !matches!(url.scheme(), "ws" | "wss") || url.host_str().is_none() {
            return Err(format!("hint {place} has the scheme `{}`; write ws:// or wss://", url.scheme()));
        }
        let authorization = authorization(&url).map_err(|e| format!("hint {place}: {e}"))?;
        Ok(Self { guarded: Guarded::new(&url), url, authorization })
    }

    /// Scheme, host and port; the rest may be secret.
    pub fn shown(&self) -> &str {
        self.guarded.shown()
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "wss"
    }

    /// The request that opens the socket.
    pub fn request(&self) -> Result<Request, String> {
        let mut bare = self.url.clone();
        // What stands before the host travels in a header.
        let _ = (bare.set_username(""), bare.set_password(None), bare.set_fragment(None));
        let mut request = bare.as_str().into_client_request().map_err(|e| e.to_string())?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }

    /// Takes every secret of the address out of foreign text: servers and libraries echo what they were sent.
    pub fn redact(&self, text: &str) -> String {
        self.guarded.redact(text)
    }
}

/// The header that user and password become, made by the HTTP client, which knows how.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let fault = |_| "its user and password cannot be sent; write them percent-encoded".to_owned();
    let http = url.as_str().replacen("ws", "http", 1);
    tls::install();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(fault)?;
    let request = client.get(http).build().map_err(fault)?;
    Ok(request.headers().get("authorization").cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_travel_in_a_header_and_are_shown_nowhere() {
        let address =
            Address::new("wss://user:pa%20ss@node.example:8546/v3/0123456789abcdef?key=k3y", 1).expect("good");
        assert_eq!((address.shown(), address.is_tls()), ("wss://node.example:8546/…", true));
        let request = address.request().expect("a request");
        assert_eq!(request.uri().to_string(), "wss://node.example:8546/v3/0123456789abcdef?key=k3y");
        assert_eq!(request.headers()["host"], "node.example:8546");
        // user:pa ss
        assert_eq!(request.headers()["authorization"], "Basic dXNlcjpwYSBzcw==");
        assert!(request.headers()["authorization"].is_sensitive());
        let text = address.redact("of user: 0123456789abcdef and k3y");
        assert_eq!(text, "of ***: *** and ***");
        let plain = Address::new("ws://127.0.0.1:8545", 1).expect("good");
        assert!(plain.request().expect("a request").headers().get("authorization").is_none());
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in ["s3cret", "http://s3cret@node.example", "ws://", "ws://s3cret:99999999/"] {
            let fault = Address::new(url, 2).err().expect("a fault");
            assert!(fault.contains("hint 2") && !fault.contains("s3cret"), "{fault}");
        }
    }
}
