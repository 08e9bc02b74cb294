//! The `objects` parameter of a SecretProviderClass, as aws/secrets-store-csi-driver-provider-aws reads it.
//!
//! Every rule of upstream's `secret_descriptor.go` is kept; unlike there, all objects are checked, not only up to the
//! first that is wrong, and a field that does not exist is an error with the field's name.

use std::collections::BTreeSet;

use druse_aws::arn::Arn;
use druse_object::{Value, yaml};

use crate::jmespath::Expression;

/// Which service holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The Parameter Store.
    Parameter,
    /// Secrets Manager.
    Secret,
}

impl Kind {
    /// As `objectType` writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parameter => "ssmparameter",
            Self::Secret => "secretsmanager",
        }
    }
}

/// How a value is written where it is kept; its file holds the bytes meant.
///
/// Upstream's provider for Azure has this field; the one for AWS does not, and writes the value as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As it is: `utf-8`.
    #[default]
    Plain,
    /// `base64`
    Base64,
    /// `hex`
    Hex,
}

/// A part of a value that gets a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The JMESPath expression.
    pub path: String,
    /// The same, parsed.
    pub expression: Expression,
    /// The file's name.
    pub alias: String,
    /// The file's mode.
    pub permission: Option<u32>,
}

/// Where an object is read when the first region does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Its name there.
    pub name: String,
    /// Its version there.
    pub version: Option<String>,
    /// Its label there.
    pub label: Option<String>,
}

/// One object to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name or ARN.
    pub name: String,
    /// Which service holds it.
    pub kind: Kind,
    /// The file's name, before path translation.
    pub alias: Option<String>,
    /// The version.
    pub version: Option<String>,
    /// The label.
    pub label: Option<String>,
    /// How its value is written.
    pub encoding: Encoding,
    /// The file's mode.
    pub permission: Option<u32>,
    /// Parts with files of their own.
    pub parts: Vec<Part>,
    /// Where it is read otherwise.
    pub failover: Option<Failover>,
    /// The line of the `objects` text on which it begins, from 1; 0 when not known.
    pub line: u32,
}

/// What slashes in names become in file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// This character.
    To(char),
    /// They stay, and make folders.
    Off,
}

impl Translation {
    /// Reads `pathTranslation`: a character, `False`, or nothing for `_`.
    ///
    /// # Errors
    /// When it is longer than one character.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            None | Some("") => Ok(Self::To('_')),
            Some(t) if t.eq_ignore_ascii_case("false") => Ok(Self::Off),
            Some(t) => match t.chars().collect::<Vec<_>>().as_slice() {
                [c] => Ok(Self::To(*c)),
                _ => Err(format!("pathTranslation {t:?} is neither 'False' nor a single character")),
            },
        }
    }

    /// The file's name for an object's.
    #[must_use]
    pub fn file(self, name: &str) -> String {
        match self {
            Self::To(c) => name.replace('/', &c.to_string()),
            Self::Off => name.trim_start_matches('/').to_string(),
        }
    }
}

/// What a SecretProviderClass asks of AWS.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The region; the node's when absent.
    pub region: Option<String>,
    /// The region read when the first does not answer.
    pub failover_region: Option<String>,
    /// What slashes become.
    pub translation: Translation,
    /// Whether credentials come from EKS' Pod Identity agent instead of a role of the ServiceAccount.
    pub pod_identity: bool,
    /// The objects.
    pub objects: Vec<Descriptor>,
}

impl Descriptor {
    /// The name of its file.
    #[must_use]
    pub fn file(&self, translation: Translation) -> String {
        translation.file(self.alias.as_deref().unwrap_or(&self.name))
    }

    /// The names of its own file and of its parts'.
    fn files(&self, translation: Translation) -> impl Iterator<Item = String> + '_ {
        std::iter::once(self.file(translation)).chain(self.parts.iter().map(move |p| translation.file(&p.alias)))
    }
}

impl Class {
    /// Reads a SecretProviderClass' `spec.parameters`.
    ///
    /// # Errors
    /// Everything that is wrong, one text each.
    pub fn parse(parameters: &Value) -> Result<Self, Vec<String>> {
        let text = |name: &str| parameters.str_at([name]).filter(|t| !t.is_empty());
        let mut wrong = Vec::new();
        let translation = Translation::parse(text("pathTranslation")).unwrap_or_else(|e| {
            wrong.push(e);
            Translation::To('_')
        });
        let pod_identity = match text("usePodIdentity") {
            None => false,
            Some("true" | "True" | "TRUE" | "1" | "t" | "T") => true,
            Some("false" | "False" | "FALSE" | "0" | "f" | "F") => false,
            Some(other) => {
                wrong.push(format!("usePodIdentity {other:?} is neither true nor false"));
                false
            }
        };
        let (region, failover_region) = (text("region"), text("failoverRegion"));
        for (name, region) in [("region", region), ("failoverRegion", failover_region)] {
            // It becomes part of a host's name.
            let odd = |c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '-';
            if region.is_some_and(|r| r.contains(odd)) {
                wrong.push(format!("{name} is no AWS region"));
            }
        }
        if region.is_some() && region == failover_region {
            wrong.push("failoverRegion is the region itself".into());
        }
        let mut class = Self {
            region: region.map(str::to_string),
            failover_region: failover_region.map(str::to_string),
            translation,
            pod_identity,
            objects: Vec::new(),
        };
        match text("objects") {
            None => wrong.push("parameters.objects is missing".into()),
            Some(t) => match yaml::parse_strict(t) {
                Err(e) => wrong.push(format!("parameters.objects is no YAML: {e}")),
                Ok(Value::Array(items)) => {
                    let lines = entry_lines(t);
                    for (i, item) in items.iter().enumerate() {
                        match class.descriptor(item, lines.get(i).copied().unwrap_or_default()) {
                            Ok(d) => class.objects.push(d),
                            Err(e) => wrong.push(format!("parameters.objects[{i}]: {e}")),
                        }
                    }
                    if items.is_empty() {
                        wrong.push("parameters.objects is empty".into());
                    }
                }
                Ok(_) => wrong.push("parameters.objects is no list".into()),
            },
        }
        class.collisions(&mut wrong);
        if wrong.is_empty() { Ok(class) } else { Err(wrong) }
    }

    fn descriptor(&self, v: &Value, line: u32) -> Result<Descriptor, String> {
        let Some(map) = v.as_map() else { return Err("an object is a map".into()) };
        let fields = [
            "objectName",
            "objectAlias",
            "objectVersion",
            "objectVersionLabel",
            "objectType",
            "objectEncoding",
            "filePermission",
            "jmesPath",
            "failoverObject",
        ];
        if let Some(odd) = map.keys().find(|k| !fields.contains(&k.as_str())) {
            return Err(format!("there is no field {odd:?}"));
        }
        let text = |v: &Value, name: &str| -> Result<Option<String>, String> {
            match v.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(s)) => Ok(Some(s.to_string()).filter(|s| !s.is_empty())),
                Some(Value::Int(n)) => Ok(Some(n.to_string())),
                // As upstream, whose YAML reader makes text of what should be some: `y` and `n` are booleans there.
                Some(Value::Bool(b)) => Ok(Some(b.to_string())),
                Some(_) => Err(format!("{name} is no text; write it in quotes")),
            }
        };
        let name = text(v, "objectName")?.ok_or("objectName is missing")?;
        let kind = kind(&name, text(v, "objectType")?.as_deref(), self.region.as_deref())?;
        let d = Descriptor {
            kind,
            alias: text(v, "objectAlias")?,
            version: text(v, "objectVersion")?,
            label: text(v, "objectVersionLabel")?,
            encoding: encoding(text(v, "objectEncoding")?.as_deref())?,
            permission: permission(text(v, "filePermission")?)?,
            parts: match v.get("jmesPath") {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(items)) => items
                    .iter()
                    .map(|p| {
                        let path = text(p, "path")?.ok_or("an entry of jmesPath has no path")?;
                        Ok(Part {
                            expression: Expression::parse(&path).map_err(|e| format!("jmesPath {path:?}: {e}"))?,
                            path,
                            alias: text(p, "objectAlias")?.ok_or("an entry of jmesPath has no objectAlias")?,
                            permission: permission(text(p, "filePermission")?)?,
                        })
                    })
                    .collect::<Result<_, String>>()?,
                Some(_) => return Err("jmesPath is no list".into()),
            },
            failover: match v.get("failoverObject") {
                None | Some(Value::Null) => None,
                Some(f) => Some(Failover {
                    name: text(f, "objectName")?.ok_or("failoverObject has no objectName")?,
                    version: text(f, "objectVersion")?,
                    label: text(f, "objectVersionLabel")?,
                }),
            },
            name,
            line,
        };
        let both = |v: &Option<String>, l: &Option<String>| kind == Kind::Parameter && v.is_some() && l.is_some();
        if both(&d.version, &d.label) {
            return Err(format!("{} names both objectVersion and objectVersionLabel; parameters take one", d.name));
        }
        if let Some(f) = &d.failover {
            if d.alias.is_none() {
                return Err(format!("{} has a failoverObject and needs an objectAlias", d.name));
            }
            if self.failover_region.is_none() {
                return Err(format!("{} has a failoverObject, but there is no failoverRegion", d.name));
            }
            self::kind(&f.name, Some(kind.name()), self.failover_region.as_deref())?;
            if both(&f.version, &f.label) {
                return Err(format!("{} names both objectVersion and objectVersionLabel; parameters take one", f.name));
            }
            if f.version != d.version {
                return Err(format!("{} and its failoverObject must name the same objectVersion", d.name));
            }
        }
        for file in d.files(self.translation) {
            if file.split('/').any(|p| p == "..") {
                return Err(format!("the file {file:?} leads out of the mount"));
            }
            // What begins so is where the driver keeps what it swaps.
            if file.starts_with("..") || file.split('/').any(|p| p.is_empty() || p == ".") || file.contains('\0') {
                return Err(format!("{file:?} is no name for a file in the mount"));
            }
        }
        Ok(d)
    }

    /// Two objects that would be written to one file, or one to a folder of another.
    fn collisions(&self, wrong: &mut Vec<String>) {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for file in self.objects.iter().flat_map(|d| d.files(self.translation)) {
            if seen.contains(&file) {
                wrong.push(format!("two objects would be written to the file {file:?}; give one an objectAlias"));
            }
            seen.insert(file);
        }
        for file in &seen {
            let folder = file.match_indices('/').map(|(n, _)| &file[..n]).find(|f| seen.contains(*f));
            if let Some(folder) = folder {
                wrong.push(format!("the file {folder:?} is a folder of {file:?}; give one an objectAlias"));
            }
        }
    }

    /// The names that `secretObjects` may refer to: of every object its alias or name, and of every part its alias.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.objects.iter().flat_map(|d| {
            let own = std::iter::once(d.alias.clone().unwrap_or_else(|| d.name.clone()));
            own.chain(std::iter::once(d.file(self.translation))).chain(d.parts.iter().map(|p| p.alias.clone()))
        })
    }
}

/// The lines on which the entries of a block list begin; nothing for other styles.
fn entry_lines(text: &str) -> Vec<u32> {
    let indent = |l: &str| l.len() - l.trim_start().len();
    let starts = |l: &&str| l.trim_start().starts_with("- ") || l.trim() == "-";
    let Some(least) = text.lines().filter(starts).map(indent).min() else { return Vec::new() };
    let lines = text.lines().zip(1u32..);
    lines.filter(|(l, _)| starts(l) && indent(l) == least).map(|(_, n)| n).collect()
}

fn encoding(text: Option<&str>) -> Result<Encoding, String> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("utf-8" | "utf8") => Ok(Encoding::Plain),
        Some("base64") => Ok(Encoding::Base64),
        Some("hex") => Ok(Encoding::Hex),
        Some(other) => Err(format!("objectEncoding {other:?} is none of utf-8, base64 and hex")),
    }
}

fn permission(text: Option<String>) -> Result<Option<u32>, String> {
    let Some(t) = text else { return Ok(None) };
    match u32::from_str_radix(&t, 8) {
        Ok(mode) if t.len() == 4 && mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(format!("filePermission {t:?} is no mode of four octal digits")),
    }
}

fn kind(name: &str, given: Option<&str>, region: Option<&str>) -> Result<Kind, String> {
    let of = |service: &str| match service {
        "secretsmanager" => Some(Kind::Secret),
        "ssmparameter" => Some(Kind::Parameter),
        _ => None,
    };
    if !name.starts_with("arn:") {
        let given = given.ok_or_else(|| format!("{name} needs an objectType: ssmparameter or secretsmanager"))?;
        return of(given).ok_or_else(|| format!("objectType {given:?} is none of ssmparameter and secretsmanager"));
    }
    let arn = Arn::parse(name).ok_or_else(|| format!("{name} is no ARN"))?;
    if let Some(region) = region.filter(|r| *r != arn.region) {
        return Err(format!("{name} is in another region than {region}"));
    }
    let of_arn = if arn.service == "ssm" { Some(Kind::Parameter) } else { of(arn.service) };
    let of_arn = of_arn.ok_or_else(|| format!("{name} is neither a parameter nor a secret"))?;
    match given.map(|g| (g, of(g))) {
        None => Ok(of_arn),
        Some((_, Some(k))) if k == of_arn => Ok(k),
        Some((g, _)) => Err(format!("objectType {g:?} does not fit {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(objects: &str, more: &str) -> Result<Class, Vec<String>> {
        let mut v = yaml::parse_strict(&format!("{{region: us-west-2{more}}}")).unwrap();
        v.make_map().unwrap().insert("objects", objects);
        Class::parse(&v)
    }

    fn error(objects: &str, more: &str) -> String {
        class(objects, more).unwrap_err().join("; ")
    }

    #[test]
    fn objects_are_read_with_their_lines() {
        let c = class(
            "# all of it\n- objectName: /app/db\n  objectType: ssmparameter\n  jmesPath:\n    - path: a\n      objectAlias: A\n- objectName: x\n  objectType: secretsmanager\n  objectAlias: yy\n  filePermission: '0600'\n",
            "",
        )
        .unwrap();
        assert_eq!(c.objects.iter().map(|o| o.line).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(c.objects[0].file(c.translation), "_app_db");
        assert_eq!(c.objects[1].permission, Some(0o600));
        assert_eq!(c.names().collect::<Vec<_>>(), ["/app/db", "_app_db", "A", "yy", "yy"]);
        let c = class("- {objectName: /app/db, objectType: ssmparameter}", ", pathTranslation: 'False'").unwrap();
        assert_eq!(c.objects[0].file(c.translation), "app/db");
    }

    #[test]
    fn what_upstream_refuses_is_refused() {
        for (objects, why) in [
            ("", "missing"),
            ("a: b", "no list"),
            ("- objectType: ssmparameter", "objectName is missing"),
            ("- {objectName: a}", "needs an objectType"),
            ("- {objectName: a, objectType: ssm}", "none of"),
            ("- {objectName: a, objectType: ssmparameter, objectnam: b}", "no field"),
            ("- {objectName: 'arn:aws:ssm:us-east-1:1:parameter/a'}", "another region"),
            ("- {objectName: 'arn:aws:s3:us-west-2:1:a'}", "neither"),
            ("- {objectName: 'arn:aws:ssm:us-west-2:1:parameter/a', objectType: secretsmanager}", "does not fit"),
            ("- {objectName: a, objectType: ssmparameter, objectVersion: '1', objectVersionLabel: b}", "take one"),
            ("- {objectName: a, objectType: ssmparameter, filePermission: '777'}", "octal"),
            ("- {objectName: a, objectType: ssmparameter, jmesPath: [{path: x}]}", "objectAlias"),
            ("- {objectName: a, objectType: ssmparameter, jmesPath: [{path: x., objectAlias: y}]}", "at character 3"),
            ("- {objectName: a, objectType: ssmparameter, objectEncoding: rot13}", "none of utf-8"),
            ("- {objectName: a, objectType: ssmparameter, failoverObject: {objectName: b}}", "objectAlias"),
            (
                "- {objectName: a, objectType: ssmparameter, objectAlias: c, failoverObject: {objectName: b}}",
                "failoverRegion",
            ),
            (
                "- {objectName: a, objectType: ssmparameter}\n- {objectName: a, objectType: ssmparameter}",
                "written to the file",
            ),
            (
                "- {objectName: a, objectType: ssmparameter, objectAlias: b}\n- {objectName: b, objectType: ssmparameter}",
                "written to the file",
            ),
        ] {
            let e = error(objects, "");
            assert!(e.contains(why), "{objects}: {e}");
        }
        let e = error("- {objectName: a, objectType: ssmparameter, objectAlias: ../x}", ", pathTranslation: 'False'");
        assert!(e.contains("out of the mount"), "{e}");
        for alias in ["..data", "a//b", "./a", "/", "a/."] {
            let e = error(
                &format!("- {{objectName: a, objectType: ssmparameter, objectAlias: {alias}}}"),
                ", pathTranslation: 'False'",
            );
            assert!(e.contains("no name for a file"), "{alias}: {e}");
        }
        let e = error(
            "- {objectName: /a, objectType: ssmparameter}\n- {objectName: /a/b, objectType: ssmparameter}",
            ", pathTranslation: 'False'",
        );
        assert!(e.contains("is a folder of"), "{e}");
        assert!(
            error("- {objectName: a, objectType: ssmparameter}", ", pathTranslation: ab").contains("single character")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panicking(text in "[-a-zA-Z:{}\\[\\], '\n/.]{0,120}") {
            let _ = class(&text, "");
        }
    }
}
