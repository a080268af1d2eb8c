"""One reading on its way into the tables: placed, planned, linked, told, in the caller's transaction."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from directory import entries, links, mapping, names, store, stored_links, stored_removals
from directory.changes import Completeness, Effects, Happening, Kind
from directory.config import Source
from directory.entries import Person, RawEntry
from directory.errors import DirectoryError
from directory.gather import Gathered, Read
from directory.plan import Intended, Known, Plan, Told, Wait, decide_plan
from directory.standing import AccountStatus
from directory.store import Place
from directory.teller import Teller
from directory.tree import Tree

logger = logging.getLogger(__name__)

GROUPS_AT_ONCE = 200  # whose stored links are in memory together
# People of one batch that are kept as they were built, instead of being built again for the service: some 20 MB.
REMEMBERED_MAX = 10_000


class Overtaken(Exception):
    """Somebody else applied a batch since the reading began: read again."""


class Batch:
    """One reading on its way into the tables."""

    def __init__(
        self, source: Source, effects: Effects, clock: Callable[[], datetime], gathered: Gathered, missing: Sequence[str], since: bytes | None, *, is_rehearsal: bool
    ) -> None:  # fmt: skip
        self._source = source
        self._name = source.name
        self._effects = effects
        self._clock = clock
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
        now = self._clock()
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
        teller = Teller(self._source, self._effects, tree)
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
            stored_removals.pressure(name, now, rules.window, counts_groups=bool(self._missing))
            if might_remove
            else stored_removals.no_pressure()
        )
        self.plan = plan = decide_plan(rules, known, told, said_gone, self._missing, holders, pressure)

        written = plan.rows
        store.write_entries(name, written, set(numbers.values()), state.version + 1)
        settle_removals(name, plan, gathered.began_at, now)
        stored_removals.count_people(name, _moves(known, written))
        renamed = [one for one in written if _is_renamed(known.get(one.entry_id), one)]
        stored_links.forget_names(
            [one.pk for one in renamed if one.kind is not Kind.UNIT and one.entry_id in known]
        )
        store.add_rechecks(name, [known[one].pk for one in plan.moved_units if known[one].kind is Kind.UNIT])
        affected = self._link(tree, known, pks, written, renamed, is_complete=is_complete)
        joining = who_may_join(name)
        if not self._is_rehearsal:
            if plan.waiting:
                self._effects.held(name, [one.holding for one in plan.waiting], now)
            self.told = teller.tell([*plan.events, *joining], affected, now)
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
        self, tree: Tree, teller: Teller, known: Mapping[str, Known], pks: Mapping[str, int], now: datetime
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
                        acts(person, now), person.standing.ends_at, self._effects.office_of(person),
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
            stored, unresolved = stored_links.edges_of(some), stored_links.unresolved_of(some)
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
        for one in renamed if stored_links.has_unresolved() else ():
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
        affected = links.relink(self._name, self.links, other_names | set(gone))
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
            base = base_id(self._source, gathered)
            if base:
                changes["base_id"] = base
            if not state.is_new:
                changes["drift"] = {
                    "entries": len(self.plan.rows),
                    "links": self.links.count,
                    "missing": len(self._missing),
                }
            stored_removals.recount_people(self._name)
            if not self._is_rehearsal:
                self._effects.know_units(self._name, _unit_names(store.units(self._name).values()))
        store.advance(self._name, **changes)


def settle_removals(
    name: str, plan: Plan, seen_at: datetime, now: datetime, *, is_approved: bool = False
) -> None:
    """Write down who waits, who waits no longer, and who went."""
    stored_removals.release(name, plan.released)
    stored_removals.hold(name, plan.waiting, now)
    events = {event.entry_id: event for event in plan.events}
    stored_removals.note_removals(
        name,
        [(removal, events[removal.entry_id]) for removal in plan.removed],
        seen_at,
        now,
        is_approved=is_approved,
    )
    store.mark_gone(name, plan.leavers, now)
    stored_removals.count_people(name, Counter(_offices(plan, plan.leavers, -1)))


def who_may_join(name: str) -> list[Intended]:
    """Return who waited for a login name that is nobody else's now; they wait no longer."""
    waiting = stored_removals.waiting_for_names(name)
    if not waiting:
        return []
    taken = store.holders(name, set(waiting.values()))
    free: dict[str, str] = {}
    for entry_id, login in waiting.items():
        if login not in taken:
            free.setdefault(login, entry_id)
    stored_removals.release(name, list(free.values()))
    return [Intended(Happening.JOINED, entry_id) for entry_id in free.values()]


def acts(person: Person, now: datetime) -> bool:
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


def base_id(source: Source, gathered: Gathered) -> str:
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
