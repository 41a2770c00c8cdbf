/**
 * What an agent does next, as a pure function; its state is JSON.
 *
 *     Idle -> CheckedIn -> Training -> Uploading -> Waiting -> (Training | CheckedIn)
 *       ^________________________ (the session broke; work goes on) ________________|
 *
 * `connected` stands beside the activity, for a broken session stops neither training nor what is in the outbox.
 */
export interface Work {
  task: string;
  round: number;
}

export type Activity =
  /** Free: invited when the coordinator likes. */
  | { phase: 'CheckedIn' }
  | ({ phase: 'Training'; next?: Work } & Work)
  | ({ phase: 'Uploading' } & Work)
  /** The update is in the sum; its receipt comes with the version. */
  | ({ phase: 'Waiting' } & Work);

export interface SessionState {
  connected: boolean;
  activity: Activity;
}

export type SessionEvent =
  | { type: 'Welcomed' }
  | { type: 'Broken' }
  | ({ type: 'Assigned' } & Work)
  | ({ type: 'Trained' } & Work)
  | ({ type: 'TrainingFailed'; reason: string } & Work)
  | ({ type: 'UploadAccepted' } & Work)
  /** The upload did not get through; the outbox keeps the update and offers it again. */
  | ({ type: 'UploadBroken' } & Work)
  /** The update ended by a receipt. */
  | ({ type: 'Ended' } & Work);

export type SessionEffect =
  | { type: 'Offer' }
  | { type: 'SayReady' }
  | ({ type: 'Train' } & Work)
  | ({ type: 'Keep' } & Work)
  /** The result of a training that was replaced by a newer one. */
  | ({ type: 'Drop' } & Work)
  | ({ type: 'ReportFailure'; reason: string } & Work);

export const firstState: SessionState = { connected: false, activity: { phase: 'CheckedIn' } };

export interface SessionStep {
  state: SessionState;
  effects: readonly SessionEffect[];
}

export function step(state: SessionState, event: SessionEvent): SessionStep {
  switch (event.type) {
    case 'Welcomed':
      return {
        state: { ...state, connected: true },
        effects: isFree(state) ? [{ type: 'Offer' }, { type: 'SayReady' }] : [{ type: 'Offer' }],
      };
    case 'Broken':
      return still({ ...state, connected: false });
    case 'Assigned':
      return assigned(state, event);
    case 'Trained':
      return ended(state, event, { type: 'Keep', ...workOf(event) }, { phase: 'Uploading', ...workOf(event) });
    case 'TrainingFailed':
      return failed(state, event);
    case 'UploadAccepted':
      return isAt(state, 'Uploading', event)
        ? still({ ...state, activity: { phase: 'Waiting', ...workOf(event) } })
        : still(state);
    case 'UploadBroken':
      return isAt(state, 'Uploading', event) ? freed(state) : still(state);
    case 'Ended':
      // A version's receipts come behind its next assignments as well: only what is waited for frees the agent.
      return isAt(state, 'Uploading', event) || isAt(state, 'Waiting', event) ? freed(state) : still(state);
  }
}

const still = (state: SessionState): SessionStep => ({ state, effects: [] });

const isFree = ({ activity }: SessionState): boolean => activity.phase === 'CheckedIn' || activity.phase === 'Waiting';

const workOf = ({ task, round }: Work): Work => ({ task, round });

function isAt({ activity }: SessionState, phase: Activity['phase'], { task, round }: Work): boolean {
  return (
    activity.phase === phase && activity.phase !== 'CheckedIn' && activity.task === task && activity.round === round
  );
}

function assigned(state: SessionState, event: Work): SessionStep {
  const { activity } = state;
  const work = workOf(event);
  if (isAt(state, 'Training', event) || isAt(state, 'Uploading', event)) return still(state);
  // One training at a time: a newer assignment waits for the older to end, whose result is then dropped.
  if (activity.phase === 'Training') return still({ ...state, activity: { ...activity, next: work } });
  return { state: { ...state, activity: { phase: 'Training', ...work } }, effects: [{ type: 'Train', ...work }] };
}

/** Training came to an end: what follows is the newer assignment where there is one. */
function ended(state: SessionState, event: Work, effect: SessionEffect, then: Activity): SessionStep {
  const { activity } = state;
  if (activity.phase !== 'Training' || !isAt(state, 'Training', event)) return still(state);
  const { next } = activity;
  if (next === undefined) return { state: { ...state, activity: then }, effects: [effect] };
  const instead: SessionEffect = effect.type === 'Keep' ? { type: 'Drop', ...workOf(event) } : effect;
  return {
    state: { ...state, activity: { phase: 'Training', ...next } },
    effects: [instead, { type: 'Train', ...next }],
  };
}

function failed(state: SessionState, event: Extract<SessionEvent, { type: 'TrainingFailed' }>): SessionStep {
  const report: SessionEffect = { type: 'ReportFailure', ...workOf(event), reason: event.reason };
  const step = ended(state, event, report, { phase: 'CheckedIn' });
  return step.state.activity.phase === 'CheckedIn'
    ? { ...step, effects: [...step.effects, { type: 'SayReady' }] }
    : step;
}

function freed(state: SessionState): SessionStep {
  return {
    state: { ...state, activity: { phase: 'CheckedIn' } },
    effects: state.connected ? [{ type: 'SayReady' }] : [],
  };
}
