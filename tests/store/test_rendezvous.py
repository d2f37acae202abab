"""The processes of a run meet; here they are threads with a connection each."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest

from jaxdesc.errors import InputError
from jaxdesc.store import rendezvous
from jaxdesc.store.rendezvous import Address, Link


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.05), ("DEAD", 1.0), ("_NOTIFY", 0.2), ("_RETRY", 0.05)):
        monkeypatch.setattr(rendezvous, name, seconds)


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", free.getsockname()[1])


class Peer:
    """A process: its link, the lines it printed, and who it heard is gone."""

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
    """Results of functions that wait for each other."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [done.result(10) for done in [pool.submit(function) for function in functions]]


def test_they_meet_and_end(address):
    peers = joined(address, 3)
    for point in ("here", "here", "end"):
        assert together(*(partial(peer.link.meet, point) for peer in peers)) == [True] * 3
    for peer in reversed(peers):
        peer.link.close()
    time.sleep(0.3)
    assert [peer.gone for peer in peers] == [[], [], []]


@pytest.mark.parametrize("other", ["there", "end"])
def test_they_come_to_different_points(address, other):
    first, second = joined(address, 2)
    meetings = partial(first.link.meet, "here"), partial(second.link.meet, other)
    assert together(*meetings) == [False, False]
    second.link.close()
    first.link.close()
    assert first.gone == second.gone == []


@pytest.mark.parametrize("dead", [0, 1])
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
def test_a_silent_process_is_gone(address, dead, monkeypatch):
    """A process that is stopped, or a host whose cable is cut: its connection does not end."""
    peers = joined(address, 2)
    silent, other = peers[dead].link, peers[1 - dead]
    monkeypatch.setattr(silent, "_send", lambda **message: None)
    if silent._hub:
        monkeypatch.setattr(silent._hub, "_tell", lambda: None)
    other.link.watch()
    assert other.heard.wait(5)
    assert other.gone == [dead]
    for peer in peers:
        peer.link.close()


def test_while_it_opens_its_inputs_a_process_may_find_the_fault_itself(address):
    first, second = joined(address, 2)
    first.link.close()
    assert not second.heard.wait(0.3)
    assert second.heard.wait(5)
    second.link.close()


def test_it_says_who_is_missing_and_ends(address):
    peers = [Peer(address, index, 4) for index in (0, 2)]
    for told in together(*(lambda p=peer: p.join(8.0) for peer in peers)):
        assert told.startswith(f"Processes 1, 3 of 4 did not join at {address} within 8 s: ")
    for peer in peers:
        assert peer.lines[0] == f"waiting for processes 1, 3 of 4 at {address}, 0 s"


@pytest.mark.parametrize(
    ("host", "why"), [("127.0.0.1", "Connection refused"), ("nowhere.invalid", "N")]
)
def test_the_first_process_can_t_be_reached(address, host, why):
    peer = Peer(address._replace(host=host), 1, 2)
    assert peer.join(0.5).startswith(
        f"Process 0 of 2 did not join at {host}:{address.port} within 0.5 s ({why}"
    )
    assert peer.lines[0].startswith(f"waiting for process 0 of 2 at {host}:{address.port} (")


def test_another_program_is_there(address):
    with socket.create_server(address) as server:

        def answer():
            server.accept()[0].sendall(b"220 smtp.example.com ESMTP\r\n")

        threading.Thread(target=answer, daemon=True).start()
        peer = Peer(address, 1, 2)
        assert "within 0.3 s (another program answers there): start every" in peer.join(0.3)
        with pytest.raises(InputError, match=r"^Process 0 can't listen at .* \(Address already in"):
            Peer(address, 0, 2)


@pytest.mark.parametrize(
    ("index", "count", "sentence"),
    [
        (1, 3, "Two processes of this run have --process=1: "),
        (2, 4, "Process 2 of this run has --processes=4, but process 0 has --processes=3: "),
    ],
)
def test_all_are_told_of_flags_that_do_not_fit(address, index, count, sentence):
    peers = [Peer(address, 0, 3), Peer(address, 1, 3)]
    other = Peer(address, index, count)

    def late():
        time.sleep(0.3)
        return other.join()

    told = together(peers[0].join, peers[1].join, late)
    assert told == [told[0]] * 3
    assert told[0].startswith(sentence)


def test_a_run_that_has_begun_refuses_newcomers_and_goes_on(address):
    peers = joined(address, 2)
    assert Peer(address, 1, 2).join().startswith("Two processes of this run have --process=1")
    assert together(*(lambda p=peer: p.link.meet("here") for peer in peers)) == [True, True]
    for peer in peers:
        peer.link.close()


def test_a_process_that_ends_while_others_wait_may_come_again(address):
    first, second = Peer(address, 0, 3), Peer(address, 1, 3)

    def rest():
        assert second.join(0.3).startswith("Process 2 of 3 did not join")
        return together(Peer(address, 1, 3).join, Peer(address, 2, 3).join)

    assert together(first.join, rest) == ["joined", ["joined", "joined"]]


STRANGE = (b"GET / HTTP/1.1\r\n\r\n", b'{"index": -1, "count": 2}\n', b"[" * (1 << 15) + b"\n")
STRANGE += (b"\xff\n", b"[1, 2]\n", b"x" * (1 << 17), b'{"index": 1')


def test_strangers_change_nothing(address):
    first = Peer(address, 0, 2)

    def strangers():
        for line in STRANGE:
            with socket.create_connection(address) as connection:
                connection.sendall(line)
                connection.settimeout(2)
                with suppress(ConnectionResetError):
                    assert connection.recv(100) == b"", line
        return Peer(address, 1, 2).join()

    assert together(first.join, strangers) == ["joined", "joined"]


def test_an_address():
    for address in (("node-1.my_cluster.org", 65535), ("::1", 9000)):
        assert Address.parse(str(Address(*address))) == address
    assert str(Address("::1", 9000)) == "[::1]:9000"
    for text in ("localhost", "[::1]", "h:http", "h:0", "h:65536", "::1:9", "[::g]:9", "a b:9"):
        with pytest.raises(ValueError, match="is not HOST:PORT"):
            Address.parse(text)
