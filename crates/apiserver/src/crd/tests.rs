//! Rules judged as Kubernetes' own compiler judges them: `tests/cel-rules.jsonl` has its words and figures
//! (`tools/kube.py cel`).

use druse_object::{Value, json};

use super::declared::Declared;
use super::rules::judge;
use crate::cel::Program;

/// What is told of a rule: its cost, or what is wrong.
fn verdict(case: &Value) -> Value {
    let (schema, rule) = (&case["schema"], case["rule"].as_str().unwrap_or_default());
    let optional = case["optionalOldSelf"].as_bool().unwrap_or(false);
    let declared = Declared::of(schema, false).unwrap();
    let scope = declared.scope(optional);
    let judged = |text: &str| Program::compile(text).and_then(|p| p.check(text, &scope));
    match judged(rule) {
        Err(e) => Value::from(format!("compilation failed: {e}")),
        Ok(c) if c.output().to_string() != "bool" => "cel expression must evaluate to a bool".into(),
        Ok(c) if let Err(e) = c.constants() => Value::from(format!("program instantiation failed: {e}")),
        Ok(c) => {
            let message = case["messageExpression"].as_str().map(|m| match judged(m) {
                Err(e) => Value::from(format!("messageExpression compilation failed: {e}")),
                Ok(c) if c.output().to_string() != "string" => "messageExpression must evaluate to a string".into(),
                Ok(c) if let Err(e) = c.constants() => {
                    Value::from(format!("messageExpression instantiation failed: {e}"))
                }
                Ok(c) => Value::from(c.most(&declared)),
            });
            [Value::from(c.most(&declared)), Value::from(declared.times()), message.unwrap_or_default()]
                .into_iter()
                .collect()
        }
    }
}

#[test]
fn rules_cost_what_upstream_estimates_and_are_refused_in_its_words() {
    let recorded = std::env::var("CEL_RULES")
        .map(std::fs::read_to_string)
        .unwrap_or_else(|_| std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cel-rules.jsonl")));
    let recorded = recorded.unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for line in recorded.lines() {
        let case = json::parse(line.as_bytes()).unwrap();
        count += 1;
        let (got, want) = (verdict(&case), &case["verdict"]);
        // The name of the type is another each time upstream.
        if json::to_string(&got) != json::to_string(want) {
            wrong.push(format!("{line}\n  got {}", json::to_string(&got)));
        }
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

fn errors(schema: &str, unchanged: bool) -> Vec<String> {
    let mut out = Vec::new();
    judge(&json::parse(schema.as_bytes()).unwrap(), "s", unchanged, &mut out);
    out.iter().map(crate::field::FieldError::message).collect()
}

#[test]
fn a_schema_that_is_not_changed_keeps_its_expensive_rules_but_not_their_sum() {
    let rule = r#"{"rule":"self.all(x, self.all(y, x == y))"}"#;
    let list = |limit: &str, rules: &str| {
        format!(
            r#"{{"type":"object","properties":{{"a":{{"type":"array",{limit}"items":{{"type":"integer"}},"x-kubernetes-validations":[{rules}]}}}}}}"#
        )
    };
    // 11,000,000 and a little.
    let limited = list(r#""maxItems":2345,"#, rule);
    assert_eq!(errors(&limited, false).len(), 1, "{:?}", errors(&limited, false));
    assert!(errors(&limited, true).is_empty());
    let all = errors(&list("", rule), true);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("contributed to estimated rule cost total"), "{all:?}");
    assert!(all[1].contains("for entire OpenAPIv3 schema exceeds budget by factor of more than 100x"), "{all:?}");
}

#[test]
fn paths_of_rules_lead_to_fields_by_name_or_quoted_key() {
    let schema = r#"{"properties":{"x":{"type":"string"},"m":{"additionalProperties":{"properties":{"y":{}}}}}}"#;
    let schema = json::parse(schema.as_bytes()).unwrap();
    for (path, leads) in [
        (".x", true),
        (".m['a b'].y", true),
        (".m.k.y", true),
        ("['x']", true),
        (r".m['it\'s'].y", true),
        ("x", false),
        (".", false),
        (".y", false),
        (".x.y", false),
        (".m[a]", false),
        (".m['a'", false),
        (".m['a].y", false),
    ] {
        assert_eq!(super::paths::leads_somewhere(&schema, path), leads, "{path}");
    }
}
