/**
 * Keys that a user presses on a computer's screen, in the syntax of `farbus type`: characters, and
 * names such as `<enter>` and `<ctrl-c>`.
 */

const names: Readonly<Record<string, string>> = {
  Enter: 'enter',
  Escape: 'esc',
  Tab: 'tab',
  Backspace: 'backspace',
  Delete: 'delete',
  Insert: 'insert',
  Home: 'home',
  End: 'end',
  PageUp: 'pageup',
  PageDown: 'pagedown',
  ArrowUp: 'up',
  ArrowDown: 'down',
  ArrowLeft: 'left',
  ArrowRight: 'right',
};

type Pressed = Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'altKey' | 'shiftKey'>;

/** The key as text for `farbus type`; undefined if it has none, such as a modifier alone. */
export function keyText({ key, ctrlKey, altKey, shiftKey }: Pressed): string | undefined {
  const held = `${ctrlKey ? 'ctrl-' : ''}${altKey ? 'alt-' : ''}`;
  const named = names[key] ?? (/^F([1-9]|1[0-2])$/.test(key) ? key.toLowerCase() : undefined);
  if (named !== undefined) return `<${held}${shiftKey ? 'shift-' : ''}${named}>`;
  if ([...key].length !== 1) return undefined;
  // AltGr, with which some layouts type characters, is reported as Ctrl and Alt.
  if (held !== '' && held !== 'ctrl-alt-' && /^[a-z0-9]$/i.test(key)) return `<${held}${key.toLowerCase()}>`;
  return key === '<' ? '<lt>' : key;
}
