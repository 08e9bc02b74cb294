//! The pod identity webhook works in a rehearsal where the tree installs it, and only there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use druse_object::Value;
use druse_rehearsal::UnitState;
use druse_runtime::Resource;
use support::whole::{SYNC, app, client, rehearse, release};

/// The pod of a tree's application.
async fn pod(webhook: bool) -> Value {
    // What is made is waited for.
    let sync = SYNC.replace("prune: true", "prune: true, wait: true");
    let values = "  values:\n    config: {defaultAwsRegion: us-west-2}\n";
    let chart = release("webhook", "amazon-eks-pod-identity-webhook", "2.5.2", values);
    let app = app("      containers: [{name: main, image: 'example.org/app:1'}]\n");
    let mut files = vec![("cluster/sync.yaml", sync.as_str()), ("cluster/app.yaml", app.as_str())];
    if webhook {
        files.push(("cluster/webhook.yaml", chart.as_str()));
    }
    let (rehearsal, report) = rehearse(None, &files).await;
    for unit in &report.units {
        let ready = matches!(unit.state, UnitState::Ready | UnitState::StandIn);
        assert!(ready, "{}: {}", unit.unit, unit.message);
    }
    let api = client(&rehearsal).await;
    let pods = Resource::new("", "v1", "Pod", "pods", true);
    let (mut pods, _) = api.list(&pods, "default", &Default::default()).await.unwrap();
    rehearsal.stop().await;
    assert_eq!(pods.len(), 1);
    pods.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_annotated_accounts_get_a_token_where_the_webhook_is_installed() {
    let with = pod(true).await;
    assert_eq!(with.str_at(["status", "phase"]), Some("Running"), "what the webhook adds is defaulted");
    let env: Vec<&str> =
        with["spec"]["containers"].items()[0]["env"].items().iter().filter_map(|e| e.str_at(["name"])).collect();
    assert_eq!(env, ["AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
    assert_eq!(with["spec"]["volumes"].items()[0].str_at(["name"]), Some("aws-iam-token"));

    let without = pod(false).await;
    assert_eq!(without["spec"]["containers"].items()[0].get("env"), None);
}
