#!/usr/bin/env python3
"""Brings boto3 and the aws command line, which tests use as clients of the local cloud, and moto, which stands in for AWS
beside it, into a virtual environment.

  tools/aws_clients.py DIR

Does nothing when they are there.
"""
import os
import subprocess
import sys

WANTED = ["boto3>=1.40,<2", "awscli>=1.42,<2", "moto[ssm,secretsmanager]>=5.1,<6", "flask>=3,<4", "flask-cors>=5"]


def main() -> int:
    target = sys.argv[1]
    python = os.path.join(target, "bin", "python")
    probe = [python, "-c", "import boto3, awscli, moto, flask, flask_cors"]
    if os.access(python, os.X_OK) and subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode == 0:
        return 0
    steps = [[sys.executable, "-m", "venv", target], [python, "-m", "pip", "install", "--quiet", *WANTED]]
    for step in steps:
        if subprocess.run(step, check=False).returncode != 0:
            print("aws_clients.py: the package index does not answer; tests with AWS' clients are skipped", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
