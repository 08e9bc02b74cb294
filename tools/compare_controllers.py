#!/usr/bin/env python3
"""The workload controllers of druse, and those of Services, beside upstream's kube-controller-manager, on the same objects.

  compare_controllers.py [--druse FILE] [--manager FILE] [--only NAME,...] [--port N]

Each scenario runs against two empty APIs of druse: one with `--workloads --nodes 0`, the other with a real
kube-controller-manager (built by kube.py when FILE is not given). This script is the kubelet of both: it says of each pod
what the scenario says. After each step both sides are waited for, and what the controllers made and reported is compared:
objects, statuses, conditions, events. Names that hold a hash or chance are compared by what they stand for; times and
UIDs are not compared. Prints differences; exits 1 when there are any.
"""

import argparse
import copy
import difflib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import kube  # noqa: E402
from compare_api import Server  # noqa: E402

TOKEN = "compared"
QUIET, PATIENCE = 1.5, 40
CONTROLLERS = ["deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob", "disruption", "ttl-after-finished",
               "horizontal-pod-autoscaler", "garbage-collector", "persistentvolumeclaim-protection", "endpoints",
               "endpointslice", "endpointslice-mirroring"]
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/default/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/default/replicasets",
    "StatefulSet": "/apis/apps/v1/namespaces/default/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/default/daemonsets",
    "ControllerRevision": "/apis/apps/v1/namespaces/default/controllerrevisions",
    "Job": "/apis/batch/v1/namespaces/default/jobs",
    "CronJob": "/apis/batch/v1/namespaces/default/cronjobs",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    "PersistentVolumeClaim": "/api/v1/namespaces/default/persistentvolumeclaims",
    "Pod": "/api/v1/namespaces/default/pods",
    "Endpoints": "/api/v1/namespaces/default/endpoints",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
}
# What is made and not compared.
OTHERS = {"Node": "/api/v1/nodes", "Service": "/api/v1/namespaces/default/services"}
PATHS = KINDS | OTHERS
EVENTS = "/api/v1/namespaces/default/events"


# --- scenarios ----------------------------------------------------------------------------------------------------

def pods(**more):
    return {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **more}}


def app(kind, name="a", **spec):
    template = spec.pop("template", None) or pods()
    spec = {"selector": {"matchLabels": {"app": "a"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def job(name="j", kind="Job", **spec):
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}
    return {"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name}, "spec": {"template": template, **spec}}


def image(kind, tag, name="a"):
    return ("patch", kind, name, {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": tag}]}}}})


def spec(kind, name="a", **changes):
    return ("patch", kind, name, {"spec": changes})


CLAIMS = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]
DELETE = {"whenDeleted": "Delete", "whenScaled": "Delete"}
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
NEVER = {"name": "c", "image": "i:1"}


def exit_codes(action, *codes):
    return {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": list(codes)}}]}


def service(name="web", meta=None, **spec):
    spec = {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, **(meta or {})}, "spec": spec}


def pod(name, *ports, **more):
    """A pod that is on a node, with ports as `name:number`."""
    ports = [{"name": n, "containerPort": int(p)} for n, p in (t.split(":") for t in ports or ["http:8080"])]
    container = {"name": "c", "image": "i:1", "ports": ports}
    spec = {"nodeName": "n1", "containers": [container], "terminationGracePeriodSeconds": 0, **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec}


def endpoints(name, *addresses, meta=None, **more):
    ports = more.pop("ports", [{"name": "http", "port": 8080}])
    subset = {"addresses": [{"ip": a} for a in addresses], "ports": ports, **more}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, **(meta or {})},
            "subsets": [subset] if addresses else []}


NODE = {"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "east"}}, "spec": {}}
OTHER_PORTS = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "m", "port": 90, "targetPort": 9090},
               {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"}, {"name": "x", "port": 7, "targetPort": "x"}]


# A step makes or changes an object, or makes ("all", [several]); ("pods", image or index or name, state) says what becomes
# of pods from then on: `ready`, `pending` (on a node: with an address, and not ready), `done`, or the exit code they fail
# with.
SCENARIOS = {
    "rollout": [
        app("Deployment", replicas=4, strategy=ROLLING), image("Deployment", "i:2"),
        ("pods", "i:3", "pending"), image("Deployment", "i:3"), image("Deployment", "i:1"),
        spec("Deployment", replicas=2),
    ],
    "paused": [
        app("Deployment", replicas=2), spec("Deployment", paused=True), image("Deployment", "i:4"),
        spec("Deployment", replicas=3), spec("Deployment", paused=False), spec("Deployment", minReadySeconds=1),
    ],
    "recreate": [app("Deployment", replicas=2, strategy={"type": "Recreate"}), image("Deployment", "i:2")],
    "proportional": [
        app("Deployment", replicas=10, strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}),
        ("pods", "i:2", "pending"), image("Deployment", "i:2"), spec("Deployment", replicas=15), spec("Deployment", replicas=5),
    ],
    "history": [app("Deployment", replicas=1, revisionHistoryLimit=1)] + [image("Deployment", f"i:{n}") for n in (2, 3, 4)],
    "stuck": [("pods", "i:1", "pending"), app("Deployment", replicas=1, progressDeadlineSeconds=8), ("wait", 10)],
    "refused": [app("Deployment", replicas=2, template=pods(serviceAccountName="nobody"))],
    "replicaset": [app("ReplicaSet", replicas=3), spec("ReplicaSet", replicas=1), ("pods", "i:1", 1), ("wait", 1),
                   ("pods", "i:1", "ready"), ("wait", 1)],
    "adoption": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lone", "labels": {"app": "a"}}, "spec": {"containers": [NEVER]}},
        app("ReplicaSet", replicas=2), ("patch", "Pod", "lone", {"metadata": {"labels": {"app": "b"}}}),
    ],
    "ordered": [
        app("StatefulSet", replicas=3, serviceName="a", volumeClaimTemplates=CLAIMS), image("StatefulSet", "i:2"),
        spec("StatefulSet", replicas=1), image("StatefulSet", "i:1"), spec("StatefulSet", replicas=2),
    ],
    "partition": [
        app("StatefulSet", replicas=3, serviceName="a",
            updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}),
        image("StatefulSet", "i:2"), ("delete", "Pod", "a-0"),
        spec("StatefulSet", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
    ],
    "parallel": [
        app("StatefulSet", replicas=3, serviceName="a", podManagementPolicy="Parallel", volumeClaimTemplates=CLAIMS,
            persistentVolumeClaimRetentionPolicy=DELETE, ordinals={"start": 5}),
        spec("StatefulSet", replicas=1), image("StatefulSet", "i:2"),
    ],
    "ondelete": [
        app("StatefulSet", replicas=2, serviceName="a", updateStrategy={"type": "OnDelete"}), image("StatefulSet", "i:2"),
        ("delete", "Pod", "a-1"),
    ],
    "held": [("pods", "i:1", "pending"), app("StatefulSet", replicas=3, serviceName="a", minReadySeconds=1)],
    "daemons": [app("DaemonSet")],
    "job": [("pods", "i:1", "done"), job(completions=3, parallelism=2)],
    "job-queue": [("pods", "i:1", "done"), job(parallelism=2)],
    "job-fails": [("pods", "i:1", 1), job(backoffLimit=0)],
    "job-running": [job(completions=3, parallelism=2), spec("Job", "j", suspend=True), spec("Job", "j", suspend=False),
                    spec("Job", "j", parallelism=1), spec("Job", "j", activeDeadlineSeconds=1), ("wait", 2)],
    "job-indexed": [("pods", 1, "ready"), ("pods", "i:1", "done"), job(completions=3, parallelism=3, completionMode="Indexed"),
                    ("pods", 1, "done")],
    "job-per-index": [("pods", 1, 7), ("pods", "i:1", "done"),
                      job(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=0)],
    "job-policy": [("pods", "i:1", 42), job(podFailurePolicy=exit_codes("FailJob", 42))],
    "job-ignored": [("pods", "i:1", 42), job(completions=1, backoffLimit=0, podFailurePolicy=exit_codes("Ignore", 42)),
                    ("pods", "i:1", "done"), ("wait", 12)],
    "job-success-policy": [("pods", 0, "done"), job(completions=3, parallelism=3, completionMode="Indexed",
                           successPolicy={"rules": [{"succeededIndexes": "0"}]})],
    "job-ttl": [("pods", "i:1", "done"), job(completions=1, ttlSecondsAfterFinished=1), ("wait", 2)],
    "cronjob": [("pods", "i:1", "done"), job("c", "CronJob", schedule="* * * * *", jobTemplate={"spec": job()["spec"]}), ("wait", 62),
                spec("CronJob", "c", suspend=True)],
    "budget": [
        app("Deployment", replicas=4),
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"},
         "spec": {"selector": {"matchLabels": {"app": "a"}}, "maxUnavailable": "30%"}},
        spec("PodDisruptionBudget", maxUnavailable=0), spec("PodDisruptionBudget", maxUnavailable=None, minAvailable="50%"),
        spec("Deployment", replicas=1), ("delete", "Deployment", "a"),
    ],
    "autoscaler": [
        app("Deployment", replicas=1, template=pods()),
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
         "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "minReplicas": 2, "maxReplicas": 4,
                  "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}},
        ("wait", 32), spec("Deployment", replicas=0), ("wait", 32),
    ],
}
SCENARIOS |= {
    "service": [
        service(), NODE, pod("p1"), ("pods", "p2", "pending"), pod("p2"), ("pods", "p2", "ready"), ("pods", "p1", "pending"),
        ("wait", 0), spec("Service", "web", publishNotReadyAddresses=True), ("pods", "p1", "ready"), ("wait", 0),
        ("patch", "Service", "web", {"metadata": {"labels": {"team": "b"}}}),
        ("patch", "Pod", "p2", {"metadata": {"labels": {"app": "other"}}}),
        ("delete", "Pod", "p1"), ("patch", "Pod", "p2", {"metadata": {"labels": {"app": "a"}}}),
        spec("Service", "web", selector=None), ("delete", "Service", "web"),
    ],
    "service-ports": [
        NODE, pod("p1"), pod("p2", "http:8081"), pod("p3", "other:1"), service(),
        ("patch", "Service", "web", {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        ("patch", "Service", "web", {"spec": {"ports": OTHER_PORTS}}),
        pod("p4", "http:8080", "x:70"), ("delete", "Pod", "p2"), ("delete", "Pod", "p1"),
        ("patch", "Service", "web", {"spec": {"ports": [{"name": n, "port": i, "targetPort": 8080} for i, n in enumerate("abcdef", 1)]}}),
    ],
    "service-headless": [
        NODE, pod("p1", hostname="one", subdomain="web"), pod("p2", hostname="two", subdomain="other"),
        service(clusterIP="None", ipFamilyPolicy="PreferDualStack"), ("pods", "p1", "pending"), ("wait", 0),
        service("bare", clusterIP="None", ports=None), service("all", clusterIP="None", publishNotReadyAddresses=True),
        ("delete", "Service", "web"),
    ],
    "service-external": [service(type="ExternalName", externalName="a.example.org"),
                         spec("Service", "web", type="ClusterIP", externalName=None)],
    "service-node": [pod("p1"), service()],
    "service-hints": [
        NODE, pod("p1"), ("pods", "p2", "pending"), pod("p2"), service(trafficDistribution="PreferClose"),
        spec("Service", "web", trafficDistribution="PreferSameNode"), spec("Service", "web", trafficDistribution=None),
    ],
    "service-many": [NODE, ("all", [pod(f"p{n:03}") for n in range(120)]), service()],
    "service-cut": [NODE, ("all", [pod(f"p{n:04}") for n in range(1010)]), service()],
    "mirror": [
        service(selector=None), endpoints("web", "10.1.0.1", "10.1.0.2", "fd00::1", notReadyAddresses=[{"ip": "10.1.0.3"}],
                                          meta={"labels": {"team": "b"}, "annotations": {"note": "x"}}),
        ("patch", "Endpoints", "web", {"subsets": [{"addresses": [{"ip": "10.1.0.9", "hostname": "h"}], "ports": [{"port": 1}]}]}),
        ("patch", "Endpoints", "web", {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}),
        ("patch", "Endpoints", "web", {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "false"}}}),
        spec("Service", "web", selector={"app": "a"}), spec("Service", "web", selector=None), ("delete", "Endpoints", "web"),
        endpoints("alone", "10.1.0.1"), service("alone", selector=None), ("delete", "Service", "alone"),
    ],
}
for steps in SCENARIOS.values():
    for step in steps:
        if isinstance(step, dict) and step["kind"] == "CronJob":
            step["spec"].pop("template", None)


# --- one side -----------------------------------------------------------------------------------------------------

class Side:
    """An API, controllers beside it, and what this script says of its pods."""

    def __init__(self, name, druse, port, manager=None):
        self.name, self.rules, self.names, self.dir = name, {}, {}, tempfile.mkdtemp(prefix=f"compare-{name}-")
        self.combined = set()
        config = os.path.join(self.dir, "kubeconfig")
        args = [druse, "api", "--quiet", "--listen", f"127.0.0.1:{port}", "--token", TOKEN, "--kubeconfig", config]
        args += ["--furnish"] if manager else ["--workloads", "--nodes", "0"]
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.processes = [subprocess.Popen(args, stdout=self.log, stderr=self.log)]
        self.call = Server(f"https://127.0.0.1:{port}", TOKEN)
        deadline = time.monotonic() + 20
        while True:
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    break
            except OSError:
                pass
            if time.monotonic() > deadline:
                sys.exit(f"{name}: the API did not start, see {self.dir}/log")
            time.sleep(0.1)
        if manager:
            on = ",".join(f"{c}-controller" for c in CONTROLLERS)
            self.processes.append(subprocess.Popen(
                [manager, "--kubeconfig", config, "--authentication-kubeconfig", config, "--authorization-kubeconfig", config,
                 "--controllers", on, "--leader-elect=false", "--secure-port=0"], stdout=self.log, stderr=self.log))
        self.wait_for_controllers()

    def wait_for_controllers(self):
        """Until they have looked at an object, which goes again."""
        path, deadline = KINDS["ReplicaSet"], time.monotonic() + 60
        self.step(app("ReplicaSet", "first", replicas=0))
        while not self.call("GET", f"{path}/first")[1].get("status", {}).get("observedGeneration"):
            if time.monotonic() > deadline:
                sys.exit(f"{self.name}: the controllers do not start, see {self.dir}/log")
            time.sleep(0.2)
        self.step(("delete", "ReplicaSet", "first"))

    def stop(self):
        for p in reversed(self.processes):
            p.terminate()
            p.wait()

    def list(self, path):
        return self.call("GET", path)[1].get("items", [])

    def step(self, step):
        if isinstance(step, dict):
            path = PATHS[step["kind"]]
            status, body, _ = self.call("POST", path, step)
        elif step[0] == "patch":
            status, body, _ = self.call("PATCH", f"{PATHS[step[1]]}/{step[2]}", step[3], "application/strategic-merge-patch+json")
        elif step[0] == "delete":
            how = {"propagationPolicy": "Background"} | ({"gracePeriodSeconds": 0} if step[1] == "Pod" else {})
            status, body, _ = self.call("DELETE", f"{PATHS[step[1]]}/{step[2]}", how)
        elif step[0] == "all":
            [self.step(one) for one in step[1]]
            return
        elif step[0] == "pods":
            self.rules[step[1]] = step[2]
            return
        if status >= 300:
            sys.exit(f"{self.name}: {step}: {status} {body}")

    def kubelet(self):
        """Says once of each pod what becomes of it; true when that changed anything."""
        busy = False
        for pod in self.list(KINDS["Pod"]):
            if pod["spec"].get("nodeName"):
                busy |= self.addressed(pod)
                continue
            index = pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", "")
            tag = pod["spec"]["containers"][0]["image"]
            state = self.rules.get(int(index)) if index else None
            state = state if state is not None else self.rules.get(tag, "ready")
            phase = pod["status"].get("phase", "Pending")
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            if state == "pending" or phase in ("Succeeded", "Failed") or (phase == "Running" and state == "ready"):
                continue
            if pod["metadata"].get("deletionTimestamp"):
                continue
            status = {"startTime": now}
            if state == "ready":
                status |= {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}
            else:
                code = 0 if state == "done" else state
                ended = {"exitCode": code, "finishedAt": now, "startedAt": now, "reason": "Error" if code else "Completed"}
                status |= {
                    "phase": "Failed" if code else "Succeeded",
                    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}],
                    "containerStatuses": [{"name": "c", "image": tag, "imageID": "", "ready": False, "restartCount": 0,
                                           "state": {"terminated": ended}}],
                }
            path = f"{KINDS['Pod']}/{pod['metadata']['name']}/status"
            self.call("PATCH", path, {"status": status}, "application/merge-patch+json")
            busy = True
        return busy

    def addressed(self, pod):
        """Gives a pod that is on a node the addresses of its name, and says whether it is ready."""
        name = pod["metadata"]["name"]
        number = zlib.crc32(name.encode()) % 60000
        ips = [{"ip": f"10.9.{number // 250}.{number % 250 + 1}"}, {"ip": f"fd00::{number + 1:x}"}]
        ready = "False" if self.rules.get(name) == "pending" else "True"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        status = pod["status"]
        said = [c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"]
        if status.get("podIPs") == ips and said == [ready] or pod["metadata"].get("deletionTimestamp"):
            return False
        new = {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips,
               "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}]}
        self.call("PATCH", f"{KINDS['Pod']}/{name}/status", {"status": new}, "application/merge-patch+json")
        return True

    def settle(self):
        """Waits until nothing has changed for a while, and returns what there is."""
        last, since, deadline = None, time.monotonic(), time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            busy = self.kubelet()
            found = self.found()
            if busy or found != last:
                last, since = found, time.monotonic()
            elif time.monotonic() - since > QUIET:
                break
            time.sleep(0.1)
        return last

    def found(self):
        """All that was made and reported, by kind and name, without chance."""
        objects = {kind: self.list(path) for kind, path in KINDS.items()}
        # Where the API itself is, is no matter; and druse runs pods that are on nodes.
        for kind in ("Endpoints", "EndpointSlice"):
            objects[kind] = [o for o in objects[kind] if o["metadata"]["name"] != "kubernetes"]
        objects["Pod"] = [o for o in objects["Pod"] if not o["spec"].get("nodeName")]
        names = self.names
        for o in objects["ReplicaSet"]:
            tag = o["metadata"].get("labels", {}).get("pod-template-hash")
            if tag:
                names[tag] = "HASH" + o["spec"]["template"]["spec"]["containers"][0]["image"][2:]
        for o in objects["ControllerRevision"]:
            names[o["metadata"]["name"].rpartition("-")[2]] = "REV" + o["data"]["spec"]["template"]["spec"]["containers"][0]["image"][2:]
        for o in objects["Job"]:
            number = re.search(r"-(\d{8})$", o["metadata"]["name"])
            if number:
                names[number.group(1)] = "MINUTE"
        for o in objects["Pod"]:
            if o["metadata"].get("generateName") and not o["metadata"].get("labels", {}).get("statefulset.kubernetes.io/pod-name"):
                names[o["metadata"]["name"]] = o["metadata"]["generateName"] + "*"
        for o in objects["EndpointSlice"]:
            names[o["metadata"]["name"]] = o["metadata"].get("generateName", "") + "*"
        texts = []
        for kind, items in objects.items():
            texts += [masked({"kind": kind, **stripped(o)}, names) for o in items]
        for e in self.list(EVENTS):
            about = e["involvedObject"]
            if "the object has been modified" in e.get("message", ""):
                continue  # Somebody was faster, by chance.
            if "combined from similar events" in e.get("message", ""):
                self.combined.add((masked(f"{about['kind']} {about['name']}", names).strip('"'), e["reason"]))
            said = {k: e.get(k) for k in ("type", "reason", "message")}
            texts.append(masked({"kind": "Event", "about": f"{about['kind']} {about['name']}", **said}, names))
        # How often is compared of neither events nor pods that failed: it depends on how fast they come.
        def often(text):
            return '"kind": "Event"' in text or '"kind": "Pod"' in text and '"phase": "Failed"' in text
        return sorted(set(t for t in texts if often(t))) + sorted(t for t in texts if not often(t))

    def is_combined(self, text):
        """Whether it is an event of which there were so many that upstream's recorder kept the last one alone."""
        o = json.loads(text)
        return o["kind"] == "Event" and (o["about"], o["reason"]) in self.combined


DROPPED = {"uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink", "nodeName"}


def stripped(o):
    o = copy.deepcopy(o)
    o.pop("apiVersion", None)
    if "endpoint" in json.dumps(o["metadata"].get("labels", {})) or "subsets" in o:
        plain(o)
    if "template" in o.get("spec", {}):
        o["spec"].pop("template")
    labels = o["metadata"].get("labels") or {}
    for key in [k for k in labels if k.endswith("controller-uid")]:
        labels[key] = "<uid>"

    def walk(v):
        if isinstance(v, dict):
            return {k: walk(x) for k, x in v.items() if k not in DROPPED}
        return [walk(x) for x in v] if isinstance(v, list) else v
    o = walk(o)
    if "pod-template-hash" in labels and "generation" in o["metadata"]:
        o["metadata"].pop("generation")
        o["status"].pop("observedGeneration", None)
    for uids in (o.get("status", {}).get("uncountedTerminatedPods") or {}).values():
        uids[:] = ["<uid>"] * len(uids)
    if "accessModes" in (o.get("spec") or {}):
        # Storage is simulated by druse alone.
        o.pop("status", None)
        o["spec"].pop("volumeName", None)
        notes = o["metadata"].get("annotations") or {}
        o["metadata"]["annotations"] = {k: v for k, v in notes.items() if not k.startswith("pv.kubernetes.io/")}
    if isinstance(o.get("status", {}).get("conditions"), list):
        o["status"]["conditions"].sort(key=lambda c: c["type"])
    for volume in o.get("spec", {}).get("volumes", []) if isinstance(o.get("spec"), dict) else []:
        if volume["name"].startswith("kube-api-access-"):
            volume["name"] = "kube-api-access"
    return o


def plain(o):
    """Endpoints and their slices in one order, with their nodes, without how often and for which change they were written."""
    def lists(v):
        if isinstance(v, dict):
            return {("node" if k == "nodeName" else k): lists(x) for k, x in v.items()}
        return [lists(x) for x in v] if isinstance(v, list) else v
    o["metadata"].pop("generation", None)
    o["metadata"].get("annotations", {}).pop("endpoints.kubernetes.io/last-change-trigger-time", None)
    o["metadata"] = {k: v for k, v in o["metadata"].items() if v != {}}
    for field, key in (("subsets", lambda s: json.dumps(s.get("ports"))), ("endpoints", lambda e: e["addresses"])):
        if isinstance(o.get(field), list):
            o[field] = sorted(lists(o[field]), key=key)
            if len(o[field]) >= 10:
                o[field] = len(o[field])
    for subset in o.get("subsets", []):
        for field in ("addresses", "notReadyAddresses"):
            if len(subset.get(field, [])) >= 10:
                subset[field] = len(subset[field])


def masked(o, names):
    text = json.dumps(o, indent=1, sort_keys=True)
    for chance in sorted(names, key=len, reverse=True):
        text = text.replace(chance, names[chance])
    text = text.replace("(combined from similar events): ", "")
    text = re.sub(r'(\w+ pod: |pods \\")([\w-]+)-[a-z0-9]{5}\b', r"\1\2-*", text)
    # How many steps a rollout takes depends on how its pods come up.
    text = re.sub(r"(Scaled \w+ replica set \S+) from \d+ to \d+", r"\1", text)
    text = re.sub(r"kube-api-access-[a-z0-9]{5}", "kube-api-access", text)
    text = re.sub(r'"[0-9a-f]{8}-[0-9a-f-]{27}"', '"<uid>"', text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>", text)


# --- both ---------------------------------------------------------------------------------------------------------

def lacks(some, others):
    others = list(others)
    out = []
    for text in some:
        if text in others:
            others.remove(text)
        else:
            out.append(text)
    return out


def tell(ours, theirs):
    """What only one side has; of an object that both have, the lines that differ."""
    def key(text):
        o = json.loads(text)
        return (o["kind"], o["metadata"]["name"]) if "metadata" in o else (text,)
    others = {key(t): t for t in theirs}
    for text in ours:
        other = others.pop(key(text), None)
        if other is None:
            print(f"only druse: {text}")
            continue
        print(" ".join(key(text)), "(- upstream, + druse)")
        for line in list(difflib.unified_diff(other.splitlines(), text.splitlines(), lineterm="", n=4))[2:]:
            print("  " + line)
    for text in others.values():
        print(f"only upstream: {text}")


def title(step):
    if isinstance(step, dict):
        return f"make {step['kind']} {step['metadata']['name']}"
    if step[0] == "all":
        return f"make {len(step[1])} objects"
    return " ".join(s if isinstance(s, str) else json.dumps(s) for s in step)


def compare(name, steps, druse, manager, port):
    sides = [Side("druse", druse, port), Side("upstream", druse, port + 1, manager)]
    differ = 0
    try:
        for step, following in zip(steps, [*steps[1:], {}]):
            what, then = ("make" if isinstance(s, dict) else s[0] for s in (step, following or {}))
            if what == "wait":
                end = time.monotonic() + step[1]
                while time.monotonic() < end:
                    [s.kubelet() for s in sides]
                    time.sleep(0.2)
            else:
                [s.step(step) for s in sides]
            # What is only said of pods, or has to be waited for, is not compared yet.
            if what == "pods" and following or then == "wait" or (what, then) == ("wait", "pods"):
                continue
            ours, theirs = [s.settle() for s in sides]
            ours, theirs = [[t for t in texts if not sides[1].is_combined(t)] for texts in (ours, theirs)]
            ours, theirs = lacks(ours, theirs), lacks(theirs, ours)
            if ours or theirs:
                differ += 1
                print(f"--- {name}: {title(step)}")
                tell(ours, theirs)
    finally:
        [s.stop() for s in sides]
    print(f"{name}: {'same' if not differ else f'{differ} of {len(steps)} steps differ'}", flush=True)
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--druse", default=str(kube.ROOT / "target/release/druse"))
    parser.add_argument("--manager", help="a kube-controller-manager")
    parser.add_argument("--only", help="scenarios, with commas between them")
    parser.add_argument("--port", type=int, default=17461)
    args = parser.parse_args()
    if not args.manager:
        kube.HOME.mkdir(parents=True, exist_ok=True)
        args.manager = str(kube.kubernetes(kube.HOME, "kube-controller-manager"))
    wanted = args.only.split(",") if args.only else list(SCENARIOS)
    differ = [n for n in wanted if compare(n, SCENARIOS[n], args.druse, args.manager, args.port)]
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
