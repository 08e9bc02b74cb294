//! The little XML that STS and S3 speak: written escaped, and errors read.

/// Escapes a text.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to write these.
            c if c.is_control() && !matches!(c, '\n' | '\r' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The text of the first element of a name, unescaped. Good for the flat answers AWS gives; not an XML reader.
#[must_use]
pub fn text(xml: &str, element: &str) -> Option<String> {
    let open = format!("<{element}>");
    let start = xml.find(&open)? + open.len();
    let end = start + xml[start..].find(&format!("</{element}>"))?;
    let mut out = xml[start..end].to_string();
    for (entity, c) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")]
    {
        out = out.replace(entity, c);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_read_back() {
        let nasty = "a<b>&\"c\"&lt;";
        assert_eq!(text(&format!("<E><M>{}</M></E>", escape(nasty)), "M").as_deref(), Some(nasty));
        assert_eq!(text("<M>", "M"), None);
        assert_eq!(escape("\u{1}"), "\u{fffd}");
    }
}
