"""All requests of the corpus, numbered."""

from collections.abc import Iterator

from tests.component.wire.corpus import fields, framing, limits, lines
from tests.component.wire.corpus.message import Message

SHORT = 240
"""Bytes of a message that is cut at every byte."""


def every_request() -> list[Message]:
    """The corpus: no two messages the same."""
    found = {
        message.data: message for table in (lines, fields, framing, limits) for message in table.messages()
    }
    return [message.numbered(number) for number, message in enumerate(found.values())]


def cut(corpus: list[Message]) -> Iterator[tuple[Message, tuple[int, ...]]]:
    """The shortest message of each rule: cut in two at every byte, and at all bytes at once."""
    shortest: dict[str, Message] = {}
    for message in corpus:
        for rule in message.rules:
            known = shortest.get(rule)
            if len(message.data) <= SHORT and (known is None or len(message.data) < len(known.data)):
                shortest[rule] = message
    number = len(corpus)
    for message in shortest.values():
        every = range(1, len(message.data))
        assert message.template is not None
        for cuts in (*((at,) for at in every), tuple(every)):
            yield message.template.numbered(number), cuts
            number += 1
