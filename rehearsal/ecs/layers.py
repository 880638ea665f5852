"""The layers of an image, laid one over the other."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any


def extract_layer(file: Any, directory: Path) -> None:
    """Lay one layer over `directory`: nothing lands outside it, whiteouts remove, devices and outward links stay out.

    https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
    By hand, because tarfile's own filters came with Python 3.11.4.
    """
    with tarfile.open(fileobj=file, mode="r:*") as layer:
        for member in layer:
            folder, _, base = member.name.rpartition("/")
            if base.startswith(".wh."):
                _white_out(directory, folder, base)
            else:
                _lay(layer, member, directory)


def _lay(layer: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    """One member in its place. What a process of this machine has no use for, devices for example, is left out."""
    name = Path(member.name.lstrip("/"))
    if ".." in name.parts:
        raise tarfile.TarError(f"{member.name!r} leads out of the image")
    parent = _inside(directory, directory / name.parent, member.name)
    place = parent / name.name
    if member.isdir():
        if place.is_symlink():
            place.unlink()
        place.mkdir(parents=True, exist_ok=True)
        return
    target = _link_target(member, directory, parent)
    if not (member.isfile() or target):
        return
    parent.mkdir(parents=True, exist_ok=True)
    _remove(place)  # a file of a lower layer is replaced, never written through
    if member.issym():
        place.symlink_to(member.linkname)
    elif target:
        place.hardlink_to(target)
    else:
        content = layer.extractfile(member)
        assert content is not None  # of a regular file
        with content, place.open("wb") as written:
            shutil.copyfileobj(content, written)
        place.chmod(0o755 if member.mode & 0o100 else 0o644)


def _link_target(member: tarfile.TarInfo, directory: Path, parent: Path) -> Path | None:
    """Where a link leads; None when it is none, or leads out of the image."""
    if not (member.issym() or member.islnk()) or (member.issym() and member.linkname.startswith("/")):
        return None
    target = (parent if member.issym() else directory) / member.linkname
    return target.resolve() if target.resolve().is_relative_to(directory.resolve()) else None


def _inside(directory: Path, path: Path, name: str) -> Path:
    """The path without its symbolic links. Raises TarError when it is outside the directory."""
    resolved = path.resolve()
    if not resolved.is_relative_to(directory.resolve()):
        raise tarfile.TarError(f"{name!r} would be extracted to {resolved}, which is outside the image")
    return resolved


def _white_out(directory: Path, folder: str, base: str) -> None:
    parent = _inside(directory, directory / folder.lstrip("/"), f"{folder}/{base}")
    gone = (
        list(parent.iterdir()) if base == ".wh..wh..opq" and parent.is_dir() else [parent / base.removeprefix(".wh.")]
    )
    for path in gone:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
