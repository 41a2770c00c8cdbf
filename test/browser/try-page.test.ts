/** The page that the serving endpoint has for trying models by hand, as a browser shows it. */
import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { startCoordinator, type RunningCoordinator } from '@commonweight/coordinator';
import { logistic, mlp, writeModel } from '@commonweight/core';
import { startServing, type Serving } from '@commonweight/edge-agent';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { trainedOnDigits } from '../support/digit-models.ts';
import { temporaryFolder } from '../support/processes.ts';
import { pair } from '../support/two-inputs.ts';
import { launchChromium } from './chromium.ts';

let browser: Browser;
let coordinator: RunningCoordinator;
let serving: Serving;
const folder = temporaryFolder('try-page');

beforeAll(async () => {
  coordinator = await startCoordinator({ dataDir: join(folder, 'data'), grpc: '127.0.0.1:0', http: '127.0.0.1:0' });
  const digits = await trainedOnDigits(mlp({ inputs: 784, hidden: [64], outputs: 10, seed: 1 }), 200);
  await coordinator.service.importModel('digits', writeModel(digits));
  await coordinator.service.importModel('flowers', writeModel(logistic({ inputs: 4, outputs: 3, seed: 1 })));
  await coordinator.service.importModel('price', writeModel(logistic({ inputs: 2, outputs: 1, seed: 1 })));
  await coordinator.service.importModel('pair', writeModel(pair));
  serving = await startServing({
    coordinator: `grpc://127.0.0.1:${coordinator.grpcPort}`,
    models: ['digits', 'flowers', 'price', 'pair'],
    http: '127.0.0.1:0',
  });
  browser = await launchChromium();
});
afterAll(async () => {
  await browser.close();
  await serving.close();
  await coordinator.close();
});

const faults: Error[] = [];
const opened: Page[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((page) => page.context().close()));
  // A script or a resource that the page's own policy refuses is one as well.
  expect(faults.splice(0)).toEqual([]);
});

const url = (): string => `http://127.0.0.1:${serving.httpPort}`;

async function open(model: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  opened.push(page);
  page.on('pageerror', (error) => faults.push(error));
  page.on('console', (message) => message.type() === 'error' && faults.push(new Error(message.text())));
  await page.goto(url());
  await page.locator('main').waitFor();
  await page.getByLabel('Model').selectOption(model);
  return page;
}

/** What the endpoint answers a program. */
async function asked(model: string, data: readonly number[]): Promise<number[]> {
  const inputs = [{ name: 'input', datatype: 'FP32', shape: [1, data.length], data }];
  const response = await fetch(`${url()}/v2/models/${model}/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs }),
  });
  const { outputs } = (await response.json()) as { outputs: { data: number[] }[] };
  return outputs[0]!.data;
}

const shown = async (page: Page): Promise<string> => (await page.locator('#outputs').textContent()) ?? '';

test('a stroke from top to bottom is answered with a one, and nothing is asked before', async () => {
  const page = await open('digits');
  expect(await shown(page)).toBe('nothing was asked yet');
  const pad = await page.locator('#pad').boundingBox();
  const [x, y] = [pad!.x + 140, pad!.y + 50];
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x, y + 180, { steps: 10 });
  await page.mouse.up();
  await page.getByText('largest at 1').waitFor();
  expect(await page.locator('.bars .bar').count()).toBe(10);
  // The pixels that were sent are there to be read.
  expect((await page.getByLabel('Numbers of one row').inputValue()).split(',')).toHaveLength(784);
  await page.getByRole('button', { name: 'Clear' }).click();
  expect(await page.getByLabel('Numbers of one row').inputValue()).toBe('');
});

test('a row of numbers gets what a program gets', async () => {
  const page = await open('flowers');
  expect(await page.locator('#drawing').isHidden()).toBe(true);
  await page.getByLabel('Numbers of one row').fill('5.1, 3.5, 1.4, 0.2');
  await page.getByRole('button', { name: 'Predict' }).click();
  const values = await asked('flowers', [5.1, 3.5, 1.4, 0.2]);
  await page.getByText(`largest at ${values.indexOf(Math.max(...values))}`).waitFor();
  for (const value of values) expect(await shown(page)).toContain(value.toPrecision(3));
});

test('a CSV file with a header and labels is read row by row', async () => {
  const file = join(folder, 'flowers.csv');
  await writeFile(file, '\uFEFFa,b,c,d,kind\r\n5.1,3.5,1.4,0.2,setosa\r\n\r\n6.3,2.5,5,1.9,virginica\r\n');
  const page = await open('flowers');
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('row 1 of 2').waitFor();
  await page.getByLabel('row', { exact: true }).fill('2');
  await page.getByText('row 2 of 2').waitFor();
  expect(await page.getByLabel('Numbers of one row').inputValue()).toBe('6.3,2.5,5,1.9');
  await page.getByRole('button', { name: 'Predict' }).click();
  const [first] = await asked('flowers', [6.3, 2.5, 5, 1.9]);
  await page.getByText(first!.toPrecision(3)).waitFor();
});

/** Pixels of a canvas that are clearly of one colour, by how much red is above blue. */
const coloured = (page: Page): Promise<{ orange: number; blue: number }> =>
  page.locator('#heat').evaluate((element) => {
    interface Canvas {
      getContext(kind: '2d'): { getImageData(...box: number[]): { data: Uint8ClampedArray } };
    }
    const { data } = (element as unknown as Canvas).getContext('2d').getImageData(0, 0, 280, 280);
    let [orange, blue] = [0, 0];
    for (let at = 0; at < data.length; at += 4) {
      const warmth = data[at]! - data[at + 2]!;
      if (warmth > 60) orange += 1;
      if (warmth < -60) blue += 1;
    }
    return { orange, blue };
  });

test('a drawn digit is explained by a heat map, and the next stroke takes it away', async () => {
  const page = await open('digits');
  const pad = await page.locator('#pad').boundingBox();
  const [x, y] = [pad!.x + 140, pad!.y + 50];
  const draw = async (): Promise<void> => {
    await page.mouse.move(x, y);
    await page.mouse.down();
    await page.mouse.move(x, y + 180, { steps: 10 });
    await page.mouse.up();
  };
  await draw();
  await page.getByText('largest at 1').waitFor();
  expect(await page.locator('#why').isHidden()).toBe(true);
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('logits 1 is').waitFor();
  // The stroke speaks for a one, and is what most of the colour is for.
  const { orange, blue } = await coloured(page);
  expect(orange).toBeGreaterThan(500);
  expect(orange).toBeGreaterThan(blue);
  await page.locator('#heat').and(page.getByLabel('Which pixels made output 1 what it is')).waitFor();
  await page.mouse.move(0, 0);
  await draw();
  await page.locator('#why').waitFor({ state: 'hidden' });
});

test('a row of a CSV file is explained by its columns, as a program hears it', async () => {
  const file = join(folder, 'named.csv');
  await writeFile(file, 'sepal length,sepal width,petal length,petal width,kind\n6.3,2.5,5,1.9,virginica\n');
  const page = await open('flowers');
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('row 1 of 1').waitFor();
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('the 4 of 4 values that count most').waitFor();
  expect(await page.locator('#heat').isHidden()).toBe(true);
  const inputs = [{ name: 'input', datatype: 'FP32', shape: [1, 4], data: [6.3, 2.5, 5, 1.9] }];
  const response = await fetch(`${url()}/api/models/flowers/explain`, {
    method: 'POST',
    body: JSON.stringify({ inputs }),
  });
  const { attributions } = (await response.json()) as { attributions: { data: number[] }[] };
  const text = (await page.locator('#reasons').textContent()) ?? '';
  expect(text).toContain('petal length: 5');
  for (const share of attributions[0]!.data) expect(text).toContain(share.toPrecision(3));
});

const method = (page: Page): Locator => page.getByLabel('Explain by');
const why = async (page: Page): Promise<string> => (await page.locator('#reasons').textContent()) ?? '';

test.each(['integrated-gradients', 'gradient-x-input'])('%s explains where it is chosen', async (name) => {
  const page = await open('flowers');
  await page.getByLabel('Numbers of one row').fill('6.3, 2.5, 5, 1.9');
  await method(page).selectOption(name);
  const sent = page.waitForRequest((request) => request.url().endsWith('/explain'));
  await page.getByRole('button', { name: 'Explain' }).click();
  expect((await sent).postDataJSON()).toMatchObject({ method: name });
  const words = await method(page).evaluate((element) => (element as unknown as Chooser).selectedOptions[0]!.text);
  await page.getByText(`By ${words}: logits`).waitFor();
  expect(await page.locator('#reasons .bar').count()).toBe(4);
});

interface Chooser {
  selectedOptions: { text: string }[];
}

/** 30 rows of three kinds, which the first two columns tell apart. */
const kinds = ['setosa', 'virginica', 'versicolor'];
const measured = Array.from({ length: 30 }, (_, row) => [4 + (row % 3), (row * 7) % 5, (row * 3) % 4, 1 + (row % 2)]);

interface Worth {
  value: number;
  columns: { column: number; drop: number; spread: number }[];
}

async function weighed(model: string, request: object): Promise<Worth> {
  const body = JSON.stringify(request);
  return (await (await fetch(`${url()}/api/models/${model}/importance`, { method: 'POST', body })).json()) as Worth;
}

test('the columns of a CSV file are weighed by labels in words, in the order that is given', async () => {
  const file = join(folder, 'kinds.csv');
  const lines = measured.map((row, index) => `${row.join(',')},${kinds[index % 3]}`);
  await writeFile(file, `sepal length,sepal width,petal length,petal width,kind\n${lines.join('\n')}\n`);
  const page = await open('flowers');
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('row 1 of 30, with the label setosa').waitFor();
  const classes = page.getByLabel('Labels of the file in the order of the outputs');
  expect(await classes.isHidden()).toBe(true);
  await method(page).selectOption('permutation');
  expect(await classes.inputValue()).toBe('setosa\nversicolor\nvirginica');
  await classes.fill(kinds.join('\n'));
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('By permutation importance: the accuracy is').waitFor();
  const inputs = [{ name: 'input', datatype: 'FP32', shape: [30, 4], data: measured.flat() }];
  const { value, columns } = await weighed('flowers', { inputs, labels: measured.map((_, index) => index % 3) });
  const names = ['sepal length', 'sepal width', 'petal length', 'petal width'];
  const rows = columns.map(
    (each) => `${names[each.column]}${each.drop.toPrecision(3)} ± ${each.spread.toPrecision(2)}`,
  );
  expect(await why(page)).toMatch(new RegExp(`accuracy is ${value.toPrecision(3)} on 30 rows`));
  expect(await why(page)).toContain(rows.join(''));
  // A label that is not among them is named, and what was found before is taken away.
  await classes.fill('setosa\nvirginica');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText("row 3 of the file has the label 'versicolor': add it to the classes").waitFor();
  expect(await page.locator('#why').isHidden()).toBe(true);
  // The other methods explain the row that is shown.
  await method(page).selectOption('gradient-x-input');
  expect(await classes.isHidden()).toBe(true);
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('By gradient × input: logits').waitFor();
});

test('labels that are places of outputs need no names, others are listed, and a row with a gap is named', async () => {
  const file = join(folder, 'numbered.csv');
  const write = async (first: number, gap = ''): Promise<void> => {
    const lines = measured.map((row, index) => `${row.join(',')},${first + (index % 3)}`);
    await writeFile(file, `${lines.join('\n')}\n${gap}`);
    await page.getByLabel('or a CSV file').setInputFiles([]);
    await page.getByLabel('or a CSV file').setInputFiles(file);
    await page.getByText(`, with the label ${first}`).waitFor();
  };
  const page = await open('flowers');
  const classes = page.getByLabel('Labels of the file');
  const explain = page.getByRole('button', { name: 'Explain' });
  await method(page).selectOption('permutation');
  await write(0);
  expect(await classes.isHidden()).toBe(true);
  await explain.click();
  await page.getByText('By permutation importance: the accuracy is').waitFor();
  const found = await why(page);
  await write(1);
  expect(await classes.inputValue()).toBe('1\n2\n3');
  await explain.click();
  await page.getByText('was explained in').waitFor();
  expect(await why(page)).toBe(found);
  await write(0, '1,,3,4,2\n');
  await explain.click();
  await page.getByText("row 31 of the file has '' among its numbers").waitFor();
});

test('a digit that stands before its pixels is not taken for one of them', async () => {
  const file = join(folder, 'digits.csv');
  const pixels = Array.from({ length: 784 }, (_, at) => (at % 5) / 4);
  const page = await open('digits');
  await writeFile(file, `7,${pixels.join(',')}\n`);
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('row 1 of the file has 785 values, and input takes 784').waitFor();
  await writeFile(file, `label,${pixels.map((_, at) => `pixel${at}`).join(',')}\n7,${pixels.join(',')}\n`);
  await page.getByLabel('or a CSV file').setInputFiles([]);
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('row 1 of 1, with the label 7').waitFor();
  expect(await page.getByLabel('Numbers of one row').inputValue()).toBe(pixels.join(','));
});

test('a model with one output is scored by its error', async () => {
  const file = join(folder, 'prices.csv');
  const rows = Array.from({ length: 1200 }, (_, row) => [row % 5, (row * 3) % 7]);
  await writeFile(file, `y,rooms,floor\n${rows.map(([a, b], row) => `${(row % 9) / 2},${a},${b}`).join('\n')}\n`);
  const page = await open('price');
  await method(page).selectOption('permutation');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('permutation importance needs a CSV file of 2 rows or more, each with a label').waitFor();
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('row 1 of 1200, with the label 0').waitFor();
  expect(await page.getByLabel('Labels of the file').isHidden()).toBe(true);
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('on 512 rows that are spread over the file. So much is added to it').waitFor();
  const places = Array.from({ length: 512 }, (_, index) => Math.floor((index * 1200) / 512));
  const data = places.flatMap((place) => rows[place]!);
  const inputs = [{ name: 'input', datatype: 'FP32', shape: [512, 2], data }];
  const { value, columns } = await weighed('price', {
    inputs,
    labels: places.map((place) => (place % 9) / 2),
    score: 'mse',
  });
  expect(await why(page)).toContain(`the mean squared error is ${(-value).toPrecision(3)}`);
  for (const { column, drop } of columns) {
    expect(await why(page)).toContain(`${['rooms', 'floor'][column]}${drop.toPrecision(3)}`);
  }
});

test('a model of images or of several inputs offers no permutation, and every control has a label', async () => {
  const page = await open('flowers');
  const offered = async (): Promise<string[]> =>
    await method(page)
      .locator('option:not([disabled])')
      .evaluateAll((options) => options.map((each) => (each as unknown as { value: string }).value));
  const gradients = ['integrated-gradients', 'gradient-x-input'];
  expect(await offered()).toEqual([...gradients, 'permutation']);
  await method(page).selectOption('permutation');
  for (const model of ['digits', 'pair']) {
    await page.getByLabel('Model').selectOption(model);
    expect(await offered()).toEqual(gradients);
    expect(await method(page).inputValue()).toBe('integrated-gradients');
    await page.getByLabel('Model').selectOption('flowers');
    await method(page).selectOption('permutation');
  }
  const bare = await page
    .locator('input, select, textarea')
    .evaluateAll(
      (controls) =>
        controls.filter((each) => (each as unknown as { labels: { length: number } }).labels.length === 0).length,
    );
  expect(bare).toBe(0);
});

test('what is wrong is said in the words of the endpoint, and the next try is answered', async () => {
  const page = await open('flowers');
  const row = page.getByLabel('Numbers of one row');
  const predict = page.getByRole('button', { name: 'Predict' });
  // The endpoint's refusal is told by the browser's console as well.
  const isRefusal = (error: Error): boolean => error.message.includes('400 (Bad Request)');
  await row.fill('5.1, 3.5');
  await predict.click();
  await page.getByText("input 'input' has 2 values, and shape [1, 4] holds 4").waitFor();
  await row.fill('5.1, 3.5, x, 0.2');
  await predict.click();
  await page.getByText("value 2 of input 'input' is 'x'; FP32 takes numbers").waitFor();
  expect(faults.splice(0).filter((error) => !isRefusal(error))).toEqual([]);
  await row.fill('1,2,3,4');
  await predict.click();
  await page.getByText('largest at').waitFor();
  const file = join(folder, 'words.csv');
  await writeFile(file, 'kind,name\nsetosa,iris\n');
  await page.getByLabel('or a CSV file').setInputFiles(file);
  await page.getByText('the file has no row of numbers').waitFor();
});
