// A page that takes part: it trains on digits that are drawn in it, for a task behind a NATS server.
import { arrayDataset, runAgent } from '@commonweight/edge-agent';

const parameters = new URLSearchParams(location.search);
const coordinator = parameters.get('url') ?? 'ws://127.0.0.1:8222';
const task = parameters.get('task') ?? undefined;
const place = parameters.get('place') ?? 'teach';
const engine = parameters.get('engine') ?? 'auto';

const $ = (id) => document.getElementById(id);
const say = (text) => $('log').prepend(Object.assign(document.createElement('li'), { textContent: text }));
const show = (id, text) => ($(id).textContent = text);

const PIXELS = 28 * 28;
/** Drawings and what they show. */
const examples = { pixels: [], labels: [] };

const paper = $('canvas').getContext('2d', { willReadFrequently: true });

function draw({ buttons, offsetX, offsetY, movementX, movementY }) {
  if (buttons === 0) return;
  const scale = 28 / $('canvas').clientWidth;
  paper.strokeStyle = 'white';
  [paper.lineWidth, paper.lineCap] = [2.2, 'round'];
  paper.beginPath();
  paper.moveTo((offsetX - movementX) * scale, (offsetY - movementY) * scale);
  paper.lineTo(offsetX * scale, offsetY * scale);
  paper.stroke();
}

function drawn() {
  const { data } = paper.getImageData(0, 0, 28, 28);
  return Float32Array.from({ length: PIXELS }, (_, i) => data[4 * i] / 255);
}

function add(pixels, label) {
  examples.pixels.push(pixels);
  examples.labels.push(label);
  show('examples', String(examples.labels.length));
  $('train').disabled = false;
}

/** Lines of 784 numbers from 0 to 1 and a last one, the digit, below a header. */
async function read(file) {
  const [, ...lines] = (await file.text()).trim().split(/\r?\n/);
  for (const line of lines) {
    const numbers = line.split(',').map(Number);
    const label = numbers.pop();
    if (numbers.length !== PIXELS || !numbers.every(Number.isFinite) || !(label >= 0 && label <= 9))
      return say(`${file.name} has a line that is not ${PIXELS} numbers and a digit`);
    add(Float32Array.from(numbers), label);
  }
  say(`${lines.length} examples from ${file.name}`);
}

function dataset() {
  const values = new Float32Array(examples.labels.length * PIXELS);
  examples.pixels.forEach((pixels, i) => values.set(pixels, i * PIXELS));
  return arrayDataset('what was drawn', { values, shape: [28, 28], labels: Int32Array.from(examples.labels) });
}

let [running, receipts, ended] = [undefined, 0, 0];

const words = {
  data: ({ examples: count }) => `${count} examples to train on`,
  connected: () => 'connected',
  disconnected: ({ why }) => `no session (${why})`,
  assignment: ({ task: of, round, version }) => `${of} round ${round}: training on version ${version}`,
  trained: ({ round, steps, trainMs, loss }) =>
    `round ${round}: ${steps} steps in ${trainMs} ms, loss ${loss.toPrecision(4)}`,
  engine: ({ engine: name }) => `trains on ${name}`,
  uploaded: ({ round, bytes }) => `round ${round}: ${bytes} bytes sent, kept until there is a receipt`,
  receipt: ({ round, version }) => `round ${round}: receipt, in version ${version}`,
  rejected: ({ round, reason }) => `round ${round}: rejected as ${reason}`,
  failure: ({ round, reason }) => `round ${round}: failed, ${reason}`,
  warning: ({ text }) => text,
};

function hear(event) {
  say(words[event.type]?.(event) ?? event.type);
  if (event.type === 'connected') show('state', 'ready');
  if (event.type === 'disconnected') show('state', 'away');
  if (event.type === 'assignment') show('state', 'training');
  if (event.type === 'engine') show('engine', event.engine);
  if (event.type === 'trained') show('loss', event.loss.toPrecision(4));
  // The receipt may be quicker than the answer to the upload.
  if (event.type === 'uploaded' && event.round > ended) show('state', 'waiting for a receipt');
  if (event.type === 'receipt') {
    show('state', 'ready');
    show('receipts', String(++receipts));
    ended = event.round;
  }
}

async function toggle() {
  if (running !== undefined) return running.abort();
  running = new AbortController();
  show('train', 'Stop');
  show('state', 'connecting');
  try {
    const { signal } = running;
    await runAgent({ coordinator, task, place, engine, data: dataset(), signal, onEvent: hear });
  } catch (error) {
    say(error.message);
  }
  running = undefined;
  show('train', 'Train');
  show('state', 'off');
}

for (let digit = 0; digit <= 9; digit++) {
  const button = document.createElement('button');
  button.textContent = String(digit);
  button.addEventListener('click', () => {
    add(drawn(), digit);
    paper.clearRect(0, 0, 28, 28);
  });
  $('digits').append(button);
}
$('canvas').addEventListener('pointermove', draw);
$('file').addEventListener('change', ({ target }) => void read(target.files[0]));
$('train').addEventListener('click', () => void toggle());
