"""What the six calls answer, in both forms of tensors, and how they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from open_inference.grpc import protocol

from tests.model_service.conftest import Launch, graph, write_manifest
from tests.model_service.oip_grpc.conftest import (
    INFER_PATH,
    Client,
    Connect,
    InferRequest,
    add_input,
    raw_sum,
    typed_sum,
)

StatusCode = grpc.StatusCode
STRINGS = ["", "grün", "0"]
TYPED: dict[str, tuple[int, str, list[Any]]] = {
    "BOOL": (TensorProto.BOOL, "bool_contents", [True, False, True]),
    "INT8": (TensorProto.INT8, "int_contents", [-128, 0, 127]),
    "INT16": (TensorProto.INT16, "int_contents", [-(2**15), 0, 2**15 - 1]),
    "INT32": (TensorProto.INT32, "int_contents", [-(2**31), 0, 2**31 - 1]),
    "INT64": (TensorProto.INT64, "int64_contents", [-(2**63), 0, 2**63 - 1]),
    "UINT8": (TensorProto.UINT8, "uint_contents", [0, 1, 255]),
    "UINT16": (TensorProto.UINT16, "uint_contents", [0, 1, 2**16 - 1]),
    "UINT32": (TensorProto.UINT32, "uint_contents", [0, 1, 2**32 - 1]),
    "UINT64": (TensorProto.UINT64, "uint64_contents", [0, 1, 2**64 - 1]),
    "FP32": (TensorProto.FLOAT, "fp32_contents", [0.1, float("inf"), -2.5]),
    "FP64": (TensorProto.DOUBLE, "fp64_contents", [0.1, float("-inf"), 1e300]),
    "BYTES": (TensorProto.STRING, "bytes_contents", [text.encode() for text in STRINGS]),
}
RAW = {
    datatype: np.array(values, helper.tensor_dtype_to_np_dtype(kind)).tobytes()
    for datatype, (kind, _, values) in TYPED.items()
    if datatype != "BYTES"
} | {"BYTES": b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in STRINGS)}


def echo(kinds: dict[str, int]) -> bytes:
    """A model that answers with all its inputs: in_INT8 -> out_INT8, ..."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in kinds]
    inputs, outputs = ({f"{end}_{name}": (kind, ["N"]) for name, kind in kinds.items()} for end in ("in", "out"))
    return graph(nodes, inputs, outputs)


@pytest.fixture(scope="module")
def everything(launch: Launch, connect: Connect, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A model with an input and an output of every datatype that has typed contents."""
    model = echo({name: kind for name, (kind, _, _) in TYPED.items()})
    manifest = write_manifest(tmp_path_factory.mktemp("everything"), model, name="echo")
    return connect(launch(manifest, GRPC_PORT="0").wait_ready())


def test_tells_of_server_and_model(adder: Client) -> None:
    """Live, ready and the metadata, by the newest version or a named one."""
    assert adder.call("ServerLive", protocol.ServerLiveRequest()).live
    assert adder.is_ready()
    assert "onnxship-model-service" == adder.call("ServerMetadata", protocol.ServerMetadataRequest()).name
    metadata = adder.call("ModelMetadata", protocol.ModelMetadataRequest(name="adder"))
    assert ("adder", "onnx_onnxv1", 1) == (metadata.name, metadata.platform, len(metadata.versions))
    inputs = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs]
    assert [("a", "FP32", [-1, 2]), ("b", "FP32", [-1, 2])] == inputs
    named = protocol.ModelMetadataRequest(name="adder", version=metadata.versions[0])
    assert metadata == adder.call("ModelMetadata", named)


def test_lists_the_extensions_that_there_are_over_grpc(adder: Client) -> None:
    """Not those of REST alone: a client that went by them would be UNIMPLEMENTED."""
    assert ["classification"] == list(adder.call("ServerMetadata", protocol.ServerMetadataRequest()).extensions)


@pytest.mark.parametrize("is_typed", [True, False])
def test_answers_with_the_classes_of_an_output(adder: Client, is_typed: bool) -> None:
    """The parameter `classification` of an output gives its highest elements as strings, raw or typed as was asked."""
    request = typed_sum() if is_typed else raw_sum()
    request.outputs.add(name="sum").parameters["classification"].int64_param = 1
    answer = adder.call("ModelInfer", request)
    assert [("sum", "BYTES", [1, 1])] == [(out.name, out.datatype, list(out.shape)) for out in answer.outputs]
    if is_typed:
        assert [b"3.000000:0"] == list(answer.outputs[0].contents.bytes_contents)
    else:
        assert [b"\x0a\x00\x00\x003.000000:0"] == list(answer.raw_output_contents)


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        ("request", "sequence_id", "sequence_id is not supported: each request stands for itself"),
        ("input", "shared_memory_region", "`a`: shared_memory_region is not supported: send the data with the request"),
        ("output", "shared_memory_region", "`sum`: shared_memory_region is not supported"),
        ("output", "classification", "the parameter `classification` is not a whole number of classes in int64_param"),
    ],
)
def test_refuses_what_is_not_done_here(adder: Client, where: str, name: str, words: str) -> None:
    """A parameter that would change the answer is not ignored."""
    request = raw_sum()
    places = {"request": request, "input": request.inputs[0], "output": request.outputs.add(name="sum")}
    places[where].parameters[name].string_param = "1"
    refused = adder.refusal("ModelInfer", request)
    assert StatusCode.INVALID_ARGUMENT == refused.code
    assert words in refused.words


def test_says_which_model_is_ready(adder: Client) -> None:
    """A model that is unknown is not ready, without being an error: callers wait for one in a loop."""
    versions = adder.call("ModelMetadata", protocol.ModelMetadataRequest(name="adder")).versions
    asked = [("adder", ""), ("adder", versions[0]), ("adder", "other"), ("other", "")]
    requests = [protocol.ModelReadyRequest(name=name, version=version) for name, version in asked]
    assert [True, True, False, False] == [adder.call("ModelReady", request).ready for request in requests]


def test_answers_typed_contents_with_typed_contents(everything: Client) -> None:
    """Every datatype that has typed contents comes back in them, value for value."""
    request = InferRequest(model_name="echo")
    for datatype, (_, field, values) in TYPED.items():
        add_input(request, f"in_{datatype}", datatype, [3], field=field, values=values)
    answer = everything.call("ModelInfer", request)
    assert 0 == len(answer.raw_output_contents)
    outputs = {tensor.name: (tensor.datatype, list(tensor.shape), tensor.contents) for tensor in answer.outputs}
    assert {f"out_{datatype}" for datatype in TYPED} == outputs.keys()
    assert [item.contents for item in request.inputs] == [outputs[f"out_{datatype}"][2] for datatype in TYPED]
    assert [(datatype, [3]) for datatype in TYPED] == [outputs[f"out_{datatype}"][:2] for datatype in TYPED]


def test_answers_raw_contents_with_raw_contents(everything: Client) -> None:
    """Every such datatype comes back raw, byte for byte, in the order of the outputs."""
    request = InferRequest(model_name="echo", id="7", raw_input_contents=RAW.values())
    for datatype in RAW:
        add_input(request, f"in_{datatype}", datatype, [3])
    answer = everything.call("ModelInfer", request)
    assert ("echo", "7") == (answer.model_name, answer.id)
    assert not any(tensor.HasField("contents") for tensor in answer.outputs)
    names = [tensor.name for tensor in answer.outputs]
    contents = dict(zip(names, answer.raw_output_contents, strict=True))
    assert {f"out_{datatype}": data for datatype, data in RAW.items()} == contents


def test_carries_sixteen_bit_floats_raw_alone(launch: Launch, connect: Connect, tmp_path: Path) -> None:
    """FP16 and BF16 have no typed contents: they come back bit for bit, and are refused in words otherwise."""
    model = echo({"FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16})
    client = connect(launch(write_manifest(tmp_path, model, name="echo"), GRPC_PORT="0").wait_ready())
    data = {"FP16": np.array([0.5, np.inf], "<f2").tobytes(), "BF16": b"\x80\x3f\xc0\x7f"}
    request = InferRequest(model_name="echo", raw_input_contents=data.values())
    for datatype in data:
        add_input(request, f"in_{datatype}", datatype, [2])
    assert list(data.values()) == list(client.call("ModelInfer", request).raw_output_contents)
    typed = InferRequest(model_name="echo")
    for datatype in data:
        add_input(typed, f"in_{datatype}", datatype, [2], field="fp32_contents", values=[0.5, 1.0])
    refusal = client.refusal("ModelInfer", typed)
    words = "the data of input `in_FP16`: there are no contents for FP16; send raw_input_contents"
    assert (StatusCode.INVALID_ARGUMENT, words) == (refusal.code, refusal.words)


def test_answers_raw_where_an_output_has_no_contents(launch: Launch, connect: Connect, tmp_path: Path) -> None:
    """To a typed request too: an answer has one form for all its outputs."""
    cast = helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16)
    twice = helper.make_node("Add", ["x", "x"], ["double"])
    outputs = {"half": (TensorProto.FLOAT16, ["N"]), "double": (TensorProto.FLOAT, ["N"])}
    model = graph([cast, twice], {"x": (TensorProto.FLOAT, ["N"])}, outputs)
    client = connect(launch(write_manifest(tmp_path, model, name="cast"), GRPC_PORT="0").wait_ready())
    request = InferRequest(model_name="cast")
    add_input(request, "x", "FP32", [1], field="fp32_contents", values=[1.5])
    expected = [np.array([1.5], "<f2").tobytes(), np.array([3.0], "<f4").tobytes()]
    assert expected == list(client.call("ModelInfer", request).raw_output_contents)
    request.outputs.add(name="double")
    assert [3.0] == list(client.call("ModelInfer", request).outputs[0].contents.fp32_contents)


def test_sends_only_the_outputs_that_are_asked_for(everything: Client) -> None:
    """In the order in which they are asked for."""
    request = InferRequest(model_name="echo", raw_input_contents=RAW.values())
    for datatype in RAW:
        add_input(request, f"in_{datatype}", datatype, [3])
    request.outputs.add(name="out_INT8")
    request.outputs.add(name="out_BOOL")
    answer = everything.call("ModelInfer", request)
    assert ["out_INT8", "out_BOOL"] == [tensor.name for tensor in answer.outputs]
    assert [RAW["INT8"], RAW["BOOL"]] == list(answer.raw_output_contents)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_takes_compressed_messages(adder: Client, compression: grpc.Compression) -> None:
    """As tritonclient can send them."""
    answer = adder.call("ModelInfer", raw_sum(50), compression=compression)
    assert [np.full(100, 3, "<f4").tobytes()] == list(answer.raw_output_contents)


def change(request: Any, **members: Any) -> Any:
    """`request` with members of its first input set anew."""
    first = request.inputs[0]
    for name, value in members.items():
        first.ClearField(name)
        getattr(first, name).extend(value) if name == "shape" else setattr(first, name, value)
    return request


def with_contents(request: Any, field: str, values: list[Any]) -> Any:
    """`request` with other contents in its first input."""
    request.inputs[0].ClearField("contents")
    getattr(request.inputs[0].contents, field).extend(values)
    return request


def with_raw(request: Any, *contents: bytes) -> Any:
    request.ClearField("raw_input_contents")
    request.raw_input_contents.extend(contents)
    return request


def with_timeout(**parameter: Any) -> Any:
    request = typed_sum()
    request.parameters["timeout"].CopyFrom(protocol.InferParameter(**parameter))
    return request


ONES = np.ones(2, "<f4").tobytes()
NOT_A_TIMEOUT = "the parameter `timeout` is not a whole number of microseconds in int64_param"
BAD = [
    (typed_sum(model_version="9"), "NOT_FOUND", "unknown version `9`"),
    (InferRequest(model_name="x"), "NOT_FOUND", "unknown model `x`; this server has `adder`"),
    (InferRequest(), "NOT_FOUND", "unknown model ``"),
    (InferRequest(model_name="adder"), "INVALID_ARGUMENT", "missing input `a`, `b`"),
    (change(typed_sum(), name="b"), "INVALID_ARGUMENT", "an input is given twice"),
    (change(typed_sum(), name="c"), "INVALID_ARGUMENT", "unknown input `c`"),
    (change(typed_sum(), datatype="FP64"), "INVALID_ARGUMENT", "input `a` is FP64; the model wants FP32"),
    (change(typed_sum(), datatype=""), "INVALID_ARGUMENT", "input `a` is ; the model wants FP32"),
    (change(typed_sum(), shape=[2]), "INVALID_ARGUMENT", "input `a` has shape [2]; the model wants [-1, 2]"),
    (change(typed_sum(), shape=[-1, 2]), "INVALID_ARGUMENT", "input `a` has shape [-1, 2]; a size is 0 or more"),
    (change(typed_sum(), shape=[0, 2]), "INVALID_ARGUMENT", "input `a` is empty"),
    (change(typed_sum(), shape=[2, 2]), "INVALID_ARGUMENT", "has 2 elements in fp32_contents; shape [2, 2] has 4"),
    (change(raw_sum(), shape=[2, 2]), "INVALID_ARGUMENT", "has 8 bytes; shape [2, 2] of FP32 has 16"),
    (raw_sum(101), "INVALID_ARGUMENT", "input `a` has 101 rows; at most 100 are taken at once"),
    (with_contents(typed_sum(), "fp64_contents", [1, 1]), "INVALID_ARGUMENT", "is in fp64_contents; FP32 belongs into"),
    (with_contents(typed_sum(), "fp32_contents", []), "INVALID_ARGUMENT", "has 0 elements in fp32_contents"),
    (with_contents(raw_sum(), "fp32_contents", [1, 1]), "INVALID_ARGUMENT", "both contents and raw_input_contents"),
    (with_raw(raw_sum(), ONES), "INVALID_ARGUMENT", "there are 2 inputs and 1 raw_input_contents"),
    (with_raw(raw_sum(), ONES, ONES, ONES), "INVALID_ARGUMENT", "there are 2 inputs and 3 raw_input_contents"),
    (with_raw(raw_sum(), ONES, ONES[:-1]), "INVALID_ARGUMENT", "the data of input `b` has 7 bytes"),
    (typed_sum(outputs=[{"name": "product"}]), "INVALID_ARGUMENT", "unknown output `product`; the model has `sum`"),
    (with_timeout(string_param="1"), "INVALID_ARGUMENT", NOT_A_TIMEOUT),
    (with_timeout(int64_param=-1), "INVALID_ARGUMENT", NOT_A_TIMEOUT),
    (with_timeout(int64_param=1), "DEADLINE_EXCEEDED", "its deadline passed after"),
]


@pytest.mark.parametrize(("request_", "code", "words"), BAD, ids=[f"{code}: {words[:50]}" for _, code, words in BAD])
def test_refuses_in_words(adder: Client, request_: Any, code: str, words: str) -> None:
    """A request that cannot be answered gets a code and the place of its fault; the next one is answered."""
    refusal = adder.refusal("ModelInfer", request_)
    assert (StatusCode[code], True) == (refusal.code, words in refusal.words), refusal.words
    assert [3.0, 3.0] == list(adder.call("ModelInfer", typed_sum()).outputs[0].contents.fp32_contents)


def test_refuses_numbers_out_of_range(everything: Client) -> None:
    """int_contents and uint_contents hold more than the small datatypes do; and text must be text."""
    for datatype, value, words in (
        ("INT8", 128, "a number out of the range of INT8"),
        ("UINT16", 2**16, "a number out of the range of UINT16"),
        ("BYTES", b"\xff", "element 0 is not UTF-8 text"),
    ):
        request = InferRequest(model_name="echo")
        for name, (_, field, values) in TYPED.items():
            sent = [value, *values[1:]] if name == datatype else values
            add_input(request, f"in_{name}", name, [3], field=field, values=sent)
        assert words in everything.refusal("ModelInfer", request).words


def test_refuses_what_is_no_message(adder: Client) -> None:
    """Bytes that are not protobuf are the caller's fault, whichever the call."""
    for name in ("ServerLive", "ModelReady", "ModelMetadata", "ModelInfer"):
        send = adder.channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
        with pytest.raises(grpc.RpcError) as raised:
            send(b"\xff\xff", timeout=30)
        expected = (StatusCode.INVALID_ARGUMENT, f"the message is not an inference.{name}Request")
        assert expected == (raised.value.code(), raised.value.details())


def test_refuses_other_calls(adder: Client) -> None:
    """Triton's further calls are UNIMPLEMENTED."""
    with pytest.raises(grpc.RpcError) as raised:
        adder.channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")(b"", timeout=30)
    assert StatusCode.UNIMPLEMENTED == raised.value.code()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_message_breaks_the_server(adder: Client, data: st.DataObject) -> None:
    """Whatever stands in a message, it is answered or refused as the caller's fault; the next is right."""
    request = data.draw(st.sampled_from([typed_sum(), raw_sum(), typed_sum(outputs=[{"name": "sum"}])]))
    message = bytearray(request.SerializeToString())
    begin = data.draw(st.integers(0, len(message)))
    end = data.draw(st.integers(begin, min(len(message), begin + 8)))
    message[begin:end] = data.draw(st.binary(max_size=8))
    call = adder.channel.unary_unary(INFER_PATH).future(bytes(message), timeout=30)
    assert call.code() in (StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND), call.details()
    assert [np.full(2, 3, "<f4").tobytes()] == list(adder.call("ModelInfer", raw_sum()).raw_output_contents)


def test_sends_an_output_once_to_who_asks_twice(adder: Client) -> None:
    """As over HTTP: a small request must not ask for an answer of any size."""
    answer = adder.call("ModelInfer", raw_sum(outputs=[{"name": "sum"}, {"name": "sum"}]))
    assert 1 == len(answer.raw_output_contents)
