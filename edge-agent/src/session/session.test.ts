import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { firstState, step, type SessionEffect, type SessionEvent, type SessionState } from './session.ts';

const one = { task: 't', round: 1 };
const two = { task: 't', round: 2 };

/** The state after some events, and what the last of them asked for. */
function after(...events: SessionEvent[]): { state: SessionState; effects: readonly SessionEffect[] } {
  return events.reduce<{ state: SessionState; effects: readonly SessionEffect[] }>(
    ({ state }, event) => step(state, event),
    { state: firstState, effects: [] },
  );
}

const welcomed: SessionEvent = { type: 'Welcomed' };
const assigned: SessionEvent = { type: 'Assigned', ...one };
const newer: SessionEvent = { type: 'Assigned', ...two };
const trained: SessionEvent = { type: 'Trained', ...one };
const kept: SessionEvent = { type: 'Kept', ...one };
const accepted: SessionEvent = { type: 'UploadAccepted', ...one };
const failed: SessionEvent = { type: 'Failed', ...one, reason: 'NaN' };
const report: SessionEffect = { type: 'ReportFailure', ...one, reason: 'NaN' };
const toTraining = [welcomed, assigned];
const toKeeping = [...toTraining, trained];
const toUploading = [...toKeeping, kept];
const toWaiting = [...toUploading, accepted];

describe('the arrows', () => {
  const rows: [string, SessionEvent[], SessionState['activity'], SessionEffect[]][] = [
    ['Idle -> CheckedIn when welcomed', [welcomed], { phase: 'CheckedIn' }, [{ type: 'SayReady' }]],
    [
      'CheckedIn says ready again when reminded, and offers what older rounds may have left',
      [welcomed, { type: 'Reminded' }],
      { phase: 'CheckedIn' },
      [{ type: 'Offer' }, { type: 'SayReady' }],
    ],
    [
      'Waiting asks again for its receipt when reminded',
      [...toWaiting, { type: 'Reminded' }],
      { phase: 'Waiting', ...one },
      [{ type: 'Offer' }],
    ],
    ['Training needs no reminder', [...toTraining, { type: 'Reminded' }], { phase: 'Training', ...one }, []],
    [
      'Idle -> Waiting when welcomed with an update that has not ended: ready, it would be invited to the same round again',
      [{ type: 'Welcomed', kept: one }],
      { phase: 'Waiting', ...one },
      [{ type: 'Offer' }],
    ],
    [
      'Waiting stays and offers again when welcomed',
      [...toWaiting, welcomed],
      { phase: 'Waiting', ...one },
      [{ type: 'Offer' }],
    ],
    [
      'Waiting stays when the update was asked for again and did not get through',
      [...toWaiting, { type: 'UploadBroken', ...one }],
      { phase: 'Waiting', ...one },
      [],
    ],
    ['CheckedIn -> Training when assigned', toTraining, { phase: 'Training', ...one }, [{ type: 'Train', ...one }]],
    ['Training -> Keeping when trained', toKeeping, { phase: 'Keeping', ...one }, [{ type: 'Keep', ...one }]],
    ['Keeping -> Uploading when kept', toUploading, { phase: 'Uploading', ...one }, [{ type: 'Upload', ...one }]],
    ['Uploading -> Waiting when accepted', toWaiting, { phase: 'Waiting', ...one }, []],
    [
      'Waiting -> CheckedIn when the receipt comes',
      [...toWaiting, { type: 'Ended', ...one }],
      { phase: 'CheckedIn' },
      [{ type: 'SayReady' }],
    ],
    [
      'Waiting -> Training when the next assignment comes first',
      [...toWaiting, newer],
      { phase: 'Training', ...two },
      [{ type: 'Train', ...two }],
    ],
    [
      'Uploading -> CheckedIn when the receipt overtakes the answer',
      [...toUploading, { type: 'Ended', ...one }],
      { phase: 'CheckedIn' },
      [{ type: 'SayReady' }],
    ],
    [
      'Uploading -> Waiting when the upload broke: free, it would be invited to the same round again',
      [...toUploading, { type: 'UploadBroken', ...one }],
      { phase: 'Waiting', ...one },
      [],
    ],
    [
      'Uploading -> Training when a newer assignment comes',
      [...toUploading, newer],
      { phase: 'Training', ...two },
      [{ type: 'Train', ...two }],
    ],
    ['Training -> Resting when it failed', [...toTraining, failed], { phase: 'Resting' }, [report, { type: 'Rest' }]],
    [
      'Keeping -> Resting when the disk refused',
      [...toKeeping, failed],
      { phase: 'Resting' },
      [report, { type: 'Rest' }],
    ],
    [
      'Resting -> CheckedIn once it has rested',
      [...toTraining, failed, { type: 'Rested' }],
      { phase: 'CheckedIn' },
      [{ type: 'SayReady' }],
    ],
    ['Resting says nothing when reminded', [...toTraining, failed, { type: 'Reminded' }], { phase: 'Resting' }, []],
    ['Resting rests on when welcomed', [...toTraining, failed, welcomed], { phase: 'Resting' }, []],
    [
      'Resting -> Waiting when welcomed with an update that has not ended',
      [...toTraining, failed, { type: 'Welcomed', kept: two }],
      { phase: 'Waiting', ...two },
      [{ type: 'Offer' }],
    ],
    [
      'Resting -> Training when a coordinator that was told before assigns all the same',
      [...toTraining, failed, newer],
      { phase: 'Training', ...two },
      [{ type: 'Train', ...two }],
    ],
    [
      'Training goes on when a rest of before is over',
      [...toTraining, { type: 'Rested' }],
      { phase: 'Training', ...one },
      [],
    ],
    ['Training notes a newer assignment', [...toTraining, newer], { phase: 'Training', ...one, next: two }, []],
    [
      'Training -> Training: a result that was replaced is dropped, never kept',
      [...toTraining, newer, trained],
      { phase: 'Training', ...two },
      [
        { type: 'Drop', ...one },
        { type: 'Train', ...two },
      ],
    ],
    [
      'Training -> Training: a failure that was replaced is reported',
      [...toTraining, newer, failed],
      { phase: 'Training', ...two },
      [report, { type: 'Train', ...two }],
    ],
    [
      'Training -> CheckedIn when the round has what it needs: the training is stopped, and nobody is told of a failure',
      [...toTraining, { type: 'Over', ...one }],
      { phase: 'CheckedIn' },
      [{ type: 'Stop', ...one }, { type: 'SayReady' }],
    ],
    [
      'Training -> Training when the round has what it needs and a newer assignment waits',
      [...toTraining, newer, { type: 'Over', ...one }],
      { phase: 'Training', ...two },
      [
        { type: 'Stop', ...one },
        { type: 'Train', ...two },
      ],
    ],
    [
      'Training forgets the newer assignment whose round is over first',
      [...toTraining, newer, { type: 'Over', ...two }],
      { phase: 'Training', ...one },
      [],
    ],
    [
      'Keeping goes on when the round has what it needs',
      [...toKeeping, { type: 'Over', ...one }],
      { phase: 'Keeping', ...one },
      [],
    ],
    [
      'Waiting goes on when the round has what it needs',
      [...toWaiting, { type: 'Over', ...one }],
      { phase: 'Waiting', ...one },
      [],
    ],
    ['Keeping notes a newer assignment', [...toKeeping, newer], { phase: 'Keeping', ...one, next: two }, []],
    [
      'Keeping -> Training: what is on the disk is sent all the same',
      [...toKeeping, newer, kept],
      { phase: 'Training', ...two },
      [
        { type: 'Upload', ...one },
        { type: 'Train', ...two },
      ],
    ],
    [
      'Keeping -> Training: a disk that refused is reported',
      [...toKeeping, newer, failed],
      { phase: 'Training', ...two },
      [report, { type: 'Train', ...two }],
    ],
    [
      'the same assignment again starts no second training',
      [...toTraining, assigned],
      { phase: 'Training', ...one },
      [],
    ],
    ['nor while it is kept', [...toKeeping, assigned], { phase: 'Keeping', ...one }, []],
    ['nor while it is uploaded', [...toUploading, assigned], { phase: 'Uploading', ...one }, []],
  ];
  test.each(rows)('%s', (_, events, activity, effects) => {
    expect(after(...events)).toEqual({ state: { connected: true, activity }, effects });
  });
});

test('a session that broke stops nothing; without one the agent only keeps silent', () => {
  for (const events of [toTraining, toKeeping, toUploading, toWaiting]) {
    const before = after(...events).state;
    expect(after(...events, { type: 'Broken' })).toEqual({ state: { ...before, connected: false }, effects: [] });
  }
  expect(after(...toTraining, { type: 'Broken' }, failed).effects).toEqual([report, { type: 'Rest' }]);
  expect(after(...toTraining, { type: 'Broken' }, failed, { type: 'Rested' }).effects).toEqual([]);
});

const work = fc.record({ task: fc.constantFrom('s', 't'), round: fc.integer({ min: 1, max: 3 }) });
const event: fc.Arbitrary<SessionEvent> = fc.oneof(
  fc.constantFrom<SessionEvent>({ type: 'Welcomed' }, { type: 'Broken' }, { type: 'Reminded' }, { type: 'Rested' }),
  fc
    .tuple(fc.constantFrom('Assigned', 'Trained', 'Kept', 'UploadAccepted', 'UploadBroken', 'Ended'), work)
    .map(([type, of]): SessionEvent => ({ type, ...of }) as SessionEvent),
  work.map((of): SessionEvent => ({ type: 'Failed', reason: 'no', ...of })),
);
const events = fc.array(event, { maxLength: 60 });

/** Steps through a sequence and looks at each step. */
function each(
  sequence: readonly SessionEvent[],
  look: (before: SessionState, event: SessionEvent, state: SessionState, effects: readonly SessionEffect[]) => void,
): void {
  let before = firstState;
  for (const next of sequence) {
    const { state, effects } = step(before, next);
    look(before, next, state, effects);
    before = state;
  }
}

const keyOf = ({ task, round }: { task: string; round: number }): string => `${task} ${round}`;

test('one training brings one update at most, kept and sent in this order', () => {
  fc.assert(
    fc.property(events, (sequence) => {
      // What is owed of each work: a training that runs, an update that goes to the disk.
      const training: string[] = [];
      const keeping: string[] = [];
      each(sequence, (_, __, ___, effects) => {
        for (const effect of effects) {
          if (effect.type === 'Train') training.push(keyOf(effect));
          if (effect.type === 'Drop') expect(training.shift()).toBe(keyOf(effect));
          if (effect.type === 'Keep') {
            expect(training.shift()).toBe(keyOf(effect));
            keeping.push(keyOf(effect));
          }
          if (effect.type === 'Upload') expect(keeping.shift()).toBe(keyOf(effect));
          if (effect.type === 'ReportFailure')
            expect([...training.splice(0, 1), ...keeping.splice(0)]).toContain(keyOf(effect));
        }
        expect(training.length + keeping.length).toBeLessThanOrEqual(1);
      });
    }),
  );
});

test('what nobody is at changes nothing', () => {
  fc.assert(
    fc.property(events, (sequence) => {
      each(sequence, ({ activity }, next, state, effects) => {
        if (!('task' in next) || next.type === 'Assigned') return;
        if ('task' in activity && keyOf(activity) === keyOf(next)) return;
        expect(state.activity).toEqual(activity);
        expect(effects).toEqual([]);
      });
    }),
  );
});

test('every new session either offers what has not ended or says ready, never both, and neither while it rests', () => {
  fc.assert(
    fc.property(events, fc.option(work, { nil: undefined }), (sequence, kept) => {
      const { state, effects } = after(...sequence, { type: 'Welcomed', ...(kept === undefined ? {} : { kept }) });
      const { phase } = state.activity;
      expect(effects).toEqual(phase === 'Resting' ? [] : [{ type: phase === 'CheckedIn' ? 'SayReady' : 'Offer' }]);
    }),
  );
});

test('ready is said while connected and free only', () => {
  fc.assert(
    fc.property(events, (sequence) => {
      each(sequence, (_, __, state, effects) => {
        if (!effects.some(({ type }) => type === 'SayReady')) return;
        expect(state.connected).toBe(true);
        expect(state.activity.phase).toBe('CheckedIn');
      });
    }),
  );
});

test('the newest assignment is trained once the older work is done', () => {
  fc.assert(
    fc.property(events, (sequence) => {
      const { state } = after(...sequence);
      const { activity } = state;
      if (!('next' in activity) || activity.next === undefined) return;
      const done: SessionEvent = {
        type: activity.phase === 'Training' ? 'Trained' : 'Kept',
        task: activity.task,
        round: activity.round,
      };
      const next = step(state, done);
      expect(next.state.activity).toEqual({ phase: 'Training', ...activity.next });
      expect(next.effects.at(-1)).toEqual({ type: 'Train', ...activity.next });
    }),
    { numRuns: 500 },
  );
});

test('the state is JSON: read back from it, the machine goes on the same', () => {
  fc.assert(
    fc.property(events, event, (sequence, next) => {
      const { state } = after(...sequence);
      const readBack = JSON.parse(JSON.stringify(state)) as SessionState;
      expect(readBack).toEqual(state);
      expect(step(readBack, next)).toEqual(step(state, next));
    }),
  );
});
