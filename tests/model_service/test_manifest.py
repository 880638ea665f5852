"""Manifests that are refused before a file of theirs is touched."""

import json
from typing import Any

import pytest

from model_service.errors import StartRefused
from model_service.manifest import read_manifest

FILE = {"name": "model.onnx", "sha256": "a" * 64, "size_bytes": 1}
GOOD: dict[str, Any] = {"format": "onnxship.model/1", "name": "digits", "files": [FILE]}


def test_ignores_members_for_other_readers() -> None:
    """What publish writes for others (tolerance, opset, ...) does not disturb the service."""
    manifest = read_manifest(json.dumps(GOOD | {"tolerance": {"rtol": 1e-3}, "opset": 22}).encode())
    assert ("digits", ["model.onnx"]) == (manifest.name, [file.name for file in manifest.files])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other/2"}, "has format 'other/2'; this service reads 'onnxship.model/1'"),
        ({"name": "a/b"}, "$.name"),
        ({"files": []}, "$.files"),
        ({"files": [FILE | {"name": "../model.onnx"}]}, "$.files[0].name"),
        ({"files": [FILE | {"name": "/etc/passwd"}]}, "$.files[0].name"),
        ({"files": [FILE | {"name": ".hidden"}]}, "$.files[0].name"),
        ({"files": [FILE | {"name": "model.onnx\n"}]}, "$.files[0].name"),
        ({"files": [FILE | {"sha256": "abc"}]}, "$.files[0].sha256"),
        ({"files": [FILE, FILE]}, "names a file twice"),
        ({"golden": {"name": "golden.npz"}}, "$.golden"),
        (
            {"predict": {"probabilites": "p"}},
            "the model manifest's predict has an unknown member `probabilites`: did you mean `probabilities`?",
        ),
        (
            {"predict": {"zzz": "p"}},
            "`zzz`: it may have input, label, probabilities, activation, labels, preprocessing",
        ),
        ({"batching": {"maxbatch": 4}}, "batching has an unknown member `maxbatch`: did you mean `max_batch`?"),
    ],
)
def test_refuses(change: dict[str, Any], words: str) -> None:
    """A wrong format, a name that could leave the directory, or a missing digest stops the start, naming the member."""
    with pytest.raises(StartRefused) as refused:
        read_manifest(json.dumps(GOOD | change).encode())
    assert words in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"not json"])
def test_refuses_what_is_no_json_object(content: bytes) -> None:
    """Anything but a JSON object is refused as a manifest."""
    with pytest.raises(StartRefused, match="the model manifest cannot be used"):
        read_manifest(content)
