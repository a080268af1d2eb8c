"""The enrolment address as a picture, made here: no third party ever sees a secret. Pure."""

import segno


def build_qr_svg(text: str) -> str:
    """Return a QR code as SVG markup for use inside a page.

    Black on white whatever the page's colours (scanners want dark on light, also in dark mode), with the
    quiet zone of four modules. Neither style attributes nor scripts: it needs nothing of the page's CSP.
    The caller's element names it for screen readers.
    Spec: ISO/IEC 18004 §6.3.8
    """
    # Error level M: a phone reads a dirty screen, and the code still fits 320 pixels at four a module.
    code = segno.make(text, error="m", micro=False)
    return code.svg_inline(scale=4, border=4, dark="#000", light="#fff", svgclass="qr", lineclass=None)
