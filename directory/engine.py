"""Read, plan, and then one transaction: the rows, what the service does about it, and the directory's cookie.

Whoever is killed at any point has done a batch or has not; the next reading begins where the last committed one
ended. What is said of an entry says how it is now, so hearing it twice is hearing it once.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.db import transaction

from directory import entries, links, mapping, names, store
from directory.changes import Completeness, Effects, Happening, Kind, PersonEvent, Reader, Reading
from directory.config import Source
from directory.entries import Group, Person, RawEntry
from directory.errors import DirectoryError
from directory.gather import Gathered, Read, gather
from directory.mapping import Mapped
from directory.plan import Intended, Known, Plan, Told, Wait, decide_plan
from directory.standing import AccountStatus
from directory.store import Place, Row
from directory.tree import Tree

logger = logging.getLogger(__name__)

# People handed to the service at once: as many as may be in memory together.
EVENTS_AT_ONCE = 1000
RECHECKED_AT_ONCE = 500
GROUPS_AT_ONCE = 200  # whose stored links are in memory together
# People of one batch that are kept as they were built, instead of being built again for the service: some 20 MB.
REMEMBERED_MAX = 10_000


class Overtaken(Exception):
    """Somebody else applied a batch since the reading began: read again."""


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
        batch = _Batch(self, gathered, missing, since, is_rehearsal=is_rehearsal)
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
        accepted = store.accepted_people(self.source.name)
        if absent and not (accepted is not None and len(lost) <= accepted):
            base = _base_id(self.source, gathered)
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
            teller = _Teller(self, Tree(name, {}, (), is_whole=False))
            moved = teller.place_again(store.load(name, pks=pks))
            store.count_people(name, moved)
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
                store.pressure(name, now, self.source.brake.window),
            )  # fmt: skip
            store.stop_acting(name, ids)
            self._settle_removals(plan, now, now)
            self._effects.held(name, [one.holding for one in plan.waiting], now)
            teller = _Teller(self, Tree(name, {}, (), is_whole=False))
            teller.tell(plan.events, (), now)
            store.advance(name)
        return len(ids)

    def _settle_removals(
        self, plan: Plan, seen_at: datetime, now: datetime, *, is_approved: bool = False
    ) -> None:
        """Write down who waits, who waits no longer, and who went."""
        name = self.source.name
        store.release(name, plan.released)
        store.hold(name, plan.waiting, now)
        events = {event.entry_id: event for event in plan.events}
        store.note_removals(
            name,
            [(removal, events[removal.entry_id]) for removal in plan.removed],
            seen_at,
            now,
            is_approved=is_approved,
        )
        store.mark_gone(name, plan.leavers, now)
        store.count_people(name, Counter(_offices(plan, plan.leavers, -1)))

    # -- what an administrator says ---------------------------------------------------------------------------

    def approve(self, number: int, reader: Reader) -> int:
        """Let happen what waits, if `number` is how much that is; return how many went in fact.

        Who is there after all when asked for by id is released instead. A refused reading is approved the same
        way: the next one may cost so many people. Raises NotApproved with the number that waits, DirectoryError.
        """
        name = self.source.name
        waiting = store.waiting(name)
        refused = store.refused_people(name)
        if not waiting and refused:
            if number != refused:
                raise NotApproved(refused)
            store.accept_refused(name)
            return 0
        if number != len(waiting):
            raise NotApproved(len(waiting))
        inferred = [one.removal.entry_id for one in waiting if one.removal.is_inferred]
        there = reader.lookup(inferred) if inferred else frozenset()
        with transaction.atomic():
            store.lock(name)
            if store.waiting(name) != waiting:
                raise NotApproved(len(store.waiting(name)))
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
            self._settle_removals(plan, store.oldest(waiting, now), now, is_approved=True)
            joins, affected = self._without(dropped)
            teller = _Teller(self, Tree(name, {}, (), is_whole=False))
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
        affected = _drop(self.source.name, linked, groups)
        store.drop(groups)
        return self._joins(), affected

    def _joins(self) -> list[Intended]:
        """Return who waited for a login name that is nobody else's now; they wait no longer."""
        name = self.source.name
        waiting = store.waiting_for_names(name)
        if not waiting:
            return []
        taken = store.holders(name, set(waiting.values()))
        free: dict[str, str] = {}
        for entry_id, login in waiting.items():
            if login not in taken:
                free.setdefault(login, entry_id)
        store.release(name, list(free.values()))
        return [Intended(Happening.JOINED, entry_id) for entry_id in free.values()]

    def restore(self, who: Sequence[str]) -> list[str]:
        """Take back that people left: by login name or entry id, everybody of thirty days when `who` is empty.

        Returns the ids of those restored. What they had in groups comes back with the directory. Whom the
        directory does not have is not found missing again, for thirty days. Idempotent.
        """
        name = self.source.name
        with transaction.atomic():
            store.lock(name)
            now = self._clock()
            rows = store.load(name, entry_ids=store.restorable(name, who, now - store.KEPT_FOR))
            taken = set(store.holders(name, {row.name for row in rows}))
            back: list[Row] = []
            for row in rows:
                if row.name not in taken:  # a name that was given again stays with whom it was given to
                    taken.add(row.name)
                    back.append(row)
            ids = [row.entry_id for row in back]
            store.bring_back(name, ids, now)
            store.count_people(name, Counter(row.office for row in back))
            teller = _Teller(self, Tree(name, {}, (), is_whole=False))
            teller.tell([Intended(Happening.RETURNED, row.entry_id) for row in back if row.acts], (), now)
            store.advance(name, applied_at=now)
        return [row.entry_id for row in back]

    def describe(self, login: str) -> list[Person]:
        """Return the people of a login name as they are stored, with their groups."""
        name = self.source.name
        teller = _Teller(self, Tree(name, {}, (), is_whole=False))
        rows = store.load(name, entry_ids=store.called(name, fold_login(login)))
        return list(teller.people(rows).values())

    def acts(self, person: Person, now: datetime) -> bool:
        """Say whether the directory lets a person act; a lock that passes by itself changes nothing here."""
        return person.standing.at(now) not in {AccountStatus.DISABLED, AccountStatus.EXPIRED}


def fold_login(login: str) -> str:
    """Return what is equal for two spellings of a login name that directories take for one."""
    return login.casefold()[: entries.LOGIN_MAX]


def _offices(plan: Plan, entry_ids: Iterable[str], by: int) -> Mapping[str, int]:
    wanted = set(entry_ids)
    counted: Counter[str] = Counter()
    for removal in plan.removed:
        if removal.entry_id in wanted:
            counted[removal.office] += by
    return counted


def _base_id(source: Source, gathered: Gathered) -> str:
    """Return the id of the entry at the base, empty when it was not sent."""
    base = source.base_dn.encode("utf-8")
    found = gathered.names.get(base)
    if found is None:
        try:
            wanted = names.key(base)
            found = next((one for dn, one in gathered.names.items() if dn.count(b",") <= base.count(b",") and names.key(dn) == wanted), None)  # fmt: skip
        except ValueError:
            found = None
    return found or ""


def _drop(source: str, linked: links.Links, groups: Collection[int]) -> set[int]:
    """Unlink groups that are gone; return the people who have fewer groups now."""
    if not groups:
        return set()
    links.unlink(linked, groups)
    return _relink(source, linked, set(groups))


def _relink(source: str, linked: links.Links, changed: Collection[int]) -> set[int]:
    """Store links and closure; return the people whose groups are others. `changed`: groups called otherwise, or gone."""
    members = linked.members()
    nested = store.only_groups(members)
    people = members - nested
    direct = store.people_in(changed) if changed else set()
    links.write(linked)
    if changed:
        below = store.below_of(changed)
        direct |= store.people_in(below)
    other = links.write_closure(
        source,
        [(member, group) for group, member, _ in linked.added if member in nested],
        [(member, group) for group, member in linked.removed if member in nested],
    )
    return people | direct | store.people_in(other)


class _Batch:
    """One reading on its way into the tables."""

    def __init__(
        self, engine: Engine, gathered: Gathered, missing: Sequence[str], since: bytes | None, *, is_rehearsal: bool
    ) -> None:  # fmt: skip
        self._engine = engine
        self._source = engine.source
        self._name = engine.source.name
        self._effects = engine._effects
        self._gathered = gathered
        self._missing = missing
        self._since = since
        self._is_rehearsal = is_rehearsal
        self.plan = Plan()
        self._touched: frozenset[int] = frozenset()
        self.links = links.Links()
        self.told = 0

    def run(self) -> None:
        """Do all of it, in the caller's transaction."""
        gathered, name = self._gathered, self._name
        state = store.lock(name)
        if self._since is not None and state.cookie != self._since:
            raise Overtaken
        if gathered.stored is not None and state.version != gathered.version:
            self._leave_to_others(gathered)
        now = self._engine._clock()
        is_complete = gathered.ending.completeness is Completeness.COMPLETE
        known = gathered.stored
        if known is None:
            known = store.known(name, [*gathered.read, *gathered.gone])
        new_ids = [entry_id for entry_id in gathered.read if entry_id not in known]
        numbers = dict(zip(new_ids, store.allocate(len(new_ids)), strict=True))
        pks = {entry_id: numbers.get(entry_id) or known[entry_id].pk for entry_id in gathered.read}
        if gathered.stored is not None:
            pks |= {entry_id: known[entry_id].pk for entry_id in gathered.seen if entry_id in known}
        others = {known[one].pk for one in (*gathered.read, *gathered.gone, *self._missing) if one in known}
        tree = Tree(
            name,
            {dn: pks[entry_id] for dn, entry_id in gathered.names.items() if entry_id in pks},
            others,
            is_whole=is_complete,
        )
        if gathered.stored is not None:
            tree.put(
                {
                    one.pk: Place(one.parent, one.rdn, one.entry_id)
                    for one in known.values()
                    if one.kind is Kind.UNIT
                }
            )
        teller = _Teller(self._engine, tree)
        told, unreadable = self._told(tree, teller, known, pks, now)
        said_gone = list(gathered.gone)
        # Nobody said that they are gone: a mapping or a right that is wrong makes everybody unreadable at once.
        self._missing = [*self._missing, *unreadable]
        holders = store.holders(name, {one.name for one in told if one.kind is Kind.PERSON and one.name})
        might_remove = bool(said_gone or self._missing) or any(
            not one.acts and (before := known.get(one.entry_id)) is not None and before.acts for one in told
        )
        rules = self._source.brake
        pressure = (
            store.pressure(name, now, rules.window, counts_groups=bool(self._missing))
            if might_remove
            else store.no_pressure()
        )
        self.plan = plan = decide_plan(rules, known, told, said_gone, self._missing, holders, pressure)

        written = plan.rows
        store.write_entries(name, written, set(numbers.values()), state.version + 1)
        self._engine._settle_removals(plan, gathered.began_at, now)
        store.count_people(name, _moves(known, written))
        renamed = [one for one in written if _is_renamed(known.get(one.entry_id), one)]
        store.forget_names([one.pk for one in renamed if one.kind is not Kind.UNIT and one.entry_id in known])
        store.add_rechecks(name, [known[one].pk for one in plan.moved_units if known[one].kind is Kind.UNIT])
        affected = self._link(tree, known, pks, written, renamed, is_complete=is_complete)
        joins = self._engine._joins()
        if not self._is_rehearsal:
            if plan.waiting:
                self._effects.held(name, [one.holding for one in plan.waiting], now)
            self.told = teller.tell([*plan.events, *joins], affected, now)
        self._advance(state, now, known, is_complete=is_complete)

    def _leave_to_others(self, gathered: Gathered) -> None:
        """Know what other batches wrote while this reading was read, and leave that alone: theirs is newer."""
        before = gathered.stored or {}
        gathered.stored = store.all_known(self._name)
        touched = store.written_since(self._name, gathered.version)
        dropped = before.keys() - gathered.stored.keys()
        for entry_id in (*touched, *dropped):
            gathered.read.pop(entry_id, None)
            gathered.gone.pop(entry_id, None)
            gathered.groups.pop(entry_id, None)
        self._missing = [one for one in self._missing if one not in touched and one not in dropped]
        self._touched = frozenset(touched.values())

    def _told(
        self, tree: Tree, teller: "_Teller", known: Mapping[str, Known], pks: Mapping[str, int], now: datetime
    ) -> tuple[list[Told], list[str]]:
        """Place and decode what was read; return it, and the people who cannot be read any more."""
        placed: list[tuple[Read, int | None, str, str]] = []
        for one in self._gathered.read.values():
            try:
                parent, own, key = tree.place(one.dn)
                rdn = own.decode("utf-8")
            except ValueError:
                logger.warning("directory %s: the name of entry %s cannot be read", self._name, one.entry_id)
                continue
            pk = pks[one.entry_id]
            if _is_as_it_was(known.get(one.entry_id), one, parent, rdn):
                continue
            placed.append((one, parent if parent != pk else None, rdn, key))
        tree.put(
            {
                pks[one.entry_id]: Place(parent, rdn, one.entry_id)
                for one, parent, rdn, _ in placed
                if one.kind is Kind.UNIT
            }
        )
        told: list[Told] = []
        unreadable: list[str] = []
        for one, parent, rdn, key in placed:
            pk = pks[one.entry_id]
            if one.kind is Kind.PERSON:
                try:
                    person = teller.build(parent, rdn, mapping.read(one.attributes.decode("utf-8")))
                    if len(placed) <= REMEMBERED_MAX:
                        teller.remember(one.entry_id, person)
                except DirectoryError as error:
                    logger.warning("directory %s: entry %s: %s", self._name, one.entry_id, error.hint)
                    if one.entry_id in known:
                        unreadable.append(one.entry_id)
                    continue
                told.append(
                    Told(
                        pk, one.entry_id, one.kind, parent, rdn, key, one.digest, fold_login(person.login),
                        self._engine.acts(person, now), person.standing.ends_at, self._effects.office_of(person),
                        one.attributes,
                    )
                )  # fmt: skip
            elif one.kind is Kind.GROUP:
                try:
                    called = entries.build_group(
                        self._source, RawEntry(one.dn, mapping.read(one.attributes.decode("utf-8")))
                    ).name
                except DirectoryError:
                    called = ""
                told.append(
                    Told(
                        pk,
                        one.entry_id,
                        one.kind,
                        parent,
                        rdn,
                        key,
                        one.digest,
                        called[:256],
                        attributes=one.attributes,
                    )
                )
            else:
                told.append(Told(pk, one.entry_id, one.kind, parent, rdn, key, one.digest))
        return told, unreadable

    def _link(
        self,
        tree: Tree,
        known: Mapping[str, Known],
        pks: Mapping[str, int],
        written: Sequence[Told],
        renamed: Sequence[Told],
        *,
        is_complete: bool,
    ) -> set[int]:
        """Store the links of groups that were read, and of those that waited for somebody; return who is affected."""
        gathered = self._gathered
        members = {pks[one]: names_ for one, names_ in gathered.groups.items() if is_complete and one in pks}
        members |= {one.pk: gathered.read[one.entry_id].members for one in written if one.kind is Kind.GROUP}
        for some in store.chunks(members, GROUPS_AT_ONCE):
            stored, unresolved = store.edges_of(some), store.unresolved_of(some)
            for group in some:
                links.compare(
                    self.links,
                    group,
                    members[group],
                    stored[group],
                    unresolved[group],
                    tree,
                    resolve_all=is_complete,
                )
        if self._touched:
            self.links.leave_alone(self._touched)
        arrived: dict[bytes, int] = {}
        for one in renamed if store.has_unresolved() else ():
            if one.kind is not Kind.UNIT:
                arrived[names.key(gathered.read[one.entry_id].dn)] = one.pk
        if arrived:
            links.settle(self.links, arrived)
        gone = [known[one].pk for one in self.plan.dropped if one in known]
        if gone:
            links.unlink(self.links, gone)
        other_names = {
            one.pk
            for one in written
            if one.kind is Kind.GROUP
            and (before := known.get(one.entry_id)) is not None
            and (before.name, before.rdn, before.parent) != (one.name, one.rdn, one.parent)
        }
        affected = _relink(self._name, self.links, other_names | set(gone))
        store.drop(gone)
        return affected

    def _advance(
        self, state: store.State, now: datetime, known: Mapping[str, Known], *, is_complete: bool
    ) -> None:
        gathered = self._gathered
        changes: dict[str, object] = {
            "heard_at": now,
            "sizes": self.plan.sizes(),
            "trouble": "",
            "trouble_at": None,
        }
        # A whole reading beside a stream does not move the stream: what it was told and has not said yet must come.
        if gathered.ending.cookie and (self._since is not None or not state.cookie):
            changes["cookie"] = gathered.ending.cookie
        if self.plan.rows or self.plan.events or self.links.count:
            changes["applied_at"] = now
        if gathered.ending.completeness is not Completeness.CHANGES:
            changes |= {
                "refusal": "",
                "refused_people": 0,
                "refused_base": "",
                "refused_at": None,
                "accepted_people": None,
            }
        if is_complete:
            changes["completed_at"] = now
            base = _base_id(self._source, gathered)
            if base:
                changes["base_id"] = base
            if not state.is_new:
                changes["drift"] = {
                    "entries": len(self.plan.rows),
                    "links": self.links.count,
                    "missing": len(self._missing),
                }
            store.recount_people(self._name)
            if not self._is_rehearsal:
                self._effects.know_units(self._name, _unit_names(store.units(self._name).values()))
        store.advance(self._name, **changes)


def _unit_names(places: Iterable[Place]) -> dict[str, frozenset[str]]:
    """Return the ids of units by what they are called."""
    found: dict[str, set[str]] = {}
    for place in places:
        try:
            first = entries.parse_dn(place.rdn)[0]
        except (ValueError, IndexError):
            continue
        for _, value in first:
            found.setdefault(unicodedata.normalize("NFC", value).casefold(), set()).add(place.entry_id)
    return {name: frozenset(ids) for name, ids in found.items()}


def _is_as_it_was(before: Known | None, one: Read, parent: int | None, rdn: str) -> bool:
    """Say whether nothing of an entry is new: directories send one again for things that are not ours."""
    return (
        before is not None
        and (before.digest, before.kind, before.parent, before.rdn) == (one.digest, one.kind, parent, rdn)
        and not before.is_gone
        and before.held is not Wait.LEAVE  # whoever waits for that, and is there, waits no longer
    )


def _is_renamed(before: Known | None, one: Told) -> bool:
    """Say whether an entry is called otherwise than before; who is new or back is."""
    return before is None or before.is_gone or (before.parent, before.rdn) != (one.parent, one.rdn)


def _moves(known: Mapping[str, Known], written: Iterable[Told]) -> dict[str, int]:
    """Return by how many people offices grew and shrank with what was written; who leaves is counted elsewhere."""
    by: Counter[str] = Counter()
    for one in written:
        if one.kind is not Kind.PERSON:
            continue
        before = known.get(one.entry_id)
        if before is not None and before.kind is Kind.PERSON and not before.is_gone:
            by[before.office] -= 1
        by[one.office] += 1
    return by


class _Teller:
    """Describes people to the service."""

    def __init__(self, engine: Engine, tree: Tree) -> None:
        self._engine = engine
        self._source = engine.source
        self._tree = tree
        self._groups: dict[int, Group] = {}
        self._built: dict[str, Person] = {}

    def remember(self, entry_id: str, person: Person) -> None:
        """Keep a person who was built just now from what is written just now."""
        self._built[entry_id] = person

    def build(self, parent: int | None, rdn: str, attributes: Mapping[str, tuple[bytes, ...]]) -> Person:
        """Return a person without groups."""
        raw = RawEntry(self._tree.dn(parent, rdn).encode("utf-8"), attributes)
        person, units = entries.build_person(self._source, raw), self._tree.units(parent)
        return replace(person, unit_ids=units) if units else person

    def people(self, rows: Sequence[Row]) -> dict[str, Person]:
        """Return people with their groups, by entry id; who cannot be read is left out."""
        above_of = store.groups_of([row.pk for row in rows])
        direct = set().union(*above_of.values())
        further = store.above_of(direct)
        self._learn(direct.union(*further.values()))
        found: dict[str, Person] = {}
        for row in rows:
            try:
                person = self._built.get(row.entry_id) or self.build(
                    row.parent, row.rdn, mapping.read(row.attributes)
                )
            except DirectoryError:
                continue
            pks = above_of[row.pk].union(*(further[group] for group in above_of[row.pk]))
            groups = sorted(
                (self._groups[pk] for pk in pks if pk in self._groups),
                key=lambda one: (one.name, one.entry_uuid),
            )
            found[row.entry_id] = replace(person, groups=tuple(groups)) if groups else person
        return found

    def _learn(self, pks: Collection[int]) -> None:
        for row in store.load(self._source.name, pks=[pk for pk in pks if pk not in self._groups]):
            self._groups[row.pk] = Group(row.entry_id, self._tree.dn(row.parent, row.rdn), row.name)

    def place_again(self, rows: Sequence[Row]) -> dict[str, int]:
        """Ask for the offices of people again and store those that are others; return how offices grew."""
        by: Counter[str] = Counter()
        for row in rows:
            try:
                person = self.build(row.parent, row.rdn, mapping.read(row.attributes))
            except DirectoryError:
                continue
            office = self._engine._effects.office_of(person)
            if office != row.office:
                store.set_office(row.pk, office)
                by[row.office] -= 1
                by[office] += 1
        return by

    def tell(self, events: Sequence[Intended], affected: Collection[int], now: datetime) -> int:
        """Hand events to the service, ends of access first, then people whose groups changed; return how many."""
        count = 0
        intended = {event.entry_id for event in events}
        for chunk in store.chunks(self._events(events, affected, intended), EVENTS_AT_ONCE):
            count += self._hand_over(chunk, now)
        return count

    def _events(
        self, events: Sequence[Intended], affected: Collection[int], intended: Collection[str]
    ) -> Iterator[Intended]:
        yield from events
        for chunk in store.chunks(sorted(affected), EVENTS_AT_ONCE):
            for row in store.load(self._source.name, pks=chunk):
                if row.entry_id not in intended:
                    yield Intended(Happening.CHANGED, row.entry_id)

    def _hand_over(self, chunk: Sequence[Intended], now: datetime) -> int:
        name = self._source.name
        rows = {row.entry_id: row for row in store.load(name, entry_ids=[one.entry_id for one in chunk])}
        # Who is held hears nothing; who left has no description.
        described = self.people(
            [
                rows[one.entry_id]
                for one in chunk
                if one.happening is not Happening.LEFT and one.entry_id in rows
            ]
        )
        told = []
        for one in chunk:
            row = rows.get(one.entry_id)
            if row is None or row.held is not None:
                continue
            if one.happening is Happening.LEFT:
                told.append(PersonEvent(one.happening, name, one.entry_id, None, one.is_inferred))
            elif not row.is_gone and one.entry_id in described:
                told.append(
                    PersonEvent(one.happening, name, one.entry_id, described[one.entry_id], one.is_inferred)
                )
        if told:
            self._engine._effects.apply(told, now)
        return len(told)
