"""What a target needs and this machine lacks; nothing is installed here."""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[3] / "deploy" / "bootstrap"


def _load() -> ModuleType:
    loader = SourceFileLoader("bootstrap", str(FILE))
    spec = importlib.util.spec_from_loader("bootstrap", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


bootstrap = _load()


@pytest.mark.parametrize(
    ("target", "present", "has_venv", "has_compiler", "expected"),
    [
        pytest.param("run", {"slapd", "ldap-utils"}, True, True, [], id="run-nothing-lacks"),
        pytest.param("run", set(), True, True, ["slapd", "ldap-utils"], id="run-no-directory"),
        pytest.param("run", {"slapd", "ldap-utils"}, True, False, ["tcc"], id="run-no-compiler"),
        pytest.param("check", set(), True, False, [], id="check-needs-no-package"),
        pytest.param("check", set(), False, True, ["python3-venv"], id="check-no-venv"),
        pytest.param("test", {"slapd", "ldap-utils", "chromium", "fonts-noto-core", "softhsm2", "nodejs", "npm", "apache2-bin", "389-ds-base", "nginx", "samba-ad-dc", "samba-ad-provision"}, True, False, ["postgresql", "libapache2-mod-auth-openidc"], id="test"),
    ],
)  # fmt: skip
def test_missing_packages_names_what_lacks(target, present, has_venv, has_compiler, expected):
    missing = bootstrap.missing_packages(
        target, present=frozenset(present), has_venv=has_venv, has_compiler=has_compiler
    )

    assert missing == expected


def test_every_package_says_what_it_is_for():
    could_lack = {name for names in bootstrap.NEEDED.values() for name in names} | {"python3-venv", "tcc"}

    assert could_lack <= set(bootstrap.PURPOSES)
