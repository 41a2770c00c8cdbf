import { connect } from '@commonweight/client-sdk';
import { useEffect, useState } from 'react';

/** A live model for a component: `{ model, version, error }`. It is closed when the component goes. */
export function useModel(url, name, options) {
  const [state, setState] = useState({});
  const wanted = JSON.stringify(options);
  useEffect(() => {
    let isOver = false;
    const opening = connect(url, { cacheDir: name });
    const open = async () => {
      const model = await (await opening).model(name, JSON.parse(wanted ?? '{}'));
      if (isOver) return;
      model.on('version', ({ to }) => setState({ model, version: to }));
      model.on('error', (error) => setState((before) => ({ ...before, error })));
    };
    open().catch((error) => !isOver && setState({ error }));
    return () => {
      isOver = true;
      opening.then((client) => client.close()).catch(() => {});
    };
  }, [url, name, wanted]);
  return state;
}
