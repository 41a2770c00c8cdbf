"""Writes vectors.json: losses with their gradients by PyTorch, and metrics by their definitions, over made-up predictions.

Run with a Python that has PyTorch (2.5 made the file). AUC is the share of pairs in order, ties counting half, which is what
scikit-learn's roc_auc_score computes; of several classes the mean over one class against the rest (multi_class="ovr"). F1 is the mean
over the classes that occur in predictions or targets, as f1_score(average="macro") has it.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(7)


def numbers(tensor):
    return [round(float(x), 9) for x in tensor.detach().double().flatten()]


def case(name, loss, prediction, target, value, options=None):
    value.backward()
    return dict(
        name=name,
        loss=loss,
        options=options or {},
        shape=list(prediction.shape),
        prediction=numbers(prediction),
        target=[float(x) if target.dtype.is_floating_point else int(x) for x in target.flatten()],
        value=float(value),
        gradient=numbers(prediction.grad),
    )


def draw(*shape):
    return (2 * torch.randn(*shape)).round(decimals=4).requires_grad_()


def losses():
    x, y = draw(5, 4), torch.tensor([0, 3, 1, 1, 2])
    yield case("plain", "cross-entropy", x, y, F.cross_entropy(x, y))
    x = draw(5, 4)
    yield case("smoothed", "cross-entropy", x, y, F.cross_entropy(x, y, label_smoothing=0.2), dict(labelSmoothing=0.2))
    x, w = draw(5, 4), torch.tensor([1.0, 0.5, 3.0, 0.0])
    yield case("weighed classes", "cross-entropy", x, y, F.cross_entropy(x, y, weight=w), dict(classWeights=w.tolist()))
    x, z = draw(2, 3, 4), torch.tensor([[0, -100, 2], [3, 3, -100]])
    yield case("a sequence with holes", "cross-entropy", x, z, F.cross_entropy(x.flatten(0, 1), z.flatten(), ignore_index=-100), dict(ignoreIndex=-100))
    x, z = draw(2, 3, 4), torch.tensor([[0, 1, 2], [3, 3, 1]])
    yield case("a sequence", "cross-entropy", x, z, F.cross_entropy(x.flatten(0, 1), z.flatten()))
    x, y = draw(4, 3), torch.tensor([[0.0, 1, 1], [1, 0, 0], [0.25, 0.5, 0], [1, 1, 1]])
    yield case("several outputs", "bce-with-logits", x, y, F.binary_cross_entropy_with_logits(x, y))
    for name, loss, function, options in [
        ("squares", "mse", F.mse_loss, {}),
        ("distances", "mae", F.l1_loss, {}),
        ("huber", "huber", F.huber_loss, {}),
        ("a wide huber", "huber", lambda a, b: F.huber_loss(a, b, delta=2.5), dict(delta=2.5)),
    ]:
        x, y = draw(4, 3), draw(4, 3).detach()
        yield case(name, loss, x, y, function(x, y), options)
    x, y = draw(4, 6), draw(4, 6).detach()
    yield case("vectors", "cosine", x, y, F.cosine_embedding_loss(x, y, torch.ones(4)))
    x, y = draw(2, 3, 4), draw(2, 3, 4).detach()
    yield case("vectors of a sequence", "cosine", x, y, (1 - F.cosine_similarity(x, y, dim=-1)).mean())
    for name, margin in [("triples", 1.0), ("triples with a margin", 4.0)]:
        x, y = draw(7, 3), torch.tensor([0, 1, 0, 2, 1, 0, 3])
        triples = [
            (a, p, n)
            for a in range(7)
            for p in range(7)
            for n in range(7)
            if a != p and y[a] == y[p] and y[a] != y[n]
        ]
        a, p, n = (x[list(index)] for index in zip(*triples))
        value = F.relu((a - p).norm(dim=1) - (a - n).norm(dim=1) + margin).mean()
        yield case(name, "triplet", x, y, value, dict(margin=margin))


def area(scores, positive):
    above, below = scores[positive], scores[~positive]
    pairs = above[:, None] - below[None, :]
    return float(((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean())


def f1(said, actual):
    scores = []
    for c in range(said.shape[1]):
        hits = float((said[:, c] & actual[:, c]).sum())
        marks = float(said[:, c].sum() + actual[:, c].sum())
        if marks > 0:
            scores.append(2 * hits / marks)
    return sum(scores) / len(scores)


def metrics():
    count, classes = 60, 5
    x, y = draw(count, classes).detach(), torch.randint(0, classes - 1, (count,))
    x[range(count), y] += 1.5
    best = F.one_hot(x.argmax(-1), classes).bool()
    actual = F.one_hot(y, classes).bool()
    odds = torch.stack([x[:, c] - torch.cat([x[:, :c], x[:, c + 1 :]], 1).logsumexp(1) for c in range(classes)], 1).double()
    yield dict(
        name="classes",
        loss="cross-entropy",
        shape=[count, classes],
        prediction=numbers(x),
        target=[int(v) for v in y],
        k=2,
        values={
            "accuracy": float((x.argmax(-1) == y).double().mean()),
            "top-k": float((x.topk(2).indices == y[:, None]).any(1).double().mean()),
            "f1": f1(best, actual),
            "perplexity": float(F.cross_entropy(x.double(), y).exp()),
            "loss": float(F.cross_entropy(x.double(), y)),
            "auc": sum(area(odds[:, c], actual[:, c]) for c in range(classes - 1)) / (classes - 1),
        },
    )
    x = draw(count, 3).detach()
    y = (x + 2 * torch.randn(count, 3) > 0).float()
    yield dict(
        name="yes or no",
        loss="bce-with-logits",
        shape=[count, 3],
        prediction=numbers(x),
        target=[float(v) for v in y.flatten()],
        values={
            "accuracy": float(((x > 0) == (y > 0.5)).double().mean()),
            "f1": f1(x > 0, y > 0.5),
            "loss": float(F.binary_cross_entropy_with_logits(x, y)),
            "auc": sum(area(x[:, c].double(), y[:, c] > 0.5) for c in range(3)) / 3,
        },
    )
    x, y = draw(count, 2).detach(), draw(count, 2).detach()
    yield dict(
        name="numbers",
        loss="mse",
        shape=[count, 2],
        prediction=numbers(x),
        target=numbers(y),
        values={"mae": float(F.l1_loss(x, y)), "loss": float(F.mse_loss(x, y))},
    )


vectors = dict(losses=list(losses()), metrics=list(metrics()))
pathlib.Path(__file__).with_name("vectors.json").write_text(json.dumps(vectors))
