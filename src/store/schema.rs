//! Names of dimensions in model files.

use super::invalid;
use super::stored::{File, NamedArray, Stored};
use crate::data::Schema;
use crate::error::Result;
use serde_json::{Map, Value};

/// A model with the names of its dimensions, as files hold both.
///
/// ```
/// use entropysum::data::Schema;
/// use entropysum::store::{self, Model, WithSchema};
///
/// let text = r#"{"model": "gaussian-diag", "column_names": ["x"],
///     "weights": [1], "means": [[0]], "covariances": [[1]]}"#;
/// let named: WithSchema<Model> = store::from_bytes(text.as_bytes())?;
/// assert_eq!(named.schema.unwrap().names, ["x"]);
/// # Ok::<(), entropysum::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WithSchema<M> {
    /// The model.
    pub model: M,
    /// Names of its dimensions, if they have names.
    pub schema: Option<Schema>,
}

impl<M: Stored> Stored for WithSchema<M> {
    const KIND: &'static str = M::KIND;

    fn names() -> Vec<&'static str> {
        M::names()
    }

    fn answers_to(name: &str) -> bool {
        M::answers_to(name)
    }

    fn name(&self) -> String {
        self.model.name()
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = self.model.settings();
        let Some(Schema { names, levels, weights, components }) = &self.schema else {
            return settings;
        };
        settings.push(("column_names", names.clone().into()));
        let with_levels = names.iter().zip(levels).filter(|(_, levels)| !levels.is_empty());
        let levels: Map<String, Value> =
            with_levels.map(|(name, levels)| (name.clone(), levels.clone().into())).collect();
        if !levels.is_empty() {
            settings.push(("level_names", levels.into()));
        }
        if let Some(name) = weights {
            settings.push(("weights_column", name.as_str().into()));
        }
        if !components.is_empty() {
            settings.push(("component_names", components.clone().into()));
        }
        settings
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.model.sizes()
    }

    fn arrays(&self) -> Vec<NamedArray> {
        self.model.arrays()
    }

    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let model = M::build(name, file)?;
        let schema = read(file)?;
        let dim = model.sizes().into_iter().find_map(|(key, size)| (key == "dim").then_some(size));
        if let (Some(schema), Some(dim)) = (&schema, dim)
            && schema.names.len() != dim
        {
            return invalid(format!(
                "\"column_names\" has {} names, expected {dim}, one a dimension",
                schema.names.len()
            ));
        }
        Ok(Self { model, schema })
    }
}

fn read(file: &File<'_>) -> Result<Option<Schema>> {
    let Some(names) = file.value("column_names")? else { return Ok(None) };
    let names = texts("column_names", &names)?;
    let levels = match file.value("level_names")? {
        None => Map::new(),
        Some(Value::Object(levels)) => levels,
        Some(_) => return invalid("\"level_names\" is no object, expected texts for each column"),
    };
    if let Some((name, _)) = levels.iter().find(|(name, _)| !names.contains(name)) {
        return invalid(format!("\"level_names\" has {name:?}, which \"column_names\" lacks"));
    }
    let of = |name: &String| match levels.get(name) {
        None => Ok(Vec::new()),
        Some(value) => texts("level_names", value),
    };
    let levels = names.iter().map(of).collect::<Result<_>>()?;
    let components = file.value("component_names")?;
    let components =
        components.map(|value| texts("component_names", &value)).transpose()?.unwrap_or_default();
    Ok(Some(Schema { names, levels, weights: file.text("weights_column")?, components }))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value.as_array().and_then(|values| values.iter().map(text).collect()) {
        Some(texts) => Ok(texts),
        None => invalid(format!("{key:?} is {value}, expected an array of texts")),
    }
}
