//! What a comparison of values promises.

use druse_kustomize::Schemas;
use druse_object::{Map, Value, yaml};
use proptest::prelude::*;

use super::flat::{FieldChangeKind, flatten};
use super::{Delta, compare};

fn value(text: &str) -> Value {
    yaml::parse(text, yaml::Dialect::Sigs).unwrap()
}

/// The changed fields as `path kind from -> to`.
fn fields(base: &str, head: &str) -> Vec<String> {
    let (base, head) = (value(base), value(head));
    let schemas = Schemas::builtin();
    let Some(delta) = compare(&base, &head, schemas.of(&head)) else { return Vec::new() };
    assert_eq!(delta.apply(Some(&base)).as_ref(), Some(&head));
    let show = |v: &Option<Value>| v.as_ref().map(druse_object::json::to_string).unwrap_or_default();
    flatten(&delta, &mut |_, _| {})
        .iter()
        .map(|f| format!("{} {:?} {} -> {}", f.path, f.change, show(&f.from), show(&f.to)))
        .collect()
}

fn deployment(containers: &str) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nspec: {{template: {{spec: {{containers: {containers}}}}}}}")
}

#[test]
fn list_items_are_known_by_the_keys_kubernetes_merges_by() {
    let base = deployment("[{name: a, image: x:1}, {name: b, image: y:1}]");
    let head = deployment("[{name: b, image: y:2}, {name: a, image: x:1}, {name: c, image: z}]");
    assert_eq!(
        fields(&base, &head),
        [
            r#"spec.template.spec.containers Reordered ["a","b"] -> ["b","a"]"#,
            r#"spec.template.spec.containers[b].image Changed "y:1" -> "y:2""#,
            r#"spec.template.spec.containers[c] Added  -> {"name":"c","image":"z"}"#,
        ]
    );
    let base = deployment("[{name: a, ports: [{containerPort: 80}, {containerPort: 81, protocol: UDP}]}]");
    let head = deployment("[{name: a, ports: [{containerPort: 80, name: web}, {containerPort: 81, protocol: UDP}]}]");
    assert_eq!(
        fields(&base, &head),
        [r#"spec.template.spec.containers[a].ports[containerPort=80].name Added  -> "web""#]
    );
}

#[test]
fn a_port_is_the_same_whether_or_not_it_says_tcp() {
    let base = deployment("[{name: a, ports: [{containerPort: 80, protocol: TCP}]}]");
    let head = deployment("[{name: a, ports: [{containerPort: 80}]}]");
    assert_eq!(
        fields(&base, &head),
        [r#"spec.template.spec.containers[a].ports[containerPort=80].protocol Removed "TCP" -> "#]
    );
}

#[test]
fn lists_that_no_schema_knows_go_by_what_names_their_items() {
    assert_eq!(
        fields("routes: [{host: a, to: 1}, {host: b, to: 2}]", "routes: [{host: b, to: 3}]"),
        [r#"routes[host=b].to Changed 2 -> 3"#, r#"routes[host=a] Removed {"host":"a","to":1} -> "#]
    );
    // One item that got another name is that item.
    assert_eq!(
        fields("rules: [{host: a, to: 1}]", "rules: [{host: b, to: 1}]"),
        [r#"rules[host=b].host Changed "a" -> "b""#]
    );
    // Nothing names these: what is equal stays, and as many as went came in their place.
    assert_eq!(
        fields(
            "rules: [{verbs: [get]}, {verbs: [list]}]",
            "rules: [{verbs: [watch]}, {verbs: [get]}, {verbs: [patch]}]"
        ),
        [r#"rules[0] Added  -> {"verbs":["watch"]}"#, r#"rules[2].verbs[0] Changed "list" -> "patch""#,]
    );
}

#[test]
fn texts_in_lists_come_go_and_change_places() {
    assert_eq!(fields("a: [x, w]", "a: [x, z]"), [r#"a[1] Changed "w" -> "z""#]);
    assert_eq!(fields("a: [x, w, z]", "a: [x, z]"), [r#"a[1] Removed "w" -> "#]);
    assert_eq!(fields("a: [x, w]", "a: [w, x]"), [r#"a Reordered ["x","w"] -> ["w","x"]"#]);
    assert_eq!(fields("a: [-v, '1', -v, '2']", "a: [-v, '1', -v, '3']"), [r#"a[3] Changed "2" -> "3""#]);
}

#[test]
fn longer_texts_are_compared_by_line() {
    let (base, head) = (value("{t: \"a\\nb\\nc\\n\"}"), value("{t: \"a\\nB\\nc\\n\"}"));
    let delta = compare(&base, &head, None).unwrap();
    let fields = flatten(&delta, &mut |_, _| {});
    assert_eq!(fields[0].change, FieldChangeKind::Changed);
    assert_eq!(fields[0].lines[0].lines, [" a", "-b", "+B", " c"]);
    assert_eq!((&fields[0].from, &fields[0].to), (&None, &None));
}

#[test]
fn keys_with_dots_stand_in_brackets() {
    assert_eq!(
        fields("metadata: {annotations: {a.b/c: x}}", "metadata: {annotations: {a.b/c: w}}"),
        [r#"metadata.annotations[a.b/c] Changed "x" -> "w""#]
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0i64..4).prop_map(Value::Int),
        "[abc]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let named = (prop_oneof![Just("name"), Just("key"), Just("host")], "[abc]", inner.clone()).prop_map(
            |(field, name, v)| Value::from([(field, Value::from(name)), ("v", v)].into_iter().collect::<Map>()),
        );
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec(named, 0..5).prop_map(Value::Array),
            prop::collection::vec(("[abcd]", inner), 0..4).prop_map(|m| Value::Map(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_differs_makes_head_from_base(base in any_value(), head in any_value()) {
        match compare(&base, &head, None) {
            Some(delta) => prop_assert_eq!(delta.apply(Some(&base)), Some(head)),
            None => prop_assert_eq!(base, head),
        }
    }

    #[test]
    fn nothing_differs_from_itself(v in any_value()) {
        prop_assert_eq!(compare(&v, &v, None), None::<Delta>);
    }
}
