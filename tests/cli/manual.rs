//! Completions and man pages: of every command, and sound where a shell is there to judge.

use std::process::{Command, Stdio};

use super::support::node::Workspace;

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

#[test]
fn completions_know_every_command() {
    let workspace = Workspace::new("");
    for shell in SHELLS {
        let done = workspace.run(&["completions", shell]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{shell}");
        for word in ["status", "top", "blocks", "verify", "mailbox", "peek", "watch", "log-level"] {
            assert!(done.out.contains(word), "{shell} lacks {word}");
        }
    }
    let unknown = workspace.run(&["completions", "tcsh"]);
    assert_eq!(unknown.code, 2);
    assert!(SHELLS.iter().all(|shell| unknown.err.contains(shell)), "{}", unknown.err);
}

#[test]
fn bash_completes_a_command() {
    let workspace = Workspace::new("");
    let script = workspace.run(&["completions", "bash"]).out;
    let asks = "COMP_WORDS=(gapless mailbox pe); COMP_CWORD=2; _gapless gapless pe mailbox; echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["--norc", "-c", &format!("{script}\n{asks}")]).stdin(Stdio::null()).output();
    let Ok(output) = bash else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "peek\n", "{output:?}");
}

#[test]
fn there_is_a_page_for_every_command() {
    let workspace = Workspace::new("");
    let main = workspace.run(&["man"]);
    assert_eq!((main.code, main.err.as_str()), (0, ""));
    assert!(main.out.contains(".TH gapless 1") && main.out.contains("gapless\\-top(1)"), "{}", main.out);
    let done = workspace.run(&["man", "new/man1"]);
    assert_eq!((done.code, done.err.as_str(), done.out.as_str()), (0, "", ""));
    for page in
        ["gapless.1", "gapless-top.1", "gapless-status.1", "gapless-blocks-verify.1", "gapless-mailbox-dead-list.1"]
    {
        let text = std::fs::read_to_string(workspace.path().join("new/man1").join(page)).expect(page);
        assert!(text.contains(&format!(".TH {} 1", page.trim_end_matches(".1"))), "{text}");
    }
    let text = std::fs::read_to_string(workspace.path().join("new/man1/gapless-status.1")).expect("the page");
    assert!(text.contains("Examples:") && text.contains("\\-\\-watch"), "{text}");
    workspace.write("taken", "");
    let refused = workspace.run(&["man", "taken/man1"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.starts_with("gapless: cannot write man pages to taken/man1: "), "{}", refused.err);
}
