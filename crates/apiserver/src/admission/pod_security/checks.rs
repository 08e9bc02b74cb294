//! The Pod Security Standards: what `baseline` and `restricted` forbid, in upstream's words and order.
//!
//! A policy may be pinned to a minor version of Kubernetes; rules that came later do not count then. Versions before
//! 1.19, which judged seccomp by annotations, are judged as 1.19.

use std::collections::BTreeSet;

use druse_object::Value;

use crate::validate::security::APPARMOR;

/// One broken rule: what it is called, and the details; those may be empty.
pub type Broken = (String, String);

/// A pod as the checks see it.
pub struct Pod<'a> {
    /// `metadata`
    pub meta: &'a Value,
    /// `spec`
    pub spec: &'a Value,
    /// The minor version of the policy.
    pub minor: u32,
}

type Check = fn(&Pod<'_>) -> Option<Broken>;

const BASELINE: [Check; 12] = [
    app_armor,
    baseline_capabilities,
    host_namespaces,
    host_path_volumes,
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    se_linux,
    baseline_seccomp,
    sysctls,
    windows_host_process,
];
/// What `restricted` takes over from `baseline`; the others have stricter forms below.
const KEPT: [Check; 8] =
    [app_armor, host_namespaces, host_ports, host_probes, privileged, se_linux, sysctls, windows_host_process];
const RESTRICTED: [Check; 7] = [
    privilege_escalation,
    restricted_capabilities,
    restricted_proc_mount,
    restricted_volumes,
    run_as_non_root,
    run_as_user,
    restricted_seccomp,
];

/// The rules of a level that a pod breaks.
#[must_use]
pub fn broken(level: super::Level, pod: &Pod<'_>) -> Vec<Broken> {
    let run = |checks: &[Check]| checks.iter().filter_map(|c| c(pod)).collect::<Vec<_>>();
    match level {
        super::Level::Privileged => Vec::new(),
        super::Level::Baseline => run(&BASELINE),
        super::Level::Restricted => {
            let mut out = run(&KEPT);
            // Before a stricter form existed, the baseline's held.
            if pod.minor < 22 {
                out.extend(baseline_capabilities(pod));
            }
            if pod.minor < 35 {
                out.extend(proc_mount(pod));
            }
            out.extend(run(&RESTRICTED));
            out
        }
    }
}

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |k| spec[k].items())
    }

    /// The names of the containers for which something holds.
    fn names(&self, f: impl FnMut(&&'a Value) -> bool) -> Vec<String> {
        self.containers().filter(f).map(name).collect()
    }

    fn windows(&self) -> bool {
        self.minor >= 25 && self.spec.str_at(["os", "name"]) == Some("windows")
    }

    fn own_users(&self) -> bool {
        self.minor >= 35 && self.spec.get("hostUsers").and_then(Value::as_bool) == Some(false)
    }
}

fn name(c: &Value) -> String {
    c.str_at(["name"]).unwrap_or_default().to_owned()
}

fn context<'a>(o: &'a Value, key: &str) -> &'a Value {
    &o["securityContext"][key]
}

fn quoted<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> String {
    let all: Vec<String> = list.into_iter().map(|s| format!("\"{}\"", s.as_ref())).collect();
    all.join(", ")
}

fn plural(n: usize, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`
fn containers(names: &[String]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// `pod and container "a"`: who sets something, when anybody does.
fn setters(pod: bool, names: &[String]) -> Option<String> {
    let mut out = Vec::new();
    if pod {
        out.push("pod".to_owned());
    }
    if !names.is_empty() {
        out.push(containers(names));
    }
    (!out.is_empty()).then(|| out.join(" and "))
}

fn when(reason: &str, names: &[String], detail: impl Fn(String) -> String) -> Option<Broken> {
    (!names.is_empty()).then(|| (reason.to_owned(), detail(containers(names))))
}

fn app_armor(pod: &Pod<'_>) -> Option<Broken> {
    let mut values = BTreeSet::new();
    let mut bad = |o: &Value| match context(o, "appArmorProfile").as_map() {
        Some(p) => {
            let kind = p.get("type").and_then(Value::as_str).unwrap_or_default();
            let wrong = !matches!(kind, "RuntimeDefault" | "Localhost");
            if wrong {
                values.insert(kind.to_owned());
            }
            wrong
        }
        None => false,
    };
    let own = bad(pod.spec);
    let names = pod.names(|c| bad(c));
    let mut who: Vec<String> = setters(own, &names).into_iter().collect();
    let annotations = pod.meta["annotations"].as_map();
    let mut marks: Vec<String> = annotations
        .into_iter()
        .flat_map(|m| m.iter())
        .filter(|(k, _)| k.starts_with(APPARMOR))
        .filter_map(|(k, v)| Some((k, v.as_str()?)))
        .filter(|(_, v)| !v.is_empty() && *v != "runtime/default" && !v.starts_with("localhost/"))
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    marks.sort();
    if !marks.is_empty() {
        who.push(plural(marks.len(), "annotation", "annotations").to_owned());
    }
    let list: Vec<String> = values.into_iter().chain(marks).collect();
    let reason = plural(list.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    (!who.is_empty()).then(|| {
        (reason.to_owned(), format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&list)))
    })
}

fn capabilities<'a>(c: &'a Value, what: &str) -> impl Iterator<Item = &'a str> {
    context(c, "capabilities")[what].items().iter().filter_map(Value::as_str)
}

fn baseline_capabilities(pod: &Pod<'_>) -> Option<Broken> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut added = BTreeSet::new();
    let names = pod.names(|c| {
        let bad: Vec<&str> = capabilities(c, "add").filter(|x| !ALLOWED.contains(x)).collect();
        added.extend(bad.iter().map(ToString::to_string));
        !bad.is_empty()
    });
    when("non-default capabilities", &names, |who| {
        format!("{who} must not include {} in securityContext.capabilities.add", quoted(&added))
    })
}

fn restricted_capabilities(pod: &Pod<'_>) -> Option<Broken> {
    if pod.minor < 22 || pod.windows() {
        return None;
    }
    let keeping = pod.names(|c| !capabilities(c, "drop").any(|x| x == "ALL"));
    let mut added = BTreeSet::new();
    let adding = pod.names(|c| {
        let bad: Vec<&str> = capabilities(c, "add").filter(|x| *x != "NET_BIND_SERVICE").collect();
        added.extend(bad.iter().map(ToString::to_string));
        !bad.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let what = quoted(&added);
        details.push(format!("{} must not include {what} in securityContext.capabilities.add", containers(&adding)));
    }
    (!details.is_empty()).then(|| ("unrestricted capabilities".to_owned(), details.join("; ")))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Broken> {
    let on = |k: &&str| pod.spec.get(k).and_then(Value::as_bool) == Some(true);
    let list: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|k| on(k)).map(|k| format!("{k}=true")).collect();
    (!list.is_empty()).then(|| ("host namespaces".to_owned(), list.join(", ")))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Broken> {
    let list: Vec<String> =
        pod.spec["volumes"].items().iter().filter(|v| v.get("hostPath").is_some()).map(name).collect();
    (!list.is_empty()).then(|| {
        ("hostPath volumes".to_owned(), format!("{} {}", plural(list.len(), "volume", "volumes"), quoted(&list)))
    })
}

fn host_ports(pod: &Pod<'_>) -> Option<Broken> {
    let mut ports = BTreeSet::new();
    let names = pod.names(|c| {
        let used: Vec<i64> =
            c["ports"].items().iter().filter_map(|p| p["hostPort"].as_i64()).filter(|p| *p != 0).collect();
        ports.extend(used.iter().map(ToString::to_string));
        !used.is_empty()
    });
    when("hostPort", &names, |who| {
        let list: Vec<&str> = ports.iter().map(String::as_str).collect();
        let verb = plural(names.len(), "uses", "use");
        format!("{who} {verb} {} {}", plural(list.len(), "hostPort", "hostPorts"), list.join(", "))
    })
}

fn host_probes(pod: &Pod<'_>) -> Option<Broken> {
    if pod.minor < 34 {
        return None;
    }
    let mut hosts = BTreeSet::new();
    let mut names = BTreeSet::new();
    for c in pod.containers() {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|k| &c[k]);
        let hooks = ["postStart", "preStop"].map(|k| &c["lifecycle"][k]);
        for h in probes.iter().chain(&hooks).flat_map(|p| [&p["httpGet"], &p["tcpSocket"]]) {
            if let Some(host) = h.str_at(["host"]).filter(|h| !h.is_empty()) {
                hosts.insert(host.to_owned());
                names.insert(name(c));
            }
        }
    }
    let names: Vec<String> = names.into_iter().collect();
    when("probe or lifecycle host", &names, |who| {
        let verb = plural(names.len(), "uses", "use");
        let what = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
        format!("{who} {verb} {what} {}", quoted(&hosts))
    })
}

fn privileged(pod: &Pod<'_>) -> Option<Broken> {
    let names = pod.names(|c| context(c, "privileged").as_bool() == Some(true));
    when("privileged", &names, |who| format!("{who} must not set securityContext.privileged=true"))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Broken> {
    if pod.own_users() {
        return None;
    }
    restricted_proc_mount(&Pod { minor: 35, ..*pod })
}

fn restricted_proc_mount(pod: &Pod<'_>) -> Option<Broken> {
    if pod.minor < 35 {
        return None;
    }
    let mut kinds = BTreeSet::new();
    let names = pod.names(|c| match context(c, "procMount").as_str().filter(|k| *k != "Default") {
        Some(k) => {
            kinds.insert(k.to_owned());
            true
        }
        None => false,
    });
    when("procMount", &names, |who| format!("{who} must not set securityContext.procMount to {}", quoted(&kinds)))
}

fn se_linux(pod: &Pod<'_>) -> Option<Broken> {
    let (mut kinds, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |o: &Value| {
        let options = context(o, "seLinuxOptions");
        let text = |k: &str| options.str_at([k]).unwrap_or_default();
        let kind = text("type");
        let known = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || kind == "container_engine_t" && pod.minor >= 31;
        if !known {
            kinds.insert(kind.to_owned());
        }
        user |= !text("user").is_empty();
        role |= !text("role").is_empty();
        !known || !text("user").is_empty() || !text("role").is_empty()
    };
    let own = bad(pod.spec);
    let names = pod.names(|c| bad(c));
    let who = setters(own, &names)?;
    let mut what = Vec::new();
    if !kinds.is_empty() {
        what.push(format!("{} {}", plural(kinds.len(), "type", "types"), quoted(&kinds)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Some(("seLinuxOptions".to_owned(), detail))
}

/// A seccomp profile that is set: whether it is a good one.
fn seccomp(o: &Value) -> Option<(bool, String)> {
    let kind = context(o, "seccompProfile").as_map()?.get("type").and_then(Value::as_str).unwrap_or_default();
    Some((matches!(kind, "RuntimeDefault" | "Localhost"), kind.to_owned()))
}

fn baseline_seccomp(pod: &Pod<'_>) -> Option<Broken> {
    let mut kinds = BTreeSet::new();
    let mut bad = |o: &Value| match seccomp(o) {
        Some((false, kind)) => {
            kinds.insert(kind);
            true
        }
        _ => false,
    };
    let own = bad(pod.spec);
    let names = pod.names(|c| bad(c));
    let who = setters(own, &names)?;
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&kinds));
    Some(("seccompProfile".to_owned(), detail))
}

fn restricted_seccomp(pod: &Pod<'_>) -> Option<Broken> {
    if pod.windows() {
        return None;
    }
    if let Some(b) = baseline_seccomp(pod) {
        return Some(b);
    }
    if seccomp(pod.spec).is_some() {
        return None;
    }
    let names = pod.names(|c| seccomp(c).is_none());
    when("seccompProfile", &names, |who| {
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"")
    })
}

fn sysctls(pod: &Pod<'_>) -> Option<Broken> {
    const ALLOWED: [(&str, u32); 12] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let list: Vec<String> = context(pod.spec, "sysctls")
        .items()
        .iter()
        .map(name)
        .filter(|n| !ALLOWED.iter().any(|(a, since)| a == n && pod.minor >= *since))
        .collect();
    (!list.is_empty()).then(|| ("forbidden sysctls".to_owned(), list.join(", ")))
}

fn windows_host_process(pod: &Pod<'_>) -> Option<Broken> {
    let bad = |o: &Value| context(o, "windowsOptions")["hostProcess"].as_bool() == Some(true);
    let who = setters(bad(pod.spec), &pod.names(|c| bad(c)))?;
    Some(("hostProcess".to_owned(), format!("{who} must not set securityContext.windowsOptions.hostProcess=true")))
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Broken> {
    if pod.windows() {
        return None;
    }
    let names = pod.names(|c| context(c, "allowPrivilegeEscalation").as_bool() != Some(false));
    when("allowPrivilegeEscalation != false", &names, |who| {
        format!("{who} must set securityContext.allowPrivilegeEscalation=false")
    })
}

fn restricted_volumes(pod: &Pod<'_>) -> Option<Broken> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let mut kinds = BTreeSet::new();
    let mut names = Vec::new();
    for v in pod.spec["volumes"].items() {
        let source = v.as_map().into_iter().flat_map(|m| m.keys()).find(|k| k.as_str() != "name");
        match source.map(|s| s.as_str()) {
            Some(s) if ALLOWED.contains(&s) => {}
            other => {
                names.push(name(v));
                kinds.insert(other.unwrap_or("unknown").to_owned());
            }
        }
    }
    (!names.is_empty()).then(|| {
        let verb = plural(names.len(), "uses", "use");
        let what = plural(kinds.len(), "restricted volume type", "restricted volume types");
        let volumes = plural(names.len(), "volume", "volumes");
        let detail = format!("{volumes} {} {verb} {what} {}", quoted(&names), quoted(&kinds));
        ("restricted volume types".to_owned(), detail)
    })
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Broken> {
    if pod.own_users() {
        return None;
    }
    let set = |o: &Value| context(o, "runAsNonRoot").as_bool();
    let own = set(pod.spec);
    let reason = "runAsNonRoot != true".to_owned();
    if let Some(who) = setters(own == Some(false), &pod.names(|c| set(c) == Some(false))) {
        return Some((reason, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    if own == Some(true) {
        return None;
    }
    when(&reason, &pod.names(|c| set(c).is_none()), |who| {
        format!("pod or {who} must set securityContext.runAsNonRoot=true")
    })
}

fn run_as_user(pod: &Pod<'_>) -> Option<Broken> {
    if pod.minor < 23 || pod.own_users() {
        return None;
    }
    let root = |o: &Value| context(o, "runAsUser").as_i64() == Some(0);
    let who = setters(root(pod.spec), &pod.names(|c| root(c)))?;
    Some(("runAsUser=0".to_owned(), format!("{who} must not set runAsUser=0")))
}
