import { describe, expect, test, vi } from 'vitest';
import type * as Clock from '../../coordinator/src/clock.ts';
import type * as Made from '../../coordinator/src/driver/outcomes.ts';
import type * as Parts from '../../coordinator/src/driver/parts.ts';
import type * as Sum from '../../coordinator/src/driver/round-sum.ts';
import type * as Shared from '../../coordinator/src/driver/shared-round.ts';
import type * as Work from '../../coordinator/src/driver/task-work.ts';
import type * as Gates from '../../coordinator/src/round/gates.ts';
import type * as Round from '../../coordinator/src/round/round.ts';
import type * as Release from '../../client-sdk/src/trust/release.ts';
import type * as Signing from '../../proto/src/wire/signing.ts';
import type { UpdateHeader } from '@commonweight/proto';
import { simulate, type Planted } from './cluster.ts';

type Fault =
  | 'takes duplicates'
  | 'takes the uninvited'
  | 'takes stale updates'
  | 'takes updates of another base'
  | 'takes updates under stolen ids'
  | 'believes in a sum that died with the process'
  | 'forgets what it published'
  | 'takes damaged bytes'
  | 'takes any weight'
  | 'takes whoever has no invitation'
  | 'takes again what is in the last version'
  | 'goes on with the round that was rolled back'
  | 'waits by the date of its machine'
  | 'does not hear that a replica died'
  | 'leaves in the sum what it could not claim'
  | 'adds its part twice'
  | 'takes parts whatever is in them'
  | 'lets what is worse through its gate'
  | 'forgets the ends of what it refused'
  | 'does not go on from its part';
/** Of agents and apps. */
type OthersFault = 'believes any receipt' | 'believes any release';
const planted = vi.hoisted(() => ({ fault: '' as Fault | OthersFault | '' }));

// The production code, but for one fault that a test may plant in it.
vi.mock('../../coordinator/src/round/round.ts', async (original) => {
  const production = await original<typeof Round>();
  const forgiven: Partial<Record<Round.Verdict, Fault>> = {
    duplicate: 'takes duplicates',
    'not-invited': 'takes the uninvited',
    'stale-round': 'takes stale updates',
    'wrong-base-version': 'takes updates of another base',
  };
  const verdictOn: typeof Round.verdictOn = (state, update, asynchronous) => {
    const said = production.verdictOn(state, update, asynchronous);
    return forgiven[said] !== undefined && forgiven[said] === planted.fault && state.phase === 'Collecting'
      ? 'accepted'
      : said;
  };
  const step: typeof Round.step = (state, event, policy) => {
    if (planted.fault === 'believes in a sum that died with the process' && event.type === 'Recovered') {
      return { state, effects: [] };
    }
    if (planted.fault === 'does not hear that a replica died' && event.type === 'Withdrawn') {
      return { state, effects: [] };
    }
    if (planted.fault === 'goes on with the round that was rolled back' && event.type === 'Rebased') {
      return { state: { ...state, version: event.version }, effects: [] };
    }
    const stepped = production.step(state, event, policy);
    const isForgotten = planted.fault === 'forgets what it published' && event.type === 'Published';
    return isForgotten ? { ...stepped, state: { ...stepped.state, version: state.version } } : stepped;
  };
  return { ...production, verdictOn, step };
});
vi.mock('../../coordinator/src/clock.ts', async (original) => {
  const production = await original<typeof Clock>();
  const evenTime: typeof Clock.evenTime = (clock) =>
    planted.fault === 'waits by the date of its machine' ? () => clock.nowMs() : production.evenTime(clock);
  return { ...production, evenTime };
});
vi.mock('../../coordinator/src/driver/task-work.ts', async (original) => {
  const production = await original<typeof Work>();
  const ownsId: typeof Work.ownsId = (agentId, update) =>
    planted.fault === 'takes updates under stolen ids' || production.ownsId(agentId, update);
  const refusalOfBytes: typeof Work.refusalOfBytes = (header, payload) =>
    planted.fault === 'takes damaged bytes' ? undefined : production.refusalOfBytes(header, payload);
  const refusalOf: typeof Work.refusalOf = (header, round) => {
    const refusal = production.refusalOf(header, round);
    const isForgiven =
      (refusal === 'weight-out-of-range' && planted.fault === 'takes any weight') ||
      (refusal === 'not-invited' && planted.fault === 'takes whoever has no invitation');
    return isForgiven ? undefined : refusal;
  };
  const endedBefore: typeof Work.endedBefore = async (store, header, asynchronous) =>
    planted.fault === 'takes again what is in the last version'
      ? undefined
      : production.endedBefore(store, header, asynchronous);
  return { ...production, endedBefore, ownsId, refusalOf, refusalOfBytes };
});
vi.mock('../../coordinator/src/driver/round-sum.ts', async (original) => {
  const production = await original<typeof Sum>();
  class RoundSum extends production.RoundSum {
    override takeOut(header: UpdateHeader, payload: Uint8Array): void {
      if (planted.fault !== 'leaves in the sum what it could not claim') super.takeOut(header, payload);
    }
    override add(part: Uint8Array): void {
      super.add(part);
      if (planted.fault === 'adds its part twice') super.add(part);
    }
  }
  return { ...production, RoundSum };
});
vi.mock('../../coordinator/src/driver/parts.ts', async (original) => {
  const production = await original<typeof Parts>();
  const takePart: typeof Parts.takePart = (part, round) =>
    planted.fault === 'takes parts whatever is in them'
      ? production.takePart(part, { ...round, ended: async () => undefined, refusalOf: () => undefined })
      : production.takePart(part, round);
  return { ...production, takePart };
});
vi.mock('../../coordinator/src/driver/shared-round.ts', async (original) => {
  const production = await original<typeof Shared>();
  class SharedRound extends production.SharedRound {
    override async resume(...args: Parameters<Shared.SharedRound['resume']>): Promise<void> {
      if (planted.fault !== 'does not go on from its part') await super.resume(...args);
    }
  }
  return { ...production, SharedRound };
});
vi.mock('../../coordinator/src/round/gates.ts', async (original) => {
  const production = await original<typeof Gates>();
  const worseThan: typeof Gates.worseThan = (...args) =>
    planted.fault === 'lets what is worse through its gate' ? undefined : production.worseThan(...args);
  return { ...production, worseThan };
});
vi.mock('../../coordinator/src/driver/outcomes.ts', async (original) => {
  const production = await original<typeof Made>();
  class Outcomes extends production.Outcomes {
    override async of(closed: Made.Closed): Promise<Made.Outcome> {
      const outcome = await super.of(closed);
      if (planted.fault !== 'forgets the ends of what it refused' || outcome.event.type !== 'Refused') return outcome;
      return { ...outcome, receipts: [] };
    }
  }
  return { ...production, Outcomes };
});
vi.mock('../../proto/src/wire/signing.ts', async (original) => {
  const production = await original<typeof Signing>();
  const openReceipt: typeof Signing.openReceipt = (signed, key, verify) =>
    planted.fault === 'believes any receipt'
      ? production.openReceipt({ ...signed, publicKey: key }, key, () => true)
      : production.openReceipt(signed, key, verify);
  return { ...production, openReceipt };
});

vi.mock('../../client-sdk/src/trust/release.ts', async (original) => {
  const production = await original<typeof Release>();
  const openRelease: typeof Release.openRelease = (model, signed, pin, crypto) =>
    planted.fault === 'believes any release'
      ? production.openRelease(model, { ...signed, publicKey: pin.key! }, pin, { ...crypto, verifyEd25519: () => true })
      : production.openRelease(model, signed, pin, crypto);
  return { ...production, openRelease };
});

/** How a fault shows first hangs on the seed. */
const ANY = /^(I\d|bug): /;
/** A fault that shows in one seed of a hundred is still found. */
const SEEDS_MAX = 500;
/** Faults show in storms. */
const LULL_MS = 60_000;

describe('the checker sees', { timeout: 900_000 }, () => {
  /** The first violation, whoever notices it: the history, or a check of the product's own that is a bug to trip. */
  async function firstViolation(
    faults: Planted = {},
    setting: { replicas?: number; relay?: boolean } = {},
  ): Promise<string> {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      try {
        await simulate(seed, { planted: faults, lullMs: LULL_MS, ...setting });
      } catch (error) {
        return (error as Error).message;
      }
    }
    return `nothing in ${SEEDS_MAX} seeds`;
  }

  const inTheAgent: [keyof Planted, string, RegExp][] = [
    ['forgetsAcceptedUpdates', 'an agent that forgets an update before its receipt', /^I1: update \w+ is lost/],
    ['forgetsOnStart', 'an agent whose outbox does not outlive its process', /^I1: update \w+ is lost/],
    ['sendsBeforeKeeping', 'an agent that sends an update before it is on the disk', /^I1: update \w+ is lost/],
    ['tearsCommits', 'a version that became durable without what belongs to it', /^I[127]: /],
    ['losesCommits', 'a disk that takes commits back', /^I[127]: /],
    ['losesReceipts', 'a commit without its receipts', /^I1: /],
    ['believesAnyBytes', 'an app that does not look at digests', /^I4: app-\d answers as version/],
    ['saysTooEarly', 'an app that says that it kept what is not on its disk yet', /^I4: app-\d serves version/],
  ];
  test.each(inTheAgent)('%s: %s', async (fault, _, violation) => {
    expect(await firstViolation({ [fault]: true })).toMatch(violation);
  });

  const inTheShares: [keyof Planted, string, RegExp][] = [
    ['commitsWithoutLease', 'a leader that commits without its lease', ANY],
    ['keepsEpoch', 'a leader that takes over under the epoch of the last one', ANY],
    ['claimsWhatIsClaimed', 'a claim of an update that another replica has', ANY],
    ['claimsAfterClosing', 'a claim in a round that is closed', ANY],
    ['keepsPartsWithoutIds', 'a part that is kept without its ids', ANY],
    ['keepsTooEarly', 'a claim that counts before its part is kept', ANY],
    ['ignoresFencing', 'a replica that was taken for dead and goes on', ANY],
    ['trustsTheDead', 'claims of the dead that still count', ANY],
  ];
  test.each(inTheShares)('%s: %s', async (fault, _, violation) => {
    expect(await firstViolation({ [fault]: true }, { replicas: 3 })).toMatch(violation);
  });

  const inOne: [Fault | OthersFault, RegExp][] = [
    ['takes duplicates', /^(I3: version \d+ (weighs|has)|bug: a (round takes no more|sum has the updates))/],
    ['takes the uninvited', /^(I3|I6): /],
    ['takes stale updates', /^(I1|I3|I6): /],
    ['takes updates of another base', /^(I3|I6): /],
    ['takes updates under stolen ids', /^(I3|I6): /],
    ['believes in a sum that died with the process', /^(I1: |I3: |I7: |bug: )/],
    ['forgets what it published', /^I[67]: /],
    ['takes damaged bytes', /^I[36]: /],
    ['takes any weight', /^I[36]: /],
    ['takes whoever has no invitation', /^I[36]: /],
    ['takes again what is in the last version', /^I1: /],
    ['goes on with the round that was rolled back', /^(I[36]|bug): /],
    ['waits by the date of its machine', /^I7: /],
    ['believes any release', /^I4: app-\d serves version \d+, which was never committed/],
    ['lets what is worse through its gate', /^gate: /],
    ['forgets the ends of what it refused', /^I1: /],
  ];
  const inReplicas: [Fault | OthersFault, RegExp][] = [
    ['does not hear that a replica died', ANY],
    ['leaves in the sum what it could not claim', ANY],
    ['adds its part twice', ANY],
    ['does not go on from its part', ANY],
    ['believes any receipt', /^I1: update \w+ is lost/],
  ];
  test.each(inReplicas)('one of three replicas that %s', async (fault, violation) => {
    planted.fault = fault;
    try {
      expect(await firstViolation({}, { replicas: 3 })).toMatch(violation);
    } finally {
      planted.fault = '';
    }
  });
  test('a coordinator that takes parts of a relay whatever is in them', async () => {
    planted.fault = 'takes parts whatever is in them';
    try {
      expect(await firstViolation({}, { replicas: 1, relay: true })).toMatch(ANY);
    } finally {
      planted.fault = '';
    }
  });
  test.each(inOne)('a coordinator, or an app of it, that %s', async (fault, violation) => {
    planted.fault = fault;
    try {
      expect(await firstViolation()).toMatch(violation);
    } finally {
      planted.fault = '';
    }
  });
});
