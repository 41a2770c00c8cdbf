import { freePort } from './free-port.ts';
import type { NatsServer } from './local-server.ts';

/** A server in a container, where a Docker engine answers and this is a development checkout. */
export async function startNatsContainer(): Promise<NatsServer | undefined> {
  try {
    // Only a development dependency: an installed command line lives without it.
    const { GenericContainer, Wait, getContainerRuntimeClient } = await import('testcontainers');
    await getContainerRuntimeClient();
    const container = await new GenericContainer('nats:2')
      .withExposedPorts({ container: 4222, host: await freePort() })
      .withWaitStrategy(Wait.forLogMessage('Server is ready'))
      .start();
    return {
      url: `nats://127.0.0.1:${container.getMappedPort(4222)}`,
      how: 'a container',
      close: async () => void (await container.stop()),
    };
  } catch {
    return undefined;
  }
}
