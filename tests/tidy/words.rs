//! What `docs/STYLE.md` asks of the words, as far as a program can check it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

use super::root;

fn has_ending(file: &str, ending: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|found| found == ending)
}

/// Directories whose text is read by people. Fixtures, corpora and installed packages are not.
const READ: [&str; 8] = [
    "src",
    "tests",
    "examples",
    "fuzz",
    "benches",
    "scripts",
    "terraform",
    "docs",
];
const NOT_READ: [&str; 5] = ["fixtures", "corpus", "node_modules", "target", ".terraform"];
/// These quote the marks, or names that were replaced.
const QUOTING: [&str; 3] = ["CHANGELOG.md", "docs/STYLE.md", "tests/tidy/words.rs"];
const ENDINGS: [&str; 10] = [
    "rs", "md", "sh", "bash", "bats", "jq", "tf", "hcl", "py", "toml",
];

/// Constructions that a native reader stumbles over.
const MARKS: &str = r"(?x)
    \b(is|are)\ no\ [a-z]+ | \b(is|are)\ none\b | \bcomes?\ again\b
    | \bso\ (many|much|long)\ (bytes|rows|is|are|may)\b | \binflatings?\b | \boctets?(?:[^-\w]|$)
    | \bbesides\b | \blest\b | \banew\b | \bfor\ ever\b | \bhow-manieth\b | \bbelieve[sd]?\b
    | \bnobody\b | \bmeanwhile\b | \bhimself\b | \btold\ apart\b | \bat\ hand\b
    | \bwhat\ becomes\ of\b | \bin\ the\ place\ of\b | \bhand(s|ed)?[\ -]overs?\b | \bpostpone";

const MAX_PROSE: usize = 120;
const MAX_CELL: usize = 100;
const MAX_TEST_NAME: usize = 60;

/// Path below the root and text of every file that people read.
fn texts() -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<(String, String)>) {
        for child in std::fs::read_dir(directory).unwrap() {
            let path = child.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !NOT_READ.contains(&name) {
                    walk(&path, found);
                }
            } else if path
                .extension()
                .is_some_and(|end| ENDINGS.iter().any(|known| end == *known))
            {
                let below = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((below, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    for directory in READ {
        walk(&root().join(directory), &mut found);
    }
    for file in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.toml",
        ".env.example",
    ] {
        found.push((
            file.to_owned(),
            std::fs::read_to_string(root().join(file)).unwrap(),
        ));
    }
    found.sort();
    found
}

fn markdown() -> Vec<(String, String)> {
    texts()
        .into_iter()
        .filter(|(name, _)| has_ending(name, "md"))
        .collect()
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Lines outside of fenced blocks, with their numbers, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    })
}

/// Names of all tests, each with the file it is in.
fn tests() -> BTreeMap<String, String> {
    let test = Regex::new(
        r"(?m)#\[(?:tokio::)?test(?:\([^\]]*\))?\]\s*(?://[^\n]*\s*)*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)",
    )
    .unwrap();
    let property = Regex::new(r"#\[test\][^{}]*?fn (\w+)\(").unwrap();
    let mut found = BTreeMap::new();
    for (file, text) in texts()
        .into_iter()
        .filter(|(file, _)| has_ending(file, "rs"))
    {
        for pattern in [&test, &property] {
            for name in pattern.captures_iter(&text) {
                found.insert(name[1].to_owned(), file.clone());
            }
        }
    }
    assert!(found.len() > 150, "{} tests were found", found.len());
    found
}

/// Fails with all of them at once, so that they can be mended at once.
fn none(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn text_has_none_of_the_known_marks() {
    let marks = Regex::new(MARKS).unwrap();
    let mut problems = Vec::new();
    for (file, text) in texts()
        .iter()
        .filter(|(file, _)| !QUOTING.contains(&file.as_str()))
    {
        for (number, line) in (1..).zip(text.lines()) {
            for mark in marks.find_iter(line) {
                problems.push(format!("{file}:{number}: {}", mark.as_str()));
            }
        }
    }
    none(&problems);
}

#[test]
fn marks_are_recognized() {
    let marks = Regex::new(MARKS).unwrap();
    for bad in [
        "it is no row",
        "certificates are none",
        "so many bytes",
        "handed over",
    ] {
        assert!(marks.is_match(bad), "{bad}");
    }
    for good in [
        "it is None",
        "there is not a row",
        "as many bytes",
        "meaning while",
    ] {
        assert!(!marks.is_match(good), "{good}");
    }
}

#[test]
fn documents_have_short_lines_and_short_cells() {
    let address = Regex::new(r"\]\([^)]*\)").unwrap();
    let mut problems = Vec::new();
    for (file, text) in markdown() {
        for (number, line) in prose(&text) {
            let shown = address.replace_all(line, "]");
            if line.starts_with('|') {
                let longest = shown
                    .split('|')
                    .map(|cell| cell.trim().chars().count())
                    .max();
                if longest > Some(MAX_CELL) {
                    problems.push(format!("{file}:{number}: a cell of {longest:?} characters"));
                }
            } else if shown.chars().count() > MAX_PROSE {
                problems.push(format!(
                    "{file}:{number}: {} characters",
                    shown.chars().count()
                ));
            }
        }
    }
    none(&problems);
}

#[test]
fn test_names_are_at_most_60_characters() {
    let long = tests()
        .into_iter()
        .filter(|(name, _)| name.len() > MAX_TEST_NAME);
    none(
        &long
            .map(|(name, file)| format!("{file}: {name}"))
            .collect::<Vec<_>>(),
    );
}

/// Every path and every test that a document names exists.
#[test]
fn documents_name_files_and_tests_that_exist() {
    let code = Regex::new(r"`([^`]+)`").unwrap();
    let path = Regex::new(
        r"^(src|tests|docs|scripts|terraform|benches|fuzz|examples)/[\w./-]*$|^\w+\.(md|toml|json)$",
    )
    .unwrap();
    let test_name = Regex::new(r"^([a-z0-9]+_){4,}[a-z0-9]+$").unwrap();
    let (tests, mut problems) = (tests(), Vec::new());
    let outputs = std::fs::read_to_string(root().join("terraform/outputs.tf")).unwrap();
    for (file, text) in markdown() {
        let directory = root().join(&file).parent().unwrap().to_owned();
        for (number, line) in prose(&text) {
            for name in code.captures_iter(line).map(|found| found[1].to_owned()) {
                let exists = || {
                    let places = [root().to_owned(), directory.clone(), root().join("scripts")];
                    places.iter().any(|place| place.join(&name).exists())
                };
                let made = [
                    "terraform/mine.auto.tfvars",
                    "terraform/edgetap.auto.tfvars",
                ];
                if path.is_match(&name) && !made.contains(&name.as_str()) && !exists() {
                    problems.push(format!("{file}:{number}: there is not a {name}"));
                }
                let is_output = || outputs.contains(&format!("output \"{name}\""));
                if test_name.is_match(&name) && !tests.contains_key(&name) && !is_output() {
                    problems.push(format!("{file}:{number}: there is not a test {name}"));
                }
            }
        }
    }
    none(&problems);
}

/// Links between the documents lead somewhere, headings included.
#[test]
fn links_between_documents_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)").unwrap();
    let mut problems = Vec::new();
    for (file, text) in markdown() {
        let directory = root().join(&file).parent().unwrap().to_owned();
        for (number, line) in prose(&text) {
            for found in link
                .captures_iter(line)
                .filter(|found| !found[1].contains(':'))
            {
                let target = if found[1].is_empty() {
                    root().join(&file)
                } else {
                    directory.join(&found[1])
                };
                if !target.exists() {
                    problems.push(format!("{file}:{number}: {} does not exist", &found[1]));
                } else if let Some(heading) = found.get(2)
                    && !headings(&std::fs::read_to_string(&target).unwrap())
                        .contains(heading.as_str())
                {
                    problems.push(format!("{file}:{number}: no heading #{}", heading.as_str()));
                }
            }
        }
    }
    none(&problems);
}

/// Anchors of a document's headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = prose(text).filter_map(|(_, line)| line.strip_prefix('#'));
    titles
        .map(|title| {
            let title = title
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .replace(' ', "-");
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect()
        })
        .collect()
}

/// Each promise of `semantics.md` and `input.md` is cited by a test, and each citation by one of them.
#[test]
fn promises_and_their_tests_cite_each_other() {
    let promise = Regex::new(r"\*\*([A-Z][0-9]+)\*\*").unwrap();
    let proof = Regex::new(r"^\s*(?://|#) proves: (.*)$").unwrap();
    let list = Regex::new(r"^[A-Z][0-9]+(, [A-Z][0-9]+)*$").unwrap();
    let test = Regex::new(r"#\[(tokio::)?test|^@test |^\s*step\(").unwrap();
    let documents = document("docs/semantics.md") + &document("docs/input.md");
    let mut promised = BTreeSet::new();
    for id in promise
        .captures_iter(&documents)
        .map(|found| found[1].to_owned())
    {
        assert!(promised.insert(id.clone()), "{id} is promised twice");
    }
    assert!(
        promised.len() > 30,
        "{} promises were found",
        promised.len()
    );
    let (mut proven, mut misplaced) = (BTreeMap::new(), Vec::new());
    for (file, text) in texts() {
        if has_ending(&file, "md") {
            continue;
        }
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(found) = proof.captures(line) else {
                continue;
            };
            let after = &lines[at + 1..(at + 8).min(lines.len())];
            if !list.is_match(&found[1]) || !after.iter().any(|line| test.is_match(line)) {
                misplaced.push(format!("{file}:{}: not a list of ids above a test", at + 1));
            }
            for id in found[1].split(", ").map(str::to_owned) {
                proven.entry(id).or_insert_with(|| file.clone());
            }
        }
    }
    let unproven = promised.iter().filter(|id| !proven.contains_key(*id));
    let mut problems: Vec<_> = unproven
        .map(|id| format!("{id} is cited by no test"))
        .collect();
    let unknown = proven.iter().filter(|(id, _)| !promised.contains(*id));
    problems.extend(misplaced);
    problems.extend(unknown.map(|(id, file)| format!("{file} cites {id}, which is not promised")));
    none(&problems);
}

/// The headings of `troubleshooting.md` quote what the programs say.
#[test]
fn troubleshooting_quotes_messages_that_exist() {
    let spaces = Regex::new(r"(?:\\?\s)+").unwrap();
    let sources: String = texts()
        .into_iter()
        .filter(|(file, _)| {
            ["src/", "scripts/", "terraform/"]
                .iter()
                .any(|d| file.starts_with(d))
        })
        .map(|(_, text)| spaces.replace_all(&text, " ").replace("\\\"", "\"") + "\n")
        .collect();
    let text = document("docs/troubleshooting.md");
    let quoted = prose(&text).filter_map(|(number, line)| {
        Some((
            number,
            line.trim_start_matches('#')
                .trim()
                .strip_prefix('`')?
                .split('`')
                .next()?,
        ))
        .filter(|_| line.starts_with('#'))
    });
    let (mut problems, mut count) = (Vec::new(), 0);
    for (number, message) in quoted {
        count += 1;
        for part in message
            .split('…')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            if !sources.contains(part) {
                problems.push(format!(
                    "docs/troubleshooting.md:{number}: nothing says {part:?}"
                ));
            }
        }
    }
    assert!(count > 10, "{count} messages were found");
    none(&problems);
}

/// Each item of "Unproven on AWS" names a step of `prove.sh`, and each step has an item.
#[test]
fn unproven_items_are_the_steps_of_prove_sh() {
    let operations = document("docs/operations.md");
    let (_, section) = operations.split_once("\n## Unproven on AWS\n").unwrap();
    let items: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .map(|item| item.split('`').nth(1).unwrap_or(item).to_owned())
        .collect();
    let script = document("scripts/lib-prove.sh");
    let (_, table) = script.split_once("readonly STEPS=(\n").unwrap();
    let steps: Vec<_> = table
        .lines()
        .take_while(|line| *line != ")")
        .map(|line| {
            line.trim_start_matches([' ', '\''])
                .split('|')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(items, steps);
    for step in steps {
        let function = format!("\nprove_{}() {{", step.replace('-', "_"));
        assert!(script.contains(&function), "{step} has no function");
    }
}

/// `input.md` lists the extensions that `STATIC_EXTENSIONS` stands for when it is not set.
#[test]
fn the_list_of_static_extensions_is_documented() {
    let text = document("docs/input.md");
    let (_, after) = text.split_once("<!-- static-extensions -->").unwrap();
    let block = after
        .split("```")
        .nth(1)
        .unwrap()
        .trim_start_matches("text");
    let documented: BTreeSet<_> = block.split_whitespace().map(str::to_owned).collect();
    let source = document("src/filter/extensions.rs");
    let (_, after) = source.split_once("const DEFAULT_EXTENSIONS").unwrap();
    let list = after.split('"').nth(1).unwrap();
    let built_in: BTreeSet<_> = list
        .split([',', '\\', '\n', ' '])
        .filter(|extension| !extension.is_empty())
        .map(str::to_owned)
        .collect();
    assert!(built_in.len() > 20);
    assert_eq!(documented, built_in);
}

/// Modules, and the types and functions that other crates use, say what they are.
#[test]
fn modules_types_and_functions_are_documented() {
    let item = Regex::new(r"^\s*pub (?:const |async |unsafe )*(?:fn|struct|enum|trait|type) (\w+)")
        .unwrap();
    let mut problems = Vec::new();
    for (file, text) in texts() {
        if !file.starts_with("src/") || file.ends_with("tests.rs") {
            continue;
        }
        if !text.starts_with("//!") {
            problems.push(format!("{file}: the module has no documentation"));
        }
        let mut before = "";
        for line in text.lines() {
            if let Some(found) = item.captures(line)
                && !before.starts_with("///")
            {
                problems.push(format!("{file}: {} has no documentation", &found[1]));
            }
            if !line.trim_start().starts_with("#[") && !line.trim_start().starts_with(')') {
                before = line.trim_start();
            }
        }
    }
    none(&problems);
}
