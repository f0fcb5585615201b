"""What a user imports: documented and typed."""

from __future__ import annotations

import inspect
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("trainers", "analysis", "sweep")
NAMES = [(package, name) for package in PACKAGES for name in import_module(package).__all__]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_says_what_it_is_what_it_takes_and_what_it_gives(package: str, name: str) -> None:
    thing = getattr(import_module(package), name)
    said = inspect.getdoc(thing) or ""
    assert said.partition("\n")[0].endswith((".", ":"))
    if inspect.isfunction(thing):
        taken = [parameter for parameter in inspect.signature(thing).parameters if f"{parameter}:" not in said]
        assert taken == []
        assert "Returns:" in said or len(said.splitlines()) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_public_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        import_module(package).nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_installed_with_its_types(package: str) -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in tool["package-data"][package]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_has_its_types(package: str, name: str) -> None:
    thing = getattr(import_module(package), name)
    if inspect.isfunction(thing):
        assert set(inspect.get_annotations(thing)) == {*inspect.signature(thing).parameters, "return"}
