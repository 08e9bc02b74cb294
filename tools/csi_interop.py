#!/usr/bin/env python3
"""Tries the provider contract both ways: druse's provider under upstream's CSI driver, upstream's AWS provider under
`druse csi`, and each with its own for comparison. All unmodified, against `druse api` and `druse cloud`.

  tools/csi_interop.py [--druse FILE] [--kubelet FILE] [--work DIR] [--driver-source DIR] [--provider-source DIR] [--no-build]

Every pair of driver and provider does the same steps, and what it makes is compared with what upstream's own pair makes:
files, modes, versions, status objects, Secrets. Providers and druse's driver have the rights of `druse secrets manifests`
and no others; mounts are real and live in a mount namespace of their own, so this needs root.

Needs Go, kubectl and openssl. The driver's source comes through Go's module proxy, where its logging library may be
missing: a few lines of this script's own stand in for that library, and nothing else is changed. The provider's source is
cloned from GitHub (a mirror is named as git names one: url.BASE.insteadOf), or named by --provider-source. What cannot be
had is skipped and said so. Sources and programs stay in DIR (target/csi-interop by default). Exits with 1 when a step
fails, with 2 when an upstream program was not there.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import secrets_lab
from operators import ROOT, Failed, go_runner
from secrets_lab import ACCOUNT, REGION, SecretsLab

DRIVER = ("sigs.k8s.io/secrets-store-csi-driver", "v1.6.0")
PROVIDER = ("https://github.com/aws/secrets-store-csi-driver-provider-aws", "v3.1.1")
# What the driver's main function calls of its logging library, on klog, which the driver logs with everywhere else.
LOGGER = {
    "go.mod": "module monis.app/mlog\n\ngo 1.25\n",
    "mlog.go": """// Package mlog stands in for the logging library of upstream's driver.
package mlog

import (
	"context"

	"k8s.io/klog/v2"
)

type Format string

const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

func Setup() func()               { return klog.Flush }
func Fatal(err error)             { klog.Fatal(err) }
func Error(msg string, err error) { klog.ErrorS(err, msg) }

func ValidateAndSetKlogLevelAndFormatGlobally(context.Context, klog.Level, Format) error { return nil }
""",
}


# --- upstream's programs ------------------------------------------------------------------------------------------

def copied(source, to):
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(source, to)
    subprocess.run(["chmod", "-R", "u+w", to], check=True)
    return to


def build_driver(args, go):
    source = args.driver_source or json.loads(go(["mod", "download", "-json", "@".join(DRIVER)], args.work))["Dir"]
    folder = copied(source, os.path.join(args.work, "driver"))
    logger = os.path.join(args.work, "mlog")
    os.makedirs(logger, exist_ok=True)
    for name, text in LOGGER.items():
        with open(os.path.join(logger, name), "w", encoding="utf-8") as f:
            f.write(text)
    go(["mod", "edit", f"-replace=monis.app/mlog={logger}"], folder)
    go(["build", "-p", "1", "-mod=mod", "-ldflags=-s -w", "-o", args.driver, "./cmd/secrets-store-csi-driver"], folder)


def build_provider(args, go):
    folder = os.path.join(args.work, "provider")
    if args.provider_source:
        copied(args.provider_source, folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        clone = ["git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth", "1", "--branch", PROVIDER[1]]
        subprocess.run([*clone, PROVIDER[0], folder], check=True)
    go(["build", "-p", "1", "-ldflags=-s -w", "-o", args.provider, "."], folder)


def build(args):
    """Builds what is not there; what cannot be built is said."""
    if args.no_build:
        return
    if shutil.which("go") is None:
        print("SKIPPED: Go is not installed, upstream's programs cannot be built", file=sys.stderr)
        return
    go = go_runner(args.work)
    for program, made in ((args.driver, build_driver), (args.provider, build_provider)):
        if os.access(program, os.X_OK):
            continue
        print(f"building {os.path.basename(program)}", flush=True)
        try:
            made(args, go)
        except (subprocess.CalledProcessError, OSError) as e:
            print(f"SKIPPED: {os.path.basename(program)} cannot be built: {e}", file=sys.stderr)


# --- the steps ------------------------------------------------------------------------------------------------------

PARAMETERS = {"/home/app/db": "first", "/home/app/turned": "first", "/home/app/json": '{"user":"u","deep":{"n":"3"}}', "/home/app/a/b": "nested",
              "/home/other/db": "of another"}
PARAMETERS.update({f"/home/app/many/{n}": f"value {n}" for n in range(25)})
SECRETS = {"app-secret": "of the secret"}


def account(name):
    return f"""apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: default, annotations: {{eks.amazonaws.com/role-arn: "arn:aws:iam::{ACCOUNT}:role/app"}}}}
"""


def cls(name, objects, more=""):
    lines = "".join(f"      {line}\n" for line in objects.strip().splitlines())
    return f"""---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {{name: {name}, namespace: default}}
spec:
  provider: aws
  parameters:
    objects: |
{lines}{more}"""


ONE = "- {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db}"
OBJECTS = """
- {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db, filePermission: "0600"}
- {objectName: /home/app/a/b, objectType: ssmparameter}
- objectName: /home/app/json
  objectType: ssmparameter
  objectAlias: json
  jmesPath: [{path: user, objectAlias: user}, {path: deep.n, objectAlias: n}]
- {objectName: app-secret, objectType: secretsmanager, objectAlias: of-secrets-manager}
""" + "".join(f"- {{objectName: /home/app/many/{n}, objectType: ssmparameter, objectAlias: many-{n}}}\n" for n in range(25))
CLASSES = (
    account("app")
    + cls("all", OBJECTS, f"    region: {REGION}\n")
    + cls("region-of-the-node", ONE)
    + cls("turned", "- {objectName: /home/app/turned, objectType: ssmparameter, objectAlias: t}")
    + cls("path", "- {objectName: /home/app/a/b, objectType: ssmparameter}", '    pathTranslation: "False"\n')
    + cls("synced", ONE, f"    region: {REGION}\n  secretObjects: [{{secretName: synced, type: Opaque, data: [{{objectName: db, key: password}}]}}]\n")
    + cls("foreign", "- {objectName: /home/other/db, objectType: ssmparameter}")
    + cls("absent", "- {objectName: /home/app/none, objectType: ssmparameter}")
)


def refusal(answer):
    """A refusal's words, without what differs by run."""
    if "code" not in answer:
        raise Failed("it was published, and must be refused")
    return answer["message"]


def pair(lab, driver, provider):
    """What one driver makes with one provider: a map of step to what was seen."""
    seen = {}
    tag = f"{driver}-{provider}"
    flags = ["--enable-secret-rotation=true", "--rotation-poll-interval=1s"]
    command, account = ([lab.args.druse, "csi"], "druse-csi") if driver == "druse" else ([lab.args.driver], None)
    lab.driver(f"driver-{tag}", command, flags, account)
    start_provider(lab, provider, f"provider-{tag}")

    def volume(name):
        return lab.pod(f"{name}-{tag}", name)

    def mounted(name):
        v = volume(name)
        answer = v.publish()
        if "code" in answer:
            raise Failed(f"{name}: {answer['message']}")
        return v, v.files()

    v, seen["files, modes, batches, jmesPath, Secrets Manager"] = mounted("all")
    status = v.status()
    # A Secrets Manager version is drawn by chance, the same for all who read it.
    seen["object versions in the status"] = status
    _, seen["the region of the node's label"] = mounted("region-of-the-node")
    nested, seen["names with slashes, untranslated"] = mounted("path")
    nested.unpublish()

    secret, _ = mounted("synced")
    lab.until("the Secret is made", lambda: lab.get("secret", "synced", "-n", "default"))
    made = lab.get("secret", "synced", "-n", "default")
    seen["a Secret of secretObjects"] = {"data": made["data"], "type": made["type"], "labels": made["metadata"]["labels"]}
    secret.unpublish()
    lab.kubectl("delete", "pod", secret.pod, "-n", "default", "--grace-period=0", "--force")
    if driver == "upstream":  # names owners by a timer, too late for a pod that is gone
        lab.kubectl("delete", "secret", "synced", "-n", "default", "--ignore-not-found")
    lab.until("the Secret goes with the last pod", lambda: not lab.api("GET", "/api/v1/namespaces/default/secrets")["items"])

    v, _ = mounted("turned")
    before, fresh = v.status(), f"turned for {tag}"
    lab.put("/home/app/turned", fresh)

    def renewed():
        v.publish()
        return v.files()["t"][0] == fresh

    lab.until("a new value reaches the mount", renewed)
    seen["renewal"] = {"names": sorted(v.files()), "up": int(v.status()["t"]) - int(before["t"])}
    seen["unpublished twice"] = [sorted(set(v.unpublish()) - {"micros"}), sorted(set(v.unpublish()) - {"micros"}), os.path.exists(v.target)]

    for name, words in (("foreign", ["/home/other/db"]), ("absent", ["/home/app/none"])):
        refused = volume(name)
        message = refusal(refused.publish())
        missing = [w for w in [*words, refused.pod] if w not in message]
        seen[f"a class that is {name} is refused"] = {"unnamed": missing if provider == "druse" else [], "left": os.path.ismount(refused.target)}
        print(f"    {name}: {message}")
    lab.end(f"driver-{tag}", f"provider-{tag}")
    return seen


def start_provider(lab, provider, name):
    if provider == "druse":
        lab.our_provider(name)
    else:
        lab.provider(name, [lab.args.provider, "--driver-writes-secrets=true", "--qps=100", "--burst=100"])


def run(args):
    drivers = ["upstream", "druse"] if os.access(args.driver, os.X_OK) else ["druse"]
    providers = ["upstream", "druse"] if os.access(args.provider, os.X_OK) else ["druse"]
    if len(drivers) == 1:
        print("SKIPPED: upstream's driver is not there; druse's provider is tried under druse's driver only", file=sys.stderr)
    if len(providers) == 1:
        print("SKIPPED: upstream's provider is not there; druse's driver is tried with druse's provider only", file=sys.stderr)
    lab, results, failed = SecretsLab(args, "interop"), {}, 0
    try:
        lab.cloud(PARAMETERS, SECRETS)
        lab.apply(CLASSES)
        for driver in drivers:
            for provider in providers:
                print(f"{driver}'s driver, {provider}'s provider", flush=True)
                begun = time.monotonic()
                try:
                    results[driver, provider] = pair(lab, driver, provider)
                    print(f"  done in {time.monotonic() - begun:.1f} s", flush=True)
                except Failed as e:
                    failed += 1
                    print(f"  FAILED {e}", flush=True)
                    lab.end(*[p for p in lab.processes if p.startswith(("driver-", "provider-"))])
        print(f"asked through the proxy: {', '.join(sorted(lab.proxy.asked))}")
    finally:
        lab.stop()
    reference = results.get(("upstream", "upstream")) or next(iter(results.values()), {})
    for (driver, provider), seen in results.items():
        for step, made in seen.items():
            same = made == reference.get(step)
            failed += not same
            print(f"{'ok' if same else 'DIFFERS':8} {driver + ' driver':17} {provider + ' provider':18} {step}")
            if not same:
                print(f"    reference: {json.dumps(reference.get(step), sort_keys=True)}\n    here:      {json.dumps(made, sort_keys=True)}")
    if failed:
        print(f"logs are in {lab.folder}")
        return 1
    shutil.rmtree(lab.folder, ignore_errors=True)
    return 0 if len(drivers) + len(providers) == 4 else 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--druse", default=os.path.join(ROOT, "target", "debug", "druse"))
    parser.add_argument("--kubelet", default=os.path.join(ROOT, "target", "debug", "examples", "kubelet"),
                        help="cargo build -p druse-csi --example kubelet")
    parser.add_argument("--kubectl", default=os.environ.get("DRUSE_KUBECTL") or "kubectl")
    parser.add_argument("--work", default=os.path.join(ROOT, "target", "csi-interop"))
    parser.add_argument("--driver-source", help="a folder with upstream's driver")
    parser.add_argument("--provider-source", help="a folder with upstream's AWS provider")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    args = parser.parse_args()
    args.druse, args.kubelet, args.work = (os.path.abspath(p) for p in (args.druse, args.kubelet, args.work))
    os.makedirs(os.path.join(args.work, "bin"), exist_ok=True)
    args.driver = os.path.join(args.work, "bin", "secrets-store-csi")
    args.provider = os.path.join(args.work, "bin", "aws-provider")
    build(args)
    # The tree must lie in no repository.
    args.work = tempfile.mkdtemp(prefix="csi-interop-")
    return run(args)


if __name__ == "__main__":
    secrets_lab.private_mounts()
    sys.exit(main())
