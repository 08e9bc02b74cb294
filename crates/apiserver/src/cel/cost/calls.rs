//! What calls cost.

use super::{Coster, LIST, ONE, Part, Range};
use crate::cel::core::{Core, Id};
use crate::cel::parse::Lit;
use crate::cel::types::Type;

/// To read a text once, for each of its characters.
const READ: f64 = 0.1;
/// To match a pattern, for each of its characters.
const PATTERN: f64 = 0.25;
/// What one look at the rights of a user costs: two may be asked for in an expression.
const CHECK: Range = Range::exactly(350_000);
/// The longest pattern of a named format.
const LONGEST_PATTERN: f64 = 128.0;
/// The longest text of a named format.
const LONGEST_FORMAT: u64 = 64;

/// What a call costs beside its arguments, and the size of its result where that can be told.
type Call = (Range, Option<Range>);

impl Coster<'_> {
    /// What a call costs when it is this overload, its arguments included.
    pub(super) fn overload(
        &mut self,
        id: Id,
        name: &str,
        overload: &str,
        on: Option<&Part<'_>>,
        args: &[Part<'_>],
        costs: &[Range],
    ) -> Call {
        let sum = || costs.iter().fold(Range::exactly(0), |a, b| a.add(*b));
        if let Some((cost, size)) =
            self.library(overload, on, args).or_else(|| self.kubernetes(name, overload, on, args))
        {
            return (cost.add(sum()), size);
        }
        let known = |p: &Part<'_>| p.size.unwrap_or(Range::UNKNOWN);
        let plain = |cost: Range| (cost.add(sum()), None);
        match (overload, on, args) {
            ("string_format", Some(on), _) => plain(known(on).by(READ)),
            ("string_to_bytes", _, [a]) => {
                let s = known(a);
                (s.by(READ).add(sum()), Some(Range { min: s.min, max: s.max.wrapping_mul(4) }))
            }
            ("bytes_to_string", _, [a]) => {
                let s = known(a);
                (s.by(READ).add(sum()), Some(Range { min: s.min / 4, max: s.max }))
            }
            ("strings_quote", _, [a]) => {
                let s = known(a);
                let longer = Range { min: s.min.wrapping_add(2), max: s.max.wrapping_mul(2).wrapping_add(2) };
                (s.by(READ).add(sum()), Some(longer))
            }
            ("starts_with_string" | "ends_with_string", _, [a]) => plain(known(a).by(READ)),
            ("in_list", _, [_, list]) => plain(known(list).by(1.0)),
            ("matches_string", Some(on), [pattern]) => {
                plain(known(on).add(ONE).by(READ).times(known(pattern).by(PATTERN)))
            }
            ("contains_string", Some(on), [part]) => plain(known(on).by(READ).times(known(part).by(READ))),
            ("logical_or" | "logical_and", _, _) => {
                let least = costs.first().map_or(0, |c| c.min);
                (Range { min: least, max: sum().max }, None)
            }
            ("conditional", _, [_, a, b]) => {
                let size = known(a).union(known(b));
                if let Some((a, b)) = self.both_entries(a, b) {
                    self.entries[id] = Some(a.union(b));
                }
                let cost = match costs {
                    [condition, yes, no] => condition.add(yes.union(*no)),
                    _ => sum(),
                };
                (cost, Some(size))
            }
            ("add_string" | "add_bytes" | "add_list", _, [a, b]) => {
                let size = known(a).add(known(b));
                if let Some((a, b)) = self.both_entries(a, b) {
                    self.entries[id] = Some(a.union(b));
                }
                let cost = if overload == "add_list" { ONE } else { size.by(READ) };
                (cost.add(sum()), Some(size))
            }
            (o, _, [a, b]) if compares(o) => {
                let most = known(a).max.min(known(b).max);
                plain(Range { min: u64::from(most > 0), max: most }.by(READ))
            }
            _ => plain(ONE),
        }
    }

    fn both_entries(&self, a: &Part<'_>, b: &Part<'_>) -> Option<(super::Entries, super::Entries)> {
        Some((self.entries_of(a.id?)?, self.entries_of(b.id?)?))
    }

    fn size_of(&self, p: &Part<'_>) -> Range {
        p.size.or_else(|| self.at(p.path.as_ref())).unwrap_or(Range::UNKNOWN)
    }

    fn literal(&self, p: &Part<'_>) -> Option<i64> {
        match self.core(p.id?) {
            Core::Lit(Lit::Int(i)) => Some(*i),
            _ => None,
        }
    }

    /// cel-go's libraries of lists and sets.
    fn library(&self, overload: &str, on: Option<&Part<'_>>, args: &[Part<'_>]) -> Option<Call> {
        let allocates = |factor: f64, size: Range| Some((size.by(factor).add(ONE).add(LIST), Some(size)));
        let whole = |p: &Part<'_>, other: u64| self.literal(p).map_or(other, |i| u64::try_from(i).unwrap_or(0));
        #[allow(clippy::cast_precision_loss)]
        match (overload, on, args) {
            ("list_slice", Some(on), [from, to]) => {
                let (from, to) = (whole(from, 0), whole(to, self.size_of(on).max));
                allocates(1.0, Range::exactly(to.wrapping_sub(from)))
            }
            ("lists_range", None, [n]) => allocates(1.0, Range::exactly(whole(n, u64::MAX))),
            ("list_reverse", Some(on), []) => allocates(1.0, self.size_of(on)),
            ("list_flatten", Some(on), []) => allocates(1.0, self.size_of(on)),
            ("list_flatten_int", Some(on), [depth]) => allocates(whole(depth, u64::MAX) as f64, self.size_of(on)),
            ("list_distinct", Some(on), []) => {
                let size = self.size_of(on);
                allocates(2.0, size.times(size))
            }
            ("list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list", _, [a, b]) => {
                let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
                Some((self.size_of(a).times(self.size_of(b)).by(factor).add(ONE), None))
            }
            (o, Some(on), args) => {
                let o = o.strip_prefix("list_")?;
                let (of, by) = match (o.strip_suffix("_sort"), o.strip_suffix("_sortByAssociatedKeys"), args) {
                    (Some(of), _, []) => (of, on),
                    (_, Some(of), [keys]) => (of, keys),
                    _ => return None,
                };
                let size = self.size_of(by);
                let factor = if matches!(of, "string" | "bytes") { 2.0 + READ } else { 2.0 };
                allocates(factor, size.times(size))
            }
            _ => None,
        }
    }

    /// Kubernetes' own functions.
    fn kubernetes(&self, name: &str, overload: &str, on: Option<&Part<'_>>, args: &[Part<'_>]) -> Option<Call> {
        let read = |p: &Part<'_>| Some((self.size_of(p).by(READ), None));
        let address = Range { min: 4, max: 16 };
        match (name, on, args) {
            ("check", ..) => Some((CHECK, None)),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                ..,
            ) => Some((ONE, None)),
            ("fieldSelector" | "labelSelector", _, [text]) => {
                let size = self.size_of(text);
                Some((LIST.add(size.by(READ)).add(size.by(0.5).by(50.0)), None))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(on), _) => {
                let Some(item) = self.item(on) else { return read(on) };
                let mut each = ONE;
                if matches!(item.ty, Type::Str | Type::Bytes) {
                    each = each.add(self.size_of(&item).by(READ));
                }
                Some((self.size_of(on).times(each), None))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => {
                let size = self.size_of(text);
                Some((size.by(READ), Some(size)))
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(on), _) => {
                let size = self.size_of(on);
                Some((size.by(READ), Some(size)))
            }
            ("replace", Some(on), [from, to, ..]) => {
                let size = self.size_of(on);
                let result = replaced(size, self.size_of(from), self.size_of(to));
                Some((size.by(2.0 * READ), Some(result)))
            }
            ("split", Some(on), args) => {
                let size = self.size_of(on);
                let most = args.get(1).and_then(|n| self.literal(n)).map_or(size.max, i64::cast_unsigned);
                Some((size.by(2.0 * READ), Some(Range { min: 0, max: most })))
            }
            ("join", Some(on), args) => {
                let list = self.size_of(on);
                let mut size = self.item(on).map_or(Range::exactly(0), |item| list.times(self.size_of(&item)));
                if let Some(by) = args.first() {
                    let between = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    size = size.add(self.size_of(by).times(between));
                }
                Some((size.by(READ), Some(size)))
            }
            ("find" | "findAll", Some(on), [pattern, ..]) => {
                let size = self.size_of(on);
                let cost = size.add(ONE).by(READ).times(self.size_of(pattern).by(PATTERN));
                Some((cost, Some(Range { min: 0, max: size.max })))
            }
            ("ip", ..) if overload == "cidr_ip" => Some((ONE, None)),
            ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [text, ..]) => {
                read(text)
            }
            ("ip.isCanonical", _, [text, ..]) => Some((self.size_of(text).by(2.0 * READ), None)),
            ("containsIP" | "containsCIDR", _, [other, ..]) => {
                let mut cost = address.add(address).by(READ);
                if name == "containsCIDR" {
                    cost = cost.add(address.by(READ)).add(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.add(self.size_of(other).by(READ));
                }
                Some((cost, None))
            }
            ("validate", _, [text, ..]) => Some((self.size_of(text).by(READ).by(LONGEST_PATTERN * PATTERN), None)),
            ("_==_", _, [a, b]) if a.ty == b.ty => match a.ty {
                Type::Opaque(n, _) if matches!(n.as_str(), "net.IP" | "net.CIDR") => Some((ONE, None)),
                Type::Struct(n) => match n.as_str() {
                    "kubernetes.NamedFormat" => Some((Range { min: 1, max: LONGEST_FORMAT }.by(READ), None)),
                    "kubernetes.URL" => {
                        let most = b.size.map_or(1, |s| s.max);
                        Some((Range { min: 1, max: most }.by(READ), None))
                    }
                    "kubernetes.Quantity" | "kubernetes.Semver" => Some((ONE, None)),
                    n if n.starts_with("kubernetes.authorization.") => Some((ONE, None)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// The items of a list, or the first of what else has parameters.
    fn item<'p>(&self, list: &Part<'p>) -> Option<Part<'p>> {
        let ty = list.ty.first()?;
        // A copy, which shares nothing.
        let path = list.path.as_ref().map(|p| p.copy("@items"));
        Some(Part { id: None, path, ty, size: None })
    }
}

/// How long a text may be after replacements.
fn replaced(size: Range, from: Range, to: Range) -> Range {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let parts = |n: u64, by: u64| (n as f64 / by as f64).ceil() as u64;
    let around = |n: u64| n.saturating_add(1);
    let (most, kept) = if from.min == 0 {
        (around(size.max), size.max)
    } else if to.max <= from.min {
        (0, size.max)
    } else {
        (parts(size.max, from.min), 0)
    };
    let (least, kept_least) = if from.max == 0 {
        (around(size.min), size.min)
    } else if from.max <= to.min {
        (0, size.min)
    } else {
        (parts(size.min, from.max), 0)
    };
    Range { min: least, max: most }.times(to).add(Range { min: kept_least, max: kept })
}

/// Whether an overload reads two values to their ends.
fn compares(overload: &str) -> bool {
    let ordered = ["less_", "greater_", "less_equals_", "greater_equals_"];
    let of = |o: &str| matches!(o, "string" | "bytes");
    matches!(overload, "equals" | "not_equals") || ordered.iter().any(|p| overload.strip_prefix(p).is_some_and(of))
}
