//! Each danger is found where it is planted, and not where something only looks like it.

mod common;

use common::{Tree, dangers, diff, of, release, unit};
use druse_diff::model::Severity;

/// Dangers of one object that becomes another, without those that say which version it is.
fn between(base: &str, head: &str) -> Vec<String> {
    dangers(&diff(&Tree::app(base), &Tree::app(head)))
}

fn codes(base: &str, head: &str) -> Vec<&'static str> {
    diff(&Tree::app(base), &Tree::app(head)).dangers.iter().map(|d| d.code).collect()
}

const KEPT: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, namespace: a}\n";

fn pvc(size: &str, more: &str) -> String {
    format!(
        "{KEPT}---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data, namespace: a{more}}}\nspec: {{storageClassName: fast, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}}}\n"
    )
}

#[test]
fn a_claim_that_goes_takes_its_data_along() {
    let found = diff(&Tree::app(&pvc("5Gi", "")), &Tree::app(KEPT));
    let danger = of(&found, "pvc-removed")[0];
    assert_eq!(danger.severity, Severity::Danger);
    assert_eq!(
        danger.title,
        "claim data (5Gi) is deleted: Kustomization/flux-system/app prunes what it no longer renders"
    );
    assert_eq!(danger.object.as_deref(), Some("PersistentVolumeClaim/a/data"));
    assert_eq!((danger.place.file.as_str(), danger.place.line), ("app/all.yaml", 6));
    assert!(!danger.why.is_empty() && !danger.remedy.is_empty());
    assert_eq!(of(&found, "pruned")[0].title, "1 object will be deleted: PersistentVolumeClaim/a/data");
}

#[test]
fn what_is_protected_or_not_pruned_stays() {
    let protected = pvc("5Gi", ", annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}");
    assert_eq!(
        between(&protected, KEPT),
        ["orphaned notice: 1 object will be left behind: PersistentVolumeClaim/a/data"]
    );
    let no_prune = unit("app", "").replace("prune: true", "prune: false");
    let base = Tree::app(&pvc("5Gi", "")).file("cluster/units.yaml", &no_prune);
    let head = Tree::app(KEPT).file("cluster/units.yaml", &no_prune);
    assert_eq!(
        dangers(&diff(&base, &head)),
        ["orphaned notice: 1 object will be left behind: PersistentVolumeClaim/a/data"]
    );
}

#[test]
fn an_application_that_no_longer_finds_its_data_is_told_of() {
    let app = |mounts: &str, volume: &str| {
        format!(
            "{KEPT}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: a}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers: [{{name: web, image: web:1.0.0, volumeMounts: [{mounts}]}}]\n      volumes: [{{name: data, {volume}}}]\n"
        )
    };
    let claim = "persistentVolumeClaim: {claimName: data}";
    let before = app("{name: data, mountPath: /data}", claim);
    assert_eq!(
        between(&before, &app("{name: data, mountPath: /srv}", claim)),
        ["volume-unmounted warning: claim data moves from /data to /srv"]
    );
    assert_eq!(
        between(&before, &app("{name: data, mountPath: /data}", "emptyDir: {}")),
        ["volume-unmounted warning: claim data is not mounted any more"]
    );
    let more = app("{name: data, mountPath: /data/}, {name: data, mountPath: /srv}", claim);
    assert_eq!(between(&before, &more), Vec::<String>::new());
}

#[test]
fn fewer_copies_and_backups_are_told_of() {
    let pool = |size: u32| {
        format!(
            "{KEPT}---\napiVersion: ceph.rook.io/v1\nkind: CephBlockPool\nmetadata: {{name: p, namespace: a}}\nspec: {{replicated: {{size: {size}}}}}\n"
        )
    };
    assert_eq!(between(&pool(3), &pool(2)), ["copies-dropped warning: spec.replicated.size drops from 3 to 2"]);
    assert_eq!(between(&pool(2), &pool(3)), Vec::<String>::new());
    let backup = |daily: u32, more: &str| {
        format!(
            "{KEPT}---\napiVersion: volsync.backube/v1alpha1\nkind: ReplicationSource\nmetadata: {{name: b, namespace: a}}\nspec: {{sourcePVC: data, restic: {{retain: {{daily: {daily}}}}}{more}}}\n"
        )
    };
    assert_eq!(
        between(&backup(7, ""), &backup(1, "")),
        ["backup-weakened warning: spec.restic.retain.daily drops from 7 to 1"]
    );
    assert_eq!(between(&backup(7, ""), &backup(7, ", paused: true")), ["backup-weakened warning: backup b is paused"]);
    assert_eq!(between(&backup(7, ""), &backup(14, "")), Vec::<String>::new());
}

#[test]
fn claims_do_not_shrink_or_change_their_class() {
    assert_eq!(between(&pvc("5Gi", ""), &pvc("4Gi", "")), ["pvc-shrunk danger: claim shrinks from 5Gi to 4Gi"]);
    assert_eq!(between(&pvc("5Gi", ""), &pvc("5120Mi", "")), Vec::<String>::new());
    assert_eq!(between(&pvc("5Gi", ""), &pvc("6Gi", "")), Vec::<String>::new());
    assert_eq!(
        between(&pvc("5Gi", ""), &pvc("5Gi", "").replace("fast", "slow")),
        ["storage-class-changed danger: claim changes from class \"fast\" to class \"slow\""]
    );
    let unset = pvc("5Gi", "").replace("storageClassName: fast, ", "");
    assert_eq!(
        between(&unset, &pvc("5Gi", "")),
        ["storage-class-changed warning: claim changes from the default class to class \"fast\""]
    );
    assert_eq!(codes(&pvc("5Gi", ""), &pvc("5Gi", "").replace("ReadWriteOnce", "ReadWriteMany")), ["immutable-field"]);
}

fn stateful_set(size: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db, namespace: a}}\nspec:\n  serviceName: db\n  replicas: 2\n  selector: {{matchLabels: {{app: db}}}}\n{more}  template: {{metadata: {{labels: {{app: db}}}}, spec: {{containers: [{{name: db, image: {image}}}]}}}}\n  volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}}}}}]\n"
    )
}

#[test]
fn a_stateful_set_keeps_its_claim_templates() {
    let base = stateful_set("1Gi", "postgres:16", "");
    assert_eq!(
        between(&base, &stateful_set("2Gi", "postgres:16", "")),
        ["claim-templates-changed danger: volumeClaimTemplates change: [data].spec.resources.requests.storage"]
    );
    assert_eq!(codes(&base, &stateful_set("1Gi", "postgres:16.1", "")), Vec::<&str>::new());
    let deletes = "  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}\n";
    assert_eq!(codes(&base, &stateful_set("1Gi", "postgres:16", deletes)), ["claims-deleted-with-set"]);
    assert_eq!(codes(&base, &base.replace("serviceName: db", "serviceName: other")), ["immutable-field"]);
    assert_eq!(
        codes(&format!("{KEPT}---\n{}", stateful_set("1Gi", "postgres:16", deletes)), KEPT),
        ["claims-deleted-with-set", "pruned"]
    );
}

#[test]
fn volumes_classes_and_namespaces_hold_data_too() {
    let pv = |policy: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: v}}\nspec: {{persistentVolumeReclaimPolicy: {policy}, capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], nfs: {{server: nas, path: /x}}}}\n"
        )
    };
    assert_eq!(codes(&pv("Retain"), &pv("Delete")), ["reclaim-delete"]);
    assert_eq!(codes(&pv("Delete"), &pv("Retain")), Vec::<&str>::new());
    assert_eq!(codes(&pv("Retain"), &pv("Retain").replace("nas", "other")), ["immutable-field"]);
    let ns = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: gone}\n";
    assert_eq!(codes(&format!("{KEPT}{ns}"), KEPT), ["namespace-removed", "pruned"]);
    let class = "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: c}\nprovisioner: x\n";
    assert_eq!(codes(&format!("{KEPT}{class}"), KEPT), ["storage-class-removed", "pruned"]);
    let retain = format!("{class}reclaimPolicy: Retain\n");
    assert_eq!(codes(&retain, class), ["reclaim-delete", "immutable-field"]);
    assert_eq!(codes(class, &format!("{class}reclaimPolicy: Delete\n")), Vec::<&str>::new());
}

#[test]
fn what_operators_keep_data_for_counts_as_data() {
    let of_kind = |api: &str, kind: &str| {
        format!("{KEPT}---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: x, namespace: a}}\nspec: {{}}\n")
    };
    assert_eq!(codes(&of_kind("postgresql.cnpg.io/v1", "Cluster"), KEPT), ["data-removed", "pruned"]);
    assert_eq!(codes(&of_kind("ceph.rook.io/v1", "CephBlockPool"), KEPT), ["data-removed", "pruned"]);
    assert_eq!(codes(&of_kind("volsync.backube/v1alpha1", "ReplicationSource"), KEPT), ["backup-removed", "pruned"]);
    // Another group's Cluster is not a database.
    assert_eq!(codes(&of_kind("example.org/v1", "Cluster"), KEPT), ["pruned"]);
}

fn deployment(spec: &str, pod: &str, container: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: a}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n{spec}  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n{pod}      containers:\n      - name: web\n        image: nginx:1.27\n{container}"
    )
}

#[test]
fn selectors_of_workloads_cannot_change() {
    let base = deployment("", "", "");
    assert_eq!(
        between(&base, &base.replace("app: web", "app: site")),
        ["immutable-field danger: spec.selector changes (matchLabels.app from web to site), which is refused"]
    );
    let forced =
        base.replace("namespace: a}", "namespace: a, annotations: {kustomize.toolkit.fluxcd.io/force: enabled}}");
    assert_eq!(codes(&base, &forced.replace("app: web", "app: site")), ["recreated-by-force"]);
}

#[test]
fn other_fields_that_cannot_change() {
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: a}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: one}\nsubjects: []\n";
    assert_eq!(codes(binding, &binding.replace("name: one", "name: two")), ["immutable-field"]);
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: a}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: j, image: 'x:1.0.0'}]}}}\n";
    assert_eq!(codes(job, &job.replace("1.0.0", "1.0.1")), ["immutable-field"]);
    assert_eq!(
        codes(job, &job.replace("spec: {template", "spec: {ttlSecondsAfterFinished: 60, template")),
        Vec::<&str>::new()
    );
    let fixed = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: a}\nimmutable: true\ndata: {k: v}\n";
    assert_eq!(codes(fixed, &fixed.replace("k: v", "k: w")), ["immutable-field"]);
    assert_eq!(codes(&fixed.replace("true", "false"), &fixed.replace("k: v", "k: w")), Vec::<&str>::new());
    let service = |ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: a}}\nspec: {{{ip}ports: [{{port: 80}}]}}\n"
        )
    };
    assert_eq!(codes(&service("clusterIP: 10.0.0.1, "), &service("clusterIP: 10.0.0.2, ")), ["immutable-field"]);
    assert_eq!(codes(&service(""), &service("clusterIP: None, ")), ["immutable-field"]);
    assert_eq!(codes(&service("clusterIP: 10.0.0.1, "), &service("")), Vec::<&str>::new());
}

fn crd(versions: &str) -> String {
    format!(
        "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: widgets.example.org}}\nspec: {{group: example.org, scope: Namespaced, names: {{kind: Widget, plural: widgets}}, versions: {versions}}}\n"
    )
}

const V1: &str = "{name: v1, served: true, storage: true}";
const V1BETA1: &str = "{name: v1beta1, served: true}";

#[test]
fn definitions_take_their_objects_along() {
    let widget = "---\napiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w, namespace: a}\n";
    let base = format!("{KEPT}{}{widget}", crd(&format!("[{V1}]")));
    assert_eq!(
        between(&base, &format!("{KEPT}{widget}"))[0],
        "crd-removed danger: widgets.example.org is deleted, with all its objects: 1 in this tree, Widget/a/w"
    );
    let two = format!("{KEPT}{}{widget}", crd(&format!("[{V1BETA1}, {V1}]")));
    assert_eq!(between(&two, &base), ["crd-version-removed warning: widgets.example.org no longer serves v1beta1"]);
    let used = two.replace("example.org/v1\nkind: Widget", "example.org/v1beta1\nkind: Widget");
    let not_served = used.replace("name: v1beta1, served: true", "name: v1beta1, served: false");
    assert_eq!(
        between(&used, &not_served),
        [
            "crd-version-removed danger: widgets.example.org no longer serves v1beta1, which 1 objects of this tree use: Widget/a/w"
        ]
    );
    assert_eq!(codes(&base, &two), Vec::<&str>::new());
}

fn chart_tree(version: &str, crd_text: &str, template: &str, more: &str) -> Tree {
    Tree::default()
        .file("cluster/sync.yaml", common::SYNC)
        .file("cluster/release.yaml", &release("app", more))
        .file(
            "charts/app/Chart.yaml",
            &format!("apiVersion: v2\nname: app\nversion: {version}\nappVersion: \"{version}\"\n"),
        )
        .file("charts/app/crds/crd.yaml", crd_text)
        .file("charts/app/templates/all.yaml", template)
}

#[test]
fn helm_leaves_the_crds_folder_alone() {
    let base = chart_tree("1.0.0", &crd(&format!("[{V1BETA1}, {V1}]")), KEPT, "");
    let head = chart_tree("1.0.1", &crd(&format!("[{V1}]")), KEPT, "");
    assert_eq!(
        dangers(&diff(&base, &head)),
        ["crds-not-upgraded warning: 1 of the chart's CRDs changed and will not be upgraded: widgets.example.org"]
    );
    let replace = "  upgrade: {crds: CreateReplace}\n";
    let upgraded = chart_tree("1.0.1", &crd(&format!("[{V1}]")), KEPT, replace);
    let base = chart_tree("1.0.0", &crd(&format!("[{V1BETA1}, {V1}]")), KEPT, replace);
    assert_eq!(of(&diff(&base, &upgraded), "crd-version-removed").len(), 1);
    let gone = chart_tree("1.0.1", &crd(&format!("[{V1}]")), KEPT, "").without("charts/app/crds/crd.yaml");
    assert!(of(&diff(&base, &gone), "crd-removed").is_empty());
}

fn role(rules: &str) -> String {
    format!(
        "{KEPT}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: r}}\nrules: {rules}\n"
    )
}

const READ_PODS: &str = "{apiGroups: [''], resources: [pods], verbs: [get, list]}";

#[test]
fn permissions_that_grow_are_told_and_those_that_shrink_are_not() {
    let base = role(&format!("[{READ_PODS}]"));
    let with = |rule: &str| role(&format!("[{READ_PODS}, {rule}]"));
    assert_eq!(
        between(&base, &role("[{apiGroups: [''], resources: [pods], verbs: [get, list, watch]}]")),
        ["rbac-widened warning: ClusterRole r may also watch pods"]
    );
    assert_eq!(
        between(&base, &with("{apiGroups: ['*'], resources: ['*'], verbs: ['*']}")),
        ["rbac-full-control danger: ClusterRole r may * *.*"]
    );
    assert_eq!(codes(&base, &with("{apiGroups: [''], resources: [secrets], verbs: [list]}")), ["rbac-full-control"]);
    assert_eq!(
        codes(&base, &with("{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [escalate]}")),
        ["rbac-full-control"]
    );
    // One secret by name is not all of them.
    assert_eq!(
        codes(&base, &with("{apiGroups: [''], resources: [secrets], resourceNames: [one], verbs: [get]}")),
        ["rbac-widened"]
    );
    assert_eq!(codes(&with("{apiGroups: [''], resources: [nodes], verbs: [get]}"), &base), Vec::<&str>::new());
    // The same permissions written another way.
    let split = role(
        "[{apiGroups: [''], resources: [pods], verbs: [list]}, {apiGroups: [''], resources: [pods], verbs: [get]}]",
    );
    assert_eq!(codes(&base, &split), Vec::<&str>::new());
    let all = role("[{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]");
    assert_eq!(codes(&all, &base), Vec::<&str>::new());
}

#[test]
fn who_holds_a_role_is_told() {
    let binding = |role: &str, subjects: &str| {
        format!(
            "{KEPT}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: b}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\nsubjects: {subjects}\n"
        )
    };
    let one = "{kind: ServiceAccount, name: one, namespace: a}";
    let two = "{kind: ServiceAccount, name: two, namespace: a}";
    assert_eq!(
        between(&binding("view", &format!("[{one}]")), &binding("view", &format!("[{one}, {two}]"))),
        ["binding-widened warning: ServiceAccount a/two holds view too"]
    );
    assert_eq!(codes(KEPT, &binding("cluster-admin", &format!("[{one}]"))), ["rbac-full-control"]);
    assert_eq!(codes(KEPT, &binding("view", &format!("[{one}]"))), Vec::<&str>::new());
    assert_eq!(
        codes(
            KEPT,
            &binding("view", "[{kind: Group, name: 'system:unauthenticated', apiGroup: rbac.authorization.k8s.io}]")
        ),
        ["rbac-full-control"]
    );
    assert_eq!(
        codes(&binding("view", &format!("[{one}, {two}]")), &binding("view", &format!("[{two}]"))),
        Vec::<&str>::new()
    );
}

#[test]
fn power_over_the_node_is_told() {
    let base = deployment("", "", "");
    let context = |text: &str| deployment("", "", &format!("        securityContext: {text}\n"));
    assert_eq!(
        between(&base, &context("{privileged: true}")),
        ["privileged danger: Deployment web: container web is privileged"]
    );
    assert_eq!(codes(&base, &deployment("", "      hostNetwork: true\n", "")), ["host-namespaces"]);
    assert_eq!(codes(&base, &deployment("", "      volumes: [{name: h, hostPath: {path: /}}]\n", "")), ["host-path"]);
    assert_eq!(codes(&base, &context("{capabilities: {add: [NET_ADMIN]}}")), ["capability-added"]);
    assert_eq!(codes(&base, &context("{runAsUser: 0}")), ["runs-as-root"]);
    assert_eq!(codes(&base, &context("{seccompProfile: {type: Unconfined}}")), ["unconfined"]);
    assert_eq!(
        codes(&base, &deployment("", "", "        ports: [{containerPort: 80, hostPort: 80}]\n")),
        ["host-port"]
    );
    let strict = context("{runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}");
    assert_eq!(codes(&strict, &base), ["capability-added", "privilege-escalation", "runs-as-root"]);
    // Less power is no danger, and neither is what was there before.
    assert_eq!(codes(&base, &strict), Vec::<&str>::new());
    assert_eq!(codes(&context("{privileged: true}"), &base), Vec::<&str>::new());
    assert_eq!(codes(&context("{runAsUser: 0}"), &base), Vec::<&str>::new());
    let second = format!("{base}      - name: side\n        image: busybox:1\n");
    assert_eq!(codes(&base, &second), Vec::<&str>::new());
    let new = format!("{KEPT}---\n{}", context("{privileged: true}"));
    assert_eq!(between(KEPT, &new), ["privileged warning: Deployment web: container web is privileged"]);
}

#[test]
fn namespaces_keep_their_pod_security() {
    let ns = |level: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: n, labels: {{pod-security.kubernetes.io/enforce: {level}}}}}\n"
        )
    };
    assert_eq!(codes(&ns("restricted"), &ns("baseline")), ["pod-security-loosened"]);
    assert_eq!(codes(&ns("baseline"), &ns("restricted")), Vec::<&str>::new());
    assert_eq!(
        codes(&ns("baseline"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"),
        ["pod-security-loosened"]
    );
}

#[test]
fn who_can_reach_it_is_told() {
    let service = |spec: &str| {
        format!(
            "{KEPT}---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: a}}\nspec: {{selector: {{app: web}}, ports: [{{port: 80}}]{spec}}}\n"
        )
    };
    assert_eq!(
        between(&service(""), &service(", type: LoadBalancer")),
        ["service-exposed warning: type changes from ClusterIP to LoadBalancer"]
    );
    assert_eq!(codes(&service(", type: LoadBalancer"), &service("")), Vec::<&str>::new());
    assert_eq!(codes(KEPT, &service(", type: LoadBalancer")), ["load-balancer-added"]);
    let ranges = |r: &str| service(&format!(", type: LoadBalancer, loadBalancerSourceRanges: [{r}]"));
    assert_eq!(codes(&ranges("10.0.0.0/8"), &service(", type: LoadBalancer")), ["service-exposed"]);
    assert_eq!(codes(&ranges("10.0.0.0/8, 192.168.0.0/16"), &ranges("10.0.0.0/8")), Vec::<&str>::new());
    assert_eq!(codes(&service(""), &service("").replace("app: web", "app: other")), ["selector-changed"]);
    let ingress = |host: &str, class: &str, more: &str| {
        format!(
            "{KEPT}---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i, namespace: a{more}}}\nspec: {{ingressClassName: {class}, rules: [{{host: {host}}}], tls: [{{hosts: [{host}]}}]}}\n"
        )
    };
    let base = ingress("a.example.org", "internal", "");
    assert_eq!(
        between(&base, &ingress("b.example.org", "internal", "")),
        ["host-added notice: new host b.example.org, by class internal"]
    );
    assert_eq!(
        between(&base, &ingress("a.example.org", "external", "")),
        ["route-moved warning: served by class external (was class internal)"]
    );
    assert_eq!(codes(&base, &base.replace(", tls: [{hosts: [a.example.org]}]", "")), ["tls-removed"]);
    let guarded =
        ingress("a.example.org", "internal", ", annotations: {nginx.ingress.kubernetes.io/auth-url: 'https://login'}");
    assert_eq!(codes(&guarded, &base), ["auth-removed"]);
    assert_eq!(codes(&base, &guarded), Vec::<&str>::new());
    let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: a}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    assert_eq!(codes(&format!("{KEPT}{policy}"), KEPT), ["pruned", "network-policy-removed"]);
}

#[test]
fn less_that_serves_is_told() {
    let replicas = |n: &str| deployment(&format!("  replicas: {n}\n"), "", "");
    assert_eq!(between(&replicas("3"), &replicas("0")), ["scaled-to-zero warning: replicas drops from 3 to 0"]);
    assert_eq!(codes(&replicas("2"), &deployment("", "", "")), ["ha-lost"]);
    assert_eq!(codes(&replicas("5"), &replicas("3")), ["replicas-dropped"]);
    assert_eq!(codes(&replicas("1"), &replicas("3")), Vec::<&str>::new());
    let hpa = "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: h, namespace: a}\nspec: {scaleTargetRef: {kind: Deployment, name: web}, maxReplicas: 5}\n";
    assert_eq!(codes(&replicas("2"), &format!("{}{hpa}", deployment("", "", ""))), Vec::<&str>::new());
    let pdb = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: p, namespace: a}\nspec: {minAvailable: 1}\n";
    assert_eq!(codes(&format!("{KEPT}{pdb}"), KEPT), ["pruned", "pdb-removed"]);
    let cron = |suspend: bool| {
        format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c, namespace: a}}\nspec: {{schedule: '@daily', suspend: {suspend}, jobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: c, image: 'x:1'}}]}}}}}}}}}}\n"
        )
    };
    assert_eq!(codes(&cron(false), &cron(true)), ["cron-suspended"]);
    let hook = |policy: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {{name: w}}\nwebhooks: [{{name: a.example.org{policy}}}]\n"
        )
    };
    assert_eq!(codes(&hook(", failurePolicy: Ignore"), &hook("")), ["webhook-fails-closed"]);
    assert_eq!(codes(&hook(""), &hook(", failurePolicy: Fail")), Vec::<&str>::new());
}

#[test]
fn a_suspended_unit_loses_no_objects() {
    let base = Tree::app(&pvc("5Gi", ""));
    let head = Tree::app(&pvc("5Gi", "")).file("cluster/units.yaml", &unit("app", "  suspend: true\n"));
    let found = diff(&base, &head);
    assert_eq!(dangers(&found), ["suspended warning: Kustomization/flux-system/app is suspended"]);
    let app = common::unit_change(&found, "Kustomization/flux-system/app");
    assert!(app.objects.is_empty());
    assert_eq!(app.not_compared.as_deref(), Some("suspended in head"));
}

#[test]
fn versions_that_go_back_are_told() {
    let image = |tag: &str| deployment("", "", "").replace("nginx:1.27", &format!("nginx:{tag}"));
    assert_eq!(
        between(&image("1.27.1"), &image("1.26.0")),
        ["image-downgrade warning: image nginx 1.27.1 → 1.26.0 in Deployment/a/web"]
    );
    assert_eq!(codes(&image("1.27.1"), &image("2.0.0")), ["image-major"]);
    assert_eq!(codes(&image("1.27.1"), &image("1.28.0")), Vec::<&str>::new());
    assert_eq!(codes(&image("1.27.1@sha256:aa"), &image("1.27.1")), ["digest-removed"]);
    let old = chart_tree("2.0.0", "", KEPT, "");
    let new = chart_tree("1.9.0", "", KEPT, "");
    assert_eq!(
        dangers(&diff(&old, &new)),
        ["chart-downgrade warning: chart app 2.0.0 → 1.9.0 (application 2.0.0 → 1.9.0)"]
    );
    assert_eq!(dangers(&diff(&new, &old)), ["chart-major notice: chart app 1.9.0 → 2.0.0 (application 1.9.0 → 2.0.0)"]);
}

#[test]
fn protections_that_go_are_told() {
    let protected = pvc("5Gi", ", annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}");
    assert_eq!(codes(&protected, &pvc("5Gi", "")), ["protection-removed"]);
    assert_eq!(codes(&pvc("5Gi", ""), &protected), Vec::<&str>::new());
    // Helm's annotation says nothing to a Kustomization.
    assert_eq!(
        codes(&pvc("5Gi", ", annotations: {helm.sh/resource-policy: keep}"), &pvc("5Gi", "")),
        Vec::<&str>::new()
    );
    let finalizer = pvc("5Gi", ", finalizers: [example.org/keep]");
    assert_eq!(codes(&finalizer, &pvc("5Gi", "")), ["protection-removed"]);
    let base = Tree::app(KEPT).file("cluster/units.yaml", &unit("app", "").replace("prune: true", "prune: false"));
    assert_eq!(
        dangers(&diff(&base, &Tree::app(KEPT)))[0],
        "prune-enabled notice: Kustomization/flux-system/app prunes from now on"
    );
    let forced = Tree::app(KEPT).file("cluster/units.yaml", &unit("app", "  force: true\n"));
    assert_eq!(of(&diff(&Tree::app(KEPT), &forced), "force-enabled").len(), 1);
}

#[test]
fn a_secret_that_is_not_encrypted_any_more_is_told_without_its_value() {
    let encrypted = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\nstringData: {password: 'ENC[AES256_GCM,data:abc=,iv:x,tag:y,type:str]'}\nsops: {mac: 'ENC[AES256_GCM,data:m=,iv:x,tag:y,type:str]'}\n";
    let plain =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\nstringData: {password: hunter2-hunter2}\n";
    let found = diff(&Tree::app(encrypted), &Tree::app(plain));
    assert_eq!(of(&found, "secret-plaintext").len(), 1);
    for text in
        [druse_diff::output::json(&found), druse_diff::output::html(&found), druse_diff::output::markdown(&found)]
    {
        assert!(!text.contains("hunter2"));
    }
    assert!(of(&diff(&Tree::app(plain), &Tree::app(encrypted)), "secret-plaintext").is_empty());
}

#[test]
fn a_unit_that_goes_says_what_becomes_of_its_objects() {
    let base = Tree::app(&pvc("5Gi", ""));
    let gone = base.clone().without("cluster/units.yaml");
    let found = diff(&base, &gone);
    assert_eq!(
        of(&found, "unit-removed")[0].title,
        "Kustomization/flux-system/app is removed: its 2 objects are deleted: Kustomization/flux-system/cluster prunes Kustomization/flux-system/app, and its finalizer deletes all it applied"
    );
    assert_eq!(of(&found, "pvc-removed").len(), 1);
    let orphan = base.clone().file("cluster/units.yaml", &unit("app", "  deletionPolicy: Orphan\n"));
    let found = diff(&orphan, &gone);
    assert!(of(&found, "pvc-removed").is_empty() && of(&found, "unit-removed").is_empty());
    assert_eq!(of(&found, "orphaned").len(), 1, "{:?}", dangers(&found));
}

#[test]
fn a_unit_under_another_name_is_another_unit() {
    let base = Tree::app(&pvc("5Gi", ""));
    let moved = base.clone().file("cluster/units.yaml", &unit("app", "").replace("name: app,", "name: other,"));
    let found = diff(&base, &moved);
    let danger = of(&found, "unit-moved")[0];
    assert_eq!(danger.severity, Severity::Danger);
    assert!(
        danger.title.starts_with(
            "Kustomization/flux-system/app becomes Kustomization/flux-system/other: its 2 objects are deleted"
        ),
        "{}",
        danger.title
    );
    assert_eq!(of(&found, "objects-change-unit")[0].severity, Severity::Danger);
    // With its objects left behind, that is how to move a unit.
    let orphan = base.clone().file("cluster/units.yaml", &unit("app", "  deletionPolicy: Orphan\n"));
    assert_eq!(of(&diff(&orphan, &moved), "unit-moved")[0].severity, Severity::Notice);
    let no_prune =
        |tree: &Tree| tree.clone().file("cluster/sync.yaml", &common::SYNC.replace("prune: true", "prune: false"));
    let both =
        of(&diff(&no_prune(&base), &no_prune(&moved)), "unit-moved").first().map(|d| (d.severity, d.why.clone()));
    assert!(both.is_some_and(|(s, why)| s == Severity::Warning && why.contains("goes on applying")));
    // The claim itself is not reported as removed: head has it.
    assert!(of(&found, "pvc-removed").is_empty());
    let other = common::unit_change(&found, "Kustomization/flux-system/other");
    assert_eq!(other.objects[0].moved_from.as_deref(), Some("Kustomization/flux-system/app"));
    assert!(other.objects.iter().all(|o| o.fields.iter().all(|f| f.mechanical.is_some())), "{:?}", other.objects);
}

#[test]
fn a_release_with_another_name_or_namespace_is_another_release() {
    let base = chart_tree("1.0.0", "", KEPT, "");
    let head = chart_tree("1.0.0", "", KEPT, "  releaseName: other\n");
    assert_eq!(of(&diff(&base, &head), "release-moved")[0].title, "the release is another one: name app becomes other");
    let same = chart_tree("1.0.0", "", KEPT, "  releaseName: app\n");
    assert!(of(&diff(&base, &same), "release-moved").is_empty());
}

#[test]
fn an_object_does_not_move_to_another_namespace() {
    let found =
        between(&pvc("5Gi", ""), &pvc("5Gi", "").replace("name: data, namespace: a", "name: data, namespace: b"));
    assert!(
        found
            .contains(&"object-moves-namespace warning: PersistentVolumeClaim moves from namespace a to b".to_string()),
        "{found:?}"
    );
    assert!(found[0].starts_with("pvc-removed"));
}
