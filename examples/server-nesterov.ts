// A strategy of one's own: federated averaging whose server takes Nesterov's step.
//   commonweight coordinator --strategy examples/server-nesterov.ts
//   commonweight task create train --model digits --strategy serverNesterov --strategy-option serverMomentum=0.8
//   commonweight simulate --strategy examples/server-nesterov.ts --rounds 20
import { fedAvg, type StrategyModule } from '@commonweight/core';

const strategy: StrategyModule = {
  name: 'serverNesterov',
  options: ['serverLearningRate', 'serverMomentum'],
  // Options are numbers that are not negative; one that is not given has its default here.
  make: ({ serverLearningRate = 1, serverMomentum = 0.9 }) => ({
    ...fedAvg(),
    name: 'serverNesterov',
    // `delta` is the exact weighted mean of the updates; what is remembered is published with the version.
    improve: (base, delta, [before]) => {
      const velocity = delta.map((value, i) => serverMomentum * (before?.[i] ?? 0) + value);
      const weights = base.map(
        (value, i) => value + serverLearningRate * ((delta[i] ?? 0) + serverMomentum * (velocity[i] ?? 0)),
      );
      return { weights, memory: [velocity] };
    },
  }),
};

export default strategy;
