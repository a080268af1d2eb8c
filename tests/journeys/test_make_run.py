"""`make run` as a newcomer uses it, in a copy of the checkout: ready, stopped, killed, refused."""

import json
import os
import signal
import socket
import stat
import urllib.request

import pytest

from tests.servers.make_run import Checkout, four_free_ports

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("check out"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_make_run_asked_to_stop_ends_with_status_0_and_leaves_nothing(checkout, number):
    with checkout.running() as (process, _):
        for offset, path in ((0, ".well-known/openid-configuration"), (1, ""), (2, "")):
            with DIRECT.open(f"http://localhost:{checkout.port + offset}/{path}", timeout=10) as answer:
                assert answer.status == 200
        demo = checkout.folder / "var" / "demo.json"
        assert stat.S_IMODE(demo.stat().st_mode) == 0o600
        assert json.loads(demo.read_text())["issuer"] == f"http://localhost:{checkout.port}"

        process.send_signal(number)
        process.communicate(timeout=10)

    assert process.returncode == 0
    assert checkout.left_running() == []


def test_make_run_again_keeps_the_data_and_after_a_kill_clears_what_was_left(checkout):
    with checkout.running():
        before = json.loads((checkout.folder / "var" / "demo.json").read_text())
    with checkout.running() as (process, _):
        process.kill()
        process.wait()
        process.stdout.close()
        assert checkout.left_running()

        with checkout.running() as (_, seconds):
            after = json.loads((checkout.folder / "var" / "demo.json").read_text())

    assert after == before
    assert seconds < 15  # 5 on a quiet machine; tests share theirs
    assert checkout.left_running() == []


def test_make_run_twice_and_reset_meanwhile_are_refused_in_one_sentence(checkout):
    with checkout.running():
        second = checkout.make("run", f"DEMO_PORT={four_free_ports()}")
        reset = checkout.make("reset")

    assert second.returncode != 0
    assert "Another `make run` is using this folder" in second.stderr
    assert reset.returncode != 0
    assert "stop it first" in reset.stderr


def test_make_run_child_that_died_is_named_and_everything_is_stopped(checkout):
    with checkout.running() as (process, _):
        known = json.loads((checkout.folder / "var" / "processes.json").read_text())
        os.kill(next(one["pid"] for one in known if one["name"] == "finance"), signal.SIGKILL)
        said, _ = process.communicate(timeout=15)

    assert process.returncode != 0
    assert "finance ended" in said
    assert checkout.left_running() == []


def test_make_run_busy_port_is_refused_by_number(checkout):
    with socket.socket() as busy:
        # The tests before this one used the port: their closed connections linger for a minute.
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", checkout.port + 2))
        busy.listen()
        done = checkout.make("run", f"DEMO_PORT={checkout.port}")

    assert done.returncode != 0
    assert done.stderr.startswith(f"Port {checkout.port + 2} (Finance) is busy")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["80", "70000", "abc"])
def test_make_run_impossible_port_is_refused(checkout, port):
    done = checkout.make("run", f"DEMO_PORT={port}")

    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_make_reset_empties_var(checkout):
    with checkout.running():
        pass

    done = checkout.make("reset")

    assert done.returncode == 0
    assert list((checkout.folder / "var").iterdir()) == []
