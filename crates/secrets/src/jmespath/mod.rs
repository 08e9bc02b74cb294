//! JMESPath expressions over values that leave no copy behind.
//!
//! Follows jmespath.org's grammar whole; of its functions those that take texts and structures apart
//! ([`functions`](functions::call)), not the arithmetic ones: a file's content is a text. The crate `jmespath` keeps its
//! values in buffers that nobody zeroes, which is why this is here.

mod functions;
mod parse;
mod value;

use druse_aws::sealed::Json;

pub use parse::Expression;

/// An expression that is none, or does not fit its input. Neither shows the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not follow the grammar.
    #[error("at character {at}: {what}")]
    Syntax {
        /// Where, from 1.
        at: usize,
        /// What is wrong there.
        what: String,
    },
    /// A function does not take what it is given.
    #[error("{function}: {what}")]
    Call {
        /// Which.
        function: String,
        /// What is wrong.
        what: &'static str,
    },
    /// It makes more and more of a value.
    #[error("it makes more of the value than is taken: what it finds grows with every step")]
    TooMuch,
}

impl Expression {
    /// What the expression finds; null when it finds nothing.
    ///
    /// # Errors
    /// When a function does not take what it is given, or more is made of the value than a file holds.
    pub fn search(&self, input: &Json) -> Result<Json, PathError> {
        value::evaluate(&self.0, input, &value::Budget::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATA: &str = r#"{
        "user": "u", "pass\"word": "p", "a b": "spaced", "n": 3, "nothing": null, "empty": "", "off": false,
        "list": ["x", "y", "z"],
        "people": [{"name": "ann", "age": 30, "tags": ["t1", "t2"]}, {"name": "bob", "age": 20}, {"age": 1}],
        "map": {"one": {"v": "1"}, "two": {"v": "2"}}, "deep": [[["1"], "2"], "3"], "json": "{\"k\":\"v\"}"
    }"#;

    fn found(path: &str) -> String {
        let data = Json::parse(DATA.as_bytes()).unwrap();
        Expression::parse(path).unwrap().search(&data).unwrap().to_json().to_string()
    }

    fn wrong(path: &str) -> String {
        let data = Json::parse(DATA.as_bytes()).unwrap();
        Expression::parse(path).and_then(|e| e.search(&data)).unwrap_err().to_string()
    }

    #[test]
    fn fields_indexes_and_slices() {
        for (path, want) in [
            ("user", r#""u""#),
            (r#""pass\"word""#, r#""p""#),
            (r#""a b""#, r#""spaced""#),
            ("map.one.v", r#""1""#),
            ("map.\"one\".v", r#""1""#),
            ("missing.deeper[0].x", "null"),
            ("list[0]", r#""x""#),
            ("list[-1]", r#""z""#),
            ("list[9]", "null"),
            ("list[1:]", r#"["y","z"]"#),
            ("list[::-1]", r#"["z","y","x"]"#),
            ("list[:-1] | [0]", r#""x""#),
            ("@.user", r#""u""#),
        ] {
            assert_eq!(found(path), want, "{path}");
        }
    }

    #[test]
    fn projections_filters_and_choices() {
        for (path, want) in [
            ("people[*].name", r#"["ann","bob"]"#),
            ("people[].tags[]", r#"["t1","t2"]"#),
            ("people[?age > `20`].name | [0]", r#""ann""#),
            ("people[?name == 'bob'] | [0].age", "20"),
            ("people[?tags && contains(tags, 't2')].name", r#"["ann"]"#),
            ("people[?!name].age", "[1]"),
            ("map.*.v", r#"["1","2"]"#),
            ("*.v", "[]"),
            ("deep[]", r#"[["1"],"2","3"]"#),
            ("deep[][]", r#"["1","2","3"]"#),
            ("nothing || empty || user", r#""u""#),
            ("user && n", "3"),
            ("[user, n]", r#"["u",3]"#),
            ("{name: user, all: list[*]}", r#"{"name":"u","all":["x","y","z"]}"#),
            ("people[0].{n: name, t: tags[0]}", r#"{"n":"ann","t":"t1"}"#),
            ("(off || list)[1]", r#""y""#),
            ("`{\"a\": [1]}`.a[0]", "1"),
            ("n == `3.0`", "true"),
            ("user < n", "null"),
        ] {
            assert_eq!(found(path), want, "{path}");
        }
    }

    #[test]
    fn functions_that_make_texts() {
        for (path, want) in [
            ("join(', ', list)", r#""x, y, z""#),
            ("join('-', people[?name].name)", r#""ann-bob""#),
            ("to_string(n)", r#""3""#),
            ("to_string(map.one)", r#""{\"v\":\"1\"}""#),
            ("to_string(user)", r#""u""#),
            ("not_null(nothing, missing, user)", r#""u""#),
            ("join('', keys(map))", r#""onetwo""#),
            ("sort(values(map)[].v)[-1]", r#""2""#),
            ("sort_by(people, &age)[-1].name", r#""ann""#),
            ("map(&name, people)", r#"["ann","bob",null]"#),
            ("reverse(user)", r#""u""#),
            ("length(list)", "3"),
            ("length('äö')", "2"),
            ("type(list)", r#""array""#),
            ("starts_with(user, 'u') && ends_with(user, 'u')", "true"),
            ("merge(map.one, {w: user}).w", r#""u""#),
            ("to_number('12')", "12"),
            ("to_number('x')", "null"),
            ("max(list)", r#""z""#),
            ("to_array(user)[0]", r#""u""#),
        ] {
            assert_eq!(found(path), want, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_the_data() {
        assert_eq!(wrong("user."), "at character 6: a name, *, [ or { is missing after the dot");
        assert_eq!(wrong("list["), "at character 6: the expression ends too early");
        assert_eq!(wrong("a b"), "at character 3: an operator is missing before this");
        assert_eq!(wrong("'open"), "at character 1: this has no end");
        assert_eq!(wrong("`{`"), "at character 1: this literal is no JSON");
        assert_eq!(wrong("list[::0]"), "at character 8: a slice's step is not 0");
        assert_eq!(wrong("abs(n)"), "abs: there is no such function here");
        assert_eq!(wrong("join(n, list)"), "join: the separator is no text");
        assert_eq!(wrong("length(n)"), "length: it takes a text, list or map");
        assert_eq!(wrong("length()"), "length: it takes another number of arguments");
        assert!(wrong(&"(".repeat(1000)).contains("nested too deeply"));
        assert!(wrong(&"!".repeat(1000)).contains("nested too deeply"));
        assert!(wrong(&format!("a{}", ".a".repeat(100_000))).contains("too long"));
        assert!(wrong(&["[@, @]"; 30].join(" | ")).contains("grows with every step"));
        for operator in [".a", "[]", "[0]", "[*]", "||a", "[?a]"] {
            assert!(wrong(&format!("a{}", operator.repeat(64))).contains("nested too deeply"), "{operator}");
            assert_eq!(found(&format!("missing{}", operator.repeat(60))), "null", "{operator}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panicking(path in "[a-c.\\[\\]*?&|!<>=(){}@:,'\"`0-9 -]{0,40}") {
            let data = Json::parse(DATA.as_bytes()).unwrap();
            if let Ok(e) = Expression::parse(&path) {
                let _ = e.search(&data);
            }
        }
    }
}
