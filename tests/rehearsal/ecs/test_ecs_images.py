"""Layers laid out safely, references read, and a registry that lies found out."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile

import pytest
from aiohttp import web

from rehearsal.context import AddressBook, Context, Settings
from rehearsal.ecs.images import CannotPull, Images, Reference
from rehearsal.ecs.layers import extract_layer


def layer(*members: tuple[str, str | None]) -> io.BytesIO:
    """A layer of files (name, text) and links (name, "-> target")."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in members:
            entry = tarfile.TarInfo(name)
            if text.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, text[3:]
                tar.addfile(entry)
            else:
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer


def files(directory):
    return {str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()}


def test_later_layers_cover_and_white_out_earlier_ones(tmp_path):
    """A file is replaced, a whiteout removes one, an opaque whiteout empties a directory."""
    extract_layer(layer(("app/a", "1"), ("app/b", "1"), ("old/x", "1")), tmp_path)
    extract_layer(layer(("app/a", "2"), ("app/.wh.b", ""), ("old/.wh..wh..opq", ""), ("old/y", "2")), tmp_path)
    assert files(tmp_path) == {"app/a": "2", "old/y": "2"}


@pytest.mark.parametrize("name", ["../outside", "app/../../outside", "app/../../.wh.outside"])
def test_nothing_is_written_or_removed_outside(tmp_path, name):
    """A name that leaves the image's root refuses the layer."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_text("untouched")
    with pytest.raises(tarfile.TarError):
        extract_layer(layer((name, "evil")), root)
    assert (tmp_path / "outside").read_text() == "untouched"


def test_a_link_that_leads_outside_is_left_out_and_cannot_be_written_through(tmp_path):
    """A base image's absolute link is dropped; what follows through it lands inside."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    extract_layer(layer(("lib", f"-> {outside}"), ("up", "-> ../outside"), ("lib/file", "text")), root)
    assert (files(root), list(outside.iterdir())) == ({"lib/file": "text"}, [])


def test_links_inside_the_image_lead_where_they_say(tmp_path):
    """A later layer replaces a link and does not write through it."""
    extract_layer(layer(("app/real", "1"), ("app/link", "-> real")), tmp_path)
    assert (tmp_path / "app/link").read_text() == "1"
    extract_layer(layer(("app/link", "2")), tmp_path)
    assert files(tmp_path) == {"app/link": "2", "app/real": "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5000/p-e:v1", Reference("127.0.0.1:5000", "p-e", "v1")),
        ("127.0.0.1:5000/team/p-e", Reference("127.0.0.1:5000", "team/p-e", "latest")),
        ("127.0.0.1:5000/p-e:v1@sha256:ab", Reference("127.0.0.1:5000", "p-e", "sha256:ab")),
    ],
)
def test_image_references_are_read(text, expected):
    """Registry, repository, and tag or digest; the digest wins."""
    assert Reference.parse(text) == expected


@pytest.mark.parametrize("text", ["python:3.11", "public.ecr.aws/docker/library/python:3.11"])
def test_only_the_rehearsals_own_registry_is_pulled_from(tmp_path, text):
    """An image of anywhere else is refused, not fetched from the internet."""
    with pytest.raises(CannotPull, match="rehearsal's"):
        asyncio.run(pull(tmp_path, text, {}))


async def pull(tmp_path, text, answers):
    """Pull from a registry that answers path -> bytes."""

    async def answer(request: web.Request) -> web.Response:
        body = answers.get(request.path.rsplit("/", 1)[1])
        return web.Response(status=404) if body is None else web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry = "127.0.0.1:{}".format(*site._server.sockets[0].getsockname()[1:])
    context = LocalContext(Settings("1", "eu-west-1", tmp_path), asyncio.get_running_loop(), registry=registry)
    try:
        return await Images(context).pull(text.format(registry=registry))
    finally:
        await runner.cleanup()


class LocalContext(Context):
    """A context whose ECR hands out a token; nothing else is called."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop, registry: str) -> None:
        super().__init__(settings, loop, AddressBook(), registry=registry)

    async def call(self, service, operation, /, **request):
        assert (service, operation) == ("ecr", "get_authorization_token")
        return {"authorizationData": [{"authorizationToken": "QVdTOng="}]}


def pushed(oci, architecture="amd64"):
    image = oci.image_of({"app/app.py": "print(1)"})
    config = json.dumps({**json.loads(image.config), "architecture": architecture}).encode()
    image = type(image)(image.layer, config)
    return image, {
        "v1": image.manifest,
        oci.sha256(image.config): image.config,
        oci.sha256(image.layer): image.layer,
    }


def test_a_pulled_image_has_its_digest_its_configuration_and_its_files(tmp_path, oci):
    """What was pushed is what is laid out, under the digest of its manifest."""
    image, answers = pushed(oci)
    pulled = asyncio.run(pull(tmp_path, "{registry}/p-e:v1", answers))
    assert (pulled.digest, files(pulled.root)) == (image.digest, {"app/app.py": "print(1)"})
    assert pulled.config["config"]["Cmd"] == ["python", "app.py"]


@pytest.mark.parametrize("part", ["config", "layer"])
def test_bytes_that_do_not_match_their_digest_are_refused(tmp_path, oci, part):
    """A registry that answers other bytes than were pushed is found out, and nothing is kept."""
    image, answers = pushed(oci)
    answers[oci.sha256(getattr(image, part))] = getattr(image, part) + b" "
    with pytest.raises(CannotPull, match="what the registry sent"):
        asyncio.run(pull(tmp_path, "{registry}/p-e:v1", answers))
    assert list((tmp_path / "images").glob("*")) == []


def test_an_image_of_another_platform_is_refused_in_ecss_words(tmp_path, oci):
    """An image built on an ARM machine cannot be pulled for linux/amd64."""
    _, answers = pushed(oci, "arm64")
    with pytest.raises(CannotPull, match="does not contain descriptor matching platform 'linux/amd64'"):
        asyncio.run(pull(tmp_path, "{registry}/p-e:v1", answers))


def test_a_tag_that_nobody_pushed_is_not_found(tmp_path):
    """A missing tag says which reference could not be resolved."""
    with pytest.raises(CannotPull, match=r"failed to resolve ref .*/p-e:gone: not found"):
        asyncio.run(pull(tmp_path, "{registry}/p-e:gone", {}))
