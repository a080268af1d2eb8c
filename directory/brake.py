"""How many people may lose their access before somebody must say that this is meant. Pure.

Two kinds of removal are braked apart: what the directory said (a disable, a delete) and what was concluded from
absence. Each is counted in the whole source and in every office of some size, over a sliding window. Once a brake
holds somebody, it holds everybody after that until an administrator approves by repeating the number: a script that
deletes slowly gets no second helping.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

WHOLE = ""  # the scope that is the whole source; every other scope is the code of an office
GROUPS = "\x7fgroups"  # the scope of groups and units that are missing: no office has such a code


@dataclass(frozen=True, slots=True)
class Brake:
    """The limits. Settings may tighten them and never loosen them: raises ValueError with one clear sentence."""

    floor: int = 5  # so many may always go, however small the directory: real days have so many leavers
    explicit_share: float = 0.02
    inferred_share: float = 0.05
    office_people_min: int = (
        20  # smaller offices are counted in the whole only: one leaver is a twentieth of them
    )
    window: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if not (
            0 <= self.floor <= 5
            and 0 <= self.explicit_share <= 0.02
            and 0 <= self.inferred_share <= 0.05
            and 1 <= self.office_people_min <= 20
            and self.window >= timedelta(minutes=10)
        ):
            raise ValueError(
                "The brake can be tightened and not loosened: at most 5 people, 2 % said, 5 % inferred, in at"
                " least 10 minutes, in every office of 20 people or fewer."
            )

    def limit(self, people: int, *, is_inferred: bool) -> int:
        """Return how many of so many people may go in one window."""
        share = self.inferred_share if is_inferred else self.explicit_share
        return max(self.floor, int(people * share))


DEFAULT_BRAKE = Brake()


@dataclass(frozen=True, slots=True)
class Removal:
    """Somebody who would lose access: the entry, the office it counts in, and how we know."""

    entry_id: str
    office: str
    is_inferred: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """A removal that waits: in which scope the brake held, and in a sentence why."""

    removal: Removal
    scope: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pressure:
    """What weighs on a brake before a batch.

    `people`: how many there are in each office, those of no office under the empty code. `recent`: what went in this
    window. `engaged`: (scope, is_inferred) of all that waits already.
    """

    people: Mapping[str, int]
    recent: Sequence[Removal] = ()
    engaged: frozenset[tuple[str, bool]] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who may go now, in the order given, and who must wait."""

    passed: tuple[Removal, ...]
    held: tuple[Holding, ...]


def decide_brake(rules: Brake, removals: Iterable[Removal], before: Pressure) -> Verdict:
    """Decide who may go.

    What was said goes, in its order, until a limit is reached. What was inferred goes as a whole or not at all:
    if there are too many of them, it is the reading that is doubted, and with it every single conclusion.
    """
    removals = list({removal.entry_id: removal for removal in removals}.values())
    recent = {removal.entry_id for removal in before.recent}
    said = [removal for removal in removals if not removal.is_inferred]
    inferred = [removal for removal in removals if removal.is_inferred]
    limits = _Limits(rules, before)
    passed: list[Removal] = []
    held: list[Holding] = []
    for removal in said:
        holding = None if removal.entry_id in recent else limits.hold(removal)
        if holding is None:
            passed.append(removal)
        else:
            held.append(holding)
    holdings = [holding for removal in inferred if (holding := limits.hold(removal)) is not None]
    if holdings:
        first = holdings[0]
        reason = f"{len(inferred)} are missing; {first.reason}"
        held += [Holding(removal, first.scope, reason) for removal in inferred]
    else:
        passed += inferred
    return Verdict(tuple(passed), tuple(held))


def _counted(removal: Removal) -> tuple[str, ...]:
    """Return the scopes in which a removal counts."""
    if removal.office == GROUPS:
        return (GROUPS,)
    return (WHOLE, removal.office) if removal.office else (WHOLE,)


class _Limits:
    """Counters of one batch, which begin with what went before."""

    def __init__(self, rules: Brake, before: Pressure) -> None:
        self._rules = rules
        self._engaged = set(before.engaged)
        self._gone: Counter[tuple[str, bool]] = Counter()
        once = {(removal.entry_id, removal.is_inferred): removal for removal in before.recent}
        for removal in once.values():
            for scope in _counted(removal):
                self._gone[scope, removal.is_inferred] += 1
        # Those who went in this window were there at its beginning: the share is of what was then.
        everyone = Counter(before.people)
        for removal in {removal.entry_id: removal for removal in before.recent}.values():
            everyone[removal.office] += 1
        self._people = {**everyone, WHOLE: everyone.total() - everyone[GROUPS]}

    def hold(self, removal: Removal) -> Holding | None:
        """Count a removal, or say why it must wait."""
        for scope in _counted(removal):
            if scope not in {WHOLE, GROUPS} and self._people.get(scope, 0) < self._rules.office_people_min:
                continue
            reason = self._reason(scope, removal.is_inferred)
            if reason:
                self._engaged.add((scope, removal.is_inferred))
                return Holding(removal, scope, reason)
        for scope in _counted(removal):
            self._gone[scope, removal.is_inferred] += 1
        return None

    def _reason(self, scope: str, is_inferred: bool) -> str:
        where = f"in office {scope}" if scope not in {WHOLE, GROUPS} else "in the whole directory"
        people = self._people.get(scope, 0)
        limit = self._rules.limit(people, is_inferred=is_inferred)
        if (scope, is_inferred) in self._engaged:
            return f"others wait already {where}, of whose {people} only {limit} may go unasked"
        if self._gone[scope, is_inferred] >= limit:
            minutes = int(self._rules.window.total_seconds() // 60)
            return f"more than {limit} of {people} {where} within {minutes} minutes"
        return ""
