//! Ports of endpoints: read and written, and found for a Service's port at a pod.

use druse_object::{Map, Value};

/// A port that endpoints listen on, as Endpoints and EndpointSlices write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
    pub app_protocol: Option<String>,
}

impl Port {
    /// As it is written in an object.
    pub fn read(v: &Value) -> Self {
        let text = |k: &str| v[k].as_str().map(str::to_owned);
        Self {
            name: text("name"),
            protocol: text("protocol"),
            port: v["port"].as_i64(),
            app_protocol: text("appProtocol"),
        }
    }

    /// As the port of an EndpointSlice.
    pub fn of_slice(&self) -> Value {
        self.written(self.name.as_deref())
    }

    /// As the port of Endpoints, where an empty name is none.
    pub fn of_subset(&self) -> Value {
        self.written(self.name.as_deref().filter(|n| !n.is_empty()))
    }

    fn written(&self, name: Option<&str>) -> Value {
        let mut m = Map::new();
        if let Some(name) = name {
            m.insert("name", name);
        }
        if let Some(port) = self.port {
            m.insert("port", port);
        }
        if let Some(protocol) = &self.protocol {
            m.insert("protocol", protocol.as_str());
        }
        if let Some(app) = &self.app_protocol {
            m.insert("appProtocol", app.as_str());
        }
        Value::Map(m)
    }
}

/// The port of a pod that a Service's port leads to; `None` when the pod has no port of the name that is asked for.
pub fn at_pod(port: &Value, pod: &Value) -> Option<Port> {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let number = match &port["targetPort"] {
        Value::String(name) => named(pod, name, protocol)?,
        number => number.as_i64().or_else(|| port["port"].as_i64())?,
    };
    Some(Port {
        name: Some(port["name"].as_str().unwrap_or_default().to_owned()),
        protocol: Some(protocol.to_owned()),
        port: Some(number),
        app_protocol: port["appProtocol"].as_str().map(str::to_owned),
    })
}

/// A named port of a container, or of an init container that stays (upstream's `FindPort` of `k8s.io/endpointslice`).
fn named(pod: &Value, name: &str, protocol: &str) -> Option<i64> {
    let spec = &pod["spec"];
    let stays = spec["initContainers"].items().iter().filter(|c| c["restartPolicy"].as_str() == Some("Always"));
    let mut ports = spec["containers"].items().iter().chain(stays).flat_map(|c| c["ports"].items());
    let found = ports.find(|p| p["name"].as_str() == Some(name) && p["protocol"].as_str().unwrap_or("TCP") == protocol);
    found.and_then(|p| p["containerPort"].as_i64())
}
