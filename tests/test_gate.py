"""The gate, `.ci/run`, installs what the browser tests need, and runs the tests also where it can't."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REAL = ("bash", "dirname", "env", "timeout")


def program(folder: Path, name: str, line: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A machine on which nobody is root, with no more than the gate needs. What it is asked to do, it prints."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in REAL:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    program(folder, "id", "echo 1000")
    program(folder, "sudo", 'exec "$@"')
    program(folder, "apt-get", 'echo "apt-get $*"')
    program(folder, "make", 'echo "make $*"')
    return folder


def gate(programs: Path, **environment: str) -> list[str]:
    environment = {"PATH": str(programs), **environment}
    ran = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_it_installs_chromium_where_there_is_none(programs: Path) -> None:
    update, install, *rest = gate(programs)
    assert update.endswith(" update")
    assert install.endswith(" install --yes --no-install-recommends chromium")
    assert rest == ["make check", "make test"]


@pytest.mark.parametrize("name", ["chromium", "chromium-browser"])
def test_it_installs_nothing_where_there_is_one(programs: Path, name: str) -> None:
    program(programs, name, "")
    assert gate(programs) == ["make check", "make test"]


def test_nor_where_the_environment_names_one(programs: Path) -> None:
    assert gate(programs, CHROMIUM="/opt/chromium") == ["make check", "make test"]


@pytest.mark.parametrize("missing", ["sudo", "apt-get"])
def test_where_it_can_not_it_says_so_and_goes_on(programs: Path, missing: str) -> None:
    (programs / missing).unlink()
    said = gate(programs)
    assert "the tests marked browser will be skipped" in said[-3]
    assert said[-2:] == ["make check", "make test"]


def test_a_package_that_can_not_be_had_ends_nothing(programs: Path) -> None:
    program(programs, "apt-get", "exit 100")
    assert gate(programs)[-2:] == ["make check", "make test"]
    assert os.access(ROOT / "scripts" / "install_services.sh", os.X_OK)
