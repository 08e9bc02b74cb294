//! What functions need of Go's `fmt`, `strconv` and `reflect`: text of a value, its type and kind, deep equality.

use crate::printf;
use crate::strconv;
use crate::val::Val;

use super::args::MAX_DEPTH;

pub use crate::printf::to_string as sprint;
pub use crate::strconv::quote;

/// sprig's `strval`: text as it is, anything else by `%v`.
#[must_use]
pub fn strval(v: &Val) -> std::borrow::Cow<'_, str> {
    match v {
        Val::Str(s) => std::borrow::Cow::Borrowed(s.as_str()),
        other => std::borrow::Cow::Owned(sprint(other)),
    }
}

/// `strconv.FormatFloat(f, 'g', -1, 64)`, which is also `%v`: an exponent below 1e-4 and from 1e6 on.
#[must_use]
pub fn float_g(f: f64) -> String {
    strconv::format_float(f, 'g', None)
}

/// `%T`.
#[must_use]
pub fn type_name(v: &Val) -> String {
    printf::type_name(v).into_owned()
}

/// The kind, as `reflect.Kind` prints it.
#[must_use]
pub fn kind(v: &Val) -> String {
    match v {
        Val::Nil | Val::Missing => "invalid",
        Val::List(_) => "slice",
        Val::Map(_) => "map",
        Val::Object(o) => return o.kind().to_owned(),
        other => return type_name(other),
    }
    .to_owned()
}

/// How many values [`deep_equal`] compares before it takes the rest for equal: only maps that contain themselves get
/// there.
const COMPARISONS: usize = 20_000_000;

/// `reflect.DeepEqual`: the types have to be the same, too.
#[must_use]
pub fn deep_equal(a: &Val, b: &Val) -> bool {
    deep_equal_at(a, b, 0, &mut 0)
}

fn deep_equal_at(a: &Val, b: &Val, depth: usize, count: &mut usize) -> bool {
    *count += 1;
    if depth > MAX_DEPTH || *count > COMPARISONS {
        return true;
    }
    match (a, b) {
        (Val::Nil | Val::Missing, Val::Nil | Val::Missing) => true,
        (Val::Bool(x), Val::Bool(y)) => x == y,
        (Val::Int(x), Val::Int(y)) | (Val::Int64(x), Val::Int64(y)) => x == y,
        (Val::UInt64(x), Val::UInt64(y)) => x == y,
        #[allow(clippy::float_cmp)]
        (Val::Float(x), Val::Float(y)) => x == y,
        (Val::Str(x), Val::Str(y)) => x == y,
        (Val::List(x), Val::List(y)) => {
            x.len() == y.len() && x.iter().zip(y.iter()).all(|(x, y)| deep_equal_at(x, y, depth + 1, count))
        }
        (Val::Map(x), Val::Map(y)) => {
            x.same(y) || {
                let (x, y) = (x.borrow(), y.borrow());
                x.len() == y.len()
                    && x.iter()
                        .zip(y.iter())
                        .all(|((ka, va), (kb, vb))| ka == kb && deep_equal_at(va, vb, depth + 1, count))
            }
        }
        (Val::Object(x), Val::Object(y)) => {
            std::rc::Rc::ptr_eq(x, y)
                || (x.type_name() == y.type_name() && x.display() == y.display() && x.to_value() == y.to_value())
        }
        _ => false,
    }
}
