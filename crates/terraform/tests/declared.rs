//! What is read from configurations, as a specification: each test is a small tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use druse_aws::iam::{Decision, HOLE, Request, evaluate, evaluate_trust};
use druse_kustomize::tree::MemoryTree;
use druse_terraform::{Declared, Document, Options, declared, roots};
use proptest::prelude::*;

fn tree(files: &[(&str, &str)]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for (path, text) in files {
        tree.insert(path, text.as_bytes().to_vec());
    }
    tree
}

fn read(files: &[(&str, &str)]) -> Declared {
    let d = declared(&tree(files), &Options::default());
    assert_eq!(d.errors, [], "the files parse");
    d
}

const PROVIDER: &str = r#"
provider "aws" {
  region              = "us-west-2"
  allowed_account_ids = ["111122223333"]
}
"#;

/// The names of parameters that a configuration of locals gives.
fn names(body: &str) -> Vec<String> {
    let d = read(&[("main.tf", &format!("{PROVIDER}{body}"))]);
    d.parameters.into_iter().map(|p| p.name.replace(HOLE, "?")).collect()
}

fn parameter(expression: &str) -> String {
    let body = format!("resource \"aws_ssm_parameter\" \"p\" {{\n  name = {expression}\n  type = \"String\"\n}}\n");
    names(&body).join("|")
}

#[test]
fn expressions_are_evaluated_as_terraform_does() {
    for (expression, value) in [
        (r#""a${1 + 2 * 3}b""#, "a7b"),
        (r#""${true ? "x" : "y"}""#, "x"),
        (r#"join("/", ["", "a", upper("b")])"#, "/a/B"),
        (r#"format("/%s/%03d/%v", "a", 7, true)"#, "/a/007/true"),
        (r#"replace("a/b/c", "/", "-")"#, "a-b-c"),
        (r#"split("/", "x/y")[1]"#, "y"),
        (r#"lookup({ a = "1" }, "b", "none")"#, "none"),
        (r#"merge({ a = "1" }, { a = "2" }).a"#, "2"),
        (r#"element(["a", "b"], 3)"#, "b"),
        (r#"join(",", [for k, v in { b = 1, a = 2 } : "${k}${v}" if v > 1])"#, "a2"),
        (r#"join(",", keys({ for x in ["q", "p"] : x => 1 }))"#, "p,q"),
        (r#"join(",", [{ n = "a" }, { n = "b" }][*].n)"#, "a,b"),
        (r#"join(",", flatten([["a"], ["b", ["c"]]]))"#, "a,b,c"),
        (r#"join(",", toset(["b", "a", "b"]))"#, "a,b"),
        (r#"jsondecode("{\"k\":\"v\"}").k"#, "v"),
        (r#"yamldecode("k: [v, w]").k[1]"#, "w"),
        (r#"coalesce("", "x")"#, "x"),
        (r#"trimprefix("/a", "/")"#, "a"),
        (r#"substr("abcdef", 1, 3)"#, "bcd"),
        (r#"try(nothing.here, "fallback")"#, "fallback"),
        (r#""%{for x in ["a", "b"]}<${x}>%{endfor}""#, "<a><b>"),
        (r#""%{if length([1]) == 1}yes%{else}no%{endif}""#, "yes"),
        ("<<-EOT\n    two\n      lines\n  EOT", "two\n  lines\n"),
        (r#""$${literal}""#, "${literal}"),
        (r#"length({ a = 1, b = 2 }) > 1 && !false ? "t" : "f""#, "t"),
        (r#"one([]) == null ? "none" : "some""#, "none"),
        (r#"lower("ABC")"#, "abc"),
        (r#"concat(["a"], ["b"])[1]"#, "b"),
        (r#"join("", [for i in range(3) : i])"#, "012"),
        (r#"base64decode(base64encode("x"))"#, "x"),
    ] {
        assert_eq!(parameter(expression), value, "{expression}");
    }
}

#[test]
fn what_cannot_be_resolved_is_a_hole_and_no_fault() {
    assert_eq!(parameter(r#""/a/${random_pet.name.id}/b""#), "/a/?/b");
    assert_eq!(parameter(r#"uuid()"#), "?");
    assert_eq!(parameter(r#"var.undeclared"#), "?");
    assert_eq!(parameter(r#""${data.external.x.result["k"]}""#), "?");
    assert_eq!(parameter("local.a"), "?");
    assert_eq!(
        names("locals {\n a = local.b\n b = local.a\n}\nresource \"aws_ssm_parameter\" \"p\" {\n name = local.a\n}\n"),
        ["?"],
        "a circle"
    );
}

#[test]
fn variables_come_from_defaults_and_tfvars() {
    let main = r#"
variable "one" { default = "default" }
variable "two" { default = "default" }
variable "three" {}
resource "aws_ssm_parameter" "p" { name = "/${var.one}/${var.two}/${var.three}" }
"#;
    let d = read(&[
        ("tf/main.tf", main),
        ("tf/terraform.tfvars", "two = \"given\"\nthree = \"x\"\n"),
        ("tf/b.auto.tfvars", "three = \"auto\"\n"),
    ]);
    assert_eq!(d.parameters[0].name, "/default/given/auto");
    let open = read(&[("tf/main.tf", main)]);
    assert_eq!(open.parameters[0].name, format!("/default/default/{HOLE}"));
}

#[test]
fn count_and_for_each_make_instances() {
    let body = r#"
locals { readers = { "a/b" = ["/x"], c = ["/y"] } }
resource "aws_ssm_parameter" "each" {
  for_each = local.readers
  name     = "/${each.key}${each.value[0]}"
}
resource "aws_ssm_parameter" "set" {
  for_each = toset(["s"])
  name     = "/${each.key}/${each.value}"
}
resource "aws_ssm_parameter" "counted" {
  count = 2
  name  = "/n${count.index}"
}
resource "aws_ssm_parameter" "none" {
  count = false ? 1 : 0
  name  = "/never"
}
resource "aws_ssm_parameter" "refers" { name = "${aws_ssm_parameter.counted[1].name}/${aws_ssm_parameter.each["c"].name}" }
"#;
    let mut found = names(body);
    found.sort();
    assert_eq!(found, ["/a/b/x", "/c/y", "/n0", "/n1", "/n1//c/y", "/s/s"]);
    let d =
        read(&[("main.tf", "resource \"aws_ssm_parameter\" \"p\" {\n  for_each = var.open\n  name = each.key\n}\n")]);
    assert_eq!(d.parameters, []);
    assert!(d.open[0].0.contains("how many aws_ssm_parameter.p"), "{:?}", d.open);
}

#[test]
fn local_modules_are_followed_and_no_roots() {
    let files = [
        (
            "live/main.tf",
            r#"
provider "aws" {
  region              = "eu-central-1"
  allowed_account_ids = [111122223333]
}
module "app" {
  source   = "../modules/app"
  for_each = toset(["one", "two"])
  name     = each.key
}
module "far" {
  source = "terraform-aws-modules/iam/aws"
}
resource "aws_ssm_parameter" "from_output" { name = "/out/${module.app["two"].path}" }
"#,
        ),
        (
            "modules/app/main.tf",
            r#"
variable "name" { type = string }
resource "aws_ssm_parameter" "p" { name = "/app/${var.name}" }
output "path" { value = aws_ssm_parameter.p.arn }
"#,
        ),
    ];
    assert_eq!(roots(&tree(&files)), ["live"]);
    let d = read(&files);
    let found: Vec<(&str, &str)> = d.parameters.iter().map(|p| (p.address.as_str(), p.name.as_str())).collect();
    assert_eq!(
        found,
        [
            ("aws_ssm_parameter.from_output", "/out/arn:aws:ssm:eu-central-1:111122223333:parameter/app/two"),
            ("module.app[\"one\"].aws_ssm_parameter.p", "/app/one"),
            ("module.app[\"two\"].aws_ssm_parameter.p", "/app/two"),
        ]
    );
    assert!(d.open.iter().any(|(why, place)| why.contains("module.far") && place.is_some()));
}

const ROLE: &str = r#"
resource "aws_s3_bucket" "oidc" { bucket = "home-oidc" }
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://${aws_s3_bucket.oidc.bucket_regional_domain_name}"
  client_id_list = ["sts.amazonaws.com"]
}
data "aws_caller_identity" "me" {}
data "aws_region" "here" {}
"#;

fn assume(d: &Declared, role: &str, subject: &str) -> Decision {
    let role = d.roles.iter().find(|r| r.name == role).unwrap();
    let provider = &d.providers[0];
    let request = Request::new("sts:AssumeRoleWithWebIdentity", "")
        .with(&format!("{}:sub", provider.issuer), subject)
        .with(&format!("{}:aud", provider.issuer), "sts.amazonaws.com");
    evaluate_trust(role.trust.policy().unwrap(), &provider.arn, &request)
}

fn may(d: &Declared, role: &str, action: &str, arn: &str) -> Decision {
    let role = d.roles.iter().find(|r| r.name == role).unwrap();
    let policies: Vec<_> = role.policies.iter().filter_map(|p| p.document.policy()).collect();
    evaluate(&policies, &Request::new(action, arn).with("aws:RequestedRegion", "us-west-2"))
}

#[test]
fn roles_written_with_jsonencode_keep_the_lines_of_statements() {
    let body = format!(
        r#"{PROVIDER}{ROLE}
resource "aws_iam_role" "reader" {{
  name = "reader"
  assume_role_policy = jsonencode({{
    Version = "2012-10-17"
    Statement = [{{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = {{ Federated = aws_iam_openid_connect_provider.cluster.arn }}
      Condition = {{
        StringEquals = {{
          "${{aws_iam_openid_connect_provider.cluster.url}}:sub" = "system:serviceaccount:ns:app"
          "${{aws_iam_openid_connect_provider.cluster.url}}:aud" = "sts.amazonaws.com"
        }}
      }}
    }}]
  }})
}}
resource "aws_iam_policy" "read" {{
  name = "read"
  policy = jsonencode({{
    Statement = [
      {{
        Effect = "Allow", Action = "ssm:GetParameters"
        Resource = "arn:aws:ssm:${{data.aws_region.here.name}}:${{data.aws_caller_identity.me.account_id}}:parameter/app"
      }},
    ]
  }})
}}
resource "aws_iam_role_policy_attachment" "read" {{
  role       = aws_iam_role.reader.name
  policy_arn = aws_iam_policy.read.arn
}}
"#
    );
    let d = read(&[("main.tf", &body)]);
    assert_eq!(d.providers[0].issuer, "home-oidc.s3.us-west-2.amazonaws.com");
    assert_eq!(d.roles[0].arn, "arn:aws:iam::111122223333:role/reader");
    assert_eq!(assume(&d, "reader", "system:serviceaccount:ns:app"), Decision::Allowed(0, 0));
    assert_eq!(assume(&d, "reader", "system:serviceaccount:ns:other"), Decision::NotAllowed);
    let arn = "arn:aws:ssm:us-west-2:111122223333:parameter/app";
    assert_eq!(may(&d, "reader", "ssm:GetParameters", arn), Decision::Allowed(0, 0));
    let line = |text: &str| u32::try_from(body.lines().position(|l| l.contains(text)).unwrap() + 1).unwrap();
    assert_eq!(d.roles[0].trust.statement_place(0).unwrap().line, line("Statement = [{"));
    assert_eq!(
        d.roles[0].policies[0].document.statement_place(0).unwrap().line,
        line("Effect = \"Allow\", Action = \"ssm") - 1
    );
    assert_eq!(d.roles[0].place.as_ref().unwrap().line, line("\"aws_iam_role\" \"reader\""));
}

#[test]
fn policy_documents_as_data_sources_inline_policies_and_dynamic_blocks() {
    let body = format!(
        r#"{PROVIDER}{ROLE}
locals {{ subjects = ["system:serviceaccount:ns:app"] }}
data "aws_iam_policy_document" "trust" {{
  statement {{
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {{
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }}
    dynamic "condition" {{
      for_each = {{ sub = local.subjects, aud = ["sts.amazonaws.com"] }}
      content {{
        test     = "StringEquals"
        variable = "${{aws_iam_openid_connect_provider.cluster.url}}:${{condition.key}}"
        values   = condition.value
      }}
    }}
  }}
}}
data "aws_iam_policy_document" "base" {{
  statement {{
    sid       = "Read"
    actions   = ["ssm:GetParameters"]
    resources = ["*"]
    condition {{
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = ["us-east-1"]
    }}
    condition {{
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = ["us-west-2"]
    }}
  }}
  statement {{
    actions   = ["s3:GetObject"]
    resources = ["arn:aws:s3:::&{{aws:username}}/*"]
  }}
}}
data "aws_iam_policy_document" "all" {{
  source_policy_documents = [data.aws_iam_policy_document.base.json]
  statement {{
    effect        = "Deny"
    actions       = ["ssm:*"]
    not_resources = ["arn:aws:ssm:us-west-2:111122223333:parameter/app/*"]
  }}
}}
resource "aws_iam_role" "reader" {{
  name               = "reader"
  path               = "/team/"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  inline_policy {{
    name   = "all"
    policy = data.aws_iam_policy_document.all.json
  }}
}}
resource "aws_iam_role_policy" "kms" {{
  role   = aws_iam_role.reader.id
  policy = <<EOT
{{"Statement":[{{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}]}}
EOT
}}
"#
    );
    let d = read(&[("main.tf", &body)]);
    assert_eq!(d.roles[0].arn, "arn:aws:iam::111122223333:role/team/reader");
    assert_eq!(assume(&d, "reader", "system:serviceaccount:ns:app"), Decision::Allowed(0, 0));
    assert_eq!(
        may(&d, "reader", "ssm:GetParameters", "arn:aws:ssm:us-west-2:111122223333:parameter/app/x"),
        Decision::Allowed(0, 0)
    );
    assert!(matches!(
        may(&d, "reader", "ssm:GetParameters", "arn:aws:ssm:us-west-2:111122223333:parameter/x"),
        Decision::Denied(..)
    ));
    assert!(matches!(may(&d, "reader", "kms:Decrypt", "k"), Decision::Allowed(..)));
    assert!(
        matches!(may(&d, "reader", "s3:GetObject", "arn:aws:s3:::x/y"), Decision::Unknown(_)),
        "whose is not known"
    );
}

#[test]
fn attachments_that_are_not_declared_leave_a_role_open() {
    let body = format!(
        r#"{PROVIDER}
resource "aws_iam_role" "r" {{
  name               = "r"
  assume_role_policy = file("${{path.module}}/trust.json")
}}
resource "aws_iam_role_policy_attachment" "managed" {{
  role       = aws_iam_role.r.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess"
}}
"#
    );
    let d = read(&[("tf/main.tf", &body), ("tf/trust.json", "{\"Statement\":[]}")]);
    assert!(
        matches!(&d.roles[0].policies[0].document, Document::Unknown { why, .. } if why.contains("AmazonSSMReadOnlyAccess"))
    );
    assert_eq!(&*d.roles[0].trust.place().unwrap().file, "tf/trust.json");
}

#[test]
fn a_broken_file_is_reported_with_its_line_and_the_rest_is_read() {
    let t = tree(&[
        ("tf/bad.tf", "locals {\n  a = [\n}\n"),
        ("tf/good.tf", "resource \"aws_ssm_parameter\" \"p\" { name = \"/x\" }\n"),
        ("deep/main.tf", &format!("locals {{ a = {}1{} }}", "[".repeat(5000), "]".repeat(5000))),
    ]);
    let d = declared(&t, &Options::default());
    assert_eq!(d.parameters[0].name, "/x");
    let places: Vec<String> = d.errors.iter().map(|e| e.place.file.to_string()).collect();
    assert_eq!(places, ["deep/main.tf", "tf/bad.tf"]);
    assert!(d.errors[1].place.line >= 2, "{:?}", d.errors[1]);
}

#[test]
fn the_fixtures_are_read_whole() {
    let Some(shared) = std::env::var_os("DRUSE_SHARED") else {
        eprintln!("skipped: DRUSE_SHARED names no folder with fixtures");
        return;
    };
    for (fixture, most_unknown) in [("homelab-2024-04", 0), ("homelab-2026-08", 0)] {
        let path = std::path::Path::new(&shared).join("fixtures").join(fixture);
        let tree = druse_kustomize::tree::DiskTree::new(&path).unwrap();
        let d = declared(&tree, &Options::default());
        assert_eq!(d.errors, []);
        assert!(d.roles.len() > 15, "{fixture}: {}", d.roles.len());
        assert_eq!(d.providers[0].issuer, "amethyst-kubernetes-oidc.s3.us-west-2.amazonaws.com");
        let unknown = d.roles.iter().filter(|r| r.trust.policy().is_none() || r.arn.contains(HOLE)).count();
        assert_eq!(unknown, most_unknown, "{fixture}");
        assert!(d.roles.iter().all(|r| !r.policies.is_empty()), "{fixture}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panicking(text in "[a-z_\"${}()\\[\\]=:?.*%<!\\-\n ]{0,200}") {
        let _ = declared(&tree(&[("main.tf", &text)]), &Options::default());
    }
    #[test]
    fn any_expression_is_evaluated_without_panicking(text in "[a-z0-9_\"${}()\\[\\]=:?.*%,+/<!\\- ]{0,80}") {
        let body = format!("resource \"aws_ssm_parameter\" \"p\" {{\n  name = {text}\n}}\n");
        let _ = declared(&tree(&[("main.tf", &body)]), &Options::default());
    }
}
