//! What the engine promises besides Go's behaviour: structured errors, options, objects, sharing, seeding.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;

use druse_gotemplate::{
    Env, FuncError, FuncMap, GoObject, Host, MapRef, NativeFn, Options, TemplateError, TemplateSet, Val, parse,
};
use druse_object::{Str, Value};

/// Notes which random bytes were asked for.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Host for Notes {
    fn random(&self, template: &str, function: &str, count: u32, out: &mut [u8]) {
        self.0.borrow_mut().push(format!("{template} {function} {count}"));
        out.fill(b'x');
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

struct Version;

impl GoObject for Version {
    fn type_name(&self) -> &str {
        "common.KubeVersion"
    }
    fn field(&self, name: &str, _: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        match name {
            "Major" => Some(Ok(Val::str("1"))),
            "GitVersion" => Some(Ok(Val::str("v1.37.0"))),
            "Broken" => Some(Err(FuncError::new("out of order"))),
            _ => None,
        }
    }
    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        match (name, args) {
            ("Has", [Val::Str(s)]) => Some(Ok(Val::Bool(s == "apps/v1"))),
            (_, []) => self.field(name, env),
            _ => None,
        }
    }
    fn display(&self) -> String {
        "v1.37.0".to_owned()
    }
    fn to_value(&self) -> Value {
        Value::Null
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn include(env: &mut Env<'_>, args: &[Val]) -> Result<Val, FuncError> {
    let name = druse_gotemplate::printf::to_string(args.first().unwrap_or(&Val::Nil));
    env.exec.include(&name, args.get(1).cloned().unwrap_or_default()).map(Val::str)
}

fn dice(env: &mut Env<'_>, _: &[Val]) -> Result<Val, FuncError> {
    let mut out = [0; 2];
    env.random("dice", &mut out);
    Ok(Val::str(String::from_utf8_lossy(&out)))
}

fn funcs() -> FuncMap {
    FuncMap::go().with([("include", include as NativeFn), ("dice", dice)])
}

fn set(files: &[(&str, &str)]) -> TemplateSet {
    let mut set = TemplateSet::new(&funcs());
    for (name, text) in files {
        set.parse(name, text).unwrap();
    }
    set
}

fn run(text: &str, opts: Options) -> Result<String, TemplateError> {
    let data = MapRef::default();
    data.set("v", Val::Object(Rc::new(Version)));
    data.set("m", Val::Map(MapRef::default()));
    set(&[("c/templates/x.yaml", text)]).execute("c/templates/x.yaml", Val::Map(data), &Notes::default(), opts)
}

fn out(text: &str) -> String {
    run(text, Options::default()).unwrap()
}

fn err(text: &str) -> String {
    run(text, Options::default()).unwrap_err().to_string()
}

#[test]
fn errors_come_in_parts() {
    let text = "a: b\n\nc:  {{ .m.x.y }}";
    let e = run(text, Options::default()).unwrap_err();
    assert_eq!((e.template.as_str(), e.file.as_str()), ("c/templates/x.yaml", "c/templates/x.yaml"));
    assert_eq!((e.line, e.column, e.context.as_deref()), (3, Some(9), Some(".m.x.y")));
    assert_eq!(e.message, "nil pointer evaluating interface {}.y");
    assert_eq!(
        e.to_string(),
        "template: c/templates/x.yaml:3:9: executing \"c/templates/x.yaml\" at <.m.x.y>: nil pointer evaluating \
         interface {}.y"
    );
    let e = TemplateSet::new(&funcs()).parse("f", "\n{{ if }}").unwrap_err();
    assert_eq!((e.line, e.column, e.message.as_str()), (2, None, "missing value for if"));
}

#[test]
fn the_reason_of_a_nested_failure_is_the_innermost() {
    let e = run(
        "{{ define \"a\" }}{{ include \"b\" . }}{{ end }}{{ define \"b\" }}{{ .m.x.y }}{{ end }}{{ include \"a\" . }}",
        Options::default(),
    )
    .unwrap_err();
    assert_eq!(e.chain().len(), 3);
    assert!(e.reason().ends_with("executing \"b\" at <.m.x.y>: nil pointer evaluating interface {}.y"));
    assert!(e.to_string().starts_with("template: c/templates/x.yaml:1:84: "), "{e}");
}

#[test]
fn missing_keys_are_errors_in_strict_mode() {
    let strict = Options { strict: true, ..Options::default() };
    assert_eq!(run("{{ .m.x }}", strict).unwrap_err().message, "map has no entry for key \"x\"");
    assert_eq!(run("{{ .m.x }}|", Options::default()).unwrap(), "|");
    assert_eq!(run("{{ .m.x }}|", Options { keep_no_value: true, ..Options::default() }).unwrap(), "<no value>|");
}

#[test]
fn objects_have_fields_and_methods() {
    assert_eq!(out("{{ .v }} {{ .v.Major }} {{ .v.Has \"apps/v1\" }} {{ \"x\" | .v.Has }}"), "v1.37.0 1 true false");
    assert_eq!(out("{{ printf \"%T\" .v }}{{ with .v }}{{ .GitVersion }}{{ end }}"), "common.KubeVersionv1.37.0");
    let e = err("{{ .v.Nope }}");
    assert!(e.ends_with("at <.v.Nope>: can't evaluate field Nope in type interface {}"), "{e}");
    let e = err("{{ with .v }}{{ .Nope }}{{ end }}");
    assert!(e.ends_with("at <.Nope>: can't evaluate field Nope in type common.KubeVersion"), "{e}");
    assert!(err("{{ .v.Major 1 }}").ends_with("Major has arguments but cannot be invoked as function"));
    assert!(err("{{ .v.Broken }}").ends_with("at <.v.Broken>: error calling Broken: out of order"));
    assert!(err("{{ .m.x 1 }}").ends_with("x is not a method but has arguments"));
}

#[test]
fn later_definitions_win_unless_they_are_empty() {
    let s = set(&[
        ("a", "{{ define \"n\" }}first{{ end }}{{ define \"e\" }}kept{{ end }}"),
        ("b", "{{ define \"n\" }}second{{ end }}{{ define \"e\" }} {{/* nothing */}} {{ end }}"),
        ("c", "{{ template \"n\" }} {{ template \"e\" }}"),
    ]);
    assert_eq!(s.execute("c", Val::Nil, &Notes::default(), Options::default()).unwrap(), "second kept");
    assert_eq!(s.names(), ["a", "b", "c", "e", "n"].map(Str::from));
    let e = s.execute("zz", Val::Nil, &Notes::default(), Options::default()).unwrap_err();
    assert_eq!(e.to_string(), "template: no template \"zz\" associated with template \"gotpl\"");
}

#[test]
fn parsed_templates_are_shared_by_threads_and_sets() {
    let trees = parse::parse("a", "{{ define \"n\" }}{{ . }}{{ end }}{{ template \"n\" 7 }}", &funcs()).unwrap();
    let mut one = TemplateSet::new(&funcs());
    one.add(trees.iter().cloned());
    let outs: Vec<String> = std::thread::scope(|scope| {
        let run = || one.execute("a", Val::Nil, &Notes::default(), Options::default()).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(outs, ["7"; 4]);
}

#[test]
fn randomness_is_asked_for_by_file_function_and_count() {
    let notes = Notes::default();
    let s = set(&[("h", "{{ define \"d\" }}{{ dice }}{{ end }}"), ("f", "{{ dice }}{{ include \"d\" . }}{{ dice }}")]);
    assert_eq!(s.execute("f", Val::Nil, &notes, Options::default()).unwrap(), "xxxxxx");
    assert_eq!(*notes.0.borrow(), ["f dice 0", "f dice 1", "f dice 2"]);
}

#[test]
fn maps_are_references_and_what_holds_itself_is_cut() {
    let map = MapRef::default();
    map.set("self", Val::Map(map.clone()));
    assert!(Val::Map(map).to_value().get("self").is_some());
}
