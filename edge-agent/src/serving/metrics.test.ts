import { expect, test } from 'vitest';
import { Metrics } from './metrics.ts';

test('figures are Prometheus text', () => {
  const metrics = new Metrics();
  metrics.request('m', 'http');
  metrics.request('m', 'http');
  metrics.error('m', 'wrong-input');
  metrics.latency('m', 0.002);
  metrics.latency('m', 99);
  metrics.run('m', 3);
  metrics.door('grpc', () => ({ connections: 2, underWay: 3, heldBytes: 4 }));
  const lines = metrics
    .text([{ model: 'm', version: 4, variant: 'int8', engine: 'ort-cpu', queue: 2, batches: true }])
    .split('\n');
  expect(lines).toEqual(
    expect.arrayContaining([
      '# TYPE commonweight_serving_requests_total counter',
      'commonweight_serving_requests_total{model="m",protocol="http"} 2',
      'commonweight_serving_errors_total{model="m",reason="wrong-input"} 1',
      '# HELP commonweight_serving_latency_seconds Seconds from when a request was read and checked until its prediction was there: the wait for others, the run and its way there and back. Sending and receiving are not in it.',
      '# TYPE commonweight_serving_latency_seconds histogram',
      'commonweight_serving_latency_seconds_bucket{model="m",le="0.001"} 0',
      'commonweight_serving_latency_seconds_bucket{model="m",le="0.0025"} 1',
      'commonweight_serving_latency_seconds_bucket{model="m",le="10"} 1',
      'commonweight_serving_latency_seconds_bucket{model="m",le="+Inf"} 2',
      'commonweight_serving_latency_seconds_sum{model="m"} 99.002',
      'commonweight_serving_latency_seconds_count{model="m"} 2',
      'commonweight_serving_batch_rows_bucket{model="m",le="4"} 1',
      'commonweight_serving_queue_length{model="m"} 2',
      'commonweight_serving_connections{protocol="grpc"} 2',
      'commonweight_serving_requests_under_way{protocol="grpc"} 3',
      'commonweight_serving_held_bytes{protocol="grpc"} 4',
      'commonweight_serving_model_version{model="m"} 4',
      'commonweight_serving_batching{model="m"} 1',
      'commonweight_serving_variant_info{model="m",variant="int8",engine="ort-cpu"} 1',
    ]),
  );
});

test('a label cannot break out of its quotes', () => {
  const metrics = new Metrics();
  metrics.error('a"b\\c\nd', 'x');
  expect(metrics.text([])).toContain('{model="a\\"b\\\\c\\nd",reason="x"} 1');
});
