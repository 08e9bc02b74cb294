//! The provider as a driver sees it: against the local cloud, and against moto with the same questions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering;

use common::regions::Regions;
use common::{REGION, World, objects, reason, request, shown, with_token};
use druse_identity::jwt;
use druse_secrets::cause::Reason;
use druse_secrets::provider::Step;

const MT: &str = "objectType: ssmparameter";

/// Everything that objects can ask for, whoever answers.
async fn all_that_objects_ask_for(w: &World) {
    let pod = w.app();
    let provider = w.provider();
    let read = async |text: &str| {
        let mounted = provider.mount(&objects(&pod, text)).await.unwrap_or_else(|e| panic!("{text}: {e}"));
        let versions: Vec<&str> = mounted.versions.iter().map(|(f, _)| f.as_str()).collect();
        assert_eq!(versions, mounted.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>());
        shown(&mounted)
    };
    assert_eq!(read(&format!("- {{objectName: /home/app/db, {MT}}}")).await, ["_home_app_db 0644 second"]);
    assert_eq!(
        read(&format!(
            "- {{objectName: /home/app/db, {MT}, objectAlias: new, filePermission: '0600'}}\n\
             - {{objectName: /home/app/db, {MT}, objectAlias: first, objectVersion: 1}}\n\
             - {{objectName: /home/app/db, {MT}, objectAlias: labelled, objectVersionLabel: old}}\n\
             - {{objectName: /home/app/db, {MT}, objectAlias: again}}\n\
             - {{objectName: plain, {MT}}}"
        ))
        .await,
        ["new 0600 second", "first 0644 first", "labelled 0644 first", "again 0644 second", "plain 0644 of plain"]
    );
    let arn = |name: &str| format!("arn:aws:ssm:{REGION}:{}:parameter/{name}", w.account);
    assert_eq!(
        read(&format!("- {{objectName: '{}', objectAlias: by-arn}}", arn("home/app/db"))).await,
        ["by-arn 0644 second"]
    );
    assert_eq!(
        read(&format!(
            "- objectName: /home/app/json\n  {MT}\n  objectAlias: all\n  filePermission: '0440'\n  jmesPath:\n    - {{path: user, \
             objectAlias: user, filePermission: '0400'}}\n    - {{path: 'deep.list[1]', objectAlias: second}}\n    - {{path: \
             to_string(n), objectAlias: num}}"
        ))
        .await,
        [
            r#"all 0440 {"user":"u","deep":{"list":["x","y"]},"n":3}"#,
            "user 0400 u",
            "second 0440 y",
            "num 0440 3"
        ]
    );
    assert_eq!(
        read(&format!("- {{objectName: /home/app/base64, {MT}, objectEncoding: base64, objectAlias: b}}")).await,
        ["b 0644 [104, 105, 0, 255]"]
    );
    let many: String =
        (0..25).map(|n| format!("- {{objectName: /home/app/many/{n}, {MT}, objectAlias: f{n}}}\n")).collect();
    let wanted: Vec<String> = (0..25).map(|n| format!("f{n} 0644 value {n}")).collect();
    assert_eq!(read(&many).await, wanted, "more than AWS takes at once, in their order");
    assert_eq!(
        read("- objectName: app-secret\n  objectType: secretsmanager\n  jmesPath: [{path: k, objectAlias: part}]")
            .await,
        [r#"app-secret 0644 {"k":"of the secret"}"#, "part 0644 of the secret"]
    );
    let off = [
        ("region", REGION),
        ("pathTranslation", "False"),
        ("objects", "- {objectName: /home/app/db, objectType: ssmparameter}"),
    ];
    assert_eq!(shown(&provider.mount(&request(&pod, &off)).await.unwrap()), ["home/app/db 0644 second"]);

    let mounted = provider.mount(&objects(&pod, &format!("- {{objectName: /home/app/db, {MT}}}"))).await.unwrap();
    assert_eq!(mounted.versions, [("_home_app_db".to_string(), "2".to_string())]);

    let missing: String = (0..12)
        .map(|n| format!("- {{objectName: /home/app/none/{n}, {MT}}}\n"))
        .chain([format!("- {{objectName: /home/app/db, {MT}, objectVersion: 9}}\n")])
        .collect();
    let e = provider.mount(&objects(&pod, &missing)).await.unwrap_err();
    assert_eq!((e.step(), reason(&e)), (Step::Read, Some(Reason::NotFound)), "{e}");
    assert_eq!(e.problems[0].objects.len(), 13, "each of them is named, whatever the batch: {e}");
    let text = e.to_string();
    assert!(
        text.starts_with("pod ns/app-1: reading the values of /home/app/none/0, ") && text.contains("role/app"),
        "{text}"
    );

    for (text, why) in [
        (format!("- {{objectName: /home/app/db, {MT}, jmesPath: [{{path: a, objectAlias: b}}]}}"), "it is no JSON"),
        (format!("- {{objectName: /home/app/json, {MT}, jmesPath: [{{path: a, objectAlias: b}}]}}"), "finds nothing"),
        (format!("- {{objectName: /home/app/json, {MT}, jmesPath: [{{path: deep, objectAlias: b}}]}}"), "finds a map"),
        (format!("- {{objectName: /home/app/db, {MT}, objectEncoding: hex}}"), "not written in hex"),
    ] {
        let e = provider.mount(&objects(&pod, &text)).await.unwrap_err();
        assert!(e.step() == Step::Value && e.to_string().contains(why), "{e}");
        assert!(!e.to_string().contains("second"), "no value is shown: {e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_of_the_local_cloud() {
    all_that_objects_ask_for(&World::local(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_of_moto() {
    let Some(w) = World::moto() else { return };
    all_that_objects_ask_for(&w).await;
    let pod = w.app();
    // What only moto has: a second region, and binary secrets.
    let text = "- {objectName: app-binary, objectType: secretsmanager}";
    assert_eq!(shown(&w.provider().mount(&objects(&pod, text)).await.unwrap()), ["app-binary 0644 [0, 255]"]);
    let both = |object: &str| {
        let object = format!("- {{objectName: /home/app/db, {MT}, objectAlias: db{object}}}");
        request(&pod, &[("region", REGION), ("failoverRegion", "eu-west-1"), ("objects", &object)])
    };
    assert_eq!(shown(&w.provider().mount(&both("")).await.unwrap()), ["db 0644 second"]);
    let e = w.provider().mount(&both(", failoverObject: {objectName: /none}")).await.unwrap_err();
    assert!(
        e.to_string().contains("eu-west-1") && reason(&e) == Some(Reason::NotFound),
        "a failover that lacks it shows: {e}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_come_from_the_class_the_environment_or_the_node() {
    let w = World::local(None).await;
    let pod = w.app();
    let text = format!("- {{objectName: plain, {MT}}}");
    let without = || request(&pod, &[("objects", &text)]);
    w.api.add("nodes", "", common::NODE, r#"{"metadata":{}}"#);
    let e = w.provider().mount(&without()).await.unwrap_err();
    assert!(e.step() == Step::Region && e.to_string().contains("topology.kubernetes.io/region"), "{e}");
    w.api.add("nodes", "", common::NODE, r#"{"metadata":{"labels":{"topology.kubernetes.io/region":"us-west-2"}}}"#);
    w.provider().mount(&without()).await.unwrap();
    let e = w.provider_with(|s| s.region = Some("eu-west-1".into())).mount(&without()).await.unwrap_err();
    assert!(e.to_string().contains("eu-west-1"), "the environment's goes before the node's: {e}");
    let arn = "- {objectName: 'arn:aws:ssm:eu-west-1:111122223333:parameter/plain'}";
    let e = w.provider().mount(&request(&pod, &[("objects", arn)])).await.unwrap_err();
    assert!(e.step() == Step::Class && e.to_string().contains("another region"), "{e}");
    let same = [("region", REGION), ("failoverRegion", REGION), ("objects", text.as_str())];
    assert_eq!(w.provider().mount(&request(&pod, &same)).await.unwrap_err().step(), Step::Class);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_does_not_answer_is_made_up_for_by_the_other() {
    const EAST: &str = "eu-west-1";
    let (west, east) = (World::local(None).await, World::local_in(EAST, None).await);
    east.put("plain", "of plain in the east").await;
    let pod = west.app();
    let text = format!("- {{objectName: plain, {MT}}}\n- {{objectName: /home/app/db, {MT}, objectAlias: db}}");
    let ask = request(&pod, &[("region", REGION), ("failoverRegion", EAST), ("objects", &text)]);
    let tried = async |regions: &[(&str, Option<&World>)]| {
        let provider = west.provider_with(|s| {
            s.http = Regions::client(regions.iter().map(|(r, w)| (*r, w.map(|w| w.url.as_str()))));
            s.endpoints = druse_aws::endpoint::Endpoints::default();
        });
        provider.mount(&ask).await
    };
    let (of_west, of_east) =
        (["plain 0644 of plain", "db 0644 second"], ["plain 0644 of plain in the east", "db 0644 second"]);
    assert_eq!(shown(&tried(&[(REGION, Some(&west)), (EAST, Some(&east))]).await.unwrap()), of_west, "the first");
    assert_eq!(shown(&tried(&[(REGION, None), (EAST, Some(&east))]).await.unwrap()), of_east, "the west is away");
    assert_eq!(shown(&tried(&[(REGION, Some(&west)), (EAST, None)]).await.unwrap()), of_west, "the east is away");
    let e = tried(&[(REGION, None), (EAST, None)]).await.unwrap_err();
    assert!(e.is_passing() && e.to_string().contains(REGION) && e.to_string().contains(EAST), "{e}");

    // A region that refuses is not away: that must show before the other is needed.
    east.ssm("DeleteParameter", r#"{"Name":"plain"}"#).await;
    let e = tried(&[(REGION, Some(&west)), (EAST, Some(&east))]).await.unwrap_err();
    assert!(reason(&e) == Some(Reason::NotFound) && e.to_string().contains(EAST), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_reached_is_told_by_step() {
    let w = World::local(None).await;
    let pod = w.app();
    let url = w.url.clone();
    let only_sts = move |name: &str| match name {
        "AWS_ENDPOINT_URL_STS" => Some(url.clone()),
        "AWS_ENDPOINT_URL" => Some("http://127.0.0.1:1".into()),
        _ => None,
    };
    let text = format!("- {{objectName: plain, {MT}}}");
    let ask = request(&pod, &[("region", REGION), ("objects", &text)]);
    let provider = w.provider_with(|s| s.endpoints = druse_aws::endpoint::Endpoints::from_environment(only_sts));
    let e = provider.mount(&ask).await.unwrap_err();
    assert_eq!((e.step(), reason(&e)), (Step::Read, Some(Reason::NoRoute)), "{e}");
    assert!(e.is_passing());
    let provider = w.provider_with(|s| s.endpoints = druse_aws::endpoint::Endpoints::all("http://127.0.0.1:1"));
    let e = provider.mount(&ask).await.unwrap_err();
    assert_eq!((e.step(), reason(&e)), (Step::Assume, Some(Reason::NoRoute)), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelets_token_is_used_and_else_one_is_asked_for_once() {
    let w = World::local(None).await;
    let pod = w.app();
    let ask = objects(&pod, &format!("- {{objectName: plain, {MT}}}"));
    let asked = || w.api.tokens_asked.load(Ordering::Relaxed);
    let provider = w.provider();
    let token = jwt::sign(&w.api.key, &w.api.claims(&pod, "sts.amazonaws.com")).unwrap();
    provider.mount(&with_token(ask.clone(), &token)).await.unwrap();
    assert_eq!(asked(), 0);
    provider.mount(&ask).await.unwrap();
    provider.mount(&ask).await.unwrap();
    assert_eq!(asked(), 1, "kept while it lasts");
    w.ahead.store(3600 * 4 / 5 - 10, Ordering::Relaxed);
    provider.mount(&ask).await.unwrap();
    assert_eq!(asked(), 1);
    w.ahead.store(3600 * 4 / 5 + 10, Ordering::Relaxed);
    provider.mount(&ask).await.unwrap();
    assert_eq!(asked(), 2, "renewed before it is over");
    let never = w.provider_with(|s| s.token_requests = false);
    let e = never.mount(&ask).await.unwrap_err();
    assert!(e.step() == Step::Token && e.to_string().contains("spec.tokenRequests"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_the_way_is_told_by_step() {
    let w = World::local(None).await;
    let pod = w.app();
    let provider = w.provider();
    let one = format!("- {{objectName: plain, {MT}}}");
    let told = async |ask| {
        let e = provider.mount(&ask).await.unwrap_err();
        (e.step(), reason(&e), e.to_string())
    };
    let (step, why, text) = told(objects(&pod, &format!("{one}\n- {{objectName: /home/other/db, {MT}}}"))).await;
    assert_eq!((step, why), (Step::Read, Some(Reason::PermissionDenied)));
    assert!(text.contains("of /home/other/db ("), "only the one that is denied: {text}");
    let locked = w.api.add_pod("ns", "locked-1", "locked", &w.role("locked"));
    w.ssm("PutParameter", r#"{"Name":"/home/locked","Value":"v","Type":"SecureString","KeyId":"alias/home"}"#).await;
    let (step, why, _) = told(objects(&locked, &format!("- {{objectName: /home/locked, {MT}}}"))).await;
    assert_eq!((step, why), (Step::Read, Some(Reason::KmsDenied)));
    let stranger = w.api.add_pod("ns", "stranger-1", "stranger", &w.role("app"));
    let (step, why, text) = told(objects(&stranger, &one)).await;
    assert_eq!((step, why), (Step::Assume, Some(Reason::TrustDenied)));
    assert!(text.contains("home-oidc.s3.us-west-2.amazonaws.com:sub = system:serviceaccount:ns:stranger"), "{text}");
    for (role, words) in [("", "has no annotation eks.amazonaws.com/role-arn"), ("app", "no role's ARN")] {
        let pod = w.api.add_pod("ns", "bare-1", "bare", role);
        let (step, _, text) = told(objects(&pod, &one)).await;
        assert!(step == Step::Account && text.contains(words), "{text}");
    }
    let (step, _, text) = told(objects(&pod, "- {objectName: a}\n- {objectName: b}")).await;
    assert!(
        step == Step::Class && text.contains("objects[0]") && text.contains("objects[1]"),
        "all that is wrong: {text}"
    );
    let (step, _, _) = told(request(&pod, &[("region", REGION), ("usePodIdentity", "true"), ("objects", &one)])).await;
    assert_eq!(step, Step::Class);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_objects_large_and_empty_values() {
    let w = World::local(None).await;
    let pod = w.app();
    let large = "x".repeat(4096);
    w.put("/home/app/large", &large).await;
    let many: String =
        (0..10_000).map(|n| format!("- {{objectName: /home/app/db, {MT}, objectAlias: f{n}}}\n")).collect();
    let mounted = w.provider().mount(&objects(&pod, &many)).await.unwrap();
    assert_eq!(mounted.files.len(), 10_000);
    // And as many parameters, a thousand requests.
    let names: Vec<String> = (0..10_000).map(|n| format!("/home/app/each/{n}")).collect();
    let values = names.iter().map(|n| (n.clone(), zeroize::Zeroizing::new(format!("of {n}"))));
    w.cloud().set_values(&common::declared(""), values, [], "").unwrap();
    let many: String =
        (0..10_000).map(|n| format!("- {{objectName: /home/app/each/{n}, {MT}, objectAlias: e{n}}}\n")).collect();
    let mounted = w.provider().mount(&objects(&pod, &many)).await.unwrap();
    let wanted: Vec<String> = (0..10_000).map(|n| format!("e{n} 0644 of /home/app/each/{n}")).collect();
    assert!(shown(&mounted) == wanted, "each has its own value");
    let ask = objects(&pod, &format!("- {{objectName: /home/app/large, {MT}, objectAlias: l}}"));
    assert_eq!(w.provider().mount(&ask).await.unwrap().files[0].contents.len(), 4096);
    w.put("/home/app/quotes", r#"{\"e\":\"\"}"#).await;
    let ask =
        format!("- {{objectName: /home/app/quotes, {MT}, objectAlias: q, jmesPath: [{{path: e, objectAlias: e}}]}}");
    assert_eq!(shown(&w.provider().mount(&objects(&pod, &ask)).await.unwrap())[1], "e 0644 ");
}
