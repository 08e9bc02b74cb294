//! Kubernetes' protobuf: an envelope (`k8s\0` and a `runtime.Unknown`) around a built-in kind, read and written.
//!
//! Field numbers are data (`data/protobuf.deflate`, written by `xtask api-protobuf` from the upstream `.proto` files).
//! Objects are handled in their JSON form everywhere else; this is only another way to write them down.

mod decode;
mod encode;
pub mod wire;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::LazyLock;

use druse_object::Str;

use crate::negotiate::MetaVersion;

pub use decode::decode;
pub use encode::{encode, event};

static DATA: &[u8] = include_bytes!("../../data/protobuf.deflate");
const MAGIC: &[u8] = b"k8s\0";
/// How deeply messages may nest.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug)]
enum Kind {
    Text,
    Bytes,
    Bool,
    Int,
    Fixed64,
    Fixed32,
    Message(usize),
    Map(Box<Kind>),
}

#[derive(Debug)]
struct Field {
    number: u64,
    name: Str,
    kind: Kind,
    repeated: bool,
    inlined: bool,
}

#[derive(Debug, Default)]
struct Message {
    name: String,
    fields: Vec<Field>,
}

#[derive(Debug, Default)]
struct Schema {
    kinds: HashMap<(String, String), usize>,
    messages: Vec<Message>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut text = String::new();
    // The data is part of the program; a test reads it.
    let _ = flate2::read::DeflateDecoder::new(DATA).read_to_string(&mut text);
    let mut out = Schema::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["K", group, version, kind, message] => {
                let api_version = if *group == "-" { (*version).to_owned() } else { format!("{group}/{version}") };
                if let Ok(i) = message.parse() {
                    out.kinds.insert((api_version, (*kind).to_owned()), i);
                }
            }
            ["M", name] => out.messages.push(Message { name: (*name).to_owned(), fields: Vec::new() }),
            [number, name, kind, flags] => {
                if let (Ok(number), Some(m)) = (number.parse(), out.messages.last_mut()) {
                    m.fields.push(Field {
                        number,
                        name: (*name).into(),
                        kind: kind_of(kind),
                        repeated: flags.contains('r'),
                        inlined: flags.contains('i'),
                    });
                }
            }
            _ => {}
        }
    }
    partial_metadata(&mut out);
    out
});

/// `PartialObjectMetadata` and its list, which have no `.proto` of their own kind list.
fn partial_metadata(schema: &mut Schema) {
    let find = |name: &str| {
        let full = format!("k8s.io.apimachinery.pkg.apis.meta.v1.{name}");
        schema.messages.iter().position(|m| m.name == full)
    };
    let (Some(object), Some(list)) = (find("ObjectMeta"), find("ListMeta")) else { return };
    let field = |number, name: &str, message, repeated| Field {
        number,
        name: name.into(),
        kind: Kind::Message(message),
        repeated,
        inlined: false,
    };
    let one = schema.messages.len();
    schema
        .messages
        .push(Message { name: "PartialObjectMetadata".into(), fields: vec![field(1, "metadata", object, false)] });
    schema.messages.push(Message {
        name: "PartialObjectMetadataList".into(),
        fields: vec![field(1, "metadata", list, false), field(2, "items", one, true)],
    });
    for (i, kind) in [(one, "PartialObjectMetadata"), (one + 1, "PartialObjectMetadataList")] {
        for version in [MetaVersion::V1, MetaVersion::V1beta1] {
            schema.kinds.insert((version.api_version().into(), kind.into()), i);
        }
    }
}

fn kind_of(text: &str) -> Kind {
    if let Some(kv) = text.strip_prefix("map<").and_then(|t| t.strip_suffix('>')) {
        return Kind::Map(Box::new(kind_of(kv.split_once(',').map_or("string", |(_, v)| v))));
    }
    match (text, text.strip_prefix('#').and_then(|n| n.parse().ok())) {
        (_, Some(i)) => Kind::Message(i),
        ("bytes", _) => Kind::Bytes,
        ("bool", _) => Kind::Bool,
        ("double", _) => Kind::Fixed64,
        ("float", _) => Kind::Fixed32,
        ("string", _) => Kind::Text,
        _ => Kind::Int,
    }
}
