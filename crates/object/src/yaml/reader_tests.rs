//! What the reader and writer do, as tables; every expectation was taken from go-yaml or Helm itself.

use proptest::prelude::*;

use super::{Dialect, documents, parse, parse_strict, split_documents, to_string, to_string_ordered};
use crate::{Map, Value, json};

fn sigs(text: &str) -> String {
    parse(text, Dialect::Sigs).map_or_else(|e| format!("error: {e}"), |v| json::to_string_sorted(&v))
}

fn kyaml(text: &str) -> String {
    parse(text, Dialect::Kyaml).map_or_else(|e| format!("error: {e}"), |v| json::to_string_sorted(&v))
}

#[test]
fn structures_read_as_go_yaml_reads_them() {
    for (text, want) in [
        ("- a\n- - b\n  - c\n-\n  - d\n- x: 1\n  w: 2\n", r#"["a",["b","c"],["d"],{"w":2,"x":1}]"#),
        ("a:\n- 1\n- 2\nb:\n  - 3\nc: # note\n  d: e\n", r#"{"a":[1,2],"b":[3],"c":{"d":"e"}}"#),
        (
            "a: |\n  x\n   y\n\n  z\n\nb: >\n  fo\n  ld\n\n   more\n  end\n",
            r#"{"a":"x\n y\n\nz\n","b":"fo ld\n\n more\nend\n"}"#,
        ),
        ("a: |-\n  x\nb: |+\n  k\n\nc: |2\n    t\nd: >-\n  a\n  b\n", r#"{"a":"x","b":"k\n\n","c":"  t\n","d":"a b"}"#),
        ("a: b\n c\n\n d\ne: \"x\n  y \\\n  z\n\n  w\"\nf: 'it''s'\n", r#"{"a":"b c\nd","e":"x y z\nw","f":"it's"}"#),
        ("m: &m\n  p: 1\nz:\n  <<: *m\n  q: 2\n", r#"{"m":{"p":1},"z":{"p":1,"q":2}}"#),
        ("? a\n: b\n? c\nd: e\n", r#"{"a":"b","c":null,"d":"e"}"#),
        (
            "a: [1,\n2]\nb: {c: d,\n e, f: , \"g\":h, ? k : l}\n",
            r#"{"a":[1,2],"b":{"c":"d","e":null,"f":null,"g":"h","k":"l"}}"#,
        ),
        ("[a: b, c]\n", r#"[{"a":"b"},"c"]"#),
        ("%YAML 1.1\n---\na: 1\n...\n", r#"{"a":1}"#),
        (
            "a: &x !!str 12\nb: !!int \"3\"\nc: !foo 4\nd: !!binary aGVsbG8=\n",
            r#"{"a":"12","b":3,"c":"4","d":"hello"}"#,
        ),
        ("a: \"\\u00e9\\x41\\U0001F600\\e\\\n  b\"\n", r#"{"a":"éA😀\u001bb"}"#),
        ("a: b\r\nc: |\r\n  d\r\n", r#"{"a":"b","c":"d\n"}"#),
        // Unicode's line separator breaks a line of a block, and stays.
        ("a: |2-\n   a\n  b\u{2028}  c\n", "{\"a\":\" a\\nb\\u2028c\"}"),
        ("a: |+\n  b\u{2029}\u{2028}\n", "{\"a\":\"b\\u2029\\u2028\\n\"}"),
        ("a: >-\n  b\u{2028}  c\n  d\n", "{\"a\":\"b\\u2028c d\"}"),
        ("a: |\n  b\u{2028}\n  d\n", "{\"a\":\"b\\u2028\\nd\\n\"}"),
        ("\u{feff}a: b\n", r#"{"a":"b"}"#),
        ("", "null"),
        ("# nothing\n", "null"),
        ("a: {b:c}\nd: e#f\ng: h #i\nj: http://x?y\n", r#"{"a":{"b:c":null},"d":"e#f","g":"h","j":"http://x?y"}"#),
        // Nobody looks behind the first document.
        (" a: 1\nb: 2\n", r#"{"a":1}"#),
    ] {
        assert_eq!(sigs(text), want, "{text}");
    }
}

#[test]
fn dialects_differ_in_words_merges_timestamps_and_keys() {
    for (text, want_sigs, want_kyaml) in [
        ("a: yes\n", r#"{"a":true}"#, r#"{"a":"yes"}"#),
        ("a: y\nn: off\n", r#"{"a":true,"false":false}"#, r#"{"a":"y","n":"off"}"#),
        ("a: {x: 1, <<: {x: 2, z: 3}}\n", r#"{"a":{"x":2,"z":3}}"#, r#"{"a":{"x":1,"z":3}}"#),
        ("a: 2020-01-02\n", r#"{"a":"2020-01-02"}"#, r#"{"a":"2020-01-02T00:00:00Z"}"#),
        ("a: 2020-1-2 3:4:5.60\n", r#"{"a":"2020-1-2 3:4:5.60"}"#, r#"{"a":"2020-01-02T03:04:05.6Z"}"#),
        ("0x10: a\n1_0: b\n", r#"{"10":"b","16":"a"}"#, r#"{"0x10":"a","1_0":"b"}"#),
        ("a: ! 12\n", r#"{"a":"12"}"#, r#"{"a":12}"#),
        ("a: 1\na: 2\n", r#"{"a":2}"#, "error: line 2, column 1: mapping key \"a\" already defined at line 1"),
    ] {
        assert_eq!(sigs(text), want_sigs, "{text}");
        assert_eq!(kyaml(text), want_kyaml, "{text}");
    }
    assert_eq!(
        parse_strict("a: 1\nb:\n  c: 1\n  c: 2\n").map_err(|e| e.to_string()),
        Err("line 4, column 3: key \"c\" already set in map".into())
    );
}

#[test]
fn scalars_resolve_as_in_go_yaml() {
    for (text, want) in [
        ("0777", "511"),
        ("0o777", "511"),
        ("08", "8"),
        ("0b11", "3"),
        ("-0x1F", "-31"),
        ("1_000", "1000"),
        ("+1", "1"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709552000"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1e3", "1000"),
        ("1.5e-7", "1.5e-7"),
        (".5", "0.5"),
        ("1.", "1"),
        ("1e400", r#""1e400""#),
        ("12:30:45", r#""12:30:45""#),
        ("1.2.3", r#""1.2.3""#),
        ("0x", r#""0x""#),
        ("~", "null"),
        ("NULL", "null"),
        ("nULL", r#""nULL""#),
        ("True", "true"),
        ("tRUE", r#""tRUE""#),
        ("<<", r#""\u003c\u003c""#),
        ("=", r#""=""#),
    ] {
        assert_eq!(sigs(text), want, "{text}");
    }
}

#[test]
fn errors_say_where() {
    for (text, want) in [
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed in this context"),
        ("a: - b\n", "line 1, column 4: block sequence entries are not allowed in this context"),
        ("--- a: b\n", "line 1, column 6: mapping values are not allowed in this context"),
        ("a:\n\tb: c\n", "line 2, column 1: found character that cannot start any token"),
        ("a: b\n\t\nc: d\n", "line 2, column 1: found a tab character that violates indentation"),
        ("a:\n  b: c\n d: e\n", "line 3, column 2: did not find expected key"),
        ("a: [1, 2\nb: 3\n", "line 2, column 2: did not find expected ',' or ']'"),
        ("a\nb: c\n", "line 2, column 2: mapping values are not allowed in this context"),
        ("a: \"x\" y\n", "line 1, column 8: did not find expected key"),
        ("- a\nb: c\n", "line 2, column 1: did not find expected '-' indicator"),
        ("a: *x\n", "line 1, column 4: unknown anchor 'x' referenced"),
        ("a: &x [*x]\n", "line 1, column 8: anchor 'x' value contains itself"),
        ("a: 'x\n", "line 1, column 4: found unexpected end of stream"),
        ("a: .inf\n", "line 1, column 4: json: unsupported value: +Inf"),
        ("a: \"\\/\"\n", "line 1, column 5: found unknown escape character"),
        ("é: b\u{7}\n", "line 1, column 5: control characters are not allowed"),
    ] {
        let got = parse(text, Dialect::Sigs).map_err(|e| e.to_string());
        assert_eq!(got, Err(want.to_string()), "{text}");
    }
}

#[test]
fn errors_are_worded_and_placed_as_go_yaml_does_on_request() {
    for (text, want) in [
        ("a: b: c\n", "yaml: mapping values are not allowed in this context"),
        ("a: b\nc: d: e\n", "yaml: line 2: mapping values are not allowed in this context"),
        ("a: b\nfoo\nbar: x\n", "yaml: line 3: could not find expected ':'"),
        ("a:\n- b\nfoo\n- c\n", "yaml: line 4: could not find expected ':'"),
        ("a:\n  b: c\n d: e\n", "yaml: line 2: did not find expected key"),
        ("a:\n- b\n  c: d\n", "yaml: line 3: mapping values are not allowed in this context"),
        ("a:\n- \"b\"\n  c: d\n", "yaml: line 2: did not find expected key"),
        ("- \"b\"\n  c: d\n", "yaml: line 1: did not find expected '-' indicator"),
        ("a: b\n]\n", "yaml: line 1: did not find expected key"),
        ("a: \"b\" @c\n", "yaml: found character that cannot start any token"),
        ("a: b\n%x\n", "yaml: line 2: found unknown directive name"),
        ("a: [- b]\n", "yaml: did not find expected node content"),
        ("a: b\nc: 'd\ne: f\n", "yaml: line 4: found unexpected end of stream"),
        ("a: b\nc: *d\n", "yaml: unknown anchor 'd' referenced"),
        ("a: {{ .b }}\nc: d\n", "yaml: invalid map key: map[interface {}]interface {}{\".b\":interface {}(nil)}"),
        ("a: {{ .b }}-c\n", "yaml: did not find expected key"),
    ] {
        let got = parse(text, Dialect::Sigs).map_err(|e| e.go_text());
        assert_eq!(got, Err(want.to_string()), "{text}");
    }
}

#[test]
fn a_broken_document_does_not_stop_the_next() {
    let text = "a: 1\n---\nb: [\n---\nc: 3\n--- # empty\n---\nd: \"x\n...\n---\n  e: 5\n";
    let docs = documents(text, Dialect::Sigs);
    let seen: Vec<String> = docs
        .iter()
        .map(|d| match d {
            Ok(d) => format!("{} {} {:?}", d.line, json::to_string(&d.value), &text[d.range.clone()]),
            Err(e) => format!("{e}"),
        })
        .collect();
    assert_eq!(
        seen,
        [
            r#"1 {"a":1} "a: 1\n""#,
            "line 4, column 1: found unexpected document indicator",
            r#"5 {"c":3} "c: 3\n""#,
            r#"6 null " # empty\n""#,
            "line 9, column 1: found unexpected document indicator",
            r#"11 {"e":5} "  e: 5\n""#,
        ]
    );
}

#[test]
fn streams_are_cut_at_marker_lines() {
    let cut: Vec<(u32, &str)> =
        split_documents("# a\n---\nb: 1\n---\n\n--- # x\nc: |\n  ---\n").iter().map(|d| (d.line, d.text)).collect();
    assert_eq!(cut, [(1, "# a\n"), (3, "b: 1\n"), (7, "c: |\n  ---\n")]);
}

#[test]
fn hostile_input_is_bounded() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_string()
        + &('b'..='i')
            .map(|c| {
                let p = char::from_u32(u32::from(c) - 1).unwrap_or('a');
                format!("{c}: &{c} [{}]\n", vec![format!("*{p}"); 9].join(","))
            })
            .collect::<String>();
    assert!(sigs(&bomb).ends_with("document contains excessive aliasing"));
    for deep in ["[".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000), "{a: ".repeat(100_000)] {
        assert!(parse(&deep, Dialect::Sigs).is_err());
    }
}

#[test]
fn writes_what_helm_writes() {
    for (value, want) in [
        (r#""""#, "\"\"\n"),
        (r#"{}"#, "{}\n"),
        (r#"[]"#, "[]\n"),
        ("null", "null\n"),
        (
            r#"{"a2":1,"a10":2,"B":{"x":[]},"a":[[1,2],{"b":{},"c":"d"}]}"#,
            "B:\n  x: []\na:\n- - 1\n  - 2\n- b: {}\n  c: d\na2: 1\na10: 2\n",
        ),
        (
            r#"["yes","n","1","1.5","~","null","0x1","1:20","2001-01-01","=","<<","1_0",".inf","a"]"#,
            "- \"yes\"\n- \"n\"\n- \"1\"\n- \"1.5\"\n- \"~\"\n- \"null\"\n- \"0x1\"\n- \"1:20\"\n- \"2001-01-01\"\n- =\n- <<\n- \"1_0\"\n- \".inf\"\n- a\n",
        ),
        (
            r##"["a: b","a #b","#a","- a","-a","?a","a:"," a","a ","[","it's","'","\ta","a\u0001","😀","é"]"##,
            "- 'a: b'\n- 'a #b'\n- '#a'\n- '- a'\n- -a\n- ?a\n- 'a:'\n- ' a'\n- 'a '\n- '['\n- it's\n- ''''\n- \"\\ta\"\n- \"a\\x01\"\n- \"\\U0001F600\"\n- é\n",
        ),
        (
            r#"{"a":"x\ny","b":"x\n","c":"x\n\n","d":" x\n","e":"x \ny","f":"\n","g":"x\n\ty"}"#,
            "a: |-\n  x\n  y\nb: |\n  x\nc: |+\n  x\n\nd: |2\n   x\ne: \"x \\ny\"\nf: |2+\n\ng: \"x\\n\\ty\"\n",
        ),
        (
            r#"[1.0,1e6,1.5e-7,123456789.5,1e20,1e21,18446744073709551615,-0.0,0.1]"#,
            "- 1\n- 1000000\n- 1.5e-07\n- 1.234567895e+08\n- 1e+20\n- 1e+21\n- 18446744073709551615\n- 0\n- 0.1\n",
        ),
        (r#"{"a\nb":{"c":1}}"#, "? |-\n  a\n  b\n: c: 1\n"),
    ] {
        let value = json::parse(value.as_bytes()).unwrap();
        assert_eq!(to_string(&value), want);
    }
    let long: Value = Value::from("word ".repeat(20).trim_end());
    assert_eq!(to_string(&long), format!("{}word\n  word word word\n", "word ".repeat(16)));
    assert_eq!(to_string_ordered(&long), format!("{}\n", "word ".repeat(20).trim_end()));
    let tabs = json::parse(br#"{"b":"x\n\ty","a":"x\ty"}"#).unwrap();
    assert_eq!(to_string_ordered(&tabs), "b: |-\n  x\n  \ty\na: \"x\\ty\"\n");
}

#[test]
fn reads_every_shared_file() {
    let root = std::env::var_os("DRUSE_SHARED").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no shared fixtures");
        return;
    }
    let mut folders = vec![root.join("fixtures"), root.join("flux")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                for doc in documents(&text, Dialect::Sigs).into_iter().flatten() {
                    let again = parse(&to_string(&doc.value), Dialect::Sigs).unwrap();
                    assert_eq!(again, doc.value, "{}", path.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 100, "{count}");
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~\n\té日😀]{0,12}",
        "[-:#?,'\" \n\\[\\]{}&*!|>%@`=~.0-9a-z]{0,8}",
        "(yes|no|on|~|null|true|1e3|0x1|0o7|1_0|1:20|2001-01-01|[.]inf|<|=|-|[.]{3}|---)",
        "[a-z ]{60,200}",
    ]
    .prop_filter("the merge key has no quoted form", |s| s != "<<");
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::from),
        (any::<i32>(), 1..1000i32).prop_map(|(a, b)| Value::Float(f64::from(a) + f64::from(b) / 1024.0)),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((text.clone(), inner), 0..4)
                .prop_map(|entries| Value::Map(entries.into_iter().collect::<Map>())),
        ]
    })
}

/// Integral floats are written as integers, as Go's JSON does.
fn numbers_settled(v: Value) -> Value {
    match v {
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => {
            parse(&to_string(&Value::Float(f)), Dialect::Sigs).unwrap()
        }
        Value::Array(a) => a.into_iter().map(numbers_settled).collect(),
        Value::Map(m) => Value::Map(m.into_iter().map(|(k, v)| (k, numbers_settled(v))).collect()),
        v => v,
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(v in any_value()) {
        let v = numbers_settled(v);
        let text = to_string(&v);
        prop_assert_eq!(parse_strict(&text).map_err(|e| format!("{e}\n{text}")), Ok(v.clone()));
        let text = to_string_ordered(&v);
        prop_assert_eq!(parse(&text, Dialect::Kyaml).map_err(|e| format!("{e}\n{text}")), Ok(v));
    }

    #[test]
    fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = documents(&text, Dialect::Sigs);
        let _ = documents(&text, Dialect::Kyaml);
    }

    #[test]
    fn no_yaml_like_input_makes_it_panic(
        parts in proptest::collection::vec("(\n|\n |\n  |- |[?] |: |a|b|\"|'|#|&x |[*]x|!t |!|[|]|>|-|[+]|[\\[\\]{},]|---|\n---\n|\n[.]{3}\n|\t|\r|<<|%|é|1)", 0..40)
    ) {
        let text = parts.concat();
        let docs = documents(&text, Dialect::Sigs);
        prop_assert!(docs.len() <= text.len() + 1);
        let _ = documents(&text, Dialect::Kyaml);
    }
}
