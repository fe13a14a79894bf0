//! The tests that documents name exist: `tests/attacks/cves.md` names matches, `docs/failures.md` cases of the suite cli.
//!
//! A name is known if the source that makes the tests says it; what a test does is not looked at.

use anyhow::{Context, Result, bail, ensure};
use std::{fs, path::Path};

/// The document of the paper's CVEs, and where its matches are.
const CVES: &str = "tests/attacks/cves.md";
const REFEREE: &str = "tests/attacks/src/referee";
/// Rows it must have.
const COUNT: usize = 33;
/// The document of deaths, and where its cases are.
const FAILURES: &str = "docs/failures.md";
const CLI: &str = "xtask/src/test/cli";

/// Fails with every name that nothing has.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut sources = String::new();
    for entry in fs::read_dir(root.join(REFEREE))? {
        sources.push_str(&fs::read_to_string(entry?.path())?);
    }
    let mut missing = unknown_matches(&fs::read_to_string(root.join(CVES))?, &sources)?;
    let groups = |group: &str| fs::read_to_string(root.join(format!("{CLI}/{group}.rs"))).ok();
    missing.extend(unknown_cases(&fs::read_to_string(root.join(FAILURES))?, groups));
    ensure!(missing.is_empty(), "documents name tests that do not exist:\n{}", missing.join("\n"));
    Ok(())
}

/// The last cells of a document's tables.
fn last_cells(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some((row, row.rsplit_once(" | ")?.1))
    })
}

/// Matches that the rows of CVEs or the text name and no source has.
fn unknown_matches(document: &str, sources: &str) -> Result<Vec<String>> {
    let rows = last_cells(document).filter_map(|(row, _)| row.split(' ').next());
    let mut numbers: Vec<&str> = rows.filter(|word| word.starts_with("CVE-")).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() != COUNT {
        bail!("{CVES} has {} CVEs instead of {COUNT}", numbers.len());
    }
    let prose = document.lines().filter(|line| !line.starts_with('|'));
    let named = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = named.filter(|word| word.contains('_') && !word.contains(['.', ' ', '/']));
    let is_body = |row: &str| !row.starts_with("---") && !row.ends_with("| Matches");
    let cells = last_cells(document).filter(|(row, _)| is_body(row));
    Ok(cells
        .flat_map(|(_, cell)| cell.split(", "))
        .chain(words)
        .filter(|name| !is_match(name, sources))
        .map(|name| format!("{CVES}: {name}"))
        .collect())
}

/// Whether a match, or one that begins with what stands before `*`, is there.
fn is_match(name: &str, sources: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => sources.contains(&format!("(\"{start}")),
        None => sources.contains(&format!("(\"{name}\"")),
    }
}

/// Cases that the rows name and no group has: `group` or `group::case` with `_` for spaces.
fn unknown_cases(document: &str, group: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let named = last_cells(document).flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2));
    named
        .filter(|name| {
            let (file, case) = name.split_once("::").unwrap_or((name, ""));
            let known = group(file).context("no such group");
            !known
                .is_ok_and(|source| source.contains(&case.replace('_', " ")) || made(&source, case))
        })
        .map(|name| format!("{FAILURES}: {name}"))
        .collect()
}

/// Whether a case's name is made of a word and what follows it in a pattern: `{word} dies`.
fn made(source: &str, case: &str) -> bool {
    case.split_once('_').is_some_and(|(word, rest)| {
        source.contains(&format!("}} {}\"", rest.replace('_', " ")))
            && source.contains(&format!("\"{word}\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document with as many rows as it must have, whose last cells are what is given.
    fn document(cell: &str) -> String {
        (0..COUNT).map(|number| format!("| CVE-1-{number} | how | {cell} |\n")).collect()
    }

    #[test]
    fn a_match_that_is_not_there_is_found() {
        let sources = "(\"one\", End::Says), (\"two_more\", End::Dies)";
        let unknown = |text: &str| unknown_matches(text, sources).unwrap().len();
        assert_eq!(unknown(&document("one, two_more")), 0);
        assert_eq!(unknown(&document("one, three")), COUNT);
        assert_eq!(unknown(&(document("one") + "Beside these: `two_*` and `four_*`.\n")), 1);
        assert!(unknown_matches("| CVE-1-1 | how | one |\n", sources).is_err());
    }

    #[test]
    fn a_case_that_is_not_there_is_found() {
        let group = |name: &str| {
            (name == "known").then(|| "case(\"it ends\") format!(\"{x} dies\") \"part\"".to_owned())
        };
        let unknown = |cell: &str| unknown_cases(&format!("| what | {cell} |\n"), group);
        assert!(unknown("`known::it_ends`, `known`, `known::part_dies`").is_empty());
        assert_eq!(unknown("`known::it_goes_on`").len(), 1);
        assert_eq!(unknown("`known::other_dies`").len(), 1);
        assert_eq!(unknown("`unknown`").len(), 1);
    }
}
