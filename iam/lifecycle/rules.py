"""An administrator's rules for one directory, read once for a batch of people."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from directory.service import Group, Person
from iam.access.models import GroupMapping, Office, OfficeMapping, Role
from iam.access.placement import Facts, GroupRule, OfficeRule, Right, place, rights

OFFICE_ATTRIBUTE = ""


@dataclass(slots=True)
class Rules:
    """The rules of one directory; offices and roles by their keys, for whoever writes what the rules say."""

    offices: tuple[OfficeRule, ...]
    groups: tuple[GroupRule, ...]
    office_by_id: Mapping[int, Office]
    role_by_id: Mapping[int, Role]
    _names: dict[Group, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, source: str) -> "Rules":
        """Read the rules of a directory."""
        offices = OfficeMapping.objects.select_related("office").filter(source=source).order_by("pk")
        groups = list(GroupMapping.objects.select_related("office").filter(source=source).order_by("pk"))
        roles = Role.objects.select_related("application").in_bulk({row.role_id for row in groups})
        by_id = {row.office_id: row.office for row in offices}
        by_id |= {row.office.pk: row.office for row in groups if row.office is not None}
        return cls(
            tuple(
                OfficeRule(
                    row.office_id, row.office.code, row.unit_id, row.ou, row.attribute, row.attribute_value
                )
                for row in offices
            ),
            tuple(
                GroupRule(
                    row.group,
                    row.role_id,
                    row.office_id,
                    row.subtree,
                    row.ou,
                    row.attribute,
                    row.attribute_value,
                )
                for row in groups
            ),
            by_id,
            roles,
        )

    def home(self, person: Person) -> tuple[Office | None, str, bool]:
        """Return the home office that the rules give an entry, why, and whether that deserves an alarm."""
        rule, why = place(self.offices, self._facts(person, with_groups=False))
        if rule is None:
            return None, why, True
        return self.office_by_id[rule.office_id], why, rule.is_default

    def rights(self, person: Person, home: Office | None) -> frozenset[Right]:
        """Return the rights that an entry's groups give it."""
        return rights(self.groups, self._facts(person, with_groups=True), home.pk if home else None)

    def _facts(self, person: Person, *, with_groups: bool) -> Facts:
        ids = person.unit_ids if len(person.unit_ids) == len(person.ou_path) else ("",) * len(person.ou_path)
        office = (person.office_attribute,) if person.office_attribute else ()
        groups: frozenset[str] = frozenset()
        if with_groups and person.groups:
            groups = frozenset().union(*map(self._spellings, person.groups))
        return Facts(
            tuple(zip(ids, person.ou_path, strict=True)),
            {OFFICE_ATTRIBUTE: office, **dict(person.rule_values)},
            groups,
        )

    def _spellings(self, group: Group) -> frozenset[str]:
        """Return the names by which a rule may mean a group: its name, its DN, its immutable id."""
        known = self._names.get(group)
        if known is None:
            known = frozenset(text.casefold() for text in (group.name, group.dn, group.entry_uuid) if text)
            self._names[group] = known
        return known
