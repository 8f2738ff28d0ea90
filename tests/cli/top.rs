//! `top` on a real pseudo-terminal: what it shows, what keys do, and that the terminal is as it was afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::support::node::{Workspace, poll, send_signal};
use super::{QUIET, world};

/// Leaves the second screen; shows the cursor.
const LEAVE: &str = "\u{1b}[?1049l";
const CURSOR: &str = "\u{1b}[?25h";

/// A terminal of 80 by 24 with `gapless top` on it.
struct Terminal {
    child: Child,
    keys: File,
    /// Keeps the terminal open after its program, to be looked at.
    side: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(workspace: &Workspace, no_color: bool) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&keys).and_then(|()| unlockpt(&keys)).expect("its other side");
        let name = ptsname(&keys, Vec::new()).expect("its name").into_string().expect("a path");
        let side: OwnedFd = File::options().read(true).write(true).open(name).expect("its other side").into();
        tcsetwinsize(&side, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("its size");
        let mut command = workspace.program(&["top"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let end = || Stdio::from(side.try_clone().expect("one more"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the program");
        let keys = File::from(keys);
        let (mut out, shown) = (keys.try_clone().expect("one more"), Arc::new(Mutex::new(Vec::new())));
        let seen = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                seen.lock().expect("the screen").extend(&bytes[..count]);
            }
        });
        Self { child, keys, side, shown }
    }

    /// Everything that was written to it.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("the screen")).into_owned()
    }

    /// Waits until these words were shown after what is there already.
    #[track_caller]
    fn wait_for(&self, text: &str, after: usize) {
        poll(text, || self.text().get(after..).is_some_and(|new| words(new).contains(text)).then_some(()));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a key");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.side).expect("its modes").local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the end, and asserts that the terminal was given back.
    #[track_caller]
    fn ends_well(&mut self) {
        let status = poll("its end", || self.child.try_wait().expect("its status"));
        assert_eq!(status.code(), Some(0));
        assert!(!self.is_raw());
        poll("the first screen and the cursor", || {
            [LEAVE, CURSOR].iter().all(|sequence| self.text().contains(sequence)).then_some(())
        });
    }
}

/// What people read of it: sequences that move the cursor or colour are gaps, since blanks are not drawn anew.
fn words(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        words.push(' ');
        words.push_str(part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest));
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_fleet_is_shown_over_an_outage_and_q_ends_it() {
    let (mut redis, workspace) = world(QUIET);
    let mut top = Terminal::start(&workspace, true);
    top.wait_for("no node lives; start one: gapless run", 0);
    assert!(top.is_raw());
    let _node = workspace.started("node_of_the_test", &[]);
    top.wait_for("node_of_the_test", 0);
    top.wait_for("selftest.main/tally_1", 0);
    let before = top.text().len();
    redis.kill();
    top.wait_for("redis is away since", before);
    redis.resume();
    // No letter of it stands anywhere else: of a line that changes only what differs is drawn.
    let _other = workspace.started("xxxxxxxx", &[]);
    top.wait_for("xxxxxxxx", before);
    let coloured = ["\u{1b}[31m", "\u{1b}[38;5;1m", "\u{1b}[32m", "\u{1b}[38;5;2m"];
    assert!(coloured.iter().all(|colour| !top.text().contains(colour)));
    top.press("q");
    top.ends_well();
}

#[test]
fn keys_choose_and_explain() {
    let (_redis, workspace) = world(QUIET);
    let mut top = Terminal::start(&workspace, false);
    top.wait_for("no node lives", 0);
    top.press("?");
    top.wait_for("Tab section", 0);
    top.press("\t");
    top.wait_for("[nodes]", 0);
    top.press("p");
    top.wait_for("paused; p goes on", 0);
    // Ctrl-C, as a terminal without line editing sends it.
    top.press("\u{3}");
    top.ends_well();
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let (_redis, workspace) = world(QUIET);
    for signal in [Signal::TERM, Signal::HUP] {
        let mut top = Terminal::start(&workspace, false);
        top.wait_for("no node lives", 0);
        send_signal(top.child.id(), signal);
        top.ends_well();
    }
}

#[test]
fn a_refusal_gives_the_terminal_back_and_is_said() {
    let (redis, workspace) = world(QUIET);
    redis.command(&["CONFIG", "SET", "requirepass", "secret"]);
    let mut top = Terminal::start(&workspace, false);
    let status = poll("its end", || top.child.try_wait().expect("its status"));
    assert_eq!((status.code(), top.is_raw()), (Some(2), false));
    top.wait_for("gapless: ", top.text().find(LEAVE).expect("the first screen again"));
}

#[test]
fn without_a_terminal_it_names_what_to_use() {
    let (_redis, workspace) = world(QUIET);
    workspace.run(&["top"]).failed(
        2,
        "gapless: `gapless top` draws on a terminal, and standard output is none; for pipes and files: gapless status \
         --watch\n",
    );
}
