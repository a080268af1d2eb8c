"""The QR code is markup that a strict CSP allows and a camera reads in dark mode."""

import re
import xml.etree.ElementTree as ET

import pytest
import segno

from mfa.qr import build_qr_svg
from mfa.totp import build_uri

URI = build_uri("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "a.benali@example.org", "Secretariat")


def drawn_modules(svg: str) -> set[tuple[int, int]]:
    """Return the (column, row) of every dark module, read back from the path."""
    path = ET.fromstring(svg).findall(".//path")[1].attrib["d"]
    column, row, dark = 0.0, 0.0, set()
    for command, arguments in re.findall(r"([Mmh])([-\d. ]+)", path):
        numbers = [float(number) for number in arguments.split()]
        match command:
            case "M":
                column, row = numbers
            case "m":
                column, row = column + numbers[0], row + numbers[1]
            case "h":
                dark |= {(int(column) + offset, int(row)) for offset in range(int(numbers[0]))}
                column += numbers[0]
    return dark


def test_build_qr_svg_draws_the_address_with_quiet_zone() -> None:
    matrix = segno.make(URI, error="m", micro=False).matrix
    expected = {
        (column + 4, row + 4) for row, line in enumerate(matrix) for column, dark in enumerate(line) if dark
    }

    assert drawn_modules(build_qr_svg(URI)) == expected


@pytest.mark.parametrize("forbidden", ["style", "<script", "href", "url(", "xmlns:", "currentColor", "<?xml"])
def test_build_qr_svg_holds_nothing_a_policy_forbids(forbidden: str) -> None:
    assert forbidden not in build_qr_svg(URI)


def test_build_qr_svg_brings_its_own_white_ground() -> None:
    ground = ET.fromstring(build_qr_svg(URI)).findall(".//path")[0]

    assert ground.attrib["fill"] == "#fff"


def test_build_qr_svg_fits_a_narrow_screen() -> None:
    assert int(ET.fromstring(build_qr_svg(URI)).attrib["width"]) <= 288


def test_build_qr_svg_hostile_text_stays_out_of_the_markup() -> None:
    assert "alert" not in build_qr_svg('"><script>alert(1)</script>')
