"""Quantizes small models with onnxruntime's own tool and writes what it made to vectors.json.

Run once, outside the project's build:
    python3 -m venv /tmp/q && /tmp/q/bin/pip install onnx onnx-ir onnxruntime && /tmp/q/bin/python make-vectors.py
"""
import base64
import json
import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

rng = np.random.default_rng(7)
HERE = os.path.dirname(os.path.abspath(__file__))


def model(nodes, weights, shape, width, name):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dense():
    weights = {"w1": rng.normal(size=(12, 16)), "w2": rng.normal(size=(16, 5)) * np.array([1, 10, 0.1, 1, 0])}
    nodes = [
        helper.make_node("MatMul", ["input", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["output"], "second"),
    ]
    return model(nodes, weights, [12], 5, "dense")


def convolutions():
    weights = {
        "w1": rng.normal(size=(4, 1, 3, 3)),
        "b1": rng.normal(size=4),
        "w2": rng.normal(size=(6, 4, 3, 3)) * 0.3,
        "b2": rng.normal(size=6),
        "w3": rng.normal(size=(6, 3)),
        "b3": rng.normal(size=3),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], "conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "mean"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["output"], "head"),
    ]
    return model(nodes, weights, [1, 8, 8], 3, "convolutions")


def residual():
    weights = {
        "w1": rng.normal(size=(4, 4, 3, 3)) * 0.3,
        "w2": rng.normal(size=(4, 4, 1, 1)),
        "w3": rng.normal(size=(4, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c1", "w2"], ["c2"], "conv2"),
        helper.make_node("Add", ["c1", "c2"], ["s"], "sum"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "mean"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "w3"], ["output"], "head"),
    ]
    return model(nodes, weights, [4, 6, 6], 3, "residual")


class Reader(CalibrationDataReader):
    def __init__(self, inputs):
        self.left = [{"input": inputs}]

    def get_next(self):
        return self.left.pop() if self.left else None


def constants(path):
    """Every initializer and the scale and zero point of every rounded value, by the value's name."""
    graph = onnx.load(path).graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    rounded = {
        n.input[0]: {"scale": float(tensors[n.input[1]]), "zero": int(tensors[n.input[2]])}
        for n in graph.node
        if n.op_type == "QuantizeLinear" and n.input[1] in tensors
    }
    return tensors, rounded


def run(path, inputs):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0].ravel().tolist()


def weights_of(tensors, names):
    found = {}
    for name in names:
        codes = tensors.get(f"{name}_quantized")
        if codes is not None:
            scale = tensors.get(f"{name}_scale", tensors.get(f"{name}_quantized_scale"))
            found[name] = {"codes": codes.ravel().tolist(), "scales": np.ravel(scale).astype(float).tolist()}
    return found


vectors = []
with tempfile.TemporaryDirectory() as folder:
    for build, shape in ((dense, (12,)), (convolutions, (1, 8, 8)), (residual, (4, 6, 6))):
        float_model = build()
        name = float_model.graph.name
        source = os.path.join(folder, f"{name}.onnx")
        onnx.save(float_model, source)
        inputs = rng.normal(size=(6, *shape)).astype(np.float32)
        names = [t.name for t in float_model.graph.initializer]
        forms = {}

        target = os.path.join(folder, "made.onnx")
        dynamic_options = dict(per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
        if name != "convolutions":
            quantize_dynamic(source, target, **dynamic_options)
            tensors, _ = constants(target)
            forms["dynamic-int8"] = {"weights": weights_of(tensors, names), "outputs": run(target, inputs)}
        for kind, activation in (("uint8", QuantType.QUInt8), ("int8", QuantType.QInt8)):
            quantize_static(
                source,
                target,
                Reader(inputs),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=activation,
                weight_type=QuantType.QInt8,
            )
            tensors, rounded = constants(target)
            forms[f"static-int8 {kind}"] = {
                "weights": weights_of(tensors, names),
                "rounded": rounded,
                "outputs": run(target, inputs),
            }
        if name == "dense":
            for bits in (4, 8):
                quantizer = MatMulNBitsQuantizer(
                    onnx.load(source), bits=bits, block_size=16, is_symmetric=True, accuracy_level=1
                )
                quantizer.process()
                made = quantizer.model.model
                onnx.save(made, target)
                tensors = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
                nodes = [n for n in made.graph.node if n.op_type == "MatMulNBits"]
                forms[f"int{bits}-blocks"] = {
                    "blocks": [
                        {
                            "codes": tensors[n.input[1]].ravel().tolist(),
                            "scales": tensors[n.input[2]].ravel().astype(float).tolist(),
                        }
                        for n in nodes
                    ],
                    "outputs": run(target, inputs),
                }
        vectors.append(
            {
                "name": name,
                "model": base64.b64encode(float_model.SerializeToString()).decode(),
                "inputs": inputs.ravel().tolist(),
                "dims": list(inputs.shape),
                "exact": run(source, inputs),
                "forms": forms,
            }
        )
with open(os.path.join(HERE, "vectors.json"), "w") as file:
    json.dump({"onnx": onnx.__version__, "onnxruntime": ort.__version__, "vectors": vectors}, file)
