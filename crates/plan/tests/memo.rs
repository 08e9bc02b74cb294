//! A plan made with a memo is the plan made without: whatever a unit reads is changed, one input at a time, and the
//! change is seen by the units that read it and by no other. Same inputs give the same plan on any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_kustomize::tree::MemoryTree;
use druse_plan::sources::Sources;
use druse_plan::{Memo, Plan, PlanOptions, SecretValues, TreeInput, UnitId, plan_with};
use druse_source::{Fetcher, FetcherOptions};

type Files = BTreeMap<String, String>;

fn kustomization(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 1h\n  path: ./{name}\n  sourceRef: {{kind: GitRepository, name: home}}\n{more}"
    )
}

fn release(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: apps}}\nspec:\n  interval: 1h\n  chart:\n    spec:\n      chart: ./charts/{name}\n      sourceRef: {{kind: GitRepository, name: home, namespace: flux-system}}\n{more}"
    )
}

fn config_map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: apps}}\ndata: {data}\n")
}

/// One unit for each way to read something.
fn tree() -> Files {
    let source = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: home, namespace: flux-system}\nspec: {url: https://example.org/me/home, interval: 1m}\n";
    let variables = "  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars, optional: true}]}\n";
    let sync = source.to_string()
        + &kustomization("cluster", "")
        + &kustomization("listed", "")
        + &kustomization("named", "")
        + &kustomization("settings", "  targetNamespace: flux-system\n")
        + &kustomization("variables", variables)
        + &kustomization("releases", "");
    let releases = release("valued", "  valuesFrom: [{kind: ConfigMap, name: values}]\n")
        + &release("asking", "")
        + "---\n"
        + &config_map("values", "{values.yaml: 'word: first'}");
    let chart = |name: &str| format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n");
    [
        ("cluster/sync.yaml", sync),
        ("listed/a.yaml", config_map("a", "{k: v}")),
        (
            "named/kustomization.yaml",
            "namespace: apps\nresources: [b.yaml]\nconfigMapGenerator: [{name: gen, files: [text.txt]}]\n".into(),
        ),
        ("named/b.yaml", config_map("b", "{k: v}")),
        ("named/text.txt", "text".into()),
        ("named/unread.txt", "nobody reads this".into()),
        ("settings/vars.yaml", config_map("vars", "{WORD: first}")),
        ("variables/v.yaml", config_map("v", "{k: '${WORD:=default}'}")),
        ("releases/releases.yaml", releases),
        ("charts/valued/Chart.yaml", chart("valued")),
        ("charts/valued/templates/c.yaml", config_map("c", "{word: '{{ .Values.word }}'}")),
        ("charts/asking/Chart.yaml", chart("asking")),
        (
            "charts/asking/templates/d.yaml",
            config_map("d", "{has: '{{ .Capabilities.APIVersions.Has \"example.org/v1\" }}'}"),
        ),
        ("README.md", "nobody reads this".into()),
    ]
    .into_iter()
    .map(|(path, text)| (path.to_string(), text))
    .collect()
}

fn on_disk(folder: &Path) -> Arc<Memo> {
    Arc::new(Memo::in_folder(folder, "this build"))
}

fn make(files: &Files, options: &PlanOptions, memo: Option<&Arc<Memo>>) -> Plan {
    let tree: MemoryTree = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let fetcher = FetcherOptions { offline: true, ..FetcherOptions::default() };
    let fetcher = Arc::new(Fetcher::new(fetcher).expect("a fetcher"));
    let sources = match memo {
        Some(memo) => Sources::with_memo(TreeInput::new(tree), fetcher, Arc::clone(memo)),
        None => Sources::new(TreeInput::new(tree), fetcher),
    };
    plan_with(&sources, options)
}

/// Everything a plan says.
fn said(plan: &Plan) -> String {
    format!("{:?}\n{:?}\n{:?}", plan.units, plan.warnings, plan.tree_sources)
}

/// The units whose objects are not the very list that they are in another plan.
fn rendered_anew(before: &Plan, after: &Plan) -> Vec<String> {
    let other = |u: &&druse_plan::Unit| !before.unit(&u.id).is_some_and(|b| b.objects.is_same(&u.objects));
    let mut names: Vec<String> = after.units.iter().filter(other).map(|u| u.id.name.to_string()).collect();
    names.sort();
    names
}

struct Edit {
    what: &'static str,
    change: fn(&mut Files),
    /// The units that must be rendered again.
    renders: &'static [&'static str],
}

fn put(files: &mut Files, path: &str, text: impl Into<String>) {
    files.insert(path.to_string(), text.into());
}

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: xs.example.org}\nspec:\n  group: example.org\n  scope: Namespaced\n  names: {kind: X, plural: xs}\n  versions: [{name: v1, served: true, storage: true}]\n";

const EDITS: &[Edit] = &[
    Edit { what: "nothing", change: |_| {}, renders: &[] },
    Edit { what: "a file that no unit reads", change: |f| put(f, "README.md", "else"), renders: &[] },
    Edit { what: "a file beside those that are read", change: |f| put(f, "named/unread.txt", "else"), renders: &[] },
    Edit { what: "a manifest", change: |f| put(f, "named/b.yaml", config_map("b", "{k: w}")), renders: &["named"] },
    Edit { what: "a generator's file", change: |f| put(f, "named/text.txt", "else"), renders: &["named"] },
    Edit {
        what: "a new file where all are taken",
        change: |f| put(f, "listed/z.yaml", config_map("z", "{}")),
        renders: &["listed"],
    },
    Edit {
        what: "a kustomization where there was none",
        change: |f| put(f, "listed/kustomization.yaml", "resources: [a.yaml]\n"),
        renders: &["listed"],
    },
    Edit { what: "a file that is gone", change: |f| drop(f.remove("named/b.yaml")), renders: &["named"] },
    Edit { what: "an ignore file", change: |f| put(f, ".sourceignore", "listed/a.yaml\n"), renders: &["listed"] },
    Edit {
        what: "variables that another unit makes",
        change: |f| put(f, "settings/vars.yaml", config_map("vars", "{WORD: second}")),
        renders: &["settings", "variables"],
    },
    Edit {
        what: "variables that are gone",
        change: |f| put(f, "settings/vars.yaml", config_map("others", "{WORD: first}")),
        renders: &["settings", "variables"],
    },
    Edit {
        what: "values that another unit makes",
        change: |f| {
            let text = f["releases/releases.yaml"].replace("word: first", "word: second");
            put(f, "releases/releases.yaml", text);
        },
        renders: &["releases", "valued"],
    },
    Edit {
        what: "a chart's template",
        change: |f| put(f, "charts/valued/templates/c.yaml", config_map("c", "{word: '{{ .Values.word }}!'}")),
        renders: &["valued"],
    },
    Edit {
        what: "a chart's new template",
        change: |f| put(f, "charts/valued/templates/e.yaml", config_map("e", "{}")),
        renders: &["valued"],
    },
    Edit {
        what: "a kind that a chart asks for",
        change: |f| put(f, "settings/crd.yaml", CRD),
        renders: &["asking", "settings"],
    },
    Edit {
        what: "a release's own values",
        change: |f| {
            let text = f["releases/releases.yaml"].replace(
                "interval: 1h\n  chart:\n    spec:\n      chart: ./charts/asking",
                "interval: 2h\n  chart:\n    spec:\n      chart: ./charts/asking",
            );
            put(f, "releases/releases.yaml", text);
        },
        renders: &["asking", "releases"],
    },
    Edit {
        what: "a unit's definition",
        change: |f| {
            let text = f["cluster/sync.yaml"].replace("  targetNamespace: flux-system\n", "  targetNamespace: other\n");
            put(f, "cluster/sync.yaml", text);
        },
        renders: &["cluster", "settings", "variables"],
    },
];

#[test]
fn every_change_of_what_a_unit_reads_is_seen_and_nothing_else_is_rendered_again() {
    let files = tree();
    let options = PlanOptions::default();
    let plain = make(&files, &options, None);
    for unit in &plain.units {
        assert!(unit.errors.is_empty(), "{}: {:?}", unit.id, unit.errors);
    }
    for Edit { what, change, renders } in EDITS {
        let memo = Arc::new(Memo::new());
        let before = make(&files, &options, Some(&memo));
        assert_eq!(said(&before), said(&plain), "{what}: a memo that is filled changes nothing");
        let mut edited = files.clone();
        change(&mut edited);
        let after = make(&edited, &options, Some(&memo));
        assert_eq!(said(&after), said(&make(&edited, &options, None)), "{what}: with and without a memo");
        assert_eq!(rendered_anew(&before, &after), *renders, "{what}");
        let back = make(&files, &options, Some(&memo));
        assert_eq!(said(&back), said(&plain), "{what}: and back");
        assert_eq!(rendered_anew(&before, &back), [""; 0], "{what}: and back");
    }
}

#[test]
fn a_folder_does_the_same_for_later_runs() {
    let files = tree();
    let options = PlanOptions::default();
    let plain = make(&files, &options, None);
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(said(&make(&files, &options, Some(&on_disk(dir.path())))), said(&plain));
    for Edit { what, change, renders } in EDITS {
        let mut edited = files.clone();
        change(&mut edited);
        let memo = on_disk(dir.path());
        let after = make(&edited, &options, Some(&memo));
        assert_eq!(said(&after), said(&make(&edited, &options, None)), "{what}: with and without");
        let rendered: BTreeSet<String> = memo.rendered().into_iter().map(|id| id.name.to_string()).collect();
        // What a unit rendered to on the way to the first plan may be what is asked for now.
        let allowed = renders.iter().map(ToString::to_string).collect();
        assert!(rendered.is_subset(&allowed), "{what}: {rendered:?} instead of {renders:?}");
        assert_eq!(rendered.is_empty(), renders.is_empty(), "{what}: {rendered:?} instead of {renders:?}");
        let again = on_disk(dir.path());
        assert_eq!(said(&make(&edited, &options, Some(&again))), said(&after), "{what}: once more");
        let failed = |id: &UnitId| after.unit(id).is_some_and(|u| !u.errors.is_empty());
        assert!(again.rendered().iter().all(failed), "{what}: only what failed is tried again");
    }
    let memo = on_disk(dir.path());
    let first = make(&files, &options, Some(&memo));
    let second = make(&files, &options, Some(&memo));
    assert_eq!(rendered_anew(&first, &second), [""; 0], "what came from the folder is shared, too");
    let other = Arc::new(Memo::in_folder(dir.path(), "another build"));
    assert_eq!(said(&make(&files, &options, Some(&other))), said(&plain));
    assert_eq!(other.rendered().len(), plain.units.len(), "another build renders everything itself");
}

#[test]
fn what_was_printed_is_given_out_for_the_very_same_rendering_only() {
    let (files, options) = (tree(), PlanOptions::default());
    let dir = tempfile::tempdir().expect("a folder");
    let memo = on_disk(dir.path());
    let before = make(&files, &options, Some(&memo));
    for unit in &before.units {
        assert!(!memo.text(unit, &mut Vec::new()), "{}: nothing was printed yet", unit.id);
        memo.keep_text(unit, unit.id.to_string().as_bytes());
    }
    let says = |u: &druse_plan::Unit| format!("{:?} {:?}", u.objects, u.hooks);
    for Edit { what, change, renders } in EDITS {
        let mut edited = files.clone();
        change(&mut edited);
        let memo = on_disk(dir.path());
        for unit in &make(&edited, &options, Some(&memo)).units {
            let mut text = b"what was there".to_vec();
            let known = memo.text(unit, &mut text);
            if known {
                assert_eq!(text, unit.id.to_string().as_bytes(), "{what}");
                assert!(before.unit(&unit.id).is_some_and(|b| says(b) == says(unit)), "{what}: {}", unit.id);
            }
            assert!(known || renders.contains(&unit.id.name.as_str()), "{what}: {} is as it was", unit.id);
        }
    }
    let other = Arc::new(Memo::in_folder(dir.path(), "another build"));
    let plan = make(&files, &options, Some(&other));
    assert!(plan.units.iter().all(|u| !other.text(u, &mut Vec::new())), "another build prints everything itself");
}

fn files_in(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() { files_in(&entry.path(), out) } else { out.push(entry.path()) }
    }
}

#[test]
fn a_damaged_folder_is_as_good_as_none() {
    let files = tree();
    let options = PlanOptions::default();
    let plain = said(&make(&files, &options, None));
    let dir = tempfile::tempdir().expect("a folder");
    make(&files, &options, Some(&on_disk(dir.path())));
    let mut kept = Vec::new();
    files_in(dir.path(), &mut kept);
    assert!(kept.len() >= 8);
    kept.sort();
    // A byte of each file at another place each time, through the whole length of the longest.
    for step in 0..12 {
        for (n, path) in kept.iter().enumerate() {
            let mut bytes = std::fs::read(path).unwrap_or_default();
            let at = (bytes.len() * step / 12 + n).min(bytes.len().saturating_sub(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (step % 8);
            }
            std::fs::write(path, bytes).expect("written");
        }
        assert_eq!(said(&make(&files, &options, Some(&on_disk(dir.path())))), plain, "step {step}");
    }
    for path in &kept {
        std::fs::write(path, "").expect("written");
    }
    assert_eq!(said(&make(&files, &options, Some(&on_disk(dir.path())))), plain, "emptied");
}

#[test]
fn two_runs_share_a_folder() {
    let files = tree();
    let options = PlanOptions::default();
    let plain = said(&make(&files, &options, None));
    let dir = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    assert_eq!(said(&make(&files, &options, Some(&on_disk(dir.path())))), plain);
                }
            });
        }
    });
}

const PASSWORD: &str = "correct-horse-battery-staple";

/// A unit that holds a Secret, a release whose chart makes one, and releases that read either.
fn tree_with_secrets() -> Files {
    let mut files = tree();
    let secret = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: apps}}\nstringData: {{word: {PASSWORD}}}\n"
        )
    };
    let read =
        |name: &str| format!("  valuesFrom: [{{kind: Secret, name: {name}, valuesKey: word, targetPath: word}}]\n");
    let releases = release("makes", "  values: {word: correct-horse-battery}\n")
        + &release("reads", &read("plain"))
        + &release("reads-a-charts", &read("made"))
        + &files["releases/releases.yaml"];
    put(&mut files, "releases/releases.yaml", releases);
    put(&mut files, "releases/secret.yaml", secret("plain"));
    for (name, template) in [
        ("makes", secret("made").replace(PASSWORD, "'{{ .Values.word }}-staple'")),
        ("reads", config_map("r", "{word: '{{ .Values.word }}'}")),
        ("reads-a-charts", config_map("s", "{word: '{{ .Values.word }}'}")),
    ] {
        put(
            &mut files,
            &format!("charts/{name}/Chart.yaml"),
            format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n"),
        );
        put(&mut files, &format!("charts/{name}/templates/t.yaml"), template);
    }
    files
}

#[test]
fn no_value_of_a_secret_is_kept_and_none_is_missing_where_it_is_needed() {
    let files = tree_with_secrets();
    let needed = PlanOptions::default();
    let plain = make(&files, &needed, None);
    for unit in &plain.units {
        assert!(unit.errors.is_empty(), "{}: {:?}", unit.id, unit.errors);
    }
    assert!(said(&plain).matches(PASSWORD).count() >= 4, "{}", said(&plain));
    let dir = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        assert_eq!(said(&make(&files, &needed, Some(&on_disk(dir.path())))), said(&plain));
    }
    let mut kept = Vec::new();
    files_in(dir.path(), &mut kept);
    for path in kept {
        let bytes = std::fs::read(&path).expect("read");
        assert!(!bytes.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes()), "{}", path.display());
    }
    // Where nobody asked for them they may be left out, but not for those that read them.
    let memo = on_disk(dir.path());
    let not_needed = PlanOptions { secrets: SecretValues::NotNeeded, ..PlanOptions::default() };
    let plan = make(&files, &not_needed, Some(&memo));
    let unit = |name: &str| plan.units.iter().find(|u| u.id.name == name).expect("the unit");
    assert!(said(&plan).contains(&format!("word\": String(\"{PASSWORD}")) || said(&plan).contains(PASSWORD));
    for name in ["reads", "reads-a-charts"] {
        assert!(format!("{:?}", unit(name).objects).contains(PASSWORD), "{name}");
    }
    assert!(!unit("makes").secrets_withheld, "another unit reads it");
    // Without a reader it comes from the folder, empty; asked for, it is made again.
    let mut alone = files.clone();
    alone.remove("charts/reads-a-charts/templates/t.yaml");
    let text = alone["releases/releases.yaml"].replace("name: made, valuesKey", "name: plain, valuesKey");
    put(&mut alone, "releases/releases.yaml", text);
    let plan = make(&alone, &not_needed, Some(&on_disk(dir.path())));
    let makes = plan.units.iter().find(|u| u.id.name == "makes").expect("the unit");
    assert!(makes.secrets_withheld);
    assert_eq!(makes.objects[0].value["stringData"]["word"].as_str(), Some(""));
    let of = SecretValues::NeededOf(Arc::new([makes.id.clone()].into()));
    let plan = make(&alone, &PlanOptions { secrets: of, ..PlanOptions::default() }, Some(&on_disk(dir.path())));
    let makes = plan.unit(&makes.id).expect("the unit");
    assert_eq!(makes.objects[0].value["stringData"]["word"].as_str(), Some(PASSWORD));
}

#[test]
fn options_are_part_of_what_was_read() {
    let files = tree();
    let memo = Arc::new(Memo::new());
    let options = PlanOptions::default();
    let before = make(&files, &options, Some(&memo));
    let served = PlanOptions { api_versions: vec!["example.org/v1".into()], ..PlanOptions::default() };
    let after = make(&files, &served, Some(&memo));
    assert_eq!(said(&after), said(&make(&files, &served, None)));
    assert_eq!(rendered_anew(&before, &after), ["asking"]);
    let newer = druse_helm::KubeVersion::parse("v1.31.0").expect("a version");
    let newer = PlanOptions { kube_version: newer, ..PlanOptions::default() };
    assert_eq!(said(&make(&files, &newer, Some(&memo))), said(&make(&files, &newer, None)));
}

#[test]
fn threads_and_their_number_change_nothing() {
    let files = tree();
    let plan_on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| said(&make(&files, &PlanOptions::default(), None)))
    };
    let one = plan_on(1);
    for threads in [2, 16] {
        assert_eq!(plan_on(threads), one, "{threads} threads");
    }
}
