#!/usr/bin/env python3
"""Builds every kustomization below some folders with kubectl and with druse, and says where they differ.

  tools/compare_kustomize.py [--kubectl PATH] [--druse PATH] [--jobs N] [--save DIR] [--time] DIR...

Standard output is compared to the byte, the exit status, and for failures the message. Prints one line for each folder
that differs and a table of counts; the exit status is 1 when a build differs (messages alone do not count). --save keeps
both outputs of folders that differ. --time adds how long each program took for the builds that both do alike.
"""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import time

NAMES = {"kustomization.yaml", "kustomization.yml", "Kustomization"}
TIMEOUT = 60


def folders(roots):
    for root in roots:
        for path, dirs, files in os.walk(root):
            dirs[:] = sorted(d for d in dirs if d != ".git")
            if NAMES & set(files):
                yield path


def build(program, folder):
    started = time.monotonic()
    try:
        done = subprocess.run([program, "kustomize", folder], capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return None, b"", "timed out", TIMEOUT
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"), time.monotonic() - started


def message(stderr):
    """The error without warnings, place and remedy."""
    kept = []
    for line in stderr.splitlines():
        if line.startswith("# Warning"):
            continue
        if line.startswith("  at /") or line.startswith("  help: "):
            break
        kept.append(line)
    return "\n".join(kept).strip().removeprefix("error: ").strip()


def warnings(stderr):
    return [line for line in stderr.splitlines() if line.startswith("# Warning")]


def compare(args, folder):
    theirs = build(args.kubectl, folder)
    ours = build(args.druse, folder)
    both = (theirs, ours)
    if theirs[0] is None or ours[0] is None:
        return "timed out", both
    if (theirs[0] == 0) != (ours[0] == 0):
        return "only druse builds" if ours[0] == 0 else "only kubectl builds", both
    if theirs[0] == 0:
        if theirs[1] != ours[1]:
            return "output differs", both
        return "equal" if warnings(theirs[2]) == warnings(ours[2]) else "warnings differ", both
    if "git fetch" in theirs[2] or "dial tcp" in theirs[2]:
        return "both fail: network", both
    return "both fail alike" if message(theirs[2]) == message(ours[2]) else "both fail, messages differ", both


def main() -> int:
    parser = argparse.ArgumentParser(description="compare kubectl kustomize and druse kustomize")
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--druse", default="druse")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--save")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("dirs", nargs="+")
    args = parser.parse_args()
    counts = {}
    spent = [0.0, 0.0]
    number = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        found = list(folders(args.dirs))
        for folder, (verdict, both) in zip(found, pool.map(lambda f: compare(args, f), found)):
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict == "equal":
                spent = [spent[0] + both[0][3], spent[1] + both[1][3]]
            if verdict in ("equal", "both fail alike", "both fail: network"):
                continue
            print(f"{verdict}: {folder}", flush=True)
            if args.save:
                number += 1
                place = os.path.join(args.save, f"{number:04}")
                os.makedirs(place, exist_ok=True)
                with open(os.path.join(place, "folder"), "w", encoding="utf-8") as f:
                    f.write(f"{verdict}\n{folder}\n")
                for name, (_, out, err, _) in zip(("kubectl", "druse"), both):
                    with open(os.path.join(place, name + ".out"), "wb") as f:
                        f.write(out)
                    with open(os.path.join(place, name + ".err"), "w", encoding="utf-8") as f:
                        f.write(err)
    print(f"{len(found)} folders")
    for verdict in sorted(counts):
        print(f"{counts[verdict]:6} {verdict}")
    if args.time and spent[1]:
        print(f"kubectl {spent[0]:.1f}s, druse {spent[1]:.1f}s: {spent[0] / spent[1]:.1f} times")
    alike = {"equal", "both fail alike", "both fail: network", "both fail, messages differ"}
    return 0 if set(counts) <= alike else 1


if __name__ == "__main__":
    sys.exit(main())
