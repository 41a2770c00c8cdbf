"""Has onnxruntime's own calibration choose ranges from given histograms, and writes them to thresholds.json.

Bins are a power of two wide, as ours are, so that both choose from the very same counts.

Run once, outside the project's build:
    python3 -m venv /tmp/q && /tmp/q/bin/pip install onnx==1.23.2 onnxruntime==1.32.0 && /tmp/q/bin/python make-thresholds.py
"""
import json
import os

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization.calibrate import HistogramCollector

rng = np.random.default_rng(13)
HERE = os.path.dirname(os.path.abspath(__file__))
BINS = 1024
PERCENTILES = (90, 99, 99.9, 99.99)


def samples():
    count = 20_000
    normal = rng.normal(size=count)
    yield "normal", normal
    yield "laplace", rng.laplace(size=count)
    yield "normal with outliers", np.concatenate([normal, np.array([-30.0, 25, 30, 31])])
    yield "relu", np.maximum(normal, 0)
    yield "relu with outliers", np.concatenate([np.maximum(normal, 0), np.array([20.0, 28, 30])])
    yield "skewed", rng.gamma(2, size=count) - 0.5
    yield "uniform", rng.uniform(-1, 1, size=count)


def chosen(histogram, **how):
    collector = HistogramCollector(symmetric=False, num_bins=BINS, scenario="same", **how)
    collector.histogram_dict = {"value": histogram}
    low, high = collector.compute_collection_result()["value"][:2]
    return [float(low), float(high)]


vectors = []
for name, values in samples():
    values = values.astype(np.float32)
    # The whole width is a power of two, and so is that of a bin. Zero parts two of them.
    reach = 2.0 ** np.ceil(np.log2(np.abs(values).max()))
    counts, edges = np.histogram(values, BINS, range=(-reach, reach))
    edges = edges.astype(np.float32)
    histogram = (counts, edges, values.min(), values.max(), np.float32(reach))
    vectors.append(
        {
            "name": name,
            "exponent": int(np.log2(2 * reach / BINS)),
            "first": -BINS // 2,
            "counts": counts.tolist(),
            "min": float(values.min()),
            "max": float(values.max()),
            "percentile": {
                str(percentile): chosen(histogram, method="percentile", percentile=percentile, num_quantized_bins=128)
                for percentile in PERCENTILES
            },
            # 128 levels, which is what the tool takes unless it is told otherwise, and those of eight bits.
            "entropy": {
                str(levels): chosen(histogram, method="entropy", percentile=99.99, num_quantized_bins=levels)
                for levels in (128, 256)
            },
        }
    )
with open(os.path.join(HERE, "thresholds.json"), "w") as file:
    json.dump({"onnxruntime": ort.__version__, "vectors": vectors}, file)
