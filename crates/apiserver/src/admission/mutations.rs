//! `MutatingAdmissionPolicy`: CEL expressions that change writes, by a configuration that is merged into the object as
//! an apply would, or by a JSON patch.

use druse_object::{Map, Value, patch};

use super::matching::{BUDGET, Cache, Expression};
use super::policies::{Common, failed};
use super::{Operation, Review};
use crate::apply;
use crate::server::Shared;
use crate::status::{Named, Status};

const POLICIES: &str = "mutatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "mutatingadmissionpolicybindings.admissionregistration.k8s.io";

enum Mutation {
    Configuration(Expression),
    Patch(Expression),
}

struct Policy {
    common: Common,
    mutations: Vec<Mutation>,
    /// Whether it is asked again when what came after it changed the object.
    again: bool,
}

/// The plugin.
pub struct Mutations(Cache<Vec<Policy>>);

impl Default for Mutations {
    fn default() -> Self {
        Self(Cache::new(&[POLICIES, BINDINGS], read))
    }
}

fn read(shared: &Shared) -> Vec<Policy> {
    let bindings = shared.objects(BINDINGS, "");
    let policies = shared.objects(POLICIES, "").into_iter().map(|p| {
        let common = Common::read(&p, &bindings, |_| true);
        let mutations = common.spec["mutations"].items().iter();
        let mutations = mutations.filter_map(|m| match m.str_at(["patchType"]) {
            Some("ApplyConfiguration") => {
                Some(Mutation::Configuration(Expression::new(&m["applyConfiguration"]["expression"])))
            }
            Some("JSONPatch") => Some(Mutation::Patch(Expression::new(&m["jsonPatch"]["expression"]))),
            _ => None,
        });
        let again = common.spec.str_at(["reinvocationPolicy"]) == Some("IfNeeded");
        Policy { mutations: mutations.collect(), again, common }
    });
    policies.collect()
}

impl Mutations {
    /// Changes the object of a write. In the `second` round only those policies are asked that want to see what others
    /// changed after them.
    ///
    /// # Errors
    /// A policy that fails closed and cannot be carried out.
    pub fn round(&self, shared: &Shared, review: &mut Review<'_>, second: bool) -> Result<(), Status> {
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        // Policies do not change what sets policies.
        if !writes || review.resource.group == "admissionregistration.k8s.io" {
            return Ok(());
        }
        for p in self.0.current(shared).iter().filter(|p| p.again || !second) {
            let bound: Vec<(String, Value)> = p.common.bound(shared, review).cloned().collect();
            for (binding, spec) in bound {
                let changed = match p.change(shared, review, &spec) {
                    Ok(v) => v,
                    Err(why) if p.common.fails_closed => return Err(denied(review, &p.common.name, &binding, &why)),
                    Err(_) => None,
                };
                if let (Some(new), Some(object)) = (changed, review.object.as_deref_mut()) {
                    *object = new;
                }
            }
        }
        Ok(())
    }
}

impl Policy {
    /// The object after this policy's changes; `None` when there are none.
    fn change(&self, shared: &Shared, review: &Review<'_>, binding: &Value) -> Result<Option<Value>, String> {
        let Some(first) = review.object.as_deref() else { return Ok(None) };
        let all = self.common.params(shared, review, binding);
        let all = all.map_err(|why| format!("failed to configure binding: {why}"))?;
        let schema = shared.schema(&review.resource.gvk(review.version)).map_err(|s| s.message)?;
        let mut object = first.clone();
        for params in all {
            for m in &self.mutations {
                let mut budget = BUDGET;
                let seen = object.clone();
                let facts = self.common.facts(shared, review, &seen, params.clone(), &mut budget)?;
                let Some(facts) = facts else { break };
                let value = |e: &Expression, budget: &mut u64| facts.value(e, budget).map_err(|why| failed(e, &why));
                match m {
                    Mutation::Configuration(e) => {
                        let configuration = value(e, &mut budget)?;
                        object = apply::merge_into(&object, &configuration, &schema);
                    }
                    Mutation::Patch(e) => json_patch(&mut object, &value(e, &mut budget)?)?,
                }
                // Read as a client's object is: unknown fields go, defaults come.
                schema.decode(&mut object).map_err(|e| e.to_string())?;
                schema.default(&mut object);
            }
        }
        Ok((object != *first).then_some(object))
    }
}

/// A patch of which a test fails changes nothing; one that cannot be carried out is an error.
fn json_patch(object: &mut Value, operations: &Value) -> Result<(), String> {
    match patch::json_patch(object, operations) {
        Err(e) if !e.0.starts_with("testing value ") || e.0.ends_with("missing value") => {
            Err(format!("JSON Patch: {}", e.0))
        }
        _ => Ok(()),
    }
}

fn denied(review: &Review<'_>, policy: &str, binding: &str, why: &str) -> Status {
    let text = format!("policy '{policy}' with binding '{binding}' denied request: {why}");
    let mut cause = Map::new();
    cause.insert("message", text.as_str());
    let n = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
    let status = Status::forbidden(n, &text).with_causes(vec![Value::Map(cause)]);
    Status { reason: "Invalid", message: text, ..status }
}
