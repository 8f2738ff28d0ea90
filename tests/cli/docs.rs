//! The pages of `docs/` and the README: links lead somewhere, JSON is JSON, and the tests that guarantees name exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// All files below a folder that end so.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                all.push(path);
            }
        }
    }
    all
}

fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = files("docs", "md");
    pages.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    pages.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a text"))).collect()
}

/// The fenced blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let parts = text.split("```").skip(1).step_by(2);
    parts.filter_map(|part| part.strip_prefix(language).map(str::to_owned)).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let slug =
        |heading: &str| heading.chars().filter(|c| kept(*c)).collect::<String>().to_lowercase().replace(' ', "-");
    headings.map(slug).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (page, text) in pages() {
        let prose: String = text.split("```").step_by(2).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let there = target.exists()
                && (anchor.is_empty() || anchors(&std::fs::read_to_string(&target).expect("a text")).contains(anchor));
            if !there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(seen > 50, "only {seen} links were found");
}

#[test]
fn every_json_is_json() {
    let mut seen = 0;
    for (page, text) in pages() {
        for block in fenced(&text, "json\n") {
            seen += 1;
            if let Err(error) = serde_json::from_str::<serde_json::Value>(&block) {
                panic!("{}: {error} in {block}", page.display());
            }
        }
    }
    assert!(seen > 10, "only {seen} were found");
}

#[test]
fn the_tests_that_pages_name_exist() {
    let code: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|path| std::fs::read_to_string(path).expect("a text"))
        .collect();
    let page =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the page");
    let logs = page("docs/logs.md");
    let tested =
        logs.split("### What is tested").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("its table");
    let text = page("docs/guarantees.md") + tested;
    let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_name = |name: &&str| name.contains('_') && name.chars().all(of_a_name);
    let names: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
    let there = |name: &str| code.contains(&format!("fn {name}(")) || code.contains(&format!("fn {name}<"));
    // Keys of the configuration look alike.
    let config = include_str!("../../config/default.toml");
    let missing: Vec<&&str> =
        names.iter().filter(|name| !there(name) && !config.contains(&format!("\n{name} = "))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(names.len() > 120, "only {} were found", names.len());
}
