"""Accounts made what a directory says: who exists, under which name, at which office, with which roles.

For one person at a sign-in and for thousands after a reading of the whole directory it is the same code: every
step reads all it needs in one statement, and writes what differs in one. Called inside the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from directory.service import AccountStatus, Person, owned_by_the_service
from iam.access import services as access
from iam.access.models import Assignment, Office, Posting, Role
from iam.access.placement import Right
from iam.accounts.models import DirectoryLink, User
from iam.audit.facts import RequestFacts
from iam.audit.record import Event, Outcome, record_all
from iam.audit.tags import Action

from .locks import set_account_end
from .people import DIRECTORY_REASONS, close_accounts
from .rights import right_event
from .rules import Rules

# What a directory owns of an account; everything else is ours (docs/directories.md has the table).
DESCRIBED = ("name_latin", "name_arabic", "email", "telephone", "title_ar", "title_fr", "title_en")


def directory_source(name: str) -> str:
    """Return what `source` of an assignment says when a directory's group gave it."""
    return f"directory:{name}"


@dataclass(frozen=True, slots=True)
class Admission:
    """One batch of people of one directory, each once. `admit` does everything and returns the accounts by entry id."""

    source: str
    rules: Rules
    now: datetime
    facts: RequestFacts

    def admit(self, people: Sequence[Person]) -> dict[str, User]:
        """Make the accounts of these entries what the directory says now. Idempotent.

        Joined by (source, entry id) and nothing else. A login name that another entry had is released from it
        first: the new holder is another person and inherits nothing. Somebody whom the directory does not let act
        has an account, but a closed one. Writes nothing but the time of the look when nothing changed.
        """
        links = self._links(person.entry_uuid for person in people)
        self._release_logins(people, links)
        users = {entry_id: link.user for entry_id, link in links.items()}
        self._relink(people, links)
        newcomers = [person for person in people if person.entry_uuid not in users]
        if newcomers:
            users |= self._create(newcomers)
        may_act: list[Person] = []
        may_not: list[Person] = []
        for person in people:
            closed = person.standing.at(self.now) is AccountStatus.DISABLED
            (may_not if closed else may_act).append(person)
        close_accounts(
            [users[person.entry_uuid] for person in may_not],
            reason="disabled_in_directory",
            actor=self.actor,
            now=self.now,
            facts=self.facts,
        )
        self._describe(may_act, users)
        self._limit(people, links, users)
        self._reopen([users[person.entry_uuid] for person in may_act])
        homes = self._settle(may_act, users)
        self._reconcile(may_act, users, homes)
        return users

    @property
    def actor(self) -> str:
        """Return who did it, for the audit."""
        return f"system:{directory_source(self.source)}"

    # Any: the other fields of an Event
    def _event(self, action: Action, user: User, outcome: Outcome = Outcome.SUCCESS, **said: Any) -> Event:
        """Return an event about one person of this batch."""
        return Event(
            action,
            outcome,
            actor=self.actor,
            now=self.now,
            object=f"person:{user.sub}",
            request_id=self.facts.request_id,
            **said,
        )

    # -- who is who ---------------------------------------------------------------------------------------------

    def _links(self, entry_ids: Iterable[str]) -> dict[str, DirectoryLink]:
        rows = (
            DirectoryLink.objects.select_for_update(of=("self",))
            .select_related("user")
            .filter(source=self.source, entry_uuid__in=sorted(set(entry_ids)))
            .order_by("pk")  # one order for everybody: two batches cannot wait for each other in a circle
        )
        return {row.entry_uuid: row for row in rows}

    def _release_logins(self, people: Sequence[Person], links: Mapping[str, DirectoryLink]) -> None:
        """Take the names from whoever had them: names are given again, identities are not (A25)."""
        moved = [
            person.login
            for person in people
            if (link := links.get(person.entry_uuid)) is None or not link.active or link.login != person.login
        ]
        if not moved:
            return
        holders = DirectoryLink.objects.select_related("user").filter(
            source=self.source, login__in=moved, active=True
        )
        # Who is in this batch gets a name of their own in a moment: two who exchange their names lose nothing.
        here = {person.entry_uuid for person in people}
        gone = [holder for holder in holders if holder.entry_uuid not in here]
        waiting = [link.pk for link in links.values() if link.login in set(moved) and link.active]
        DirectoryLink.objects.filter(pk__in=[*waiting, *(holder.pk for holder in gone)]).update(active=False)
        for link in links.values():
            link.active = link.active and link.pk not in set(waiting)
        record_all(
            self._event(
                Action.LOGIN_RELEASE,
                holder.user,
                reason="name_given_to_another_entry",
                details={"login": holder.login},
            )
            for holder in gone
        )
        close_accounts(
            [holder.user for holder in gone],
            reason="entry_replaced",
            actor=self.actor,
            now=self.now,
            facts=self.facts,
        )

    def _relink(self, people: Sequence[Person], links: Mapping[str, DirectoryLink]) -> None:
        changed = []
        for person in people:
            link = links.get(person.entry_uuid)
            if link is None:
                continue
            said = (person.login, person.dn, True, None)
            if (link.login, link.dn, link.active, link.gone_at) != said:
                link.login, link.dn, link.active, link.gone_at = said
                changed.append(link)
        DirectoryLink.objects.filter(pk__in=[link.pk for link in links.values()]).update(checked_at=self.now)
        if changed:
            DirectoryLink.objects.bulk_update(changed, ["login", "dn", "active", "gone_at"], batch_size=500)

    def _create(self, people: Sequence[Person]) -> dict[str, User]:
        try:
            with transaction.atomic():
                users = User.objects.bulk_create(
                    User(
                        created_at=self.now,
                        language=person.language,
                        valid_until=person.standing.ends_at,
                        **{name: getattr(person, name) for name in DESCRIBED},
                    )
                    for person in people
                )
                DirectoryLink.objects.bulk_create(
                    DirectoryLink(
                        user=user,
                        source=self.source,
                        entry_uuid=person.entry_uuid,
                        login=person.login,
                        dn=person.dn,
                        created_at=self.now,
                        checked_at=self.now,
                        ends_at=person.standing.ends_at,
                    )
                    for user, person in zip(users, people, strict=True)
                )
        except IntegrityError:
            # A parallel first sign-in of the same entry was faster; its account is the account.
            if len(people) > 1:
                return {one: user for person in people for one, user in self._create_or_find(person).items()}
            return {people[0].entry_uuid: self._find(people[0])}
        record_all(
            self._event(
                Action.PERSON_CREATE,
                user,
                method=f"until {user.valid_until.isoformat()}" if user.valid_until else "",
                details={"login": person.login, "name": person.name_latin or person.name_arabic},
            )
            for user, person in zip(users, people, strict=True)
        )
        return {person.entry_uuid: user for user, person in zip(users, people, strict=True)}

    def _create_or_find(self, person: Person) -> dict[str, User]:
        found = self._links([person.entry_uuid])
        if found:
            return {person.entry_uuid: found[person.entry_uuid].user}
        return self._create([person])

    def _find(self, person: Person) -> User:
        return (
            DirectoryLink.objects.select_related("user")
            .get(source=self.source, entry_uuid=person.entry_uuid)
            .user
        )

    # -- what they are called -------------------------------------------------------------------------------------

    def _describe(self, people: Sequence[Person], users: Mapping[str, User]) -> None:
        changed: dict[UUID, tuple[User, list[str]]] = {}
        ours = owned_by_the_service(self.source)
        for person in people:
            user = users[person.entry_uuid]
            said = {name: getattr(person, name) for name in DESCRIBED}
            said["language"] = person.language or user.language
            for name in ours:
                del said[name]
            names = [name for name, value in said.items() if getattr(user, name) != value]
            for name in names:
                setattr(user, name, said[name])
            if names:
                changed[user.pk] = (user, names)
        if not changed:
            return
        User.objects.bulk_update(
            [user for user, _ in changed.values()], [*DESCRIBED, "language"], batch_size=500
        )
        record_all(
            self._event(Action.PERSON_CHANGE, user, method=", ".join(names))
            for user, names in changed.values()
            if user.created_at != self.now
        )

    def _limit(
        self, people: Sequence[Person], links: Mapping[str, DirectoryLink], users: Mapping[str, User]
    ) -> None:
        """Let accounts end when the directory says so. What it says again does not undo what was decided here since."""
        for person in people:
            link, ends_at = links.get(person.entry_uuid), person.standing.ends_at
            if link is None or link.ends_at == ends_at:
                continue
            DirectoryLink.objects.filter(pk=link.pk).update(ends_at=ends_at)
            user = users[person.entry_uuid]
            if user.valid_until != ends_at:
                set_account_end(
                    user,
                    ends_at,
                    reason="said_by_the_directory",
                    actor=self.actor,
                    now=self.now,
                    facts=self.facts,
                )
                user.valid_until = ends_at

    def _reopen(self, users: Sequence[User]) -> None:
        """Open again what the directory closed; what somebody here closed stays closed whatever it says."""
        closed = [user for user in users if not user.is_active and user.inactive_reason in DIRECTORY_REASONS]
        if not closed:
            return
        User.objects.filter(pk__in=[user.pk for user in closed]).update(is_active=True, inactive_reason="")
        for user in closed:
            user.is_active, user.inactive_reason = True, ""
        record_all(
            self._event(Action.PERSON_REACTIVATE, user, reason="active_in_directory") for user in closed
        )

    # -- where they work ------------------------------------------------------------------------------------------

    def _settle(self, people: Sequence[Person], users: Mapping[str, User]) -> dict[UUID, Office | None]:
        """Make the office that the rules give everybody's home; return the homes by account."""
        current = {
            row.person_id: row
            for row in Posting.objects.select_related("office").filter(
                person__in=[users[person.entry_uuid].pk for person in people],
                kind=Posting.Kind.HOME,
                valid_until=None,
            )
        }
        homes: dict[UUID, Office | None] = {}
        ended: list[int] = []
        begun: list[Posting] = []
        events: list[Event] = []
        moved: list[User] = []
        for person in people:
            user = users[person.entry_uuid]
            office, why, is_alarm = self.rules.home(person)
            homes[user.pk] = office
            held = current.get(user.pk)
            before, after = held.office.code if held else None, office.code if office else None
            if before != after:
                if held is not None:
                    ended.append(held.pk)
                    moved.append(user)
                if office is not None:
                    begun.append(access.home(user, office, directory_source(self.source), self.now))
                events.append(
                    self._event(
                        Action.POSTING_CHANGE,
                        user,
                        office=after or "",
                        method=f"{before or 'none'} to {after or 'none'}",
                        reason=why,
                    )
                )
            if is_alarm and (before != after or user.created_at == self.now):
                events.append(
                    self._event(
                        Action.OFFICE_MISSING,
                        user,
                        outcome=Outcome.ERROR,
                        reason="default_office" if office else "no_mapping",
                        office=after or "",
                    )
                )
        access.move_homes(ended, begun, self.now)
        self._end_access_tokens(moved)
        record_all(events)
        return homes

    # -- what they hold -------------------------------------------------------------------------------------------

    def _reconcile(
        self, people: Sequence[Person], users: Mapping[str, User], homes: Mapping[UUID, Office | None]
    ) -> None:
        """Begin what the groups newly give, end what they no longer give; touch nothing of another source."""
        source = directory_source(self.source)
        accounts = {users[person.entry_uuid].pk: users[person.entry_uuid] for person in people}
        held: dict[UUID, list[Assignment]] = defaultdict(list)
        rows = (
            Assignment.objects.select_related("role", "role__application", "office")
            .filter(person__in=list(accounts), source=source)
            .filter(access.in_force(self.now))
        )
        for row in rows:
            held[row.person_id].append(row)
        ending: list[Assignment] = []
        beginning: list[Assignment] = []
        for person in people:
            user = users[person.entry_uuid]
            wanted = set(self.rules.rights(person, homes[user.pk]))
            for row in held[user.pk]:
                right = Right(row.role_id, row.office_id, row.subtree)
                if right in wanted:
                    wanted.discard(right)
                else:
                    ending.append(row)
            beginning += [
                self._assignment(user, right, homes[user.pk]) for right in sorted(wanted, key=_order)
            ]
        access.end_assignments(ending, self.now)
        access.begin_assignments(beginning)
        self._end_access_tokens([accounts[row.person_id] for row in ending])
        record_all(
            right_event(action, self.actor, accounts[row.person_id], row, "", self.facts, self.now)
            for action, rows_ in ((Action.ROLE_REVOKE, ending), (Action.ROLE_ASSIGN, beginning))
            for row in rows_
        )

    def _assignment(self, user: User, right: Right, home: Office | None) -> Assignment:
        role: Role = self.rules.role_by_id[right.role_id]
        office = home if home and home.pk == right.office_id else self.rules.office_by_id[right.office_id]
        return Assignment(
            person=user,
            role=role,
            office=office,
            subtree=right.subtree,
            valid_from=self.now,
            source=directory_source(self.source),
            created_at=self.now,
        )

    def _end_access_tokens(self, users: Sequence[User]) -> None:
        if users:
            User.objects.filter(pk__in={user.pk for user in users}).update(generation=F("generation") + 1)


def _order(right: Right) -> tuple[int, int, bool]:
    return right.role_id, right.office_id, right.subtree
