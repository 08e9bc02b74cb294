//! What is wrong with an expression whose types are right: the validators that Kubernetes adds (`cel/validator.go`,
//! `ext/formatting.go`), and constants that are no values, which cel-go finds when it makes a program
//! (`interpreter/decorators.go`).

use super::core::{Core, Id, Tree};
use super::parse::Lit;
use super::types::Type;
use super::value::Val;
use super::{CelError, funcs, libs};

type Errors = Vec<(Id, String)>;

/// What is wrong, and where.
pub(super) fn errors(tree: &Tree, types: &[Type]) -> Errors {
    let mut out = Vec::new();
    let formatted = formatted(tree);
    for (id, node) in tree.nodes.iter().enumerate() {
        match &node.core {
            Core::Call { name, target, args } => {
                literal(tree, name, args, &mut out);
                if let ("format", Some(of), [list]) = (name.as_str(), target, args.as_slice())
                    && let (Core::Lit(Lit::Str(text)), Core::List(items)) =
                        (&tree.nodes[*of].core, &tree.nodes[*list].core)
                {
                    let items: Vec<Id> = items.iter().map(|(i, _)| *i).collect();
                    format(tree, types, id, text, &items, &mut out);
                }
            }
            Core::List(_) | Core::Map(_) if formatted.contains(&id) => {}
            Core::List(items) => list(types, items, &mut out),
            Core::Map(items) => map(types, items, &mut out),
            _ => {}
        }
    }
    out
}

/// A literal that is no such value.
fn literal(tree: &Tree, name: &str, args: &[Id], out: &mut Errors) {
    let Some(arg) = args.first() else { return };
    let Core::Lit(Lit::Str(s)) = &tree.nodes[*arg].core else { return };
    let right = match name {
        "duration" => libs::parse_duration(s).is_some(),
        "timestamp" => s.parse::<jiff::Timestamp>().is_ok(),
        // Of the function, not the method, this is the text and not the pattern. Upstream looks at it all the same.
        "matches" => funcs::regex(s).is_ok(),
        _ => true,
    };
    if !right {
        out.push((*arg, format!("invalid {name} argument")));
    }
}

/// What is said where a value of one type stands in the place of another.
pub(super) fn mismatch(expected: &Type, actual: &Type) -> String {
    format!("expected type '{expected}' but found '{actual}'")
}

fn without_optional(types: &[Type], id: Id, optional: bool) -> &Type {
    let ty = &types[id];
    ty.held().filter(|_| optional).unwrap_or(ty)
}

fn list(types: &[Type], items: &[(Id, bool)], out: &mut Errors) {
    let mut all = items.iter().map(|(id, optional)| (*id, without_optional(types, *id, *optional)));
    let Some((_, first)) = all.next() else { return };
    out.extend(all.find(|(_, ty)| *ty != first).map(|(id, ty)| (id, mismatch(first, ty))));
}

fn map(types: &[Type], items: &[(Id, Id, bool)], out: &mut Errors) {
    let mut all = items.iter().map(|(k, v, optional)| (*k, *v, without_optional(types, *v, *optional)));
    let Some((key, _, value)) = all.next() else { return };
    let key = &types[key];
    for (k, v, ty) in all {
        if types[k] != *key {
            out.push((k, mismatch(key, &types[k])));
        }
        if ty != value {
            out.push((v, mismatch(value, ty)));
        }
    }
}

/// All that is in calls of `format`, whose lists may be of several types.
fn formatted(tree: &Tree) -> std::collections::HashSet<Id> {
    let mut out = std::collections::HashSet::new();
    let mut todo: Vec<Id> = Vec::new();
    for node in &tree.nodes {
        if let Core::Call { name, target, args } = &node.core
            && name == "format"
        {
            todo.extend(target.iter().chain(args));
        }
    }
    while let Some(id) = todo.pop() {
        if !out.insert(id) {
            continue;
        }
        match &tree.nodes[id].core {
            Core::Lit(_) | Core::Ident(_) => {}
            Core::Select { of, .. } => todo.push(*of),
            Core::Call { target, args, .. } => todo.extend(target.iter().chain(args)),
            Core::List(items) => todo.extend(items.iter().map(|(i, _)| *i)),
            Core::Map(items) => todo.extend(items.iter().flat_map(|(k, v, _)| [*k, *v])),
            Core::Message(_, fields) => todo.extend(fields),
            Core::Fold(f) => todo.extend([f.range, f.init, f.condition, f.step, f.result]),
        }
    }
    out
}

/// Whether a text's places fit what is put there.
fn format(tree: &Tree, types: &[Type], call: Id, text: &str, items: &[Id], out: &mut Errors) {
    let clause = |why: &str| Err((call, format!("could not parse formatting clause: {why}")));
    let judge = || -> Result<usize, (Id, String)> {
        let mut used = 0;
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            rest = rest.get(at + 1..).unwrap_or_default();
            if let Some(after) = rest.strip_prefix('%') {
                rest = after;
                continue;
            }
            if rest.is_empty() {
                return Err((call, "unexpected end of string".into()));
            }
            let Some(item) = items.get(used) else { return Err((call, format!("index {used} out of range"))) };
            used += 1;
            if let Some(after) = rest.strip_prefix('.') {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                rest = after.get(digits..).unwrap_or_default();
                if rest.is_empty() {
                    return clause("error while parsing precision: could not find end of precision specifier");
                }
                if digits == 0 {
                    return clause(
                        "error while parsing precision: error while converting precision to integer: strconv.Atoi: \
                         parsing \"\": invalid syntax",
                    );
                }
            }
            let Some(verb) = rest.chars().next() else { break };
            rest = rest.get(verb.len_utf8()..).unwrap_or_default();
            let (fits, why): (fn(&Type) -> bool, &str) = match verb {
                's' => {
                    if let Some(bad) = unprintable(tree, types, *item) {
                        return Err((
                            bad,
                            during(
                                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, \
                             types, durations, and timestamps",
                                &types[bad],
                            ),
                        ));
                    }
                    continue;
                }
                'd' => (whole, "decimal clause can only be used on integers"),
                'f' => (broken, "fixed-point clause can only be used on doubles"),
                'e' => (broken, "scientific clause can only be used on doubles"),
                'b' => (|t| whole(t) || *t == Type::Bool, "only integers and bools can be formatted as binary"),
                'x' | 'X' => (
                    |t| whole(t) || matches!(t, Type::Str | Type::Bytes),
                    "only integers, byte buffers, and strings can be formatted as hex",
                ),
                'o' => (whole, "octal clause can only be used on integers"),
                other => return clause(&format!("unrecognized formatting clause \"{other}\"")),
            };
            let ty = &types[*item];
            if *ty != Type::Dyn && !fits(ty) {
                return Err((*item, during(why, ty)));
            }
        }
        Ok(used)
    };
    match judge() {
        Err(e) => out.push(e),
        Ok(used) if items.len() > used => {
            let given = items.len();
            let why = format!("too many arguments supplied to string.format (expected {used}, got {given})");
            out.push((call, why));
        }
        Ok(_) => {}
    }
}

fn whole(ty: &Type) -> bool {
    matches!(ty, Type::Int | Type::Uint)
}

fn broken(ty: &Type) -> bool {
    matches!(ty, Type::Double | Type::Str)
}

fn during(why: &str, ty: &Type) -> String {
    let name = match ty {
        Type::List(_) => "list".to_owned(),
        Type::Map(..) => "map".to_owned(),
        Type::Opaque(name, _) => name.to_string(),
        Type::Meta(_) => "type".to_owned(),
        ty => ty.long_name(),
    };
    format!("error during formatting: {why}, was given {name}")
}

/// The part of a value that has no text.
fn unprintable(tree: &Tree, types: &[Type], id: Id) -> Option<Id> {
    if matches!(types[id], Type::Opaque(..) | Type::Struct(_)) {
        return Some(id);
    }
    match &tree.nodes[id].core {
        Core::List(items) => items.iter().find_map(|(i, _)| unprintable(tree, types, *i)),
        Core::Map(items) => items.iter().flat_map(|(k, v, _)| [*k, *v]).find_map(|part| unprintable(tree, types, part)),
        _ => None,
    }
}

/// Whether conversions of constants and patterns of searches are right.
pub(super) fn constants(tree: &Tree) -> Result<(), CelError> {
    for id in 0..tree.nodes.len() {
        constant(tree, id)?;
        if let Core::Call { name, target: Some(_), args } = &tree.nodes[id].core
            && matches!(name.as_str(), "find" | "findAll")
            && let Some(Core::Lit(Lit::Str(pattern))) = args.first().map(|a| &tree.nodes[*a].core)
        {
            funcs::regex(pattern)?;
        }
    }
    Ok(())
}

/// The value of an expression that is a literal, or a conversion of one.
fn constant(tree: &Tree, id: Id) -> Result<Option<Val<'static>>, CelError> {
    Ok(match &tree.nodes[id].core {
        Core::Lit(l) => Some(l.clone().into()),
        Core::Call { name, target: None, args } => {
            let converts = matches!(
                name.as_str(),
                "bool" | "bytes" | "double" | "duration" | "int" | "string" | "timestamp" | "uint"
            );
            let [arg] = args.as_slice() else { return Ok(None) };
            match constant(tree, *arg)? {
                Some(v) if converts => Some(funcs::call_global(name, &[v])?),
                _ => None,
            }
        }
        _ => None,
    })
}
