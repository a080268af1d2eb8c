"""A screen without a keyboard that somebody signs in: `python -m deploy.demo.device`, beside `make run` (RFC 8628).

To an integrating developer this file is the guide to the device grant, in the standard library alone: ask for a code,
show it, ask for tokens at the pace that the service says, renew them, and notice that the person signed out.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT = "meeting-room"
DEMO = Path(__file__).resolve().parents[2] / "var" / "demo.json"
# How long a sign-out may go unnoticed.
LOOK_EVERY_SECONDS = 5
# The service is on this machine: a proxy of the network's has no part in it.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said: an HTTP status and a JSON object."""

    status: int
    said: dict[str, Any]  # Any: JSON


def call(url: str, form: dict[str, str] | None = None, token: str = "") -> Answer:
    """Send a form, or just ask; with an access token, if there is one."""
    body = None if form is None else urlencode(form).encode()
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"} if token else {})
    try:
        with DIRECT.open(request, timeout=10) as response:
            return Answer(response.status, json.load(response))
    except urllib.error.HTTPError as refused:
        with refused:
            words = refused.read().decode(errors="replace")
        return Answer(refused.code, json.loads(words) if words.startswith("{") else {})


def wait_for_tokens(url: str, begun: dict[str, Any]) -> dict[str, Any]:
    """Ask until the person has answered. Ends the program if they turn the screen away or let the code grow old."""
    pause = int(begun.get("interval", 5))
    while True:
        time.sleep(pause)
        answer = call(
            url, {"grant_type": GRANT_TYPE, "client_id": CLIENT, "device_code": begun["device_code"]}
        )
        match answer.said.get("error"):
            case None:
                return answer.said
            case "authorization_pending":
                pass
            case "slow_down":
                pause += 5  # for good. Spec: RFC 8628 §3.5
            case "access_denied":
                raise SystemExit("You turned this screen away.")
            case "expired_token":
                raise SystemExit("Nobody typed the code in time. Begin again.")
            case problem:
                raise SystemExit(
                    f"The service refused: {problem}: {answer.said.get('error_description', '')}"
                )


def show(begun: dict[str, Any]) -> None:
    """Show the person where to go, and what to type."""
    print(f"\n  Open   {begun['verification_uri']}\n  Type   {begun['user_code']}\n")
    if sys.stdout.isatty():  # a terminal shows it to a phone's camera; a file has no use for it
        import segno

        segno.make(begun["verification_uri_complete"]).terminal(compact=True)
    print(f"  or open {begun['verification_uri_complete']} and compare the code\n", flush=True)


def stay(places: dict[str, str], tokens: dict[str, Any]) -> None:
    """Go on being signed in until the person signs out, wherever they do that."""
    known: dict[str, Any] = {}
    while True:
        seen = call(places["userinfo_endpoint"], token=tokens["access_token"])
        if seen.status == 401:  # five minutes are over, or the session is
            renewed = call(
                places["token_endpoint"],
                {
                    "grant_type": "refresh_token",
                    "client_id": CLIENT,
                    "refresh_token": tokens["refresh_token"],
                },
            )
            if renewed.status != 200:
                print("Signed out.", flush=True)
                return
            tokens = renewed.said
            continue
        if seen.said != known:
            known = seen.said
            print(
                f"Signed in: {known.get('name')}, {known.get('office')}, roles {', '.join(known.get('roles', []))}"
            )
            print(
                "Sign out in your browser, and this screen is signed out too. Control-C stops it.", flush=True
            )
        time.sleep(LOOK_EVERY_SECONDS)


def main() -> None:
    """Be the screen."""
    parser = argparse.ArgumentParser(description="Sign in a screen without a keyboard.")
    parser.add_argument("--demo", type=Path, default=DEMO, help="where `make run` wrote its demo.json")
    try:
        issuer = json.loads(parser.parse_args().demo.read_text(encoding="utf-8"))["issuer"]
        places = call(f"{issuer}/.well-known/openid-configuration").said
        begun = call(
            places["device_authorization_endpoint"],
            {"client_id": CLIENT, "scope": "openid profile email roles"},
        )
        if begun.status != 200:
            raise SystemExit(f"The service refused: {begun.said}")
        show(begun.said)
        stay(places, wait_for_tokens(places["token_endpoint"], begun.said))
    except OSError as problem:
        raise SystemExit(f"Is `make run` running? {problem}") from None
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
