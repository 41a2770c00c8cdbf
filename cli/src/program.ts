import { Command } from 'commander';
import { addAgent } from './commands/agent.ts';
import { addCoordinator } from './commands/coordinator.ts';
import { addDemo } from './commands/demo.ts';
import { addExplain } from './commands/explain.ts';
import { addModel } from './commands/model.ts';
import { addPredict } from './commands/predict.ts';
import { addRelay } from './commands/relay.ts';
import { addSimulate } from './commands/simulate.ts';
import { addServe } from './commands/serve.ts';
import { addTask } from './commands/task.ts';
import { addUpkeep } from './commands/upkeep.ts';

/** The whole command line. Parsing throws CommanderError instead of ending the process. */
export function commandLine(): Command {
  const program = new Command('commonweight')
    .description('Federated and online learning: a coordinator, edge agents, and live models in apps.')
    .version('0.1.0')
    .showHelpAfterError('(--help says what there is)')
    .enablePositionalOptions()
    .exitOverride();
  addCoordinator(program);
  addAgent(program);
  addRelay(program);
  addModel(program);
  addTask(program);
  addPredict(program);
  addExplain(program);
  addSimulate(program);
  addServe(program);
  addUpkeep(program);
  addDemo(program);
  return program;
}
