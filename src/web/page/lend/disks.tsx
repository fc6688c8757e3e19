/** The disks that this browser keeps (OPFS): made, lent, downloaded and removed. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { messageOf } from '../../../base/errors.js';
import { formatBytes, parseBytes } from '../../../base/format.js';
import { createOpfsDisk, opfsDiskContent, opfsDisks, type OpfsDisk } from '../../../storage/opfs/disk.js';
import { removeStore, storageSpace } from '../../../storage/opfs/files.js';
import { downloadBlob } from '../base/download.js';
import { useStore } from '../base/store.js';
import { Confirmed } from '../parts/confirmed.js';
import { Outcome } from '../parts/outcome.js';
import { useTask, type Task } from '../parts/task.js';
import { isUsed, lendDisk, lentFiles } from './lent-files.js';

interface Kept {
  readonly disks: readonly OpfsDisk[];
  readonly used: number;
  readonly free: number;
}

/** Below this, the user is told that the space may not last, in bytes. */
const littleSpace = 512 * 2 ** 20;
/** While a disk is lent, interval between two looks at the space, in ms. */
const lookMs = 5000;

export function Disks(): JSX.Element {
  const [kept, setKept] = useState<Kept | undefined>(undefined);
  const [trouble, setTrouble] = useState('');
  const lent = useStore(lentFiles).filter((one) => one.disk !== undefined && isUsed(one)).length;
  const task = useTask();
  const look = async (): Promise<void> => {
    const [disks, space] = await Promise.all([opfsDisks(), storageSpace()]);
    setKept({ disks, ...space });
  };
  useEffect(() => {
    const lookNow = (): void => void look().catch((error: unknown) => setTrouble(messageOf(error)));
    lookNow();
    // Others may write a lent disk.
    const timer = lent > 0 ? setInterval(lookNow, lookMs) : undefined;
    return () => clearInterval(timer);
  }, [lent]);
  if (!kept) return <p class={trouble === '' ? 'muted' : 'notice bad'}>{trouble || 'Looking for disks…'}</p>;
  const { disks, used, free } = kept;
  return (
    <section class="panel" aria-labelledby="disks">
      <div class="panel-head">
        <h2 id="disks">Disks in this browser</h2>
        <span class="muted small number">
          {formatBytes(used)} used, {formatBytes(free)} free
        </span>
      </div>
      <p class="muted small">
        A disk in the browser's own storage is lent writable: every computer that may use this disk of the server can
        change it. It takes room only where it is written.
      </p>
      {disks.length > 0 && free < littleSpace && (
        <p class="notice bad">
          This browser has little space left, and writes to the disks fail when it is used up: remove a disk, an overlay
          or other site data.
        </p>
      )}
      {disks.length === 0 && <p class="muted">None yet.</p>}
      {disks.length > 0 && (
        <ul class="list">
          {disks.map((disk) => (
            <DiskRow disk={disk} task={task} look={look} key={disk.name} />
          ))}
        </ul>
      )}
      <MakeForm free={free} task={task} look={look} />
      <Outcome task={task} />
    </section>
  );
}

interface ActProps {
  readonly task: Task;
  /** Reads again which disks there are. */
  readonly look: () => Promise<void>;
}

function DiskRow({ disk, task, look }: ActProps & { readonly disk: OpfsDisk }): JSX.Element {
  const { name, size } = disk;
  const lent = useStore(lentFiles).some((one) => one.disk === name && isUsed(one));
  const busy = task.busy !== undefined;
  const run = (doing: string, act: () => Promise<string>): void => void task.run(doing, act);
  return (
    <li>
      <span class="device-name">{name}</span>
      <span class="muted number">{formatBytes(size)}</span>
      {lent ? (
        <span class="muted">lent by this tab</span>
      ) : (
        <div class="row end" role="group" aria-label={`Disk ${name}`}>
          <button
            disabled={busy}
            aria-label={`Lend the disk ${name}`}
            onClick={() =>
              run('Opening the disk…', async () => {
                await lendDisk(name, size, name);
                return '';
              })
            }
          >
            Lend
          </button>
          <button
            disabled={busy}
            aria-label={`Download the disk ${name}`}
            onClick={() =>
              run('Preparing the download…', async () => {
                downloadBlob(name, await opfsDiskContent(name));
                return 'The browser saves the disk. Lend it again when that is done.';
              })
            }
          >
            Download
          </button>
          <Confirmed
            act="Remove"
            title={`Remove the disk ${name}?`}
            text="All that is on it is lost."
            busy={busy}
            onAct={() =>
              run('Removing the disk…', async () => {
                await removeStore('disk', name);
                await look();
                return `The disk ${name} is removed.`;
              })
            }
          />
        </div>
      )}
    </li>
  );
}

function MakeForm({ free, task, look }: ActProps & { readonly free: number }): JSX.Element {
  const [name, setName] = useState('');
  const [size, setSize] = useState('');
  const bytes = parseBytes(size);
  const submit = (event: Event): void => {
    event.preventDefault();
    if (bytes === undefined) return;
    void task.run('Making the disk…', async () => {
      await createOpfsDisk(name.trim(), bytes);
      const stays = await navigator.storage.persist().catch(() => false);
      await look();
      setName('');
      setSize('');
      return stays
        ? 'The disk is made. The browser keeps it until you remove it or delete the data of this site.'
        : 'The disk is made. This browser may delete it when it has little room: download what you need.';
    });
  };
  return (
    <form onSubmit={submit}>
      <div class="row fields">
        <label class="field">
          <span>Name of a new disk</span>
          <input
            type="text"
            required
            maxLength={100}
            value={name}
            onInput={({ currentTarget }) => setName(currentTarget.value)}
          />
        </label>
        <label class="field">
          <span>Size, such as 500M or 2G</span>
          <input type="text" required value={size} onInput={({ currentTarget }) => setSize(currentTarget.value)} />
        </label>
      </div>
      {bytes !== undefined && bytes > free && (
        <p class="notice bad">
          The browser gives this page {formatBytes(free)} more: when they are used up, writes to the disk fail.
        </p>
      )}
      <div class="row">
        <button type="submit" disabled={name.trim() === '' || bytes === undefined || task.busy !== undefined}>
          Make the disk
        </button>
      </div>
    </form>
  );
}
