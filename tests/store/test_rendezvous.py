"""The processes of a run meet: threads with a connection each play them."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from jaxdesc.errors import InputError
from jaxdesc.store import rendezvous
from jaxdesc.store.rendezvous import Address, Link


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.05), ("DEAD", 1.0), ("_TELL", 0.2), ("_RETRY", 0.05)):
        monkeypatch.setattr(rendezvous, name, seconds)


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", free.getsockname()[1])


class Peer:
    """A process: its link, what it is told, and who it hears is gone."""

    def __init__(self, address, index, count):
        self.lines, self.gone, self.heard = [], [], threading.Event()
        self.link = Link(address, index, count, self.lose)

    def lose(self, index):
        self.gone.append(index)
        self.heard.set()

    def join(self, seconds=5):
        try:
            self.link.join(seconds, self.lines.append)
        except InputError as error:
            return str(error)
        return "joined"


def joined(address, count):
    peers = [Peer(address, index, count) for index in range(count)]
    assert together(*(peer.join for peer in peers)) == ["joined"] * count
    return peers


def together(*functions):
    """What functions return that wait for each other."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [done.result(10) for done in [pool.submit(function) for function in functions]]


def test_they_meet_and_end(address):
    peers = joined(address, 3)
    for _ in range(2):
        assert together(*(lambda p=peer: p.link.meet("here") for peer in peers)) == [True] * 3
    assert together(*(lambda p=peer: p.link.end() for peer in peers)) == [True] * 3
    for peer in reversed(peers):
        peer.link.close()
    time.sleep(0.3)
    assert [peer.gone for peer in peers] == [[], [], []]


@pytest.mark.parametrize("other", ["there", None])
def test_they_come_to_different_places(address, other):
    one, two = joined(address, 2)
    elsewhere = two.link.end if other is None else lambda: two.link.meet(other)
    assert together(lambda: one.link.meet("here"), elsewhere) == [False, False]
    two.link.close()
    one.link.close()
    assert one.gone == two.gone == []


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_the_others_hear_who_is_gone(address, dead):
    peers = joined(address, 3)
    for peer in peers:
        peer.link.watch()
    began = time.monotonic()
    peers[dead].link.close()
    others = [peer for peer in peers if peer is not peers[dead]]
    for peer in others:
        assert peer.heard.wait(5)
        assert peer.gone[0] == dead
    assert time.monotonic() - began < 0.9
    for peer in others:
        peer.link.close()


@pytest.mark.parametrize("dead", [0, 1])
def test_who_is_silent_is_gone(address, dead, monkeypatch):
    """As a process that is stopped, or a host whose cable is cut: no end of a connection."""
    peers = joined(address, 2)
    silent = peers[dead].link
    monkeypatch.setattr(silent, "_send", lambda *message: None)
    if silent._hub:
        monkeypatch.setattr(silent._hub, "_tell", lambda *message: None)
    other = peers[1 - dead]
    other.link.watch()
    assert other.heard.wait(5)
    assert other.gone == [dead]
    for peer in peers:
        peer.link.close()


def test_while_it_opens_its_inputs_a_process_may_find_the_fault_itself(address):
    one, two = joined(address, 2)
    one.link.close()
    assert not two.heard.wait(0.3)
    assert two.heard.wait(5)
    two.link.close()


def test_it_says_for_whom_it_waits_and_ends(address):
    peers = [Peer(address, index, 4) for index in (0, 2)]
    told = together(*(lambda p=peer: p.join(0.5) for peer in peers))
    expected = (
        f"Processes 1, 3 of 4 did not join at {address} within 0.5 s: start every process, each "
        "with the same --coordinator and --processes, and give them more time with --join_timeout "
        "if they need it."
    )
    assert told == [expected, expected]
    for peer in peers:
        assert peer.lines[0] == f"waiting for processes 1, 3 of 4 at {address}, 0 s"


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_the_first_process_can_t_be_reached(address, host):
    peer = Peer(address._replace(host=host), 1, 2)
    told = peer.join(0.5)
    why = {"127.0.0.1": "Connection refused"}.get(host, r"N")
    assert told.startswith(f"Process 0 of 2 did not join at {host}:{address.port} within 0.5 s (")
    assert f"({why}" in told
    assert peer.lines[0].startswith(f"waiting for process 0 of 2 at {host}:{address.port} (")


def test_another_program_is_there(address):
    with socket.create_server(address) as server:

        def answer():
            server.accept()[0].sendall(b"220 smtp.example.com ESMTP\r\n")

        threading.Thread(target=answer, daemon=True).start()
        peer = Peer(address, 1, 2)
        assert "within 0.3 s (another program answers there): start every" in peer.join(0.3)
        with pytest.raises(InputError) as error:
            Peer(address, 0, 2)
    assert str(error.value) == (
        f"Process 0 can't listen at {address} (Address already in use): give all processes another "
        "port, or end the program that has this one."
    )


@pytest.mark.parametrize(
    ("index", "count", "sentence"),
    [
        (
            1,
            3,
            "Two processes of this run have --process=1: give each a number of its own, from 0 to "
            "2.",
        ),
        (
            2,
            4,
            "Process 2 of this run has --processes=4, but process 0 has --processes=3: give all of "
            "them the same number.",
        ),
    ],
)
def test_flags_that_do_not_fit_together_are_told_to_all(address, index, count, sentence):
    peers = [Peer(address, 0, 3), Peer(address, 1, 3)]
    other = Peer(address, index, count)

    def late():
        time.sleep(0.3)
        return other.join()

    assert together(peers[0].join, peers[1].join, late) == [sentence] * 3


def test_a_run_that_has_begun_refuses_newcomers_and_goes_on(address):
    peers = joined(address, 2)
    assert Peer(address, 1, 2).join().startswith("Two processes of this run have --process=1")
    assert together(*(lambda p=peer: p.link.meet("here") for peer in peers)) == [True, True]
    for peer in peers:
        peer.link.close()


def test_who_ends_while_others_wait_may_come_again(address):
    first, second = Peer(address, 0, 3), Peer(address, 1, 3)

    def rest():
        assert second.join(0.3).startswith("Process 2 of 3 did not join")
        return together(Peer(address, 1, 3).join, Peer(address, 2, 3).join)

    assert together(first.join, rest) == ["joined", ["joined", "joined"]]


@pytest.mark.parametrize(
    "line",
    [b"GET / HTTP/1.1\r\n\r\n", b"join 1\n", b"join -1 2\n", b"\xff\n", b"x" * (1 << 17), b"join"],
)
def test_strangers_change_nothing(address, line):
    first = Peer(address, 0, 2)

    def stranger():
        with socket.create_connection(address) as connection:
            connection.sendall(line)
            connection.settimeout(2)
            with suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        return Peer(address, 1, 2).join()

    assert together(first.join, stranger) == ["joined", "joined"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost:9000", Address("localhost", 9000)),
        ("node-1.my_cluster.org:65535", Address("node-1.my_cluster.org", 65535)),
        ("[::1]:9000", Address("::1", 9000)),
        ("10.0.0.1:1", Address("10.0.0.1", 1)),
    ],
)
def test_an_address(text, found):
    assert Address.parse(text) == found
    assert str(found) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost", "the port is missing"),
        ("[::1]", "the port is missing"),
        ("localhost:", "a port is a number from 1 to 65535"),
        ("localhost:http", "a port is a number from 1 to 65535"),
        ("localhost:0", "a port is a number from 1 to 65535"),
        ("localhost:65536", "a port is a number from 1 to 65535"),
        ("localhost:-1", "a port is a number from 1 to 65535"),
        (":9000", "the host is missing"),
        ("::1:9000", "it has several colons, and an IPv6 address belongs in brackets"),
        ("[::g]:9000", "[::g] is not the name or address of a host"),
        ("http://localhost:9000", "it has several colons, and an IPv6 address belongs in brackets"),
        ("//localhost:9000", "//localhost is not the name or address of a host"),
        ("a b:9000", "a b is not the name or address of a host"),
        ("a..b:9000", "a..b is not the name or address of a host"),
    ],
)
def test_an_address_that_is_none(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Address.parse(text)
