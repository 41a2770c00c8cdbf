"""Quantizes an embedding table and LSTMs with onnxruntime's own tool (dynamic form), and writes what it made to layers.json.

Run once, outside the project's build:
    python3 -m venv /tmp/q && /tmp/q/bin/pip install onnx==1.23.2 onnxruntime==1.32.0 && /tmp/q/bin/python make-layers.py
"""
import base64
import json
import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import quantize_data

rng = np.random.default_rng(11)
HERE = os.path.dirname(os.path.abspath(__file__))


def model(name, nodes, weights, given, made):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", *given)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(path, inputs):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0].ravel().tolist()


def made_of(float_model, inputs, folder):
    """Outputs before and after, and every constant of what the tool made."""
    source, target = os.path.join(folder, "float.onnx"), os.path.join(folder, "made.onnx")
    onnx.save(float_model, source)
    types = ["MatMul", "Gather", "LSTM"]
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=types)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    vector = {
        "model": base64.b64encode(float_model.SerializeToString()).decode(),
        "inputs": inputs.ravel().tolist(),
        "dims": list(inputs.shape),
        "exact": run(source, inputs),
        "outputs": run(target, inputs),
    }
    return vector, tensors


def gather(folder):
    """Rows of very different size, as frequent and rare words have them."""
    rows, width = 24, 8
    sizes = np.exp(rng.normal(size=(rows, 1)) * 1.5)
    weights = {"table": rng.normal(size=(rows, width)) * sizes}
    nodes = [helper.make_node("Gather", ["table", "input"], ["output"], "embedding")]
    inputs = rng.integers(0, rows, size=(6, 4))
    float_model = model("gather", nodes, weights, (TensorProto.INT64, ["n", 4]), ["n", 4, width])
    vector, tensors = made_of(float_model, inputs, folder)
    table = weights["table"].astype(np.float32)
    # The tool's own arithmetic, on one row at a time.
    by_row = [quantize_data(row, TensorProto.INT8, True) for row in table]
    vector["whole"] = {"scale": float(tensors["table_scale"]), "zero": int(tensors["table_zero_point"])}
    vector["rows"] = {
        "codes": np.concatenate([codes for _, _, codes in by_row]).ravel().tolist(),
        "scales": [float(scale) for _, scale, _ in by_row],
    }
    return vector


def lstm(folder, direction):
    directions, hidden, size, steps = (2 if direction == "bidirectional" else 1), 6, 5, 4
    weights = {
        "w": rng.normal(size=(directions, 4 * hidden, size)) * 0.5,
        "r": rng.normal(size=(directions, 4 * hidden, hidden)) * 0.5,
        "b": rng.normal(size=(directions, 8 * hidden)) * 0.1,
    }
    nodes = [
        helper.make_node("LSTM", ["input", "w", "r", "b"], ["output"], "lstm", hidden_size=hidden, direction=direction)
    ]
    inputs = rng.normal(size=(steps, 3, size)).astype(np.float32)
    given = (TensorProto.FLOAT, [steps, "n", size])
    float_model = model("lstm", nodes, weights, given, [steps, directions, "n", hidden])
    vector, tensors = made_of(float_model, inputs, folder)
    vector["weights"] = {
        name: {
            "codes": tensors[f"{name}_quantized"].ravel().tolist(),
            "shape": list(tensors[f"{name}_quantized"].shape),
            "scales": tensors[f"{name}_scale"].ravel().astype(float).tolist(),
        }
        for name in ("w", "r")
    }
    return vector


with tempfile.TemporaryDirectory() as folder:
    vectors = {
        "gather": gather(folder),
        "lstm forward": lstm(folder, "forward"),
        "lstm bidirectional": lstm(folder, "bidirectional"),
    }
with open(os.path.join(HERE, "layers.json"), "w") as file:
    json.dump({"onnx": onnx.__version__, "onnxruntime": ort.__version__, "vectors": vectors}, file)
