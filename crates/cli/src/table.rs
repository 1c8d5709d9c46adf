//! Tables for people. Scripts ask for JSON.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use countersign_server::admin::When;
use countersign_server::identity::GroupView;

use crate::failure::Failure;

/// A table without lines, as wide as it must be.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|title| title.to_uppercase()));
    table
}

/// Prints a table, without the blanks at the ends of lines.
pub(crate) fn print(table: &Table) {
    for line in table.lines() {
        // Without lines between the columns, the padding before the first is an indent.
        println!("{}", line.strip_prefix(' ').unwrap_or(&line).trim_end());
    }
}

/// Prints a value for scripts.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    println!("{}", text.map_err(|error| Failure::broken(error.to_string()))?);
    Ok(())
}

/// Text that a peer may have chosen: a name of escape sequences moves no cursor.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Text, or a dash for none.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    match text {
        Some(text) if !text.is_empty() => shown(text),
        _ => "-".to_owned(),
    }
}

/// A point in time, or a dash.
pub(crate) fn when(at: Option<When>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// Group names, those that are administered marked.
pub(crate) fn groups(groups: &[GroupView]) -> String {
    let name = |group: &GroupView| match group.admin {
        true => format!("{} (admin)", shown(&group.name)),
        false => shown(&group.name),
    };
    groups.iter().map(name).collect::<Vec<_>>().join(", ")
}
