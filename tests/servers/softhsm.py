"""A PKCS#11 token in software: SoftHSM, in a folder of its own, with one initialised token."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Debian and Ubuntu put it here, beside a directory of the architecture.
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN, SECURITY_OFFICER_PIN = "canary-pin-4711", "12345678"


@dataclass(frozen=True, slots=True)
class Token:
    """An initialised token; `folder` holds it and its configuration."""

    folder: Path
    label: str = "iam"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "SOFTHSM2_CONF": str(self.folder / "softhsm2.conf"),
            "IAM_PKCS11_MODULE": str(MODULE),
            "IAM_PKCS11_TOKEN_LABEL": self.label,
            "IAM_PKCS11_PIN": PIN,
        }

    def configure(self, mechanisms: str = "ALL") -> None:
        """Write the configuration; the library reads it when it begins anew."""
        (self.folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.folder / 'tokens'}\nobjectstore.backend = file\n"
            f"log.level = ERROR\nslots.mechanisms = {mechanisms}\n"
        )

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Pull the token out for a while."""
        tokens, kept = self.folder / "tokens", self.folder / "kept"
        tokens.rename(kept)
        tokens.mkdir()
        try:
            yield
        finally:
            tokens.rmdir()
            kept.rename(tokens)


@contextlib.contextmanager
def running() -> Iterator[Token]:
    """Make a token, let this process and its children use it, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="iam-softhsm-"))
    (folder / "tokens").mkdir()
    token = Token(folder)
    token.configure()
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = token.environment["SOFTHSM2_CONF"]
    try:
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", token.label, "--so-pin", SECURITY_OFFICER_PIN, "--pin", PIN],
            check=True, capture_output=True,
        )  # fmt: skip
        yield token
    finally:
        os.environ.pop("SOFTHSM2_CONF")
        if before is not None:
            os.environ["SOFTHSM2_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)
