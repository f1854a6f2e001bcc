# SPDX-License-Identifier: BSD-3-Clause
"""Starts `polyreme serve`, alone or with several ranks, and stops it again, which must leave nothing and exit with 0.

Where it listens is read from its endpoint file. POLYREME_BUILD and POLYREME_SOURCE say where program and sources are.
"""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import httpx2

BUILD = pathlib.Path(os.environ["POLYREME_BUILD"])
SOURCE = pathlib.Path(os.environ["POLYREME_SOURCE"])
MODEL = SOURCE / "models" / "demo"
TEMPLATE = SOURCE / "tests" / "data" / "chat" / "chatml_tools.jinja"

# What runs beside the program, and how its ranks are divided.
LAYOUTS = {
    "one": ([], []),
    "five": (["mpirun", "-n", "5"], ["--prefill", "1x2:tp=2", "--decode", "1x3"]),
}
START_S = 60
STOP_S = 60


class ServerFault(Exception):
    pass


class Server:
    """A running server; `stop` is part of every test."""

    def __init__(self, layout="one", *flags, model=MODEL, environment=None):
        launcher, division = LAYOUTS[layout]
        self.folder = tempfile.TemporaryDirectory(prefix="polyreme-serve-")
        self.endpoint_file = pathlib.Path(self.folder.name) / "endpoint.json"
        self.log_file = open(pathlib.Path(self.folder.name) / "log", "w+b")
        self.ranks = bool(launcher)
        command = [*launcher, str(BUILD / "polyreme"), "serve", str(model), "--port", "0"]
        command += ["--endpoint-file", str(self.endpoint_file), *division, *flags]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})})
        try:
            self._wait_until_ready(" ".join(command))
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._clean()
            raise

    def _wait_until_ready(self, command):
        end = time.monotonic() + START_S
        while not self.endpoint_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise ServerFault(f"{command} does not become ready:\n{self.log()}")
            time.sleep(0.02)
        self.endpoint = json.loads(self.endpoint_file.read_text())
        self.url = self.endpoint["url"].removesuffix("/v1")
        key_file = self.endpoint["api_key_file"]
        self.key = pathlib.Path(key_file).read_text().split("\n")[0] if key_file else None
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        reply = httpx2.get(self.url + "/v1/models", headers=headers)
        if reply.status_code not in (200, 401):  # 401: a key that only the test knows
            raise ServerFault(f"ready, but /v1/models answers {reply.status_code} {reply.text}")

    def _clean(self):
        self.log_file.close()
        self.folder.cleanup()

    def log(self):
        self.log_file.flush()
        self.log_file.seek(0)
        return self.log_file.read().decode(errors="replace")

    def load(self):
        return httpx2.get(self.url + "/load").json()["server_load"]

    def wait_for_load(self, load, within_s=10):
        """True when so many sequences are under way."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if self.load() == load:
                return True
            time.sleep(0.01)
        return False

    def first_rank(self):
        """The process that serves: mpirun would not wait for its ranks to end in order."""
        if not self.ranks:
            return self.process.pid
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            environment = pathlib.Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            if b"OMPI_COMM_WORLD_RANK=0" in environment:
                return int(child)
        raise ServerFault("no rank 0 among mpirun's children")

    def ask_to_end(self):
        os.kill(self.first_rank(), signal.SIGTERM)

    def wait(self):
        """Its exit code; what it left behind is a fault."""
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServerFault(f"does not end:\n{self.log()}") from None
        log = self.log()
        left = self.endpoint_file.exists()
        self._clean()
        if code != 0 or " ERROR " in log or left:
            raise ServerFault(f"exit code {code}, endpoint file left: {left}, log:\n{log}")
        return code

    def stop(self):
        self.ask_to_end()
        return self.wait()
