import { playEverySecond } from './play-seeds.ts';

playEverySecond(2, 2000);
