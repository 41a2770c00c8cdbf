/** The held-out examples that belong to a data specification: `mnist?split=train&seed=3` has `mnist?seed=3&split=test`. */
export function testSplitOf(spec: string): string {
  const [source = '', query = ''] = spec.split('?', 2);
  const kept = query.split('&').filter((option) => option !== '' && !option.startsWith('split='));
  return `${source}?${[...kept, 'split=test'].join('&')}`;
}
