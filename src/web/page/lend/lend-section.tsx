/** The section "Lend a disk": a file or disk of this computer becomes an export of the server. */
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import type { PickedHandle } from '../../lend/picked.js';
import { hasPrivateFiles, picksWritable } from '../base/abilities.js';
import { useStore } from '../base/store.js';
import { Outcome } from '../parts/outcome.js';
import { useTask } from '../parts/task.js';
import { Disks } from './disks.js';
import { lendFile, lendWritable, lentFiles } from './lent-files.js';
import { LentPanel } from './lent-panel.js';

export default function Lend(): JSX.Element {
  const files = useStore(lentFiles);
  return (
    <div class="section">
      <header>
        <h1>Lend a file</h1>
        <p class="lead">
          A disk image on your own computer, or a disk in this browser, becomes a disk of this server, without an
          upload: computers read what they need from this tab, as long as it is open.
        </p>
      </header>
      <LendForm />
      {files.map((file) => (
        <LentPanel file={file} key={file.id} />
      ))}
      {hasPrivateFiles ? (
        <Disks />
      ) : (
        <p class="notice">
          This browser has no storage for disks here (OPFS): open the page by https or localhost, outside of private
          browsing, to make a disk in the browser and lend it.
        </p>
      )}
    </div>
  );
}

interface PickerWindow {
  showOpenFilePicker(): Promise<PickedHandle[]>;
}

/** The user's choice: a file to read, or a handle with which the page also writes the file. */
type Picked = { readonly file: File } | { readonly handle: PickedHandle };

function LendForm(): JSX.Element {
  const [picked, setPicked] = useState<Picked | undefined>(undefined);
  const [name, setName] = useState('');
  const [writable, setWritable] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const task = useTask();
  const clear = (): void => {
    setPicked(undefined);
    setName('');
    if (input.current) input.current.value = '';
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    if (!picked) return;
    void task.run('Reading the file…', async () => {
      if ('handle' in picked) await lendWritable(picked.handle, name.trim());
      else await lendFile(picked.file, name.trim());
      clear();
      return '';
    });
  };
  const choose = async (): Promise<void> => {
    const handles = await (window as unknown as PickerWindow).showOpenFilePicker().catch(() => []);
    // The user may have closed the dialog.
    if (!handles[0]) return;
    setPicked({ handle: handles[0] });
    setName(handles[0].name);
  };
  return (
    <form class="panel" onSubmit={submit}>
      <div class="row fields">
        {writable ? (
          <div class="field">
            <span>Disk image</span>
            <button type="button" onClick={() => void choose()}>
              {picked && 'handle' in picked ? picked.handle.name : 'Choose a file…'}
            </button>
          </div>
        ) : (
          <label class="field">
            <span>Disk image or ISO file</span>
            <input
              type="file"
              ref={input}
              onChange={({ currentTarget }) => {
                const file = currentTarget.files?.[0];
                setPicked(file && { file });
                if (file) setName(file.name);
              }}
            />
          </label>
        )}
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
      {picksWritable && (
        <label class="check">
          <input
            type="checkbox"
            checked={writable}
            onChange={({ currentTarget }) => {
              setWritable(currentTarget.checked);
              clear();
            }}
          />
          let others write to it
        </label>
      )}
      <p class="muted small">
        {writable
          ? 'Every computer that may use this disk of the server can change the file. The browser copies the whole ' +
            'file at each flush, so it takes files up to 1 GiB. '
          : 'It is lent read-only. '}
        If this tab is closed, pick the same file again under the same name: computers that use it wait for it.
        {writable && ' What they have not flushed before is lost.'}
      </p>
      <div class="row">
        <button class="primary" type="submit" disabled={!picked || name.trim() === '' || task.busy !== undefined}>
          Lend
        </button>
      </div>
      <Outcome task={task} />
    </form>
  );
}
