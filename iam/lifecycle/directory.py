"""Joiner, mover, leaver, as the directory says: at a sign-in, and when its stream says that something changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import transaction

from directory.service import AccountStatus, Happening, Holding, Person, PersonEvent
from directory.service import has_ended as directory_has_ended
from iam.access.models import Office, OfficeMapping
from iam.accounts.models import DirectoryLink, User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from .admission import Admission, directory_source
from .people import close_accounts
from .rules import Rules

# People in one statement: enough to make statements few, and far below what SQLite takes.
PEOPLE_AT_ONCE = 2_000


@transaction.atomic
def admit_from_directory(person: Person, now: datetime, facts: RequestFacts = NO_REQUEST) -> User:
    """Make the account of a directory entry what the directory says now; see Admission.admit."""
    users = Admission(person.source, Rules.load(person.source), now, facts).admit([person])
    user = users[person.entry_uuid]
    user.refresh_from_db()
    return user


def home_office_of(person: Person) -> Office | None:
    """Return the office that an entry stands for, by the administrator's rules."""
    return Rules.load(person.source).home(person)[0]


def explain(person: Person) -> tuple[str, str, list[str]]:
    """Return the code of the office that an entry stands for, why, and the roles that its groups give, in words."""
    rules = Rules.load(person.source)
    home, why, _ = rules.home(person)
    given = rules.rights(person, home)
    offices = Office.objects.in_bulk({right.office_id for right in given})
    return (
        home.code if home else "",
        why,
        sorted(
            f"{rules.role_by_id[right.role_id].code} in {offices[right.office_id].code}"
            f"{' and below' if right.subtree else ''}"
            for right in given
        ),
    )


def has_ended(person: Person) -> bool:
    """Say whether the stream has closed, or is about to close, the account of an entry that was read just now.

    For callers inside the transaction of a sign-in: whoever applies the stream waits for it from here on, and closes
    afterwards what it opened. What was read before the stream said otherwise, or from a copy of the directory that
    lags, must not open again what the stream closed: nobody would close it a second time.
    """
    list(
        DirectoryLink.objects.select_for_update(of=("self",))
        .filter(source=person.source, entry_uuid=person.entry_uuid)
        .values_list("pk")
    )
    return directory_has_ended(person)


@transaction.atomic
def refuse_disabled(person: Person, now: datetime, facts: RequestFacts = NO_REQUEST) -> User | None:
    """Close the account of an entry that the directory no longer lets act; return it, None when there is none.

    A lock that passes by itself, and an end that has come, close nothing: the first refuses a sign-in only, the
    second is a condition of every statement.
    """
    link = (
        DirectoryLink.objects.select_related("user")
        .filter(source=person.source, entry_uuid=person.entry_uuid)
        .first()
    )
    if link is None:
        return None
    if person.standing.at(now) is AccountStatus.DISABLED:
        close_accounts(
            [link.user],
            reason="disabled_in_directory",
            actor=f"system:{directory_source(person.source)}",
            now=now,
            facts=facts,
        )
        link.user.refresh_from_db()
    return link.user


class DirectoryEffects:
    """What the service does when a directory's stream says something; implements `directory.service.Effects`.

    Everything happens in the transaction of whoever calls, which is the one that stores the directory's cookie.
    """

    def __init__(self) -> None:
        self._rules: dict[str, Rules] = {}

    def office_of(self, person: Person) -> str:
        """Return the code of the office that the rules give an entry, "" for none."""
        office = self._rules_of(person.source).home(person)[0]
        return office.code if office else ""

    def apply(self, events: Sequence[PersonEvent], now: datetime) -> None:
        """Make accounts, rights and sessions what the events say: leaves and disables first. Idempotent."""
        self._rules.clear()  # an administrator may have changed them since the last batch
        leaving: dict[str, list[PersonEvent]] = defaultdict(list)
        staying: dict[str, list[Person]] = defaultdict(list)
        for event in events:
            if event.happening is Happening.LEFT:
                leaving[event.source].append(event)
            elif event.person is not None:
                staying[event.source].append(event.person)
        for source, left in leaving.items():
            for start in range(0, len(left), PEOPLE_AT_ONCE):
                _leave(source, left[start : start + PEOPLE_AT_ONCE], now)
        for source, people in staying.items():
            # Who may no longer act comes before who joins: a backlog must not delay a disable.
            ordered = sorted(people, key=lambda one: one.standing.at(now) is AccountStatus.ACTIVE)
            for start in range(0, len(ordered), PEOPLE_AT_ONCE):
                admission = Admission(source, self._rules_of(source), now, NO_REQUEST)
                admission.admit(ordered[start : start + PEOPLE_AT_ONCE])

    def know_units(self, source: str, units: Mapping[str, frozenset[str]]) -> None:
        """Let every rule that names a unit learn its id, where exactly one unit has that name."""
        for rule in OfficeMapping.objects.filter(source=source, unit_id="").exclude(ou=""):
            ids = units.get(rule.ou.casefold(), frozenset())
            if len(ids) == 1:
                OfficeMapping.objects.filter(pk=rule.pk, unit_id="").update(unit_id=next(iter(ids)))
        self._rules.pop(source, None)

    def held(self, source: str, holdings: Sequence[Holding], now: datetime) -> None:
        """Write down that people wait for an administrator, and why: one event for each reason."""
        by_reason: dict[str, list[Holding]] = defaultdict(list)
        for holding in holdings:
            by_reason[holding.reason].append(holding)
        for reason, some in by_reason.items():
            ids = [holding.removal.entry_id for holding in some]
            record(
                Event(
                    Action.REMOVAL_HOLD,
                    Outcome.REFUSED,
                    actor=f"system:{directory_source(source)}",
                    now=now,
                    object=f"directory:{source}",
                    reason="missing" if some[0].removal.is_inferred else "said",
                    method=f"{len(ids)} held: {reason}",
                    details={"entries": " ".join(ids[:12])},
                )
            )

    def refused(self, source: str, reason: str, people: int, now: datetime) -> None:
        """Write down that a reading was not believed."""
        record(
            Event(
                Action.READING_REFUSE,
                Outcome.REFUSED,
                actor=f"system:{directory_source(source)}",
                now=now,
                object=f"directory:{source}",
                method=f"{people} people would have gone: {reason}",
            )
        )

    def _rules_of(self, source: str) -> Rules:
        if source not in self._rules:
            self._rules[source] = Rules.load(source)
        return self._rules[source]


def _leave(source: str, events: Sequence[PersonEvent], now: datetime) -> None:
    """Close the accounts of entries that are gone. Soft: nothing is deleted, and what they held is remembered."""
    links = list(
        DirectoryLink.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(source=source, entry_uuid__in=[event.entry_id for event in events], gone_at=None)
        .order_by("pk")
    )
    DirectoryLink.objects.filter(pk__in=[link.pk for link in links]).update(active=False, gone_at=now)
    inferred = {event.entry_id for event in events if event.is_inferred}
    for reason, gone in (
        ("left_directory", [link.user for link in links if link.entry_uuid not in inferred]),
        ("missing_in_directory", [link.user for link in links if link.entry_uuid in inferred]),
    ):
        close_accounts(
            gone, reason=reason, actor=f"system:{directory_source(source)}", now=now, facts=NO_REQUEST
        )
