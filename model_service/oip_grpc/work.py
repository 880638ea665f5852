"""One inference over gRPC: from a ModelInferRequest to the bytes of a ModelInferResponse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_service.errors import RequestRefused
from model_service.inference.binary_tensors import from_bytes, to_bytes
from model_service.inference.classification import CLASSIFIED, LabelsOf, check_classification, classify
from model_service.inference.infer import asked_outputs, check_header
from model_service.oip_grpc.contents import FIELDS, fill_contents, from_contents
from model_service.oip_grpc.messages import ModelInferResponse
from model_service.oip_grpc.parameters import classes_of, refuse_unsupported, timeout_s
from model_service.runtime.model import Model
from model_service.scheduling.job import Answer, Inputs
from model_service.tensors import Array, Datatype, TensorSpec, check_names, check_symbols


class ModelInferWork:
    """A ModelInferRequest to `model`."""

    __slots__ = ("_classes", "_labels_of", "_max_rows", "_model", "_request")

    def __init__(self, model: Model, request: Any, max_rows: int, labels_of: LabelsOf) -> None:
        self._model = model
        self._request = request
        self._max_rows = max_rows
        self._labels_of = labels_of
        self._classes: dict[str, int] = {}

    def read(self) -> Inputs:
        """The inputs, checked: names first, then shapes, then elements. Raises RequestRefused(400)."""
        request, model = self._request, self._model
        names = {item.name for item in request.inputs}
        if len(names) != len(request.inputs):
            raise RequestRefused(400, "an input is given twice")
        check_names(names, model.inputs)
        refuse_unsupported(request)
        output_names = self._output_names()
        self._classes = classes_of(request)
        for name in self._classes:
            check_classification(model.outputs_by_name[name])
        read = self._read_raw() if request.raw_input_contents else self._read_typed()
        if model.shares_symbols:
            sizes: dict[str, int] = {}
            for spec in model.inputs:
                check_symbols(read[spec.name].shape, spec, sizes)
        arrays = {spec.name: read[spec.name] for spec in model.inputs}
        return Inputs(arrays, model.count_rows(arrays), output_names, timeout_s(request))

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The outputs that were asked for, all of them in one form: raw unless the request was typed.

        Triton always answers raw; a caller that sends typed contents may know only those. FP16 and BF16 have no others
        than raw: https://github.com/triton-inference-server/server/issues/2937
        """
        request, model = self._request, self._model
        chosen = [(name, *self._chosen(name, outputs[name])) for name in self._output_names()]
        is_typed = any(item.HasField("contents") for item in request.inputs)
        is_typed = is_typed and all(datatype.name in FIELDS for _, datatype, _ in chosen)
        response = ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
        for name, datatype, array in chosen:
            tensor = response.outputs.add(name=name, datatype=datatype.name, shape=array.shape)
            if is_typed:
                fill_contents(tensor.contents, array, datatype)
            else:
                response.raw_output_contents.append(bytes(to_bytes(array)))
        return Answer(response.SerializeToString(), b"application/grpc")

    def _chosen(self, name: str, array: Array) -> tuple[Datatype, Array]:
        """The output as it is, or its classes."""
        spec = self._model.outputs_by_name[name]
        if name not in self._classes:
            return spec.datatype, array
        return CLASSIFIED, classify(array, spec, self._classes[name], self._labels_of.get(name, ()))

    def _output_names(self) -> tuple[str, ...]:
        return asked_outputs([output.name for output in self._request.outputs], self._model)

    def _read_raw(self) -> dict[str, Array]:
        request = self._request
        if len(request.raw_input_contents) != len(request.inputs):
            counts = f"{len(request.inputs)} inputs and {len(request.raw_input_contents)} raw_input_contents"
            raise RequestRefused(400, f"there are {counts}; each input needs one, in the same order")
        arrays = {}
        for item, data in zip(request.inputs, request.raw_input_contents, strict=True):
            spec = self._check(item)
            if item.HasField("contents"):
                raise RequestRefused(400, f"input `{item.name}` has both contents and raw_input_contents")
            arrays[item.name] = from_bytes(memoryview(data), spec.datatype, item.shape, what=_what(item))
        return arrays

    def _read_typed(self) -> dict[str, Array]:
        arrays = {}
        for item in self._request.inputs:
            spec = self._check(item)
            arrays[item.name] = from_contents(item.contents, spec.datatype, item.shape, what=_what(item))
        return arrays

    def _check(self, item: Any) -> TensorSpec:
        """The signature of an InferInputTensor, to which its datatype and shape fit."""
        spec = self._model.inputs_by_name[item.name]
        if any(size < 0 for size in item.shape):  # which JSON's reader refuses by itself
            raise RequestRefused(400, f"input `{item.name}` has shape {list(item.shape)}; a size is 0 or more")
        check_header(item.datatype, item.shape, spec, max_rows=self._max_rows)
        return spec


def _what(item: Any) -> str:
    return f"the data of input `{item.name}`"
