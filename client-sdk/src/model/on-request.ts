// What only some apps switch on, in one part that a page fetches when it does.
export { Feedback } from './feedback.ts';
export { Shadow } from './shadow.ts';
export { watchChallenger } from './watch-challenger.ts';
