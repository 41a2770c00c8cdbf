import { MEASURES, type Fleet } from '../driver/fleet.ts';
import type { TaskDriver } from '../driver/task-driver.ts';
import type { ExamplesAsked } from './measurements.ts';

/** Who may be asked of a model's versions: agents that are free and connected to this coordinator. Those of other replicas are not asked. */
export class AgentsOfModel {
  readonly #fleet: Fleet;
  readonly #tasks: () => Iterable<TaskDriver>;

  constructor(fleet: Fleet, tasks: () => Iterable<TaskDriver>) {
    this.#fleet = fleet;
    this.#tasks = tasks;
  }

  /** Those that train it; with `only`, whether that one does. */
  training = (model: string, only?: string): string[] => {
    const agents = new Set(this.#trainingOf(model).flatMap((task) => task.readyAgents(only)));
    return [...agents].filter((agentId) => this.#fleet.hasSession(agentId));
  };

  /** Of those the ones that can run forms beside float32. */
  measuring = (model: string, only?: string): string[] =>
    this.training(model, only).filter((agentId) => this.#fleet.knows(agentId, MEASURES));

  /** Evaluators that can, and that a task of the model names: what an agent only says of itself makes it none. */
  evaluators = (model: string, only?: string): string[] => {
    const named = new Set<string>();
    for (const { task, config } of this.#tasks()) {
      const { evaluators } = config;
      if (config.model !== model || evaluators === undefined) continue;
      const wanting = { task, where: {}, work: MEASURES, evaluators } as const;
      for (const agentId of only === undefined ? evaluators : [only])
        if (this.#fleet.isReady(agentId) && this.#fleet.qualifies(agentId, wanting)) named.add(agentId);
    }
    return [...named];
  };

  isTrained = (model: string): boolean => this.#trainingOf(model).length > 0;

  /** What holds for every task that trains it. */
  examplesOf = (model: string): ExamplesAsked => {
    const plans = this.#trainingOf(model).map(({ config }) => ('plan' in config ? config.plan : undefined));
    return {
      // Of one order of all examples each task sets the first aside: the least share is set aside by all.
      holdOut: Math.min(...plans.map((plan) => plan?.evaluation?.holdOut ?? 0)),
      classes: plans.every((plan) => plan?.loss === 'cross-entropy'),
    };
  };

  #trainingOf(model: string): TaskDriver[] {
    return [...this.#tasks()].filter(({ config }) => config.model === model && !('kind' in config));
  }
}
