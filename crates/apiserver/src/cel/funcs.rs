//! The function libraries: CEL's standard ones and those Kubernetes adds.

use std::net::IpAddr;
use std::sync::Arc;

use druse_object::value::Str;

use super::CelError;
use super::eval::error;
use super::libs::{Url, format, parse_duration};
use super::lists;
use super::named::{self, format_named, version};
use super::value::Val;
use druse_object::Quantity;

pub(super) type Out<'a> = Result<Val<'a>, CelError>;

/// Text that functions make may not grow beyond this.
const MAX_TEXT: usize = 1 << 20;

/// Names before a dot that are no variables.
pub(crate) fn is_namespace(name: &str) -> bool {
    ["optional", "sets", "math", "strings", "ip", "cidr", "base64", "format", "lists", "jsonpatch"].contains(&name)
}

/// The type a name stands for.
pub(crate) fn type_named(name: &str) -> Option<&'static str> {
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"]
        .into_iter()
        .find(|t| *t == name)
}

pub(super) fn no_overload<'a>() -> Out<'a> {
    error("no such overload")
}

pub(super) fn int<'a>(n: usize) -> Val<'a> {
    Val::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(super) fn text<'a>(s: impl Into<Str>) -> Out<'a> {
    let s = s.into();
    if s.len() > MAX_TEXT { error("string is too long") } else { Ok(Val::Str(s)) }
}

pub(super) fn regex(pattern: &str) -> Result<regex::Regex, CelError> {
    if let Some(count) = repeated_too_often(pattern) {
        return error(format!("error parsing regexp: invalid repeat count: `{count}`"));
    }
    let built = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    built.map_err(|e| CelError(format!("error parsing regexp: {}", unread(pattern, &e))))
}

/// A repetition of more than a thousand times, which Go refuses.
fn repeated_too_often(pattern: &str) -> Option<&str> {
    pattern.match_indices('{').find_map(|(i, _)| {
        let rest = pattern.get(i..)?;
        let whole = rest.get(..=rest.find('}')?)?;
        let mut counts = whole.trim_matches(['{', '}']).split(',');
        counts.any(|n| n.parse::<u64>().is_ok_and(|n| n > 1000)).then_some(whole)
    })
}

/// What is wrong with a pattern in the words of Go's `regexp/syntax`, where these are known.
fn unread(pattern: &str, e: &regex::Error) -> String {
    let said = e.to_string();
    let from = |sign: char| pattern.rfind(sign).and_then(|i| pattern.get(i..)).unwrap_or(pattern);
    match () {
        () if said.contains("unclosed character class") => format!("missing closing ]: `{}`", from('[')),
        () if said.contains("unclosed group") => format!("missing closing ): `{pattern}`"),
        () if said.contains("unopened group") => format!("unexpected ): `{pattern}`"),
        () if said.contains("incomplete escape") => "trailing backslash at end of expression: ``".to_owned(),
        () => said,
    }
}

fn quantity(s: &str) -> Result<Quantity, CelError> {
    Quantity::parse(s).map_err(|e| CelError(e.into()))
}

fn cidr(s: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = s.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
}

fn network(ip: IpAddr, bits: u8) -> u128 {
    let (value, width) = match ip {
        IpAddr::V4(v) => (u128::from(u32::from(v)), 32),
        IpAddr::V6(v) => (u128::from(v), 128),
    };
    let host = width - u32::from(bits);
    if host >= 128 { 0 } else { value >> host << host }
}

fn size<'a>(v: &Val<'_>) -> Out<'a> {
    match v {
        Val::Str(s) => Ok(int(s.chars().count())),
        Val::Bytes(b) => Ok(int(b.len())),
        Val::List(l) => Ok(int(l.len())),
        Val::JsonList(l, _) => Ok(int(l.len())),
        Val::Map(m) => Ok(int(m.len())),
        Val::JsonMap(m, _) => Ok(int(m.len())),
        _ => no_overload(),
    }
}

/// A function without a receiver.
pub(crate) fn call_global<'a>(name: &str, args: &[Val<'a>]) -> Out<'a> {
    match (name, args) {
        ("size", [v]) => size(v),
        ("type", [v]) => Ok(Val::Type(v.type_name())),
        ("dyn", [v]) => Ok(v.clone()),
        ("string", [Val::Bytes(b)]) => match std::str::from_utf8(b) {
            Ok(s) => text(s),
            Err(_) => error("invalid UTF-8 in bytes, cannot convert to string"),
        },
        ("string", [v]) => text(v.text()),
        ("bool", [v]) => match v {
            Val::Bool(b) => Ok(Val::Bool(*b)),
            Val::Str(s) => match s.as_str() {
                "true" | "True" | "TRUE" | "t" | "1" => Ok(Val::Bool(true)),
                "false" | "False" | "FALSE" | "f" | "0" => Ok(Val::Bool(false)),
                _ => error("type conversion error from 'string' to 'bool'"),
            },
            _ => no_overload(),
        },
        ("int", [v]) => to_int(v),
        ("uint", [v]) => match to_int(v)? {
            Val::Int(i) => u64::try_from(i).map(Val::Uint).or_else(|_| error("unsigned integer overflow")),
            other => Ok(other),
        },
        ("double", [v]) => match v {
            Val::Double(d) => Ok(Val::Double(*d)),
            #[allow(clippy::cast_precision_loss)]
            Val::Int(i) => Ok(Val::Double(*i as f64)),
            #[allow(clippy::cast_precision_loss)]
            Val::Uint(u) => Ok(Val::Double(*u as f64)),
            Val::Str(s) => {
                s.parse().map(Val::Double).or_else(|_| error("type conversion error from 'string' to 'double'"))
            }
            _ => no_overload(),
        },
        ("bytes", [v]) => match v {
            Val::Str(s) => Ok(Val::Bytes(Arc::new(s.as_bytes().to_vec()))),
            Val::Bytes(_) => Ok(v.clone()),
            _ => no_overload(),
        },
        ("timestamp", [v]) => match v {
            Val::Str(s) => s
                .parse()
                .map(Val::Timestamp)
                .or_else(|_| error("type conversion error from 'string' to 'google.protobuf.Timestamp'")),
            Val::Int(i) => {
                jiff::Timestamp::from_second(*i).map(Val::Timestamp).or_else(|_| error("timestamp overflow"))
            }
            Val::Timestamp(_) => Ok(v.clone()),
            _ => no_overload(),
        },
        ("duration", [v]) => match v {
            Val::Str(s) => parse_duration(s)
                .map(Val::Duration)
                .map_or_else(|| error("type conversion error from 'string' to 'google.protobuf.Duration'"), Ok),
            Val::Duration(_) => Ok(v.clone()),
            _ => no_overload(),
        },
        ("matches", [s, p]) => call_method("matches", s, std::slice::from_ref(p)),
        ("quantity", [Val::Str(s)]) => quantity(s).map(Val::Quantity),
        ("isQuantity", [Val::Str(s)]) => Ok(Val::Bool(quantity(s).is_ok())),
        ("url", [Val::Str(s)]) => Url::parse(s)
            .map(|u| Val::Url(Arc::new(u)))
            .map_or_else(|| error(format!("URL parse error during conversion from string: {s}")), Ok),
        ("isURL", [Val::Str(s)]) => Ok(Val::Bool(Url::parse(s).is_some())),
        ("ip", [Val::Str(s)]) => s.parse().map(Val::Ip).or_else(|_| {
            error(format!("IP Address {} parse error during conversion from string", crate::field::go_quote(s)))
        }),
        ("isIP", [Val::Str(s)]) => Ok(Val::Bool(s.parse::<IpAddr>().is_ok())),
        ("ip.isCanonical", [Val::Str(s)]) => match s.parse::<IpAddr>() {
            Ok(ip) => Ok(Val::Bool(ip.to_string() == s.as_str())),
            Err(_) => error("IP Address parse error during conversion from string"),
        },
        ("cidr", [Val::Str(s)]) => cidr(s)
            .map(|(ip, n)| Val::Cidr(ip, n))
            .map_or_else(|| error(format!("network address parse error during conversion from string: {s}")), Ok),
        ("isCIDR", [Val::Str(s)]) => Ok(Val::Bool(cidr(s).is_some())),
        ("format.named", [Val::Str(s)]) => Ok(Val::optional(format_named(s).map(Val::Format))),
        ("semver", [Val::Str(s)]) => version(s, false).map(|v| Val::Semver(Arc::new(v))),
        ("semver", [Val::Str(s), Val::Bool(b)]) => version(s, *b).map(|v| Val::Semver(Arc::new(v))),
        ("isSemver", [Val::Str(s)]) => Ok(Val::Bool(version(s, false).is_ok())),
        ("isSemver", [Val::Str(s), Val::Bool(b)]) => Ok(Val::Bool(version(s, *b).is_ok())),
        ("optional.of", [v]) => Ok(Val::optional(Some(v.clone()))),
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.ofNonZeroValue", [v]) => {
            Ok(if is_zero(v) { Val::Optional(None) } else { Val::optional(Some(v.clone())) })
        }
        ("sets.contains", [a, b]) => sets(a, b, |a, b| b.iter().all(|x| a.iter().any(|y| x.equals(y)))),
        ("sets.equivalent", [a, b]) => sets(a, b, |a, b| {
            a.iter().all(|x| b.iter().any(|y| x.equals(y))) && b.iter().all(|x| a.iter().any(|y| x.equals(y)))
        }),
        ("sets.intersects", [a, b]) => sets(a, b, |a, b| a.iter().any(|x| b.iter().any(|y| x.equals(y)))),
        ("math.greatest" | "math.least", args) => lists::extreme(args, name == "math.greatest"),
        ("math.abs", [Val::Int(i)]) => i.checked_abs().map(Val::Int).map_or_else(|| error("integer overflow"), Ok),
        ("math.abs", [Val::Double(d)]) => Ok(Val::Double(d.abs())),
        ("math.ceil", [Val::Double(d)]) => Ok(Val::Double(d.ceil())),
        ("math.floor", [Val::Double(d)]) => Ok(Val::Double(d.floor())),
        ("math.round", [Val::Double(d)]) => Ok(Val::Double(d.round())),
        ("math.sign", [Val::Int(i)]) => Ok(Val::Int(i.signum())),
        ("strings.quote", [Val::Str(s)]) => text(crate::field::go_quote(s)),
        // A key as a step of a JSON pointer (RFC 6901 section 3).
        ("jsonpatch.escapeKey", [Val::Str(s)]) => text(s.replace('~', "~0").replace('/', "~1")),
        ("base64.encode", [Val::Bytes(b)]) => {
            use base64::Engine;
            text(base64::engine::general_purpose::STANDARD.encode(b.as_slice()))
        }
        ("base64.decode", [Val::Str(s)]) => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD
                .decode(s.as_str())
                .map(|b| Val::Bytes(Arc::new(b)))
                .or_else(|_| error("illegal base64 data"))
        }
        ("lists.range", [Val::Int(n)]) if (0..=100_000).contains(n) => {
            Ok(Val::List(Arc::new((0..*n).map(Val::Int).collect())))
        }
        (name, []) if let Some(f) = name.strip_prefix("format.").and_then(format_named) => Ok(Val::Format(f)),
        _ => error(format!("undeclared reference to '{name}' (in container '')")),
    }
}

fn is_zero(v: &Val<'_>) -> bool {
    match v {
        Val::Null => true,
        Val::Bool(b) => !b,
        Val::Int(i) => *i == 0,
        Val::Uint(u) => *u == 0,
        Val::Double(d) => *d == 0.0,
        Val::Str(s) => s.is_empty(),
        Val::Bytes(b) => b.is_empty(),
        Val::Duration(d) => *d == 0,
        _ => matches!(size(v), Ok(Val::Int(0))),
    }
}

fn to_int<'a>(v: &Val<'a>) -> Out<'a> {
    match v {
        Val::Int(i) => Ok(Val::Int(*i)),
        Val::Uint(u) => i64::try_from(*u).map(Val::Int).or_else(|_| error("integer overflow")),
        #[allow(clippy::cast_possible_truncation)]
        Val::Double(d) if d.abs() < 9.2e18 => Ok(Val::Int(*d as i64)),
        Val::Double(_) => error("integer overflow"),
        Val::Str(s) => s.parse().map(Val::Int).or_else(|_| error("type conversion error from 'string' to 'int'")),
        Val::Timestamp(t) => Ok(Val::Int(t.as_second())),
        Val::Duration(d) => Ok(Val::Int(*d)),
        _ => no_overload(),
    }
}

fn sets<'a>(a: &Val<'a>, b: &Val<'a>, f: impl Fn(&[Val<'a>], &[Val<'a>]) -> bool) -> Out<'a> {
    match (a.items(), b.items()) {
        (Some(a), Some(b)) => Ok(Val::Bool(f(&a, &b))),
        _ => no_overload(),
    }
}

/// A function with a receiver.
pub(crate) fn call_method<'a>(name: &str, target: &Val<'a>, args: &[Val<'a>]) -> Out<'a> {
    if let ("size", []) = (name, args) {
        return size(target);
    }
    match target {
        Val::Str(s) => on_text(name, s, args),
        Val::Optional(o) => match (name, args) {
            ("hasValue", []) => Ok(Val::Bool(o.is_some())),
            ("value", []) => o.as_ref().map(|v| (**v).clone()).map_or_else(|| error("optional.none() dereference"), Ok),
            _ => no_overload(),
        },
        Val::Quantity(q) => on_quantity(name, *q, args),
        Val::Url(u) => match (name, args) {
            ("getScheme", []) => text(u.scheme.as_str()),
            ("getHost", []) => text(u.authority.as_str()),
            ("getHostname", []) => text(u.hostname()),
            ("getPort", []) => text(u.port()),
            ("getEscapedPath", []) => text(u.path.as_str()),
            ("getQuery", []) => {
                let mut out: Vec<(Val<'a>, Vec<Val<'a>>)> = Vec::new();
                for part in u.query.split('&').filter(|p| !p.is_empty()) {
                    let (k, v) = part.split_once('=').unwrap_or((part, ""));
                    let k = Val::Str(k.into());
                    match out.iter_mut().find(|(l, _)| l.equals(&k)) {
                        Some((_, list)) => list.push(Val::Str(v.into())),
                        None => out.push((k, vec![Val::Str(v.into())])),
                    }
                }
                Ok(Val::Map(Arc::new(out.into_iter().map(|(k, v)| (k, Val::List(Arc::new(v)))).collect())))
            }
            _ => no_overload(),
        },
        Val::Ip(ip) => match (name, args) {
            ("family", []) => Ok(Val::Int(if ip.is_ipv4() { 4 } else { 6 })),
            ("isLoopback", []) => Ok(Val::Bool(ip.is_loopback())),
            ("isUnspecified", []) => Ok(Val::Bool(ip.is_unspecified())),
            ("isGlobalUnicast", []) => Ok(Val::Bool(!ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())),
            ("isLinkLocalUnicast", []) => Ok(Val::Bool(match ip {
                IpAddr::V4(v) => v.is_link_local(),
                IpAddr::V6(v) => v.segments()[0] & 0xffc0 == 0xfe80,
            })),
            ("isLinkLocalMulticast", []) => Ok(Val::Bool(match ip {
                IpAddr::V4(v) => v.octets()[..3] == [224, 0, 0],
                IpAddr::V6(v) => v.segments()[0] & 0xff0f == 0xff02,
            })),
            _ => no_overload(),
        },
        Val::Cidr(ip, bits) => match (name, args) {
            ("ip", []) => Ok(Val::Ip(*ip)),
            ("prefixLength", []) => Ok(Val::Int(i64::from(*bits))),
            ("masked", []) => {
                let n = network(*ip, *bits);
                let masked = match ip {
                    IpAddr::V4(_) => IpAddr::V4(u32::try_from(n).unwrap_or_default().into()),
                    IpAddr::V6(_) => IpAddr::V6(n.into()),
                };
                Ok(Val::Cidr(masked, *bits))
            }
            ("containsIP", [other]) => {
                let other = match other {
                    Val::Ip(o) => *o,
                    Val::Str(s) => match s.parse() {
                        Ok(o) => o,
                        Err(_) => return error("IP Address parse error during conversion from string"),
                    },
                    _ => return no_overload(),
                };
                Ok(Val::Bool(ip.is_ipv4() == other.is_ipv4() && network(*ip, *bits) == network(other, *bits)))
            }
            ("containsCIDR", [other]) => {
                let (o, n) = match other {
                    Val::Cidr(o, n) => (*o, *n),
                    Val::Str(s) => match cidr(s) {
                        Some(c) => c,
                        None => return error("network address parse error during conversion from string"),
                    },
                    _ => return no_overload(),
                };
                Ok(Val::Bool(n >= *bits && ip.is_ipv4() == o.is_ipv4() && network(*ip, *bits) == network(o, *bits)))
            }
            _ => no_overload(),
        },
        Val::Format(f) => match (name, args) {
            ("validate", [Val::Str(s)]) => Ok(f.validate(s)),
            _ => no_overload(),
        },
        Val::Semver(v) => named::on_version(name, v, args),
        Val::Timestamp(t) => on_time(name, *t, args),
        Val::Duration(d) => match (name, args) {
            ("getHours", []) => Ok(Val::Int(d / 3_600_000_000_000)),
            ("getMinutes", []) => Ok(Val::Int(d / 60_000_000_000)),
            ("getSeconds", []) => Ok(Val::Int(d / 1_000_000_000)),
            ("getMilliseconds", []) => Ok(Val::Int(d / 1_000_000 % 1000)),
            _ => no_overload(),
        },
        _ => match target.items() {
            Some(items) => lists::on_list(name, &items, args),
            None => no_overload(),
        },
    }
}

fn on_time<'a>(name: &str, t: jiff::Timestamp, args: &[Val<'a>]) -> Out<'a> {
    let zone = match args {
        [] => jiff::tz::TimeZone::UTC,
        [Val::Str(s)] => match jiff::tz::TimeZone::get(s) {
            Ok(z) => z,
            Err(_) => return error(format!("unknown time zone {s}")),
        },
        _ => return no_overload(),
    };
    let z = t.to_zoned(zone);
    let n = match name {
        "getFullYear" => i64::from(z.year()),
        "getMonth" => i64::from(z.month()) - 1,
        "getDate" => i64::from(z.day()),
        "getDayOfMonth" => i64::from(z.day()) - 1,
        "getDayOfWeek" => i64::from(z.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(z.day_of_year()) - 1,
        "getHours" => i64::from(z.hour()),
        "getMinutes" => i64::from(z.minute()),
        "getSeconds" => i64::from(z.second()),
        "getMilliseconds" => i64::from(z.millisecond()),
        _ => return no_overload(),
    };
    Ok(Val::Int(n))
}

fn on_quantity<'a>(name: &str, q: Quantity, args: &[Val<'a>]) -> Out<'a> {
    let whole = || -> Option<i64> {
        let rounded = Quantity::parse(&q.value().to_string()).ok()?;
        (rounded == q).then(|| q.value())
    };
    match (name, args) {
        ("isLessThan", [Val::Quantity(o)]) => Ok(Val::Bool(q < *o)),
        ("isGreaterThan", [Val::Quantity(o)]) => Ok(Val::Bool(q > *o)),
        ("compareTo", [Val::Quantity(o)]) => Ok(Val::Int(q.cmp(o) as i64)),
        ("sign", []) => Ok(Val::Int(if q.is_zero() {
            0
        } else if q.is_negative() {
            -1
        } else {
            1
        })),
        ("isInteger", []) => Ok(Val::Bool(whole().is_some())),
        ("asInteger", []) => whole().map(Val::Int).map_or_else(|| error("cannot convert value to integer"), Ok),
        ("asApproximateFloat", []) => Ok(Val::Double(q.approximate())),
        ("add" | "sub", [other]) => {
            let o = match other {
                Val::Quantity(o) => *o,
                Val::Int(i) => quantity(&i.to_string())?,
                _ => return no_overload(),
            };
            Ok(Val::Quantity(if name == "add" { q.plus(o) } else { q.minus(o) }))
        }
        _ => no_overload(),
    }
}

fn on_text<'a>(name: &str, s: &Str, args: &[Val<'a>]) -> Out<'a> {
    let at = |i: i64| usize::try_from(i).ok();
    match (name, args) {
        ("contains", [Val::Str(x)]) => Ok(Val::Bool(s.contains(x.as_str()))),
        ("startsWith", [Val::Str(x)]) => Ok(Val::Bool(s.starts_with(x.as_str()))),
        ("endsWith", [Val::Str(x)]) => Ok(Val::Bool(s.ends_with(x.as_str()))),
        ("matches", [Val::Str(x)]) => Ok(Val::Bool(regex(x)?.is_match(s))),
        ("find", [Val::Str(x)]) => text(regex(x)?.find(s).map_or("", |m| m.as_str())),
        ("findAll", [Val::Str(x)]) => {
            Ok(Val::List(Arc::new(regex(x)?.find_iter(s).map(|m| Val::Str(m.as_str().into())).collect())))
        }
        ("findAll", [Val::Str(x), Val::Int(n)]) => {
            let limit = usize::try_from(*n).unwrap_or(usize::MAX);
            Ok(Val::List(Arc::new(regex(x)?.find_iter(s).take(limit).map(|m| Val::Str(m.as_str().into())).collect())))
        }
        ("lowerAscii", []) => text(s.to_ascii_lowercase()),
        ("upperAscii", []) => text(s.to_ascii_uppercase()),
        ("trim", []) => text(s.trim()),
        ("reverse", []) => text(s.chars().rev().collect::<String>()),
        ("replace", [Val::Str(a), Val::Str(b)]) => {
            if s.len().saturating_mul(b.len().max(1)) > MAX_TEXT * 16 {
                return error("string is too long");
            }
            text(s.replace(a.as_str(), b))
        }
        ("replace", [Val::Str(a), Val::Str(b), Val::Int(n)]) => match usize::try_from(*n) {
            Ok(n) => text(s.replacen(a.as_str(), b, n)),
            Err(_) => text(s.replace(a.as_str(), b)),
        },
        ("split", [Val::Str(x)]) => Ok(split(s, x, None)),
        ("split", [Val::Str(x), Val::Int(n)]) => Ok(split(s, x, at(*n))),
        ("charAt", [Val::Int(i)]) => match at(*i).filter(|i| *i <= s.chars().count()) {
            Some(i) => text(s.chars().nth(i).map(String::from).unwrap_or_default()),
            None => error(format!("index out of range: {i}")),
        },
        ("substring", [Val::Int(a)]) => substring(s, *a, None),
        ("substring", [Val::Int(a), Val::Int(b)]) => substring(s, *a, Some(*b)),
        ("indexOf", [Val::Str(x), rest @ ..]) => {
            let from = match rest {
                [Val::Int(n)] => at(*n).unwrap_or(0),
                _ => 0,
            };
            let skipped: String = s.chars().skip(from).collect();
            Ok(skipped
                .find(x.as_str())
                .map_or(Val::Int(-1), |b| int(from + skipped.get(..b).unwrap_or_default().chars().count())))
        }
        ("lastIndexOf", [Val::Str(x)]) => {
            Ok(s.rfind(x.as_str()).map_or(Val::Int(-1), |b| int(s.get(..b).unwrap_or_default().chars().count())))
        }
        ("format", [list]) => match list.items() {
            Some(items) => text(format(s, &items)?),
            None => no_overload(),
        },
        _ => error(format!("undeclared reference to '{name}' (in container '')")),
    }
}

fn split<'a>(s: &str, by: &str, limit: Option<usize>) -> Val<'a> {
    let list: Vec<Val<'a>> = match limit {
        Some(0) => Vec::new(),
        _ if by.is_empty() => s.chars().map(|c| Val::Str(c.to_string().into())).collect(),
        Some(n) => s.splitn(n, by).map(|p| Val::Str(p.into())).collect(),
        None => s.split(by).map(|p| Val::Str(p.into())).collect(),
    };
    Val::List(Arc::new(list))
}

fn substring<'a>(s: &str, from: i64, to: Option<i64>) -> Out<'a> {
    let length = i64::try_from(s.chars().count()).unwrap_or(i64::MAX);
    let to = to.unwrap_or(length);
    if from < 0 || to > length || from > to {
        return error(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let (from, count) = (usize::try_from(from).unwrap_or(0), usize::try_from(to - from).unwrap_or(0));
    text(s.chars().skip(from).take(count).collect::<String>())
}
