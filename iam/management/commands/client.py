"""`manage.py client`: create, change and look at the provider's clients."""

import getpass
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.errors import IAMError
from iam.management import detail_types, invitations, refusals
from iam.oauth.clients import Applied, apply_all, describe, lacks
from iam.oauth.models import Client
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.options import stored_options
from iam.oauth.secret_rotation import OVERLAP_MAX, end_old_secret, rotate_secret

# What a profile is for, to somebody who does not know its name.
PROFILE_TITLES = {
    "standard": "RFC 9700, what every application needs",
    "high": "FAPI 2.0 with signed messages, for payments and the like",
}


class Command(BaseCommand):
    """Create, change and look at clients; invite others to register theirs."""

    help = "Create or change clients from a JSON array (names of RFC 7591), list them, show or check one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare apply, list, show and check, and the invitations."""
        actions = parser.add_subparsers(dest="action", required=True)
        apply = actions.add_parser("apply", help="create or change clients from a file; all or none")
        apply.add_argument("file", metavar="FILE.json", help="a JSON array; - reads standard input")
        apply.add_argument("--json", action="store_true", help="print what was done as JSON")
        actions.add_parser("list", help="list the clients")
        show = actions.add_parser("show", help="print one client's metadata, without its secret")
        show.add_argument("client_id")
        check = actions.add_parser(
            "check", help="say what a client lacks for each profile; status 1 when it does not hold its own"
        )
        check.add_argument("client_id")
        check.add_argument("--json", action="store_true", help="print it as JSON")
        rotate = actions.add_parser("rotate-secret", help="give a client a new secret and print it once")
        rotate.add_argument("client_id")
        rotate.add_argument(
            "--overlap",
            type=int,
            metavar="HOURS",
            help="keep the old one good for so long; else it ends at once",
        )
        ended = actions.add_parser("end-old-secret", help="end an old secret before its overlap is over")
        ended.add_argument("client_id")
        invitations.add_arguments(actions)
        refusals.add_arguments(actions)
        detail_types.add_arguments(actions)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        match options["action"]:
            case "apply":
                self._apply(options["file"], as_json=options["json"])
            case "list":
                self._list()
            case "show":
                self._show(options["client_id"])
            case "check":
                self._check(options["client_id"], as_json=options["json"])
            case "rotate-secret":
                self._rotate_secret(options["client_id"], options["overlap"])
            case "end-old-secret":
                if not end_old_secret(options["client_id"], datetime.now(UTC), _operator()):
                    raise CommandError(f"{options['client_id']!r} has no old secret that is still good.")
                self.stdout.write(f"{options['client_id']}: the old secret has ended")
            case refusals.ACTION:
                refusals.handle(options, self.stdout)
            case "detail-type":
                detail_types.handle(options, self.stdout)
            case action if action in invitations.ACTIONS:
                invitations.handle(action, options, self.stdout)

    def _apply(self, file: str, *, as_json: bool) -> None:
        try:
            text = self._read(file)
            items = json.loads(text)
        except OSError as problem:
            raise CommandError(f"{file} cannot be read: {problem.strerror}.") from problem
        except ValueError as problem:
            raise CommandError(f"{file} is not JSON: {problem}.") from problem
        try:
            applied = apply_all(items, datetime.now(UTC), _operator())
        except MetadataError as problem:
            raise CommandError(
                f"Nothing was changed. {str(problem)[0].upper()}{str(problem)[1:]}."
            ) from problem
        if as_json:
            self.stdout.write(json.dumps([_as_json(one) for one in applied], indent=2, ensure_ascii=False))
            return
        for one in applied:
            self._print(one)

    def _rotate_secret(self, client_id: str, hours: int | None) -> None:
        now = datetime.now(UTC)
        longest = int(OVERLAP_MAX.total_seconds() // 3600)
        if hours is not None and not 1 <= hours <= longest:
            raise CommandError(f"--overlap must be 1 to {longest} hours.")
        overlap = None if hours is None else timedelta(hours=hours)
        try:
            secret = rotate_secret(client_id, overlap, now, _operator())
        except IAMError as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"client_secret (shown once, keep it now): {secret}")
        self.stdout.write(
            f"The old secret is good until {now + overlap:%Y-%m-%d %H:%M} UTC; `client list` shows whether it is still used."
            if overlap
            else "The old secret, and every access token that was got with it, ended just now."
        )

    def _read(self, file: str) -> str:
        if file == "-":
            import sys

            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")

    def _print(self, one: Applied) -> None:
        word = "created" if one.created else ("changed" if one.changes else "unchanged")
        self.stdout.write(f"{one.client_id}: {word}")
        for name, before, after in one.changes:
            if one.created:
                self.stdout.write(f"  + {name}: {_shown(after)}")
            else:
                self.stdout.write(f"  ~ {name}: {_shown(before)} -> {_shown(after)}")
        if one.generated_secret:
            self.stdout.write(f"  client_secret (shown once, keep it now): {one.generated_secret}")

    def _list(self) -> None:
        for client in Client.objects.select_related("application").order_by("client_id"):
            state = "" if client.enabled else "  (switched off)"
            state += _old_secret(client)
            application = client.application.code if client.application else "-"
            self.stdout.write(
                f"{client.client_id:32} {application:20} {client.token_endpoint_auth_method}{state}"
            )

    def _show(self, client_id: str) -> None:
        self.stdout.write(json.dumps(describe(_named(client_id)), indent=2, ensure_ascii=False))

    def _check(self, client_id: str, *, as_json: bool) -> None:
        client = _named(client_id)
        own = stored_options(client.options).profile
        found = lacks(client)
        if as_json:
            shown = {"client_id": client_id, "profile": own, "missing": found}
            self.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False))
        else:
            self.stdout.write(f"{client_id} ({client.name}): its profile is {own}.")
            for profile, sentences in found.items():
                self._print_profile(profile, sentences)
        if found[own]:
            raise CommandError(f"{client_id} does not hold its own profile, {own}: see what is missing.")

    def _print_profile(self, profile: str, sentences: list[str]) -> None:
        count = {0: "nothing is", 1: "1 thing is"}.get(len(sentences), f"{len(sentences)} things are")
        self.stdout.write(f"\n{profile} ({PROFILE_TITLES[profile]}): {count} missing.")
        for number, sentence in enumerate(sentences, 1):
            self.stdout.write(f"  {number}. {sentence}")


def _named(client_id: str) -> Client:
    client = Client.objects.select_related("application").filter(client_id=client_id).first()
    if client is None:
        raise CommandError(f"There is no client {client_id!r}; `client list` names them.")
    return client


def _operator() -> str:
    return f"operator:{getpass.getuser()}"


def _old_secret(client: Client) -> str:
    end, used = client.old_secret_expires_at, client.old_secret_used_at
    if not client.old_secret_digest or end is None or end <= datetime.now(UTC):
        return ""
    seen = f"last used {used:%Y-%m-%d %H:%M} UTC" if used else "not used since"
    return f"  (old secret good until {end:%Y-%m-%d %H:%M} UTC, {seen})"


def _shown(value: Any) -> str:  # Any: JSON
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _as_json(one: Applied) -> dict[str, Any]:
    return {
        "client_id": one.client_id,
        "created": one.created,
        "changes": [{"name": name, "before": before, "after": after} for name, before, after in one.changes],
        **({"client_secret": one.generated_secret} if one.generated_secret else {}),
    }
