// Apps in a page, for test/browser/situations.test.ts: `window.app` does one thing with one of them, and tells what was heard meanwhile.
import { connect } from '@commonweight/client-sdk';
import { packed, unpacked } from '../packed.ts';

const clients = [];
const models = [];
const held = [];
const begun = [];
let heard = [];

const deeds = {
  async open(url, connecting, options) {
    const { bootstrap, ...others } = options;
    const client = await connect(url, connecting);
    clients.push(client);
    const model = await client.model('m', bootstrap === undefined ? others : { ...others, bootstrap: () => bootstrap });
    return models.push(model) - 1;
  },
  predict: (id, inputs) => models[id].predict(inputs),
  begin: (id, inputs) => begun.push(Promise.all(inputs.map((one) => models[id].predict(one)))) - 1,
  begun: (id) => begun[id],
  hold: (id) => held.push(models[id].hold()) - 1,
  predictHeld: (id, inputs) => held[id].predict(inputs),
  release: (id) => held[id].release(),
  on: (id, name, listener) => void models[id].on(name, (event) => heard.push([listener, event])),
  reportFailure: (id, reason) => models[id].reportFailure(reason),
  close: () => Promise.all(clients.splice(0).map((client) => client.close())),
  look: () => {},
};

/** Everything that comes back says how things are: what was heard, in order, and then how each model stands. */
window.app = async (deed, args) => {
  let answer;
  try {
    answer = { result: await deeds[deed](...unpacked(args)) };
  } catch (error) {
    answer = { error };
  }
  const stand = models.map(({ version, status }) => ({ version, status }));
  return packed({ ...answer, heard: heard.splice(0), stand });
};
