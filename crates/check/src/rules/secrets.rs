//! DR060, DR061: what must not be readable in a repository. No finding ever shows a value.

use std::sync::LazyLock;

use druse_object::Value;
use regex::{Regex, RegexSet};

use crate::context::{Context, line_with};
use crate::files::{Document, File};
use crate::finding::{Finding, Place, Severity};
use crate::index::{Entry, Origin};
use crate::pods;
use crate::position::{Step, locate};

/// What credentials look like, each with what it is. Only forms that nothing else has.
const TOKENS: &[(&str, &str)] = &[
    (r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----", "a private key"),
    (r"AGE-SECRET-KEY-1[0-9A-Z]{58}", "an age key"),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", "an AWS access key"),
    (r"\bgh[pousr]_[A-Za-z0-9]{36}\b", "a GitHub token"),
    (r"\bgithub_pat_[A-Za-z0-9_]{60,}", "a GitHub token"),
    (r"\bglpat-[A-Za-z0-9_-]{20}", "a GitLab token"),
    (r"\bxox[baprs]-[0-9]{8,}-[0-9A-Za-z-]{10,}", "a Slack token"),
    (r"https://hooks\.slack\.com/services/T[0-9A-Z]+/B[0-9A-Z]+/[0-9A-Za-z]{20,}", "a Slack webhook"),
    (
        r"https://(?:canary\.|ptb\.)?discord(?:app)?\.com/api/webhooks/[0-9]{15,}/[0-9A-Za-z_-]{50,}",
        "a Discord webhook",
    ),
    (r"\b[0-9]{8,10}:AA[0-9A-Za-z_-]{33}\b", "a Telegram token"),
    (r"\bsk_live_[0-9A-Za-z]{24,}", "a Stripe key"),
    (r"\bAIza[0-9A-Za-z_-]{35}\b", "a Google API key"),
    (r"\bhvs\.[A-Za-z0-9_-]{60,}", "a Vault token"),
    (r"\btskey-(?:auth|client|api)-[0-9A-Za-z]+-[0-9A-Za-z]{20,}", "a Tailscale key"),
    (r"\bSG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}", "a SendGrid key"),
    (r"\bdckr_pat_[0-9A-Za-z_-]{20,}", "a Docker Hub token"),
    (r"\bK[0-9a-f]{64}::server:[0-9a-f]{32}\b", "a k3s token"),
    (r"\bsk-(?:proj|ant|svcacct)-[A-Za-z0-9_-]{32,}", "an API key of a language model"),
    (r"\bnpm_[A-Za-z0-9]{36}\b", "an npm token"),
    (r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}", "a PyPI token"),
    (r"\bdop_v1_[0-9a-f]{64}\b", "a DigitalOcean token"),
    (r"\bglsa_[A-Za-z0-9]{32}_[0-9a-f]{8}\b", "a Grafana token"),
    (r#"(?i:aws_?secret(?:_access)?_?key)["']?\s*[:=]\s*["']?[A-Za-z0-9/+]{40}(?:["'\s]|$)"#, "an AWS secret key"),
    // Of Talos' machines and of kubeadm.
    (r#"\btoken:\s*["']?[a-z0-9]{6}\.[a-z0-9]{16}["']?\s*$"#, "a bootstrap token"),
    (r#"\b(?:aescbcEncryptionSecret|secretboxEncryptionSecret):\s*["']?[A-Za-z0-9+/]{43}="#, "an encryption key"),
    // `-----BEGIN … PRIVATE KEY-----` in base64, as in kubeconfigs and in what was meant for a Secret.
    (
        r"\bLS0tLS1CRUdJTi(?:BQUklWQVRFIEtFWS|BSU0EgUFJJVkFURSBLRVkt|BFQyBQUklWQVRFIEtFWS|BPUEVOU1NIIFBSSVZBVEUgS0VZ|BFTkNSWVBURUQgUFJJVkFURSBLRVkt)",
        "a private key",
    ),
];

#[allow(clippy::unwrap_used, reason = "the patterns are constants; a test compiles them")]
static TOKEN: LazyLock<RegexSet> = LazyLock::new(|| RegexSet::new(TOKENS.iter().map(|t| t.0)).unwrap());

#[allow(clippy::unwrap_used, reason = "the pattern is a constant; a test compiles it")]
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"^\s*(?:- )?["']?(?:[A-Za-z0-9_]*_)?(?i:password|passwd|adminPassword|rootPassword|userPassword|postgresPassword|api_?key|secret_?access_?key|auth_?token|access_?token)["']?:\s+["']?([^\s"'#{}<>$&*|,]{8,})["']?\s*(?:#.*)?$"#,
    )
    .unwrap()
});

/// Names that passwords and tokens have with something in front, or that other things are called by, too: what they hold
/// must look like nothing else.
#[allow(clippy::unwrap_used, reason = "the pattern is a constant; a test compiles it")]
static LIKELY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"^\s*(?:- )?["']?[A-Za-z0-9_.-]*(?i:pass|passphrase|password|passwd|token|secret|secret_?key|signing_?key|encryption_?key|private_?key|api_?key)["']?\s*[:=]\s*["']?([^\s"'#{}<>()$&*|,]{8,})["']?,?\s*(?:#.*)?$"#,
    )
    .unwrap()
});

/// Whether a text is as random as a token is: letters and many digits, in one piece, or as a UUID.
fn is_random(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let uuid = text.len() == 36 && text.matches('-').count() == 4;
    let piece = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=".contains(&b));
    text.len() >= 16 && digits >= 4 && (uuid || piece || text.len() >= 32 && digits >= 6)
}

/// A password in a URL: `scheme://user:password@host`.
#[allow(clippy::unwrap_used, reason = "the pattern is a constant; a test compiles it")]
static IN_URL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\b[a-z][a-z0-9+]{2,}://[^\s:/@"'{}<>$]*:([^\s:/@"'{}<>$%*]{6,})@[A-Za-z0-9.-]+"#).unwrap()
});

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for entry in cx.own().filter(|e| e.origin == Origin::Tree && e.is("", "Secret") && !e.is_encrypted()) {
        plain(cx, entry, out);
    }
    for file in cx.files.iter().filter(|f| !is_sample(&f.path)) {
        tokens(file, out);
        if !cx.files.was_read(&file.path) && file.text().contains("kind: Secret") {
            unread(file, out);
        }
    }
    for file in cx.files.others(|path| !is_sample(path)) {
        tokens(&file, out);
    }
    let holds = |e: &&Entry<'_>| e.gvk.kind == "HelmRelease" || e.is("", "ConfigMap") || pods::of(e).is_some();
    for entry in cx.own().filter(|e| e.origin == Origin::Tree).filter(holds) {
        let Some(file) = entry.object.provenance.file.as_deref().and_then(|f| cx.files.get(f)) else { continue };
        if let Some(document) = file.document_at(entry.object.provenance.line) {
            named(cx, entry, file, document, out);
        }
    }
}

/// Whether a text is what somebody would keep to themselves, not a place for it.
fn is_plain(v: &Value) -> bool {
    match v {
        Value::String(s) => !s.trim().is_empty() && !s.contains("${") && !s.starts_with("ENC[") && !s.starts_with('<'),
        Value::Null | Value::Map(_) | Value::Array(_) => false,
        _ => true,
    }
}

/// Whether a text is of the kind that is meant for everybody: public keys and certificates, with nothing else beside them.
fn is_public(field: &str, v: &Value) -> bool {
    const KEYS: [&str; 6] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-", "age1", "#"];
    // The base64 of `-----BEGIN CERTIFICATE-----` and `-----BEGIN PUBLIC KEY-----`, up to where the next byte changes it.
    const ENCODED: [&str; 2] = ["LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t", "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS"];
    // That of `PRIVATE KEY`, wherever it begins.
    const PRIVATE: [&str; 3] = ["UFJJVkFURS", "BSSVZBVEUg", "QUklWQVRFI"];
    let text = v.as_str().unwrap_or_default().trim();
    if field == "data" {
        return ENCODED.iter().any(|e| text.starts_with(e)) && !PRIVATE.iter().any(|p| text.contains(p));
    }
    let pem = text.starts_with("-----BEGIN CERTIFICATE-----") || text.starts_with("-----BEGIN PUBLIC KEY-----");
    let lines = || text.lines().map(str::trim).filter(|l| !l.is_empty());
    pem && !text.contains("PRIVATE KEY")
        || lines().count() > 0 && lines().all(|l| KEYS.iter().any(|k| l.starts_with(k)))
}

/// Whether a key says that what it holds is secret. What only a whole word says, another word may begin with
/// (`authentik`, `keycloak`).
fn is_secret_name(key: &str) -> bool {
    let lower = key.to_lowercase();
    let words = ["auth", "key", "keys", "url", "uri", "dsn", "pem"];
    ["pass", "token", "secret", "cred", "cert", "kubeconfig", "apikey"].iter().any(|w| lower.contains(w))
        || lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| {
            words.contains(&part) || words.iter().any(|w| part.ends_with(w) || part == format!("{w}string"))
        })
}

/// An address of a service that says nothing of who may use it: neither a user nor what could be a token.
#[allow(clippy::unwrap_used, reason = "the pattern is a constant; a test compiles it")]
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z][a-z0-9+]*://[A-Za-z0-9._-]+(:[0-9]{1,5})?(/[A-Za-z0-9_-]{0,20})?(\?[A-Za-z0-9_./=&-]*)?$")
        .unwrap()
});

fn is_address(v: &Value) -> bool {
    v.as_str().is_some_and(|text| {
        // What is behind the path of a web address may be all that keeps others out.
        let text = text.trim();
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let web = place.starts_with("http") && place.matches('/').count() > 3;
        ADDRESS.is_match(text) && !web && !query.split('&').any(|p| p.split('=').next().is_some_and(names_a_secret))
    })
}

/// Whether a parameter of an address is one to keep. Files are named, not shown.
fn names_a_secret(parameter: &str) -> bool {
    let file = ["file", "path"].iter().any(|end| parameter.ends_with(end));
    !file && ["pass", "token", "secret", "key", "sig"].iter().any(|w| parameter.to_lowercase().contains(w))
}

fn plain(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    if entry.object.value.str_at(["type"]) == Some("kubernetes.io/service-account-token") {
        return;
    }
    let Some(file) = entry.object.provenance.file.as_deref().and_then(|f| cx.files.get(f)) else { return };
    if entry.object.provenance.line == 0 {
        generated(cx, entry, file, out);
        return;
    }
    // What the file says counts: variables may have brought the rest from where it is safe.
    let Some(document) = file.document_at(entry.object.provenance.line).filter(|d| d.kind() == "Secret") else {
        return;
    };
    let mut keys = Vec::new();
    let mut first = None;
    for field in ["data", "stringData"] {
        for (key, value) in document.value[field].as_map().into_iter().flat_map(|m| m.iter()) {
            if is_plain(value) && !is_address(value) && !is_public(field, value) {
                keys.push(key.to_string());
                first.get_or_insert([Step::from(field), Step::from(key.as_str())]);
            }
        }
    }
    let Some(path) = first else { return };
    let message = format!("{} is committed in plain text ({})", entry.key(), keys.join(", "));
    let place = Place::new(&file.path, locate(file.text(), document.line, &path).line);
    let mut finding = Finding::new("DR060", place, message).unit(&entry.unit.id);
    finding.object = Some(entry.key());
    if !keys.iter().any(|k| is_secret_name(k)) {
        finding = finding.severity(Severity::Warning);
    }
    out.push(finding);
}

/// A Secret in a file that no unit reads: it is in the repository all the same.
fn unread(file: &File, out: &mut Vec<Finding>) {
    const SAMPLES: [&str; 9] = ["{{", "${", "op://", "ref+", "change", "example", "placeholder", "xxx", "<"];
    let sample = |v: &Value| {
        let text = v.as_str().unwrap_or_default().to_lowercase();
        // Where something is, not who may use it.
        let place = text.contains("://") && !IN_URL.is_match(&text);
        place || SAMPLES.iter().any(|s| text.contains(s)) || text.starts_with("your") || text.starts_with('@')
    };
    if ["example", "sample", "template", ".tmpl", ".j2"].iter().any(|n| file.path.contains(n)) {
        return;
    }
    for document in file.documents().iter().filter(|d| d.kind() == "Secret") {
        let all = ["data", "stringData"].into_iter().flat_map(|field| {
            let entries = document.value[field].as_map().into_iter().flat_map(|m| m.iter());
            entries.map(move |(key, value)| (field, key, value))
        });
        let plain = |f: &str, v: &Value| is_plain(v) && !is_address(v) && !is_public(f, v) && !sample(v);
        let keeps = |key: &str| is_secret_name(key) && !matches!(key, "url" | "uri");
        let mut found = all.filter(|(f, key, v)| keeps(key) && plain(f, v)).peekable();
        let Some((field, key, _)) = found.peek() else { continue };
        if document.value.get("sops").is_some() {
            continue;
        }
        let path = [Step::from(*field), Step::from(key.as_str())];
        let keys: Vec<&str> = found.map(|(_, key, _)| key.as_str()).collect();
        let message = format!("Secret {} is committed in plain text ({})", document.name(), keys.join(", "));
        let place = Place::new(&file.path, locate(file.text(), document.line, &path).line);
        out.push(Finding::new("DR060", place, message).severity(Severity::Warning));
    }
}

/// A Secret that a kustomization generates.
fn generated(cx: &Context<'_>, entry: &Entry<'_>, file: &File, out: &mut Vec<Finding>) {
    let Some(document) = file.documents().first() else { return };
    for (i, generator) in document.value["secretGenerator"].items().iter().enumerate() {
        let Some(name) = generator.str_at(["name"]).filter(|n| entry.object.name().contains(n)) else { continue };
        let literal = generator["literals"]
            .items()
            .iter()
            .position(|l| l.as_str().and_then(|l| l.split_once('=')).is_some_and(|(_, v)| is_plain(&Value::from(v))));
        let dir = file.path.rsplit_once('/').map_or("", |(d, _)| d);
        let files = generator["files"].items().iter().chain(generator["envs"].items());
        let read = files.filter_map(Value::as_str).find(|f| {
            let f = f.split_once('=').map_or(*f, |(_, f)| f);
            druse_kustomize::tree::join(dir, f).and_then(|p| cx.files.tree().read(&p).ok()).is_some_and(|bytes| {
                let text = String::from_utf8_lossy(&bytes);
                !text.contains("ENC[AES256_GCM")
                    && !text.contains("sops_version")
                    && !text.trim().is_empty()
                    && !text.contains("${")
            })
        });
        let mut path = vec![Step::from("secretGenerator"), Step::Index(i)];
        let message = match (literal, read) {
            (Some(n), _) => {
                path.extend([Step::from("literals"), Step::Index(n)]);
                format!("Secret {name} is generated from values in plain text")
            }
            (None, Some(from)) => format!("Secret {name} is generated from {from}, which is in plain text"),
            (None, None) => continue,
        };
        let place = Place::new(&file.path, locate(file.text(), document.line, &path).line);
        let mut finding = Finding::new("DR060", place, message).unit(&entry.unit.id);
        finding.object = Some(entry.key());
        out.push(finding);
        return;
    }
}

/// Whether a path is that of a program, which may look for credentials, or of what such a program is tested with.
fn is_sample(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, e)| e);
    matches!(extension, "rs" | "go" | "js" | "ts" | "lock" | "sum" | "svg")
        || path.split('/').any(|d| matches!(d, "tests" | "testdata" | "fixtures"))
}

fn in_secret(file: &File, line: u32) -> bool {
    file.document_at(line).is_some_and(|d| d.kind() == "Secret")
}

fn tokens(file: &File, out: &mut Vec<Finding>) {
    if !TOKEN.is_match(file.text()) {
        return;
    }
    let lines: Vec<&str> = file.text().lines().collect();
    for (i, text) in lines.iter().enumerate() {
        let Some(which) = TOKEN.matches(text).iter().next().and_then(|i| TOKENS.get(i)) else { continue };
        let line = u32::try_from(i + 1).unwrap_or(0);
        let example = ["EXAMPLE", "example", "xxxx", "XXXX"].iter().any(|e| text.contains(e))
            || !has_body(text, lines.get(i + 1..).unwrap_or_default());
        if !example && !in_secret(file, line) {
            out.push(Finding::new("DR061", Place::new(&file.path, line), format!("this is {} in plain text", which.1)));
        }
    }
}

/// Whether a key follows where one begins, on the same line or the next: in what only shows how one is written, dots or
/// words do.
fn has_body(text: &str, below: &[&str]) -> bool {
    let Some((_, rest)) = text.split_once("PRIVATE KEY-----") else { return true };
    let rest = rest.replace("\\n", "\n");
    let mut lines =
        rest.lines().chain(below.iter().copied()).map(|l| l.trim().trim_matches(['"', '\'', ',', '\\', '+']));
    let Some(first) = lines.find(|l| !l.is_empty()) else { return true };
    // Keys that a passphrase protects begin with headers.
    first.contains(": ") || first.len() >= 16 && first.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

/// Fields whose name says what they hold.
fn named(cx: &Context<'_>, entry: &Entry<'_>, file: &File, document: &Document, out: &mut Vec<Finding>) {
    let skip = usize::try_from(document.line.saturating_sub(1)).unwrap_or(0);
    let take = usize::try_from(document.end.saturating_sub(document.line)).unwrap_or(usize::MAX).saturating_add(1);
    let mut before = "";
    for (i, text) in file.text().lines().enumerate().skip(skip).take(take) {
        // The value of a variable is in the line below its name.
        let joined = name_and_value(std::mem::replace(&mut before, text), text);
        let written = joined.as_deref().unwrap_or(text);
        // What is a token by its form is said to be one already.
        let meant = |written: &str, name: &str| is_meant_for_one(written, name) && !TOKEN.is_match(text);
        let likely = || LIKELY.captures(written).filter(|c| meant(written, &c[1]));
        let (value, in_url) = match (NAMED.captures(written), IN_URL.captures(text)) {
            (Some(c), _) => (c.get(1), false),
            (None, Some(c)) => (c.get(1), true),
            (None, None) => match likely() {
                Some(c) => (c.get(1), false),
                None => continue,
            },
        };
        let Some(value) = value.map(|m| m.as_str()) else { continue };
        let letters = value.bytes().any(|b| b.is_ascii_alphabetic());
        let mixed = letters && value.bytes().any(|b| b.is_ascii_digit());
        let place = value.contains('/') || value.contains("://") || value.starts_with('!');
        if !mixed || place || text.trim_start().starts_with('#') {
            continue;
        }
        let line = u32::try_from(i + 1).unwrap_or(0);
        // A name of something that exists is a reference to it.
        if cx.index.of_kind("", "Secret").any(|e| e.object.name() == value) || line_with(file, "EXAMPLE") == Some(line)
        {
            continue;
        }
        let key = written
            .split([':', '='])
            .next()
            .unwrap_or_default()
            .trim()
            .trim_start_matches("- ")
            .trim_matches(['"', '\'']);
        let message = if in_url {
            format!("{key} has a URL with a password in plain text")
        } else {
            format!("{key} looks like a credential in plain text")
        };
        let mut finding = Finding::new("DR061", Place::new(&file.path, line), message)
            .severity(Severity::Warning)
            .unit(&entry.unit.id);
        finding.object = Some(entry.key());
        out.push(finding);
    }
}

/// Whether what stands behind a likely name is a credential: a password, or what is as random as a token.
fn is_meant_for_one(line: &str, value: &str) -> bool {
    let name = line.split([':', '=']).next().unwrap_or_default().to_lowercase();
    let name = name.trim_matches([' ', '"', '\'', '-']);
    if value.starts_with("__") {
        return false;
    }
    let password = ["pass", "passphrase", "password", "passwd"].iter().any(|end| name.ends_with(end));
    // What is called so may be the name of a file or of a Secret.
    password && !value.contains(['.', '/', '-']) || is_random(value)
}

/// `- name: X` with `value: Y` below it, as `X: Y`.
fn name_and_value(above: &str, line: &str) -> Option<String> {
    let name = above.trim().strip_prefix("- name:")?.trim().trim_matches(['"', '\'']);
    Some(format!("{name}: {}", line.trim().strip_prefix("value:")?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_other_text() {
        let kind = |text: &str| TOKEN.matches(text).iter().next().map(|i| TOKENS[i].1);
        assert_eq!(kind("key: -----BEGIN OPENSSH PRIVATE KEY-----"), Some("a private key"));
        assert_eq!(kind(&format!("token: ghp_{}", "a1".repeat(18))), Some("a GitHub token"));
        assert_eq!(kind("-----BEGIN CERTIFICATE-----"), None);
        let begin = "key: -----BEGIN RSA PRIVATE KEY-----";
        assert!(has_body(begin, &["  MIIEpAIBAAKCAQEA7lxR"]));
        assert!(has_body(&format!("{begin}\\nMIIEpAIBAAKCAQEA7lxR\\n"), &[]));
        assert!(!has_body(begin, &["  <your SSH private key>"]));
        assert!(!has_body(&format!("`{begin}\\n...\\n...\\n-----END RSA PRIVATE KEY-----`"), &["next"]));
        let named = |text: &str| NAMED.captures(text).map(|c| c[1].to_string());
        assert_eq!(named("  adminPassword: s3cretpassw0rd").as_deref(), Some("s3cretpassw0rd"));
        let likely = |text: &str| LIKELY.captures(text).is_some_and(|c| is_meant_for_one(text, &c[1]));
        for text in
            ["  DBPASS: hunter2hunter2", "API_TOKEN: 9f86d081884c7d659a2feaa0c55ad015", "password = hunter2pass9"]
        {
            assert!(likely(text), "{text}");
        }
        for text in [
            "  token: app-template-4-1",
            "secret: cloudflare-tunnel-1",
            "pass: mail-pass1",
            "existingSecret: db1",
            "Password=__USER1_PASS__",
        ] {
            assert!(!likely(text), "{text}");
        }
        let public = |field: &str, text: &str| is_public(field, &Value::from(text));
        assert!(public("stringData", "ssh-ed25519 AAAAC3Nza me@home") && !public("stringData", "ssh-ed25519\nhunter2"));
        assert!(public("data", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==") && !public("data", "aHVudGVyMg=="));
        assert_eq!(named("  DB_PASSWORD: 'hunter2hunter2'").as_deref(), Some("hunter2hunter2"));
        assert_eq!(named("  adminPassword: ${PASSWORD}"), None);
        assert_eq!(named("  existingSecretPasswordKey: password1"), None);
        let variable = name_and_value("  - name: DB_PASSWORD", "    value: hunter2hunter2");
        assert_eq!(variable.as_deref().and_then(named).as_deref(), Some("hunter2hunter2"));
        assert!(is_secret_name("DB_PASSWORD") && is_secret_name("apiKey") && is_secret_name("tls.key"));
        assert!(is_secret_name("DATABASE_URL") && is_secret_name("auth") && is_secret_name("redis-url"));
        assert!(!is_secret_name("authentik.yaml") && !is_secret_name("keycloak.conf"));
        let address = |text: &str| is_address(&Value::from(text));
        assert!(address("rediss://db.svc.cluster.local:6379?ssl_keyfile=/run/tls.key"));
        assert!(address("postgres://db:5432/app?sslmode=require"));
        assert!(!address("postgres://me:hunter2@db:5432/app"));
        assert!(!address("https://hooks.example.org/services/T0/B0/abcdef"));
        assert!(!address("redis://db:6379?password=hunter2"));
        let in_url = |text: &str| IN_URL.captures(text).map(|c| c[1].to_string());
        assert_eq!(in_url("url: postgres://me:hunter2@db:5432/x").as_deref(), Some("hunter2"));
        assert_eq!(in_url("url: postgres://me:$(PASSWORD)@db/x"), None);
        assert_eq!(in_url("url: https://example.org:8443/@me"), None);
    }
}
