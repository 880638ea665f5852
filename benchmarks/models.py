"""The models that are served: random weights from a fixed seed, a dynamic batch axis, made with onnx.helper.

mlp          32 -> 64 -> 8                                                     11 kB
resnet50     224x224, batch normalisation folded into the convolutions        102 MB
transformer  6 layers, hidden size 384, 12 heads, 64 token ids in              90 MB
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 20261126
OPSET = 20
VOCABULARY, TOKENS, HIDDEN, HEADS, LAYERS = 30522, 64, 384, 12, 6
RESNET_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


@dataclass(frozen=True)
class Work:
    """A model and how many different requests are sent to it in rotation."""

    name: str
    input_name: str
    row_shape: tuple[int, ...]
    datatype: str
    distinct: int

    def path(self, directory: Path) -> Path:
        """Where the model's file lies."""
        return directory / "models" / f"{self.name}.onnx"

    def rows(self) -> np.ndarray:
        """The inputs, [distinct, 1, *row_shape]; floats have five decimals, as a client's JSON would."""
        random = np.random.default_rng(SEED)
        shape = (self.distinct, 1, *self.row_shape)
        if self.datatype == "INT64":
            return random.integers(0, VOCABULARY, shape, dtype=np.int64)
        return random.normal(size=shape).round(5).astype(np.float32)


MLP = Work("mlp", "x", (32,), "FP32", 64)
RESNET = Work("resnet50", "image", (3, 224, 224), "FP32", 16)
TRANSFORMER = Work("transformer", "ids", (TOKENS,), "INT64", 64)


def make(work: Work, directory: Path) -> Path:
    """The model's file, made unless it is there."""
    path = work.path(directory)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        onnx.save(BUILDERS[work.name](), unfinished)
        unfinished.rename(path)
    return path


@dataclass
class Graph:
    """Nodes and weights under construction; each method adds a node and gives its output's name."""

    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, deviation: float) -> str:
        return self.constant(self.random.normal(0, deviation, shape).astype(np.float32))

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        product = self.add("MatMul", x, self.weight(inputs, outputs, deviation=math.sqrt(1 / inputs)))
        return self.add("Add", product, self.weight(outputs, deviation=0.02))

    def convolution(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = 2) -> str:
        weight = self.weight(outputs, inputs, kernel, kernel, deviation=math.sqrt(gain / (inputs * kernel**2)))
        pads = [kernel // 2] * 4
        return self.add("Conv", x, weight, self.weight(outputs, deviation=0.02), strides=[stride] * 2, pads=pads)

    def model(self, work: Work, output: str, output_size: int) -> onnx.ModelProto:
        kind = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64}[work.datatype]
        inputs = [helper.make_tensor_value_info(work.input_name, kind, ["N", *work.row_shape])]
        outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", output_size])]
        self.nodes.append(helper.make_node("Identity", [output], ["output"]))
        graph = helper.make_graph(self.nodes, work.name, inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def make_mlp() -> onnx.ModelProto:
    """32 -> 64 -> 8."""
    graph = Graph()
    hidden = graph.add("Relu", graph.dense(MLP.input_name, 32, 64))
    return graph.model(MLP, graph.dense(hidden, 64, 8), 8)


def make_resnet50() -> onnx.ModelProto:
    """https://arxiv.org/abs/1512.03385, table 1, with the stride in the 3x3 convolution."""
    graph = Graph()
    x = graph.add("Relu", graph.convolution(RESNET.input_name, 3, 64, 7, stride=2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, stride in RESNET_STAGES:
        for block in range(blocks):
            x = bottleneck(graph, x, channels, width, stride if block == 0 else 1)
            channels = 4 * width
    pooled = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    return graph.model(RESNET, graph.dense(pooled, channels, 1000), 1000)


def bottleneck(graph: Graph, x: str, channels: int, width: int, stride: int) -> str:
    """1x1, 3x3, 1x1 beside a short cut; small last weights keep the sum's variance near one."""
    narrow = graph.add("Relu", graph.convolution(x, channels, width, 1))
    middle = graph.add("Relu", graph.convolution(narrow, width, width, 3, stride))
    wide = graph.convolution(middle, width, 4 * width, 1, gain=0.2)
    is_same = channels == 4 * width and stride == 1
    short_cut = x if is_same else graph.convolution(x, channels, 4 * width, 1, stride, gain=1)
    return graph.add("Relu", graph.add("Add", wide, short_cut))


def make_transformer() -> onnx.ModelProto:
    """A post-norm encoder like MiniLM-L6: token ids in, the mean of the last layer's tokens out."""
    graph = Graph()
    tokens = graph.add("Gather", graph.weight(VOCABULARY, HIDDEN, deviation=1), TRANSFORMER.input_name)
    x = normalise(graph, graph.add("Add", tokens, graph.weight(TOKENS, HIDDEN, deviation=0.2)))
    for _ in range(LAYERS):
        x = normalise(graph, graph.add("Add", x, attention(graph, x)))
        x = normalise(graph, graph.add("Add", x, feed_forward(graph, x)))
    axes = graph.constant(np.array([1], np.int64))
    return graph.model(TRANSFORMER, graph.add("ReduceMean", x, axes, keepdims=0), HIDDEN)


def normalise(graph: Graph, x: str) -> str:
    scale, bias = graph.constant(np.ones(HIDDEN, np.float32)), graph.constant(np.zeros(HIDDEN, np.float32))
    return graph.add("LayerNormalization", x, scale, bias, axis=-1)


def attention(graph: Graph, x: str) -> str:
    size = HIDDEN // HEADS
    split = graph.constant(np.array([0, TOKENS, HEADS, size], np.int64))
    join = graph.constant(np.array([0, TOKENS, HIDDEN], np.int64))

    def heads(order: list[int]) -> str:
        return graph.add("Transpose", graph.add("Reshape", graph.dense(x, HIDDEN, HIDDEN), split), perm=order)

    query, key, value = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
    scores = graph.add("Mul", graph.add("MatMul", query, key), graph.constant(np.float32(1 / math.sqrt(size))))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    joined = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), join)
    return graph.dense(joined, HIDDEN, HIDDEN)


def feed_forward(graph: Graph, x: str) -> str:
    return graph.dense(graph.add("Gelu", graph.dense(x, HIDDEN, 4 * HIDDEN)), 4 * HIDDEN, HIDDEN)


BUILDERS = {"mlp": make_mlp, "resnet50": make_resnet50, "transformer": make_transformer}
