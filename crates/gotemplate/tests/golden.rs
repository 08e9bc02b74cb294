//! What Go's own `text/template` answers, case by case: `golden/cases.txt` run by `golden/main.go` over
//! `golden/data.json` gave `golden/cases.json`.
#![allow(clippy::unwrap_used)]

use druse_gotemplate::{
    Env, FuncError, FuncMap, Host, MapRef, NativeFn, Options, TemplateError, TemplateSet, Val, printf,
};
use druse_object::{Str, Value};

struct NoHost;

impl Host for NoHost {
    fn random(&self, _: &str, _: &str, _: u32, out: &mut [u8]) {
        out.fill(7);
    }
    fn now_unix_nanos(&self) -> i128 {
        0
    }
    fn lookup(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Value, String> {
        Ok(Value::Null)
    }
    fn resolve_host(&self, _: &str) -> String {
        String::new()
    }
}

type Res = Result<Val, FuncError>;

fn text(v: &Val) -> String {
    printf::to_string(v)
}

fn list(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(Val::list(a.to_vec()))
}
fn dict(_: &mut Env<'_>, a: &[Val]) -> Res {
    let map = MapRef::default();
    for pair in a.chunks_exact(2) {
        map.set(text(&pair[0]), pair[1].clone());
    }
    Ok(Val::Map(map))
}
fn upper(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(Val::str(text(&a[0]).to_uppercase()))
}
fn repeat(_: &mut Env<'_>, a: &[Val]) -> Res {
    match &a[0] {
        Val::Int(n) if *n >= 0 => Ok(Val::str(text(&a[1]).repeat(usize::try_from(*n).unwrap()))),
        _ => Err(FuncError::new("strings: negative Repeat count")),
    }
}
fn fail(_: &mut Env<'_>, a: &[Val]) -> Res {
    Err(FuncError::new(text(&a[0])))
}
fn keys(_: &mut Env<'_>, a: &[Val]) -> Res {
    let mut out = Vec::new();
    for v in a {
        if let Val::Map(m) = v {
            out.extend(m.borrow().keys().map(|k| Val::Str(k.clone())));
        }
    }
    Ok(Val::list(out))
}
fn first(_: &mut Env<'_>, a: &[Val]) -> Res {
    match &a[0] {
        Val::List(l) => Ok(l.first().cloned().unwrap_or(Val::Nil)),
        Val::Nil => Err(FuncError::new("interface conversion: interface {} is nil, not []interface {}")),
        v => Err(FuncError::new(format!(
            "interface conversion: interface {{}} is {}, not []interface {{}}",
            printf::type_name(v)
        ))),
    }
}
#[allow(clippy::cast_possible_truncation)]
fn int64(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(Val::Int64(match a[0] {
        Val::Int(i) => i,
        Val::Float(f) => f as i64,
        _ => 0,
    }))
}
#[allow(clippy::cast_precision_loss)]
fn float64(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(Val::Float(match a[0] {
        Val::Int(i) => i as f64,
        Val::Float(f) => f,
        _ => 0.0,
    }))
}
fn include(env: &mut Env<'_>, a: &[Val]) -> Res {
    env.exec.include(&text(&a[0]), a[1].clone()).map(Val::str)
}
fn tpl(env: &mut Env<'_>, a: &[Val]) -> Res {
    env.exec.tpl(&text(&a[0]), a[1].clone()).map(Val::str)
}

fn funcs() -> FuncMap {
    let table: [(&'static str, NativeFn); 11] = [
        ("list", list),
        ("dict", dict),
        ("upper", upper),
        ("repeat", repeat),
        ("fail", fail),
        ("keys", keys),
        ("first", first),
        ("int64", int64),
        ("float64", float64),
        ("include", include),
        ("tpl", tpl),
    ];
    FuncMap::go().with(table)
}

fn run(files: &[(&str, &str)], data: Val) -> Result<String, TemplateError> {
    let mut set = TemplateSet::new(&funcs());
    for (name, text) in files {
        set.parse(name, text)?;
    }
    let name = files.last().map_or("", |f| f.0);
    set.execute(name, data, &NoHost, Options { keep_no_value: true, ..Options::default() })
}

fn golden(file: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_case_comes_out_as_in_go() {
    let data = golden("data.json");
    let mut bad = Vec::new();
    // A declaration skipped by a short circuit is an undefined variable in Go; variables are slots here.
    let known = ["{{ and false ($x := 3) }}{{ $x }}|"];
    let cases = golden("cases.json");
    for case in cases.items() {
        let files: Vec<(&str, &str)> = case["files"]
            .items()
            .iter()
            .map(|f| (f.items()[0].as_str().unwrap(), f.items()[1].as_str().unwrap()))
            .collect();
        if known.contains(&files[0].1) {
            continue;
        }
        let text = |k: &str| case[k].as_str().unwrap_or("").to_owned();
        let (out, err, chain) = match run(&files, Val::from_values(&data)) {
            // Bytes that are no UTF-8 are private characters here, and U+FFFD in Go's JSON.
            Ok(out) => (out.replace(|c| c >= '\u{10fe80}', "\u{fffd}"), String::new(), Vec::new()),
            Err(e) => (String::new(), e.to_string(), e.chain()),
        };
        let want: Vec<String> = case["chain"].items().iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        let chain = if chain.len() > 1 { chain } else { Vec::new() };
        if out != text("out") || err != text("err") {
            bad.push(format!("{files:?}\n  want {:?}{:?}\n  got  {out:?}{err:?}", text("out"), text("err")));
        } else if chain != want {
            bad.push(format!("{files:?}\n  want chain {want:#?}\n  got {chain:#?}"));
        }
    }
    let total = cases.items().len();
    assert!(bad.is_empty(), "{} of {total} differ:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn a_thousand_nested_includes_work_and_more_fail_cleanly() {
    let deep = |n: i64| {
        druse_gotemplate::with_stack(move || {
            let text = "{{ define \"d\" }}{{ if gt (len .) 0 }}{{ include \"d\" (slice . 1) }}{{ else }}end{{ end }}{{ end }}{{ include \"d\" .s }}";
            let data =
                Val::Map(MapRef::new([(Str::from("s"), Val::str("x".repeat(usize::try_from(n).unwrap())))].into()));
            run(&[("main", text)], data)
        })
    };
    assert_eq!(deep(990).unwrap(), "end");
    let e = deep(1500).unwrap_err();
    assert_eq!(e.reason(), "rendering template has a nested reference name: d: unable to execute template");
    // On a small stack it gives up with an error instead.
    let e = run(&[("main", "{{ define \"d\" }}{{ template \"d\" . }}{{ end }}{{ template \"d\" . }}")], Val::Nil)
        .unwrap_err();
    assert_eq!(e.message, "exceeded maximum template depth (100000)");
    let nested = "{{ if true }}".repeat(200_000);
    assert!(run(&[("main", &nested)], Val::Nil).is_err());
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(200_000), ")".repeat(200_000));
    assert!(run(&[("main", &parens)], Val::Nil).is_err());
}

#[test]
fn a_map_that_holds_itself_prints() {
    let map = MapRef::default();
    map.set("self", Val::Map(map.clone()));
    assert!(printf::to_string(&Val::Map(map)).contains('…'));
}
