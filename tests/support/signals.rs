//! Signals to real processes: a node or a server that is stopped, goes on, is asked to end, or dies.

use rustix::process::{Pid, Signal, kill_process};

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("a running process");
}

/// `SIGSTOP`: the process stands still, its connections stay open.
pub fn stop(pid: u32) {
    send(pid, Signal::STOP);
}

/// `SIGCONT`: it goes on and does not know that it stood still.
pub fn go_on(pid: u32) {
    send(pid, Signal::CONT);
}

/// `SIGTERM`: the orderly end.
pub fn terminate(pid: u32) {
    send(pid, Signal::TERM);
}

/// `kill -9`.
pub fn kill(pid: u32) {
    send(pid, Signal::KILL);
}
