"""Serves moto, with the parameters and the secret that the provider's tests read made by boto3.

Prints its URL, and ends when its standard input does.
"""
import logging
import sys

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
for region in ("us-west-2", "eu-west-1"):
    ssm = boto3.client("ssm", endpoint_url=url, region_name=region, **keys)

    def put(name, value):
        ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)

    put("/home/app/db", "first")
    put("/home/app/db", "second")
    ssm.label_parameter_version(Name="/home/app/db", ParameterVersion=1, Labels=["old"])
    put("/home/app/json", '{"user":"u","deep":{"list":["x","y"]},"n":3}')
    put("/home/app/base64", "aGkA/w==")
    put("plain", "of plain")
    for n in range(25):
        put(f"/home/app/many/{n}", f"value {n}")
    secrets = boto3.client("secretsmanager", endpoint_url=url, region_name=region, **keys)
    secrets.create_secret(Name="app-secret", SecretString='{"k":"of the secret"}')
    secrets.create_secret(Name="app-binary", SecretBinary=b"\x00\xff")
print(url, flush=True)
sys.stdin.read()
