//! What each column of a table is used as.

use super::select::{find, select, unknown};
use super::{Column, Columns, Kind, Role, TableOptions};

/// What the head of a file tells of a column.
#[derive(Clone, Debug)]
pub(in crate::data) struct Found {
    pub kind: Kind,
    /// Whether the cells are 0, 1, 2, ... or 1, 2, 3, ...
    pub counts: bool,
    pub is_list: bool,
}

/// Why columns are left out.
const INDEX: &str = "row index";
const TEXT: &str = "text";
const UNNAMED: &str = "not in the model";

/// Lays out the columns of a file.
///
/// # Errors
/// Says which column cannot be used as was asked for, and the remedy.
pub(in crate::data) fn lay_out(
    names: Option<&[String]>,
    found: &[Found],
    weights: Option<&str>,
    options: &TableOptions,
) -> Result<Columns, String> {
    let n = found.len();
    let name = |i: usize| names.map_or_else(|| i.to_string(), |names| names[i].clone());
    let mut all: Vec<Column> = (0..n)
        .map(|i| Column { is_list: found[i].is_list, ..Column::new(name(i), found[i].kind) })
        .collect();
    let schema = options.schema.as_ref().filter(|schema| !schema.names.is_empty());
    let matched = schema.filter(|_| names.is_some());

    let weights = match (weights, matched.and_then(|schema| schema.weights.as_ref())) {
        (Some(wanted), _) => {
            let column = find(wanted, names, n)?;
            Some(column.ok_or_else(|| unknown("weights column", wanted, names, n))?)
        }
        (None, Some(kept)) => find(kept, names, n)?.filter(|_| !is_one_of(kept, matched)),
        _ => None,
    };
    if n == 1 && weights.is_some() {
        return Err("the only column holds the weights, expected points too".to_owned());
    }

    let dropped = select(&options.drop, names, n)?;
    let chosen = options.columns.as_ref().map(|list| select(list, names, n)).transpose()?;
    let is_free = |column: &usize| !dropped.contains(column) && Some(*column) != weights;
    let candidates: Vec<usize> =
        chosen.clone().unwrap_or((0..n).collect()).into_iter().filter(is_free).collect();
    let (mut order, mut notes) = (Vec::new(), Vec::new());
    if let Some(schema) = matched {
        let own: Vec<String> = candidates.iter().map(|&column| name(column)).collect();
        for wanted in &top_names(&schema.names) {
            let position = find(wanted, Some(&own), 0)?;
            let missing = || {
                format!(
                    "there is no column {wanted:?}, which the model or the first file has; the columns are {}",
                    own.join(", ")
                )
            };
            order.push(candidates[position.ok_or_else(missing)?]);
        }
        candidates.iter().for_each(|&column| all[column].role = Role::LeftOut(UNNAMED));
    } else {
        // Columns that are named by index are no names of the table.
        let only_named = options.only_named
            && chosen.is_none()
            && options
                .named_by_model
                .iter()
                .all(|(named, _)| names.is_some_and(|names| names.contains(named)));
        for column in candidates {
            let model = names.and_then(|_| {
                options.named_by_model.iter().find(|(named, _)| *named == all[column].name)
            });
            let takes_levels = options.all_levels || model.is_some_and(|it| it.1);
            let is_asked_for = chosen.is_some() || model.is_some() || options.all_levels;
            let left_out = if is_index(column, names, found) {
                (!is_asked_for).then_some(INDEX)
            } else if found[column].kind != Kind::Text || takes_levels {
                (only_named && model.is_none()).then_some(UNNAMED)
            } else if is_asked_for {
                return Err(format!(
                    "column {:?} is text, expected numbers; leave it out with --drop, or take its texts as levels with \
                     --model categorical:{}",
                    all[column].name, all[column].name
                ));
            } else {
                Some(TEXT)
            };
            match left_out {
                None => order.push(column),
                Some(reason) => all[column].role = Role::LeftOut(reason),
            }
        }
    }
    if let Some(first) = order.iter().find(|&&column| {
        names.is_some() && order.iter().any(|&o| o != column && all[o].name == all[column].name)
    }) {
        return Err(format!(
            "several columns are called {:?}; rename them, or choose columns by index with --columns or --drop",
            all[*first].name
        ));
    }
    if order.is_empty() {
        return Err("no column is left for the points: expected a column of numbers".to_owned());
    }
    for &column in &order {
        all[column].role = Role::Dimension;
    }
    if let Some(column) = weights {
        all[column].role = Role::Weights;
    }
    for reason in [INDEX, TEXT] {
        let of = all.iter().filter(|column| column.role == Role::LeftOut(reason));
        let of: Vec<&str> = of.map(|column| column.name.as_str()).collect();
        if !of.is_empty() {
            notes.push(left_out(reason, &of));
        }
    }
    Ok(Columns { all, order, named: names.is_some(), notes, components: Vec::new() })
}

fn left_out(reason: &str, names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    let shown: Vec<String> = names.iter().take(5).map(|name| format!("{name:?}")).collect();
    let more =
        if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    let list = shown.join(", ");
    let remedy = match reason {
        INDEX => "--columns can choose it",
        _ => "--model categorical:NAME can use it",
    };
    format!("column{plural} {list}{more} left out ({reason}); {remedy}")
}

/// Returns the names of columns: those of dimensions, without the places in lists.
fn top_names(names: &[String]) -> Vec<String> {
    let mut tops: Vec<String> = Vec::new();
    for name in names {
        let list = name.strip_suffix(']').and_then(|it| it.rsplit_once('['));
        match list.filter(|it| it.1.parse::<usize>().is_ok()).map(|it| it.0) {
            Some(top) if tops.last().is_some_and(|last| last == top) => {}
            Some(top) => tops.push(top.to_owned()),
            None => tops.push(name.clone()),
        }
    }
    tops
}

fn is_one_of(name: &String, schema: Option<&super::Schema>) -> bool {
    schema.is_some_and(|schema| schema.names.contains(name))
}

/// Rows of the head that an unnamed column must count to be an index.
pub(in crate::data) const COUNTED_ROWS: usize = 10;

/// Tells whether a column numbers or names the rows: it is unnamed, or named as pandas and R do, or counts and is named so.
fn is_index(column: usize, names: Option<&[String]>, found: &[Found]) -> bool {
    let Found { kind, counts, .. } = found[column];
    let Some(names) = names else {
        return column == 0 && counts && found.len() > 1;
    };
    let name = names[column].to_lowercase();
    if name.starts_with("__index_level_") {
        return true;
    }
    let names_rows = matches!(kind, Kind::Integer | Kind::Text);
    let is_unnamed = name.is_empty() || name.starts_with("unnamed: 0");
    let counters = ["index", "id", "rownames", "row.names", "row_names", "rowid", "row"];
    column == 0 && (is_unnamed && names_rows || counters.contains(&name.as_str()) && counts)
}
