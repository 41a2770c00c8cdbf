import { connect } from 'node:net';

const WAIT_MS = 2000;

/** Whether a NATS server greets at `nats://HOST:PORT`: the first thing it says is INFO. */
export function answers(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port || 4222) });
    const done = (isNats: boolean): void => {
      socket.destroy();
      resolve(isNats);
    };
    socket.setTimeout(WAIT_MS, () => done(false));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
    socket.once('data', (greeting) => done(greeting.toString('latin1').startsWith('INFO ')));
  });
}
