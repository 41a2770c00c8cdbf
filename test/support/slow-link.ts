// A link of its own process, with a latency each way and otherwise as fast as the machine. Arguments: the port behind it, milliseconds. Says `port N`.
import { TcpProxy } from './tcp-proxy.ts';

const [, , port, latencyMs] = process.argv;
// What a second of a link of 10 Gbit/s holds, so that only the latency is felt.
const weather = { latencyMs: Number(latencyMs), underWayBytesMax: 64 * 2 ** 20 };
const proxy = await TcpProxy.open(Number(port), { weather });
process.stdout.write(`port ${proxy.port}\n`);
