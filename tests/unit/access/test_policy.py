"""Who enters, with which factors, and what a token says: the pure rules."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.access.policy import (
    NO_APPLICATION,
    Admits,
    Admitted,
    ApplicationPolicy,
    EffectiveAccess,
    Expressed,
    Grant,
    Level,
    OfficePolicy,
    Refused,
    SecondFactor,
    access_claim,
    decide_admission,
    decide_requirement,
    flat_roles,
)

UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
OPTIONAL = (OfficePolicy("TEST", SecondFactor.OPTIONAL),)


def grant(role="staff", office="NIM", *, subtree=False, application=None, staff=False, factor=False):
    return Grant(role, office, subtree, application, UNTIL, staff, factor)


def application(admits=Admits.EVERYONE, roles=(), *, factor=False, age=None):
    return ApplicationPolicy("mail", admits, frozenset(roles), factor, age)


# -- admission --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("admits", "roles", "grants", "reason"),
    [
        pytest.param(Admits.STAFF, (), (), "no_staff_role", id="staff-without-any-role"),
        pytest.param(
            Admits.STAFF, (), (grant("guest"),), "no_staff_role", id="staff-with-a-role-that-is-not-staff"
        ),
        pytest.param(
            Admits.STAFF,
            (),
            (grant(office="GVA", staff=True),),
            "no_staff_role",
            id="staff-of-another-office",
        ),
        pytest.param(
            Admits.STAFF,
            (),
            (grant(office="GS", staff=True),),
            "no_staff_role",
            id="staff-above-without-the-subtree",
        ),
        pytest.param(
            Admits.STAFF,
            (),
            (grant(office="GVA", subtree=True, staff=True),),
            "no_staff_role",
            id="staff-of-another-subtree",
        ),
        pytest.param(Admits.ROLES, ("mail.reader",), (), "no_role", id="named-role-not-held"),
        pytest.param(
            Admits.ROLES, ("mail.reader",), (grant("mail.reade"),), "no_role", id="beginning-of-the-name"
        ),
        pytest.param(
            Admits.ROLES, ("mail.reader",), (grant("Mail.Reader"),), "no_role", id="name-in-other-case"
        ),
        pytest.param(Admits.ROLES, (), (grant("mail.reader"),), "no_role", id="no-role-is-named"),
    ],
)
def test_admission_without_the_right_role_is_refused(admits, roles, grants, reason):
    access = EffectiveAccess("NIM", ("NIM", "GS"), grants)

    assert decide_admission(application(admits, roles), access) == Refused(reason)


def test_admission_of_staff_without_a_home_office_is_refused():
    access = EffectiveAccess(None, (), (grant(staff=True),))

    assert decide_admission(application(Admits.STAFF), access) == Refused("no_staff_role")


@pytest.mark.parametrize(
    ("admits", "roles", "grants"),
    [
        pytest.param(Admits.EVERYONE, (), (), id="everyone"),
        pytest.param(Admits.STAFF, (), (grant(staff=True),), id="staff-at-home"),
        pytest.param(
            Admits.STAFF, (), (grant(office="GS", subtree=True, staff=True),), id="staff-from-above"
        ),
        pytest.param(
            Admits.ROLES, ("mail.reader",), (grant("mail.reader", "GVA"),), id="named-role-anywhere"
        ),
    ],
)
def test_admission_with_the_right_role_is_given(admits, roles, grants):
    access = EffectiveAccess("NIM", ("NIM", "GS"), grants)

    assert decide_admission(application(admits, roles), access) == Admitted()


# -- second factor ----------------------------------------------------------------------------------------


def test_requirement_without_any_rule_is_a_second_factor():
    requirement = decide_requirement((), (), NO_APPLICATION)

    assert (requirement.level, requirement.factor_max_age, requirement.decided_by) == (
        Level.AAL2,
        None,
        ("organisation",),
    )


@pytest.mark.parametrize(
    ("chain", "level", "decided"),
    [
        pytest.param(["", "", ""], Level.AAL2, "organisation", id="nobody-speaks"),
        pytest.param(["optional", "required", ""], Level.AAL1, "office O0", id="the-nearest-speaks"),
        pytest.param(["", "optional", "required"], Level.AAL1, "office O1", id="inherited"),
        pytest.param(["required", "optional", "optional"], Level.AAL2, "office O0", id="the-nearest-asks"),
    ],
)
def test_requirement_of_an_office_is_that_of_the_nearest_that_speaks(chain, level, decided):
    offices = tuple(OfficePolicy(f"O{number}", SecondFactor(said)) for number, said in enumerate(chain))

    requirement = decide_requirement(offices, (), NO_APPLICATION)

    assert (requirement.level, requirement.decided_by) == (level, (decided,))


def test_requirement_of_a_role_tightens_what_the_office_leaves_open():
    requirement = decide_requirement(OPTIONAL, (grant("cashier", factor=True), grant()), NO_APPLICATION)

    assert requirement.level is Level.AAL2
    assert requirement.decided_by == ("office TEST", "role cashier")


@pytest.mark.parametrize("policy", [application(factor=True), application(age=timedelta(seconds=300))])
def test_requirement_of_an_application_tightens_what_the_office_leaves_open(policy):
    requirement = decide_requirement(OPTIONAL, (), policy)

    assert requirement.level is Level.AAL2
    assert requirement.factor_max_age == policy.factor_max_age
    assert requirement.decided_by == ("office TEST", "application mail")


# -- claims -----------------------------------------------------------------------------------------------


def test_access_claim_of_nothing_is_empty():
    assert access_claim((), frozenset({"mail"})) == ()
    assert flat_roles((), frozenset({"mail"})) == ()


def test_access_claim_is_sorted_and_says_each_thing_once():
    grants = (
        grant("staff", "NIM"),
        grant("mail.reader", "NIM", application="mail"),
        grant("staff", "NIM"),  # from a second source
        grant("staff", "GVA", subtree=True),
        grant("finance.payer", "NIM", application="finance"),
    )

    assert access_claim(grants, frozenset({"mail"})) == (
        Expressed("mail.reader", "NIM", subtree=False),
        Expressed("staff", "GVA", subtree=True),
        Expressed("staff", "NIM", subtree=False),
    )
    assert flat_roles(grants, frozenset({"mail"})) == ("mail.reader", "staff")


CODES = st.sampled_from(["mail", "finance", "registry"])
GRANTS = st.builds(
    lambda bare, app, office, subtree, staff, factor: Grant(
        bare if app is None else f"{app}.{bare}", office, subtree, app, None, staff, factor
    ),
    st.sampled_from(["staff", "reader", "payer"]),
    st.none() | CODES,
    st.sampled_from(["GS", "NIM", "GVA"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
CHAINS = st.lists(
    st.builds(OfficePolicy, st.sampled_from(["GS", "NIM"]), st.sampled_from(list(SecondFactor))), max_size=3
)
APPLICATIONS = st.builds(
    ApplicationPolicy,
    CODES,
    st.sampled_from(list(Admits)),
    st.frozensets(st.sampled_from(["staff", "mail.reader", "finance.payer"])),
    st.booleans(),
    st.none() | st.integers(0, 9000).map(lambda seconds: timedelta(seconds=seconds)),
)


@given(st.lists(GRANTS), st.frozensets(CODES))
def test_access_claim_never_shows_a_role_of_another_application(grants, audience):
    expressed = access_claim(tuple(grants), audience)

    assert all("." not in one.role or one.role.split(".")[0] in audience for one in expressed)
    assert list(expressed) == sorted(set(expressed))
    assert {one.role for one in expressed} == set(flat_roles(tuple(grants), audience))


@given(CHAINS, st.lists(GRANTS), GRANTS, APPLICATIONS)
def test_requirement_never_falls_when_a_role_is_added(chain, grants, more, policy):
    before = decide_requirement(tuple(chain), tuple(grants), policy)
    after = decide_requirement(tuple(chain), (*grants, more), policy)

    assert (before.level, after.level) != (Level.AAL2, Level.AAL1)
    assert after.factor_max_age == before.factor_max_age


@given(CHAINS, st.lists(GRANTS), APPLICATIONS)
def test_requirement_never_falls_below_what_the_application_asks(chain, grants, policy):
    requirement = decide_requirement(tuple(chain), tuple(grants), policy)

    if policy.second_factor or policy.factor_max_age is not None:
        assert requirement.level is Level.AAL2
    assert requirement.factor_max_age == policy.factor_max_age
    assert requirement.decided_by


@given(st.lists(GRANTS), GRANTS, APPLICATIONS)
def test_admission_is_never_lost_when_a_role_is_added(grants, more, policy):
    before = decide_admission(policy, EffectiveAccess("NIM", ("NIM", "GS"), tuple(grants)))
    after = decide_admission(policy, EffectiveAccess("NIM", ("NIM", "GS"), (*grants, more)))

    assert not (before == Admitted() and after != Admitted())
