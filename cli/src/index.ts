export { commandLine } from './program.ts';
export { main } from './run.ts';
