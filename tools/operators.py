#!/usr/bin/env python3
"""Runs real operators, built from their own sources and unmodified, against `druse api`, and says whether they work.

  tools/operators.py [--druse FILE] [--work DIR] [--only flux,kyverno,...] [--no-build] [--keep]

Each group gets an empty API of its own and is installed by its own manifests. The programs of its Deployments run on
this host with the arguments and the environment that the Deployments declare; what cannot hold outside a cluster is
overridden below and nowhere else. Their Services lead to this host by an EndpointSlice, so that the API calls their
webhooks. Then each step of the group is waited for: what the operator must make of an object within two minutes.

Needs Go (a toolchain from the Python package index is used where the machine's is too old), git and kubectl. Sources
come through Go's module proxy or from GitHub; a mirror of GitHub is named as git names one (url.BASE.insteadOf). Sources,
programs and logs stay in DIR (target/operators by default). Prints a table; exits with 1 when a step fails.
"""
import argparse
import base64
import http.server
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import kube

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 120
FLUX = "github.com/fluxcd"


# --- sources and programs -----------------------------------------------------------------------------------------

class Source:
    """A Go module's tree: by the module proxy, or by git where the module is not what holds the programs."""

    def __init__(self, name, path, version, programs, git=False, release=""):
        self.name, self.path, self.version, self.programs = name, path, version, programs
        self.git, self.release = git, release

    def folder(self, work):
        return os.path.join(work, "src", f"{self.name}-{self.version}")

    def fetch(self, work, go):
        folder = self.folder(work)
        if os.path.isdir(folder):
            return folder
        part = folder + ".part"
        shutil.rmtree(part, ignore_errors=True)
        if self.git:
            url = f"https://{self.path}"
            sh(["git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth", "1", "--branch", self.version, url, part])
            shutil.rmtree(os.path.join(part, ".git"))
        else:
            said = json.loads(go(["mod", "download", "-json", f"{self.path}@{self.version}"], work))
            shutil.copytree(said["Dir"], part)
            sh(["chmod", "-R", "u+w", part])
        os.rename(part, folder)
        return folder

    def build(self, work, go, replaced):
        folder = self.fetch(work, go)
        for program, package in self.programs.items():
            out = os.path.join(work, "bin", program)
            if os.access(out, os.X_OK):
                continue
            module, package = package if isinstance(package, tuple) else ("", package)
            where = os.path.join(folder, module)
            # A module's archive leaves out the modules nested in it: those come by their own version.
            for nested in re.findall(r"^replace (\S+) => \./", read(os.path.join(where, "go.mod")), re.M):
                if not os.path.isdir(os.path.join(where, nested.rpartition("/")[2])):
                    go(["mod", "edit", f"-dropreplace={nested}"], where)
            for pair in replaced:
                go(["mod", "edit", f"-replace={pair}"], where)
            flags = f"-s -w {self.release}".strip()
            print(f"building {program} {self.version}", flush=True)
            go(["build", "-p", "1", "-mod=mod", f"-ldflags={flags}", "-o", out, package], where)


SOURCES = {
    s.name: s
    for s in [
        Source("source-controller", f"{FLUX}/source-controller", "v1.9.6", {"source-controller": "."}),
        Source("kustomize-controller", f"{FLUX}/kustomize-controller", "v1.9.6", {"kustomize-controller": "."}),
        Source("helm-controller", f"{FLUX}/helm-controller", "v1.6.3", {"helm-controller": "."}, git=True),
        Source(
            "kyverno", "github.com/kyverno/kyverno", "v1.19.1",
            {
                "kyverno-admission-controller": "./cmd/kyverno",
                "kyverno-background-controller": "./cmd/background-controller",
            },
        ),
        Source(
            "cert-manager", "github.com/cert-manager/cert-manager", "v1.21.1",
            {
                "cert-manager": ("cmd/controller", "."),
                "cert-manager-webhook": ("cmd/webhook", "."),
                "cert-manager-cainjector": ("cmd/cainjector", "."),
            },
            git=True,
        ),
        Source(
            "cloudnative-pg", "github.com/cloudnative-pg/cloudnative-pg", "v1.30.0",
            {"cnpg-controller-manager": "./cmd/manager"}, git=True,
            release="-X github.com/cloudnative-pg/cloudnative-pg/pkg/versions.buildVersion=1.30.0",
        ),
    ]
}


class Kubernetes:
    """Kubernetes' own controllers and scheduler, as tools/kube.py builds them."""

    PROGRAMS = ["kube-controller-manager", "kube-scheduler"]

    def build(self, work, _go, _replaced):
        for program in self.PROGRAMS:
            kube.kubernetes(pathlib.Path(work, "bin"), program)


SOURCES["kubernetes"] = Kubernetes()


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def sh(command, **more):
    return subprocess.run(command, check=True, **more)


def go_runner(work):
    """A function that runs Go, with a toolchain from the Python package index where the machine's is too old."""
    sys.path.insert(0, os.path.join(ROOT, "benches"))
    import compare  # shares the toolchain with the benches

    program, env = compare.go_environment()
    env = {**env, "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}

    def go(arguments, where):
        return sh([program, *arguments], cwd=where, env=env, stdout=subprocess.PIPE, text=True).stdout

    return go


# --- a running API and what runs against it -----------------------------------------------------------------------

class Failed(Exception):
    """A step that did not come true."""


def own_address():
    """An address of this host that Endpoints may hold: loopback may not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # sends nothing
        except OSError as e:
            sys.exit(f"operators.py: this host has no address besides loopback, webhooks cannot be reached: {e}")
        return s.getsockname()[0]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Lab:
    """One API, its kubeconfig, and the processes that use it."""

    def __init__(self, args, name):
        self.args, self.work = args, args.work
        self.folder = os.path.join(args.work, "run", name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.kubeconfig = os.path.join(self.folder, "kubeconfig")
        self.processes = {}
        self.start("api", [args.druse, "api", "--data", self.path("data"), "--listen", "127.0.0.1:0",
                           "--kubeconfig", self.kubeconfig, "--furnish"], {})
        self.until("the API answers", lambda: os.path.exists(self.kubeconfig) and self.kubectl("get", "--raw", "/readyz"))

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self, name, command, env):
        if not os.access(command[0], os.X_OK):
            raise Failed(f"{command[0]} is not there: build it first")
        log = open(self.path(name + ".log"), "wb")  # noqa: SIM115, lives as long as the process
        home = self.path("home", name)
        os.makedirs(home, exist_ok=True)
        env = {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": self.kubeconfig, "TMPDIR": home, **env}
        self.processes[name] = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT)

    def stop(self):
        for p in reversed(self.processes.values()):
            p.terminate()
        for p in self.processes.values():
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def kubectl(self, *arguments, given=None, check=True):
        env = {**os.environ, "KUBECONFIG": self.kubeconfig, "HOME": self.path("home")}
        done = subprocess.run([self.args.kubectl, *arguments], env=env, input=given, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise Failed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def config(self):
        return json.loads(self.kubectl("config", "view", "--raw", "-o", "json"))

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, text):
        return self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=text)

    def until(self, what, holds):
        """Waits until `holds` is true; a refusal meanwhile counts as not yet."""
        end = time.monotonic() + PATIENCE
        said = ""
        while time.monotonic() < end:
            for name, p in self.processes.items():
                if p.poll() is not None:
                    raise Failed(f"{what}: {name} ended with {p.returncode}, see {self.path(name + '.log')}")
            try:
                if holds():
                    return
            except Failed as e:
                said = f": {e}"
            time.sleep(0.25)
        raise Failed(f"not within {PATIENCE} s: {what}{said}")

    def condition(self, kind, namespace, name, condition="Ready"):
        """Whether an object's condition is true."""
        found = self.get(kind, "-n", namespace, name).get("status", {}).get("conditions", [])
        of = [c for c in found if c["type"] == condition]
        if of and of[0]["status"] != "True":
            raise Failed(f"{kind} {name}: {of[0].get('reason')}: {of[0].get('message')}")
        return bool(of)

    def lead_here(self, namespace, service, ports):
        """Makes a Service lead to this host: `ports` maps the names of its ports to ports of this host."""
        self.apply(json.dumps({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"{service}-host", "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": [own_address()], "conditions": {"ready": True}}],
            "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()],
        }))

    def mount(self, namespace, secret, folder):
        """Does a kubelet's part: lays the values of a Secret into a folder once it is there."""
        def lay():
            values = self.get("secret", secret, "-n", namespace).get("data", {})
            os.makedirs(folder, exist_ok=True)
            for name, value in values.items():
                with open(os.path.join(folder, name), "wb") as f:
                    f.write(base64.b64decode(value))
            return values

        try:
            self.until(f"the Secret {secret} is there", lay)
        except OSError as e:
            raise Failed(f"the Secret {secret} cannot be laid where its pod looks for it: {e}") from e

    def deployment(self, namespace, name, overrides=(), drop=(), env=None):
        """Runs the program of a Deployment as it declares: its arguments, its environment."""
        container = self.get("deployment", "-n", namespace, name)["spec"]["template"]["spec"]["containers"][0]
        fields = {"metadata.namespace": namespace, "metadata.name": f"{name}-host", "status.podIP": own_address()}
        declared = {}
        for e in container.get("env", []):
            field = e.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            declared[e["name"]] = fields[field] if field in fields else e.get("value", "")
        expand = lambda text: re.sub(r"\$\((\w+)\)", lambda m: declared.get(m[1], m[0]), text)  # noqa: E731
        arguments = [expand(a) for a in container.get("args", [])]
        arguments = [a for a in arguments if not any(a.lstrip("-").partition("=")[0] == d for d in drop)]
        self.start(name, [os.path.join(self.work, "bin", name), *arguments, *overrides], {**declared, **(env or {})})


# --- the groups -----------------------------------------------------------------------------------------------------

class GitServer:
    """Serves a folder of bare repositories over HTTP, by git's own backend."""

    def __init__(self, root):
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                env = {
                    **os.environ, "GIT_PROJECT_ROOT": root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                    "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                }
                out = sh(["git", "http-backend"], env=env, input=body, stdout=subprocess.PIPE).stdout
                head, _, rest = out.partition(b"\r\n\r\n")
                headers = [line.split(": ", 1) for line in head.decode().split("\r\n")]
                status = next((v for k, v in headers if k == "Status"), "200")
                self.send_response(int(status.split()[0]))
                for k, v in headers:
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n"
TREE = {
    "app/kustomization.yaml": "namespace: default\nresources: [one.yaml, two.yaml, web.yaml]\n",
    "app/one.yaml": CONFIG.format(name="one", value="1"),
    "app/two.yaml": CONFIG.format(name="two", value="1"),
    "app/web.yaml": """apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: example.org/web:1}]}
""",
    "chart/Chart.yaml": "apiVersion: v2\nname: hello\nversion: 0.1.0\n",
    "chart/values.yaml": "word: hello\n",
    "chart/templates/cm.yaml": CONFIG.format(name="{{{{ .Release.Name }}}}-words", value="{{{{ .Values.word }}}}").replace("{{{{", "{{").replace("}}}}", "}}"),
}
REPOSITORY = """
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: tree, namespace: flux-system}}
spec: {{interval: 1m, url: {url}/tree.git, ref: {{branch: main}}}}
"""
KUSTOMIZATION = """
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: flux-system}
spec: {interval: 10m, path: ./app, prune: true, sourceRef: {kind: GitRepository, name: tree}}
"""
RELEASE = """
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: hello, namespace: flux-system}
spec:
  interval: 10m
  targetNamespace: default
  values: {word: moin}
  chart: {spec: {chart: ./chart, sourceRef: {kind: GitRepository, name: tree}}}
"""


class Flux:
    """Flux's controllers over a Git repository of one tree."""

    def __init__(self, lab, names):
        self.lab, self.source = lab, lab.path("tree")
        for name, text in TREE.items():
            self.write(name, text)
        sh(["git", "init", "-q", "--bare", "-b", "main", lab.path("git", "tree.git")])
        self.git("init", "-q", "-b", "main")
        self.push("first")
        for name in names:
            lab.kubectl("apply", "--server-side", "-f", os.path.join(SOURCES[name].folder(lab.work), "config", "crd", "bases"))
        lab.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: flux-system}\n")
        artifacts = f"127.0.0.1:{free_port()}"
        for name in names:
            flags = ["--watch-all-namespaces", f"--metrics-addr=127.0.0.1:{free_port()}",
                     f"--health-addr=127.0.0.1:{free_port()}"]
            if name == "source-controller":
                flags += [f"--storage-path={lab.path('storage')}", f"--storage-addr={artifacts}", f"--storage-adv-addr={artifacts}"]
                os.makedirs(lab.path("storage"))
            lab.start(name, [os.path.join(lab.work, "bin", name), *flags], {"RUNTIME_NAMESPACE": "flux-system"})
        lab.apply(REPOSITORY.format(url=GitServer(lab.path("git")).url))

    def write(self, name, text):
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def git(self, *arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        sh(["git", "-C", self.source, *identity, *arguments], stdout=subprocess.DEVNULL)

    def push(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", self.lab.path("git", "tree.git"), "main")

    def ask(self, kind, name):
        """Asks for a reconciliation, as `flux reconcile` does."""
        self.lab.kubectl("annotate", kind, name, "-n", "flux-system", "--overwrite", f"reconcile.fluxcd.io/requestedAt={time.time()}")


def flux(lab, step):
    f = Flux(lab, ["source-controller", "kustomize-controller"])
    step("source-controller makes an artifact of a Git repository", lambda: lab.condition("gitrepository", "flux-system", "tree"))
    lab.apply(KUSTOMIZATION)
    step("kustomize-controller applies a Kustomization", lambda: lab.condition("kustomization", "flux-system", "app")
         and lab.get("configmap", "one", "-n", "default")["data"] == {"a": "1"})
    f.write("app/kustomization.yaml", "namespace: default\nresources: [one.yaml, web.yaml]\n")
    f.push("second")
    f.ask("gitrepository", "tree")
    step("what leaves the tree is pruned", lambda: "NotFound" in lab.kubectl("get", "cm", "two", "-n", "default", check=False))
    lab.kubectl("delete", "cm", "one", "-n", "default")
    f.ask("kustomization", "app")
    step("drift is corrected", lambda: lab.get("configmap", "one", "-n", "default"))
    lab.kubectl("delete", "kustomization", "app", "-n", "flux-system", "--wait=false")
    step("deleting takes along what was made", lambda: not lab.get("kustomizations", "-A")["items"]
         and "NotFound" in lab.kubectl("get", "cm", "one", "-n", "default", check=False))


def flux_helm(lab, step):
    Flux(lab, ["source-controller", "helm-controller"])
    lab.apply(RELEASE)
    step("helm-controller installs a HelmRelease", lambda: lab.condition("helmrelease", "flux-system", "hello")
         and "moin" in json.dumps(lab.get("configmaps", "-n", "default")))
    lab.kubectl("delete", "helmrelease", "hello", "-n", "flux-system", "--wait=false")
    step("deleting uninstalls", lambda: not lab.get("helmreleases", "-A")["items"]
         and "moin" not in json.dumps(lab.get("configmaps", "-n", "default")))


POLICIES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: generate-configmaps, labels: {rbac.kyverno.io/aggregate-to-background-controller: 'true'}}
rules: [{apiGroups: [''], resources: [configmaps], verbs: ['*']}]
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: need-team}
spec:
  validationFailureAction: Enforce
  background: false
  rules:
  - name: team
    match: {any: [{resources: {kinds: [ConfigMap], namespaces: [default]}}]}
    validate: {message: the label team is needed, pattern: {metadata: {labels: {team: '?*'}}}}
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: add-colour}
spec:
  rules:
  - name: colour
    match: {any: [{resources: {kinds: [ConfigMap], namespaces: [default]}}]}
    mutate: {patchStrategicMerge: {metadata: {labels: {+(colour): blue}}}}
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: make-defaults}
spec:
  rules:
  - name: defaults
    match: {any: [{resources: {kinds: [Namespace], names: ['made-*']}}]}
    generate: {synchronize: true, apiVersion: v1, kind: ConfigMap, name: defaults, namespace: '{{request.object.metadata.name}}', data: {data: {a: '1'}}}
"""
CEL_POLICY = """
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: few-replicas}
spec:
  validationActions: [Deny]
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]}
  validations: [{expression: object.spec.replicas <= 3, message: at most three replicas}]
"""


def kyverno(lab, step):
    lab.kubectl("apply", "--server-side", "-f", os.path.join(SOURCES["kyverno"].folder(lab.work), "config", "install-latest-testing.yaml"))
    lab.lead_here("kyverno", "kyverno-svc", {"https": 9443})
    for name in ("kyverno-admission-controller", "kyverno-background-controller"):
        # Pods may all serve their metrics at the same port, processes of one host not.
        ports = [f"--metricsPort={free_port()}", f"--controllerRuntimeMetricsAddress=127.0.0.1:{free_port()}"]
        lab.deployment("kyverno", name, ["--kubeconfig", lab.kubeconfig, *ports], drop=["metricsPort", "controllerRuntimeMetricsAddress"])
    step("Kyverno installs its webhooks", lambda: len(lab.get("validatingwebhookconfigurations")["items"]) >= 3)
    step("Kyverno's webhooks take its policies", lambda: lab.apply(POLICIES))
    for name in ("need-team", "add-colour", "make-defaults"):
        step(f"ClusterPolicy {name} becomes ready", lambda n=name: lab.condition("clusterpolicy", "default", n))
    create = ["create", "-f", "-"]
    bad, good = (json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "default", "labels": labels}})
                 for labels in ({}, {"team": "a"}))
    step("what a policy forbids is refused", lambda: "the label team is needed" in lab.kubectl(*create, "--dry-run=server", given=bad, check=False))
    step("what a policy adds is added", lambda: lab.kubectl("apply", "-f", "-", given=good)
         and lab.get("configmap", "mine", "-n", "default")["metadata"]["labels"].get("colour") == "blue")
    lab.kubectl("create", "namespace", "made-1")
    step("the background controller generates", lambda: lab.get("configmap", "defaults", "-n", "made-1")["data"] == {"a": "1"})
    step("a CEL policy is taken", lambda: lab.apply(CEL_POLICY))
    deployment = ["create", "deployment", "many", "--image=x", "--replicas=4", "--dry-run=server"]
    step("what a CEL policy forbids is refused", lambda: "at most three replicas" in lab.kubectl(*deployment, check=False))


ISSUERS = """
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: self, namespace: default}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: ca, namespace: default}
spec: {isCA: true, commonName: ca, secretName: ca, issuerRef: {name: self}}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: ca, namespace: default}
spec: {ca: {secretName: ca}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: web, namespace: default}
spec: {dnsNames: [web.example.org], secretName: web, issuerRef: {name: ca}}
"""


def cert_manager(lab, step):
    chart = os.path.join(SOURCES["cert-manager"].folder(lab.work), "deploy", "charts", "cert-manager")
    rendered = sh([lab.args.druse, "template", "cert-manager", chart, "-n", "cert-manager", "--set", "crds.enabled=true",
                   "--set", "startupapicheck.enabled=false"], stdout=subprocess.PIPE, text=True).stdout
    lab.kubectl("create", "namespace", "cert-manager")
    lab.apply(rendered)
    lab.lead_here("cert-manager", "cert-manager-webhook", {"https": 10250})
    for name in ("cert-manager-webhook", "cert-manager-cainjector", "cert-manager"):
        metrics = f"--metrics-listen-address=127.0.0.1:{free_port()}"
        health = {"cert-manager-webhook": [f"--healthz-port={free_port()}"],
                  "cert-manager": [f"--internal-healthz-listen-address=127.0.0.1:{free_port()}"]}
        lab.deployment("cert-manager", name, ["--kubeconfig", lab.kubeconfig, metrics, *health.get(name, [])])
    injected = lambda kind: all(w["clientConfig"].get("caBundle") for c in lab.get(kind)["items"] for w in c["webhooks"])  # noqa: E731
    step("cainjector trusts the webhook's authority in its configurations",
         lambda: injected("validatingwebhookconfigurations") and injected("mutatingwebhookconfigurations"))
    step("the webhook takes issuers and certificates", lambda: lab.apply(ISSUERS))
    for kind, name in (("issuer", "self"), ("certificate", "ca"), ("issuer", "ca"), ("certificate", "web")):
        step(f"{kind} {name} becomes ready", lambda k=kind, n=name: lab.condition(k, "default", n))
    step("the certificate is in its Secret", lambda: b"BEGIN CERTIFICATE" in base64.b64decode(
        lab.get("secret", "web", "-n", "default")["data"]["tls.crt"]))
    wrong = ISSUERS.rpartition("---\n")[2].replace("name: web,", "name: wrong,").replace("dnsNames: [web.example.org], ", "")
    step("the webhook refuses a certificate without a name", lambda: "denied the request" in lab.kubectl("create", "-f", "-", given=wrong, check=False))


DATABASE = """
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
metadata: {name: db, namespace: default}
spec: {instances: 1, storage: {size: 1Gi}}
"""


def cloudnative_pg(lab, step):
    folder = SOURCES["cloudnative-pg"].folder(lab.work)
    lab.kubectl("apply", "--server-side", "-f", os.path.join(folder, "releases", "cnpg-1.30.0.yaml"))
    lab.lead_here("cnpg-system", "cnpg-webhook-service", {"": 9443})
    # The operator looks for itself where its image has it.
    own = lab.path("home", "cnpg-controller-manager", "operator")
    os.makedirs(own)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    os.symlink(os.path.join(lab.work, "bin", "cnpg-controller-manager"), os.path.join(own, f"manager_{arch}"))
    # Only a pod knows in which namespace to look for its leader.
    lab.deployment("cnpg-system", "cnpg-controller-manager", [f"--metrics-bind-address=127.0.0.1:{free_port()}"],
                   drop=["leader-elect"])
    # The folder is a constant of the operator, so that this group wants a machine where it can be written.
    lab.mount("cnpg-system", "cnpg-webhook-cert", "/run/secrets/cnpg.io/webhook")
    injected = lambda kind: all(w["clientConfig"].get("caBundle") for c in lab.get(kind)["items"] for w in c["webhooks"])  # noqa: E731
    step("the operator trusts its own authority in its configurations",
         lambda: injected("validatingwebhookconfigurations") and injected("mutatingwebhookconfigurations"))
    step("the webhook takes and defaults a Cluster", lambda: lab.apply(DATABASE)
         and lab.get("cluster.postgresql.cnpg.io", "db", "-n", "default")["spec"]["bootstrap"]["initdb"]["database"] == "app")
    step("the operator makes certificates, Services and the first Job", lambda: lab.get("secret", "db-ca", "-n", "default")
         and lab.get("service", "db-rw", "-n", "default") and lab.get("jobs", "-n", "default")["items"])
    wrong = DATABASE.replace("instances: 1", "instances: 1, minSyncReplicas: 3").replace("name: db", "name: wrong")
    step("the webhook refuses a wrong Cluster", lambda: "cannot be greater than maxSyncReplicas" in lab.kubectl("create", "-f", "-", given=wrong, check=False))


NODE = """
apiVersion: v1
kind: Node
metadata: {name: one, labels: {kubernetes.io/hostname: one}}
"""
READY = {
    "capacity": {"cpu": "4", "memory": "8Gi", "pods": "20"},
    "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "20"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": None, "lastTransitionTime": None}],
}
WORK = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: work}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: example.org/web:1, resources: {requests: {cpu: 100m}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: work}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick, namespace: work}
spec:
  schedule: '* * * * *'
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: example.org/tick:1}]}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: work}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: example.org/once:1}]}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: work}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: example.org/db:1}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: work}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: main, image: example.org/agent:1}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: work}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: pods, namespace: work}
spec: {hard: {pods: '20'}}
"""


def kubernetes(lab, step):
    """The controllers and the scheduler of Kubernetes; this plays the kubelet of one node."""
    authority = [u["cluster"]["certificate-authority-data"] for u in lab.config()["clusters"]][0]
    with open(lab.path("ca.crt"), "wb") as f:
        f.write(base64.b64decode(authority))
    sh(["openssl", "genrsa", "-out", lab.path("sa.key"), "2048"], stderr=subprocess.DEVNULL)
    serving = lambda name: ["--kubeconfig", lab.kubeconfig, "--authentication-kubeconfig", lab.kubeconfig,  # noqa: E731
                            "--authorization-kubeconfig", lab.kubeconfig, "--bind-address=127.0.0.1",
                            f"--secure-port={free_port()}", f"--cert-dir={lab.path('home', name)}"]
    lab.start("kube-controller-manager", [
        os.path.join(lab.work, "bin", "kube-controller-manager"), *serving("kube-controller-manager"),
        "--use-service-account-credentials", "--controllers=*", f"--root-ca-file={lab.path('ca.crt')}",
        f"--service-account-private-key-file={lab.path('sa.key')}", "--node-monitor-grace-period=1h"], {})
    lab.start("kube-scheduler", [os.path.join(lab.work, "bin", "kube-scheduler"), *serving("kube-scheduler")], {})
    for name in Kubernetes.PROGRAMS:
        step(f"{name} leads", lambda n=name: lab.get("lease", n, "-n", "kube-system")["spec"]["holderIdentity"])
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    lab.apply(NODE)
    status = json.loads(json.dumps(READY).replace("null", json.dumps(now)))
    lab.kubectl("patch", "node", "one", "--subresource=status", "-p", json.dumps({"status": status}))
    lab.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: work}\n")
    lab.apply(WORK)
    pods = lambda: lab.get("pods", "-n", "work")["items"]  # noqa: E731
    step("workloads make their pods, and the scheduler gives each a node",
         lambda: len(pods()) == 5 and all(p["spec"].get("nodeName") == "one" for p in pods()))
    for p in pods():
        done = p["metadata"]["labels"].get("job-name")
        conditions = [{"type": t, "status": "False" if done else "True", "lastTransitionTime": now} for t in ("Ready", "ContainersReady")]
        status = {"phase": "Succeeded" if done else "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": conditions}
        lab.kubectl("patch", "pod", p["metadata"]["name"], "-n", "work", "--subresource=status", "-p", json.dumps({"status": status}))
    step("the Deployment becomes available", lambda: lab.condition("deployment", "work", "web", "Available"))
    step("the Job completes", lambda: lab.condition("job", "work", "once", "Complete"))
    step("ready pods are endpoints of their Service", lambda: [
        e for s in lab.get("endpointslices", "-n", "work", "-l", "kubernetes.io/service-name=web")["items"]
        for e in s.get("endpoints") or [] if e["conditions"]["ready"]])
    step("the budget counts its pods", lambda: lab.get("pdb", "web", "-n", "work")["status"]["disruptionsAllowed"] == 1)
    step("the quota counts pods", lambda: lab.get("resourcequota", "pods", "-n", "work")["status"]["used"]["pods"] == "4")
    lab.kubectl("set", "image", "deployment/web", "main=example.org/web:2", "-n", "work")
    step("a new image makes a second ReplicaSet", lambda: len(lab.get("rs", "-n", "work", "-l", "app=web")["items"]) == 2)
    lab.kubectl("delete", "namespace", "work", "--wait=false")

    def gone():
        # The kubelet has the last word on pods.
        for p in pods():
            lab.kubectl("delete", "pod", p["metadata"]["name"], "-n", "work", "--grace-period=0", "--force", check=False)
        return "NotFound" in lab.kubectl("get", "namespace", "work", check=False)

    step("a deleted namespace goes with all that is in it", gone)


GROUPS = {
    "kubernetes": (kubernetes, ["kubernetes"]),
    "flux": (flux, ["source-controller", "kustomize-controller"]),
    "flux-helm": (flux_helm, ["source-controller", "helm-controller"]),
    "kyverno": (kyverno, ["kyverno"]),
    "cert-manager": (cert_manager, ["cert-manager"]),
    "cloudnative-pg": (cloudnative_pg, ["cloudnative-pg"]),
}


def run(args, name):
    """Runs one group; gives its steps with what went wrong and how long each took."""
    lab, steps = Lab(args, name), []

    def step(what, holds):
        begun = time.monotonic()
        lab.until(what, holds)
        steps.append((what, "", time.monotonic() - begun))
        print(f"  {what}", flush=True)

    print(f"{name} (logs in {lab.folder})", flush=True)
    try:
        GROUPS[name][0](lab, step)
    except Failed as e:
        steps.append((str(e), "failed", 0))
        print(f"  FAILED {e}", flush=True)
    finally:
        if args.keep:
            print(f"  kept: KUBECONFIG={lab.kubeconfig}; Ctrl-C ends it", flush=True)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                pass
        lab.stop()
    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--druse", default=os.path.join(ROOT, "target", "release", "druse"))
    parser.add_argument("--kubectl", default=os.environ.get("DRUSE_KUBECTL") or "kubectl")
    parser.add_argument("--work", default=os.path.join(ROOT, "target", "operators"))
    parser.add_argument("--only", default=",".join(GROUPS), help="groups to run")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    parser.add_argument("--replace", action="append", default=[], metavar="MODULE=MODULE@VERSION",
                        help="build with another version of a module, where a proxy lacks the right one")
    parser.add_argument("--keep", action="store_true", help="leave the last group running until interrupted")
    args = parser.parse_args()
    args.druse, args.work = os.path.abspath(args.druse), os.path.abspath(args.work)
    names = args.only.split(",")
    for unknown in set(names) - set(GROUPS):
        parser.error(f"no group {unknown}; there are {', '.join(GROUPS)}")
    os.makedirs(os.path.join(args.work, "src"), exist_ok=True)
    results = {}
    go = None if args.no_build else go_runner(args.work)
    for name in names:
        try:
            for source in GROUPS[name][1] if go else []:
                SOURCES[source].build(args.work, go, args.replace)
        except subprocess.CalledProcessError as e:
            results[name] = [(f"it cannot be built: {e}", "failed", 0)]
            continue
        results[name] = run(args, name)
    print()
    for name, steps in results.items():
        for what, wrong, seconds in steps:
            print(f"{name:16} {'FAILED' if wrong else 'ok':6} {seconds:6.1f} s  {what}")
    return 1 if any(wrong for steps in results.values() for _, wrong, _ in steps) else 0


if __name__ == "__main__":
    sys.exit(main())
