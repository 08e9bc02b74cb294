//! Security contexts of pods and containers, and the annotations that came before them
//! (`k8s.io/kubernetes/pkg/apis/core/validation`).

use druse_object::{Map, Value};

use super::at::{At, Errors};
use super::dump;
use super::names::is_label_shaped;
use super::volumes::descending;
use crate::field::FieldError;

const MAX_ID: i64 = 2_147_483_647;

/// Lists of containers in the order in which upstream visits them.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Calls `visit` with each container of a pod.
pub(crate) fn each_container(spec: &At, mut visit: impl FnMut(&At)) {
    for list in LISTS {
        spec.child(list).items().for_each(|c| visit(&c));
    }
}

/// A container's security context; `host_users` tells whether its pod shares the host's user namespace.
pub(crate) fn security_context(s: &At, host_users: bool, out: &mut Errors) {
    if !s.is_given() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        s.child(key).within(0, MAX_ID, out);
    }
    let mount = s.child("procMount");
    mount.any_of(&["Default", "Unmasked"], out);
    if host_users && mount.text() == "Unmasked" {
        mount.invalid("`hostUsers` must be false to use `Unmasked`", out);
    }
    seccomp(&s.child("seccompProfile"), out);
    if s.value().get("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        let refuse = |why: &str, out: &mut Errors| s.bad(dump::internal("SecurityContext", s.value()), why, out);
        if s.is("privileged") {
            refuse("cannot set `allowPrivilegeEscalation` to false and `privileged` to true", out);
        }
        for c in s.child("capabilities").child("add").value().items() {
            if c.as_str() == Some("CAP_SYS_ADMIN") {
                refuse("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN", out);
            }
        }
    }
    windows_options(&s.child("windowsOptions"), out);
    apparmor(&s.child("appArmorProfile"), out);
}

/// A pod's security context.
pub(crate) fn pod_security_context(spec: &At, out: &mut Errors) {
    let s = spec.child("securityContext");
    if !s.is_given() {
        return;
    }
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        s.child(key).within(0, MAX_ID, out);
    }
    s.child("supplementalGroups").items().for_each(|g| g.within(0, MAX_ID, out));
    if spec.is("hostPID") && spec.is("shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        s.as_if("shareProcessNamespace").bad(true, why, out);
    }
    sysctls(spec, &s.child("sysctls"), out);
    s.child("fsGroupChangePolicy").any_of(&["Always", "OnRootMismatch"], out);
    seccomp(&s.child("seccompProfile"), out);
    windows_options(&s.child("windowsOptions"), out);
    apparmor(&s.child("appArmorProfile"), out);
    s.child("supplementalGroupsPolicy").any_of(&["Merge", "Strict"], out);
    // `MountOption` waits for a feature that is off.
    s.child("seLinuxChangePolicy").any_of(&["Recursive"], out);
}

const SYSCTL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn is_sysctl(name: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |s: &str| {
        let b = s.as_bytes();
        b.first().is_some_and(alnum) && b.last().is_some_and(alnum) && b.iter().all(|b| alnum(b) || b"-_".contains(b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn sysctls(spec: &At, list: &At, out: &mut Errors) {
    let mut names = std::collections::HashSet::new();
    for s in list.items() {
        let name = s.child("name");
        let text = name.text();
        if !name.need(out) {
        } else if !is_sysctl(text) {
            name.invalid(SYSCTL, out);
        } else if names.contains(text) {
            name.duplicate(text, out);
        }
        let dotted = text.replace('/', ".");
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p));
        if spec.is("hostNetwork") && dotted.starts_with("net.") {
            name.invalid("may not be specified when 'hostNetwork' is true", out);
        } else if spec.is("hostIPC") && (ipc || dotted == "kernel.sem") {
            name.invalid("may not be specified when 'hostIPC' is true", out);
        }
        names.insert(text);
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(p: &At, out: &mut Errors) {
    if !p.is_given() {
        return;
    }
    let (kind, local) = (p.child("type"), p.child("localhostProfile"));
    if kind.text().is_empty() {
        kind.required("type is required when seccompProfile is set", out);
    } else if !PROFILES.contains(&kind.text()) {
        kind.unsupported(&PROFILES, out);
    }
    if kind.text() == "Localhost" {
        if local.is_given() {
            descending(local.text(), &local, out);
        } else {
            local.required("must be set when seccomp type is Localhost", out);
        }
    } else if local.is_given() {
        local.bad(dump::internal("SeccompProfile", p.value()), "can only be set when seccomp type is Localhost", out);
    }
}

fn apparmor(p: &At, out: &mut Errors) {
    const LONGEST: usize = 4095;
    if !p.is_given() {
        return;
    }
    let (kind, local) = (p.child("type"), p.child("localhostProfile"));
    match kind.text() {
        "Localhost" if !local.is_given() => local.required("must be set when AppArmor type is Localhost", out),
        "Localhost" => {
            let text = local.text();
            if text.trim() != text {
                local.invalid("must not be padded with whitespace", out);
            } else if text.is_empty() {
                local.required("must be set when AppArmor type is Localhost", out);
            }
            if text.len() > LONGEST {
                local.too_long(LONGEST, out);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_given() {
                local.invalid("can only be set when AppArmor type is Localhost", out);
            }
        }
        "" => kind.required("type is required when appArmorProfile is set", out),
        _ => kind.unsupported(&PROFILES, out),
    }
}

fn windows_options(w: &At, out: &mut Errors) {
    const LONGEST_SPEC_KIB: usize = 64;
    if !w.is_given() {
        return;
    }
    if let Some(name) = w.get("gmsaCredentialSpecName") {
        name.subdomain(out);
    }
    if let Some(spec) = w.get("gmsaCredentialSpec") {
        if spec.text().is_empty() {
            spec.invalid("gmsaCredentialSpec cannot be an empty string", out);
        } else if spec.text().len() > LONGEST_SPEC_KIB * 1024 {
            spec.invalid(format!("gmsaCredentialSpec size must be under {LONGEST_SPEC_KIB} KiB"), out);
        }
    }
    let Some(at) = w.get("runAsUserName") else { return };
    let text = at.text();
    let parts: Vec<&str> = text.split('\\').collect();
    if text.is_empty() {
        return at.invalid("runAsUserName cannot be an empty string", out);
    } else if text.chars().any(|c| c.is_ascii_control()) {
        return at.invalid("runAsUserName cannot contain control characters", out);
    } else if parts.len() > 2 {
        return at.invalid("runAsUserName cannot contain more than one backslash", out);
    }
    let (domain, user) = match parts.as_slice() {
        [domain, user] => (Some(*domain), *user),
        _ => (None, text),
    };
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            at.invalid("runAsUserName's Domain length must be under 256 characters", out);
        }
        if !is_net_bios(domain) && !domain.split('.').all(|l| l.len() <= 63 && is_label_shaped(&l.to_lowercase())) {
            at.invalid("runAsUserName's Domain doesn't match the NetBios nor the DNS format", out);
        }
    }
    if user.is_empty() {
        at.invalid("runAsUserName's User cannot be empty", out);
    } else if user.len() > 104 {
        at.invalid("runAsUserName's User length must not be longer than 104 characters", out);
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        at.invalid("runAsUserName's User cannot contain only periods or spaces", out);
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        at.invalid(r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#, out);
    }
}

fn is_net_bios(domain: &str) -> bool {
    let bad = |c: char| "\\/:*?\"<>|".contains(c);
    let n = domain.chars().count();
    (1..=15).contains(&n) && !domain.starts_with('.') && !domain.contains(bad)
}

/// Pods whose containers are processes of a Windows host: all or none are, and such a pod uses the host's network.
pub(crate) fn host_process(spec: &At, out: &mut Errors) {
    let flag = |s: Option<&Value>| s.and_then(|s| s.at(["windowsOptions", "hostProcess"])).and_then(Value::as_bool);
    let pod = flag(spec.value().get("securityContext"));
    let (mut all, mut host) = (0, 0);
    each_container(spec, |c| {
        all += 1;
        let own = flag(c.value().get("securityContext"));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let path = format!("{}.securityContext.windowsOptions.hostProcess", c.path());
            out.push(FieldError::invalid(path, own, why));
        }
        host += usize::from(own.or(pod) == Some(true));
    });
    if host == 0 {
        return;
    }
    if host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        spec.bad("", why, out);
    }
    if !spec.is("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        spec.child("hostNetwork").bad(false, why, out);
    }
}

/// A pod with users of its own shares no more of the host than it must.
pub(crate) fn own_users(spec: &At, out: &mut Errors) {
    if spec.value().get("hostUsers").and_then(Value::as_bool) != Some(false) {
        return;
    }
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.is(key) {
            spec.child_as(key, shown).forbidden("when `hostUsers` is false", out);
        }
    }
    each_container(spec, |c| {
        if c.child("volumeDevices").len() > 0 {
            c.child("volumeDevices").forbidden("when `hostUsers` is false", out);
        }
    });
}

/// Security settings of pods, and where upstream keeps them, that mean nothing on Windows.
const NOT_ON_WINDOWS_POD: [&str; 14] = [
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
];
/// Those of containers.
const NOT_ON_WINDOWS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// What the pod's operating system does not know.
pub(crate) fn operating_system(spec: &At, out: &mut Errors) {
    let Some(os) = spec.get("os") else { return };
    let name = os.child("name");
    match name.text() {
        "" => name.required("", out),
        "linux" => {
            let refuse = |s: &At, out: &mut Errors| {
                if let Some(w) = s.get("windowsOptions") {
                    w.forbidden("windows options cannot be set for a linux pod", out);
                }
            };
            refuse(&spec.child("securityContext"), out);
            each_container(spec, |c| refuse(&c.child("securityContext"), out));
        }
        "windows" => {
            let why = "cannot be set for a windows pod";
            for path in NOT_ON_WINDOWS_POD.iter().chain(&["securityContext.seLinuxChangePolicy"]) {
                let found = path.split('.').try_fold(spec.value(), |v, k| v.get(k));
                let set = found.is_some_and(|v| {
                    !v.is_null() && (*v != Value::Bool(false) || matches!(*path, "hostUsers" | "shareProcessNamespace"))
                });
                if set {
                    spec.as_if(path).forbidden(why, out);
                }
            }
            each_container(spec, |c| {
                let s = c.child("securityContext");
                for key in NOT_ON_WINDOWS {
                    if let Some(v) = s.get(key) {
                        v.forbidden(why, out);
                    }
                }
            });
        }
        other => out.push(FieldError::not_supported(os.path(), other, &["linux", "windows"])),
    }
}

/// The annotation that named a pod's seccomp profile before there was a field.
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// What stands before a container's name in the annotation that named its seccomp profile.
pub(crate) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// What stands before a container's name in the annotation that named its AppArmor profile.
pub(crate) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Annotations that mean something to pods.
pub(crate) fn annotations(list: &At, spec: &At, out: &mut Errors) {
    if list.get(MIRROR).is_some() && spec.text_of("nodeName").is_empty() {
        list.entry(MIRROR).invalid("must set spec.nodeName if mirror pod annotation is set", out);
    }
    if let Some(cost) = list.value().get(DELETION_COST).and_then(Value::as_str)
        && !is_cost(cost)
    {
        list.entry(DELETION_COST).invalid("must be a 32bit integer", out);
    }
    if list.get(SECCOMP_POD).is_some() {
        seccomp_annotation(&list.child(SECCOMP_POD), out);
    }
    let entries = || list.value().as_map().into_iter().flat_map(Map::iter);
    for (k, _) in entries().filter(|(k, _)| k.starts_with(SECCOMP_CONTAINER)) {
        seccomp_annotation(&list.child(k), out);
    }
    for (k, v) in entries() {
        let Some(name) = k.strip_prefix(APPARMOR) else { continue };
        let at = list.entry(k);
        let mut known = false;
        each_container(spec, |c| known |= c.text_of("name") == name);
        if !known {
            at.bad(name, "container not found", out);
        }
        let profile = v.as_str().unwrap_or_default();
        if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
            let quoted = crate::field::go_quote(profile);
            at.invalid(format!("invalid AppArmor profile name: {quoted}"), out);
        }
    }
}

fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let first = digits.bytes().next();
    let canonical = text == "0" || first.is_some_and(|b| (b'1'..=b'9').contains(&b));
    canonical && text.parse::<i32>().is_ok()
}

fn seccomp_annotation(at: &At, out: &mut Errors) {
    match at.text() {
        "runtime/default" | "docker/default" | "unconfined" => {}
        text => match text.strip_prefix("localhost/") {
            Some(path) => descending(path, at, out),
            None => at.invalid("must be a valid seccomp profile", out),
        },
    }
}

/// Security profiles told twice, by an annotation and a field, are told alike.
pub(crate) fn profiles_match(list: Option<&Value>, spec: &At, out: &mut Errors) {
    let given = |key: &str| list.and_then(|l| l.get(key)).and_then(Value::as_str);
    let compare = |at: &At, said: &str, default: &[&str], what: &str, out: &mut Errors| {
        let kind = at.child("type");
        let differs = match kind.text() {
            "Unconfined" => said != "unconfined",
            "RuntimeDefault" => !default.contains(&said),
            "Localhost" => match said.strip_prefix("localhost/") {
                None => true,
                Some(path) if at.value().str_at(["localhostProfile"]) != Some(path) => {
                    let why = format!("{what} profile in annotation and field must match");
                    return at.child("localhostProfile").forbidden(why, out);
                }
                Some(_) => false,
            },
            _ => false,
        };
        if differs {
            kind.forbidden(format!("{what} type in annotation and field must match"), out);
        }
    };
    let pod = spec.child("securityContext");
    let seccomp_defaults = ["runtime/default", "docker/default"];
    if let (Some(p), Some(said)) = (pod.get("seccompProfile"), given(SECCOMP_POD)) {
        compare(&p, said, &seccomp_defaults, "seccomp", out);
    }
    each_container(spec, |c| {
        let s = c.child("securityContext");
        let key = format!("{SECCOMP_CONTAINER}{}", c.text_of("name"));
        if let (Some(p), Some(said)) = (s.get("seccompProfile"), given(&key)) {
            compare(&p, said, &seccomp_defaults, "seccomp", out);
        }
    });
    if spec.value().str_at(["os", "name"]) == Some("windows") {
        return;
    }
    each_container(spec, |c| {
        let s = c.child("securityContext");
        let key = format!("{APPARMOR}{}", c.text_of("name"));
        let Some(said) = given(&key) else { return };
        // A container without a profile has its pod's, told at the container all the same.
        let own = s.get("appArmorProfile").map(|p| p.value());
        if let Some(value) = own.or_else(|| pod.value().get("appArmorProfile")) {
            let path = format!("{}.securityContext.appArmorProfile", c.path());
            compare(&At::new(value, &path), said, &["runtime/default"], "apparmor", out);
        }
    });
}

/// Annotations that may not change on a pod that is there.
pub(crate) fn kept_annotations(new: &At, old: &Value, out: &mut Errors) {
    let entries = |v: &Value| v.as_map().cloned().unwrap_or_default();
    for (k, v) in entries(old).iter().filter(|(k, v)| new.value().get(k) != Some(v)) {
        let _ = v;
        if k.starts_with(APPARMOR) {
            new.entry(k).forbidden("may not remove or update AppArmor annotations", out);
        }
        if k == MIRROR {
            new.entry(k).forbidden("may not remove or update mirror pod annotation", out);
        }
    }
    for (k, _) in entries(new.value()).iter().filter(|(k, _)| old.get(k).is_none()) {
        if k.starts_with(APPARMOR) {
            new.entry(k).forbidden("may not add AppArmor annotations", out);
        }
        if k == MIRROR {
            new.entry(k).forbidden("may not add mirror pod annotation", out);
        }
    }
}

/// Whether a pod only mirrors what a node runs by itself.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    pod.at(["metadata", "annotations"]).is_some_and(|a| a.get(MIRROR).is_some())
}
