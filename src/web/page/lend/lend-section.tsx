/** The section "Lend a file": a file of this computer becomes an export of the server. */
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { formatBytes } from '../../../base/format.js';
import type { LendingState } from '../../lend/lend.js';
import { useStore } from '../base/store.js';
import { Outcome } from '../parts/outcome.js';
import { useTask } from '../parts/task.js';
import { server } from '../state/server.js';
import { lendFile, lentFiles, stopLending, type LentFile } from './lent-files.js';

export function Lend(): JSX.Element {
  const files = useStore(lentFiles);
  return (
    <div class="section">
      <header>
        <h1>Lend a file</h1>
        <p class="lead">
          A disk image on your own computer becomes a disk of this server, without an upload: computers read what they
          need from this tab, as long as it is open.
        </p>
      </header>
      <LendForm />
      {files.map((file) => (
        <Lent file={file} key={file.id} />
      ))}
    </div>
  );
}

function LendForm(): JSX.Element {
  const [file, setFile] = useState<File | undefined>(undefined);
  const [name, setName] = useState('');
  const input = useRef<HTMLInputElement>(null);
  const task = useTask();
  const submit = (event: Event): void => {
    event.preventDefault();
    if (!file) return;
    void task.run('Reading the file…', async () => {
      await lendFile(file, name.trim());
      setFile(undefined);
      setName('');
      if (input.current) input.current.value = '';
      return '';
    });
  };
  return (
    <form class="panel" onSubmit={submit}>
      <div class="row fields">
        <label class="field">
          <span>Disk image or ISO file</span>
          <input
            type="file"
            ref={input}
            onChange={({ currentTarget }) => {
              const picked = currentTarget.files?.[0];
              setFile(picked);
              if (picked) setName(picked.name);
            }}
          />
        </label>
        <label class="field">
          <span>Name of the disk at the server</span>
          <input
            type="text"
            required
            maxLength={100}
            value={name}
            onInput={({ currentTarget }) => setName(currentTarget.value)}
          />
        </label>
      </div>
      <p class="muted small">
        It is lent read-only. If this tab is closed, pick the same file again under the same name: computers that use it
        wait for it.
      </p>
      <div class="row">
        <button class="primary" type="submit" disabled={!file || name.trim() === '' || task.busy !== undefined}>
          Lend
        </button>
      </div>
      <Outcome task={task} />
    </form>
  );
}

const stateTexts: Readonly<Record<LendingState, string>> = {
  calling: 'calling the server',
  lent: 'lent',
  away: 'the server is away',
  refused: 'refused',
  stopped: 'no longer lent',
};

function Lent({ file }: { readonly file: LentFile }): JSX.Element {
  const { id, name, size, state, detail, use } = file;
  const listening = useStore(server)?.listening ?? [];
  const over = state === 'refused' || state === 'stopped';
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
          <span class="tag number">{formatBytes(size)}</span>
        </div>
        <button onClick={() => void stopLending(id)}>{over ? 'Remove from the list' : 'Stop lending'}</button>
      </div>
      {state !== 'lent' && detail !== '' && <p class={over ? 'bad-text' : 'muted'}>{detail}</p>}
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
