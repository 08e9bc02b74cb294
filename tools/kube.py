#!/usr/bin/env python3
"""A real Kubernetes API to compare with: kube-apiserver, built from its Go module, over etcd.

  kube.py up [--port N]               build what is not built, start both, say URL and token, stop with Ctrl-C
  kube.py record FILE...              start both, fill the answers of these steps in (see shared/tools/transcript.py)
  kube.py cel functions               the functions of its CEL, as crates/apiserver/data/cel.tsv has them
  kube.py cel judge <CASES            what its compiler of CRDs' rules says of a schema and a rule a line of JSON

The first build takes some minutes and needs Go. Everything is kept under target/kube.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "kube"
KUBERNETES = "1.36.1"
PROGRAMS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]
ETCD = "v3.6.5"
TOKEN = "admin"


def run(args, cwd):
    subprocess.run(args, cwd=cwd, check=True)


def build(home, name, module, package, prepare, flags=""):
    """A program, once, from a module in a folder of its own: `prepare` writes into it what the module is."""
    out = home / name
    if out.exists():
        return out
    here = home / module
    here.mkdir(parents=True, exist_ok=True)
    print("building", name, file=sys.stderr)
    prepare(here)
    run(["go", "mod", "tidy", "-e"], here)
    run(["go", "build", f"-ldflags=-s -w {flags}", "-o", str(out), package], here)
    return out


def kubernetes(home, name):
    """A program of Kubernetes: kube-apiserver, kube-controller-manager, kube-scheduler."""
    base = "k8s.io/component-base/version"
    flags = f"-X {base}.gitVersion=v{KUBERNETES} -X {base}.gitMajor=1 -X {base}.gitMinor={KUBERNETES.split('.')[1]}"
    return build(home, name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", kubernetes_module, flags)


def kubernetes_module(here):
    """Kubernetes' own module names its libraries by folders; elsewhere they are modules of the same minor version."""
    mod = subprocess.run(
        ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"],
        cwd=here, check=True, capture_output=True, text=True,
    ).stdout
    text = pathlib.Path(json.loads(mod)["GoMod"]).read_text()
    libraries = re.findall(r"^\s*(k8s\.io/\S+) => \./staging", text, re.M)
    version = "v0" + KUBERNETES[1:]
    lines = ["module compared", "", "go " + re.search(r"^go (\S+)", text, re.M).group(1), ""]
    lines += [f"require k8s.io/kubernetes v{KUBERNETES}", "", "replace ("]
    lines += [f"\t{m} => {m} {version}" for m in libraries] + [")"]
    (here / "go.mod").write_text("\n".join(lines) + "\n")
    needs = [f'import _ "k8s.io/kubernetes/cmd/{name}/app"' for name in PROGRAMS]
    (here / "needs.go").write_text("\n".join(["package needs", "", *needs]) + "\n")


def etcd_module(here):
    (here / "go.mod").write_text(f"module store\n\ngo 1.24\n\nrequire go.etcd.io/etcd/server/v3 {ETCD}\n")
    (here / "main.go").write_text(
        'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\n'
        "func main() { etcdmain.Main(os.Args) }\n"
    )


def cel_module(here):
    """The program of tools/cel, beside the modules it is built from."""
    for file in (ROOT / "tools/cel").iterdir():
        shutil.copy(file, here)


def answers(url):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as r:
            return r.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Api:
    """Both processes on loopback, over a folder that is removed with them."""

    def __init__(self, port):
        home = HOME
        home.mkdir(parents=True, exist_ok=True)
        apiserver, etcd = kubernetes(home, "kube-apiserver"), build(home, "etcd", "store", ".", etcd_module)
        self.url = f"https://127.0.0.1:{port}"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kube-"))
        (self.dir / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        key = self.dir / "sa.key"
        run(["openssl", "genrsa", "-out", str(key), "2048"], self.dir)
        store = f"http://127.0.0.1:{port + 1}"
        log = (self.dir / "log").open("w")
        self.processes = [
            subprocess.Popen(
                [etcd, "--data-dir", self.dir / "etcd", "--listen-client-urls", store, "--advertise-client-urls", store,
                 "--listen-peer-urls", f"http://127.0.0.1:{port + 2}"],
                stdout=log, stderr=log,
            )
        ]
        self.processes.append(subprocess.Popen(
            [apiserver, "--etcd-servers", store, "--secure-port", str(port), "--bind-address", "127.0.0.1",
             "--advertise-address", "127.0.0.1", "--cert-dir", self.dir / "certs",
             "--token-auth-file", self.dir / "tokens.csv", "--authorization-mode", "RBAC",
             "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
             "--service-account-key-file", key, "--service-account-signing-key-file", key,
             "--service-cluster-ip-range", "10.96.0.0/12", "--disable-admission-plugins", "ServiceAccount",
             "--allow-privileged=true"],
            stdout=log, stderr=log,
        ))
        deadline = time.monotonic() + 60
        # Anonymous users may ask once the roles are there, the last of what it makes at start.
        while not answers(self.url + "/readyz"):
            if time.monotonic() > deadline or any(p.poll() is not None for p in self.processes):
                print((self.dir / "log").read_text()[-3000:], file=sys.stderr)
                self.stop()
                sys.exit("the API did not start")
            time.sleep(0.2)

    def stop(self):
        for p in reversed(self.processes):
            p.send_signal(signal.SIGTERM)
        for p in self.processes:
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=17443, help="of the API; the next two are the store's")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up")
    commands.add_parser("record").add_argument("files", nargs="+", type=pathlib.Path)
    commands.add_parser("cel").add_argument("what", choices=["functions", "judge"])
    args = parser.parse_args()
    if not shutil.which("go"):
        sys.exit("kube.py builds with Go, which is not on the PATH")
    if args.command == "cel":
        HOME.mkdir(parents=True, exist_ok=True)
        run([build(HOME, "cel-judge", "cel", ".", cel_module), args.what], ROOT)
        return
    api = Api(args.port)
    try:
        if args.command == "up":
            print(f"{api.url} token {TOKEN}", flush=True)
            signal.pause()
        shared = pathlib.Path(os.environ.get("DRUSE_SHARED", ROOT.parent / "shared"))
        for file in args.files:
            run([sys.executable, str(shared / "tools/transcript.py"), "record", api.url, "--token", TOKEN, str(file)], ROOT)
            lay_out(file)
    except KeyboardInterrupt:
        pass
    finally:
        api.stop()


def lay_out(file):
    """A step a line, as the recordings of the tests are kept."""
    steps = json.loads(file.read_text())
    file.write_text("[\n" + ",\n".join(json.dumps(s, separators=(",", ":")) for s in steps) + "\n]\n")


if __name__ == "__main__":
    main()
