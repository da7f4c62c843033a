//! The Terraform module, its root, and the reference generated from its variables and outputs.
//!
//! `UPDATE=1 cargo test --test suite terraform::` writes the reference.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use edgetap::settings::{Place, SETTINGS};
use regex::Regex;

use crate::settings::{assert_generated, read, repository};

const MODULE: &str = "terraform/modules/edgetap";
/// The longest cell of the reference.
const CELL: usize = 100;
/// What setup-tfvars.sh writes in addition to the settings.
const WRITTEN: [&str; 3] = ["architecture", "bridge_credentials", "secret_version"];
const BEGINS: &str = "<!-- Generated from variables.tf and outputs.tf: UPDATE=1 cargo test --test suite terraform:: -->\n";

/// A variable or an output.
struct Block {
    name: String,
    body: String,
}

impl Block {
    /// Returns the blocks of a kind in a file that `terraform fmt` has formatted.
    fn all(kind: &str, file: &str) -> Vec<Self> {
        let pattern = format!(r#"(?ms)^{kind} "(\w+)" \{{(?: (.*?) \}}|\n(.*?)^\}})$"#);
        Regex::new(&pattern)
            .unwrap()
            .captures_iter(&read(file))
            .map(|found| Self {
                name: found[1].to_owned(),
                body: found.get(2).or(found.get(3)).unwrap().as_str().to_owned(),
            })
            .collect()
    }

    /// Returns the value of an argument, without indentation.
    fn argument(&self, name: &str) -> Option<String> {
        let start = Regex::new(&format!(r"(?m)^ *{name} += ")).unwrap();
        let rest = &self.body[start.find(&self.body)?.end()..];
        let end = match rest.lines().next()? {
            "<<-EOT" => return Some(heredoc(rest)),
            line if line.ends_with(['{', '(']) => rest.find("\n  }")? + "\n  }".len(),
            line => line.len(),
        };
        let tail = rest[end..].lines().next().unwrap_or_default();
        Some(
            rest[..end + tail.len()]
                .trim_matches('"')
                .replace("\\\"", "\""),
        )
    }

    /// Returns the sentences of the description.
    fn sentences(&self) -> Vec<String> {
        let text = self.argument("description").unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn setting(&self) -> Option<&'static str> {
        let of_environment = |place| matches!(place, Place::Environment);
        SETTINGS
            .iter()
            .find(|setting| {
                of_environment(setting.place) && setting.name.to_lowercase() == self.name
            })
            .map(|setting| setting.name)
    }

    /// Where an operator sets the variable.
    fn place(&self) -> String {
        match self.setting() {
            Some(setting) => format!("`.env`: `{setting}`"),
            None if WRITTEN.contains(&self.name.as_str()) => "`setup-tfvars.sh`".to_owned(),
            None => "`mine.auto.tfvars`".to_owned(),
        }
    }

    fn default(&self) -> String {
        match self.argument("default").as_deref() {
            None => "required".to_owned(),
            Some("null") if self.setting().is_some() => "the function's".to_owned(),
            Some("null") => "none".to_owned(),
            Some(value) => format!("`{value}`"),
        }
    }
}

fn heredoc(text: &str) -> String {
    let lines = text
        .lines()
        .skip(1)
        .take_while(|line| line.trim() != "EOT")
        .map(str::trim);
    lines.collect::<Vec<_>>().join("\n")
}

fn module(file: &str) -> String {
    format!("{MODULE}/{file}")
}

fn variables() -> Vec<Block> {
    Block::all("variable", &module("variables.tf"))
}

fn names(blocks: &[Block]) -> BTreeSet<&str> {
    blocks.iter().map(|block| block.name.as_str()).collect()
}

fn table() -> String {
    let root = Block::all("variable", "terraform/variables.tf");
    let mut text = "| variable | default | set it in | meaning |\n|---|---|---|---|\n".to_owned();
    text += "| `aws_region` | `us-east-1` | `mine.auto.tfvars` | Region of the installation; only in `terraform/`. |\n";
    let mut more = String::new();
    for variable in variables() {
        let mut sentences = variable.sentences();
        let first = sentences.remove(0);
        let repeated = format!("{}: ", variable.setting().unwrap_or_default());
        let meaning = first.strip_prefix(&repeated).unwrap_or(&first);
        assert!(
            meaning.len() <= CELL,
            "{}: the first sentence of the description is longer than {CELL}",
            variable.name
        );
        let default = root
            .iter()
            .find(|other| other.name == variable.name)
            .filter(|other| other.argument("default").as_deref() != Some("null"))
            .unwrap_or(&variable)
            .default();
        let (name, place) = (&variable.name, variable.place());
        writeln!(text, "| `{name}` | {default} | {place} | {meaning} |").unwrap();
        if !sentences.is_empty() {
            writeln!(more, "- `{name}`: {}", sentences.join("\n  ")).unwrap();
        }
    }
    format!("{text}\n{more}")
}

/// The types of variables that are objects.
fn types() -> String {
    let variables = variables();
    let kinds = variables
        .iter()
        .map(|variable| (&variable.name, variable.argument("type").unwrap()));
    let objects = kinds.filter(|(_, kind)| kind.contains("object("));
    objects
        .map(|(name, kind)| format!("{name} = {}\n", kind.replace("\n  ", "\n")))
        .collect::<Vec<_>>()
        .concat()
}

fn outputs() -> String {
    let mut text = "| output | meaning |\n|---|---|\n".to_owned();
    for output in Block::all("output", &module("outputs.tf")) {
        let meaning = output.sentences().join(" ");
        assert!(meaning.len() <= CELL, "{}: {meaning}", output.name);
        writeln!(text, "| `{}` | {meaning} |", output.name).unwrap();
    }
    text
}

#[test]
fn reference_of_the_module_is_current() {
    let path = repository().join(module("README.md"));
    let found = std::fs::read_to_string(&path).unwrap();
    let (head, _) = found.split_once(BEGINS).unwrap();
    let wanted = format!(
        "{head}{BEGINS}\n## Variables\n\n{}\nTypes of objects:\n\n```hcl\n{}```\n\n## Outputs\n\n{}",
        table(),
        types(),
        outputs()
    );
    assert_generated(&path, &wanted);
}

/// Each variable and output of the module is one of `terraform/`, with the same name.
#[test]
fn root_passes_every_variable_and_output_on() {
    let (ours, root) = (
        variables(),
        Block::all("variable", "terraform/variables.tf"),
    );
    let mut expected = names(&ours);
    let main = read("terraform/main.tf");
    for name in &expected {
        let passed = Regex::new(&format!(r"(?m)^  {name} += var\.{name}$")).unwrap();
        assert!(
            passed.is_match(&main),
            "terraform/main.tf does not pass {name} on"
        );
    }
    expected.insert("aws_region");
    assert_eq!(names(&root), expected);
    let ours = Block::all("output", &module("outputs.tf"));
    let root = Block::all("output", "terraform/outputs.tf");
    assert_eq!(names(&root), names(&ours));
    for output in root {
        let value = format!("value = module.edgetap.{}", output.name);
        assert_eq!(output.body, value);
    }
}

/// A secret variable must be ephemeral on the whole way, or Terraform would store it.
#[test]
fn root_keeps_credentials_out_of_the_state() {
    for file in ["terraform/variables.tf".to_owned(), module("variables.tf")] {
        let blocks = Block::all("variable", &file);
        let credentials = blocks
            .iter()
            .find(|block| block.name == "bridge_credentials")
            .unwrap();
        for argument in ["ephemeral", "sensitive"] {
            assert_eq!(
                credentials.argument(argument).as_deref(),
                Some("true"),
                "{file}"
            );
        }
    }
}

/// Each variable is set in a test of the module, whose assertions fail if it has no effect.
#[test]
fn every_variable_of_the_module_is_tested() {
    let tests: String = std::fs::read_dir(repository().join(module("tests")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for variable in variables() {
        let is_set = Regex::new(&format!(r"(?m)^ +{} += ", variable.name)).unwrap();
        assert!(is_set.is_match(&tests), "no test sets {}", variable.name);
    }
}

/// Each resource that an earlier layout had in `terraform/` itself moves into the module.
#[test]
fn every_resource_of_the_earlier_layout_moves() {
    let state: serde_json::Value =
        serde_json::from_str(&read("tests/terraform/earlier.tfstate")).unwrap();
    let moved = read("terraform/moved.tf");
    for resource in state["resources"].as_array().unwrap() {
        if resource["mode"] == "managed" {
            let (kind, name) = (&resource["type"], &resource["name"]);
            let address = format!("{}.{}", kind.as_str().unwrap(), name.as_str().unwrap());
            let block = format!("  from = {address}\n  to   = module.edgetap.{address}\n");
            assert!(moved.contains(&block), "terraform/moved.tf lacks {address}");
        }
    }
}

/// The names that `environment` refuses are those of edgetap's settings.
#[test]
fn environment_refuses_every_setting() {
    let blocks = variables();
    let environment = blocks
        .iter()
        .find(|block| block.name == "environment")
        .unwrap();
    let passed = read(&module("function.tf"));
    let of_the_function = |place| !matches!(place, Place::Scripts);
    for setting in SETTINGS
        .iter()
        .filter(|setting| of_the_function(setting.place))
    {
        let is_refused = environment.body.contains(&format!("\"{}\"", setting.name))
            || Regex::new(&format!(r"(?m)^    {} += ", setting.name))
                .unwrap()
                .is_match(&passed);
        assert!(is_refused, "environment accepts {}", setting.name);
    }
}
