"""llama.cpp's OpenAI-compatible server, run by `keeper.py` in a process of its own.

The interpreter may be another one than ours (LOCAL_ENGINE_PYTHON), so nothing of ours is imported. What it shall do
comes as one line of JSON on standard input, which stays open: it ends when the gateway does, however that ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Linux kills this process with its parent, also while it computes and watches nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def watch() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def serve(wanted: dict[str, Any]) -> None:
    import uvicorn
    from llama_cpp.server.app import create_app
    from llama_cpp.server.settings import ModelSettings, ServerSettings

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            os.write(wanted["ready_fd"], b"ready")

    app = create_app(
        # Without `interrupt_requests` a second caller waits for the first instead of ending its answer.
        server_settings=ServerSettings(api_key=wanted["key"], interrupt_requests=False),
        model_settings=[ModelSettings(**wanted["model"])],
    )
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
    Server(config).run(sockets=[socket.socket(fileno=wanted["socket_fd"])])


def main() -> None:
    # The folder of this file holds modules of ours, which are nobody's business here.
    sys.path.pop(0)
    die_with(int(sys.argv[1]))
    wanted = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=watch, daemon=True).start()
    serve(wanted)


if __name__ == "__main__":
    main()
