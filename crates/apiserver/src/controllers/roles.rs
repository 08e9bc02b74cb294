//! Aggregated ClusterRoles: one with an `aggregationRule` gets the rules of all roles its selectors name.

use std::sync::Arc;

use druse_object::Value;

use super::source::Source;
use crate::handlers::{Call, Mode, change};
use crate::selector::LabelSelector;
use crate::server::Shared;

const ROLES: &str = "clusterroles.rbac.authorization.k8s.io";

/// Follows ClusterRoles; any of them may belong to any aggregate.
pub async fn run(shared: Arc<Shared>) {
    let mut source = Source::new(&shared, ROLES);
    while source.next(None).await.is_some() {
        settle(&shared).await;
    }
}

/// Brings every aggregate up to date, until none changes: an aggregate may be part of another one.
pub async fn settle(shared: &Arc<Shared>) {
    let table = shared.registry.table();
    let Some(resource) = table.get("rbac.authorization.k8s.io", "clusterroles").cloned() else { return };
    let mut all = shared.objects(ROLES, "");
    // More rounds than there are aggregates would mean that they go round in circles.
    for _ in 0..=all.len() {
        let mut changed = false;
        for i in 0..all.len() {
            let Some(role) = all.get(i).filter(|r| r.get("aggregationRule").is_some()) else { continue };
            let rules = rules_of(role, &all);
            if role["rules"].items() == rules.as_slice() {
                continue;
            }
            let name = role.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
            let call = Call::internal(shared, "clusterrole-aggregation-controller", &resource, "", &name);
            let done = change(&call, &name, "", Mode::System, false, &mut |old, _| {
                let mut new = old.clone();
                if let Some(m) = new.as_map_mut() {
                    m.insert("rules", rules.clone());
                }
                Ok(new)
            })
            .await;
            if let (Ok(_), Some(m)) = (done, all.get_mut(i).and_then(Value::as_map_mut)) {
                m.insert("rules", rules);
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// The rules of the roles that are selected, in the order of their names, each once.
fn rules_of(aggregate: &Value, all: &[Value]) -> Vec<Value> {
    let own = aggregate.str_at(["metadata", "name"]);
    let mut rules: Vec<Value> = Vec::new();
    for selector in aggregate["aggregationRule"]["clusterRoleSelectors"].items() {
        let selector = LabelSelector::from_object(selector);
        for role in all.iter().filter(|r| r.str_at(["metadata", "name"]) != own) {
            let label = |k: &str| role.at(["metadata", "labels"]).and_then(|l| l.get(k)).and_then(Value::as_str);
            if selector.matches(label) {
                for rule in role["rules"].items().iter().filter(|r| !r.is_null()) {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
    }
    rules
}
