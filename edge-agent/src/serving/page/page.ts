/** The page to try models on: one document without outside resources, which asks the same endpoint that programs ask. */
import { createHash } from 'node:crypto';
import { SCRIPT } from './script.ts';
import { STYLE } from './style.ts';

export const PAGE: string = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Commonweight: try a model</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
<header><h1>Try a model</h1><label for="model">Model <select id="model"></select></label></header>
<p id="note" role="status" aria-live="polite">asking what is served</p>
<main hidden>
  <section aria-labelledby="give">
    <h2 id="give">Input</h2>
    <div id="drawing">
      <canvas id="pad" width="280" height="280" role="img" aria-label="Drawing area for a digit. Draw with a mouse, a pen or a finger; without one, paste the pixels as numbers below."></canvas>
      <p><button type="button" id="clear">Clear</button></p>
    </div>
    <form id="form">
      <label for="row" id="row-label">Numbers of one row, with commas</label>
      <textarea id="row" rows="5" spellcheck="false" aria-describedby="row-help"></textarea>
      <p class="note" id="row-help"></p>
      <p id="upload">
        <label for="file">or a CSV file</label> <input type="file" id="file" accept=".csv,.tsv,.txt,text/csv">
        <span id="line-part" hidden><label for="line">row</label> <input type="number" id="line" min="1" value="1"></span>
      </p>
      <p><button>Predict</button> <button type="button" id="explain">Explain</button></p>
      <p>
        <label for="method">Explain by</label>
        <select id="method">
          <option value="integrated-gradients">integrated gradients</option>
          <option value="gradient-x-input">gradient × input</option>
          <option value="permutation" id="permutation" hidden disabled>permutation importance</option>
        </select>
      </p>
      <div id="classes-part" hidden>
        <label for="classes">Labels of the file in the order of the outputs, one in each line</label>
        <textarea id="classes" rows="4" spellcheck="false"></textarea>
      </div>
    </form>
  </section>
  <section aria-labelledby="got">
    <h2 id="got">Output</h2>
    <div id="outputs" aria-live="polite"><p class="note">nothing was asked yet</p></div>
    <div id="why" hidden>
      <h2>Because of</h2>
      <canvas id="heat" width="280" height="280" role="img" hidden></canvas>
      <div id="reasons" aria-live="polite"></div>
    </div>
    <h2>What serves</h2>
    <dl id="facts"></dl>
  </section>
</main>
<script type="module">${SCRIPT}</script>
`;

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** Lets exactly this page's own style and script run. */
export const PAGE_POLICY: Readonly<Record<string, string>> = {
  'Content-Security-Policy': [
    "default-src 'none'",
    `style-src ${hashOf(STYLE)}`,
    `script-src ${hashOf(SCRIPT)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
};
