"""Writes npz.json: archives as NumPy makes them, in base64. Run with any Python that has NumPy."""
import base64
import io
import json
import pathlib

import numpy as np


def archive(save=np.savez, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return base64.b64encode(buffer.getvalue()).decode()


arrays = dict(
    x=np.arange(12, dtype="float32").reshape(2, 3, 2) / 4,
    tokens=np.array([[1, 2], [3, 2**60]], dtype="int64"),
    half=np.array([1.5, -2], dtype="float16"),
    yes=np.array([True, False]),
    label=np.array([0, 2], dtype="uint8"),
)
archives = {
    "savez": archive(**arrays),
    "savez_compressed": archive(np.savez_compressed, **arrays),
    "fortran": archive(x=np.asfortranarray(np.ones((2, 3)))),
    "odd": archive(x=np.ones((2, 3)), y=np.ones(3)),
    "text": archive(x=np.array(["a", "b"])),
    "big": archive(x=np.ones(2, dtype=">f4")),
    "scalar": archive(x=np.float32(1)),
}
pathlib.Path(__file__).with_name("npz.json").write_text(json.dumps(archives, indent=1))
