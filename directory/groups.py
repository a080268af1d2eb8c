"""Which groups stand above which: closure over nested groups, circles allowed. Pure.

Edges are (below, above): a group that is a member of another. Kept is, for each group that has any, the set of all
groups above it; a change of an edge costs the groups at or below it and nothing else.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)
Edges = Iterable[tuple[Node, Node]]


def parents(edges: Edges[Node]) -> dict[Node, set[Node]]:
    """Return what stands directly above each group."""
    found: dict[Node, set[Node]] = {}
    for below, above in edges:
        found.setdefault(below, set()).add(above)
    return found


def children(edges: Edges[Node]) -> dict[Node, set[Node]]:
    """Return what stands directly below each group."""
    return parents((above, below) for below, above in edges)


def reach(start: Iterable[Node], onward: Mapping[Node, Iterable[Node]]) -> set[Node]:
    """Return all that can be reached, the start included only where a way leads back to it."""
    found: set[Node] = set()
    waiting = [following for node in start for following in onward.get(node, ())]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(onward.get(node, ()))
    return found


def closure(edges: Edges[Node]) -> dict[Node, frozenset[Node]]:
    """Return, for every group that has one above it, all that are above it, itself excluded."""
    up = parents(edges)
    return {node: frozenset(reach([node], up) - {node}) for node in up}


def changed_closure(
    edges: Edges[Node], added: Edges[Node], removed: Edges[Node]
) -> dict[Node, frozenset[Node]]:
    """Return the new sets above every group whose set may have changed; `edges` are those after the change.

    A group's set changes only when it stands at or below the lower end of a changed edge, before or after.
    """
    edges, removed = list(edges), list(removed)
    low = {below for below, _ in (*added, *removed)}
    affected = low | reach(low, children([*edges, *removed]))
    up = parents(edges)
    return {node: frozenset(reach([node], up) - {node}) for node in affected}
