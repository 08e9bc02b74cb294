//! Whatever the text, the engine answers with output or an error: never a panic, a hang or an overflow.
#![allow(clippy::unwrap_used)]

use druse_gotemplate::{FuncMap, Host, Options, TemplateSet, Val, printf};
use druse_object::Value;
use proptest::prelude::*;

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

fn run(text: &str) {
    let data: Value = serde_json::from_str(r#"{"a":{"b":[1,"x",null]},"s":"héllo"}"#).unwrap();
    let mut set = TemplateSet::new(&FuncMap::go());
    if set.parse("t", text).is_ok() {
        let _ = set.execute("t", Val::from_values(&data), &NoHost, Options::default());
    }
}

/// Pieces of templates, so that random texts get past the scanner.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "{{", "}}", "{{-", "-}}", " ", "if", "else", "end", "range", "with", "define", "block", "template",
            "break", "continue", "nil", "true", ".", ".a", ".a.b", ".s", "$", "$x", ":=", "=", ",", "|", "(", ")",
            "\"a\"", "`r`", "'c'", "1", "2.5", "0x1F", "-", "print", "printf", "\"%v %5d %[2]*q\"", "index", "len",
            "eq", "and", "or", "not", "/*", "*/", "\n", "slice", "\\", "é", "1i", "lt",
        ])
        .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

/// Well-formed templates, nested a few levels.
fn template() -> impl Strategy<Value = String> {
    let operand =
        prop::sample::select(vec![".", ".a", ".a.b", "$", "1", "\"s\"", "nil", "(len .s)", "(print 1 2)", ".s.t"]);
    let leaf = prop_oneof![
        "[a-z \n]{0,8}",
        operand.clone().prop_map(|o| format!("{{{{ print {o} }}}}")),
        operand.clone().prop_map(|o| format!("{{{{- {o} | printf \"%v\" -}}}}")),
        (operand.clone(), operand.clone()).prop_map(|(a, b)| format!("{{{{ index {a} {b} }}}}")),
    ];
    leaf.prop_recursive(6, 64, 4, move |inner| {
        let list = prop::collection::vec(inner, 0..4).prop_map(|v| v.concat());
        (prop::sample::select(vec!["if", "with", "range", "range $i, $e :="]), operand.clone(), list.clone(), list)
            .prop_map(|(word, o, a, b)| format!("{{{{ {word} {o} }}}}{a}{{{{ else }}}}{b}{{{{ end }}}}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_parses_or_fails(text in any::<String>()) {
        run(&text);
        run(&format!("{{{{{text}"));
    }

    #[test]
    fn any_pieces_parse_or_fail(pieces in prop::collection::vec(piece(), 0..40)) {
        run(&pieces.concat());
        run(&format!("{{{{ {} }}}}", pieces.join(" ")));
    }

    #[test]
    fn well_formed_templates_parse(text in template()) {
        let mut set = TemplateSet::new(&FuncMap::go());
        prop_assert!(set.parse("t", &text).is_ok(), "{text}");
        run(&text);
    }

    #[test]
    fn any_format_prints(format in "[%a-zA-Z0-4 .*+#\\[\\]-]{0,12}", n in any::<i64>(), f in any::<f64>(), s in any::<String>()) {
        let list = Val::list(vec![Val::Bool(true)]);
        let args = [Val::Int(n % 1000), Val::Float(f), Val::str(s), Val::Nil, list];
        let out = printf::sprintf(&format, &args);
        prop_assert!(format.contains('%') || out.starts_with(&format));
    }
}
