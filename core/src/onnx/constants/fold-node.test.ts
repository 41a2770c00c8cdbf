import { expect, test } from 'vitest';
import { GraphBuilder } from '../graph-builder.ts';

test('the chain that exporters write before a Reshape is known when the graph is built', () => {
  const graph = new GraphBuilder('t/');
  graph.input('x', [4, 6, 5]);
  const shape = graph.emit('Shape', ['x']);
  const batch = graph.emit('Gather', [shape, graph.integers([0])], { axis: 0 });
  const width = graph.emit('Slice', [shape, graph.integers([1]), graph.integers([3]), graph.integers([0])]);
  const heads = graph.integers([2]);
  const half = graph.emit('Div', [graph.emit('Gather', [shape, graph.integers([1])]), heads]);
  const wanted = graph.emit('Concat', [batch, heads, half, graph.integers([-1])], { axis: 0 });
  expect(graph.constantIntegers(width)).toEqual([6, 5]);
  expect(graph.constantIntegers(wanted)).toEqual([4, 2, 3, -1]);
  expect(graph.shapeOf(graph.emit('Reshape', ['x', wanted]))).toEqual([4, 2, 3, 5]);
});

test('the chain that PyTorch writes before a Pad is known: pairs, last axis first, turned over', () => {
  const graph = new GraphBuilder('t/');
  const rows = graph.emit('Reshape', [graph.integers([3, 4, 1, 2, 0, 0]), graph.integers([-1, 2])]);
  const back = [[-1], [-1000], [0], [-1]].map((list) => graph.integers(list));
  const turned = graph.emit('Transpose', [graph.emit('Slice', [rows, ...back])], { perm: [1, 0] });
  const pads = graph.emit('Reshape', [turned, graph.integers([-1])]);
  expect(graph.constantIntegers(pads)).toEqual([0, 1, 3, 0, 2, 4]);
});

test('what is known at run time only stays unknown', () => {
  const graph = new GraphBuilder('t/');
  graph.input('n', [1], 7);
  const sum = graph.emit('Add', ['n', graph.integers([1])]);
  expect(graph.constantIntegers(sum)).toBeUndefined();
  expect(graph.constantIntegers(graph.emit('Concat', [sum, graph.integers([2])], { axis: 0 }))).toBeUndefined();
});

test('floats are no integers, and numbers that depend on the runtime are not known', () => {
  const graph = new GraphBuilder('t/');
  const value = graph.emit('Add', [graph.scalar(1), graph.scalar(2)]);
  expect([graph.constantIntegers(value), graph.constantFloats(value)]).toEqual([undefined, [3]]);
  expect(graph.constantFloats(graph.emit('Exp', [value]))).toBeUndefined();
});
