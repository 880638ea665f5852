"""The messages: what is committed is what protoc makes, and what the protocol's own package has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from open_inference.grpc import protocol

from model_service.oip_grpc import messages
from tests.model_service.conftest import REPOSITORY

DIRECTORY = REPOSITORY / "model_service" / "oip_grpc"
FILE = FileDescriptorSet.FromString((DIRECTORY / messages.DESCRIPTOR_FILE).read_bytes()).file[0]


def test_the_descriptor_is_what_protoc_makes(tmp_path: Path) -> None:
    """Nobody has changed the definition without the command that stands at its top."""
    made = tmp_path / "made.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", DIRECTORY, "--descriptor_set_out", made]
    subprocess.run([*command, "open_inference_grpc.proto"], check=True)
    assert made.read_bytes() == (DIRECTORY / messages.DESCRIPTOR_FILE).read_bytes()


def fields(message: DescriptorProto, prefix: str = "") -> dict[str, tuple[int, int, bool, str]]:
    """Number, type, whether it is repeated, and the type's name of every field, also of messages within."""
    name = f"{prefix}.{message.name}"
    found = {
        f"{name}.{field.name}": (field.number, field.type, field.label == field.LABEL_REPEATED, field.type_name)
        for field in message.field
    }
    for within in message.nested_type:
        found |= fields(within, name)
    return found


def test_names_and_numbers_are_the_protocol_s() -> None:
    """Every field has the number and type that it has in the package of the protocol's working group, which is in the
    same process under the same names."""
    theirs = FileDescriptorProto.FromString(protocol.DESCRIPTOR.serialized_pb)
    known = {name: field for message in theirs.message_type for name, field in fields(message).items()}
    ours = {name: field for message in FILE.message_type for name, field in fields(message).items()}
    assert 60 <= len(ours)
    assert {} == {name: (field, known.get(name)) for name, field in ours.items() if known.get(name) != field}


def calls(file: FileDescriptorProto) -> list[tuple[str, str, str]]:
    return [(method.name, method.input_type, method.output_type) for method in file.service[0].method]


def test_the_calls_are_the_protocol_s() -> None:
    """The service has the protocol's six calls."""
    theirs = FileDescriptorProto.FromString(protocol.DESCRIPTOR.serialized_pb)
    assert 6 == len(calls(theirs))
    assert calls(theirs) == calls(FILE)
