//! DR013, DR014, DR036: what custom resources say of themselves that does not fit together, and no schema says: the type
//! and address of a Helm repository, the clusters that a database is restored from, the parameters of AWS secrets.

use druse_object::Quantity;
use druse_secrets::class::Class;

use crate::context::Context;
use crate::finding::Finding;
use crate::index::{Entry, Origin};
use crate::paths;
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for entry in cx.own().filter(|e| e.origin == Origin::Tree) {
        match (entry.gvk.group.as_str(), entry.gvk.kind.as_str()) {
            ("source.toolkit.fluxcd.io", "HelmRepository") => repository(cx, entry, out),
            ("helm.toolkit.fluxcd.io", "HelmRelease") => {
                let values = &entry.object.value["spec"]["values"];
                if !values.is_null() && values.as_map().is_none() {
                    let path = ["spec", "values"].map(Step::from);
                    out.push(cx.at(entry, &path, &[], "DR011", "spec.values: a map is needed here"));
                }
            }
            ("postgresql.cnpg.io", "Cluster") => {
                restored_from(cx, entry, out);
                storage(cx, entry, out);
            }
            ("secrets-store.csi.x-k8s.io", "SecretProviderClass") => class(cx, entry, out),
            _ => {}
        }
    }
}

/// A registry is no web server: source-controller reads a repository as one or the other by its type.
fn repository(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
    let (Some(url), oci) = (spec.str_at(["url"]), spec.str_at(["type"]) == Some("oci")) else { return };
    if url.contains("${") || url.starts_with("oci://") == oci {
        return;
    }
    let (field, message, help) = if oci {
        (
            "type",
            format!("a repository of type oci has the address {url}, which does not begin with oci://"),
            "begin it with oci://, or take type away",
        )
    } else {
        (
            "url",
            format!("the address {url} is that of a registry, and the repository is not of type oci"),
            "add type: oci",
        )
    };
    let path = ["spec", field].map(Step::from);
    out.push(cx.at(entry, &path, &[], "DR013", message).help(help));
}

/// A cluster is restored, or follows, from one of its `externalClusters`.
fn restored_from(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
    let known: Vec<&str> = spec["externalClusters"].items().iter().filter_map(|c| c.str_at(["name"])).collect();
    for at in [
        "spec.bootstrap.recovery.source",
        "spec.bootstrap.pg_basebackup.source",
        "spec.bootstrap.initdb.import.source.externalCluster",
        "spec.replica.source",
    ] {
        for (path, name) in paths::all(&entry.object.value, at) {
            let Some(name) = name.as_str().filter(|n| !n.contains("${") && !known.contains(n)) else { continue };
            let message = format!("{} has no externalCluster {name}", entry.key());
            out.push(
                cx.at(entry, &path, &[], "DR036", message).help("correct the name, or add it to spec.externalClusters"),
            );
        }
    }
}

/// The operator refuses a cluster whose volumes have no size, or none that is a quantity.
fn storage(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    for field in ["storage", "walStorage"] {
        let volume = &entry.object.value["spec"][field];
        if field == "walStorage" && volume.is_null() {
            continue;
        }
        let path = ["spec", field].map(Step::from);
        match volume.str_at(["size"]) {
            Some(size) if !size.contains("${") && Quantity::parse(size).is_err() => {
                let path = ["spec", field, "size"].map(Step::from);
                let message =
                    format!("{}: a quantity (500m, 1Gi) is needed here, not {size:?}", crate::position::show(&path));
                out.push(cx.at(entry, &path, &[], "DR011", message));
            }
            None if volume["pvcTemplate"]["resources"]["requests"]["storage"].is_null() => {
                out.push(cx.at(entry, &path, &[], "DR012", format!("spec.{field}.size: Required value")));
            }
            _ => {}
        }
    }
}

/// What AWS is asked for, and what of it is put into Secrets.
fn class(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
    if spec.str_at(["provider"]) != Some("aws")
        || spec.str_at(["parameters", "objects"]).is_none_or(|o| o.contains("${"))
    {
        return;
    }
    let class = match Class::parse(&spec["parameters"]) {
        Ok(class) => class,
        Err(faults) => {
            let path = ["spec", "parameters", "objects"].map(Step::from);
            let found =
                faults.into_iter().map(|fault| cx.at(entry, &path, &[], "DR014", format!("parameters: {fault}")));
            out.extend(found.map(|f| f.help("correct the parameters; the AWS provider mounts nothing of the class")));
            return;
        }
    };
    for (path, name) in paths::all(&entry.object.value, "spec.secretObjects[].data[].objectName") {
        let Some(name) = name.as_str().filter(|n| !n.contains("${") && !class.names().any(|known| known == *n)) else {
            continue;
        };
        let message = format!("none of the objects of {} is called {name}", entry.key());
        let known: Vec<String> = class.names().collect();
        let finding = cx.at(entry, &path, &[], "DR022", message);
        out.push(match crate::words::nearest(name, known.iter().map(String::as_str)) {
            Some(like) => finding.help(format!("correct the name ({like} is one): secretObjects refer to an objectAlias, or to an objectName that has none")),
            None => finding.help("secretObjects refer to an objectAlias, or to an objectName that has none"),
        });
    }
}
