/** The status page: one document without outside resources, fed by /api/events. */
export const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Commonweight</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --accent: #2a7; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
  header { display: flex; justify-content: space-between; align-items: baseline; border-bottom: 1px solid var(--line); padding-bottom: .5rem; }
  .task { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: .5rem 0; }
  .facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; margin-top: .75rem; }
  .facts div { display: flex; flex-direction: column; } .facts span { opacity: .65; font-size: .8rem; } .facts b { font-variant-numeric: tabular-nums; }
  progress { width: 100%; accent-color: var(--accent); } .note { opacity: .75; margin: .5rem 0 0; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } th { text-align: left; font-weight: 600; }
  th, td { padding: .25rem .5rem .25rem 0; border-bottom: 1px solid var(--line); }
  .off { opacity: .5; } #link.lost { color: #c33; }
</style>
<header><h1>Commonweight</h1><span id="link">connecting</span></header>
<h2>Tasks</h2><div id="tasks"></div>
<h2>Models</h2><table><thead><tr><th>model<th>newest version<th>parameters</thead><tbody id="models"></tbody></table>
<div id="channels" hidden><h2>Channels</h2><table><thead><tr><th>model<th>channel<th>version<th>rollout<th></thead><tbody></tbody></table></div>
<div id="fleets" hidden><h2>Apps</h2><table><thead><tr><th>model<th>version<th>apps<th>predictions<th>failed<th>p50<th>p95<th>kept<th>taken back<th>right</thead><tbody></tbody></table></div>
<h2>Agents</h2><table><thead><tr><th>agent<th>link<th>state<th>examples</thead><tbody id="agents"></tbody></table>
<script>
  const element = (name, text, attributes = {}) => Object.assign(document.createElement(name), { textContent: text ?? '' }, attributes);
  const row = (cells, className = '') => { const tr = element('tr', '', { className }); cells.forEach((cell) => tr.append(element('td', cell))); return tr; };
  const bytes = (n) => { n = Number(n ?? 0); for (const unit of ['B', 'kB', 'MB', 'GB']) { if (n < 1000 || unit === 'GB') return (unit === 'B' ? n : n.toFixed(1)) + ' ' + unit; n /= 1000; } };
  const fact = (name, value) => { const div = element('div'); div.append(element('span', name), element('b', value)); return div; };
  const empty = (text) => [element('p', text, { className: 'note' })];
  function task(t) {
    const box = element('div', '', { className: 'task' });
    box.append(element('strong', t.task), (t.strategy ? ' improves ' + t.model + ' by ' + t.strategy : ' measures ' + t.model + ' (' + t.kind + ')') + ': ' + t.state);
    const facts = element('div', '', { className: 'facts' });
    const rounds = (t.round ?? '0') + (Number(t.roundsMax) >= Number(t.round ?? 0) && Number(t.roundsMax) ? ' of ' + t.roundsMax : '');
    facts.append(fact('phase', t.phase), fact('round', rounds), fact('version', t.version), fact('agents online', t.agentsOnline ?? 0),
      fact('updates accepted', t.updatesAccepted ?? 0), fact('updates rejected', t.updatesRejected ?? 0), fact('bytes up', bytes(t.bytesUp)), fact('bytes down', bytes(t.bytesDown)));
    for (const [name, value] of Object.entries(t.metrics ?? {})) facts.append(fact(name + ' (mean)', Number(value).toPrecision(4)));
    box.append(facts, element('progress', '', { max: t.updatesMax || t.cohort || 1, value: t.accepted ?? 0 }));
    if (t.candidate || t.candidatesRefused) box.append(element('p', (t.candidate ? 'candidate ' + t.candidate + ' is evaluated' : 'no candidate waits') + ', ' + (t.candidatesRefused ?? 0) + ' refused by gates', { className: 'note' }));
    if (t.waiting) box.append(element('p', t.waiting, { className: 'note' }));
    const lacks = Object.entries(t.agentsUnqualified ?? {}).map(([lack, count]) => lack + ' ' + count).join(', ');
    if (lacks) box.append(element('p', 'agents that do not qualify: ' + lacks, { className: 'note' }));
    const reasons = Object.entries(t.rejectedByReason ?? {}).map(([reason, count]) => reason + ' ' + count).join(', ');
    if (reasons) box.append(element('p', 'rejected: ' + reasons, { className: 'note' }));
    return box;
  }
  function channel(c) {
    const of = (c.rollout?.cohorts ?? []).map(({ key, value }) => key + '=' + value).join(' or ');
    const rollout = c.rollout ? 'version ' + c.rollout.version + ' for ' + c.rollout.percent + ' %' + (of && ' of ' + of) + ' (' + c.rollout.verdict + ')' : '';
    return row([c.model, c.channel, c.version, rollout, c.held ? 'held: ' + c.holdReason : c.changes?.at(-1)?.what ?? ''], c.held ? 'off' : '');
  }
  const ms = (x) => typeof x === 'number' ? (x < 10 ? x.toFixed(1) : Math.round(x)) + ' ms' : '';
  const share = (x) => typeof x === 'number' ? (100 * x).toFixed(1) + ' %' : '';
  const version = (f, v) => row([f.model, v.version, v.clients ?? 0, v.predictions ?? 0, share(v.failing ?? 0), ms(v.latencyP50Ms), ms(v.latencyP95Ms),
    v.committed ?? 0, Number(v.reverted ?? 0) + Number(v.refused ?? 0), v.labelled ? share(v.accuracy ?? 0) : ''], v.clients ? '' : 'off');
  const events = new EventSource('/api/events'), link = document.getElementById('link');
  events.onopen = () => { link.textContent = 'live'; link.className = ''; };
  events.onerror = () => { link.textContent = 'the coordinator does not answer; trying again'; link.className = 'lost'; };
  events.onmessage = ({ data }) => {
    const { tasks, models, channels, fleets, agents } = JSON.parse(data);
    document.getElementById('tasks').replaceChildren(...(tasks.length ? tasks.map(task) : empty('No task yet: commonweight task create --help')));
    document.getElementById('models').replaceChildren(...models.map((m) => row([m.model, m.newestVersion, m.parameters])));
    document.getElementById('channels').hidden = !channels.length;
    document.querySelector('#channels tbody').replaceChildren(...channels.map(channel));
    document.getElementById('fleets').hidden = !fleets.length;
    document.querySelector('#fleets tbody').replaceChildren(...fleets.flatMap((f) => (f.versions ?? []).map((v) => version(f, v))));
    document.getElementById('agents').replaceChildren(...agents.map((a) => row([a.agentId, a.link, a.online ? (a.ready ? 'ready' : 'busy') : 'away', a.examples ?? 0], a.online ? '' : 'off')));
  };
</script>
`;
