"""From readings to rows and events: what happens, what must not, and that the way does not matter."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from directory import models, store, stored_removals
from directory.batch import Overtaken
from directory.changes import Completeness, Ending, Happening, Kind
from directory.engine import NotApproved, Refused
from directory.errors import DirectoryError
from tests.app.directory.synthetic import Bridge, Directory, Reading, source

pytestmark = pytest.mark.django_db


@pytest.fixture
def directory() -> Directory:
    """Two offices of thirty, a small one, three groups of which one is in another."""
    made = Directory()
    made.unit("u-gva", "GVA")
    made.unit("u-nim", "NIM")
    made.unit("u-ram", "RAM")
    for number in range(30):
        made.person(f"g{number}", "u-gva")
        made.person(f"n{number}", "u-nim")
    for number in range(3):
        made.person(f"r{number}", "u-ram")
    made.group("staff", "g0", "n0")
    made.group("inner", "g1")
    made.group("outer", "inner")
    made.change("outer", member=[made.dn("inner"), made.dn("staff")])
    return made


@pytest.fixture
def bridge(directory: Directory) -> Bridge:
    made = Bridge(directory.source)
    made.poll(directory)
    made.service.heard.clear()
    return made


# -- first reading, changes -----------------------------------------------------------------------------------


def test_first_reading_everybody_joins_with_all_groups_above(directory):
    bridge = Bridge(directory.source)

    outcome = bridge.poll(directory)

    assert outcome.told == 63
    assert bridge.service.acting["g1"] == {"inner", "outer"}
    assert bridge.service.acting["g0"] == {"staff", "outer"}
    assert bridge.service.acting["g2"] == frozenset()
    assert bridge.cookie == directory.cookie


def test_nothing_new_nothing_written(bridge, directory):
    before = store.read_state("hq")

    outcome = bridge.poll(directory)

    assert outcome.is_empty
    assert store.read_state("hq") == before


def test_the_same_changes_twice_are_heard_once(bridge, directory):
    since = bridge.cookie
    directory.change("g5", mail=["new@example.org"])
    directory.delete("g6")
    bridge.poll(directory)

    again = bridge.engine.take(directory.poll(since), directory)

    assert again.told == 0
    assert bridge.service.heard == [(Happening.LEFT, "g6"), (Happening.CHANGED, "g5")]


def test_a_change_that_is_not_mapped_is_no_event(bridge, directory):
    directory.change("g5", pwdfailuretime=["20261125100000Z"], modifytimestamp=["20261125100000Z"])

    outcome = bridge.poll(directory)

    assert outcome.told == 0
    assert bridge.service.heard == []


def test_disabled_and_enabled_again(bridge, directory):
    directory.disable("g5")
    bridge.poll(directory)
    assert "g5" not in bridge.service.acting

    directory.change("g5", orgaccountstatus=["active"])
    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.DISABLED, "g5"), (Happening.ENABLED, "g5")]


def test_ends_of_access_are_told_first(bridge, directory):
    directory.person("new", "u-gva")
    directory.change("g1", mail=["x@example.org"])
    directory.disable("g5")
    directory.delete("g6")

    bridge.poll(directory)

    assert {happening for happening, _ in bridge.service.heard[:2]} == {Happening.DISABLED, Happening.LEFT}
    assert {happening for happening, _ in bridge.service.heard[2:]} == {Happening.JOINED, Happening.CHANGED}


def test_renamed_moved_and_called_otherwise_keeps_the_row(bridge, directory):
    before = models.Entry.objects.get(entry_id="g5").pk
    directory.rename("g5", "uid=other", "u-nim")
    directory.change("g5", uid=["other"], mail=["other@example.org"])

    bridge.poll(directory)

    row = models.Entry.objects.get(entry_id="g5")
    assert (row.pk, row.name, row.office) == (before, "other", "NIM")
    assert bridge.service.heard == [(Happening.CHANGED, "g5")]
    assert bridge.state()["people"] == {"GVA": 29, "NIM": 31, "RAM": 3}


def test_deleted_and_there_again_returns(bridge, directory):
    entry = directory.entries["g5"]
    directory.delete("g5")
    bridge.poll(directory)
    directory.put("g5", entry.kind, entry.rdn, entry.parent, **entry.attributes)

    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.LEFT, "g5"), (Happening.RETURNED, "g5")]


def test_contract_that_ends_is_noticed_without_the_directory(bridge, directory):
    directory.change("g5", orgcontractend=["20261125110000Z"])
    bridge.poll(directory)
    bridge.clock.wait(minutes=59)
    assert bridge.engine.expire() == 0

    bridge.clock.wait(minutes=2)
    bridge.engine.expire()

    assert bridge.service.heard[-1] == (Happening.DISABLED, "g5")
    assert "g5" not in bridge.service.acting


# -- names (A25, A26) -----------------------------------------------------------------------------------------


def test_a25_login_of_somebody_who_left_makes_somebody_else(bridge, directory):
    dn = directory.dn("g1")
    directory.delete("g1")
    directory.person("new", "u-gva", login="g1")
    assert directory.dn("new") == dn

    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.LEFT, "g1"), (Happening.JOINED, "new")]
    assert bridge.service.acting["new"] == frozenset()


def test_a25_name_given_again_in_a_directory_that_repairs_no_groups_inherits_no_group(bridge, directory):
    directory.has_refint = False
    directory.delete("g1")
    directory.person("new", "u-gva", login="g1")

    bridge.poll(directory)

    assert bridge.service.acting["new"] == frozenset()


def test_a26_login_of_somebody_who_is_here_puts_nobody_out(bridge, directory):
    directory.person("thief", "u-nim", login="g1")
    bridge.poll(directory)
    assert bridge.service.heard == []
    assert "g1" in bridge.service.acting

    directory.delete("g1")
    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.LEFT, "g1"), (Happening.JOINED, "thief")]


def test_a26_taking_a_name_by_renaming_puts_nobody_out(bridge, directory):
    directory.change("g2", uid=["G1"])

    bridge.poll(directory)

    assert bridge.service.heard == []
    assert models.Held.objects.get().wait == "join"


def test_two_who_exchange_their_names_both_change(bridge, directory):
    directory.change("g1", uid=["g2"])
    directory.change("g2", uid=["g1"])

    bridge.poll(directory)

    assert set(bridge.service.heard) == {(Happening.CHANGED, "g1"), (Happening.CHANGED, "g2")}


# -- groups ---------------------------------------------------------------------------------------------------


def test_one_new_member_is_one_event(bridge, directory):
    directory.add_member("inner", "n5")

    outcome = bridge.poll(directory)

    assert bridge.service.heard == [(Happening.CHANGED, "n5")]
    assert outcome.links == 1
    assert bridge.service.acting["n5"] == {"inner", "outer"}


def test_a_group_leaves_a_group_and_everybody_below_changes(bridge, directory):
    directory.remove_member("outer", directory.dn("inner"))

    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.CHANGED, "g1")]
    assert bridge.service.acting["g1"] == {"inner"}


def test_circle_of_groups_ends(bridge, directory):
    directory.add_member("inner", "outer")

    bridge.poll(directory)

    assert bridge.service.acting["g1"] == {"inner", "outer"}
    assert bridge.service.acting["g0"] == {"staff", "outer", "inner"}


def test_deleted_group_is_taken_from_everybody_below(bridge, directory):
    directory.delete("outer")

    bridge.poll(directory)

    assert set(bridge.service.heard) == {(Happening.CHANGED, one) for one in ("g0", "g1", "n0")}
    assert bridge.service.acting["g0"] == {"staff"}


def test_renamed_group_is_told_to_its_people(bridge, directory):
    directory.rename("outer", "cn=another")
    directory.change("outer", cn=["another"])

    bridge.poll(directory)

    assert {one for _, one in bridge.service.heard} == {"g0", "g1", "n0"}


def test_member_before_its_entry_is_resolved_when_it_comes(bridge, directory):
    directory.change(
        "staff", member=[*directory.entries["staff"].attributes["member"], "uid=Late ,OU=gva,dc=example"]
    )
    bridge.poll(directory)

    directory.person("late", "u-gva")
    bridge.poll(directory)

    assert bridge.service.acting["late"] == {"staff", "outer"}
    assert not models.Unresolved.objects.exists()


def test_renamed_member_stays_in_its_groups_without_a_word_from_them(bridge, directory):
    directory.rename("g1", "uid=renamed")

    bridge.poll(directory)

    assert bridge.service.acting["g1"] == {"inner", "outer"}


def test_full_compare_repairs_what_refint_did_silently(bridge, directory):
    directory.has_refint = False
    directory.rename("g1", "uid=renamed")  # and no group follows
    bridge.poll(directory)
    assert bridge.service.acting["g1"] == {"inner", "outer"}

    outcome = bridge.full(directory)

    assert bridge.service.acting["g1"] == frozenset()
    assert outcome.links == 1
    assert models.SourceState.objects.get().drift == {"entries": 0, "links": 1, "missing": 0}


def test_group_of_many_costs_what_changed(bridge, directory, django_assert_max_num_queries):
    for number in range(700):
        directory.person(f"m{number}", "u-ram")
    directory.group("large", *(f"m{number}" for number in range(700)))
    bridge.poll(directory)
    directory.add_member("large", "g7")
    bridge.service.heard.clear()

    with django_assert_max_num_queries(60):
        outcome = bridge.poll(directory)

    assert outcome.links == 1
    assert bridge.service.heard == [(Happening.CHANGED, "g7")]


# -- units ----------------------------------------------------------------------------------------------------


def test_renamed_unit_is_one_row_and_its_people_are_looked_at_again(bridge, directory):
    directory.rename("u-gva", "ou=Geneva")

    outcome = bridge.poll(directory)

    assert len(outcome.plan.rows) == 1
    assert bridge.service.heard == []
    while bridge.engine.recheck():
        pass
    assert len(bridge.service.heard) == 30
    assert bridge.state()["people"] == {"GENEVA": 30, "NIM": 30, "RAM": 3}
    again = bridge.full(directory)
    assert (again.told, again.links) == (0, 0)  # the group's names of them are others, and they the same


def test_person_below_a_unit_that_was_renamed_in_the_same_breath(bridge, directory):
    directory.rename("u-gva", "ou=Geneva")
    directory.person("new", "u-gva")

    bridge.poll(directory)

    row = models.Entry.objects.get(entry_id="new")
    assert row.parent_id == models.Entry.objects.get(entry_id="u-gva").pk


# -- the brake ------------------------------------------------------------------------------------------------


def test_said_removals_beyond_the_brake_wait_and_say_why(bridge, directory):
    for number in range(20):
        directory.delete(f"g{number}")

    bridge.poll(directory)

    left = [one for happening, one in bridge.service.heard if happening is Happening.LEFT]
    assert len(left) == 5
    waiting = stored_removals.waiting("hq")
    assert len(waiting) == 15
    assert waiting[0].reason == "more than 5 of 63 in the whole directory within 10 minutes"


def test_one_by_one_is_no_way_around_the_brake(bridge, directory):
    for number in range(12):
        directory.disable(f"g{number}")
        bridge.poll(directory)
        bridge.clock.wait(seconds=30)
    bridge.clock.wait(hours=2)
    directory.disable("g20")
    bridge.poll(directory)

    assert len(bridge.service.heard) == 5
    assert len(stored_removals.waiting("hq")) == 8


def test_after_ten_quiet_minutes_as_many_may_go_again(bridge, directory):
    for number in range(5):
        directory.disable(f"g{number}")
    bridge.poll(directory)
    bridge.clock.wait(minutes=11)

    directory.disable("g20")
    bridge.poll(directory)

    assert len(bridge.service.heard) == 6
    assert not stored_removals.waiting("hq")


def test_held_by_a_wrong_number_and_let_go_by_the_right_one(bridge, directory):
    for number in range(8):
        directory.disable(f"g{number}")
    bridge.poll(directory)
    with pytest.raises(NotApproved) as refused:
        bridge.engine.approve(8, directory)
    assert refused.value.waiting == 3
    assert len(bridge.service.heard) == 5

    assert bridge.engine.approve(3, directory) == 3

    assert len(bridge.service.heard) == 8
    assert not stored_removals.waiting("hq")


def test_taken_back_before_anybody_approved(bridge, directory):
    for number in range(8):
        directory.disable(f"g{number}")
    bridge.poll(directory)
    for number in range(8):
        directory.change(f"g{number}", orgaccountstatus=["active"])

    bridge.poll(directory)

    assert not stored_removals.waiting("hq")
    assert all(f"g{number}" in bridge.service.acting for number in range(8))


def test_who_is_held_hears_nothing_of_anything_else(bridge, directory):
    for number in range(8):
        directory.disable(f"g{number}")
    bridge.poll(directory)
    held = stored_removals.waiting("hq")[0].removal.entry_id
    bridge.service.heard.clear()

    directory.change(held, mail=["other@example.org"])
    directory.add_member("staff", held)
    bridge.poll(directory)

    assert bridge.service.heard == []
    assert held in bridge.service.acting


def test_what_weighs_on_one_office_leaves_the_others_alone(directory):
    for number in range(400):
        directory.person(f"x{number}", "u-ram")
    bridge = Bridge(directory.source)
    bridge.poll(directory)  # 463 people: nine in all, five in an office of thirty
    for number in range(7):
        directory.disable(f"g{number}")
    directory.disable("n1")
    directory.disable("x1")

    bridge.poll(directory)

    assert {one.removal.entry_id for one in stored_removals.waiting("hq")} == {"g5", "g6"}
    assert {one.scope for one in stored_removals.waiting("hq")} == {"GVA"}


def test_tightened_brake_holds_earlier(directory):
    tight = source(brake=type(source().brake)(floor=1, explicit_share=0.0))
    bridge = Bridge(tight)
    bridge.poll(directory)
    directory.disable("g1")
    directory.disable("g2")

    bridge.poll(directory)

    assert len(stored_removals.waiting("hq")) == 1


# -- absence --------------------------------------------------------------------------------------------------


def test_few_that_are_missing_and_not_found_by_id_leave(bridge, directory):
    directory.delete("g1")
    directory.delete("inner")

    bridge.present(directory)

    assert (Happening.LEFT, "g1") in bridge.service.heard
    assert not models.Entry.objects.filter(entry_id="inner").exists()
    assert models.Removal.objects.get().is_inferred


def test_missing_but_there_when_asked_by_id_is_no_whole_reading(bridge, directory):
    directory.delete("g2")
    directory.hidden = {"g1"}

    with pytest.raises(Refused, match="left out"):
        bridge.full(directory)

    assert bridge.service.heard == []
    assert not models.Entry.objects.exclude(gone_at=None).exists()


def test_too_many_missing_all_of_them_wait(bridge, directory):
    for number in range(6):
        directory.delete(f"g{number}")

    bridge.present(directory)

    assert bridge.service.heard == []
    assert len(stored_removals.waiting("hq")) == 6
    assert bridge.engine.approve(6, directory) == 6
    assert len(bridge.service.heard) == 6


def test_missing_ones_that_are_back_when_approved_stay(bridge, directory):
    for number in range(6):
        directory.delete(f"g{number}")
    bridge.present(directory)
    directory.person("g0", "u-gva")

    assert bridge.engine.approve(6, directory) == 5

    assert "g0" in bridge.service.acting


def empty(directory: Directory) -> Directory:
    directory.entries = {"base": directory.entries["base"]}
    return directory


def foreign(directory: Directory) -> Directory:
    directory.entries = {f"other-{one}": entry for one, entry in directory.entries.items()}
    for entry in directory.entries.values():
        entry.parent = f"other-{entry.parent}" if entry.parent else ""
    return directory


def wrong_base(directory: Directory) -> Directory:
    del directory.entries["base"]
    for entry in directory.entries.values():
        entry.parent = "" if entry.parent == "base" else entry.parent
    return directory


@pytest.mark.parametrize("break_it", [empty, foreign, wrong_base])
@pytest.mark.parametrize("small", [True, False], ids=["few people", "many"])
def test_empty_foreign_or_wrong_directory_removes_nobody_and_adds_nobody(break_it, small):
    directory = Directory()
    directory.unit("u", "GVA")
    for number in range(3 if small else 60):
        directory.person(f"p{number}", "u")
    bridge = Bridge(directory.source)
    bridge.poll(directory)
    before, heard = bridge.state(), list(bridge.service.heard)

    with pytest.raises(Refused):
        bridge.full(break_it(directory))

    assert bridge.state() == before
    assert bridge.service.heard == heard
    assert models.SourceState.objects.get().refusal


@pytest.mark.parametrize("at", [0, 1, 30, 66])
def test_broken_reading_changes_nothing(bridge, directory, at):
    before = bridge.state()
    directory.disable("g1")
    reading = directory.full()
    reading.breaks_after = at

    with pytest.raises(DirectoryError):
        bridge.engine.take(reading, directory)

    assert bridge.state() == before


def test_directory_that_was_replaced_on_purpose_is_approved_twice(bridge, directory):
    foreign(directory)
    with pytest.raises(Refused):
        bridge.full(directory)
    assert bridge.engine.approve(63, directory) == 0

    bridge.full(directory)

    assert bridge.service.heard == []
    assert len(stored_removals.waiting("hq")) > 63  # the people, the groups, the units
    bridge.engine.approve(len(stored_removals.waiting("hq")), directory)
    assert {one for happening, one in bridge.service.heard if happening is Happening.JOINED} >= {"other-g0"}


# -- restore ---------------------------------------------------------------------------------------------------


def test_restored_by_one_command_and_not_found_missing_again(bridge, directory):
    for number in range(20):
        directory.delete(f"g{number}")
    bridge.poll(directory)

    restored = bridge.engine.restore([])

    assert len(restored) == 5
    assert all(one in bridge.service.acting for one in restored)
    bridge.full(directory)
    assert all(one in bridge.service.acting for one in restored)


def test_after_thirty_days_there_is_a_tombstone_and_nothing_to_restore(bridge, directory):
    directory.delete("g1")
    bridge.poll(directory)
    bridge.clock.wait(days=31)

    assert store.purge(bridge.clock.now) == 1

    assert bridge.engine.restore(["g1"]) == []
    row = models.Entry.objects.get(entry_id="g1")
    assert (row.attributes, row.name) == ("{}", "")


def test_a25_restored_only_if_nobody_has_the_name_now(bridge, directory):
    directory.delete("g1")
    directory.person("new", "u-gva", login="g1")
    bridge.poll(directory)

    assert bridge.engine.restore(["g1"]) == []


# -- turns and failures ---------------------------------------------------------------------------------------


def test_reading_from_before_somebody_elses_batch_is_overtaken(bridge, directory):
    since = bridge.cookie
    directory.disable("g1")
    stale = directory.poll(since)
    directory.change("g1", orgaccountstatus=["active"])
    bridge.poll(directory)

    with pytest.raises(Overtaken):
        bridge.engine.take(stale, directory, since)

    assert "g1" in bridge.service.acting


def test_what_the_service_cannot_do_was_not_read(bridge, directory):
    before = bridge.state()
    directory.disable("g1")
    bridge.service.breaks = True
    with pytest.raises(RuntimeError):
        bridge.poll(directory)
    assert bridge.state() == before

    bridge.service.breaks = False
    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.DISABLED, "g1")]


def test_rehearsal_writes_nothing_and_tells_nobody(bridge, directory):
    before = bridge.state()
    for number in range(20):
        directory.delete(f"g{number}")

    outcome = bridge.engine.take(directory.poll(bridge.cookie), directory, bridge.cookie, is_rehearsal=True)

    assert outcome.plan.sizes()["left"] == 5
    assert outcome.plan.sizes()["held"] == 15
    assert bridge.state() == before
    assert bridge.service.heard == []


def test_entry_that_cannot_be_read_stops_nobody_else(bridge, directory):
    directory.put("odd", Kind.PERSON, "cn=odd", "u-gva")
    directory.put("broken", Kind.UNIT, "no name at all", "u-gva")
    directory.disable("g1")

    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.DISABLED, "g1")]


def test_person_who_cannot_be_read_any_more_leaves(bridge, directory):
    directory.change("g1", uid=[])

    bridge.poll(directory)

    assert bridge.service.heard == [(Happening.LEFT, "g1")]


def test_everybody_unreadable_at_once_removes_nobody(bridge, directory):
    for number in range(30):
        directory.change(f"g{number}", uid=[])

    bridge.poll(directory)

    assert bridge.service.heard == []
    assert len(stored_removals.waiting("hq")) == 30


def test_everybody_who_looks_like_no_person_at_once_stays(bridge, directory):
    for number in range(30):
        entry = directory.entries[f"g{number}"]
        directory.put(f"g{number}", Kind.UNIT, entry.rdn, entry.parent)

    bridge.poll(directory)

    assert bridge.service.heard == []
    assert len(stored_removals.waiting("hq")) == 30


def test_no_cookie_keeps_the_old_one(bridge, directory):
    cookie = bridge.cookie
    directory.change("g1", mail=["a@example.org"])
    reading = Reading(directory.poll(cookie).changes, Ending(Completeness.CHANGES, b""))

    outcome = bridge.engine.take(reading, directory, cookie)

    assert outcome.cookie == cookie
    assert bridge.cookie == cookie


# -- the way does not matter ------------------------------------------------------------------------------------

PEOPLE = [f"p{number}" for number in range(6)]
GROUPS = ["a", "b", "c"]
UNITS = ["u1", "u2"]
STEP = st.one_of(
    st.tuples(st.just("person"), st.sampled_from(PEOPLE), st.sampled_from(UNITS)),
    st.tuples(st.just("delete"), st.sampled_from([*PEOPLE, *GROUPS])),
    st.tuples(st.just("status"), st.sampled_from(PEOPLE), st.sampled_from(["active", "disabled"])),
    st.tuples(st.just("group"), st.sampled_from(GROUPS)),
    st.tuples(st.just("add"), st.sampled_from(GROUPS), st.sampled_from([*PEOPLE, *GROUPS])),
    st.tuples(st.just("drop"), st.sampled_from(GROUPS), st.sampled_from([*PEOPLE, *GROUPS])),
    st.tuples(st.just("rename"), st.sampled_from(PEOPLE), st.sampled_from(["x", "y", "z"])),
    st.tuples(st.just("move"), st.sampled_from(PEOPLE), st.sampled_from(UNITS)),
    st.tuples(st.just("unit"), st.sampled_from(UNITS), st.sampled_from(["North", "South"])),
    st.tuples(st.just("poll")),
    st.tuples(st.just("present")),
    st.tuples(st.just("full")),
    st.tuples(st.just("break")),
    st.tuples(st.just("recheck")),
)


def step(directory: Directory, bridge: Bridge, what: tuple[str, ...]) -> None:
    """Do one step, if the directory would let it happen."""
    match what:
        case ("person", who, where):
            taken = {directory.dn(one) for one in directory.entries}
            if who not in directory.entries and f"uid={who},{directory.dn(where)}" not in taken:
                directory.person(who, where)
        case ("delete", who) if who in directory.entries:
            directory.delete(who)
        case ("status", who, value) if who in directory.entries:
            directory.change(who, orgaccountstatus=[value])
        case ("group", who) if who not in directory.entries:
            directory.group(who)
        case ("add", group, who) if group in directory.entries and who in directory.entries:
            if directory.dn(who) not in directory.entries[group].attributes["member"]:
                directory.add_member(group, who)
        case ("drop", group, who) if group in directory.entries and who in directory.entries:
            directory.remove_member(group, directory.dn(who))
        case ("rename", who, name) if who in directory.entries:
            if not any(entry.rdn == f"cn={name}" for entry in directory.entries.values()):
                directory.rename(who, f"cn={name}")
        case ("move", who, where) if who in directory.entries:
            taken = {entry.rdn for entry in directory.entries.values() if entry.parent == where}
            if directory.entries[who].rdn not in taken:
                directory.rename(who, parent=where)
        case ("unit", who, name):
            if not any(entry.rdn == f"ou={name}" for entry in directory.entries.values()):
                directory.rename(who, f"ou={name}")
        case ("poll",):
            bridge.poll(directory)
        case ("present",) if bridge.cookie:
            read(lambda: bridge.present(directory))
        case ("full",):
            read(lambda: bridge.full(directory))
        case ("break",):
            bridge.service.breaks = True
            with contextlib.suppress(RuntimeError):
                bridge.poll(directory)
            bridge.service.breaks = False
        case ("recheck",):
            bridge.engine.recheck()
    bridge.clock.wait(minutes=11)


def read(act) -> None:
    try:
        act()
    except Refused as refusal:  # everybody is gone, and nobody said so
        assert "not one of the people" in refusal.reason


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, max_size=40))
def test_any_way_leads_to_the_state_of_one_whole_reading(steps):
    models.SourceState.objects.all().delete()
    for model in (models.Entry, models.Edge, models.Above, models.Unresolved, models.Held, models.Removal,
                  models.Population, models.Recheck):  # fmt: skip
        model.objects.all().delete()
    directory = Directory()
    directory.unit("u1", "North")
    directory.unit("u2", "East")
    bridge = Bridge(directory.source)
    bridge.poll(directory)
    for what in steps:
        step(directory, bridge, what)
    bridge.poll(directory)
    while bridge.engine.recheck():
        pass
    streamed = bridge.state()

    fresh = Bridge(source("fresh"))
    fresh.poll(directory)

    once = fresh.state()
    assert streamed["held"] == once["held"] == set()
    assert streamed == once
    assert bridge.service.acting == fresh.service.acting
