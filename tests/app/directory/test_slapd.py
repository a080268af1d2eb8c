"""The directory server of `make run` and of these tests is as strict as a real one."""

import os
import pwd
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from deploy.demo import slapd, testca
from tests.app.directory.secretariat import (
    ADMIN,
    ADMIN_PASSWORD,
    BASE,
    CABINET,
    GENEVA,
    SERVICE,
    SERVICE_PASSWORD,
    password_of,
    source_of,
)

ALICE = f"uid=alice,{CABINET}"


def ldapsearch(server: slapd.Server, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ldapsearch", "-x", "-LLL", "-H", url or server.url, "-b", BASE, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "LDAPTLS_CACERT": str(server.ca_file)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 48),  # anonymous
        (["-D", ALICE, "-w", ""], 53),  # unauthenticated
        (["-D", ALICE, "-w", "wrong"], 49),
        (["-D", ALICE, "-w", password_of("alice")], 32),  # bound, and sees nothing
        (["-D", SERVICE, "-w", "wrong"], 49),
    ],
)
def test_slapd_shows_people_to_the_service_account_only(server, arguments, code):
    done = ldapsearch(server, *arguments)

    assert (done.returncode, done.stdout) == (code, "")


def test_slapd_shows_the_service_account_everything_but_passwords(server):
    done = ldapsearch(server, "-D", SERVICE, "-w", SERVICE_PASSWORD, "(uid=alice)", "*", "+")

    assert done.returncode == 0
    assert "entryUUID:" in done.stdout
    assert "userPassword" not in done.stdout


def test_slapd_takes_no_password_in_clear(server):
    done = ldapsearch(server, "-D", SERVICE, "-w", SERVICE_PASSWORD, url=server.starttls_url)

    assert done.returncode == 13


@pytest.mark.parametrize(
    ("dn", "password", "code"), [(ADMIN, ADMIN_PASSWORD, 0), (SERVICE, SERVICE_PASSWORD, 50)]
)
def test_slapd_lets_only_the_administrator_write(own_server, dn, password, code):
    done = subprocess.run(
        ["ldapmodify", "-x", "-H", own_server.url, "-D", dn, "-w", password],
        input=f"dn: uid=omar,{GENEVA}\nchangetype: modify\nreplace: orgAccountStatus\norgAccountStatus: active\n",
        text=True, capture_output=True, check=False, env={**os.environ, "LDAPTLS_CACERT": str(own_server.ca_file)},
    )  # fmt: skip

    assert done.returncode == code


def test_slapd_never_runs_as_root_and_listens_on_loopback_only(server):
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
        if ":\t" in line
    )

    user = int(status["Uid"].split()[0])
    assert user != 0
    assert pwd.getpwuid(user).pw_name in {*slapd.USERS, pwd.getpwuid(os.geteuid()).pw_name}
    with socket.socket(socket.AF_INET6) as probe:  # nobody else holds the port on the other interfaces
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(("::", server.port))


def test_slapd_keeps_its_data_over_prepare_and_restart(own_server, connect):
    before = connect(source_of(own_server)).find("alice").person

    own_server.stop()
    is_new = own_server.prepare()
    own_server.start()

    assert is_new is False
    assert connect(source_of(own_server)).find("alice").person == before


def test_slapd_whose_data_was_left_half_written_is_loaded_again(own_server, connect):
    own_server.stop()
    (own_server.folder / "data-is-whole").unlink()

    assert own_server.prepare() is True
    own_server.start()
    assert connect(source_of(own_server)).find("alice").person.login == "alice"


def test_slapd_state_is_told(own_server):
    assert own_server.running()
    assert own_server.pid

    own_server.kill()

    assert not own_server.running()
    assert own_server.pid is None
    own_server.stop()  # again, harmless


def test_slapd_confined_by_its_path_runs_from_a_copy(own_server, connect, monkeypatch):
    own_server.stop()
    monkeypatch.setattr(slapd, "_is_confined", lambda: True)

    own_server.prepare()
    own_server.start()

    assert Path(f"/proc/{own_server.pid}/exe").readlink() == own_server.folder / "slapd"
    assert connect(source_of(own_server)).find("alice").person.login == "alice"


def test_slapd_with_a_busy_port_says_so(own_server):
    own_server.stop()
    with socket.create_server(("127.0.0.1", own_server.port)), pytest.raises(slapd.SlapdError) as caught:
        own_server.start()

    assert str(caught.value) == f"Port {own_server.port} is in use; the directory needs it."


def test_slapd_that_is_missing_is_named(own_server, monkeypatch):
    own_server.stop()
    monkeypatch.setattr(slapd, "PROGRAM_PATH", "/nowhere")

    with pytest.raises(slapd.SlapdError, match=r"^slapd is not installed"):
        own_server.prepare()


def test_slapd_in_a_folder_that_cannot_be_is_one_sentence(own_server):
    own_server.stop()
    own_server.folder = own_server.log_file / "below-a-file"

    with pytest.raises(slapd.SlapdError, match=r"^The folder .* cannot be written"):
        own_server.prepare()


def test_slapd_with_broken_data_says_what_slapadd_said(own_server, tmp_path):
    own_server.stop()
    (own_server.folder / "data-is-whole").unlink()
    broken = tmp_path / "broken.ldif"
    broken.write_text(f"dn: uid=x,{BASE}\nobjectClass: inetOrgPerson\nuid: x\n")
    own_server.ldif_files = (broken,)

    with pytest.raises(slapd.SlapdError, match=r"^slapadd refused .*"):
        own_server.prepare()


def test_certificates_are_kept_while_valid_and_made_again_when_not(tmp_path):
    first = testca.load_or_make(tmp_path)
    text = first.certificate_file.read_text()

    assert testca.load_or_make(tmp_path).certificate_file.read_text() == text
    testca.make(tmp_path, flaw=testca.Flaw.EXPIRED)
    expired = first.certificate_file.read_text()
    assert testca.load_or_make(tmp_path).certificate_file.read_text() != expired
    testca.make(tmp_path, flaw=testca.Flaw.UNKNOWN_CA)
    foreign = first.certificate_file.read_text()
    assert testca.load_or_make(tmp_path).certificate_file.read_text() != foreign
    first.key_file.write_text(testca.make(tmp_path / "other").key_file.read_text())
    mismatched = first.certificate_file.read_text()
    assert testca.load_or_make(tmp_path).certificate_file.read_text() != mismatched
    first.ca_file.write_text("broken")
    testca.load_or_make(tmp_path)
    ssl.create_default_context(cafile=first.ca_file)
    assert first.key_file.stat().st_mode & 0o777 == 0o600
