/** Light and dark by what the system asks for. */
export const STYLE = `
  :root { color-scheme: light dark; --line: #8885; --accent: light-dark(#0a6b4d, #4fd1a5); --track: light-dark(#e7ebe9, #26302c); }
  * { box-sizing: border-box; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  header { display: flex; flex-wrap: wrap; gap: .5rem 2rem; justify-content: space-between; align-items: center; border-bottom: 1px solid var(--line); padding-bottom: .75rem; }
  h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
  main { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 0 3rem; } main[hidden] { display: none; }
  select, button, textarea, input[type=number] { font: inherit; padding: .3rem .6rem; border: 1px solid var(--line); border-radius: .4rem; }
  textarea { display: block; width: 100%; font: 13px/1.4 ui-monospace, monospace; margin: .25rem 0; }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  canvas { width: 280px; height: 280px; border: 1px solid var(--line); border-radius: .5rem; background: #000; touch-action: none; cursor: crosshair; }
  #heat { cursor: default; } #heat[hidden] { display: none; }
  .bars .bar.for { background: light-dark(#c2570c, #f59b4c); opacity: 1; } .bars .bar.against { background: light-dark(#2563a8, #6cb0f0); opacity: 1; }
  #line { inline-size: 6rem; } #method { max-inline-size: 100%; } #line-part:not([hidden]) { white-space: nowrap; } #file { max-inline-size: 100%; }
  .note { opacity: .75; margin: .25rem 0; overflow-wrap: anywhere; } #note:empty { display: none; } .bad { color: light-dark(#a3161c, #ff8f8f); }
  .bars { display: grid; grid-template-columns: auto 1fr auto; gap: .2rem .75rem; align-items: center; font-variant-numeric: tabular-nums; margin: 0; }
  .bars .track { position: relative; height: 1.1rem; background: var(--track); border-radius: .25rem; overflow: hidden; }
  .bars .bar { position: absolute; inset-block: 0; background: var(--accent); opacity: .5; } .bars .best { opacity: 1; } .bars b, .bars span { text-align: right; }
  dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem 1rem; margin: 0; } dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
`;
