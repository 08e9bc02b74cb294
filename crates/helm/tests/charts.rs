//! What a chart's values, dependencies, files, hooks and errors come to: small charts in memory, with what Helm 4.3 makes
//! of them as the expectation.

use std::sync::Arc;

use druse_helm::output::{Show, template_text};
use druse_helm::{
    Capabilities, Chart, File, HelmError, KubeVersion, Release, RenderOptions, Rendered, SeededHost, Values, render,
};

fn chart(files: &[(&str, &str)]) -> Result<Arc<Chart>, HelmError> {
    Chart::from_files(files.iter().map(|(n, t)| File::new(*n, t.as_bytes().to_vec())).collect()).map(Arc::new)
}

fn meta(name: &str, more: &str) -> String {
    format!("apiVersion: v2\nname: {name}\nversion: 0.1.0\n{more}")
}

fn run_with(files: &[(&str, &str)], sets: &[&str], options: &RenderOptions) -> Result<Rendered, HelmError> {
    let mut values = Values::default();
    for s in sets {
        values.set(s)?;
    }
    let capabilities = Capabilities::default();
    render(&chart(files)?, &values, &Release::install("rel", "ns"), &capabilities, &SeededHost::new("u"), options)
}

fn run(files: &[(&str, &str)], sets: &[&str]) -> Result<Rendered, HelmError> {
    run_with(files, sets, &RenderOptions::default())
}

/// The text of the one template that ends in `name`.
fn text(r: &Rendered, name: &str) -> String {
    r.manifests.iter().filter(|m| m.template.ends_with(name)).map(|m| m.text.trim_end()).collect::<Vec<_>>().join("|")
}

fn one(template: &str, values: &str, sets: &[&str]) -> Result<String, HelmError> {
    let meta = meta("c", "");
    let r = run(&[("Chart.yaml", &meta), ("values.yaml", values), ("templates/a.yaml", template)], sets)?;
    Ok(text(&r, "a.yaml"))
}

#[test]
fn numbers_of_files_are_floats_and_numbers_that_are_set_are_integers() {
    let template = "a: {{ .Values.a }}\nb: {{ .Values.b }}\nc: {{ .Values.c }}";
    assert_eq!(
        one(template, "a: 1000000\nb: 1.50\nc: 7", &["c=1000000"]).as_deref(),
        Ok("a: 1e+06\nb: 1.5\nc: 1000000")
    );
}

#[test]
fn a_null_removes_a_default_and_nothing_else() {
    let show = "v: {{ .Values | toJson }}";
    assert_eq!(one(show, "a: 1\nb: {c: 1, d: null}\ne: null", &[]).as_deref(), Ok(r#"v: {"a":1,"b":{"c":1}}"#));
    assert_eq!(one(show, "a: 1\nb: {c: 1, d: 2}", &["a=null,b.c=null"]).as_deref(), Ok(r#"v: {"b":{"d":2}}"#));
    assert_eq!(one(show, "a: 1", &["x=null"]).as_deref(), Ok(r#"v: {"a":1,"x":null}"#));
}

const PARENT: &str = "apiVersion: v2
name: top
version: 0.1.0
dependencies:
- {name: a, version: 0.x, condition: a.enabled, tags: [front]}
- {name: b, version: '>=0.1.0', alias: bee, import-values: [data, {child: inner, parent: imported.here}]}
- {name: lib, version: '*'}
";

fn family<'a>(a: &'a str, b: &'a str, lib: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("Chart.yaml", PARENT),
        ("values.yaml", "global: {g: top}\na: {k: null, over: parent}\nbee: {z: 5}\n"),
        ("templates/top.yaml", "v: {{ .Values | toJson }}\nl: {{ include \"lib.x\" . }}"),
        ("charts/a/Chart.yaml", a),
        ("charts/a/values.yaml", "k: 1\nover: sub\nglobal: {g: sub, only: a}\n"),
        ("charts/a/templates/a.yaml", "v: {{ .Values | toJson }}"),
        ("charts/a/crds/c.yaml", "kind: CustomResourceDefinition\n"),
        ("charts/b/Chart.yaml", b),
        ("charts/b/values.yaml", "exports: {data: {ex: 1}}\ninner: {x: {p: 1}}\n"),
        ("charts/b/templates/b.yaml", "n: {{ .Chart.Name }} {{ .Template.BasePath }}\nv: {{ .Values | toJson }}"),
        ("charts/lib/Chart.yaml", lib),
        ("charts/lib/templates/_x.tpl", "{{ define \"lib.x\" }}from lib{{ end }}"),
        ("charts/lib/templates/broken.yaml", "{{ .Not.rendered.at.all }}"),
    ]
}

#[test]
fn subcharts_get_their_values_globals_aliases_and_give_back_what_is_imported() {
    let (a, b, lib) = (meta("a", ""), meta("b", ""), meta("lib", "type: library\n"));
    let r = run(&family(&a, &b, &lib), &[]).expect("renders");
    assert_eq!(text(&r, "charts/a/templates/a.yaml"), r#"v: {"global":{"g":"top","only":"a"},"k":1,"over":"parent"}"#);
    assert_eq!(
        text(&r, "charts/bee/templates/b.yaml"),
        "n: bee top/charts/bee/templates\nv: {\"exports\":{\"data\":{\"ex\":1}},\"global\":{\"g\":\"top\"},\"inner\":{\"x\":{\"p\":1}},\"z\":5}"
    );
    let top = text(&r, "top/templates/top.yaml");
    assert!(top.contains(r#""ex":1"#) && top.contains(r#""imported":{"here":{"x":{"p":1}}}"#), "{top}");
    assert!(top.ends_with("l: from lib"), "{top}");
    assert_eq!(r.crds.iter().map(|c| c.path.as_ref()).collect::<Vec<_>>(), ["top/charts/a/crds/c.yaml"]);
}

#[test]
fn conditions_beat_tags_and_switch_charts_off_with_their_crds() {
    let (a, b, lib) = (meta("a", ""), meta("b", ""), meta("lib", "type: library\n"));
    let has_a = |sets: &[&str]| {
        let r = run(&family(&a, &b, &lib), sets).expect("renders");
        assert_eq!(r.crds.is_empty(), text(&r, "/a.yaml").is_empty());
        !r.crds.is_empty()
    };
    assert!(has_a(&[]));
    assert!(!has_a(&["a.enabled=false"]));
    assert!(!has_a(&["tags.front=false"]));
    assert!(has_a(&["tags.front=false,a.enabled=true"]));
    assert!(has_a(&["a.enabled=text"]));
}

#[test]
fn a_dependency_that_is_not_packed_is_named() {
    let meta = meta("c", "dependencies: [{name: q, version: 1, repository: r}]\n");
    let e = chart(&[("Chart.yaml", &meta)]).expect("loads").check_installable().expect_err("is missing");
    assert!(e.to_string().ends_with("found in Chart.yaml, but missing in charts/ directory: q"), "{e}");
}

#[test]
fn version_one_charts_name_dependencies_in_requirements() {
    let v1 = "name: old\nversion: 1.0.0\nappVersion: 1.20\n";
    let sub = meta("s", "");
    let r = run(
        &[
            ("Chart.yaml", v1),
            ("requirements.yaml", "dependencies: [{name: s, version: 0.1.0, condition: s.on}]"),
            ("charts/s/Chart.yaml", &sub),
            ("charts/s/templates/s.yaml", "a: 1"),
            (
                "templates/a.yaml",
                "v: {{ .Chart.APIVersion }} {{ .Chart.AppVersion }} {{ .Files.Get \"requirements.yaml\" | len }}",
            ),
        ],
        &["s.on=false"],
    )
    .expect("renders");
    assert_eq!(r.manifests.len(), 1);
    assert_eq!(text(&r, "a.yaml"), "v: v1 1.2 58");
}

#[test]
fn files_are_read_globbed_and_encoded() {
    let meta = meta("c", "");
    let template = "g: {{ .Files.Get \"f/x.txt\" | quote }}\nn: {{ .Files.Get \"no\" | quote }}\n\
                    c:\n  {{- (.Files.Glob \"f/*\").AsConfig | nindent 2 }}\n\
                    s: {{ (.Files.Glob \"f/**\").AsSecrets | quote }}\nl: {{ range .Files.Lines \"f/x.txt\" }}<{{ . }}>{{ end }}\n\
                    k: {{ range $n, $_ := .Files }}{{ $n }} {{ end }}";
    let r =
        run(&[("Chart.yaml", &meta), ("f/x.txt", "l1\nl2\n"), ("README.md", "r"), ("templates/a.yaml", template)], &[]);
    assert_eq!(
        text(&r.expect("renders"), "a.yaml"),
        "g: \"l1\\nl2\\n\"\nn: \"\"\nc:\n  x.txt: |\n    l1\n    l2\ns: \"x.txt: bDEKbDIK\"\nl: <l1><l2>\nk: README.md f/x.txt"
    );
}

#[test]
fn hooks_are_taken_out_and_the_rest_is_sorted_by_kind() {
    let meta = meta("c", "");
    let template = "kind: Pod\nmetadata: {name: t, annotations: {helm.sh/hook: 'test, Post-Install', helm.sh/hook-weight: '5', \
                    helm.sh/hook-delete-policy: hook-succeeded}}\n---\nkind: Deployment\n---apiVersion: v1\nkind: Namespace\n---\n\
                    kind: Job\nmetadata: {annotations: {helm.sh/hook: unknown}}\n---\n# a comment\n";
    let r = run(
        &[("Chart.yaml", &meta), ("templates/a.yaml", template), ("templates/NOTES.txt", "hi {{ .Release.Name }}")],
        &[],
    )
    .expect("renders");
    assert_eq!(r.manifests.iter().map(druse_helm::Manifest::kind).collect::<Vec<_>>(), ["Namespace", "Deployment", ""]);
    let [hook] = r.hooks.as_slice() else { panic!("one hook: {:?}", r.hooks) };
    assert_eq!((hook.name.as_str(), hook.weight, hook.is_test()), ("t", 5, true));
    assert_eq!(
        (hook.events.clone(), hook.delete_policies.clone()),
        (vec!["test".into(), "post-install".into()], vec!["hook-succeeded".to_owned()])
    );
    assert_eq!(r.notes, "hi rel");
    let all = template_text(&r, &Show::default()).expect("prints");
    assert!(all.starts_with("---\n# Source: c/templates/a.yaml\napiVersion: v1\nkind: Namespace\n"), "{all}");
    let tests = |show| template_text(&r, &show).map(|t| t.contains("kind: Pod"));
    assert_eq!(tests(Show { skip_tests: true, ..Show::default() }), Ok(false));
    assert_eq!(tests(Show { only: vec!["templates/*.yaml".into()], ..Show::default() }), Ok(true));
    assert!(tests(Show { only: vec!["templates/b.yaml".into()], ..Show::default() }).is_err());
}

#[test]
fn errors_are_worded_as_helm_words_them() {
    for (template, want) in [
        ("{{ required \"need it\" .Values.x }}", "execution error at (c/templates/a.yaml:1:3): need it"),
        ("\n{{ fail \"boom\" }}", "execution error at (c/templates/a.yaml:2:3): boom"),
        (
            "{{ .Values.a.b.c }}",
            "c/templates/a.yaml:1:10\n  executing \"c/templates/a.yaml\" at <.Values.a.b.c>:\n    nil pointer evaluating interface {}.b",
        ),
        ("a\n{{ if }}", "parse error at (c/templates/a.yaml:2): missing value for if"),
        ("{{ nope 1 }}", "parse error at (c/templates/a.yaml:1): function \"nope\" not defined"),
    ] {
        assert_eq!(one(template, "", &[]).expect_err("fails").to_string(), want, "{template}");
    }
    let e = one("a: [", "", &[]).expect_err("is not YAML").to_string();
    assert!(e.starts_with("YAML parse error on c/templates/a.yaml: error converting YAML to JSON: yaml: "), "{e}");
    let e = one("- a", "", &[]).expect_err("is no object").to_string();
    assert!(e.ends_with("json: cannot unmarshal array into Go value of type util.SimpleHead"), "{e}");
}

#[test]
fn a_chart_may_refuse_a_kubernetes_version() {
    let meta = meta("c", "kubeVersion: '>=1.20-0 <1.30'\n");
    let files = [("Chart.yaml", meta.as_str())];
    let e = run(&files, &[]).expect_err("is too new").to_string();
    assert_eq!(e, "chart requires kubeVersion: >=1.20-0 <1.30 which is incompatible with Kubernetes v1.37.0");
    let old =
        Capabilities { kube_version: KubeVersion::parse("1.29.1").expect("a version"), ..Capabilities::default() };
    let chart = chart(&files).expect("loads");
    let release = Release::install("r", "n");
    assert!(
        render(&chart, &Values::default(), &release, &old, &SeededHost::new("u"), &RenderOptions::default()).is_ok()
    );
}

const SCHEMA: &str = r#"{"type":"object","required":["a","b"],"properties":{"a":{"type":"integer","minimum":3},
"b":{"type":["string","null"]},"c":{"enum":["p","q"]},"d":{"properties":{"e":{"items":{"type":"string"}},"f":{"type":"boolean"}}}}}"#;

#[test]
fn values_are_checked_against_the_schema_with_helms_layout() {
    let meta = meta("c", "");
    let files = [("Chart.yaml", meta.as_str()), ("values.schema.json", SCHEMA)];
    let error = |sets: &[&str]| match run(&files, sets) {
        Ok(_) => String::new(),
        Err(e) => e
            .to_string()
            .replace("values don't meet the specifications of the schema(s) in the following chart(s):\n", ""),
    };
    assert_eq!(error(&["a=3,b=null"]), "");
    assert_eq!(error(&[]), "c:\n- at '': missing properties 'a', 'b'\n");
    assert_eq!(error(&["a=1,b=x"]), "c:\n- at '/a': minimum: got 1, want 3\n");
    assert_eq!(
        error(&["a=3,b=x,c=r,d.e={1,2},d.f=x"]),
        "c:\n- at '/c': value must be one of 'p', 'q'\n- at '/d': validation failed\n  - at '/d/e': validation failed\n    \
         - at '/d/e/0': got number, want string\n    - at '/d/e/1': got number, want string\n  - at '/d/f': got string, want boolean\n"
    );
    let skip = RenderOptions { skip_schema_validation: true, ..RenderOptions::default() };
    assert!(run_with(&files, &[], &skip).is_ok());
}

#[test]
fn a_schema_behind_a_url_is_not_fetched() {
    let meta = meta("c", "");
    let files = [("Chart.yaml", meta.as_str()), ("values.schema.json", r#"{"$ref":"https://example.invalid/x.json"}"#)];
    let e = run(&files, &[]).expect_err("is refused").to_string();
    assert!(e.contains("https://example.invalid/x.json") && e.contains("--skip-schema-validation"), "{e}");
}

#[test]
fn of_schemas_behind_urls_the_same_is_named_in_every_run() {
    let meta = meta("c", "");
    let refs = ["p", "z", "b", "k", "a"].map(|n| format!(r#""{n}":{{"$ref":"https://example.invalid/{n}.json#/x"}}"#));
    let schema = format!(r#"{{"properties":{{{}}}}}"#, refs.join(","));
    let files = [("Chart.yaml", meta.as_str()), ("values.schema.json", schema.as_str())];
    for _ in 0..8 {
        let e = run(&files, &[]).expect_err("is refused").to_string();
        assert!(e.contains("https://example.invalid/a.json"), "{e}");
    }
}

#[test]
fn what_templates_ask_of_the_api_is_known_afterwards() {
    let meta = meta("c", "");
    let template = "a: {{ .Capabilities.APIVersions.Has \"policy/v1\" }}\nb: {{ .Capabilities.APIVersions.Has \"x/v1\" }}\n\
                    k: {{ .Capabilities.KubeVersion }} {{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.HelmVersion.Version }}";
    let r = run(&[("Chart.yaml", &meta), ("templates/a.yaml", template)], &[]).expect("renders");
    assert_eq!(text(&r, "a.yaml"), "a: true\nb: false\nk: v1.37.0 37 v4.3.1");
    assert_eq!(r.asked_api_versions.into_iter().collect::<Vec<_>>(), ["policy/v1", "x/v1"]);
}

#[test]
fn rendering_is_the_same_every_time_and_random_values_depend_on_their_place_only() {
    let meta = meta("c", "");
    let password = |before: &str, unit: &str| {
        let template = format!("{before}p: {{{{ randAlphaNum 20 }}}}");
        let chart = chart(&[("Chart.yaml", &meta), ("templates/a.yaml", &template)]).expect("loads");
        let release = Release::install("r", "n");
        let host = SeededHost::new(unit);
        let r =
            render(&chart, &Values::default(), &release, &Capabilities::default(), &host, &RenderOptions::default());
        text(&r.expect("renders"), "a.yaml").rsplit("p: ").next().unwrap_or_default().to_owned()
    };
    assert_eq!(password("", "u"), password("x: 1\ny: {{ uuidv4 }}\n", "u"));
    assert_ne!(password("", "u"), password("", "v"));
}

#[test]
fn broken_charts_say_what_is_broken() {
    let good = meta("c", "");
    let load = |files: &[(&str, &str)]| chart(files).map(|_| ()).expect_err("is refused").to_string();
    assert_eq!(load(&[("values.yaml", "")]), "Chart.yaml file is missing");
    assert_eq!(
        load(&[("Chart.yaml", "apiVersion: v2\nname: x\nversion: abc")]),
        "validation: chart.metadata.version \"abc\" is invalid"
    );
    assert_eq!(
        load(&[("Chart.yaml", "apiVersion: v2\nname: a/b\nversion: 1.0.0")]),
        "validation: chart.metadata.name \"a/b\" is invalid"
    );
    assert!(load(&[("Chart.yaml", &good), ("values.yaml", "- a")]).starts_with("cannot load values.yaml: "));
    assert!(
        load(&[("Chart.yaml", &good), ("charts/s/values.yaml", "")])
            .contains("error unpacking subchart s in c: Chart.yaml")
    );
    assert!(
        load(&[("Chart.yaml", &good), ("charts/s.tgz", "not gzip")]).contains("error unpacking subchart s.tgz in c")
    );
}

#[test]
fn binary_files_keep_their_bytes() {
    let meta = meta("c", "");
    let gzip = [0x1f, 0x8b, 0x08, 0x00, 0xff, 0xfe, b'a'];
    let chart = Chart::from_files(vec![
        File::new("Chart.yaml", meta.into_bytes()),
        File::new("data.gz", gzip.to_vec()),
        File::new("templates/a.yaml", b"d: {{ .Files.Get \"data.gz\" | b64enc }}\n".to_vec()),
    ])
    .expect("a chart");
    let r = render(
        &Arc::new(chart),
        &Values::default(),
        &Release::install("rel", "ns"),
        &Capabilities::default(),
        &SeededHost::new("u"),
        &RenderOptions::default(),
    )
    .expect("renders");
    assert_eq!(text(&r, "a.yaml"), "d: H4sIAP/+YQ==");
}

#[test]
fn the_last_line_of_a_values_file_is_ended() {
    assert_eq!(one("v: {{ .Values | toJson }}", "a: |\n  x", &[]).as_deref(), Ok(r#"v: {"a":"x\n"}"#));
}

#[test]
fn whole_numbers_are_integers_to_every_draft_of_schemas() {
    let meta = meta("c", "");
    let schema =
        r#"{"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"count": {"type": "integer"}}}"#;
    let files = |values| {
        [("Chart.yaml", meta.as_str()), ("values.schema.json", schema), ("values.yaml", values)].map(|(n, t)| (n, t))
    };
    assert!(run(&files("count: 3"), &[]).is_ok());
    assert!(run(&files("count: 3.5"), &[]).is_err());
}

#[test]
fn folders_that_hold_no_chart_are_named_as_helm_names_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().display().to_string();
    let load = || Chart::from_dir(dir.path()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        load(),
        format!("unable to detect chart at {at}/Chart.yaml: open {at}/Chart.yaml: no such file or directory")
    );
    std::fs::write(dir.path().join("Chart.yaml"), "apiVersion: v7\nname: a\nversion: 1.0.0\n").expect("is written");
    assert_eq!(load(), "unsupported chart version");
    #[cfg(unix)]
    {
        std::fs::write(dir.path().join("Chart.yaml"), meta("a", "")).expect("is written");
        std::os::unix::fs::symlink("../nowhere/x", dir.path().join("link")).expect("is linked");
        let parent = dir.path().parent().expect("has a parent").display().to_string();
        assert_eq!(
            load(),
            format!("error evaluating symlink {at}/link: lstat {parent}/nowhere: no such file or directory")
        );
    }
}
