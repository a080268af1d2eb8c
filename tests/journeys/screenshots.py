"""Pictures of every page, for eyes: `make screenshots` writes var/screenshots/PAGE-LANGUAGE-WIDTH-SCHEME.png.

Needs `make run` in another terminal; walks the real service with its sample people.
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "var" / "screenshots"
WIDTHS = (320, 1280)


def main() -> None:
    """Take every picture."""
    try:
        demo = json.loads((ROOT / "var" / "demo.json").read_text(encoding="utf-8"))
    except OSError:
        raise SystemExit("var/demo.json is not there: start `make run` in another terminal first.") from None
    TARGET.mkdir(exist_ok=True)
    wanted = set(sys.argv[1:])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for language in ("ar", "fr", "en"):
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    if not wanted or f"{language}-{width}-{scheme}" in wanted:
                        walk(browser, demo, language, width, scheme)
        browser.close()
    print(f"pictures are in {TARGET.relative_to(ROOT)}/")


def walk(browser: Browser, demo: dict, language: str, width: int, scheme: str) -> None:
    """Go through the pages as a newcomer who does not finish, and as somebody who is refused."""
    context = browser.new_context(
        locale=language, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = context.new_page()
    people = {person["username"]: person for person in demo["people"]}
    issuer = demo["issuer"]

    def take(name: str) -> None:
        page.wait_for_load_state()
        page.screenshot(path=TARGET / f"{name}-{language}-{width}-{scheme}.png", full_page=True)

    page.goto(demo["applications"][0]["url"])
    take("app-start")
    page.locator("#sign-in").click()
    page.locator(
        f".languages button[value={language}]"
    ).click()  # an explicit choice: the profile's comes second
    take("name")
    give_password(page, "newcomer", "wrong-password-on-purpose")
    take("password-wrong")
    page.locator("#password").fill(people["newcomer"]["password"])
    page.locator("main .go").click()
    take("enrolment")
    page.goto(f"{issuer}/sign-out")
    take("sign-out")
    page.locator("main .go").click()
    take("signed-out")
    page.goto(f"{issuer}/authorize?client_id=nobody")
    take("protocol-error")
    page.goto(f"{issuer}/sign-in/unknown")
    take("gone")
    page.goto(issuer)
    give_password(page, "sara", people["sara"]["password"])
    take("code")
    page.goto(page.url + "?recovery=1")
    take("recovery")
    page.goto(f"{issuer}/sign-out")
    page.locator("main .go").click()
    page.goto(issuer)
    give_password(page, "gone", people["gone"]["password"])
    take("disabled")
    page.goto(issuer)
    give_password(page, "load01", people["load01"]["password"])
    take("home")
    page.goto(demo["applications"][1]["url"] + "login")
    take("refused")
    context.close()


def give_password(page: Page, login: str, password: str) -> None:
    """Fill in the first two pages."""
    page.locator("#username").fill(login)
    page.locator("main .go").click()
    page.locator("#password").fill(password)
    page.locator("main .go").click()


if __name__ == "__main__":
    main()
