//! JSON that grows along given paths: mostly of the right shape, with keys given twice, escaped, or holding something else.

use crate::dice::Dice;

/// What stands at the ends, or instead of anything.
const LEAVES: [&str; 24] = [
    "0",
    "1",
    "5",
    "17",
    "40",
    "128",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551616",
    "-1",
    "-0",
    "1.0",
    "2e1",
    "null",
    "true",
    "false",
    "\"\"",
    "\"ab\"",
    "\"h\\u00e9\\n\"",
    "\"data:x,AA\"",
    "\"text\"",
    "[]",
    "{}",
    "[{}]",
];

/// A document whose top grows along these paths, of steps between dots; `*` is every element of an array. A path may
/// end with `=` and what stands there.
pub(crate) fn document(dice: &mut Dice<'_>, paths: &[&str]) -> String {
    let paths: Vec<Vec<&str>> = paths.iter().map(|path| path.split('.').collect()).collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    value(dice, &paths)
}

fn blank(dice: &mut Dice<'_>) -> &'static str {
    dice.pick(&["", "", "", "", " ", "\t "])
}

fn value(dice: &mut Dice<'_>, paths: &[&[&str]]) -> String {
    let ends: Vec<&str> = paths
        .iter()
        .filter(|path| path.is_empty() || path[0].starts_with('='))
        .map(|p| p.first().map_or("", |it| it.trim_start_matches('=')))
        .collect();
    let on: Vec<&[&str]> =
        paths.iter().copied().filter(|path| path.first().is_some_and(|it| !it.starts_with('='))).collect();
    if on.is_empty() || (!ends.is_empty() && dice.flag()) || dice.rarely(24) {
        let fixed = ends.iter().find(|it| !it.is_empty()).filter(|_| !dice.rarely(6));
        return fixed.map_or_else(|| dice.pick(&LEAVES).to_owned(), |it| (*it).to_owned());
    }
    if on.iter().any(|path| path[0] == "*") && on.iter().all(|path| path[0] == "*") || dice.rarely(40) {
        let inner: Vec<&[&str]> = on.iter().map(|path| &path[1..]).collect();
        let elements: Vec<String> = (0..dice.below(3)).map(|_| value(dice, &inner)).collect();
        return format!("[{}{}]", blank(dice), elements.join(","));
    }
    let mut members = Vec::new();
    for _ in 0..dice.below(6) {
        let key = dice.pick(&on)[0];
        let inner: Vec<&[&str]> = on.iter().filter(|path| path[0] == key).map(|path| &path[1..]).collect();
        let inner = value(dice, &inner);
        members.push(format!(
            "{}\"{}\"{}:{}{inner}",
            blank(dice),
            spelled(dice, key),
            blank(dice),
            blank(dice)
        ));
    }
    format!("{{{}{}}}", members.join(","), blank(dice))
}

/// The key, sometimes with an escape or in another case.
fn spelled(dice: &mut Dice<'_>, key: &str) -> String {
    match dice.below(24) {
        23 => key.to_uppercase(),
        22 => key.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
        _ => key.to_owned(),
    }
}
