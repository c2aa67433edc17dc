//! Reads Rust just far enough to tell code from comments, texts and tests.

/// The same text with comments, texts and characters blanked; every other character stays where it is.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |n: usize| chars.get(n).copied().unwrap_or('\0');
    let starts = |n: usize, what: &str| what.chars().enumerate().all(|(i, c)| at(n + i) == c);
    let (mut out, mut n) = (String::new(), 0);
    while n < chars.len() {
        let word_before = n > 0 && is_word(at(n - 1)) && !matches!(at(n - 1), 'b' | 'c');
        let hashes = (n + 1..).take_while(|&i| at(i) == '#').count();
        let end = if starts(n, "//") {
            (n..chars.len()).find(|&i| at(i) == '\n').unwrap_or(chars.len())
        } else if starts(n, "/*") {
            block_comment(&chars, n)
        } else if at(n) == 'r' && !word_before && at(n + 1 + hashes) == '"' {
            let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let open = n + hashes + 2;
            (open..chars.len()).find(|&i| starts(i, &close)).map_or(chars.len(), |i| i + close.len())
        } else if at(n) == '"' || (at(n) == '\'' && (at(n + 1) == '\\' || at(n + 2) == '\'')) {
            quoted(&chars, n)
        } else {
            n
        };
        if end == n {
            out.push(at(n));
        }
        out.extend((n..end).map(|i| if at(i) == '\n' { '\n' } else { ' ' }));
        n = end.max(n + 1);
    }
    out
}

/// Where a text or character that begins at `n` is over.
fn quoted(chars: &[char], n: usize) -> usize {
    let mut i = n + 1;
    while i < chars.len() && chars[i] != chars[n] {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// Where a comment that begins at `n`, and may hold others, is over.
fn block_comment(chars: &[char], n: usize) -> usize {
    let (mut i, mut depth) = (n, 0);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (i, depth) = (i + 2, depth + 1),
            ('*', Some('/')) => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code of a file that ships: nothing of a test file, and nothing under `#[cfg(test)]`.
pub(crate) fn shipped(path: &str, text: &str) -> String {
    let code = code(text);
    if is_test_file(path) || code.contains("#![cfg(test)]") {
        return String::new();
    }
    let (mut out, mut rest) = (String::new(), code.as_str());
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        out.push_str(before);
        let end = item_end(after);
        out.extend(after[..end].chars().filter(|&c| c == '\n'));
        rest = &after[end..];
    }
    out + rest
}

/// Where an item is over: at a `;` before any brace, or at the brace that closes the first.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            return at + 1;
        }
    }
    code.len()
}

/// Tests have a folder of their own, or a file called `tests.rs` or `…_tests.rs` that `#[cfg(test)]` includes.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// The lines, from 1, on which code names a word or path.
pub(crate) fn lines_naming(code: &str, what: &str) -> Vec<usize> {
    let ends = |c: Option<char>| !c.is_some_and(is_word);
    code.match_indices(what)
        .filter(|(at, _)| {
            ends(code[..*at].chars().next_back()) && ends(code[at + what.len()..].chars().next())
        })
        .map(|(at, _)| code[..at].matches('\n').count() + 1)
        .collect()
}

#[test]
fn code_is_told_from_what_is_not() {
    for (text, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a\"b") c"#, "f(      ) c"),
        (r##"f(r#"a"b"#) c"##, "f(        ) c"),
        (r#"for"a" c"#, "for    c"),
        (r#"br"\" c"#, "b     c"),
        (r"'\'' '{' '\u{7d}' &'a b", "                  &'a b"),
        ("'a: loop { 'b' }", "'a: loop {     }"),
        ("\"a\nb\" c", "  \n   c"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}
