"""Values files that reach the branches of a chart's templates, made of the values the chart has by default.

Every set is the chart's own values (and those of the charts packed in it, under their names), changed in one way:

  on       what is off is on: `enabled`, `create` and the like
  off      the other way round
  flip     every boolean is its opposite
  fill     what is empty holds something of the shape its name asks for
  on-fill  both
  large    whole numbers are a million times as large, and one part in a million more
  text     numbers and booleans are text
  empty    lists and texts are empty
"""
import os
import re
import tarfile

import yaml

SWITCH = re.compile(r"^(enabled?|create|install|.*Enabled|enable[A-Z].*|useHelmHooks|rbac)$")
# What an empty list or map of a name like this holds when it is filled.
SHAPES = [
    (r"toleration", [{"key": "a", "operator": "Exists"}], {"key": "a"}),
    (r"env$|envs|envvars|extraenv", [{"name": "A", "value": "b"}], {"A": "b"}),
    (r"volumemounts", [{"name": "a", "mountPath": "/a"}], {"name": "a"}),
    (r"volumes", [{"name": "a", "emptyDir": {}}], {"name": "a"}),
    (r"containers", [{"name": "a", "image": "b:1"}], {"a": {"image": "b:1"}}),
    (r"pullsecrets", [{"name": "a"}], {"name": "a"}),
    (r"hosts$", ["a.example.org"], {"host": "a.example.org"}),
    (r"tls$", [{"secretName": "a", "hosts": ["a.example.org"]}], {"secretName": "a"}),
    (r"topologyspread", [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}], {"a": 1}),
    (r"ports$", [{"name": "a", "port": 80, "targetPort": 80}], {"a": 80}),
    (r"objects|manifests|extradeploy|resources$", [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}],
     {"limits": {"cpu": "1", "memory": "1Gi"}}),
    (r"probe", [], {"httpGet": {"path": "/", "port": 80}}),
    (r"affinity", [], {"nodeAffinity": {"a": "b"}}),
    (r"securitycontext", [], {"runAsUser": 1000}),
    (r"args|command", ["a", "--b=c"], {"a": "b"}),
]


def read_yaml(text):
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except (yaml.YAMLError, ValueError):
        return {}


def defaults(chart):
    """The default values of a chart and the charts packed as folders in it; of an archive, its own."""
    if chart.endswith(".tgz"):
        with tarfile.open(chart) as archive:
            texts = {n.split("/", 1)[1]: archive.extractfile(n) for n in archive.getnames() if n.endswith("values.yaml")}
            values = {path: read_yaml(f.read()) for path, f in texts.items() if f}
    else:
        values = {}
        for folder, _, names in os.walk(chart):
            if "values.yaml" in names:
                path = os.path.join(folder, "values.yaml")
                with open(path, encoding="utf-8", errors="replace") as f:
                    values[os.path.relpath(path, chart)] = read_yaml(f.read())
    out = values.get("values.yaml", {})
    for path, below in sorted(values.items()):
        parts = path.split("/")
        if len(parts) == 3 and parts[0] == "charts" and isinstance(out, dict) and isinstance(below, dict):
            own = out.get(parts[1])
            out[parts[1]] = {**below, **own} if isinstance(own, dict) else below
    return out if isinstance(out, dict) else {}


def changed(value, change, key=""):
    """A value with a change made to each part of it."""
    done = change(key, value)
    if done is not None:
        return done
    if isinstance(value, dict):
        return {k: changed(v, change, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [changed(v, change, key) for v in value]
    return value


def switch(to):
    return lambda key, value: to if isinstance(value, bool) and SWITCH.match(key) else None


def fill(key, value):
    if value == "" or value is None and re.search(r"[nN]ame|[iI]mage|[cC]lass", key):
        return "text"
    if value in ([], {}):
        for pattern, items, fields in SHAPES:
            if re.search(pattern, key.lower()):
                return items if isinstance(value, list) else fields
        return ["text"] if isinstance(value, list) else {"key": "text"}
    return None


def large(_, value):
    return value * 1000001 if isinstance(value, int) and not isinstance(value, bool) else None


def text(_, value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None


def empty(_, value):
    return type(value)() if isinstance(value, (str, list)) else None


SETS = {
    "on": [switch(True)],
    "off": [switch(False)],
    "flip": [lambda _, v: not v if isinstance(v, bool) else None],
    "fill": [fill],
    "on-fill": [switch(True), fill],
    "large": [large],
    "text": [text],
    "empty": [empty],
}


def write(chart, folder):
    """Writes the sets that change something into a folder, and gives their paths."""
    values, seen = defaults(chart), []
    for name, changes in SETS.items():
        got = values
        for change in changes:
            got = changed(got, change)
        if got == values or got in seen:
            continue
        seen.append(got)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{name}.yaml")
        with open(path, "w", encoding="utf-8") as f:
            yaml.dump(got, f, sort_keys=False, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
        yield path
