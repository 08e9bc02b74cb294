//! One node of a schema, built-in or custom, and how it is reached.

use std::sync::Arc;

use druse_object::patch::MergeSchema;
use druse_object::{Value, value::Str};

use super::builtin;
use super::keywords::Keywords;

/// What kind of JSON value a node describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Anything at all.
    #[default]
    Any,
    /// `true`, `false`
    Bool,
    /// A whole number.
    Int,
    /// Any number.
    Number,
    /// Text.
    Str,
    /// A list.
    List,
    /// A struct or a map.
    Object,
}

/// The formats that change how a value is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// None.
    #[default]
    None,
    /// 32 signed bits.
    Int32,
    /// 64 signed bits.
    Int64,
    /// RFC 3339.
    DateTime,
    /// Base64 of bytes.
    Byte,
    /// A `resource.Quantity`.
    Quantity,
    /// A number or text.
    IntOrString,
    /// One that changes nothing.
    Other(Str),
}

/// How a list is merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each its own item.
    Set,
    /// Maps told apart by key fields.
    Map,
}

/// The fields of a struct, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub(crate) Vec<(Str, Slot)>);

impl Fields {
    /// The field with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Slot> {
        self.0.binary_search_by(|(k, _)| k.as_str().cmp(name)).ok().and_then(|i| self.0.get(i)).map(|(_, s)| s)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All fields in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &Slot)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    pub(crate) fn from_unsorted(mut fields: Vec<(Str, Slot)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self(fields)
    }
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The kind of value.
    pub shape: Shape,
    /// Its format.
    pub format: Format,
    /// The fields of a struct.
    pub fields: Fields,
    /// The schema of a map's values.
    pub values: Option<Box<Slot>>,
    /// The schema of a list's items.
    pub items: Option<Box<Slot>>,
    /// The fields that must be present.
    pub required: Vec<Str>,
    /// How a list is merged.
    pub list: ListType,
    /// The key fields of a list of maps.
    pub keys: Vec<Str>,
    /// Whether a map or struct is replaced as a whole.
    pub atomic: bool,
    /// `x-kubernetes-preserve-unknown-fields`, or a built-in free-form object.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// Whether null is a value.
    pub nullable: bool,
    /// Value rules (custom types only, and `enum` of built-in ones).
    pub keywords: Option<Box<Keywords>>,
    /// The full OpenAPI name of a built-in named type.
    pub name: Option<Str>,
}

impl Node {
    /// Whether this describes a built-in struct (fixed fields) rather than a map.
    #[must_use]
    pub fn is_struct(&self) -> bool {
        self.shape == Shape::Object && !self.fields.is_empty()
    }

    /// The schema of a field or map entry.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Slot> {
        self.fields.get(name).or(self.values.as_deref())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Inline(Arc<Node>),
    Named(u32),
}

/// A place in a schema: the node found there, and what belongs to the place rather than to the type.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(crate) target: Target,
    /// The value an absent field gets.
    pub default: Option<Value>,
    /// Whether the Go field behind it is a pointer (absent and zero are told apart).
    pub pointer: bool,
    /// Whether an empty value is left out when written; `None` when no Go field is known (custom types).
    pub omitempty: Option<bool>,
    /// Whether a zero struct is left out when written.
    pub omitzero: bool,
    /// The Go type an error message names.
    pub go_type: Option<Str>,
    /// The embedded Go structs that an error message names on the way here.
    pub embedded_in: Option<Str>,
    /// The strategic merge key.
    pub merge_key: Option<Str>,
    /// Whether a strategic merge patch merges this list.
    pub merge: bool,
    /// Whether a strategic merge patch keeps only `$retainKeys`.
    pub retain_keys: bool,
    /// Whether the place makes its map atomic.
    pub atomic: bool,
    /// Whether the place makes a map of an atomic type granular.
    pub granular: bool,
}

impl Slot {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            default: None,
            pointer: false,
            omitempty: None,
            omitzero: false,
            go_type: None,
            embedded_in: None,
            merge_key: None,
            merge: false,
            retain_keys: false,
            atomic: false,
            granular: false,
        }
    }

    /// A place with this node.
    #[must_use]
    pub fn inline(node: Node) -> Self {
        Self::new(Target::Inline(Arc::new(node)))
    }

    /// The node found here.
    #[must_use]
    pub fn node(&self) -> &Node {
        match &self.target {
            Target::Inline(n) => n,
            Target::Named(i) => builtin::node(*i),
        }
    }
}

impl MergeSchema for Slot {
    fn field(&self, name: &str) -> Option<&dyn MergeSchema> {
        self.node().child(name).map(|s| s as &dyn MergeSchema)
    }
    fn items(&self) -> Option<&dyn MergeSchema> {
        let node = self.node();
        node.items.as_deref().or(node.values.as_deref()).map(|s| s as &dyn MergeSchema)
    }
    fn merge_key(&self) -> Option<&str> {
        self.merge_key.as_deref().filter(|_| self.merge)
    }
    fn is_merged_set(&self) -> bool {
        self.merge && self.merge_key.is_none()
    }
    fn retain_keys(&self) -> bool {
        self.retain_keys
    }
}
