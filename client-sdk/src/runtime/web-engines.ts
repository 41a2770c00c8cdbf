/** The engine that every browser has. */
import { onnxRuntimeLacks, type EngineSource } from './engines.ts';
import { WebEngine } from './web-engine.ts';

interface Navigator {
  hardwareConcurrency?: number;
  userAgent: string;
}

declare const navigator: Navigator;

export const wasmInPage: EngineSource = {
  name: 'ort-web',
  open: (options) => new WebEngine(options),
  whyNot: () => Promise.resolve(undefined),
  device: pageDevice,
  lacks: onnxRuntimeLacks,
};

/** What a page may know of its machine. */
export function pageDevice(threads: number): string {
  const { userAgent, hardwareConcurrency = 1 } = navigator;
  return `${userAgent}, ${hardwareConcurrency} processors, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
}
