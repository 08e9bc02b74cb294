//! The stores, asked and written to as the person who keeps the values.

use std::collections::BTreeMap;

use druse_aws::endpoint::Service;
use druse_aws::sealed::Json;
use druse_aws::{AwsError, Cause, Client, Credentials};
use druse_object::{Map, Value};
use zeroize::Zeroizing;

use super::{Item, KeepError};
use crate::class::Kind;

/// The most names that DescribeParameters takes in one filter.
const NAMES: usize = 50;
/// The most names that GetParameters takes.
const BATCH: usize = 10;
/// The largest value of a standard parameter, in bytes.
const STANDARD: usize = 4096;
/// The largest value of an advanced parameter, in bytes.
const ADVANCED: usize = 8192;
/// The largest value of a secret, in bytes.
const SECRET: usize = 65536;

/// What a store says of an item without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which store.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// `SecureString`, `String`, `StringList`; `secret` in Secrets Manager.
    pub stored_type: String,
    /// The version that is read now; nothing when there is none yet.
    pub version: Option<String>,
    /// When it was last changed, in seconds since 1970.
    pub changed: Option<i64>,
}

/// What stores hold, by store and name.
pub type Found = BTreeMap<(bool, String), Stored>;

/// How a value is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The type of a parameter; as declared, else as it is, else `SecureString`.
    pub parameter_type: Option<String>,
    /// The KMS key; as declared, else the account's own.
    pub key_id: Option<String>,
}

/// A value that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version that is read now.
    pub version: String,
    /// The version that was read before.
    pub before: Option<String>,
    /// Whether the value was there already, and nothing was written.
    pub unchanged: bool,
    /// Whether it is an advanced parameter, which costs money: its value is larger than a standard one's may be.
    pub advanced: bool,
}

/// Asks and writes with a person's credentials, in one region.
#[derive(Clone, Debug)]
pub struct Keeper {
    client: Client,
    credentials: Credentials,
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().collect())
}

fn texts<'a>(all: impl Iterator<Item = &'a str>) -> Value {
    all.map(Value::from).collect()
}

fn field(name: &str, text: &str) -> (Zeroizing<String>, Json) {
    (Zeroizing::new(name.to_string()), Json::Text(Zeroizing::new(text.to_string())))
}

fn text(v: &Json, name: &str) -> Option<Zeroizing<String>> {
    v.text_at(name).map(|t| Zeroizing::new(t.to_string()))
}

fn key(kind: Kind, name: &str) -> (bool, String) {
    (kind == Kind::Secret, name.to_string())
}

impl Keeper {
    /// A keeper with these credentials.
    #[must_use]
    pub fn new(client: Client, credentials: Credentials) -> Self {
        Self { client, credentials }
    }

    async fn ssm(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        self.client.json(Service::Ssm, &format!("AmazonSSM.{operation}"), input, &self.credentials).await
    }

    /// What the stores hold of these items.
    ///
    /// # Errors
    /// What a store or the network answers.
    pub async fn stored(&self, items: &[Item]) -> Result<Found, KeepError> {
        let mut found = Found::new();
        let names: Vec<&str> = items.iter().filter(|i| i.kind == Kind::Parameter).map(|i| i.name.as_str()).collect();
        for names in names.chunks(NAMES) {
            let filter =
                map([("Key", "Name".into()), ("Option", "Equals".into()), ("Values", texts(names.iter().copied()))]);
            for s in self.describe(filter).await? {
                found.insert(key(s.kind, &s.name), s);
            }
        }
        for item in items.iter().filter(|i| i.kind == Kind::Secret) {
            let input = map([("SecretId", item.name.as_str().into())]);
            match self
                .client
                .json(Service::SecretsManager, "secretsmanager.DescribeSecret", &input, &self.credentials)
                .await
            {
                Ok(answer) => drop(found.insert(key(Kind::Secret, &item.name), secret(&item.name, &answer))),
                Err(e) if e.cause() == Cause::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(found)
    }

    /// Parameters that the tree does not know, below the folders (`/home` of `/home/app/key`) that its own are in.
    ///
    /// # Errors
    /// What the store or the network answers.
    pub async fn beside(&self, items: &[Item]) -> Result<Vec<Stored>, KeepError> {
        let ours = || items.iter().filter(|i| i.kind == Kind::Parameter).map(|i| i.name.as_str());
        let folder = |n: &str| Some(format!("/{}", n.strip_prefix('/')?.split_once('/')?.0));
        let mut folders: Vec<String> = ours().filter_map(folder).collect();
        folders.sort();
        folders.dedup();
        let mut all = Vec::new();
        // Several folders in one filter are not taken together with Recursive by all who speak this protocol.
        for f in folders {
            let filter = map([
                ("Key", "Path".into()),
                ("Option", "Recursive".into()),
                ("Values", texts([f.as_str()].into_iter())),
            ]);
            all.extend(self.describe(filter).await?.into_iter().filter(|s| !ours().any(|n| n == s.name)));
        }
        Ok(all)
    }

    async fn describe(&self, filter: Value) -> Result<Vec<Stored>, AwsError> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut input = Map::new();
            input.insert("ParameterFilters", vec![filter.clone()]);
            input.insert("MaxResults", 50i64);
            if let Some(next) = &next {
                input.insert("NextToken", next.as_str());
            }
            let answer = self.ssm("DescribeParameters", &Value::Map(input)).await?;
            all.extend(answer.get("Parameters").map(Value::items).unwrap_or_default().iter().filter_map(parameter));
            next = answer.str_at(["NextToken"]).filter(|t| !t.is_empty()).map(str::to_string);
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// The values of parameters or secrets, by name; what is not there is left out, and so are secrets that are no text.
    ///
    /// # Errors
    /// What the store or the network answers.
    pub async fn values(&self, kind: Kind, names: &[&str]) -> Result<BTreeMap<String, Zeroizing<String>>, KeepError> {
        let mut all = BTreeMap::new();
        if kind == Kind::Secret {
            for name in names {
                let input = map([("SecretId", (*name).into())]);
                let target = "secretsmanager.GetSecretValue";
                match self.client.sealed(Service::SecretsManager, target, &input, &self.credentials).await {
                    Ok(got) => all.extend(text(&got, "SecretString").map(|t| ((*name).to_string(), t))),
                    Err(e) if e.cause() == Cause::NotFound => {}
                    Err(e) => return Err(e.into()),
                }
            }
            return Ok(all);
        }
        for names in names.chunks(BATCH) {
            let input = map([("Names", texts(names.iter().copied())), ("WithDecryption", true.into())]);
            let got = self.client.sealed(Service::Ssm, "AmazonSSM.GetParameters", &input, &self.credentials).await?;
            let found = got.get("Parameters").map(Json::items).unwrap_or_default().iter();
            all.extend(found.filter_map(|p| Some((p.text_at("Name")?.to_string(), text(p, "Value")?))));
        }
        Ok(all)
    }

    /// Puts a value. One that is already there makes no new version.
    ///
    /// # Errors
    /// When the value is empty or too large, or a store refuses.
    pub async fn put(&self, item: &Item, value: &str, options: &PutOptions) -> Result<Written, KeepError> {
        let most = if item.kind == Kind::Secret { SECRET } else { ADVANCED };
        if value.is_empty() {
            return Err(KeepError::Value(format!("the value for {} is empty, which no store takes", item.name)));
        }
        if value.len() > most {
            let text = format!("the value for {} has {} bytes; at most {most} are taken", item.name, value.len());
            return Err(KeepError::Value(text));
        }
        let stored = self.stored(std::slice::from_ref(item)).await?.into_values().next();
        let before = stored.as_ref().and_then(|s| s.version.clone());
        let asked = options.parameter_type.as_deref();
        let same_type = asked.is_none_or(|t| stored.as_ref().is_some_and(|s| s.stored_type == t));
        if let (Some(version), true, None) = (&before, same_type, &options.key_id) {
            // Who may write and not read still writes.
            let now = self.values(item.kind, &[&item.name]).await.unwrap_or_default();
            if now.get(&item.name).is_some_and(|v| v.as_str() == value) {
                return Ok(Written { version: version.clone(), before, unchanged: true, advanced: false });
            }
        }
        match item.kind {
            Kind::Parameter => self.put_parameter(item, value, options, stored.as_ref()).await,
            Kind::Secret => self.put_secret(item, value, before).await,
        }
    }

    async fn put_parameter(
        &self,
        item: &Item,
        value: &str,
        options: &PutOptions,
        stored: Option<&Stored>,
    ) -> Result<Written, KeepError> {
        let advanced = value.len() > STANDARD;
        let mut fields = vec![field("Name", &item.name), field("Value", value)];
        fields.push((Zeroizing::new("Overwrite".to_string()), Json::Bool(stored.is_some())));
        let declared = || item.declared_type.as_deref().or(stored.map(|s| s.stored_type.as_str()));
        let parameter_type = options.parameter_type.as_deref().or_else(declared).unwrap_or("SecureString");
        fields.push(field("Type", parameter_type));
        let key = options.key_id.as_deref().or(item.key_id.as_deref());
        if let Some(key) = key.filter(|k| parameter_type == "SecureString" && !k.is_empty()) {
            fields.push(field("KeyId", key));
        }
        if advanced {
            fields.push(field("Tier", "Advanced"));
        }
        let (target, input) = ("AmazonSSM.PutParameter", Json::Map(fields));
        let answer = self.client.put_sealed(Service::Ssm, target, &input, &self.credentials).await?;
        let version = answer.get("Version").and_then(Value::as_i64).unwrap_or_default();
        let before = stored.and_then(|s| s.version.clone());
        Ok(Written { version: version.to_string(), before, unchanged: false, advanced })
    }

    async fn put_secret(&self, item: &Item, value: &str, before: Option<String>) -> Result<Written, KeepError> {
        // Asked again with the same token, the service makes no second version.
        let token = super::random(super::Alphabet::Hex, 32)?;
        let fields =
            vec![field("SecretId", &item.name), field("ClientRequestToken", &token), field("SecretString", value)];
        let (target, input) = ("secretsmanager.PutSecretValue", Json::Map(fields));
        let answer = self.client.put_sealed(Service::SecretsManager, target, &input, &self.credentials).await?;
        let version = answer.str_at(["VersionId"]).unwrap_or_default().to_string();
        Ok(Written { version, before, unchanged: false, advanced: false })
    }

    /// Labels a parameter's version; the label leaves the version that had it.
    ///
    /// # Errors
    /// What the store or the network answers.
    pub async fn label(&self, name: &str, version: &str, label: &str) -> Result<(), KeepError> {
        let number = version.parse::<i64>().unwrap_or_default();
        let labels = texts([label].into_iter());
        let input = map([("Name", name.into()), ("ParameterVersion", number.into()), ("Labels", labels)]);
        Ok(self.ssm("LabelParameterVersion", &input).await.map(drop)?)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
fn time(v: Option<&Value>) -> Option<i64> {
    match v? {
        Value::Int(n) => Some(*n),
        Value::Float(f) => Some(*f as i64),
        Value::String(s) => s.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second),
        _ => None,
    }
}

fn parameter(v: &Value) -> Option<Stored> {
    Some(Stored {
        kind: Kind::Parameter,
        name: v.str_at(["Name"])?.to_string(),
        stored_type: v.str_at(["Type"]).unwrap_or_default().to_string(),
        version: v.get("Version").and_then(Value::as_i64).map(|n| n.to_string()),
        changed: time(v.get("LastModifiedDate")),
    })
}

fn secret(name: &str, v: &Value) -> Stored {
    let versions = v.get("VersionIdsToStages").and_then(Value::as_map);
    let current = versions.and_then(|m| {
        m.iter().find(|(_, stages)| stages.items().iter().any(|s| s.as_str() == Some("AWSCURRENT"))).map(|(id, _)| id)
    });
    Stored {
        kind: Kind::Secret,
        name: name.to_string(),
        stored_type: "secret".to_string(),
        version: current.map(ToString::to_string),
        changed: time(v.get("LastChangedDate")).or_else(|| time(v.get("CreatedDate"))),
    }
}
