//! [`apart`]: two fields may share neither a key nor a key space. The derive says so of the fields that
//! it sees; those of a flattened struct are seen only here, when the constants are evaluated. All
//! track their caller: the error then stands where the user flattens.

use super::shape::{Field, Form, Kind, Unknown};

/// Fails to compile if a key of one field is a key of another, or is below one.
#[track_caller]
pub const fn apart(fields: &'static [Field]) {
    let mut a = 0;
    while a < fields.len() {
        spread(&fields[a]);
        let mut b = a + 1;
        while b < fields.len() {
            pair(&fields[a], &fields[b]);
            b += 1;
        }
        a += 1;
    }
}

/// What a flattened struct says of a key of its own, it would say in vain.
#[track_caller]
const fn spread(field: &Field) {
    let Kind::Flat(shape) = field.kind() else {
        return;
    };
    let why = match (shape.form(), shape.policy()) {
        (Form::Document(_), _) => {
            "`flatten` of a struct that says `document`: it is one value, and has no fields of its \
             own to spread; nest it, or take `document` away"
        }
        (_, Unknown::Deny | Unknown::Ignore) => {
            "`flatten` of a struct that says what becomes of unknown keys: they are the outer \
             struct's; say `unknown` there"
        }
        _ => return,
    };
    let message = Message::new()
        .and("the field `")
        .and(field.name())
        .and("`: ")
        .and(why);
    panic!("{}", message.text());
}

#[track_caller]
const fn pair(a: &Field, b: &Field) {
    let mut at = 0;
    if let Kind::Flat(inner) = a.kind() {
        let inner = inner.fields();
        while at < inner.len() {
            pair(&inner[at], b);
            at += 1;
        }
    } else if let Kind::Flat(inner) = b.kind() {
        let inner = inner.fields();
        while at < inner.len() {
            pair(a, &inner[at]);
            at += 1;
        }
    } else {
        while at <= a.aliases().len() {
            let mut other = 0;
            while other <= b.aliases().len() {
                keys(a, key(a, at), b, key(b, other));
                other += 1;
            }
            at += 1;
        }
    }
}

const fn key(field: &Field, at: usize) -> &'static str {
    if at == 0 {
        field.key()
    } else {
        field.aliases()[at - 1]
    }
}

#[track_caller]
const fn keys(a: &Field, one: &str, b: &Field, other: &str) {
    let (x, y) = (one.as_bytes(), other.as_bytes());
    let shorter = if x.len() < y.len() { x.len() } else { y.len() };
    let mut at = 0;
    while at < shorter {
        if x[at] != y[at] {
            return;
        }
        at += 1;
    }
    if x.len() == y.len() {
        let message = Message::new()
            .and("the key `")
            .and(one)
            .and("` is that of two fields: `")
            .and(a.name())
            .and("` and `")
            .and(b.name())
            .and("`");
        panic!("{}", message.text());
    }
    let longer = if x.len() > y.len() { x } else { y };
    if longer[shorter] == b'/' {
        let message = Message::new()
            .and("the key `")
            .and(one)
            .and("` of the field `")
            .and(a.name())
            .and("` and the key `")
            .and(other)
            .and("` of the field `")
            .and(b.name())
            .and("` are one below the other: a field owns all keys below its own");
        panic!("{}", message.text());
    }
}

/// Text put together by the compiler; cut where it is too long.
struct Message {
    bytes: [u8; 512],
    length: usize,
}

impl Message {
    const fn new() -> Self {
        Self {
            bytes: [0; 512],
            length: 0,
        }
    }

    const fn and(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut at = 0;
        if self.length + text.len() <= self.bytes.len() {
            while at < text.len() {
                self.bytes[self.length] = text[at];
                self.length += 1;
                at += 1;
            }
        }
        self
    }

    const fn text(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "two fields share a key",
        }
    }
}
