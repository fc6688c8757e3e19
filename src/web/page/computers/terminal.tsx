/** A terminal (xterm.js) for a serial console. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal as Xterm } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Console } from './console.js';
import { makeStylesStrict } from './strict-styles.js';

makeStylesStrict();

interface TerminalProps {
  /** Of the computer, for screen readers. */
  readonly name: string;
  readonly console: Console;
}

/** A terminal is dark in both themes: programs choose colours for a dark ground. */
const theme = { background: '#0c1117', foreground: '#dfe6ee', cursor: '#f2a765', selectionBackground: '#2f5478' };

export default function Terminal({ name, console }: TerminalProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const after = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    const terminal = new Xterm({
      theme,
      fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: 13,
      scrollback: 5000,
      screenReaderMode: true,
      cursorBlink: false,
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(place.current!);
    terminal.textarea?.setAttribute('aria-label', `Terminal of ${name}`);
    // The terminal takes every key, Tab too. This one leads out of it, as in `farbus console`.
    terminal.attachCustomKeyEventHandler((event) => {
      if (!(event.ctrlKey && event.code === 'BracketRight')) return true;
      if (event.type === 'keydown') after.current?.focus();
      event.preventDefault();
      return false;
    });
    const resized = new ResizeObserver(() => fit.fit());
    resized.observe(place.current!);
    const stop = console.watch((bytes) => terminal.write(bytes));
    const encoder = new TextEncoder();
    terminal.onData((text) => console.send(encoder.encode(text)));
    terminal.onBinary((text) => console.send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
    terminal.focus();
    return () => {
      stop();
      resized.disconnect();
      terminal.dispose();
    };
  }, [console]);
  return (
    <div class="terminal">
      <div ref={place} class="terminal-place" />
      <p class="muted small" ref={after} tabIndex={-1}>
        Ctrl-] leaves the terminal.
      </p>
    </div>
  );
}
