import base64
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import TokenKeys
from stickyroute_proxy.affinity.token import LENGTH, Binding, Keyring

SCOPE = b"shop/shop/web"
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def keys(sealing, **texts):
    return TokenKeys(
        sealing=sealing,
        keys={int(name[1:]): base64.b64encode(text * 32).decode() for name, text in texts.items()},
    )


RING = Keyring(keys(1, k1=b"a"))
BINDING = Binding(b"s" * 12, b"e" * 12, 1_800_000_000.0, 1_800_000_001.5, 1_800_000_002.125, 7, 1, 1)

times = st.integers(0, (1 << 48) - 1).map(lambda milliseconds: milliseconds / 1000)
bindings = st.builds(
    Binding,
    session=st.binary(min_size=12, max_size=12),
    endpoint=st.binary(min_size=12, max_size=12),
    created=times,
    bound=times,
    sealed=times,
    epoch=st.integers(0, (1 << 32) - 1),
    flags=st.integers(0, 255),
    key=st.just(1),
)


@given(bindings, st.binary(max_size=80))
def test_what_is_sealed_opens_again(binding, scope):
    token = RING.seal(binding, scope)
    assert len(token) == LENGTH
    assert set(token) <= set(ALPHABET)
    assert RING.open(token, scope) == binding


def test_two_tokens_of_one_binding_differ():
    assert RING.seal(BINDING, SCOPE) != RING.seal(BINDING, SCOPE)


def test_none_of_10_000_mutations_opens():
    random = Random(1)
    token = RING.seal(BINDING, SCOPE)
    for _ in range(10_000):
        mutant = bytearray(token)
        match random.randrange(5):
            case 0:
                mutant[random.randrange(len(mutant))] ^= 1 << random.randrange(8)
            case 1:
                del mutant[random.randrange(len(mutant)) :]
            case 2:
                mutant.insert(random.randrange(len(mutant) + 1), random.choice(ALPHABET))
            case 3:
                mutant[random.randrange(len(mutant))] = random.randrange(256)
            case _:
                at = random.randrange(len(mutant) - 8)
                mutant[at : at + 8] = random.randbytes(8)
        if bytes(mutant) != token:
            assert RING.open(bytes(mutant), SCOPE) in (BindingReason.INVALID_TOKEN, BindingReason.KEY_RETIRED)


@given(st.binary(max_size=200) | st.text(ALPHABET.decode(), min_size=LENGTH, max_size=LENGTH).map(str.encode))
def test_no_bytes_are_a_token_or_an_error(garbage):
    assert isinstance(RING.open(garbage, SCOPE), BindingReason)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("plain base64 instead of base64url", lambda token: token.replace(b"-", b"+").replace(b"_", b"/")),
        ("padding", lambda token: token + b"="),
        ("other trailing bits", lambda token: token[:-1] + bytes([ALPHABET[ALPHABET.index(token[-1]) + 1]])),
        ("white space", lambda token: b" " + token),
        ("a line feed inside", lambda token: token[:50] + b"\n" + token[51:]),
        ("another version", lambda token: b"Ag" + token[2:]),
    ],
)
def test_one_spelling_only(name, change):
    token = next(token for _ in range(1000) if set(b"-_") & set(token := RING.seal(BINDING, SCOPE)))
    assert RING.open(change(token), SCOPE) is BindingReason.INVALID_TOKEN, name


def test_a_token_is_nothing_to_another_scope():
    assert RING.open(RING.seal(BINDING, SCOPE), b"shop/shop/other") is BindingReason.INVALID_TOKEN


def test_a_token_of_a_known_number_and_another_key_is_invalid():
    assert Keyring(keys(1, k1=b"b")).open(RING.seal(BINDING, SCOPE), SCOPE) is BindingReason.INVALID_TOKEN


def test_rotation_opens_what_the_old_key_sealed_until_it_retires():
    token = RING.seal(BINDING, SCOPE)
    both = Keyring(keys(2, k1=b"a", k2=b"b"))
    assert both.open(token, SCOPE) == BINDING
    assert both.open(both.seal(BINDING, SCOPE), SCOPE) == BINDING._replace(key=2)
    assert Keyring(keys(2, k2=b"b")).open(token, SCOPE) is BindingReason.KEY_RETIRED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (TokenKeys(sealing=1, keys={1: "c2hvcnQ="}), r"keys\.keys\[1\]"),
        (TokenKeys(sealing=1, keys={1: "no base64!"}), r"keys\.keys\[1\]"),
        (keys(2, k1=b"a"), r"keys\.sealing: key 2"),
    ],
)
def test_bad_keys_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        Keyring(given)
