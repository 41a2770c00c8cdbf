# The weighted mean of float32 updates as frameworks in Python compute it, for comparison: COUNT updates of LENGTH values, the
# median of REPEATS in seconds. Usage: numpy-mean.py LENGTH COUNT REPEATS. Exits with 3 where numpy is missing.
import sys
import time
from functools import reduce

try:
    import numpy
except ImportError:
    sys.exit(3)

length, count, repeats = map(int, sys.argv[1:])
payloads = [numpy.random.default_rng(i).normal(0, 0.01, length).astype('<f4').tobytes() for i in range(count)]
weights = [1 + i * 100 for i in range(count)]
times = []
for _ in range(repeats):
    start = time.perf_counter()
    updates = [numpy.frombuffer(payload, '<f4') for payload in payloads]
    mean = reduce(numpy.add, [weight * update for weight, update in zip(weights, updates)]) / sum(weights)
    times.append(time.perf_counter() - start)
print(sorted(times)[repeats // 2])
