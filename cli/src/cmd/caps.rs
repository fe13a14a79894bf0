//! Lists and drawings of capabilities, for `mett system caps` and `mett inspect --caps`.

use crate::{
    error::{CliError, Result},
    output,
};
use contract::compartments::{CapabilityRecord, kind_name, right_names};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The form of a list of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Drawing {
    /// For people.
    #[default]
    Table,
    /// For programs, one capability a line.
    Json,
    /// A picture.
    Svg,
}

/// Somebody who holds capabilities.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Holder {
    name: String,
    capabilities: Vec<CapabilityRecord>,
}

fn malformed(error: serde_json::Error) -> CliError {
    CliError::Cut(error.to_string())
}

/// The holders of a document about the system.
pub(crate) fn holders(text: &str) -> Result<Vec<Holder>> {
    serde_json::from_str(text).map_err(malformed)
}

/// The holder of a document about one container.
pub(crate) fn holder(name: &str, text: &str) -> Result<Holder> {
    let capabilities = serde_json::from_str(text).map_err(malformed)?;
    Ok(Holder { name: name.to_owned(), capabilities })
}

/// Prints what everybody holds.
pub(crate) fn show(holders: &[Holder], format: Drawing) {
    match format {
        Drawing::Table => table(holders),
        Drawing::Json => output::json(all(holders).map(|(holder, record)| {
            json!({
                "holder": holder.name,
                "slot": record.slot,
                "kind": kind_name(record.kind),
                "rights": right_names(record.kind, record.rights),
                "object": record.object,
                "name": purpose(record).map_or(Value::Null, Value::from),
            })
        })),
        Drawing::Svg => output::line(draw(holders).trim_end()),
    }
}

fn all(holders: &[Holder]) -> impl Iterator<Item = (&Holder, &CapabilityRecord)> {
    holders.iter().flat_map(|holder| holder.capabilities.iter().map(move |record| (holder, record)))
}

/// What it was handed for; nothing for what the holder made itself.
fn purpose(record: &CapabilityRecord) -> Option<&str> {
    Some(record.name.as_str()).filter(|name| !name.is_empty())
}

fn table(holders: &[Holder]) {
    let rows: Vec<Vec<String>> = all(holders)
        .map(|(holder, record)| {
            vec![
                holder.name.clone(),
                record.slot.to_string(),
                kind_name(record.kind).to_owned(),
                format!("{:#x}", record.object),
                purpose(record).unwrap_or("(made by itself)").to_owned(),
                right_names(record.kind, record.rights).join(" "),
            ]
        })
        .collect();
    output::table(&["HOLDER", "SLOT", "KIND", "OBJECT", "HANDED AS", "RIGHTS"], &rows);
}

/// Pixels from one row of a drawing to the next.
const ROW: usize = 22;
/// Pixels above the first row.
const TOP: usize = 34;

/// An object of a drawing and what its holders call it.
struct Object {
    kind: u8,
    number: u32,
    names: Vec<String>,
    holders: usize,
}

/// The objects in the order they are met.
fn objects(holders: &[Holder]) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for (_, record) in all(holders) {
        let known = objects
            .iter_mut()
            .find(|object| (object.kind, object.number) == (record.kind, record.object));
        let object = match known {
            Some(object) => object,
            None => {
                let (kind, number) = (record.kind, record.object);
                objects.push(Object { kind, number, names: Vec::new(), holders: 0 });
                let Some(object) = objects.last_mut() else { continue };
                object
            }
        };
        object.holders += 1;
        if let Some(name) = purpose(record)
            && !object.names.iter().any(|known| known == name)
        {
            object.names.push(name.to_owned());
        }
    }
    objects
}

/// Draws holders on the left and what they reach on the right; what several reach is bold.
fn draw(holders: &[Holder]) -> String {
    let objects = objects(holders);
    let y_of = |index: usize| TOP + ROW * index;
    let height = TOP + ROW * objects.len().max(1);
    let step = (objects.len() / holders.len().max(1)).max(2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for (index, holder) in holders.iter().enumerate() {
        let y = y_of(index * step);
        for record in &holder.capabilities {
            let target = objects
                .iter()
                .position(|object| (object.kind, object.number) == (record.kind, record.object));
            let end = y_of(target.unwrap_or(0)) - 4;
            let _ = writeln!(
                svg,
                "<line x1=\"180\" y1=\"{y}\" x2=\"560\" y2=\"{end}\" stroke=\"#88a\"><title>{}: {}</title></line>",
                escape(&holder.name),
                right_names(record.kind, record.rights).join(" ")
            );
        }
        let _ = writeln!(
            svg,
            "<rect x=\"20\" y=\"{}\" width=\"160\" height=\"28\" rx=\"4\" fill=\"#eef\" stroke=\"#447\"/>\
             <text x=\"100\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y - 14,
            y + 5,
            escape(&holder.name)
        );
    }
    for (index, object) in objects.iter().enumerate() {
        let weight = if object.holders > 1 { "bold" } else { "normal" };
        let _ = writeln!(
            svg,
            "<text x=\"566\" y=\"{}\" font-weight=\"{weight}\">{} {:#x} {}</text>",
            y_of(index),
            kind_name(object.kind),
            object.number,
            escape(&object.names.join(", "))
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, object: u32, name: &str) -> CapabilityRecord {
        CapabilityRecord { slot: 1, kind, rights: 1, object, name: name.to_owned() }
    }

    #[test]
    fn a_drawing_shows_an_object_of_two_holders_once() {
        let holders = [
            Holder { name: "a<b".to_owned(), capabilities: vec![record(4, 7, "ports")] },
            Holder { name: "c".to_owned(), capabilities: vec![record(4, 7, ""), record(2, 7, "")] },
        ];
        let svg = draw(&holders);
        assert_eq!(svg.matches("Endpoint 0x7").count(), 1, "{svg}");
        assert_eq!(svg.matches("<line").count(), 3, "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
    }
}
