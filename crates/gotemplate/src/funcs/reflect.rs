//! Types and kinds: sprig's `reflect.go`.

use crate::val::Val;

use super::args::Args;
use super::{Entry, gofmt};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("typeOf", |_, a| Ok(Val::str(gofmt::type_name(Args::exact("typeOf", a, 1)?.any(0))))),
    ("kindOf", |_, a| Ok(Val::str(gofmt::kind(Args::exact("kindOf", a, 1)?.any(0))))),
    ("typeIs", |_, a| {
        let a = Args::exact("typeIs", a, 2)?;
        Ok(Val::Bool(a.str(0)? == gofmt::type_name(a.any(1))))
    }),
    ("typeIsLike", |_, a| {
        let a = Args::exact("typeIsLike", a, 2)?;
        let (want, got) = (a.str(0)?, gofmt::type_name(a.any(1)));
        Ok(Val::Bool(want == got || got.strip_prefix('*') == Some(want)))
    }),
    ("kindIs", |_, a| {
        let a = Args::exact("kindIs", a, 2)?;
        Ok(Val::Bool(a.str(0)? == gofmt::kind(a.any(1))))
    }),
    ("deepEqual", |_, a| {
        let a = Args::exact("deepEqual", a, 2)?;
        Ok(Val::Bool(gofmt::deep_equal(a.any(0), a.any(1))))
    }),
];
