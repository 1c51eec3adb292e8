//! Runs every target over its corpus and its regressions, with any compiler.

use std::{
    fs,
    path::{Path, PathBuf},
};

use warren_fuzz::TARGETS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn all_inputs_pass() {
    for target in TARGETS {
        let inputs = ["corpus", "regressions"]
            .map(|kind| files(&folder(kind).join(target.name)))
            .concat();
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in inputs {
            // Shown when the target panics.
            println!("{}", input.display());
            (target.run)(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn the_empty_input_passes_too() {
    for target in TARGETS {
        println!("{}", target.name);
        (target.run)(&[]);
    }
}

/// A format that changes makes old seeds useless without anybody noticing.
#[test]
fn seeds_are_current() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            let path = folder("corpus").join(target.name).join(&seed.name);
            let written = fs::read(&path).unwrap_or_default();
            assert!(
                written == seed.bytes,
                "{} is stale: cargo run --bin seeds",
                path.display()
            );
        }
    }
}

#[test]
fn every_target_has_its_program() {
    let programs = files(&folder("fuzz_targets"));
    let names: Vec<&str> = programs
        .iter()
        .filter_map(|path| path.file_stem()?.to_str())
        .collect();
    let mut wanted: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for (program, name) in programs.iter().zip(names) {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in Cargo.toml"
        );
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        assert!(
            fs::read_to_string(program).unwrap().contains(&target.path),
            "{name} runs another target"
        );
    }
}
