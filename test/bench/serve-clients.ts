/** Clients of the serving bench, in a process of their own: raw HTTP/1.1, so that they cost less than what they measure. */
import { connect, type Socket } from 'node:net';

/** What the bench asks for, by the parent's messages. */
export interface Load {
  port: number;
  clients: number;
  ms: number;
  /** The whole request, headers and body. */
  request: string;
}

/** Milliseconds of every request that was answered, and how many were refused. */
export interface LoadResult {
  times: number[];
  refused: number;
  ms: number;
  /** Processor time of this process meanwhile. */
  cpuMs: number;
}

process.on('message', (load: Load) => void run(load).then((result) => process.send?.(result)));

async function run({ port, clients, ms, request }: Load): Promise<LoadResult> {
  const bytes = Buffer.from(request, 'base64');
  const sockets = await Promise.all(Array.from({ length: clients }, () => opened(port)));
  const result: LoadResult = { times: [], refused: 0, ms: 0, cpuMs: 0 };
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  await Promise.all(sockets.map((socket) => askUntil(socket, bytes, startMs + ms, result)));
  result.ms = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpu);
  result.cpuMs = (user + system) / 1000;
  for (const socket of sockets) socket.destroy();
  return result;
}

function opened(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    socket.once('connect', () => resolve(socket)).once('error', reject);
  });
}

/** One request after the other on one connection. */
function askUntil(socket: Socket, request: Buffer, endMs: number, result: LoadResult): Promise<void> {
  return new Promise((resolve, reject) => {
    let [askedMs, received, wanted] = [0, 0, -1];
    const ask = (): void => {
      [askedMs, received, wanted] = [performance.now(), 0, -1];
      socket.write(request);
    };
    socket.once('error', reject).once('close', () => reject(new Error('the server closed a connection')));
    socket.on('data', (chunk) => {
      if (wanted < 0) {
        const head = chunk.toString('latin1');
        const length = /content-length: (\d+)/i.exec(head)?.[1];
        const end = head.indexOf('\r\n\r\n');
        if (length === undefined || end < 0) return reject(new Error(`an answer without a length: ${head}`));
        wanted = end + 4 + Number(length);
        if (!head.startsWith('HTTP/1.1 200')) result.refused += 1;
      }
      received += chunk.length;
      if (received < wanted) return;
      const nowMs = performance.now();
      result.times.push(nowMs - askedMs);
      if (nowMs < endMs) ask();
      else {
        socket.removeAllListeners('close');
        resolve();
      }
    });
    ask();
  });
}
