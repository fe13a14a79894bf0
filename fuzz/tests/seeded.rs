//! Every target with its corpus as it is, and with mutations of it that are the same in every run.
//!
//! `FUZZ_ROUNDS=N` multiplies the mutations, `FUZZ_SEED=N` makes others. What fails is left in `target/fuzz/TARGET`: once understood it belongs into the
//! target's corpus.

use fuzz::{
    TARGETS, Target,
    driver::{Numbers, mutate},
};
use std::{
    env, fs,
    panic::{catch_unwind, resume_unwind},
    path::Path,
};

/// Where the mutations begin.
const SEED: u64 = 0x4d65_7474;

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// The inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

fn attempt(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(|| (target.run)(input)) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
        fs::create_dir_all(&folder).expect("the target folder can be written");
        fs::write(folder.join(target.name), input).expect("the target folder can be written");
        eprintln!("target {} fails with the {} bytes in target/fuzz", target.name, input.len());
        resume_unwind(panic);
    }
}

fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{name} has no inputs");
    corpus.iter().for_each(|input| attempt(target, input));
    let mut numbers = Numbers::new(number("FUZZ_SEED", SEED));
    for _ in 0..u64::from(target.rounds) * number("FUZZ_ROUNDS", 1) {
        attempt(target, &mutate(&mut numbers, &corpus));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $( #[test] fn $name() { check(stringify!($name)); } )*

        #[test]
        fn every_target_is_tested() {
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

targets! { archive layer erofs elf socket channel daemon services kernel }
