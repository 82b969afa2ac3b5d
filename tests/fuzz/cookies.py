"""Our cookie is found, and taken out, as a plain reading of the field has it; the others stay as they are."""

from stickyroute_proxy.affinity.cookie import strip
from stickyroute_proxy.affinity.keys import MAX_PRESENTED, presented

NAME = b"sr"


def seeds() -> list[bytes]:
    return [
        b"a=b; sr=forged; c=d",
        b"sr=1; sr=2; c=d",
        b"a=b; sr=c;\tsr = d;;=;sr",
        b" sr=;sr=sr=sr;xsr=1",
        b';;=;a;b=="c;d\xe9',
        b"sr=1;" * 10,
    ]


def check(data: bytes) -> None:
    pairs = data.split(b";")
    ours = [pair for pair in pairs if _name(pair) == NAME]
    others = [pair for pair in pairs if _name(pair) != NAME]
    rest = strip(data, NAME)
    kept = [] if rest is None else rest.split(b";")
    assert [pair.strip(b" \t") for pair in kept if pair.strip(b" \t")] == [
        pair.strip(b" \t") for pair in others if pair.strip(b" \t")
    ], (data, rest)
    if not ours:
        assert rest == data
    found = presented([data], NAME + b"=")
    trimmed = [pair.lstrip(b" \t") for pair in ours]
    exact = [pair for pair in trimmed if pair.startswith(NAME + b"=")]
    assert found == [value[len(NAME) + 1 :] for value in exact[:MAX_PRESENTED]], (data, found)


def _name(pair: bytes) -> bytes | None:
    name, equals, _ = pair.partition(b"=")
    return name.strip(b" \t") if equals else None
