//! The local cloud as its clients see it: who gets in, who reads what, and in which words the others are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use druse_aws::Credentials;
use druse_aws::encoding::form;
use druse_aws::sigv4::{Request as Signed, sha256_hex, sign};
use druse_aws::xml;
use druse_identity::{SigningKey, jwt};
use druse_localcloud::{Cloud, Config, Request, Response};
use druse_object::{Value, json};

const ISSUER: &str = "https://home-oidc.s3.us-west-2.amazonaws.com";
const TERRAFORM: &str = r#"
provider "aws" {
  region              = "us-west-2"
  allowed_account_ids = ["111122223333"]
}
resource "aws_s3_bucket" "oidc" { bucket = "home-oidc" }
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://${aws_s3_bucket.oidc.bucket_regional_domain_name}"
  client_id_list = ["sts.amazonaws.com"]
}
locals { readers = { app = "/home/app/*", key = "/home/key" } }
resource "aws_iam_role" "r" {
  for_each = local.readers
  name     = each.key
  assume_role_policy = jsonencode({ Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Principal = { Federated = aws_iam_openid_connect_provider.cluster.arn }
    Condition = { StringEquals = {
      "${aws_iam_openid_connect_provider.cluster.url}:sub" = "system:serviceaccount:ns:${each.key}"
      "${aws_iam_openid_connect_provider.cluster.url}:aud" = "sts.amazonaws.com"
    } }
  }] })
}
resource "aws_iam_role_policy" "r" {
  for_each = local.readers
  role     = aws_iam_role.r[each.key].name
  policy = jsonencode({ Statement = [{
    Effect   = "Allow"
    Action   = ["ssm:GetParameter*", "secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    Resource = ["arn:aws:ssm:us-west-2:111122223333:parameter${each.value}", "arn:aws:secretsmanager:*:*:secret:app-*"]
  }] })
}
resource "aws_ssm_parameter" "db" {
  name = "/home/app/db"
  type = "SecureString"
}
resource "aws_ssm_parameter" "key" {
  name   = "/home/key"
  type   = "SecureString"
  key_id = "alias/home"
}
resource "aws_secretsmanager_secret" "s" { name = "app-secret" }
"#;

static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);

struct World {
    cloud: Cloud,
    key: SigningKey,
    now: Arc<AtomicI64>,
    declared: druse_terraform::Declared,
}

fn world_in(dir: Option<&std::path::Path>) -> World {
    world_of(TERRAFORM, dir)
}

fn world_of(terraform: &str, dir: Option<&std::path::Path>) -> World {
    let mut tree = druse_kustomize::tree::MemoryTree::new();
    tree.insert("main.tf", terraform.as_bytes().to_vec());
    let declared = druse_terraform::declared(&tree, &druse_terraform::Options::default());
    assert_eq!(declared.errors, []);
    let now = Arc::new(AtomicI64::new(NOW.load(Ordering::Relaxed)));
    let clock = now.clone();
    let config = Config {
        data_dir: dir.map(Into::into),
        account_id: "111122223333".into(),
        region: "us-west-2".into(),
        declared: declared.clone(),
        ..Config::default()
    };
    let cloud = Cloud::open_at(config, Arc::new(move || clock.load(Ordering::Relaxed))).unwrap();
    assert_eq!(cloud.notes, Vec::<String>::new());
    let key = SigningKey::parse(include_str!("../../identity/tests/data/rsa.pem"), "test").unwrap();
    World { cloud, key, now, declared }
}

fn world() -> World {
    let w = world_in(None);
    w.cloud.trust(ISSUER, vec![w.key.public().clone()]);
    w
}

fn text(r: &Response) -> String {
    String::from_utf8_lossy(&r.body).into_owned()
}

impl World {
    fn at(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        signed: Option<(&Credentials, &str)>,
    ) -> Response {
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        headers.push(("host".into(), "localhost:4566".into()));
        if let Some((credentials, service)) = signed {
            let hash = sha256_hex(body);
            let request = Signed { method, path, query: "", headers: &headers, payload_hash: &hash };
            headers.extend(sign(&request, credentials, "us-west-2", service, self.at()));
        }
        self.cloud.handle(&Request {
            method: method.into(),
            path: path.into(),
            query: String::new(),
            headers,
            body: body.into(),
        })
    }

    fn json(&self, who: &Credentials, target: &str, input: &str) -> Result<Value, String> {
        let service = if target.starts_with("AmazonSSM") { "ssm" } else { "secretsmanager" };
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let r = self.send("POST", "/", &headers, input.as_bytes(), Some((who, service)));
        let v = json::parse(&r.body).unwrap();
        if r.status == 200 { Ok(v) } else { Err(v.str_at(["__type"]).unwrap().to_string()) }
    }

    fn ssm(&self, who: &Credentials, operation: &str, input: &str) -> Result<Value, String> {
        self.json(who, &format!("AmazonSSM.{operation}"), input)
    }

    fn admin(&self) -> Credentials {
        self.cloud.administrator().clone()
    }

    fn put(&self, name: &str, value: &str) -> i64 {
        let input = format!(r#"{{"Name":"{name}","Value":"{value}","Type":"SecureString","Overwrite":true}}"#);
        self.ssm(&self.admin(), "PutParameter", &input).unwrap()["Version"].as_i64().unwrap()
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let claims = format!(
            r#"{{"iss":"{ISSUER}","aud":["sts.amazonaws.com"],"sub":"system:serviceaccount:ns:app","exp":{},"iat":{}}}"#,
            self.at() + 600,
            self.at()
        );
        let mut claims = json::parse(claims.as_bytes()).unwrap();
        change(&mut claims);
        jwt::sign(&self.key, &claims).unwrap()
    }

    fn assume(&self, role: &str, token: &str) -> Result<Credentials, (u16, String)> {
        let arn = format!("arn:aws:iam::111122223333:role/{role}");
        let body = form([
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &arn),
            ("RoleSessionName", "pod"),
            ("WebIdentityToken", token),
        ]);
        let r = self.send("POST", "/", &[("content-type", "application/x-www-form-urlencoded")], body.as_bytes(), None);
        let t = text(&r);
        assert!(!t.contains(token) || token.len() < 10, "an answer never holds the token");
        if r.status != 200 {
            return Err((r.status, xml::text(&t, "Code").unwrap()));
        }
        let mut c = Credentials::new(xml::text(&t, "AccessKeyId").unwrap(), xml::text(&t, "SecretAccessKey").unwrap());
        c.session_token = Some(xml::text(&t, "SessionToken").unwrap().into());
        Ok(c)
    }

    fn app(&self) -> Credentials {
        self.assume("app", &self.token(|_| {})).unwrap()
    }
}

fn set(name: &'static str, value: impl Into<Value>) -> impl FnOnce(&mut Value) {
    let value = value.into();
    move |c| drop(c.make_map().unwrap().insert(name, value))
}

fn names(v: &Value) -> Vec<&str> {
    v.items().iter().filter_map(|p| p.as_str().or_else(|| p.str_at(["Name"]))).collect()
}

#[test]
fn a_pods_token_becomes_a_session_that_reads_its_own_and_nothing_else() {
    let w = world();
    w.put("/home/app/db", "secret");
    w.put("/home/other", "other");
    let app = w.app();
    let got =
        w.ssm(&app, "GetParameters", r#"{"Names":["/home/app/db","/home/app/none"],"WithDecryption":true}"#).unwrap();
    assert_eq!(got["Parameters"].items()[0].str_at(["Value"]), Some("secret"));
    assert_eq!(names(&got["InvalidParameters"]), ["/home/app/none"]);
    let denied = w.ssm(&app, "GetParameters", r#"{"Names":["/home/app/db","/home/other"]}"#);
    assert_eq!(denied, Err("AccessDeniedException".into()), "one that is not allowed refuses all");
    assert_eq!(
        w.ssm(&app, "PutParameter", r#"{"Name":"/home/app/db","Value":"x","Type":"String"}"#),
        Err("AccessDeniedException".into())
    );
    let sealed = w.ssm(&app, "GetParameter", r#"{"Name":"/home/app/db"}"#).unwrap();
    assert_ne!(sealed.str_at(["Parameter", "Value"]), Some("secret"), "not decrypted unless asked");
}

#[test]
fn sts_refuses_in_the_right_words() {
    let w = world();
    let refused = |role: &str, token: &str| w.assume(role, token).unwrap_err();
    let identity = (400, "InvalidIdentityToken".to_string());
    assert_eq!(refused("app", "not a token"), identity);
    assert_eq!(refused("app", &w.token(set("iss", "https://evil.example"))), identity);
    assert_eq!(refused("app", &w.token(set("aud", "vault"))), identity);
    let stranger = SigningKey::generate(2048).unwrap();
    let claims = json::parse(
        format!(
            r#"{{"iss":"{ISSUER}","aud":"sts.amazonaws.com","sub":"system:serviceaccount:ns:app","exp":{}}}"#,
            w.at() + 60
        )
        .as_bytes(),
    )
    .unwrap();
    assert_eq!(refused("app", &jwt::sign(&stranger, &claims).unwrap()), identity, "a key that is not published");
    assert_eq!(refused("app", &w.token(set("exp", w.at() - 1))), (400, "ExpiredTokenException".into()));
    let denied = (403, "AccessDenied".to_string());
    assert_eq!(refused("app", &w.token(set("sub", "system:serviceaccount:other:app"))), denied);
    assert_eq!(refused("key", &w.token(|_| {})), denied, "another account's role");
    assert_eq!(refused("nothing", &w.token(|_| {})), denied);
    let unpublished = world_in(None);
    assert_eq!(
        unpublished.assume("app", &unpublished.token(|_| {})).unwrap_err(),
        (400, "IDPCommunicationError".into())
    );
}

#[test]
fn sts_reads_the_keys_from_the_bucket_and_retired_keys_are_refused() {
    use druse_identity::documents::documents;
    let w = world_in(None);
    let issuer = druse_identity::IssuerUrl::parse(ISSUER).unwrap();
    let publish = |keys: &[druse_identity::PublicKey]| {
        for d in documents(&issuer, keys) {
            let path = format!("/home-oidc/{}", d.path);
            let headers = [("content-type", d.content_type), ("cache-control", d.cache_control)];
            let anonymous = w.send("PUT", &path, &headers, d.text.as_bytes(), None);
            assert_eq!((anonymous.status, xml::text(&text(&anonymous), "Code")), (403, Some("AccessDenied".into())));
            let admin = w.admin();
            assert_eq!(w.send("PUT", &path, &headers, d.text.as_bytes(), Some((&admin, "s3"))).status, 200);
        }
    };
    publish(&[w.key.public().clone()]);
    let got = w.send("GET", "/home-oidc/.well-known/openid-configuration", &[], b"", None);
    assert_eq!(got.status, 200, "anybody may read");
    let header = |r: &Response, n: &str| r.headers.iter().find(|(k, _)| *k == n).map(|(_, v)| v.clone());
    assert_eq!(header(&got, "content-type").as_deref(), Some("application/json"));
    assert_eq!(header(&got, "cache-control").as_deref(), Some("public, max-age=3600"));
    assert!(w.assume("app", &w.token(|_| {})).is_ok());
    publish(&[SigningKey::generate(2048).unwrap().public().clone()]);
    assert_eq!(w.assume("app", &w.token(|_| {})).unwrap_err().1, "InvalidIdentityToken");
    assert_eq!(w.send("GET", "/home-oidc/none", &[], b"", None).status, 404);
    assert_eq!(w.send("GET", "/no-bucket/x", &[], b"", None).status, 404);
}

#[test]
fn sessions_expire_and_signatures_are_checked() {
    let w = world();
    w.put("/home/app/db", "secret");
    let app = w.app();
    let read = |c: &Credentials| w.ssm(c, "GetParameter", r#"{"Name":"/home/app/db"}"#).map(|_| ());
    assert_eq!(read(&app), Ok(()));
    let mut wrong = app.clone();
    wrong.secret_access_key = "x".to_string().into();
    assert_eq!(read(&wrong), Err("InvalidSignatureException".into()));
    let mut wrong = app.clone();
    wrong.session_token = Some("x".to_string().into());
    assert_eq!(read(&wrong), Err("UnrecognizedClientException".into()));
    assert_eq!(read(&Credentials::new("AKIAUNKNOWN", "x")), Err("UnrecognizedClientException".into()));
    let unsigned = w.send("POST", "/", &[("x-amz-target", "AmazonSSM.GetParameter")], b"{}", None);
    assert!(text(&unsigned).contains("MissingAuthenticationTokenException"));
    w.now.fetch_add(3601, Ordering::Relaxed);
    assert_eq!(read(&app), Err("ExpiredTokenException".into()));
}

#[test]
fn a_key_of_ones_own_needs_kms_decrypt() {
    let w = world();
    let input = r#"{"Name":"/home/key","Value":"v","Type":"SecureString","KeyId":"alias/home"}"#;
    w.ssm(&w.admin(), "PutParameter", input).unwrap();
    let key = w.assume("key", &w.token(set("sub", "system:serviceaccount:ns:key"))).unwrap();
    assert_eq!(
        w.ssm(&key, "GetParameter", r#"{"Name":"/home/key","WithDecryption":true}"#),
        Err("AccessDeniedException".into())
    );
    assert!(w.ssm(&key, "GetParameter", r#"{"Name":"/home/key"}"#).is_ok(), "what is sealed needs no key");
}

/// A key that Terraform declares has an id that AWS makes up only later: its policies and its parameters meet all the same.
#[test]
fn a_declared_key_is_the_one_that_policies_name() {
    const KEYS: &str = r#"
resource "aws_kms_key" "home" {}
resource "aws_kms_key" "other" {}
resource "aws_kms_alias" "home" {
  name          = "alias/home"
  target_key_id = aws_kms_key.home.key_id
}
resource "aws_iam_role_policy" "decrypt" {
  role   = aws_iam_role.r["key"].name
  policy = jsonencode({ Statement = [{ Effect = "Allow", Action = "kms:Decrypt", Resource = WHICH }] })
}
"#;
    let read = |which: &str, key_id: &str| {
        let keys = format!("{TERRAFORM}{}", KEYS.replace("WHICH", which));
        let w = world_of(&keys.replace("\"alias/home\"\n}", &format!("{key_id}\n}}")), None);
        w.cloud.trust(ISSUER, vec![w.key.public().clone()]);
        assert_eq!(w.cloud.generate(&w.declared).unwrap().names, ["/home/app/db", "/home/key", "app-secret"]);
        let key = w.assume("key", &w.token(set("sub", "system:serviceaccount:ns:key"))).unwrap();
        w.ssm(&key, "GetParameter", r#"{"Name":"/home/key","WithDecryption":true}"#).map(drop)
    };
    let denied = || Err("AccessDeniedException".to_string());
    for key_id in ["\"alias/home\"", "aws_kms_alias.home.arn", "aws_kms_key.home.id", "aws_kms_key.home.arn"] {
        assert_eq!(read("aws_kms_key.home.arn", key_id), Ok(()), "{key_id}");
        assert_eq!(read("aws_kms_key.other.arn", key_id), denied(), "{key_id}");
        assert_eq!(read("aws_kms_alias.home.arn", key_id), denied(), "{key_id}: an alias is no resource");
    }
    // Which key an alias leads to that is made elsewhere is not known; that the role has none at all is.
    let elsewhere = "\"arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"";
    assert_eq!(read(elsewhere, "\"alias/elsewhere\""), Ok(()));
    assert_eq!(read("\"arn:aws:kms:eu-west-1:111122223333:key/*\"", "\"alias/elsewhere\""), denied());
}

#[test]
fn versions_and_labels_choose_a_value() {
    let w = world();
    let admin = w.admin();
    assert_eq!((w.put("/p", "one"), w.put("/p", "two")), (1, 2));
    let value = |name: &str| {
        let got = w.ssm(&admin, "GetParameter", &format!(r#"{{"Name":"{name}","WithDecryption":true}}"#))?;
        Ok::<_, String>(got.str_at(["Parameter", "Value"]).unwrap().to_string())
    };
    assert_eq!(value("/p"), Ok("two".into()));
    assert_eq!(value("/p:1"), Ok("one".into()));
    assert_eq!(
        value("arn:aws:ssm:us-west-2:111122223333:parameter/p"),
        Err("ParameterNotFound".into()),
        "a name without a path has no slash"
    );
    assert_eq!(value("/p:9"), Err("ParameterVersionNotFound".into()));
    assert_eq!(value("/q"), Err("ParameterNotFound".into()));
    let label = |version: i64| {
        let input = format!(r#"{{"Name":"/p","ParameterVersion":{version},"Labels":["live","9bad","aws-x"]}}"#);
        w.ssm(&admin, "LabelParameterVersion", &input).unwrap()
    };
    assert_eq!(names(&label(1)["InvalidLabels"]), ["9bad", "aws-x"]);
    assert_eq!(value("/p:live"), Ok("one".into()));
    label(2);
    assert_eq!(value("/p:live"), Ok("two".into()), "a label moves");
    let again = w.ssm(&admin, "PutParameter", r#"{"Name":"/p","Value":"x","Type":"String"}"#);
    assert_eq!(again, Err("ParameterAlreadyExists".into()));
}

#[test]
fn lists_are_paged_and_limits_kept() {
    let w = world();
    let admin = w.admin();
    for n in 0..12 {
        w.put(&format!("/list/{n:02}"), "v");
    }
    w.put("/list/deep/er", "v");
    let first = w.ssm(&admin, "GetParametersByPath", r#"{"Path":"/list"}"#).unwrap();
    assert_eq!(names(&first["Parameters"]).len(), 10);
    let next = first.str_at(["NextToken"]).unwrap();
    let second = w.ssm(&admin, "GetParametersByPath", &format!(r#"{{"Path":"/list","NextToken":"{next}"}}"#)).unwrap();
    assert_eq!(names(&second["Parameters"]), ["/list/10", "/list/11"]);
    assert_eq!(second.get("NextToken"), None);
    let deep = w.ssm(&admin, "GetParametersByPath", r#"{"Path":"/list/deep","Recursive":true}"#).unwrap();
    assert_eq!(names(&deep["Parameters"]), ["/list/deep/er"]);
    let eleven: Vec<String> = (0..11).map(|n| format!("\"/list/{n}\"")).collect();
    assert_eq!(
        w.ssm(&admin, "GetParameters", &format!("{{\"Names\":[{}]}}", eleven.join(","))),
        Err("ValidationException".into())
    );
    let filter = r#"{"ParameterFilters":[{"Key":"Name","Option":"BeginsWith","Values":["/list/deep"]}]}"#;
    assert_eq!(names(&w.ssm(&admin, "DescribeParameters", filter).unwrap()["Parameters"]), ["/list/deep/er"]);
    let big = "x".repeat(4097);
    assert_eq!(
        w.ssm(&admin, "PutParameter", &format!(r#"{{"Name":"/big","Value":"{big}","Type":"String"}}"#)),
        Err("ValidationException".into())
    );
    for bad in ["aws-x", "a//b", "/a/", "a b", "a/b"] {
        assert!(
            w.ssm(&admin, "PutParameter", &format!(r#"{{"Name":"{bad}","Value":"v","Type":"String"}}"#)).is_err(),
            "{bad}"
        );
    }
    w.ssm(&admin, "DeleteParameter", r#"{"Name":"/list/00"}"#).unwrap();
    assert_eq!(w.ssm(&admin, "DeleteParameter", r#"{"Name":"/list/00"}"#), Err("ParameterNotFound".into()));
}

#[test]
fn a_declared_secret_is_there_before_it_has_a_value() {
    let w = world();
    let ask = |operation: &str, input: &str| w.json(&w.admin(), &format!("secretsmanager.{operation}"), input);
    let secret = r#"{"SecretId":"app-secret"}"#;
    assert!(!w.cloud.holds_secret("app-secret"));
    assert_eq!(ask("DescribeSecret", secret).unwrap().str_at(["Name"]), Some("app-secret"));
    assert_eq!(ask("GetSecretValue", secret), Err("ResourceNotFoundException".into()));
    assert_eq!(
        ask("PutSecretValue", r#"{"SecretId":"none","SecretString":"x"}"#),
        Err("ResourceNotFoundException".into())
    );
    // What is made up for it says so, in the value and beside it.
    assert!(w.cloud.generate(&w.declared).unwrap().names.contains(&"app-secret".to_string()));
    assert!(w.cloud.holds_secret("app-secret"));
    assert!(ask("GetSecretValue", secret).unwrap().str_at(["SecretString"]).unwrap().starts_with("rehearsal-"));
    let described = ask("DescribeSecret", secret).unwrap();
    assert!(described.str_at(["Description"]).unwrap().contains("made up"), "{described:?}");
    ask("PutSecretValue", r#"{"SecretId":"app-secret","SecretString":"mine"}"#).unwrap();
    assert_eq!(ask("GetSecretValue", secret).unwrap().str_at(["SecretString"]), Some("mine"));
}

#[test]
fn secrets_are_read_by_name_arn_and_stage() {
    let w = world();
    let value = |v: &str| [("app-secret".to_string(), v.to_string().into())];
    w.cloud.set_values(&w.declared, [], value("one"), "").unwrap();
    w.cloud.set_values(&w.declared, [], value("two"), "").unwrap();
    w.cloud.set_values(&w.declared, [], value("two"), "").unwrap();
    let app = w.app();
    let get = |input: &str| w.json(&app, "secretsmanager.GetSecretValue", input);
    let now = get(r#"{"SecretId":"app-secret"}"#).unwrap();
    assert_eq!(now.str_at(["SecretString"]), Some("two"));
    let arn = now.str_at(["ARN"]).unwrap();
    assert_eq!(get(&format!(r#"{{"SecretId":"{arn}"}}"#)).unwrap().str_at(["SecretString"]), Some("two"));
    assert_eq!(
        get(r#"{"SecretId":"app-secret","VersionStage":"AWSPREVIOUS"}"#).unwrap().str_at(["SecretString"]),
        Some("one")
    );
    assert_eq!(get(r#"{"SecretId":"app-none"}"#), Err("ResourceNotFoundException".into()));
    assert_eq!(get(r#"{"SecretId":"other"}"#), Err("AccessDeniedException".into()));
    let all =
        w.json(&w.admin(), "secretsmanager.BatchGetSecretValue", r#"{"SecretIdList":["app-secret","x"]}"#).unwrap();
    assert_eq!(names(&all["SecretValues"]), ["app-secret"]);
    assert_eq!(all["Errors"].items()[0].str_at(["ErrorCode"]), Some("ResourceNotFoundException"));
}

#[test]
fn what_is_kept_is_encrypted_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let canary = "canary-9f31c7";
    {
        let w = world_in(Some(dir.path()));
        w.put("/home/app/db", canary);
        let made_up = w.cloud.generate(&w.declared).unwrap();
        assert_eq!(made_up.names, ["/home/key", "app-secret"], "what has a value keeps it");
    }
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        assert!(!content.windows(canary.len()).any(|w| w == canary.as_bytes()), "{}", path.display());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
    let w = world_in(Some(dir.path()));
    let got = w.ssm(&w.admin(), "GetParameter", r#"{"Name":"/home/app/db","WithDecryption":true}"#).unwrap();
    assert_eq!(got.str_at(["Parameter", "Value"]), Some(canary));
    let made_up = w.ssm(&w.admin(), "GetParameter", r#"{"Name":"/home/key","WithDecryption":true}"#).unwrap();
    assert!(made_up.str_at(["Parameter", "Value"]).unwrap().starts_with("rehearsal-"), "marked as made up");
    drop(w);
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    let config = Config { data_dir: Some(dir.path().into()), ..Config::default() };
    assert!(Cloud::open(config).unwrap_err().to_string().contains("replaced"));
}

#[test]
fn who_one_is() {
    let w = world();
    let app = w.app();
    let body = form([("Action", "GetCallerIdentity"), ("Version", "2011-06-15")]);
    let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let r = w.send("POST", "/", &headers, body.as_bytes(), Some((&app, "sts")));
    assert_eq!(xml::text(&text(&r), "Arn").as_deref(), Some("arn:aws:sts::111122223333:assumed-role/app/pod"));
    let anonymous = w.send("POST", "/", &headers, body.as_bytes(), None);
    assert_eq!(
        (anonymous.status, xml::text(&text(&anonymous), "Code")),
        (403, Some("MissingAuthenticationToken".into()))
    );
}
