//! Every parameter and secret that a tree declares or reads, and who reads it.

use std::collections::BTreeMap;

use druse_aws::arn::{Arn, parameter_name};
use druse_aws::iam::HOLE;
use druse_object::{Object, Value};
use druse_terraform::Place;

use crate::class::{Class, Kind};
use crate::proof::Input;
use crate::proof::pods::mounts;

/// Who reads a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    /// The namespace of all that follows.
    pub namespace: String,
    /// The kind of the object that makes the pods.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The pods' ServiceAccount, where it can be told.
    pub account: Option<String>,
    /// The SecretProviderClass.
    pub class: String,
    /// Whether a part of the volume is mounted with `subPath`: such files never change in a running pod.
    pub sub_path: bool,
    /// Secrets that the class syncs the value to.
    pub synced: Vec<String>,
}

/// One parameter or secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which store.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where Terraform declares it.
    pub declared: Option<Place>,
    /// `SecureString`, `String` or `StringList`, as declared.
    pub declared_type: Option<String>,
    /// The KMS key, as declared.
    pub key_id: Option<String>,
    /// What Terraform itself sets as its value.
    pub placeholder: Option<String>,
    /// Who reads it.
    pub readers: Vec<Reader>,
}

impl Item {
    /// One that nobody declares or reads.
    #[must_use]
    pub fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_string(),
            declared: None,
            declared_type: None,
            key_id: None,
            placeholder: None,
            readers: Vec::new(),
        }
    }
}

/// Whether AWS knows a key by this name too: one without holes, and no address that stands for an id.
fn is_known(key: &str) -> bool {
    !key.contains(HOLE) && !druse_terraform::kms::stands_in(key)
}

/// Everything of a tree, parameters first, by name. Names that the configuration leaves open are left out.
#[must_use]
pub fn items(input: &Input<'_>) -> Vec<Item> {
    let mut all: BTreeMap<(bool, String), Item> = BTreeMap::new();
    let mut entry = |kind: Kind, name: &str, change: &mut dyn FnMut(&mut Item)| {
        if !name.is_empty() && !name.contains(HOLE) {
            let key = (kind == Kind::Secret, name.to_string());
            change(all.entry(key).or_insert_with(|| Item::new(kind, name)));
        }
    };
    for p in &input.declared.parameters {
        entry(Kind::Parameter, &p.name, &mut |item| {
            item.declared.clone_from(&p.place);
            item.declared_type = Some(p.kind.clone()).filter(|k| !k.is_empty() && !k.contains(HOLE));
            item.key_id = p.key_id.clone().filter(|k| is_known(k));
            item.placeholder.clone_from(&p.value);
        });
    }
    for s in &input.declared.secrets {
        entry(Kind::Secret, &s.name, &mut |item| {
            item.declared.clone_from(&s.place);
            item.key_id = s.key_id.clone().filter(|k| is_known(k));
        });
    }
    let classes = classes(input);
    for d in &input.objects {
        for mount in mounts(d) {
            let Some(name) = mount.class else { continue };
            let Some((object, Ok(class))) = classes.get(&(mount.namespace, name)) else { continue };
            for o in &class.objects {
                let alias = o.alias.clone().unwrap_or_else(|| o.name.clone());
                let aliases: Vec<&str> =
                    std::iter::once(alias.as_str()).chain(o.parts.iter().map(|p| p.alias.as_str())).collect();
                let reader = Reader {
                    namespace: mount.namespace.to_string(),
                    kind: mount.kind.to_string(),
                    name: mount.name.to_string(),
                    account: mount.account.map(str::to_string),
                    class: name.to_string(),
                    sub_path: !mount.sub_paths.is_empty(),
                    synced: synced(object, &aliases),
                };
                let names = std::iter::once(&o.name).chain(o.failover.iter().map(|f| &f.name));
                for name in names {
                    entry(o.kind, &plain_name(o.kind, name), &mut |item| {
                        if !item.readers.contains(&reader) {
                            item.readers.push(reader.clone());
                        }
                    });
                }
            }
        }
    }
    all.into_values().collect()
}

type Classes<'a> = BTreeMap<(&'a str, &'a str), (&'a Object, Result<Class, Vec<String>>)>;

fn classes<'a>(input: &Input<'a>) -> Classes<'a> {
    let objects = input.objects.iter().map(|d| d.object);
    let ours =
        objects.filter(|o| o.kind() == "SecretProviderClass" && o.value.str_at(["spec", "provider"]) == Some("aws"));
    ours.map(|o| ((o.namespace(), o.name()), (o, Class::parse(&o.value["spec"]["parameters"])))).collect()
}

/// Classes whose objects cannot be read, with what is wrong: who reads what is not known for them.
#[must_use]
pub fn unreadable(input: &Input<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for ((namespace, name), (_, class)) in classes(input) {
        all.extend(class.err().map(|e| format!("SecretProviderClass {namespace}/{name}: {}", e.join("; "))));
    }
    all
}

/// The Secrets that a class syncs one of these names to.
fn synced(class: &Object, names: &[&str]) -> Vec<String> {
    let objects = class.value.at(["spec", "secretObjects"]).map(Value::items).unwrap_or_default();
    let takes = |s: &&Value| {
        let data = s.get("data").map(Value::items).unwrap_or_default();
        data.iter().filter_map(|d| d.str_at(["objectName"])).any(|n| names.contains(&n))
    };
    objects.iter().filter(takes).filter_map(|s| s.str_at(["secretName"])).map(str::to_string).collect()
}

/// The name alone, where an ARN is given; of a secret's ARN without the random ending.
fn plain_name(kind: Kind, name: &str) -> String {
    let Some(arn) = Arn::parse(name) else { return name.to_string() };
    let plain = match kind {
        Kind::Parameter => parameter_name(&arn),
        Kind::Secret => arn.resource.strip_prefix("secret:").map(|rest| match rest.rsplit_once('-') {
            Some((n, suffix)) if suffix.len() == 6 => n.to_string(),
            _ => rest.to_string(),
        }),
    };
    plain.unwrap_or_else(|| name.to_string())
}
