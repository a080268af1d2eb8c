"""The sample Secretariat: enough people, everywhere, in two scripts, the same every time."""

from collections import Counter

from deploy.demo import organisation

PEOPLE = organisation.build_people("seed")
STAFF = [person for person in PEOPLE if person.office != "TEST"]


def test_build_people_staffs_headquarters_and_every_overseas_office():
    offices = Counter(person.office for person in STAFF)

    assert len(STAFF) >= 120
    assert all(offices[code] >= 5 for code in organisation.OVERSEAS)
    assert set(offices) <= {office["code"] for office in organisation.load_offices()}


def test_build_people_names_are_in_two_scripts_and_logins_unique():
    assert all(person.latin and person.arabic for person in PEOPLE)
    assert all("\u0600" <= person.arabic[0] <= "\u06ff" for person in PEOPLE)
    assert len({person.login for person in PEOPLE}) == len(PEOPLE)
    assert all(person.login.isascii() for person in PEOPLE)


def test_build_people_same_seed_same_people_other_seed_other_passwords():
    assert organisation.build_people("seed") == PEOPLE
    assert organisation.build_people("other")[0].password != PEOPLE[0].password


def test_build_people_has_everybody_that_the_documentation_names():
    by_login = {person.login: person for person in PEOPLE}

    assert by_login["amina"].totp_secret
    assert by_login["newcomer"].totp_secret is None
    assert by_login["gone"].disabled
    assert {f"load{number:02}" for number in range(1, 51)} <= set(by_login)
    assert all(by_login[f"load{number:02}"].office == "TEST" for number in range(1, 51))
    assert all(len(person.password) >= 15 for person in PEOPLE)


def test_build_groups_nest_and_reach_everybody():
    groups = {group.name: group for group in organisation.build_groups(PEOPLE)}

    def members(name: str) -> set[str]:
        group = groups[name]
        return (
            set(group.people).union(*(members(inner) for inner in group.groups))
            if group.groups
            else set(group.people)
        )

    assert members("staff-all") == {person.login for person in PEOPLE}
    assert "staff-NIM" in groups["staff-overseas"].groups


def test_build_seed_names_every_role_and_office_that_it_uses():
    seed = organisation.build_seed("directory")
    roles = {role["code"] for role in seed["roles"]}
    offices = {office["code"] for office in seed["offices"]}

    assert {mapping["role"] for mapping in seed["group_mappings"]} <= roles
    assert {mapping["office"] for mapping in seed["office_mappings"]} <= offices
    assert all(office["parent"] is None or office["parent"] in offices for office in seed["offices"])
    assert all(set(office["names"]) == {"ar", "fr", "en"} for office in seed["offices"])


def test_expected_roles_say_what_the_groups_give():
    amina = next(person for person in PEOPLE if person.login == "amina")

    assert organisation.expected_roles(amina) == [
        {"role": "finance.payer", "office": "NIM", "subtree": False},
        {"role": "staff", "office": "NIM", "subtree": False},
    ]
