//! Secrets Manager, for those who read, and those who set the value of a secret that is declared.

use druse_aws::arn::Arn;
use druse_object::{Map, Value};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::answer::{Fault, Form};
use crate::auth::{Caller, caller};
use crate::cloud::{Cloud, State};
use crate::request::Request;
use crate::store::{Secret, Version};

/// The largest value, in bytes.
const MAX_VALUE: usize = 65536;
/// Letters of the random ending of a secret's ARN.
pub(crate) const SUFFIX: &[u8] = druse_aws::random::ALPHANUMERIC;

pub(crate) fn call(cloud: &Cloud, operation: &str, input: &Value, request: &Request) -> Result<Value, Fault> {
    let caller = caller(cloud, request, "secretsmanager", Form::Json)?;
    match operation {
        "GetSecretValue" => {
            let id = need(input)?;
            let state = cloud.state.lock();
            get(cloud, &caller, &state, id, input)
        }
        "BatchGetSecretValue" => batch(cloud, &caller, input),
        "DescribeSecret" => describe(cloud, &caller, input),
        "PutSecretValue" => put(cloud, &caller, input),
        other => Err(Fault::new(
            400,
            "UnknownOperationException",
            format!("secretsmanager.{other} is not served here: secrets come from the tree's Terraform"),
        )),
    }
}

fn need(input: &Value) -> Result<&str, Fault> {
    let missing = || {
        Fault::validation(
            "1 validation error detected: Value at 'secretId' failed to satisfy constraint: Member must not be null",
        )
    };
    input.str_at(["SecretId"]).filter(|s| !s.is_empty()).ok_or_else(missing)
}

fn not_found() -> Fault {
    Fault::new(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

fn arn(cloud: &Cloud, name: &str, suffix: &str) -> String {
    let (region, account) = (&cloud.region, &cloud.account);
    format!("arn:{}:secretsmanager:{region}:{account}:secret:{name}-{suffix}", druse_aws::endpoint::partition(region))
}

/// A secret by name, ARN, or ARN without its random ending. The ARN to ask policies for is given in any case, so that
/// what is missing and what is not allowed are told apart only for those who may know.
fn find<'s>(cloud: &Cloud, state: &'s State, id: &str) -> (String, Option<(&'s String, &'s Secret)>) {
    let name = match Arn::parse(id) {
        Some(a) if a.service == "secretsmanager" => a.resource.strip_prefix("secret:").unwrap_or_default(),
        _ => id,
    };
    let exact = |n: &str| state.store.secrets.get_key_value(n);
    let with_suffix = || {
        let (n, suffix) = name.rsplit_once('-')?;
        exact(n).filter(|(_, s)| s.suffix == suffix && id.starts_with("arn:"))
    };
    let found = exact(name).or_else(with_suffix);
    let arn = match found {
        Some((n, s)) => arn(cloud, n, &s.suffix),
        None if id.starts_with("arn:") => id.to_string(),
        None => arn(cloud, name, "??????"),
    };
    (arn, found)
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970, as AWS writes times")]
fn time(at: i64) -> Value {
    Value::Float(at as f64)
}

/// A version's id: AWS' are random UUIDs; these follow from name and number.
fn version_id(name: &str, v: &Version) -> String {
    let d = druse_aws::sigv4::sha256_hex(format!("{name}:{}", v.number).as_bytes());
    format!("{}-{}-4{}-a{}-{}", &d[..8], &d[8..12], &d[13..16], &d[17..20], &d[20..32])
}

fn get(cloud: &Cloud, caller: &Caller, state: &State, id: &str, input: &Value) -> Result<Value, Fault> {
    let (arn, found) = find(cloud, state, id);
    caller.may(cloud, "secretsmanager:GetSecretValue", &arn)?;
    let (name, secret) = found.ok_or_else(not_found)?;
    let stage = input.str_at(["VersionStage"]);
    let wanted = input.str_at(["VersionId"]);
    let fits = |v: &&Version| match (wanted, stage) {
        (None, stage) => v.labels.iter().any(|l| l == stage.unwrap_or("AWSCURRENT")),
        (Some(id), stage) => version_id(name, v) == id && stage.is_none_or(|s| v.labels.iter().any(|l| l == s)),
    };
    let v = secret.versions.iter().find(fits).ok_or_else(|| {
        let which = match (wanted, stage) {
            (Some(id), _) => format!("VersionId: {id}"),
            (None, stage) => format!("staging label: {}", stage.unwrap_or("AWSCURRENT")),
        };
        Fault::new(
            400,
            "ResourceNotFoundException",
            format!("Secrets Manager can't find the specified secret value for {which}"),
        )
    })?;
    if let Some(key) = secret.key_id.as_deref().filter(|k| !k.is_empty() && !k.ends_with("alias/aws/secretsmanager")) {
        caller.may_decrypt(cloud, key).map_err(|mut f| {
            f.message = format!("Access to KMS is not allowed: {}", f.message);
            f
        })?;
    }
    let bytes = state.store.open_version("secret", name, v).map_err(Fault::internal)?;
    let mut m = Map::new();
    m.insert("ARN", arn);
    m.insert("Name", name.as_str());
    m.insert("VersionId", version_id(name, v));
    match secret.binary {
        true => m.insert("SecretBinary", STANDARD.encode(&bytes)),
        false => m.insert("SecretString", String::from_utf8_lossy(&bytes).into_owned()),
    };
    m.insert("VersionStages", v.labels.iter().map(String::as_str).collect::<Value>());
    m.insert("CreatedDate", time(v.at));
    Ok(Value::Map(m))
}

fn put(cloud: &Cloud, caller: &Caller, input: &Value) -> Result<Value, Fault> {
    let id = need(input)?;
    let now = cloud.now();
    let mut state = cloud.state.lock();
    let (arn, found) = find(cloud, &state, id);
    caller.may(cloud, "secretsmanager:PutSecretValue", &arn)?;
    let (name, mut secret) = found.map(|(n, s)| (n.clone(), s.clone())).ok_or_else(not_found)?;
    let wrong = |text: &str| Fault::new(400, "InvalidParameterException", text);
    let value = match (input.str_at(["SecretString"]), input.str_at(["SecretBinary"])) {
        (Some(text), None) => {
            secret.binary = false;
            Zeroizing::new(text.as_bytes().to_vec())
        }
        (None, Some(encoded)) => {
            secret.binary = true;
            Zeroizing::new(STANDARD.decode(encoded).map_err(|_| wrong("SecretBinary is no base64"))?)
        }
        _ => return Err(wrong("You must provide either SecretString or SecretBinary.")),
    };
    if value.len() > MAX_VALUE {
        return Err(wrong("a secret's value has at most 65536 bytes"));
    }
    if input.get("VersionStages").is_some() {
        return Err(wrong("staging labels other than AWSCURRENT and AWSPREVIOUS are not served here"));
    }
    let version = state.store.put_secret(&name, secret, &value, now).map_err(Fault::internal)?;
    state.store.save().map_err(Fault::internal)?;
    Ok(Value::Map(Map::from_iter([
        ("ARN", Value::from(arn)),
        ("Name", name.as_str().into()),
        ("VersionId", version_id(&name, &version).into()),
        ("VersionStages", version.labels.iter().map(String::as_str).collect::<Value>()),
    ])))
}

fn batch(cloud: &Cloud, caller: &Caller, input: &Value) -> Result<Value, Fault> {
    caller.may(cloud, "secretsmanager:BatchGetSecretValue", "*")?;
    let ids: Vec<&str> =
        input.get("SecretIdList").map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).collect();
    if !(1..=20).contains(&ids.len()) {
        return Err(Fault::new(
            400,
            "InvalidParameterException",
            "SecretIdList holds between 1 and 20 secrets; filters are not served here",
        ));
    }
    let state = cloud.state.lock();
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for id in ids {
        match get(cloud, caller, &state, id, &Value::Null) {
            Ok(v) => values.push(v),
            Err(f) => errors.push(Value::Map(Map::from_iter([
                ("SecretId", Value::from(id)),
                ("ErrorCode", f.code.into()),
                ("Message", f.message.as_str().into()),
            ]))),
        }
    }
    Ok(Value::Map(Map::from_iter([("SecretValues", Value::from(values)), ("Errors", errors.into())])))
}

fn describe(cloud: &Cloud, caller: &Caller, input: &Value) -> Result<Value, Fault> {
    let state = cloud.state.lock();
    let (arn, found) = find(cloud, &state, need(input)?);
    caller.may(cloud, "secretsmanager:DescribeSecret", &arn)?;
    let (name, secret) = found.ok_or_else(not_found)?;
    let stages = secret.versions.iter().filter(|v| !v.labels.is_empty());
    let stages: Map =
        stages.map(|v| (version_id(name, v), v.labels.iter().map(String::as_str).collect::<Value>())).collect();
    let mut m = Map::new();
    m.insert("ARN", arn);
    m.insert("Name", name.as_str());
    if !secret.description.is_empty() {
        m.insert("Description", secret.description.as_str());
    }
    if let Some(key) = &secret.key_id {
        m.insert("KmsKeyId", key.as_str());
    }
    m.insert("VersionIdsToStages", stages);
    if let Some(v) = secret.versions.first() {
        m.insert("CreatedDate", time(v.at));
    }
    Ok(Value::Map(m))
}
