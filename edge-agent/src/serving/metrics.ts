/** Counters, gauges and histograms in Prometheus' text form (version 0.0.4), of which serving needs no more than this. */
type Labels = Readonly<Record<string, string>>;

const LATENCY_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** The series of one figure, by the values of its labels. Their text is made when somebody asks, not with each request. */
class Series<T> {
  readonly #names: readonly string[];
  readonly #begin: () => T;
  readonly #entries = new Map<string, { values: readonly string[]; entry: T }>();

  constructor(names: readonly string[], begin: () => T) {
    this.#names = names;
    this.#begin = begin;
  }

  of(...values: readonly string[]): T {
    const key = values.join('\0');
    let known = this.#entries.get(key);
    if (known === undefined) {
      known = { values, entry: this.#begin() };
      this.#entries.set(key, known);
    }
    return known.entry;
  }

  /** Each with its labels as text. */
  *all(): Generator<[string, T]> {
    for (const { values, entry } of this.#entries.values()) {
      yield [keyOf(Object.fromEntries(this.#names.map((name, index) => [name, values[index]!]))), entry];
    }
  }
}

class Counter {
  readonly #series: Series<{ count: number }>;

  constructor(...names: readonly string[]) {
    this.#series = new Series(names, () => ({ count: 0 }));
  }

  add(...values: readonly string[]): void {
    this.#series.of(...values).count += 1;
  }

  *lines(name: string): Generator<string> {
    for (const [labels, { count }] of this.#series.all()) yield `${name}{${labels}} ${count}`;
  }
}

/** Of each model. */
class Histogram {
  readonly #bounds: readonly number[];
  readonly #series: Series<{ counts: number[]; sum: number; count: number }>;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#series = new Series(['model'], () => ({ counts: bounds.map(() => 0), sum: 0, count: 0 }));
  }

  observe(model: string, value: number): void {
    const entry = this.#series.of(model);
    const bucket = this.#bounds.findIndex((bound) => value <= bound);
    if (bucket >= 0) entry.counts[bucket]! += 1;
    entry.sum += value;
    entry.count += 1;
  }

  *lines(name: string): Generator<string> {
    for (const [labels, { counts, sum, count }] of this.#series.all()) {
      let below = 0;
      for (const [index, bound] of this.#bounds.entries()) {
        below += counts[index]!;
        yield `${name}_bucket{${labels},le="${bound}"} ${below}`;
      }
      yield `${name}_bucket{${labels},le="+Inf"} ${count}`;
      yield `${name}_sum{${labels}} ${sum}`;
      yield `${name}_count{${labels}} ${count}`;
    }
  }
}

/** What is read when somebody asks. */
export interface ModelFigures {
  model: string;
  version: number | undefined;
  variant: string;
  engine: string;
  queue: number;
  batches: boolean;
}

/** What one protocol has under way. */
export interface DoorFigures {
  connections: number;
  underWay: number;
  heldBytes: number;
}

export class Metrics {
  readonly #requests = new Counter('model', 'protocol');
  readonly #errors = new Counter('model', 'reason');
  readonly #explanations = new Counter('model');
  readonly #latency = new Histogram(LATENCY_S);
  readonly #rows = new Histogram(ROWS);
  readonly #doors = new Map<string, () => DoorFigures>();

  /** A request that got its prediction, or did not. Only names of served models become labels: others are chosen by the asker. */
  request(model: string, protocol: 'http' | 'grpc'): void {
    this.#requests.add(model, protocol);
  }

  error(model: string, reason: string): void {
    this.#errors.add(model, reason);
  }

  /** An explanation that was asked for. */
  explanation(model: string): void {
    this.#explanations.add(model);
  }

  latency(model: string, seconds: number): void {
    this.#latency.observe(model, seconds);
  }

  run(model: string, rows: number): void {
    this.#rows.observe(model, rows);
  }

  /** What is read of a protocol when somebody asks. */
  door(protocol: 'http' | 'grpc', figures: () => DoorFigures): void {
    this.#doors.set(protocol, figures);
  }

  text(models: readonly ModelFigures[]): string {
    const doors = [...this.#doors].map(([protocol, figures]) => ({ labels: keyOf({ protocol }), ...figures() }));
    const ofDoors = (name: string, figure: keyof DoorFigures): string[] =>
      doors.map(({ labels, ...figures }) => `${PREFIX}${name}{${labels}} ${figures[figure]}`);
    const gauge = (name: string, of: (figures: ModelFigures) => number): string[] =>
      models.map((figures) => `${name}{${keyOf({ model: figures.model })}} ${of(figures)}`);
    const families: [string, string, string, Iterable<string>][] = [
      ['requests_total', 'counter', 'Requests for a prediction.', this.#requests.lines(`${PREFIX}requests_total`)],
      [
        'errors_total',
        'counter',
        'Requests without a prediction or an explanation, by reason.',
        this.#errors.lines(`${PREFIX}errors_total`),
      ],
      [
        'explanations_total',
        'counter',
        'Explanations that were asked for.',
        this.#explanations.lines(`${PREFIX}explanations_total`),
      ],
      [
        'latency_seconds',
        'histogram',
        'Seconds from when a request was read and checked until its prediction was there: the wait for others, the run and its way there and back. Sending and receiving are not in it.',
        this.#latency.lines(`${PREFIX}latency_seconds`),
      ],
      ['batch_rows', 'histogram', 'Rows of one run of the model.', this.#rows.lines(`${PREFIX}batch_rows`)],
      ['queue_length', 'gauge', 'Requests that wait.', gauge(`${PREFIX}queue_length`, ({ queue }) => queue)],
      ['connections', 'gauge', 'Connections that are open.', ofDoors('connections', 'connections')],
      [
        'requests_under_way',
        'gauge',
        'Requests that came and have no answer yet; over gRPC, those for predictions.',
        ofDoors('requests_under_way', 'underWay'),
      ],
      ['held_bytes', 'gauge', 'Bytes of requests that come or have no answer yet.', ofDoors('held_bytes', 'heldBytes')],
      [
        'model_version',
        'gauge',
        'Version that serves; 0 before the first.',
        gauge(`${PREFIX}model_version`, ({ version }) => version ?? 0),
      ],
      [
        'batching',
        'gauge',
        'Whether requests are run together.',
        gauge(`${PREFIX}batching`, ({ batches }) => Number(batches)),
      ],
      [
        'variant_info',
        'gauge',
        'The form of the model that serves, and what runs it.',
        models.map(({ model, variant, engine }) => `${PREFIX}variant_info{${keyOf({ model, variant, engine })}} 1`),
      ],
    ];
    return families
      .flatMap(([name, type, help, lines]) => [
        `# HELP ${PREFIX}${name} ${help}`,
        `# TYPE ${PREFIX}${name} ${type}`,
        ...lines,
      ])
      .concat('')
      .join('\n');
  }
}

const PREFIX = 'commonweight_serving_';

const keyOf = (labels: Labels): string =>
  Object.entries(labels)
    .map(
      ([name, value]) => `${name}="${value.replaceAll(/["\\\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`))}"`,
    )
    .join(',');
