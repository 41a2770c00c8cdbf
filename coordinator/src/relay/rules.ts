import { encodings, type GridSpec } from '@commonweight/core';
import type { GetFoldingResponse, UpdateHeader } from '@commonweight/proto';
import { RoundSum } from '../driver/round-sum.ts';
import type { Expected } from '../driver/round-work.ts';
import { refusalOfFields } from '../driver/task-work.ts';
import { parseConfig } from '../round/config.ts';
import { gridOf, strategyOf } from '../round/policy.ts';

/** How a relay folds a round's updates: as its coordinator would, from the same configuration by the same code. */
export interface FoldingRules {
  grid: GridSpec;
  /** How long after the round was opened the minimum of updates may close it; undefined where all are waited for. */
  collectMinMs: number | undefined;
  collectMs: number;
  newSum(): RoundSum;
  weigh(header: UpdateHeader): number;
  /** Whether the coordinator would not even look at the bytes. */
  refuses(header: UpdateHeader): boolean;
}

/** Throws ConfigError where this relay does not know the configuration: a newer coordinator's, or a strategy of the user's own. */
export function foldingRules(task: string, folding: GetFoldingResponse): FoldingRules | undefined {
  const config = parseConfig(folding.configJson);
  if ('kind' in config) return undefined;
  const strategy = strategyOf(config);
  const grid = gridOf(config);
  const [parameters, version] = [Number(folding.parameters), Number(folding.baseVersion)];
  // Sums alone are folded here, so nothing is spooled.
  const newSum = (): RoundSum => new RoundSum(config, { task, strategy, grid, parameters, spoolDir: '' });
  const { format, length, seesEach } = newSum();
  if (seesEach) return undefined;
  const { bytesMin, bytesMax } = encodings[format.encoding];
  const { weightMax } = config;
  const expected: Expected = { format, bytesMin: bytesMin(length), bytesMax: bytesMax(length, format.topK), weightMax };
  return {
    grid,
    collectMinMs: config.collectMinMs,
    collectMs: config.collectMs,
    newSum,
    weigh: ({ weight }) => strategy.weigh(Number(weight), weightMax, 0),
    refuses: (header) => Number(header.baseVersion) !== version || refusalOfFields(header, expected) !== undefined,
  };
}
