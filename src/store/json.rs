//! Models as JSON.

use super::stored::{Array, Contents, File, NamedArray, Stored};
use super::{FORMAT, VERSION, check_format, check_version, invalid};
use crate::error::Result;
use crate::family::product;
use serde_json::{Map, Value};

/// Writes a model as a JSON object, as [the module](super) describes it.
///
/// ```
/// use entropysum::{family::{registry, Parameters}, model::Mixture, store};
///
/// let family = registry::build("gaussian-tied-spherical", 2)?;
/// let parameters = Parameters { components: vec![vec![3.0, 4.0]], shared: vec![0.5] };
/// let value = store::to_json(&Mixture::new(family, vec![1.0], parameters)?);
/// assert_eq!(value["means"][0][1], 4.0);
/// assert_eq!(value["covariances"], 0.5);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn to_json(model: &impl Stored) -> Value {
    let mut object = Map::new();
    object.insert("format".into(), FORMAT.into());
    object.insert("version".into(), VERSION.into());
    object.insert("model".into(), model.name().into());
    for (key, value) in model.settings() {
        object.insert(key.into(), value);
    }
    for (key, size) in model.sizes() {
        object.insert(key.into(), size.into());
    }
    let mut parameters = Map::new();
    for NamedArray { name, array, nested: is_nested } in model.arrays() {
        if let Some((block, key)) = block_key(&name) {
            object["blocks"][block]["parameters"][key] = nested(&array.values, &array.shape);
            continue;
        }
        let target = if is_nested { &mut parameters } else { &mut object };
        target.insert(name.into_owned(), nested(&array.values, &array.shape));
    }
    if !parameters.is_empty() {
        object.insert("parameters".into(), parameters.into());
    }
    object.into()
}

/// Builds the model that a JSON object describes, the inverse of [`to_json`].
///
/// # Errors
/// [`Error::Model`](crate::error::Error::Model) names the key, and the index in its array, of what is missing or wrong.
///
/// ```
/// let mut value = serde_json::json!({
///     "model": "gaussian-spherical",
///     "weights": [0.25, 0.75],
///     "means": [[0, 0], [4, 0]],
///     "covariances": [1, 2],
/// });
/// let mixture: entropysum::Mixture = entropysum::store::from_json(&value)?;
/// assert_eq!(mixture.parameter("covariances").unwrap(), [1.0, 2.0]);
///
/// value["means"][1][0] = serde_json::Value::Null;
/// let fault = entropysum::store::from_json::<entropysum::Mixture>(&value).unwrap_err();
/// assert_eq!(fault.to_string(), r#""means"[1][0] is null, expected a number"#);
/// # Ok::<(), entropysum::error::Error>(())
/// ```
pub fn from_json<M: Stored>(value: &Value) -> Result<M> {
    let Value::Object(object) = value else {
        return invalid(format!("found {}, expected an object", describe(value)));
    };
    if let Some(format) = object.text("format")? {
        check_format(&format)?;
    }
    if let Some(version) = object.count("version")? {
        check_version(version)?;
    }
    let Some(mut name) = object.text("model")? else {
        return invalid("\"model\" is missing: not a model, or not one of entropysum");
    };
    if let Some(blocks) = object.get("blocks") {
        name = name_of_blocks(blocks)?;
    }
    let model: M = File::read(&name, object)?;
    // Arrays say it all; a size that contradicts them shows that someone edited one and forgot the other.
    for (key, found) in model.sizes() {
        if let Some(said) = object.count(key)?.filter(|&said| said != found as u64) {
            return invalid(format!("{key:?} is {said}, but the arrays have {found}"));
        }
    }
    Ok(model)
}

impl Contents for Map<String, Value> {
    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => invalid(format!("{key:?} is {}, expected a string", describe(other))),
        }
    }

    fn count(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key).map(|value| (value, value.as_u64())) {
            None => Ok(None),
            Some((_, Some(count))) => Ok(Some(count)),
            Some((other, None)) => {
                invalid(format!("{key:?} is {}, expected a whole number", describe(other)))
            }
        }
    }

    fn value(&self, key: &str) -> Result<Option<Value>> {
        Ok(self.get(key).cloned())
    }

    fn array(&self, name: &str) -> Result<Option<Array>> {
        if let Some((block, key)) = block_key(name) {
            let value = || self.get("blocks")?.get(block)?.get("parameters")?.get(key);
            return value().map(|value| read_array(name, value)).transpose();
        }
        let nested = || self.get("parameters")?.as_object()?.get(name);
        self.get(name).or_else(nested).map(|value| read_array(name, value)).transpose()
    }
}

/// Block and key of an array of a [`Product`](crate::family::Product): it has its place in the block.
fn block_key(name: &str) -> Option<(usize, &str)> {
    let (block, key) = name.strip_prefix("blocks.")?.split_once('.')?;
    Some((block.parse().ok()?, key))
}

/// What the blocks of a product say: its name.
fn name_of_blocks(blocks: &Value) -> Result<String> {
    let Some(entries) = blocks.as_array() else {
        return invalid(format!("\"blocks\" is {}, expected an array", describe(blocks)));
    };
    let mut parts = Vec::new();
    for (b, block) in entries.iter().enumerate() {
        let Some(family) = block.get("family").and_then(Value::as_str) else {
            return invalid(format!("\"blocks\"[{b}] has no \"family\", the name of one"));
        };
        let columns = block.get("columns").and_then(Value::as_array);
        let index = |column: &Value| column.as_u64().and_then(|it| usize::try_from(it).ok());
        match columns.map(|columns| columns.iter().map(index).collect::<Option<Vec<usize>>>()) {
            Some(Some(columns)) => parts.push((family.to_owned(), columns)),
            _ => {
                return invalid(format!(
                    "\"blocks\"[{b}] has no \"columns\", an array of indices from 0"
                ));
            }
        }
    }
    Ok(product::name_of(parts.iter().map(|(family, columns)| (family.clone(), &columns[..]))))
}

fn nested(values: &[f64], shape: &[usize]) -> Value {
    match shape {
        [] => values[0].into(),
        [_] => values.into(),
        [n, inner @ ..] => {
            values.chunks((values.len() / n).max(1)).map(|chunk| nested(chunk, inner)).collect()
        }
    }
}

fn read_array(name: &str, value: &Value) -> Result<Array> {
    // The first entries set the shape; all others have to follow.
    let mut shape = Vec::new();
    let mut first = Some(value);
    while let Some(Value::Array(entries)) = first {
        shape.push(entries.len());
        first = entries.first();
    }
    let mut values = Vec::new();
    fill(&format!("{name:?}"), value, &shape, &mut values)?;
    Ok(Array { shape, values })
}

fn fill(place: &str, value: &Value, shape: &[usize], values: &mut Vec<f64>) -> Result<()> {
    match (value, shape) {
        (Value::Array(entries), [n, inner @ ..]) if entries.len() == *n => {
            for (i, entry) in entries.iter().enumerate() {
                match (entry, inner) {
                    // Numbers, by far the most entries, need no name of their place.
                    (Value::Number(number), []) => values.extend(number.as_f64()),
                    _ => fill(&format!("{place}[{i}]"), entry, inner, values)?,
                }
            }
            Ok(())
        }
        (Value::Number(number), []) => {
            values.extend(number.as_f64());
            Ok(())
        }
        (found, []) => invalid(format!("{place} is {}, expected a number", describe(found))),
        (found, [n, ..]) => {
            let found = describe(found);
            invalid(format!("{place} is {found}, expected an array of {n} as those before it"))
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Array(entries) => format!("an array of {}", entries.len()),
        Value::Object(_) => "an object".into(),
        Value::String(text) if text.chars().count() > 40 => "a long string".into(),
        scalar => scalar.to_string(),
    }
}

/// JSON for people: indented, but with arrays of numbers on one line.
pub(super) fn pretty(value: &Value) -> String {
    let mut text = String::new();
    write_pretty(value, "\n", &mut text);
    text.push('\n');
    text
}

fn write_pretty(value: &Value, newline: &str, text: &mut String) {
    let is_leaf = |value: &Value| !(value.is_array() || value.is_object());
    let inner = format!("{newline}  ");
    match value {
        Value::Array(entries) if entries.iter().all(is_leaf) => {
            let entries: Vec<_> = entries.iter().map(Value::to_string).collect();
            *text += &format!("[{}]", entries.join(", "));
        }
        Value::Array(entries) => {
            for (i, entry) in entries.iter().enumerate() {
                *text += if i == 0 { "[" } else { "," };
                *text += &inner;
                write_pretty(entry, &inner, text);
            }
            *text += newline;
            text.push(']');
        }
        Value::Object(entries) if !entries.is_empty() => {
            for (i, (key, entry)) in entries.iter().enumerate() {
                *text += if i == 0 { "{" } else { "," };
                *text += &format!("{inner}{}: ", Value::from(key.as_str()));
                write_pretty(entry, &inner, text);
            }
            *text += newline;
            text.push('}');
        }
        leaf => *text += &leaf.to_string(),
    }
}
