"""A value of the application's comes back to it byte for byte, and nothing else is touched on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.affinity import envelope
from stickyroute_proxy.affinity.token import LENGTH, SEPARATOR

NAME = b"JSESSIONID"
NOW = 1_800_000_000.0
TOKEN = b"T" * LENGTH

OCTETS = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'",;\\')
values = st.lists(st.sampled_from(OCTETS), min_size=1, max_size=40).map(bytes)
quoted = values.map(lambda value: b'"' + value + b'"')
attributes = st.lists(
    st.sampled_from(
        [b" Path=/", b"Path=/app", b" HttpOnly", b" Secure", b"  SameSite=None ", b" x", b"", b" Max-Age=60"]
    ),
    max_size=4,
).map(lambda parts: b"".join(b";" + part for part in parts))
blanks = st.sampled_from([b"", b" ", b"\t "])


def seal(value):
    return TOKEN


@pytest.mark.parametrize(
    ("value", "wrapped"),
    [
        (b"abc", TOKEN + b"~abc"),
        (b'"abc"', b'"' + TOKEN + b'~abc"'),
        (b'"a b', b'"' + TOKEN + b"~a b"),
        (b"~", TOKEN + b"~~"),
        (b"a=b~c==", TOKEN + b"~a=b~c=="),
        (b"\xff\x80", TOKEN + b"~\xff\x80"),
        (TOKEN + b"~abc", TOKEN + b"~" + TOKEN + b"~abc"),
    ],
)
def test_wrap(value, wrapped):
    assert envelope.wrap(value, seal) == wrapped
    assert envelope.unwrap(wrapped) == value
    assert envelope.shown(wrapped) == TOKEN + SEPARATOR + value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"abc",
        b"abc~def",
        b'""',
        TOKEN,
        TOKEN[1:] + b"~abc",
        TOKEN + b"T~abc",
        b"!" + TOKEN[1:] + b"~abc",
        b"'" + TOKEN + b"~abc'",
    ],
)
def test_what_is_no_envelope_stays(value):
    assert envelope.unwrap(value) == value
    assert envelope.shown(value) is None


@given(values | quoted | st.binary(min_size=1, max_size=60))
def test_round_trip(value):
    assert envelope.unwrap(envelope.wrap(value, seal)) == value


@given(values | quoted, attributes, blanks, blanks, blanks)
def test_a_set_cookie_field_keeps_all_but_the_value(value, attributes, before, middle, after):
    field = before + NAME + middle + b"=" + middle + value + after + attributes
    wrapped = envelope.wrap_cookie(field, NAME, seal, NOW)
    assert envelope.minted(field, NAME, NOW) == value
    assert wrapped == field.replace(b"=" + middle + value, b"=" + middle + envelope.wrap(value, seal), 1)
    returned = b"a=1; " + NAME + b"=" + envelope.minted(wrapped, NAME, NOW) + b"; b=2"
    assert envelope.unwrap_cookie(returned, NAME) == b"a=1; " + NAME + b"=" + value + b"; b=2"


cookies = st.lists(
    st.tuples(st.sampled_from([b"a", NAME, b"X" + NAME, NAME.lower()]), values | quoted), max_size=6
)


@given(cookies, st.sampled_from([b"; ", b";", b";\t"]))
def test_other_cookies_stay_byte_for_byte(pairs, separator):
    plain = separator.join(name + b"=" + value for name, value in pairs)
    sent = separator.join(
        name + b"=" + (envelope.wrap(value, seal) if name == NAME else value) for name, value in pairs
    )
    assert envelope.unwrap_cookie(sent, NAME) == plain
    assert envelope.unwrap_cookie(plain, NAME) == plain


@given(st.binary(max_size=300), st.binary(max_size=200))
def test_any_bytes_are_safe(field, attributes):
    envelope.unwrap_cookie(field, NAME)
    envelope.unwrap_cookie(NAME + b"=" + field, NAME)
    envelope.wrap_cookie(field, NAME, seal, NOW)
    envelope.wrap_cookie(NAME + b"=x;expires=" + attributes, NAME, seal, NOW)
    envelope.wrap_cookie(NAME + b"=x;max-age=" + attributes, NAME, seal, NOW)


@pytest.mark.parametrize(
    "field",
    [
        b"other=abc; Path=/",
        b"jsessionid=abc",
        b"XJSESSIONID=abc",
        b"JSESSIONID",
        b"JSESSIONID=; Path=/",
        b'JSESSIONID=""; Path=/',
        b"JSESSIONID=abc; Max-Age=0",
        b"JSESSIONID=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; path=/",
        b"JSESSIONID=abc; max-age = -1 ;Path=/",
        b"JSESSIONID=abc; Max-Age=60; Max-Age=00",
        b"JSESSIONID=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        b"JSESSIONID=abc; Expires=Thu, 01-Jan-70 00:00:10 GMT",
        b"JSESSIONID=" + b"x" * 4000,
    ],
)
def test_other_cookies_and_ends_of_one_stay(field):
    assert envelope.wrap_cookie(field, NAME, seal, NOW) == field


@pytest.mark.parametrize(
    "attributes",
    [
        b"",
        b"; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        b"; Max-Age=soon",
        b"; Expires=never",
        b"; Expires=Fri, 15 Jan 2038 00:00:00 GMT",
        b"; Expires=Fri, 15-Jan-2038 00:00:00 GMT; Secure",
        b"; Expires=\xff\xfe, 99 Xyz 99999999999999 99:99:99 GMT",
    ],
)
def test_a_live_cookie_is_wrapped(attributes):
    wrapped = envelope.wrap_cookie(NAME + b"=abc" + attributes, NAME, seal, NOW)
    assert wrapped == NAME + b"=" + TOKEN + b"~abc" + attributes
