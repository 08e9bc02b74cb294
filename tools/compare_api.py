#!/usr/bin/env python3
"""Random writes to a real API server and to druse's; tells where they answer differently.

  compare_api.py REAL DRUSE [--token T] [--seed N] [--cases N] [--kinds a,b]

REAL and DRUSE are URLs (`kube.py up` starts a real one; `druse api` is the other), which take the same bearer token.
A case is one object and up to 14 writes by three managers: applies, whole, partial, forced and dry; creates, updates,
merge, strategic and JSON patches, and updates that leave managed fields out. Status, body, managed fields and warnings
are compared; a case ends at its first difference. Exits 1 when there was one.
"""

import argparse
import http.client
import json
import random
import re
import ssl
import sys
import time

ANY_CERTIFICATE = ssl._create_unverified_context()
OWN = {"uid", "resourceVersion", "creationTimestamp", "clusterIP", "clusterIPs", "nodePort", "time"}
MASKS = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
    (re.compile(r"\b10\.(9\d|10\d|11[01])\.\d+\.\d+"), "<address>"),
    (re.compile(r"nodePort.*\b3\d{4}\b"), "<node port>"),
    (re.compile(r'"?[0-9a-f]{8}-[0-9a-f-]{27}"?'), "<uid>"),
]
TYPES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}


class Server:
    """One API server over one kept connection."""

    def __init__(self, url, token):
        self.host = url.split("//")[1].rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}", "User-Agent": "compare/1"}
        self.connection = None

    def __call__(self, method, path, body=None, kind="application/json"):
        for last in (False, True):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPSConnection(self.host, context=ANY_CERTIFICATE, timeout=30)
                text = None if body is None else json.dumps(body)
                self.connection.request(method, path, text, self.headers | {"Content-Type": kind})
                answer = self.connection.getresponse()
                text = answer.read()
                body = json.loads(text) if text.startswith(b"{") else text.decode()
                return answer.status, body, sorted(answer.headers.get_all("Warning") or [])
            except (OSError, http.client.HTTPException):
                self.connection = None
                if last:
                    raise


def masked(value):
    """Without what no two servers share, and what upstream has in no order in one."""
    as_text = lambda v: json.dumps(v, sort_keys=True)
    if isinstance(value, dict):
        out = {k: masked(v) for k, v in value.items() if k not in OWN}
        for unordered in ("causes", "managedFields"):
            if isinstance(out.get(unordered), list):
                out[unordered].sort(key=as_text)
        return out
    if isinstance(value, list):
        return [masked(v) for v in value]
    if isinstance(value, str):
        for mask, name in MASKS:
            value = mask.sub(name, value)
    return value


def differences(real, druse, path=""):
    """Where two values differ: triples of a path and what each has there."""
    if isinstance(real, dict) and isinstance(druse, dict):
        none = "<none>"
        keys = sorted(set(real) | set(druse))
        return [d for k in keys for d in differences(real.get(k, none), druse.get(k, none), f"{path}.{k}")]
    if isinstance(real, list) and isinstance(druse, list) and len(real) == len(druse):
        pairs = enumerate(zip(real, druse))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}[{i}]")]
    return [] if real == druse and type(real) is type(druse) else [(path, real, druse)]


def schema(**properties):
    return {"type": "object", "properties": properties}


TEXT = {"type": "string"}
XY = schema(x=TEXT, y=TEXT)


def keyed(keys, item):
    item = item | {"required": keys[:1]}
    return {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": item}


SPEC = schema(
    map=keyed(["k", "p"], schema(k=TEXT, p=TEXT | {"default": "TCP"}, v={"type": "integer"}, o=XY)),
    set={"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
    atomic={"type": "array", "x-kubernetes-list-type": "atomic", "items": TEXT},
    whole=XY | {"x-kubernetes-map-type": "atomic"},
    free={"type": "object", "additionalProperties": schema(x=TEXT, y=TEXT | {"nullable": True})},
    null=TEXT | {"nullable": True},
    default=TEXT | {"default": "d"},
    either={"x-kubernetes-int-or-string": True},
    any={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    nested=schema(z=TEXT | {"default": "z"}, w=TEXT) | {"default": {}},
)
STATUS = schema(conditions=keyed(["type"], schema(type=TEXT, s=TEXT)), n={"type": "integer"})
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.compare.example.com"},
    "spec": {
        "group": "compare.example.com",
        "names": {"plural": "things", "kind": "Thing"},
        "scope": "Namespaced",
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema(spec=SPEC, status=STATUS)},
        }],
    },
}


class Objects:
    """Random objects, all named `o`. Every choice comes from one generator, so that a seed says all."""

    KINDS = {
        "deployment": ("apis/apps/v1", "deployments"),
        "statefulset": ("apis/apps/v1", "statefulsets"),
        "cronjob": ("apis/batch/v1", "cronjobs"),
        "service": ("api/v1", "services"),
        "configmap": ("api/v1", "configmaps"),
        "role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
        "networkpolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
        "ingress": ("apis/networking.k8s.io/v1", "ingresses"),
        "autoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
        "thing": ("apis/compare.example.com/v1", "things"),
    }

    def __init__(self, random_):
        self.random = random_
        self.pick = lambda *options: random_.choice(options)

    def maybe(self, p=0.5):
        return self.random.random() < p

    def some(self, items, least=0, most=3):
        most = min(most, len(items))
        return self.random.sample(list(items), self.random.randint(least, most))

    def with_some(self, base, **fields):
        """`base` with each field now and then: a pair of how often and what makes it."""
        return base | {k: make() for k, (p, make) in fields.items() if self.maybe(p)}

    def object(self, api_version, kind, **rest):
        words = lambda: {k: self.pick("1", "2") for k in self.some("abc")}
        metadata = self.with_some(
            {"name": "o"},
            labels=(0.5, words),
            annotations=(0.4, words),
            finalizers=(0.2, lambda: self.some(["x.io/a", "x.io/b", "x.io/c"], most=2)),
        )
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata} | rest

    def container(self, name):
        source = {"configMapKeyRef": {"name": "c", "key": "k"}}
        env = lambda: [
            {"name": n} | ({"value": self.pick("1", "2", "")} if self.maybe(0.7) else {"valueFrom": source})
            for n in self.some("ABC")
        ]
        port = lambda n: self.with_some(
            {"containerPort": n},
            protocol=(0.5, lambda: self.pick("TCP", "UDP")),
            name=(0.3, lambda: f"p{n}"),
        )
        amounts = lambda: {self.pick("cpu", "memory"): self.pick("1", "1000m", "100", "2")}
        return self.with_some(
            {"name": name, "image": self.pick("i", "j:1")},
            env=(0.5, env),
            ports=(0.4, lambda: [port(n) for n in self.some([80, 81, 53], most=2)]),
            args=(0.4, lambda: self.some("abc")),
            resources=(0.3, lambda: {self.pick("limits", "requests"): amounts()}),
            volumeMounts=(0.3, lambda: [{"name": "v", "mountPath": p} for p in self.some(["/a", "/b"])]),
            securityContext=(0.2, lambda: {"capabilities": {"drop": self.some(["ALL", "X"])}}),
            livenessProbe=(0.2, lambda: {self.pick("httpGet", "tcpSocket"): {"port": self.pick(80, "http")}}),
        )

    def pod(self, **rest):
        source = self.pick({"emptyDir": {}}, {"configMap": {"name": "c"}}, {"emptyDir": {"medium": "Memory"}})
        spread = lambda k: {"maxSkew": self.pick(1, 2), "topologyKey": k, "whenUnsatisfiable": "DoNotSchedule"}
        aliases = ["192.0.2.1", "192.0.2.2"]
        return self.with_some(
            {"containers": [self.container(n) for n in self.some("xyz", 1, 2)], "volumes": [{"name": "v"} | source]},
            tolerations=(0.2, lambda: [{"key": k, "operator": "Exists"} for k in self.some("ab")]),
            nodeSelector=(0.2, lambda: {"a": self.pick("1", "2")}),
            imagePullSecrets=(0.2, lambda: [{"name": n} for n in self.some("ab")]),
            initContainers=(0.2, lambda: [self.container("w")]),
            topologySpreadConstraints=(0.2, lambda: [spread(k) for k in self.some("ab")]),
            hostAliases=(0.2, lambda: [{"ip": i, "hostnames": self.some("ab", 1)} for i in self.some(aliases)]),
        ) | rest

    def workload(self, kind, **rest):
        template = {"metadata": {"labels": {"a": "1"}}, "spec": self.pod()}
        spec = {"selector": {"matchLabels": {"a": "1"}}, "template": template} | rest
        spec = self.with_some(spec, replicas=(0.5, lambda: self.random.randint(0, 3)))
        return self.object("apps/v1", kind, spec=spec)

    def deployment(self):
        rolling = lambda **r: {"rollingUpdate": r}
        strategy = self.pick({"type": "Recreate"}, {"type": "RollingUpdate"} | rolling(maxSurge="10%"),
                             rolling(maxUnavailable=0))
        return self.workload("Deployment", **self.with_some({}, strategy=(0.3, lambda: strategy)))

    def statefulset(self):
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        return self.workload("StatefulSet", **self.with_some(
            {"serviceName": "s"},
            volumeClaimTemplates=(0.3, lambda: [{"metadata": {"name": "d"}, "spec": claim}]),
            updateStrategy=(0.3, lambda: {"type": self.pick("OnDelete", "RollingUpdate")}),
        ))

    def cronjob(self):
        pod = self.pod(restartPolicy=self.pick("Never", "OnFailure"))
        job = self.with_some({"template": {"spec": pod}}, backoffLimit=(0.5, lambda: self.random.randint(0, 3)))
        return self.object("batch/v1", "CronJob", spec=self.with_some(
            {"schedule": self.pick("* * * * *", "@daily", "0 1 * * *"), "jobTemplate": {"spec": job}},
            suspend=(0.3, self.maybe),
            concurrencyPolicy=(0.3, lambda: self.pick("Allow", "Forbid")),
        ))

    def service(self):
        port = lambda n: self.with_some(
            {"port": n, "name": f"n{n}"},
            protocol=(0.4, lambda: self.pick("TCP", "UDP")),
            targetPort=(0.4, lambda: self.pick(80, "http")),
        )
        return self.object("v1", "Service", spec=self.with_some(
            {"ports": [port(n) for n in self.some([80, 81, 53], 1)]},
            selector=(0.5, lambda: {k: self.pick("1", "2") for k in self.some("ab")}),
            type=(0.3, lambda: self.pick("ClusterIP", "NodePort", "LoadBalancer")),
            externalIPs=(0.2, lambda: self.some(["192.0.2.1", "192.0.2.2"])),
            sessionAffinity=(0.2, lambda: self.pick("None", "ClientIP")),
            clusterIP=(0.1, lambda: "None"),
        ))

    def configmap(self):
        return self.with_some(
            self.object("v1", "ConfigMap"),
            data=(0.8, lambda: {k: self.pick("1", "2", "") for k in self.some("abc")}),
            binaryData=(0.2, lambda: {"z": self.pick("YQ==", "Yg==")}),
            immutable=(0.1, self.maybe),
        )

    def role(self):
        rule = lambda: {"apiGroups": [""], "resources": self.some(["pods", "secrets"], 1),
                        "verbs": self.some(["get", "list"], 1)}
        rules = [rule() for _ in range(self.random.randint(0, 2))]
        return self.object("rbac.authorization.k8s.io/v1", "Role", rules=rules)

    def networkpolicy(self):
        rules = lambda: [{"from": [{"podSelector": {}}]} for _ in range(self.random.randint(0, 2))]
        return self.object("networking.k8s.io/v1", "NetworkPolicy", spec=self.with_some(
            {"podSelector": self.pick({}, {"matchLabels": {"a": "1"}})},
            policyTypes=(0.5, lambda: self.some(["Ingress", "Egress"])),
            ingress=(0.5, rules),
        ))

    def ingress(self):
        backend = lambda: {"service": {"name": "s", "port": {"number": self.pick(80, 81)}}}
        path = lambda p: {"path": p, "pathType": self.pick("Prefix", "Exact"), "backend": backend()}
        rule = lambda h: {"host": h, "http": {"paths": [path(p) for p in self.some(["/a", "/b"], 1)]}}
        return self.object("networking.k8s.io/v1", "Ingress", spec=self.with_some(
            {"rules": [rule(h) for h in self.some(["a.b", "c.d"], 1)]},
            ingressClassName=(0.5, lambda: self.pick("a", "b")),
            tls=(0.3, lambda: [{"hosts": self.some(["a.b", "c.d"]), "secretName": self.pick("s", "t")}]),
        ))

    def autoscaler(self):
        target = lambda: {"type": "Utilization", "averageUtilization": self.pick(50, 60)}
        metric = lambda: {"type": "Resource", "resource": {"name": self.pick("cpu", "memory"), "target": target()}}
        scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
        return self.object("autoscaling/v2", "HorizontalPodAutoscaler", spec=self.with_some(
            {"scaleTargetRef": scaled, "maxReplicas": self.random.randint(1, 5)},
            minReplicas=(0.5, lambda: self.random.randint(0, 2)),
            metrics=(0.5, lambda: [metric()]),
        ))

    def thing(self):
        number = lambda: self.random.randint(0, 2)
        words = lambda: {k: self.pick("1", "2") for k in self.some("xy")}
        item = lambda k: self.with_some(
            {"k": k}, p=(0.5, lambda: self.pick("TCP", "UDP")), v=(0.5, number), o=(0.4, words)
        )
        spec = self.with_some(
            {},
            map=(0.7, lambda: [item(k) for k in self.some("abc")]),
            set=(0.5, lambda: self.some("abcd")),
            atomic=(0.5, lambda: [self.pick("a", "b") for _ in range(number())]),
            whole=(0.4, words),
            free=(0.5, lambda: {k: words() for k in self.some("abc", most=2)}),
            null=(0.3, lambda: self.pick(None, "1", "2")),
            default=(0.3, lambda: self.pick("d", "e")),
            either=(0.3, lambda: self.pick(1, "1")),
            any=(0.4, lambda: self.pick({}, {"x": 1}, {"x": {"y": [1, 2]}}, {"x": [{"a": 1}], "z": None})),
            nested=(0.3, lambda: self.pick({}, {"w": "1"}, {"z": "2"})),
            unknown=(0.1, number),
        )
        condition = lambda t: self.with_some({"type": t}, s=(0.5, lambda: self.pick("T", "F")))
        status = lambda: self.with_some({"conditions": [condition(t) for t in self.some("AB")]}, n=(0.3, number))
        return self.with_some(self.object("compare.example.com/v1", "Thing", spec=spec), status=(0.3, status))

    def part(self, value, depth=0):
        """Some of an object's fields."""
        if not isinstance(value, dict):
            return value
        kept = ("apiVersion", "kind", "metadata", "name") if depth < 2 else ()
        return {k: self.part(v, depth + 1) for k, v in value.items() if k in kept or self.maybe(0.8)}

    def with_nulls(self, value, depth=0):
        if not isinstance(value, dict):
            return value
        null = lambda: depth > 1 and self.maybe(0.1)
        return {k: None if null() else self.with_nulls(v, depth + 1) for k, v in value.items()}

    def write(self, kind, path):
        """One write: a name for it, and what sends it to a server."""
        custom, o = kind == "thing", getattr(self, kind)()
        how = self.pick("apply", "apply", "apply", "apply", "part", "status", "put", "create", "merge", "strategic",
                        "json", "update", "forget")
        query = f"fieldManager={self.pick('m1', 'm2', 'm3')}"
        one = f"{path}/o"
        if how in ("apply", "part", "status"):
            o = self.part(o) if how == "part" else o
            o = self.with_nulls(o) if self.maybe(0.08) else o
            query += "&force=true" if self.maybe(0.4) else ""
            query += "&dryRun=All" if self.maybe(0.1) else ""
            one += "/status" if how == "status" and custom else ""
            request = ("PATCH", f"{one}?{query}", o, TYPES["apply"])
        elif how == "create":
            request = ("POST", f"{path}?{query}", o)
        elif how == "put":
            one += "/status" if custom and self.maybe(0.3) else ""
            request = ("PUT", f"{one}?{query}", o)
        elif how == "merge":
            request = ("PATCH", f"{one}?{query}", self.with_nulls(self.part(o)), TYPES["merge"])
        elif how == "strategic":
            request = ("PATCH", f"{one}?{query}", o if custom else self.part(o), TYPES["strategic"])
        elif how == "json":
            operation = self.pick(
                {"op": "add", "path": "/metadata/labels", "value": {"j": "1"}},
                {"op": "remove", "path": "/metadata/annotations"},
                {"op": "test", "path": "/metadata/name", "value": "o"},
                {"op": "replace", "path": "/spec", "value": o.get("spec")},
                {"op": "add", "path": "/metadata/annotations/x", "value": "y"},
                {"op": "copy", "from": "/metadata/name", "path": "/metadata/generateName"},
            )
            request = ("PATCH", f"{one}?{query}", [operation], TYPES["json"])
        else:
            return (how, query), self.read_and_write(one, query, how == "forget")
        return request, lambda server: server(*request)

    def read_and_write(self, one, query, forget):
        value, drop = self.pick("1", "2"), self.maybe()

        def send(server):
            status, o, warnings = server("GET", one)
            if status != 200:
                return status, o, warnings
            o["metadata"].setdefault("labels", {})["u"] = value
            if forget and drop:
                o["metadata"].pop("managedFields", None)
            elif forget:
                o["metadata"]["managedFields"] = []
            return server("PUT", f"{one}?{query}", o)

        return send


def prepare(server, namespace):
    metadata = {"name": namespace}
    server("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    server("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    server("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    things = f"/apis/compare.example.com/v1/namespaces/{namespace}/things"
    for _ in range(100):
        if server("GET", things)[0] == 200:
            return
        time.sleep(0.1)
    sys.exit(f"{server.host} does not serve {things}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real")
    parser.add_argument("druse")
    parser.add_argument("--token", default="admin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--kinds", default=",".join(Objects.KINDS))
    args = parser.parse_args()
    servers = [Server(url, args.token) for url in (args.real, args.druse)]
    namespace = f"compare-{args.seed}"
    for server in servers:
        prepare(server, namespace)
    objects = Objects(random.Random(args.seed))
    kinds, steps, different = args.kinds.split(","), 0, 0
    for case in range(args.cases):
        kind = objects.pick(*kinds)
        group, plural = Objects.KINDS[kind]
        path = f"/{group}/namespaces/{namespace}/{plural}"
        for step in range(objects.random.randint(3, 14)):
            request, send = objects.write(kind, path)
            real, druse = (send(s) for s in servers)
            steps += 1
            found = differences(masked(list(real)), masked(list(druse)))
            if found:
                different += 1
                print(f"case {case}, {kind}, write {step}: {json.dumps(request)[:1500]}: {real[0]} {druse[0]}")
                for place, a, b in found[:6]:
                    print(f"  {place}\n    real  {json.dumps(a)[:1000]}\n    druse {json.dumps(b)[:1000]}")
                break
        for server in servers:
            server("PATCH", f"{path}/o", {"metadata": {"finalizers": None}}, TYPES["merge"])
            server("DELETE", f"{path}/o?propagationPolicy=Background")
    print(f"seed {args.seed}: {args.cases} objects, {steps} writes, {different} objects where answers differ")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
