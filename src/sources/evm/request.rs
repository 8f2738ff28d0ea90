//! JSON-RPC requests as they travel.

use crate::messages::heights::Height;

/// The request for full blocks: an array for several heights, a plain object for one.
pub(super) fn blocks(heights: &[Height]) -> String {
    let one = |h: &Height| {
        format!(r#"{{"jsonrpc":"2.0","id":{h},"method":"eth_getBlockByNumber","params":["{h:#x}",true]}}"#)
    };
    match heights {
        [height] => one(height),
        heights => format!("[{}]", heights.iter().map(one).collect::<Vec<_>>().join(",")),
    }
}

/// A request without parameters.
pub(super) fn plain(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":[]}}"#)
}

/// The request for the block of a tag, without the bodies of its transactions.
pub(super) fn tag(tag: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["{tag}",false]}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_height_is_asked_for_without_an_array() {
        assert_eq!(
            blocks(&[255]),
            r#"{"jsonrpc":"2.0","id":255,"method":"eth_getBlockByNumber","params":["0xff",true]}"#
        );
        let batch: serde_json::Value = serde_json::from_str(&blocks(&[0, 16])).expect("JSON");
        assert_eq!(batch[0]["params"], serde_json::json!(["0x0", true]));
        assert_eq!(batch[1]["id"], 16);
    }
}
