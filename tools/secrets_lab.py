"""A cluster and a cloud for the secrets path, of real processes: `druse api`, `druse cloud`, drivers and providers. For
tools/csi_interop.py and benches/mounts.py.

Drivers and providers run with the ServiceAccounts and rights that `druse secrets manifests` declares, and no others;
upstream's driver, which wants more, runs as the administrator. AWS is reached by its own names: a proxy ends TLS with an
authority of the lab's and leads every region's endpoints to `druse cloud`.
"""
import base64
import json
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from operators import Failed, Lab, free_port, sh  # noqa: E402, F401

NODE, REGION, ACCOUNT = "node-a", "us-west-2", "111122223333"
ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "sts.amazonaws.com"
DRIVER = "secrets-store.csi.k8s.io"

TERRAFORM = """
provider "aws" {{
  region              = "{region}"
  allowed_account_ids = ["{account}"]
}}
resource "aws_iam_openid_connect_provider" "cluster" {{
  url            = "{issuer}"
  client_id_list = ["sts.amazonaws.com"]
}}
resource "aws_iam_role" "app" {{
  name = "app"
  assume_role_policy = jsonencode({{ Statement = [{{
    Effect    = "Allow"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Principal = {{ Federated = aws_iam_openid_connect_provider.cluster.arn }}
    Condition = {{
      StringLike   = {{ "{host}:sub" = "system:serviceaccount:default:app*" }}
      StringEquals = {{ "{host}:aud" = "sts.amazonaws.com" }}
    }}
  }}] }})
}}
resource "aws_iam_role_policy" "app" {{
  role = aws_iam_role.app.name
  policy = jsonencode({{ Statement = [
    {{ Effect = "Allow", Action = "ssm:GetParameters", Resource = "arn:aws:ssm:*:{account}:parameter/home/app/*" }},
    {{ Effect = "Allow", Action = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
       Resource = "arn:aws:secretsmanager:*:{account}:secret:app-*" }},
  ] }})
}}
"""


class Proxy:
    """An HTTP proxy that answers every CONNECT itself: TLS with the lab's certificate, and behind it the local cloud."""

    def __init__(self, folder, cloud_port):
        self.bundle = os.path.join(folder, "authority.pem")
        key, request, certificate = (os.path.join(folder, n) for n in ("leaf.key", "leaf.csr", "leaf.pem"))
        authority_key = os.path.join(folder, "authority.key")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        sh(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab authority",
            "-keyout", authority_key, "-out", self.bundle], **quiet)
        sh(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab", "-keyout", key, "-out", request], **quiet)
        extensions = os.path.join(folder, "leaf.ext")
        with open(extensions, "w", encoding="utf-8") as f:
            f.write(f"subjectAltName=DNS:*.{REGION}.amazonaws.com\nbasicConstraints=CA:FALSE\n")
        sh(["openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", self.bundle, "-CAkey", authority_key,
            "-CAcreateserial", "-extfile", extensions, "-out", certificate], **quiet)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        self.tls.set_alpn_protocols(["http/1.1"])
        self.cloud_port = cloud_port
        self.asked = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                more = client.recv(4096)
                if not more:
                    return
                head += more
            self.asked.add(head.split()[1].decode())
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            inner = self.tls.wrap_socket(client, server_side=True)
            with socket.create_connection(("127.0.0.1", self.cloud_port)) as cloud:
                self.pump(inner, cloud)
            inner.close()
        except OSError:
            pass  # whoever went away has its reasons
        finally:
            client.close()

    @staticmethod
    def pump(inner, cloud):
        poll = select.poll()  # select(2) ends at 1024 files
        poll.register(inner, select.POLLIN)
        poll.register(cloud, select.POLLIN)
        while True:
            ready = [inner.fileno()] if inner.pending() else [fd for fd, _ in poll.poll(10_000)]
            if not ready:
                return
            for a, b in ((inner, cloud), (cloud, inner)):
                if a.fileno() in ready:
                    data = a.recv(65536)
                    if not data:
                        return
                    b.sendall(data)

    def environment(self):
        """What leads AWS' SDKs through here."""
        return {"HTTPS_PROXY": self.url, "NO_PROXY": "127.0.0.1,localhost", "SSL_CERT_FILE": self.bundle,
                "AWS_CA_BUNDLE": self.bundle, "AWS_EC2_METADATA_DISABLED": "true"}


class SecretsLab(Lab):
    """One API and one cloud, with the kinds, the ServiceAccounts and the rights of the manifests."""

    def __init__(self, args, name):
        super().__init__(args, name)
        self.tree = self.path("tree")
        os.makedirs(self.tree)
        config = json.loads(self.kubectl("config", "view", "--raw", "-o", "json"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server, self.token = cluster["server"], user["token"]
        self.authority = self.path("api-authority.pem")
        with open(self.authority, "wb") as f:
            f.write(base64.b64decode(cluster["certificate-authority-data"]))
        self.context = ssl.create_default_context(cafile=self.authority)
        parts = [f"--part={p}" for p in ("kinds", "driver", "sync", "provider")]
        manifests = [args.druse, "secrets", "manifests", "--image=example.org/druse:lab", *parts]
        self.apply(sh(manifests, stdout=subprocess.PIPE, text=True).stdout)
        self.until("the driver's kinds are served", lambda: self.api("GET", "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses"))
        self.api("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": NODE, "labels": {"topology.kubernetes.io/region": REGION}}})

    def api(self, method, path, body=None):
        """One request as the administrator."""
        request = urllib.request.Request(self.server + path, method=method, data=json.dumps(body).encode() if body else None)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise Failed(f"{method} {path}: {e.code} {e.read().decode(errors='replace')[:300]}") from e

    # --- the cloud ---

    def cloud(self, parameters, secrets):
        """Serves the local cloud with these values, trusting the API's issuer; and a proxy before it."""
        with open(os.path.join(self.tree, "main.tf"), "w", encoding="utf-8") as f:
            f.write(TERRAFORM.format(region=REGION, account=ACCOUNT, issuer=ISSUER, host=ISSUER.removeprefix("https://")))
            for name in parameters:
                f.write(f'resource "aws_ssm_parameter" "p{abs(hash(name))}" {{\n  name = "{name}"\n  type = "SecureString"\n}}\n')
            for name in secrets:
                f.write(f'resource "aws_secretsmanager_secret" "s{abs(hash(name))}" {{ name = "{name}" }}\n')
        values = self.path("values.yaml")
        with open(values, "w", encoding="utf-8") as f:
            json.dump({"parameters": parameters, "secrets": secrets}, f)
        documents = self.path("documents")
        for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
            os.makedirs(os.path.dirname(documents + path), exist_ok=True)
            with open(documents + path, "w", encoding="utf-8") as f:
                # The API names its keys by its own address; STS asks the issuer for everything.
                f.write(self.kubectl("get", "--raw", path).replace(f"{self.server}/openid", f"{ISSUER}/openid"))
        self.administrator = self.path("cloud", "administrator.credentials")
        port = free_port()
        self.cloud_url = f"http://127.0.0.1:{port}"
        self.start("cloud", [self.args.druse, "cloud", self.tree, f"--listen=127.0.0.1:{port}", "--data", self.path("cloud"),
                             "--values", values, f"--documents={ISSUER}={documents}"], {})

        def answers():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError as e:
                raise Failed(str(e)) from e

        self.until("the cloud answers", answers)
        self.proxy = Proxy(self.folder, port)

    def put(self, name, value):
        """Gives a parameter another value, as the person does who keeps them."""
        env = {"PATH": os.environ["PATH"], "HOME": self.folder, "AWS_ENDPOINT_URL": self.cloud_url, "AWS_REGION": REGION,
               "AWS_SHARED_CREDENTIALS_FILE": self.administrator}
        put = [self.args.druse, "secrets", "put", name, "--offline", "--no-cache"]
        done = subprocess.run(put, cwd=self.tree, env=env, input=value, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise Failed(f"secrets put {name}: {done.stderr.strip()}")

    # --- who runs on the node ---

    def account_token(self, account):
        return self.kubectl("create", "token", account, "-n", "kube-system", "--duration=24h").strip()

    def kubeconfig_of(self, account):
        """A kubeconfig that is this ServiceAccount of kube-system."""
        path = self.path(f"{account}.kubeconfig")
        cluster = {"server": self.server, "certificate-authority": self.authority}
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                       "clusters": [{"name": "c", "cluster": cluster}],
                       "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                       "users": [{"name": "u", "user": {"token": self.account_token(account)}}]}, f)
        return path

    def driver(self, name, command, extra=(), account="druse-csi"):
        """Starts a driver by upstream's flags, which druse's takes too; waits for its socket. Without an account it is the
        administrator: upstream's lists and watches kinds that druse's needs no right to."""
        self.providers = self.path(f"providers-{name}")
        self.socket = self.path(f"{name}.sock")
        self.metrics = f"127.0.0.1:{free_port()}"
        os.makedirs(self.providers, exist_ok=True)
        flags = [f"--endpoint=unix://{self.socket}", f"--nodeid={NODE}", f"--provider-volume={self.providers}",
                 "--additional-provider-volume-paths=", f"--metrics-addr={self.metrics}", *extra]
        self.start(name, [*command, *flags], {"KUBECONFIG": self.kubeconfig_of(account) if account else self.kubeconfig})
        self.until(f"{name} listens", lambda: os.path.exists(self.socket))

    def provider(self, name, command):
        """Starts a provider as a pod finds its cluster: by the variables and the files of its ServiceAccount."""
        folder = "/var/run/secrets/kubernetes.io/serviceaccount"
        if not os.path.ismount("/run/secrets"):
            sh(["mount", "-t", "tmpfs", "tmpfs", "/run/secrets"])
        os.makedirs(folder, exist_ok=True)
        shutil.copy(self.authority, os.path.join(folder, "ca.crt"))
        for file, text in (("token", self.account_token("druse-provider-aws")), ("namespace", "kube-system")):
            with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
                f.write(text)
        host, port = re.fullmatch(r"https://([^:/]+):(\d+)/?", self.server).groups()
        env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "KUBECONFIG": "", "NODE_NAME": NODE}
        self.start(name, [*command, f"--provider-volume={self.providers}"], {**env, **self.proxy.environment()})
        self.until(f"{name} listens", lambda: os.path.exists(os.path.join(self.providers, "aws.sock")))

    def our_provider(self, name):
        self.provider(name, [self.args.druse, "secrets", "provider", "--no-token-requests"])

    def end(self, *names):
        for name in names:
            process = self.processes.pop(name, None)
            if process:
                process.terminate()
                process.wait(20)

    # --- pods ---

    def pod(self, name, cls, account="app"):
        """Makes a pod that mounts a class; gives it as a volume that can be published."""
        made = self.api("POST", "/api/v1/namespaces/default/pods", {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": NODE, "serviceAccountName": account, "containers": [{"name": "main", "image": "example.org/app:1"}],
                     "volumes": [{"name": "secrets", "csi": {"driver": DRIVER, "readOnly": True,
                                                             "volumeAttributes": {"secretProviderClass": cls}}}]}})
        return Volume(self, name, made["metadata"]["uid"], cls, account)

    def kubelet(self, calls, concurrency=1):
        """Has the driver called as the kubelet calls it; gives its answers."""
        given = "\n".join(json.dumps(c) for c in calls)
        done = subprocess.run([self.args.kubelet, self.socket, str(concurrency)], input=given, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise Failed(f"the kubelet's stand-in: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()]


class Volume:
    """A pod's volume."""

    def __init__(self, lab, pod, uid, cls, account):
        self.lab, self.pod, self.uid, self.cls, self.account = lab, pod, uid, cls, account
        self.target = lab.path("pods", uid, "volumes/kubernetes.io~csi/secrets/mount")

    def call(self):
        """The kubelet's request to publish it, with the pod's own token."""
        token = self.lab.api("POST", f"/api/v1/namespaces/default/serviceaccounts/{self.account}/token", {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [AUDIENCE], "expirationSeconds": 3600,
                     "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": self.pod, "uid": self.uid}}})["status"]
        context = {"secretProviderClass": self.cls, "csi.storage.k8s.io/pod.name": self.pod,
                   "csi.storage.k8s.io/pod.namespace": "default", "csi.storage.k8s.io/pod.uid": self.uid,
                   "csi.storage.k8s.io/serviceAccount.name": self.account, "csi.storage.k8s.io/ephemeral": "true",
                   "csi.storage.k8s.io/serviceAccount.tokens": json.dumps({AUDIENCE: token})}
        return {"target": self.target, "context": context}

    def publish(self):
        return self.lab.kubelet([self.call()])[0]

    def unpublish(self):
        return self.lab.kubelet([{"target": self.target}])[0]

    def files(self):
        """`(content, mode)` of each file, by its name in the mount."""
        found = {}
        for folder, _, names in os.walk(self.target, followlinks=True):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self.target)
                if not path.startswith(".."):
                    with open(os.path.join(folder, name), "rb") as f:
                        found[path] = (f.read().decode(errors="replace"), oct(os.stat(os.path.join(folder, name)).st_mode & 0o777))
        return found

    def status(self):
        """What the driver says it mounted: versions by object."""
        name = f"{self.pod}-default-{self.cls}"
        found = self.lab.api("GET", f"/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasspodstatuses/{name}")
        return {o["id"]: o["version"] for o in found["status"].get("objects", [])}


def private_mounts():
    """Runs this script again in a mount namespace of its own: what it mounts ends with it."""
    if os.environ.get("SECRETS_LAB_MOUNTS") == "own":
        return
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        sys.exit("this needs root and unshare(1): drivers mount tmpfs")
    os.environ["SECRETS_LAB_MOUNTS"] = "own"
    os.makedirs("/run/secrets", exist_ok=True)
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
