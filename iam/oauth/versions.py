"""The version of what workers remember, raised in the transaction that changes it."""

import secrets

from django.db.models import F

from .models import Installation


def _another() -> int:
    """Return a number that was never there: after a rollback, a counter would come by the same one twice."""
    return secrets.randbits(62)


def touch() -> None:
    """Make every worker read clients, keys, roles, applications and offices again. Call it inside the change's transaction."""
    Installation.objects.filter(pk=1).update(version=_another())


def end_every_token() -> None:
    """Raise the installation's counter: no access token made before is accepted any more."""
    Installation.objects.filter(pk=1).update(generation=F("generation") + 1, version=_another())
