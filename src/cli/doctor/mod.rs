//! `gapless doctor`: tries everything that a node needs, and says what to do about what is wrong.

mod fleet;
mod logs;
mod server;
mod sources;
mod sync;

use serde::Serialize;
use serde_json::json;

use super::exit::Exit;
use super::output::{self, Paint};
use super::reach;
use super::words::count;
use crate::config::{OnUnsafe, Settings};

/// What `doctor` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// Print the ACL SETUSER line of a user with exactly the rights that a node needs, and check nothing
    #[arg(long)]
    acl: bool,
}

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, but may hurt.
    Warn,
    /// A node would not start, or would lose data.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub words: String,
    /// What to do; empty where nothing need be done.
    pub remedy: String,
}

impl Check {
    /// As it should be.
    pub fn good(name: &str, words: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Good, words: words.into(), remedy: String::new() }
    }

    /// Works, but may hurt.
    pub fn warn(name: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Warn, words: words.into(), remedy: remedy.into() }
    }

    /// Would not start, or would lose data.
    pub fn bad(name: &str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Bad, words: words.into(), remedy: remedy.into() }
    }
}

/// Every check, and whether Redis could be reached at all.
#[derive(Debug, Default)]
pub struct Findings {
    checks: Vec<Check>,
    unreachable: bool,
}

/// Checks everything. 1 if anything is bad; 3 if that is because Redis is out of reach.
pub fn run(settings: &Settings, args: &DoctorArgs, json: bool) -> Exit {
    if args.acl {
        let line = server::acl_line(settings);
        return if json {
            output::json(&json!({ "acl": line }), Exit::good())
        } else {
            output::text(&format!("{line}\n"), Exit::good())
        };
    }
    let mut findings = Findings { checks: vec![configuration(settings)], unreachable: false };
    reach::block_on(async {
        server::check(settings, &mut findings).await;
        findings.checks.extend(sources::check(settings).await);
        findings.checks.extend(sync::check(settings).await);
        findings.checks.extend(logs::check(settings));
        Ok(report(&findings, json))
    })
}

/// It was read without a fault, or `doctor` would have ended with the report.
fn configuration(settings: &Settings) -> Check {
    let pipelines = settings.pipelines();
    if pipelines.is_empty() {
        let remedy = "name a file with --config, or write one with a table like [blocks.mainnet] to gapless.toml";
        return Check::warn("configuration", "no pipeline is configured: a node would not start", remedy);
    }
    let names: Vec<String> = pipelines.iter().map(ToString::to_string).collect();
    Check::good("configuration", format!("{}: {}", count(names.len(), "pipeline", "pipelines"), names.join(", ")))
}

/// The verdict on a danger that the configuration may accept.
fn policy(on_unsafe: OnUnsafe) -> Verdict {
    match on_unsafe {
        OnUnsafe::Refuse => Verdict::Bad,
        OnUnsafe::Warn => Verdict::Warn,
    }
}

fn report(findings: &Findings, json: bool) -> Exit {
    let number = |verdict| findings.checks.iter().filter(|check| check.verdict == verdict).count();
    let (good, warn, bad) = (number(Verdict::Good), number(Verdict::Warn), number(Verdict::Bad));
    let exit = match (bad, findings.unreachable) {
        (0, _) => Exit::good(),
        (_, true) => Exit::from_code(3),
        (_, false) => Exit::found(),
    };
    if json {
        let answer = json!({ "checks": findings.checks, "good": good, "warn": warn, "bad": bad });
        return output::json(&answer, exit);
    }
    let paint = Paint::stdout();
    let width = findings.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &findings.checks {
        let verdict = match check.verdict {
            Verdict::Good => paint.green("good"),
            Verdict::Warn => paint.yellow("warn"),
            Verdict::Bad => paint.red("bad "),
        };
        text.push_str(&format!("{verdict}  {:<width$}  {}\n", check.name, check.words));
        if !check.remedy.is_empty() {
            text.push_str(&format!("      {:<width$}  -> {}\n", "", check.remedy));
        }
    }
    text.push_str(&format!("\n{good} good, {}, {bad} bad\n", count(warn, "warning", "warnings")));
    output::text(&text, exit)
}
