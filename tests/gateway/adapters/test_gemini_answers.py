"""Gemini's answers, whole and streamed, and its errors, as events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.events import (
    Citation,
    Finished,
    MediaOutput,
    ReasoningDelta,
    ReasoningSignature,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.upstream import Reply
from tests.support.gemini import (
    ADAPTER,
    FIXTURES,
    TARGET,
    fixture,
    frame,
    streamed,
)

ANSWER = [
    ReasoningDelta("The user greets."),
    TextDelta("Hello "),
    TextDelta("there."),
    ReasoningSignature("gemini:text:c2ln", True),
    Finished("stop"),
    Usage(20, 16, 8, 12),
]


class TestAnswer:
    def test_a_whole_one(self) -> None:
        assert list(ADAPTER.answer(TARGET, fixture("answer.json"))) == ANSWER

    @pytest.mark.parametrize("size", [0, 1, 100])
    def test_a_stream(self, size: int) -> None:
        assert streamed((FIXTURES / "stream.sse").read_bytes(), size) == [
            ReasoningDelta("The user "),
            ReasoningDelta("greets."),
            *ANSWER[1:],
        ]

    def test_calls_get_ids_and_keep_their_signatures(self) -> None:
        signature, first, second, finished, usage = ADAPTER.answer(TARGET, fixture("calls.json"))
        assert isinstance(first, ToolCallDelta)
        assert first.id
        assert first.id.startswith("call_")
        assert (first.position, first.name, first.arguments) == (0, "weather", '{"city":"Paris"}')
        assert signature == ReasoningSignature(f"gemini:{first.id}:c2lnbmF0dXJl", True)
        assert second == ToolCallDelta(1, "own-id", "clock", "{}")
        assert (finished, usage) == (Finished("tool_calls"), Usage(9, 5))

    def test_calls_in_several_pieces_of_a_stream_have_positions_of_their_own(self) -> None:
        def piece(name: str, **more: Any) -> bytes:
            parts = [{"functionCall": {"name": name, "args": {}}}]
            return frame({"candidates": [{"content": {"parts": parts}, **more}]})

        found = streamed(piece("a") + piece("b", finishReason="STOP"))
        assert [(event.position, event.name) for event in found if isinstance(event, ToolCallDelta)] == [
            (0, "a"),
            (1, "b"),
        ]
        assert found[-1] == Finished("tool_calls")

    def test_sources_count_characters(self) -> None:
        found = [event for event in ADAPTER.answer(TARGET, fixture("grounded.json")) if isinstance(event, Citation)]
        text = "Größe zählt. Spain won."
        assert [(event.url, event.title, text[event.start : event.end]) for event in found] == [
            ("https://a.example/1", "a.example", "Größe zählt."),
            ("https://a.example/1", "a.example", "Spain won."),
            ("https://b.example/2", "b.example", "Spain won."),
            ("https://c.example/3", "", text),
        ]

    def test_sources_are_bounded(self) -> None:
        supports = [
            {"segment": {"startIndex": n, "endIndex": n + 1}, "groundingChunkIndices": [0]} for n in range(5000)
        ]
        grounding = {"groundingChunks": [{"web": {"uri": "https://a.example/"}}], "groundingSupports": supports}
        candidate = {
            "content": {"parts": [{"text": "a" * 6000}]},
            "groundingMetadata": grounding,
            "finishReason": "STOP",
        }
        found = ADAPTER.answer(TARGET, {"candidates": [candidate]})
        assert sum(isinstance(event, Citation) for event in found) == 200

    def test_what_was_recited_and_what_was_retrieved_are_sources_too(self) -> None:
        recited = [
            {"startIndex": 0, "endIndex": 2, "uri": "https://a.example/"},
            {"endIndex": 5},
            {"uri": "https://b.example/"},
        ]
        candidate = {
            "content": {"parts": [{"text": "abc"}]},
            "citationMetadata": {"citationSources": recited},
            "groundingMetadata": {
                "groundingChunks": [{"retrievedContext": {"uri": "gs://c", "title": "C"}}, {"maps": {}}]
            },
            "finishReason": "STOP",
        }
        found = ADAPTER.answer(TARGET, {"candidates": [candidate]})
        assert [event for event in found if isinstance(event, Citation)] == [
            Citation("gs://c", "C"),
            Citation("https://a.example/", "", 0, 2),
            Citation("https://b.example/"),
        ]

    @pytest.mark.parametrize(
        ("said", "usage"),
        [
            ({"promptTokenCount": 5, "totalTokenCount": 9}, Usage(5, 4)),
            ({"promptTokenCount": 5, "toolUsePromptTokenCount": 3, "candidatesTokenCount": 2}, Usage(8, 2)),
            ({"promptTokenCount": "5"}, None),
            ("many", None),
        ],
    )
    def test_usage_is_read_as_far_as_it_is_said(self, said: Any, usage: Usage | None) -> None:
        record = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": said}
        assert list(ADAPTER.answer(TARGET, record)) == [Finished("stop"), *([usage] if usage else [])]

    @pytest.mark.parametrize("call", [{"name": None}, {"args": {}}, {"name": 5}])
    def test_a_call_without_a_name_is_broken(self, call: Any) -> None:
        record = {"candidates": [{"content": {"parts": [{"functionCall": call}]}, "finishReason": "STOP"}]}
        with pytest.raises(UpstreamBroken, match="cannot be read"):
            ADAPTER.answer(TARGET, record)
        with pytest.raises(UpstreamBroken, match="cannot be read"):
            streamed(frame(record))

    def test_repeated_sources_of_a_stream_come_once(self) -> None:
        record = fixture("grounded.json")
        found = streamed(frame({"candidates": [{**record["candidates"][0], "finishReason": None}]}) + frame({
            "candidates": [{"groundingMetadata": record["candidates"][0]["groundingMetadata"], "finishReason": "STOP"}]
        }))  # fmt: skip
        assert len([event for event in found if isinstance(event, Citation)]) == 4

    def test_a_picture(self) -> None:
        assert list(ADAPTER.answer(TARGET, fixture("image.json"))) == [
            TextDelta("Here it is:"),
            MediaOutput("image/png", "iVBORw0KGgo="),
            ReasoningSignature("gemini:image:aW1n", True),
            Finished("stop"),
            Usage(6, 1290),
        ]

    def test_code_that_ran_is_shown(self) -> None:
        parts = [
            {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
        ]
        code, result, _ = ADAPTER.answer(
            TARGET, {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
        )
        assert code == TextDelta("\n```python\nprint(1)\n```\n")
        assert result == TextDelta("\n```\n1\n```\n")

    @pytest.mark.parametrize("name", ["blocked.json", "safety.json"])
    def test_what_was_blocked_is_filtered_content(self, name: str) -> None:
        expected = [Finished("content_filter"), Usage(5, 0)]
        assert list(ADAPTER.answer(TARGET, fixture(name))) == expected
        assert streamed(frame(fixture(name))) == expected

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("SAFETY", "content_filter"),
            ("RECITATION", "content_filter"),
            ("PROHIBITED_CONTENT", "content_filter"),
            ("BLOCKLIST", "content_filter"),
            ("SPII", "content_filter"),
            ("IMAGE_SAFETY", "content_filter"),
            ("MALFORMED_FUNCTION_CALL", "stop"),
            ("SOMETHING_NEW", "stop"),
        ],
    )
    def test_each_reason_to_end(self, said: str, reason: str) -> None:
        spoken = {"content": {"parts": [{"text": "a"}]}, "finishReason": said}
        assert ADAPTER.answer(TARGET, {"candidates": [spoken]})[-1] == Finished(reason)

    def test_a_call_that_cannot_be_read_lets_another_target_try(self) -> None:
        with pytest.raises(UpstreamBroken, match="MALFORMED_FUNCTION_CALL"):
            ADAPTER.answer(TARGET, {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]})

    def test_several_candidates_keep_their_numbers(self) -> None:
        two = [{"content": {"parts": [{"text": t}]}, "finishReason": "STOP", "index": n} for n, t in enumerate("ab")]
        assert ADAPTER.answer(TARGET, {"candidates": two}) == [
            TextDelta("a", 0), Finished("stop", 0), TextDelta("b", 1), Finished("stop", 1),
        ]  # fmt: skip

    @pytest.mark.parametrize("record", [{}, {"candidates": None}, {"candidates": []}, {"candidates": [{}]}, {"x": 1}])
    def test_an_answer_that_is_none_is_broken(self, record: Any) -> None:
        with pytest.raises(UpstreamBroken):
            ADAPTER.answer(TARGET, record)

    def test_a_stream_that_ends_before_its_end_is_broken(self) -> None:
        whole = (FIXTURES / "stream.sse").read_bytes()
        with pytest.raises(UpstreamBroken, match="broke off"):
            streamed(whole[: whole.rindex(b"data: ")])


class TestFailures:
    @pytest.mark.parametrize(
        ("code", "status", "kind", "shown"),
        [
            (400, "INVALID_ARGUMENT", UpstreamRejected, 400),
            (404, "NOT_FOUND", UpstreamRejected, 404),
            (400, "FAILED_PRECONDITION", UpstreamRefused, 502),
            (401, "UNAUTHENTICATED", UpstreamRefused, 502),
            (403, "PERMISSION_DENIED", UpstreamRefused, 502),
            (429, "RESOURCE_EXHAUSTED", UpstreamLimited, 429),
            (500, "INTERNAL", UpstreamBroken, 502),
            (503, "UNAVAILABLE", UpstreamBroken, 502),
            (504, "DEADLINE_EXCEEDED", UpstreamTimeout, 504),
            (418, "", UpstreamBroken, 502),
        ],
    )
    def test_each_status(self, code: int, status: str, kind: type[UpstreamError], shown: int) -> None:
        error = {"code": code, "message": "told AIza-secret-credential", "status": status}
        for found in self.both(code, error):
            assert (type(found), found.status) == (kind, shown)
            assert "AIza" not in found.message

    def both(self, code: int, error: Any) -> list[UpstreamError]:
        """The same failure as an answer, as a list, and inside a stream."""
        found = [
            ADAPTER.failure(TARGET, Reply(code, (), orjson.dumps({"error": error}))),
            ADAPTER.failure(TARGET, Reply(code, (), orjson.dumps([{"error": error}]))),
        ]
        with pytest.raises(UpstreamError) as caught:
            streamed(frame({"error": error}))
        return [*found, caught.value]

    def test_a_limit_says_when_to_come_back(self) -> None:
        for found in self.both(429, fixture("limited.json")["error"]):
            assert (found.retry_after, found.code) == (36.9, "rate_limit_exceeded")
            assert "Please retry" in found.message

    def test_a_key_that_is_not_valid_is_the_operators_matter(self) -> None:
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
        error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": details}
        assert {type(found) for found in self.both(400, error)} == {UpstreamRefused}

    def test_a_request_that_is_too_long_has_openais_code(self) -> None:
        said = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        for found in self.both(400, {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}):
            assert (found.status, found.code, found.param) == (400, "context_length_exceeded", "messages")

    @pytest.mark.parametrize(
        "reply", [b"", b"<html>", b"[]", b'{"error": "x"}', b'{"error": {"status": "<b>"}}', b"null"]
    )
    def test_what_is_not_googles_error_is_told_by_its_status(self, reply: bytes) -> None:
        assert isinstance(ADAPTER.failure(TARGET, Reply(503, (), reply)), UpstreamBroken)

    @pytest.mark.parametrize("delay", [None, 5, "s", "nans", "-3s", "xs"])
    def test_a_delay_that_is_none(self, delay: Any) -> None:
        error = {"status": "UNAVAILABLE", "details": [None, {"retryDelay": delay}]}
        assert ADAPTER.failure(TARGET, Reply(503, (), orjson.dumps({"error": error}))).retry_after in (None, 0.0)
