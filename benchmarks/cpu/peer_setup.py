# SPDX-License-Identifier: BSD-3-Clause
"""What benchmarks/cpu/run and start need before they measure: llama.cpp, models, our programs.

Everything is made once and kept: the peer in a virtual environment (--peer), models and GGUF files in
the work directory (--work).  What a user can put right ends in one line (Trouble).
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PEER_FLAGS = "-DGGML_NATIVE=ON"
PEER_PACKAGES = ["llama-cpp-python", "gguf", "numpy"]
PEER_BYTES = 2 << 30  # sources and objects of llama.cpp while it is built
MODEL_BYTES = {"qwen3-0.6b": 1.2e9, "qwen3-moe-1.8b": 3.95e9}
FILE_SHARE = {"BF16": 1, "F16": 1, "Q8_0": 0.54, "Q4_0": 0.29}  # of a file in 2-byte weights


class Trouble(Exception):
    """One line: what is wrong and what to do."""


def say(text):
    print(text, flush=True)


def cache_directory():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "polyreme-benchmarks-cpu"


def need_space(directory, size_bytes, what):
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < size_bytes:
        raise Trouble(f"{what} needs {size_bytes / 1e9:.1f} GB in {directory}, which has"
                      f" {free / 1e9:.1f} GB free: name another place with --work or --peer")


def run_logged(command, log, trouble, **settings):
    """Output goes to a file; its last line stands in the error."""
    with open(log, "ab") as out:
        done = subprocess.run(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT, **settings)
    if done.returncode != 0:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise Trouble(f"{trouble}; the last line of {log}: {lines[-1].strip() if lines else '(empty)'}")


# ---- The peer ----


def has_packages(python):
    check = [python, "-c", "import llama_cpp, gguf, numpy"]
    return python.exists() and subprocess.run(check, capture_output=True).returncode == 0


def ensure_peer(directory):
    """The Python of a virtual environment with llama.cpp, built here if it is not there."""
    python = directory / "venv/bin/python"
    if has_packages(python):
        return python
    for tool, package in (("cc", "a C compiler (Debian: build-essential)"),
                          ("c++", "a C++ compiler (Debian: build-essential)")):
        if not shutil.which(tool):
            raise Trouble(f"llama.cpp is built from source, and there is no {tool}: install {package}")
    need_space(directory, PEER_BYTES, "building llama.cpp")
    log = directory / "build.log"
    say(f"building llama.cpp with {PEER_FLAGS} in {directory}: some minutes; log: {log}")
    run_logged([sys.executable, "-m", "venv", directory / "venv"], log,
               "cannot make a virtual environment (Debian: apt install python3-venv)")
    run_logged([python, "-m", "pip", "install", "--no-binary", "llama-cpp-python", *PEER_PACKAGES], log,
               "cannot download or build llama-cpp-python (is there a network, or a pip mirror in PIP_INDEX_URL?)",
               env={**os.environ, "CMAKE_ARGS": PEER_FLAGS})
    if not has_packages(python):
        raise Trouble(f"llama-cpp-python was built but cannot be imported by {python}: see {log}")
    return python


def peer_version(python):
    code = ("import llama_cpp, importlib.metadata as m;"
            "print(m.version('llama-cpp-python'), llama_cpp.llama_cpp.llama_print_system_info().decode())")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    version, _, features = done.stdout.strip().partition(" ")
    return {"name": "llama.cpp", "llama-cpp-python": version, "flags": PEER_FLAGS, "features": features}


# ---- Models ----


def ensure_model(work, python, model, dtype):
    """A directory with safetensors of that type."""
    out = work / "models" / f"{model}-{dtype}"
    if (out / "generation_config.json").exists():
        return out
    need_space(work, int(MODEL_BYTES[model] * 1.1), f"the model {out.name}")
    say(f"making {out}")
    run_logged([python, ROOT / "scripts/make_random_model.py", "--preset", model, "--dtype", dtype, "--out", out],
               work / "models.log", f"cannot make {out}")
    return out


def ensure_gguf(work, python, model, stored, kind):
    """One GGUF file of that type, converted from the directory `stored`."""
    out = work / "gguf" / f"{model}.{kind}.gguf"
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    need_space(work, int(MODEL_BYTES[model] * FILE_SHARE[kind] * 1.1), f"the file {out.name}")
    say(f"making {out}")
    run_logged([python, HERE / "to_gguf.py", stored, out, "--type", kind], work / "models.log", f"cannot make {out}")
    return out


# ---- Our programs ----


def ensure_built(build, targets):
    if not (build / "CMakeCache.txt").exists():
        if not shutil.which("cmake"):
            raise Trouble(f"there is no build in {build} and no cmake to make one: install cmake, or name one with --build")
        build.mkdir(parents=True, exist_ok=True)
        run_logged(["cmake", "-S", ROOT, "-B", build], build / "benchmark.log", "cannot configure Polyreme")
    run_logged(["cmake", "--build", build, "--parallel", "--target", *targets], build / "benchmark.log",
               "cannot build Polyreme")


def machine_limits(work):
    """Peaks of this moment; the program is compiled for this machine."""
    work.mkdir(parents=True, exist_ok=True)
    program = work / "machine_limits"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        raise Trouble("there is no C compiler for benchmarks/machine_limits.c (Debian: build-essential)")
    if not program.exists() or program.stat().st_mtime < (ROOT / "benchmarks/machine_limits.c").stat().st_mtime:
        run_logged([compiler, "-O3", "-march=native", "-pthread", ROOT / "benchmarks/machine_limits.c", "-o", program],
                   work / "models.log", "cannot compile benchmarks/machine_limits.c")
    done = subprocess.run([program], capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble("machine_limits failed: it needs 512 MiB of memory for each thread")
    return done.stdout
