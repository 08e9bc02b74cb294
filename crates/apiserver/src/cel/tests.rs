//! Expressions and what they say.

use druse_object::json;

use super::{DEFAULT_BUDGET, Program, Scope, Type, Val};

fn eval(text: &str) -> Result<String, String> {
    let object = json::parse(
        br#"{"spec":{"n":3,"name":"abc","tags":["a","b"],"m":{"x":"1"},"namespace":"q","while":"w","when":"2024-01-02T03:04:05Z"}}"#,
    )
    .unwrap();
    let mut budget = DEFAULT_BUDGET;
    let program = Program::compile(text).map_err(|e| e.0)?;
    let out = program.eval(&[("self", Val::json(&object))], &mut budget).map_err(|e| e.0)?;
    Ok(json::to_string(&out.to_value()))
}

#[test]
fn expressions_have_the_values_the_language_gives_them() {
    for (text, want) in [
        ("1 + 2 * 3 == 7 && !(false)", "true"),
        ("self.spec.n > 2 ? 'big' : 'small'", "\"big\""),
        ("has(self.spec.none)", "false"),
        ("has(self.spec.m) && self.spec.m['x'] == '1'", "true"),
        ("self.spec.tags.all(t, t.size() == 1)", "true"),
        ("self.spec.tags.exists(t, t == 'b')", "true"),
        ("self.spec.tags.map(t, t + '!')", r#"["a!","b!"]"#),
        ("self.spec.tags.filter(t, t != 'a').size()", "1"),
        ("self.spec.m.all(k, k == 'x')", "true"),
        ("'b' in self.spec.tags && 'x' in self.spec.m", "true"),
        ("self.spec.none.x == 1 || true", "true"),
        ("self.spec.__namespace__", "\"q\""),
        ("self.spec.__while__", "\"w\""),
        ("self.?spec.?none.orValue('d')", "\"d\""),
        ("self.spec.name.matches('^[a-z]+$') && self.spec.name.startsWith('ab')", "true"),
        ("'a,b'.split(',').join('-').upperAscii()", "\"A-B\""),
        ("quantity('1Gi').isGreaterThan(quantity('1000M'))", "true"),
        ("duration('1h30m') > duration('60m')", "true"),
        ("timestamp(self.spec.when).getFullYear()", "2024"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"),
        ("url('https://a.b:8/x').getPort()", "\"8\""),
        ("[1, 2, 3].sum() + [3, 1].max()", "9"),
        ("sets.contains([1, 2], [2])", "true"),
        ("'%s is %d'.format(['n', 3])", "\"n is 3\""),
        ("type(1) == int", "true"),
        ("{'a': 1}.a", "1"),
        ("-5 / 2", "-2"),
        ("r'\\d' + \"\\n\" + '''x'''", r#""\\d\nx""#),
        ("self.spec.tags.exists_one(i, t, i == 0)", "true"),
        ("format.dns1123Label().validate('a-b').hasValue()", "false"),
        ("format.named('labelValue').value().validate('-').value().size()", "1"),
        ("format.named('none').hasValue()", "false"),
        (
            "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v01.2', true).compareTo(semver('1.2.0')) == 0",
            "true",
        ),
        ("isSemver('v1.0') || isSemver('1.0.0+a')", "true"),
        ("semver('1.2.3').minor()", "2"),
        ("[3, 1, 2].sort()", "[1,2,3]"),
        ("[{'n': 2, 's': 'b'}, {'n': 1, 's': 'a'}].sortBy(e, e.n).map(e, e.s)", r#"["a","b"]"#),
        ("[1, [2, [3]]].flatten() == [1, 2, [3]] && [1, [2, [3]]].flatten(2) == [1, 2, 3]", "true"),
    ] {
        assert_eq!(eval(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn names_are_variables_types_or_libraries_with_a_function() {
    let scope = Scope { variables: vec![("self".into(), Type::Dyn)], ..Scope::default() };
    let check = |text: &str| Program::compile(text).unwrap().check(text, &scope).map(|c| c.output().clone());
    for text in
        ["type(self) == string", "lists.range(3).size() == 3", "strings.quote('a') == self.a", "ip('::1') == self.b"]
    {
        assert_eq!(check(text), Ok(Type::Bool), "{text}");
    }
    for text in ["lists == 1", "other.range(3)", "selves.a", "cel.bind(x, 1, x)", "jsonpatch.escapeKey('a')"] {
        let said = check(text).unwrap_err().0;
        assert!(said.contains("undeclared reference to"), "{text}: {said}");
    }
}

#[test]
fn what_has_no_value_is_an_error() {
    for text in [
        "self.spec.none",
        "1 / 0",
        "'a' + 1",
        "semver('1')",
        "[1, 'a'].sort()",
        "[1].flatten(-1)",
        "format.none()",
        "self.spec.tags[9]",
        "nope(1)",
        "unknown",
        "9223372036854775807 + 1",
    ] {
        assert!(eval(text).is_err(), "{text}");
    }
    for text in ["", "1 +", "(", "'a", "a b", "has(x)", "1..2", "@"] {
        assert!(Program::compile(text).is_err(), "{text}");
    }
}

#[test]
fn hostile_expressions_end() {
    assert!(Program::compile(&"(".repeat(100_000)).is_err());
    assert!(Program::compile(&"!".repeat(5_000)).is_err());
    assert!(Program::compile(&format!("x{}", ".a".repeat(10_000))).is_err());
    let list = format!("[{}]", vec!["1"; 200].join(","));
    let nested = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))");
    let mut budget = 100_000;
    assert!(Program::compile(&nested).unwrap().eval(&[], &mut budget).is_err());
    assert_eq!(budget, 0);
}
