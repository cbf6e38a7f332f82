"""Model lists, connection tests and local servers, against real servers on sockets."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway import discovery
from gateway.catalogue import public_id_of, read_models
from gateway.discovery import DiscoveryFailed, find_local_servers, host_is_private, list_models
from gateway.targets import Endpoint
from tests.support.listing import ListingServer

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server():
    with ListingServer() as running:
        yield running


def endpoint(server, **fields):
    return Endpoint(name="Local", base_url=server.base_url, **{"allow_private": True, **fields})


@contextmanager
def tls_listener(folder, heard):
    """A TLS server whose certificate signs itself; `heard` gets the names that clients ask for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "models.example")])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("models.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "self.pem"
    path.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.sni_callback = lambda _, asked, __: heard.append(asked)

    def serve(listener):
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            context.wrap_socket(peer, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def connect(server, default_model="", adapter="openai_chat", **fields):
    found = endpoint(server, **fields)
    return discovery.test_connection(found, KEY, default_model=default_model, models_url="", adapter=adapter)


class TestListModels:
    def test_it_works(self, server):
        server.lists("gpt-x", "org/model")
        assert [model.public_id for model in list_models(endpoint(server), KEY)] == ["gpt-x", "org/model"]
        assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
        assert server.seen[0].headers["Accept-Encoding"] == "identity"

    def test_it_sends_a_named_header_and_the_extra_ones(self, server):
        server.lists("m")
        list_models(endpoint(server, auth_style="header", auth_name="api-key", headers=(("X-Title", "t"),)), KEY)
        assert server.seen[0].headers["api-key"] == KEY
        assert server.seen[0].headers["X-Title"] == "t"
        assert "Authorization" not in server.seen[0].headers

    def test_it_sends_the_query_and_a_credential_in_it(self, server):
        server.lists("m")
        list_models(endpoint(server, auth_style="query", auth_name="key", query="api-version=1"), "a b&c-0123456789")
        assert server.seen[0].path == "/v1/models?api-version=1&key=a+b%26c-0123456789"

    def test_it_sends_no_credential_where_none_is_used(self, server):
        server.lists("m")
        list_models(endpoint(server, auth_style="none"), KEY)
        assert KEY not in str(server.seen[0].headers)

    def test_it_goes_through_the_providers_proxy_and_no_other(self, server, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        server.lists("direct")
        assert list_models(endpoint(server))[0].public_id == "direct"
        with ListingServer() as proxy:
            proxy.says("http://model.test/v1/models", {"data": [{"id": "proxied"}]})
            target = Endpoint(
                name="Far", base_url="http://model.test/v1", proxy=f"http://127.0.0.1:{proxy.port}", allow_private=True
            )
            assert list_models(target)[0].public_id == "proxied"

    def test_it_does_not_follow_redirects(self, server):
        with ListingServer() as other:
            server.says("/v1/models", b"", status=302, headers={"Location": f"{other.base_url}/models"})
            with pytest.raises(DiscoveryFailed, match="redirect"):
                list_models(endpoint(server), KEY)
            assert not other.seen

    @pytest.mark.parametrize(
        ("status", "text"),
        [
            (401, "refused the credential"),
            (403, "refused the credential"),
            (429, "limiting requests"),
            (404, "no model list"),
            (500, "status 500"),
            (400, "status 400: bad key"),
        ],
    )
    def test_each_refusal_is_a_sentence_without_the_credential(self, server, status, text):
        server.says("/v1/models", {"error": {"message": f"bad key {KEY}"}}, status=status)
        with pytest.raises(DiscoveryFailed) as caught:
            list_models(endpoint(server), KEY)
        assert text in caught.value.message
        assert KEY[:10] not in caught.value.message
        assert "\n" not in caught.value.message

    def test_a_missing_credential_is_said_as_such(self, server):
        server.says("/v1/models", {}, status=401)
        with pytest.raises(DiscoveryFailed, match="wants a credential"):
            list_models(endpoint(server))

    @pytest.mark.parametrize("body", [b"<html>", b"", b"[[[", b'"text"', b"{}", b'{"data": 3}', b"\xff\xfe"])
    def test_what_is_not_a_list_is_refused(self, server, body):
        server.says("/v1/models", body)
        with pytest.raises(DiscoveryFailed, match="Local answered with something that is not"):
            list_models(endpoint(server))

    def test_an_endless_answer_is_cut(self, server):
        server.says("/v1/models", b" " * (8 * 1024 * 1024 + 1))
        with pytest.raises(DiscoveryFailed, match="larger than 8 MB"):
            list_models(endpoint(server))

    def test_a_compressed_answer_is_refused_unread(self, server):
        server.says("/v1/models", gzip.compress(b"0" * 1000), headers={"Content-Encoding": "gzip"})
        with pytest.raises(DiscoveryFailed, match="compressed"):
            list_models(endpoint(server))

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nX-Drip: "], ids=["status line", "header"])
    def test_a_dripping_head_ends(self, server, monkeypatch, begun):
        """Each byte comes in time, and the last one never does."""
        monkeypatch.setattr(discovery, "SECONDS", 0.4)

        def drip(handler):
            handler.wfile.write(begun)
            with contextlib.suppress(OSError):
                for _ in range(200):
                    handler.wfile.write(b"H")
                    handler.wfile.flush()
                    time.sleep(0.05)

        server.does("/v1/models", drip)
        begun_at = time.monotonic()
        with pytest.raises(DiscoveryFailed, match="no answer within"):
            list_models(endpoint(server))
        assert time.monotonic() - begun_at < 3

    def test_a_slow_answer_ends(self, server, monkeypatch):
        monkeypatch.setattr(discovery, "SECONDS", 0.3)

        def trickle(handler):
            handler.send_response(200)
            handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b" ")
                time.sleep(0.02)

        server.does("/v1/models", trickle)
        begun = time.monotonic()
        with pytest.raises(DiscoveryFailed, match="no answer within"):
            list_models(endpoint(server))
        assert time.monotonic() - begun < 2

    def test_a_server_that_is_not_there(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            target = Endpoint(name="Gone", base_url=f"http://127.0.0.1:{free.getsockname()[1]}/v1", allow_private=True)
            with pytest.raises(DiscoveryFailed, match="Gone: the connection was refused"):
                list_models(target, KEY)

    def test_a_server_that_speaks_something_else(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def babble():
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"SSH-2.0-x\r\n")

            threading.Thread(target=babble, daemon=True).start()
            target = Endpoint(
                name="Odd", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", allow_private=True
            )
            with pytest.raises(DiscoveryFailed, match="does not speak HTTP"):
                list_models(target)

    def test_a_header_that_cannot_be_sent_is_a_sentence(self, server):
        with pytest.raises(DiscoveryFailed):
            list_models(endpoint(server, headers=(("X-A", "ü\u2028"),)))

    def test_a_certificate_nobody_signed_is_refused_and_hears_its_name(self, tmp_path, monkeypatch):
        heard = []
        monkeypatch.setattr(discovery, "is_public", lambda _: True)
        with tls_listener(tmp_path, heard) as port:
            answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
            with pytest.raises(DiscoveryFailed, match="certificate is not trusted"):
                list_models(Endpoint(name="Self", base_url=f"https://models.example:{port}/v1"), KEY)
        assert heard == ["models.example"]

    def test_plain_http_behind_https_is_a_sentence(self, server):
        # A plain server on the port: the handshake fails, which must not end in a trace.
        target = Endpoint(name="Tls", base_url=f"https://127.0.0.1:{server.port}/v1", allow_private=True)
        with pytest.raises(DiscoveryFailed, match=r"^Tls: "):
            list_models(target)


class TestPrivateAddresses:
    def test_a_private_literal_is_refused_at_use(self, server):
        with pytest.raises(DiscoveryFailed, match="private"):
            list_models(endpoint(server, allow_private=False), KEY)
        assert not server.seen

    def test_a_name_that_leads_inside_is_refused(self, server, monkeypatch):
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
        target = Endpoint(name="Rebound", base_url=f"https://models.example:{server.port}/v1")
        with pytest.raises(DiscoveryFailed, match="leads to a private address"):
            list_models(target, KEY)
        assert not server.seen

    def test_it_resolves_once_and_connects_to_what_it_checked(self, monkeypatch):
        asked, connected = [], []

        def resolve(host, *_, **__):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("8.8.8.8", "8.8.4.4")]

        def connect_to(address, *_, **__):
            connected.append(address[0])
            raise ConnectionRefusedError

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(socket, "create_connection", connect_to)
        with pytest.raises(DiscoveryFailed, match="connection was refused"):
            list_models(Endpoint(name="Pinned", base_url="https://models.example/v1"), KEY)
        assert asked == ["models.example"]
        assert connected == ["8.8.8.8", "8.8.4.4"]

    def test_the_server_still_hears_its_name(self, server, monkeypatch):
        # 127.0.0.1 stands for a public address here; everything else is the real path.
        monkeypatch.setattr(discovery, "is_public", lambda _: True)
        monkeypatch.setattr(discovery, "check_base_url", lambda *_, **__: None)
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: answers if host == "models.example" else resolve(host, *a, **k)
        )
        server.lists("m")
        list_models(Endpoint(name="Named", base_url=f"http://models.example:{server.port}/v1"))
        assert server.seen[0].headers["Host"] == f"models.example:{server.port}"

    def test_a_name_that_does_not_resolve(self):
        with pytest.raises(DiscoveryFailed, match="cannot be resolved"):
            list_models(Endpoint(name="Lost", base_url="https://no-such-host.invalid/v1"))

    @pytest.mark.parametrize(
        ("url", "private"),
        [
            ("http://127.0.0.1:1/v1", True),
            ("http://[::1]:1/v1", True),
            ("http://10.1.2.3/v1", True),
            ("http://ollama:11434/v1", True),
            ("http://box.local/v1", True),
            ("http://localhost/v1", True),
            ("https://8.8.8.8/v1", False),
            ("https://no-such-host.invalid/v1", False),
            ("nonsense", False),
        ],
    )
    def test_private_hosts_are_told_apart(self, url, private):
        assert host_is_private(url) is private


class TestConnection:
    def test_it_counts_models(self, server):
        server.lists("a", "b")
        found = connect(server)
        assert (found.models, found.answered) == (2, "")
        assert 0 <= found.milliseconds < 5000

    def test_without_a_list_it_asks_for_one_token(self, server):
        server.says("/v1/chat/completions", {"choices": [{"message": {"content": "Hi"}}]})
        assert connect(server, "m").answered == "m"
        assert server.seen[1].json["max_tokens"] == 1
        assert server.seen[1].json["model"] == "m"

    def test_without_a_list_and_a_model_it_says_what_to_set(self, server):
        with pytest.raises(DiscoveryFailed, match="Set a default model"):
            connect(server)

    def test_a_list_that_is_refused_is_not_tried_otherwise(self, server):
        server.says("/v1/models", {}, status=401)
        with pytest.raises(DiscoveryFailed, match="refused"):
            connect(server, "m")
        assert len(server.seen) == 1

    def test_a_chat_that_fails_is_a_sentence(self, server):
        server.says("/v1/chat/completions", {"error": {"message": "no such model"}}, status=400)
        with pytest.raises(DiscoveryFailed, match="no such model"):
            connect(server, "m")
        server.says("/v1/chat/completions", {"hello": 1})
        with pytest.raises(DiscoveryFailed, match="not a chat completion"):
            connect(server, "m")


class TestLocalServers:
    def test_it_finds_one_and_gives_the_command(self, server):
        server.lists("llama3:latest", "b")
        found = find_local_servers([("vllm", server.base_url)])
        assert [(item.preset, item.models) for item in found] == [("vllm", 2)]
        assert found[0].command == f"provider add --preset vllm --base-url {server.base_url} --sync"

    def test_at_the_usual_place_the_command_is_short(self):
        place = discovery.LocalServer("ollama", "Ollama", "http://127.0.0.1:11434", 1)
        assert place.command == "provider add --preset ollama --sync"

    @pytest.mark.parametrize("body", [{"data": []}, [], {"object": "list"}, "text", {"object": "list", "data": 7}])
    def test_other_servers_are_left_alone(self, server, body):
        server.says("/v1/models", body)
        found = find_local_servers([("vllm", server.base_url)])
        assert bool(found) is (body == {"object": "list"})

    def test_refusals_and_silence_are_nothing(self, server):
        server.says("/v1/models", {"object": "list", "data": []}, status=401)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            begun = time.monotonic()
            quiet = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
            assert find_local_servers([("vllm", server.base_url), ("llamacpp", quiet), ("ollama", quiet)]) == []
            assert time.monotonic() - begun < 1.5

    def test_nothing_to_look_at(self):
        assert find_local_servers([]) == []

    def test_the_usual_ports_are_asked(self):
        assert all(item.preset for item in find_local_servers())


class TestWhatProvidersSay:
    def one(self, entry):
        (found,) = read_models({"data": [entry]})
        return found

    def test_ids_lose_what_is_not_part_of_them(self):
        assert public_id_of("models/gemini-x") == "gemini-x"
        assert public_id_of("llama3:latest") == "llama3"
        assert public_id_of("llama3:8b") == "llama3:8b"
        assert public_id_of(":latest") == ":latest"

    def test_the_exact_name_wins_over_its_latest(self):
        found = read_models([{"id": "a:latest"}, {"id": "a"}, {"id": "b"}, {"id": "b:latest"}])
        assert [(model.public_id, model.upstream_name) for model in found] == [("a", "a"), ("b", "b")]

    def test_openrouter(self):
        found = self.one(
            {
                "id": "x/y",
                "context_length": 128000,
                "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
                "supported_parameters": ["tools", "response_format"],
            }
        )
        assert found.context_length == 128000
        assert found.flags == {
            "chat": True, "vision": True, "image": False, "audio": False, "video": False, "tools": True, "json": True,
            "reasoning": False,
        }  # fmt: skip

    def test_mistral(self):
        said = {"completion_chat": True, "function_calling": True, "vision": False, "fine_tuning": True}
        found = self.one({"id": "m", "type": "base", "capabilities": said, "max_context_length": 32768})
        assert found.flags == {"chat": True, "tools": True, "vision": False}
        assert found.context_length == 32768

    def test_github_and_a_bare_list(self):
        entry = {
            "id": "openai/gpt-x",
            "capabilities": ["streaming", "tool-calling"],
            "supported_input_modalities": ["text", "image", "audio"],
            "supported_output_modalities": ["text"],
            "limits": {"max_input_tokens": 1048576},
        }
        (found,) = read_models([entry])
        assert found.flags["tools"] is found.flags["vision"] is found.flags["audio"] is True
        assert found.context_length == 1048576
        assert read_models([{"id": "e", "supported_output_modalities": ["embeddings"]}])[0].flags["embeddings"] is True

    def test_together_and_lm_studio(self):
        assert self.one({"id": "a", "type": "embedding"}).flags == {"embeddings": True, "chat": False}
        assert self.one({"id": "a", "type": "vlm"}).flags == {"chat": True, "vision": True}

    def test_fireworks(self):
        said = {"supports_chat": True, "supports_image_input": False, "supports_tools": True}
        assert self.one({"id": "a", **said}).flags == {"chat": True, "vision": False, "tools": True}

    def test_hugging_face(self):
        hosts = [
            {"context_length": 8192, "supports_tools": False, "supports_structured_output": False},
            {"context_length": 131072, "supports_tools": True},
            "odd",
        ]
        found = self.one({"id": "a", "providers": hosts})
        assert found.flags == {"tools": True, "json": False}
        assert found.context_length == 131072

    @pytest.mark.parametrize(
        ("entry", "length"),
        [
            ({"max_model_len": 4096}, 4096),
            ({"context_window": 8192}, 8192),
            ({"meta": {"n_ctx": 2048}}, 2048),
            ({"context_length": "many"}, None),
            ({"context_length": True}, None),
            ({"context_length": -1}, None),
            ({"context_length": 2**40}, None),
            ({"limits": 3, "meta": None, "providers": 5}, None),
        ],
    )
    def test_context_lengths(self, entry, length):
        assert self.one({"id": "a", **entry}).context_length == length

    def test_nonsense_in_an_entry_is_passed_over(self):
        odd = [
            None,
            1,
            {},
            {"id": 3},
            {"id": ""},
            {"id": "a", "architecture": 1, "supported_parameters": {}, "type": []},
        ]
        assert [model.public_id for model in read_models({"data": odd})] == ["a"]

    def test_null_is_an_empty_list(self):
        assert read_models({"object": "list", "data": None}) == []
