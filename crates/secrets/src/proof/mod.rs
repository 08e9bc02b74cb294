//! The path from a CSI volume to the parameter it reads, followed through declarations.
//!
//! Each volume of the driver `secrets-store.csi.k8s.io` → its SecretProviderClass (same namespace, provider `aws`,
//! objects that parse) → the pod's ServiceAccount (there, with a role) → the role declared → its trust policy (this
//! issuer, exactly this ServiceAccount, this audience) → its permissions (each object, with the actions the provider
//! uses) → the parameter declared. Each break is one finding, with the places of both ends. What is not known is a note,
//! never a fault. Backwards: roles, classes and parameters nobody uses, permissions wider than needed.

mod access;
mod driver;
mod lines;
pub(crate) mod pods;
mod reverse;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use druse_aws::iam::HOLE;
use druse_object::{Object, Value};
use druse_terraform::{Declared, Place, Role};

use crate::class::Class;
pub use pods::DRIVER;
use pods::{Mount, mounts};

/// An object with the place that is shown for it: its own, or that of the release which makes it.
#[derive(Clone, Debug)]
pub struct Declaration<'a> {
    /// The object.
    pub object: &'a Object,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// What the proof is given.
#[derive(Debug)]
pub struct Input<'a> {
    /// Every object that the tree makes.
    pub objects: Vec<Declaration<'a>>,
    /// What the tree declares of AWS.
    pub declared: &'a Declared,
    /// The issuer that the cluster signs as, where the tree says.
    pub issuer: Option<(String, Place)>,
    /// What ServiceAccount annotations start with.
    pub annotation_prefix: String,
    /// What was not rendered (releases whose chart is not at hand): what they name may be used there.
    pub unrendered: Vec<Unrendered>,
}

/// A unit that was not rendered.
#[derive(Clone, Debug)]
pub struct Unrendered {
    /// Which.
    pub id: String,
    /// Where it is declared.
    pub place: Option<Place>,
    /// Its declaration as text: what it names may be used by what it would make.
    pub text: String,
    /// Whether that says nothing of what it would make.
    pub opaque: bool,
    /// Whether it should have been rendered, and could not.
    pub failed: bool,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The path is broken: a pod does not start, or a file is missing.
    Error,
    /// It works, and is not as it should be.
    Warning,
    /// It cannot be decided from the tree.
    Unknown,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// A short name for the kind of finding.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The end in Kubernetes, or where it begins.
    pub from: Option<Place>,
    /// The end in Terraform, or what it is about.
    pub to: Option<Place>,
    /// What would help.
    pub remedy: String,
    /// The words that are wrong at each end, where they are in a document; [`Proof::find_lines`] finds their lines.
    pub words: (String, String),
}

/// What the proof found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Findings, errors first, then by place.
    pub findings: Vec<Finding>,
    /// CSI volumes followed.
    pub volumes: usize,
    /// Of those, how many reach all their objects.
    pub proven: usize,
    /// Objects asked for by proven volumes.
    pub objects: usize,
}

pub(crate) struct Prover<'a> {
    input: &'a Input<'a>,
    accounts: BTreeMap<(String, String), (&'a Object, Option<Place>)>,
    classes: BTreeMap<(String, String), (&'a Object, Option<Place>)>,
    findings: Vec<Finding>,
    /// What each role is used to read: role's index → ARNs with the actions needed.
    reads: BTreeMap<usize, Vec<String>>,
    used_classes: Vec<(String, String)>,
    /// Classes that some pod names.
    mounted: BTreeSet<(String, String)>,
    /// ServiceAccounts of pods, by namespace and name, that name no role which is declared: the break is told there, and
    /// not once more of the role that they should name.
    without_role: Vec<(String, String)>,
    /// Roles that may not read what a pod of theirs asks for, by index: what else they may read is most likely what was
    /// meant.
    lacking: BTreeSet<usize>,
    /// Roles that a pod should have named instead of another, by index.
    meant: BTreeSet<usize>,
    /// What roles, by index, may read that was meant for another role.
    misplaced: BTreeSet<(usize, String)>,
    /// The tree's driver, where it may not make Secrets.
    no_sync: Option<(String, Option<Place>)>,
}

/// Follows every volume of a tree, and looks back.
#[must_use]
pub fn prove(input: &Input<'_>) -> Proof {
    let mut p = Prover {
        input,
        accounts: BTreeMap::new(),
        classes: BTreeMap::new(),
        findings: Vec::new(),
        reads: BTreeMap::new(),
        used_classes: Vec::new(),
        without_role: Vec::new(),
        lacking: BTreeSet::new(),
        meant: BTreeSet::new(),
        misplaced: BTreeSet::new(),
        mounted: BTreeSet::new(),
        no_sync: driver::without_rights(&input.objects),
    };
    for d in &input.objects {
        let key = (d.object.namespace().to_string(), d.object.name().to_string());
        match (d.object.gvk().group.as_str(), d.object.kind()) {
            ("", "ServiceAccount") => drop(p.accounts.insert(key, (d.object, d.place.clone()))),
            ("secrets-store.csi.x-k8s.io", "SecretProviderClass") => {
                p.classes.insert(key, (d.object, d.place.clone()));
            }
            _ => {}
        }
    }
    let mut proof = Proof::default();
    let all: Vec<Mount<'_>> = input.objects.iter().flat_map(mounts).collect();
    p.mounted = all.iter().filter_map(|m| Some((m.namespace.to_string(), m.class?.to_string()))).collect();
    for mount in all {
        proof.volumes += 1;
        if let Some(objects) = p.follow(&mount) {
            proof.proven += 1;
            proof.objects += objects;
        }
    }
    for u in &input.unrendered {
        if u.failed || u.text.contains("secretProviderClass") || u.text.contains(DRIVER) {
            let text = format!("{} was not rendered: what it mounts is not followed", u.id);
            let remedy = if u.failed { "`druse tree` says why" } else { "" };
            p.say(Severity::Unknown, "unrendered", (u.place.as_ref(), None), text, remedy);
        }
    }
    p.look_back();
    proof.findings = p.findings;
    let at = |f: &Finding| (f.severity, f.from.clone(), f.to.clone(), f.code, f.message.clone());
    proof.findings.sort_by_key(at);
    proof.findings.dedup();
    proof
}

impl<'a> Prover<'a> {
    fn say(
        &mut self,
        severity: Severity,
        code: &'static str,
        ends: (Option<&Place>, Option<&Place>),
        message: String,
        remedy: &str,
    ) {
        let (from, to) = (ends.0.cloned(), ends.1.cloned());
        let (remedy, words) = (remedy.to_string(), Default::default());
        self.findings.push(Finding { severity, code, message, from, to, remedy, words });
    }

    /// Names the words that are wrong where what was said last begins.
    fn about(&mut self, words: &str) {
        if let Some(last) = self.findings.last_mut() {
            last.words.0 = words.to_string();
        }
    }

    /// Names the words that are wrong at the other end of what was said last.
    fn about_other(&mut self, words: &str) {
        if let Some(last) = self.findings.last_mut() {
            last.words.1 = words.to_string();
        }
    }

    /// Whether something that was not rendered names a text.
    fn named_unrendered(&self, text: &str) -> bool {
        self.input.unrendered.iter().any(|u| u.opaque || u.text.contains(text))
    }

    /// Follows one volume; the number of objects it reads, when all steps hold.
    fn follow(&mut self, mount: &Mount<'_>) -> Option<usize> {
        let (who, from) = (mount.who(), mount.place.as_ref());
        let namespace = mount.namespace;
        // A break before the role: it is told here, and not once more of the role that the pod's ServiceAccount names.
        let broken = |p: &mut Self| {
            p.without_role.extend(mount.account.map(|a| (namespace.to_string(), a.to_string())));
        };
        let Some(name) = mount.class else {
            let spare: Vec<_> =
                self.classes.keys().filter(|k| k.0 == namespace && !self.mounted.contains(*k)).cloned().collect();
            // The only class of the namespace that nobody mounts is most likely the one.
            let meant = if let [one] = spare.as_slice() { Some(one.clone()) } else { None };
            let to = meant.as_ref().and_then(|k| self.classes.get(k)?.1.clone());
            self.used_classes.extend(meant);
            broken(self);
            let text = format!("a secrets volume of {who} names no secretProviderClass");
            let remedy = "set volumeAttributes.secretProviderClass";
            self.say(Severity::Error, "class-missing", (from, to.as_ref()), text, remedy);
            self.about(DRIVER);
            return None;
        };
        let key = (namespace.to_string(), name.to_string());
        let class_place = self.classes.get(&key).and_then(|c| c.1.clone());
        for path in &mount.sub_paths {
            let text =
                format!("{who} mounts {path:?} of a secrets volume with subPath: what is mounted so never rotates");
            self.say(
                Severity::Warning,
                "sub-path",
                (from, class_place.as_ref()),
                text,
                "mount the whole volume, and point at the file in it",
            );
            self.about("subPath");
        }
        self.used_classes.push(key.clone());
        if mount.driver != DRIVER {
            let text = format!(
                "{who} mounts SecretProviderClass {name} with the driver {:?}: no such driver takes one",
                mount.driver
            );
            broken(self);
            self.say(
                Severity::Error,
                "driver",
                (from, class_place.as_ref()),
                text,
                "the driver is secrets-store.csi.k8s.io",
            );
            self.about(mount.driver);
            return None;
        }
        let Some((object, place)) = self.classes.get(&key).cloned() else {
            let elsewhere = self.classes.keys().find(|(_, n)| n == name);
            let alike = || self.classes.keys().find(|(ns, n)| ns == namespace && is_slip(n, name));
            let (severity, hint, meant) = match (elsewhere, alike()) {
                (Some(meant), _) => {
                    let hint = format!("; there is one in {}, which pods of {namespace} cannot use", meant.0);
                    (Severity::Error, hint, Some(meant.clone()))
                }
                (None, Some(meant)) => {
                    (Severity::Error, format!("; there is one called {}", meant.1), Some(meant.clone()))
                }
                (None, None) if self.named_unrendered(name) => {
                    (Severity::Unknown, "; what was not rendered may make it".into(), None)
                }
                (None, None) => (Severity::Error, String::new(), None),
            };
            let place = meant.as_ref().and_then(|key| self.classes.get(key)?.1.clone());
            // It is not told once more as mounted by nobody.
            self.used_classes.extend(meant);
            let text = format!("{who} mounts SecretProviderClass {name}, which is not in {namespace}{hint}");
            self.say(severity, "class-missing", (from, place.as_ref()), text, "declare it in the pod's namespace");
            self.about(name);
            return None;
        };
        let place = place.as_ref();
        let provider = object.value.str_at(["spec", "provider"]).unwrap_or_default();
        if provider != "aws" {
            let known = ["azure", "gcp", "vault", "conjur", "akeyless"].contains(&provider);
            let severity = if known { Severity::Unknown } else { Severity::Error };
            let text = format!(
                "SecretProviderClass {namespace}/{name} is of the provider {provider:?}, which is not followed here"
            );
            self.say(severity, "class-provider", (from, place), text, "spec.provider is aws for the Parameter Store");
            self.about_other("provider:");
            return None;
        }
        let class = match Class::parse(&object.value["spec"]["parameters"]) {
            Ok(class) => class,
            Err(wrong) => {
                for w in wrong {
                    let text = format!("SecretProviderClass {namespace}/{name}: {w}");
                    self.say(
                        Severity::Error,
                        "class-objects",
                        (from, place),
                        text,
                        "the provider refuses such objects",
                    );
                }
                return None;
            }
        };
        let synced = self.sync_fits(object, &class, (from, place));
        if class.pod_identity {
            let text = format!(
                "SecretProviderClass {namespace}/{name} uses EKS Pod Identity, whose associations are not in the tree"
            );
            self.say(Severity::Unknown, "pod-identity", (from, place), text, "");
            return None;
        }
        let (role, account_place) = self.role_of(mount, place)?;
        let trusted = self.trusts(role, mount, account_place.as_ref());
        if !trusted && let Some(meant) = self.trusting(role, mount) {
            // What the role of another may read says nothing.
            self.meant.insert(meant);
            return None;
        }
        let allowed = self.allows(role, &class, mount, place);
        (synced && trusted && allowed).then_some(class.objects.len())
    }

    /// Whether the Secrets that a class asks for can be made: the driver may, and every entry refers to a file that is there.
    fn sync_fits(&mut self, object: &Object, class: &Class, ends: (Option<&Place>, Option<&Place>)) -> bool {
        let names: Vec<String> = class.names().collect();
        let asked: Vec<&str> =
            object.value["spec"]["secretObjects"].items().iter().filter_map(|s| s.str_at(["secretName"])).collect();
        let mut fits = asked.is_empty() || self.no_sync.is_none();
        if let Some((driver, place)) = self.no_sync.clone().filter(|_| !fits) {
            let text = format!(
                "SecretProviderClass {}/{} asks for Secret {}, but the driver ({driver}) may not make Secrets",
                object.namespace(),
                object.name(),
                asked.join(", ")
            );
            let remedy = "with upstream's chart, set syncSecret.enabled: true; or mount the files, and leave \
                          secretObjects out";
            self.say(Severity::Error, "sync-rights", (ends.1, place.as_ref()), text, remedy);
            self.about("secretObjects");
        }
        for secret in object.value["spec"]["secretObjects"].items() {
            for data in secret.get("data").map(Value::items).unwrap_or_default() {
                let wanted = data.str_at(["objectName"]).unwrap_or_default();
                if !names.iter().any(|n| n == wanted) {
                    fits = false;
                    let secret = secret.str_at(["secretName"]).unwrap_or_default();
                    let text = format!(
                        "SecretProviderClass {}/{} syncs {wanted:?} into Secret {secret}, but none of its objects is called so",
                        object.namespace(),
                        object.name()
                    );
                    self.say(
                        Severity::Error,
                        "sync-object",
                        ends,
                        text,
                        "secretObjects refer to an objectAlias, or to an objectName that has none",
                    );
                    self.about_other(wanted);
                }
            }
        }
        fits
    }

    /// Another role than this one that trusts the pod's ServiceAccount by name.
    fn trusting(&self, role: usize, mount: &Mount<'_>) -> Option<usize> {
        let subject = subject(mount.namespace, mount.account.unwrap_or_default());
        let roles = self.input.declared.roles.iter().enumerate();
        roles.filter(|(n, _)| *n != role).find(|(_, r)| subjects(r).any(|s| s == subject)).map(|(n, _)| n)
    }

    /// The role of the pod's ServiceAccount.
    fn role_of(&mut self, mount: &Mount<'_>, class: Option<&Place>) -> Option<(usize, Option<Place>)> {
        let found = self.find_role(mount, class);
        if let (None, Some(account)) = (&found, mount.account) {
            self.without_role.push((mount.namespace.to_string(), account.to_string()));
        }
        found
    }

    fn find_role(&mut self, mount: &Mount<'_>, class: Option<&Place>) -> Option<(usize, Option<Place>)> {
        let (who, from, namespace) = (mount.who(), mount.place.as_ref(), mount.namespace);
        let Some(account) = mount.account else {
            let text = format!("under which ServiceAccount {who} runs cannot be told from the tree");
            self.say(Severity::Unknown, "account-unknown", (from, class), text, "");
            return None;
        };
        let found = self.accounts.get(&(namespace.to_string(), account.to_string())).cloned();
        let Some((object, place)) = found else {
            if account == "default" {
                let text = format!("{who} runs as the ServiceAccount default of {namespace}, which has no role");
                let remedy = "give the pod a ServiceAccount of its own, with the annotation role-arn";
                self.say(Severity::Error, "account-role", (from, class), text, remedy);
                return None;
            }
            let maybe = self.named_unrendered(account);
            let severity = if maybe { Severity::Unknown } else { Severity::Error };
            let hint = if maybe { "; what was not rendered may make it" } else { "" };
            let text =
                format!("{who} runs as ServiceAccount {namespace}/{account}, which the tree does not declare{hint}");
            self.say(severity, "account-missing", (from, class), text, "declare the ServiceAccount");
            self.about(account);
            return None;
        };
        let annotation = format!("{}/role-arn", self.input.annotation_prefix);
        let Some(arn) = object.annotation(&annotation).filter(|a| !a.is_empty()) else {
            let text = format!("ServiceAccount {namespace}/{account} of {who} has no annotation {annotation}");
            self.say(Severity::Error, "account-role", (from, place.as_ref()), text, "annotate it with its role's ARN");
            return None;
        };
        let roles = &self.input.declared.roles;
        if let Some(n) = roles.iter().position(|r| r.arn == arn) {
            return Some((n, place));
        }
        let like = |r: &Role| druse_aws::iam::glob(&r.arn, arn, false) == druse_aws::iam::Truth::Maybe;
        let maybe: Vec<usize> = roles.iter().enumerate().filter(|(_, r)| like(r)).map(|(n, _)| n).collect();
        if let [n] = maybe.as_slice() {
            return Some((*n, place));
        }
        let unknown = !maybe.is_empty() || roles.is_empty() || !self.input.declared.open.is_empty();
        let name = druse_aws::arn::Arn::parse(arn).and_then(|a| a.role_name());
        let subject = subject(namespace, account);
        let trusts = |r: &&Role| subjects(r).any(|s| s == subject);
        let near = roles.iter().find(|r| Some(r.name.as_str()) == name).or_else(|| roles.iter().find(trusts));
        let (severity, hint) = match (near, unknown) {
            (Some(r), _) if Some(r.name.as_str()) != name => {
                (Severity::Error, format!("; the role that trusts it is {}", r.arn.replace(HOLE, "?")))
            }
            (Some(r), _) => (Severity::Error, format!("; the role of this name is {}", r.arn.replace(HOLE, "?"))),
            (None, true) => (Severity::Unknown, "; the tree's Terraform leaves open which roles there are".into()),
            (None, false) => (Severity::Error, String::new()),
        };
        let near = near.or_else(|| nearest(roles, name.unwrap_or_default()));
        let hint = match near {
            Some(r) if hint.is_empty() => format!("; the nearest is {}", r.name.replace(HOLE, "?")),
            _ => hint,
        };
        let text =
            format!("ServiceAccount {namespace}/{account} names role {arn}, which Terraform does not declare{hint}");
        let to = near.and_then(|r| r.place.clone());
        self.say(
            severity,
            "role-missing",
            (place.as_ref(), to.as_ref()),
            text,
            "declare the role, or correct the annotation",
        );
        self.about(arn);
        None
    }
}

/// How STS and trust policies name a ServiceAccount.
fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// The subjects that a role's trust policy names.
fn subjects(role: &Role) -> impl Iterator<Item = &str> {
    let statements = role.trust.policy().map(|p| p.statements.as_slice()).unwrap_or_default();
    let conditions = statements.iter().flat_map(|s| &s.conditions);
    conditions.filter(|c| c.key.to_lowercase().ends_with(":sub")).flat_map(|c| c.values.iter().map(String::as_str))
}

/// Whether one name is the other but for a slip: a letter more, less, or another.
fn is_slip(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().max(b.len()) - start - end <= 1 && a.len().min(b.len()) > 1
}

/// The role whose name begins most alike, and whose name is nearest in length.
fn nearest<'r>(roles: &'r [Role], name: &str) -> Option<&'r Role> {
    let alike = |r: &&Role| {
        let common = r.name.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        (common, std::cmp::Reverse(r.name.len().abs_diff(name.len())))
    };
    roles.iter().max_by_key(alike)
}

#[cfg(test)]
mod tests;
