//! The garbage collector: dependents of owners that are gone, and owners waiting for their dependents.
//!
//! It follows every stored type and keeps a graph of who owns whom; references name owners by UID. A reference whose
//! owner does not exist (and was never seen) is checked against the store before anything is deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Gvk, Str, Value};

use crate::handlers::{Call, DeleteOptions, Mode, change, remove};
use crate::registry::{Resource, Table};
use crate::server::Shared;
use crate::store::{ChangeKind, Stored, Watch};

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    uid: Str,
    group: Str,
    kind: Str,
    name: Str,
    blocks: bool,
}

#[derive(Clone, Debug)]
struct Node {
    resource: Arc<Resource>,
    namespace: Str,
    name: Str,
    owners: Vec<Owner>,
    deleting: bool,
    foreground: bool,
    orphan: bool,
}

#[derive(Default)]
struct Graph {
    nodes: HashMap<Str, Node>,
    dependents: HashMap<Str, HashSet<Str>>,
    /// What to look at.
    queue: HashSet<Str>,
}

fn node_of(resource: &Arc<Resource>, o: &Stored) -> Option<(Str, Node)> {
    let v = o.value().ok()?;
    let meta = &v["metadata"];
    let uid = Str::from(meta["uid"].as_str()?);
    let owners = meta["ownerReferences"]
        .items()
        .iter()
        .filter_map(|r| {
            let gvk = Gvk::from_api_version(r.str_at(["apiVersion"])?, r.str_at(["kind"])?);
            Some(Owner {
                uid: r.str_at(["uid"])?.into(),
                group: gvk.group,
                kind: gvk.kind,
                name: r.str_at(["name"])?.into(),
                blocks: r.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true),
            })
        })
        .collect();
    let has = |f: &str| meta["finalizers"].items().iter().any(|x| x.as_str() == Some(f));
    let deleting = meta.get("deletionTimestamp").is_some();
    Some((
        uid,
        Node {
            resource: resource.clone(),
            namespace: o.namespace.clone(),
            name: o.name.clone(),
            owners,
            deleting,
            foreground: deleting && has("foregroundDeletion"),
            orphan: deleting && has("orphan"),
        },
    ))
}

impl Graph {
    fn put(&mut self, uid: Str, node: Node) {
        if let Some(old) = self.nodes.get(&uid) {
            for o in &old.owners {
                if let Some(d) = self.dependents.get_mut(&o.uid) {
                    d.remove(&uid);
                }
            }
        }
        for o in &node.owners {
            self.dependents.entry(o.uid.clone()).or_default().insert(uid.clone());
            // A dependent that stops blocking, or begins to go, may free its owner.
            if self.nodes.get(&o.uid).is_some_and(|n| n.foreground) {
                self.queue.insert(o.uid.clone());
            }
        }
        if !node.owners.is_empty() || node.foreground || node.orphan {
            self.queue.insert(uid.clone());
        }
        self.nodes.insert(uid, node);
    }

    fn gone(&mut self, uid: &Str) {
        if let Some(old) = self.nodes.remove(uid) {
            for o in &old.owners {
                if let Some(d) = self.dependents.get_mut(&o.uid) {
                    d.remove(uid);
                }
                if self.nodes.contains_key(&o.uid) {
                    self.queue.insert(o.uid.clone());
                }
            }
        }
        if let Some(d) = self.dependents.get(uid) {
            self.queue.extend(d.iter().cloned());
        }
    }
}

/// Follows every stored type.
pub async fn run(shared: Arc<Shared>) {
    let mut graph = Graph::default();
    let mut watches: HashMap<Str, (Arc<Resource>, Watch)> = HashMap::new();
    let mut generation = 0;
    let mut closing = shared.closing.subscribe();
    let mut seen = 0;
    loop {
        if *closing.borrow() {
            return;
        }
        if shared.registry.generation() != generation {
            generation = shared.registry.generation();
            follow(&shared, &shared.registry.table(), &mut watches, &mut graph);
        }
        let revision = shared.store.revision();
        if revision != seen {
            seen = revision;
            read(&mut watches, &mut graph);
        }
        let todo: Vec<Str> = graph.queue.drain().collect();
        for uid in todo {
            if !process(&shared, &graph, &uid).await {
                graph.queue.insert(uid);
            }
        }
        // New types and changes are looked for a few times a second: one place instead of a task a type.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            _ = closing.wait_for(|c| *c) => return,
        }
    }
}

fn follow(shared: &Shared, table: &Table, watches: &mut HashMap<Str, (Arc<Resource>, Watch)>, graph: &mut Graph) {
    watches.retain(|_, (r, _)| table.get(&r.group, &r.plural).is_some());
    for r in &table.resources {
        if !r.is_stored() || !r.allows("delete") || r.stored_as == "events" || watches.contains_key(&r.stored_as) {
            continue;
        }
        let Ok(page) = shared.store.list(&r.stored_as, "", None, usize::MAX, None) else { continue };
        for o in &page.items {
            if let Some((uid, node)) = node_of(r, o) {
                graph.put(uid, node);
            }
        }
        if let Ok(w) = shared.store.watch(&r.stored_as, page.rv) {
            watches.insert(r.stored_as.clone(), (r.clone(), w));
        }
    }
}

fn read(watches: &mut HashMap<Str, (Arc<Resource>, Watch)>, graph: &mut Graph) {
    let mut lost = Vec::new();
    for (key, (resource, watch)) in watches.iter_mut() {
        loop {
            match watch.poll(512) {
                Ok(changes) if changes.is_empty() => break,
                Ok(changes) => {
                    for c in changes {
                        let Some((uid, node)) = node_of(resource, &c.object) else { continue };
                        if c.kind == ChangeKind::Deleted {
                            graph.gone(&uid);
                        } else {
                            graph.put(uid, node);
                        }
                    }
                }
                Err(_) => {
                    lost.push(key.clone());
                    break;
                }
            }
        }
    }
    for key in lost {
        watches.remove(&key);
    }
}

/// Whether an owner exists, as far as a look into the store says; `None` when its type is not served.
fn owner_exists(shared: &Shared, table: &Table, dependent: &Node, owner: &Owner) -> Option<bool> {
    let r = table.for_kind(&owner.group, &owner.kind)?;
    let ns = if r.namespaced { dependent.namespace.as_str() } else { "" };
    if r.namespaced && dependent.namespace.is_empty() {
        return Some(false);
    }
    let found = shared.object(&r.stored_as, ns, &owner.name);
    Some(found.is_some_and(|v| v.str_at(["metadata", "uid"]) == Some(owner.uid.as_str())))
}

/// Does what an object's state asks for. `false`: look again.
async fn process(shared: &Arc<Shared>, graph: &Graph, uid: &Str) -> bool {
    let Some(node) = graph.nodes.get(uid) else { return true };
    let none = HashSet::new();
    let dependents = graph.dependents.get(uid).unwrap_or(&none);
    let call = Call::internal(shared, "generic-garbage-collector", &node.resource, &node.namespace, &node.name);
    if node.orphan {
        for d in dependents.iter().filter_map(|d| graph.nodes.get(d)) {
            if !disown(shared, d, uid).await {
                return false;
            }
        }
        return drop_finalizer(&call, node, "orphan").await;
    }
    if node.foreground {
        let blocking: Vec<&Node> = dependents
            .iter()
            .filter_map(|d| graph.nodes.get(d))
            .filter(|d| d.owners.iter().any(|o| o.uid == *uid && o.blocks))
            .collect();
        for d in dependents.iter().filter_map(|d| graph.nodes.get(d)).filter(|d| !d.deleting) {
            let call = Call::internal(shared, "generic-garbage-collector", &d.resource, &d.namespace, &d.name);
            let options = DeleteOptions { propagation: Some("Foreground".into()), ..DeleteOptions::default() };
            let _ = remove(&call, &d.name, &options).await;
        }
        // Freed when the last blocking dependent's end comes by.
        return !blocking.is_empty() || drop_finalizer(&call, node, "foregroundDeletion").await;
    }
    if node.deleting || node.owners.is_empty() {
        return true;
    }
    let table = shared.registry.table();
    let mut missing = Vec::new();
    let (mut solid, mut waiting) = (false, false);
    for o in &node.owners {
        match graph.nodes.get(&o.uid) {
            Some(n) if n.foreground => waiting = true,
            Some(_) => solid = true,
            None => match owner_exists(shared, &table, node, o) {
                Some(true) | None => solid = true,
                Some(false) => missing.push(o.uid.clone()),
            },
        }
    }
    if solid {
        for owner in missing {
            if !disown(shared, node, &owner).await {
                return false;
            }
        }
        return true;
    }
    let propagation = if waiting { "Foreground" } else { "Background" };
    let options =
        DeleteOptions { propagation: Some(propagation.into()), uid: Some(uid.to_string()), ..DeleteOptions::default() };
    match remove(&call, &node.name, &options).await {
        Ok(_) => true,
        Err(e) => matches!(e.reason, "NotFound" | "Conflict"),
    }
}

/// Takes one owner out of a dependent's references.
async fn disown(shared: &Arc<Shared>, node: &Node, owner: &str) -> bool {
    let call = Call::internal(shared, "generic-garbage-collector", &node.resource, &node.namespace, &node.name);
    let done = change(&call, &node.name, "", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        if let Some(list) =
            new.get_mut("metadata").and_then(|m| m.get_mut("ownerReferences")).and_then(Value::as_array_mut)
        {
            list.retain(|r| r.str_at(["uid"]) != Some(owner));
        }
        Ok(new)
    })
    .await;
    done.is_ok_and(|_| true) || shared.stored(&node.resource, &node.namespace, &node.name).is_none()
}

async fn drop_finalizer(call: &Call, node: &Node, finalizer: &str) -> bool {
    let done = change(call, &node.name, "", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        if let Some(list) = new.get_mut("metadata").and_then(|m| m.get_mut("finalizers")).and_then(Value::as_array_mut)
        {
            list.retain(|f| f.as_str() != Some(finalizer));
        }
        Ok(new)
    })
    .await;
    match done {
        Ok(_) => true,
        Err(e) => e.reason == "NotFound",
    }
}
