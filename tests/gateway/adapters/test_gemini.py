"""Requests in Gemini's words, as its documentation shows them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.adapters.gemini.schema import cleaned
from gateway.errors import (
    UnsupportedParameter,
    UpstreamRejected,
)
from gateway.upstream.request import prepared
from tests.support.gemini import (
    ADAPTER,
    PICTURE,
    body,
    call,
    chat,
    fixture,
    function,
    target,
)


def config(model: str = "gemini-2.5-flash", **fields: Any) -> Any:
    return body(model=model, **fields).get("generationConfig")


def refused(*messages: dict[str, Any], **fields: Any) -> UpstreamRejected:
    with pytest.raises(UpstreamRejected) as caught:
        body(*messages, **fields)
    return caught.value


class TestRequest:
    def test_a_whole_one_is_as_documented(self) -> None:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        answer = {
            "type": "object",
            "properties": {"answer": {"type": "string", "pattern": "x"}},
            "required": ["answer"],
        }
        assert body(
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is on it, and what is the weather in Paris?"},
                    {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
                ],
            },
            {
                "role": "assistant",
                "content": "I will look.",
                "tool_calls": [call("call_a", "weather", '{"city": "Paris"}'), call("call_b", "clock", "")],
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "another provider's"},
                    {"type": "reasoning.encrypted", "data": "gemini:call_a:c2lnbmF0dXJl"},
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": '{"degrees": 21}'},
            {"role": "tool", "tool_call_id": "call_b", "content": [{"type": "text", "text": "noon"}]},
            {"role": "user", "content": "Go on."},
            tools=[function("weather", schema, description="Tells the weather.", strict=True), function("clock", {})],
            tool_choice="auto",
            temperature=0.5, top_p=0.9, top_k=40, n=1, presence_penalty=0.1, frequency_penalty=0.2,
            max_completion_tokens=300, stop="END", seed=7, reasoning_effort="low", user="u", parallel_tool_calls=False,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": answer, "strict": True}},
        ) == fixture("request.json")  # fmt: skip

    def test_a_plain_one_says_nothing_more(self) -> None:
        assert body() == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}

    @pytest.mark.parametrize(
        ("model", "stream", "path"),
        [
            ("gemini-2.5-flash", False, "/models/gemini-2.5-flash:generateContent"),
            ("models/gemini-2.5-flash", True, "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
            ("tunedModels/my model", False, "/tunedModels/my%20model:generateContent"),
        ],
    )
    def test_the_model_is_in_the_path(self, model: str, stream: bool, path: str) -> None:
        assert ADAPTER.path(target(model), chat(stream=stream)) == path

    def test_a_credential_in_the_query_joins_the_streams_own(self) -> None:
        found = target(auth_style="query", auth_name="key", query="x=1")
        head = prepared(found, ADAPTER.path(found, chat(stream=True)), stream=True).head
        assert b":streamGenerateContent?alt=sse&x=1&key=AIza-secret-credential HTTP/1.1" in head

    def test_an_instruction_alone_is_said_by_the_user(self) -> None:
        assert body({"role": "developer", "content": "Sing."}) == {
            "contents": [{"role": "user", "parts": [{"text": "Sing."}]}]
        }

    def test_turns_of_one_side_become_one(self) -> None:
        found = body(
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "system", "content": "late"},
            {"role": "assistant", "content": "c"},
        )
        assert [(turn["role"], [part["text"] for part in turn["parts"]]) for turn in found["contents"]] == [
            ("user", ["a", "b"]),
            ("model", ["no", "c"]),
        ]
        assert found["systemInstruction"] == {"parts": [{"text": "late"}]}

    @pytest.mark.parametrize(
        ("content", "response"),
        [
            ('{"a": [1]}', {"a": [1]}),
            ("plain", {"result": "plain"}),
            ("[1, 2]", {"result": "[1, 2]"}),
            ("", {}),
            ('{"a":' * 300 + "1" + "}" * 300, {"result": '{"a":' * 300 + "1" + "}" * 300}),
        ],
    )
    def test_a_tools_result_is_an_object(self, content: str, response: Any) -> None:
        asked = {"role": "assistant", "content": None, "tool_calls": [call("c", "f", "{}")]}
        found = body(asked, {"role": "tool", "tool_call_id": "c", "content": content})
        assert found["contents"][1]["parts"] == [{"functionResponse": {"name": "f", "response": response, "id": "c"}}]

    def test_a_tools_failure_and_its_picture_are_kept(self) -> None:
        asked = {"role": "assistant", "tool_calls": [call("c", "f", "not json"), call("d", "g", "[1]")]}
        picture = {"type": "image_url", "image_url": {"url": PICTURE}}
        text = {"type": "text", "text": "down"}
        found = body(asked, {"role": "tool", "tool_call_id": "c", "content": [text, picture], "is_error": True})
        assert found["contents"][0]["parts"][0]["functionCall"]["args"] == {"arguments": "not json"}
        assert found["contents"][0]["parts"][1]["functionCall"]["args"] == {"arguments": "[1]"}
        response, image = found["contents"][1]["parts"]
        assert response["functionResponse"]["response"] == {"error": "down"}
        assert image["inlineData"]["mimeType"] == "image/png"

    def test_a_result_without_its_call_names_the_field(self) -> None:
        error = refused({"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "gone", "content": "y"})
        assert (error.status, error.param) == (400, "messages[1].tool_call_id")

    def test_gemini_3_gets_its_signatures_or_the_word_that_stands_for_none(self) -> None:
        def asked(*signed: str, model: str) -> list[Any]:
            details = [{"type": "reasoning.encrypted", "data": data} for data in signed]
            calls = [call("c", "f", "{}"), call("d", "g", "{}")]
            turn = {"role": "assistant", "tool_calls": calls, "reasoning_details": details}
            return [part.get("thoughtSignature") for part in body(turn, model=model)["contents"][0]["parts"]]

        assert asked(model="gemini-2.5-pro") == [None, None]
        assert asked(model="models/gemini-3-pro") == ["skip_thought_signature_validator", None]
        assert asked("another provider's", "gemini:", "gemini:c", model="gemini-3-pro")[0] is not None
        assert asked("gemini:c:AA:==", model="gemini-3-pro") == ["AA:==", None]

    def test_signatures_of_thoughts_and_texts_go_back_to_their_parts(self) -> None:
        details = [{"type": "reasoning.encrypted", "data": f"gemini:{place}:AA"} for place in ("thought", "text")]
        assert body({"role": "assistant", "content": None, "reasoning_details": details})["contents"][0]["parts"] == [
            {"text": "", "thought": True, "thoughtSignature": "AA"},
            {"text": "", "thoughtSignature": "AA"},
        ]

    def test_the_old_form_of_results_names_its_function(self) -> None:
        found = body({"role": "function", "name": "f", "content": "1"})
        assert found["contents"][0]["parts"] == [{"functionResponse": {"name": "f", "response": {"result": "1"}}}]

    @pytest.mark.parametrize(
        ("choice", "mode"),
        [
            ("auto", {"mode": "AUTO"}),
            ("none", {"mode": "NONE"}),
            ("required", {"mode": "ANY"}),
            ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ],
    )
    def test_each_choice_of_tools(self, choice: Any, mode: Any) -> None:
        assert body(tools=[function("f")], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": mode}

    def test_googles_own_tools(self) -> None:
        assert body(tools=[{"type": "google_search"}, {"type": "code_execution"}])["tools"] == [
            {"googleSearch": {}},
            {"codeExecution": {}},
        ]
        assert body(web_search_options={})["tools"] == [{"googleSearch": {}}]

    def test_what_google_reads_itself_is_passed_on(self) -> None:
        files = "https://generativelanguage.googleapis.com/v1beta/files/abc"
        parts = body(
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": files}},
                    {"type": "video_url", "video_url": {"url": "https://youtu.be/x"}},
                    {"type": "file", "file": {"file_id": "files/abc", "filename": "a.pdf"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "m4a"}},
                    {"type": "file", "file": {"file_data": "data:application/json;base64,e30="}},
                ],
            }
        )["contents"][0]["parts"]
        assert parts == [
            {"fileData": {"fileUri": files}},
            {"fileData": {"fileUri": "https://youtu.be/x"}},
            {"fileData": {"fileUri": files, "mimeType": "application/pdf"}},
            {"inlineData": {"mimeType": "audio/mp4", "data": "AAAA"}},
            {"inlineData": {"mimeType": "text/plain", "data": "e30="}},
        ]

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"logprobs": True}, "logprobs"),
            ({"logit_bias": {"1": 1}}, "logit_bias"),
            ({"stop": list("abcdef")}, "stop"),
            ({"modalities": ["smell"]}, "modalities"),
            ({"tools": [{"type": "teleport"}]}, "tools[0].type"),
            ({"tools": [{"type": None}]}, "tools[0].type"),
            ({"tools": [function("f")], "tool_choice": "maybe"}, "tool_choice"),
            ({"reasoning_effort": "much"}, "reasoning_effort"),
            ({"reasoning": {"effort": 3}}, "reasoning.effort"),
            ({"reasoning": {"max_tokens": "1"}}, "reasoning.max_tokens"),
            ({"reasoning": {"max_tokens": -1}}, "reasoning.max_tokens"),
            ({"top_k": "many"}, "top_k"),
        ],
    )
    def test_what_cannot_be_said_names_its_field(self, fields: Any, param: str) -> None:
        assert refused(**fields).param == param

    @pytest.mark.parametrize(
        ("part", "param"),
        [
            ({"type": "hologram"}, "type"),
            ({"bucket_id": "x"}, "type"),
            ({"type": "file", "file": {"file_id": "file-openai"}}, "file.file_id"),
            ({"type": "file", "file": "x"}, "type"),
            ({"type": "image_url", "image_url": {"url": "x"}}, "image_url.url"),
            ({"type": "video_url", "video_url": 5}, "video_url.url"),
        ],
    )
    def test_a_part_that_cannot_be_said_names_its_place(self, part: Any, param: str) -> None:
        error = refused({"role": "user", "content": [{"type": "text", "text": "a"}, part]})
        assert error.param == f"messages[0].content[1].{param}"


class TestConfig:
    @pytest.mark.parametrize(
        ("model", "fields", "shown", "thinking"),
        [
            ("gemini-2.5-flash", {"reasoning_effort": "none"}, False, {"thinkingBudget": 0}),
            ("gemini-2.5-flash", {"reasoning_effort": "high"}, True, {"thinkingBudget": 24576}),
            ("gemini-2.5-pro", {"reasoning_effort": "none"}, False, {"thinkingBudget": 128}),
            ("gemini-2.5-pro", {"reasoning_effort": "xhigh"}, True, {"thinkingBudget": 32768}),
            ("gemini-2.5-flash-lite", {"reasoning": {"max_tokens": 9}}, True, {"thinkingBudget": 512}),
            ("gemini-3-pro-preview", {"reasoning_effort": "minimal"}, True, {"thinkingLevel": "LOW"}),
            ("gemini-3-pro-preview", {"reasoning_effort": "medium"}, True, {"thinkingLevel": "HIGH"}),
            ("models/gemini-3-flash", {"reasoning_effort": "medium"}, True, {"thinkingLevel": "MEDIUM"}),
            ("gemini-3-flash", {"reasoning": {"enabled": False}}, False, {"thinkingLevel": "MINIMAL"}),
            ("gemini-3-flash", {"reasoning": {"enabled": True}}, True, {}),
            ("x", {"reasoning": {"effort": "low", "exclude": True}}, False, {"thinkingBudget": 1024}),
            ("x", {"google": {"thinking_config": {"thinkingBudget": -1}}}, None, {"thinkingBudget": -1}),
        ],
    )  # fmt: skip
    def test_how_much_a_model_thinks(self, model: str, fields: Any, shown: bool | None, thinking: Any) -> None:
        asked = {} if shown is None else {"includeThoughts": shown}
        assert config(model, **fields) == {"thinkingConfig": {**asked, **thinking}}

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
            ({"response_format": {"type": "text"}}, None),
            ({"modalities": ["text"]}, None),
            ({"modalities": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}),
            (
                {"modalities": ["text", "audio"], "audio": {"voice": "Kore", "format": "wav"}},
                {
                    "responseModalities": ["AUDIO"],
                    "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
                },
            ),
            ({"seed": -1}, {"seed": 2**31 - 1}),
            ({"top_k": 1e300}, {"topK": 2**31 - 1}),
            ({"max_tokens": 2**31}, {"maxOutputTokens": 2**31 - 1}),
            ({"temperature": None, "reasoning": "much", "stop": []}, None),
        ],
    )
    def test_other_settings(self, fields: Any, expected: Any) -> None:
        assert config(**fields) == expected

    def test_googles_own_fields_pass(self) -> None:
        limits = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
        assert body(safety_settings=limits)["safetySettings"] == limits
        assert body(google={"cached_content": "cachedContents/x"})["cachedContent"] == "cachedContents/x"

    def test_schemas_keep_what_gemini_knows(self) -> None:
        assert cleaned(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "definitions": {"d": {"type": "string", "minLength": 2}},
                "properties": {
                    "pattern": {"type": ["string", "null"], "pattern": "^a"},
                    "kind": {"const": "x", "default": "x"},
                    "list": {"type": "array", "items": {"$ref": "#/definitions/d", "description": "no"}, "minItems": 1},
                    "either": {"oneOf": [{"type": "string", "format": "date"}, {"$ref": "#/$defs/d"}]},
                    "odd": True,
                    "all": {
                        "allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"type": "object", "required": ["b"]}]
                    },
                },
                "required": ["kind"],
                "additionalProperties": False,
                "if": {},
            }
        ) == {
            "type": "object",
            "$defs": {"d": {"type": "string"}},
            "properties": {
                "pattern": {"type": ["string", "null"]},
                "kind": {"enum": ["x"]},
                "list": {"type": "array", "items": {"$ref": "#/$defs/d"}, "minItems": 1},
                "either": {"oneOf": [{"type": "string", "format": "date"}, {"$ref": "#/$defs/d"}]},
                "odd": True,
                "all": {"properties": {"a": {}}, "required": ["a", "b"], "type": "object"},
            },
            "required": ["kind"],
            "additionalProperties": False,
        }


def test_refusals_say_which_provider_cannot() -> None:
    error = refused(logprobs=True)
    assert isinstance(error, UnsupportedParameter)
    assert "Gemini does not support 'logprobs'" in error.message
