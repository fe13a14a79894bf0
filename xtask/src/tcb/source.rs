//! Counts the code lines of a source file as they are compiled for the machine: no blank lines, no comments, nothing that only tests, the host or the
//! generated manual have.

use serde::Serialize;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    /// Lines with code.
    pub(super) lines: usize,
    /// `unsafe` blocks, functions, traits and implementations.
    pub(super) unsafe_blocks: usize,
}

impl Count {
    /// Adds another file's.
    pub(super) fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.unsafe_blocks += other.unsafe_blocks;
    }
}

/// Counts a file. Assembly (`is_rust` false) has the same comments and nothing else to leave out.
pub(super) fn count(text: &str, is_rust: bool) -> Count {
    let mut code = strip(text, is_rust);
    if is_rust {
        remove_left_out(&mut code);
    }
    let lines =
        code.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    let text = String::from_utf8_lossy(&code);
    let words = text.split(|sign: char| !(sign.is_alphanumeric() || sign == '_'));
    Count { lines, unsafe_blocks: words.filter(|word| *word == "unsafe").count() }
}

/// A Rust file's code, its lines where they were.
pub(super) fn code(text: &str) -> String {
    let mut code = strip(text, true);
    remove_left_out(&mut code);
    String::from_utf8_lossy(&code).into_owned()
}

/// The text without comments, with the insides of strings and characters replaced by `_`; lines stay where they are.
fn strip(text: &str, is_rust: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut code = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let begin = index;
        match (at(index), at(index + 1)) {
            (b'/', b'/') => {
                while index < bytes.len() && at(index) != b'\n' {
                    index += 1;
                }
                continue;
            }
            (b'/', b'*') => {
                let mut depth = 0;
                while index < bytes.len() {
                    match (at(index), at(index + 1)) {
                        (b'/', b'*') => (depth, index) = (depth + 1, index + 2),
                        (b'*', b'/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
                code.extend(
                    bytes[begin..index.min(bytes.len())].iter().filter(|byte| **byte == b'\n'),
                );
                continue;
            }
            (b'"', _) => index = end_of_string(bytes, index + 1),
            (b'r', b'"' | b'#')
                if is_rust && !begin.checked_sub(1).is_some_and(|before| is_word(at(before))) =>
            {
                index = end_of_raw_string(bytes, index);
            }
            (b'\'', _) if is_rust => index = end_of_character(bytes, index),
            _ => {
                code.push(at(index));
                index += 1;
                continue;
            }
        }
        let kept = &bytes[begin..index.min(bytes.len())];
        if is_name(kept) {
            // The value of a `cfg`.
            code.extend(kept);
            continue;
        }
        code.extend(kept.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b'_' }));
    }
    code
}

/// Whether a literal is a string of one word (but for the one that is counted).
fn is_name(literal: &[u8]) -> bool {
    let inside = literal.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inside.is_some_and(|name| name != b"unsafe" && name.iter().all(|byte| is_word(*byte)))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn end_of_string(bytes: &[u8], mut index: usize) -> usize {
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'\\' => index += 2,
            b'"' => return index + 1,
            _ => index += 1,
        }
    }
    index
}

/// The end of `r"..."` or `r#"..."#`; of a raw identifier, only its `r#`.
fn end_of_raw_string(bytes: &[u8], begin: usize) -> usize {
    let hashes = bytes[begin + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(begin + 1 + hashes) != Some(&b'"') {
        return begin + 1 + hashes;
    }
    let mut index = begin + 2 + hashes;
    while index < bytes.len() {
        if bytes[index] == b'"'
            && bytes[index + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count()
                == hashes
        {
            return index + 1 + hashes;
        }
        index += 1;
    }
    index
}

/// The end of a character literal; of a lifetime, only its quote.
fn end_of_character(bytes: &[u8], begin: usize) -> usize {
    if bytes.get(begin + 1) == Some(&b'\\') {
        let rest = &bytes[(begin + 3).min(bytes.len())..];
        return rest
            .iter()
            .position(|byte| *byte == b'\'')
            .map_or(begin + 1, |end| begin + 3 + end + 1);
    }
    let width = match bytes.get(begin + 1).copied().unwrap_or(0) {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    if bytes.get(begin + 1 + width) == Some(&b'\'') { begin + 2 + width } else { begin + 1 }
}

/// What stands before an item that the machine's programs do not have.
const LEFT_OUT: [&[u8]; 5] = [
    b"#[cfg(test)]",
    b"#[cfg(not(target_os = \"none\"))]",
    b"#[cfg(feature = \"manual\")]",
    b"#[cfg(feature = \"interleave\")]",
    b"#[cfg(feature = \"multiboot\")]",
];

/// Blanks every item that is left out, up to the end of its body or its semicolon.
fn remove_left_out(code: &mut [u8]) {
    for mark in LEFT_OUT {
        let mut from = 0;
        while let Some(begin) =
            code[from..].windows(mark.len()).position(|window| window == mark).map(|at| at + from)
        {
            let end = end_of_item(code, begin + mark.len());
            for byte in &mut code[begin..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            from = end;
        }
    }
}

fn end_of_item(code: &[u8], begin: usize) -> usize {
    let mut end = begin;
    let mut depth = 0_usize;
    while let Some(byte) = code.get(end) {
        end += 1;
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            b';' if depth == 0 => break,
            _ => {}
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> usize {
        count(text, true).lines
    }

    #[test]
    fn what_only_the_host_has_does_not_count() {
        let host = "#[cfg(not(target_os = \"none\"))]\nfn reset() {\n    a();\n}\n";
        assert_eq!(lines(&format!("fn a() {{}}\n{host}fn b() {{}}\n")), 2);
        assert_eq!(lines("#[cfg(target_os = \"none\")]\nfn a() {}\n"), 2);
        assert_eq!(lines("#[cfg(feature = \"manual\")]\nuse a;\nfn b() {}\n"), 1);
    }

    #[test]
    fn blank_lines_and_comments_do_not_count() {
        assert_eq!(lines("//! head\n\nfn a() {}\n/* x\n y /* z */\n */ fn b() {}\n  // end\n"), 2);
    }

    #[test]
    fn text_in_strings_is_code_and_never_a_comment() {
        assert_eq!(
            lines(
                "let a = \"// no\n /* comment\";\nlet b = r#\"\" // \"#;\nlet c = '\"'; // yes\nlet d: &'a str = \"\";"
            ),
            5
        );
    }

    #[test]
    fn tests_do_not_count() {
        assert_eq!(
            lines(
                "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { let c = \"}\"; }\n}\nfn d() {}\n"
            ),
            2
        );
        assert_eq!(lines("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 1);
        assert_eq!(lines("#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\nfn a() {}\n"), 1);
    }

    #[test]
    fn unsafe_is_counted_in_code_only() {
        let count =
            count("// unsafe\nunsafe { a() }\nlet b = \"unsafe\"; unsafe fn c() {}\n", true);
        assert_eq!(count.unsafe_blocks, 2);
    }
}
