"""What of an entry counts: the same in every process, whatever is not ours left out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from directory import mapping
from directory.changes import Kind
from directory.config import Source
from directory.entries import RawEntry
from directory.mapping import Mapped

ROOT = Path(__file__).resolve().parents[3]
SOURCE = Source(
    name="hq", urls=("ldaps://h",), bind_dn="cn=svc,dc=x", bind_password="s", base_dn="dc=x"
)  # fmt: skip
PERSON = {"uid": (b"amina",), "cn": (b"Amina", b"A. Diallo"), "cn;lang-ar": ("أمينة".encode(),)}


def digest(attributes: dict[str, tuple[bytes, ...]], kind: Kind = Kind.PERSON) -> bytes:
    return Mapped(SOURCE).digest(kind, RawEntry(b"uid=amina,dc=x", attributes))


def test_digest_is_the_same_in_every_process():
    """Python orders sets anew in each process; a digest over that would make a new entry of everybody at each start."""
    code = (
        "from tests.unit.directory.test_mapping import PERSON, digest\n"
        "print(digest(PERSON).hex())"
    )  # fmt: skip
    said = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in range(1, 6)
    }  # fmt: skip

    assert len(said) == 1


@pytest.mark.parametrize(
    "same",
    [
        {**PERSON, "pwdfailuretime": (b"20261125100000Z",)},
        {**PERSON, "memberof": (b"cn=x",)},
        {**PERSON, "cn": (b"A. Diallo", b"Amina")},
    ],
    ids=["failed bind", "memberOf", "another order"],
)
def test_what_is_not_ours_changes_nothing(same):
    assert digest(same) == digest(PERSON)


@pytest.mark.parametrize(
    "other",
    [
        {**PERSON, "uid": (b"amina2",)},
        {**PERSON, "orgaccountstatus": (b"disabled",)},
        {**PERSON, "cn;lang-ar": (b"",)},
        {**PERSON, "cn": (b"AminaA. Diallo",)},
    ],
)
def test_what_is_ours_changes_the_digest(other):
    assert digest(other) != digest(PERSON)


def test_what_is_written_is_read_back_byte_for_byte():
    raw = {"uid": (b"a",), "cn": ("أمينة\x00é".encode(), b"\xff\xfe"), "entryuuid": (bytes(range(256)),)}

    text = Mapped(SOURCE).write(Kind.PERSON, RawEntry(b"uid=a,dc=x", raw))

    assert mapping.read(text.decode()) == raw
    assert b"\x00" not in text  # no database takes it
