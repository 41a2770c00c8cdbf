import { connect, type NatsConnection } from '@nats-io/transport-node';
import { afterEach, expect, test } from 'vitest';
import { NatsCluster } from './nats-cluster.ts';
import { until } from './processes.ts';

let cluster: NatsCluster | undefined;
const connections: NatsConnection[] = [];
afterEach(async () => {
  for (const connection of connections.splice(0)) await connection.close();
  await cluster?.close();
});

async function at(server: number): Promise<NatsConnection> {
  const options = { maxReconnectAttempts: -1, reconnectTimeWait: 100, pingInterval: 500, maxPingOut: 2 };
  const connection = await connect({ servers: cluster!.url(server), ignoreClusterUpdates: true, ...options });
  connections.push(connection);
  return connection;
}

test('messages go from one server to another; not when it is cut off, frozen or killed, and again afterwards', async () => {
  cluster = await NatsCluster.start();
  const [here, there] = [await at(0), await at(2)];
  there.subscribe('question', { callback: (_, message) => void message.respond('answer') });
  await there.flush();
  const answers = async (): Promise<boolean> => {
    try {
      return (await here.request('question', '', { timeout: 300 })).string() === 'answer';
    } catch {
      return false;
    }
  };
  await until('an answer', 10_000, answers);
  cluster.cutOff(2);
  await until('the cut', 10_000, async () => !(await answers()));
  await there.flush();
  cluster.heal(2);
  await until('an answer after the cut', 10_000, answers);
  cluster.freeze(2);
  await until('the freeze', 10_000, async () => !(await answers()));
  cluster.thaw(2);
  await until('an answer after the freeze', 10_000, answers);
  await cluster.kill(2);
  expect(await answers()).toBe(false);
  await cluster.resume(2);
  await cluster.whole();
  await until('an answer after the kill', 10_000, answers);
});
