"""Writes the vectors beside this file: small PyTorch models as its exporter writes them, with a batch, the loss and its gradients.

    pip install torch onnx numpy
    python test/reference/gradients/make-vectors.py [NAME ...]
"""

import base64
import io
import json
import pathlib
import sys

import numpy
import onnx
import torch
from torch import nn

import models
from models import CLASSES

HERE = pathlib.Path(__file__).parent
BATCH = 4

MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, CLASSES)), (5,)),
    "lenet": (models.LeNet, (1, 12, 12)),
    "resnet": (models.ResNet, (2, 6, 6)),
    "mobilenet": (models.MobileNet, (3, 6, 6)),
    "encoder": (models.Encoder, (5, 8)),
    "decoder": (models.Decoder, (5, 8)),
    "gpt": (models.Gpt, (6,)),
    "lstm": (lambda: models.Recurrent(nn.LSTM), (5, 4)),
    "gru": (lambda: models.Recurrent(nn.GRU), (5, 4)),
    "generator": (models.Generator, (2, 8, 8)),
    "resnet18": (models.ResNet18, (3, 32, 32)),
    "mobilenetv2": (models.MobileNetV2, (3, 12, 12)),
}

# Their BatchNorms are exported in training mode, so that the statistics of the batch are used and the running ones move.
TRAINING = {"resnet18", "mobilenetv2"}


def settle(model):
    """Statistics and scales that are not those of the start, so that forgetting one shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)


def packed(values):
    return base64.b64encode(numpy.asarray(values.detach(), dtype="<f4").tobytes()).decode()


def exported(model, x, training):
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (x,),
        buffer,
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}},
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.PRESERVE,
    )
    return buffer.getvalue()


def moved_statistics(model, counts):
    """Running statistics after a step by ONNX's rule, which takes the population's variance where PyTorch takes the sample's."""
    moved = {}
    for name, module in model.named_modules():
        if name not in counts:
            continue
        before, after, pace = module.before, module.running_var, module.momentum
        sample = (after - (1 - pace) * before) / pace
        population = sample * (counts[name] - 1) / counts[name]
        moved[f"{name}.running_mean"] = packed(module.running_mean)
        moved[f"{name}.running_var"] = packed((1 - pace) * before + pace * population)
    return moved


def watch(model, onnx_bytes):
    """Sets the running statistics to those that were exported, and counts what each BatchNorm sees."""
    stored = {tensor.name: tensor for tensor in onnx.load_from_string(onnx_bytes).graph.initializer}
    counts = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.BatchNorm2d):
            continue
        for part in ("running_mean", "running_var"):
            values = onnx.numpy_helper.to_array(stored[f"{name}.{part}"]).copy()
            getattr(module, part).copy_(torch.from_numpy(values))
        module.before = module.running_var.clone()
        module.register_forward_pre_hook(
            lambda layer, inputs, name=name: counts.__setitem__(name, inputs[0].numel() / layer.num_features)
        )
    return counts


def make(seed, name):
    torch.manual_seed(seed)
    build, shape = MODELS[name]
    training = name in TRAINING
    model = build()
    settle(model)
    model.train(training)
    is_tokens = name == "gpt"
    x = torch.randint(0, models.Gpt.vocabulary, (BATCH, *shape)) if is_tokens else torch.randn(BATCH, *shape)
    onnx_bytes = exported(model, x, training)
    model.train(training)
    counts = watch(model, onnx_bytes) if training else {}
    logits = model(x)
    classes = logits.shape[-1]
    labels = torch.randint(0, classes, logits.shape[:-1])
    loss = nn.functional.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1))
    loss.backward()
    return {
        "made by": "make-vectors.py",
        "torch": torch.__version__,
        "model": base64.b64encode(onnx_bytes).decode(),
        "inputShape": list(x.shape),
        "input": packed(x),
        "labelShape": list(labels.shape),
        "labels": labels.flatten().tolist(),
        "loss": loss.item(),
        "gradients": {key: packed(p.grad) for key, p in model.named_parameters()},
        "statistics": moved_statistics(model, counts),
    }


for seed, name in enumerate(MODELS):
    if len(sys.argv) == 1 or name in sys.argv[1:]:
        (HERE / f"{name}.json").write_text(json.dumps(make(seed, name)) + "\n")
