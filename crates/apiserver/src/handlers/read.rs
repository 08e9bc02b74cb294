//! Get and list.

use std::sync::Arc;

use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD as B64};
use base64::{DecodeError, Engine as _, alphabet};
use druse_object::{Map, Value, json};

use super::{Answer, Call};
use crate::field::FieldError;
use crate::selector::{FieldSelector, LabelSelector, Selector};
use crate::status::Status;
use crate::store::{Stored, WatchError};

/// GET on an object.
pub fn get(call: &Call) -> Answer {
    if let Some(text) = call.info.query.get("resourceVersion") {
        check_reached(call, parse_rv(text)?)?;
    }
    let name = call.info.name.as_str();
    match call.shared.stored(&call.resource, call.namespace(), name) {
        Some(o) => call.view.object(200, &o),
        None => Err(Status::not_found(call.named(name))),
    }
}

/// The selectors of a request.
///
/// # Errors
/// 400 when one is malformed.
pub fn selector(call: &Call) -> Result<Selector, Status> {
    let query = &call.info.query;
    let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?;
    let mut fields =
        FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), &call.resource, &call.version)?;
    if !call.info.name.is_empty() {
        let one = format!("metadata.name={}", call.info.name);
        fields = FieldSelector::parse(&one, &call.resource, &call.version)?;
    }
    Ok(Selector { labels, fields })
}

/// A resource version parameter; empty is 0.
///
/// # Errors
/// 500 with Go's words, as upstream answers.
pub fn parse_rv(text: &str) -> Result<u64, Status> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        let e = FieldError::invalid(
            "resourceVersion",
            text,
            format!("strconv.ParseUint: parsing {}: invalid syntax", crate::field::go_quote(text)),
        );
        Status::new(500, "", e.to_string())
    })
}

/// 504 when a resource version has not been reached.
///
/// # Errors
/// That 504.
pub fn check_reached(call: &Call, rv: u64) -> Result<(), Status> {
    let current = call.shared.store.revision();
    if rv <= current {
        return Ok(());
    }
    Err(too_large(rv, current))
}

/// The 504 for a resource version from the future.
#[must_use]
pub fn too_large(rv: u64, current: u64) -> Status {
    let mut cause = Map::new();
    cause.insert("reason", "ResourceVersionTooLarge");
    cause.insert("message", "Too large resource version");
    let mut details = Map::new();
    details.insert("causes", Value::Array(vec![Value::Map(cause)]));
    details.insert("retryAfterSeconds", 1i64);
    Status {
        details: Some(details),
        ..Status::new(504, "Timeout", format!("Timeout: Too large resource version: {rv}, current: {current}"))
    }
}

/// Reads base64 as Go does: what is over at the end is nothing.
fn decoded(text: &str) -> Result<Vec<u8>, String> {
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));
    LENIENT.decode(text).map_err(|e| match e {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        DecodeError::InvalidLength(at) => format!("illegal base64 data at input byte {}", at.saturating_sub(1)),
        DecodeError::InvalidPadding => format!("illegal base64 data at input byte {}", text.len()),
    })
}

struct Continue {
    rv: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn parse(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = decoded(text).map_err(|e| bad(&e))?;
        let v = json::parse(&bytes)
            .map_err(|e| bad(&crate::json_error::syntax_error(&bytes).unwrap_or_else(|| e.to_string())))?;
        let version = v.str_at(["v"]).unwrap_or_default();
        if version != "meta.k8s.io/v1" {
            return Err(bad(&format!("server does not recognize this encoded version {version}")));
        }
        let rv = v["rv"].as_i64().filter(|n| *n != 0).and_then(|n| u64::try_from(n).ok());
        let rv = rv.ok_or_else(|| bad(&format!("incorrect encoded start resourceVersion (version {version})")))?;
        let start = v.str_at(["start"]).unwrap_or_default();
        if start.is_empty() {
            return Err(bad(&format!("encoded start key empty (version {version})")));
        }
        let (namespace, name) =
            start.split_once('/').filter(|_| !start.split('/').any(|part| part == "..")).ok_or_else(|| bad(start))?;
        Ok(Self { rv, namespace: namespace.into(), name: name.into() })
    }

    fn text(rv: u64, last: &Stored) -> String {
        let mut m = Map::new();
        m.insert("v", "meta.k8s.io/v1");
        m.insert("rv", rv);
        m.insert("start", format!("{}/{}", last.namespace, last.name));
        B64.encode(json::to_string(&Value::Map(m)))
    }
}

fn invalid_options(errors: &[FieldError]) -> Status {
    Status::invalid("meta.k8s.io", "ListOptions", "", errors)
}

/// GET on a collection.
pub fn list(call: &Call) -> Answer {
    let (items, meta) = page(call)?;
    call.view.list(&items, meta)
}

/// The objects of a collection that a request selects, as far as its limit goes, and their list's metadata.
///
/// # Errors
/// 400 and 422 for options that cannot be, 410 and 504 for states that are gone or not reached.
pub fn page(call: &Call) -> Result<(Vec<Arc<Stored>>, Map), Status> {
    let query = &call.info.query;
    let selector = selector(call)?;
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let rv_text = query.get("resourceVersion").unwrap_or_default();
    let continues = query.get("continue").filter(|c| !c.is_empty());
    if query.flag("sendInitialEvents") {
        let mut errors = vec![FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")];
        if !matching.is_empty() && rv_text.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.insert(0, FieldError::forbidden("resourceVersionMatch", why));
        }
        return Err(invalid_options(&errors));
    }
    if !matching.is_empty() {
        let mut errors = Vec::new();
        if rv_text.is_empty() {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if continues.is_some() {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported("resourceVersionMatch", matching, &["Exact", "NotOlderThan", ""]));
        } else if matching == "Exact" && rv_text == "0" {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        if !errors.is_empty() {
            return Err(invalid_options(&errors));
        }
    }
    let limit = match query.get("limit") {
        None | Some("") => 0,
        Some(text) => text.parse::<i64>().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", crate::field::go_quote(text)))
        })?,
    };
    // What may be of any age is answered whole, as a watch cache does.
    let limit = if limit <= 0 || rv_text == "0" && continues.is_none() {
        usize::MAX
    } else {
        usize::try_from(limit).unwrap_or(usize::MAX)
    };
    if let Some(Err(_)) = query.get("timeoutSeconds").filter(|t| !t.is_empty()).map(str::parse::<i64>) {
        let t = crate::field::go_quote(query.get("timeoutSeconds").unwrap_or_default());
        return Err(Status::bad_request(format!("strconv.ParseInt: parsing {t}: invalid syntax")));
    }
    let rv = parse_rv(rv_text).map_err(|e| Status::bad_request(format!("invalid resource version: {}", e.message)))?;
    check_reached(call, rv)?;
    let token = continues.map(Continue::parse).transpose()?;
    if token.is_some() && rv > 0 {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let at = match &token {
        Some(t) => Some(t.rv),
        // With a limit, an older state asked for without saying how means exactly that one.
        None if rv > 0 && (matching == "Exact" || (matching.is_empty() && limit != usize::MAX)) => Some(rv),
        None => None,
    };
    let expired = |e: WatchError| match (&token, e) {
        (Some(_), _) => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        ),
        (None, WatchError::Expired { .. }) => {
            Status::expired(format!("The resourceVersion for the provided list is too old: {e}"))
        }
    };
    let after = token.as_ref().map(|t| (t.namespace.as_str(), t.name.as_str()));
    let wanted = if selector.is_empty() { limit } else { usize::MAX };
    let page =
        call.shared.store.list(&call.resource.stored_as, call.namespace(), after, wanted, at).map_err(expired)?;
    let mut items: Vec<Arc<Stored>> = page.items;
    let mut remaining = page.remaining;
    let mut count_known = true;
    if !selector.is_empty() {
        items.retain(|o| selector.matches(o));
        remaining = items.len().saturating_sub(limit);
        items.truncate(limit);
        count_known = false;
    }
    let mut meta = Map::new();
    meta.insert("resourceVersion", page.rv.to_string());
    if call.resource.custom && call.view.accepted.shape == crate::negotiate::Shape::Object {
        // Lists of custom objects always say it.
        meta.insert("continue", "");
    }
    if remaining > 0
        && let Some(last) = items.last()
    {
        meta.insert("continue", Continue::text(page.rv, last));
        if count_known {
            meta.insert("remainingItemCount", remaining);
        }
    }
    Ok((items, meta))
}
