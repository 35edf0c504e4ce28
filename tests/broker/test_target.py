"""URLs are taken apart once, and what could be read in two ways is refused."""

import pytest

from kernel_runtime.broker.target import parse_authority, parse_url, with_params
from kernel_runtime.domain.errors import Invalid


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://api.example.org", "api.example.org", 443, "/"),
        ("HTTP://API.Example.ORG.:8080/a?b=c#d", "api.example.org", 8080, "/a?b=c"),
        ("http://[2001:DB8::1]/x", "2001:db8::1", 80, "/x"),
        ("http://[::ffff:127.0.0.1]/", "127.0.0.1", 80, "/"),
        ("https://bücher.example/ä", "xn--bcher-kva.example", 443, "/%C3%A4"),
        ("http://h.example/a%20b/%2e%61?q=../x", "h.example", 80, "/a%20b/%2e%61?q=../x"),
        ("http://allowed.example#@evil.example/", "allowed.example", 80, "/"),
    ],
)
def test_one_reading(url: str, host: str, port: int, path: str) -> None:
    target = parse_url(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert parse_url(str(target)) == target


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "//example.org/",
        "/path",
        "http://",
        "http:///path",
        "http://user@example.org/",
        "http://user:word@example.org/",
        "http://allowed.example@evil.example/",
        "http://allowed.example%40evil.example/",
        "http://example.org\\@evil.example/",
        "http://example.org\\.evil.example/",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: evil",
        "http://example.org/\tx",
        "http://example.org/\x00",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[::1%25lo]/",
        "http://[fe80::1%lo]/",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:8o/",
        "http://example.org:/",
        "http://example.org:80:80/",
        "http://exämple.org。evil.example/",
        "http://faß.de/",
        "http://example.org/%",
        "http://example.org/%zz",
        "http://example.org/a/../b",
        "http://example.org/a/%2e%2E/b",
        "http://example.org/a/..;x=1/b",
        "http://example.org/a/..%2fb",
        "http://example.org/./b",
        f"http://example.org/{'a' * 17_000}",
    ],
)
def test_what_has_two_readings_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        parse_url(url)


def test_homographs_are_other_names() -> None:
    assert parse_url("https://аpple.example/").host == "xn--pple-43d.example"  # a Cyrillic а


def test_rules_see_the_path_a_server_sees() -> None:
    assert parse_url("http://h.example/%61dmin?x=1").arguments["path"] == "/admin"
    assert parse_url("http://h.example/a%2Fb%5Cc").arguments["path"] == "/a%2Fb%5Cc"
    assert parse_url("http://h.example/%252e%252e/x").arguments["path"] == "/%252e%252e/x"


def test_redirects_are_joined() -> None:
    target = parse_url("https://a.example/x/y?z")
    assert str(target.joined("../q")) == "https://a.example/q"
    assert str(target.joined("//b.example:444/q")) == "https://b.example:444/q"
    with pytest.raises(Invalid):
        target.joined("file:///etc/passwd")


def test_parameters_are_added() -> None:
    assert with_params("http://h.example/?a=1#f", [("b", "x y&")]) == "http://h.example/?a=1&b=x+y%26"
    assert with_params("http://h.example/", []) == "http://h.example/"


def test_authorities() -> None:
    assert parse_authority("H.example:8443", 0) == ("h.example", 8443)
    assert parse_authority("[::1]:1", 0) == ("::1", 1)
    assert parse_authority("h.example", 80) == ("h.example", 80)
