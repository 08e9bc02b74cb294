"""boto3 as a client of the local cloud: run with AWS_ENDPOINT_URL and the administrator's credentials set, and the role
and token to exchange as arguments. Prints nothing when all is as AWS would have it."""
import sys

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

role, token, expired = sys.argv[1:4]


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        found = e.response["Error"]["Code"]
        assert found == code, f"{call.__name__}: {found} instead of {code}: {e}"
        return
    raise AssertionError(f"{call.__name__} was not refused with {code}")


admin = boto3.client("ssm")
assert admin.put_parameter(Name="/home/app/db", Value="päss", Type="SecureString", Overwrite=True)["Version"] >= 1
admin.put_parameter(Name="/home/app/db", Value="second", Type="SecureString", Overwrite=True)
refused("ParameterAlreadyExists", admin.put_parameter, Name="/home/app/db", Value="x", Type="String")
for n in range(23):
    admin.put_parameter(Name=f"/home/many/{n}", Value=str(n), Type="String", Overwrite=True)
pages = admin.get_paginator("get_parameters_by_path").paginate(Path="/home/many")
assert len([p for page in pages for p in page["Parameters"]]) == 23
admin.label_parameter_version(Name="/home/app/db", ParameterVersion=1, Labels=["old"])
assert admin.get_parameter(Name="/home/app/db:old", WithDecryption=True)["Parameter"]["Version"] == 1
assert len(admin.get_parameter_history(Name="/home/app/db")["Parameters"]) >= 2
names = [p["Name"] for page in admin.get_paginator("describe_parameters").paginate() for p in page["Parameters"]]
assert "/home/app/db" in names and len(names) == 24, names
assert boto3.client("sts").get_caller_identity()["Account"] == "111122223333"

sts = boto3.client("sts", config=Config(signature_version=UNSIGNED))
assume = dict(RoleArn=role, RoleSessionName="boto")
refused("InvalidIdentityToken", sts.assume_role_with_web_identity, WebIdentityToken="no.token.it", **assume)
refused("ExpiredTokenException", sts.assume_role_with_web_identity, WebIdentityToken=expired, **assume)
refused("AccessDenied", sts.assume_role_with_web_identity, WebIdentityToken=token, RoleArn=role + "x", RoleSessionName="boto")
answer = sts.assume_role_with_web_identity(WebIdentityToken=token, **assume)
assert answer["SubjectFromWebIdentityToken"] == "system:serviceaccount:default:app"
keys = answer["Credentials"]
session = boto3.Session(
    aws_access_key_id=keys["AccessKeyId"],
    aws_secret_access_key=keys["SecretAccessKey"],
    aws_session_token=keys["SessionToken"],
)
assert session.client("sts").get_caller_identity()["Arn"].endswith(":assumed-role/app/boto")
pod = session.client("ssm")
got = pod.get_parameters(Names=["/home/app/db", "/home/app/none"], WithDecryption=True)
assert [p["Value"] for p in got["Parameters"]] == ["second"] and got["InvalidParameters"] == ["/home/app/none"]
refused("AccessDeniedException", pod.get_parameters, Names=["/home/many/1"])
refused("AccessDeniedException", pod.put_parameter, Name="/home/app/db", Value="x", Type="String", Overwrite=True)
refused("ParameterNotFound", admin.get_parameter, Name="/none")
wrong = boto3.client("ssm", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key="x", aws_session_token=keys["SessionToken"])
refused("InvalidSignatureException", wrong.get_parameters, Names=["/home/app/db"])

secrets = session.client("secretsmanager")
assert secrets.get_secret_value(SecretId="app-secret")["SecretString"] == '{"k":"v"}'
assert "AWSCURRENT" in list(secrets.describe_secret(SecretId="app-secret")["VersionIdsToStages"].values())[0]
refused("AccessDeniedException", secrets.get_secret_value, SecretId="other")

s3 = boto3.client("s3")
s3.put_object(Bucket="home-oidc", Key="x/y z.txt", Body=b"text", ContentType="text/plain", CacheControl="max-age=5")
anybody = boto3.client("s3", config=Config(signature_version=UNSIGNED))
o = anybody.get_object(Bucket="home-oidc", Key="x/y z.txt")
assert o["Body"].read() == b"text" and o["ContentType"] == "text/plain" and o["CacheControl"] == "max-age=5"
assert anybody.head_object(Bucket="home-oidc", Key="x/y z.txt")["ContentLength"] == 4
refused("NoSuchKey", anybody.get_object, Bucket="home-oidc", Key="none")
refused("NoSuchBucket", anybody.get_object, Bucket="none-such", Key="x")
refused("AccessDenied", anybody.put_object, Bucket="home-oidc", Key="x", Body=b"")
