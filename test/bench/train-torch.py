"""The models of train-models.ts in PyTorch. Reads lines `NAME BATCH STEPS` and answers each with the milliseconds of its steps, as JSON; `memory` with the peak of the process in bytes."""

import json
import resource
import sys
import time

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.skip = nn.Identity() if stride == 1 else projection

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.skip(x))


def resnet18(small):
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False)] if small else [nn.Conv2d(3, 64, 7, 2, 3, bias=False)]
    stem += [nn.BatchNorm2d(64), nn.ReLU()] + ([] if small else [nn.MaxPool2d(3, 2, 1)])
    blocks, channels = [], 64
    for stage, width in enumerate([64, 128, 256, 512]):
        blocks += [Residual(channels, width, 1 if stage == 0 else 2), Residual(width, width, 1)]
        channels = width
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        y = self.norm1(x)
        q, k, v = (f(y).view(b, t, self.heads, d // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, 128), nn.Parameter(0.02 * torch.randn(64, 128))
        self.blocks = nn.Sequential(Block(128, 4), Block(128, 4))
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.tokens(x) + self.places)).mean(1))


def dense(*widths):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def cnn():
    pool = nn.MaxPool2d(2)
    first = [nn.Conv2d(1, 32, 5, 1, 2), nn.ReLU(), pool]
    return nn.Sequential(*first, nn.Conv2d(32, 64, 5, 1, 2), nn.ReLU(), pool, nn.Flatten(), *dense(3136, 512, 10))


MODELS = {
    "2nn": (lambda: nn.Sequential(*dense(784, 200, 200, 10)), (784,)),
    "cnn": (cnn, (1, 28, 28)),
    "resnet18": (lambda: resnet18(False), (3, 32, 32)),
    "resnet18_small": (lambda: resnet18(True), (3, 32, 32)),
    "transformer": (Transformer, None),
}


def stepper(name, batch):
    make, shape = MODELS[name]
    model, loss_of = make().train(), nn.CrossEntropyLoss()
    x = torch.randint(0, 1000, (batch, 64)) if shape is None else torch.rand(batch, *shape)
    labels = torch.arange(batch) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step():
        optimizer.zero_grad()
        loss_of(model(x), labels).backward()
        optimizer.step()

    return step


ready = {}
print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    if line.strip() == "memory":
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024), flush=True)
        continue
    name, batch, steps = line.split()
    step = ready.setdefault((name, batch), stepper(name, int(batch)) if (name, batch) not in ready else None)
    times = []
    for _ in range(int(steps)):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps(times), flush=True)
