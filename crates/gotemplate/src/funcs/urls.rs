//! URLs: sprig's `url.go` on Go's `net/url`.

use crate::env::{Env, FuncError};
use crate::val::{MapRef, Val};

use super::args::{Args, NIL_DEREFERENCE, Res, err};
use super::{Entry, gofmt};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[("urlParse", url_parse), ("urlJoin", url_join)];

/// The parts of a URL, decoded as Go holds them.
#[derive(Default)]
struct Url {
    scheme: String,
    opaque: String,
    user: Option<(String, Option<String>)>,
    host: String,
    path: String,
    query: String,
    force_query: bool,
    fragment: String,
    /// The path as written, where it differs from what encoding `path` gives.
    raw_path: Option<String>,
}

/// Where a text stands decides what is escaped in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    User,
    Fragment,
}

fn keeps(b: u8, part: Part) -> bool {
    if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
        return true;
    }
    match part {
        Part::Host => matches!(
            b,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'['
                | b']'
                | b'<'
                | b'>'
                | b'"'
        ),
        Part::Path => matches!(b, b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@'),
        Part::User => matches!(b, b'$' | b'&' | b'+' | b',' | b';' | b'='),
        Part::Fragment => {
            matches!(b, b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'!' | b'(' | b')' | b'*')
        }
    }
}

fn escape(text: &str, part: Part) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if keeps(b, part) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let all = text.as_bytes();
    let mut i = 0;
    while let Some(&b) = all.get(i) {
        if b == b'%' {
            let code = text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
            let Some(code) = code else {
                let shown = text.get(i..(i + 3).min(text.len())).unwrap_or("%");
                return Err(format!("invalid URL escape {}", gofmt::quote(shown)));
            };
            if part == Part::Host && code < 0x80 && code != b'%' {
                let shown = text.get(i..i + 3).unwrap_or("%");
                return Err(format!("invalid URL escape {}", gofmt::quote(shown)));
            }
            out.push(code);
            i += 3;
        } else {
            if part == Part::Host && b < 0x80 && !keeps(b, part) {
                let shown = text.get(i..=i).unwrap_or("");
                return Err(format!("invalid character {} in host name", gofmt::quote(shown)));
            }
            out.push(b);
            i += 1;
        }
    }
    Ok(super::bytes::from_bytes(&out).to_string())
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((text.get(..i).unwrap_or(""), text.get(i + 1..).unwrap_or(""))),
            _ => break,
        }
    }
    Ok(("", text))
}

fn parse_host(host: &str) -> Result<String, String> {
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else {
            return Err("missing ']' in host".to_owned());
        };
        host.get(end + 1..).unwrap_or("")
    } else {
        host.rfind(':').and_then(|i| host.get(i..)).unwrap_or("")
    };
    let ok = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !ok {
        return Err(format!("invalid port {} after host", gofmt::quote(port)));
    }
    unescape(host, Part::Host)
}

impl Url {
    fn parse(raw: &str) -> Result<Self, String> {
        let (text, fragment) = raw.split_once('#').unwrap_or((raw, ""));
        let whole = |e: String| format!("parse {}: {e}", gofmt::quote(raw));
        let mut url = Self::parse_text(text).map_err(|e| format!("parse {}: {e}", gofmt::quote(text)))?;
        url.fragment = unescape(fragment, Part::Fragment).map_err(whole)?;
        Ok(url)
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let mut url = Self::default();
        if text == "*" {
            url.path = "*".to_owned();
            return Ok(url);
        }
        let (scheme, mut rest) = split_scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        if rest.ends_with('?') && rest.matches('?').count() == 1 {
            url.force_query = true;
            rest = rest.strip_suffix('?').unwrap_or(rest);
        } else if let Some((path, query)) = rest.split_once('?') {
            url.query = query.to_owned();
            rest = path;
        }
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                return Ok(url);
            }
            if rest.split('/').next().is_some_and(|s| s.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        if (!url.scheme.is_empty() || !rest.starts_with("///"))
            && let Some(after) = rest.strip_prefix("//")
        {
            let at = after.find('/').unwrap_or(after.len());
            let (authority, path) = after.split_at(at);
            rest = path;
            let (user, host) = match authority.rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, authority),
            };
            url.host = parse_host(host)?;
            if let Some(user) = user {
                let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
                if !user.bytes().all(valid) {
                    return Err("net/url: invalid userinfo".to_owned());
                }
                let (name, password) = match user.split_once(':') {
                    Some((name, password)) => (name, Some(unescape(password, Part::User)?)),
                    None => (user, None),
                };
                url.user = Some((unescape(name, Part::User)?, password));
            }
        }
        url.path = unescape(rest, Part::Path)?;
        if escape(&url.path, Part::Path) != rest {
            url.raw_path = Some(rest.to_owned());
        }
        Ok(url)
    }

    fn user_text(&self) -> String {
        match &self.user {
            None => String::new(),
            Some((name, None)) => escape(name, Part::User),
            Some((name, Some(password))) => format!("{}:{}", escape(name, Part::User), escape(password, Part::User)),
        }
    }

    fn hostname(&self) -> &str {
        let host = match self.host.rfind(':') {
            Some(i) if self.host.get(i + 1..).is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit())) => {
                self.host.get(..i).unwrap_or("")
            }
            _ => &self.host,
        };
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    fn text(&self) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            if !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some() {
                if !self.host.is_empty() || !self.path.is_empty() || self.user.is_some() {
                    out.push_str("//");
                }
                if self.user.is_some() {
                    out.push_str(&self.user_text());
                    out.push('@');
                }
                out.push_str(&escape(&self.host, Part::Host));
            }
            let path = self
                .raw_path
                .clone()
                .unwrap_or_else(|| if self.path == "*" { self.path.clone() } else { escape(&self.path, Part::Path) });
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.push('/');
            }
            if out.is_empty() && path.split('/').next().is_some_and(|s| s.contains(':')) {
                out.push_str("./");
            }
            out.push_str(&path);
        } else {
            out.push_str(&self.opaque);
        }
        if self.force_query || !self.query.is_empty() {
            out.push('?');
            out.push_str(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&escape(&self.fragment, Part::Fragment));
        }
        out
    }
}

fn url_parse(_: &mut Env<'_>, a: &[Val]) -> Res {
    let text = Args::exact("urlParse", a, 1)?.str(0)?;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(e) => return err(format!("unable to parse url: {e}")),
    };
    let map = MapRef::default();
    for (key, value) in [
        ("scheme", url.scheme.as_str()),
        ("host", url.host.as_str()),
        ("hostname", url.hostname()),
        ("path", url.path.as_str()),
        ("query", url.query.as_str()),
        ("opaque", url.opaque.as_str()),
        ("fragment", url.fragment.as_str()),
        ("userinfo", url.user_text().as_str()),
    ] {
        map.set(key, Val::str(value));
    }
    Ok(Val::Map(map))
}

fn part(map: &MapRef, key: &str) -> Result<String, FuncError> {
    match map.get(key) {
        None => Ok(String::new()),
        Some(Val::Str(s)) => Ok(s.to_string()),
        Some(Val::Nil | Val::Missing) => err(NIL_DEREFERENCE),
        Some(other) => {
            err(format!("unable to parse {key} key, must be of type string, but {} found", gofmt::kind(&other)))
        }
    }
}

fn url_join(_: &mut Env<'_>, a: &[Val]) -> Res {
    let map = Args::exact("urlJoin", a, 1)?.map(0)?;
    let mut url = Url {
        scheme: part(&map, "scheme")?,
        host: part(&map, "host")?,
        path: part(&map, "path")?,
        query: part(&map, "query")?,
        opaque: part(&map, "opaque")?,
        fragment: part(&map, "fragment")?,
        ..Url::default()
    };
    let user = part(&map, "userinfo")?;
    if !user.is_empty() {
        match Url::parse(&format!("proto://{user}@host")) {
            Ok(parsed) => url.user = parsed.user,
            Err(e) => return err(format!("unable to parse userinfo in dict: {e}")),
        }
    }
    Ok(Val::str(url.text()))
}
