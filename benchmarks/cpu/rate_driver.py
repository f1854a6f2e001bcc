# SPDX-License-Identifier: BSD-3-Clause
"""One program that answers lines (forward_rate or peer_rate.py): started, pinned, asked, ended."""
import json
import os
import subprocess
import tempfile
import threading

ANSWER_S = 600  # the longest wait for one answer


class Driver:
    def __init__(self, name, command, cpus):
        """Bound to those CPUs. What went wrong, if anything, is in .error from then on."""
        self.name, self.error, self.ready = name, None, None
        self.said = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
            text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        self.ready = self.read_answer()

    def read_answer(self):
        watchdog = threading.Timer(ANSWER_S, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        self.said.seek(0)
        lines = self.said.read().strip().splitlines()
        self.error = lines[-1].split("ERROR ")[-1] if lines else f"ended with status {self.process.returncode}"
        return None

    def ask(self, line):
        """The answer, or None after the program has ended."""
        if self.error:
            return None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.read_answer()

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
        self.process.stdout.close()
        self.said.close()
