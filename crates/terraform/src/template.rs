//! Templates: `${}`, `%{if}` and `%{for}`, with their trimming of white space.

use hcl_edit::template::{Directive, Element, Template};

use crate::eval::Env;
use crate::value::{Kind, Value};

/// What a template gives: a text, or for a lone interpolation the value itself.
pub(crate) fn template(env: &Env<'_, '_>, t: &Template) -> Value {
    if let Some(Element::Interpolation(i)) = t.as_single_element() {
        return env.eval(&i.expr);
    }
    render(env, t).map_or_else(|| Value::unknown("a template's part is no text"), Value::string)
}

/// As [`template`], for elements that are given one by one.
pub(crate) fn template_text(env: &Env<'_, '_>, t: &Template) -> Value {
    render(env, t).map_or_else(|| Value::unknown("a template's part is no text"), Value::string)
}

fn render(env: &Env<'_, '_>, t: &Template) -> Option<String> {
    let elements: Vec<&Element> = t.iter().collect();
    let strip = |e: Option<&&Element>| match e {
        Some(Element::Interpolation(i)) => (i.strip.strip_start(), i.strip.strip_end()),
        Some(Element::Directive(d)) => match d.as_ref() {
            Directive::If(d) => (d.if_expr.strip.strip_start(), d.endif_expr.strip.strip_end()),
            Directive::For(d) => (d.for_expr.strip.strip_start(), d.endfor_expr.strip.strip_end()),
        },
        _ => (false, false),
    };
    let mut out = String::new();
    for (i, e) in elements.iter().enumerate() {
        match e {
            Element::Literal(text) => {
                let mut text = text.as_str();
                if i > 0 && strip(elements.get(i - 1)).1 {
                    text = text.trim_start();
                }
                if strip(elements.get(i + 1)).0 {
                    text = text.trim_end();
                }
                out.push_str(text);
            }
            Element::Interpolation(i) => out.push_str(&env.eval(&i.expr).text()?),
            Element::Directive(d) => match d.as_ref() {
                Directive::If(d) => {
                    let inner = |t: &Template, start: bool, end: bool| trimmed(&render(env, t)?, start, end);
                    let if_end = d.else_expr.as_ref().map_or(d.endif_expr.strip, |e| e.strip).strip_start();
                    match (env.eval(&d.if_expr.cond_expr).bool()?, &d.else_expr) {
                        (true, _) => out.push_str(&inner(&d.if_expr.template, d.if_expr.strip.strip_end(), if_end)?),
                        (false, Some(e)) => {
                            out.push_str(&inner(&e.template, e.strip.strip_end(), d.endif_expr.strip.strip_start())?);
                        }
                        (false, None) => {}
                    }
                }
                Directive::For(d) => {
                    let f = &d.for_expr;
                    let pairs: Vec<(Value, Value)> = match env.eval(&f.collection_expr).kind {
                        Kind::Map(m) => m.into_iter().map(|(k, v)| (Value::string(k), v)).collect(),
                        Kind::List(items) => items
                            .into_iter()
                            .enumerate()
                            .map(|(i, v)| (Kind::Number(u32::try_from(i).map_or(0.0, f64::from)).into(), v))
                            .collect(),
                        _ => return None,
                    };
                    for (key, value) in pairs {
                        let mut inner = env.with(f.value_var.as_str(), value);
                        if let Some(k) = &f.key_var {
                            inner = inner.with(k.as_str(), key);
                        }
                        let text = render(&inner, &f.template)?;
                        out.push_str(&trimmed(&text, f.strip.strip_end(), d.endfor_expr.strip.strip_start())?);
                    }
                }
            },
        }
    }
    Some(out)
}

#[expect(clippy::unnecessary_wraps, reason = "reads as one chain with rendering")]
fn trimmed(text: &str, start: bool, end: bool) -> Option<String> {
    let mut t = text;
    if start {
        t = t.trim_start();
    }
    if end {
        t = t.trim_end();
    }
    Some(t.to_string())
}
