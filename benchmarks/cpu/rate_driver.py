# SPDX-License-Identifier: BSD-3-Clause
"""Programs that answer lines (forward_rate, peer_rate.py): started, pinned, asked, ended; and who disturbs them."""
import json
import os
import subprocess
import tempfile
import threading
import time

ANSWER_S = 600  # the longest wait for one answer


class Bystanders:
    """How much of the machine others used since this was made: what makes a measurement worthless."""

    def __init__(self, drivers):
        self.drivers, self.begin = drivers, time.monotonic()
        self.busy_begin, self.own_begin = self.busy_s(), self.own_s()

    @staticmethod
    def busy_s():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")

    def own_s(self):
        ticks = 0
        for pid in [driver.process.pid for driver in self.drivers] + [os.getpid()]:
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                    ticks += sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return ticks / os.sysconf("SC_CLK_TCK")

    def share(self):
        """Of all CPUs' time, 0..1."""
        others = self.busy_s() - self.busy_begin - (self.own_s() - self.own_begin)
        return max(0.0, others / ((time.monotonic() - self.begin) * os.cpu_count()))


class Driver:
    def __init__(self, name, command, cpus):
        """Bound to those CPUs. It loads while the caller goes on, which calls wait_ready before it asks."""
        self.name, self.error, self.ready = name, None, None
        self.said = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
            text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))

    def wait_ready(self):
        """What went wrong, if anything, is in .error from then on."""
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
