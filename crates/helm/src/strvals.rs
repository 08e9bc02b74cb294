//! The little language of `--set` and its kin, as Helm's `strvals` package reads it.

use druse_object::{Map, Str, Value};

const MAX_INDEX: usize = 65536;
const MAX_NESTING: usize = 30;

/// Why parsing stopped.
enum Stop {
    /// The text ended where it may.
    End,
    /// It is wrong.
    Wrong(String),
}

type Parsed<T> = Result<T, Stop>;

fn wrong<T>(message: impl Into<String>) -> Parsed<T> {
    Err(Stop::Wrong(message.into()))
}

/// How values are read.
enum Mode<'a> {
    /// Escapes, lists, and a function for each text.
    Text(&'a mut dyn FnMut(&str) -> Result<Value, String>),
    /// JSON values.
    Json,
    /// Everything to the end.
    Literal,
}

struct Parser<'a> {
    text: Vec<char>,
    at: usize,
    mode: Mode<'a>,
}

/// `true`, `false`, `null`, integers without a leading zero; anything else is text.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn typed(text: &str) -> Result<Value, String> {
    Ok(if text.eq_ignore_ascii_case("true") {
        Value::Bool(true)
    } else if text.eq_ignore_ascii_case("false") {
        Value::Bool(false)
    } else if text.eq_ignore_ascii_case("null") {
        Value::Null
    } else if text == "0" {
        Value::Int(0)
    } else if !text.starts_with('0') {
        text.parse().map_or_else(|_| Value::from(text), Value::Int)
    } else {
        Value::from(text)
    })
}

/// Parses `text` into `data`; `convert` makes each value.
pub(crate) fn parse_into(
    data: &mut Map,
    text: &str,
    mut convert: impl FnMut(&str) -> Result<Value, String>,
) -> Result<(), String> {
    run(data, text, Mode::Text(&mut convert))
}

/// Parses `key=json,…` into `data`.
pub(crate) fn parse_json_into(data: &mut Map, text: &str) -> Result<(), String> {
    run(data, text, Mode::Json)
}

/// Parses one `key=text` into `data`.
pub(crate) fn parse_literal_into(data: &mut Map, text: &str) -> Result<(), String> {
    run(data, text, Mode::Literal)
}

fn run(data: &mut Map, text: &str, mode: Mode<'_>) -> Result<(), String> {
    let mut p = Parser { text: text.chars().collect(), at: 0, mode };
    loop {
        match p.key(data, 0) {
            Ok(()) => {}
            Err(Stop::End) => return Ok(()),
            Err(Stop::Wrong(e)) => return Err(e),
        }
    }
}

fn set(data: &mut Map, key: &str, value: Value) {
    if !key.is_empty() {
        data.insert(key, value);
    }
}

fn set_index(list: &mut Vec<Value>, index: usize, value: Value) -> Parsed<()> {
    if index > MAX_INDEX {
        return wrong(format!("index of {index} is greater than maximum supported index of {MAX_INDEX}"));
    }
    if list.len() <= index {
        list.resize(index + 1, Value::Null);
    }
    if let Some(slot) = list.get_mut(index) {
        *slot = value;
    }
    Ok(())
}

fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

fn mismatch<T>(v: &Value, want: &str) -> Parsed<T> {
    wrong(format!("unable to parse key: interface conversion: interface {{}} is {}, not {want}", go_type(v)))
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.text.get(self.at).copied();
        if c.is_some() {
            self.at += 1;
        }
        c
    }

    /// Text up to one of `stop` (which is consumed and returned), or to the end (`None`).
    fn until(&mut self, stop: &[char]) -> (String, Option<char>) {
        let mut out = String::new();
        let escapes = !matches!(self.mode, Mode::Literal);
        while let Some(c) = self.next() {
            if stop.contains(&c) {
                return (out, Some(c));
            }
            if escapes && c == '\\' {
                match self.next() {
                    Some(next) => out.push(next),
                    None => return (out, None),
                }
            } else {
                out.push(c);
            }
        }
        (out, None)
    }

    fn key(&mut self, data: &mut Map, nesting: usize) -> Parsed<()> {
        let literal = matches!(self.mode, Mode::Literal);
        let stop: &[char] = if literal { &['=', '[', '.'] } else { &['=', '[', ',', '.'] };
        let (key, last) = self.until(stop);
        match last {
            None if key.is_empty() => Err(Stop::End),
            None => wrong(format!("key {key:?} has no value")),
            Some('[') => {
                let index = self.index()?;
                let mut list = match data.get_mut(&key) {
                    None => Vec::new(),
                    Some(Value::Array(a)) => std::mem::take(a),
                    Some(other) => return mismatch(other, "[]interface {}"),
                };
                let result = self.list_item(&mut list, index, nesting);
                set(data, &key, Value::Array(list));
                result
            }
            Some('=') => self.assign(|v| {
                set(data, &key, v);
                Ok(())
            }),
            Some(',') => {
                set(data, &key, Value::from(""));
                wrong(format!("key {key:?} has no value (cannot end with ,)"))
            }
            _ => {
                if nesting + 1 > MAX_NESTING {
                    return wrong(format!(
                        "value name nested level is greater than maximum supported nested level of {MAX_NESTING}"
                    ));
                }
                match data.get_mut(&key) {
                    Some(Value::Map(inner)) => {
                        let result = self.key(inner, nesting + 1);
                        if result.is_ok() && inner.is_empty() {
                            return wrong(format!("key map {key:?} has no value"));
                        }
                        result
                    }
                    Some(other) => mismatch(other, "map[string]interface {}"),
                    None => {
                        let mut inner = Map::new();
                        let result = self.key(&mut inner, nesting + 1);
                        if result.is_ok() && inner.is_empty() {
                            return wrong(format!("key map {key:?} has no value"));
                        }
                        if !inner.is_empty() {
                            set(data, &key, Value::Map(inner));
                        }
                        result
                    }
                }
            }
        }
    }

    fn index(&mut self) -> Parsed<usize> {
        let (text, last) = self.until(&[']']);
        if last.is_none() {
            return wrong("error parsing index: EOF");
        }
        let index: i64 = text
            .parse()
            .map_err(|_| Stop::Wrong(format!("error parsing index: strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        usize::try_from(index).map_err(|_| Stop::Wrong(format!("negative {index} index not allowed")))
    }

    fn list_item(&mut self, list: &mut Vec<Value>, i: usize, nesting: usize) -> Parsed<()> {
        let (key, last) = self.until(&['[', '.', '=']);
        if !key.is_empty() {
            return wrong(format!("unexpected data at end of array index: {key:?}"));
        }
        if i > MAX_INDEX {
            return wrong(format!("index of {i} is greater than maximum supported index of {MAX_INDEX}"));
        }
        match last {
            None => Err(Stop::End),
            // The end of the text after a list's value is not the end of parsing: the next key says so.
            Some('=') => match self.assign(|v| set_index(list, i, v)) {
                Err(Stop::End) => Ok(()),
                other => other,
            },
            Some('[') => {
                let next = self.index()?;
                let mut inner = match list.get_mut(i) {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::Array(a)) => std::mem::take(a),
                    Some(other) => return mismatch(other, "[]interface {}"),
                };
                self.list_item(&mut inner, next, nesting)?;
                set_index(list, i, Value::Array(inner))
            }
            _ => {
                let existed = i < list.len();
                let mut inner = match list.get_mut(i) {
                    Some(Value::Map(m)) => std::mem::take(m),
                    _ => Map::new(),
                };
                let result = self.key(&mut inner, nesting);
                // Helm adds a new item only where its key had a value.
                if existed || result.is_ok() {
                    set_index(list, i, Value::Map(inner))?;
                }
                result
            }
        }
    }

    /// Reads the value after `=`.
    fn assign(&mut self, mut put: impl FnMut(Value) -> Parsed<()>) -> Parsed<()> {
        if matches!(self.mode, Mode::Literal) {
            let rest: String = self.text.get(self.at..).unwrap_or_default().iter().collect();
            self.at = self.text.len();
            return put(Value::from(rest));
        }
        if matches!(self.mode, Mode::Json) {
            if self.empty_value() {
                return put(Value::Null);
            }
            let rest: String = self.text.get(self.at..).unwrap_or_default().iter().collect();
            let mut stream = serde_json::Deserializer::from_str(&rest).into_iter::<Value>();
            let value = match stream.next() {
                Some(Ok(v)) => v,
                Some(Err(e)) => return wrong(e.to_string()),
                None => return wrong("EOF"),
            };
            let used = rest.get(..stream.byte_offset()).map_or(0, |s| s.chars().count());
            self.at += used;
            let value =
                crate::values::Values::from_document(&Value::Map([(Str::from("v"), value)].into_iter().collect()))
                    .ok()
                    .and_then(|v| v.as_map().get("v").cloned())
                    .unwrap_or_default();
            put(value)?;
            self.empty_value();
            return Ok(());
        }
        match self.text.get(self.at) {
            None => {
                put(Value::from(""))?;
                Err(Stop::End)
            }
            Some('{') => {
                self.at += 1;
                let mut list = Vec::new();
                loop {
                    let (text, last) = self.until(&[',', '}']);
                    if last.is_none() {
                        return wrong("list must terminate with '}'");
                    }
                    list.push(self.convert(&text)?);
                    if last == Some('}') {
                        if self.text.get(self.at) == Some(&',') {
                            self.at += 1;
                        }
                        return put(Value::Array(list));
                    }
                }
            }
            Some(_) => {
                let (text, _) = self.until(&[',']);
                let value = self.convert(&text)?;
                put(value)
            }
        }
    }

    fn convert(&mut self, text: &str) -> Parsed<Value> {
        match &mut self.mode {
            Mode::Text(f) => f(text).map_err(Stop::Wrong),
            Mode::Json | Mode::Literal => Ok(Value::from(text)),
        }
    }

    /// Skips blanks; true at a comma (consumed) or the end.
    fn empty_value(&mut self) -> bool {
        loop {
            match self.text.get(self.at) {
                None => return true,
                Some(',') => {
                    self.at += 1;
                    return true;
                }
                Some(c) if c.is_whitespace() => self.at += 1,
                Some(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::values::Values;

    fn json(v: &Values) -> String {
        serde_json::to_string(&v.to_value()).unwrap_or_default()
    }

    fn set(text: &str) -> String {
        let mut v = Values::default();
        match v.set(text) {
            Ok(()) => json(&v),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn set_reads_what_helm_reads() {
        for (text, want) in [
            ("name1=value1", r#"{"name1":"value1"}"#),
            ("a=1,b=true,c=null,d=1.5,e=007,f=0", r#"{"a":1,"b":true,"c":null,"d":"1.5","e":"007","f":0}"#),
            ("a.b.c=x", r#"{"a":{"b":{"c":"x"}}}"#),
            ("a={x,y,1}", r#"{"a":["x","y",1]}"#),
            ("a={}", r#"{"a":[""]}"#),
            ("a[0]=x,a[2]=y", r#"{"a":["x",null,"y"]}"#),
            ("a[0].b=x,a[0].c=y", r#"{"a":[{"b":"x","c":"y"}]}"#),
            ("a[0][1]=x", r#"{"a":[[null,"x"]]}"#),
            (r"a\.b=c\,d", r#"{"a.b":"c,d"}"#),
            ("a=", r#"{"a":""}"#),
            ("a=b=c", r#"{"a":"b=c"}"#),
            ("list[0].hosts[0]=example.com", r#"{"list":[{"hosts":["example.com"]}]}"#),
        ] {
            assert_eq!(set(text), want, "{text}");
        }
        for (text, want) in [
            ("name1", "key \"name1\" has no value"),
            ("a,b=1", "cannot end with ,"),
            ("a[-1]=x", "negative"),
            ("a[x]=1", "error parsing index"),
            ("a={x", "list must terminate with '}'"),
            ("a[70000]=1", "greater than maximum"),
            ("a=1,a.b=2", "interface conversion"),
            ("a.=x", "key map \"a\" has no value"),
        ] {
            assert!(set(text).contains(want), "{text}: {}", set(text));
        }
    }

    #[test]
    fn the_other_ways_of_setting() {
        let mut v = Values::default();
        v.set_string("a=1,b=true").expect("string");
        v.set_json(r#"c={"x":[1,2]},d=null"#).expect("json");
        v.set_json(r#"{"e":{"f":1.5}}"#).expect("object");
        v.set_literal("g.h=x,y={z}").expect("literal");
        v.set_file("i=path", |p| Ok(format!("<{p}>"))).expect("file");
        assert_eq!(
            json(&v),
            r#"{"a":"1","b":"true","c":{"x":[1.0,2.0]},"d":null,"e":{"f":1.5},"g":{"h":"x,y={z}"},"i":"<path>"}"#
        );
    }
}
