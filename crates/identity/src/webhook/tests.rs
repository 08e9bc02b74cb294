use super::*;
use druse_object::{json, yaml};

const ROLE: &str = "arn:aws:iam::111122223333:role/reader";

fn account(annotations: &str) -> Value {
    let text = format!("metadata: {{name: app, annotations: {{eks.amazonaws.com/role-arn: '{ROLE}', {annotations}}}}}");
    yaml::parse_strict(&text).unwrap()
}

fn mutated(settings: &Settings, account: &Value, pod: &str) -> Value {
    let mut pod = yaml::parse_strict(pod).unwrap();
    settings.mutate(&mut pod, &settings.account(account).unwrap());
    pod
}

fn env(pod: &Value, list: &str, n: usize) -> Vec<String> {
    let of =
        |e: &Value| format!("{}={}", e.str_at(["name"]).unwrap_or_default(), e.str_at(["value"]).unwrap_or_default());
    pod["spec"][list].items()[n]["env"].items().iter().map(of).collect()
}

fn token_seconds(pod: &Value) -> i64 {
    let source = &pod["spec"]["volumes"].items()[0]["projected"]["sources"].items()[0];
    source.at(["serviceAccountToken", "expirationSeconds"]).and_then(Value::as_i64).unwrap()
}

#[test]
fn a_pod_gets_token_volume_and_environment() {
    let settings = Settings { region: "us-west-2".into(), ..Settings::default() };
    let pod = mutated(
        &settings,
        &account("eks.amazonaws.com/sts-regional-endpoints: 'true'"),
        "spec: {containers: [{name: a}], initContainers: [{name: i, env: [{name: X, value: own}]}], volumes: [{name: data}]}",
    );
    let added = [
        "AWS_STS_REGIONAL_ENDPOINTS=regional".to_string(),
        "AWS_DEFAULT_REGION=us-west-2".into(),
        "AWS_REGION=us-west-2".into(),
        format!("AWS_ROLE_ARN={ROLE}"),
        "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token".into(),
    ];
    assert_eq!(env(&pod, "containers", 0), added);
    assert_eq!(env(&pod, "initContainers", 0)[0], "X=own");
    assert_eq!(env(&pod, "initContainers", 0)[1..], added);
    let volumes = pod["spec"]["volumes"].items();
    assert_eq!(
        json::to_string(&volumes[0]),
        r#"{"name":"aws-iam-token","projected":{"sources":[{"serviceAccountToken":{"audience":"sts.amazonaws.com","expirationSeconds":86400,"path":"token"}}]}}"#
    );
    assert_eq!(volumes[1].str_at(["name"]), Some("data"));
    assert_eq!(
        json::to_string(&pod["spec"]["containers"].items()[0]["volumeMounts"]),
        r#"[{"name":"aws-iam-token","readOnly":true,"mountPath":"/var/run/secrets/eks.amazonaws.com/serviceaccount"}]"#
    );
}

#[test]
fn the_second_pass_changes_nothing() {
    let settings = Settings { region: "us-west-2".into(), ..Settings::default() };
    let asked = settings.account(&account("")).unwrap();
    let mut pod = yaml::parse_strict("spec: {containers: [{name: a}]}").unwrap();
    assert!(settings.mutate(&mut pod, &asked));
    let once = pod.clone();
    assert!(!settings.mutate(&mut pod, &asked));
    assert_eq!(pod, once);
}

#[test]
fn what_a_container_sets_itself_is_left_alone() {
    let settings = Settings { region: "us-west-2".into(), ..Settings::default() };
    let pod = mutated(
        &settings,
        &account(""),
        "spec: {containers: [
          {name: role, env: [{name: AWS_ROLE_ARN, value: own}]},
          {name: region, env: [{name: AWS_REGION, value: own}]},
          {name: all, env: [{name: AWS_WEB_IDENTITY_TOKEN_FILE, value: own}, {name: AWS_DEFAULT_REGION, value: own},
            {name: AWS_STS_REGIONAL_ENDPOINTS, value: legacy}]}]}",
    );
    assert_eq!(
        env(&pod, "containers", 0),
        ["AWS_ROLE_ARN=own", "AWS_DEFAULT_REGION=us-west-2", "AWS_REGION=us-west-2"]
    );
    assert_eq!(env(&pod, "containers", 1)[0], "AWS_REGION=own");
    assert_eq!(env(&pod, "containers", 1).len(), 3);
    assert_eq!(pod["spec"]["containers"].items()[2].get("volumeMounts"), None, "a container with all is not touched");
}

#[test]
fn the_pod_wins_over_the_account_and_the_account_over_the_settings() {
    let settings = Settings { expiration: 4000, ..Settings::default() };
    let seconds = |account_says: &str, pod_says: &str| {
        let pod = format!("metadata: {{annotations: {{{pod_says}}}}}\nspec: {{containers: [{{name: a}}]}}");
        token_seconds(&mutated(&settings, &account(account_says), &pod))
    };
    let says = |s: &str| format!("eks.amazonaws.com/token-expiration: '{s}'");
    assert_eq!(seconds("", ""), 4000);
    assert_eq!(seconds(&says("5000"), ""), 5000);
    assert_eq!(seconds(&says("5000"), &says("6000")), 6000);
    assert_eq!(seconds(&says("5000"), &says("soon")), 5000, "what is no number is ignored");
    assert_eq!(seconds(&says("1"), ""), MIN_EXPIRATION, "Kubernetes makes no shorter token");
}

#[test]
fn named_containers_are_skipped() {
    let pod = mutated(
        &Settings::default(),
        &account(""),
        "metadata: {annotations: {eks.amazonaws.com/skip-containers: 'a,\"b\"'}}
spec: {initContainers: [{name: a}], containers: [{name: b}, {name: c}]}",
    );
    assert_eq!(pod["spec"]["initContainers"].items()[0].get("env"), None);
    assert_eq!(pod["spec"]["containers"].items()[0].get("env"), None);
    assert_eq!(env(&pod, "containers", 1).len(), 2);
    assert_eq!(csv_record("a,\"b"), Vec::<String>::new(), "a malformed list skips nothing");
    assert_eq!(csv_record("a,,b c"), ["a", "", "b c"]);
}

#[test]
fn windows_pods_get_a_windows_path() {
    let pod = mutated(
        &Settings::default(),
        &account(""),
        "spec: {nodeSelector: {kubernetes.io/os: windows}, containers: [{name: a}]}",
    );
    let file = r"AWS_WEB_IDENTITY_TOKEN_FILE=C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token";
    assert_eq!(env(&pod, "containers", 0)[1], file);
}

#[test]
fn an_account_without_a_role_changes_nothing() {
    let plain = yaml::parse_strict("metadata: {name: app}").unwrap();
    assert_eq!(Settings::default().account(&plain), None);
    let review_text = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1",
        "namespace":"ns","object":{"spec":{"serviceAccountName":"app","containers":[{"name":"a"}]}}}}"#;
    let answer = review(&Settings::default(), review_text, |_, _| Some(plain)).unwrap();
    assert_eq!(json::to_string(&answer["response"]), r#"{"uid":"u1","allowed":true}"#);
    assert!(review(&Settings::default(), b"{}", |_, _| None).is_err());
}

#[test]
fn a_bare_role_name_is_composed_only_when_the_account_is_known() {
    let bare = yaml::parse_strict("metadata: {annotations: {eks.amazonaws.com/role-arn: reader}}").unwrap();
    assert_eq!(Settings::default().account(&bare).unwrap().role_arn, "reader");
    let settings = Settings { compose: Some(("aws".into(), "111122223333".into())), ..Settings::default() };
    assert_eq!(settings.account(&bare).unwrap().role_arn, ROLE);
    assert!(is_role_arn(ROLE) && is_role_arn("arn:aws-us-gov:iam::111122223333:role/path/name@x"));
    assert!(!is_role_arn("arn:aws:iam::1111:role/x") && !is_role_arn("arn:aws:iam::111122223333:user/x"));
}

/// Upstream's own test pods, read from a checkout of the webhook's repository.
#[test]
fn upstream_test_pods_come_out_alike() {
    let Some(dir) = std::env::var_os("DRUSE_WEBHOOK_PODS") else {
        eprintln!("skipped: DRUSE_WEBHOOK_PODS names no folder with the upstream webhook's pkg/handler/testdata");
        return;
    };
    let mut compared = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        // One of them sets a field twice.
        let pod = yaml::parse(&std::fs::read_to_string(&path).unwrap(), yaml::Dialect::Sigs).unwrap();
        let says = |name: &str| {
            pod.at(["metadata", "annotations"])?
                .get(&format!("testing.eks.amazonaws.com/{name}"))?
                .as_str()
                .map(String::from)
        };
        if says("skip").as_deref() == Some("true") {
            continue;
        }
        let mut annotations = Map::new();
        let names = [
            ("role-arn", vec!["serviceAccount/roleArn"]),
            ("audience", vec!["serviceAccount/audience"]),
            ("sts-regional-endpoints", vec!["serviceAccount/sts-regional-endpoints", "handler/injectSTS"]),
            ("token-expiration", vec!["serviceAccount/token-expiration", "handler/expiration"]),
        ];
        for (annotation, from) in names {
            if let Some(value) = from.into_iter().find_map(says) {
                annotations.insert(format!("eks.amazonaws.com/{annotation}"), value);
            }
        }
        let mut account = Value::default();
        account.make_map_at(["metadata"]).unwrap().insert("annotations", annotations);
        let mut settings = Settings { region: says("handler/region").unwrap_or_default(), ..Settings::default() };
        if let Some(path) = says("handler/mountPath") {
            settings.mount_path = path;
        }
        let mut ours = pod.clone();
        settings.mutate(&mut ours, &settings.account(&account).unwrap());
        let theirs = json::parse(says("expectedPatch").unwrap().as_bytes()).unwrap();
        let mut expected = pod.clone();
        apply(&mut expected, theirs.items());
        assert_eq!(
            json::to_string_sorted(&plain(&ours["spec"])),
            json::to_string_sorted(&plain(&expected["spec"])),
            "{}",
            path.display()
        );
        compared += 1;
    }
    assert!(compared > 10, "only {compared} pods were found");
}

fn apply(pod: &mut Value, patch: &[Value]) {
    for p in patch {
        let spec = pod.make_map_at(["spec"]).unwrap();
        match p.str_at(["path"]).unwrap() {
            "/spec/volumes/0" => {
                spec.get_mut("volumes").and_then(Value::as_array_mut).unwrap().insert(0, p["value"].clone());
            }
            path => {
                spec.insert(path.trim_start_matches("/spec/"), p["value"].clone());
            }
        }
    }
}

/// Without what Go's types add when they are written again, and the field of one mount that is none (`path`).
fn plain(v: &Value) -> Value {
    let added = |k: &str, v: &Value| match k {
        "resources" => v.as_map().is_some_and(Map::is_empty),
        "service" | "mountPath" => v.is_null() || v.as_str() == Some(""),
        _ => false,
    };
    match v {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Map(m) => {
            let stray = |k: &str| k == "path" && m.len() == 2 && m.get("name").and_then(Value::as_str) == Some(VOLUME);
            Value::Map(
                m.iter().filter(|(k, v)| !added(k, v) && !stray(k)).map(|(k, v)| (k.clone(), plain(v))).collect(),
            )
        }
        other => other.clone(),
    }
}
