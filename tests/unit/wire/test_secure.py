"""TLS as a pair of protocols: two ends back to back, however their bytes are cut."""

import asyncio
import re
import ssl
from functools import cache

import pytest
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyroute_proxy.wire.secure import MAX_UNREAD, RECORD, Secure


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()
        self.ended = self.closed = self.aborted = False
        self.reads = True

    def is_reading(self):
        return self.reads

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    def get_write_buffer_size(self):
        return len(self.written)

    def write(self, data):
        assert not self.ended
        assert not self.closed
        self.written += data

    def writelines(self, list_of_data):
        self.write(b"".join(list_of_data))

    def write_eof(self):
        self.ended = True

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed


class Application(asyncio.Protocol):
    """What speaks above TLS."""

    def __init__(self, *, stays=True):
        self.received = bytearray()
        self.events = []
        self.stays = stays

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        assert data
        self.received += data

    def eof_received(self):
        self.events.append("eof")
        return self.stays

    def pause_writing(self):
        self.events.append("full")

    def resume_writing(self):
        self.events.append("free")

    def connection_lost(self, exc):
        self.events.append("lost")


@cache
def contexts():
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example", key_type=trustme.KeyType.ECDSA).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


class Pair:
    """A server and a client, joined by hand."""

    def __init__(self, *, stays=True, name="a.example"):
        server, client = contexts()
        self.failures = []
        self.applications = [Application(stays=stays), Application(stays=stays)]
        self.wires = [Wire(), Wire()]
        self.ends = [
            Secure(server, lambda: self.applications[0], self.failures.append),
            Secure(client, lambda: self.applications[1], self.failures.append, server_name=name),
        ]
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.connection_made(wire)
        self.pump()

    def pump(self, size=65536):
        """Carry bytes both ways, so many at once, until there are none."""
        while any(wire.written for wire in self.wires):
            for wire, end in zip(self.wires, reversed(self.ends), strict=True):
                data, wire.written = bytes(wire.written), bytearray()
                for start in range(0, len(data), size):
                    end.data_received(data[start : start + size])


def test_each_side_is_made_once_the_handshake_is_over():
    pair = Pair()
    assert [one.events for one in pair.applications] == [["made"], ["made"]]
    assert not pair.failures


bodies = st.lists(
    st.integers(0, 3) | st.integers(RECORD - 1, RECORD + 1) | st.integers(4, 100_000), max_size=5
)


lengths = st.integers(0, 3) | st.integers(RECORD - 1, RECORD + 1) | st.integers(4, 100_000)


@settings(max_examples=40, deadline=None)
@given(st.lists(lengths, max_size=5), st.integers(100, 70_000), st.booleans())
def test_what_is_written_is_received_however_it_is_cut(parts, size, joined):
    pair = Pair()
    sent = b""
    for number, length in enumerate(parts):
        part = bytes((number,)) * length
        sent += part
        if joined:
            pair.ends[0].writelines([part[:10], memoryview(part)[10:]])
        else:
            pair.ends[0].write(part)
    pair.pump(size)
    assert pair.applications[1].received == sent
    pair.ends[1].write(sent)
    pair.pump(size)
    assert pair.applications[0].received == sent


def test_a_byte_at_a_time():
    pair = Pair()
    pair.ends[0].write(b"x" * 5000)
    pair.pump(1)
    assert pair.applications[1].received == b"x" * 5000


def test_a_peer_that_wants_small_records_gets_all():
    """OpenSSL then takes less at once than it is given (RFC 6066, section 4)."""
    pair = Pair()
    tls = pair.ends[0]._object

    class Small:
        def write(self, data):
            return tls.write(memoryview(data)[:512])

    pair.ends[0]._object = Small()
    for size in (500, 3000, 100_000):
        pair.ends[0].write(b"y" * size)
    pair.pump()
    assert pair.applications[1].received == b"y" * 103_500


def test_one_side_may_end_and_the_other_go_on():
    pair = Pair()
    first, second = pair.ends
    first.write(b"all")
    first.write_eof()
    first.write(b"too late")
    pair.pump()
    assert pair.wires[0].ended
    assert pair.applications[1].received == b"all"
    assert pair.applications[1].events == ["made", "eof"]
    assert second.eof_received() is True
    second.write(b"x" * 50_000)
    pair.pump()
    assert pair.applications[0].received == b"x" * 50_000
    second.close()
    pair.pump()
    assert pair.applications[0].events == ["made", "eof"]
    assert pair.wires[1].closed
    assert not pair.wires[1].aborted


async def test_an_end_stands_behind_what_is_not_read_yet():
    pair = Pair(stays=False)
    first, second = pair.ends
    application = pair.applications[1]
    second.pause_reading()
    first.write(b"all")
    first.close()
    second.data_received(bytes(pair.wires[0].written))
    assert application.received == b"all"
    assert application.events == ["made"]
    second.resume_reading()
    second.pause_reading()
    await asyncio.sleep(0)
    assert application.events == ["made"]
    for _ in range(2):
        second.resume_reading()
        await asyncio.sleep(0)
        assert application.events == ["made", "eof"]
        assert pair.wires[1].closed
        assert not pair.wires[1].aborted


def test_one_that_does_not_stay_closes_and_says_so():
    pair = Pair(stays=False)
    pair.ends[0].write_eof()
    pair.pump()
    assert pair.wires[1].closed
    assert pair.applications[0].events == ["made", "eof"]


def test_an_end_that_was_not_said_is_a_cut():
    pair = Pair()
    assert pair.ends[1].eof_received() is False
    assert pair.wires[1].aborted
    pair.ends[1].connection_lost(None)
    pair.ends[1].write(b"nobody")
    assert pair.applications[1].events == ["made", "lost"]


def test_a_forged_record_ends_it_behind_what_was_good():
    pair = Pair()
    pair.ends[0].write(b"good")
    pair.wires[0].written += b"\x17\x03\x03\x00\x20" + b"x" * 32
    pair.pump()
    assert pair.applications[1].received == b"good"
    assert pair.wires[1].closed
    pair.ends[1].data_received(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    pair.ends[1].connection_lost(None)
    assert pair.applications[1].events == ["made", "lost"]


def test_nothing_is_written_behind_our_end():
    """The transport below would raise, whatever OpenSSL still wants to say."""
    pair = Pair()
    pair.ends[0].write_eof()
    pair.wires[0].written.clear()
    pair.ends[0]._outgoing.write(b"an alert, or new keys")
    pair.ends[0].data_received(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert not pair.wires[0].written
    assert pair.wires[0].closed


def test_a_handshake_that_fails_says_why_once():
    pair = Pair(name="b.example")
    (client, server) = pair.failures
    assert isinstance(client, ssl.SSLCertVerificationError)
    assert server.reason == "SSLV3_ALERT_BAD_CERTIFICATE"
    for end, wire in zip(pair.ends, pair.wires, strict=True):
        assert wire.closed
        end.connection_lost(None)
    assert len(pair.failures) == 2
    assert [one.events for one in pair.applications] == [[], []]


def test_a_connection_that_closes_before_the_handshake_is_over():
    failures = []
    for abort in (False, True):
        end = Secure(contexts()[0], Application, failures.append)
        end.connection_made(Wire())
        if abort:
            end.abort()
        end.connection_lost(None)
    assert failures == [None]


def test_buffers_stay_small_whatever_passes():
    """OpenSSL's buffers never shrink: ten thousand connections that once carried much would hold it all."""
    pair = Pair()
    most = 0
    incoming = pair.ends[1]._incoming
    write = incoming.write
    pair.ends[0].write(b"x" * 1_000_000)
    data = bytes(pair.wires[0].written)

    class Watched:
        pending = property(lambda _: incoming.pending)

        def write(self, part):
            nonlocal most
            write(part)
            most = max(most, incoming.pending)

    pair.ends[1]._incoming = Watched()
    for start in range(0, len(data), 262_144):
        pair.ends[1].data_received(data[start : start + 262_144])
    assert pair.applications[1].received == b"x" * 1_000_000
    assert most < 3 * RECORD


def expand(secret, label, length):
    """HKDF-Expand-Label (RFC 8446, section 7.1)."""
    name = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
    return HKDFExpand(hashes.SHA384(), length, info).derive(secret)


def key_updates(secret, count, *, ask=True):
    """A client's first records behind the handshake: KeyUpdates, which ask for one or not (section 4.6.3)."""
    for _ in range(count):
        key, iv = expand(secret, b"key", 32), expand(secret, b"iv", 12)
        header = b"\x17\x03\x03\x00\x16"
        yield header + AESGCM(key).encrypt(iv, b"\x18\0\0\x01%c\x16" % ask, header)
        secret = expand(secret, b"traffic upd", 48)


def known(folder):
    """A pair, and the secret by which its client sends."""
    log = folder / "secrets"
    contexts()[1].keylog_filename = str(log)
    try:
        pair = Pair()
    finally:
        contexts()[1].keylog_filename = None
    assert pair.ends[1]._object.cipher()[0] == "TLS_AES_256_GCM_SHA384"
    (secret,) = re.findall(r"CLIENT_TRAFFIC_SECRET_0 \S+ (\S+)", log.read_text())
    return pair, bytes.fromhex(secret)


@pytest.mark.parametrize("ask", [True, False], ids=["answered", "not answered"])
@pytest.mark.parametrize("at_once", [1, 600])
def test_who_sends_nothing_but_key_updates_is_cut_off(tmp_path, ask, at_once):
    pair, secret = known(tmp_path)
    (server, _), (wire, _) = pair.ends, pair.wires
    updates = list(key_updates(secret, 3000, ask=ask))
    sent = 0
    while not wire.aborted:
        wire.written.clear()  # the client reads all answers
        data = b"".join(updates[sent : sent + at_once])
        assert data
        server.data_received(data)
        sent += at_once
    assert RECORD < sent * len(updates[0]) < 4 * RECORD
    assert not pair.applications[0].received


def test_key_updates_between_data_are_served(tmp_path):
    pair, secret = known(tmp_path)
    for update in key_updates(secret, 100):
        pair.ends[0].data_received(update)
    assert not pair.wires[0].aborted


def test_who_has_tls_answer_and_reads_nothing_is_cut_off(tmp_path):
    pair, secret = known(tmp_path)
    (server, _), (wire, _) = pair.ends, pair.wires
    wire.written += bytes(MAX_UNREAD - 100)  # all that the client has been sent so far
    for number, update in enumerate(key_updates(secret, 10)):
        assert not wire.aborted or number > 3
        if not wire.aborted:
            server.data_received(update)
    assert wire.aborted


class Renegotiating:
    """OpenSSL while the peer has TLS 1.2 begin anew: it takes nothing until that is over."""

    def __init__(self, real):
        self._real = real
        self.busy = True

    def __getattr__(self, name):
        return getattr(self._real, name)

    def write(self, data):
        if self.busy:
            raise ssl.SSLWantReadError
        return self._real.write(data)


def test_what_is_written_while_tls_begins_anew_waits():
    pair = Pair()
    server, client = pair.ends
    events = pair.applications[1].events
    client._object = Renegotiating(client._object)
    sent = bytes(range(256)) * 1000
    client.write(sent[:100_000])
    client.writelines([sent[100_000:], b"end"])
    assert events == ["made", "full"]
    server.write(b"still")
    pair.pump()
    assert pair.applications[1].received == b"still"
    assert not pair.applications[0].received
    assert events == ["made", "full"]
    client.pause_writing()
    client.resume_writing()
    assert "free" not in events, "there is room below, and TLS takes nothing still"
    client._object.busy = False
    server.write(b"over")
    pair.pump()
    assert pair.applications[0].received == sent + b"end"
    assert events[-1] == "free"
    client.write(b"more")
    pair.pump()
    assert pair.applications[0].received.endswith(b"more")
