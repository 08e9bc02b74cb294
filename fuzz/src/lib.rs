//! What each fuzz target does with its input: anything but a panic, a hang or an overflow is right.
//!
//! The bodies stand here, apart from the engine, so that they are also run by plain tests.

use std::time::Duration;

use druse_apiserver::cel::Program;
use druse_apiserver::{ApiServer, LabelSelector};
use druse_flux::{envsubst, sourceignore};
use druse_gotemplate::{FuncMap, Host, Options, TemplateSet, Val};
use druse_helm::Chart;
use druse_helm::version::{Constraint, Version};
use druse_kustomize::{BuildOptions, MemoryTree};
use druse_object::yaml::Dialect;
use druse_object::{Value, json, patch, yaml};
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

/// Two inputs from one: parted at the first zero byte.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

/// A stream of YAML documents, in both dialects.
pub fn yaml_documents(data: &[u8]) {
    for dialect in [Dialect::Sigs, Dialect::Kyaml] {
        let _ = yaml::documents(text(data), dialect);
    }
}

/// What is written as YAML is read as the same value.
pub fn yaml_round_trip(data: &[u8]) {
    let Ok(value) = yaml::parse(text(data), Dialect::Sigs) else { return };
    let written = yaml::to_string(&value);
    let again = yaml::parse(&written, Dialect::Sigs).unwrap_or_else(|e| panic!("{e} in what was written: {written}"));
    assert_eq!(json::to_string_sorted(&again), json::to_string_sorted(&value), "{written}");
}

/// JSON text.
pub fn json_text(data: &[u8]) {
    if let Ok(value) = json::parse(data) {
        let written = json::to_string(&value);
        let again = json::parse(written.as_bytes()).unwrap_or_else(|e| panic!("{e} in what was written: {written}"));
        assert_eq!(json::to_string(&again), written);
    }
}

fn two_values(data: &[u8]) -> Option<(Value, Value)> {
    let (a, b) = halves(data);
    Some((json::parse(a).ok()?, json::parse(b).ok()?))
}

/// A document and a JSON patch for it.
pub fn json_patch(data: &[u8]) {
    if let Some((mut target, patch)) = two_values(data) {
        let _ = patch::json_patch(&mut target, &patch);
    }
}

/// A document and a strategic merge patch for it.
pub fn strategic_merge(data: &[u8]) {
    if let Some((mut target, patch)) = two_values(data) {
        let _ = patch::strategic_merge(&mut target, &patch, None);
    }
}

struct NoHost;

impl Host for NoHost {
    fn random(&self, _: &str, _: &str, _: u32, out: &mut [u8]) {
        out.fill(7);
    }
    fn now_unix_nanos(&self) -> i128 {
        0
    }
    fn lookup(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Value, String> {
        Ok(Value::Null)
    }
    fn resolve_host(&self, _: &str) -> String {
        String::new()
    }
}

/// A template, parsed and executed within the engine's own bounds.
pub fn gotemplate(data: &[u8]) {
    if data.len() > 4096 {
        return;
    }
    let values = json::parse(br#"{"a":{"b":[1,"x",null]},"s":"text"}"#).unwrap_or_default();
    let mut set = TemplateSet::new(&FuncMap::go());
    if set.parse("fuzz", text(data)).is_ok() {
        let _ = set.execute("fuzz", Val::from_values(&values), &NoHost, Options::default());
    }
}

/// A kustomization, and one file it may name, in a tree in memory.
pub fn kustomization(data: &[u8]) {
    let (kustomization, resource) = halves(data);
    let mut tree = MemoryTree::new();
    tree.insert("kustomization.yaml", kustomization.to_vec());
    tree.insert("a.yaml", resource.to_vec());
    let _ = druse_kustomize::build(&tree, "", &BuildOptions::default());
}

/// A chart's archive.
pub fn chart_archive(data: &[u8]) {
    let _ = Chart::from_archive(data);
}

/// Text with variables, loosely and strictly.
pub fn envsubst(data: &[u8]) {
    for unset in [envsubst::Unset::Empty, envsubst::Unset::Refused, envsubst::Unset::Placeholder] {
        let _ = envsubst::substitute(text(data), &|name| (name.len() < 4).then_some("value"), unset);
    }
}

/// The rules of a `.sourceignore`, and a path.
pub fn sourceignore(data: &[u8]) {
    let (rules, path) = halves(data);
    let mut matcher = sourceignore::Matcher::default();
    matcher.add(text(rules), "");
    matcher.add(text(rules), "folder");
    let _ = matcher.ignores(text(path), false);
    let _ = matcher.ignores(text(path), true);
}

/// A range of versions, and a version.
pub fn semver_constraint(data: &[u8]) {
    let (constraint, version) = halves(data);
    if let (Ok(c), Ok(v)) = (Constraint::parse(text(constraint)), Version::parse(text(version))) {
        let _ = c.check(&v);
    }
}

/// A request's method, path and body, answered by the embedded API: never with an internal error.
pub fn api_request(data: &[u8]) {
    const PATHS: &[(&str, &str, &str)] = &[
        ("POST", "/api/v1/namespaces/default/configmaps", "application/json"),
        ("POST", "/api/v1/namespaces/default/pods", "application/yaml"),
        ("POST", "/apis/apps/v1/namespaces/default/deployments", "application/json"),
        ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/json"),
        ("POST", "/api/v1/namespaces/default/services", "application/vnd.kubernetes.protobuf"),
        ("PATCH", "/api/v1/namespaces/default", "application/json-patch+json"),
        ("PATCH", "/api/v1/namespaces/default", "application/merge-patch+json"),
        ("PATCH", "/api/v1/namespaces/default", "application/strategic-merge-patch+json"),
        ("PATCH", "/api/v1/namespaces/default/configmaps/a?fieldManager=fuzz", "application/apply-patch+yaml"),
        ("DELETE", "/api/v1/namespaces/default/configmaps/a", "application/json"),
    ];
    let Some((first, body)) = data.split_first() else { return };
    let (method, path, kind) = PATHS[usize::from(*first) % PATHS.len()];
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let server = ApiServer::builder().build().await.expect("an API in memory");
        let body = Full::new(bytes::Bytes::copy_from_slice(body));
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body);
        let request = request.expect("a request");
        let answer = async {
            let response = server.service().oneshot(request).await.expect("an answer");
            let status = response.status();
            let _ = response.into_body().collect().await;
            status
        };
        let status = tokio::time::timeout(Duration::from_secs(10), answer).await.expect("an answer in time");
        assert_ne!(status.as_u16(), 500);
        server.close();
    });
}

/// A CEL expression, evaluated within a budget.
pub fn cel(data: &[u8]) {
    if let Ok(program) = Program::compile(text(data)) {
        let mut budget = 100_000;
        let _ = program.eval(&[], &mut budget);
    }
}

/// A label selector.
pub fn label_selector(data: &[u8]) {
    if let Ok(selector) = LabelSelector::parse(text(data)) {
        let _ = selector.matches(|label| (label == "app").then_some("web"));
    }
}

/// Terraform: parsed and evaluated.
pub fn terraform(data: &[u8]) {
    let mut tree = MemoryTree::new();
    tree.insert("main.tf", data.to_vec());
    let _ = druse_terraform::declared(&tree, &druse_terraform::Options::default());
}

/// A policy document, and a request against it.
pub fn iam_policy(data: &[u8]) {
    let (document, asked) = halves(data);
    let Ok(value) = json::parse(document) else { return };
    let Ok(policy) = druse_aws::iam::Policy::parse(&value) else { return };
    let request = druse_aws::iam::Request::new(text(asked), text(asked)).with("aws:PrincipalArn", text(asked));
    let _ = druse_aws::iam::evaluate(&[&policy], &request);
    let _ = druse_aws::iam::evaluate_trust(&policy, text(asked), &request);
}

/// A token, taken apart and checked without a key.
pub fn token(data: &[u8]) {
    let expect = druse_identity::jwt::Expect { issuer: "https://i", audiences: &["a"], now: 0, leeway: 0 };
    let _ = druse_identity::jwt::verify(text(data), &[], &expect);
}

/// The parameters of a SecretProviderClass.
pub fn secret_class(data: &[u8]) {
    if let Ok(value) = yaml::parse(text(data), Dialect::Sigs) {
        let _ = druse_secrets::class::Class::parse(&value);
    }
}

/// A JMESPath expression over a value that holds secrets.
pub fn jmespath(data: &[u8]) {
    let (path, value) = halves(data);
    let Ok(value) = druse_aws::sealed::Json::parse(value) else { return };
    if let Ok(path) = druse_secrets::jmespath::Expression::parse(text(path)) {
        let _ = path.search(&value);
    }
}

/// JSON that is zeroed when dropped: what is written is read as the same, and the usual reader agrees on what is JSON.
pub fn sealed_json(data: &[u8]) {
    let sealed = druse_aws::sealed::Json::parse(data);
    if let Ok(value) = &sealed {
        let written = value.to_json();
        let again = druse_aws::sealed::Json::parse(written.as_bytes()).expect("what was written is read");
        assert_eq!(*written, *again.to_json());
    }
}

/// What a driver asks of the AWS provider.
pub fn provider_request(data: &[u8]) {
    let (attributes, permission) = halves(data);
    let _ = druse_secrets::provider::Request::of_driver(text(attributes), text(permission));
    let _ = druse_secrets::token::of_volume_context(text(attributes), "sts.amazonaws.com");
}

/// An AdmissionReview for the pod identity webhook.
pub fn identity_review(data: &[u8]) {
    let role = "metadata: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/r'}}";
    let account = yaml::parse(role, Dialect::Sigs).expect("YAML");
    let _ = druse_identity::webhook::review(&Default::default(), data, |_, _| Some(account.clone()));
}

/// An issuer's documents.
pub fn issuer_documents(data: &[u8]) {
    let _ = druse_identity::documents::read_jwks(data, "x");
    let _ = druse_identity::documents::read_discovery(data, "x");
    let _ = druse_identity::IssuerUrl::parse(text(data));
}

/// A request to the local cloud, signed by nobody: the first byte chooses the kind.
pub fn cloud_request(data: &[u8]) {
    const TARGETS: [&str; 6] =
        ["AmazonSSM.GetParameters", "AmazonSSM.PutParameter", "secretsmanager.GetSecretValue", "x", "", "\u{e9}"];
    let Some((first, rest)) = data.split_first() else { return };
    let (head, body) = halves(rest);
    let target = TARGETS[usize::from(first & 7) % TARGETS.len()];
    let mut headers =
        vec![("host".to_owned(), text(head).to_owned()), ("authorization".to_owned(), text(head).to_owned())];
    match first & 0x80 {
        0 => headers.push(("x-amz-target".to_owned(), target.to_owned())),
        _ => headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())),
    }
    let cloud = druse_localcloud::Cloud::open(Default::default()).expect("a cloud in memory");
    let method = if first & 0x40 == 0 { "POST" } else { "GET" };
    let request = druse_localcloud::Request {
        method: method.into(),
        path: format!("/{}", text(head)),
        query: text(head).into(),
        headers,
        body: body.to_vec(),
    };
    let answer = cloud.handle(&request);
    assert_ne!(answer.status, 500);
}

/// The paths of a volume's files: what is taken lies below the mount.
pub fn volume_content(data: &[u8]) {
    let files = data.split(|b| *b == 0).map(|path| druse_csi::wire::provider::File {
        path: text(path).to_owned(),
        mode: 0o644,
        contents: Vec::new(),
    });
    let Ok(content) = druse_csi::volume::Content::new(files.collect()) else { return };
    for file in content.files() {
        assert!(
            !file.path.starts_with('/') && file.path.split('/').all(|p| !p.is_empty() && p != ".."),
            "{:?}",
            file.path
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each body with the input it is for, cut at every length, and with that it is not for.
    fn run(body: fn(&[u8]), good: &[u8]) {
        for n in 0..=good.len() {
            body(&good[..n]);
        }
        body(&[0xff, 0, 0x80, b'{', b'[', 0]);
    }

    #[test]
    fn yaml_and_json() {
        let yaml = b"a: &x [1, 'b', {c: !!str 2}]\nd: *x\ne: |-\n  text\n---\n? k\n: v\n";
        run(yaml_documents, yaml);
        run(yaml_round_trip, yaml);
        run(json_text, br#"{"a":[1,2.5e3,"\u00e9",null,true]}"#);
    }

    #[test]
    fn patches() {
        run(json_patch, b"{\"a\":[1]}\0[{\"op\":\"add\",\"path\":\"/a/-\",\"value\":2}]");
        run(strategic_merge, b"{\"a\":[{\"name\":\"x\"}]}\0{\"a\":[{\"name\":\"x\",\"$patch\":\"delete\"}]}");
    }

    #[test]
    fn builds() {
        run(
            gotemplate,
            b"{{ define \"t\" }}{{ .s | printf \"%q\" }}{{ end }}{{ range .a.b }}{{ template \"t\" $ }}{{ end }}",
        );
        run(
            kustomization,
            b"resources: [a.yaml]\nnamePrefix: x-\n\0apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        );
        run(chart_archive, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn expressions() {
        run(envsubst, b"${A:=b} $${c} ${D/a/b} ${E^^}");
        run(sourceignore, b"/*\n!/a/**/b\n[a-z]?.md\n\0a/x/b");
        run(semver_constraint, b">=1.2 <2 || ~3.x - 4\01.2.3-rc.1+b");
        run(cel, b"[1, 2].map(x, x * 2).exists(y, y == 4) ? 'a'.matches('^a') : {'k': duration('1h')}['k']");
        run(label_selector, b"app in (web, db),!x,y!=z");
    }

    #[test]
    fn secrets_path() {
        run(
            terraform,
            b"locals { a = { for k, v in { b = 1 } : k => \"${v}-${upper(k)}\" if v > 0 } }\nresource \"aws_ssm_parameter\" \"p\" {\n  for_each = local.a\n  name = \"/x/${each.value}\"\n}\n",
        );
        run(
            iam_policy,
            b"{\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"a:*\",\"Resource\":\"*?\",\"Condition\":{\"ForAnyValue:StringLikeIfExists\":{\"k\":[\"v*\"]}}}]}\0a:b",
        );
        run(token, b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2kifQ.AAAA");
        run(
            jmespath,
            b"a.b[?c > `1`] | [0].{x: join('-', d), y: length(@)}\0{\"a\":{\"b\":[{\"c\":2,\"d\":[\"e\"]}]}}",
        );
        run(sealed_json, br#"{"a":[1,2.5e3,"\u00e9\ud83d\ude00",null,true],"a":{}}"#);
        run(
            provider_request,
            b"{\"csi.storage.k8s.io/pod.name\":\"p\",\"csi.storage.k8s.io/pod.namespace\":\"n\",\"sts.amazonaws.com\":{\"token\":\"t\"}}\0420",
        );
        run(
            identity_review,
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"n","object":{"spec":{"containers":[{"name":"a","env":[{"name":"AWS_REGION"}]}],"volumes":[]}}}}"#,
        );
        run(issuer_documents, br#"{"issuer":"https://i","jwks_uri":"https://i/k","keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"}]}"#);
        run(volume_content, b"a\0b/c\0b/d/../e\0/etc/x\0..data");
        run(secret_class, b"objects: |\n  - objectName: /a/b\n    objectType: ssmparameter\n    jmesPath: [{path: x, objectAlias: y}]\n");
    }

    #[test]
    fn requests_to_the_cloud() {
        let signed =
            "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/ssm/aws4_request, SignedHeaders=host, Signature=00";
        for first in [0, 1, 2, 0x40, 0x80, 0xc0] {
            let input = [
                &[first][..],
                signed.as_bytes(),
                b"\0Action=AssumeRoleWithWebIdentity&RoleArn=a&WebIdentityToken=a.b.c",
            ]
            .concat();
            cloud_request(&input);
            cloud_request(&input[..input.len() / 2]);
        }
    }

    #[test]
    fn requests() {
        for path in 0..10 {
            api_request(&[&[path][..], br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#].concat());
        }
        api_request(b"\x05[{\"op\":\"remove\",\"path\":\"/metadata/labels\"}]");
    }
}
