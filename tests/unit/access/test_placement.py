"""Which office an entry stands for, and which roles its groups give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.access.placement import Facts, GroupRule, OfficeRule, Right, fits, place, rights

NIM, GVA, GS = 1, 2, 3


def office_of(rules, **facts):
    rule, _ = place(rules, Facts(**facts))
    return rule.office_id if rule else None


# -- offices ------------------------------------------------------------------------------------------------------


def test_nearest_unit_that_a_rule_names_decides():
    rules = [OfficeRule(NIM, "NIM", unit="NIM"), OfficeRule(GVA, "GVA", unit="GVA")]

    assert office_of(rules, units=(("", "Logistics"), ("", "GVA"), ("", "NIM"))) == GVA


def test_unit_with_another_name_is_known_by_its_id():
    rules = [OfficeRule(NIM, "NIM", unit_id="u-nim", unit="NIM"), OfficeRule(GVA, "GVA", unit="Niamey")]

    assert office_of(rules, units=(("u-nim", "Niamey"),)) == NIM


def test_rule_with_an_id_does_not_fit_another_unit_of_its_name():
    """The old name may be given to a new unit, as names of people are."""
    rules = [OfficeRule(NIM, "NIM", unit_id="u-nim", unit="NIM")]

    assert office_of(rules, units=(("u-new", "NIM"),)) is None


def test_unit_goes_before_attribute_and_attribute_before_default():
    rules = [
        OfficeRule(GS, "GS"),
        OfficeRule(GVA, "GVA", value="GVA-1"),
        OfficeRule(NIM, "NIM", unit="NIM"),
    ]

    assert office_of(rules, units=(("", "NIM"),), attributes={"": ("GVA-1",)}) == NIM
    assert office_of(rules, units=(("", "people"),), attributes={"": ("gva-1",)}) == GVA
    assert office_of(rules, units=(("", "people"),)) == GS


def test_exact_value_goes_before_a_pattern():
    rules = [OfficeRule(GVA, "GVA", value="GVA-*"), OfficeRule(NIM, "NIM", value="GVA-7")]

    assert office_of(rules, attributes={"": ("GVA-7",)}) == NIM
    assert office_of(rules, attributes={"": ("GVA-8",)}) == GVA


def test_named_attribute_is_not_the_office_attribute():
    rules = [OfficeRule(GVA, "GVA", attribute="departmentNumber", value="22")]

    assert office_of(rules, attributes={"": ("22",)}) is None
    assert office_of(rules, attributes={"departmentnumber": ("21", "22")}) == GVA


def test_no_rule_is_no_office_and_says_so():
    assert place([], Facts()) == (None, "nothing fits")


# -- roles --------------------------------------------------------------------------------------------------------


def test_groups_give_roles_at_home_or_where_the_rule_says():
    rules = [GroupRule("staff", 10), GroupRule("clerks", 11, GS, subtree=True)]

    given_ = rights(rules, Facts(groups=frozenset({"staff", "clerks", "choir"})), NIM)

    assert given_ == {Right(10, NIM, subtree=False), Right(11, GS, subtree=True)}


def test_rule_for_the_home_office_gives_nothing_without_one():
    assert rights([GroupRule("staff", 10)], Facts(groups=frozenset({"staff"})), None) == frozenset()


def test_pattern_means_every_group_that_fits_and_one_right():
    facts = Facts(groups=frozenset({"app-mail-a", "app-mail-b"}))

    assert rights([GroupRule("APP-mail-*", 10)], facts, NIM) == {Right(10, NIM, subtree=False)}


@pytest.mark.parametrize(
    ("rule", "fits_"),
    [
        (GroupRule("staff", 10, unit="Gen*"), True),
        (GroupRule("staff", 10, unit="Niamey"), False),
        (GroupRule("staff", 10, attribute="employeeType", value="intern"), True),
        (GroupRule("staff", 10, attribute="employeeType", value="director"), False),
        (GroupRule("staff", 10, unit="Gen*", attribute="employeeType", value="director"), False),
        (GroupRule("*", 10, attribute="employeeType", value="intern"), True),
        (GroupRule("?taff", 10), True),
        (GroupRule("[s]taff", 10), False),
        (GroupRule("staf", 10), False),
    ],
    ids=str,
)
def test_every_condition_of_a_rule_must_fit(rule, fits_):
    facts = Facts((("", "Geneva"),), {"employeetype": ("intern",)}, frozenset({"staff"}))

    assert bool(rights([rule], facts, GVA)) is fits_


# -- patterns -----------------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_every_text_fits_itself_and_the_star(text):
    assert fits("*", text)
    if not {"*", "?"} & set(text):
        assert fits(text, text)
        assert fits(text + "*", text + "tail")


@given(st.text(max_size=20), st.text(max_size=20))
def test_pattern_without_wildcards_fits_only_its_own_spellings(pattern, text):
    if not {"*", "?"} & set(pattern):
        assert fits(pattern, text) == (pattern.casefold() == text.casefold())
