"""`client invite`, `invitations`, `uninvite`."""

import re

import pytest

from iam.audit.models import AuditEvent
from iam.oauth.models import InitialAccessToken
from tests.organisation import application

pytestmark = pytest.mark.django_db


def test_invite_prints_the_token_once_and_keeps_its_bounds(run) -> None:
    application("mail")

    ran = run(
        "client", "invite", "The wiki team", "--application", "mail", "--scope", "openid roles", "--uses", "2"
    )

    token = re.search(r"iat_[A-Za-z0-9_-]{43}", ran.out)
    assert token, ran
    row = InitialAccessToken.objects.get()
    assert (row.label, row.uses_left, row.scopes, row.profile) == (
        "The wiki team",
        2,
        ["openid", "roles"],
        "standard",
    )
    assert row.grant_types == ["authorization_code", "refresh_token"]
    assert (row.expires_at - row.created_at).days == 7
    assert AuditEvent.objects.get(action="administrator:invitation:create").object == f"invitation:{row.pk}"
    listed = run("client", "invitations")
    assert "The wiki team" in listed.out
    assert "2 left" in listed.out
    assert token[0] not in listed.out


def test_uninvite_takes_the_uses_that_are_left_once(run) -> None:
    application("mail")
    run("client", "invite", "x", "--application", "mail")
    number = str(InitialAccessToken.objects.get().pk)

    assert run("client", "uninvite", number).out.strip() == f"invitation {number}: ended"
    assert "no invitation" in run("client", "uninvite", number).failure
    assert "used up or ended" in run("client", "invitations").out
    assert AuditEvent.objects.filter(action="administrator:invitation:end").count() == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--application", "none"), "there is no 'none'"),
        (("--application", "mail", "--scope", "admin"), "Scope: 'admin'"),
        (("--application", "mail", "--grant-type", "password"), "Grant type: 'password'"),
        (("--application", "mail", "--uses", "0"), "Uses must be"),
        (("--application", "mail", "--days", "91"), "Days must be"),
        (("--application", "mail", "--days", "99999999999"), "Nothing was made"),
        (("--application", "mail", "--profile", "lax"), "Profile: 'lax'"),
    ],
)
def test_invite_says_in_one_sentence_what_cannot_be(run, more: tuple[str, ...], sentence: str) -> None:
    application("mail")

    ran = run("client", "invite", "x", *more)

    assert ran.failure.startswith("Nothing was made. ")
    assert sentence in ran.failure
    assert not InitialAccessToken.objects.exists()
