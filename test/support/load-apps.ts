// Many apps in one process: each has a client of its own, over a link of its own, and serves one model.
// Arguments: one JSON object, see LoadApps. Says `serving N` once all N of them serve, and then when each came to serve which version, and how many
// milliseconds of CPU all have taken until then.
import { connect } from '@commonweight/client-sdk';

export interface LoadApps {
  /** Apps take them in turn. */
  urls: readonly string[];
  apps: number;
  model: string;
}

/** Apps that connect at once. */
const CONNECT_AT_ONCE = 25;

const { urls, apps, model } = JSON.parse(process.argv[2] ?? '') as LoadApps;

async function serve(url: string): Promise<void> {
  const client = await connect(url, { probation: { probationMs: 0 }, reports: false });
  const served = await client.model(model, { readyTimeoutMs: 120_000 });
  served.on('version', ({ to }) => {
    const { user, system } = process.cpuUsage();
    process.stdout.write(`version ${to} ${performance.timeOrigin + performance.now()} ${(user + system) / 1000}\n`);
  });
}

for (let i = 0; i < apps; i += CONNECT_AT_ONCE) {
  const some = Array.from({ length: Math.min(CONNECT_AT_ONCE, apps - i) }, (_, k) => urls[(i + k) % urls.length] ?? '');
  await Promise.all(some.map(serve));
}
process.stdout.write(`serving ${apps}\n`);
