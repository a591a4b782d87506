//! What a kind of model says of itself to files, and the list of all kinds.

use super::invalid;
use crate::error::{Error, Result};
use crate::model::{
    LinearGaussian, Mixture, MixtureOfFactorAnalyzers, SigmoidBeliefNet, VariationalAutoencoder,
};
use serde_json::Value;
use std::borrow::Cow;

/// A kind of model that files hold: both formats are written and read from this alone.
///
/// A new kind implements it in a file of its own beside this one, and gets a line in [`Model`].
pub trait Stored: Sized {
    /// This kind, as messages call it: "a mixture".
    const KIND: &'static str;

    /// Every name that a model of this kind may have: in files, and after `--model`.
    fn names() -> Vec<&'static str>;

    /// Whether a model of this name is of this kind.
    fn answers_to(name: &str) -> bool {
        Self::names().contains(&name)
    }

    /// Name of this model, one that the kind answers to.
    fn name(&self) -> String;

    /// What else defines the model and is no array, such as `("posterior", "exact")`: texts and whole numbers.
    fn settings(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// Sizes for people to read, such as `("n_components", 3)`; "dim" is the last. They follow from the arrays.
    fn sizes(&self) -> Vec<(&'static str, usize)>;

    /// All parameters, in the order of files.
    fn arrays(&self) -> Vec<NamedArray>;

    /// The model of this name that a file describes.
    ///
    /// # Errors
    /// Names the key that is missing or wrong, and what was expected.
    fn build(name: &str, file: &File<'_>) -> Result<Self>;
}

/// An array as files hold it: row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of its axes; none for a single number.
    pub shape: Vec<usize>,
    /// Values, the last axis fastest.
    pub values: Vec<f64>,
}

/// An array and the key it has in files.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArray {
    /// The key.
    pub name: Cow<'static, str>,
    /// The array.
    pub array: Array,
    /// Whether JSON has it under `parameters` and not at the top.
    pub nested: bool,
}

impl NamedArray {
    /// An array at the top of a JSON file.
    ///
    /// # Panics
    /// If there are not as many values as the shape says.
    pub fn new(name: impl Into<Cow<'static, str>>, shape: Vec<usize>, values: Vec<f64>) -> Self {
        let name = name.into();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        Self { name, array: Array { shape, values }, nested: false }
    }
}

impl Array {
    pub(super) fn check_finite(&self, name: &str) -> Result<()> {
        let Some(position) = self.values.iter().position(|value| !value.is_finite()) else {
            return Ok(());
        };
        let index = index_of(position, &self.shape);
        let value = self.values[position];
        invalid(format!("{name:?}{index} is {value}, expected a finite number"))
    }
}

/// What a file holds, whatever its format.
pub(super) trait Contents {
    /// The text at a key, if there is one.
    ///
    /// # Errors
    /// If something else stands there.
    fn text(&self, key: &str) -> Result<Option<String>>;

    /// The whole number at a key, if there is one.
    ///
    /// # Errors
    /// If something else stands there.
    fn count(&self, key: &str) -> Result<Option<u64>>;

    /// The array of this name, if there is one.
    ///
    /// # Errors
    /// If something else stands there, or the array is damaged.
    fn array(&self, name: &str) -> Result<Option<Array>>;

    /// The value at a key, of any form, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    fn value(&self, key: &str) -> Result<Option<Value>>;

    /// What this format calls an array.
    fn noun(&self) -> &'static str {
        ""
    }
}

/// A model file, opened to [build](Stored::build) the model from.
#[expect(missing_debug_implementations, reason = "nothing to show but bytes")]
pub struct File<'a> {
    model: &'a str,
    contents: &'a dyn Contents,
}

impl<'a> File<'a> {
    /// The model that a file describes, if it is of kind `M`.
    pub(super) fn read<M: Stored>(model: &str, contents: &dyn Contents) -> Result<M> {
        if M::answers_to(model) {
            return M::build(model, &File { model, contents });
        }
        other_kind(model, M::KIND)
    }

    /// The text at a key, if there is one.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        self.contents.text(key)
    }

    /// The value at a key, of any form, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn value(&self, key: &str) -> Result<Option<Value>> {
        self.contents.value(key)
    }

    /// The whole number at a key, if there is one.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        match self.contents.count(key)? {
            None => Ok(None),
            Some(count) => match usize::try_from(count) {
                Ok(count) => Ok(Some(count)),
                Err(_) => invalid(format!("{key:?} is {count}, which is too large")),
            },
        }
    }

    /// An array of finite numbers, of any shape.
    ///
    /// # Errors
    /// If it is missing, or a value is not finite.
    pub fn array(&self, name: &str) -> Result<Array> {
        match self.contents.array(name)? {
            None => invalid(format!(
                "{}{name:?} is missing, which {} needs",
                self.contents.noun(),
                self.model
            )),
            Some(array) => array.check_finite(name).map(|()| array),
        }
    }

    /// An array of finite numbers, of any shape, if it is there.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn optional(&self, name: &str) -> Result<Option<Array>> {
        let array = self.contents.array(name)?;
        array.map(|array| array.check_finite(name).map(|()| array)).transpose()
    }

    /// The values of an array of finite numbers of this shape.
    ///
    /// # Errors
    /// If it is missing, has another shape, or a value is not finite.
    pub fn values(&self, name: &str, expected: &[usize]) -> Result<Vec<f64>> {
        let Array { shape, values } = self.array(name)?;
        if shape == expected {
            return Ok(values);
        }
        invalid(format!(
            "{name:?} has shape {}, expected {}",
            shape_text(&shape),
            shape_text(expected)
        ))
    }
}

/// Declares the enum of all kinds, and that it is [`Stored`] as they are.
macro_rules! kinds {
    ($($kind:ident: $doc:literal),*) => {
        /// A model of any kind.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Model {
            $(#[doc = $doc] $kind($kind),)*
        }

        $(impl From<$kind> for Model {
            fn from(model: $kind) -> Self {
                Self::$kind(model)
            }
        }

        impl TryFrom<Model> for $kind {
            type Error = Error;

            fn try_from(model: Model) -> Result<Self> {
                match model {
                    Model::$kind(model) => Ok(model),
                    #[allow(unreachable_patterns, reason = "there may be one kind only")]
                    other => other_kind(&other.name(), $kind::KIND),
                }
            }
        })*

        impl Model {
            /// Returns what messages call the kind of this model: "a mixture".
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $kind::KIND,)*
                }
            }

            /// What messages call the kind of models of this name, if there is one.
            pub fn kind_of(name: &str) -> Option<&'static str> {
                $(if $kind::answers_to(name) {
                    return Some($kind::KIND);
                })*
                None
            }
        }

        impl Stored for Model {
            const KIND: &'static str = "a model";

            fn names() -> Vec<&'static str> {
                [$($kind::names()),*].concat()
            }

            fn answers_to(name: &str) -> bool {
                Self::kind_of(name).is_some()
            }

            fn name(&self) -> String {
                match self {
                    $(Self::$kind(model) => model.name(),)*
                }
            }

            fn settings(&self) -> Vec<(&'static str, Value)> {
                match self {
                    $(Self::$kind(model) => model.settings(),)*
                }
            }

            fn sizes(&self) -> Vec<(&'static str, usize)> {
                match self {
                    $(Self::$kind(model) => model.sizes(),)*
                }
            }

            fn arrays(&self) -> Vec<NamedArray> {
                match self {
                    $(Self::$kind(model) => model.arrays(),)*
                }
            }

            fn build(name: &str, file: &File<'_>) -> Result<Self> {
                $(if $kind::answers_to(name) {
                    return $kind::build(name, file).map(Self::$kind);
                })*
                Err(Self::unknown(name))
            }
        }
    };
}

kinds! {
    Mixture: "A mixture of an exponential family.",
    MixtureOfFactorAnalyzers: "A mixture of factor analysers, or of probabilistic PCAs.",
    LinearGaussian: "Probabilistic PCA or factor analysis.",
    SigmoidBeliefNet: "A sigmoid belief network.",
    VariationalAutoencoder: "A variational autoencoder or a sparse code."
}

impl Model {
    fn unknown(name: &str) -> Error {
        let names = Self::names().join(", ");
        Error::Model(format!("no model is called {name:?}; there are {names}"))
    }
}

/// A model of this name is not of the kind that is expected.
fn other_kind<M>(name: &str, expected: &str) -> Result<M> {
    match Model::kind_of(name) {
        Some(kind) => invalid(format!("{name} is {kind}, expected {expected}")),
        None => Err(Model::unknown(name)),
    }
}

/// `2 × 3`, or "one number".
pub(super) fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "[] (one number)".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

/// `[1][0]`: where a value stands in a row-major array.
fn index_of(mut position: usize, shape: &[usize]) -> String {
    let mut index = Vec::new();
    for &size in shape.iter().rev() {
        index.push(format!("[{}]", position % size.max(1)));
        position /= size.max(1);
    }
    index.reverse();
    index.concat()
}
