#!/usr/bin/env python3
"""Builds csi-sanity, the CSI project's own tests of drivers, which a test runs against `druse csi`. Needs Go.

  tools/csi_sanity.py DIR

Does nothing when it is there.
"""
import os
import shutil
import subprocess
import sys

MODULE = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@v5.6.0"


def main() -> int:
    target = os.path.abspath(sys.argv[1])
    if os.access(os.path.join(target, "csi-sanity"), os.X_OK):
        return 0
    if shutil.which("go") is None:
        print("csi_sanity.py: Go is not installed; the test with csi-sanity is skipped", file=sys.stderr)
        return 1
    done = subprocess.run(["go", "install", MODULE], check=False, env={**os.environ, "GOBIN": target})
    if done.returncode != 0:
        print("csi_sanity.py: csi-sanity cannot be built; the test with it is skipped", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
