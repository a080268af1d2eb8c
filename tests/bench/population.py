"""A Secretariat of any size as LDIF: people in offices, groups with nesting, Arabic and Latin names."""

import random
from collections.abc import Iterator
from pathlib import Path

from deploy.demo import slapd

BASE = "dc=secretariat,dc=example"
PASSWORD = "right-password"  # of everybody
OFFICES_PER_PEOPLE = 250
PEOPLE_PER_GROUP = 50
MEMBERSHIPS_PER_PERSON = 2.32
FIRST = ("Amina", "Karim", "Leïla", "Omar", "Chloé", "Yusuf", "Agnès", "Hassan", "Zoé", "Salma")
LAST = ("Haddad", "Dupont", "Ben Ali", "Martin", "El Amrani", "Durand", "Nasser", "Moreau", "Aziz", "Petit")
ARABIC = ("أمينة حداد", "كريم بن علي", "ليلى ناصر", "عمر العمراني", "سلمى عزيز")


def office_count(people: int) -> int:
    return max(2, people // OFFICES_PER_PEOPLE)


def group_count(people: int) -> int:
    return max(5, people // PEOPLE_PER_GROUP)


def person_dn(number: int, people: int) -> str:
    return f"uid=p{number},ou=Office {number % office_count(people)},ou=Offices,{BASE}"


def group_dn(number: int) -> str:
    return f"cn=g{number},ou=groups,{BASE}"


def write(path: Path, people: int) -> Path:
    """Write the LDIF; the same number gives the same people."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_entries(people))
    return path


def _entries(people: int) -> Iterator[str]:
    chance = random.Random(people)
    written = slapd.hash_password(PASSWORD)
    for name in ("Offices", "groups"):
        yield f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n\n"
    for number in range(office_count(people)):
        yield f"dn: ou=Office {number},ou=Offices,{BASE}\nobjectClass: organizationalUnit\nou: Office {number}\n\n"
    for number in range(people):
        first, last = chance.choice(FIRST), chance.choice(LAST)
        yield (
            f"dn: {person_dn(number, people)}\nobjectClass: inetOrgPerson\nobjectClass: orgPerson\nuid: p{number}\n"
            f"cn: {first} {last}\nsn: {last}\ngivenName: {first}\ndisplayName: {first} {last} {number}\n"
            f"cn;lang-ar: {chance.choice(ARABIC)}\nmail: p{number}@secretariat.example\npreferredLanguage: fr\n"
            f"orgOfficeCode: O{number % office_count(people)}\norgAccountStatus: active\ntitle: Officer {number % 40}\n"
            f"telephoneNumber: +41 22 {number:07}\nemployeeNumber: {number}\nuserPassword: {written}\n\n"
        )
    groups = group_count(people)
    for number in range(groups):
        count = int(people * MEMBERSHIPS_PER_PERSON / groups)
        members = {person_dn(chance.randrange(people), people) for _ in range(count)}
        if number % 10 == 9:
            members.add(group_dn(number - 1))
        listed = "".join(f"member: {member}\n" for member in sorted(members))
        yield f"dn: {group_dn(number)}\nobjectClass: groupOfNames\ncn: g{number}\n{listed}\n"
