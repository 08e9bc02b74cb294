//! What a Job makes of its pods' ends: `podFailurePolicy` and `successPolicy`.

use std::collections::BTreeSet;

use druse_object::Value;

use super::indexes;
use crate::workloads::pods;

/// What a pod's failure counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One of the failures that limits count.
    Counts,
    /// None.
    Ignored,
    /// The end of the pod's index.
    FailsIndex,
    /// The end of the Job, for this reason.
    FailsJob(String),
}

/// Whether a pod has failed. One that is being deleted has, unless only pods that ended are replaced.
pub fn failed(job: &Value, pod: &Value) -> bool {
    match pod.str_at(["status", "phase"]) {
        Some("Failed") => true,
        Some("Succeeded") => false,
        _ => pods::going(pod) && !replaces_ended_only(job),
    }
}

/// Whether a pod is replaced only when it has ended, not already when it is asked to.
pub fn replaces_ended_only(job: &Value) -> bool {
    job.str_at(["spec", "podReplacementPolicy"]) == Some("Failed") || !job["spec"]["podFailurePolicy"].is_null()
}

/// The first rule of a pod failure policy that is about the pod decides.
pub fn failure(job: &Value, pod: &Value) -> Failure {
    for (i, rule) in job["spec"]["podFailurePolicy"]["rules"].items().iter().enumerate() {
        let action = rule["action"].as_str().unwrap_or_default();
        let why = if rule["onExitCodes"].is_null() {
            has_condition(pod, rule["onPodConditions"].items()).map(|kind| format!("has condition {kind}"))
        } else {
            exited(pod, &rule["onExitCodes"]).map(|(_, code)| format!("failed with exit code {code}"))
        };
        let Some(why) = why else { continue };
        match action {
            "Ignore" => return Failure::Ignored,
            "FailIndex" => return Failure::FailsIndex,
            "Count" => return Failure::Counts,
            "FailJob" => {
                let name = |field: &str| pod.str_at(["metadata", field]).unwrap_or_default();
                let pod_name = format!("{}/{}", name("namespace"), name("name"));
                let who = match exited(pod, &rule["onExitCodes"]) {
                    Some((container, _)) => format!("Container {container} for pod {pod_name}"),
                    None => format!("Pod {pod_name}"),
                };
                return Failure::FailsJob(format!("{who} {why} matching {action} rule at index {i}"));
            }
            _ => {}
        }
    }
    Failure::Counts
}

/// The first container that ended with an exit code the requirement is about, and the code.
fn exited<'a>(pod: &'a Value, requirement: &Value) -> Option<(&'a str, i64)> {
    let values = requirement["values"].items();
    ["containerStatuses", "initContainerStatuses"].iter().find_map(|list| {
        pod["status"][*list].items().iter().find_map(|status| {
            let name = status["name"].as_str()?;
            let code = status["state"]["terminated"]["exitCode"].as_i64().filter(|c| *c != 0)?;
            let named = requirement["containerName"].as_str().is_none_or(|n| n == name);
            let listed = values.iter().any(|v| v.as_i64() == Some(code));
            let fits = match requirement["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                _ => false,
            };
            (named && fits).then_some((name, code))
        })
    })
}

fn has_condition<'a>(pod: &'a Value, patterns: &[Value]) -> Option<&'a str> {
    let conditions = pod["status"]["conditions"].items();
    let fits = |c: &&Value| patterns.iter().any(|p| p["type"] == c["type"] && p["status"] == c["status"]);
    conditions.iter().find(fits)?["type"].as_str()
}

/// The rule of a success policy that the succeeded indexes fulfil.
pub fn success(job: &Value, completions: u32, succeeded: &BTreeSet<u32>) -> Option<String> {
    let rules = job["spec"]["successPolicy"]["rules"].items();
    let met = rules.iter().position(|rule| {
        let count = rule["succeededCount"].as_i64().and_then(|n| usize::try_from(n).ok());
        match rule["succeededIndexes"].as_str() {
            Some(text) => {
                let wanted = indexes::parse(text, completions);
                let there = wanted.intersection(succeeded).count();
                !wanted.is_empty() && (there == wanted.len() || count.is_some_and(|c| there >= c))
            }
            None => count.is_some_and(|c| succeeded.len() >= c),
        }
    });
    met.filter(|_| !succeeded.is_empty()).map(|i| format!("Matched rules at index {i}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::value;

    #[test]
    fn the_first_rule_about_a_pod_says_what_its_failure_is() {
        let job = value(
            "spec:
  podFailurePolicy:
    rules:
    - {action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}
    - {action: FailJob, onExitCodes: {containerName: main, operator: In, values: [3, 4]}}
    - {action: FailIndex, onExitCodes: {operator: NotIn, values: [1, 3, 4]}}
    - {action: FailJob, onPodConditions: [{type: ConfigIssue, status: 'True'}]}",
        );
        let pod = |status: &str| value(&format!("{{metadata: {{namespace: home, name: p}}, status: {status}}}"));
        let exit = |name: &str, code: i64| {
            pod(&format!("{{containerStatuses: [{{name: {name}, state: {{terminated: {{exitCode: {code}}}}}}}]}}"))
        };
        let ends = |text: &str| Failure::FailsJob(text.to_owned());
        for (pod, expected) in [
            (exit("main", 1), Failure::Counts),
            (exit("main", 2), Failure::FailsIndex),
            (
                exit("main", 3),
                ends("Container main for pod home/p failed with exit code 3 matching FailJob rule at index 1"),
            ),
            (exit("side", 3), Failure::Counts),
            (pod("{conditions: [{type: DisruptionTarget, status: 'True'}]}"), Failure::Ignored),
            (pod("{conditions: [{type: DisruptionTarget, status: 'False'}]}"), Failure::Counts),
            (
                pod("{conditions: [{type: ConfigIssue, status: 'True'}]}"),
                ends("Pod home/p has condition ConfigIssue matching FailJob rule at index 3"),
            ),
        ] {
            assert_eq!(failure(&job, &pod), expected, "{pod:?}");
        }
    }

    #[test]
    fn a_success_policy_asks_for_indexes_a_count_or_both() {
        for (rule, done, met) in [
            ("{succeededIndexes: 0-2}", "0-2", true),
            ("{succeededIndexes: 0-2}", "0,1,5", false),
            ("{succeededIndexes: 0-2, succeededCount: 2}", "0,1,5", true),
            ("{succeededCount: 3}", "0,1,5", true),
            ("{succeededCount: 0}", "", false),
        ] {
            let job = value(&format!("{{spec: {{successPolicy: {{rules: [{rule}]}}}}}}"));
            assert_eq!(success(&job, 10, &indexes::parse(done, 10)).is_some(), met, "{rule} {done}");
        }
    }
}
