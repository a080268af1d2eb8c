"""One worker: a process with a loop, that answers until it is asked to stop."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterable
from typing import Protocol

import uvloop

from .http import Connection, Environment, Server
from .threads import StartResponse, Threads

BACKLOG = 1_024
# What is being answered when the worker is asked to stop may end within this.
STOP_SECONDS = 10.0


class Door(Protocol):
    """The application: WSGI, and what it can answer without waiting for anything (`http.Application.at_once`)."""

    def __call__(self, environment: Environment, start_response: StartResponse, /) -> Iterable[bytes]:
        """Answer. Spec: PEP 3333."""

    def at_once(self, environment: Environment, body: bytes) -> tuple[bytes, bytes] | None:
        """Answer now or not at all."""


class _Application:
    """A door with threads behind it."""

    __slots__ = ("at_once", "later")

    def __init__(self, door: Door, threads: Threads) -> None:
        self.at_once = door.at_once
        self.later = threads.take


def serve(door: Door, listening: socket.socket, threads: int, parent: int) -> None:
    """Answer on a listening socket until SIGTERM, or until the other end of the pipe `parent` is closed."""
    uvloop.run(_serve(door, listening, threads, parent))


async def _serve(door: Door, listening: socket.socket, threads: int, parent: int) -> None:
    loop = asyncio.get_running_loop()
    host, port = listening.getsockname()[:2]
    server = Server(_Application(door, Threads(door, threads, host, port)), loop)
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal sends it to all: the supervisor decides
    loop.add_reader(parent, asked.set)
    listener = await loop.create_server(lambda: Connection(server), sock=listening, backlog=BACKLOG)
    while not asked.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), 1)
        server.tick()
    listener.close()
    server.stop()
    ends = loop.time() + STOP_SECONDS
    while server.connections and loop.time() < ends:
        await asyncio.sleep(0.02)
        server.stop()
