import { createRequire, registerHooks } from 'node:module';
import type * as Tf from '@tensorflow/tfjs-core';

/** TensorFlow.js with its CPU backend and all of its gradients. */
export function loadTfjs(): typeof Tf {
  const require = createRequire(import.meta.url);
  const tf = require('@tensorflow/tfjs-core') as typeof Tf;
  require('@tensorflow/tfjs-backend-cpu');
  registerGradients(require);
  return tf;
}

/** The gradients are not in the bundle that Node loads, and their modules import each other without extensions. */
function registerGradients(require: NodeJS.Require): void {
  const hooks = registerHooks({
    resolve: (specifier, context, next) => {
      const isTheirs = context.parentURL?.includes('/@tensorflow/tfjs-core/dist/') === true;
      return next(
        isTheirs && /^\.\.?\//.test(specifier) && !specifier.endsWith('.js') ? `${specifier}.js` : specifier,
        context,
      );
    },
  });
  require('@tensorflow/tfjs-core/dist/register_all_gradients.js');
  hooks.deregister();
}
