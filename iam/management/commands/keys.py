"""`manage.py keys`: look at the key ring, rotate as planned or at once, withdraw. Never prints a private half."""

import getpass
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.errors import IAMError
from iam.oauth import keyring
from iam.oauth.key_report import Report, build_report
from iam.oauth.protocol import key_ring
from iam.oauth.protocol.jose import ALGORITHMS, SigningUnavailable
from iam.oauth.protocol.key_ring import Withdrawal


class Command(BaseCommand):
    """Look at the key ring, rotate, withdraw."""

    help = "Signing keys: ensure that there are some, list, status, rotate, retire."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare ensure, list, status, rotate and retire."""
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("ensure", help="make an active key for every algorithm that has none")
        for name, text in (
            ("list", "list the keys, never their private halves, and which applications have the next ones"),
            ("status", "the same, and try each key"),
        ):
            actions.add_parser(name, help=text).add_argument(
                "--json", action="store_true", help="as JSON, for programs"
            )
        rotate = actions.add_parser(
            "rotate", help="publish a next key, which takes over by itself a day later; or replace at once"
        )
        rotate.add_argument("algorithm", nargs="?", choices=ALGORITHMS, help="one algorithm only")
        rotate.add_argument(
            "--emergency", action="store_true", help="sign with new keys at once, waiting for nobody"
        )
        when = rotate.add_mutually_exclusive_group()
        when.add_argument(
            "--withdraw-now", action="store_true",
            help="with --emergency: nothing signed by the old keys is believed any more (the default)",
        )  # fmt: skip
        when.add_argument(
            "--after-tokens-end", action="store_true",
            help="with --emergency: believe the old keys until the last token of theirs has ended",
        )  # fmt: skip
        where = rotate.add_mutually_exclusive_group()
        where.add_argument("--pkcs11", action="store_true", help="make the keys in the PKCS#11 token")
        where.add_argument("--database", action="store_true", help="make the keys in the database")
        retire = actions.add_parser("retire", help="withdraw a key that does not sign")
        retire.add_argument("kid")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        now, actor = datetime.now(UTC), f"operator:{getpass.getuser()}"
        try:
            match options["action"]:
                case "ensure":
                    self._ensure(now, actor)
                case "rotate":
                    self._rotate(options, now, actor)
                case "retire":
                    if not keyring.retire(options["kid"], now, actor):
                        raise CommandError(
                            f"{options['kid']!r} is not a key that can be withdrawn; see `keys list`."
                        )
                    self.stdout.write(f"{options['kid']}: withdrawn")
                case "list" | "status":
                    self._report(
                        build_report(now), as_json=options["json"], tried=options["action"] == "status"
                    )
        except (IAMError, SigningUnavailable) as problem:
            raise CommandError(str(problem)) from problem

    def _ensure(self, now: datetime, actor: str) -> None:
        for key in keyring.ensure(now, actor):
            self.stdout.write(f"{key.kid}: made, active, {key.algorithm}")
        problems = keyring.problems()
        if problems:
            raise CommandError("\n".join(problems))

    def _rotate(self, options: dict[str, Any], now: datetime, actor: str) -> None:
        chosen = [options["algorithm"]] if options["algorithm"] else list(ALGORITHMS)
        in_token = True if options["pkcs11"] else False if options["database"] else None
        if not options["emergency"]:
            if options["withdraw_now"] or options["after_tokens_end"]:
                raise CommandError("--withdraw-now and --after-tokens-end belong to --emergency.")
            for algorithm in chosen:
                self._begin(algorithm, now, actor, in_token)
            return
        withdrawal = Withdrawal.AFTER_TOKENS_END if options["after_tokens_end"] else Withdrawal.NOW
        for algorithm in chosen:
            made = keyring.rotate_at_once(algorithm, withdrawal, now, actor, in_token=in_token)
            if made is None:
                raise CommandError(
                    f"{algorithm}: another process changed the ring at this moment; see `keys list`, then say it again."
                )
            self.stdout.write(f"{made.kid}: made, signs {algorithm} from now on")
        self.stdout.write(
            "The old keys are withdrawn: nothing that they signed is believed."
            if withdrawal is Withdrawal.NOW
            else f"The old keys are withdrawn at {now + key_ring.RETIRING_EMERGENCY:%Y-%m-%d %H:%M:%S} UTC."
        )

    def _begin(self, algorithm: str, now: datetime, actor: str, in_token: bool | None) -> None:
        made = keyring.begin_rotation(algorithm, now, actor, in_token=in_token)
        if made is None:
            self.stdout.write(f"{algorithm}: a next key is published already; see `keys status`")
            return
        self.stdout.write(
            f"{made.kid}: made, next for {algorithm}; signs from {now + key_ring.OVERLAP:%Y-%m-%d %H:%M} UTC"
        )

    def _report(self, report: Report, *, as_json: bool, tried: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(asdict(report), default=str, indent=2))
        else:
            self._print_keys(report)
            self._print_applications(report)
        problems = [f"{key.kid} ({key.algorithm}): {key.problem}" for key in report.keys if key.problem]
        if tried and problems:
            raise CommandError("\n".join(problems))

    def _print_keys(self, report: Report) -> None:
        for key in report.keys:
            self.stdout.write(f"{key.algorithm:5}  {key.status:8}  {key.kid}  {key.place}")
            self.stdout.write(f"       {key.then}")
            if key.waits_for:
                self.stdout.write(f"       waits for {', '.join(key.waits_for)}")
            if key.problem:
                self.stdout.write(f"       CANNOT BE USED: {key.problem}")

    def _print_applications(self, report: Report) -> None:
        for reader in report.readers:
            word = "critical" if reader.critical else ""
            seen = f"{reader.last_at:%Y-%m-%d %H:%M} UTC" if reader.last_at else "never"
            self.stdout.write(f"{reader.client_id:32} {word:8}  keys last fetched: {seen}")
            if reader.lacks_active:
                self.stdout.write(
                    f"       LACKS THE ACTIVE KEY for {', '.join(reader.lacks_active)}: fails until it fetches"
                )
            if reader.lacks_next:
                self.stdout.write(f"       has not fetched the next key for {', '.join(reader.lacks_next)}")
        if report.unknown:
            self.stdout.write(
                f"{report.unknown} more: unknown, they read the common /jwks; an overlap of "
                f"{key_ring.OVERLAP.total_seconds() / 3600:.0f} hours covers them"
            )
        for secret in report.old_secrets:
            used = f"last used {secret.used_at:%Y-%m-%d %H:%M} UTC" if secret.used_at else "not used since"
            self.stdout.write(
                f"{secret.client_id:32} its OLD SECRET is good until {secret.expires_at:%Y-%m-%d %H:%M} UTC, {used}"
            )
