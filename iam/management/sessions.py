"""End the sign-in sessions whose time is over: what `deliver` and `housekeeping` both do, whichever comes first."""

from datetime import datetime, timedelta

from django.conf import settings

from iam.accounts.services import end_idle_sessions, end_sessions_that_ran_out


def end_sessions_that_are_over(now: datetime) -> int:
    """End sessions that ran out or idled out; return how many. Idempotent, safe beside itself."""
    idle = timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES)
    return end_sessions_that_ran_out(now) + end_idle_sessions(now, idle)
