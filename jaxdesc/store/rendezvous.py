"""The processes of a run find each other, wait for each other, and notice who is gone.

The first process listens at HOST:PORT, and every process, including the first, holds a connection
to it for as long as the run lasts. Over it they start together, wait for each other, and send signs
of life. A process that is killed loses its connection at once; a silent process is given up.

Messages are JSON, one per line. A process sends its index, then the points that it reaches; the
first process sends its whole state to all after each change. As with `jax.distributed`, anyone who
reaches the port can stop a run or keep it from starting, but can't change what it computes.

`jax.distributed` is not used: no array spans several processes, which is all that JAX needs its
service for (on TPUs not even then), and JAX aborts all others when the first is killed.
"""

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple

from jaxdesc.errors import InputError

BEAT = 3.0  # seconds between signs of life
DEAD = 30.0  # seconds without one after which a process counts as dead

_NOTIFY = 10.0  # seconds between two lines that say who is being waited for
_RETRY = 1.0  # seconds between two attempts to reach the first process
_LINGER = 5.0  # seconds that the first process waits at the end for the others to hang up
_POLL = 0.05  # seconds until the first process notices that it has to stop listening
_LONGEST = 1 << 16  # bytes of a message
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\w-]{1,63}(?:\.[\w-]{1,63})*\.?)):([0-9]{1,5})")
_END = "end"


class Address(NamedTuple):
    """Address at which the first process listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read HOST:PORT, an IPv6 address in brackets; ValueError for anything else."""
        match = _ADDRESS.fullmatch(text)
        if not match or not 1 <= int(match[3]) <= 65535:
            raise ValueError(f"{text} is not HOST:PORT with a port from 1 to 65535")
        return cls(match[1] or match[2], int(match[3]))


@dataclass
class _State:
    """State of a run's processes, as the first one knows it."""

    missing: list[int]  # processes that are not connected
    begun: bool = False  # all were connected
    refused: str = ""  # why the run can't begin
    lost: int | None = None  # a process that is gone since then
    met: int = 0  # how often all have come to a point
    apart: bool = False  # they came to different points the last time
    over: bool = False  # nobody is waited for any more


class Link:
    """One process's connection to the first, from the start of a run to its end.

    `lost` is called with the index of a process that is gone, from another thread; it ends this
    process.
    """

    def __init__(self, address: Address, index: int, count: int, lost: Callable[[int], None]):
        self._address, self._index, self._count, self._lost = address, index, count, lost
        self._hub = _Hub(address, count) if index == 0 else None
        self._channel: _Channel | None = None
        self._state, self._reason = _State([0]), ""
        self._changed = threading.Condition()
        self._watched, self._closed = threading.Event(), threading.Event()

    def join(self, seconds: float, notify: Callable[[str], None]) -> None:
        """Wait until all processes are there, for at most `seconds`.

        `notify` is called every ten seconds with a line that says who is being waited for.
        """
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()
        began, left, refusal = time.monotonic(), seconds, ""
        with self._changed:
            while not self._changed.wait_for(
                lambda: self._state.begun or self._state.refused, min(_NOTIFY, left)
            ):
                waited = time.monotonic() - began
                left = seconds - waited
                names = ", ".join(map(str, self._state.missing))
                whom = f"process{'es' * (len(self._state.missing) > 1)} {names} of {self._count}"
                if left <= 0:
                    refusal = (
                        f"{whom.capitalize()} did not join at {self._address} within {seconds:g} s"
                        f"{self._reason}: start every process, each with the same --coordinator "
                        "and --processes, and give them more time with --join_timeout if they "
                        "need it."
                    )
                    break
                notify(f"waiting for {whom} at {self._address}{self._reason}, {waited:.0f} s")
            refusal = refusal or self._state.refused
        if refusal:
            if self._hub:
                self._hub.refuse(refusal)
            self.close()
            raise InputError(refusal)

    def watch(self) -> None:
        """From now on, end this process soon after another one is gone.

        Before that it has half a minute to fail by itself: processes that are given the same bad
        input each say so.
        """
        self._watched.set()

    def meet(self, where: str = _END) -> bool:
        """Wait until all have come to a point, by default the end; False if to different points."""
        self.watch()
        with self._changed:
            before = self._state.met
            self._send(at=hashlib.sha256(where.encode()).hexdigest() if where != _END else _END)
            self._changed.wait_for(lambda: self._state.met > before)
            return not self._state.apart

    def close(self) -> None:
        """Leave; the other processes count this one as gone unless all have ended."""
        self._closed.set()
        if self._channel:
            self._channel.close()
        if self._hub:
            self._hub.close()

    def _send(self, **message: Any) -> None:
        with suppress(OSError):  # the thread that listens notices too
            if self._channel:
                self._channel.send(message)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            self._send()

    def _listen(self) -> None:
        """Follow the first process; before all are there, it may go and come again."""
        address = self._hub.socket.getsockname()[:2] if self._hub else self._address
        while not self._closed.is_set():
            try:
                channel = _Channel(socket.create_connection(address, DEAD))
                channel.send({"index": self._index, "count": self._count})
                self._channel = channel  # signs of life come after it
                while not (self._state.over or self._state.refused):
                    state = _State(**channel.receive())
                    with self._changed:
                        self._state, self._reason = state, ""
                        self._changed.notify_all()
                    if state.lost is not None:
                        self._give_in(state.lost)
                        return
                return
            except (OSError, ValueError, TypeError, RecursionError) as error:
                if self._state.begun:
                    self._give_in(0)
                    return
                with self._changed:
                    self._state.missing, self._reason = [0], f" ({_said(error)})"
                self._closed.wait(_RETRY)

    def _give_in(self, index: int) -> None:
        self._watched.wait(DEAD)
        if not self._closed.wait(BEAT):  # at a preemption, this process may be stopping too
            self._lost(index)


class _Hub(ThreadingTCPServer):
    """The first process's work for all; each connection is served by a thread."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, address: Address, count: int):
        host, port = address
        # A loopback address is for this machine alone; any other may be known to it by other names.
        loopback = host in ("localhost", "::1") or host.startswith("127.")
        if ":" in host or (not loopback and socket.has_dualstack_ipv6()):
            self.address_family = socket.AF_INET6
        try:
            socket.getaddrinfo(host, port)  # otherwise the others would look for it in vain
            super().__init__((host if loopback else "", port), BaseRequestHandler)
        except OSError as error:
            raise InputError(
                f"Process 0 can't listen at {address} ({_said(error)}): give all processes another "
                "port, or end the program that uses this one."
            ) from error
        self._count, self._state = count, _State(list(range(count)))
        self._members: dict[int, _Channel] = {}
        self._points: dict[int, str] = {}
        self._changed = threading.Condition()
        self._told = time.monotonic()
        threading.Thread(target=self.serve_forever, args=(_POLL,), daemon=True).start()

    def refuse(self, sentence: str) -> None:
        """Say to all processes that the run can't begin, unless it has."""
        with self._changed:
            if not self._state.begun:
                self._state.refused = sentence
                self._tell()

    def close(self) -> None:
        """Stop listening; after a run that all have ended, once the others have hung up.

        Otherwise what they have not read yet would be lost with this process.
        """
        with self._changed:
            self._changed.wait_for(lambda: not (self._state.over and self._members), _LINGER)
            if not self._state.over:
                self._state.lost = 0
                self._tell()
                self._state.over = True
        self.shutdown()
        self.server_close()

    def service_actions(self) -> None:
        """Send signs of life; called every `_POLL` seconds."""
        with self._changed:
            if time.monotonic() - self._told > BEAT:
                self._tell()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Serve a connection until it ends."""
        channel, index = _Channel(request), None
        try:
            index = self._admit(channel, **channel.receive())
            while index is not None:
                self._hear(index, **channel.receive())
        finally:
            with self._changed:
                if index is not None:
                    del self._members[index]
                    if self._state.begun and not self._state.over:
                        self._state.lost = index
                    self._tell()
                self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Forget a connection: its process is gone, silent for too long, or a stranger."""

    def _admit(self, channel: "_Channel", index: int, count: int) -> int | None:
        if not 0 <= index < count:
            raise ValueError("a stranger")
        with self._changed:
            # A process that was started again may be here before its last connection has ended.
            self._changed.wait_for(lambda: index not in self._members, BEAT)
            refusal = self._state.refused
            if count != self._count:
                refusal = (
                    f"Process {index} of this run has --processes={count}, but process 0 has "
                    f"--processes={self._count}: give all of them the same number."
                )
            elif index in self._members:
                refusal = (
                    f"Two processes of this run have --process={index}: give each a different "
                    f"number, from 0 to {count - 1}."
                )
            if refusal:
                channel.send(vars(_State([], refused=refusal)))
                self.refuse(refusal)
                return None
            self._members[index] = channel
            self._tell()
            return index

    def _hear(self, index: int, at: str = "") -> None:
        with self._changed:
            if at:
                self._points[index] = at
            if len(self._points) == self._count:
                points = set(self._points.values())
                self._points.clear()
                self._state.met += 1
                self._state.apart = len(points) > 1
                self._state.over = self._state.apart or _END in points
                self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._state.missing = sorted(set(range(self._count)) - set(self._members))
        self._state.begun |= not self._state.missing
        # Process 0, which is this one, last: it may end before the others are told.
        for index in sorted(self._members, reverse=True):
            with suppress(OSError):  # the thread that serves it notices too
                self._members[index].send(vars(self._state))


class _Channel:
    """Messages over a socket, which counts as closed once it is silent for too long."""

    def __init__(self, connected: socket.socket):
        connected.settimeout(DEAD)
        self._socket, self._lines = connected, connected.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._socket.sendall(f"{json.dumps(message)}\n".encode())

    def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            OSError: the connection is closed, or silent for too long.
            ValueError, RecursionError: it is not JSON.
        """
        line = self._lines.readline(_LONGEST)
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        return json.loads(line)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # also for a thread that waits in `receive`


def _said(error: Exception) -> str:
    """The system's words, without the address that Python adds."""
    if not isinstance(error, OSError):
        return "another program answers there"
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)
