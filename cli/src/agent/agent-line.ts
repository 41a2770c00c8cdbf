import type { AgentEvent } from '@commonweight/edge-agent';

/** An agent's event in one plain line. */
export function agentLine({ type, ...rest }: AgentEvent): string {
  const details = Object.entries(rest).map(([key, value]) => `${key} ${String(value)}`);
  return [type, ...details].join('  ');
}
