//! Names, cron schedules and the other small grammars; whole objects are replayed in `tests/objects.rs`.

use druse_object::{Gvk, Value, json};

use super::{NameRule, is_qualified_name, validate_create};

fn said(api_version: &str, kind: &str, text: &str) -> Vec<String> {
    let gvk = Gvk::from_api_version(api_version, kind);
    let ty = crate::schema::SchemaSet::builtin().for_gvk(&gvk).unwrap();
    let mut v: Value = json::parse(text.as_bytes()).unwrap();
    ty.decode(&mut v).unwrap();
    ty.default(&mut v);
    validate_create(&gvk, &v).iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_judged_by_kind() {
    assert!(NameRule::Subdomain.errors("a.b-c.d", false).is_empty());
    assert!(NameRule::Subdomain.errors("gen-", true).is_empty());
    assert!(!NameRule::Subdomain.errors("gen-", false).is_empty());
    assert!(!NameRule::Label1035.errors("1a", false).is_empty());
    assert_eq!(NameRule::PathSegment.errors("a/b", false), ["may not contain '/'"]);
    assert!(is_qualified_name("example.org/My_name").is_empty());
    assert!(!is_qualified_name("a/b/c").is_empty());
}

#[test]
fn bound_objects_need_what_they_point_at() {
    assert_eq!(
        said(
            "v1",
            "Pod",
            r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"C","image":"i","volumeMounts":[{"name":"v","mountPath":"/x"}]}]}}"#
        ),
        [
            "spec.containers[0].name: Invalid value: \"C\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ]
    );
    assert_eq!(
        said("v1", "Service", r#"{"metadata":{"name":"s"},"spec":{"type":"Bad","ports":[{"port":1}]}}"#),
        [
            "spec.type: Unsupported value: \"Bad\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
        ]
    );
}

#[test]
fn requests_stay_below_limits() {
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1"}}}]}}"#;
    assert_eq!(
        said("v1", "Pod", pod),
        ["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"]
    );
}
