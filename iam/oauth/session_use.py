"""Which sign-in sessions are in use by applications: those in which one was given tokens."""

from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from iam.accounts.models import LoginSession

from .models import SessionClient


def without_those_in_use(rows: "QuerySet[LoginSession]", since: datetime) -> "QuerySet[LoginSession]":
    """Leave out the sessions in which an application was given tokens since an instant (`store.sid` notes it)."""
    used = SessionClient.objects.filter(session_id=OuterRef("pk"), used_at__gte=since)
    return rows.exclude(Exists(used))
