"""Quantizes small models with onnxruntime's own tool and writes what it made, a file for each model.

Run once, outside the project's build:
    python3 -m venv /tmp/q && /tmp/q/bin/pip install onnx==1.23.2 onnx-ir onnxruntime==1.32.0 && /tmp/q/bin/python make-vectors.py
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
from onnxruntime.quantization.calibrate import create_calibrator
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


def large_bias():
    """Biases so much larger than the weights that int32 would not hold their codes: the tool widens the weight's scale."""
    weights = {
        "w1": rng.normal(size=(4, 2, 3, 3)) * np.array([1, 1e-9, 1, 1e-7]).reshape(4, 1, 1, 1),
        "b1": np.array([0.5, 300, -2, 1e4]),
        "w2": rng.normal(size=(16, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], "conv1"),
        helper.make_node("Flatten", ["c1"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "w2"], ["output"], "head"),
    ]
    return model(nodes, weights, [2, 4, 4], 3, "large bias")


def transformer():
    """One layer of an encoder, as exporters write it: attention of two heads, LayerNormalization, exact GELU."""
    tokens, width, heads, inner = 5, 8, 2, 12
    weights = {name: rng.normal(size=(width, width)) * 0.4 for name in ("wq", "wk", "wv", "wo")}
    weights |= {name: rng.normal(size=width) * 0.2 for name in ("bq", "bk", "bv", "bo", "bd", "shift1", "shift2")}
    weights |= {"gain1": 1 + rng.normal(size=width) * 0.1, "gain2": 1 + rng.normal(size=width) * 0.1}
    weights |= {"wu": rng.normal(size=(width, inner)) * 0.4, "bu": rng.normal(size=inner) * 0.2}
    weights |= {"wd": rng.normal(size=(inner, width)) * 0.4, "wh": rng.normal(size=(width, 3))}
    weights |= {name: np.array(value) for name, value in (("root", 2**0.5), ("one", 1), ("half", 0.5))}
    weights |= {"scale": np.array((width / heads) ** -0.5)}
    node = helper.make_node
    nodes = []

    def dense(value, weight, bias, output):
        nodes.append(node("MatMul", [value, weight], [f"{output}_product"], f"{output}_product"))
        nodes.append(node("Add", [f"{output}_product", bias], [output], output))

    def split(value, output, perm):
        nodes.append(node("Reshape", [value, "split"], [f"{value}_split"], f"{value}_split"))
        nodes.append(node("Transpose", [f"{value}_split"], [output], output, perm=perm))

    dense("input", "wq", "bq", "q")
    dense("input", "wk", "bk", "k")
    dense("input", "wv", "bv", "v")
    split("q", "qh", [0, 2, 1, 3])
    split("k", "kh", [0, 2, 3, 1])
    split("v", "vh", [0, 2, 1, 3])
    nodes.append(node("MatMul", ["qh", "kh"], ["scores"], "scores"))
    nodes.append(node("Mul", ["scores", "scale"], ["scaled"], "scaled"))
    nodes.append(node("Softmax", ["scaled"], ["shares"], "shares", axis=-1))
    nodes.append(node("MatMul", ["shares", "vh"], ["mixed"], "mixed"))
    nodes.append(node("Transpose", ["mixed"], ["rows"], "rows", perm=[0, 2, 1, 3]))
    nodes.append(node("Reshape", ["rows", "join"], ["joined"], "joined"))
    dense("joined", "wo", "bo", "attended")
    nodes.append(node("Add", ["input", "attended"], ["sum1"], "sum1"))
    nodes.append(node("LayerNormalization", ["sum1", "gain1", "shift1"], ["norm1"], "norm1"))
    dense("norm1", "wu", "bu", "up")
    nodes.append(node("Div", ["up", "root"], ["divided"], "divided"))
    nodes.append(node("Erf", ["divided"], ["erf"], "erf"))
    nodes.append(node("Add", ["erf", "one"], ["raised"], "raised"))
    nodes.append(node("Mul", ["up", "raised"], ["doubled"], "doubled"))
    nodes.append(node("Mul", ["doubled", "half"], ["gelu"], "gelu"))
    dense("gelu", "wd", "bd", "down")
    nodes.append(node("Add", ["norm1", "down"], ["sum2"], "sum2"))
    nodes.append(node("LayerNormalization", ["sum2", "gain2", "shift2"], ["norm2"], "norm2"))
    nodes.append(node("ReduceMean", ["norm2"], ["mean"], "mean", axes=[1], keepdims=0))
    nodes.append(node("MatMul", ["mean", "wh"], ["output"], "head"))
    made = model(nodes, weights, [tokens, width], 3, "transformer")
    for name, shape in (("split", [0, tokens, heads, width // heads]), ("join", [0, tokens, width])):
        made.graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), name))
    return made


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


def ranges_of(path, inputs, folder):
    """Least and largest number of every value that the tool calibrates, by its own calibrator."""
    augmented = os.path.join(folder, "augmented.onnx")
    calibrator = create_calibrator(path, [], augmented_model_path=augmented)
    calibrator.collect_data(Reader(inputs))
    found = calibrator.compute_data().data
    return {name: [float(np.ravel(edge)[0]) for edge in data.range_value] for name, data in found.items()}


def biases_of(tensors, names):
    """Codes and scales of what the tool made int32."""
    return {
        name: {
            "codes": tensors[f"{name}_quantized"].ravel().tolist(),
            "scales": np.ravel(tensors[f"{name}_quantized_scale"]).astype(float).tolist(),
        }
        for name in names
        if f"{name}_quantized" in tensors and tensors[f"{name}_quantized"].dtype == np.int32
    }


def run(path, inputs):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0].ravel().tolist()


def weights_of(tensors, names):
    found = {}
    for name in names:
        codes = tensors.get(f"{name}_quantized")
        if codes is not None and codes.dtype != np.int32:
            scale = tensors.get(f"{name}_scale", tensors.get(f"{name}_quantized_scale"))
            found[name] = {"codes": codes.ravel().tolist(), "scales": np.ravel(scale).astype(float).tolist()}
    return found


with tempfile.TemporaryDirectory() as folder:
    for build, shape in (
        (dense, (12,)),
        (convolutions, (1, 8, 8)),
        (residual, (4, 6, 6)),
        (large_bias, (2, 4, 4)),
        (transformer, (5, 8)),
    ):
        float_model = build()
        name = float_model.graph.name
        source = os.path.join(folder, f"{name}.onnx")
        onnx.save(float_model, source)
        inputs = rng.normal(size=(6, *shape)).astype(np.float32)
        names = [t.name for t in float_model.graph.initializer]
        forms = {}

        target = os.path.join(folder, "made.onnx")
        dynamic_options = dict(per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
        if name not in ("convolutions", "large bias"):
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
                "biases": biases_of(tensors, names),
                "rounded": rounded,
                "ranges": ranges_of(source, inputs, folder),
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
        vector = {
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "name": name,
            "model": base64.b64encode(float_model.SerializeToString()).decode(),
            "inputs": inputs.ravel().tolist(),
            "dims": list(inputs.shape),
            "exact": run(source, inputs),
            "forms": forms,
        }
        with open(os.path.join(HERE, f"{name.replace(' ', '-')}.json"), "w") as file:
            json.dump(vector, file)
