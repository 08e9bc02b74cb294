//! `images`: new names, tags and digests for container images.

use druse_object::Value;
use regex::Regex;

use crate::error::{Result, fail, go_quote};
use crate::fieldspec::{FieldSpecs, Make, set_scalar, wrong_kind};
use crate::ids::text;
use crate::kustomization::Image;
use crate::resource::Resources;

/// Deeper than any document the reader accepts.
const MAX_DEPTH: usize = 2000;

pub(super) fn apply(resources: &mut Resources, image: &Image, specs: &FieldSpecs) -> Result<()> {
    let pattern = format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name);
    // kustomize panics here.
    let pattern = Regex::new(&pattern).map_err(|_| {
        fail!("the image name {} is no regular expression", go_quote(&image.name))
            .help("image names are regular expressions: write a backslash before brackets and the like")
    })?;
    let mut set = |field: &mut Value| match field {
        Value::Map(_) | Value::Array(_) => Err(wrong_kind("ScalarNode", field)),
        _ => {
            let old = text(field);
            if pattern.is_match(&old) { set_scalar(field, renamed(&old, image).into()) } else { Ok(()) }
        }
    };
    for resource in resources.contents_mut() {
        let id = resource.id();
        if id.gvk.kind == "CustomResourceDefinition" {
            continue;
        }
        walk(&mut resource.value, &mut set, 0)?;
        specs.apply(&mut resource.value, &id, Make::Nothing, &mut set)?;
    }
    resources.drop_empty();
    Ok(())
}

/// Every `image` of an item in a list called `containers` or `initContainers`, wherever it is.
fn walk(value: &mut Value, set: &mut dyn FnMut(&mut Value) -> Result<()>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|v| walk(v, set, depth + 1)),
        Value::Map(map) => {
            for (key, value) in map.iter_mut() {
                walk(value, set, depth + 1)?;
                if key == "containers" || key == "initContainers" {
                    for item in value.as_array_mut().into_iter().flatten() {
                        match item {
                            Value::Map(_) => {
                                if let Some(image) = item.get_mut("image").filter(|v| !v.is_null()) {
                                    set(image)?;
                                }
                            }
                            Value::Null => {}
                            other => return Err(wrong_kind("MappingNode", other)),
                        }
                    }
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn renamed(old: &str, image: &Image) -> String {
    let (name, mut tag, mut digest) = split(old);
    let mut tag_text;
    let mut out = if image.new_name.is_empty() { name.to_string() } else { image.new_name.clone() };
    if !image.new_tag.is_empty() {
        tag = &image.new_tag;
        digest = &image.digest;
    } else if !image.digest.is_empty() {
        tag = "";
        digest = &image.digest;
    } else if !image.tag_suffix.is_empty() {
        tag_text = tag.to_string();
        tag_text.push_str(&image.tag_suffix);
        tag = &tag_text;
        digest = "";
    }
    if !tag.is_empty() {
        out.push(':');
        out.push_str(tag);
    }
    if !digest.is_empty() {
        out.push('@');
        out.push_str(digest);
    }
    out
}

/// Name, tag and digest of an image reference; a colon before the first slash belongs to the name.
fn split(image: &str) -> (&str, &str, &str) {
    let from = image.find('/').unwrap_or(0);
    let find = |c: char| image.get(from..).and_then(|s| s.find(c)).map(|i| i + from);
    match (find(':'), find('@')) {
        (None, None) => (image, "", ""),
        (Some(colon), None) => (&image[..colon], &image[colon + 1..], ""),
        (Some(colon), Some(at)) if colon < at => (&image[..colon], &image[colon + 1..at], &image[at + 1..]),
        (_, Some(at)) => (&image[..at], "", &image[at + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_split_into_name_tag_and_digest() {
        assert_eq!(split("nginx"), ("nginx", "", ""));
        assert_eq!(split("host:5000/a/b:1.2@sha256:abc"), ("host:5000/a/b", "1.2", "sha256:abc"));
        assert_eq!(split("a@sha256:abc"), ("a", "", "sha256:abc"));
        let image = Image { tag_suffix: "-x".into(), ..Image::default() };
        assert_eq!(renamed("a:1@sha256:b", &image), "a:1-x");
    }
}
