"""Which addresses the service may call: every way of writing a private one, and what is no address at all (A62)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.outbound_rules import (
    ANY_PORT,
    URL_LENGTH_MAX,
    Forbidden,
    Place,
    Rules,
    check_place,
    is_reachable,
    read_rules,
)

RULES = read_rules(
    ["app.example", "app2.example:8443", "http://localhost:8001", "198.51.100.7", "[2001:db8::7]:444"]
)


# -- what is configured ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ("app.example", ("https", "app.example", 443)),
        ("APP.example", ("https", "app.example", 443)),
        ("app.example.", ("https", "app.example", 443)),
        ("app.example:8443", ("https", "app.example", 8443)),
        ("https://app.example", ("https", "app.example", 443)),
        ("http://localhost", ("http", "localhost", 80)),
        ("http://localhost:8001", ("http", "localhost", 8001)),
        ("http://localhost:*", ("http", "localhost", ANY_PORT)),
        ("http://[::1]:*", ("http", "::1", ANY_PORT)),
        ("127.0.0.1:*", ("https", "127.0.0.1", ANY_PORT)),
        ("10.0.0.5", ("https", "10.0.0.5", 443)),
        ("[::1]:8443", ("https", "::1", 8443)),
        ("[2001:DB8:0::1]", ("https", "2001:db8::1", 443)),
        ("xn--mgbh0fb.example", ("https", "xn--mgbh0fb.example", 443)),
    ],
)
def test_read_rules_place(entry, place):
    assert read_rules([entry]) == Rules(frozenset({place}))


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8", "0.0.0.0/0"])
def test_read_rules_network(entry):
    assert read_rules([entry]) == Rules(frozenset(), (ipaddress.ip_network(entry),))


@pytest.mark.parametrize(
    "entry",
    [
        "", "*", "*.example", "a b", "app.example/", "app.example/jwks", "https://app.example/", "http://app.example/x",
        "app.example:*", "http://10.0.0.1:*", "http://localhost:*/", "http://localhost:8*", "localhost:**", "*:*",
        "ftp://app.example", "app.example:0", "app.example:99999", "app.example:x", "user@app.example", "10.0.0.1/8",
        "10.0.0.0/33", "::1", "[::1", "fe80::1%eth0", "[fe80::1%eth0]", "app..example", "-", "é.example", "2130706433",
    ],
)  # fmt: skip
def test_read_rules_what_is_none_of_the_forms_is_refused_by_name(entry):
    with pytest.raises(ValueError, match=r"is no HOST|bits set"):
        read_rules(["app.example", entry])


def test_check_place_any_port_of_this_machine_is_that_scheme_and_host_only():
    rules = read_rules(["http://127.0.0.1:*"])

    assert check_place("http://127.0.0.1:49152/out", rules).port == 49152
    assert check_place("http://127.0.0.1/out", rules).port == 80
    for other in ("https://127.0.0.1:49152/out", "http://localhost:49152/out", "http://127.0.0.2:49152/out"):
        with pytest.raises(Forbidden):
            check_place(other, rules)


# -- where an address leads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://app.example/jwks", Place("https", "app.example", 443, "/jwks")),
        ("https://app.example", Place("https", "app.example", 443, "/")),
        ("https://app.example:443/a?b=c&d", Place("https", "app.example", 443, "/a?b=c&d")),
        ("HTTPS://APP.Example/Jwks", Place("https", "app.example", 443, "/Jwks")),
        ("https://app.example./jwks", Place("https", "app.example", 443, "/jwks")),
        ("https://app2.example:8443/", Place("https", "app2.example", 8443, "/")),
        ("http://localhost:8001/", Place("http", "localhost", 8001, "/")),
        ("https://198.51.100.7/", Place("https", "198.51.100.7", 443, "/")),
        ("https://[2001:0db8::0007]:444/", Place("https", "2001:db8::7", 444, "/")),
    ],
)
def test_check_place_configured(url, place):
    assert check_place(url, RULES) == place


@pytest.mark.parametrize(
    ("place", "header"),
    [
        (Place("https", "app.example", 443, "/"), "app.example"),
        (Place("https", "app.example", 8443, "/"), "app.example:8443"),
        (Place("http", "app.example", 443, "/"), "app.example:443"),
        (Place("https", "2001:db8::7", 443, "/"), "[2001:db8::7]"),
        (Place("https", "2001:db8::7", 444, "/"), "[2001:db8::7]:444"),
    ],
)
def test_place_host_header(place, header):
    assert place.host_header == header


@pytest.mark.parametrize(
    "url",
    [
        "", "app.example", "//app.example/", "/jwks", "https:", "https:app.example", "https:///jwks", "https://",
        "http://app.example/", "http://app.example:443/", "https://app.example:8443/", "https://app2.example/", "https://localhost:8001/",
        "http://localhost/", "http://localhost:8002/", "ftp://app.example/", "file:///etc/passwd", "gopher://app.example/",
        "javascript:alert(1)", "data:,x", "unix:/run/x", "jar:https://app.example!/",
        "https://user@app.example/", "https://user:pw@app.example/", "https://app.example@evil.example/",
        "https://evil.example/@app.example", "https://evil.example?app.example", "https://evil.example#app.example",
        "https://app.example#x", "https://evil.example\\@app.example/", "https://app.example\\.evil.example/",
        "https://app.example .evil.example/", "https://app.example\n.evil.example/", "https://app.example\t/",
        "https://app.example\0/", "https://app.example.evil.example/", "https://xapp.example/", "https://app.exampl/",
        "https://*.example/", "https://app.example:0/", "https://app.example:99999/", "https://app.example:-1/",
        "https://app.example:443:444/", "https://app.example:４４３/", "https://app．example/", "https://ap\u200bp.example/",
        "https://198.51.100.007/", "https://3325256711/", "https://0xc6336407/", "https://198.51.25607/",
        "https://0306.51.100.7/", "https://127.1/", "https://0/", "https://0x7f.0.0.1/", "https://127.0.0.1/",
        "https://[::ffff:198.51.100.7]/", "https://[::ffff:127.0.0.1]/", "https://[::1]/", "https://[fe80::1%25eth0]/",
        "https://[2001:db8::7]/", "https://[2001:db8::7/", "https://2001:db8::7/", "https://[app.example]/",
        "https://169.254.169.254/latest/meta-data/", "https://metadata.google.internal/", "https://localhost/",
        "https://app.example/" + "x" * URL_LENGTH_MAX,
    ],
)  # fmt: skip
@pytest.mark.rules("fapi/5.2.1/1-connect")
def test_a62_check_place_anything_else_is_refused(url):
    with pytest.raises(Forbidden):
        check_place(url, RULES)


def test_check_place_nothing_is_configured_without_a_word():
    with pytest.raises(Forbidden, match=r"IAM_OUTBOUND_ALLOW has no app\.example"):
        check_place("https://app.example/", read_rules([]))


# -- which addresses may be called ------------------------------------------------------------------------------

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.0.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::2", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254",
    "ff02::1", "ff0e::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1",
    "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "100::1", "3fff::1" , "4000::1", "8000::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "223.255.255.254",
    "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_a62_is_reachable_private_address_is_not(text):
    assert not is_reachable(ipaddress.ip_address(text), Rules())


@pytest.mark.parametrize("text", PUBLIC)
def test_is_reachable_public_address_is(text):
    assert is_reachable(ipaddress.ip_address(text), Rules())


@pytest.mark.parametrize(
    ("network", "address", "reachable"),
    [
        ("10.20.0.0/16", "10.20.255.1", True),
        ("10.20.0.0/16", "10.21.0.1", False),
        ("10.20.0.0/16", "::ffff:10.20.0.1", True),
        ("10.20.0.0/16", "64:ff9b::10.20.0.1", True),
        ("10.20.0.0/16", "64:ff9b::10.21.0.1", False),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "::1", False),
        ("::1/128", "::1", True),
        ("fd00::/8", "fd12::1", True),
        ("fe80::/10", "fe80::1%eth0", False),
        ("::ffff:0:0/96", "127.0.0.1", False),
        ("::/0", "127.0.0.1", False),
        ("::/0", "::ffff:127.0.0.1", False),
        ("0.0.0.0/0", "127.0.0.1", True),
        ("0.0.0.0/0", "224.0.0.1", False),
        ("0.0.0.0/0", "0.0.0.0", False),
        ("::/0", "ff02::1", False),
    ],
)
def test_is_reachable_configured_network(network, address, reachable):
    rules = Rules(frozenset(), (ipaddress.ip_network(network),))

    assert is_reachable(ipaddress.ip_address(address), rules) is reachable


@given(st.ip_addresses())
def test_a62_is_reachable_never_more_than_what_the_registry_calls_global(address):
    if is_reachable(address, Rules()):
        assert address.is_global
        assert not address.is_multicast


@given(st.text(max_size=80) | st.from_regex(r"https://[a-z0-9.@:\[\]\\/%#?-]{1,40}", fullmatch=True))
def test_check_place_any_text_is_a_configured_place_or_refused(url):
    try:
        place = check_place(url, RULES)
    except Forbidden as problem:
        assert str(problem)
    else:
        assert (place.scheme, place.host, place.port) in RULES.places
        assert place.target.startswith(("/", "?"))
