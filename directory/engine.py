"""Read, plan, and then one transaction: the rows, what the service does about it, and the directory's cookie.

Whoever is killed at any point has done a batch or has not; the next reading begins where the last committed one
ended. What is said of an entry says how it is now, so hearing it twice is hearing it once.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.db import transaction

from directory import links, store, stored_removals
from directory.batch import Batch, base_id, fold_login, settle_removals, who_may_join
from directory.changes import Completeness, Effects, Happening, Kind, Reader, Reading
from directory.config import Source
from directory.entries import Person
from directory.gather import Gathered, gather
from directory.mapping import Mapped
from directory.plan import Intended, Plan, Wait, decide_plan
from directory.store import Row
from directory.teller import EVENTS_AT_ONCE, Teller

logger = logging.getLogger(__name__)

RECHECKED_AT_ONCE = 500


class Refused(Exception):
    """A reading that cannot be believed; nothing of it was written. `people`: how many it would have cost."""

    def __init__(self, reason: str, people: int, base_id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.people = people
        self.base_id = base_id


class NotApproved(Exception):
    """The number repeated is not the number that waits. `waiting` is."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} wait")
        self.waiting = waiting


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch did. `cookie` is where the next one begins."""

    cookie: bytes
    plan: Plan
    links: int = 0
    told: int = 0  # events that the service got

    @property
    def is_empty(self) -> bool:
        """Say whether nothing happened."""
        return not self.plan.rows and not self.plan.dropped and not self.told and not self.links


class _Rehearsal(Exception):
    """Ends the transaction of a plan that is only shown."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Engine:
    """Applies readings of one source. Safe beside others of the same source: they take turns, or are Overtaken."""

    def __init__(self, source: Source, effects: Effects, clock: Callable[[], datetime] = _utc_now) -> None:
        self.source = source
        self._effects = effects
        self._clock = clock
        self._mapped = Mapped(source)

    # -- batches -------------------------------------------------------------------------------------------

    def take(
        self, reading: Reading, reader: Reader, since: bytes | None = None, *, is_rehearsal: bool = False
    ) -> Outcome:
        """Apply a reading, or only plan it. `since`: the cookie from which it was read; None for a whole one.

        Raises DirectoryError when it is not whole, Refused when it cannot be believed, Overtaken when it is old.
        """
        name = self.source.name
        gathered = gather(name, self._mapped, reading)
        cookie = gathered.ending.cookie or since or b""
        if gathered.is_empty and not is_rehearsal and gathered.ending.cookie in {b"", since}:
            return Outcome(cookie, Plan())
        missing: tuple[str, ...] = ()
        if gathered.stored is not None and gathered.ending.completeness is not Completeness.CHANGES:
            try:
                missing = self._believed_missing(gathered, reader)
            except Refused as refusal:
                self._note_refusal(refusal)
                raise
        batch = Batch(
            self.source, self._effects, self._clock, gathered, missing, since, is_rehearsal=is_rehearsal
        )
        try:
            with transaction.atomic():
                batch.run()
                if is_rehearsal:
                    raise _Rehearsal
        except _Rehearsal:
            pass
        return Outcome(cookie, batch.plan, batch.links.count, batch.told)

    def _believed_missing(self, gathered: Gathered, reader: Reader) -> tuple[str, ...]:
        """Return what is missing in a reading that lists everything. Raises Refused when it cannot be all there is."""
        stored = gathered.stored or {}
        state = store.read_state(self.source.name)
        there = gathered.seen | gathered.ending.present
        people = [known for known in stored.values() if known.kind is Kind.PERSON and not known.is_gone]
        absent = [
            known
            for known in stored.values()
            if not known.is_gone
            and not known.is_kept
            and known.held is not Wait.LEAVE
            and known.entry_id not in there
            and known.entry_id not in gathered.gone
        ]
        lost = [known for known in absent if known.kind is Kind.PERSON]
        accepted = stored_removals.accepted_people(self.source.name)
        if absent and not (accepted is not None and len(lost) <= accepted):
            base = base_id(self.source, gathered)
            if state.base_id and base and base != state.base_id:
                raise Refused("another directory answers at this address", len(lost), base)
            if state.base_id and state.base_id not in there:
                raise Refused(
                    "the base entry is not in the answer: a wrong base, or no right to read", len(lost), base
                )
            if lost and not any(known.entry_id in there for known in people):
                raise Refused("not one of the people that are known is in the answer", len(lost), base)
        limit = self.source.brake.limit(len(people), is_inferred=True)
        if absent and len(lost) <= limit:
            found = reader.lookup([known.entry_id for known in absent])
            if found:
                # A person who is there and was not listed: then the list is not whole, and proves nothing at all.
                raise Refused(f"{len(found)} entries are there that the answer left out", len(lost))
        return tuple(known.entry_id for known in absent)

    def _note_refusal(self, refusal: Refused) -> None:
        logger.error("directory %s: a reading was refused: %s", self.source.name, refusal.reason)
        now = self._clock()
        with transaction.atomic():
            store.note(
                self.source.name,
                refusal=refusal.reason,
                refused_people=refusal.people,
                refused_base=refusal.base_id,
                refused_at=now,
            )
            self._effects.refused(self.source.name, refusal.reason, refusal.people, now)

    def hear(self) -> None:
        """Note that the directory just said, or showed, that everything is known."""
        store.note(self.source.name, heard_at=self._clock(), trouble="", trouble_at=None)

    # -- what is due without a reading ----------------------------------------------------------------------

    def recheck(self) -> bool:
        """Describe some people below a unit that moved to the service again; say whether there was anything to do."""
        name = self.source.name
        if not store.has_rechecks(name):
            return False
        with transaction.atomic():
            store.lock(name)
            found = store.next_recheck(name)
            if found is None:
                return False
            pks = store.people_below(found.unit, found.after, RECHECKED_AT_ONCE)
            store.note_recheck(found, pks[-1] if len(pks) == RECHECKED_AT_ONCE else None)
            now = self._clock()
            teller = Teller(self.source, self._effects)
            moved = teller.place_again(store.load(name, pks=pks))
            stored_removals.count_people(name, moved)
            teller.tell([], pks, now)
            store.advance(name)
        return True

    def expire(self) -> int:
        """Disable people whose end has come, under the brake; return how many of them were looked at."""
        name = self.source.name
        now = self._clock()
        if not store.due_ends(name, now, 1):
            return 0
        with transaction.atomic():
            store.lock(name)
            ids = store.due_ends(name, now, EVENTS_AT_ONCE)
            known = store.known(name, ids)
            told = [
                replace(one, acts=False) for one in store.as_told(name, ids)
            ]  # as they are, but for the clock
            plan = decide_plan(
                self.source.brake, known, told, (), (), {one.name: one.entry_id for one in told},
                stored_removals.pressure(name, now, self.source.brake.window),
            )  # fmt: skip
            store.stop_acting(name, ids)
            settle_removals(name, plan, now, now)
            self._effects.held(name, [one.holding for one in plan.waiting], now)
            teller = Teller(self.source, self._effects)
            teller.tell(plan.events, (), now)
            store.advance(name)
        return len(ids)

    # -- what an administrator says ---------------------------------------------------------------------------

    def approve(self, number: int, reader: Reader) -> int:
        """Let happen what waits, if `number` is how much that is; return how many went in fact.

        Who is there after all when asked for by id is released instead. A refused reading is approved the same
        way: the next one may cost so many people. Raises NotApproved with the number that waits, DirectoryError.
        """
        name = self.source.name
        waiting = stored_removals.waiting(name)
        refused = stored_removals.refused_people(name)
        if not waiting and refused:
            if number != refused:
                raise NotApproved(refused)
            stored_removals.accept_refused(name)
            return 0
        if number != len(waiting):
            raise NotApproved(len(waiting))
        inferred = [one.removal.entry_id for one in waiting if one.removal.is_inferred]
        there = reader.lookup(inferred) if inferred else frozenset()
        with transaction.atomic():
            store.lock(name)
            if stored_removals.waiting(name) != waiting:
                raise NotApproved(len(stored_removals.waiting(name)))
            now = self._clock()
            meant = [one for one in waiting if one.removal.entry_id not in there]
            known = store.known(name, [one.removal.entry_id for one in meant])
            people = [one for one in meant if known[one.removal.entry_id].kind is Kind.PERSON]
            dropped = [known[one.removal.entry_id].pk for one in meant if one not in people]
            plan = Plan(
                leavers=tuple(one.removal.entry_id for one in people if one.wait is Wait.LEAVE),
                events=tuple(
                    Intended(
                        Happening.LEFT if one.wait is Wait.LEAVE else Happening.DISABLED,
                        one.removal.entry_id,
                        one.removal.is_inferred,
                    )
                    for one in people
                ),
                removed=tuple(one.removal for one in people),
                released=tuple(one.removal.entry_id for one in waiting),
            )
            settle_removals(name, plan, stored_removals.oldest(waiting, now), now, is_approved=True)
            joins, affected = self._without(dropped)
            teller = Teller(self.source, self._effects)
            told = {event.entry_id for event in plan.events}
            back = [row.pk for row in store.load(name, entry_ids=sorted(there))]
            teller.tell(
                [*plan.events, *(one for one in joins if one.entry_id not in told)], [*affected, *back], now
            )
            store.advance(name, applied_at=now)
        return len(meant)

    def _without(self, groups: Collection[int]) -> tuple[list[Intended], set[int]]:
        """Drop groups and units; return who may join now, and which people have fewer groups."""
        linked = links.Links()
        affected = links.drop(self.source.name, linked, groups)
        store.drop(groups)
        return who_may_join(self.source.name), affected

    def restore(self, who: Sequence[str]) -> list[str]:
        """Take back that people left: by login name or entry id, everybody of thirty days when `who` is empty.

        Returns the ids of those restored. What they had in groups comes back with the directory. Whom the
        directory does not have is not found missing again, for thirty days. Idempotent.
        """
        name = self.source.name
        with transaction.atomic():
            store.lock(name)
            now = self._clock()
            rows = store.load(name, entry_ids=stored_removals.restorable(name, who, now - store.KEPT_FOR))
            taken = set(store.holders(name, {row.name for row in rows}))
            back: list[Row] = []
            for row in rows:
                if row.name not in taken:  # a name that was given again stays with whom it was given to
                    taken.add(row.name)
                    back.append(row)
            ids = [row.entry_id for row in back]
            stored_removals.bring_back(name, ids, now)
            stored_removals.count_people(name, Counter(row.office for row in back))
            teller = Teller(self.source, self._effects)
            teller.tell([Intended(Happening.RETURNED, row.entry_id) for row in back if row.acts], (), now)
            store.advance(name, applied_at=now)
        return [row.entry_id for row in back]

    def describe(self, login: str) -> list[Person]:
        """Return the people of a login name as they are stored, with their groups."""
        name = self.source.name
        teller = Teller(self.source, self._effects)
        rows = store.load(name, entry_ids=store.called(name, fold_login(login)))
        return list(teller.people(rows).values())
