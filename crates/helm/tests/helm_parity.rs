//! Renders every chart of the shared fixtures as the real `helm template` does, and compares byte by byte.
//!
//! Needs the shared folder (`DRUSE_SHARED`, or `../../../shared`) and a `helm` 4.3 (`DRUSE_HELM`, or on `PATH`); without
//! one of them each test says so and passes. Lines that differ between two runs of Helm itself (random passwords and
//! certificates) are not compared.

#![allow(clippy::print_stderr)] // a skipped test says why

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use druse_helm::output::{Show, template_text};
use druse_helm::{Capabilities, Chart, Release, RenderOptions, SeededHost, Values, render};
use druse_object::yaml::{self, Dialect};
use druse_object::{Map, Value};

fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    dir.join("charts").is_dir().then_some(dir)
}

fn helm() -> Option<PathBuf> {
    let path = std::env::var_os("DRUSE_HELM").map_or_else(|| PathBuf::from("helm"), PathBuf::from);
    let out = Command::new(&path).args(["version", "--short"]).output().ok()?;
    String::from_utf8_lossy(&out.stdout).starts_with("v4.3").then_some(path)
}

fn inputs() -> Option<(PathBuf, PathBuf)> {
    match (shared(), helm()) {
        (Some(s), Some(h)) => Some((s, h)),
        (s, _) => {
            let what = if s.is_none() { "the shared folder" } else { "helm v4.3" };
            eprintln!("skipped: {what} was not found");
            None
        }
    }
}

struct Case<'a> {
    chart: &'a Path,
    name: &'a str,
    namespace: &'a str,
    values: Option<&'a Value>,
    skip_schema: bool,
    api_versions: &'a [&'a str],
}

/// Helm's output, or its error.
fn run_helm(helm: &Path, case: &Case<'_>, values_file: &Path) -> Result<String, String> {
    let mut cmd = Command::new(helm);
    cmd.args(["template", case.name]).arg(case.chart).args(["--include-crds", "--namespace", case.namespace]);
    if case.skip_schema {
        cmd.arg("--skip-schema-validation");
    }
    for v in case.api_versions {
        cmd.args(["--api-versions", v]);
    }
    if let Some(v) = case.values {
        std::fs::write(values_file, serde_json::to_string(v).expect("is JSON")).expect("is written");
        cmd.arg("--values").arg(values_file);
    }
    let out = cmd.output().expect("helm runs");
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        let text = text.split_once("Error: ").map_or(text.clone(), |(_, e)| e.to_owned());
        Err(text.trim().trim_end_matches("Use --debug flag to render out invalid YAML").trim().to_owned())
    }
}

fn run_druse(case: &Case<'_>) -> Result<String, String> {
    let chart = Arc::new(Chart::from_path(case.chart).map_err(|e| e.to_string())?);
    chart.check_installable().map_err(|e| e.to_string())?;
    let values = case.values.map_or(Ok(Values::default()), Values::from_document).map_err(|e| e.to_string())?;
    let rendered = render(
        &chart,
        &values,
        &Release::install(case.name, case.namespace),
        &Capabilities::default().with_api_versions(case.api_versions),
        &SeededHost::new("test"),
        &RenderOptions { skip_schema_validation: case.skip_schema, ..RenderOptions::default() },
    )
    .map_err(|e| e.to_string())?;
    template_text(&rendered, &Show { include_crds: true, ..Show::default() }).map_err(|e| e.to_string())
}

/// How often helm is asked before a difference is believed. Some charts range over `keys`, whose order helm draws anew
/// each time: one run in twenty of app-template puts its documents otherwise.
const RUNS: usize = 40;

/// What differs, briefly; `None` when nothing does.
fn compare(helm: &Path, case: &Case<'_>, scratch: &Path) -> Option<String> {
    let values_file = scratch.join("values.yaml");
    let want = run_helm(helm, case, &values_file);
    let got = run_druse(case);
    match (want, got) {
        (Ok(want), Ok(got)) if want == got => None,
        (Ok(want), Ok(got)) => {
            let mut runs = vec![want];
            let mut difference = None;
            while runs.len() < RUNS {
                let again = run_helm(helm, case, &values_file).unwrap_or_default();
                if again == got {
                    return None;
                }
                runs.push(again);
                let found = runs.iter().map(|run| steady_difference(run, &runs, &got)).collect::<Option<Vec<_>>>();
                difference = found?.pop();
            }
            difference
        }
        (Err(want), Err(got)) if same_reason(&want, &got) => None,
        (Err(want), Err(got)) => Some(format!("both fail, differently\n  helm:  {want}\n  druse: {got}")),
        (Ok(_), Err(got)) => Some(format!("only druse fails: {got}")),
        (Err(want), Ok(_)) => Some(format!("only helm fails: {want}")),
    }
}

/// The first line in which `got` is not what helm printed in `run`, of the lines that no other run prints differently
/// (random passwords, keys and dates).
fn steady_difference(run: &str, runs: &[String], got: &str) -> Option<String> {
    let lines = |text: &'_ str| text.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    let (want, got, runs) = (lines(run), lines(got), runs.iter().map(|r| lines(r)).collect::<Vec<_>>());
    let mut at = "";
    for i in 0..want.len().max(got.len()) {
        let (x, y) = (want.get(i), got.get(i));
        if let Some(source) = x.filter(|l| l.starts_with("# Source: ")) {
            at = source;
        }
        if x != y && runs.iter().all(|r| r.get(i) == x) {
            return Some(format!("line {} ({at})\n  helm:  {x:?}\n  druse: {y:?}", i + 1));
        }
    }
    (want.len() != got.len()).then(|| "lengths differ".to_owned())
}

/// The same text, but for how a document that is not YAML is described.
fn same_reason(want: &str, got: &str) -> bool {
    let head = |t: &str| t.split(": error converting YAML").next().unwrap_or("").to_owned();
    want == got || (want.starts_with("YAML parse error") && head(want) == head(got))
}

fn report(differences: &[String], total: usize) {
    assert!(differences.is_empty(), "{} of {total} differ:\n{}", differences.len(), differences.join("\n"));
    eprintln!("{total} renders are equal to helm's");
}

#[test]
fn every_chart_with_default_values_renders_as_helm_renders_it() {
    let Some((shared, helm)) = inputs() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut charts: Vec<PathBuf> = std::fs::read_dir(shared.join("charts"))
        .expect("is a folder")
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "tgz"))
        .collect();
    charts.sort();
    let mut differences = Vec::new();
    for path in &charts {
        let label = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = Case {
            chart: path,
            name: "release-name",
            namespace: "default",
            values: None,
            skip_schema: label.starts_with("app-template"),
            api_versions: &[],
        };
        differences.extend(compare(&helm, &case, scratch.path()).map(|d| format!("{label}: {d}")));
    }
    report(&differences, charts.len());
}

/// All HelmReleases in the YAML files below a folder.
fn releases(dir: &Path, out: &mut Vec<Value>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            releases(&path, out);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("kind: HelmRelease") {
                let docs = yaml::documents(&text, Dialect::Sigs).into_iter().filter_map(Result::ok);
                out.extend(docs.map(|d| d.value).filter(|v| v.str_at(["kind"]) == Some("HelmRelease")));
            }
        }
    }
}

#[test]
fn every_release_of_the_fixtures_renders_as_helm_renders_it() {
    let Some((shared, helm)) = inputs() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut all = Vec::new();
    releases(&shared.join("fixtures"), &mut all);
    let mut differences = Vec::new();
    let mut total = 0;
    for release in &all {
        let spec = |key: &str| release.str_at(["spec", "chart", "spec", key]).unwrap_or("");
        let (chart, version) = (spec("chart"), spec("version"));
        let bare = version.trim_start_matches('v');
        let Some(path) = [version.to_owned(), format!("v{bare}"), bare.to_owned()]
            .iter()
            .map(|v| shared.join("charts").join(format!("{chart}-{v}.tgz")))
            .find(|p| p.is_file())
        else {
            continue;
        };
        let name = release.str_at(["metadata", "name"]).unwrap_or("x");
        let empty = Value::Map(Map::new());
        for api_versions in [&[][..], &["monitoring.coreos.com/v1", "cert-manager.io/v1"][..]] {
            let case = Case {
                chart: &path,
                name,
                namespace: release.str_at(["metadata", "namespace"]).unwrap_or("default"),
                values: Some(release.at(["spec", "values"]).unwrap_or(&empty)),
                skip_schema: chart == "app-template",
                api_versions,
            };
            total += 1;
            differences
                .extend(compare(&helm, &case, scratch.path()).map(|d| format!("{name} ({chart} {version}): {d}")));
        }
    }
    report(&differences, total);
}

/// Values that switch on what charts leave off by default, one folder a chart: each of its versions is rendered with them.
#[test]
fn every_chart_with_values_for_its_branches_renders_as_helm_renders_it() {
    let Some((shared, helm)) = inputs() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let sorted = |dir: &Path| {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(dir).expect("is a folder").filter_map(|e| Some(e.ok()?.path())).collect();
        paths.sort();
        paths
    };
    let archives = sorted(&shared.join("charts"));
    let (mut differences, mut total) = (Vec::new(), 0);
    for folder in sorted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values")) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_chart = |p: &&PathBuf| {
            let file = p.file_name().unwrap_or_default().to_string_lossy();
            let rest = file.strip_prefix(&format!("{name}-")).map(|r| r.trim_start_matches('v').to_owned());
            rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        };
        for file in sorted(&folder) {
            let text = std::fs::read_to_string(&file).expect("is readable");
            let values = yaml::parse(&text, Dialect::Sigs).expect("is YAML");
            for chart in archives.iter().filter(of_chart) {
                for api_versions in [&[][..], &["monitoring.coreos.com/v1", "cert-manager.io/v1"][..]] {
                    let case = Case {
                        chart,
                        name: "test",
                        namespace: "home",
                        values: Some(&values),
                        skip_schema: true,
                        api_versions,
                    };
                    total += 1;
                    let label = format!("{} with {}", chart.display(), file.display());
                    differences.extend(compare(&helm, &case, scratch.path()).map(|d| format!("{label}: {d}")));
                }
            }
        }
    }
    report(&differences, total);
}
