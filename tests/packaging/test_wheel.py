"""The wheel, as somebody else gets it: built without a network, installed in a fresh environment, imported from there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORTIONS = ("journal", "checkpoints", "tools", "server")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("build") is None:
        pytest.skip("the build front end is a development dependency")
    out = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [found] = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; what it depends on is seen through a path file."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = folder / scripts / "python"
    site = Path(
        subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # only dependencies: the development environment's own path files (which lead to this source tree) are not read
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)


def test_the_wheel_installs_nothing_but_the_namespace(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"takeback", "takeback-0.1.0.dist-info"}
    assert {name.split("/")[1] for name in names if name.startswith("takeback/")} == {*PORTIONS, "__main__.py"}


def test_the_namespace_stays_open_for_others(wheel: Path):
    assert "takeback/__init__.py" not in zipfile.ZipFile(wheel).namelist()
    assert not list(ROOT.glob("*/takeback/__init__.py"))


def test_every_portion_says_that_it_is_typed(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert [portion for portion in PORTIONS if f"takeback/{portion}/py.typed" not in names] == []


def test_every_module_of_the_source_tree_is_in_the_wheel(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT / portion).as_posix() for portion in PORTIONS for path in (ROOT / portion).rglob("*.py")
    }
    assert sources - names == set()


def test_all_four_portions_are_imported_from_where_they_were_installed(elsewhere: Path, tmp_path: Path):
    code = "import " + ", ".join(f"takeback.{portion}" for portion in PORTIONS)
    code += "; print(*takeback.__path__)"
    done = run(elsewhere, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout.split(), "the source tree leaked into the test"


def test_the_module_runs_as_a_program(elsewhere: Path, tmp_path: Path):
    done = run(elsewhere, "-m", "takeback", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "takeback 0.1.0\n"), done.stderr


def test_the_wheel_names_the_script_and_the_licence(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    assert "takeback = takeback.server.cli:main" in archive.read("takeback-0.1.0.dist-info/entry_points.txt").decode()
    assert "takeback-0.1.0.dist-info/licenses/LICENSE" in archive.namelist()
