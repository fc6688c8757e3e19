/** Tells the user about the link to the server, and asks for a token; below it, the section. */
import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from './base/store.js';
import { link, openLink, server, type Link } from './state/server.js';
import { setToken, tokenIn } from './state/token.js';

export function Connection({ children }: { readonly children: ComponentChildren }): JSX.Element {
  const now = useStore(link);
  const known = useStore(server) !== undefined;
  if (now.state === 'no-token' || now.state === 'wrong-token') return <AskToken wrong={now.state === 'wrong-token'} />;
  return (
    <>
      <div role="status" class="link-state">
        {noticeOf(now)}
      </div>
      {known && children}
    </>
  );
}

function noticeOf({ state, why }: Link): JSX.Element | null {
  switch (state) {
    case 'gone':
      return (
        <p class="notice bad">
          The server does not answer: start it again, or check the network; this page goes on by itself when it is back.
        </p>
      );
    case 'refused':
      return <p class="notice bad">The server refuses this page: {why}. The page tries again.</p>;
    default:
      return null;
  }
}

function AskToken({ wrong }: { readonly wrong: boolean }): JSX.Element {
  const [text, setText] = useState('');
  const [unfit, setUnfit] = useState(false);
  const submit = (event: Event): void => {
    event.preventDefault();
    const token = tokenIn(text);
    setUnfit(token === undefined);
    if (token === undefined) return;
    setToken(token);
    openLink();
  };
  return (
    <div class="section narrow">
      <header>
        <h1>{wrong ? 'This token is not valid' : 'A token is needed'}</h1>
        <p class="lead" role="status">
          {wrong
            ? 'The server does not know the token, or it has expired: paste the address that farbus serve --web prints now.'
            : 'Paste the address that farbus serve --web printed; it ends with #token=…'}
        </p>
      </header>
      <form class="panel" onSubmit={submit}>
        <label class="field">
          <span>Address or token</span>
          <input
            type="text"
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            value={text}
            aria-invalid={unfit}
            aria-describedby={unfit ? 'unfit' : undefined}
            onInput={({ currentTarget }) => setText(currentTarget.value)}
          />
        </label>
        {unfit && (
          <p class="bad-text" id="unfit" role="alert">
            There is no token in this text.
          </p>
        )}
        <div class="row">
          <button class="primary" type="submit" disabled={text.trim() === ''}>
            Open
          </button>
        </div>
      </form>
    </div>
  );
}
