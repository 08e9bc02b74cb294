//! Every function against real Helm: `funcs/cases.txt` has expressions by theme, `funcs/expected.txt` what
//! `helm template` (v4.3.1) makes of each, or its error.
//!
//! `HELM=/path/to/helm cargo test -p druse-gotemplate --test funcs -- --ignored` writes the second from the first.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;

use druse_gotemplate::{Env, Executor, FuncError, FuncMap, Host, MapRef, Options, TemplateSet, Val, funcs};
use druse_object::Value;

/// Values the expressions may use. Helm reads them from the same text as `values.yaml`.
const VALUES: &str = r#"{"f": 1000000, "i": 3, "g": 3.0, "big": 123456789012, "n": null, "s": "abc", "l": [1, 2, 3], "le": [], "m": {"a": 1, "b": {"c": 2}}}"#;

const NAMED: &str = r#"{{- define "named" }}<{{ .a }}>{{ end }}"#;

struct Fixed;
impl Host for Fixed {
    fn random(&self, template: &str, function: &str, count: u32, out: &mut [u8]) {
        let mut state = template
            .bytes()
            .chain(function.bytes())
            .fold(u64::from(count) + 1, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        for b in out {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *b = (state >> 56) as u8;
        }
    }
    fn now_unix_nanos(&self) -> i128 {
        1_700_000_000_000_000_000
    }
    fn lookup(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Value, String> {
        Ok(Value::Null)
    }
    fn resolve_host(&self, _: &str) -> String {
        String::new()
    }
}

fn funcs() -> FuncMap {
    funcs::helm()
}

fn data() -> Val {
    let values: Value = serde_json::from_str(VALUES).unwrap();
    let root = druse_gotemplate::MapRef::default();
    // `null` in values.yaml removes the key.
    let mut values = values;
    values.as_map_mut().unwrap().remove("n");
    root.set("Values", Val::from_values(&values));
    Val::Map(root)
}

fn render(expression: &str) -> Result<String, String> {
    let mut set = TemplateSet::new(&funcs());
    set.parse("c/templates/_n.tpl", NAMED).unwrap();
    set.parse("c/templates/a.yaml", expression).map_err(|e| e.to_string())?;
    set.execute("c/templates/a.yaml", data(), &Fixed, Options { keep_no_value: true, ..Options::default() })
        .map_err(|e| e.to_string())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/funcs").join(name)
}

fn cases() -> Vec<String> {
    let text = std::fs::read_to_string(path("cases.txt")).unwrap();
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
}

/// What Helm reports is the innermost error; ours holds the whole chain.
fn innermost(error: &str) -> String {
    let message = match error.split_once("HELM_ERR_START") {
        Some((_, m)) => m.rsplit_once("HELM_ERR_END").map_or(m, |(m, _)| m),
        None => error.rsplit(">: ").next().unwrap_or(error),
    };
    let message = message.trim();
    let message = match message.split_once("error calling ").filter(|(before, _)| before.is_empty()) {
        Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, m)| m),
        None => message,
    };
    message.strip_prefix("template: ").unwrap_or(message).to_owned()
}

fn shown(result: &Result<String, String>) -> String {
    match result {
        Ok(text) => text.split('\n').map(|l| format!("  {l}\n")).collect(),
        Err(e) => innermost(e).split('\n').map(|l| format!("! {l}\n")).collect(),
    }
}

#[test]
fn every_expression_gives_what_helm_gives() {
    let expected = std::fs::read_to_string(path("expected.txt")).unwrap();
    let mut report = String::new();
    let mut blocks = expected.split("\n>> ").map(|b| b.strip_prefix(">> ").unwrap_or(b));
    let mut failed = 0;
    for case in cases() {
        let block = blocks.next().unwrap_or_default();
        let (expression, want) = block.split_once('\n').unwrap_or((block, ""));
        assert_eq!(expression, case, "expected.txt is out of date: write it anew");
        let got = shown(&render(&case));
        if got.trim_end_matches('\n') != want.trim_end_matches('\n') {
            failed += 1;
            // Expressions joined by `|` outside of braces are easier to read side by side.
            let split = |s: &str| s.replace('|', "\n  | ");
            let _ = writeln!(report, "{case}\n want:\n{}\n got:\n{}", split(want), split(&got));
        }
    }
    assert!(report.is_empty(), "{failed} differ:\n{report}");
}

#[test]
fn every_function_is_covered() {
    let text = cases().join("\n");
    let words: std::collections::HashSet<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    // RSA keys take long to make; they have a test of their own.
    let apart = ["genCA", "genSelfSignedCert", "genSignedCert"];
    let missing: Vec<_> =
        funcs::helm_funcs().map(|f| f.0).filter(|f| !words.contains(f) && !apart.contains(f)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn randomness_depends_on_the_seed_and_the_call_alone() {
    let text = "{{ randAlphaNum 8 }} {{ randAlphaNum 8 }} {{ uuidv4 }} {{ genPrivateKey \"ecdsa\" }}";
    let first = render(text).unwrap();
    assert_eq!(first, render(text).unwrap());
    let words: Vec<_> = first.split(' ').collect();
    assert_ne!(words[0], words[1], "two calls give two passwords");
    let longer = render(&format!("{{{{ randAscii 3 | len }}}} {text}")).unwrap();
    assert!(longer.ends_with(&first), "a call of another function changes nothing");
}

#[test]
fn certificates_of_rsa_keys_are_made() {
    let text = "{{ $ca := genCA \"ca\" 365 }}{{ $c := genSignedCert \"x\" (list \"10.0.0.1\") (list \"a.b\") 30 $ca }}\
                {{ $s := genSelfSignedCert \"y\" nil nil 1 }}{{ $ca.Cert }}{{ $ca.Key }}{{ $c.Cert }}{{ $c.Key }}{{ $s.Cert }}";
    let out = render(text).unwrap();
    assert_eq!(out.matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(out.matches("BEGIN RSA PRIVATE KEY").count(), 2);
    assert_eq!(out, render(text).unwrap());
}

struct Nothing;
impl Executor for Nothing {
    fn include(&mut self, _: &str, _: Val) -> Result<String, FuncError> {
        Ok(String::new())
    }
    fn tpl(&mut self, _: &str, _: Val) -> Result<String, FuncError> {
        Ok(String::new())
    }
    fn template_name(&self) -> Rc<str> {
        "t".into()
    }
    fn call_count(&mut self, _: &'static str) -> u32 {
        0
    }
}

#[test]
fn no_arguments_make_a_function_panic() {
    let cyclic = MapRef::default();
    cyclic.set("a", Val::Map(cyclic.clone()));
    let object = |text: &str| {
        // A time, a duration, a version.
        let holder = MapRef::default();
        let mut set = TemplateSet::new(&funcs());
        set.parse("t", &format!("{{{{ $_ := set . \"v\" ({text}) }}}}")).unwrap();
        set.execute("t", Val::Map(holder.clone()), &Fixed, Options::default()).unwrap();
        holder.get("v").unwrap()
    };
    let values = [
        Val::Nil,
        Val::Missing,
        Val::Bool(true),
        Val::Int(0),
        Val::Int(3),
        Val::Int(-2),
        Val::Int(i64::MAX),
        Val::Int(i64::MIN),
        Val::Int64(i64::MIN),
        Val::UInt64(u64::MAX),
        Val::Float(f64::NAN),
        Val::Float(-1e300),
        Val::str(""),
        Val::str("é\u{10FE80}\u{301}x"),
        Val::str("1h2m [a](*$1 {\"x\": -1}\n\t= \"\"\"\\u12"),
        Val::str("2006-01-02 15:04:05.000 MST -0700 Z07:00"),
        Val::list(vec![]),
        Val::list(vec![Val::Nil, Val::str("a"), Val::Float(1.5)]),
        Val::Map(MapRef::default()),
        Val::Map(cyclic),
        object("now"),
        object("mustToDuration 5"),
        object("semver \"1.2.3-a\""),
    ];
    // These take long, and do with any arguments what they do in the other tests.
    let slow = ["bcrypt", "htpasswd", "derivePassword", "genCA", "genSelfSignedCert", "genSignedCert", "genPrivateKey"];
    for (name, call) in funcs::helm_funcs().filter(|(name, _)| !slow.contains(name)) {
        let run = |args: &[Val]| {
            let _ = call(&mut Env { exec: &mut Nothing, host: &Fixed, lint: false }, args);
        };
        run(&[]);
        // Lists as long as they may be are made once, not for every pair.
        let huge = |v: &Val| matches!(v, Val::Int(i64::MAX | i64::MIN)) && name.starts_with(['u', 's', 'r']);
        for a in &values {
            run(std::slice::from_ref(a));
            for b in values.iter().filter(|b| !huge(b)) {
                run(&[a.clone(), b.clone()]);
                for c in values.iter().filter(|c| !huge(c)) {
                    run(&[a.clone(), b.clone(), c.clone()]);
                }
            }
        }
    }
}

#[test]
#[ignore = "runs Helm to write what the other tests expect"]
fn write_expected() {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let dir = tempdir();
    let chart = dir.join("c");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: c\nversion: 0.1.0\n").unwrap();
    std::fs::write(chart.join("values.yaml"), VALUES).unwrap();
    std::fs::write(chart.join("templates/_n.tpl"), NAMED).unwrap();
    let mut out = String::new();
    for case in cases() {
        let template =
            format!("{{{{- define \"case\" }}}}{case}{{{{ end -}}}}\nx: {{{{ include \"case\" . | b64enc }}}}\n");
        std::fs::write(chart.join("templates/a.yaml"), template).unwrap();
        let run =
            std::process::Command::new(&helm).args(["template", "r"]).arg(&chart).env("TZ", "UTC").output().unwrap();
        let result = if run.status.success() {
            let text = String::from_utf8(run.stdout).unwrap();
            let encoded = text.lines().find_map(|l| l.strip_prefix("x: ")).unwrap_or_default();
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
            Ok(String::from_utf8_lossy(&decoded).into_owned())
        } else {
            let text = String::from_utf8(run.stderr).unwrap();
            let text = text.strip_prefix("Error: ").unwrap_or(&text);
            let text = text.split("\n\nUse --debug").next().unwrap_or(text).trim();
            Err(match text.strip_prefix("execution error at ") {
                Some(rest) => rest.split_once("): ").map_or(rest, |(_, m)| m).to_owned(),
                // The innermost location comes last.
                None => text.rsplit(">:").next().unwrap_or(text).trim().to_owned(),
            })
        };
        let _ = write!(out, ">> {case}\n{}", shown(&result));
    }
    std::fs::write(path("expected.txt"), out).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

fn tempdir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("druse-funcs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
