/** The screen of a computer, which takes keys while it has the focus. */
import type { ComponentChildren, JSX } from 'preact';
import { useRef } from 'preact/hooks';
import { useMedia } from '../base/media.js';
import { keyText } from './keys.js';

interface ScreenFrameProps {
  readonly name: string;
  /** The lines of a text screen, for screen readers. */
  readonly text: readonly string[];
  /** Sends keys in the syntax of `farbus type`; absent if the computer takes none. */
  readonly onKeys?: ((keys: string) => void) | undefined;
  /** True if the picture passes mouse and fingers on to the computer. */
  readonly takesMouse: boolean;
  readonly children: ComponentChildren;
}

/** Keys that a browser or the system keeps for itself. */
const kept: readonly (readonly [title: string, keys: string])[] = [
  ['Ctrl-Alt-Del', '<ctrl-alt-delete>'],
  ['Esc', '<esc>'],
  ['F1', '<f1>'],
  ['F12', '<f12>'],
];

export function ScreenFrame({ name, text, onKeys, takesMouse, children }: ScreenFrameProps): JSX.Element {
  const after = useRef<HTMLParagraphElement>(null);
  const hasTouch = useMedia('(any-pointer: coarse)');
  const press = (event: KeyboardEvent): void => {
    if (event.ctrlKey && event.code === 'BracketRight') {
      event.preventDefault();
      after.current?.focus();
      return;
    }
    const keys = keyText(event);
    if (keys === undefined) return;
    event.preventDefault();
    onKeys?.(keys);
  };
  return (
    <div class="screen">
      <div
        class="screen-place"
        role="application"
        aria-label={`Screen of ${name}`}
        aria-roledescription="screen"
        tabIndex={0}
        onKeyDown={onKeys && press}
      >
        {children}
      </div>
      {onKeys && (
        <>
          <p class="muted small" ref={after} tabIndex={-1}>
            Click the screen to type on it. Ctrl-] leaves it.
          </p>
          {takesMouse && hasTouch && (
            <p class="muted small">
              Tap the screen, and fingers on it are its mouse: drag to move the pointer, tap to click, with two fingers
              for the right button, and drag two fingers to scroll. To hold the button, tap and drag at once. Tap beside
              the screen to scroll the page again.
            </p>
          )}
          <div class="row" role="group" aria-label={`Keys for ${name}`}>
            {kept.map(([title, keys]) => (
              <button class="quiet" onClick={() => onKeys(keys)} key={title}>
                {title}
              </button>
            ))}
          </div>
        </>
      )}
      {text.length > 0 && <pre class="hidden-text">{text.join('\n')}</pre>}
    </div>
  );
}
