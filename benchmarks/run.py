"""Measures a gateway of its own against the simulated provider: CPU per request and per chunk. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
GATEWAY_CORE, LOAD_CORE = "0", "1"
PHASES = {
    "plain, 1 client": "-c 1 -t 3 -w 0.7",
    "plain, 32 clients": "-c 32 -t 4 -w 0.7",
    "100 streams of 50 chunks/s": "-s -n 100 -d 20 -c 100 -t 3 -w 2.2 -g 4",
    "1000 streams of 50 chunks/s": "-s -n 100 -d 20 -c 1000 -t 3.5 -w 3 -g 2.5",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(folder: Path) -> tuple[Path, Path]:
    made = []
    for source in (HERE / "upstream/sim.c", HERE / "load/load.c"):
        target = folder / source.stem
        subprocess.run(["cc", "-O2", "-o", target, source], check=True)
        made.append(target)
    return made[0], made[1]


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and its threads, to the nanosecond (Linux's schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def busy_seconds() -> float:
    """CPU time of the whole machine."""
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def manage(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "DATA_DIR": str(folder / "data")}
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def start_gateway(folder: Path, port: int) -> subprocess.Popen[bytes]:
    env = {**os.environ, "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "WARNING"}
    command = ["taskset", "-c", GATEWAY_CORE, sys.executable, str(ROOT / "manage.py"), "api", "--port", str(port)]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return process
    raise SystemExit("the gateway did not start")


def measure(load: Path, url: str, key: str, options: str, pid: int) -> dict[str, Any]:
    command = ["taskset", "-c", LOAD_CORE, str(load), "-u", url, "-m", "sim", *options.split()]
    cpu, started = cpu_seconds(pid), time.monotonic()
    done = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {key}"], check=True, capture_output=True, text=True, timeout=120
    )
    used = cpu_seconds(pid) - cpu
    return {**json.loads(done.stdout), "cpu": used, "wall": time.monotonic() - started, "mb": memory_mb(pid)}


def row(name: str, found: dict[str, Any]) -> str:
    count, unit = (found["chunks_total"], "chunk") if found["stream"] else (found["ok"], "request")
    rate = f"{found['chunks_s']:8.0f} chunks/s" if found["stream"] else f"{found['rps']:8.0f} requests/s"
    cost = found["cpu"] / max(1, count) * 1e6
    return f"{name:30} {cost:7.1f} µs/{unit:8} {rate:22} errors {found['err']}   {found['mb']:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print every figure of every phase")
    options = parser.parse_args()
    if not (shutil.which("cc") and shutil.which("taskset")):
        raise SystemExit("This needs a C compiler and taskset (Debian: apt install build-essential util-linux).")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sim, load = build(folder)
        sim_port, port = free_port(), free_port()
        manage(folder, "init")
        key = re.search(r"sk-gw-\S+", manage(folder, "firstrun"))
        assert key is not None
        base_url = f"http://127.0.0.1:{sim_port}/v1"
        manage(folder, "provider", "add", "Sim", "--adapter", "openai_chat", "--base-url", base_url, "--model", "sim")
        provider = subprocess.Popen(["taskset", "-c", LOAD_CORE, str(sim), str(sim_port)], stdout=subprocess.DEVNULL)
        gateway = start_gateway(folder, port)
        try:
            for phase, arguments in PHASES.items():
                busy = busy_seconds()
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                found = measure(load, url, key.group(), arguments, gateway.pid)
                print(json.dumps({"phase": phase, **found}) if options.json else row(phase, found), flush=True)
                print(f"{'':30} machine {((busy_seconds() - busy) / found['wall']):.2f} cores busy in all")
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(40)
            provider.kill()


if __name__ == "__main__":
    main()
