"""A form that was sent twice: the second copy meets what the first one did, and is no guess."""

import copy
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

import mfa.service as mfa
from iam.accounts.models import User
from iam.accounts.services import open_session
from iam.audit.facts import RequestFacts
from iam.errors import Conflict
from iam.login import steps

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
FACTS = RequestFacts("r-1", "192.0.2.7")


@pytest.mark.django_db
def test_a31_code_that_its_own_copy_used_is_a_conflict_and_no_wrong_code():
    person = User.objects.create(name_latin="A", name_arabic="ا", created_at=NOW)
    mfa.import_totp(str(person.pk), SECRET, NOW)
    later = NOW + timedelta(minutes=5)
    session, _ = open_session(person, later, timedelta(hours=1))
    as_both_read_it = copy.copy(session)
    code = pyotp.TOTP(SECRET).at(later)

    assert isinstance(steps.try_code(session, code, recovery=False, facts=FACTS, now=later), steps.SignedIn)

    with pytest.raises(Conflict):
        steps.try_code(as_both_read_it, code, recovery=False, facts=FACTS, now=later)
    assert isinstance(steps.try_code(session, code, recovery=False, facts=FACTS, now=later), steps.Wrong)
