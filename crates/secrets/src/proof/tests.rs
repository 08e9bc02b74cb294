use super::*;
use druse_kustomize::tree::MemoryTree;
use druse_object::{Provenance, yaml};
use druse_terraform::{Options, declared};

const CLASS: &str = "
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: ns}
spec:
  provider: aws
  parameters:
    objects: |
      - objectName: /home/app/db
        objectType: ssmparameter
        objectAlias: db
  secretObjects:
    - secretName: app
      data: [{key: db, objectName: db}]
";
const ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata:
  name: app
  namespace: ns
  annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/app'}
";
const POD: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: ns}
spec:
  template:
    spec:
      serviceAccountName: app
      containers: [{name: c, volumeMounts: [{name: s, mountPath: /s}]}]
      volumes:
        - name: s
          csi: {driver: secrets-store.csi.k8s.io, volumeAttributes: {secretProviderClass: app}}
";
const TERRAFORM: &str = r#"provider "aws" {
  region              = "us-west-2"
  allowed_account_ids = ["111122223333"]
}
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://oidc.example"
  client_id_list = ["sts.amazonaws.com"]
}
resource "aws_iam_role" "app" {
  name = "app"
  assume_role_policy = jsonencode({ Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Principal = { Federated = aws_iam_openid_connect_provider.cluster.arn }
    Condition = { StringEquals = {
      "oidc.example:sub" = "system:serviceaccount:ns:app"
      "oidc.example:aud" = "sts.amazonaws.com"
    } }
  }] })
}
resource "aws_iam_role_policy" "app" {
  role   = aws_iam_role.app.name
  policy = jsonencode({ Statement = [{
    Effect   = "Allow"
    Action   = "ssm:GetParameters"
    Resource = "arn:aws:ssm:us-west-2:111122223333:parameter/home/app/db"
  }] })
}
resource "aws_ssm_parameter" "db" {
  name = "/home/app/db"
  type = "SecureString"
}
"#;

struct World {
    objects: Vec<String>,
    terraform: String,
    issuer: Option<&'static str>,
    unrendered: Vec<String>,
}

fn world() -> World {
    World {
        objects: [CLASS, ACCOUNT, POD].map(String::from).to_vec(),
        terraform: TERRAFORM.into(),
        issuer: Some("https://oidc.example"),
        unrendered: Vec::new(),
    }
}

impl World {
    /// Replaces a text in the objects or the Terraform; it must be there.
    fn with(mut self, from: &str, to: &str) -> Self {
        let mut found = self.terraform.contains(from);
        self.terraform = self.terraform.replace(from, to);
        for o in &mut self.objects {
            found |= o.contains(from);
            *o = o.replace(from, to);
        }
        assert!(found, "{from:?} is in the world");
        self
    }

    fn without(mut self, kind: &str) -> Self {
        self.objects.retain(|o| !o.contains(&format!("kind: {kind}\n")));
        self
    }

    fn prove(&self) -> Proof {
        let mut tree = MemoryTree::new();
        tree.insert("tf/main.tf", self.terraform.as_bytes().to_vec());
        let declared = declared(&tree, &Options::default());
        let place = |file: &str, line| Place { file: file.into(), line };
        let objects: Vec<Object> = self
            .objects
            .iter()
            .map(|o| Object { value: yaml::parse_strict(o).unwrap(), provenance: Provenance::default() })
            .collect();
        let objects =
            objects.iter().zip(1..).map(|(object, n)| Declaration { object, place: Some(place("app.yaml", n)) });
        prove(&Input {
            objects: objects.collect(),
            declared: &declared,
            issuer: self.issuer.map(|i| (i.to_string(), place("machine.yaml", 7))),
            annotation_prefix: "eks.amazonaws.com".into(),
            unrendered: self
                .unrendered
                .iter()
                .map(|t| Unrendered {
                    id: "HelmRelease/ns/x".into(),
                    place: None,
                    text: t.clone(),
                    opaque: t.is_empty(),
                    failed: t.is_empty(),
                })
                .collect(),
        })
    }

    /// The findings as `severity code`, all of them.
    fn found(&self) -> Vec<String> {
        self.prove().findings.iter().map(|f| format!("{:?} {}", f.severity, f.code)).collect()
    }

    /// The only finding.
    fn only(&self) -> Finding {
        let mut findings = self.prove().findings;
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }
}

fn place(p: &Option<Place>) -> String {
    p.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_whole_path_is_proven() {
    let proof = world().prove();
    assert_eq!(proof.findings, []);
    assert_eq!((proof.volumes, proof.proven, proof.objects), (1, 1, 1));
    let mut without_issuer = world();
    without_issuer.issuer = None;
    assert_eq!(without_issuer.found(), [""; 0]);
}

/// The driver's DaemonSet and what its ServiceAccount may do.
const DRIVER_OBJECTS: [&str; 3] = [
    "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: driver, namespace: kube-system}
spec:
  template:
    spec:
      serviceAccountName: driver
      volumes: [{name: plugin-dir, hostPath: {path: /var/lib/kubelet/plugins/csi-secrets-store/}}]
",
    "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sync}
rules: [{apiGroups: [''], resources: [secrets], verbs: [get, create]}]
",
    "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sync}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sync}
subjects: [{kind: ServiceAccount, name: driver, namespace: kube-system}]
",
];

#[test]
fn secrets_are_synced_by_a_driver_that_may_make_them() {
    let with = |objects: &[&str]| {
        let mut world = world();
        world.objects.extend(objects.iter().map(ToString::to_string));
        world
    };
    assert_eq!(with(&DRIVER_OBJECTS).found(), [""; 0]);
    let [driver, role, binding] = DRIVER_OBJECTS;
    // Its role is declared elsewhere: nobody knows what it allows.
    assert_eq!(with(&[driver, binding]).found(), [""; 0]);
    for broken in [with(&[driver]), with(&[driver, role]), with(&DRIVER_OBJECTS).with("[get, create]", "[get, list]")] {
        let finding = broken.only();
        assert_eq!((finding.severity, finding.code), (Severity::Error, "sync-rights"));
        assert_eq!((place(&finding.from), place(&finding.to)), ("app.yaml:1".into(), "app.yaml:4".into()));
        assert!(finding.message.contains("asks for Secret app, but the driver (DaemonSet kube-system/driver)"));
        assert_eq!(broken.prove().proven, 0);
    }
    // A class that asks for no Secret does not need it.
    let file_only =
        with(&[driver]).with("  secretObjects:\n    - secretName: app\n      data: [{key: db, objectName: db}]\n", "");
    assert_eq!(file_only.found(), [""; 0]);
}

#[test]
fn each_break_is_one_finding_with_both_ends() {
    let line = |text: &str| TERRAFORM.lines().position(|l| l.contains(text)).unwrap() + 1;
    let tf = |text: &str| format!("tf/main.tf:{}", line(text));
    let statement = tf;
    let breaks = [
        (world().with("provider: aws", "provider: AWS"), "class-provider", "app.yaml:3", "app.yaml:1".to_string()),
        (
            world().with("objectType: ssmparameter", "objectType: ssm"),
            "class-objects",
            "app.yaml:3",
            "app.yaml:1".into(),
        ),
        (
            world().with("secretProviderClass: app", "secretProviderClass: apps"),
            "class-missing",
            "app.yaml:3",
            "app.yaml:1".into(),
        ),
        (
            world().with("data: [{key: db, objectName: db}]", "data: [{key: db, objectName: dbx}]"),
            "sync-object",
            "app.yaml:3",
            "app.yaml:1".into(),
        ),
        (
            world().with("parameter/home/app/db\"", "parameter//home/app/db\""),
            "permission-missing",
            "app.yaml:1",
            statement("  policy = jsonencode"),
        ),
        (world().with("role-arn", "rolearn"), "account-role", "app.yaml:3", "app.yaml:2".into()),
        (world().with("role/app'", "role/apq'"), "role-missing", "app.yaml:2", statement("aws_iam_role\" \"app")),
        (
            world().with("\"system:serviceaccount:ns:app\"", "\"system:serviceaccount:ns:ape\""),
            "trust-subject",
            "app.yaml:2",
            statement("assume_role_policy"),
        ),
        (
            world().with("\"oidc.example:aud\" = \"sts.amazonaws.com\"", "\"oidc.example:aud\" = \"vault\""),
            "trust-audience",
            "app.yaml:2",
            statement("assume_role_policy"),
        ),
        (
            world().with("\"oidc.example:sub\" =", "\"oidc.exarnple:sub\" ="),
            "trust-issuer",
            "app.yaml:2",
            statement("assume_role_policy"),
        ),
        (
            world()
                .with("StringEquals = {\n      \"oidc.example:sub\" = \"system:serviceaccount:ns:app\"\n      \"oidc.example:aud\" = \"sts.amazonaws.com\"",
                    "StringLike = {\n      \"oidc.example:sub\" = \"system:serviceaccount:ns:*\"\n      \"oidc.example:aud\" = \"sts.amazonaws.com.cn\""),
            "trust-audience",
            "app.yaml:2",
            statement("assume_role_policy"),
        ),
        (
            world()
                .with("aws_iam_openid_connect_provider.cluster.arn", "\"arn:aws:iam::111122223333:oidc-provider/x\""),
            "trust-provider",
            "app.yaml:2",
            statement("assume_role_policy"),
        ),
        (
            world().with("Action    = \"sts:AssumeRoleWithWebIdentity\"", "Action    = \"sts:AssumeRole\""),
            "trust-action",
            "app.yaml:2",
            statement("assume_role_policy"),
        ),
        (
            world().with("client_id_list = [\"sts.amazonaws.com\"]", "client_id_list = [\"x\"]"),
            "audience",
            "machine.yaml:7",
            statement("aws_iam_openid_connect_provider\" \"cluster"),
        ),
        (
            world().with("ssm:GetParameters", "ssm:GetParameter"),
            "permission-missing",
            "app.yaml:1",
            statement("  policy = jsonencode"),
        ),
        (world().with("Effect   = \"Allow\"", "Effect   = \"Deny\""), "permission-denied", "app.yaml:1", String::new()),
        (
            world().with("type = \"SecureString\"", "type = \"SecureString\"\n  key_id = \"alias/home\""),
            "kms",
            "app.yaml:1",
            statement("aws_ssm_parameter\" \"db"),
        ),
    ];
    for (world, code, from, to) in breaks {
        let f = world.only();
        assert_eq!((f.severity, f.code), (Severity::Error, code), "{}", f.message);
        assert_eq!(place(&f.from), from, "{}", f.message);
        if !to.is_empty() {
            assert_eq!(place(&f.to), to, "{}", f.message);
        }
        assert_eq!(world.prove().proven, 0, "{code}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let f = world().without("SecretProviderClass").only();
    assert_eq!((f.severity, f.code), (Severity::Error, "class-missing"));
    let f = world().without("ServiceAccount").only();
    assert_eq!((f.severity, f.code), (Severity::Error, "account-missing"));
    let elsewhere = world().with(
        "metadata: {name: app, namespace: ns}\nspec:\n  provider",
        "metadata: {name: app, namespace: other}\nspec:\n  provider",
    );
    let f = elsewhere.only();
    assert!(f.message.contains("there is one in other, which pods of ns cannot use"), "{}", f.message);
    let f = world().with("serviceAccountName: app", "nodeName: x").prove().findings.remove(0);
    assert!(f.message.contains("default of ns"), "{}", f.message);
}

/// A module that is not local may declare anything; what contradicts itself is a fault all the same.
#[test]
fn what_a_remote_module_may_declare_does_not_hide_a_contradiction() {
    let mut w = world();
    w.terraform.push_str("module \"alerts\" {\n  source = \"grafana/alerts\"\n}\n");
    let w =
        || World { objects: w.objects.clone(), terraform: w.terraform.clone(), issuer: w.issuer, unrendered: vec![] };
    let errors = |w: World| {
        let found = w.prove().findings;
        let errors: Vec<&str> = found.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code).collect();
        errors.join(" ")
    };
    assert_eq!(errors(w()), "");
    assert_eq!(errors(w().with("role/app'", "role/apps'")), "role-missing", "another role trusts the account");
    assert_eq!(errors(World { issuer: Some("https://other.example"), ..w() }), "issuer");
    let stranger = w().with("role/app'", "role/apps'").with("serviceaccount:ns:app\"", "serviceaccount:ns:x\"");
    assert_eq!(errors(stranger), "", "the module may declare it");
}

#[test]
fn what_was_not_rendered_may_bring_what_is_missing() {
    let mut w = world().without("ServiceAccount");
    w.unrendered.push(r#"{"serviceAccount":{"name":"app"},"role":"arn:aws:iam::111122223333:role/app"}"#.into());
    assert_eq!(w.found(), ["Unknown account-missing"]);
    let mut w = world().without("Deployment");
    assert_eq!(w.found(), ["Warning class-unused"]);
    w.unrendered.push("secretProviderClass: app".into());
    assert_eq!(w.found(), ["Unknown unrendered"]);
}

#[test]
fn the_issuer_must_be_a_provider() {
    let mut w = world();
    w.issuer = Some("https://other.example");
    let f = w.only();
    assert_eq!((f.code, place(&f.from).as_str()), ("issuer", "machine.yaml:7"));
    assert!(f.message.contains("declared is oidc.example"), "{}", f.message);
}

#[test]
fn slashes_in_arns_are_explained() {
    let f = world().with("parameter/home/app/db\"", "parameter//home/app/db\"").prove().findings.remove(0);
    assert!(f.message.contains("not parameter//a/b"), "{}", f.message);
}

#[test]
fn what_is_not_known_is_no_fault() {
    assert_eq!(
        world().with("allowed_account_ids = [\"111122223333\"]", "profile = \"x\"").found(),
        ["Unknown permission-unknown", "Unknown trust-unknown"],
        "not without the account"
    );
    assert_eq!(
        world().with("name = \"app\"\n  assume", "name = random_id.x.hex\n  assume").found(),
        [""; 0],
        "one role may be the one"
    );
    let w =
        world().with("\"oidc.example:sub\" = \"system:serviceaccount:ns:app\"", "\"oidc.example:sub\" = var.subject");
    assert_eq!(w.found(), ["Unknown trust-unknown"]);
    let w = world().with(
        "policy = jsonencode({ Statement = [{\n    Effect   = \"Allow\"\n    Action   = \"ssm:GetParameters\"",
        "policy = jsonencode({ Statement = [{\n    Effect   = \"Allow\"\n    Action   = var.action",
    );
    assert!(w.found().contains(&"Unknown permission-unknown".to_string()), "{:?}", w.found());
}

#[test]
fn looking_back_finds_what_nobody_uses() {
    let w = world().with("resource \"aws_ssm_parameter\" \"db\"", "resource \"aws_ssm_parameter\" \"spare\" {\n  name = \"/home/spare\"\n}\nresource \"aws_ssm_parameter\" \"db\"");
    assert_eq!(w.found(), ["Warning parameter-unread"]);
    let mut w = world();
    w.objects.clear();
    assert_eq!(w.found(), ["Warning role-unused", "Warning parameter-unread"]);
    w.unrendered.push("arn:aws:iam::111122223333:role/app and /home/app/db".into());
    assert_eq!(w.found(), [""; 0]);
    assert_eq!(world().with("\"ssm:GetParameters\"", "[\"ssm:GetParameter*\"]").found(), ["Warning permission-wide"]);
    assert_eq!(world().with("parameter/home/app/db\"", "parameter/home/*\"").found(), ["Warning permission-wide"]);
}

#[test]
fn trust_that_lets_in_too_many_is_a_warning() {
    let wide = world().with(
        "Condition = { StringEquals = {\n      \"oidc.example:sub\" = \"system:serviceaccount:ns:app\"",
        "Condition = { StringLike = {\n      \"oidc.example:sub\" = \"system:serviceaccount:ns:*\"",
    );
    let f = wide.only();
    assert_eq!((f.severity, f.code), (Severity::Warning, "trust-wide"));
    assert!(f.message.contains("every ServiceAccount of the namespace"), "{}", f.message);
}

#[test]
fn volumes_of_other_kinds_are_followed() {
    let workflow = "
apiVersion: argoproj.io/v1alpha1
kind: CronWorkflow
metadata: {name: w, namespace: ns}
spec:
  workflowSpec:
    volumes:
      - name: s
        csi: {driver: secrets-store.csi.k8s.io, volumeAttributes: {secretProviderClass: app}}
    templates:
      - {name: a, serviceAccountName: other, container: {image: x}}
      - {name: b, serviceAccountName: app, container: {volumeMounts: [{name: s, mountPath: /s}]}}
";
    let mut w = world().without("Deployment");
    w.objects.push(workflow.into());
    let proof = w.prove();
    assert_eq!((proof.findings.len(), proof.proven), (0, 1), "{:?}", proof.findings);
    let f = world().with("mountPath: /s}]", "mountPath: /s, subPath: db}]").only();
    assert_eq!((f.severity, f.code), (Severity::Warning, "sub-path"));
}

/// Two pods, each with a role, a class and a parameter of its own; what is wrong with one of them is told once.
fn two() -> World {
    let mut w = world();
    let other = |o: &String| o.replace("app", "web").replace("{name: c", "{name: d");
    let more: Vec<String> = w.objects.iter().map(other).collect();
    w.objects.extend(more);
    let at = TERRAFORM.find("resource \"aws_iam_role\"").unwrap();
    let second = TERRAFORM[at..].replace("app", "web").replace("\"db\"", "\"web\"");
    w.terraform.push_str(&second);
    w
}

#[test]
fn one_break_is_one_finding_though_much_follows_from_it() {
    assert_eq!(two().found(), [""; 0]);
    let tf = |text: &str| {
        let w = two();
        format!("tf/main.tf:{}", w.terraform.lines().position(|l| l.contains(text)).unwrap() + 1)
    };
    let only = |world: World, code: &str, ends: (&str, &str), words: &str| {
        let f = world.only();
        assert_eq!(f.code, code, "{}", f.message);
        assert_eq!((place(&f.from).as_str(), place(&f.to).as_str()), ends, "{}", f.message);
        assert!(f.message.contains(words), "{}", f.message);
    };
    // The role of another: neither what that may read, nor who uses one's own, is a fault besides.
    let one = |from: &str, to: &str| {
        let mut w = two();
        let n = w.objects.iter().position(|o| o.contains(from)).unwrap();
        w.objects[n] = w.objects[n].replace(from, to);
        w
    };
    let trust = tf("ns:web\"");
    let line: usize = trust.rsplit(':').next().unwrap().parse().unwrap();
    let trust = format!("tf/main.tf:{}", line - 5);
    let words = "the role that trusts it is app";
    only(one("role/app'", "role/web'"), "trust-subject", ("app.yaml:2", &trust), words);
    // A name that nobody declares and nobody may read; the declared one is not told as read by nobody.
    let policy = tf("  policy = jsonencode");
    let words = "nor is it declared (the nearest parameter is /home/app/db)";
    only(
        one("objectName: /home/app/db", "objectName: /home/app/dbs"),
        "permission-missing",
        ("app.yaml:1", &policy),
        words,
    );
    let region = one("objects: |", "region: eu-west-1\n    objects: |");
    only(region, "permission-missing", ("app.yaml:1", &policy), "nor is it declared");
    // A policy that is another role's: it is not told as wider than what that one reads.
    let mut moved = two();
    moved.terraform = moved.terraform.replacen("role   = aws_iam_role.app.name", "role   = aws_iam_role.web.name", 1);
    only(
        moved,
        "permission-missing",
        ("app.yaml:1", &policy),
        "role web may: is that policy attached to the right role?",
    );
    // A driver of another name, a volume without a class.
    let driver = one("driver: secrets-store.csi.k8s.io", "driver: secret-store.csi.k8s.io");
    only(driver, "driver", ("app.yaml:3", "app.yaml:1"), "secret-store.csi.k8s.io");
    let nameless = one(", volumeAttributes: {secretProviderClass: app}", "");
    only(nameless, "class-missing", ("app.yaml:3", "app.yaml:1"), "names no secretProviderClass");
    let sub_path = one("mountPath: /s}", "mountPath: /s, subPath: db}");
    only(sub_path, "sub-path", ("app.yaml:3", "app.yaml:1"), "never rotates");

    // Secrets Manager needs two actions: that both are missing is one break.
    let secret = world()
        .with("objectType: ssmparameter", "objectType: secretsmanager")
        .with("objectName: /home/app/db", "objectName: app-db")
        .with("ssm:GetParameters", "secretsmanager:ListSecrets")
        .with("resource \"aws_ssm_parameter\" \"db\" {\n  name = \"/home/app/db\"\n  type = \"SecureString\"\n}", "");
    only(
        secret,
        "permission-missing",
        ("app.yaml:1", "tf/main.tf:9"),
        "may not secretsmanager:GetSecretValue, secretsmanager:DescribeSecret",
    );
}

#[test]
fn what_could_not_be_rendered_is_said_and_may_be_what_uses_the_rest() {
    let mut w = world();
    w.objects.clear();
    w.unrendered.push(String::new());
    assert_eq!(w.found(), ["Unknown unrendered"], "neither a role nor a parameter is surely used by nobody");
}

#[test]
fn keys_are_told_apart_by_their_declarations() {
    const KEYS: &str = r#"
resource "aws_kms_key" "home" {}
resource "aws_kms_key" "other" {}
resource "aws_kms_alias" "home" {
  name          = "alias/home"
  target_key_id = aws_kms_key.home.key_id
}
"#;
    let with = |key: &str, resource: &str| {
        let mut w = world().with("type = \"SecureString\"", &format!("type = \"SecureString\"\n  key_id = {key}"));
        let decrypt = format!(
            "resource \"aws_iam_role_policy\" \"key\" {{\n  role   = aws_iam_role.app.name\n  policy = jsonencode({{ \
             Statement = [{{ Effect = \"Allow\", Action = \"kms:Decrypt\", Resource = {resource} }}] }})\n}}\n"
        );
        w.terraform = format!("{}{KEYS}{decrypt}", w.terraform);
        w
    };
    let id = "\"arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"";
    for key in ["aws_kms_key.home.key_id", "aws_kms_key.home.arn", "aws_kms_alias.home.name", "\"alias/home\""] {
        for resource in ["aws_kms_key.home.arn", "aws_kms_alias.home.target_key_arn", "\"*\"", id] {
            assert_eq!(with(key, resource).found(), [""; 0], "{key} {resource}");
        }
        for (resource, words) in [
            (
                "aws_kms_key.other.arn",
                "the nearest allows it with arn:aws:kms:us-west-2:111122223333:key/aws_kms_key.other",
            ),
            ("aws_kms_alias.home.arn", "an alias among a policy's resources allows nothing"),
        ] {
            let f = with(key, resource).only();
            assert!(f.code == "kms" && f.message.contains(words), "{key} {resource}: {}", f.message);
        }
    }
    // One that is made elsewhere may be any.
    assert_eq!(with("\"alias/elsewhere\"", id).found(), [""; 0]);
    let parameter = TERRAFORM.lines().position(|l| l.contains("aws_ssm_parameter\" \"db")).unwrap() + 1;
    let to = with("aws_kms_key.home.arn", "aws_kms_key.other.arn").only().to;
    assert_eq!(place(&to), format!("tf/main.tf:{parameter}"));
}
