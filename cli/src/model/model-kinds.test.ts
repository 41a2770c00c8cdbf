import { describe, expect, test } from 'vitest';
import { builtModel } from './model-kinds.ts';

describe('the kinds of models', () => {
  test('a size that a kind does not take is refused, and not ignored', () => {
    expect(() => builtModel('cnn', { inputs: 5, seed: 1 })).toThrow(/--inputs means nothing to cnn: it takes --height/);
    expect(() => builtModel('2nn', { outputs: 5, seed: 1 })).toThrow(
      /--outputs means nothing to 2nn: it takes no sizes/,
    );
  });

  test('a size that a kind needs is asked for', () => {
    expect(() => builtModel('mlp', { inputs: 5, seed: 1 })).toThrow(/--outputs is missing/);
  });

  test('a kind that is not there names those that are', () => {
    expect(() => builtModel('nope', { seed: 1 })).toThrow(/choose one of mlp, logistic, cnn, 2nn, fedavg-cnn/);
  });
});
