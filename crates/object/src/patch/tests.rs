//! What the patch formats do, as tables.

use super::{MergeSchema, json_patch, merge_patch, strategic_merge};
use crate::{Value, json, yaml};

fn y(text: &str) -> Value {
    yaml::parse(text, yaml::Dialect::Kyaml).unwrap()
}

/// A schema written as data: fields, items, keys.
#[derive(Default)]
struct S {
    fields: Vec<(&'static str, S)>,
    items: Option<Box<S>>,
    keys: Vec<&'static str>,
    set: bool,
}

impl MergeSchema for S {
    fn field(&self, name: &str) -> Option<&dyn MergeSchema> {
        self.fields.iter().find(|(k, _)| *k == name).map(|(_, s)| s as &dyn MergeSchema)
    }
    fn items(&self) -> Option<&dyn MergeSchema> {
        self.items.as_deref().map(|s| s as &dyn MergeSchema)
    }
    fn merge_key(&self) -> Option<&str> {
        self.keys.first().copied()
    }
    fn is_merged_set(&self) -> bool {
        self.set
    }
    fn retain_keys(&self) -> bool {
        false
    }
}

fn schema() -> S {
    let ports = S { keys: vec!["containerPort", "protocol"], items: Some(Box::default()), ..S::default() };
    let container = S { fields: vec![("ports", ports)], ..S::default() };
    let named = S { keys: vec!["name"], items: Some(Box::new(container)), ..S::default() };
    S { fields: vec![("c", named), ("set", S { set: true, ..S::default() })], ..S::default() }
}

#[test]
fn json_patches() {
    for (target, patch, want) in [
        ("{a: 1}", "[{op: add, path: /b, value: 2}]", r#"{"a":1,"b":2}"#),
        ("{a: [1, 3]}", "[{op: add, path: /a/1, value: 2}, {op: add, path: /a/-, value: 4}]", r#"{"a":[1,2,3,4]}"#),
        ("{a: [1, 2]}", "[{op: remove, path: /a/-1}]", r#"{"a":[1]}"#),
        (
            "{a: {x/y: 1, m~n: 2}}",
            "[{op: remove, path: /a/x~1y}, {op: replace, path: /a/m~0n, value: 3}]",
            r#"{"a":{"m~n":3}}"#,
        ),
        ("{a: 1}", "[{op: replace, path: /b, value: 2}]", r#"{"a":1,"b":2}"#),
        (
            "{a: {b: 1}}",
            "[{op: move, from: /a/b, path: /c}, {op: copy, from: /c, path: /d}]",
            r#"{"a":{},"c":1,"d":1}"#,
        ),
        ("{a: [x]}", "[{op: test, path: /a/0, value: x}, {op: test, path: /zz, value: null}]", r#"{"a":["x"]}"#),
        ("{a: 1}", "[{op: replace, path: '', value: {b: 2}}]", r#"{"b":2}"#),
        (
            "{a: 1}",
            "[{op: add, path: /b/c, value: 2}]",
            "add operation does not apply: doc is missing path: \"/b/c\": missing value",
        ),
        (
            "{a: 1}",
            "[{op: remove, path: /b}]",
            "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            "{a: [1]}",
            "[{op: replace, path: /a/5, value: 2}]",
            "replace operation does not apply: doc is missing key: /a/5: missing value",
        ),
        (
            "{a: [1]}",
            "[{op: add, path: /a/5, value: 2}]",
            "error in add for path: '/a/5': Unable to access invalid index: 5: invalid index referenced",
        ),
        (
            "{a: [1]}",
            "[{op: add, path: /a/x, value: 2}]",
            "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("{a: 1}", "[{op: test, path: /a, value: 2}]", "testing value /a failed: test failed"),
        ("{a: 1}", "[{op: frob, path: /a}]", "Unexpected kind: frob"),
        ("{a: 1}", "{}", "a JSON patch is a list of operations, this is of type object"),
    ] {
        let before = y(target);
        let mut v = before.clone();
        match json_patch(&mut v, &y(patch)) {
            Ok(()) => assert_eq!(json::to_string_sorted(&v), want, "{patch}"),
            Err(e) => {
                assert_eq!(e.to_string(), want, "{patch}");
                assert_eq!(v, before);
            }
        }
    }
}

#[test]
fn merge_patches() {
    for (target, patch, want) in [
        ("{a: {b: 1, c: 2}, d: [1]}", "{a: {b: null, e: 3}, d: [2]}", r#"{"a":{"c":2,"e":3},"d":[2]}"#),
        ("{a: 1}", "{a: {b: {c: null, d: 1}}}", r#"{"a":{"b":{"d":1}}}"#),
        ("{a: 1}", "x", r#""x""#),
    ] {
        let mut v = y(target);
        merge_patch(&mut v, &y(patch));
        assert_eq!(json::to_string_sorted(&v), want);
    }
}

#[test]
fn strategic_merges_as_the_api_server() {
    for (target, patch, want) in [
        // New items come before those of the server they are not ordered against.
        (
            "{c: [{name: a, x: 1}, {name: b}]}",
            "{c: [{name: b, y: 2}, {name: z}]}",
            r#"{"c":[{"name":"a","x":1},{"name":"b","y":2},{"name":"z"}]}"#,
        ),
        ("{c: [{name: a}, {name: b}]}", "{c: [{name: a, $patch: delete}]}", r#"{"c":[{"name":"b"}]}"#),
        ("{c: [{name: a}]}", "{c: [{$patch: replace}, {name: q}]}", r#"{"c":[{"name":"q"}]}"#),
        (
            "{c: [{name: a}, {name: b}, {name: c}]}",
            "{$setElementOrder/c: [{name: c}, {name: a}], c: [{name: c, x: 1}]}",
            r#"{"c":[{"name":"b"},{"name":"c","x":1},{"name":"a"}]}"#,
        ),
        ("{set: [a, b]}", "{set: [c, a]}", r#"{"set":["c","a","b"]}"#),
        // Items kept from the server come first where the patch's are new to it.
        (
            "{c: [{name: a}, {name: d}]}",
            "{$setElementOrder/c: [{name: c}, {name: d}], c: [{name: c}, {name: a, $patch: delete}]}",
            r#"{"c":[{"name":"c"},{"name":"d"}]}"#,
        ),
        ("{set: [a, b]}", "{$deleteFromPrimitiveList/set: [a]}", r#"{"set":["b"]}"#),
        ("{l: [1, 2]}", "{l: [3]}", r#"{"l":[3]}"#),
        ("{m: {a: 1, b: 2}}", "{m: {$retainKeys: [b, c], c: 3}}", r#"{"m":{"b":2,"c":3}}"#),
        ("{m: {a: 1}}", "{m: {$patch: replace, b: 2}}", r#"{"m":{"b":2}}"#),
        ("{m: {a: 1}}", "{m: {$patch: delete}}", r#"{"m":{}}"#),
        ("{m: {a: 1}}", "{m: {a: null}, n: {x: null, y: 1}}", r#"{"m":{},"n":{"y":1}}"#),
        ("{}", "{c: [{name: a, $patch: delete}, {name: b}]}", r#"{"c":[{"name":"b"}]}"#),
        ("{c: [{name: a}]}", "{c: [{x: 1}]}", "map: map[x:1] does not contain declared merge key: name"),
        ("{m: {a: 1}}", "{m: {$patch: frob}}", "unknown patch type: frob in map: map[$patch:frob]"),
        ("{m: {a: 1}}", "{m: {$retainKeys: [b], c: 3}}", "invalid patch format of retainKeys"),
    ] {
        let mut v = y(target);
        match strategic_merge(&mut v, &y(patch), Some(&schema())) {
            Ok(()) => assert_eq!(json::to_string_sorted(&v), want, "{patch}"),
            Err(e) => assert_eq!(e.to_string(), want, "{patch}"),
        }
    }
}
