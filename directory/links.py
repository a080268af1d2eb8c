"""Links of groups: names resolved to rows when they are read, and the sets of groups above groups."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from directory import groups, names, stored_links
from directory.tree import Tree


@dataclass(slots=True)
class Links:
    """What changes of links: (group, member, number) and (group, key, number), see the models."""

    added: list[tuple[int, int, int]] = field(default_factory=list)
    removed: set[tuple[int, int]] = field(default_factory=set)
    renamed: list[tuple[int, int, int]] = field(default_factory=list)
    unresolved: list[tuple[int, bytes, int]] = field(default_factory=list)
    settled: set[tuple[int, int]] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Return how many links are other ones."""
        return len(self.added) + len(self.removed)

    def leave_alone(self, rows: Collection[int]) -> None:
        """Forget whatever concerns rows that others wrote later."""
        self.added = [one for one in self.added if one[0] not in rows and one[1] not in rows]
        self.removed = {one for one in self.removed if one[0] not in rows and one[1] not in rows}
        self.renamed = [one for one in self.renamed if one[0] not in rows and one[1] not in rows]

    def members(self) -> set[int]:
        """Return who was linked or unlinked."""
        return {member for _, member, _ in self.added} | {member for _, member in self.removed}


def compare(
    links: Links,
    group: int,
    members: Collection[bytes],
    stored: Mapping[int, int],
    unresolved: Collection[int],
    tree: Tree,
    *,
    resolve_all: bool,
) -> None:
    """Add to `links` what differs between a group as it was read and as it is stored.

    A name that was there before is not looked up again unless `resolve_all`: of 20,000 members, those are looked up
    that are new.
    """
    by_number = {} if resolve_all else {number: member for member, number in stored.items() if number}
    wanted: dict[int, int] = {}
    open_names: dict[int, bytes] = {}
    for name in members:
        number = names.given(name)
        member = by_number.get(number)
        if member is None:
            if not resolve_all and number in unresolved:
                open_names[number] = b""
                continue
            try:
                member = tree.find(name)
            except ValueError:
                continue  # no name at all: nobody can have it
            if member is None:
                open_names[number] = names.key(name)
                continue
        wanted[member] = number
    for member, number in wanted.items():
        if member not in stored:
            links.added.append((group, member, number))
        elif stored[member] != number:
            links.renamed.append((group, member, number))
    links.removed.update((group, member) for member in stored.keys() - wanted.keys())
    links.unresolved += [
        (group, key, number) for number, key in open_names.items() if number not in unresolved
    ]
    links.settled.update((group, number) for number in unresolved if number not in open_names)


def settle(links: Links, arrived: Mapping[bytes, int]) -> None:
    """Link those whose names groups were waiting for, by the keys of names that are somebody's now."""
    taken = stored_links.take_unresolved(arrived)
    have = stored_links.edges_of({group for group, _, _ in taken})
    known = {(group, member) for group, member, _ in links.added}
    for group, member, number in taken:
        # What was settled was looked up just now, or is no member any more.
        if (group, number) in links.settled or (group, member) in known:
            continue
        if member not in have[group]:
            known.add((group, member))
            links.added.append((group, member, number))


def unlink(links: Links, gone_groups: Collection[int]) -> None:
    """Add to `links` what ends with groups that are gone: their members, and that they are members."""
    for group, stored in stored_links.edges_of(gone_groups).items():
        links.removed.update((group, member) for member in stored)
    for member, above in stored_links.groups_of(gone_groups).items():
        links.removed.update((group, member) for group in above)


def write(links: Links) -> None:
    """Store links."""
    stored_links.write_edges(links.added, links.removed, links.renamed)
    stored_links.write_unresolved(links.unresolved, links.settled)


def write_closure(
    source: str, added: Iterable[tuple[int, int]], removed: Iterable[tuple[int, int]]
) -> set[int]:
    """Store what links between groups changed, (below, above), after `write`; return whose set is another one."""
    added, removed = list(added), list(removed)
    if not added and not removed:
        return set()
    return stored_links.write_above(groups.changed_closure(stored_links.nested(source), added, removed))


def drop(source: str, linked: Links, groups: Collection[int]) -> set[int]:
    """Unlink groups that are gone; return the people who have fewer groups now."""
    if not groups:
        return set()
    unlink(linked, groups)
    return relink(source, linked, set(groups))


def relink(source: str, linked: Links, changed: Collection[int]) -> set[int]:
    """Store links and closure; return the people whose groups are others. `changed`: groups called otherwise, or gone."""
    members = linked.members()
    nested = stored_links.only_groups(members)
    people = members - nested
    direct = stored_links.people_in(changed) if changed else set()
    write(linked)
    if changed:
        below = stored_links.below_of(changed)
        direct |= stored_links.people_in(below)
    other = write_closure(
        source,
        [(member, group) for group, member, _ in linked.added if member in nested],
        [(member, group) for group, member in linked.removed if member in nested],
    )
    return people | direct | stored_links.people_in(other)
