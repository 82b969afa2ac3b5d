import errno

import pytest

from stickyroute_cli.address import Address, explain_listen, parse_address


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("8080", ("127.0.0.1", 8080), "127.0.0.1:8080"),
        (":80", ("0.0.0.0", 80), "0.0.0.0:80"),
        ("[::1]:8080", ("::1", 8080), "[::1]:8080"),
        ("shop.local:0", ("shop.local", 0), "shop.local:0"),
    ],
)
def test_addresses_are_read_as_people_write_them(text, address, shown):
    assert parse_address(text) == address
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize("text", ["", "here", "a:b", "a:65536", "a:-1", "a:٣", "::1:8080", "a:"])
def test_what_is_no_address_is_told_with_an_example(text):
    with pytest.raises(ValueError, match="for example"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:80/"),
        ("0.0.0.0", "http://localhost:80/"),
        ("10.0.0.1", "http://10.0.0.1:80/"),
        ("fd00::1", "http://[fd00::1]:80/"),
    ],
)
def test_the_url_prefers_a_name(host, url):
    assert Address(host, 80).url == url


@pytest.mark.parametrize(
    ("number", "port", "words"),
    [
        (
            errno.EADDRINUSE,
            8080,
            "port 8080 on 127.0.0.1 is already in use; choose another with --http 127.0.0.1:8081",
        ),
        (errno.EADDRINUSE, 65535, "--http 127.0.0.1:8080"),
        (errno.EACCES, 80, "port 80 on 127.0.0.1 needs more rights; choose one above 1023 with --http"),
        (
            errno.EADDRNOTAVAIL,
            80,
            "127.0.0.1:80 (Cannot assign requested address); choose an address of this machine",
        ),
    ],
)
def test_why_it_cannot_listen(number, port, words):
    assert words in explain_listen(OSError(number, "gone"), Address("127.0.0.1", port), "--http")
