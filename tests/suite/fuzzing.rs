//! Runs the fuzz targets on their committed corpus. `fuzz/README.md` explains how to fuzz.

#[path = "../../fuzz/src/lib.rs"]
pub(crate) mod targets;

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn committed_corpus_passes_every_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let directories: BTreeSet<_> = std::fs::read_dir(&corpus)
        .unwrap()
        .map(|directory| directory.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        directories,
        targets::TARGETS
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect()
    );
    for (name, check) in targets::TARGETS {
        let mut inputs = 0;
        for input in std::fs::read_dir(corpus.join(name)).unwrap() {
            let path = input.unwrap().path();
            println!("{}", path.display()); // shown if the target fails
            check(&std::fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 5, "{name} has {inputs} inputs");
    }
}
