import { playEverySecond } from './play-seeds.ts';

playEverySecond(1, 2000);
