"""`MarkItDown`, the provider that is no company: for a document it gives its Markdown, as if that were a transcript.

Nobody is called and nothing is booked; the limit of requests counts it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, cast

import orjson

from gateway.audio import TIMED
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError, NotAllowed, Unavailable
from gateway.limiter import limiter, limits_of
from gateway.live import Live, answers
from gateway.snapshot import store
from gateway.surfaces.audio.parser import form_body, the_file
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.multipart import Form, Upload
from gateway.surfaces.openai.errors import limit_headers
from media.convert.errors import ConversionError
from media.convert.markdown import markdown_of

NAME = "MarkItDown"
# Each waits for a child of its own; apart from the loop's threads, which others wait for.
_threads = ThreadPoolExecutor(4, "documents")


def is_asked(provider: str | None) -> bool:
    """Unless the operator has a provider of that name."""
    return (provider or "").lower() == NAME.lower() and NAME.lower() not in store.current.by_name


def provider_of(form: Form, parameters: dict[str, Any]) -> str | None:
    return parameters.get("provider") or (form.text("provider") or "").strip() or None


async def converted(exchange: Exchange, principal: Principal, form: Form) -> tuple[dict[str, Any], str]:
    """The answer, and its form. Raises GatewayError, and ClientLeft."""
    if not principal.may_use(NAME):
        raise NotAllowed(f"This API key may not use the model {NAME!r}.", param="provider")
    body = form_body(form)
    wanted = body.get("response_format") or "json"
    if wanted not in ("json", "text"):
        why = "a document has no times" if wanted in TIMED else "expected json or text"
        raise BadRequest(f"{NAME} does not support this 'response_format': {why}.", param="response_format")
    if body.get("stream"):
        raise BadRequest(f"{NAME} does not support 'stream'.", code="unsupported_parameter", param="stream")
    upload = the_file(form)
    model = str(body.get("model") or "")
    request = ChatRequest(model, NAME, False, False, {"messages": []})
    with exchange.watched() as watch:
        live = Live(principal, watch.loop, watch.cut, False)
        answers.enter(live)
        try:
            admission = await limiter.admit(limits_of(principal), request)
            exchange.limit_headers = limit_headers(admission.standings)
            text = await asyncio.get_running_loop().run_in_executor(_threads, _text, upload)
            admission.settle(None)
        finally:
            answers.leave(live)
    return {"text": text, "model": model or None, "provider": NAME}, wanted


def _text(upload: Upload) -> str:
    try:
        return markdown_of(cast("BinaryIO", upload.file), upload.filename)
    except ConversionError as error:
        raise refused(error) from None


def refused(error: ConversionError) -> GatewayError:
    if error.status == 503:
        return Unavailable(error.message, code=error.code)
    return BadRequest(error.message, status=error.status, code=error.code, param="file")


def told(answer: dict[str, Any], wanted: str) -> bytes:
    return answer["text"].encode() if wanted == "text" else orjson.dumps(answer)
