import type { AgentEvent } from '@commonweight/edge-agent';
import { bytes } from '../output/format.ts';

const WORK: Readonly<Record<string, string>> = {
  train: 'training on',
  evaluate: 'measuring',
  statistics: 'counting what is there for',
};

/** An agent's event in one plain line. */
export function agentLine(event: AgentEvent): string {
  switch (event.type) {
    case 'data':
      return `${event.examples} examples to train on`;
    case 'connected':
      return `connected to ${event.coordinator}`;
    case 'disconnected':
      return `no session with ${event.coordinator} (${event.why}); trying again in ${(event.retryMs / 1000).toFixed(1)} s`;
    case 'away':
      return `away: ${event.why}; back in ${(event.returnMs / 1000).toFixed(1)} s`;
    case 'assignment':
      return `${event.task} round ${event.round}: ${WORK[event.work] ?? event.work} version ${event.version}`;
    case 'teacher':
      return `learning from ${event.model} version ${event.version}`;
    case 'calibrated':
      return `measured the activations of ${event.model} version ${event.version} on ${event.examples} examples`;
    case 'measured':
      return `measured ${event.forms.join(', ')} of ${event.model} version ${event.version} beside fp32 on ${event.examples} examples`;
    case 'trained':
      return `${event.task} round ${event.round}: trained ${event.steps} steps on ${event.examples} examples in ${event.trainMs} ms, loss ${event.loss.toPrecision(4)}`;
    case 'reported':
      return `${event.task} round ${event.round}: ${event.work === 'evaluate' ? `measured version ${event.version}` : 'counted what is there'} on ${event.examples} examples in ${event.ms} ms`;
    case 'counted':
      return `${event.task} round ${event.round}: receipt, counted in the result`;
    case 'stopped':
      return `${event.task} round ${event.round}: training stopped, ${event.why}`;
    case 'engine':
      return `trains on ${event.engine}${event.elsewhere.length === 0 ? '' : `; on the CPU beside it: ${event.elsewhere.join(', ')}`}`;
    case 'uploaded':
      return `${event.task} round ${event.round}: uploaded ${bytes(event.bytes)}`;
    case 'receipt':
      return `${event.task} round ${event.round}: receipt, committed in version ${event.version}`;
    case 'rejected':
      return `${event.task} round ${event.round}: rejected as ${event.reason}`;
    case 'failure':
      return `${event.task} round ${event.round}: failed, ${event.reason}`;
    case 'warning':
      return `warning: ${event.text}`;
  }
}
