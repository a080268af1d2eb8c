"""Active Directory followed, on a real controller (Samba). Root only, because Samba is; skipped elsewhere."""

import base64
import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from directory.active_directory import ActiveDirectoryReader, read_position
from directory.changes import Completeness, Finding, Gone, Kind, Seen
from directory.service import (
    Accepted,
    AccountStatus,
    Changed,
    Directory,
    Found,
    NotTaken,
    PasswordProblem,
    Rejected,
)
from tests.servers import samba

pytestmark = pytest.mark.skipif(not samba.can_run(), reason="Samba needs root, and the package samba-ad-dc")


@pytest.fixture(scope="module")
def controller() -> Iterator[samba.Controller]:
    with samba.running() as running:
        yield running


@pytest.fixture
def reader(controller) -> Iterator[ActiveDirectoryReader]:
    reader = ActiveDirectoryReader(controller.source(as_admin=True))
    yield reader
    reader.close()


@pytest.fixture
def ordinary(controller) -> Iterator[ActiveDirectoryReader]:
    reader = ActiveDirectoryReader(controller.source())
    yield reader
    reader.close()


@pytest.fixture
def directory(controller) -> Iterator[Directory]:
    directory = Directory([controller.source(more=writer())])
    yield directory
    directory.close()


def writer() -> str:
    return f'writer_dn = "{samba.ADMIN}"\nwriter_password_file = "admin"\n'


def named(changes) -> dict[str, Seen]:
    return {
        change.raw.dn.decode().partition(",")[0].partition("=")[2]: change
        for change in changes
        if isinstance(change, Seen)
    }


def now(reader: ActiveDirectoryReader) -> bytes:
    reading = reader.full()
    for _ in reading:
        pass
    return reading.ending().cookie


def disable(controller, login: str, control: int = 514) -> None:
    controller.modify(
        f"dn: CN={login},{samba.PEOPLE}\nchangetype: modify\nreplace: userAccountControl\n"
        f"userAccountControl: {control}\n"
    )


def test_everything_is_read_with_kinds_and_a_position(reader):
    reading = reader.full()
    found = named(reading)
    ending = reading.ending()

    assert ending.completeness is Completeness.COMPLETE
    assert read_position(ending.cookie) is not None
    assert found["amina"].kind is Kind.PERSON
    assert found["payers"].kind is Kind.GROUP
    assert found["Niamey"].kind is Kind.UNIT
    assert len(found["amina"].entry_id) == 36


def test_nothing_changed_brings_nothing_and_keeps_the_cookie(reader):
    reading = reader.poll(now(reader))

    assert list(reading) == []
    assert reading.ending().cookie == b""


def test_disable_and_new_member_are_told(reader, controller):
    cookie = now(reader)
    disable(controller, "omar")
    controller.modify(
        f"dn: CN=payers,{samba.GROUPS}\nchangetype: modify\nadd: member\nmember: CN=sara,{samba.PEOPLE}\n"
    )

    reading = reader.poll(cookie)
    found = named(reading)

    assert set(found) == {"omar", "payers"}
    assert len(found["payers"].raw.attributes["member"]) == 2
    assert reading.ending().cookie != cookie
    disable(controller, "omar", 512)


def test_delete_is_told_to_an_account_that_may_see_it(reader, controller):
    before = named(reader.full())
    cookie = now(reader)
    controller.modify(
        f"dn: CN=short,{samba.PEOPLE}\nchangetype: add\nobjectClass: user\nsAMAccountName: short\n"
    )
    short = named(reader.poll(cookie))["short"].entry_id
    controller.modify(f"dn: CN=short,{samba.PEOPLE}\nchangetype: delete\n")

    changes = list(reader.poll(cookie))

    assert Gone(short) in changes
    assert "short" not in before


def test_delete_that_is_hidden_is_found_by_listing_what_is_there(ordinary, controller):
    """The trap: for an ordinary account the search for deleted entries succeeds and finds nothing."""
    cookie = now(ordinary)
    controller.modify(
        f"dn: CN=brief,{samba.PEOPLE}\nchangetype: add\nobjectClass: user\nsAMAccountName: brief\n"
    )
    brief = named(ordinary.poll(cookie))["brief"].entry_id
    ordinary._scanned_at = float("-inf")  # time to look again
    controller.modify(f"dn: CN=brief,{samba.PEOPLE}\nchangetype: delete\n")

    reading = ordinary.poll(cookie)
    list(reading)
    ending = reading.ending()

    assert ending.completeness is Completeness.PRESENT
    assert brief not in ending.present
    assert len(ending.present) >= 4
    assert ordinary.lookup([brief]) == frozenset()
    assert Finding.DELETIONS_HIDDEN in ordinary.check()


@pytest.mark.parametrize(
    "cookie", [b"", b"rubbish", b"usn:not-a-uuid:5", b"usn:00000000-0000-0000-0000-000000000001:5"]
)
def test_cookie_of_another_controller_or_none_is_a_comparison_of_everything(reader, cookie):
    reading = reader.poll(cookie)

    assert "amina" in named(reading)
    assert reading.ending().completeness is Completeness.COMPLETE


def test_position_ahead_of_the_controller_is_a_comparison_of_everything(reader):
    """A controller restored from a backup counts from an older number."""
    position = read_position(now(reader))
    ahead = f"usn:{position.invocation}:{position.number + 100_000}".encode()

    reading = reader.poll(ahead)
    list(reading)

    assert reading.ending().completeness is Completeness.COMPLETE


def test_follower_hears_of_a_disable_within_two_seconds(reader, controller):
    stop, heard = Event(), []

    def follow() -> None:
        for reading in reader.follow(b"", stop):
            heard.append((time.monotonic(), named(reading)))
            reading.ending()

    thread = Thread(target=follow)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not heard and time.monotonic() < deadline:
            time.sleep(0.05)
        began = time.monotonic()
        disable(controller, "sara")
        while len(heard) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
        disable(controller, "sara", 512)
    assert "sara" in heard[1][1]
    assert heard[1][0] - began < 2 + 3  # two seconds are asked; a busy machine gets three more


def test_group_that_comes_in_ranges_is_whole(reader, controller):
    """Samba sends whole groups; the ranges are asked for here as a server with a limit would send them."""
    whole = named(reader.full())["everybody"]
    members = whole.raw.attributes["member"]
    attributes = {name: value for name, value in whole.raw.attributes.items() if name != "member"}
    cut = Seen(
        whole.entry_id,
        whole.kind,
        type(whole.raw)(whole.raw.dn, {**attributes, "member;range=0-0": members[:1]}),
    )

    assert set(reader.complete(cut).raw.attributes["member"]) == set(members)


# -- people -----------------------------------------------------------------------------------------------------


def test_person_signs_in_and_a_disabled_one_does_not(directory, controller):
    found = directory.find("amina")
    assert isinstance(found, Found)
    assert isinstance(directory.verify(found.person, samba.PASSWORD), Accepted)
    assert isinstance(directory.verify(found.person, "wrong"), Rejected)
    assert {group.name for group in found.person.groups} == {"payers", "everybody"}

    disable(controller, "amina")
    try:
        again = directory.find("amina")
        assert again.person.status is AccountStatus.DISABLED
        assert isinstance(directory.verify(again.person, samba.PASSWORD), Rejected)
    finally:
        disable(controller, "amina", 512)


def test_person_changes_the_password_through_its_own_attribute(directory):
    found = directory.find("omar")
    new = "ثلاثة أحصنة Green 7"

    too_short = directory.change_password(found.person, samba.PASSWORD, "x")
    wrong = directory.change_password(found.person, "not it at all 7A", new)

    assert too_short == NotTaken(PasswordProblem.POLICY)
    assert wrong == Rejected()
    reset = directory.reset_password(found.person, "Given-at-the-desk-7")
    assert reset == Changed(found.person)
    must = directory.find("omar").person
    assert must.standing.must_change_password


def test_id_is_read_with_its_first_three_fields_turned(reader, controller):
    amina = named(reader.full())["amina"]
    (raw,) = amina.raw.attributes["objectguid"]

    assert raw[:4][::-1].hex() == amina.entry_id.partition("-")[0]
    assert base64.b64encode(raw)
