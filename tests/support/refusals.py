"""That an answer is a refusal in OpenAI's form."""

from __future__ import annotations

import httpx

from tests.support.openai_schema import check_error

UNSAID = "unsaid"


def refused(answer: httpx.Response, status: int, code: str | None = UNSAID, param: str | None = UNSAID) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = check_error(answer.json())
    assert code in (UNSAID, told["code"]), told
    assert param in (UNSAID, told["param"]), told
