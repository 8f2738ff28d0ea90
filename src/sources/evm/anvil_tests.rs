//! The source against a real node: anvil, whose path `GAPLESS_ANVIL` names (npm package `@foundry-rs/anvil`).

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::messages::heights::HeightRange;
use crate::sources::pool::endpoint::Endpoint;
use crate::sources::{Absence, ChainSource, Fetched};

struct Anvil {
    child: Child,
    url: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // The npm package's command is a wrapper: the node itself is its child, in the same process group.
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Starts anvil on a free loopback port; `None`, with a line, where there is none.
fn anvil() -> Option<Anvil> {
    let Ok(path) = std::env::var("GAPLESS_ANVIL") else {
        println!("skipped: GAPLESS_ANVIL names no anvil");
        return None;
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let args = ["--chain-id", "4242", "--silent", "--port", &port.to_string()];
    let child = Command::new(path)
        .process_group(0)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("anvil starts");
    Some(Anvil { child, url: format!("http://127.0.0.1:{port}") })
}

async fn rpc(url: &str, body: String) -> serde_json::Value {
    let options = EvmOptions { endpoints: vec![url.to_owned()], ..EvmOptions::default() };
    let endpoint = Endpoint::new(url, 1, |url| url, &options).expect("an endpoint");
    let answer = ask::post(&endpoint, body, 1 << 26).await.expect("an answer");
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[tokio::test]
async fn identity_head_and_blocks_of_a_real_node() {
    let Some(anvil) = anvil() else { return };
    let options = EvmOptions { endpoints: vec![anvil.url.clone()], batch_heights: 40, ..EvmOptions::default() };
    let source = EvmSource::new(options).expect("a source");
    let deadline = Instant::now() + Duration::from_secs(20);
    while source.head().await.is_err() {
        assert!(Instant::now() < deadline, "anvil does not answer");
        tokio::task::yield_now().await;
    }
    assert_eq!(source.identity().await.map(|i| i.chain_id), Ok("4242".to_owned()));
    // One block with a transaction between the first of anvil's own accounts, then empty ones.
    let send = r#"{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction","params":[{"from":"0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266","to":"0x70997970c51812dc3a010c7d01b50e0d17dc79c8","value":"0x1"}]}"#;
    rpc(&anvil.url, send.to_owned()).await;
    rpc(&anvil.url, r#"{"jsonrpc":"2.0","id":1,"method":"anvil_mine","params":["0x63"]}"#.to_owned()).await;
    let head = source.head().await.expect("a head");
    assert!(head >= 99, "{head}");

    source.expect_chain("4242");
    let fetched = source.blocks(HeightRange::new(0, head + 2).expect("a range")).await.expect("blocks");
    let (above, held) = (&fetched[fetched.len() - 2..], &fetched[..fetched.len() - 2]);
    let unknown = |height| Fetched::Absent(height, Absence::Unknown);
    assert_eq!(above, [unknown(head + 1), unknown(head + 2)]);
    let mut parent = None;
    for (fetched, height) in held.iter().zip(0..) {
        let Fetched::Block(block) = fetched else { panic!("no block: {fetched:?}") };
        assert_eq!(block.id.height, height);
        assert!(parent.is_none_or(|parent| parent == block.id.parent), "the link below {height}");
        parent = Some(block.id.hash.clone());
        let alone = rpc(&anvil.url, request::blocks(&[height])).await;
        let kept: serde_json::Value = serde_json::from_slice(&block.raw).expect("JSON");
        assert_eq!(kept, alone["result"]);
    }
    // Anvil counts 32 blocks to an epoch: what is safe is one behind, what is final two.
    for (tag, behind) in [(FinalityTag::Safe, 32), (FinalityTag::Finalized, 64)] {
        let endpoints = vec![anvil.url.clone()];
        let source = EvmSource::new(EvmOptions { endpoints, finality_tag: Some(tag), ..EvmOptions::default() });
        let expected = head.checked_sub(behind);
        assert_eq!(source.expect("a source").finalized().await, Ok(expected), "{tag:?} of {head}");
    }
    source.expect_chain("1");
    assert!(matches!(source.head().await, Err(SourceError::WrongChain { found, .. }) if found == "4242"));
}
