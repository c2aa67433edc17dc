//! Documents that are nearly right: a good one, changed at places that the bytes choose.

use crate::dice::Dice;
use serde_json::{Value, json};

/// Changes a document in one place.
pub(crate) fn change(document: &mut Value, dice: &mut Dice<'_>) {
    let node = walk(document, dice);
    match node {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(dice.below(map.len())).cloned().unwrap_or_default();
            match dice.below(4) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(key, dice.value())),
                2 => drop(map.insert("unheard_of".into(), dice.value())),
                _ => {
                    let value = map.remove(&key).unwrap_or_default();
                    map.insert(dice.text(10), value);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = dice.below(items.len());
            match dice.below(3) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => items[at] = dice.value(),
            }
        }
        Value::Number(number) => {
            let n = number.as_i64().unwrap_or(0);
            *node = match dice.below(4) {
                0 => json!(n.wrapping_add(1)),
                1 => json!(n.wrapping_sub(1)),
                2 => json!(n.wrapping_mul(1000)),
                _ => dice.value(),
            };
        }
        Value::String(text) => match dice.below(3) {
            0 => text.push('x'),
            1 => *text = dice.text(20),
            _ => *node = dice.value(),
        },
        _ => *node = dice.value(),
    }
}

/// Where the objects of a document are (RFC 6901).
pub(crate) fn objects(document: &Value) -> Vec<String> {
    let under = |key: &str, child: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        objects(child).into_iter().map(|path| format!("/{key}{path}")).collect::<Vec<_>>()
    };
    match document {
        Value::Object(map) => {
            let mut found = vec![String::new()];
            found.extend(map.iter().flat_map(|(key, child)| under(key, child)));
            found
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(n, child)| under(&n.to_string(), child)).collect()
        }
        _ => Vec::new(),
    }
}

/// A node that the bytes lead to; the deeper, the likelier.
fn walk<'a>(node: &'a mut Value, dice: &mut Dice<'_>) -> &'a mut Value {
    let size = match &*node {
        Value::Object(map) => map.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if size == 0 || dice.rarely(5) {
        return node;
    }
    let at = dice.below(size);
    let child = match node {
        Value::Object(map) => map.values_mut().nth(at),
        Value::Array(items) => items.get_mut(at),
        _ => None,
    };
    walk(child.expect("there are so many"), dice)
}
