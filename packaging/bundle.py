"""Makes the bundle (.mcpb) that Claude Desktop installs with a double click: a zip of the wheel's contents, a manifest, and
what `uv` needs to fetch the dependencies on the user's machine, in the versions that the tests ran with.

    python packaging/bundle.py [--wheel FILE] [--out FOLDER]

Without a wheel one is built. The same wheel gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
EPOCH = (1980, 1, 1, 0, 0, 0)


def stage(wheel: Path, folder: Path) -> str:
    """Lay out the bundle in a folder; its version.

    :raises SystemExit: the manifest is of another version than the wheel.
    """
    source = folder / "src"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(source)
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        told = HeaderParser().parsestr(archive.read(name).decode())
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    if manifest["version"] != told["Version"]:
        sys.exit(f"The manifest says {manifest['version']}, the wheel {told['Version']}. Make them equal.")
    for each in ("manifest.json", ".mcpbignore"):
        (folder / each).write_bytes((HERE / each).read_bytes())
    (source / "main.py").write_bytes((HERE / "main.py").read_bytes())
    (folder / "LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())
    needed = [each for each in told.get_all("Requires-Dist", []) if "extra ==" not in each]
    pins = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line]
    (folder / "pyproject.toml").write_text(_project(told["Version"], told["Requires-Python"], needed, pins), "utf-8")
    return str(told["Version"])


def _project(version: str, python: str, needed: list[str], pins: list[str]) -> str:
    """The project that `uv run` makes an environment for. It is no package itself: the code lies beside `main.py`."""
    lines = ["[project]", 'name = "takeback-bundle"', f'version = "{version}"', f'requires-python = "{python}"']
    text = "\n".join([*lines, f"dependencies = {json.dumps(needed, indent=4)}", "", "[tool.uv]", "package = false"])
    text += f"\nconstraint-dependencies = {json.dumps(pins, indent=4)}\n"
    tomllib.loads(text)
    return text


def pack(folder: Path, bundle: Path) -> None:
    """Zip the folder, names sorted and times left out."""
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(each for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def built(folder: Path) -> Path:
    """A wheel of this source tree."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 -- every word is ours
    if done.returncode:
        sys.exit(f"The wheel could not be built:\n{done.stdout}{done.stderr}")
    [wheel] = folder.glob("takeback-*.whl")
    return wheel


def main() -> None:
    """Make the bundle, and print where it lies and its digest."""
    parser = argparse.ArgumentParser(description="Make the bundle that Claude Desktop installs.")
    parser.add_argument("--wheel", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=ROOT / "dist")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wheel = given.wheel or built(Path(scratch))
        folder = Path(scratch) / "bundle"
        version = stage(wheel, folder)
        given.out.mkdir(parents=True, exist_ok=True)
        bundle = given.out / f"takeback-{version}.mcpb"
        pack(folder, bundle)
    print(f"{bundle}\nsha256 {hashlib.sha256(bundle.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
