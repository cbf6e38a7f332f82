"""A real server with a scripted provider, and a browser that watches what a page costs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.answers import Answer, Pause, chunk, sse

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info"]
WATCH = """
self.seen = { tasks: [], inputs: [], frames: 0 };
const watch = (type, take, more) => new PerformanceObserver((list) => list.getEntries().forEach(take))
  .observe({ type, buffered: true, ...more });
watch("longtask", (one) => self.seen.tasks.push(one.duration));
watch("event", (one) => one.interactionId && self.seen.inputs.push(one.duration), { durationThreshold: 16 });
document.addEventListener("securitypolicyviolation", (event) => console.error("CSP " + event.violatedDirective));
const count = () => { self.seen.frames += 1; requestAnimationFrame(count); };
requestAnimationFrame(count);
"""
# A phone on a slow line: bytes a second, seconds there and back, and how much slower it counts.
SLOW = {"offline": False, "downloadThroughput": 200_000, "uploadThroughput": 93_750, "latency": 150}
SLOWER = 4


def paced(tokens: int, per_second: int) -> Answer:
    """So many tokens of four characters, as fast as is said, in paragraphs."""

    def told() -> Iterator[Any]:
        begun = time.monotonic()
        for number in range(tokens):
            yield chunk({"content": f"w{number % 100:02}{chr(10) * 2 if number % 60 == 59 else ' '}"})
            ahead = (number + 1) / per_second - (time.monotonic() - begun)
            if ahead > 0:
                yield Pause(ahead)
        yield chunk({"content": "THE END"})
        yield chunk({}, "stop")
        yield "[DONE]"

    return sse(told())


class Server:
    """`manage.py api` on a folder of its own, with an administrator and the scripted provider."""

    def __init__(self, folder: Path, provider_url: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        away = {"DATABASE_URL", "REDIS_URL", "DATA_DIR"}
        self.environment = {name: value for name, value in os.environ.items() if name not in away}
        self.environment |= {"DATA_DIR": str(folder), "PORT": str(self.port), "DRAIN_SECONDS": "0"}
        self.log = (folder / "log").open("ab")
        self._run("-m", "g4fsite", "init")
        told = self._run("manage.py", "firstrun")
        self.password = re.findall(r"password (\S+)", told)[0]
        self.key = re.findall(r"sk-gw-\S+", told)[0]
        self._run(
            "manage.py",
            "provider",
            "add",
            "Rack",
            "--adapter",
            "openai_chat",
            "--base-url",
            provider_url,
            "--model",
            "paced:chat",
        )
        self._run("manage.py", "alias", "set", "default", "Rack/paced")
        self.start()

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return done.stdout

    def start(self) -> None:
        command = [sys.executable, "manage.py", "api"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/livez", timeout=1).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(40)

    def api(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"{self.url}/backend-api/v2", headers=headers, timeout=60)

    def long_chat(self, count: int) -> tuple[str, list[str]]:
        """A chat of so many messages: its id and theirs."""
        with self.api() as client:
            chat = client.post("/conversations", json={"title": "A long talk"}).json()["id"]
            ids = []
            for number in range(count):
                role = "assistant" if number % 2 else "user"
                text = f"Message {number}.\n\n" + "Some words of it. " * 12
                said = client.post(f"/conversations/{chat}/messages", json={"content": text, "role": role})
                ids.append(said.json()["id"])
        return chat, ids


class Visitor:
    """A page that counts what comes over the wire and what it costs to show."""

    def __init__(self, browser: Browser, server: Server, state: Any = None) -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, storage_state=state)
        self.context.add_init_script(WATCH)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda note: note.type == "error" and self.complaints.append(note.text))
        self.cdp = self.context.new_cdp_session(self.page)
        self.cdp.send("Network.enable")
        self.cdp.send("Performance.enable")
        self.wire = self.raw = self.requests = 0
        self.hosts: set[str] = set()
        self.cdp.on("Network.loadingFinished", lambda event: self._count("wire", event["encodedDataLength"]))
        self.cdp.on("Network.dataReceived", lambda event: self._count("raw", event["dataLength"]))
        self.cdp.on("Network.requestWillBeSent", self._asked)

    def _count(self, name: str, size: float) -> None:
        setattr(self, name, getattr(self, name) + int(size))

    def _asked(self, event: Any) -> None:
        self.requests += 1
        self.hosts.add(event["request"]["url"].split("/")[2])

    def forget(self) -> None:
        self.wire = self.raw = self.requests = 0

    def sign_in(self) -> Any:
        self.page.goto(f"{self.server.url}/accounts/login/?next=/")
        self.page.fill("#id_login", "admin")
        self.page.fill("#id_password", self.server.password)
        with self.page.expect_navigation():
            self.page.locator("button[type=submit]").first.click()
        return self.context.storage_state()

    def slow(self) -> None:
        self.cdp.send("Network.emulateNetworkConditions", SLOW)
        self.counts_slowly()

    def counts_slowly(self) -> None:
        self.cdp.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})

    def open(self, path: str = "/chat/") -> float:
        """Seconds until there is a box to write in."""
        begun = time.monotonic()
        self.page.goto(self.server.url + path, wait_until="commit")
        self.page.locator("#message").wait_for()
        return time.monotonic() - begun

    def ask(self, words: str) -> float:
        """Sends it; when, by the clock of `time.monotonic`."""
        self.page.locator("#message").fill(words)
        self.page.locator(".go[aria-label=Send]:enabled").wait_for()
        begun = time.monotonic()
        self.page.locator("#message").press("Enter")
        return begun

    def heap(self) -> float:
        """Megabytes after a collection."""
        self.cdp.send("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in self.cdp.send("Performance.getMetrics")["metrics"]}
        return float(found["JSHeapUsedSize"]) / 1e6

    def nodes(self) -> int:
        return int(self.page.evaluate("document.querySelectorAll('*').length"))

    def seen(self) -> dict[str, Any]:
        return dict(self.page.evaluate("self.seen"))

    def blocked(self) -> float:
        """Milliseconds in which longer tasks than 50 ms held up the page."""
        return sum(task - 50 for task in self.seen()["tasks"])
