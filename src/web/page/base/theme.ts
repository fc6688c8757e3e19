/** Dark or light: as the system says, or as the user has chosen on this page. */
import { Store } from './store.js';
import { keep, kept } from './kept.js';

export type Theme = 'system' | 'light' | 'dark';

const key = 'farbus-theme';
const dark = matchMedia('(prefers-color-scheme: dark)');

function chosen(): Theme {
  const value = kept(key);
  return value === 'light' || value === 'dark' ? value : 'system';
}

export const theme = new Store<Theme>(chosen());
/** True while the page is dark, for what is drawn on a canvas. */
export const isDark = new Store(false);

function apply(): void {
  const { value } = theme;
  if (value === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = value;
  isDark.set(value === 'system' ? dark.matches : value === 'dark');
}

theme.watch(() => {
  keep(key, theme.value === 'system' ? undefined : theme.value);
  apply();
});
dark.addEventListener('change', apply);
apply();
