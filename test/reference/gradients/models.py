"""The models of make-vectors.py: those that people train, made narrow so that the vectors stay small."""

import torch
from torch import nn

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
    """A basic block of a ResNet, with a projection where the size changes or one is asked for."""

    def __init__(self, inputs, outputs, stride, projects=True):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.skip = projection if projects else nn.Identity()

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


class ResNet18(nn.Module):
    """All of ResNet-18 (He et al. 2016) with a sixteenth of its channels: 4, 8, 16, 32."""

    def __init__(self):
        super().__init__()
        widths = [4, 4, 8, 16, 32]
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks = []
        for stage in range(4):
            before, after = widths[stage], widths[stage + 1]
            stride = 1 if stage == 0 else 2
            blocks += [Residual(before, after, stride, stage > 0), Residual(after, after, 1, False)]
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


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


class InvertedResidual(nn.Module):
    """Sandler et al. 2018."""

    def __init__(self, inputs, outputs, stride, expansion=6):
        super().__init__()
        hidden = inputs * expansion
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNetV2(nn.Module):
    """The stem, an inverted residual that shrinks and one that adds, and the head; 4 and 6 channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6())
        self.body = nn.Sequential(InvertedResidual(4, 6, 2), InvertedResidual(6, 6, 1))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        y = nn.functional.adaptive_avg_pool2d(self.body(self.stem(x)), 1)
        return self.head(torch.flatten(y, 1))


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
    def __init__(self, width, heads, causal, approximate="none"):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate), nn.Linear(2 * width, width))

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


class Gpt(nn.Module):
    """GPT-2's shape (Radford et al. 2019): tokens, learned positions, GELU by tanh, the head is the embedding turned over."""

    vocabulary = 11

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(self.vocabulary, 16)
        self.positions = nn.Embedding(8, 16)
        self.blocks = nn.Sequential(*(Block(16, 4, True, "tanh") for _ in range(2)))
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        places = torch.arange(x.shape[1])
        y = self.norm(self.blocks(self.tokens(x) + self.positions(places)))
        return y @ self.tokens.weight.T


class Recurrent(nn.Module):
    """Reads a sequence both ways and answers from the last states."""

    def __init__(self, kind):
        super().__init__()
        self.layers = kind(4, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        y, _ = self.layers(x)
        return self.head(torch.cat([y[:, -1, :6], y[:, 0, 6:]], 1))


class Generator(nn.Module):
    """The other half of a segmentation: transposed convolutions, GroupNorm, an upsampling and a reflecting border."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1, padding_mode="reflect"),
            nn.GroupNorm(2, 4),
            nn.SiLU(),
            nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1, groups=2),
            nn.PReLU(4),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(4, 2, 3, 2, 1, groups=2, bias=False),
            nn.InstanceNorm2d(2, affine=True),
        )
        self.head = nn.Linear(2, CLASSES)

    def forward(self, x):
        return self.head(self.body(x).flatten(2).amax(2))
