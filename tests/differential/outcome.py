"""What became of a message, as a class that can be compared between proxies."""

from tests.component.wire.corpus import strict
from tests.component.wire.corpus.answer import Answer
from tests.component.wire.corpus.asking import Got
from tests.component.wire.corpus.message import Message
from tests.component.wire.corpus.run import Record, Result, meaning_of

SERVED = "served"
OTHERWISE = "served with another meaning"
MALFORMED = "passed on malformed"
SPLIT = "passed on as more than one message"
CLOSED = "closed without an answer"
WAITS = "held open"
CUT = "cut"


def of_request(message: Message, result: Result, record: Record) -> str:
    """By method, target, host and body: which fields go on beside them is each proxy's policy."""
    got = record.messages.get(message.number, [])
    if message.number in record.malformed:
        return MALFORMED
    if len(got) > 1 or record.tails.get(message.number, 0) > 1:
        return SPLIT
    if got:
        reading, means = meaning_of(got[0]), message.meaning
        hosts = got[0].values(b"host")
        same = (reading.method, reading.target, reading.body) == (means.method, means.target, means.body)
        return SERVED if same and (means.host is None or hosts == [means.host]) else OTHERWISE
    if result.answers:
        return f"refused with {result.answers[0][0]}"
    return CLOSED if result.closed else WAITS


def of_answer(answer: Answer, got: Got) -> str:
    pos = 0
    try:
        while True:
            message, pos = strict.read_answer(
                got.data, pos, to_head=answer.method == b"HEAD", ended=not got.reset
            )
            if int(message.start[1]) >= 200:
                break
    except strict.IncompleteError:
        return CUT if got.data else CLOSED
    except strict.MalformedError:
        return MALFORMED
    if b"oison" in got.data:
        return SPLIT
    status = int(message.start[1])
    if status in (502, 500, 503, 504) and status != answer.status:
        return f"refused with {status}"
    same = (status, message.body) == (answer.status, answer.body)
    return SERVED if same else OTHERWISE
