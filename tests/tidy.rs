//! What `docs/architecture.md` says of the sources, checked by reading them.

#![allow(clippy::unwrap_used)]

#[path = "tidy/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edgetap::log::Field;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for child in std::fs::read_dir(directory).unwrap() {
        let path = child.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source with its path below `src`, its comments and its tests left out.
fn code() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    let mut code: Vec<_> = found
        .iter()
        .map(|path| {
            let name = path
                .strip_prefix(root().join("src"))
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = std::fs::read_to_string(path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            (
                name,
                text.lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            )
        })
        .collect();
    code.retain(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/"));
    code.sort();
    code
}

fn users_of(word: &str) -> BTreeSet<String> {
    code()
        .into_iter()
        .filter(|(_, text)| text.contains(word))
        .map(|(name, _)| name)
        .collect()
}

/// The modules of the library, in the order of `lib.rs`.
fn modules() -> Vec<String> {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| {
            line.strip_prefix("pub mod ")
                .or_else(|| line.strip_prefix("pub(crate) mod "))?
                .strip_suffix(';')
                .map(str::to_owned)
        })
        .collect()
}

fn names(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn effects_stay_where_they_belong() {
    assert_eq!(
        users_of("aws_config"),
        names(&[
            "aws.rs",
            "credentials.rs",
            "outbox.rs",
            "source.rs",
            "work_queue.rs"
        ])
    );
    assert_eq!(users_of("aws_sdk_s3"), names(&["listing.rs", "source.rs"]));
    assert_eq!(
        users_of("aws_sdk_sqs"),
        names(&["outbox.rs", "work_queue.rs"])
    );
    assert_eq!(
        users_of("aws_sdk_secretsmanager"),
        names(&["credentials.rs"])
    );
    assert_eq!(
        users_of("aws_lambda_events"),
        names(&["event.rs", "invocation.rs"])
    );
    assert_eq!(users_of("use lambda_runtime"), names(&["bin/bootstrap.rs"]));
    assert_eq!(
        users_of("reqwest"),
        names(&["bridge.rs", "http.rs", "token.rs"])
    );
    assert_eq!(users_of("std::env::"), names(&["config.rs"]));
}

#[test]
fn the_pipeline_is_pure_and_synchronous() {
    let pure = [
        "log/",
        "encode/",
        "simd.rs",
        "decode.rs",
        "transaction.rs",
        "filter/",
        "redact/",
        "batch.rs",
        "pipeline.rs",
    ];
    for (name, text) in code() {
        if pure.iter().any(|part| name.starts_with(part)) {
            for word in [
                "async",
                "await",
                "tokio",
                "SystemTime::now",
                "Instant",
                "Timestamp::now",
            ] {
                assert!(!text.contains(word), "{name} names {word}");
            }
        }
    }
}

/// What scripts/bench.sh measures is compiled as the function is.
#[test]
fn the_benchmarks_optimise_what_the_function_does() {
    let list = |manifest: &str| {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        let (_, list) = text.split_once("[profile.lambda.package]\n").unwrap();
        list.lines()
            .take_while(|line| line.contains("opt-level"))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let (function, mut benchmarks) = (list("Cargo.toml"), list("benches/Cargo.toml"));
    // There `"*"` would match it too.
    assert!(function.len() > 10 && benchmarks.remove("edgetap = { opt-level = 3 }"));
    assert_eq!(function, benchmarks);
}

#[test]
fn no_module_imports_one_declared_below_it() {
    let modules = modules();
    assert!(modules.len() > 15);
    for (name, text) in code() {
        let Some(at) = modules
            .iter()
            .position(|module| *module == name.split(['/', '.']).next().unwrap())
        else {
            continue;
        };
        for below in &modules[at + 1..] {
            assert!(
                !text.contains(&format!("crate::{below}")),
                "{name} imports {below}, which stands below it in lib.rs"
            );
        }
    }
}

/// What decides is a function of its arguments, and delivery does not depend on the pipeline.
#[test]
fn decisions_are_pure_and_delivery_stands_alone() {
    let effects = [
        "async",
        "await",
        "tokio",
        "Instant",
        "SystemTime",
        "Timestamp::now",
        "reqwest",
        "aws_",
        "tracing",
        "rand::",
        "Mutex",
    ];
    for (file, banned) in [
        ("rows.rs", &effects[..]),
        ("plan.rs", &effects[..]),
        ("response.rs", &effects[..]),
        ("bridge.rs", &["crate::pipeline", "crate::filter"]),
        ("token.rs", &["crate::pipeline", "crate::filter"]),
        ("http.rs", &["crate::pipeline", "crate::filter"]),
    ] {
        let (_, text) = code().into_iter().find(|(name, _)| name == file).unwrap();
        for word in banned {
            assert!(!text.contains(word), "{file} names {word}");
        }
    }
}

#[test]
fn nothing_outside_tests_gives_up_by_panicking() {
    for (name, text) in code() {
        for word in [
            ".unwrap()",
            ".expect(",
            "panic!(",
            "todo!(",
            "unimplemented!(",
        ] {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}

/// The fields that a distribution is asked to log are fields that the code reads.
#[test]
fn record_fields_are_fields_that_are_read() {
    let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    let text = std::fs::read_to_string(root().join("scripts/record-fields.txt")).unwrap();
    let asked: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    for field in &asked {
        assert!(known.contains(field), "{field}");
    }
    assert_eq!(
        asked.len(),
        asked.iter().collect::<BTreeSet<_>>().len(),
        "no field twice"
    );
    let transaction = std::fs::read_to_string(root().join("src/transaction.rs")).unwrap();
    let read = Field::ALL
        .iter()
        .filter(|field| transaction.contains(&format!("Field::{field:?}")));
    for field in read.filter(|field| **field != Field::Timestamp) {
        assert!(
            asked.contains(&field.name()),
            "{} is read, but not asked for",
            field.name()
        );
    }
}

/// What holds log content has no `Debug`, so that no panic, error or log line can show it.
// proves: S2
#[test]
fn what_holds_log_content_cannot_be_shown() {
    for (file, name) in [
        ("transaction.rs", "pub struct Transaction<"),
        ("log/mod.rs", "pub struct Record<"),
        ("batch.rs", "pub struct Batch {"),
    ] {
        let source = std::fs::read_to_string(root().join("src").join(file)).unwrap();
        let before = source.split_once(name).unwrap().0;
        let attributes = before
            .lines()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        assert!(
            attributes
                .filter(|line| line.starts_with("#[derive"))
                .all(|line| !line.contains("Debug")),
            "{file}"
        );
    }
}
