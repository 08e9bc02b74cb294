//! The commands of the secrets path, run as a person runs them: keys, documents, the local cloud with AWS' own clients,
//! the static proof.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Lab, git};
use druse_identity::{SigningKey, jwt};
use druse_object::json;

const ISSUER: &str = "https://home-oidc.s3.us-west-2.amazonaws.com";
const TERRAFORM: &str = concat!(
    include_str!("../../terraform/tests/identity.tf.txt"),
    r#"resource "aws_iam_role_policy" "app" {
  role = aws_iam_role.app.name
  policy = jsonencode({ Statement = [
    { Effect = "Allow", Action = "ssm:GetParameters", Resource = "arn:aws:ssm:us-west-2:111122223333:parameter/home/app/*" },
    { Effect = "Allow", Action = "secretsmanager:*", Resource = "arn:aws:secretsmanager:*:*:secret:app-*" },
  ] })
}
"#
);

fn ok(mut c: Command) -> String {
    let out = c.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{c:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn refused(mut c: Command) -> String {
    let out = c.output().unwrap();
    assert!(!out.status.success(), "{c:?} succeeded");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn a_key_is_made_published_and_replaced() {
    let lab = Lab::bare();
    let id = ok(lab.druse(&["identity", "keygen", "--out", "old.key"]));
    assert_eq!(id.trim().len(), 43, "a SHA-256 in base64url");
    assert!(refused(lab.druse(&["identity", "keygen", "--out", "old.key"])).contains("not written over"));
    let publish = ["identity", "publish", "--issuer", ISSUER, "--key", "old.key", "--to", "site"];
    assert!(ok(lab.druse(&publish)).contains("openid/v1/jwks: created"));
    assert!(ok(lab.druse(&publish)).contains("openid/v1/jwks: unchanged"));
    let jwks = std::fs::read_to_string(lab.tree().join("site/openid/v1/jwks")).unwrap();
    assert!(jwks.contains(id.trim()) && jwks.starts_with("{\"keys\":[{\"use\":\"sig\",\"kty\":\"RSA\""), "{jwks}");
    let printed = ok(lab.druse(&["identity", "documents", "--issuer", ISSUER, "--key", "old.key"]));
    assert!(printed.contains(&jwks));

    ok(lab.druse(&["identity", "keygen", "--out", "new.key"]));
    let begin =
        ["identity", "rotate", "--issuer", ISSUER, "--old-key", "old.key", "--new-key", "new.key", "--to", "site"];
    assert!(ok(lab.druse(&begin)).contains("wait-caches: nothing to do before"));
    assert_eq!(std::fs::read_to_string(lab.tree().join("site/openid/v1/jwks")).unwrap().matches("\"kid\"").count(), 2);
    // Begun again it goes on; another is not taken for it.
    assert!(ok(lab.druse(&begin)).contains("wait-caches: nothing to do before"));
    let other = refused(lab.druse(&begin.map(|a| if a == ISSUER { "https://oidc.example" } else { a })));
    assert!(other.contains("another rotation is under way") && other.contains(ISSUER), "{other}");
    let early = refused(lab.druse(&["identity", "rotate", "--to", "site", "--done", "sign-new"]));
    assert!(early.contains("more seconds to wait"), "{early}");

    lab.file("ec.pem", include_str!("../../identity/tests/data/ec-sec1.pem"));
    let e = refused(lab.druse(&["identity", "publish", "--issuer", ISSUER, "--key", "ec.pem", "--to", "site"]));
    assert!(e.contains("RS256 only") && e.contains("druse identity keygen"), "{e}");
    let e = refused(lab.druse(&["identity", "publish", "--issuer", "http://x", "--key", "old.key", "--to", "site"]));
    assert!(e.contains("https://"), "{e}");
}

fn token(key: &Path, expires_in: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":["sts.amazonaws.com"],"sub":"system:serviceaccount:default:app","exp":{},"iat":{}}}"#,
        now + expires_in,
        now - 1000
    );
    jwt::sign(&SigningKey::read(key).unwrap(), &json::parse(claims.as_bytes()).unwrap()).unwrap()
}

#[test]
fn aws_own_clients_work_against_the_local_cloud() {
    let Some(bin) = std::env::var_os("DRUSE_AWS_CLIENTS").map(std::path::PathBuf::from) else {
        eprintln!("skipped: DRUSE_AWS_CLIENTS names no folder with python (boto3) and aws");
        return;
    };
    let lab = Lab::bare();
    lab.file("terraform/main.tf", TERRAFORM);
    lab.file("values.yaml", "secrets:\n  app-secret: {k: v}\n");
    ok(lab.druse(&["identity", "keygen", "--out", "sa.key"]));
    let (_cloud, url) = lab.cloud(&["--values", "values.yaml"]);
    let credentials = lab.administrator();
    let environment = |c: &mut Command| {
        c.env("AWS_ENDPOINT_URL", &url).env("AWS_REGION", "us-west-2").env("AWS_DEFAULT_REGION", "us-west-2");
        c.env("AWS_SHARED_CREDENTIALS_FILE", &credentials).env("AWS_EC2_METADATA_DISABLED", "true");
    };

    // Published over S3, with the headers that are compared the second time.
    let publish = ["identity", "publish", "--issuer", ISSUER, "--key", "sa.key", "--to", "s3://home-oidc"];
    for outcome in ["created", "unchanged"] {
        let mut c = lab.druse(&publish);
        environment(&mut c);
        let out = ok(c);
        assert_eq!(out.matches(outcome).count(), 2, "{out}");
    }

    let key = lab.tree().join("sa.key");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws_clients/client.py");
    let mut c = Command::new(bin.join("python"));
    c.env_clear().arg(script).arg("arn:aws:iam::111122223333:role/app");
    c.arg(token(&key, 600)).arg(token(&key, -10));
    environment(&mut c);
    assert_eq!(ok(c), "");

    let aws = |args: &[&str]| {
        let mut c = Command::new(bin.join("aws"));
        c.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", lab.path("home"))
            .args(args);
        environment(&mut c);
        c
    };
    let parameter =
        ["ssm", "get-parameter", "--name", "/home/app/db", "--with-decryption", "--query", "Parameter.Value"];
    assert_eq!(ok(aws(&parameter)), "\"second\"\n");
    assert_eq!(ok(aws(&["s3", "cp", "s3://home-oidc/x/y z.txt", "-"])), "text");
    assert!(refused(aws(&["ssm", "get-parameter", "--name", "/none"])).contains("ParameterNotFound"));
}

#[test]
fn our_client_tells_failures_of_the_local_cloud_apart() {
    use druse_aws::endpoint::{Endpoints, Service};
    use druse_aws::{Cause, Client};

    let lab = Lab::bare();
    lab.file("terraform/main.tf", TERRAFORM);
    lab.file("values.yaml", "parameters:\n  /home/app/db: value\n");
    ok(lab.druse(&["identity", "keygen", "--out", "sa.key"]));
    ok(lab.druse(&["identity", "publish", "--issuer", ISSUER, "--key", "sa.key", "--to", "site"]));
    let (_cloud, url) = lab.cloud(&["--values", "values.yaml", "--documents", &format!("{ISSUER}=site")]);
    let key = lab.tree().join("sa.key");
    let http = druse_source::net::plain_client(&druse_source::NetOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(http, Endpoints::all(&url), "us-west-2").retries(0);
        let assume = async |role: &str, token: &str| {
            let arn = format!("arn:aws:iam::111122223333:role/{role}");
            client.assume_role_with_web_identity(&arn, "pod", token, Some(900)).await
        };
        let session = assume("app", &token(&key, 600)).await.unwrap();
        assert!(
            session.expires.is_some() && !format!("{session:?}").contains(&**session.session_token.as_ref().unwrap())
        );
        let read = async |name: &str| {
            let input = json::parse(format!(r#"{{"Names":["{name}"],"WithDecryption":true}}"#).as_bytes()).unwrap();
            client.json(Service::Ssm, "AmazonSSM.GetParameters", &input, &session).await
        };
        let got = read("/home/app/db").await.unwrap();
        assert_eq!(got["Parameters"].items()[0].str_at(["Value"]), Some("value"));
        assert_eq!(read("/home/other").await.unwrap_err().cause(), Cause::Denied);
        assert_eq!(assume("app", "a.b.c").await.unwrap_err().cause(), Cause::InvalidIdentity);
        assert_eq!(assume("app", &token(&key, -10)).await.unwrap_err().cause(), Cause::Expired);
        assert_eq!(assume("none", &token(&key, 600)).await.unwrap_err().cause(), Cause::Denied);
        let nowhere = Client::new(
            druse_source::net::plain_client(&druse_source::NetOptions::default()).unwrap(),
            Endpoints::all("http://127.0.0.1:1"),
            "us-west-2",
        )
        .retries(0);
        let e = nowhere.assume_role_with_web_identity("r", "s", "t", None).await.unwrap_err();
        assert_eq!(e.cause(), Cause::Network, "{e}");
    });
}

/// What reads one parameter and one secret: a class, an account, a Deployment that mounts it with and without subPath.
const READER: &str = r#"apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: default}
spec:
  provider: aws
  parameters:
    objects: |
      - objectName: /home/app/db
        objectType: ssmparameter
        objectAlias: db
      - objectName: app-secret
        objectType: secretsmanager
  secretObjects:
    - secretName: app-db
      type: Opaque
      data: [{objectName: db, key: password}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: default, annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::111122223333:role/app"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reader, namespace: default}
spec:
  selector: {matchLabels: {app: reader}}
  template:
    metadata: {labels: {app: reader}}
    spec:
      serviceAccountName: app
      containers:
        - name: main
          image: example.org/app:1
          volumeMounts: [{name: s, mountPath: /etc/db, subPath: db}]
      volumes:
        - name: s
          csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: app}}
"#;

#[test]
fn values_are_kept_in_the_stores_and_never_shown() {
    let lab = Lab::new("");
    lab.file("good/reader.yaml", READER);
    let declared = r#"
resource "aws_ssm_parameter" "db" {
  name  = "/home/app/db"
  type  = "SecureString"
  value = "set elsewhere"
}
resource "aws_secretsmanager_secret" "app" { name = "app-secret" }
"#;
    lab.file("terraform/main.tf", format!("{TERRAFORM}{declared}"));
    let (_cloud, url) = lab.cloud(&[]);
    let credentials = lab.administrator();
    let secrets = |args: &[&str], input: &str| {
        let mut all = vec!["secrets"];
        all.extend(args);
        all.extend(["--offline", "--no-cache"]);
        let mut c = lab.druse(&all);
        c.env("AWS_ENDPOINT_URL", &url).env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
        let ran = lab.fed(&mut c, input);
        let (good, text) = (ran.status.success(), ran.stdout + &ran.stderr);
        assert!(!text.contains("canary"), "a value was shown: {text}");
        (good, text)
    };
    let done = |args: &[&str], input: &str| {
        let (good, text) = secrets(args, input);
        assert!(good, "{args:?}: {text}");
        text
    };

    // Nothing has a value yet; a declared secret is there all the same.
    let before = json::parse(done(&["list", "-o", "json"], "").as_bytes()).unwrap();
    let of = |list: &druse_object::Value, field: &str| -> Vec<String> {
        list["secrets"].items().iter().map(|s| s.str_at([field]).unwrap_or("-").to_string()).collect()
    };
    assert_eq!(of(&before, "name"), ["/home/app/db", "app-secret"]);
    assert_eq!(of(&before, "version"), ["-", "-"]);
    assert_eq!(before["secrets"].items()[0].str_at(["state"]), Some("missing"));
    let reader = &before["secrets"].items()[0]["readers"].items()[0];
    assert_eq!((reader.str_at(["name"]), reader.str_at(["serviceAccount"])), (Some("reader"), Some("app")));
    let (good, text) = secrets(&["diff", "--exit-code"], "");
    assert!(!good && text.contains("missing"), "{text}");

    // Put, once; who must notice is said.
    let text = done(&["put", "/home/app/db"], "canary-1\n");
    assert!(text.starts_with("/home/app/db: version 1 (new) in us-west-2"), "{text}");
    assert!(text.contains("kubectl -n default rollout restart deployment/reader"), "{text}");
    assert!(text.contains("Secret default/app-db is synced from it"), "{text}");
    assert!(done(&["put", "/home/app/db"], "canary-1").contains("unchanged"));
    done(&["put", "app-secret"], r#"{"user":"me","password":"canary-2"}"#);
    assert_eq!(done(&["diff", "--exit-code"], "").lines().count(), 1);

    // Another value than a file's, one that stands for a value, and one that nobody knows.
    lab.file("values.yaml", "parameters: {/home/app/db: canary-3}\nsecrets: {app-secret: canary-4}\n");
    let text = done(&["diff", "--values", "values.yaml"], "");
    assert_eq!(text.matches("differs").count(), 2, "{text}");
    done(&["put", "/home/app/db"], "set elsewhere");
    done(&["put", "/home/other", "--undeclared", "--type", "String"], "canary-5");
    let text = done(&["diff"], "");
    assert!(text.contains("placeholder") && text.contains("/home/other") && text.contains("foreign"), "{text}");

    // A new value by chance, with a way back; of an object one field.
    let text = done(&["rotate", "/home/app/db"], "");
    assert!(text.starts_with("/home/app/db: version 3 (was 2)"), "{text}");
    let (good, text) = secrets(&["rotate", "app-secret"], "");
    assert!(!good && text.contains("user, password"), "{text}");
    done(&["rotate", "app-secret", "--field", "password", "--length", "8"], "");
    assert!(!done(&["diff"], "").contains("placeholder"));
    let store = std::fs::read_to_string(lab.path("cloud/store.json")).unwrap();
    assert!(store.contains("\"previous\"") && !store.contains("canary"), "{store}");

    // What is refused: an unknown name, nothing, bytes, too much, and the wrong place for a value.
    let refused = |args: &[&str], input: &str, why: &str| {
        let (good, text) = secrets(args, input);
        assert!(!good && text.contains(why), "{args:?}: {text}");
    };
    refused(&["put", "/home/db"], "canary", "/home/app/db");
    refused(&["put", "/home/app/db"], "\n", "is empty");
    refused(&["put", "/home/app/db"], &"canary".repeat(2000), "at most 8192");
    refused(&["put", "/home/app/db", "--value", "x"], "", "unexpected argument");
}

#[test]
fn values_in_a_committed_file_are_refused() {
    let lab = Lab::bare();
    lab.file("terraform/main.tf", TERRAFORM);
    lab.file("values.yaml", "parameters:\n  /home/app/db: canary-value\n");
    let git = |args: &[&str]| git(&lab.tree(), args);
    if !(git(&["init"]) && git(&["add", "."]) && git(&["commit", "-m", "all"])) {
        eprintln!("skipped: there is no git");
        return;
    }
    let e = refused(lab.druse(&["cloud", ".", "--listen", "127.0.0.1:0", "--values", "values.yaml"]));
    assert!(e.contains("committed") && !e.contains("canary-value"), "{e}");
}

/// The proof of a real tree, as JSON: volumes, proven volumes, and the findings as `severity code message`.
fn proof(lab: &Lab, tree: &Path, shared: &Path) -> (i64, i64, Vec<String>) {
    let mut c = lab.druse(&["secrets", "check", "-o", "json", "--offline", "--mirror"]);
    c.arg(shared).arg(tree);
    let out = json::parse(&c.output().unwrap().stdout).unwrap();
    let number = |n: &str| out[n].as_i64().unwrap();
    let text = |f: &druse_object::Value, n: &str| f.str_at([n]).unwrap_or_default().to_string();
    let findings = out["findings"].items().iter();
    let findings = findings.map(|f| format!("{} {} {}", text(f, "severity"), text(f, "code"), text(f, "message")));
    (number("volumes"), number("proven"), findings.collect())
}

#[test]
fn real_trees_are_proven_and_only_true_faults_found() {
    let Some(shared) = std::env::var_os("DRUSE_SHARED").map(std::path::PathBuf::from) else {
        eprintln!("skipped: DRUSE_SHARED names no folder with fixtures and charts");
        return;
    };
    let lab = Lab::bare();
    let homelab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../homelab");
    assert_eq!(proof(&lab, &homelab, &shared), (2, 2, Vec::new()), "the reference homelab");

    let begins = |found: &[String], wanted: &[&str]| {
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        found.iter().zip(wanted).for_each(|(f, w)| assert!(f.starts_with(w), "{f}\n{w}"));
    };
    // A role that the ServiceAccount names is called otherwise in Terraform; the others were left behind.
    let (volumes, proven, found) = proof(&lab, &shared.join("fixtures/homelab-2024-04"), &shared);
    assert_eq!((volumes, proven), (24, 23));
    begins(
        &found,
        &[
            "error role-missing ServiceAccount vaultwarden/vaultwarden-backup-secret-holder names role",
            "warning role-unused nobody uses role amethyst-unifi-controller ",
            "warning role-unused nobody uses role amethyst-wego",
            "warning role-unused nobody uses role amethyst-vaultwarden-backup ",
            "warning role-unused nobody uses role amethyst-navidrome ",
            "warning role-unused nobody uses role amethyst-immich-typesense ",
            "warning role-unused nobody uses role amethyst-immich-typesense-backup-secret-holder",
            "unknown unrendered HelmRelease/mimir/mimir",
        ],
    );
    // A Deployment that would mount the class is in no kustomization, so the Secret never appears.
    let (volumes, proven, found) = proof(&lab, &shared.join("fixtures/homelab-2026-08"), &shared);
    assert_eq!((volumes, proven), (19, 19));
    begins(
        &found,
        &[
            "warning class-unused SecretProviderClass mydata/immich-postgres-secret is mounted by no pod",
            "warning role-unused nobody uses role amethyst-wego",
            "warning role-unused nobody uses role amethyst-navidrome ",
            "warning role-unused nobody uses role amethyst-immich-postgres-secret-holder",
            "unknown terraform-open module.grafana_alert",
            "unknown unrendered HelmRelease/argo-system/argo-events",
            "unknown unrendered HelmRelease/flux-system/flux2",
        ],
    );
}
