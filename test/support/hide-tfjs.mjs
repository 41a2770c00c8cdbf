// A machine without TensorFlow.js: `--import` this, and none of its packages is found.
import Module, { registerHooks } from 'node:module';

const isTheirs = (specifier) => specifier.startsWith('@tensorflow/');
const missing = (specifier) =>
  Object.assign(new Error(`Cannot find module '${specifier}'`), { code: 'MODULE_NOT_FOUND' });

registerHooks({
  resolve: (specifier, context, next) => {
    if (isTheirs(specifier)) throw missing(specifier);
    return next(specifier, context);
  },
});
// `require.resolve` asks no hook.
const resolve = Module._resolveFilename;
Module._resolveFilename = (specifier, ...more) => {
  if (isTheirs(specifier)) throw missing(specifier);
  return resolve(specifier, ...more);
};
