// Takes ten steps of ResNet-18 and prints the peak memory of this process, in bytes.
import { resnet18 } from './train-models.ts';
import { ourStepper } from './train-step.ts';

const stepper = await ourStepper(resnet18(), 32);
await stepper.run(10);
console.log(process.resourceUsage().maxRSS * 1024);
process.exit(0);
