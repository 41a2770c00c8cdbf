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

/** Pixels as they are: the model's contract says what it takes them as. */
function drawn() {
  return paper.getImageData(0, 0, 28, 28);
}

/** Predicts what is drawn now; while a prediction runs, the next one waits for its end. */
async function guess() {
  isDue = true;
  if (isBusy) return;
  isBusy = true;
  while (isDue) {
    isDue = false;
    const { outputs, version } = await model.predict({ input: drawn() });
    const scores = Object.values(outputs)[0].data;
    $('guess').textContent = isEmpty() ? '' : String(scores.indexOf(Math.max(...scores)));
    document.body.dataset.predictedBy = String(version);
  }
  isBusy = false;
}

/** Shows which pixels made the guess what it is. */
async function explain() {
  const { rows, attributions } = await model.explain({ input: drawn() });
  const shares = attributions.input.data;
  const most = Math.max(...shares.map(Math.abs)) || 1;
  const map = $('because').getContext('2d');
  const image = map.createImageData(28, 28);
  shares.forEach((share, i) => {
    const colour = share > 0 ? [245, 140, 50] : [80, 150, 240];
    image.data.set([...colour.map((part) => part * Math.sqrt(Math.abs(share) / most)), 255], 4 * i);
  });
  map.putImageData(image, 0, 0);
  $('explained').textContent = String(rows[0].index);
  $('reason').hidden = false;
}

canvas.addEventListener('pointermove', draw);
$('clear').addEventListener('click', () => {
  paper.clearRect(0, 0, 28, 28);
  void guess();
});
$('why').addEventListener('click', () => explain().catch((error) => say(error.message)));
$('bad').addEventListener('click', () => model.reportFailure('the person who drew said so'));
