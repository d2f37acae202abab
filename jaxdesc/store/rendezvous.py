"""How the processes of one run find each other, wait for each other, and notice who is gone.

The first process listens at HOST:PORT, and each one, the first included, holds a connection to it
as long as the run lasts. Over it they start together, wait for each other, and give signs of life.
A process that is killed loses its connection at once; one that is silent is given up.

`jax.distributed` is not used. Each process computes shards of its own on its own devices: no array
spans several of them, and only for such arrays does JAX need its service (on TPUs not even then).
The service lives in the first process, and JAX aborts all others when that is killed.

A message is a line of text: a word, and a value for some of them. As with `jax.distributed`, anyone
who reaches the port can keep a run from starting or stop it, but not change what it computes.
"""

import hashlib
import ipaddress
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from jaxdesc.errors import InputError

# Seconds between signs of life, and after how many without one a process is dead.
BEAT = 3.0
DEAD = 30.0

_TELL = 10.0  # seconds between two lines that say who is being waited for
_RETRY = 1.0  # seconds between two attempts to reach the first process
_LINGER = 5.0  # seconds that the first process waits at the end for the others to hang up
_LONGEST = 1 << 16  # bytes of a message
_SHOWN = 8  # processes that a sentence names
_NAME = r"[\w-]{1,63}(\.[\w-]{1,63})*\.?"  # of a host
_END = "end"


class Address(NamedTuple):
    """Address at which the first process listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read HOST:PORT; an IPv6 address is in brackets.

        Raises:
            ValueError: what is wrong with it.
        """
        if "]" not in text and text.count(":") > 1:
            raise ValueError("it has several colons, and an IPv6 address belongs in brackets")
        host, colon, port = text.rpartition(":")
        if not colon or "]" in port:
            raise ValueError("the port is missing")
        if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
        if not host:
            raise ValueError("the host is missing")
        bracketed = re.fullmatch(r"\[(.*)\]", host)
        name = bracketed[1] if bracketed else host
        if not (_ip(name) if bracketed else re.fullmatch(_NAME, host)):
            raise ValueError(f"{host} is not the name or address of a host")
        return cls(name, int(port))


class Link:
    """One process's connection to the first, from the start of a run to its end.

    Args:
        address: where the first process listens.
        index: which process this is, from 0.
        count: how many there are.
        lost: called with the number of a process that is gone, in a thread; ends this process.

    Raises:
        InputError: this is the first process, and it can't listen there.
    """

    def __init__(self, address: Address, index: int, count: int, lost: Callable[[int], None]):
        self._address, self._index, self._count, self._lost = address, index, count, lost
        self._hub = _Hub(address, count) if index == 0 else None
        self._connection: _Connection | None = None
        self._changed = threading.Condition()
        self._begun, self._missing, self._reason, self._refused = False, [0], "", ""
        self._verdicts: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._watched, self._closed = threading.Event(), threading.Event()

    def join(self, seconds: float, notify: Callable[[str], None]) -> None:
        """Wait until all processes are there.

        Args:
            seconds: how long.
            notify: called every ten seconds with a line that says who is being waited for.

        Raises:
            InputError: one did not come, or what they were told does not fit together.
        """
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()
        began, left = time.monotonic(), seconds
        with self._changed:
            while not self._changed.wait_for(
                lambda: self._begun or self._refused, min(_TELL, left)
            ):
                waited = time.monotonic() - began
                left = seconds - waited
                if left <= 0:
                    self._give_up(seconds)
                else:
                    whom = f"{self._whom()} at {self._address}{self._reason}"
                    notify(f"waiting for {whom}, {waited:.0f} s")
        if self._refused:
            self.close()
            raise InputError(self._refused)

    def meet(self, where: str) -> bool:
        """Wait until all processes have come to the same place; False if they come to others."""
        self.watch()
        self._send("at", hashlib.sha256(where.encode()).hexdigest())
        return self._verdicts.get()

    def watch(self) -> None:
        """End this process soon from now on if another one is gone.

        Until here it has half a minute to find by itself what has ended the other one: processes
        that are given the same bad input each say so.
        """
        self._watched.set()

    def end(self) -> bool:
        """Wait until all processes have ended their run; False if one works on."""
        self._send("at", _END)
        return self._verdicts.get()

    def close(self) -> None:
        """Leave; the other processes count this one as gone unless all have ended."""
        self._closed.set()
        if self._connection:
            self._connection.close()
        if self._hub:
            self._hub.close()

    def _give_up(self, seconds: float) -> None:
        self._refused = (
            f"{self._whom().capitalize()} did not join at {self._address} within {seconds:g} s"
            f"{self._reason}: start every process, each with the same --coordinator and "
            "--processes, and give them more time with --join_timeout if they need it."
        )
        if self._hub:
            self._hub.refuse(self._refused)

    def _whom(self) -> str:
        names = ", ".join(map(str, self._missing[:_SHOWN]))
        more = f" and {len(self._missing) - _SHOWN} more" if len(self._missing) > _SHOWN else ""
        return f"process{'es' * (len(self._missing) > 1)} {names}{more} of {self._count}"

    def _send(self, word: str, value: str = "") -> None:
        with suppress(OSError):  # the thread that listens notices too
            if self._connection:
                self._connection.send(word, value)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            self._send("alive")

    def _listen(self) -> None:
        """Obey the first process; before all are there, whoever is gone may still come again."""
        while not self._closed.is_set():
            try:
                hub = self._hub
                to_first = hub.connect() if hub else socket.create_connection(self._address, DEAD)
                connection = _Connection(to_first)
                connection.send("join", f"{self._index} {self._count}")
                self._connection = connection  # signs of life come after it
                while self._obey(*connection.receive()):
                    pass
                return
            except (OSError, ValueError) as error:
                if self._begun:
                    self._give_in(0)
                    return
                with self._changed:
                    self._missing, self._reason = [0], f" ({_said(error)})"
                self._closed.wait(_RETRY)

    def _obey(self, word: str, value: str) -> bool:
        """Do as a message says; False after the last one."""
        if word == "lost":
            self._give_in(int(value))
            return False
        with self._changed:
            if word == "missing":
                self._missing, self._reason = [int(index) for index in value.split()], ""
            elif word == "begin":
                self._begun = True
            elif word == "refused":
                self._refused = value
            elif word in ("met", "over", "apart"):
                self._verdicts.put(word != "apart")
            elif word != "alive":
                raise ValueError("another program answers there")
            self._changed.notify_all()
        return word not in ("refused", "over", "apart")

    def _give_in(self, index: int) -> None:
        self._watched.wait(DEAD)
        if not self._closed.wait(BEAT):  # all are asked to stop at a preemption, and may have
            self._lost(index)


class _Hub:
    """What the first process does for all: it knows who is there, who waits and who is gone."""

    def __init__(self, address: Address, count: int):
        self._listener, self._count = _listener(address), count
        self._members: dict[int, _Connection] = {}
        self._places: dict[int, str] = {}
        self._begun = self._over = False
        self._refused = ""
        self._changed = threading.Condition()
        for work in (self._accept, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def connect(self) -> socket.socket:
        """Return the first process's own connection."""
        own, served = socket.socketpair()
        self._welcome(served)
        return own

    def refuse(self, sentence: str) -> None:
        """Tell all processes that the run can't begin, unless it has."""
        with self._changed:
            if not self._begun:
                self._refused = sentence
                self._tell("refused", sentence)

    def close(self) -> None:
        """Stop listening; after a run that all have ended, once the others have hung up.

        What they have not read yet would be lost with this process otherwise.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._over or not self._members, _LINGER)
            if not self._over:
                self._over = True
                self._tell("lost", "0")
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self._welcome(self._listener.accept()[0])

    def _beat(self) -> None:
        while not self._over:
            time.sleep(BEAT)
            with self._changed:
                self._tell("alive")

    def _welcome(self, connected: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(_Connection(connected),), daemon=True).start()

    def _serve(self, connection: "_Connection") -> None:
        index = None
        try:
            index = self._admit(connection, *connection.receive())
            while index is not None:
                self._hear(index, *connection.receive())
        except (OSError, ValueError):
            pass  # gone, silent for too long, or a stranger
        connection.close()
        with self._changed:
            if index is not None:
                del self._members[index]
                if not self._over:
                    self._tell(*self._lack() if not self._begun else ("lost", str(index)))
            self._changed.notify_all()

    def _admit(self, connection: "_Connection", word: str, value: str) -> int | None:
        index, count = map(int, value.split())
        if word != "join" or not 0 <= index < count:
            raise ValueError("a stranger")
        with self._changed:
            # Who was started again may be here before it is seen that its last connection is gone.
            self._changed.wait_for(lambda: index not in self._members, BEAT)
            refusal = self._refusal(index, count)
            if refusal:
                connection.send("refused", refusal)
                self.refuse(refusal)
                return None
            self._members[index] = connection
            self._begun = len(self._members) == self._count
            self._tell(*("begin", "") if self._begun else self._lack())
            return index

    def _refusal(self, index: int, count: int) -> str:
        if count != self._count:
            return (
                f"Process {index} of this run has --processes={count}, but process 0 has "
                f"--processes={self._count}: give all of them the same number."
            )
        if index in self._members:
            return (
                f"Two processes of this run have --process={index}: give each a number of its "
                f"own, from 0 to {count - 1}."
            )
        return self._refused

    def _lack(self) -> tuple[str, str]:
        absent = set(range(self._count)) - set(self._members)
        return "missing", " ".join(map(str, sorted(absent)))

    def _hear(self, index: int, word: str, value: str) -> None:
        if word == "alive":
            return
        if word != "at":
            raise ValueError("a stranger")
        with self._changed:
            self._places[index] = value
            if len(self._places) < self._count:
                return
            places = set(self._places.values())
            self._places.clear()
            self._over = len(places) > 1 or _END in places
            self._tell("apart" if len(places) > 1 else "over" if self._over else "met")

    def _tell(self, word: str, value: str = "") -> None:
        for index in sorted(self._members, reverse=True):  # the first last: it may end all of this
            with suppress(OSError):  # the thread that serves it notices too
                self._members[index].send(word, value)


class _Connection:
    """Messages over a socket; who is silent for too long is as good as gone."""

    def __init__(self, connected: socket.socket):
        connected.settimeout(DEAD)
        self._socket, self._lines = connected, connected.makefile("rb")
        self._sending = threading.Lock()

    def send(self, word: str, value: str = "") -> None:
        with self._sending:
            self._socket.sendall(f"{word} {value}\n".encode())

    def receive(self) -> tuple[str, str]:
        """Wait for the next message.

        Raises:
            OSError: there is none: closed, or silent.
            ValueError: no text.
        """
        line = self._lines.readline(_LONGEST)
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        word, _, value = line.decode().strip().partition(" ")
        return word, value

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # also for a thread that waits in `receive`


def _listener(address: Address) -> socket.socket:
    """Listen for this machine alone if the host is a loopback, else for all."""
    host, port = address
    ip = _ip(host)
    try:
        socket.getaddrinfo(host, port)  # else the others would look for it in vain
        if ip.is_loopback if ip else host == "localhost":
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"Process 0 can't listen at {address} ({_said(error)}): give all processes another "
            "port, or end the program that has this one."
        ) from error


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _said(error: Exception) -> str:
    """Return the system's words, without the address that Python adds."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
