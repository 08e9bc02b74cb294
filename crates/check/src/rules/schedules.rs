//! DR013: cron schedules in custom resources (`data/schedules.yaml`), which only their controllers read: what these
//! cannot read never runs.

use druse_object::Value;
use druse_object::schedule::Schedule;

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::paths;
use crate::tables;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for of in &tables::get().schedules {
        for entry in cx.index.of_name(&of.kind).filter(|e| e.origin != crate::index::Origin::Foreign) {
            for (path, text) in paths::all(&entry.object.value, &of.at) {
                let Some(text) = text.as_str().filter(|t| !t.is_empty() && !t.contains(['$', '{'])) else { continue };
                let Some((message, severity)) = fault(text, of.seconds) else { continue };
                out.push(cx.at(entry, &path, &[text], "DR013", message).severity(severity));
            }
        }
    }
    scalers(cx, out);
}

/// When KEDA's cron triggers begin and end.
fn scalers(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for entry in cx.index.of_kind("keda.sh", "ScaledObject") {
        for (at, trigger) in paths::all(&entry.object.value, "spec.triggers[]") {
            for field in ["start", "end"].iter().filter(|_| trigger.str_at(["type"]) == Some("cron")) {
                let Some(text) = trigger.at(["metadata", *field]).and_then(Value::as_str) else { continue };
                if text.contains(['$', '{']) {
                    continue;
                }
                let Some((message, severity)) = fault(text, false) else { continue };
                let path: Vec<_> = at.iter().cloned().chain(["metadata", *field].map(Into::into)).collect();
                out.push(cx.at(entry, &path, &[text], "DR013", message).severity(severity));
            }
        }
    }
}

/// What is wrong with a schedule, if anything is.
fn fault(text: &str, seconds: bool) -> Option<(String, Severity)> {
    let refused = |why: String| Some((format!("{text:?} is no schedule: {why}"), Severity::Error));
    let fields: Vec<&str> = text.split_whitespace().collect();
    if !seconds || text.starts_with('@') || text.contains("TZ=") {
        return Schedule::parse(text).err().and_then(|why| refused(why.to_string()));
    }
    match fields.as_slice() {
        [first, rest @ ..] if rest.len() == 4 || rest.len() == 5 => {
            // Seconds are as minutes are; without a last field any day of the week is meant.
            let rest = if rest.len() == 4 { format!("{} *", rest.join(" ")) } else { rest.join(" ") };
            let wrong = Schedule::parse(&format!("{first} * * * *")).err().or_else(|| Schedule::parse(&rest).err());
            if let Some(why) = wrong {
                return refused(why.to_string());
            }
            // Who leaves the day of the week out says an hour; who takes the first field for minutes mostly says none
            // where the hour is.
            if fields.len() == 6 || fields.get(2) != Some(&"*") || fields.get(1) == Some(&"*") {
                return None;
            }
            let message = format!(
                "{text:?} has five fields, and the first of them is taken for seconds here: it runs at {first} s, minute {}",
                fields.get(1).unwrap_or(&"*")
            );
            Some((message, Severity::Warning))
        }
        _ => refused(format!("six fields are needed (the first is seconds), and this has {}", fields.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_that_no_controller_can_read_are_told_from_others() {
        for (text, seconds) in [
            ("30 3 * * *", false),
            ("@daily", true),
            ("0 0 3 * * *", true),
            ("@every 6h", true),
            ("0 */6 * * *", false),
        ] {
            assert_eq!(fault(text, seconds), None, "{text}");
        }
        for (text, seconds) in [("30 25 * * *", false), ("0 3 * *", false), ("0 3 * *", true), ("0 0 25 * * *", true)] {
            assert!(fault(text, seconds).is_some_and(|f| f.1 == Severity::Error), "{text}");
        }
        assert!(fault("0 3 * * *", true).is_some_and(|f| f.1 == Severity::Warning));
    }
}
