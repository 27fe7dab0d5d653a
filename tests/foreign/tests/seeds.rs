//! The seeds in the tree, with the toolchain that everybody has: what the fuzzer found once stays found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use theriac_foreign::{Answer, TARGETS, seeds};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names() -> BTreeSet<String> {
    TARGETS.iter().map(|target| target.name.to_owned()).collect()
}

// AB01, RN01.
#[test]
fn every_seed_keeps_the_promises_of_its_target_and_both_answers_are_among_them() {
    let mut lacks = Vec::new();
    for target in TARGETS {
        let answer = |seed: theriac_foreign::Seed| {
            // The name of the seed is what a failure needs first.
            println!("{}/{}", target.name, seed.name);
            (target.check)(&seed.bytes)
        };
        let answers: Vec<Answer> = seeds(target).unwrap().into_iter().map(answer).collect();
        let missing = [Answer::Taken, Answer::Refused].into_iter().filter(|answer| !answers.contains(answer));
        lacks.extend(missing.map(|answer| format!("{}: {answer:?}", target.name)));
    }
    assert!(lacks.is_empty(), "answers that no seed gets: {lacks:?}");
}

#[test]
fn a_seed_cut_at_any_byte_keeps_them_too() {
    for target in TARGETS {
        for seed in seeds(target).unwrap() {
            let step = seed.bytes.len() / 64 + 1;
            for cut in (0..seed.bytes.len()).step_by(step) {
                (target.check)(&seed.bytes[..cut]);
            }
        }
    }
}

#[test]
fn each_target_has_its_binary_and_each_directory_of_seeds_its_target() {
    let manifest: toml::Table = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let binaries = manifest["bin"].as_array().unwrap().iter();
    let binaries: BTreeSet<String> = binaries.map(|binary| binary["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(binaries, names());
    let directories = fuzz().join("seeds").read_dir().unwrap().map(|entry| entry.unwrap());
    let directories = directories.filter(|entry| entry.file_type().unwrap().is_dir());
    let directories: BTreeSet<String> = directories.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(directories, names());
}
