"""Measures the chat page against its targets and prints a table: `python -m benchmarks.gui [--write FILE]`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gui.stage import CHROMIUM, FLAGS, ROOT, Server, Visitor, paced
from tests.support.answers import Pause, chunk, sse
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Row = tuple[int, str, str, str]
MARK = "<!-- measured -->"
LAST_SHOWN = "() => document.querySelector('.log')?.textContent.length ?? 0"


class Bench:
    def __init__(self, browser: Browser, server: Server, provider: ScriptedProvider) -> None:
        self.browser, self.server, self.provider = browser, server, provider
        self.state = Visitor(browser, server).sign_in()
        self.rows: list[Row] = []

    def visitor(self) -> Visitor:
        return Visitor(self.browser, self.server, self.state)

    def row(self, number: int, what: str, found: str, target: str) -> None:
        self.rows.append((number, what, found, target))
        print(f"{number:>3}  {what}: {found}  (target {target})", flush=True)

    def first_load(self) -> None:
        me = self.visitor()
        me.open()
        me.page.wait_for_load_state("networkidle")
        others = me.hosts - {f"127.0.0.1:{self.server.port}"}
        found = f"{me.wire / 1000:.0f} KB / {me.raw / 1000:.0f} KB / {me.requests}, {len(others)} other hosts"
        self.row(1, "first load: wire / raw / requests", found, "≤ 150 KB / ≤ 500 KB / ≤ 25, none")
        self.row(7, "heap of an idle page", f"{me.heap():.1f} MB", "≤ 12 MB")
        me.context.close()
        static = [path for path in ROOT.glob("*/static/**/*") if path.is_file()]
        self.row(2, "static files", f"{sum(path.stat().st_size for path in static) / 1e6:.1f} MB", "≤ 12 MB")
        times = []
        for _ in range(5):
            me = self.visitor()
            times.append(me.open())
            me.context.close()
        self.row(3, "box to write in, cold", f"{statistics.median(times):.2f} s (of 5)", "≤ 0.7 s")
        me = self.visitor()
        me.slow()
        took = me.open()
        self.row(
            4, "the same on a slow line and CPU", f"{took:.1f} s, blocked {me.blocked():.0f} ms", "≤ 2.5 s, ≤ 150 ms"
        )
        me.context.close()

    def streams(self) -> None:
        for number, tokens, pace, slow, target in (
            (8, 4000, 200, False, "≥ 58 fps, no long task, ≤ 40 MB"),
            (9, 8000, 1000, False, "≥ 55 fps, ≤ 0.3 s late"),
            (10, 4000, 200, True, "≥ 45 fps, ≤ 0.5 s late"),
        ):
            me = self.visitor()
            if slow:
                me.counts_slowly()
            me.open()
            self.provider.on("paced", lambda _, tokens=tokens, pace=pace: paced(tokens, pace))  # type: ignore[misc]
            before = me.seen()["frames"]
            begun = me.ask("Go on")
            me.page.get_by_text("THE END").first.wait_for(timeout=180_000)
            took = time.monotonic() - begun
            seen = me.seen()
            tasks = f"{len(seen['tasks'])} long tasks, blocked {me.blocked():.0f} ms"
            late = max(0.0, took - tokens / pace)
            found = f"{(seen['frames'] - before) / took:.0f} fps, {tasks}, {me.heap():.0f} MB, {late:.1f} s late"
            slower = ", CPU/4" if slow else ""
            self.row(number, f"{tokens:,} tokens at {pace:,}/s{slower}", found, target)
            me.context.close()

    def wire(self) -> None:
        self.provider.on("paced", lambda _: paced(4000, 200))
        with self.server.api() as client:
            chat = client.post("/conversations", json={}).json()["id"]
            body = {"conversation_id": chat, "model": "paced", "messages": [{"role": "user", "content": "Go on"}]}
            frames = size = text = 0
            begun = time.monotonic()
            with client.stream("POST", "/conversation", json=body) as answer:
                for line in answer.iter_lines():
                    size += len(line.encode()) + 1
                    frames += line.startswith("data:")
            took = time.monotonic() - begun
            said = client.get(f"/conversations/{chat}").json()["messages"][-1]["content"]
            text = len(said.encode())
        found = (
            f"{frames / took:.0f} events/s, {size / text:.1f} × the text ({size / 1000:.0f} KB of {text / 1000:.0f} KB)"
        )
        self.row(11, "wire of 16 KB at 200 tokens/s", found, "≤ 30 events/s, ≤ 2.5 ×")

    def long_chat(self) -> None:
        chat, ids = self.server.long_chat(1000)
        me = self.visitor()
        begun = time.monotonic()
        me.page.goto(f"{self.server.url}/chat/{chat}/", wait_until="commit")
        me.page.locator(f"#m-{ids[-1]}").wait_for()
        took = time.monotonic() - begun
        loaded = me.page.locator(".turn").count()
        self.row(12, "open a chat of 1,000 messages", f"{took:.2f} s, {loaded} messages", "≤ 0.8 s, the last 50")
        jumps = []
        for number in (10, 700, 333, 990, 50):
            me.page.keyboard.press("Control+f")
            me.page.get_by_role("combobox").fill(f"Message {number}.")
            me.page.get_by_role("option").first.wait_for()
            begun = time.monotonic()
            me.page.keyboard.press("Enter")
            me.page.locator(f"#m-{ids[number]}[data-found]").wait_for()
            jumps.append(time.monotonic() - begun)
        me.page.locator(".log").hover()
        for _ in range(80):
            me.page.mouse.wheel(0, 1500)
            me.page.wait_for_timeout(25)
        found = f"{statistics.median(jumps):.2f} s (worst {max(jumps):.2f}), {me.nodes():,} nodes, {me.heap():.0f} MB"
        self.row(13, "jump to any of them; then walked", found, "≤ 0.5 s, ≤ 15,000 nodes, ≤ 80 MB")
        me.page.locator("#message").press_sequentially("abcdefghijklmnopqrstuvwxyz", delay=60)
        me.page.wait_for_timeout(300)
        inputs = sorted(me.seen()["inputs"]) or [0]
        slowest = inputs[int(len(inputs) * 0.95)] if len(inputs) > 1 else inputs[0]
        self.row(14, "26 keys there: p95 of what took 16 ms or more", f"{slowest:.0f} ms", "≤ 100 ms")
        me.context.close()

    def answers(self) -> None:
        self.provider.on("paced", lambda _: sse([chunk({"content": "At once"}), chunk({}, "stop"), "[DONE]"]))
        times = []
        for _ in range(5):
            me = self.visitor()
            me.open()
            begun = me.ask("Hello")
            me.page.get_by_text("At once").first.wait_for()
            times.append(time.monotonic() - begun)
            me.context.close()
        self.row(15, "first text after Enter", f"{statistics.median(times):.2f} s (of 5)", "≤ 0.15 s")
        self.provider.on("paced", lambda _: paced(1200, 100))
        me = self.visitor()
        me.open()
        me.ask("Go on")
        me.page.get_by_text("w20 w21").first.wait_for()
        begun = time.monotonic()
        me.page.reload(wait_until="commit")
        me.page.get_by_text("w20 w21").first.wait_for()
        took = time.monotonic() - begun
        me.page.get_by_text("THE END").first.wait_for(timeout=60_000)
        shown = me.page.locator(".turn .prose").first.inner_text().split()
        whole = shown == [*(f"w{number % 100:02}" for number in range(1200)), "THE", "END"]
        self.row(
            16,
            "reload in the middle: text is back",
            f"{took:.2f} s, {'whole' if whole else 'NOT WHOLE'}",
            "≤ 1.0 s, whole",
        )
        self.provider.on("paced", lambda _: paced(4000, 100))
        me.open()
        me.ask("Go on")
        me.page.get_by_text("w20 w21").first.wait_for()
        begun = time.monotonic()
        me.page.locator(".go[aria-label=Stop]").click()
        self.provider.chats[-1].left.wait(10)
        self.row(18, "Stop: the provider sees it", f"{time.monotonic() - begun:.2f} s", "≤ 0.5 s")
        me.context.close()

    def ends(self) -> None:
        for how, target in ((signal.SIGKILL, "≤ 1 s of text lost"), (signal.SIGTERM, "nothing lost")):
            self.provider.on("paced", lambda _: sse(_forever()))
            me = self.visitor()
            me.open()
            me.ask("Go on")
            me.page.get_by_text("w200").first.wait_for()
            shown = int(me.page.locator(".live .prose").inner_text().split()[-1][1:])
            self.server.end(how)
            self.server.start()
            me.page.get_by_role("button", name="Continue").wait_for(timeout=60_000)
            kept = int(me.page.locator(".turn .prose").last.inner_text().split()[-1][1:])
            found = f"{max(0, shown - kept) / 100:.1f} s of text lost, Continue is offered"
            self.row(17, f"{how.name} in the middle", found, target)
            me.context.close()


def _forever() -> Any:
    for number in range(6000):
        yield chunk({"content": f"w{number} "})
        yield Pause(0.01)


def table(rows: list[Row], busy: float) -> str:
    when = dt.datetime.now(dt.UTC)
    told = [
        f"- when: {when:%Y-%m-%d %H:%M} UTC",
        f"- on: {os.cpu_count()} cores, {platform.system()} {platform.release()}; shared by server, browser and all",
        f"- load average when it began: {busy:.1f}"
        + (": the machine was busy, so times are provisional" if busy > 0.5 else ""),
        "",
        "| # | what | found | target |",
        "| --: | --- | --- | --- |",
        *(f"| {number} | {what} | {found} | {target} |" for number, what, found, target in sorted(rows)),
    ]
    return "\n".join(told) + "\n"


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="a Markdown file in which what follows the mark is replaced")
    parser.add_argument("--only", nargs="*", default=["first_load", "streams", "wire", "long_chat", "answers", "ends"])
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedProvider(models=["paced", "echo"]) as provider,
        sync_playwright() as playwright,
    ):
        server = Server(Path(folder), provider.base_url)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        bench = Bench(browser, server, provider)
        for name in options.only:
            part: Callable[[], None] = getattr(bench, name)
            try:
                part()
            except Exception as error:  # noqa: BLE001 - one that fails must not hide the others
                print(f"{name} failed: {error}", flush=True)
        browser.close()
        server.end()
    written = table(bench.rows, busy)
    print(written)
    if options.write:
        before = options.write.read_text(encoding="utf-8").split(MARK)[0]
        options.write.write_text(f"{before}{MARK}\n\n{written}", encoding="utf-8")


if __name__ == "__main__":
    main()
