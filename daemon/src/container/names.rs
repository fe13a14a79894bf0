//! Names of containers: which are allowed, and made-up ones for those who give none.

use crate::home;

const FIRST: [&str; 32] = [
    "amber", "brave", "bright", "calm", "clear", "clever", "crisp", "eager", "early", "fair",
    "fleet", "gentle", "golden", "green", "keen", "kind", "light", "lively", "lucid", "mellow",
    "merry", "modest", "neat", "noble", "quick", "quiet", "ready", "sharp", "silver", "steady",
    "swift", "warm",
];
const SECOND: [&str; 32] = [
    "alder", "badger", "beech", "birch", "bison", "cedar", "crane", "curlew", "eagle", "elm",
    "falcon", "finch", "fox", "hare", "hazel", "heron", "ibis", "kestrel", "lark", "linden",
    "lynx", "maple", "marten", "oak", "osprey", "otter", "plover", "raven", "rowan", "swan",
    "tern", "wren",
];

/// Whether docker, too, would take the name.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && (2..=128).contains(&name.len()) && name.bytes().all(inner)
}

/// A name that `taken` does not know.
pub(crate) fn make(taken: impl Fn(&str) -> bool) -> String {
    for _ in 0..16 {
        let [first, second] = home::random().unwrap_or([0, 0]);
        let pick = |words: &[&'static str; 32], byte: u8| words[usize::from(byte % 32)];
        let name = format!("{}_{}", pick(&FIRST, first), pick(&SECOND, second));
        if !taken(&name) {
            return name;
        }
    }
    format!("container_{}", home::token())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_valid_and_free() {
        assert!(is_valid(&make(|_| false)));
        assert!(is_valid(&make(|name| !name.starts_with("container_"))));
    }

    #[test]
    fn names_that_could_be_paths_or_options_are_refused() {
        for name in ["", "a", "../x", "-x", ".x", "a/b", "a b", &"x".repeat(200)] {
            assert!(!is_valid(name), "{name}");
        }
    }
}
