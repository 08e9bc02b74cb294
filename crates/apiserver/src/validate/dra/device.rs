//! Expressions about a device: what they may read of it, and what they may cost
//! (`k8s.io/dynamic-resource-allocation/cel`).

use std::sync::LazyLock;

use druse_object::value::Str;

use crate::cel::{Program, Scope, Sizes, Type};
use crate::field::{FieldError, FieldErrorKind};
use crate::validate::at::{At, Errors};

const LONGEST: usize = 10 * 1024;
const MOST: u64 = 1_000_000;
const DEVICE: &str = "kubernetes.DRADevice";

/// The variable `device`.
static SCOPE: LazyLock<Scope> = LazyLock::new(|| {
    let by_name = |of: Type| Type::map(Type::Str, Type::map(Type::Str, of));
    let fields = [
        ("driver", Type::Str),
        ("allowMultipleAllocations", Type::Bool),
        ("attributes", by_name(Type::Any)),
        ("capacity", by_name(Type::Struct("kubernetes.Quantity".into()))),
    ];
    let mut scope = Scope::default();
    scope.variables.push(("device".into(), Type::Struct(DEVICE.into())));
    scope.structs.insert(DEVICE.into(), fields.into_iter().map(|(k, t)| (Str::from(k), t)).collect());
    scope
});

/// How large the parts of a device can be.
struct Device;

const LONGEST_DOMAIN: u64 = 63;
const LONGEST_ID: u64 = 32;
const LONGEST_VALUE: u64 = 64;
const MOST_ENTRIES: u64 = 32;

impl Sizes for Device {
    fn most(&self, path: &[Str]) -> Option<u64> {
        let steps: Vec<&str> = path.iter().map(Str::as_str).collect();
        let attributes = steps.get(1) == Some(&"attributes");
        match steps.as_slice() {
            ["device"] => Some(0),
            ["device", "driver"] => Some(LONGEST_DOMAIN),
            ["device", "allowMultipleAllocations"] => Some(1),
            ["device", "attributes" | "capacity", rest @ ..] => match rest {
                [] | ["@values" | "@items"] => Some(MOST_ENTRIES),
                ["@keys"] => Some(LONGEST_DOMAIN),
                ["@values" | "@items", "@keys"] => Some(LONGEST_ID),
                // All attributes can be as long, whatever their name.
                ["@values" | "@items", _] if attributes => Some(LONGEST_VALUE),
                ["@values" | "@items", "@values" | "@items"] => Some(0),
                _ => None,
            },
            _ => None,
        }
    }
}

/// An expression that says whether a device will do.
pub(super) fn selector(at: &At, out: &mut Errors) {
    let text = at.text();
    if text.len() > LONGEST {
        // Not worth compiling.
        return at.too_long(LONGEST, out);
    }
    let checked = match Program::compile(text).and_then(|p| p.check(text, &SCOPE)) {
        Err(e) => return at.bad(text, format!("compilation failed: {e}"), out),
        Ok(checked) => checked,
    };
    let ty = checked.output();
    if !matches!(ty, Type::Bool | Type::Any) {
        let why = format!("must evaluate to bool or the unknown type, not {}", ty.long_name());
        return at.bad(text, why, out);
    }
    if let Err(why) = checked.constants() {
        let why = format!("program instantiation failed: {why}");
        return out.push(FieldError::new(FieldErrorKind::Internal, at.path(), None, why));
    }
    if checked.most(&Device) > MOST {
        at.forbidden("too complex, exceeds cost limit", out);
    }
}
