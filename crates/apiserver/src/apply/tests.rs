//! The rules of ownership, on generated objects.

use druse_object::{Gvk, Map, Value, json};
use proptest::prelude::*;

use super::{ApplyError, Set, apply, record_update, typed};
use crate::schema::{SchemaSet, TypeSchema};

const NOW: &str = "2026-01-02T03:04:05Z";

fn schema(api_version: &str, kind: &str) -> std::sync::Arc<TypeSchema> {
    SchemaSet::builtin().for_gvk(&Gvk::from_api_version(api_version, kind)).unwrap()
}

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

fn config_map(data: &[(u8, u8)]) -> Value {
    let mut v = parse(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#);
    let map = v.make_map_at(["data"]).unwrap();
    for (k, x) in data {
        map.insert(format!("k{k}"), format!("{x}"));
    }
    v
}

fn data() -> impl Strategy<Value = Vec<(u8, u8)>> {
    // Not empty: an empty map is itself a value that appliers own and may differ about.
    proptest::collection::vec((0..5_u8, 0..3_u8), 1..5)
}

fn owners(object: &Value, key: &str) -> Vec<String> {
    let entries = object.at(["metadata", "managedFields"]).map(Value::items).unwrap_or_default();
    let mut out: Vec<String> = entries
        .iter()
        .filter(|e| e.at(["fieldsV1", "f:data"]).and_then(|d| d.get(&format!("f:{key}"))).is_some())
        .map(|e| e.str_at(["manager"]).unwrap().to_string())
        .collect();
    out.sort();
    out
}

fn bare(object: &Value) -> Value {
    let mut v = object.clone();
    v.make_map_at(["metadata"]).unwrap().remove("managedFields");
    v
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn applying_twice_changes_nothing(a in data(), b in data()) {
        let ty = schema("v1", "ConfigMap");
        let one = apply(None, &config_map(&a), "one", false, "", NOW, &ty).unwrap();
        let two = apply(Some(&one), &config_map(&b), "two", true, "", NOW, &ty).unwrap();
        let again = apply(Some(&two), &config_map(&b), "two", false, "", "2027-01-01T00:00:00Z", &ty).unwrap();
        prop_assert_eq!(two, again);
    }

    #[test]
    fn what_an_applier_wants_it_gets_and_owns(a in data(), b in data(), c in data()) {
        let ty = schema("v1", "ConfigMap");
        let mut object = apply(None, &config_map(&a), "one", false, "", NOW, &ty).unwrap();
        object = apply(Some(&object), &config_map(&b), "two", true, "", NOW, &ty).unwrap();
        let wanted = config_map(&c);
        object = apply(Some(&object), &wanted, "one", true, "", NOW, &ty).unwrap();
        let wanted = wanted.get("data").and_then(Value::as_map).cloned().unwrap_or_default();
        for (k, v) in wanted.iter() {
            prop_assert_eq!(object.get("data").and_then(|d| d.get(k)), Some(v));
            prop_assert!(owners(&object, k).contains(&"one".to_string()));
        }
        // Every value has an owner, and nothing that nobody wants stays.
        for (k, _) in object.get("data").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
            prop_assert!(!owners(&object, k).is_empty(), "{} is unowned", k);
        }
    }

    #[test]
    fn conflicts_are_exactly_others_fields_with_other_values(a in data(), b in data()) {
        let ty = schema("v1", "ConfigMap");
        let (first, second) = (config_map(&a), config_map(&b));
        let object = apply(None, &first, "one", false, "", NOW, &ty).unwrap();
        let get = |v: &Value| v.get("data").and_then(Value::as_map).cloned().unwrap_or_default();
        let (x, y) = (get(&first), get(&second));
        let mut want: Vec<String> = y.iter().filter(|(k, v)| x.get(k).is_some_and(|w| w != *v)).map(|(k, _)| format!(".data.{k}")).collect();
        want.sort();
        match apply(Some(&object), &second, "two", false, "", NOW, &ty) {
            Ok(_) => prop_assert!(want.is_empty()),
            Err(ApplyError::Conflicts(list)) => {
                let got: Vec<String> = list.into_iter().map(|c| c.field).collect();
                prop_assert_eq!(got, want);
            }
            Err(e) => prop_assert!(false, "{}", e),
        }
    }

    #[test]
    fn giving_up_a_field_removes_it_unless_another_holds_it(a in data(), b in data()) {
        let ty = schema("v1", "ConfigMap");
        let object = apply(None, &config_map(&a), "one", false, "", NOW, &ty).unwrap();
        let both = apply(Some(&object), &config_map(&b), "two", true, "", NOW, &ty).unwrap();
        let left = apply(Some(&both), &config_map(&[]), "two", true, "", NOW, &ty).unwrap();
        for (k, _) in both.get("data").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
            let held = owners(&both, k).contains(&"one".to_string());
            prop_assert_eq!(left.get("data").and_then(|d| d.get(k)).is_some(), held, "{}", k);
        }
    }

    #[test]
    fn an_update_takes_exactly_what_it_changes(a in data(), b in data()) {
        let ty = schema("v1", "ConfigMap");
        let old = apply(None, &config_map(&a), "one", false, "", NOW, &ty).unwrap();
        let mut new = config_map(&b);
        ty.decode(&mut new).unwrap();
        record_update(Some(&old), &mut new, "two", "", NOW, &ty);
        for (k, v) in new.get("data").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
            let kept = old.get("data").and_then(|d| d.get(k)) == Some(v);
            prop_assert_eq!(owners(&new, k), vec![if kept { "one" } else { "two" }.to_string()]);
        }
    }

    #[test]
    fn field_sets_survive_being_written(paths in proptest::collection::vec(proptest::collection::vec("[a-z.:/\"]{1,6}", 1..4), 0..8)) {
        let mut set = Set::default();
        for p in &paths {
            set.insert(&p.iter().map(|s| super::Elem::Field(s.as_str().into())).collect::<Vec<_>>());
        }
        prop_assert_eq!(Set::from_value(&set.to_value()), Some(set));
    }

    #[test]
    fn no_json_makes_reading_field_sets_panic(text in "\\PC{0,40}") {
        let mut m = Map::new();
        m.insert(text.as_str(), Map::new());
        let _ = Set::from_value(&Value::Map(m));
    }
}

#[test]
fn items_keep_the_order_of_the_applier_and_the_rest_stays_around_them() {
    let ty = schema("apps/v1", "Deployment");
    let containers = |names: &[&str]| {
        let list: Value = names.iter().map(|n| parse(&format!(r#"{{"name":"{n}"}}"#))).collect();
        let mut v = parse(r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"}}"#);
        v.make_map_at(["spec", "template", "spec"]).unwrap().insert("containers", list);
        v
    };
    let merged = |a: &[&str], b: &[&str]| {
        let out = typed::merge(Some(&containers(a)), Some(&containers(b)), typed::Ty::Slot(ty.root()), 0).unwrap();
        let list = out.at(["spec", "template", "spec", "containers"]).unwrap();
        list.items().iter().map(|c| c.str_at(["name"]).unwrap().to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(merged(&["a", "b", "c"], &["c", "a"]), "b c a");
    assert_eq!(merged(&["a", "b"], &["c"]), "a b c");
    assert_eq!(merged(&["1", "2", "3"], &["2", "x", "3"]), "1 2 x 3");
}

#[test]
fn an_object_from_before_ownership_is_tracked_gets_a_first_owner() {
    let ty = schema("v1", "ConfigMap");
    let mut live = config_map(&[(1, 1)]);
    live.make_map_at(["metadata"]).unwrap().insert("uid", "x");
    let error = apply(Some(&live), &config_map(&[(1, 2)]), "one", false, "", NOW, &ty).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k1"
    );
    let forced = apply(Some(&live), &config_map(&[(1, 2)]), "one", true, "", NOW, &ty).unwrap();
    assert_eq!(owners(&forced, "k1"), ["one"]);
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_set() {
    let ty = schema("v1", "ConfigMap");
    let config = config_map(&[(1, 1)]);
    let mut live = config.clone();
    let text = json::to_string(&config);
    live.make_map_at(["metadata", "annotations"]).unwrap().insert(super::LAST_APPLIED, text);
    ty.decode(&mut live).unwrap();
    record_update(None, &mut live, "kubectl-client-side-apply", "", NOW, &ty);
    let new = apply(Some(&live), &config_map(&[(1, 2)]), "kubectl", false, "", NOW, &ty).unwrap();
    assert_eq!(new.str_at(["data", "k1"]), Some("2"));
    assert!(matches!(
        apply(Some(&live), &config_map(&[(1, 2)]), "other", false, "", NOW, &ty),
        Err(ApplyError::Conflicts(_))
    ));
}

#[test]
fn several_conflicts_are_all_named() {
    let ty = schema("v1", "ConfigMap");
    let object = apply(None, &config_map(&[(1, 1), (2, 1)]), "one", false, "", NOW, &ty).unwrap();
    let error = apply(Some(&object), &config_map(&[(1, 2), (2, 2)]), "two", false, "", NOW, &ty).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.k1\n- .data.k2");
}

#[test]
fn many_updaters_are_merged_into_one() {
    let ty = schema("v1", "ConfigMap");
    let mut object = config_map(&[]);
    record_update(None, &mut object, "m", "", NOW, &ty);
    for i in 0..20_u8 {
        let mut new = object.clone();
        new.make_map_at(["data"]).unwrap().insert(format!("k{i}"), "1");
        let now = format!("2026-01-02T03:04:{:02}Z", i + 6);
        let old = if i == 0 { None } else { Some(&object) };
        record_update(old, &mut new, &format!("m{i:02}"), "", &now, &ty);
        object = new;
    }
    let entries = object.at(["metadata", "managedFields"]).unwrap().items();
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().any(|e| e.str_at(["manager"]) == Some("ancient-changes")));
    assert_eq!(bare(&object).get("data").and_then(Value::as_map).map(Map::len), Some(20));
}
