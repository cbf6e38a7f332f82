"""Steady load from clients that keep their connections: plain and streamed, httpx and the official client."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from typing import Any, Self

import httpx
import openai

MESSAGES: list[Any] = [{"role": "user", "content": "three short words"}]
EXPECTED = "three short words"


class Load:
    """Asks `base_url` so often per second between entering and leaving; `failures` says what went wrong.

    httpx never tries again; the official client does as it does by default.
    """

    def __init__(self, base_url: str, key: str, model: str, rate: float = 50) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._base_url, self._key, self._model, self._rate = base_url, key, model, rate
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        self._thread.join(30)

    async def _run(self) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        async with (
            httpx.AsyncClient(base_url=self._base_url, headers=headers, timeout=20) as plain,
            openai.AsyncOpenAI(api_key=self._key, base_url=self._base_url, timeout=20) as official,
        ):
            ways = (
                lambda: self._httpx(plain),
                lambda: self._httpx_stream(plain),
                lambda: self._official(official),
                lambda: self._official_stream(official),
            )
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with asyncio.TaskGroup() as group:
                for number, way in enumerate(itertools.cycle(ways)):
                    if self._enough.is_set():
                        break
                    await asyncio.sleep(max(0, began + number / self._rate - loop.time()))
                    group.create_task(self._one(way))

    async def _one(self, way: Any) -> None:
        try:
            said = await way()
            assert said == EXPECTED, said
        except Exception as error:  # noqa: BLE001 - every failure counts, whatever it is
            self.failures.append(f"{type(error).__name__}: {error}")
        else:
            self.answered += 1

    def _body(self, stream: bool) -> dict[str, Any]:
        return {"model": self._model, "messages": MESSAGES, "stream": stream}

    async def _httpx(self, client: httpx.AsyncClient) -> str:
        response = await client.post("/chat/completions", json=self._body(stream=False))
        return str(response.raise_for_status().json()["choices"][0]["message"]["content"])

    async def _httpx_stream(self, client: httpx.AsyncClient) -> str:
        said, lines = "", []
        async with client.stream("POST", "/chat/completions", json=self._body(stream=True)) as response:
            response.raise_for_status()
            lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data")]
        assert lines[-1] == "[DONE]", lines[-1]
        for line in lines[:-1]:
            said += "".join(choice["delta"].get("content") or "" for choice in json.loads(line)["choices"])
        return said

    async def _official(self, client: openai.AsyncOpenAI) -> str:
        answer = await client.chat.completions.create(model=self._model, messages=MESSAGES)
        return answer.choices[0].message.content or ""

    async def _official_stream(self, client: openai.AsyncOpenAI) -> str:
        parts = await client.chat.completions.create(model=self._model, messages=MESSAGES, stream=True)
        return "".join([part.choices[0].delta.content or "" async for part in parts if part.choices])
