//! The shape of an event, and which paths of it can be mapped.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One event. Written as JSON its members stand in this order, those of `additional` by name; what is empty is left
/// out, `metadata` and `security_result` apart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Event {
    /// What the event is.
    pub metadata: Metadata,
    /// Who acted.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub principal: Noun,
    /// On what.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub target: Noun,
    /// How it went over the network.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub network: Network,
    /// How grave it is; always one.
    pub security_result: Vec<SecurityResult>,
    /// What the line says besides: values of JSON stay as they are, all others are text.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub additional: Map<String, Value>,
}

/// What the event is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// RFC 3339 in UTC, with as many digits of the second as it has.
    pub event_timestamp: String,
    /// A type of UDM, `GENERIC_EVENT` unless the mapping says otherwise.
    pub event_type: String,
    /// Who makes the product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_name: Option<String>,
    /// The product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// The id of the line.
    pub product_log_id: String,
    /// The product's own name for this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_event_type: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$member:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$member])* #[serde(default, skip_serializing_if = "is_empty")] pub $field: $type,)*
        }
    };
}

part! {
    /// A participant.
    Noun {
        /// Its name in the network.
        hostname: Option<String>,
        /// Its addresses.
        ip: Vec<IpAddr>,
        /// Its port.
        port: Option<u16>,
        /// The account.
        user: User,
        /// The process.
        process: Process,
        /// The program or service.
        application: Option<String>,
        /// The address of what was asked for.
        url: Option<String>,
        /// A thing that has a name.
        resource: Resource,
        /// A file.
        file: File,
    }
}

part! {
    /// An account.
    User {
        /// Its name.
        userid: Option<String>,
    }
}

part! {
    /// A process.
    Process {
        /// Its number.
        pid: Option<String>,
    }
}

part! {
    /// A thing that has a name.
    Resource {
        /// The name.
        name: Option<String>,
    }
}

part! {
    /// A file.
    File {
        /// Its path.
        full_path: Option<String>,
    }
}

part! {
    /// How it went over the network.
    Network {
        /// Such as HTTP or SSH.
        application_protocol: Option<String>,
        /// Bytes from the principal.
        sent_bytes: Option<u64>,
        /// Bytes to the principal.
        received_bytes: Option<u64>,
        /// The session.
        session_id: Option<String>,
        /// What HTTP adds.
        http: Http,
    }
}

part! {
    /// What HTTP adds.
    Http {
        /// GET and so on.
        method: Option<String>,
        /// 200 and so on.
        response_code: Option<u16>,
        /// What the client says that it is.
        user_agent: Option<String>,
        /// Where the client comes from.
        referral_url: Option<String>,
    }
}

/// How grave it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SecurityResult {
    /// A severity of UDM; `UNKNOWN_SEVERITY` where nothing says it.
    pub severity: String,
    /// The word or number that the line has for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity_details: Option<String>,
    /// In one line: most often the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// `ALLOW`, `BLOCK` and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action: Vec<String>,
}

/// Whether a part has nothing to say.
fn is_empty<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

impl Event {
    /// One line of JSON. The same event is the same bytes in every version.
    pub fn to_json(&self) -> String {
        // Text, numbers, lists and maps with names of text: always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn result(&mut self) -> &mut SecurityResult {
        if self.security_result.is_empty() {
            self.security_result.push(SecurityResult::default());
        }
        &mut self.security_result[0]
    }
}

/// Puts a text where it belongs; false where it does not fit there.
pub(super) type Put = fn(&mut Event, &str) -> bool;

/// A path that can be mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// As it is written.
    pub name: &'static str,
    pub put: Put,
    /// What fits, for errors.
    pub fits: &'static str,
}

fn text(place: &mut Option<String>, value: &str) -> bool {
    *place = Some(value.to_owned());
    true
}

fn number<T: std::str::FromStr>(place: &mut Option<T>, value: &str) -> bool {
    let number = value.parse().ok();
    let fits = number.is_some();
    if fits {
        *place = number;
    }
    fits
}

/// One address, or several with commas; all or none.
fn addresses(place: &mut Vec<IpAddr>, value: &str) -> bool {
    let Ok(all) = value.split(',').map(|part| part.trim().parse()).collect::<Result<Vec<IpAddr>, _>>() else {
        return false;
    };
    for address in all {
        if !place.contains(&address) {
            place.push(address);
        }
    }
    true
}

/// Capitals, as UDM writes words of a list.
pub(super) fn is_word(value: &str) -> bool {
    let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    value.starts_with(|c: char| c.is_ascii_uppercase()) && value.len() <= 64 && value.bytes().all(fits)
}

const TEXT: &str = "text";
const WORD: &str = "a word in capitals, for example USER_LOGIN or BLOCK";
const ADDRESS: &str = "an IP address, or several with commas";
const PORT: &str = "a number from 0 to 65535";
const COUNT: &str = "a whole number";

macro_rules! nouns {
    ($($side:ident)*) => {
        &[
            $(
                Path { name: concat!(stringify!($side), ".hostname"), put: |e, v| text(&mut e.$side.hostname, v), fits: TEXT },
                Path { name: concat!(stringify!($side), ".ip"), put: |e, v| addresses(&mut e.$side.ip, v), fits: ADDRESS },
                Path { name: concat!(stringify!($side), ".port"), put: |e, v| number(&mut e.$side.port, v), fits: PORT },
                Path { name: concat!(stringify!($side), ".user.userid"), put: |e, v| text(&mut e.$side.user.userid, v), fits: TEXT },
                Path { name: concat!(stringify!($side), ".process.pid"), put: |e, v| text(&mut e.$side.process.pid, v), fits: TEXT },
                Path { name: concat!(stringify!($side), ".application"), put: |e, v| text(&mut e.$side.application, v), fits: TEXT },
                Path { name: concat!(stringify!($side), ".url"), put: |e, v| text(&mut e.$side.url, v), fits: TEXT },
                Path { name: concat!(stringify!($side), ".resource.name"), put: |e, v| text(&mut e.$side.resource.name, v), fits: TEXT },
                Path { name: concat!(stringify!($side), ".file.full_path"), put: |e, v| text(&mut e.$side.file.full_path, v), fits: TEXT },
            )*
        ]
    };
}

const NOUNS: &[Path] = nouns!(principal target);
const OTHERS: &[Path] = &[
    Path { name: "metadata.event_type", put: |e, v| is_word(v) && replace(&mut e.metadata.event_type, v), fits: WORD },
    Path { name: "metadata.vendor_name", put: |e, v| text(&mut e.metadata.vendor_name, v), fits: TEXT },
    Path { name: "metadata.product_name", put: |e, v| text(&mut e.metadata.product_name, v), fits: TEXT },
    Path { name: "metadata.product_event_type", put: |e, v| text(&mut e.metadata.product_event_type, v), fits: TEXT },
    Path { name: "metadata.description", put: |e, v| text(&mut e.metadata.description, v), fits: TEXT },
    Path { name: "network.application_protocol", put: |e, v| text(&mut e.network.application_protocol, v), fits: TEXT },
    Path { name: "network.sent_bytes", put: |e, v| number(&mut e.network.sent_bytes, v), fits: COUNT },
    Path { name: "network.received_bytes", put: |e, v| number(&mut e.network.received_bytes, v), fits: COUNT },
    Path { name: "network.session_id", put: |e, v| text(&mut e.network.session_id, v), fits: TEXT },
    Path { name: "network.http.method", put: |e, v| text(&mut e.network.http.method, v), fits: TEXT },
    Path { name: "network.http.response_code", put: |e, v| number(&mut e.network.http.response_code, v), fits: PORT },
    Path { name: "network.http.user_agent", put: |e, v| text(&mut e.network.http.user_agent, v), fits: TEXT },
    Path { name: "network.http.referral_url", put: |e, v| text(&mut e.network.http.referral_url, v), fits: TEXT },
    Path {
        name: "security_result.severity",
        put: |e, v| super::severity::SEVERITIES.contains(&v) && replace(&mut e.result().severity, v),
        fits: super::severity::FITS,
    },
    Path { name: "security_result.summary", put: |e, v| text(&mut e.result().summary, v), fits: TEXT },
    Path { name: "security_result.action", put: |e, v| is_word(v) && action(e, v), fits: WORD },
];

fn replace(place: &mut String, value: &str) -> bool {
    value.clone_into(place);
    true
}

fn action(event: &mut Event, value: &str) -> bool {
    event.result().action = vec![value.to_owned()];
    true
}

/// The path of this name.
pub(super) fn path(name: &str) -> Option<Path> {
    NOUNS.iter().chain(OTHERS).find(|path| path.name == name).copied()
}

/// The names of all paths that can be mapped. `metadata.event_timestamp` comes from `time`, `metadata.product_log_id` is
/// the line's id.
pub fn paths() -> impl Iterator<Item = &'static str> {
    OTHERS.iter().chain(NOUNS).map(|path| path.name)
}
