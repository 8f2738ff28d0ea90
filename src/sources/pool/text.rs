//! Foreign text for people.

/// Foreign text in a reason is cut after so many characters.
pub const REASON_CHARS: usize = 160;

/// Foreign text for people: one line of bounded length, control characters escaped.
pub fn short(text: &str) -> String {
    let mut chars = text.chars();
    let mut short = String::new();
    for c in chars.by_ref().take(REASON_CHARS) {
        if c.is_control() { short.extend(c.escape_default()) } else { short.push(c) }
    }
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// Why bytes are no JSON, with how they start.
pub fn not_json(error: &serde_json::Error, body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(40)]);
    short(&format!("{error}, in {} bytes that start with `{start}`", body.len()))
}
