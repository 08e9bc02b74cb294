#!/usr/bin/env python3
"""Measures how fast secrets are mounted, and what the driver takes for it: real processes, real mounts.

  benches/mounts.py [--pods N] [--objects N] [--at-once N] [--druse FILE] [--kubelet FILE] [--rival] [--json FILE]

N pods (500), each with a token of its own, mount N parameters each (10) of `druse cloud`, through `druse csi` and `druse
secrets provider`, with the rights of `druse secrets manifests`, against `druse api`:

  cold   all pods at once, as after a node's start: each gets credentials of STS with its own token
  again  unpublished and published again with the same token, so that credentials are warm
  one    as `again`, one after the other: what one mount takes; the aim is 5 ms more than the cloud takes to answer

The cloud's own answer is measured beside it: one GetParameters for the same names, signed here. With --rival, upstream's
driver and provider do the same where tools/csi_interop.py has built them; their provider reaches STS by AWS' own name only,
through a slow proxy, so that of theirs memory and processor time can be compared, and times not. Needs root (mounts live in
a mount namespace of their own), kubectl and a release build.
"""
import argparse
import configparser
import datetime
import hashlib
import hmac
import http.client
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import secrets_lab  # noqa: E402
from operators import Failed  # noqa: E402
from secrets_lab import ACCOUNT, REGION, SecretsLab  # noqa: E402

ACCOUNTS = 50


def name(account, n):
    return f"/home/app/{account}/{n}"


def objects(account, count):
    one = "      - {{objectName: {}, objectType: ssmparameter, objectAlias: p{}}}\n"
    return "".join(one.format(name(account, n), n) for n in range(count))


def declared(count):
    """ServiceAccounts, each with a class of its own parameters."""
    return "---\n".join(f"""apiVersion: v1
kind: ServiceAccount
metadata: {{name: app-{a}, namespace: default, annotations: {{eks.amazonaws.com/role-arn: "arn:aws:iam::{ACCOUNT}:role/app"}}}}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {{name: class-{a}, namespace: default}}
spec:
  provider: aws
  parameters:
    region: {REGION}
    objects: |
{objects(a, count)}""" for a in range(ACCOUNTS))


def share(times, of):
    """A percentile, in milliseconds."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * of / 100))] / 1000


def resident(process):
    """MiB resident now, and at most so far."""
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as f:
        fields = dict(line.split(":", 1) for line in f)
    return tuple(int(fields[k].split()[0]) / 1024 for k in ("VmRSS", "VmHWM"))


def cpu(process):
    """Seconds of processor time so far."""
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cloud_answer(lab, count):
    """Milliseconds that the cloud takes for one GetParameters, at the median of 200, on a connection that is kept."""
    credentials = configparser.ConfigParser(interpolation=None)
    with open(lab.administrator, encoding="utf-8") as f:
        credentials.read_file(f)
    pairs = credentials["default"]
    body = json.dumps({"Names": [name(0, n) for n in range(min(count, 10))], "WithDecryption": True})
    host = lab.cloud_url.removeprefix("http://")
    connection, times = http.client.HTTPConnection(host), []
    for _ in range(200):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {"content-type": "application/x-amz-json-1.1", "host": host, "x-amz-date": now, "x-amz-target": "AmazonSSM.GetParameters"}
        signed = ";".join(sorted(headers))
        canonical = "\n".join(["POST", "/", "", *[f"{k}:{headers[k]}" for k in sorted(headers)], "", signed,
                               hashlib.sha256(body.encode()).hexdigest()])
        scope = f"{now[:8]}/{REGION}/ssm/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + pairs["aws_secret_access_key"]).encode()
        for part in (now[:8], REGION, "ssm", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={pairs['aws_access_key_id']}/{scope}, "
                                    f"SignedHeaders={signed}, Signature={signature}")
        begun = time.perf_counter()
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        times.append((time.perf_counter() - begun) * 1000)
        if answer.status != 200:
            raise Failed(f"the cloud answers {answer.status}: {said[:200]}")
    return statistics.median(times)


def rounds(lab, driver, provider, volumes, args):
    """The three rounds; the driver and the provider are processes of the lab."""
    calls = [v.call() for v in volumes]
    gone = [{"target": v.target} for v in volumes]
    found = {}

    def go(what, given, at_once):
        begun, used = time.monotonic(), cpu(lab.processes[driver])
        answers = lab.kubelet(given, at_once)
        seconds = time.monotonic() - begun
        refused = [a for a in answers if "code" in a]
        if refused:
            raise Failed(f"{len(refused)} of {len(answers)} refused, first: {refused[0]['message']}")
        times = [a["micros"] for a in answers]
        found[what] = {"p50": share(times, 50), "p99": share(times, 99), "seconds": seconds,
                       "driver_cpu_ms": (cpu(lab.processes[driver]) - used) * 1000 / len(given)}

    go("cold", calls, args.at_once)
    for v in volumes[:: max(1, len(volumes) // 20)]:
        if len(v.files()) != args.objects:
            raise Failed(f"{v.pod} has {len(v.files())} files")
    found["driver_mib"], found["driver_mib_at_most"] = resident(lab.processes[driver])
    found["provider_mib"], found["provider_mib_at_most"] = resident(lab.processes[provider])
    lab.kubelet(gone, args.at_once)
    go("again", calls, args.at_once)
    lab.kubelet(gone, args.at_once)
    go("one", calls[:200], 1)
    lab.kubelet(gone, args.at_once)
    found["driver_mib_after"], _ = resident(lab.processes[driver])
    return found


def run(args):
    lab, results = SecretsLab(args, "mounts"), {}
    try:
        lab.cloud({name(a, n): f"value {a} {n}" for a in range(ACCOUNTS) for n in range(args.objects)}, {})
        direct = {"AWS_ENDPOINT_URL": lab.cloud_url}
        lab.proxy.environment = lambda: direct
        lab.apply(declared(args.objects))
        sides = ["druse"]
        rival = [os.path.join(ROOT, "target", "csi-interop", "bin", p) for p in ("secrets-store-csi", "aws-provider")]
        if args.rival and all(os.access(p, os.X_OK) for p in rival):
            sides.append("upstream")
        elif args.rival:
            print("not measured: upstream's driver and provider are not there; tools/csi_interop.py builds them", file=sys.stderr)
        answer = cloud_answer(lab, args.objects)
        print(f"the cloud's own answer: {answer:.2f} ms")
        for side in sides:
            driver, provider = f"driver-{side}", f"provider-{side}"
            if side == "druse":
                lab.driver(driver, [args.druse, "csi"])
                lab.our_provider(provider)
            else:
                lab.driver(driver, [rival[0]], account=None)
                # It reaches STS by AWS' own name only.
                lab.proxy.environment = type(lab.proxy).environment.__get__(lab.proxy)
                lab.provider(provider, [rival[1], "--driver-writes-secrets=true", "--qps=10000", "--burst=10000"])
            volumes = [lab.pod(f"{side}-{n}", f"class-{n % ACCOUNTS}", f"app-{n % ACCOUNTS}") for n in range(args.pods)]
            found = results[side] = rounds(lab, driver, provider, volumes, args)
            for what in ("cold", "again", "one"):
                f = found[what]
                print(f"{side:9} {what:6} p50 {f['p50']:8.2f} ms  p99 {f['p99']:8.2f} ms  all {f['seconds']:6.2f} s  "
                      f"driver {f['driver_cpu_ms']:5.2f} ms CPU a mount")
            print(f"{side:9} driver {found['driver_mib']:.0f} MiB ({found['driver_mib_at_most']:.0f} at most, "
                  f"{found['driver_mib_after']:.0f} after all are gone), provider {found['provider_mib']:.0f} MiB "
                  f"({found['provider_mib_at_most']:.0f} at most)", flush=True)
            lab.end(driver, provider)
    except Failed as e:
        print(f"FAILED {e}; logs are in {lab.folder}")
        return 1
    finally:
        lab.stop()
    results["cloud_ms"] = answer
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)
    over = results["druse"]["one"]["p50"] - answer
    print(f"{'ok' if over < 5 else 'MISSED'}: a mount with warm credentials takes {over:.2f} ms more than the cloud's answer (aim: 5)")
    shutil.rmtree(lab.folder, ignore_errors=True)
    return 0 if over < 5 else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--druse", default=os.path.join(ROOT, "target", "release", "druse"))
    parser.add_argument("--kubelet", default=os.path.join(ROOT, "target", "release", "examples", "kubelet"),
                        help="cargo build --release -p druse-csi --example kubelet")
    parser.add_argument("--kubectl", default=os.environ.get("DRUSE_KUBECTL") or "kubectl")
    parser.add_argument("--rival", action="store_true", help="measure upstream's, too")
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    args.druse, args.kubelet = os.path.abspath(args.druse), os.path.abspath(args.kubelet)
    args.work = tempfile.mkdtemp(prefix="mounts-")
    return run(args)


if __name__ == "__main__":
    secrets_lab.private_mounts()
    sys.exit(main())
