"""Several workers on one socket: replaced one by one on SIGHUP and after a crash, ended together."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from multiprocessing import parent_process
from types import FrameType

from uvicorn import Config
from uvicorn.supervisors import multiprocess

from g4fsite.stopping import RETIRE, Server

log = logging.getLogger(__name__)

READY_SECONDS = 60.0


class WorkerProcess(multiprocess.Process):
    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(config=self.config)
        return self._server  # type: ignore[return-value]

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        # Made before the thread that answers the supervisor, which would else make another one.
        assert self.server
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().target(sockets)

    def send(self, number: int) -> None:
        if self.process.is_alive() and self.pid is not None:
            os.kill(self.pid, number)


def _end_with_parent() -> None:
    """A worker whose supervisor was killed would hold the port, and nobody could tell it to end."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


# uvicorn's supervisor offers no other way to say which class it starts, and starts anew when a worker died.
multiprocess.Process = WorkerProcess  # type: ignore[misc]


class Supervisor(multiprocess.Multiprocess):
    """uvicorn's own waits for each old worker to end, deaf to signals and to crashes meanwhile; this one does not."""

    processes: list[WorkerProcess]  # type: ignore[assignment]

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._retired: list[WorkerProcess] = []
        signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, sig: int, frame: FrameType | None) -> None:
        """The second Ctrl-C is passed on: workers started without a terminal hear of it in no other way."""
        if self.should_exit.is_set():
            for process in [*self.processes, *self._retired]:
                process.send(signal.SIGINT)
        else:
            self.signal_queue.append(sig)

    def restart_all(self) -> None:
        for index, old in enumerate(list(self.processes)):
            new = WorkerProcess(self.config, self.sockets)
            new.start()
            if not self._serves(new):
                new.kill()
                new.join()
                log.error("a new worker did not begin to serve; the old ones stay")
                return
            self.processes[index] = new
            old.send(RETIRE)
            self._retired.append(old)
        log.info("all workers were replaced")

    def _serves(self, process: WorkerProcess) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while process.process.is_alive() and time.monotonic() < deadline:
            if {signal.SIGINT, signal.SIGTERM} & set(self.signal_queue):
                return False
            if process.is_ready(timeout=1):
                return True
            time.sleep(0.1)
        return False

    def keep_subprocess_alive(self) -> None:
        self._retired = [process for process in self._retired if process.process.is_alive()]
        if not self.should_exit.is_set():
            for process in self.processes:
                if not process.process.is_alive():
                    log.error("worker %s ended with %s and is replaced", process.pid, process.process.exitcode)
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        for process in [*self.processes, *self._retired]:
            process.terminate()
        # While it is open here, callers wait in its queue for workers that will not come.
        for sock in self.sockets:
            sock.close()

    def join_all(self) -> None:
        for process in [*self.processes, *self._retired]:
            process.join()
