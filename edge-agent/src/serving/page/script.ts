import { IMPORTANCE_PREDICTIONS_MAX } from '../limits.ts';

/** What the page does. Plain JavaScript for browsers: the page is one document, and nothing is built for it. */
export const SCRIPT: string = String.raw`
  const at = (id) => document.getElementById(id);
  const make = (name, text = '', properties = {}) => Object.assign(document.createElement(name), { textContent: text, ...properties });
  const say = (text, bad = false) => { at('note').textContent = text; at('note').className = bad ? 'bad' : ''; };
  const SIDE = 28, BOX = 20, OUTPUTS_SHOWN = 64, REASONS_SHOWN = 20, FILE_BYTES_MAX = 16 * 2 ** 20;
  const TABLE_ROWS_MAX = 512, REPEATS = 5, PREDICTIONS_MAX = ${IMPORTANCE_PREDICTIONS_MAX};
  let models = [], waiting;
  const chosen = () => models.find(({ name }) => name === at('model').value);

  async function ask(path, options) {
    const response = await fetch(path, options);
    const body = await response.json();
    if (!response.ok) throw new Error(body.error);
    return body;
  }

  const rowShape = (input) => input.shape.map((size) => (size < 0 ? 1 : size));
  const sizeOf = (input) => rowShape(input).reduce((size, each) => size * each, 1);
  const isImage = ({ inputs }) => inputs.length === 1 && inputs[0].datatype === 'FP32' && sizeOf(inputs[0]) === SIDE * SIDE;
  const isTable = (model) => { const [{ datatype, shape } = {}, ...others] = model.inputs; return !others.length && datatype === 'FP32' && shape.length === 2 && shape[0] <= 1 && shape[1] > 0 && !isImage(model); };

  function facts(model) {
    const measured = model.variant.candidates.map(({ name, engine, bytes, runMs = [], difference, accuracy, published }) =>
      name + (engine === model.variant.engine ? ' ' : ' on ' + engine + ' ') + (bytes / 1000).toFixed(0) + ' kB' + runMs.map(({ rows, ms }) => ', ' + ms.toFixed(2) + ' ms for ' + rows).join('')
      + (difference === undefined ? '' : ', outputs differ by ' + (difference * 100).toFixed(2) + ' %')
      + (accuracy === undefined ? '' : ', ' + (accuracy.variant * 100).toFixed(1) + ' % right where float32 has ' + (accuracy.float32 * 100).toFixed(1) + ' % of ' + accuracy.rows)
      + (published === undefined ? '' : ', published: ' + published));
    const tensors = (list) => list.map(({ name, datatype, shape }) => name + ' ' + datatype + '[' + shape.join(', ') + ']').join('; ');
    const rows = { version: String(model.version), variant: model.variant.name + ' on ' + model.variant.engine, because: model.variant.why, measured: measured.join('; ') || 'nothing',
      batching: model.batching.isBatchable ? 'requests are run together' : 'each by itself: ' + model.batching.why, inputs: tensors(model.inputs), outputs: tensors(model.outputs) };
    at('facts').replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [make('dt', name), make('dd', value)]));
  }

  async function refresh() {
    const { models: served, coming } = await ask('/api/models');
    const before = at('model').value;
    const names = served.map(({ name }) => name);
    if (names.join() !== models.map(({ name }) => name).join()) at('model').replaceChildren(...names.map((name) => make('option', name)));
    models = served;
    if (names.includes(before)) at('model').value = before;
    document.querySelector('main').hidden = models.length === 0;
    const text = coming.map(({ name, why }) => name + ' is not served yet: ' + why).join('; ') || (models.length ? '' : 'no model is served yet');
    if (text !== waiting) say((waiting = text));
    if (models.length) facts(chosen());
    if (at('model').value !== before) show();
  }

  function show() {
    const model = chosen();
    if (!model) return;
    facts(model);
    at('drawing').hidden = !isImage(model);
    at('row').value = '';
    forget();
    at('upload').hidden = model.inputs.length !== 1;
    at('row-label').textContent = model.inputs.length === 1 ? 'Numbers of one row, with commas' : 'One line for each input: ' + model.inputs.map(({ name }) => name).join(', ');
    at('row-help').textContent = model.inputs.map((input) => input.name + ': ' + sizeOf(input) + ' values as ' + input.datatype).join('; ');
    at('outputs').replaceChildren(make('p', 'nothing was asked yet', { className: 'note' }));
    unexplained();
    clear();
  }

  const unexplained = () => { at('why').hidden = true; };

  function bars({ name, data, shape }) {
    const values = data.map(Number), shown = values.slice(0, OUTPUTS_SHOWN);
    const low = Math.min(0, ...shown), high = Math.max(0, ...shown), span = high - low || 1;
    const best = values.indexOf(Math.max(...values));
    const box = make('div', '', { className: 'bars' });
    box.setAttribute('role', 'img');
    box.setAttribute('aria-label', name + ', ' + values.length + ' values; the largest, ' + values[best] + ', is at place ' + best);
    shown.forEach((value, index) => {
      const track = make('div', '', { className: 'track' }), bar = make('div', '', { className: index === best && values.length > 1 ? 'bar best' : 'bar' });
      bar.style.insetInlineStart = (100 * (Math.min(value, 0) - low)) / span + '%';
      bar.style.width = (100 * Math.abs(value)) / span + '%';
      track.append(bar);
      box.append(make(index === best ? 'b' : 'span', String(index)), track, make(index === best ? 'b' : 'span', value.toPrecision(3)));
    });
    const rest = values.length > OUTPUTS_SHOWN ? [make('p', 'and ' + (values.length - OUTPUTS_SHOWN) + ' more', { className: 'note' })] : [];
    return [make('p', name + ' [' + shape.join(', ') + ']' + (values.length > 1 ? ', largest at ' + best : ''), { className: 'note' }), box, ...rest];
  }

  let asked = 0;
  async function predict(rows) {
    const model = chosen(), turn = ++asked, start = performance.now();
    unexplained();
    const inputs = model.inputs.map((input, index) => ({ name: input.name, datatype: input.datatype, shape: rowShape(input), data: rows[index] }));
    try {
      const answer = await ask('/v2/models/' + model.name + '/infer', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ inputs }) });
      // Only the newest drawing counts.
      if (turn !== asked) return;
      say('version ' + answer.model_version + ' answered in ' + (performance.now() - start).toFixed(1) + ' ms');
      at('outputs').replaceChildren(...answer.outputs.flatMap(bars));
      if (Number(answer.model_version) !== model.version) refresh().catch(failed);
    } catch (error) {
      if (turn === asked) failed(error);
    }
  }
  // Orange speaks for the answer and blue against it; the stronger, the more of its colour.
  const FOR = [245, 140, 50], AGAINST = [80, 150, 240];
  function heat(pixels, shares, most) {
    const small = make('canvas', '', { width: SIDE, height: SIDE }), brush = small.getContext('2d'), image = brush.createImageData(SIDE, SIDE);
    const brightest = Math.max(...pixels, 1e-9);
    shares.forEach((share, index) => {
      const ink = 90 * Math.max(0, pixels[index] / brightest), weight = Math.sqrt(Math.abs(share) / most), colour = share > 0 ? FOR : AGAINST;
      colour.forEach((part, channel) => { image.data[4 * index + channel] = ink + (part - ink) * weight; });
      image.data[4 * index + 3] = 255;
    });
    brush.putImageData(image, 0, 0);
    const paper = at('heat').getContext('2d');
    paper.imageSmoothingEnabled = false;
    paper.drawImage(small, 0, 0, at('heat').width, at('heat').height);
  }

  function reasons({ name, data }, given) {
    const places = data.map((share, index) => ({ share, index })).filter(({ share }) => share !== 0).sort((a, b) => Math.abs(b.share) - Math.abs(a.share)).slice(0, REASONS_SHOWN);
    const most = Math.max(...places.map(({ share }) => Math.abs(share)), 1e-30);
    const box = make('div', '', { className: 'bars' });
    for (const { share, index } of places) {
      const track = make('div', '', { className: 'track' }), bar = make('div', '', { className: share > 0 ? 'bar for' : 'bar against' });
      bar.style.insetInlineStart = (share > 0 ? 50 : 50 - (50 * -share) / most) + '%';
      bar.style.width = (50 * Math.abs(share)) / most + '%';
      track.append(bar);
      box.append(make('span', (columns[index] || index) + ': ' + given[index]), track, make('span', (share > 0 ? '+' : '') + share.toPrecision(3)));
    }
    return [make('p', name + ', the ' + places.length + ' of ' + data.length + ' values that count most', { className: 'note' }), box];
  }

  function showReasons(model, answer, rows, by) {
    const [{ index, value, baseline_value: from, gap }] = answer.explained;
    const sentence = 'By ' + by + ': ' + answer.output + ' ' + index + ' is ' + value.toPrecision(3) + ', and ' + from.toPrecision(3) + ' where every number is zero. Orange raised it, blue lowered it.'
      + (Math.abs(gap) > 0.05 * Math.abs(value - from) ? ' The parts miss that difference by ' + gap.toPrecision(2) + '.' : '');
    const [first] = answer.attributions, onImage = isImage(model);
    at('heat').hidden = !onImage;
    if (onImage) {
      heat(rows[0].map(Number), first.data, Math.max(...first.data.map(Math.abs), 1e-30));
      at('heat').setAttribute('aria-label', 'Which pixels made output ' + index + ' what it is');
    }
    const lists = onImage ? [] : answer.attributions.flatMap((each) => reasons(each, rows[model.inputs.findIndex(({ name }) => name === each.name)]));
    at('reasons').replaceChildren(make('p', sentence, { className: 'note' }), ...lists);
    at('why').hidden = false;
  }

  async function explain(rows, method, by) {
    const model = chosen(), turn = asked, start = performance.now();
    const inputs = model.inputs.map((input, index) => ({ name: input.name, datatype: input.datatype, shape: rowShape(input), data: rows[index] }));
    try {
      const answer = await ask('/api/models/' + model.name + '/explain', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ inputs, method }) });
      if (turn !== asked) return;
      say('version ' + answer.model_version + ' was explained in ' + (performance.now() - start).toFixed(0) + ' ms');
      showReasons(model, answer, rows, by);
    } catch (error) {
      if (turn === asked) failed(error);
    }
  }
  const failed = (error) => say(error.message, true);

  function given() {
    const lines = at('row').value.trim().split('\n');
    const model = chosen();
    const texts = model.inputs.length === 1 ? [lines.join(',')] : lines;
    return model.inputs.map(({ datatype }, index) => (texts[index] ?? '').split(/[\s,;]+/).filter(Boolean).map((cell) => (datatype === 'BOOL' ? cell === '1' || cell === 'true' : Number.isNaN(Number(cell)) ? cell : Number(cell))));
  }
  at('form').addEventListener('submit', (event) => { event.preventDefault(); predict(given()); });
  at('explain').addEventListener('click', async () => {
    const [{ value, text }] = at('method').selectedOptions;
    if (value === 'permutation') return await weigh(text);
    const rows = given();
    await predict(rows);
    if (at('note').className !== 'bad') await explain(rows, value, text);
  });

  /** What the columns of the file are worth to the model: how much worse it answers when one is shuffled. */
  async function weigh(by) {
    const model = chosen(), turn = ++asked, start = performance.now();
    unexplained();
    const { error, names, ...table } = tableOf(model);
    if (error) return say(error, true);
    say('each column of ' + table.labels.length + ' rows is shuffled');
    try {
      const answer = await ask('/api/models/' + model.name + '/importance', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(table) });
      if (turn !== asked) return;
      say('version ' + answer.model_version + ' was explained in ' + (performance.now() - start).toFixed(0) + ' ms');
      showWorth(answer, names, by);
    } catch (error) {
      if (turn === asked) failed(error);
    }
  }

  /** Rows that are spread over the file, as many as are weighed, with their labels as numbers. */
  function tableOf(model) {
    const [input] = model.inputs, width = sizeOf(input), data = [], labels = [];
    if (lines.length < 2) return { error: 'permutation importance needs a CSV file of 2 rows or more, each with a label' };
    const count = Math.max(2, Math.min(lines.length, TABLE_ROWS_MAX, Math.floor(PREDICTIONS_MAX / (1 + REPEATS * width))));
    const classes = isNamed ? at('classes').value.split('\n').map((name) => name.trim()).filter(Boolean) : undefined;
    for (let index = 0; index < count; index++) {
      const place = Math.floor((index * lines.length) / count), where = 'row ' + (place + 1) + ' of the file ';
      const { row, label } = parted(cellsOf(lines[place]), width);
      if (row.length !== width || !label) return { error: where + 'has not ' + width + ' numbers and a label' };
      const odd = row.find((cell) => cell === '' || isNaN(cell));
      if (odd !== undefined) return { error: where + "has '" + odd + "' among its numbers" };
      const number = classes ? classes.indexOf(label) : Number(label);
      if (classes && number < 0) return { error: where + "has the label '" + label + "': add it to the classes" };
      data.push(...row.map(Number));
      labels.push(number);
    }
    const isNumber = outputsOf(model) === 1 && labels.some((label) => label !== 0 && label !== 1);
    const inputs = [{ name: input.name, datatype: input.datatype, shape: [count, width], data }];
    return { inputs, labels, score: isNumber && !classes ? 'mse' : 'accuracy', repeats: REPEATS, names: parted(cellsOf(lines[0]), width).names };
  }

  function showWorth({ score, value, rows, columns: worth }, names, by) {
    const most = Math.max(...worth.slice(0, REASONS_SHOWN).map(({ drop }) => Math.abs(drop)), 1e-30), box = make('div', '', { className: 'bars' });
    for (const { column, drop, spread } of worth.slice(0, REASONS_SHOWN)) {
      const track = make('div', '', { className: 'track' }), bar = make('div', '', { className: drop > 0 ? 'bar for' : 'bar against' });
      bar.style.insetInlineStart = 0;
      bar.style.width = (100 * Math.abs(drop)) / most + '%';
      track.append(bar);
      box.append(make('span', names[column] || String(column)), track, make('span', drop.toPrecision(3) + ' ± ' + spread.toPrecision(2)));
    }
    const rest = worth.length > REASONS_SHOWN ? [make('p', 'and ' + (worth.length - REASONS_SHOWN) + ' columns that count less', { className: 'note' })] : [];
    const of = ' on ' + rows + ' rows' + (rows < lines.length ? ' that are spread over the file' : '') + '. ';
    const sentence = 'By ' + by + ': ' + (score === 'mse' ? 'the mean squared error is ' + (-value).toPrecision(3) + of + 'So much is added to it' : 'the accuracy is ' + value.toPrecision(3) + of + 'So much of it is lost')
      + ' when a column is shuffled' + (worth.some(({ drop }) => drop < 0) ? '; in blue it gets better.' : '.');
    at('heat').hidden = true;
    at('reasons').replaceChildren(make('p', sentence, { className: 'note' }), box, ...rest);
    at('why').hidden = false;
  }

  // A header and empty lines are no rows; of a row with a label, the numbers are taken.
  const LABEL = /^(label|class|target|y)$/i;
  let lines = [], header = [], columns = [], isNamed = false;
  function forget() {
    [lines, header, columns] = [[], [], []];
    at('file').value = '';
    at('line-part').hidden = true;
    nameClasses();
  }
  const cellsOf = (line) => line.split(/[,;\t]/).map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'));
  /** The label's place: where the header says so, or an end that is no number. The last of numbers alone, but not of pixels: those begin with it as often. */
  function labelPlace(cells, size) {
    if (cells.length !== size + 1) return -1;
    const named = header.length === cells.length ? header.findIndex((name) => LABEL.test(name)) : -1;
    if (named >= 0) return named;
    if (isNaN(cells[0])) return 0;
    return isNaN(cells[size]) || !isImage(chosen()) ? size : -1;
  }
  function parted(cells, size) {
    const place = labelPlace(cells, size), without = (list) => (place < 0 ? list : list.toSpliced(place, 1));
    return { row: without(cells), label: cells[place], names: header.length === cells.length ? without(header) : [] };
  }
  const outputsOf = ({ outputs }) => sizeOf(outputs.find(({ datatype }) => datatype === 'FP32') ?? outputs[0]);
  /** Labels that are no places of outputs, and no numbers that a single output could be, are asked for in the order of the outputs. */
  function nameClasses() {
    const model = chosen(), isWeighed = Boolean(model) && isTable(model), outputs = model ? outputsOf(model) : 0;
    const labels = isWeighed ? new Set(lines.map((line) => parted(cellsOf(line), sizeOf(model.inputs[0])).label).filter(Boolean)) : new Set();
    const names = [...labels].sort((a, b) => a - b || (a < b ? -1 : 1));
    isNamed = !names.every((label) => (outputs === 1 ? !isNaN(label) : /^\d+$/.test(label) && Number(label) < outputs));
    at('classes').value = isNamed ? names.join('\n') : '';
    at('permutation').disabled = at('permutation').hidden = !isWeighed;
    if (!isWeighed && at('method').value === 'permutation') at('method').value = 'integrated-gradients';
    askClasses();
  }
  const askClasses = () => { at('classes-part').hidden = !isNamed || at('method').value !== 'permutation'; };
  at('method').addEventListener('change', askClasses);
  function takeLine() {
    const [input] = chosen().inputs, size = sizeOf(input);
    const place = Math.min(Math.max(1, Number(at('line').value) || 1), lines.length);
    const { row, label, names } = parted(cellsOf(lines[place - 1]), size);
    columns = names;
    at('row').value = row.join(',');
    if (row.length === size) return say('row ' + place + ' of ' + lines.length + (label ? ', with the label ' + label : ''));
    say('row ' + place + ' of the file has ' + row.length + ' values, and ' + input.name + ' takes ' + size, true);
  }
  at('file').addEventListener('change', async () => {
    const [file] = at('file').files;
    if (!file) return;
    if (file.size > FILE_BYTES_MAX) return say('the file has more than ' + FILE_BYTES_MAX / 2 ** 20 + ' MiB: give some of its rows', true);
    const text = await file.text();
    const all = text.replace(/^\uFEFF/, '').split(/\r?\n/);
    const top = all[0].split(/[,;\t]/).map((cell) => cell.trim().replaceAll('"', ''));
    header = top.every((cell) => cell === '' || isNaN(cell)) ? top : [];
    lines = all.filter((line) => line.split(/[,;\t]/).some((cell) => cell.trim() !== '' && !isNaN(cell)));
    nameClasses();
    if (!lines.length) return say('the file has no row of numbers', true);
    at('line').max = lines.length;
    at('line').value = 1;
    at('line-part').hidden = lines.length < 2;
    takeLine();
  });
  at('line').addEventListener('input', () => { if (lines.length) takeLine(); });

  const pad = at('pad'), pen = pad.getContext('2d', { willReadFrequently: true });
  function clear() {
    pen.fillStyle = '#000';
    pen.fillRect(0, 0, pad.width, pad.height);
  }
  at('clear').addEventListener('click', () => { clear(); unexplained(); at('row').value = ''; });
  Object.assign(pen, { lineCap: 'round', lineJoin: 'round', lineWidth: 20, strokeStyle: '#fff' });
  let last;
  const place = ({ offsetX, offsetY }) => [(offsetX * pad.width) / pad.clientWidth, (offsetY * pad.height) / pad.clientHeight];
  function stroke(event) {
    const [x, y] = place(event);
    pen.beginPath();
    pen.moveTo(...(last ?? [x, y]));
    pen.lineTo(x, y);
    pen.stroke();
    last = [x, y];
  }
  pad.addEventListener('pointerdown', (event) => { pad.setPointerCapture(event.pointerId); last = undefined; stroke(event); });
  pad.addEventListener('pointermove', (event) => { if (event.buttons) stroke(event); });
  pad.addEventListener('pointerup', () => { const pixels = digit(); if (pixels) { at('row').value = pixels.map((value) => +value.toFixed(3)).join(','); predict([pixels]); } });

  /** As MNIST has its digits: 20 pixels at most, and the centre of mass in the middle of 28. */
  function digit() {
    const { data, width, height } = pen.getImageData(0, 0, pad.width, pad.height);
    let [left, right, top, bottom] = [width, -1, height, -1];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (data[4 * (y * width + x)] > 0) { left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y); }
    if (right < 0) return undefined;
    const size = [right - left + 1, bottom - top + 1], scale = BOX / Math.max(...size);
    const shrink = (dx, dy) => {
      const small = make('canvas', '', { width: SIDE, height: SIDE }).getContext('2d');
      small.fillRect(0, 0, SIDE, SIDE);
      Object.assign(small, { imageSmoothingQuality: 'high' });
      small.drawImage(pad, left, top, ...size, dx, dy, size[0] * scale, size[1] * scale);
      const pixels = small.getImageData(0, 0, SIDE, SIDE).data;
      return Array.from({ length: SIDE * SIDE }, (_, index) => pixels[4 * index] / 255);
    };
    const [x, y] = [(SIDE - size[0] * scale) / 2, (SIDE - size[1] * scale) / 2];
    const first = shrink(x, y), mass = first.reduce((sum, value) => sum + value, 0);
    const centre = (coordinate) => first.reduce((sum, value, index) => sum + value * coordinate(index), 0) / mass;
    const middle = (SIDE - 1) / 2;
    return shrink(Math.round(x + middle - centre((i) => i % SIDE)), Math.round(y + middle - centre((i) => Math.floor(i / SIDE))));
  }

  at('model').addEventListener('change', show);
  await refresh().catch(failed);
  setInterval(() => refresh().catch(failed), 2000);
`;
