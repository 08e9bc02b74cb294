//! Volumes of pods and persistent volumes: what each source needs (`k8s.io/kubernetes/pkg/apis/core/validation`,
//! `validateVolumeSource`, `ValidatePersistentVolumeSpec`).

use std::collections::{HashMap, HashSet};

use druse_object::{Map, Value};

use super::at::{At, Errors};
use super::containers::{PULL_POLICIES, field_ref, resource_ref};
use super::meta::{label_selector, template_metadata};
use super::names::NameRule;
use super::storage::claim_spec;
use crate::field::FieldError;

/// Sources of a pod's volumes, in the order in which they are looked at: the first is judged, the others are too many.
const POD_SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Those of persistent volumes.
pub(crate) const PERSISTENT_SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Fields that must be set, by source; what else a source obeys is in [`source`].
const REQUIRED: [(&str, &[&str]); 17] = [
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("configMap", &["name"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// Where a source is.
pub(crate) enum Place<'a> {
    /// In a pod or a template: the volume's name, and whether it is a pod, with its name.
    Pod { volume: &'a str, is_pod: bool, pod: &'a str },
    /// In a persistent volume of this name.
    Persistent(&'a str),
}

/// A pod's volumes; answers the ones that are in order, by name.
pub(crate) fn volumes<'v>(list: &At<'v, '_>, is_pod: bool, pod: &str, out: &mut Errors) -> HashMap<&'v str, &'v Value> {
    let own = |v: &At| v.get("ephemeral").is_some().then(|| format!("{pod}-{}", v.text_of("name")));
    let created: Vec<String> = if pod.is_empty() { Vec::new() } else { list.items().filter_map(|v| own(&v)).collect() };
    let mut good = HashMap::new();
    for v in list.items() {
        let name = v.child("name");
        let before = out.len();
        let place = Place::Pod { volume: name.text(), is_pod, pod };
        sources(&v, &POD_SOURCES, &place, out);
        if name.need(out) {
            name.label(out);
        }
        if good.contains_key(name.text()) {
            name.duplicate(name.text(), out);
        }
        if out.len() == before {
            good.insert(name.text(), v.value());
        }
        let claim = v.child("persistentVolumeClaim");
        if created.iter().any(|c| c == claim.text_of("claimName")) {
            claim.child("claimName").invalid("must not reference a PVC that gets created for an ephemeral volume", out);
        }
    }
    good
}

/// Exactly one source, and that in order; answers whether there is one.
pub(crate) fn sources(v: &At, known: &[&'static str], place: &Place, out: &mut Errors) -> bool {
    let mut found = 0;
    for kind in known.iter().copied() {
        let Some(at) = v.get(kind) else { continue };
        found += 1;
        // Upstream counts this one anew.
        let counted_anew = kind == "flexVolume" && matches!(place, Place::Persistent(_));
        if found > 1 && !counted_anew {
            let shown = match kind {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                kind => kind,
            };
            v.as_if(shown).forbidden("may not specify more than 1 volume type", out);
        } else {
            match kind {
                "gcePersistentDisk" => source(kind, &v.child_as(kind, "persistentDisk"), place, out),
                _ => source(kind, &at, place, out),
            }
        }
        if let (Place::Pod { volume, .. }, "iscsi") = (place, kind)
            && at.get("initiatorName").is_some()
            && volume.len() + 1 + at.text_of("targetPortal").len() > 64
        {
            v.child("name").invalid(LONG_PORTAL, out);
        }
    }
    if found == 0 {
        v.required("must specify a volume type", out);
    }
    found > 0
}

const LONG_PORTAL: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const PARTITION: &str = "must be between 1 and 255, inclusive";

fn source(kind: &str, at: &At, place: &Place, out: &mut Errors) {
    let persistent = matches!(place, Place::Persistent(_));
    for key in REQUIRED.iter().find(|(k, _)| *k == kind).into_iter().flat_map(|(_, keys)| *keys) {
        at.child(key).need(out);
    }
    match kind {
        "emptyDir" if at.child("sizeLimit").quantity().is_some_and(druse_object::Quantity::is_negative) => {
            at.child("sizeLimit").forbidden("SizeLimit field must be a valid resource quantity", out);
        }
        "hostPath" => {
            let path = at.child("path");
            if path.need(out) {
                no_backsteps(&path, out);
                at.child("type").any_of(&HOST_PATH_TYPES, out);
            }
        }
        "local" => {
            let path = at.child("path");
            if path.need(out) {
                no_backsteps(&path, out);
            }
        }
        "gitRepo" => descending(at.text_of("directory"), &at.child("directory"), out),
        "gcePersistentDisk" | "awsElasticBlockStore" if !(0..=255).contains(&at.int_of("partition")) => {
            at.child("partition").invalid(PARTITION, out);
        }
        "secret" => {
            at.child("secretName").need(out);
            keyed(at, out);
        }
        "configMap" => keyed(at, out),
        "nfs" if !at.text_of("path").starts_with('/') => {
            at.child("path").bad(at.text_of("path"), "must be an absolute path", out);
        }
        "iscsi" => iscsi(at, place, out),
        "glusterfs" if persistent => {
            if let Some(ns) = at.get("endpointsNamespace") {
                match ns.text() {
                    "" => ns.invalid("if the endpointnamespace is set, it must be a valid namespace name", out),
                    _ => ns.label(out),
                }
            }
        }
        "flocker" => flocker(at, out),
        "cinder" | "storageos" => {
            if kind == "storageos" {
                let name = at.child("volumeName");
                if name.need(out) {
                    name.label(out);
                }
                if !at.text_of("volumeNamespace").is_empty() {
                    at.child("volumeNamespace").label(out);
                }
            }
            if let Some(s) = at.get("secretRef") {
                s.child("name").need(out);
                if persistent {
                    s.child("namespace").need(out);
                }
            }
        }
        "quobyte" => quobyte(at, out),
        "downwardAPI" => {
            mode(&at.child("defaultMode"), out);
            for f in at.child("items").value().items() {
                downward_file(f, at, out);
            }
        }
        "fc" => fibre_channel(at, out),
        "flexVolume" => {
            for (k, _) in at.child("options").entries() {
                let namespace = format!(".{}", k.split('/').next().unwrap_or_default().to_lowercase());
                if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
                    at.child("options").entry(k).bad(k, "kubernetes.io and k8s.io namespaces are reserved", out);
                }
            }
        }
        "azureFile" if persistent => {
            if let Some(ns) = at.get("secretNamespace") {
                ns.need(out);
            }
        }
        "azureDisk" => azure_disk(at, out),
        "projected" => projected(at, out),
        "csi" if persistent => persistent_csi(at, out),
        "csi" => {
            driver_name(&at.child("driver"), out);
            if let Some(s) = at.get("nodePublishSecretRef") {
                let name = s.child("name");
                if name.need(out) {
                    at.child("name").each_of(name.text(), NameRule::Subdomain.errors(name.text(), false), out);
                }
            }
        }
        "ephemeral" => match at.get("volumeClaimTemplate") {
            None => at.child("volumeClaimTemplate").required("", out),
            Some(t) => {
                template_metadata(&t.child("metadata"), out);
                claim_spec(&t.child("spec"), out);
                if let Place::Pod { volume, pod, .. } = place
                    && !pod.is_empty()
                    && !volume.is_empty()
                {
                    let claim = format!("{pod}-{volume}");
                    let path = at.path();
                    let path = path.strip_suffix("ephemeral").unwrap_or(&path);
                    for why in NameRule::Subdomain.errors(&claim, false) {
                        let why = format!("PVC name {}: {why}", crate::field::go_quote(&claim));
                        out.push(FieldError::invalid(format!("{path}name"), *volume, why));
                    }
                }
            }
        },
        "image" => {
            if matches!(place, Place::Pod { is_pod: true, .. }) {
                at.child("reference").need(out);
            }
            at.child("pullPolicy").one_of(&PULL_POLICIES, out);
        }
        _ => {}
    }
}

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// A path without `..`.
pub(crate) fn no_backsteps(at: &At, out: &mut Errors) {
    if at.text().split('/').any(|p| p == "..") {
        at.invalid("must not contain '..'", out);
    }
}

/// A relative path without `..`, told at `at`.
pub(crate) fn descending(path: &str, at: &At, out: &mut Errors) {
    if path.starts_with('/') {
        at.bad(path, "must be a relative path", out);
    }
    if path.split('/').any(|p| p == "..") {
        at.bad(path, "must not contain '..'", out);
    }
}

/// Such a path that starts with no name the system keeps to itself either.
fn own_path(at: &At, out: &mut Errors) {
    let path = at.text();
    descending(path, at, out);
    if path.starts_with("..") && !path.starts_with("../") {
        at.bad(path, "must not start with '..'", out);
    }
}

fn mode(at: &At, out: &mut Errors) {
    if at.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        at.invalid("must be a number between 0 and 0777 (octal), both inclusive", out);
    }
}

fn keyed(at: &At, out: &mut Errors) {
    mode(&at.child("defaultMode"), out);
    at.child("items").items().for_each(|k| key_to_path(&k, out));
}

fn key_to_path(k: &At, out: &mut Errors) {
    k.child("key").need(out);
    k.child("path").need(out);
    own_path(&k.child("path"), out);
    mode(&k.child("mode"), out);
}

/// A file that shows a field; told at the whole source.
fn downward_file(file: &Value, at: &At, out: &mut Errors) {
    let field = |key| at.child_of(file, key);
    if field("path").need(out) {
        own_path(&field("path"), out);
    }
    let (fields, resources) = (field("fieldRef"), field("resourceFieldRef"));
    if fields.is_given() {
        field_ref(&fields, &DOWNWARD_FIELDS, out);
        if resources.is_given() {
            at.bad("resource", "fieldRef and resourceFieldRef can not be specified simultaneously", out);
        }
    } else if resources.is_given() {
        resource_ref(&resources, true, out);
    } else {
        at.required("one of fieldRef and resourceFieldRef is required", out);
    }
    mode(&field("mode"), out);
}

const DOWNWARD_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn projected(at: &At, out: &mut Errors) {
    mode(&at.child("defaultMode"), out);
    let mut paths: HashSet<&str> = HashSet::new();
    for s in at.child("sources").items() {
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let Some(p) = s.get(kind) else { continue };
            count += 1;
            p.child("name").need(out);
            for k in p.child("items").items() {
                key_to_path(&k, out);
                let path = k.text_of("path");
                if !path.is_empty() && !paths.insert(path) {
                    at.bad(p.text_of("name"), "conflicting duplicate paths", out);
                }
            }
        }
        let mut take = |path, out: &mut Errors| {
            if !paths.insert(path) {
                at.bad(path, "conflicting duplicate paths", out);
            }
        };
        if let Some(p) = s.get("downwardAPI") {
            count += 1;
            for f in p.child("items").value().items() {
                downward_file(f, &p, out);
                if let Some(path) = f.str_at(["path"]).filter(|p| !p.is_empty()) {
                    take(path, out);
                }
            }
        }
        if let Some(p) = s.get("serviceAccountToken") {
            count += 1;
            token_lifetime(&p.child("expirationSeconds"), out);
            let path = at.child_of(p.value(), "path");
            if path.need(out) {
                own_path(&path, out);
            }
        }
        if let Some(p) = s.get("clusterTrustBundle") {
            count += 1;
            if let Some(l) = p.get("labelSelector") {
                label_selector(l.value(), &l.path(), out);
            }
            p.child("path").need(out);
            own_path(&p.child("path"), out);
            take(p.text_of("path"), out);
        }
        if count > 1 {
            s.forbidden("may not specify more than 1 volume type per source", out);
        }
    }
}

/// How long a token lives: ten minutes at least.
pub(crate) fn token_lifetime(at: &At, out: &mut Errors) {
    match at.int() {
        Some(n) if n < 600 => at.invalid("may not specify a duration less than 10 minutes", out),
        Some(n) if n > 1 << 32 => at.invalid("may not specify a duration larger than 2^32 seconds", out),
        _ => {}
    }
}

/// Whether a name is one of its kind: a dated domain with a suffix, or letters and digits of a fixed number.
fn iscsi_name_fits(name: &str) -> bool {
    let plain = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_alphanumeric());
    if let Some(rest) = name.strip_prefix("iqn.") {
        let digits =
            |s: Option<&str>, n: usize| s.is_some_and(|s| s.len() == n && s.bytes().all(|b| b.is_ascii_digit()));
        let dated = digits(rest.get(..4), 4) && rest.get(4..5) == Some("-") && digits(rest.get(5..7), 2);
        let named = rest.get(7..).and_then(|r| r.strip_prefix('.')).and_then(|r| r.split_once(':'));
        return dated
            && named.is_some_and(|(domain, tail)| {
                let barred = |c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace();
                !domain.is_empty()
                    && domain.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
                    && !tail.is_empty()
                    && !tail.contains(barred)
            });
    }
    match (name.strip_prefix("eui."), name.strip_prefix("naa.")) {
        (Some(id), _) => plain(id, 16),
        (_, Some(id)) => plain(id, 32),
        _ => false,
    }
}

fn iscsi(at: &At, place: &Place, out: &mut Errors) {
    let persistent = matches!(place, Place::Persistent(_));
    let portal = at.child("targetPortal");
    portal.need(out);
    let initiator = at.get("initiatorName");
    if let (Place::Persistent(name), Some(_)) = (place, &initiator)
        && name.len() + 1 + portal.text().len() > 64
    {
        at.as_if("targetportal").bad(portal.text(), LONG_PORTAL, out);
    }
    let known = |t: &str| ["iqn", "eui", "naa"].iter().any(|p| t.starts_with(p));
    let unknown =
        if persistent { "must be valid format" } else { "must be valid format starting with iqn, eui, or naa" };
    let iqn = at.child("iqn");
    if iqn.need(out) {
        if !known(iqn.text()) {
            iqn.invalid(unknown, out);
        } else if !iscsi_name_fits(iqn.text()) {
            iqn.invalid("must be valid format", out);
        }
    }
    at.child("lun").within(0, 255, out);
    let secret = at.child("secretRef");
    if (at.is("chapAuthDiscovery") || at.is("chapAuthSession")) && !secret.is_given() {
        secret.required("", out);
    }
    if persistent && secret.is_given() {
        secret.child("name").need(out);
    }
    if let Some(i) = initiator {
        let shown = at.as_if("initiatorname");
        if !known(i.text()) {
            shown.bad(i.text(), unknown, out);
        } else if !iscsi_name_fits(i.text()) {
            shown.bad(i.text(), "must be valid format", out);
        }
    }
}

fn flocker(at: &At, out: &mut Errors) {
    let (name, uuid) = (at.text_of("datasetName"), at.text_of("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        at.required("one of datasetName and datasetUUID is required", out);
    }
    if !name.is_empty() && !uuid.is_empty() {
        at.bad("resource", "datasetName and datasetUUID can not be specified simultaneously", out);
    }
    if name.contains('/') {
        at.child("datasetName").invalid("must not contain '/'", out);
    }
}

fn quobyte(at: &At, out: &mut Errors) {
    const PAIR: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.child("registry");
    if registry.text().is_empty() {
        registry.required(PAIR, out);
    } else if at.text_of("tenant").len() >= 65 {
        at.child("tenant").required("must be a UUID and may not exceed a length of 64 characters", out);
    } else {
        for pair in registry.text().split(',') {
            let fits = match pair.strip_prefix('[') {
                Some(rest) => rest.split_once("]:").is_some_and(|(_, port)| !port.contains(':')),
                None => pair.matches(':').count() == 1,
            };
            if !fits {
                registry.invalid(PAIR, out);
            }
        }
    }
    at.child("volume").need(out);
}

fn fibre_channel(at: &At, out: &mut Errors) {
    let (names, ids) = (at.child("targetWWNs"), at.child("wwids"));
    if names.len() == 0 && ids.len() == 0 {
        names.required("must specify either targetWWNs or wwids, but not both", out);
    }
    if names.len() > 0 && ids.len() > 0 {
        names.invalid("targetWWNs and wwids can not be specified simultaneously", out);
    }
    if names.len() > 0 {
        let lun = at.child("lun");
        if lun.is_given() {
            lun.within(0, 255, out);
        } else {
            lun.required("lun is required if targetWWNs is specified", out);
        }
    }
}

fn azure_disk(at: &At, out: &mut Errors) {
    at.child("cachingMode").any_of(&["None", "ReadOnly", "ReadWrite"], out);
    let Some(kind) = at.get("kind") else { return };
    kind.any_of(&["Dedicated", "Managed", "Shared"], out);
    let managed = kind.text() == "Managed";
    let (start, form) = if managed {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !at.text_of("diskURI").starts_with(start) {
        at.child("diskURI").unsupported(&[form], out);
    }
}

/// The name of a storage driver.
pub(crate) fn driver_name(at: &At, out: &mut Errors) {
    const LONGEST: usize = 63;
    if !at.need(out) {
        return;
    }
    if at.text().len() > LONGEST {
        at.too_long(LONGEST, out);
    }
    at.each(NameRule::Subdomain.errors(&at.text().to_lowercase(), false), out);
}

fn persistent_csi(at: &At, out: &mut Errors) {
    driver_name(&at.child("driver"), out);
    at.child("volumeHandle").need(out);
    for key in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let Some(s) = at.get(key) else { continue };
        let (name, namespace) = (s.child("name"), s.child("namespace"));
        if name.need(out) {
            name.subdomain(out);
        }
        if namespace.need(out) {
            namespace.label(out);
        }
    }
}

/// The sources of a persistent volume's specification.
pub(crate) fn persistent_source(spec: &Value) -> Map {
    let mut m = spec.as_map().cloned().unwrap_or_default();
    m.retain(|k, _| PERSISTENT_SOURCES.contains(&k.as_str()));
    m
}
