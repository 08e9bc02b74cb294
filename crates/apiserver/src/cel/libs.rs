//! Small grammars that the libraries need: durations, URLs, formatted text.

use super::CelError;
use super::value::Val;

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(crate) text: String,
    pub(crate) scheme: String,
    /// Host and port as written.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: String,
}

impl Url {
    /// An absolute URL or an absolute path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
            return None;
        }
        let text_without_fragment = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = match text_without_fragment.split_once(':') {
            Some((s, r))
                if s.starts_with(|c: char| c.is_ascii_alphabetic())
                    && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
            {
                (s.to_ascii_lowercase(), r)
            }
            _ if text.starts_with('/') => (String::new(), text_without_fragment),
            _ => return None,
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(r) => {
                let at = r.find('/').unwrap_or(r.len());
                r.split_at(at)
            }
            None => ("", rest),
        };
        let authority = authority.rsplit('@').next().unwrap_or_default().to_string();
        Some(Self { text: text.into(), scheme, authority, path: path.into(), query: query.into() })
    }

    pub(crate) fn hostname(&self) -> &str {
        if let Some(end) = self.authority.find(']') {
            return self.authority.get(1..end).unwrap_or_default();
        }
        self.authority.split(':').next().unwrap_or_default()
    }

    pub(crate) fn port(&self) -> &str {
        let after =
            self.authority.find(']').map_or(self.authority.as_str(), |i| self.authority.get(i..).unwrap_or_default());
        after.rsplit_once(':').map_or("", |(_, p)| p)
    }
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    druse_object::go::duration(text).ok()
}

/// A duration as CEL's `string()` writes it: seconds.
pub(crate) fn duration_text(nanos: i64) -> String {
    let (whole, part) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    if part == 0 {
        return format!("{sign}{whole}s");
    }
    let digits = format!("{part:09}");
    format!("{sign}{whole}.{}s", digits.trim_end_matches('0'))
}

/// `"…".format([…])`
pub(crate) fn format(text: &str, args: &[Val<'_>]) -> Result<String, CelError> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut n = 0_usize;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = (n * 10 + d as usize).min(100);
                chars.next();
            }
            precision = Some(n);
        }
        let verb = chars.next().ok_or_else(|| CelError("unexpected end of string".into()))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let arg = args.next().ok_or_else(|| CelError("index out of range".into()))?;
        let whole = || match arg {
            Val::Int(i) => Ok(i128::from(*i)),
            Val::Uint(u) => Ok(i128::from(*u)),
            Val::Bool(b) => Ok(i128::from(*b)),
            _ => Err(CelError(format!("no such overload for %{verb}"))),
        };
        let double = || match arg {
            Val::Double(d) => Ok(*d),
            #[allow(clippy::cast_precision_loss)]
            Val::Int(i) => Ok(*i as f64),
            _ => Err(CelError(format!("no such overload for %{verb}"))),
        };
        match verb {
            's' => out.push_str(&arg.text()),
            'd' => out.push_str(&whole()?.to_string()),
            'f' => out.push_str(&format!("{:.*}", precision.unwrap_or(6), double()?)),
            'e' => out.push_str(&format!("{:.*e}", precision.unwrap_or(6), double()?)),
            'b' => out.push_str(&format!("{:b}", whole()?)),
            'o' => out.push_str(&format!("{:o}", whole()?)),
            'x' | 'X' => {
                let hex = match arg {
                    Val::Str(s) => hex::encode(s.as_bytes()),
                    Val::Bytes(b) => hex::encode(b.as_slice()),
                    _ => format!("{:x}", whole()?),
                };
                out.push_str(&if verb == 'X' { hex.to_uppercase() } else { hex });
            }
            other => {
                return Err(CelError(format!(
                    "could not parse formatting clause: unrecognized formatting clause \"{other}\""
                )));
            }
        }
    }
    Ok(out)
}
