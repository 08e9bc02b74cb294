//! What the tree's Terraform says of AWS, and the local cloud that is made of it.

use std::path::Path;

use druse_aws::iam::HOLE;
use druse_identity::{IssuerUrl, PublicKey};
use druse_kustomize::tree::FileTree;
use druse_localcloud::{Cloud, Config};
use druse_secrets::class::{Class, Descriptor, Encoding, Kind};
use druse_terraform::{Declared, Document, Options, declared};
use zeroize::Zeroizing;

use crate::RehearsalError;

/// What the tree declares.
pub(crate) struct Aws {
    declared: Declared,
    /// The URL that the cluster's tokens name as their issuer: that of the OIDC provider.
    pub(crate) issuer: Option<String>,
}

impl Aws {
    /// Reads a tree's Terraform.
    pub(crate) fn of(tree: &dyn FileTree) -> Self {
        Self::with(declared(tree, &Options::default()))
    }

    fn with(declared: Declared) -> Self {
        let issuer = declared.providers.iter().map(|p| &p.issuer).find(|i| !i.contains(HOLE));
        let issuer = issuer.map(|i| format!("https://{i}"));
        Self { declared, issuer }
    }

    /// The same, with the account where Terraform leaves it open and all ServiceAccounts agree on one.
    pub(crate) fn in_account(self, tree: &dyn FileTree, accounts: &[String]) -> Self {
        let open = self.declared.roles.iter().any(|r| r.arn.contains(HOLE));
        match accounts {
            [one] if open => Self::with(declared(tree, &Options { account_id: Some(one.clone()), region: None })),
            _ => self,
        }
    }

    /// Why it is not known what a role may do; `None` when the tree says it.
    pub(crate) fn open(&self, arn: &str) -> Option<String> {
        let Some(role) = self.declared.roles.iter().find(|r| r.arn == arn) else {
            return Some(format!("the tree's Terraform does not declare role {arn}"));
        };
        let unknown = |d: &Document| match d {
            Document::Unknown { why, .. } => Some(why.clone()),
            _ => None,
        };
        let why = unknown(&role.trust).or_else(|| role.policies.iter().find_map(|p| unknown(&p.document)));
        why.or_else(|| role.open.clone()).map(|why| format!("what role {} may do is not known: {why}", role.name))
    }

    /// The region of classes that name none.
    pub(crate) fn region(&self) -> String {
        self.declared.regions.first().cloned().unwrap_or_else(|| "us-east-1".into())
    }

    /// The local cloud of it, with made-up values for everything that has none. `None` when no role is declared: nobody
    /// could ask it.
    pub(crate) fn cloud(
        &self,
        classes: &[Class],
        keys: Vec<PublicKey>,
        data_dir: Option<&Path>,
    ) -> Result<Option<Cloud>, RehearsalError> {
        let (Some(role), Some(issuer)) = (self.declared.roles.iter().find(|r| !r.arn.contains(HOLE)), &self.issuer)
        else {
            return Ok(None);
        };
        let internal = |e: druse_localcloud::CloudError| RehearsalError::Internal(format!("the local cloud: {e}"));
        let cloud = Cloud::open(Config {
            data_dir: data_dir.map(|d| d.join("cloud")),
            account_id: role.arn.split(':').nth(4).unwrap_or_default().to_string(),
            region: self.region(),
            declared: self.declared.clone(),
            ..Config::default()
        })
        .map_err(internal)?;
        // Read at the issuer, as STS does, where its bucket is the tree's; else taken as they are.
        let published = match IssuerUrl::parse(issuer) {
            Ok(url) => cloud.publish(&url, &keys).map_err(internal)?,
            Err(_) => false,
        };
        if !published {
            cloud.trust(issuer, keys);
        }
        let (mut parameters, mut secrets) = (Vec::new(), Vec::new());
        for d in asked(classes.iter().flat_map(|c| &c.objects).filter(|d| self.makes(d))) {
            let value = (d.name.clone(), made_up(&d));
            match d.kind {
                Kind::Parameter if !cloud.holds_parameter(&d.name) => parameters.push(value),
                Kind::Secret if !cloud.holds_secret(&d.name) => secrets.push(value),
                _ => {}
            }
        }
        let why = "made up for a rehearsal: no real value";
        cloud.set_values(&self.declared, parameters, secrets, why).map_err(internal)?;
        cloud.generate(&self.declared).map_err(internal)?;
        Ok(Some(cloud))
    }

    /// Whether a value is made up for an object: those that are declared, and all where the tree declares none, since
    /// they are made elsewhere then.
    fn makes(&self, d: &Descriptor) -> bool {
        let (none, declared) = match d.kind {
            Kind::Parameter => {
                (self.declared.parameters.is_empty(), self.declared.parameters.iter().any(|p| p.name == d.name))
            }
            Kind::Secret => (self.declared.secrets.is_empty(), self.declared.secrets.iter().any(|s| s.name == d.name)),
        };
        (none || declared) && !d.name.starts_with("arn:")
    }
}

/// What is asked of each value, whichever classes read it: all the parts that any of them takes.
fn asked<'d>(descriptors: impl Iterator<Item = &'d Descriptor>) -> Vec<Descriptor> {
    let mut all: Vec<Descriptor> = Vec::new();
    for d in descriptors {
        match all.iter_mut().find(|a| (a.kind, &a.name) == (d.kind, &d.name)) {
            Some(same) => same.parts.extend(d.parts.iter().cloned()),
            None => all.push(d.clone()),
        }
    }
    all
}

/// Puts a text under a path of fields; what is in its way makes room.
fn put(at: &mut druse_object::Value, path: &[&str], text: &str) {
    if at.as_map().is_none() {
        *at = druse_object::Value::Map(druse_object::Map::new());
    }
    let Some(map) = at.make_map() else { return };
    match path {
        [] => {}
        [last] => drop(map.insert(*last, text)),
        [first, rest @ ..] => {
            if !map.contains_key(first) {
                map.insert(*first, druse_object::Map::new());
            }
            if let Some(next) = map.get_mut(first) {
                put(next, rest, text);
            }
        }
    }
}

/// A made-up value that fits what is asked of it: JSON where parts are taken of it, encoded where it is decoded.
pub(super) fn made_up(d: &Descriptor) -> Zeroizing<String> {
    let text = format!("rehearsal-{}", uuid::Uuid::new_v4().simple());
    let value = if d.parts.is_empty() {
        text
    } else {
        let mut all = druse_object::Value::default();
        for p in &d.parts {
            let path: Vec<&str> = p.path.split('.').map(|s| s.trim_matches('"')).collect();
            put(&mut all, &path, &text);
        }
        druse_object::json::to_string(&all)
    };
    Zeroizing::new(match d.encoding {
        Encoding::Plain => value,
        Encoding::Hex => value.bytes().map(|b| format!("{b:02x}")).collect(),
        Encoding::Base64 => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(value)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::{Value, json};

    fn class(parts: &[&str]) -> Class {
        let parts: Vec<String> = parts.iter().map(|p| format!("{{path: {p}, objectAlias: {p}}}")).collect();
        let objects =
            format!("[{{objectType: ssmparameter, objectName: /home/backup, jmesPath: [{}]}}]", parts.join(", "));
        let mut parameters = druse_object::Map::new();
        parameters.insert("objects", objects);
        Class::parse(&Value::Map(parameters)).unwrap()
    }

    #[test]
    fn a_value_that_several_classes_read_holds_the_parts_that_each_takes() {
        let classes = [class(&["DATA", "PASSWORD"]), class(&["DATABASE", "PASSWORD"])];
        let asked = asked(classes.iter().flat_map(|c| &c.objects));
        assert_eq!(asked.len(), 1);
        let value = json::parse(made_up(&asked[0]).as_bytes()).unwrap();
        let mut parts: Vec<&str> = value.as_map().unwrap().keys().map(|k| k.as_ref()).collect();
        parts.sort_unstable();
        assert_eq!(parts, ["DATA", "DATABASE", "PASSWORD"]);
    }
}
