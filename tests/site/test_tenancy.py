"""Nobody reaches what is another's, by any route there is.

The first test walks the URL conf and the streamed routes: each that names something in its path stands in `OBJECTS`
(asked here by every verb, as another user and as nobody), in `ELSEWHERE` (with the test that asks it), or in `NOBODYS`.
A route that stands in none of them fails it.

Which promise of tenancy, of files and of what is fetched is kept by which test (`test_the_table_names_tests`
reads this):

=== matrix of users, objects and verbs; the owner's rows unchanged
site/test_tenancy.py: test_each_route_by_each_verb_as_another_and_as_nobody
media/test_two_people.py: test_nobody_else_sees_or_changes_anything test_the_table_has_every_route
=== lists and searches do not change with what another adds
site/test_tenancy.py: test_what_one_is_told_does_not_change_with_what_another_keeps
conversations/test_tenancy.py: test_lists_and_searches_do_not_change_with_what_others_keep
media/test_two_people.py: test_a_search_of_the_others_is_as_if_there_were_nothing
=== bodies that name another's conversation, message, file, bucket or share
site/test_tenancy.py: test_bodies_that_name_what_is_anothers_start_nothing
conversations/test_tenancy.py: test_bodies_that_name_what_is_anothers_make_nothing
conversations/test_context.py: test_nobody_reaches_anothers
conversations/test_shares.py: test_nobody_shares_anothers_conversation test_anybody_reads_and_the_owner_alone_writes
conversations/test_generation_media.py: test_anothers_picture_is_not_there
conversations/test_transfer.py: test_parts_that_name_anothers_file
media/test_attachments.py: test_what_is_anothers_or_missing_is_named
gateway/test_responses_store.py: test_another_tenant_sees_nothing
=== one foreign id among many: nothing is done
conversations/test_surface.py: test_one_that_is_anothers_and_nothing_is_done
=== unknown filters and orders are 400
conversations/test_surface.py: test_what_there_is_not_is_400
conversations/test_memory.py: test_queries_that_make_no_sense_are_refused
=== an export has all of one's own and nothing of others
conversations/test_transfer.py: test_an_export_is_ones_own test_there_and_back_again
conversations/test_transfer.py: test_anothers_files_do_not_come_along
=== a user goes with everything but what was counted
conversations/test_tenancy.py: test_with_a_user_goes_all_that_is_theirs
conversations/test_memory.py: test_a_deleted_user_leaves_nothing
gateway/test_responses_store.py: test_a_user_who_is_deleted_leaves_nothing
media/test_user_goes.py: test_a_user_takes_everything_along_but_what_was_counted
=== signed addresses: in time, unchanged, for one path and one use
media/test_routes.py: test_it_is_enough_by_itself test_after_its_time_it_is_403 test_one_letter_changed_is_403
media/test_routes.py: test_another_path_is_403 test_tokens_for_other_uses_are_none
media/test_two_people.py: test_a_signed_address_opens_its_file_and_nothing_else
conversations/test_shares.py: test_the_owners_are_seen_and_nobody_elses
=== a generated picture is its owner's
media/test_routes.py: test_the_owner_by_any_credential_and_nobody_else
=== many streams at once: no answer meets another
site/test_tenancy.py: test_a_hundred_streams_of_twenty_people_do_not_meet
conversations/test_generation.py: test_two_users_never_meet
gateway/upstream/test_reuse.py: test_many_at_once_get_their_own_answers
gateway/test_crowd.py: test_twice_what_it_can_serve_harms_nobody_who_was_let_in
=== caches know their owner
gateway/test_answer_cache.py: test_owners_share_nothing test_strangers_share_nothing test_other_rights_ask_anew
gateway/test_websearch.py: test_the_same_user_is_answered_from_what_was_kept_and_another_is_not
gateway/test_synthesize.py: test_what_is_kept_is_kept_for_whom_it_was_made
=== uploads are bounded in size, number and quota, and leave nothing when they fail
media/test_store.py: test_a_file_that_is_too_large_leaves_nothing test_uploads_at_once_never_pass_it
media/test_buckets.py: test_too_many_and_too_large_files_leave_nothing test_an_upload_that_is_cut_off_leaves_nothing
media/test_buckets.py: test_a_full_quota_refuses_all_and_gives_way_after_a_delete
media/test_buckets.py: test_the_second_file_of_a_name_takes_the_place_of_the_first
=== archives, damaged files, pictures that tell where they were taken
media/test_convert.py: test_links_devices_nested_archives_and_names_that_lead_out_are_left_out test_bombs_are_given_up
media/test_convert.py: test_damaged_and_disguised_documents_are_refused test_endless_documents_end_in_time
media/test_convert.py: test_the_child_reaches_no_network_no_files_and_no_memory
media/test_pictures.py: test_what_the_camera_said_is_gone_and_the_picture_upright
media/test_mutations.py: test_a_server_outlives_mutated_files
=== files have no other address, and ranges are one or none
media/test_routes.py: test_folders_and_paths_of_the_disk_are_404 test_a_file_has_no_other_address test_one_range_or_all
=== what is fetched for callers
media/test_fetch.py: test_places_it_does_not_go_to test_a_name_is_resolved_once_and_that_address_is_used
media/test_fetch.py: test_a_name_with_one_private_address_is_refused_whole test_a_redirect_goes_through_the_same_door
media/test_fetch.py: test_three_redirects_are_followed_and_a_fourth_is_not
media/test_fetch.py: test_nothing_of_the_environment_changes_the_way
media/test_fetch.py: test_an_endless_body_is_cut test_a_slow_answer_is_given_up
media/test_fetch.py: test_what_is_not_a_file_of_an_accepted_type_is_refused
media/test_fetch_memory.py: test_pictures_that_never_end_cost_little
"""

from __future__ import annotations

import asyncio
import re
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core import serializers

from conversations.models import MemoryItem, SharedChat
from gateway.usage import writer
from tests.people import alice, bob, person
from tests.support.answers import Answer, Hold, events_of, sse, stream, tool_deltas
from tests.support.gateway import LiveGateway
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.routes import routes

HERE = Path(__file__).parents[1]
MARK = "quokka"
VERBS = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE")
ONE = r"backend-api/v2/conversations/(?P<conversation_id>[^/]+)"
RUNNING = r"backend-api/v2/conversation/(?P<conversation>[^/]+)"
MEMORY = r"backend-api/v2/memory/(?P<user_id>[^/]+)"
SHARE = r"backend-api/v2/chat/(?P<share_id>[^/]+)"

# What is somebody's, and where it is; a body that each route would take from its owner.
OBJECTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    ONE: (("/backend-api/v2/conversations/{conversation}",), {"title": "x"}),
    **{f"{ONE}/{word}": ((f"/backend-api/v2/conversations/{{conversation}}/{word}",), {}) for word in (
        "restore", "purge", "export", "tree",
    )},
    f"{ONE}/find": ((f"/backend-api/v2/conversations/{{conversation}}/find?q={MARK}",), {}),
    f"{ONE}/messages": (("/backend-api/v2/conversations/{conversation}/messages",), {"content": "x"}),
    rf"{ONE}/messages/(?P<message_id>[^/]+)": (
        (
            "/backend-api/v2/conversations/{conversation}/messages/{message}",
            # One's own conversation with another's message.
            "/backend-api/v2/conversations/{own}/messages/{message}",
        ),
        {},
    ),
    f"{RUNNING}/stream": (
        (
            "/backend-api/v2/conversation/{conversation}/stream",
            "/backend-api/v2/conversation/{own}/stream?message_id={message}",
        ),
        {},
    ),
    f"{RUNNING}/stop": (("/backend-api/v2/conversation/{conversation}/stop",), {}),
    **{
        rf"{door}/responses/(?P<response_id>[^/]+){rest}": ((f"{there}/responses/{{response}}{rest}",), {})
        for door, there in (("v1", "/v1"), (r"api/(?P<provider>[^/]+)", "/api/Scripted"))
        for rest in ("", "/cancel", "/input_items")
    },
    MEMORY: (
        ("/backend-api/v2/memory/alice", "/backend-api/v2/memory/{alice}"),
        {"items": [{"role": "user", "content": "x"}]},
    ),
    f"{MEMORY}/settings": (("/backend-api/v2/memory/alice/settings",), {"used_in_chats": True}),
    rf"{MEMORY}/(?P<item>[^/]+)": (
        ("/backend-api/v2/memory/alice/{item}", "/backend-api/v2/memory/me/{item}"),
        {"memory": "x"},
    ),
    r"backend-api/v2/prompts/(?P<prompt_id>[^/]+)": (("/backend-api/v2/prompts/{prompt}",), {"text": "x"}),
    SHARE: (
        ("/backend-api/v2/chat/{private}", "/backend-api/v2/chat/{link}"),
        {"title": "x", "updated": 2**50, "items": [{"role": "user", "content": "x"}]},
    ),
    f"{SHARE}/continue": (("/backend-api/v2/chat/{private}/continue", "/backend-api/v2/chat/{link}/continue"), {}),
    "chat/share/<str:share_id>": (("/chat/share/{private}", "/chat/share/{link}"), {}),
}  # fmt: skip
# What is told otherwise than 404 to others and 401 to nobody, or than 405 to both.
OTHERWISE: dict[tuple[str, str], tuple[int, int]] = {
    # Whoever has the link reads, without being anybody; a copy belongs to whoever makes it.
    **{(verb, "/backend-api/v2/chat/{link}"): (200, 200) for verb in ("GET", "HEAD")},
    **{(verb, "/chat/share/{link}"): (200, 200) for verb in ("GET", "HEAD")},
    ("POST", "/backend-api/v2/chat/{link}/continue"): (200, 401),
    # Without being anybody one may look for a share, and finds none.
    **{(verb, "/backend-api/v2/chat/{private}"): (404, 404) for verb in ("GET", "HEAD")},
    **{(verb, "/chat/share/{private}"): (404, 404) for verb in ("GET", "HEAD")},
    # An id that another has cannot be one's own, whether or not it is shared.
    **{("POST", f"/backend-api/v2/chat/{{{which}}}"): (400, 401) for which in ("private", "link")},
}

ELSEWHERE = {
    **{f"{kind}/<path:name>": "media/test_two_people.py" for kind in ("media", "images", "thumbnail")},
    **{
        f"files/<str:bucket>/{kind}/<str:name>": "media/test_two_people.py"
        for kind in ("media", "thumbnail", "<str:kind>")
    },
    "search/<path:terms>": "media/test_two_people.py",
    "(?:backend-api/v2/)?files/(?P<bucket>[^/]+)": "media/test_two_people.py",
    "(?:backend-api/v2/)?files/(?P<bucket>[^/]+)/stream": "media/test_two_people.py",
    "backend-api/v2/synthesize/(?P<provider>[^/]+)": "gateway/test_synthesize.py",
    # The day is everybody's; whose usage it is stands in the query.
    "backend-api/v2/usage/(?P<date>[^/]+)": "gateway/test_backend_catalogue.py",
    "setup/<str:token>/": "site/test_setup.py",
    # A name that another gave a conversation means one's own; an id is asked for there.
    "api/(?P<provider>[^/]+)/(?P<conversation_id>[^/]+)/chat/completions": "conversations/test_context.py",
}
# Providers and models are the operator's, and who may use them is asked in tests/gateway/test_authentication.py. The
# page of a chat is the same for all; what it shows it asks the API for.
NOBODYS = re.compile(
    r"accounts/.*|admin/.*|chat/<uuid:conversation>/|v1/models/<path:name>|v1/providers/<str:provider>"
    r"|backend-api/v2/(models|quota)/\(\?P<provider>[^)]*\)|(\(\?:v1\|)?api/\(\?P<provider>[^)]*\)\)?(/[^<]*)?"
)


def everything_of(*people: User) -> str:
    """All rows of all tables that refer to them, but for what is counted."""
    writer.flush()
    dumped = []
    for relation in User._meta.get_fields(include_hidden=True):
        model: Any = relation.related_model
        if not relation.auto_created or relation.many_to_many or not hasattr(relation, "field"):
            continue
        if model._meta.model_name == "usageevent":
            continue
        rows = model.objects.filter(**{f"{relation.field.name}__in": people}).order_by("pk")  # type: ignore[union-attr]
        dumped.append(serializers.serialize("json", rows))
    assert len(dumped) > 12
    # When a key was last used is written twice a minute, whoever asks.
    return re.sub(r'"last_used_at": [^,}]*', "", "\n".join(dumped))


@dataclass
class House:
    """Alice's things, and how to ask for them as Bob or as nobody."""

    gateway: LiveGateway
    owner: User
    other: User
    keys: dict[str, str]
    names: dict[str, str]

    def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**more.pop("headers", {}), **(self.gateway.auth(self.keys[who]) if who in self.keys else {})}
        return self.gateway.http.request(method, path, headers=headers, **more)

    def chat(self, who: str, **body: Any) -> httpx.Response:
        messages = [{"role": "user", "content": f"{MARK} asked"}]
        sent = {"model": "scripted", "messages": messages, **body}
        return self.ask(who, "POST", "/backend-api/v2/conversation", json=sent)


def missing(names: dict[str, str]) -> dict[str, str]:
    """The same, of things that nobody has."""
    nothing = {name: str(uuid.uuid4()) for name in names}
    return {**nothing, "own": names["own"], "alice": "999999", "response": f"resp_{'0' * 32}"}


@pytest.fixture
def house(gateway: LiveGateway, provider: ScriptedProvider) -> House:
    gateway.add_provider(provider, "scripted")
    provider.on("scripted", stream(f"{MARK} said"))
    owner, other = alice(), bob()
    keys = {"owner": gateway.make_key(owner), "other": gateway.make_key(other)}
    made = House(gateway, owner, other, keys, {"alice": str(owner.pk), "own": str(uuid.uuid4())})
    assert made.chat("other", conversation_id=made.names["own"]).status_code == 200
    return made


def furnish(house: House) -> None:
    """Something of everything that Alice may have."""
    conversation, private, link = str(uuid.uuid4()), "p" * 24, "l" * 24
    told = house.chat("owner", conversation_id=conversation, id="17")
    assert "event: end" in told.text
    patched = {"title": MARK, "folder": MARK, "tags": [MARK]}
    here = f"/backend-api/v2/conversations/{conversation}"
    assert house.ask("owner", "PATCH", here, json=patched).status_code == 200
    items = {"id": "c", "items": [{"role": "user", "content": f"{MARK} likes leaves"}]}
    assert house.ask("owner", "POST", "/backend-api/v2/memory/me", json=items).status_code == 200
    prompt = house.ask("owner", "POST", "/backend-api/v2/prompts", json={"name": "x", "text": MARK})
    for share, visibility in ((private, "private"), (link, "link")):
        words = MARK if share is private else "shared"
        body = {"title": words, "items": [{"role": "user", "content": words}], "visibility": visibility}
        assert house.ask("owner", "POST", f"/backend-api/v2/chat/{share}", json=body).status_code == 200
    asked = {"model": "scripted", "input": MARK, "stream": True}
    response = re.search(r"resp_\w+", house.ask("owner", "POST", "/v1/responses", json=asked).text)
    assert response
    house.names |= {
        "conversation": conversation,
        "message": told.headers["x-message-id"],
        "private": private,
        "link": link,
        "response": response[0],
        "prompt": prompt.json()["id"],
        "item": str(MemoryItem.objects.get(owner=house.owner).key),
    }


def test_each_route_by_each_verb_as_another_and_as_nobody(house: House) -> None:
    furnish(house)
    asked = set()
    for route in routes():
        if not re.search(r"<|\((?!\?)", route) or NOBODYS.fullmatch(route):
            continue
        if route in ELSEWHERE:
            assert (HERE / ELSEWHERE[route]).exists()
            continue
        assert route in OBJECTS, f"{route} is in no table: whose is it, and who tries it as somebody else?"
        asked.add(route)
        templates, body = OBJECTS[route]
        for template in templates:
            before = everything_of(house.owner, house.other)
            for verb in VERBS:
                check(house, template, verb, body)
            assert everything_of(house.owner, house.other) == before, template
    assert asked == set(OBJECTS)


def check(house: House, template: str, verb: str, body: dict[str, Any]) -> None:
    path = template.format_map(house.names)
    other, nobody = OTHERWISE.get((verb, template), (404, 401))
    for sent in (body, {}) if verb not in ("GET", "HEAD") else (None,):
        more: dict[str, Any] = {} if sent is None else {"json": sent}
        answers = [house.ask(who, verb, path, **more) for who in ("other", "nobody")]
        case = (verb, path, [answer.status_code for answer in answers], answers[0].text[:200])
        for answer in answers:
            assert MARK not in answer.text + str(answer.headers), case
        found = [answer.status_code for answer in answers]
        # A page takes no body, and says so by its token.
        refused = [403, 403] if path.startswith("/chat/") else [405, 405]
        assert found in ([other, nobody], refused, [405, 401]), case
        if found[0] == 404 and verb != "HEAD":
            there = template.format_map(missing(house.names))
            nothing = house.ask("other", verb, there, **more)
            told = same(answers[0].text.replace(path, "/"))
            assert (nothing.status_code, same(nothing.text.replace(there, "/"))) == (404, told), case
        if verb == "POST" and found[0] == 200:
            copy = answers[0].json()["conversation_id"]
            house.ask("other", "POST", f"/backend-api/v2/conversations/{copy}/purge", json={})


def same(text: str) -> str:
    """Without the id that was asked for, which an error may repeat, and what differs for each page."""
    return re.sub(r"re(?:sp|q)_\w+|value=\"\w{64}\"|nonce=\"[^\"]*\"|'nonce-[^']*'", "", text)


# Of routes that name nothing: what is asked of them besides.
QUERIES = {
    "backend-api/v2/conversations": (f"?q={MARK}", f"?folder={MARK}", f"?tag={MARK}", "?deleted=true", "?archived=any"),
    "backend-api/v2/conversations/export": ("?format=markdown",),
}
LISTS = ("/backend-api/v2/memory/me", f"/backend-api/v2/memory/me?search={MARK}", "/backend-api/v2/memory/me/settings",
         f"/search/{MARK}", "/v1/models/scripted", "/backend-api/v2/models/Scripted")  # fmt: skip


def test_what_one_is_told_does_not_change_with_what_another_keeps(house: House) -> None:
    def told() -> dict[str, tuple[int, str]]:
        paths = [*LISTS]
        for route in routes():
            if re.match(r"(backend-api|v1|api|files|search|metrics|docs|schema)", route) and not re.search(
                "[<(]", route
            ):
                paths += [f"/{route}{query}" for query in ("", *QUERIES.get(route, ()))]
        found = {path: house.ask("other", "GET", path) for path in paths}
        return {path: (answer.status_code, same(answer.text)) for path, answer in found.items()}

    writer.flush()
    before = told()
    assert sum(status == 200 for status, _ in before.values()) > 20
    furnish(house)
    after = told()
    assert {path for path, answer in after.items() if answer != before[path]} == set()
    # It is there to be found.
    assert MARK in house.ask("owner", "GET", f"/backend-api/v2/conversations?q={MARK}").text


def test_bodies_that_name_what_is_anothers_start_nothing(house: House, provider: ScriptedProvider) -> None:
    furnish(house)
    names, before = house.names, everything_of(house.owner, house.other)
    asked = len(provider.requests)
    new = {"conversation_id": names["own"]}
    for body in (
        {"conversation_id": names["conversation"]},
        {"conversation_id": names["conversation"], "parent_id": names["message"]},
        {**new, "parent_id": names["message"]},
    ):
        answer = house.chat("other", **body)
        assert answer.status_code == 404, (body, answer.text[:200])
    shared = {"conversation_id": names["conversation"], "message_id": names["message"]}
    assert house.ask("other", "POST", "/backend-api/v2/chat", json=shared).status_code == 404
    assert everything_of(house.owner, house.other) == before
    assert len(provider.requests) == asked
    # A message's name for itself and a key for retries are each user's own.
    for body, headers in (({"id": "17"}, {}), ({}, {"idempotency-key": "k"})):
        for who, where in (("owner", names["conversation"]), ("other", names["own"])):
            sent = {"model": "scripted", "messages": [{"role": "user", "content": who}], "conversation_id": where}
            answer = house.ask(who, "POST", "/backend-api/v2/conversation", json={**sent, **body}, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-conversation-id"] == where
            assert "idempotent-replayed" not in answer.headers
    assert SharedChat.objects.count() == 2


def test_a_hundred_streams_of_twenty_people_do_not_meet(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    """All are under way before any goes on; names of conversations, messages and retries are the same for everybody."""
    gateway.add_provider(provider, "scripted")
    together = threading.Event()

    def marked(request: Recorded) -> Answer:
        mark = re.search(rb"mark-\d+", request.body)
        assert mark
        deltas = [{"reasoning_content": mark[0].decode()}, {"content": mark[0].decode()}]
        called = tool_deltas("find", ['{"q": "', mark[0].decode(), '"}'])
        first, *rest = events_of([*deltas, *called], finish="tool_calls")
        return sse([first, Hold(together), *rest])

    provider.on("scripted", marked)
    headers = [gateway.auth(gateway.make_key(person(f"p{number}"))) for number in range(20)]

    async def ask(client: httpx.AsyncClient, number: int, turn: int) -> str:
        body: dict[str, Any] = {"model": "scripted", "stream": True}
        body["messages"] = [{"role": "user", "content": f"mark-{number * 10 + turn}"}]
        if turn < 3:
            names = {"conversation_id": f"c{turn}", "id": f"m{turn}"}
            answer = await client.post("/backend-api/v2/conversation", json={**body, **names}, headers=headers[number])
        else:
            answer = await client.post("/v1/chat/completions", json=body, headers=headers[number])
        assert answer.status_code == 200, answer.text
        return answer.text

    async def again(client: httpx.AsyncClient, number: int) -> str:
        answer = await client.get("/backend-api/v2/conversation/c1/stream", headers=headers[number])
        return answer.text

    async def crowd() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=limits) as client:
            everyone = [(number, turn) for number in range(20) for turn in range(5)]
            answers = asyncio.gather(*(ask(client, number, turn) for number, turn in everyone))
            await asyncio.to_thread(provider.wait_for, 100, 50)
            together.set()
            for (number, turn), text in zip(everyone, await answers, strict=True):
                assert set(re.findall(r"mark-\d+", text)) == {f"mark-{number * 10 + turn}"}
            for number, text in enumerate(await asyncio.gather(*(again(client, number) for number in range(20)))):
                assert set(re.findall(r"mark-\d+", text)) == {f"mark-{number * 10 + 1}"}

    asyncio.run(crowd())


def test_the_table_names_tests() -> None:
    named = re.findall(r"^(\w+/[\w/]+\.py): (.*)$", __doc__ or "", re.MULTILINE)
    assert len(named) > 30
    for path, tests in named:
        text = (HERE / path).read_text(encoding="utf-8")
        for test in tests.split():
            assert re.search(rf"def {test}\(", text), f"{path} has no {test}"
