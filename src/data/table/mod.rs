//! Columns of tables: what they are called, what they hold, and what they are used as.
//!
//! A table is a text or Parquet file. Its columns are laid out once, from the head of the file ([`layout`]): which are dimensions of
//! the points, which hold weights, and which are left out and why. All decisions are in [`Columns`], for reports. A [`Schema`] is the part
//! of them that a model keeps, so that other tables are matched by name.

#[cfg(feature = "files")]
pub(in crate::data) mod cells;
#[cfg(feature = "files")]
pub(in crate::data) mod header;
#[cfg(feature = "files")]
pub(in crate::data) mod layout;
#[cfg(feature = "files")]
pub(in crate::data) mod levels;
#[cfg(feature = "files")]
mod select;

#[cfg(feature = "files")]
pub(in crate::data) use select::select;

/// Whether the first line of a text file has the names of its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// The lines of the head tell.
    #[default]
    Auto,
    /// It has the names.
    Yes,
    /// It is a point.
    No,
}

/// What the cells of a column are, as the head of its file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Numbers.
    Number,
    /// Whole numbers.
    Integer,
    /// `true` and `false`, which are read as 1 and 0.
    Boolean,
    /// Other text, such as names and dates.
    Text,
    /// Missing values alone.
    Empty,
}

impl Kind {
    /// Returns the name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Empty => "empty",
        }
    }
}

/// What a column is used as.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A dimension of the points.
    Dimension,
    /// Weights of the points.
    Weights,
    /// Labels of the points: their components, where these are known.
    Labels,
    /// Nothing, for this reason.
    LeftOut(&'static str),
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name, or the index from 0 if the file has no names.
    pub name: String,
    /// Content.
    pub kind: Kind,
    /// Use.
    pub role: Role,
    /// Number of dimensions: 1, or the length of the lists of a Parquet column.
    pub width: usize,
    /// Whether the cells are lists.
    pub is_list: bool,
    /// Least and largest value, of dimensions and of weights.
    pub range: Option<[f64; 2]>,
    /// Number of missing values of a dimension.
    pub missing: u64,
    /// Texts that the values 0, 1, ... of the column stand for, if it has texts.
    pub levels: Vec<String>,
}

impl Column {
    #[cfg(feature = "files")]
    pub(in crate::data) fn new(name: String, kind: Kind) -> Self {
        let role = Role::LeftOut("not chosen");
        Self { name, kind, role, width: 1, is_list: false, range: None, missing: 0, levels: vec![] }
    }

    /// Counts a value of the column.
    pub(in crate::data) fn count(&mut self, value: f64) {
        if value.is_nan() {
            self.missing += 1;
        } else {
            let [least, largest] = self.range.unwrap_or([value; 2]);
            self.range = Some([least.min(value), largest.max(value)]);
        }
    }
}

/// All columns of a table, in the order of the file, and what was decided about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// The columns.
    pub all: Vec<Column>,
    /// Indices of the columns that are dimensions, in the order of the dimensions.
    pub order: Vec<usize>,
    /// Whether the file has names.
    pub named: bool,
    /// Sentences about decisions that a person may want to change.
    pub notes: Vec<String>,
    /// Names of the components that were fitted to the table, if labels name them.
    pub components: Vec<String>,
}

impl Columns {
    /// Returns the names of the dimensions.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for &index in &self.order {
            let Column { name, width, is_list, .. } = &self.all[index];
            let number = |d| if *is_list { format!("{name}[{d}]") } else { name.clone() };
            names.extend((0..*width).map(number));
        }
        names
    }

    /// Returns what a model keeps of the columns, if the table has names.
    pub fn schema(&self) -> Option<Schema> {
        let levels = self.order.iter().flat_map(|&index| {
            let column = &self.all[index];
            std::iter::repeat_n(column.levels.clone(), column.width)
        });
        let weights = self.all.iter().find(|column| column.role == Role::Weights);
        self.named.then(|| Schema {
            names: self.names(),
            levels: levels.collect(),
            weights: weights.map(|column| column.name.clone()),
            components: self.components.clone(),
        })
    }

    /// Adds what was counted in another file of the same columns.
    pub(in crate::data) fn merge(&mut self, other: &Self) {
        for (&mine, &its) in self.order.iter().zip(&other.order) {
            let (mine, its) = (&mut self.all[mine], &other.all[its]);
            its.range.into_iter().flatten().for_each(|value| mine.count(value));
            mine.missing += its.missing;
            if its.levels.len() > mine.levels.len() {
                mine.levels.clone_from(&its.levels);
            }
        }
        let new = other.notes.iter().filter(|note| !self.notes.contains(note));
        self.notes.extend(new.cloned().collect::<Vec<_>>());
    }
}

/// Names of the dimensions of a model, and the texts that their values stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// Name of each dimension.
    pub names: Vec<String>,
    /// Levels of each dimension; none for a dimension of numbers.
    pub levels: Vec<Vec<String>>,
    /// Name of the column of weights.
    pub weights: Option<String>,
    /// Names of the components, if labels named them; empty for a component without a label.
    pub components: Vec<String>,
}

/// How to read the columns of a table. Each field has a setter of its name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TableOptions {
    /// Whether the first line has names.
    pub header: Header,
    /// The columns to use, in this order: names, indices from 0, and ranges `FIRST-LAST` of either.
    pub columns: Option<Vec<String>>,
    /// Columns to leave out, in the same form.
    pub drop: Vec<String>,
    /// The decimal sign, if it should not be detected.
    pub decimal: Option<char>,
    /// Texts of missing values, in place of the usual ones. Empty cells are always missing.
    pub missing_values: Option<Vec<String>>,
    /// Columns that a model names, and whether it takes texts as levels there.
    pub named_by_model: Vec<(String, bool)>,
    /// Whether the columns that a model names are all that it needs.
    pub only_named: bool,
    /// Whether a model takes texts as levels in all columns.
    pub all_levels: bool,
    /// The columns of a model, to which those of the table are matched.
    pub schema: Option<Schema>,
    /// Whether texts that are no levels of the schema become new levels: it is that of a file before.
    pub(in crate::data) new_levels: bool,
    /// Whether texts that are no levels of the schema are missing values.
    pub unseen_missing: bool,
}

impl TableOptions {
    setters! {
        header: Header,
        columns: Option<Vec<String>>,
        drop: Vec<String>,
        decimal: Option<char>,
        missing_values: Option<Vec<String>>,
        named_by_model: Vec<(String, bool)>,
        only_named: bool,
        all_levels: bool,
        schema: Option<Schema>,
        unseen_missing: bool,
    }
}
