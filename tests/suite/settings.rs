//! The table of settings, and the files that are generated from it or repeat it.
//!
//! `UPDATE=1 cargo test --test suite settings::` writes the generated files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use edgetap::config::{Config, Problem, Problems, Variables};
use edgetap::settings::{
    self, Kind, Message, PREFIXES, Place, SETTINGS, Setting, alternatives, duration_text, messages,
};
use serde_json::{Value, json};

use crate::support::fixtures;

/// The longest line of `.env.example`, and the longest cell of the README's table.
const LINE: usize = 100;
const TABLE_BEGINS: &str =
    "<!-- Generated from src/settings.rs: UPDATE=1 cargo test --test suite settings:: -->\n";
const TABLE_ENDS: &str = "<!-- End of the settings -->\n";

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_default()
}

/// Compares a generated file with what it should be, or writes it when asked to.
pub(crate) fn assert_generated(path: &Path, wanted: &str) {
    #[expect(clippy::disallowed_methods, reason = "not a setting of edgetap")]
    let update = std::env::var_os("UPDATE").is_some_and(|update| update == "1");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if update && found != wanted {
        std::fs::write(path, wanted).unwrap();
    } else {
        assert!(
            found == wanted,
            "{} is outdated. Write it with: UPDATE=1 cargo test --test suite -- settings:: terraform::",
            path.display()
        );
    }
}

/// The values of a setting, in Markdown.
fn values(setting: &Setting) -> String {
    match setting.kind {
        Kind::Text | Kind::Secret { min_bytes: 0 } => "text".to_owned(),
        Kind::Secret { min_bytes } => format!("{min_bytes} bytes or more"),
        Kind::Arn => "ARN".to_owned(),
        Kind::File => "file name".to_owned(),
        Kind::Url { .. } => "URL or host name".to_owned(),
        Kind::Integer { from, to } => format!("{from} to {to}"),
        Kind::Duration { from, to } => {
            format!("`{}` to `{}`", duration_text(from), duration_text(to))
        }
        Kind::Choice { values, .. } | Kind::Names { values, .. } => alternatives(values),
        Kind::Extensions { .. } | Kind::Globs => "list".to_owned(),
        Kind::Parameters { .. } => "`name=value&…`".to_owned(),
    }
}

fn default(setting: &Setting) -> String {
    match (setting.kind, setting.default) {
        (Kind::Extensions { .. }, None) => "built-in list".to_owned(),
        (_, None) if setting.required.is_some() => "required".to_owned(),
        (_, None) => "–".to_owned(),
        (Kind::Integer { .. }, Some(default)) => default.to_owned(),
        (_, Some(default)) => format!("`{default}`"),
    }
}

fn meaning(setting: &Setting) -> String {
    match setting.kind {
        Kind::Url { default_path } => {
            format!("{}. Default path: `{default_path}`", setting.about)
        }
        _ => setting.about.to_owned(),
    }
}

fn readme_table() -> String {
    let mut table = "| Setting | Default | Values | Meaning |\n|---|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let meaning = meaning(setting);
        assert!(meaning.chars().count() <= LINE, "{meaning}");
        let (default, values) = (default(setting), values(setting));
        writeln!(
            table,
            "| `{}` | {default} | {values} | {meaning} |",
            setting.name
        )
        .unwrap();
    }
    table
}

fn wrap(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LINE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n")
}

fn example() -> String {
    let mut example =
        "# Settings of edgetap. Copy this file to .env and fill in the required ones.\n\
         # The others are shown with their defaults.\n\
         #\n\
         # edgetap parses this file itself and never passes it to a shell. A value is literal. It ends at the\n\
         # end of the line, or at white space followed by #. Use single quotes around a value that contains\n\
         # white space followed by #, or that begins or ends with white space or a quote.\n"
            .to_owned();
    for setting in SETTINGS {
        let values = match setting.kind {
            Kind::Text
            | Kind::Secret { min_bytes: 0 }
            | Kind::Extensions { .. }
            | Kind::Globs
            | Kind::Parameters { .. } => String::new(),
            _ => format!(" Value: {}.", values(setting)),
        };
        let text = format!("{}. {}{values}", meaning(setting), setting.details);
        let comment = wrap(&text.replace('`', ""));
        let mark = if setting.required.is_some() { "" } else { "#" };
        let default = setting.default.unwrap_or_default();
        write!(example, "\n{comment}\n{mark}{}={default}\n", setting.name).unwrap();
    }
    example
}

#[test]
fn settings_json_is_generated_from_the_table() {
    #[derive(serde::Serialize)]
    struct Table<'a> {
        about: &'a str,
        prefixes: &'a [&'a str],
        settings: &'a [Setting],
        messages: BTreeMap<&'a str, Message>,
    }
    let table = Table {
        about: "Generated from src/settings.rs: UPDATE=1 cargo test --test suite settings::",
        prefixes: PREFIXES,
        settings: SETTINGS,
        messages: messages::ALL
            .iter()
            .map(|message| (message.key, *message))
            .collect(),
    };
    assert_eq!(
        table.messages.len(),
        messages::ALL.len(),
        "two messages have the same key"
    );
    let text = serde_json::to_string_pretty(&table).unwrap() + "\n";
    assert_generated(&repository().join("scripts/settings.json"), &text);
}

#[test]
fn env_example_is_generated_from_the_table() {
    assert_generated(&repository().join(".env.example"), &example());
}

#[test]
fn readme_table_is_generated_from_the_table() {
    let readme = read("README.md");
    let (before, rest) = readme.split_once(TABLE_BEGINS).unwrap();
    let (_, after) = rest.split_once(TABLE_ENDS).unwrap();
    let table = readme_table();
    let wanted = format!("{before}{TABLE_BEGINS}\n{table}\n{TABLE_ENDS}{after}");
    assert_generated(&repository().join("README.md"), &wanted);
}

#[test]
fn env_example_sets_the_required_settings_only() {
    let (variables, errors) = edgetap::dotenv::parse(&example());
    assert_eq!(errors, []);
    let set: BTreeSet<_> = variables.keys().map(String::as_str).collect();
    let required = SETTINGS
        .iter()
        .filter(|setting| setting.required.is_some())
        .map(|setting| setting.name);
    assert_eq!(set, required.collect());
}

#[test]
fn secrets_are_kept_in_the_secret() {
    for setting in SETTINGS {
        if matches!(setting.kind, Kind::Secret { .. }) {
            assert!(
                matches!(setting.place, Place::Secret { .. }),
                "{}",
                setting.name
            );
            assert_eq!(setting.default, None, "{}", setting.name);
        }
    }
}

/// `scripts/settings.jq` is compared with the same fixture by `tests/scripts/settings.bats`.
#[test]
fn refusals_match_the_fixture() {
    let path = fixtures().join("dotenv/refusals.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let found: Vec<Value> = cases
        .iter()
        .map(|case| {
            let env = case["env"].as_str().unwrap();
            let variables = Variables::from_dotenv(env, ".env");
            let mut problems = match Config::read(&variables) {
                Ok(_) => Vec::new(),
                Err(Problems(problems)) => problems,
            };
            problems.sort_by(|one, other| one.message.cmp(&other.message));
            json!({ "env": env, "problems": problems })
        })
        .collect();
    assert_generated(
        &path,
        &(serde_json::to_string_pretty(&found).unwrap() + "\n"),
    );
}

#[test]
fn terraform_passes_every_setting_on() {
    let function = read("terraform/modules/edgetap/function.tf");
    let (_, block) = function.split_once("settings = {").unwrap();
    let (block, _) = block.split_once('}').unwrap();
    let passed: BTreeSet<_> = block
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim())
        .collect();
    let in_environment = SETTINGS
        .iter()
        .filter(|setting| matches!(setting.place, Place::Environment | Place::Module))
        .map(|setting| setting.name);
    assert_eq!(passed, in_environment.collect());
}

/// The block of a variable of `terraform/modules/edgetap/variables.tf`.
fn variable(name: &str) -> String {
    let variables = read("terraform/modules/edgetap/variables.tf");
    let (_, block) = variables
        .split_once(&format!("\nvariable \"{name}\" {{\n"))
        .unwrap_or_else(|| panic!("terraform/modules/edgetap/variables.tf has no variable {name}"));
    block.split_once("\n}\n").unwrap().0.to_owned()
}

/// What the validations of a variable say, and the parts of their conditions that depend on the
/// table. `terraform/modules/edgetap/tests` shows which values they refuse.
fn validations(setting: &Setting, name: &str) -> (Vec<Problem>, Vec<String>) {
    let position = [("position", "…")];
    let problems = |templates: &[&Message]| {
        templates
            .iter()
            .map(|template| setting.problem(template, &position))
            .collect()
    };
    match setting.kind {
        Kind::Url { .. } => (
            problems(&[
                &messages::URL,
                &messages::URL_SCHEME,
                &messages::URL_USER,
                &messages::URL_FRAGMENT,
            ]),
            Vec::new(),
        ),
        Kind::Integer { from, to } => (
            problems(&[&messages::INTEGER]),
            vec![format!(
                "try(var.{name} >= {from} && var.{name} <= {to} && floor(var.{name}) == var.{name}, var.{name} == null)"
            )],
        ),
        Kind::Duration { from, to } => (
            problems(&[&messages::DURATION]),
            vec![
                format!("{{ s = {from}, m = {}, h = 1, d = 1 }}", from / 60),
                format!(
                    "{{ s = {to}, m = {}, h = {}, d = {} }}",
                    to / 60,
                    to / 3600,
                    to / 86_400
                ),
            ],
        ),
        Kind::Choice { values, .. } => {
            let list = serde_json::to_string(values).unwrap().replace(',', ", ");
            (
                problems(&[&messages::CHOICE]),
                vec![format!(
                    "var.{name} == null || contains({list}, coalesce(var.{name}, \"-\"))"
                )],
            )
        }
        Kind::Extensions { max_length } => (
            problems(&[&messages::EXTENSIONS_MIXED, &messages::EXTENSIONS_INVALID]),
            vec![format!("[A-Za-z0-9]{{1,{max_length}}}")],
        ),
        Kind::Names { values, max_length } => (
            problems(&[&messages::NAMES_SWITCH, &messages::NAME_INVALID]),
            vec![values.join("|"), format!("{{0,{}}}", max_length - 2)],
        ),
        Kind::Globs => (problems(&[&messages::GLOB_RELATIVE]), Vec::new()),
        Kind::Parameters { reserved } => (
            problems(&[&messages::PARAMETER_INVALID, &messages::PARAMETER_RESERVED]),
            vec![format!("({})=", reserved.join("|"))],
        ),
        Kind::Text | Kind::Secret { .. } | Kind::Arn | Kind::File => (Vec::new(), Vec::new()),
    }
}

/// The error messages in the block of a variable, with `…` for each interpolation.
fn refusals(block: &str) -> BTreeSet<String> {
    block
        .lines()
        .filter_map(|line| line.trim().strip_prefix("error_message = \""))
        .map(|text| match text.split_once("${") {
            Some((before, after)) => {
                format!("{before}…{}", after.rsplit_once('}').unwrap().1)
            }
            None => text.to_owned(),
        })
        .map(|text| text.trim_end_matches('"').trim_end_matches('.').to_owned())
        .collect()
}

#[test]
fn terraform_variables_refuse_what_config_refuses() {
    for setting in SETTINGS {
        if setting.place != Place::Environment {
            continue;
        }
        let name = setting.name.to_lowercase();
        let block = variable(&name);
        let kind = match setting.kind {
            Kind::Integer { .. } => "number",
            _ => "string",
        };
        let described = format!("  description = \"{}: ", setting.name);
        for part in [described.as_str(), &format!("  type        = {kind}\n")] {
            assert!(block.contains(part), "{name} lacks {part}:\n{block}");
        }
        let (problems, conditions) = validations(setting, &name);
        let refusals = refusals(&block);
        for problem in problems {
            let wanted = problem.message.replace(setting.name, &name);
            assert!(
                refusals.contains(&wanted),
                "{name} lacks: {wanted}\n{block}"
            );
        }
        for wanted in conditions {
            assert!(block.contains(&wanted), "{name} lacks: {wanted}\n{block}");
        }
    }
}

#[test]
fn terraform_compares_the_memory_with_the_default_settings() {
    let memory = variable("memory_size");
    for setting in [settings::BRIDGE_CONCURRENCY, settings::BATCH_MAX_BYTES] {
        let value = format!(
            "var.{}, {}",
            setting.name.to_lowercase(),
            setting.default.unwrap()
        );
        let every = format!("coalesce(var.{},", setting.name.to_lowercase());
        assert!(memory.contains(&value), "{memory}");
        assert_eq!(
            memory.matches(&value).count(),
            memory.matches(&every).count()
        );
    }
}

#[test]
fn terraform_secret_has_the_fields_of_the_table() {
    let credentials = variable("bridge_credentials");
    for setting in SETTINGS {
        if let Place::Secret { field } = setting.place {
            let kind = if setting.required.is_some() {
                "string\n"
            } else {
                "optional(string)\n"
            };
            let is_set = credentials.lines().any(|line| {
                line.trim().split_once('=').is_some_and(|(name, value)| {
                    name.trim() == field && value.trim() == kind.trim()
                })
            });
            assert!(is_set, "{field} = {kind}");
        }
    }
}
