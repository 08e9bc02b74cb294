//! What stands in front of a node (anchors and tags), and aliases.

use super::reader::{Anchor, Fail, Props, Reader, Res};
use super::resolve::Tag;
use crate::value::Value;

impl<'a> Reader<'a> {
    /// Anchor and tag; leaves the reader at the token after them.
    pub(super) fn props(&mut self, flow: bool) -> Res<Props<'a>> {
        let mut props = Props::default();
        loop {
            let from = self.pos;
            match self.b(from) {
                b'&' => {
                    let name = self.anchor_name()?;
                    if props.anchor.replace(name).is_some() {
                        return Err(Fail::new(from, "did not find expected node content"));
                    }
                    self.anchors.insert(name, Anchor::Open);
                }
                b'!' => {
                    let tag = self.tag()?;
                    if props.tag != Tag::None {
                        return Err(Fail::new(from, "did not find expected node content"));
                    }
                    props.tag = tag;
                }
                _ => return Ok(props),
            }
            self.crossed = false;
            self.skip(true, flow);
            if self.crossed {
                return Ok(props);
            }
        }
    }

    pub(super) fn anchor_name(&mut self) -> Res<&'a str> {
        let start = self.pos + 1;
        let mut end = start;
        while matches!(self.b(end), b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'-') {
            end += 1;
        }
        if end == start
            || !(self.blankz(end) || matches!(self.b(end), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`'))
        {
            return self.fail("did not find expected alphabetic or numeric character");
        }
        self.pos = end;
        Ok(self.slice(start..end))
    }

    fn tag(&mut self) -> Res<Tag> {
        let start = self.pos;
        let tag = if self.b(start + 1) == b'<' {
            let mut end = start + 2;
            while !self.blankz(end) && self.b(end) != b'>' {
                end += 1;
            }
            if self.b(end) != b'>' {
                return self.fail("did not find the expected '>'");
            }
            self.pos = end + 1;
            Tag::from_long(self.slice(start + 2..end))
        } else {
            let mut end = start;
            while !self.blankz(end) && !matches!(self.b(end), b'{' | b'}' | b'"' | b'|' | b'<' | b'>' | b'\\' | b'^') {
                end += 1;
            }
            // In a flow collection a comma or bracket may follow at once; they are URI characters too, so go-yaml
            // takes them for the tag. So do we.
            self.pos = end;
            let text = self.slice(start..end);
            let handle_end = text.get(1..).and_then(|t| t.find('!')).map_or(1, |i| i + 2);
            let (handle, suffix) = text.split_at_checked(handle_end).unwrap_or((text, ""));
            let declared = self.handles.iter().rev().find(|(h, _)| *h == handle).map(|(_, p)| *p);
            match (handle, suffix, declared) {
                ("!", "", _) => Tag::NonSpecific,
                (_, _, Some(prefix)) => Tag::from_long(&format!("{prefix}{suffix}")),
                ("!", _, None) => Tag::Other,
                ("!!", _, None) => Tag::from_long(&format!("tag:yaml.org,2002:{suffix}")),
                _ => return Err(Fail::new(start, "found undefined tag handle")),
            }
        };
        if !self.blankz(self.pos) {
            return self.fail("did not find expected whitespace or line break");
        }
        Ok(tag)
    }

    pub(super) fn alias(&mut self) -> Res<Value> {
        let start = self.pos;
        let name = self.anchor_name()?;
        match self.anchors.get(name) {
            None => Err(Fail::new(start, format!("unknown anchor '{name}' referenced"))),
            Some(Anchor::Open) => Err(Fail::new(start, format!("anchor '{name}' value contains itself"))),
            Some(Anchor::Done { value, size }) => {
                self.nodes += size;
                self.alias_nodes += size;
                if excessive(self.nodes, self.alias_nodes) {
                    return Err(Fail::new(start, "document contains excessive aliasing"));
                }
                Ok(value.clone())
            }
        }
    }
}

/// go-yaml's bound on how much of a document may come from aliases: nearly all of a small one, a tenth of a large one.
#[allow(clippy::cast_precision_loss)]
fn excessive(nodes: u64, from_aliases: u64) -> bool {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    if from_aliases <= 100 || nodes <= 1000 {
        return false;
    }
    let n = nodes as f64;
    let allowed = 0.99 - 0.89 * ((n - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
    from_aliases as f64 / n > allowed
}
