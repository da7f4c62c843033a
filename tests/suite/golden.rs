//! Golden files: `tests/cli/*.txt` hold commands and what they print, as a terminal shows it.
//!
//! A line that starts with `$ ` is a command, run in `tests/fixtures/logs`. Standard output,
//! standard error and an exit status other than 0 follow it. `# with a bridge` at its end sets the
//! `BRIDGE_*` variables to a local bridge. A line `…` matches any number of lines. Regenerate with
//! `UPDATE=1 cargo test --test suite golden::`; for a new file, write its command lines first.
//!
//! Not `trycmd` or `snapbox`: the shared bridge and README's blocks would need as much code.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgetap::local_bridge::{LocalBridge, Options};
use regex::Regex;

use crate::support::{fixtures, start};

const ELISION: &str = "…";
const WITH_BRIDGE: &str = " # with a bridge";
const REGENERATE: &str = "regenerate with: UPDATE=1 cargo test --test suite golden::";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden_files() -> Vec<PathBuf> {
    let directory = std::fs::read_dir(root().join("tests/cli")).unwrap();
    let mut files: Vec<_> = directory.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// Runs a command line of a golden file, and returns the line with the output below it.
fn run(line: &str, bridge: &[(String, String)]) -> String {
    let (words, with_bridge) = match line.strip_suffix(WITH_BRIDGE) {
        Some(words) => (words, true),
        None => (line, false),
    };
    let words = words.strip_prefix("$ ").unwrap();
    let words = words.replace("cargo run --release -- ", "edgetap ");
    let mut words = words.split_whitespace().peekable();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetap"));
    let temporary = tempfile::tempdir().unwrap();
    command.env_clear().current_dir(fixtures().join("logs"));
    command.env("TMPDIR", temporary.path());
    if with_bridge {
        command.envs(bridge.iter().map(|(name, value)| (name, value)));
    }
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        command.env(name, value);
        words.next();
    }
    assert_eq!(words.next(), Some("edgetap"), "{line}");
    let output = command.args(words).output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let status = if output.status.success() {
        String::new()
    } else {
        format!("[{}]", output.status)
    };
    let printed = with_placeholders(&(stdout + &stderr + &status));
    let printed = printed.lines().map(str::trim_end);
    joined(std::iter::once(line).chain(printed))
}

/// Joins lines, each with a newline.
fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Replaces ports other than the default one, and times, which differ from run to run.
fn with_placeholders(text: &str) -> String {
    let replace = |text: &str, pattern: &str, placeholder: &str| {
        let pattern = Regex::new(pattern).unwrap();
        pattern.replace_all(text, placeholder).into_owned()
    };
    let text = replace(text, r"127\.0\.0\.1:[1-9]\d{4}\b", "127.0.0.1:PORT");
    let text = replace(
        &text,
        r"/\S*/edgetap-demo-\w+\.html",
        "TMPDIR/edgetap-demo-….html",
    );
    let text = replace(&text, r" in \d+\.\d s\n", " in N.N s\n");
    replace(&text, r" in \d+ ms\n", " in N ms\n")
}

/// Whether `expected`, where a line `…` matches any number of lines, equals `actual`.
fn is_match(expected: &[&str], actual: &[&str]) -> bool {
    match expected {
        [] => actual.is_empty(),
        [first, rest @ ..] if *first == ELISION => {
            (0..=actual.len()).any(|at| is_match(rest, &actual[at..]))
        }
        [first, rest @ ..] => actual.first() == Some(first) && is_match(rest, &actual[1..]),
    }
}

async fn bridge() -> (LocalBridge, Vec<(String, String)>) {
    let options = Options {
        client_secret: "secret".to_owned(),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let settings = [
        ("BRIDGE_AUTH_ENDPOINT", bridge.token_url()),
        ("BRIDGE_EDGE_ENDPOINT", bridge.edge_url()),
        ("BRIDGE_CLIENT_ID", options.client_id),
        ("BRIDGE_CLIENT_SECRET", options.client_secret),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    (bridge, settings.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn command_output_equals_golden_files() {
    let (_bridge, settings) = bridge().await;
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test, not a setting"
    )]
    let is_update = std::env::var_os("UPDATE").is_some_and(|update| update == "1");
    let mut different = Vec::new();
    let files = golden_files();
    assert!(files.len() > 10, "{} golden files", files.len());
    for path in files {
        let expected = std::fs::read_to_string(&path).unwrap();
        let commands = expected.lines().filter(|line| line.starts_with("$ "));
        let outputs: Vec<_> = commands.map(|line| run(line, &settings)).collect();
        assert!(!outputs.is_empty(), "{} has no command", path.display());
        let actual = outputs.join("\n");
        let lines = |text| str::lines(text).collect::<Vec<_>>();
        if is_match(&lines(&expected), &lines(&actual)) {
            continue;
        }
        if is_update {
            std::fs::write(&path, actual).unwrap();
        } else {
            different.push(format!("--- {}\n{actual}", path.display()));
        }
    }
    assert!(
        different.is_empty(),
        "the commands now print this ({REGENERATE}):\n{}",
        different.join("\n")
    );
}

/// Every `console` block of a document, with the golden file named in the comment above it.
fn console_blocks(document: &str) -> Vec<(Option<&str>, String)> {
    let lines: Vec<&str> = document.lines().collect();
    let mut blocks = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let above = lines[..at].iter().rev().find(|line| !line.is_empty());
        let file =
            above.and_then(|line| line.strip_prefix("<!-- tests/cli/")?.strip_suffix(" -->"));
        if line.starts_with("```") && (*line == "```console" || file.is_some()) {
            let block = lines[at + 1..].iter().take_while(|line| **line != "```");
            blocks.push((file, joined(block.copied())));
        }
    }
    blocks
}

#[test]
fn readme_console_blocks_equal_golden_files() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = console_blocks(&readme);
    for (file, block) in &blocks {
        let file = file.unwrap_or_else(|| {
            panic!(
                "a console block of README.md has no <!-- tests/cli/NAME.txt --> above:\n{block}"
            )
        });
        let golden = std::fs::read_to_string(root().join("tests/cli").join(file));
        let golden = golden.unwrap_or_else(|error| panic!("tests/cli/{file}: {error}"));
        assert_eq!(*block, golden, "the block of tests/cli/{file} in README.md");
    }
    let has_demo = blocks
        .iter()
        .any(|(file, _)| *file == Some("readme-demo.txt"));
    assert!(has_demo, "README.md lacks readme-demo.txt");
}

#[test]
fn readme_demo_block_has_at_most_30_lines() {
    let golden = std::fs::read_to_string(root().join("tests/cli/readme-demo.txt")).unwrap();
    assert!(golden.lines().count() <= 30);
}

#[test]
fn console_block_without_marker_is_found() {
    let document =
        "<!-- tests/cli/a.txt -->\n```text\n$ a\n```\n\n```console\n$ b\n```\n```sh\nc\n```\n";
    let blocks = console_blocks(document);
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0], (Some("a.txt"), "$ a\n".to_owned()));
    assert_eq!(blocks[1], (None, "$ b\n".to_owned()));
}

#[test]
fn elision_matches_any_number_of_lines() {
    let matches = |expected: &str, actual: &str| {
        let lines = |text| str::lines(text).collect::<Vec<_>>();
        is_match(&lines(expected), &lines(actual))
    };
    assert!(matches("a\n…\nd", "a\nb\nc\nd"));
    assert!(matches("a\n…\nb", "a\nb"));
    assert!(!matches("a\n…\nd", "a\nb\nc"));
    assert!(!matches("a", "a\nb"));
}
