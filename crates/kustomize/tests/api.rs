//! What callers rely on besides kustomize's own behaviour: provenance, kustomizations no file holds, remote resources,
//! limits, and errors with their place and a remedy.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use druse_kustomize::{
    BuildOptions, DiskTree, DocCache, FileTree, Helm, HelmChart, Kustomization, LoadRestriction, LoadedChart,
    MemoryTree, Remote, RemoteContent, build, build_with, kustomization_file,
};

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

#[test]
fn objects_say_where_they_come_from() {
    let tree: MemoryTree = [
        ("app/kustomization.yaml", "resources: [base]\nnamePrefix: x-\nconfigMapGenerator: [{name: g}]\n".to_string()),
        ("app/base/kustomization.yml", "resources: [all.yaml]\n".to_string()),
        ("app/base/all.yaml", format!("{CONFIG_MAP}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n")),
    ]
    .into_iter()
    .collect();
    let cache = DocCache::new();
    let options = BuildOptions { cache: Some(&cache), ..BuildOptions::default() };
    for _ in 0..2 {
        let objects = build(&tree, "app", &options).unwrap();
        let places: Vec<String> = objects.iter().map(|o| format!("{} {}", o.kind(), o.provenance)).collect();
        assert_eq!(
            places,
            ["ConfigMap app/base/all.yaml:1", "ConfigMap app/kustomization.yaml", "Secret app/base/all.yaml:5",]
        );
    }
    assert_eq!(kustomization_file(&tree, "app/base").as_deref(), Some("app/base/kustomization.yml"));
    assert_eq!(kustomization_file(&tree, ""), None);
}

#[test]
fn a_kustomization_may_be_made_in_memory() {
    let tree: MemoryTree = [("app/a.yaml", CONFIG_MAP)].into_iter().collect();
    let k = Kustomization {
        kind: "Kustomization".to_string(),
        resources: vec!["a.yaml".to_string()],
        namespace: "n".to_string(),
        ..Kustomization::default()
    };
    let objects = build_with(&tree, "app", &k, &BuildOptions::default()).unwrap();
    assert_eq!(objects[0].namespace(), "n");
}

#[test]
fn errors_have_a_place_and_a_remedy() {
    let tree: MemoryTree = [
        ("kustomization.yaml", "namePrefix: a\nresources:\n- ok.yaml\n- base\n"),
        ("ok.yaml", CONFIG_MAP),
        ("base/kustomization.yaml", "resources:\n- bad.yaml\n"),
        ("base/bad.yaml", "apiVersion: v1\nkind: X\nmetadata: {name: a}\n---\napiVersion: v1\nkind: [\n"),
    ]
    .into_iter()
    .collect();
    let e = build(&tree, "", &BuildOptions::default()).unwrap_err();
    assert_eq!((e.file.as_deref(), e.line), (Some("base/bad.yaml"), 7));
    let e = build(&tree, "base", &BuildOptions::default()).unwrap_err();
    assert_eq!(e.file.as_deref(), Some("base/bad.yaml"));

    let tree: MemoryTree = [("kustomization.yaml", "resources:\n- github.com/a/b?ref=v1\n")].into_iter().collect();
    let e = build(&tree, "", &BuildOptions::default()).unwrap_err();
    assert_eq!((e.file.as_deref(), e.line), (Some("kustomization.yaml"), 2));
    assert!(e.message.contains("remote resource 'github.com/a/b?ref=v1' is not allowed here"), "{e}");
    assert!(e.remedy.is_some());
}

struct Elsewhere;

impl Remote for Elsewhere {
    fn get(&self, url: &str) -> Result<RemoteContent, String> {
        match url {
            "https://example.org/a.yaml" => Ok(RemoteContent::File(Arc::from(CONFIG_MAP.as_bytes()))),
            "github.com/a/b//dir?ref=v1" => {
                let tree: MemoryTree =
                    [("dir/kustomization.yaml", "resources: [x.yaml]\nnamePrefix: r-\n"), ("dir/x.yaml", CONFIG_MAP)]
                        .into_iter()
                        .collect();
                Ok(RemoteContent::Tree { tree: Arc::new(tree), dir: "dir".to_string() })
            }
            other => Err(format!("no such thing: {other}")),
        }
    }
}

#[test]
fn remote_resources_come_from_the_caller() {
    let tree: MemoryTree = [(
        "kustomization.yaml",
        "resources: [https://example.org/a.yaml, 'github.com/a/b//dir?ref=v1']\nnameSuffix: -x\n",
    )]
    .into_iter()
    .collect();
    let options = BuildOptions { remote: Some(&Elsewhere), ..BuildOptions::default() };
    let objects = build(&tree, "", &options).unwrap();
    let names: Vec<&str> = objects.iter().map(|o| o.name()).collect();
    assert_eq!(names, ["a-x", "r-a-x"]);
}

#[test]
fn a_huge_file_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kustomization.yaml"), "resources: [huge.yaml]\n").unwrap();
    std::fs::File::create(dir.path().join("huge.yaml")).unwrap().set_len(1 << 30).unwrap();
    let tree = DiskTree::new(dir.path()).unwrap();
    let e = build(&tree, "", &BuildOptions::default()).unwrap_err();
    assert!(e.message.contains("1073741824 bytes is more than the limit of 33554432"), "{e}");
    assert_eq!(e.file.as_deref(), Some("huge.yaml"));
}

#[test]
fn old_fields_are_warned_of_in_every_file_that_is_read() {
    let tree: MemoryTree = [
        ("kustomization.yaml", "bases: [base]\ncommonLabels: {a: b}\n"),
        ("base/kustomization.yaml", "resources: [a.yaml]\nvars: []\n"),
        ("base/a.yaml", CONFIG_MAP),
    ]
    .into_iter()
    .collect();
    let said = std::sync::Mutex::new(Vec::new());
    let warn = |warning: &str| said.lock().unwrap().push(warning.to_string());
    build(&tree, "", &BuildOptions { warn: Some(&warn), ..BuildOptions::default() }).unwrap();
    let said = said.into_inner().unwrap();
    let fields: Vec<&str> = said.iter().map(|w| w.split('\'').nth(1).unwrap()).collect();
    assert_eq!(fields, ["bases", "commonLabels", "vars"]);
    assert!(
        said[2].starts_with("# Warning: 'vars' is deprecated. Please use 'replacements' instead. [EXPERIMENTAL] Run")
    );
}

struct OneChart;

impl Helm for OneChart {
    fn load(&self, chart: &HelmChart, local: Option<(&dyn FileTree, &str)>) -> Result<Box<dyn LoadedChart>, String> {
        match (local, chart.repo.as_str()) {
            (Some((tree, dir)), _) if tree.kind(&format!("{dir}/Chart.yaml")).is_some() => Ok(Box::new(Self)),
            (None, "https://charts.example.org") => Ok(Box::new(Self)),
            _ => Err("no such chart".to_string()),
        }
    }
}

impl LoadedChart for OneChart {
    fn values(&self) -> String {
        "own: {a: 1, b: 2}\nkept: true\n".to_string()
    }

    /// A ConfigMap with what it was given.
    fn template(&self, chart: &HelmChart, values: &[String]) -> Result<String, String> {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Ok(format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}, namespace: {}}}\ndata:\n  values: {:?}\n",
            chart.release_name,
            chart.namespace,
            values.join("|")
        ))
    }
}

#[test]
fn charts_get_the_values_kustomize_gives_them() {
    let inline = "valuesInline: {own: {b: 3}, new: x}";
    for (entry, expected) in [
        ("", "own: {a: 1, b: 2}\nkept: true\n"),
        (inline, "kept: true\nnew: x\nown:\n  a: 1\n  b: 3\n"),
        (&format!("{inline}, valuesMerge: merge"), "kept: true\nnew: x\nown:\n  a: 1\n  b: 2\n"),
        (&format!("{inline}, valuesMerge: replace"), "new: x\nown:\n  b: 3\n"),
        ("additionalValuesFiles: [more.yaml]", "own: {a: 1, b: 2}\nkept: true\n|more: 1\n"),
        ("valuesFile: more.yaml", "more: 1\n"),
    ] {
        let entry = if entry.is_empty() { String::new() } else { format!(", {entry}") };
        let chart = format!(
            "helmCharts: [{{name: one, releaseName: r, repo: 'https://charts.example.org', version: 1.0.0{entry}}}]\n"
        );
        let tree: MemoryTree = [
            ("kustomization.yaml", "namespace: nn\nresources: [base]\nnamePrefix: p-\n"),
            ("base/kustomization.yaml", &chart),
            ("base/more.yaml", "more: 1\n"),
        ]
        .into_iter()
        .collect();
        let objects = build(&tree, "", &BuildOptions { helm: Some(&OneChart), ..BuildOptions::default() }).unwrap();
        assert_eq!((objects[0].name(), objects[0].namespace()), ("p-r", "nn"), "{entry}");
        assert_eq!(objects[0].value.str_at(["data", "values"]), Some(expected), "{entry}");
    }
}

#[test]
fn charts_of_the_repository_are_found_in_its_chart_home() {
    let tree: MemoryTree = [
        ("kustomization.yaml", "helmGlobals: {chartHome: lib}\nhelmCharts: [{name: one, releaseName: r}]\n"),
        ("lib/one/Chart.yaml", "name: one\nversion: 1.0.0\n"),
        ("lib/one/values.yaml", "x: y\n"),
    ]
    .into_iter()
    .collect();
    let options = BuildOptions { helm: Some(&OneChart), ..BuildOptions::default() };
    let objects = build(&tree, "", &options).unwrap();
    assert_eq!(objects[0].value.str_at(["data", "values"]), Some("x: y\n"));
    let missing: MemoryTree = [("kustomization.yaml", "helmCharts: [{name: two}]\n")].into_iter().collect();
    let e = build(&missing, "", &options).unwrap_err();
    assert_eq!(e.message, "no repo specified for pull, no chart found at ''");
    assert_eq!(e.remedy.as_deref(), Some("put the chart into charts/two, or name its repo"));
}

/// The message that Flux' kustomize-controller 1.9.6 was seen to put in a status.
#[test]
fn a_missing_file_reads_as_in_a_flux_status() {
    let tree: MemoryTree = [("bad-kust/kustomization.yaml", "resources: [none.yaml]\n")].into_iter().collect();
    let options = BuildOptions { restriction: LoadRestriction::None, shown_root: "<dir>", ..BuildOptions::default() };
    let e = build(&tree, "bad-kust", &options).unwrap_err();
    assert_eq!(
        e.message,
        "accumulating resources: accumulation err='accumulating resources from 'none.yaml': open \
         <dir>/bad-kust/none.yaml: no such file or directory': must build at directory: not a valid directory: \
         evalsymlink failure on '<dir>/bad-kust/none.yaml' : lstat <dir>/bad-kust/none.yaml: no such file or directory"
    );
}

/// A thousand objects that all refer to one another take no noticeable time; the test is that it ends.
#[test]
fn large_kustomizations_build() {
    let mut files = vec![(
        "kustomization.yaml".to_string(),
        format!(
            "namePrefix: p-\nnamespace: nn\ncommonLabels: {{a: b}}\nresources:\n{}",
            (0..1000).map(|i| format!("- {i}.yaml\n")).collect::<String>()
        ),
    )];
    for i in 0..1000 {
        let next = (i + 1) % 1000;
        files.push((
            format!("{i}.yaml"),
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}}}\n---\napiVersion: apps/v1\nkind: Deployment\n\
                 metadata: {{name: d{i}}}\nspec: {{template: {{spec: {{volumes: [{{name: v, configMap: {{name: c{next}}}}}]}}}}}}\n"
            ),
        ));
    }
    let tree: MemoryTree = files.into_iter().collect();
    let objects = build(&tree, "", &BuildOptions::default()).unwrap();
    assert_eq!(objects.len(), 2000);
    let volume = &objects.iter().find(|o| o.name() == "p-d0").unwrap().value["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volume.items()[0].str_at(["configMap", "name"]), Some("p-c1"));
}
