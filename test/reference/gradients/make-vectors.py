"""Writes the models and vectors beside this file: small PyTorch models as its exporter writes them, with a batch, the loss and its gradients.

    pip install torch onnx numpy
    python test/reference/gradients/make-vectors.py
"""

import base64
import io
import json
import pathlib

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
BATCH = 4
CLASSES = 3


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AvgPool2d(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 2 * 2, 10), nn.Tanh(), nn.Linear(10, CLASSES))

    def forward(self, x):
        return self.head(self.features(x))


class Residual(nn.Module):
    """A basic block of a ResNet with a stride and a projection."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Residual(2, 4, 1), Residual(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


class MobileNet(nn.Module):
    """An inverted residual with a depthwise convolution, as MobileNetV2 and V3 have it."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.Hardswish())
        self.project = nn.Sequential(nn.Conv2d(6, 3, 1, bias=False), nn.BatchNorm2d(3))
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x):
        y = x + self.project(self.depth(self.expand(x)))
        return self.head(y.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).split(d, dim=2)
        q, k, v = (z.view(b, t, self.heads, d // self.heads).transpose(1, 2) for z in (q, k, v))
        scores = q @ k.transpose(-2, -1) / (d // self.heads) ** 0.5
        if self.causal:
            mask = torch.tril(torch.ones(t, t)).bool()
            scores = scores.masked_fill(~mask, float("-1e9"))
        y = torch.softmax(scores, dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 2, False), Block(8, 2, False))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.blocks(x).mean(1))


class Decoder(nn.Module):
    """One prediction a position, as a language model has it."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 2, True), Block(8, 2, True))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES, bias=False)

    def forward(self, x):
        return self.head(self.norm(self.blocks(x)))


MODELS = {
    "mlp": (nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, CLASSES)), (5,)),
    "lenet": (LeNet(), (1, 12, 12)),
    "resnet": (ResNet(), (2, 6, 6)),
    "mobilenet": (MobileNet(), (3, 6, 6)),
    "encoder": (Encoder(), (5, 8)),
    "decoder": (Decoder(), (5, 8)),
}


def settle(model):
    """Statistics and scales that are not those of the start, so that forgetting one shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)


def main():
    vectors = {}
    for seed, (name, (model, shape)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        settle(model)
        model.eval()
        x = torch.randn(BATCH, *shape)
        logits = model(x)
        labels = torch.randint(0, CLASSES, logits.shape[:-1])
        loss = nn.functional.cross_entropy(logits.reshape(-1, CLASSES), labels.reshape(-1))
        loss.backward()
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
            training=torch.onnx.TrainingMode.PRESERVE,
        )
        vectors[name] = {
            "model": base64.b64encode(buffer.getvalue()).decode(),
            "inputShape": list(x.shape),
            "input": x.flatten().tolist(),
            "labelShape": list(labels.shape),
            "labels": labels.flatten().tolist(),
            "loss": loss.item(),
            "gradients": {key: p.grad.flatten().tolist() for key, p in model.named_parameters()},
        }
    text = json.dumps({"made by": "make-vectors.py", "torch": torch.__version__, "vectors": vectors})
    (HERE / "vectors.json").write_text(text + "\n")


main()
