import { randomUUID } from 'node:crypto';
import type { Pool, PoolClient } from 'pg';
import { chunksOf, readChunks } from './blob-chunks.ts';
import type { PostgresAddress } from './postgres-address.ts';
import { LEADER, LEASE_MS, NOW_MS, type PostgresLease } from './postgres-lease.ts';
import { isAway, retrying, storeError, withClient, type Value } from './postgres-pool.ts';
import { bytesOf, type Row } from './rows.ts';
import type { Change, Claim, Claimed, ClaimRow, MemberRow, Refused, RoundKey, Shares } from './shares.ts';
import { StoreError, type ReceiptRecord } from './store.ts';

/** A replica says that it lives this often, and is taken for dead after the time of a lease. */
const RENEW_MS = 700;
const LISTEN_AGAIN_MS = 500;
const CHANNEL = 'commonweight';

const fromHex = (id: string): Uint8Array => Buffer.from(id, 'hex');
const toHex = (id: Uint8Array): string => Buffer.from(id).toString('hex');

/** Tells all replicas of a change when the transaction commits. */
export async function notify(client: Pick<PoolClient, 'query'>, change: Change): Promise<void> {
  await client.query('SELECT pg_notify($1, $2)', [CHANNEL, `${change.kind} ${change.task}`]);
}

/** The rows that replicas share, in PostgreSQL. */
export class PostgresShares implements Shares {
  readonly replica: string = randomUUID();
  readonly fenced: Promise<StoreError>;
  readonly #pool: Pool;
  readonly #address: PostgresAddress;
  /** What makes this process the leader, once it is. */
  readonly #lease: () => PostgresLease | undefined;
  readonly #die: (error: StoreError) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #listeners = new Set<(change: Change) => void>();
  #renewing: Promise<void> | undefined;
  #listening: PoolClient | undefined;
  #isClosed = false;

  private constructor(pool: Pool, address: PostgresAddress, lease: () => PostgresLease | undefined) {
    const { promise, resolve } = Promise.withResolvers<StoreError>();
    this.fenced = promise;
    this.#die = resolve;
    this.#pool = pool;
    this.#address = address;
    this.#lease = lease;
    this.#timer = setInterval(() => (this.#renewing ??= this.#renew()), RENEW_MS);
  }

  /** Joins the replicas. Throws StoreError. */
  static async join(
    pool: Pool,
    address: PostgresAddress,
    lease: () => PostgresLease | undefined,
  ): Promise<PostgresShares> {
    const shares = new PostgresShares(pool, address, lease);
    try {
      await shares.#query(`INSERT INTO replicas VALUES ($1, '', ${NOW_MS})`, shares.replica);
      await shares.#listen();
    } catch (error) {
      await shares.close();
      throw error;
    }
    return shares;
  }

  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async advertise(address: string): Promise<void> {
    await this.#query('UPDATE replicas SET address = $2 WHERE replica = $1', this.replica, address);
  }

  async leaderAddress(): Promise<string | undefined> {
    const sql = `SELECT replicas.address FROM replicas JOIN leases ON leases.replica = replicas.replica
      WHERE leases.name = $1 AND leases.renewed_ms > ${NOW_MS} - ${LEASE_MS}`;
    const [row] = await this.#query(sql, LEADER);
    return row === undefined || row['address'] === '' ? undefined : String(row['address']);
  }

  async setMembers(members: Parameters<Shares['setMembers']>[0]): Promise<void> {
    await this.#transaction('say who is connected', async (client) => {
      await this.#requireAlive(client);
      for (const [agentId, member] of members) {
        if (member === undefined) {
          await client.query('DELETE FROM sessions WHERE agent_id = $1 AND replica = $2', [agentId, this.replica]);
          continue;
        }
        const sql = `INSERT INTO sessions VALUES ($1, $2, $3, $4) ON CONFLICT (agent_id) DO UPDATE
          SET replica = excluded.replica, hello = excluded.hello, ready = excluded.ready`;
        await client.query(sql, [agentId, this.replica, member.hello, Number(member.ready)]);
      }
      await notify(client, { kind: 'fleet', task: '' });
    });
  }

  async members(): Promise<MemberRow[]> {
    const sql = 'SELECT sessions.* FROM sessions JOIN replicas USING (replica) WHERE replica <> $1 ORDER BY agent_id';
    return (await this.#query(sql, this.replica)).map((row) => ({
      agentId: String(row['agent_id']),
      replica: String(row['replica']),
      hello: bytesOf(row, 'hello'),
      ready: Number(row['ready']) === 1,
    }));
  }

  async round(task: string): Promise<{ round: number; isOpen: boolean } | undefined> {
    const [row] = await this.#query('SELECT round, open FROM rounds WHERE task = $1', task);
    return row === undefined ? undefined : { round: Number(row['round']), isOpen: Number(row['open']) === 1 };
  }

  async claims({ task, round }: RoundKey): Promise<ClaimRow[]> {
    const sql = 'SELECT * FROM claims WHERE task = $1 AND round = $2 ORDER BY agent_id COLLATE "C"';
    return (await this.#query(sql, task, round)).map((row) => ({
      agentId: String(row['agent_id']),
      updateId: toHex(bytesOf(row, 'update_id')),
      weight: Number(row['weight']),
      metrics: JSON.parse(String(row['metrics_json'])) as Record<string, number>,
      replica: String(row['replica']),
      isKept: Number(row['kept']) === 1,
    }));
  }

  async claim(key: RoundKey, claim: Claim, payload?: Uint8Array): Promise<Claimed> {
    let claimed: Claimed = 'closed';
    await this.#transaction('claim an update', async (client) => {
      await this.#requireAlive(client);
      claimed = 'closed';
      if (!(await isOpen(client, key))) return;
      claimed = await this.#claim(client, key, { ...claim, isKept: payload !== undefined });
      if (claimed !== 'claimed') return;
      if (payload !== undefined) await putPart(client, key, claim.updateId, payload);
      await notify(client, { kind: 'claims', task: key.task });
    });
    return claimed;
  }

  async claimAll(key: RoundKey, claims: readonly Claim[]): Promise<'closed' | ReadonlyMap<string, 'held' | 'taken'>> {
    let result: 'closed' | Map<string, 'held' | 'taken'> = 'closed';
    await this.#transaction('claim the updates of a part', async (client) => {
      await this.#requireAlive(client);
      result = 'closed';
      if (!(await isOpen(client, key))) return;
      const failed = new Map<string, 'held' | 'taken'>();
      await client.query('SAVEPOINT part');
      // In one order, so that two replicas never wait for each other.
      for (const claim of claims.toSorted((a, b) => (a.agentId < b.agentId ? -1 : 1))) {
        const claimed = await this.#claim(client, key, { ...claim, isKept: false });
        if (claimed !== 'claimed') failed.set(claim.updateId, claimed);
      }
      result = failed;
      if (failed.size > 0) await client.query('ROLLBACK TO SAVEPOINT part');
      else await notify(client, { kind: 'claims', task: key.task });
    });
    return result;
  }

  async #claim(
    client: PoolClient,
    key: RoundKey,
    { agentId, updateId, weight, metrics, isKept }: Claim & { isKept: boolean },
  ): Promise<'claimed' | 'held' | 'taken'> {
    // An agent that had given up and delivers after all is welcome.
    const sql = `INSERT INTO claims VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (task, round, agent_id) DO UPDATE
      SET update_id = excluded.update_id, weight = excluded.weight, metrics_json = excluded.metrics_json,
          replica = excluded.replica, kept = excluded.kept
      WHERE length(claims.update_id) = 0 OR (claims.update_id = excluded.update_id AND claims.replica = excluded.replica)`;
    const { task, round } = key;
    const id = fromHex(updateId);
    const row = [task, round, agentId, id, weight, JSON.stringify(metrics), this.replica, Number(isKept)];
    if ((await client.query(sql, row)).rowCount !== 0) return 'claimed';
    const before = await client.query<Row>(
      'SELECT update_id FROM claims WHERE task = $1 AND round = $2 AND agent_id = $3',
      [task, round, agentId],
    );
    return toHex(bytesOf(before.rows[0] ?? {}, 'update_id')) === updateId ? 'held' : 'taken';
  }

  async giveUp({ task, round }: RoundKey, agentId: string): Promise<void> {
    await this.#transaction('say that an agent delivers nothing', async (client) => {
      await this.#requireAlive(client);
      if (!(await isOpen(client, { task, round }))) return;
      const sql = `INSERT INTO claims VALUES ($1, $2, $3, '', 0, '{}', $4, 1) ON CONFLICT (task, round, agent_id) DO NOTHING`;
      await client.query(sql, [task, round, agentId, this.replica]);
      await notify(client, { kind: 'claims', task });
    });
  }

  async disown({ task, round }: RoundKey): Promise<void> {
    await this.#transaction('give claims back', async (client) => {
      await client.query('DELETE FROM claims WHERE task = $1 AND round = $2 AND replica = $3 AND kept = 0', [
        task,
        round,
        this.replica,
      ]);
      await notify(client, { kind: 'claims', task });
    });
  }

  async keep(key: RoundKey, updateIds: readonly string[], sum: Uint8Array): Promise<void> {
    await this.#transaction('keep a part of a sum', async (client) => {
      await this.#requireAlive(client);
      // The round may be over: then nobody wants the part any more.
      const { rows } = await client.query<Row>('SELECT round FROM rounds WHERE task = $1 FOR SHARE', [key.task]);
      if (Number(rows[0]?.['round']) !== key.round) return;
      await putPart(client, key, this.replica, sum);
      const sql = `UPDATE claims SET kept = CASE WHEN update_id = ANY($4) THEN 1 ELSE 0 END
        WHERE task = $1 AND round = $2 AND replica = $3`;
      await client.query(sql, [key.task, key.round, this.replica, updateIds.map(fromHex)]);
      await notify(client, { kind: 'kept', task: key.task });
    });
  }

  async refuse({ task, round }: RoundKey, agentId: string, receipt: ReceiptRecord): Promise<Refused> {
    let refused: Refused = 'refused';
    await this.#transaction('refuse an update', async (client) => {
      refused = 'refused';
      const now = await client.query<Row>('SELECT round FROM rounds WHERE task = $1 FOR SHARE', [task]);
      const { updateId } = receipt;
      const ended = await client.query<Row>('SELECT receipt, signature FROM receipts WHERE update_id = $1', [updateId]);
      const [row] = ended.rows;
      if (row !== undefined) {
        refused = { updateId, receipt: bytesOf(row, 'receipt'), signature: bytesOf(row, 'signature') };
        return;
      }
      if (Number(now.rows[0]?.['round'] ?? 0) !== round) {
        refused = 'moved';
        return;
      }
      const held = await client.query('SELECT 1 FROM claims WHERE task = $1 AND agent_id = $2 AND update_id = $3', [
        task,
        agentId,
        updateId,
      ]);
      if (held.rows.length > 0) {
        refused = 'held';
        return;
      }
      await client.query('INSERT INTO receipts VALUES ($1, $2, $3) ON CONFLICT (update_id) DO NOTHING', [
        updateId,
        receipt.receipt,
        receipt.signature,
      ]);
    });
    return refused;
  }

  async setOpen({ task, round }: RoundKey, open: boolean): Promise<void> {
    await this.#leading('close a round', async (client) => {
      const sql = `INSERT INTO rounds VALUES ($1, $2, $3) ON CONFLICT (task) DO UPDATE SET round = excluded.round, open = excluded.open`;
      await client.query(sql, [task, round, Number(open)]);
      await notify(client, { kind: open ? 'task' : 'closing', task });
    });
  }

  async fence(replicas: readonly string[] = []): Promise<string[]> {
    let dead: string[] = [];
    const silent = `renewed_ms < ${NOW_MS} - ${LEASE_MS}
      AND pg_postmaster_start_time() < clock_timestamp() - interval '${LEASE_MS} milliseconds'`;
    const sql = `SELECT 1 FROM replicas WHERE replica <> $1 AND (replica = ANY($2) OR ${silent}) LIMIT 1`;
    if ((await this.#query(sql, this.replica, [...replicas])).length === 0) return [];
    await this.#leading('take a replica for dead', async (client) => {
      const { rows } = await client.query<Row>(
        `DELETE FROM replicas WHERE replica <> $1 AND (replica = ANY($2) OR ${silent}) RETURNING replica`,
        [this.replica, replicas],
      );
      dead = rows.map(({ replica }) => String(replica));
      await client.query('DELETE FROM sessions WHERE replica = ANY($1)', [dead]);
      await client.query('DELETE FROM claims WHERE replica = ANY($1) AND kept = 0', [dead]);
      await notify(client, { kind: 'fleet', task: '' });
    });
    return dead;
  }

  async parts(key: RoundKey): Promise<Uint8Array[]> {
    const sql = `SELECT DISTINCT part FROM partial_chunks JOIN claims USING (task, round)
      WHERE task = $1 AND round = $2 AND part = claims.replica AND part <> $3 ORDER BY part`;
    const parts = await this.#query(sql, key.task, key.round, this.replica);
    return Promise.all(parts.map(({ part }) => this.#part(key, String(part))));
  }

  ownPart(key: RoundKey): Promise<Uint8Array> {
    return this.#part(key, this.replica);
  }

  payload(key: RoundKey, updateId: string): Promise<Uint8Array> {
    return this.#part(key, updateId);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#renewing;
    const listening = this.#listening;
    this.#listening = undefined;
    listening?.release(true);
    await this.#transaction('leave', async (client) => {
      await client.query('DELETE FROM sessions WHERE replica = $1', [this.replica]);
      await client.query('DELETE FROM claims WHERE replica = $1 AND kept = 0', [this.replica]);
      await client.query('DELETE FROM replicas WHERE replica = $1', [this.replica]);
      await notify(client, { kind: 'fleet', task: '' });
    }).catch((error: unknown) => {
      // A server that is away cannot be told: the leader takes this replica for dead.
      if (!isAway((error as Error).cause ?? error)) throw error;
    });
  }

  /** A part from its chunks, each checked. */
  async #part({ task, round }: RoundKey, part: string): Promise<Uint8Array> {
    const where = 'FROM partial_chunks WHERE task = $1 AND round = $2 AND part = $3';
    const [size] = await this.#query(`SELECT coalesce(sum(length(data)), 0) AS size ${where}`, task, round, part);
    const length = Number(size?.['size']);
    const name = `part ${part} of round ${round} of ${task}`;
    const place = `the database ${this.#address.name}`;
    return readChunks({ name, size: length, offset: 0, length, place }, async (position) => {
      const sql = `SELECT data, data_digest ${where} AND position = $4`;
      const [row] = await this.#query(sql, task, round, part, position);
      return row === undefined ? undefined : { data: bytesOf(row, 'data'), digest: bytesOf(row, 'data_digest') };
    });
  }

  /** Until the transaction ends nobody takes this replica for dead. */
  async #requireAlive(client: PoolClient): Promise<void> {
    const { rows } = await client.query('SELECT 1 FROM replicas WHERE replica = $1 FOR SHARE', [this.replica]);
    if (rows.length === 0) throw this.#dead();
  }

  #dead(): StoreError {
    const error = new StoreError(
      'the leader took this replica for dead: what it had of open rounds is asked for again',
    );
    this.#die(error);
    return error;
  }

  async #renew(): Promise<void> {
    try {
      const sql = `UPDATE replicas SET renewed_ms = ${NOW_MS} WHERE replica = $1`;
      if ((await this.#pool.query(sql, [this.replica])).rowCount === 0) this.#dead();
    } catch {
      // The next renewal finds out; whatever is written until then checks for itself.
    } finally {
      this.#renewing = undefined;
    }
  }

  async #listen(): Promise<void> {
    const client = await this.#pool.connect();
    const again = (): void => {
      if (this.#listening !== client) return;
      this.#listening = undefined;
      client.release(true);
      this.#listenLater();
    };
    client.on('error', again);
    client.on('end', again);
    client.on('notification', ({ payload = '' }) => {
      const [kind, task = ''] = payload.split(' ');
      for (const listener of this.#listeners) listener({ kind: kind as Change['kind'], task });
    });
    this.#listening = client;
    await client.query(`LISTEN ${CHANNEL}`);
  }

  #listenLater(): void {
    setTimeout(() => {
      if (!this.#isClosed) this.#listen().catch(() => this.#listenLater());
    }, LISTEN_AGAIN_MS).unref();
  }

  async #query(sql: string, ...values: (Value | readonly string[])[]): Promise<Row[]> {
    try {
      return (await retrying(() => this.#pool.query<Row>(sql, values))).rows;
    } catch (error) {
      throw storeError('read what replicas share', error, this.#address);
    }
  }

  /** Each of these is the same done twice, so one whose answer got lost is simply done again. */
  async #transaction(deed: string, work: (client: PoolClient) => Promise<void>): Promise<void> {
    const attempt = async (client: PoolClient): Promise<void> => {
      await client.query('BEGIN');
      await work(client);
      await client.query('COMMIT');
    };
    try {
      await retrying(() => withClient(this.#pool, attempt));
    } catch (error) {
      throw storeError(deed, error, this.#address);
    }
  }

  #leading(deed: string, work: (client: PoolClient) => Promise<void>): Promise<void> {
    return this.#transaction(deed, async (client) => {
      const lease = this.#lease();
      if (lease === undefined) throw new StoreError(`cannot ${deed}: this coordinator does not lead`);
      await lease.require(client);
      await work(client);
    });
  }
}

/** Whether the round takes claims; it goes on doing so until the transaction ends. */
async function isOpen(client: PoolClient, { task, round }: RoundKey): Promise<boolean> {
  const sql = 'SELECT 1 FROM rounds WHERE task = $1 AND round = $2 AND open = 1 FOR SHARE';
  return (await client.query(sql, [task, round])).rows.length > 0;
}

async function putPart(client: PoolClient, { task, round }: RoundKey, part: string, bytes: Uint8Array): Promise<void> {
  await client.query('DELETE FROM partial_chunks WHERE task = $1 AND round = $2 AND part = $3', [task, round, part]);
  for (const { position, data, digest } of chunksOf(bytes)) {
    await client.query('INSERT INTO partial_chunks VALUES ($1, $2, $3, $4, $5, $6)', [
      task,
      round,
      part,
      position,
      data,
      digest,
    ]);
  }
}
