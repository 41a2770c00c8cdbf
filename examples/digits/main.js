// A page that follows a model: it says which digit was drawn by the newest version, and which version that was.
import { connect } from '@commonweight/client-sdk';

const parameters = new URLSearchParams(location.search);
const url = parameters.get('url') ?? 'http://127.0.0.1:8080';
const name = parameters.get('model') ?? 'digits';
const channel = parameters.get('channel') ?? 'latest';
const $ = (id) => document.getElementById(id);
const say = (text) => $('log').prepend(Object.assign(document.createElement('li'), { textContent: text }));

const canvas = $('canvas');
const paper = canvas.getContext('2d', { willReadFrequently: true });
const isEmpty = () => paper.getImageData(0, 0, 28, 28).data.every((value, i) => i % 4 !== 0 || value === 0);

let [isBusy, isDue] = [false, false];

const client = await connect(url, { cacheDir: name });
const shadow = parameters.get('shadow');
const model = await client.model(name, { channel, ...(shadow && { shadow: { channel: shadow } }) });
model.on('version', ({ from, to, reason }) => {
  $('who').textContent = `version ${to} serves`;
  document.body.dataset.version = String(to);
  say(from === undefined ? `version ${to} (${reason})` : `version ${from} → ${to} (${reason})`);
  void guess();
});
model.on('reverted', ({ from, reason }) => say(`version ${from} was taken back: ${reason}`));
model.on('stale', () => say('no word from the coordinator: what is here goes on serving'));
model.on('error', (error) => say(error.message));

function draw({ buttons, offsetX, offsetY, movementX, movementY }) {
  if (buttons === 0) return;
  const scale = 28 / canvas.clientWidth;
  paper.strokeStyle = 'white';
  [paper.lineWidth, paper.lineCap] = [2.2, 'round'];
  paper.beginPath();
  paper.moveTo((offsetX - movementX) * scale, (offsetY - movementY) * scale);
  paper.lineTo(offsetX * scale, offsetY * scale);
  paper.stroke();
  void guess();
}

/** Predicts what is drawn now; while a prediction runs, the next one waits for its end. */
async function guess() {
  isDue = true;
  if (isBusy) return;
  isBusy = true;
  while (isDue) {
    isDue = false;
    // Pixels as they are: the model's contract says what it takes them as.
    const { outputs, version } = await model.predict({ input: paper.getImageData(0, 0, 28, 28) });
    const scores = Object.values(outputs)[0].data;
    $('guess').textContent = isEmpty() ? '' : String(scores.indexOf(Math.max(...scores)));
    document.body.dataset.predictedBy = String(version);
  }
  isBusy = false;
}

canvas.addEventListener('pointermove', draw);
$('clear').addEventListener('click', () => {
  paper.clearRect(0, 0, 28, 28);
  void guess();
});
$('bad').addEventListener('click', () => model.reportFailure('the person who drew said so'));
