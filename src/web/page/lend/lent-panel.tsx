/** A disk that this tab lends: its state, its use, and the addresses for other computers. */
import type { JSX } from 'preact';
import { formatBytes } from '../../../base/format.js';
import type { LendingState } from '../../lend/lend.js';
import { useStore } from '../base/store.js';
import { server } from '../state/server.js';
import { isUsed, stopLending, type LentFile } from './lent-files.js';

const stateTexts: Readonly<Record<LendingState, string>> = {
  calling: 'calling the server',
  lent: 'lent',
  away: 'the server is away',
  refused: 'refused',
  stopped: 'no longer lent',
};

export function LentPanel({ file }: { readonly file: LentFile }): JSX.Element {
  const { id, name, size, writable, state, detail, use } = file;
  const listening = useStore(server)?.listening ?? [];
  const over = !isUsed(file);
  const title = `lent-${id}`;
  return (
    <section class="panel" aria-labelledby={title}>
      <div class="panel-head">
        <div class="row">
          <h2 id={title} class="device-name">
            {name}
          </h2>
          <span class={state === 'lent' ? 'tag good' : state === 'calling' ? 'tag' : 'tag bad'} role="status">
            {stateTexts[state]}
          </span>
          <span class="tag">{writable ? 'writable' : 'read-only'}</span>
          <span class="tag number">{formatBytes(size)}</span>
        </div>
        <button onClick={() => void stopLending(id)}>{over ? 'Remove from the list' : 'Stop lending'}</button>
      </div>
      {state !== 'lent' && detail !== '' && <p class={over ? 'bad-text' : 'muted'}>{detail}</p>}
      {use.failure && !over && (
        <p class="notice bad">
          A request failed at {new Date(use.failure.time).toLocaleTimeString()}:{' '}
          <span role="alert">{use.failure.message}</span>.
        </p>
      )}
      {state === 'lent' && (
        <>
          <dl class="facts">
            <div>
              <dt>Requests</dt>
              <dd>{use.requests.toLocaleString('en')}</dd>
            </div>
            <div>
              <dt>Read from it</dt>
              <dd>{formatBytes(use.bytesRead)}</dd>
            </div>
            {writable && (
              <div>
                <dt>Written to it</dt>
                <dd>{formatBytes(use.bytesWritten)}</dd>
              </div>
            )}
            {use.errors > 0 && (
              <div>
                <dt>Errors</dt>
                <dd>{use.errors}</dd>
              </div>
            )}
          </dl>
          <Addresses name={name} listening={listening} />
        </>
      )}
    </section>
  );
}

function Addresses({ name, listening }: { readonly name: string; readonly listening: readonly string[] }): JSX.Element {
  const addresses = listening
    .filter((at) => /^nbds?:/.test(at))
    .map((at) => `${at.replace(/\/$/, '')}/${encodeURIComponent(name)}`);
  return (
    <div>
      <h3>Other computers use it as</h3>
      {addresses.map((at) => (
        <div class="code device-name" key={at}>
          {at}
        </div>
      ))}
    </div>
  );
}
