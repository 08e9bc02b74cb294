//! How a diff reads: text, Markdown, and the page.

mod common;

use common::{Tree, diff, unit};
use druse_diff::Diff;
use druse_diff::output::{self, Style};

fn example() -> Diff {
    let web = |replicas: u8, tag: &str, text: &str| {
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: site, annotations: {{checksum/config: {}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: registry.example.org/web:{tag}
        args: [--listen, ':8080']
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: web, namespace: site}}
data:
  app.conf: |
    listen 8080
    {text}
    log info
---
apiVersion: v1
kind: Secret
metadata: {{name: login, namespace: site}}
stringData: {{password: {text}-{text}-secret}}
",
            if tag == "1.2.0" { "aaaaaaaaaaaa" } else { "bbbbbbbbbbbb" }
        )
    };
    let claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: site}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}\n";
    let base = Tree::app(&(web(2, "1.2.0", "cache on") + claim));
    let head = Tree::app(&web(1, "2.0.0", "cache off"))
        .file("cluster/units.yaml", &(unit("app", "") + &unit("more", "")))
        .file(
            "more/all.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: new, namespace: site}\ndata: {k: v}\n",
        );
    diff(&base, &head)
}

#[test]
fn text_says_what_matters_first() {
    insta::assert_snapshot!(output::text(&example(), Style::default()));
}

#[test]
fn text_leaves_nothing_out_when_asked() {
    insta::assert_snapshot!(output::text(&example(), Style { all: true, ..Style::default() }));
}

#[test]
fn markdown_folds_the_details() {
    insta::assert_snapshot!(output::markdown(&example()));
}

#[test]
fn json_says_all_of_it() {
    insta::assert_snapshot!(output::json(&example()));
}

#[test]
fn colours_are_only_added() {
    let plain = output::text(&example(), Style::default());
    let mut colored = output::text(&example(), Style { color: true, ..Style::default() });
    assert_ne!(plain, colored);
    while let Some(at) = colored.find("\x1b[") {
        let end = colored[at..].find('m').map(|e| at + e).unwrap();
        colored.replace_range(at..=end, "");
    }
    assert_eq!(plain, colored);
}

#[test]
fn a_comment_is_never_too_long() {
    let many = |v: &str| -> String {
        (0..900)
            .map(|i| {
                format!(
                    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}, namespace: a}}\ndata: {{k: '{}'}}\n",
                    v.repeat(60)
                )
            })
            .collect()
    };
    let found = diff(&Tree::app(&many("x")), &Tree::app(&many("yé")));
    let comment = output::markdown(&found);
    assert!(comment.chars().count() <= 65_536, "{}", comment.chars().count());
    assert!(comment.contains("a comment holds no more"));
    assert_eq!(comment.matches("```").count() % 2, 0, "every block is closed");
}

const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`|@everyone";

fn hostile() -> Diff {
    let value = druse_object::Value::from(HOSTILE);
    let text = druse_object::json::to_string(&value);
    let map = |v: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: a, annotations: {{{text}: {v}}}}}\ndata: {{{text}: {v}, list: [{v}]}}\n"
        )
    };
    let added =
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: d, namespace: a}}\ndata: {{k: {text}}}\n");
    diff(&Tree::app(&map("old")), &Tree::app(&(map(&text) + &added)))
}

#[test]
fn a_page_runs_nothing_from_the_objects_it_shows() {
    let page = output::html(&hostile());
    assert_eq!(page.matches("<script>").count(), 1, "only its own");
    assert!(!page.contains("<img") && !page.contains("onerror=alert(2)>"));
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
    // The policy names the digest of the one script and the one style sheet, which are there as they were hashed.
    let between = |from: &str, to: &str| page.split(from).nth(1).unwrap().split(to).next().unwrap().to_string();
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = |text: &str| base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text.as_bytes()));
    assert!(page.contains(&format!("script-src 'sha256-{}'", digest(&between("<script>", "</script>")))));
    assert!(page.contains(&format!("style-src 'sha256-{}'", digest(&between("<style>", "</style>")))));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains(" style="), "nothing is fetched");
}

#[test]
fn a_terminal_gets_no_commands_from_the_objects_it_shows() {
    let map = |v: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: a}}\ndata: {{k: \"{v}\"}}\n")
    };
    let hostile = r"\x1b[2J\x1b]0;title\x07 \uf8ff[8m\u202e gone";
    let found = diff(&Tree::app(&map("old")), &Tree::app(&map(hostile)));
    for color in [false, true] {
        let shown = output::text(&found, Style { color, ..Style::default() });
        assert!(shown.contains("title"), "{shown}");
        assert!(!shown.contains("\x1b[2J") && !shown.contains("\x1b]") && !shown.contains("\x1b[8m"), "{shown:?}");
        assert!(!shown.contains('\u{202e}') && (color || !shown.contains('\x1b')), "{shown:?}");
    }
}

#[test]
fn every_kind_of_danger_can_be_explained() {
    let list = output::list(Style::default());
    assert!(list.lines().count() > 50 && list.contains("pvc-removed"));
    assert!(output::explain("pvc-removed", Style::default()).is_some_and(|t| t.contains("do: Keep the claim")));
    assert_eq!(output::explain("none", Style::default()), None);
}

#[test]
fn markdown_runs_and_mentions_nothing_either() {
    let comment = output::markdown(&hostile());
    let outside: String = comment.split("```").step_by(2).collect();
    assert!(!outside.contains("<script") && !outside.contains("<img") && !outside.contains("@everyone"), "{outside}");
}

#[test]
fn a_page_has_each_anchor_once() {
    let page = output::html(&example());
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
    let many = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), many);
    for target in page.split("href=\"#").skip(1).filter_map(|s| s.split('"').next()) {
        assert!(ids.contains(&target), "#{target} leads nowhere");
    }
}
