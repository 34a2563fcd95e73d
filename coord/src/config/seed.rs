//! [`template`]: what an operator fills in to seed a prefix.

use std::fmt::Write as _;

use super::shape::{Fallback, Field, Form, Kind, Shape};

/// Structs may contain themselves.
const DEEPEST: usize = 8;

pub(crate) fn template(prefix: &str, shape: Shape) -> String {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let place = match prefix.strip_prefix('/') {
        Some(_) => prefix.to_owned(),
        None => format!("/config/{prefix}"),
    };
    let mut text = String::new();
    structure(&mut text, &place, shape, 0);
    text
}

fn structure(text: &mut String, place: &str, shape: Shape, depth: usize) {
    match shape.form() {
        Form::Keys if depth < DEEPEST => fields(text, place, shape.fields(), depth),
        Form::Keys => {}
        Form::Value => put(text, place, ""),
        Form::Document(format) => {
            for field in super::shape::flat(shape.fields()) {
                describe(text, field, Some(field.key()));
            }
            let _ = writeln!(text, "# one document, {format:?}");
            put(text, place, "");
        }
    }
}

fn fields(text: &mut String, place: &str, fields: &'static [Field], depth: usize) {
    for field in super::shape::flat(fields) {
        let key = format!("{place}/{}", field.key());
        describe(text, field, None);
        match field.kind() {
            Kind::Leaf => put(
                text,
                &key,
                match field.fallback() {
                    Some(Fallback::Text(value)) if !field.is_secret() => value.to_owned(),
                    Some(Fallback::Code(value)) if !field.is_secret() => plain(value),
                    _ => String::new(),
                }
                .as_str(),
            ),
            Kind::Nested(shape) => structure(text, &key, shape(), depth + 1),
            Kind::Map(shape) => structure(text, &format!("{key}/{{key}}"), shape(), depth + 1),
            Kind::Flat(_) => {}
        }
    }
}

/// A number or a word of Rust as etcd has it; nothing for other expressions.
fn plain(code: &str) -> String {
    // `-1` is two tokens.
    let plain = code.replace(['_', ' '], "");
    match plain.parse::<f64>().is_ok() || matches!(code, "true" | "false") {
        true => plain,
        false => String::new(),
    }
}

fn describe(text: &mut String, field: &Field, member: Option<&str>) {
    for line in field.doc().lines() {
        let _ = writeln!(text, "# {line}");
    }
    let _ = write!(text, "# ");
    if let Some(member) = member {
        let _ = write!(text, "{member}: ");
    }
    let _ = write!(text, "{}", field.type_name());
    if let Some(default) = field.default() {
        let _ = write!(text, ", default {}", default.replace('\n', "\\n"));
    } else if field.is_required() {
        let _ = write!(text, ", required");
    }
    if field.is_secret() {
        let _ = write!(text, ", secret");
    }
    let _ = writeln!(text);
}

fn put(text: &mut String, key: &str, value: &str) {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let command = format!("etcdctl put -- {} {}", quoted(key), quoted(value));
    for line in command.split('\n') {
        let _ = writeln!(text, "#{line}");
    }
}
