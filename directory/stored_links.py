"""The tables of links between groups and members, and of groups above groups; see `store`."""

from collections.abc import Collection, Mapping, Sequence

from django.db import connection

from directory.changes import Kind
from directory.models import Above, Edge, Entry, Unresolved
from directory.store import chunks, insert


def edges_of(groups: Collection[int]) -> dict[int, dict[int, int]]:
    """Return the members of groups: group -> member -> number of the name that said so."""
    found: dict[int, dict[int, int]] = {group: {} for group in groups}
    for chunk in chunks(groups):
        rows = Edge.objects.filter(group_id__in=chunk).values_list("group_id", "member_id", "given")
        for group, member, number in rows.iterator(chunk_size=5000):
            found[group][member] = number
    return found


def unresolved_of(groups: Collection[int]) -> dict[int, set[int]]:
    """Return the numbers of the names that are nobody's yet, by group."""
    found: dict[int, set[int]] = {group: set() for group in groups}
    for chunk in chunks(groups):
        for group, number in Unresolved.objects.filter(group_id__in=chunk).values_list("group_id", "given"):
            found[group].add(number)
    return found


def take_unresolved(keys: Mapping[bytes, int]) -> list[tuple[int, int, int]]:
    """Take away the names that are somebody's now; return (group, member, number) of each."""
    found = []
    for chunk in chunks(keys):
        rows = Unresolved.objects.filter(member_key__in=chunk)
        found += [
            (group, keys[bytes(key)], number)
            for group, key, number in rows.values_list("group_id", "member_key", "given")
        ]
        rows.delete()
    return found


def has_unresolved() -> bool:
    """Say whether any group waits for anybody."""
    return Unresolved.objects.exists()


def forget_names(members: Collection[int]) -> None:
    """Say that the names by which groups mean these members must be looked up again."""
    for chunk in chunks(members):
        Edge.objects.filter(member_id__in=chunk).update(given=0)


def write_edges(
    added: Sequence[tuple[int, int, int]], removed: Collection[tuple[int, int]], renamed: Sequence[tuple[int, int, int]]
) -> None:  # fmt: skip
    """Write links of groups: (group, member, number) added and renamed, (group, member) removed."""
    with connection.cursor() as cursor:
        if removed:
            cursor.executemany(
                "DELETE FROM directory_edge WHERE group_id = %s AND member_id = %s", list(removed)
            )
        if renamed:
            cursor.executemany(
                "UPDATE directory_edge SET given = %s WHERE group_id = %s AND member_id = %s",
                [(number, group, member) for group, member, number in renamed],
            )
    insert("directory_edge", ("group_id", "member_id", "given"), added)


def write_unresolved(added: Sequence[tuple[int, bytes, int]], removed: Collection[tuple[int, int]]) -> None:
    """Write names that are nobody's: (group, key, number) added, (group, number) removed."""
    if removed:
        with connection.cursor() as cursor:
            cursor.executemany(
                "DELETE FROM directory_unresolved WHERE group_id = %s AND given = %s", list(removed)
            )
    insert("directory_unresolved", ("group_id", "member_key", "given"), added)


def only_groups(pks: Collection[int]) -> set[int]:
    """Return those that are groups."""
    found: set[int] = set()
    for chunk in chunks(pks):
        found |= set(Entry.objects.filter(pk__in=chunk, kind=Kind.GROUP).values_list("pk", flat=True))
    return found


def nested(source: str) -> list[tuple[int, int]]:
    """Return the links between groups, (below, above)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.member_id, e.group_id FROM directory_entry g JOIN directory_edge e ON e.member_id = g.id"
            " WHERE g.source = %s AND g.kind = 'group'",
            [source],
        )
        return cursor.fetchall()


def above_of(groups: Collection[int]) -> dict[int, set[int]]:
    """Return the groups above groups."""
    found: dict[int, set[int]] = {group: set() for group in groups}
    for chunk in chunks(groups):
        for group, above in Above.objects.filter(group_id__in=chunk).values_list("group_id", "above_id"):
            found[group].add(above)
    return found


def write_above(sets: Mapping[int, Collection[int]]) -> set[int]:
    """Store the groups above groups; return those whose set is another one now."""
    before = above_of(sets.keys())
    changed = {group for group, above in sets.items() if before[group] != set(above)}
    for group in changed:
        Above.objects.filter(group_id=group, above_id__in=before[group] - set(sets[group])).delete()
    insert(
        "directory_above",
        ("group_id", "above_id"),
        [(group, above) for group in changed for above in set(sets[group]) - before[group]],
    )
    return changed


def people_in(groups: Collection[int]) -> set[int]:
    """Return the people that are members of groups themselves."""
    found: set[int] = set()
    for chunk in chunks(groups):
        marks = ", ".join(["%s"] * len(chunk))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT e.member_id FROM directory_edge e JOIN directory_entry m ON m.id = e.member_id"
                f" WHERE m.kind = 'person' AND e.group_id IN ({marks})",
                chunk,
            )
            found |= {row[0] for row in cursor.fetchall()}
    return found


def groups_of(people: Collection[int]) -> dict[int, set[int]]:
    """Return the groups in which people are themselves."""
    found: dict[int, set[int]] = {person: set() for person in people}
    for chunk in chunks(people):
        for group, member in Edge.objects.filter(member_id__in=chunk).values_list("group_id", "member_id"):
            found[member].add(group)
    return found


def below_of(groups: Collection[int]) -> set[int]:
    """Return the groups below groups."""
    found: set[int] = set()
    for chunk in chunks(groups):
        found |= set(Above.objects.filter(above_id__in=chunk).values_list("group_id", flat=True))
    return found
