/** `1234567` as `1.2 MB`. */
export function bytes(count: number | bigint): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = Number(count);
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `75200` as `1:15`. */
export function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** `5400000` as `1.5 h`. */
export function span(ms: number): string {
  const [size, unit] = (
    [
      [86_400_000, 'd'],
      [3_600_000, 'h'],
      [60_000, 'min'],
    ] as const
  ).find(([each]) => ms >= each) ?? [1000, 's'];
  return `${Number((ms / size).toFixed(1))} ${unit}`;
}

/** Milliseconds since 1970 as `2026-11-28 09:15:00`. */
export const time = (ms: bigint): string => new Date(Number(ms)).toISOString().slice(0, 19).replace('T', ' ');

/** Milliseconds with two digits that count; nothing where there are none. */
export const milliseconds = (ms: number): string =>
  Number.isFinite(ms) ? `${ms >= 10 ? Math.round(ms) : Number(ms.toPrecision(2))} ms` : '';

export const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

const BARS = '▁▂▃▄▅▆▇█';

/** Values as a row of bars between `min` and `max`. */
export function sparkline(values: readonly number[], min: number, max: number): string {
  const last = BARS.length - 1;
  const level = (value: number): number => Math.round(((value - min) / (max - min || 1)) * last);
  return values.map((value) => BARS[Math.max(0, Math.min(last, level(value)))]).join('');
}

/** `3/10` as a bar of `width` characters. */
export function bar(done: number, of: number, width: number): string {
  const filled = of === 0 ? 0 : Math.round((Math.min(done, of) / of) * width);
  return '█'.repeat(filled) + '░'.repeat(width - filled);
}

/** Rows under headings, columns as wide as they need. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
