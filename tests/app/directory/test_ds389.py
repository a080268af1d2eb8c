"""The stream of a real 389 Directory Server, where one is installed."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo import testca
from directory.changes import Completeness, Finding, Gone, Kind, Seen
from directory.config import Flavour, Source
from directory.readers import open_reader
from directory.service import Accepted, AccountStatus, Directory, Found, Rejected
from tests.servers.ds389 import Server389, is_installed

BASE = "dc=secretariat,dc=example"
PEOPLE = f"ou=people,{BASE}"
SERVICE, SERVICE_PASSWORD = f"uid=svc,{BASE}", "service-password"

pytestmark = pytest.mark.skipif(not is_installed(), reason="389-ds-base is not installed")


def _ldif() -> str:
    people = "".join(
        f"\ndn: uid=p{number},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: p{number}\ncn: p\nsn: p\n"
        f"userPassword: right-p{number}\n"
        for number in range(6)
    )
    return (
        f"dn: {BASE}\nobjectClass: domain\ndc: secretariat\n"
        f'aci: (targetattr!="userPassword")(version 3.0; acl "read"; allow (read,search,compare) userdn="ldap:///{SERVICE}";)\n'
        f"\ndn: {SERVICE}\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: svc\nuserPassword: {SERVICE_PASSWORD}\n"
        f"\ndn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n{people}"
        f"\ndn: cn=staff,{BASE}\nobjectClass: groupOfNames\ncn: staff\nmember: uid=p0,{PEOPLE}\n"
    )


def _running(**options) -> Iterator[Server389]:
    folder = Path(tempfile.mkdtemp(prefix="iam-389-"))
    server = Server389(folder / "ds", BASE, testca.make(folder / "ca"), **options)
    try:
        server.prepare()
        server.start()
        server.add(_ldif())
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ds() -> Iterator[Server389]:
    yield from _running()


@pytest.fixture
def source(ds: Server389) -> Source:
    return source_of(ds)


def source_of(ds: Server389) -> Source:
    return Source(
        name="hq", urls=(ds.url,), ca_file=str(ds.certificates.ca_file), bind_dn=SERVICE, bind_password=SERVICE_PASSWORD,
        base_dn=BASE, flavour=Flavour.DS389, entry_id_attribute="nsUniqueId",
    )  # fmt: skip


@pytest.fixture
def reader(source: Source):
    made = open_reader(source)
    yield made
    made.close()


def consume(reading) -> tuple[list, object]:
    changes = list(reading)
    return changes, reading.ending()


def id_of(changes, start: bytes) -> str:
    return next(item.entry_id for item in changes if isinstance(item, Seen) and item.raw.dn.startswith(start))


def modify(ds: Server389, dn: str, attribute: str, value: str) -> None:
    ds.change(f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n")


def test_full_reading_is_complete_and_named_by_unique_id(reader):
    changes, ending = consume(reader.full())

    assert ending.completeness is Completeness.COMPLETE
    assert ending.cookie
    person = next(item for item in changes if item.raw.dn.startswith(b"uid=p0,"))
    assert person.kind is Kind.PERSON
    assert person.entry_id == person.raw.attributes["nsuniqueid"][0].decode()
    assert {Kind.PERSON, Kind.GROUP, Kind.UNIT} == {item.kind for item in changes}


def test_nothing_changed_is_nothing_and_nobody_left(reader):
    _, before = consume(reader.full())

    changes, ending = consume(reader.poll(before.cookie))

    assert (changes, ending.completeness) == ([], Completeness.CHANGES)


def test_changes_come_with_the_attributes_that_were_asked_for_and_no_password(ds, reader):
    everything, before = consume(reader.full())
    gone = id_of(everything, b"uid=p1,")
    ds.change(f"dn: uid=p1,{PEOPLE}\nchangetype: delete\n")
    modify(ds, f"uid=p2,{PEOPLE}", "nsAccountLock", "true")

    changes, ending = consume(reader.poll(before.cookie))

    assert ending.completeness is Completeness.CHANGES
    assert Gone(gone) in changes
    [locked] = [item for item in changes if isinstance(item, Seen) and item.kind is Kind.PERSON]
    assert locked.raw.attributes["nsaccountlock"] == (b"true",)
    assert "userpassword" not in locked.raw.attributes
    assert reader.lookup([gone, locked.entry_id]) == {locked.entry_id}


@pytest.mark.parametrize("spoil", [lambda _: b"garbage", lambda cookie: cookie.rpartition(b"#")[0] + b"#99999",
                                   lambda _: b"elsewhere:1#cn=x:o=x:(a=b)#1"])  # fmt: skip
def test_cookie_that_is_not_ours_brings_everything(reader, spoil):
    _, before = consume(reader.full())

    changes, ending = consume(reader.poll(spoil(before.cookie)))

    assert ending.completeness is Completeness.COMPLETE
    assert len(changes) > 5


def test_follower_hears_changes_and_deletions(ds, reader):
    everything, before = consume(reader.full())
    gone = id_of(everything, b"uid=p3,")
    stop = threading.Event()
    stream = reader.follow(before.cookie, stop, idle_seconds=2)
    consume(next(stream))
    threading.Timer(0.1, ds.change, (f"dn: uid=p3,{PEOPLE}\nchangetype: delete\n",)).start()

    told: list = []
    while Gone(gone) not in told:
        changes, ending = consume(next(stream))
        assert changes, "nothing was heard in time"
        told += changes
    stop.set()

    assert ending.completeness is Completeness.CHANGES
    assert ending.cookie
    stream.close()


def test_renamed_unit_is_one_event(ds, reader):
    ds.add(f"dn: ou=old,{BASE}\nobjectClass: organizationalUnit\nou: old\n\ndn: uid=below,ou=old,{BASE}\n"
           "objectClass: inetOrgPerson\nuid: below\ncn: b\nsn: b\n")  # fmt: skip
    everything, before = consume(reader.full())
    ds.change(f"dn: ou=old,{BASE}\nchangetype: modrdn\nnewrdn: ou=fresh\ndeleteoldrdn: 1\n")

    changes, _ = consume(reader.poll(before.cookie))

    assert [(item.entry_id, item.raw.dn) for item in changes] == [
        (id_of(everything, b"ou=old,"), f"ou=fresh,{BASE}".encode())
    ]


def test_set_up_is_checked(reader):
    assert Finding.NO_STREAM not in reader.check()
    assert Finding.READS_PASSWORDS not in reader.check()


def test_people_sign_in_and_locked_ones_are_seen(ds, source):
    directory = Directory([source])
    try:
        person = directory.find("p4").person
        accepted = directory.verify(person, "right-p4")
        assert isinstance(accepted, Accepted)
        assert isinstance(directory.verify(person, "wrong"), Rejected)
        modify(ds, f"uid=p4,{PEOPLE}", "nsAccountLock", "true")
        assert not isinstance(directory.verify(person, "right-p4"), Accepted)
        found = directory.read("hq", person.entry_uuid)
        assert isinstance(found, Found)
        assert found.person.status is AccountStatus.DISABLED
    finally:
        directory.close()


def test_server_without_the_plug_ins_is_read_whole_in_pages():
    for plain in _running(tells_changes=False):
        reader = open_reader(source_of(plain))
        try:
            changes, ending = consume(reader.poll(b"elsewhere:1#cn=x:o=x:(a=b)#1"))
            assert Finding.NO_STREAM in reader.check()
        finally:
            reader.close()

        assert len(changes) > 5
        assert (ending.completeness, ending.cookie) == (Completeness.COMPLETE, b"")
