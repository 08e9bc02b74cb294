#!/usr/bin/env python3
"""Measures the embedded API at size: many objects, many watches, a start with all of them. Real processes, real TLS.

  benches/api.py [--objects N] [--watches N] [--writes N] [--druse FILE] [--json FILE]

In this order, with one `druse api` on a folder of its own:

  ready      from the process' start to an answer of /readyz, with nothing stored
  create     N ConfigMaps (100,000) of 300 bytes in 100 namespaces, by 16 connections
  list       all of them in one answer, and in pages of 500 as kubectl asks for them
  watch      N watches (1,000) of one namespace; M writes (200) there, one after the other: from a write's start until the
             last watch has been sent it, measured in one process that reads them all
  again      the server ended by SIGTERM, then by SIGKILL, and started again: ready with all objects

Memory is the server's resident set. The writer and reader of the watches takes processor time from the server: on a
machine of two cores the times of `watch` are more its own than the server's.
"""
import argparse
import asyncio
import json
import os
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOKEN = "measured"
NAMESPACES = 100
CONNECTIONS = 16
PAGE = 500

TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE


class Failed(Exception):
    """Something went otherwise than it must for the figures to mean anything."""


class Connection:
    """One kept HTTP/1.1 connection; answers are read whole, watches line by line."""

    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=TLS, limit=1 << 20)
        return self

    async def ask(self, method, path, body=None):
        """Sends a request and reads the head of its answer: the code and whether the body comes in chunks."""
        data = b"" if body is None else json.dumps(body).encode()
        head = (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n")
        self.writer.write(head.encode() + data)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        self.length = next((int(l.split(":")[1]) for l in lines if l.startswith("content-length:")), None)
        return int(lines[0].split()[1])

    async def chunk(self):
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def body(self):
        if self.length is not None:
            return await self.reader.readexactly(self.length)
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    async def call(self, method, path, body=None):
        code = await self.ask(method, path, body)
        data = await self.body()
        if code >= 300:
            raise Failed(f"{method} {path}: {code} {data[:300]!r}")
        return data

    def close(self):
        self.writer.close()


class Server:
    def __init__(self, druse, data):
        self.druse, self.data = druse, data

    async def start(self):
        """Starts it; how long it took until it was ready, in seconds."""
        config = os.path.join(self.data, "..", "kubeconfig")
        if os.path.exists(config):
            os.remove(config)
        start = time.perf_counter()
        self.child = subprocess.Popen([self.druse, "api", "--quiet", "--listen", "127.0.0.1:0", "--token", TOKEN,
                                       "--data", self.data, "--kubeconfig", config], stdout=subprocess.DEVNULL)
        while True:
            if self.child.poll() is not None:
                raise Failed(f"druse api ended with {self.child.returncode}")
            try:
                with open(config) as f:
                    self.port = int(f.read().split("127.0.0.1:")[1].split()[0].strip('"'))
                connection = await Connection.open(self.port)
                await connection.call("GET", "/readyz")
                connection.close()
                return time.perf_counter() - start
            except (OSError, IndexError, ValueError):
                await asyncio.sleep(0.002)

    def end(self, how):
        self.child.send_signal(how)
        self.child.wait()

    def memory(self):
        """What it holds resident, in MiB."""
        with open(f"/proc/{self.child.pid}/status") as f:
            return next(int(l.split()[1]) for l in f if l.startswith("VmRSS:")) / 1024


def namespace(i):
    return f"n{i % NAMESPACES}"


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x" * 200}}


async def create(server, count):
    setup = await Connection.open(server.port)
    for i in range(NAMESPACES):
        await setup.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace(i)}})
    numbers = iter(range(count))

    async def work():
        connection = await Connection.open(server.port)
        for i in numbers:
            await connection.call("POST", f"/api/v1/namespaces/{namespace(i)}/configmaps", config_map(f"m{i}"))
        connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    setup.close()
    return time.perf_counter() - start


async def lists(server, least):
    """Seconds for one whole list and for one in pages; bytes of the whole."""
    connection = await Connection.open(server.port)
    start = time.perf_counter()
    whole = await connection.call("GET", "/api/v1/configmaps")
    whole_s = time.perf_counter() - start
    found = len(json.loads(whole)["items"])
    start = time.perf_counter()
    paged, token = 0, ""
    while True:
        page = json.loads(await connection.call("GET", f"/api/v1/configmaps?limit={PAGE}&continue={token}"))
        paged += len(page["items"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
    paged_s = time.perf_counter() - start
    connection.close()
    if found < least or paged != found:
        raise Failed(f"{least} objects were made, {found} are listed, {paged} in pages")
    return whole_s, paged_s, len(whole)


async def watches(server, count, writes):
    """Seconds to open them, what the server then holds, and the seconds that each write took to reach all."""
    opened = time.perf_counter()
    path = "/api/v1/namespaces/default/configmaps?watch=1"
    connections = [await Connection.open(server.port) for _ in range(count)]
    for c in connections:
        if await c.ask("GET", path) != 200:
            raise Failed("a watch is refused")
    opened = time.perf_counter() - opened
    seen, all_seen = [0] * count, asyncio.Event()
    behind = {"goal": 0, "left": count}

    async def read(i, c):
        while True:
            seen[i] += (await c.chunk()).count(b'"type":"ADDED"')
            if seen[i] == behind["goal"]:
                behind["left"] -= 1
                if behind["left"] == 0:
                    all_seen.set()

    # What is there already comes first.
    writer = await Connection.open(server.port)
    there = len(json.loads(await writer.call("GET", "/api/v1/namespaces/default/configmaps"))["items"])
    behind["goal"] = there
    readers = [asyncio.create_task(read(i, c)) for i, c in enumerate(connections)]
    if there:
        await all_seen.wait()
    times = []
    for n in range(writes):
        all_seen.clear()
        behind.update(goal=there + n + 1, left=count)
        start = time.perf_counter()
        await writer.call("POST", "/api/v1/namespaces/default/configmaps", config_map(f"w{n}"))
        await all_seen.wait()
        times.append(time.perf_counter() - start)
    memory = server.memory()
    for task in readers:
        task.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    for c in [*connections, writer]:
        c.close()
    return opened, memory, times


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(args, folder):
    data = os.path.join(folder, "data")
    os.mkdir(data, 0o700)
    server, out = Server(args.druse, data), {}

    def say(key, value, text):
        out[key] = value
        print(f"{key:<22} {text}", flush=True)

    try:
        ready = await server.start()
        say("ready_s", ready, f"{ready * 1000:.0f} ms, {server.memory():.0f} MiB")
        took = await create(server, args.objects)
        say("create_per_s", args.objects / took, f"{args.objects / took:.0f} a second, {server.memory():.0f} MiB after")
        out["memory_mib"] = server.memory()
        whole, paged, size = await lists(server, args.objects)
        say("list_s", whole, f"{whole * 1000:.0f} ms for {size / 1e6:.0f} MB, {server.memory():.0f} MiB after")
        say("list_pages_s", paged, f"{paged * 1000:.0f} ms in pages of {PAGE}")
        opened, memory, times = await watches(server, args.watches, args.writes)
        say("watches_open_s", opened, f"{opened * 1000:.0f} ms for {args.watches} watches")
        out["watches_memory_mib"] = memory
        p50, p99 = statistics.median(times), percentile(times, 0.99)
        say("watches_all_p50_s", p50, f"{p50 * 1000:.1f} ms until all have a write, {memory:.0f} MiB")
        say("watches_all_p99_s", p99, f"{p99 * 1000:.1f} ms at most in 99 of 100")
        for how in (signal.SIGTERM, signal.SIGKILL):
            server.end(how)
            ready = await server.start()
            say(f"ready_after_{how.name}_s", ready, f"{ready * 1000:.0f} ms, {server.memory():.0f} MiB")
    finally:
        server.end(signal.SIGKILL)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--watches", type=int, default=1000)
    parser.add_argument("--writes", type=int, default=200)
    parser.add_argument("--druse", default=os.path.join(ROOT, "target", "release", "druse"))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="druse-api-bench-")
    try:
        figures = asyncio.run(measure(args, folder))
    except Failed as e:
        print(f"api.py: {e}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
