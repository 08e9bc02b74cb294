//! The built-in types, decoded one by one from the generated data file.
//!
//! The file is one line a type: full name, the kinds it is served as, and a compact JSON record (keys are explained in
//! `xtask/src/schemas.rs`). Opening it costs one small inflate; a type costs nothing until it is used.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, LazyLock, OnceLock};

use druse_object::{Gvk, Map, Value, value::Str};

use super::keywords::Keywords;
use super::node::{Fields, Format, ListType, Node, Shape, Slot, Target};

static DATA: &[u8] = include_bytes!("../../data/types.deflate");

struct Entry {
    line: std::ops::Range<usize>,
    name: Str,
    node: OnceLock<Node>,
}

struct Registry {
    text: String,
    entries: Vec<Entry>,
    by_name: HashMap<Str, u32>,
    by_gvk: HashMap<Gvk, u32>,
}

static EMPTY: LazyLock<Node> = LazyLock::new(|| Node { preserve: true, ..Node::default() });

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut text = String::new();
    // The data is part of the program; the tests read every type of it.
    let _ = flate2::read::DeflateDecoder::new(DATA).read_to_string(&mut text);
    let (mut entries, mut by_name, mut by_gvk) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let mut parts = line.splitn(3, '\t');
        let name: Str = parts.next().unwrap_or_default().into();
        let kinds = parts.next().unwrap_or_default();
        let start = at + name.len() + kinds.len() + 2;
        let id = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        for kind in kinds.split(' ').filter(|k| !k.is_empty()) {
            let mut kind = kind.splitn(3, '/');
            let mut next = || kind.next().unwrap_or_default();
            by_gvk.insert(Gvk::new(next(), next(), next()), id);
        }
        by_name.insert(name.clone(), id);
        at += line.len();
        entries.push(Entry { line: start..at, name, node: OnceLock::new() });
    }
    Registry { text, entries, by_name, by_gvk }
});

/// The node of a type by its number.
pub(crate) fn node(id: u32) -> &'static Node {
    let registry: &'static Registry = &REGISTRY;
    let Some(entry) = registry.entries.get(id as usize) else { return &EMPTY };
    entry.node.get_or_init(|| {
        let json = registry.text.get(entry.line.clone()).unwrap_or_default();
        let record: Value = druse_object::json::parse(json.trim_end().as_bytes()).unwrap_or_default();
        read_node(&record, Some(&entry.name), registry)
    })
}

/// The place of a named type.
pub(crate) fn named(name: &str) -> Option<Slot> {
    REGISTRY.by_name.get(name).map(|id| Slot::new(Target::Named(*id)))
}

/// The place of a built-in kind.
pub(crate) fn of_gvk(gvk: &Gvk) -> Option<Slot> {
    REGISTRY.by_gvk.get(gvk).map(|id| Slot::new(Target::Named(*id)))
}

/// Every built-in kind.
pub(crate) fn kinds() -> impl Iterator<Item = &'static Gvk> {
    REGISTRY.by_gvk.keys()
}

fn read_slot(record: &Value, registry: &Registry) -> Slot {
    let target = match record.str_at(["R"]).and_then(|r| registry.by_name.get(r)) {
        Some(id) => Target::Named(*id),
        None => Target::Inline(Arc::new(read_node(record, None, registry))),
    };
    let mut slot = Slot::new(target);
    slot.default = record.get("d").cloned();
    if let Some(flags) = record.str_at(["g"]) {
        slot.pointer = flags.contains('p');
        slot.omitempty = Some(flags.contains('o'));
        slot.omitzero = flags.contains('z');
    }
    slot.go_type = record.str_at(["G"]).map(Str::from);
    slot.embedded_in = record.str_at(["E"]).map(Str::from);
    slot.merge_key = record.str_at(["pk"]).map(Str::from);
    let strategy = record.str_at(["ps"]).unwrap_or_default();
    slot.merge = strategy.split(',').any(|s| s == "merge");
    slot.retain_keys = strategy.split(',').any(|s| s == "retainKeys");
    slot.atomic = record.str_at(["mt"]) == Some("atomic");
    slot.granular = record.str_at(["mt"]) == Some("granular");
    slot
}

fn strings(v: Option<&Value>) -> Vec<Str> {
    v.map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).map(Str::from).collect()
}

fn read_node(record: &Value, name: Option<&Str>, registry: &Registry) -> Node {
    let shape = match record.str_at(["t"]).unwrap_or_default() {
        "s" => Shape::Str,
        "i" => Shape::Int,
        "n" => Shape::Number,
        "b" => Shape::Bool,
        "a" => Shape::List,
        "o" => Shape::Object,
        _ => Shape::Any,
    };
    let format = match record.str_at(["f"]).unwrap_or_default() {
        "" => Format::None,
        "int32" => Format::Int32,
        "int64" => Format::Int64,
        "date-time" => Format::DateTime,
        "byte" => Format::Byte,
        "quantity" => Format::Quantity,
        "int-or-string" => Format::IntOrString,
        other => Format::Other(other.into()),
    };
    let fields = record
        .get("p")
        .and_then(Value::as_map)
        .map(|m: &Map| Fields::from_unsorted(m.iter().map(|(k, v)| (k.clone(), read_slot(v, registry))).collect()));
    let values = record.get("m").map(|v| Box::new(read_slot(v, registry)));
    let keywords =
        record.get("e").map(|e| Box::new(Keywords { one_of_values: e.items().to_vec(), ..Keywords::default() }));
    // Holds anything, and is owned as one.
    let raw = name.is_some_and(|n| n == "io.k8s.apimachinery.pkg.runtime.RawExtension");
    let shape = if raw { Shape::Any } else { shape };
    let free = match shape {
        Shape::Object => fields.is_none() && values.is_none(),
        Shape::Any => !raw && matches!(format, Format::None),
        _ => false,
    };
    Node {
        shape,
        format,
        preserve: free,
        fields: fields.unwrap_or_default(),
        values,
        items: record.get("i").map(|v| Box::new(read_slot(v, registry))),
        required: strings(record.get("r")),
        list: match record.str_at(["lt"]) {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        },
        keys: strings(record.get("lk")),
        atomic: record.str_at(["mt"]) == Some("atomic"),
        embedded: false,
        nullable: false,
        keywords,
        name: name.cloned(),
    }
}
