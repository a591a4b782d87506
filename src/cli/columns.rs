//! Reports of the columns of a table.

use crate::cli::output::{shortened, significant};
use crate::data::{Column, Columns, Role};
use serde_json::{Value, json};

/// Returns the columns of a table as text: how each is used, its range, and how much of it is missing.
pub fn columns_text(columns: &Columns) -> String {
    const ROWS: usize = 50;
    let width = columns.all.iter().map(|it| shortened(&it.name).chars().count()).max();
    let width = width.unwrap_or_default().max("column".len());
    let mut text = format!("{:<width$}  used as                      missing  range\n", "column");
    for column in columns.all.iter().take(ROWS) {
        let name = shortened(&column.name);
        let used = match &column.role {
            Role::Dimension => "dimension".to_owned(),
            Role::Weights => "weights".to_owned(),
            Role::Labels => "labels of components".to_owned(),
            Role::LeftOut(reason) => format!("left out: {reason}"),
        };
        text += &format!("{name:<width$}  {used:<27}");
        if matches!(column.role, Role::Dimension | Role::Labels) {
            let range = match (&column.levels[..], column.range) {
                ([], Some([least, largest])) => {
                    format!("{} to {}", significant(least, 6), significant(largest, 6))
                }
                ([], None) => "no value".to_owned(),
                (levels, _) => {
                    let shown = levels.iter().take(5).map(|level| shortened(level));
                    let more = if levels.len() > 5 { ", ..." } else { "" };
                    let shown = shown.collect::<Vec<_>>().join(", ");
                    format!("{} levels: {shown}{more}", levels.len())
                }
            };
            text += &format!("  {:>7}  {range}", column.missing);
        }
        text = text.trim_end().to_owned() + "\n";
    }
    if columns.all.len() > ROWS {
        text += &format!("and {} more\n", columns.all.len() - ROWS);
    }
    text
}

/// Returns the columns of a table as JSON.
pub fn columns_json(columns: &Columns) -> Value {
    let one = |column: &Column| {
        let (role, reason) = match &column.role {
            Role::Weights => ("weights", None),
            Role::Labels => ("labels", None),
            Role::LeftOut(reason) => ("left out", Some(*reason)),
            _ => ("dimension", None),
        };
        json!({
            "name": column.name,
            "kind": column.kind.name(),
            "used_as": role,
            "reason": reason,
            "range": column.range,
            "missing": column.missing,
            "levels": column.levels,
        })
    };
    columns.all.iter().map(one).collect()
}
