#!/usr/bin/env python3
"""Builds every Flux Kustomization of homelab repositories with the real flux and with druse, and says where they differ.

  tools/compare_flux.py [--flux PATH] [--druse PATH] [--jobs N] [--keep DIR] [--match REGEX] [-v] REPOSITORY...

Flux gets what the cluster would have: the artifact that its own `build artifact` makes of the repository under the
source's ignore rules, the Kustomization as its parent makes it (which is compared too), and as inline variables those
that `substituteFrom` names, taken from the ConfigMaps and Secrets that druse renders, as a dry run reads none. Objects
are compared one by one, as data. A unit ends in one of these:

  equal       the same objects
  failed      both fail
  masked      the same objects but for values that only a key opens: flux masks them, druse puts placeholders there
  network     it reads what lies outside the repository, which neither fetched
  cluster     it reads a ConfigMap or Secret that is not in the repository
  encrypted   druse refuses a Secret that nothing decrypts, as the controller does; flux builds it
  DIFFERENT   other objects, or one of the two fails

The exit status is 1 where a unit differs. flux is built of its module where its folder `cmd/flux/manifests` holds any
YAML file (it is not part of the module): `go build ./cmd/flux`.
"""
import argparse
import base64
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

GROUP = "kustomize.toolkit.fluxcd.io"
VCS = [".git/", ".gitignore", ".gitmodules", ".gitattributes"]
DEFAULTS = (
    "*.jpg *.jpeg *.gif *.png *.wmv *.flv *.tar.gz *.zip .github/ .circleci/ .travis.yml .gitlab-ci.yml appveyor.yml "
    ".drone.yml cloudbuild.yaml codeship-services.yml codeship-steps.yml **/.goreleaser.yml **/.sops.yaml **/.flux.yaml"
).split()
PLACEHOLDER = re.compile(r"\.\.PLACEHOLDER_([A-Za-z_]\w*)\.\.")
ANY_PLACEHOLDER = re.compile(r"\.\.PLACEHOLDER_")
HASH = re.compile(r"-[2456789bcdfghkmt]{10}$")
ORDER = ["equal", "failed", "masked", "network", "cluster", "encrypted", "DIFFERENT"]


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML as Kubernetes reads it: what looks like a date or a base-60 number is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in all_of if not tag.endswith(("timestamp", ":merge", ":value"))]
    for first, all_of in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(text):
    return [d for d in yaml.load_all(text, Loader=Loader) if d is not None]


def run(args, **options):
    done = subprocess.run(args, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=600, **options)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def key(o):
    meta = o.get("metadata") or {}
    return (o.get("apiVersion"), o.get("kind"), meta.get("namespace") or "", meta.get("name"))


def is_kustomization(o):
    return isinstance(o, dict) and o.get("kind") == "Kustomization" and str(o.get("apiVersion")).startswith(GROUP + "/")


class Repository:
    """What druse makes of a repository, and the artifact that flux builds from."""

    def __init__(self, options, path, scratch):
        self.options, self.path, self.scratch = options, os.path.abspath(path), scratch
        places = ["--offline", "--no-cache"]
        _, out, err = run([options.druse, "tree", self.path, "-o", "json", *places])
        if not out:
            raise SystemExit(f"{path}: {err}")
        self.tree = json.loads(out)
        self.units = {u["unit"]: u for u in self.tree["units"]}
        _, out, _ = run([options.druse, "render", self.path, "--show-secrets", "-q", *places])
        self.made = {}
        for text in re.split(r"^---\n(?=# )", out, flags=re.M)[1:]:
            unit = re.match(r"# .*\(in (\S+?)(?:, .*)?\)\n", text)
            self.made.setdefault(unit.group(1), []).extend(documents(text))
        self.configs, self.sources = {}, {}
        for objects in self.made.values():
            for o in objects:
                if o.get("kind") in ("ConfigMap", "Secret") and o.get("apiVersion") == "v1":
                    _, kind, namespace, name = key(o)
                    self.configs[kind, namespace, name] = entries(o)
                elif str(o.get("apiVersion")).startswith("source.toolkit.fluxcd.io/"):
                    _, kind, namespace, name = key(o)
                    self.sources[f"{kind}/{namespace}/{name}"] = o
        self.artifacts = {}
        self.root = self.path
        self.top = top = run(["git", "-C", self.path, "rev-parse", "--show-toplevel"])[1].strip()
        paths = [clean((self.definition(u) or {}).get("spec", {}).get("path")) for u in self.tree_units()]
        there = lambda root: sum(os.path.isdir(os.path.join(root, p)) for p in paths)
        # A homelab in a folder of a repository has paths of the repository.
        if top and top != self.path and there(top) > there(self.path):
            self.root = top

    def tree_units(self):
        """The Kustomizations whose source is the repository."""
        for unit in self.tree["units"]:
            if unit["unit"].startswith("Kustomization/") and (unit["source"] or {}).get("is_tree"):
                yield unit

    def definition(self, unit):
        """The Kustomization as its parent makes it; a root as it is written."""
        _, namespace, name = unit["unit"].split("/")
        for maker in unit["madeBy"]:
            for o in self.made.get(maker, []):
                if is_kustomization(o) and key(o)[2:] == (namespace, name):
                    return o
        places = (os.path.join(root, unit["file"] or "") for root in (self.root, self.top, self.path))
        path = next((p for p in places if os.path.isfile(p)), None)
        if path is None:
            return None
        with open(path, encoding="utf-8") as f:
            for o in documents(f.read()):
                if is_kustomization(o) and o["metadata"]["name"] == name:
                    return o
                sync = ((o.get("spec") or {}).get("sync") or {}) if isinstance(o, dict) else {}
                if isinstance(o, dict) and o.get("kind") == "HelmRelease":
                    sync = (((o["spec"].get("values") or {}).get("instance") or {}).get("sync")) or {}
                if sync.get("path"):
                    return {
                        "apiVersion": GROUP + "/v1",
                        "kind": "Kustomization",
                        "metadata": {"name": name, "namespace": namespace},
                        "spec": {"path": sync["path"], "prune": True, "interval": "10m",
                                 "sourceRef": {"kind": sync.get("kind"), "name": name}},
                    }
        return None

    def artifact(self, source):
        """A folder with what the source's artifact holds."""
        spec = (self.sources.get(source) or {}).get("spec") or {}
        rules = str(spec.get("ignore") or "").splitlines()
        found = os.path.join(self.root, ".sourceignore")
        if os.path.isfile(found):
            with open(found, encoding="utf-8") as f:
                rules = f.read().splitlines() + rules
        rules = [r for r in rules if r.strip() and not r.startswith("#")]
        if any("," in r for r in rules):
            raise SystemExit(f"{self.path}: a comma in an ignore rule cannot be given to flux")
        rules = VCS + (rules or DEFAULTS)
        at = tuple(rules)
        if at not in self.artifacts:
            base = tempfile.mkdtemp(dir=self.scratch)
            tgz, folder = os.path.join(base, "a.tgz"), os.path.join(base, "a")
            copy = os.path.join(base, "copy")
            for name in files_of(self.root):
                origin, target = os.path.join(self.root, name), os.path.join(copy, name)
                if os.path.lexists(origin) and not os.path.isdir(origin):
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    shutil.copy2(origin, target, follow_symlinks=False)
            flux = [self.options.flux, "build", "artifact", "--path", copy, "--output", tgz]
            code, _, err = run([*flux, "--ignore-paths", ",".join(rules)])
            if code:
                raise SystemExit(f"{self.path}: {err}")
            os.makedirs(folder)
            subprocess.run(["tar", "-xzf", tgz, "-C", folder], check=True)
            self.artifacts[at] = folder
        return self.artifacts[at]

    def variables(self, definition):
        """What `substituteFrom` gives, or None where something is not in the repository."""
        out, missing = {}, False
        post = definition["spec"].get("postBuild") or {}
        for reference in post.get("substituteFrom") or []:
            at = (reference["kind"], definition["metadata"].get("namespace"), reference["name"])
            if at in self.configs:
                out.update({k: v.replace("\n", "") for k, v in self.configs[at].items()})
            elif not reference.get("optional"):
                missing = True
        return out, missing


def clean(path):
    """A Kustomization's path below the artifact's root, above which none leads."""
    return os.path.normpath("/" + str(path or "")).lstrip("/") or "."


def files_of(path):
    """What git keeps below a folder; all files where it is in no repository."""
    kept = run(["git", "-C", path, "ls-files", "-z", "."])[1].split("\0")
    kept = [name for name in kept if name]
    for at, dirs, names in os.walk(path) if not kept else ():
        dirs[:] = [d for d in dirs if d != ".git"]
        kept.extend(os.path.relpath(os.path.join(at, n), path) for n in names)
    return kept


def entries(o):
    out = dict(o.get("data") or {})
    if o["kind"] == "Secret":
        out = {k: base64.b64decode(v or "").decode("utf-8", "replace") for k, v in out.items() if is_base64(v)}
        out.update(o.get("stringData") or {})
    return {k: v for k, v in out.items() if isinstance(v, str)}


def is_base64(text):
    try:
        base64.b64decode(text or "", validate=False)
        return True
    except (ValueError, TypeError):
        return False


def encrypted(value):
    """Whether something in it is still encrypted, or masked by flux."""
    if isinstance(value, dict):
        return "sops" in value or any(encrypted(v) for v in value.values())
    if isinstance(value, list):
        return any(encrypted(v) for v in value)
    if not isinstance(value, str):
        return False
    if "ENC[" in value or "**SOPS**" in value or ANY_PLACEHOLDER.search(value) or "sops" in value:
        return True
    try:
        return b"ENC[" in (raw := base64.b64decode(value, validate=True)) or b"**SOPS**" in raw or b"..PLACEHOLDER_" in raw
    except ValueError:
        return False


def same(a, b):
    """Equal as JSON is: numbers by value, true is no number."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def difference(a, b, at=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for k in [*a, *(k for k in b if k not in a)]:
            if k not in a or k not in b or not same(a[k], b[k]):
                if k in a and k in b:
                    return difference(a[k], b[k], f"{at}.{k}")
                return f"{at}.{k}: only {'flux' if k in a else 'druse'} has it: {a.get(k, b.get(k))!r:.200}"
    if isinstance(a, list) and isinstance(b, list):
        for i, (x, y) in enumerate(zip(a, b)):
            if not same(x, y):
                return difference(x, y, f"{at}[{i}]")
        return f"{at}: flux has {len(a)} items, druse {len(b)}"
    return f"{at}: flux {a!r:.300}, druse {b!r:.300}"


def text(value):
    return value if value is None or isinstance(value, str) else json.dumps(value)


def masked_name(o, names):
    """An object's key, without the hash that generators append where it is made of what only a key opens."""
    api, kind, namespace, name = key(o)
    if kind in ("Secret", "ConfigMap") and encrypted({k: v for k, v in o.items() if k in ("data", "stringData")}):
        plain = HASH.sub("", name)
        names[name] = plain
        return api, kind, namespace, plain
    return api, kind, namespace, name


def renamed(value, names):
    if isinstance(value, dict):
        return {k: renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def compare_objects(theirs, ours):
    masked, faults = False, []
    names, a, b = {}, {}, {}
    for objects, into in ((theirs, a), (ours, b)):
        for o in objects:
            # Secrets flux writes anew to mask them: without what is empty, and text that looks like a number as one.
            if o.get("kind") == "Secret":
                plain = {k: {n: text(v) for n, v in (o.get(k) or {}).items()} for k in ("data", "stringData")}
                o = {**{k: v for k, v in o.items() if k not in plain}, **{k: v for k, v in plain.items() if v}}
            into.setdefault(masked_name(o, names), []).append(o)
    # The controller takes the namespace off what has none in the cluster's API, which a build does not ask.
    for api, kind, namespace, name in list(a):
        there, here = (api, kind, namespace, name), (api, kind, "", name)
        if namespace and there not in b and here in b and here not in a:
            a[here] = [{**o, "metadata": {k: v for k, v in o["metadata"].items() if k != "namespace"}} for o in a.pop(there)]
    for k in [*a, *(k for k in b if k not in a)]:
        label = "/".join(str(p) for p in k)
        for i in range(max(len(a.get(k, [])), len(b.get(k, [])))):
            x = a[k][i] if i < len(a.get(k, [])) else None
            y = b[k][i] if i < len(b.get(k, [])) else None
            if x is None or y is None:
                faults.append(f"{label}: only {'druse' if x is None else 'flux'} has it")
                continue
            if same(x, y):
                continue
            if encrypted(x) and encrypted(y):
                masked = True
                shape = lambda o: {f: sorted(o[f] or []) for f in ("data", "stringData") if f in o}
                if x["kind"] != "Secret" or shape(x) == shape(y):
                    continue
            x, y = renamed(x, names), renamed(y, names)
            if names and same(x, y):
                masked = True
                continue
            faults.append(f"{label}: {difference(x, y)}")
    return masked, faults


def outcome(repo, unit):
    """How a unit ends, and what is to be said of it."""
    definition = repo.definition(unit)
    if definition is None:
        return "DIFFERENT", ["its definition was not found"]
    definition = json.loads(json.dumps(definition))
    _, namespace, name = unit["unit"].split("/")
    definition["metadata"]["namespace"] = namespace
    ours = repo.made.get(unit["unit"], [])
    errors = [e["message"] for e in unit["errors"]]
    variables, missing = repo.variables(definition)
    if missing:
        if any("substitute from" in e or "substituteFrom" in e for e in errors):
            return "cluster", errors
    text = json.dumps(ours)
    post = definition["spec"].get("postBuild")
    if post is not None and post.get("substituteFrom"):
        unknown = {n: f"..PLACEHOLDER_{n}.." for n in PLACEHOLDER.findall(text)}
        post["substitute"] = {**unknown, **variables, **(post.get("substitute") or {})}
        del post["substituteFrom"]
    artifact = repo.artifact(unit["source"]["id"])
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=repo.scratch, encoding="utf-8") as f:
        json.dump(definition, f)
        f.flush()
        path = clean(definition["spec"].get("path"))
        code, out, err = run(
            [repo.options.flux, "build", "kustomization", name, "--namespace", namespace, "--path", path,
             "--kustomization-file", f.name, "--dry-run", "--in-memory-build", "--strict-substitute"],
            cwd=artifact,
        )
    outside = [u for u in unit["unresolved"] if "http" in u or "git" in u or "fetched" in u]
    if code and outside:
        return "network", [err.strip()[-300:], *outside]
    if code and errors:
        return "failed", [f"flux:  {err.strip()[-600:]}", *(f"druse: {e}" for e in errors)]
    if errors and all("SOPS encrypted" in e for e in errors):
        return "encrypted", errors
    if code or errors:
        return "DIFFERENT", [f"only flux fails: {err.strip()[-1000:]}"] if code else [f"only druse fails: {e}" for e in errors]
    theirs = documents(out)
    masked, faults = compare_objects(theirs, ours)
    if faults:
        return "DIFFERENT", faults
    return ("masked" if masked else "equal"), []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPOSITORY")
    parser.add_argument("--flux", default="flux")
    parser.add_argument("--druse", default="target/release/druse")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--match", help="only units whose id matches")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every unit that is not equal")
    options = parser.parse_args()
    options.flux, options.druse = (shutil.which(p) or os.path.abspath(p) for p in (options.flux, options.druse))
    total = dict.fromkeys(ORDER, 0)
    objects = 0
    for path in options.repositories:
        counts, elsewhere, suspended = dict.fromkeys(ORDER, 0), 0, 0
        with tempfile.TemporaryDirectory() as scratch:
            repo = Repository(options, path, scratch)
            todo = []
            for unit in repo.tree["units"]:
                if not unit["unit"].startswith("Kustomization/") or not re.search(options.match or "", unit["unit"]):
                    continue
                if unit["state"] == "suspended":
                    suspended += 1
                elif not (unit["source"] or {}).get("is_tree"):
                    elsewhere += 1
                else:
                    repo.artifact(unit["source"]["id"])
                    todo.append(unit)
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                for unit, (ending, detail) in zip(todo, pool.map(lambda u: outcome(repo, u), todo)):
                    counts[ending] += 1
                    total[ending] += 1
                    objects += len(repo.made.get(unit["unit"], [])) if ending in ("equal", "masked") else 0
                    if ending == "DIFFERENT" or (options.verbose and ending != "equal"):
                        print(f"{ending}: {path}: {unit['unit']}")
                        for line in detail[:20]:
                            print(f"    {line}")
        said = ", ".join(f"{counts[e]} {e}" for e in ORDER if counts[e])
        print(f"{path}: {len(todo)} units: {said or 'none'}; {elsewhere} of other sources, {suspended} suspended", flush=True)
    print(f"{sum(total.values())} units ({objects} objects alike): " + ", ".join(f"{total[e]} {e}" for e in ORDER))
    return 1 if total["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
