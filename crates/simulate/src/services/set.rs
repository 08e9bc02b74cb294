//! Endpoints that a Service should have and that no slice has yet (upstream's `EndpointSet` of
//! `k8s.io/endpointslice/util`).

use std::collections::HashMap;

use druse_object::Value;

/// Endpoints by what makes each one the same as another; those left are taken in the order they were put in.
#[derive(Default)]
pub struct Set {
    all: Vec<Option<Value>>,
    places: HashMap<String, usize>,
    next: usize,
}

impl Set {
    /// Adds an endpoint; one that is the same is replaced.
    pub fn add(&mut self, endpoint: Value) {
        let key = identity(&endpoint);
        match self.places.get(&key) {
            Some(place) => self.all[*place] = Some(endpoint),
            None => {
                self.places.insert(key, self.all.len());
                self.all.push(Some(endpoint));
            }
        }
    }

    /// Takes out the endpoint that is the same as this one.
    pub fn take(&mut self, endpoint: &Value) -> Option<Value> {
        let place = self.places.remove(&identity(endpoint))?;
        self.all[place].take()
    }

    /// The endpoint that is the same as this one.
    pub fn get(&self, endpoint: &Value) -> Option<&Value> {
        self.all[*self.places.get(&identity(endpoint))?].as_ref()
    }

    /// Takes out the first that is left.
    pub fn pop(&mut self) -> Option<Value> {
        while self.next < self.all.len() {
            let found = self.all[self.next].take();
            self.next += 1;
            if let Some(endpoint) = found {
                self.places.remove(&identity(&endpoint));
                return Some(endpoint);
            }
        }
        None
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// What makes an endpoint one: its addresses, its host's name and what it leads to.
fn identity(endpoint: &Value) -> String {
    let mut addresses: Vec<&str> = endpoint["addresses"].items().iter().filter_map(Value::as_str).collect();
    addresses.sort_unstable();
    let text = |v: Option<&str>| v.unwrap_or_default().to_owned();
    let (target, host) = (&endpoint["targetRef"], text(endpoint["hostname"].as_str()));
    [addresses.join(","), host, text(target["namespace"].as_str()), text(target["name"].as_str())].join("/")
}

/// Whether two that are the same say the same.
pub fn alike(a: &Value, b: &Value) -> bool {
    let target = |e: &Value| {
        let mut target = e["targetRef"].as_map().cloned().unwrap_or_default();
        target.remove("resourceVersion");
        target
    };
    let conditions = ["ready", "serving", "terminating"];
    ["nodeName", "zone"].iter().all(|f| a[*f] == b[*f])
        && conditions.iter().all(|c| a["conditions"][*c] == b["conditions"][*c])
        && target(a) == target(b)
}
