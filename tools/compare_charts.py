#!/usr/bin/env python3
"""Renders every chart below the given folders with the real helm and with druse, and says how the two compare.

  tools/compare_charts.py [options] PATH...

A PATH is a chart (a folder with Chart.yaml, or a .tgz) or a folder in which charts are looked for. Each chart is
rendered with its default values and once with each values file it carries for its own tests (ci/*.yaml and
values-*.yaml); --variants adds runs with other flags, --flags with values on the command line and other outputs, and
--branches with values made of the chart's own (branch_values.py) that reach the branches of its templates.

A comparison ends in one of these:

  equal      the same bytes on standard output
  random     the same bytes but for what differs between two runs of helm itself
  object     the same objects in the same order, in other bytes
  failed     both fail, with the same error
  reason     both fail, with errors that differ
  DIFFERENT  other objects, or one of the two fails
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import branch_values

VARIANTS = [
    ["--include-crds"],
    ["--skip-tests", "--no-hooks"],
    ["--is-upgrade", "--namespace", "another", "--kube-version", "1.30.2"],
    ["--api-versions", "monitoring.coreos.com/v1,cert-manager.io/v1,gateway.networking.k8s.io/v1"],
]
# Values given on the command line, in all their forms; what a chart does not have it passes over.
FLAGS = [
    ["--set", "replicaCount=3,image.tag=1.2.3,extra[1].a\\.b=c,gone=null,list={a,b,c}"],
    ["--set", "nameOverride=x\\,y", "--set-string", "port=8080,flag=true,big=12345678901234567890"],
    ["--set-json", 'podAnnotations={"a":"1","b":2},big=1e6,list=[1,"2",null]'],
    ["--set-literal", "fullnameOverride=a,b=c", "--set", "resources.limits.memory=1000000"],
    ["--set-file", "note={file}", "--values", "{values}"],
    ["--show-only", "templates/NOTES.txt"],
    ["--show-only", "{template}"],
    ["--skip-tests", "--include-crds", "--kube-version", "v1.25.0", "--api-versions", "policy/v1beta1/PodSecurityPolicy"],
    ["--output-dir", "{out}"],
    ["--name-template", "{{ \"named\" | upper | lower }}", "--namespace", "ns"],
]
ORDER = ["equal", "random", "object", "failed", "reason", "DIFFERENT"]


def charts(path):
    """Charts at or below a path; charts packed in charts are not looked for."""
    if os.path.isfile(os.path.join(path, "Chart.yaml")) or path.endswith(".tgz"):
        yield path
    elif os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            yield from charts(os.path.join(path, name))


def values_files(chart):
    """The values files a chart carries for its own tests."""
    if os.path.isdir(chart):
        ci = os.path.join(chart, "ci")
        for folder, wanted in ((ci, r".*\.ya?ml$"), (chart, r"values[-_.].+\.ya?ml$|.+values\.ya?ml$")):
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                path = os.path.join(folder, name)
                if re.match(wanted, name) and os.path.isfile(path):
                    yield path


def cases(options):
    for root in options.paths:
        for chart in charts(root):
            if options.match and not re.search(options.match, chart):
                continue
            args = ["template", "release-name", chart, *options.arg]
            yield args
            if not options.defaults_only:
                for path in values_files(chart):
                    yield [*args, "--values", path]
            if options.variants:
                for flags in VARIANTS:
                    yield [*args, *flags]
            if options.flags:
                for flags in FLAGS:
                    filled = fill(flags, chart, options.scratch)
                    if filled:
                        named = "--name-template" in filled
                        yield [args[0], *args[2 if named else 1 :], *filled]
            if options.branches:
                # A folder of a fixed name, so that what helm printed can be kept.
                folder = hashlib.sha256(chart.encode()).hexdigest()[:16]
                for path in branch_values.write(chart, os.path.join(options.branches, folder)):
                    yield [*args, "--values", path]


def fill(flags, chart, scratch):
    """Flags with the files they name; nothing where the chart has no such file."""
    templates = os.path.join(chart, "templates")
    names = sorted(n for n in os.listdir(templates) if n.endswith(".yaml")) if os.path.isdir(templates) else []
    if "{template}" in flags and not names:
        return None
    put = {
        "{template}": f"templates/{names[0]}" if names else "",
        "{file}": os.path.join(scratch, "note.txt"),
        "{values}": os.path.join(scratch, "values.yaml"),
    }
    return [next((f.replace(k, v) for k, v in put.items() if k in f), f) for f in flags]


def written(folder):
    """All files below a folder, as one text."""
    out = []
    for path, dirs, files in os.walk(folder):
        dirs.sort()
        for name in sorted(files):
            with open(os.path.join(path, name), encoding="utf-8", errors="replace") as f:
                out.append(f"== {os.path.relpath(os.path.join(path, name), folder)}\n{f.read()}")
    return "".join(out)


def run(binary, args, timeout):
    if "{out}" in args:
        with tempfile.TemporaryDirectory() as folder:
            got = run(binary, [folder if a == "{out}" else a for a in args], timeout)
            got["out"] = got["out"].replace(folder, "OUT") + written(folder)
            return got
    try:
        done = subprocess.run([binary, *args], capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return {"rc": 124, "out": "", "err": "timed out"}
    text = lambda b: b.decode("utf-8", "replace")
    return {"rc": done.returncode, "out": text(done.stdout), "err": text(done.stderr)}


def error_of(result):
    """The error without warnings, prefix and advice."""
    text = re.split(r"^[Ee]rror: ", result["err"], maxsplit=1, flags=re.M)[-1]
    text = re.split(r"^\s*(?:Use --debug flag|help: )", text, maxsplit=1, flags=re.M)[0]
    return text.strip()


def changing(first, again):
    """The lines in which two runs of helm differ; none known when they have other lengths; None when they are equal."""
    if first == again:
        return None
    a, b = first.splitlines(), again.splitlines()
    return [i for i, (x, y) in enumerate(zip(a, b)) if x != y] if len(a) == len(b) else []


def helm_twice(options, args):
    """What helm says: cached when asked for, run again to see what is random."""
    key = hashlib.sha256(json.dumps(args).encode()).hexdigest()
    path = os.path.join(options.cache, key + ".json") if options.cache else None
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    first = run(options.helm, args, options.timeout)
    again = run(options.helm, args, options.timeout) if first["rc"] == 0 else first
    first["lines"] = changing(first["out"], again["out"])
    if path:
        with open(path, "w", encoding="utf-8") as f:
            json.dump(first, f)
    return first


def objects(text):
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [d for d in yaml.load_all(text, Loader=loader) if d is not None]


def first_difference(want, got):
    w, g = want.splitlines(), got.splitlines()
    source = ""
    for i in range(max(len(w), len(g))):
        x, y = (w[i] if i < len(w) else None), (g[i] if i < len(g) else None)
        if x != y:
            return f"line {i + 1} ({source})\n    helm:  {x!r:.300}\n    druse: {y!r:.300}"
        if x.startswith("# Source: "):
            source = x[len("# Source: "):]
    return "line ends differ"


def compare(options, args):
    want = helm_twice(options, args)
    got = run(options.druse, args, options.timeout)
    if want["rc"] != 0 and got["rc"] != 0:
        a, b = error_of(want), error_of(got)
        # What is told of several faults, or of the keys of a map, Go tells in an order that changes from run to run.
        words = lambda text: sorted(re.split(r"[\s,]+", text))
        return ("failed", "") if words(a) == words(b) else ("reason", f"    helm:  {a[:1500]}\n    druse: {b[:1500]}")
    if want["rc"] != 0 or got["rc"] != 0:
        who, result = ("helm", want) if want["rc"] != 0 else ("druse", got)
        return "DIFFERENT", f"    only {who} fails: {error_of(result)[:1500]}"
    if want["out"] == got["out"]:
        return "equal", ""
    w, g = want["out"].splitlines(), got["out"].splitlines()
    if len(w) == len(g):
        unlike = {i for i, (x, y) in enumerate(zip(w, g)) if x != y}
        if not unlike <= set(want["lines"] or []):
            # Both runs may have been in one second: what is made of the clock shows only in another.
            time.sleep(1.1)
            more = changing(want["out"], run(options.helm, args, options.timeout)["out"])
            want["lines"] = sorted({*(want["lines"] or []), *(more or [])}) or want["lines"]
    if want["lines"] is not None and len(w) == len(g):
        loose = set(want["lines"])
        if all(x == y or i in loose for i, (x, y) in enumerate(zip(w, g))):
            return "random", ""
        mask = lambda lines: "\n".join("?" if i in loose else l for i, l in enumerate(lines))
        return "DIFFERENT", "    " + first_difference(mask(w), mask(g))
    try:
        same = objects(want["out"]) == objects(got["out"])
    except Exception:  # not YAML that this reader takes
        same = False
    return "object" if same else "DIFFERENT", "    " + first_difference(want["out"], got["out"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--helm", default=os.environ.get("DRUSE_HELM", "helm"))
    parser.add_argument("--druse", default="target/release/druse")
    parser.add_argument("--cache", metavar="DIR", help="keep what helm printed here, and take it from here")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one run")
    parser.add_argument("--match", help="only charts whose path matches")
    parser.add_argument("--arg", action="append", default=[], help="another argument for both, as --arg=--skip-tests")
    parser.add_argument("--defaults-only", action="store_true", help="no values files")
    parser.add_argument("--variants", action="store_true", help="with other flags too")
    parser.add_argument("--flags", action="store_true", help="with values on the command line and other outputs, too")
    parser.add_argument("--branches", metavar="DIR", help="with values for its branches too, which are written there")
    parser.add_argument("--show", default="reason,DIFFERENT,object", help="which endings to print in full")
    options = parser.parse_args()
    if options.cache:
        os.makedirs(options.cache, exist_ok=True)
    scratch = tempfile.TemporaryDirectory()
    options.scratch = scratch.name
    with open(os.path.join(scratch.name, "note.txt"), "w", encoding="utf-8") as f:
        f.write("one: 1\n  two, {three}\n")
    with open(os.path.join(scratch.name, "values.yaml"), "w", encoding="utf-8") as f:
        f.write("replicaCount: 2\nservice: {type: NodePort}\nnull-map: ~\n")
    shown, counts, seen = options.show.split(","), dict.fromkeys(ORDER, 0), set()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        todo = list(cases(options))
        for args, (ending, detail) in zip(todo, pool.map(lambda a: compare(options, a), todo)):
            counts[ending] += 1
            seen.add(next(a for a in args[1:] if os.path.exists(a)))
            if ending in shown:
                print(f"{ending}: {' '.join(args[2:])}\n{detail}", flush=True)
    print(f"{len(seen)} charts, {len(todo)} renders: " + ", ".join(f"{counts[e]} {e}" for e in ORDER))
    return 1 if counts["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
