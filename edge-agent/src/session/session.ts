/**
 * What an agent does next, as a pure function; its state is JSON.
 *
 *     Idle -> CheckedIn -> Training -> Keeping -> Uploading -> Waiting -> (Training | CheckedIn)
 *       ^          ^___________|_ Resting _| (failed)                                        |
 *       |______________________________ (the session broke; work goes on) ___________________|
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
  /** No update came of the last work, and what failed at once would fail again. */
  | { phase: 'Resting' }
  | ({ phase: 'Training'; next?: Work } & Work)
  /** The update is made and on its way to the disk: nothing of it is sent before it is there. */
  | ({ phase: 'Keeping'; next?: Work } & Work)
  | ({ phase: 'Uploading' } & Work)
  /** The update is in the outbox until its receipt comes. */
  | ({ phase: 'Waiting' } & Work);

export interface SessionState {
  connected: boolean;
  activity: Activity;
}

export type SessionEvent =
  /** A session began. `kept` is the newest update in the outbox, where one still waits for its receipt. */
  | { type: 'Welcomed'; kept?: Work }
  | { type: 'Broken' }
  /** Comes now and then while connected: what was said may have been lost on the way. */
  | { type: 'Reminded' }
  | ({ type: 'Assigned' } & Work)
  /** The round has what it needs: a training for it would come to nothing. */
  | ({ type: 'Over' } & Work)
  | ({ type: 'Trained' } & Work)
  /** The update is in the outbox. */
  | ({ type: 'Kept' } & Work)
  /** No update came of it: training failed, or the outbox could not take what it brought. */
  | ({ type: 'Failed'; reason: string } & Work)
  /** The rest that was asked for is over. */
  | { type: 'Rested' }
  | ({ type: 'UploadAccepted' } & Work)
  /** The upload did not get through; the outbox keeps the update and offers it again. */
  | ({ type: 'UploadBroken' } & Work)
  /** The update ended by a receipt. */
  | ({ type: 'Ended' } & Work);

export type SessionEffect =
  | { type: 'Offer' }
  | { type: 'SayReady' }
  | ({ type: 'Train' } & Work)
  /** End a training; nothing is heard of it any more. */
  | ({ type: 'Stop' } & Work)
  /** Make an update of what was trained, put it into the outbox, then say Kept. */
  | ({ type: 'Keep' } & Work)
  /** Send what the outbox holds of this work. */
  | ({ type: 'Upload' } & Work)
  /** Forget the result of a training that was replaced by a newer one. */
  | ({ type: 'Drop' } & Work)
  | ({ type: 'ReportFailure'; reason: string } & Work)
  /** Say Rested after a while, longer each time. */
  | { type: 'Rest' };

export const firstState: SessionState = { connected: false, activity: { phase: 'CheckedIn' } };

export interface SessionStep {
  state: SessionState;
  effects: readonly SessionEffect[];
}

export function step(state: SessionState, event: SessionEvent): SessionStep {
  switch (event.type) {
    case 'Welcomed':
      return welcomed({ ...state, connected: true }, event.kept);
    case 'Broken':
      return still({ ...state, connected: false });
    case 'Reminded':
      return reminded(state);
    case 'Assigned':
      return assigned(state, event);
    case 'Over':
      return over(state, event);
    case 'Trained':
      return trained(state, event);
    case 'Kept':
      return kept(state, event);
    case 'Failed':
      return failed(state, event);
    case 'Rested':
      return state.activity.phase === 'Resting' ? freed(state) : still(state);
    case 'UploadAccepted':
    case 'UploadBroken':
      return isAt(state, 'Uploading', event)
        ? still({ ...state, activity: { phase: 'Waiting', ...workOf(event) } })
        : still(state);
    case 'Ended':
      // A version's receipts come behind its next assignments as well: only what is waited for frees the agent.
      return isAt(state, 'Uploading', event) || isAt(state, 'Waiting', event) ? freed(state) : still(state);
  }
}

const still = (state: SessionState): SessionStep => ({ state, effects: [] });

const workOf = ({ task, round }: Work): Work => ({ task, round });

function isAt({ activity }: SessionState, phase: Activity['phase'], { task, round }: Work): boolean {
  return activity.phase === phase && 'task' in activity && activity.task === task && activity.round === round;
}

/** An agent with an update that has not ended is not ready: invited again, it would train for the same round twice. */
function welcomed(state: SessionState, kept: Work | undefined): SessionStep {
  const { activity } = state;
  if (activity.phase !== 'CheckedIn' && activity.phase !== 'Resting') return { state, effects: [{ type: 'Offer' }] };
  if (activity.phase === 'Resting' && kept === undefined) return still(state);
  if (kept === undefined) return { state, effects: [{ type: 'SayReady' }] };
  return { state: { ...state, activity: { phase: 'Waiting', ...workOf(kept) } }, effects: [{ type: 'Offer' }] };
}

/** Says again what the coordinator may not have heard, and asks again for a receipt that may not have come. */
function reminded(state: SessionState): SessionStep {
  const { connected, activity } = state;
  if (connected && activity.phase === 'CheckedIn') return { state, effects: [{ type: 'Offer' }, { type: 'SayReady' }] };
  if (connected && activity.phase === 'Waiting') return { state, effects: [{ type: 'Offer' }] };
  return still(state);
}

function assigned(state: SessionState, event: Work): SessionStep {
  const { activity } = state;
  const work = workOf(event);
  switch (activity.phase) {
    case 'Training':
    case 'Keeping':
      // One training at a time: a newer assignment waits for the older to end. The same one again only says that it stands.
      return isAt(state, activity.phase, event)
        ? still(state)
        : still({ ...state, activity: { ...activity, next: work } });
    case 'Uploading':
      return isAt(state, 'Uploading', event) ? still(state) : training(state, work);
    case 'CheckedIn':
    case 'Resting':
    case 'Waiting':
      return training(state, work);
  }
}

/** An update that is being kept or sent goes on: only a receipt ends it. */
function over(state: SessionState, event: Work): SessionStep {
  const { activity } = state;
  if (activity.phase !== 'Training') return still(state);
  const { next } = activity;
  if (next !== undefined && next.task === event.task && next.round === event.round) {
    const { next: _, ...current } = activity;
    return still({ ...state, activity: current });
  }
  if (!isAt(state, 'Training', event)) return still(state);
  const stop: SessionEffect = { type: 'Stop', ...workOf(event) };
  if (next !== undefined) return training(state, next, [stop]);
  const step = freed(state);
  return { ...step, effects: [stop, ...step.effects] };
}

function training(state: SessionState, work: Work, before: readonly SessionEffect[] = []): SessionStep {
  return {
    state: { ...state, activity: { phase: 'Training', ...workOf(work) } },
    effects: [...before, { type: 'Train', ...workOf(work) }],
  };
}

/** What was trained is kept, unless a newer assignment took its place meanwhile. */
function trained(state: SessionState, event: Work): SessionStep {
  const { activity } = state;
  if (activity.phase !== 'Training' || !isAt(state, 'Training', event)) return still(state);
  const work = workOf(event);
  if (activity.next !== undefined) return training(state, activity.next, [{ type: 'Drop', ...work }]);
  return { state: { ...state, activity: { phase: 'Keeping', ...work } }, effects: [{ type: 'Keep', ...work }] };
}

/** What is in the outbox is sent in any case, for only a receipt takes it out again. */
function kept(state: SessionState, event: Work): SessionStep {
  const { activity } = state;
  if (activity.phase !== 'Keeping' || !isAt(state, 'Keeping', event)) return still(state);
  const upload: SessionEffect = { type: 'Upload', ...workOf(event) };
  if (activity.next !== undefined) return training(state, activity.next, [upload]);
  return { state: { ...state, activity: { phase: 'Uploading', ...workOf(event) } }, effects: [upload] };
}

function failed(state: SessionState, event: Extract<SessionEvent, { type: 'Failed' }>): SessionStep {
  const { activity } = state;
  if (activity.phase !== 'Training' && activity.phase !== 'Keeping') return still(state);
  if (!isAt(state, activity.phase, event)) return still(state);
  const report: SessionEffect = { type: 'ReportFailure', ...workOf(event), reason: event.reason };
  if (activity.next !== undefined) return training(state, activity.next, [report]);
  return { state: { ...state, activity: { phase: 'Resting' } }, effects: [report, { type: 'Rest' }] };
}

function freed(state: SessionState): SessionStep {
  return {
    state: { ...state, activity: { phase: 'CheckedIn' } },
    effects: state.connected ? [{ type: 'SayReady' }] : [],
  };
}
