//! What a configuration declares of AWS, and the attributes that AWS' provider computes.

use std::rc::Rc;

use druse_aws::endpoint::{domain, partition};
use druse_aws::iam::{HOLE, provider_name};
use druse_kustomize::tree::FileTree;

use crate::Options;
use crate::eval::Env;
use crate::kms::{Alias, is_key};
use crate::load::{Decl, LoadError, roots};
use crate::policy::{Document, blocks, from_data_source};
use crate::scope::{Key, Name, Scope};
use crate::value::{Place, Value};

/// A role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Its address, as Terraform prints it.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Where it is declared.
    pub place: Option<Place>,
    /// Who may assume it.
    pub trust: Document,
    /// What it may do.
    pub policies: Vec<RolePolicy>,
    /// Why its policies may not be all: an attachment that cannot be resolved.
    pub open: Option<String>,
}

/// A policy of a role.
#[derive(Clone, Debug, PartialEq)]
pub struct RolePolicy {
    /// The address of the policy.
    pub address: String,
    /// Its document.
    pub document: Document,
}

/// An OIDC identity provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its address.
    pub address: String,
    /// The issuer's host and path.
    pub issuer: String,
    /// Its ARN.
    pub arn: String,
    /// The audiences it takes.
    pub client_ids: Vec<String>,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `SecureString`, `String` or `StringList`.
    pub kind: String,
    /// The KMS key that encrypts it, when it is not the account's own.
    pub key_id: Option<String>,
    /// The value that the configuration itself sets, where it is known: mostly words that stand for a value that a person
    /// sets later.
    pub value: Option<String>,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// A secret of Secrets Manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its ARN, the random ending unknown.
    pub arn: String,
    /// The KMS key that encrypts it, when it is not the account's own.
    pub key_id: Option<String>,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// The host that serves it in its region.
    pub host: String,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// What a tree declares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// Roles.
    pub roles: Vec<Role>,
    /// OIDC providers.
    pub providers: Vec<Provider>,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// Secrets.
    pub secrets: Vec<Secret>,
    /// Other names of KMS keys.
    pub aliases: Vec<Alias>,
    /// Buckets.
    pub buckets: Vec<Bucket>,
    /// Files that could not be read.
    pub errors: Vec<LoadError>,
    /// What is not known as a whole: resources whose number is open, modules that are not local.
    pub open: Vec<(String, Option<Place>)>,
    /// The root modules.
    pub roots: Vec<String>,
    /// The regions of the roots that declare something, where known.
    pub regions: Vec<String>,
}

/// Reads all root modules of a tree.
#[must_use]
pub fn declared(tree: &dyn FileTree, options: &Options) -> Declared {
    let mut all = Declared::default();
    for root in roots(tree) {
        let mut errors = Vec::new();
        let mut scope = Scope::load(tree, options, &root, &mut errors);
        scope.read_tfvars(&mut errors);
        let mut found = Found::default();
        collect(&scope, &mut found, &mut errors);
        found.attach();
        if let Some(region) = scope.region().text().filter(|r| !r.contains(HOLE)) {
            all.regions.push(region);
        }
        all.roles.extend(found.roles);
        all.providers.extend(found.providers);
        all.parameters.extend(found.parameters);
        all.secrets.extend(found.secrets);
        all.aliases.extend(found.aliases);
        all.buckets.extend(found.buckets);
        all.open.extend(found.open);
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        errors.dedup();
        all.errors.extend(errors);
        all.roots.push(root);
    }
    all.regions.sort();
    all.regions.dedup();
    all
}

#[derive(Default)]
struct Found {
    roles: Vec<Role>,
    providers: Vec<Provider>,
    parameters: Vec<Parameter>,
    secrets: Vec<Secret>,
    aliases: Vec<Alias>,
    buckets: Vec<Bucket>,
    open: Vec<(String, Option<Place>)>,
    /// Policies of their own: ARN → policy.
    policies: Vec<(String, RolePolicy)>,
    /// Inline policies: role name → policy.
    inline: Vec<(String, RolePolicy)>,
    /// Attachments: role name, policy ARN, address.
    attachments: Vec<(String, String, String)>,
}

impl Found {
    fn attach(&mut self) {
        let mut open = None;
        for (role, policy) in std::mem::take(&mut self.inline) {
            match self.roles.iter_mut().find(|r| r.name == role) {
                Some(r) => r.policies.push(policy),
                None if role.contains(HOLE) => open = Some(format!("the role of {} is not known", policy.address)),
                None => {}
            }
        }
        for (role, arn, address) in std::mem::take(&mut self.attachments) {
            let policy = self.policies.iter().find(|(a, _)| *a == arn).map(|(_, p)| p.clone());
            let why = || format!("policy {} is not declared in the tree", arn.replace(HOLE, "?"));
            let policy = policy.unwrap_or_else(|| RolePolicy {
                address: address.clone(),
                document: Document::Unknown { why: why(), place: None },
            });
            match self.roles.iter_mut().find(|r| r.name == role) {
                Some(r) => r.policies.push(policy),
                None if role.contains(HOLE) => open = Some(format!("the role of {address} is not known")),
                None => {}
            }
        }
        for r in &mut self.roles {
            r.open.clone_from(&open);
        }
    }
}

fn collect(scope: &Scope<'_>, found: &mut Found, errors: &mut Vec<LoadError>) {
    for (name, decl) in &scope.resources {
        if name.0 || !name.1.starts_with("aws_") {
            continue;
        }
        let address = format!("{}{}.{}", scope.address, name.1, name.2);
        match scope.keys(decl) {
            Some(keys) => {
                for key in keys {
                    let at = Instance { scope, name, decl, key: &key, address: format!("{address}{}", key.suffix()) };
                    at.collect(found);
                }
            }
            None => found.open.push((format!("how many {address} there are is not known"), decl.place())),
        }
    }
    for (name, decl) in &scope.modules {
        match scope.child(name, errors) {
            Some(children) => children.iter().for_each(|(_, child)| collect(child, found, errors)),
            None => {
                let why = format!("{}module.{name} is not local, or its instances are not known", scope.address);
                found.open.push((why, decl.place()));
            }
        }
    }
}

struct Instance<'a, 't> {
    scope: &'a Scope<'t>,
    name: &'a Name,
    decl: &'a Rc<Decl>,
    key: &'a Key,
    address: String,
}

impl Instance<'_, '_> {
    fn value(&self, attribute: &str) -> Value {
        self.scope.attribute(self.name, self.decl, self.key, attribute)
    }

    /// A text; what is unknown is a hole, what is absent empty.
    fn text(&self, attribute: &str) -> String {
        self.value(attribute).text().unwrap_or_default()
    }

    fn written(&self, attribute: &str) -> bool {
        self.decl.block.body.get_attribute(attribute).is_some()
    }

    fn policy(&self, attribute: &str) -> RolePolicy {
        RolePolicy { address: self.address.clone(), document: Document::of(&self.value(attribute)) }
    }

    fn key_id(&self) -> Option<String> {
        let v = self.value("kms_key_id");
        let v = if v.is_null() { self.value("key_id") } else { v };
        if self.written("kms_key_id") || self.written("key_id") { v.text() } else { None }
    }

    fn collect(self, found: &mut Found) {
        let (address, place) = (self.address.clone(), self.decl.place());
        match self.name.1.as_str() {
            "aws_iam_role" => {
                let env = Env::new(self.scope, &self.decl.file).with_key(self.key);
                let name = self.text("name");
                match blocks(&env, &self.decl.block.body, "inline_policy") {
                    Ok(list) => {
                        for (b, env) in list {
                            if let Some(a) = b.body.get_attribute("policy") {
                                let document = Document::of(&env.eval(&a.value));
                                found.inline.push((name.clone(), RolePolicy { address: address.clone(), document }));
                            }
                        }
                    }
                    Err(why) => found.open.push((why, place.clone())),
                }
                for arn in self.value("managed_policy_arns").items() {
                    found.attachments.push((name.clone(), arn.text().unwrap_or_default(), address.clone()));
                }
                let trust = Document::of(&self.value("assume_role_policy"));
                let arn = self.text("arn");
                found.roles.push(Role { address, name, arn, place, trust, policies: Vec::new(), open: None });
            }
            "aws_iam_policy" => found.policies.push((self.text("arn"), self.policy("policy"))),
            "aws_iam_role_policy" => found.inline.push((self.text("role"), self.policy("policy"))),
            "aws_iam_role_policy_attachment" => {
                found.attachments.push((self.text("role"), self.text("policy_arn"), address));
            }
            "aws_iam_policy_attachment" => {
                for role in self.value("roles").items() {
                    let role = role.text().unwrap_or_default();
                    found.attachments.push((role, self.text("policy_arn"), address.clone()));
                }
            }
            "aws_iam_openid_connect_provider" => {
                let ids = self.value("client_id_list");
                found.providers.push(Provider {
                    issuer: self.text("url"),
                    arn: self.text("arn"),
                    client_ids: ids.items().iter().filter_map(Value::text).collect(),
                    address,
                    place,
                });
            }
            "aws_ssm_parameter" => found.parameters.push(Parameter {
                name: self.text("name"),
                arn: self.text("arn"),
                kind: self.text("type"),
                key_id: self.key_id(),
                value: ["value", "insecure_value"]
                    .into_iter()
                    .map(|name| self.text(name))
                    .find(|v| !v.is_empty() && !v.contains(HOLE)),
                address,
                place,
            }),
            "aws_secretsmanager_secret" => found.secrets.push(Secret {
                name: self.text("name"),
                arn: self.text("arn"),
                key_id: self.key_id(),
                address,
                place,
            }),
            "aws_kms_alias" => {
                found.aliases.push(Alias { name: self.text("name"), key: self.text("target_key_arn"), place });
            }
            "aws_s3_bucket" => found.buckets.push(Bucket {
                name: self.text("bucket"),
                host: self.text("bucket_regional_domain_name"),
                address,
                place,
            }),
            _ => {}
        }
    }
}

/// An attribute of a resource or data source: computed for the kinds known here, else as written, else unknown.
pub(crate) fn attribute(
    scope: &Scope<'_>,
    (data, kind, label): (bool, &str, &str),
    attribute: &str,
    decl: &Rc<Decl>,
    env: &Env<'_, '_>,
    written: &dyn Fn(&str) -> Option<Value>,
) -> Value {
    let own = |name: &str| written(name).and_then(|v| v.text());
    // A resource may name its own region; one that uses another provider is in a region not known here.
    let region = || match own("region") {
        Some(r) => r,
        None if decl.block.body.get_attribute("provider").is_some() => HOLE.to_string(),
        None => scope.region().text().unwrap_or_default(),
    };
    let account = || scope.account().text().unwrap_or_default();
    let name = || match (own("name"), own("name_prefix")) {
        (Some(n), _) => n,
        (None, Some(p)) => format!("{p}{HOLE}"),
        (None, None) => HOLE.to_string(),
    };
    let path = || own("path").unwrap_or_else(|| "/".into());
    let global = |what: &str| format!("arn:{}:iam::{}:{what}", partition(&region()), account());
    let regional =
        |service: &str, what: &str| format!("arn:{}:{service}:{}:{}:{what}", partition(&region()), region(), account());
    let computed = match (data, kind, attribute) {
        (_, "aws_iam_role", "name" | "id") => Some(name()),
        (_, "aws_iam_role", "arn") => Some(global(&format!("role{}{}", path(), name()))),
        (false, "aws_iam_policy", "name") => Some(name()),
        (false, "aws_iam_policy", "arn" | "id") => Some(global(&format!("policy{}{}", path(), name()))),
        (true, "aws_iam_policy", "arn" | "id") => own("arn"),
        (false, "aws_iam_role_policy", "id") => Some(format!("{}:{}", own("role").unwrap_or_default(), name())),
        // The provider keeps the URL without its scheme.
        (_, "aws_iam_openid_connect_provider", "url") => own("url").map(|u| provider_name(&u).to_string()),
        (_, "aws_iam_openid_connect_provider", "arn" | "id") => {
            own("arn").or_else(|| own("url").map(|u| global(&format!("oidc-provider/{}", provider_name(&u)))))
        }
        (_, "aws_ssm_parameter", "arn") => {
            let name = name();
            let name = name.strip_prefix('/').unwrap_or(&name);
            Some(regional("ssm", &format!("parameter/{name}")))
        }
        (_, "aws_ssm_parameter", "id" | "name") => Some(name()),
        (_, "aws_secretsmanager_secret", "name") => Some(name()),
        (false, "aws_secretsmanager_secret", "arn" | "id") => {
            Some(regional("secretsmanager", &format!("secret:{}-{HOLE}", name())))
        }
        (_, "aws_s3_bucket", "bucket" | "id") => own("bucket").or_else(|| Some(HOLE.to_string())),
        (_, "aws_s3_bucket", "arn") => {
            Some(format!("arn:{}:s3:::{}", partition(&region()), own("bucket").unwrap_or_else(|| HOLE.to_string())))
        }
        (_, "aws_s3_bucket", "bucket_domain_name") => own("bucket").map(|b| format!("{b}.s3.amazonaws.com")),
        (_, "aws_s3_bucket", "bucket_regional_domain_name") => {
            own("bucket").map(|b| format!("{b}.s3.{}.{}", region(), domain(&region())))
        }
        (_, "aws_s3_bucket", "region") => Some(region()),
        (false, "aws_kms_alias", "name" | "id") => Some(name()),
        (false, "aws_kms_alias", "arn") => Some(regional("kms", &name())),
        (false, "aws_kms_alias", "target_key_arn") => own("target_key_id").map(|key| match key {
            k if k.starts_with("arn:") => k,
            k => regional("kms", &format!("key/{k}")),
        }),
        (_, kind, "key_id" | "id") if is_key(data, kind) => Some(format!("{}{kind}.{label}", scope.address)),
        (_, kind, "arn") if is_key(data, kind) => {
            Some(regional("kms", &format!("key/{}{kind}.{label}", scope.address)))
        }
        (true, "aws_caller_identity", "account_id" | "id") => return scope.account(),
        (true, "aws_region", "name" | "id" | "region") => return scope.region(),
        (true, "aws_partition", "partition" | "id") => Some(partition(&region()).to_string()),
        (true, "aws_partition", "dns_suffix") => Some(domain(&region()).to_string()),
        (true, "aws_iam_policy_document", "json" | "minified_json") => {
            return from_data_source(env, &decl.block.body).at(decl.place());
        }
        _ => None,
    };
    let place = || written(attribute).and_then(|v| v.place).or_else(|| decl.place());
    match computed {
        Some(text) => Value::string(text).at(place()),
        None => match written(attribute) {
            Some(v) => v,
            // Of kinds known here, what is not written is absent; anything else may have been computed.
            None if !data && KNOWN.contains(&kind) && !COMPUTED.contains(&attribute) => Value::null().at(decl.place()),
            None => Value::unknown(format!("{kind}.{attribute} is known only when applied")).at(decl.place()),
        },
    }
}

const KNOWN: &[&str] = &[
    "aws_iam_role",
    "aws_iam_policy",
    "aws_iam_role_policy",
    "aws_iam_role_policy_attachment",
    "aws_iam_policy_attachment",
    "aws_iam_openid_connect_provider",
    "aws_ssm_parameter",
    "aws_secretsmanager_secret",
    "aws_s3_bucket",
];

const COMPUTED: &[&str] =
    &["unique_id", "create_date", "version", "tags_all", "hosted_zone_id", "policy_id", "owner_id"];
