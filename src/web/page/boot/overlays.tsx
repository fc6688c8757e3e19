/** The overlays and caches that this browser keeps, and its space for them. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { formatBytes } from '../../../base/format.js';
import { removeStore, storageSpace, storeNames } from '../../../storage/opfs/files.js';
import { Dialog } from '../parts/dialog.js';
import { Outcome } from '../parts/outcome.js';
import { useTask } from '../parts/task.js';

interface Kept {
  readonly names: readonly string[];
  /** The names of the caches of far disks. */
  readonly caches: readonly string[];
  readonly used: number;
  readonly free: number;
}

/** Below this, the user is told that the space may not last, in bytes. */
const littleSpace = 512 * 2 ** 20;

export function Overlays(): JSX.Element | null {
  const [kept, setKept] = useState<Kept | undefined>(undefined);
  const [removing, setRemoving] = useState<string | undefined>(undefined);
  const task = useTask();
  const look = async (): Promise<void> => {
    const [names, caches, space] = await Promise.all([storeNames('overlay'), storeNames('cache'), storageSpace()]);
    setKept({ names, caches, ...space });
  };
  useEffect(() => {
    // A browser that refuses storage says so when an overlay is used.
    look().catch(() => undefined);
  }, []);
  if (!kept) return null;
  const { names, caches, used, free } = kept;
  return (
    <section class="panel" aria-labelledby="overlays">
      <div class="panel-head">
        <h2 id="overlays">Overlays in this browser</h2>
        <span class="muted small number">
          {formatBytes(used)} used, {formatBytes(free)} free
        </span>
      </div>
      {free < littleSpace && (
        <p class="notice bad">
          This browser has little space left: remove an overlay, the caches or other site data before a guest writes
          much.
        </p>
      )}
      {names.length === 0 && (
        <p class="muted">None yet. An overlay keeps what a computer writes until you remove it.</p>
      )}
      {names.length > 0 && (
        <ul class="list">
          {names.map((name) => (
            <li key={name}>
              <span class="device-name">{name}</span>
              <button class="quiet" aria-label={`Remove the overlay ${name}`} onClick={() => setRemoving(name)}>
                Remove
              </button>
            </li>
          ))}
        </ul>
      )}
      {caches.length > 0 && (
        <div class="row">
          <span class="muted">
            Caches of {caches.length === 1 ? 'one far disk' : `${caches.length} far disks`}: what was read is not
            fetched again.
          </span>
          <button
            class="quiet"
            onClick={() =>
              void task.run('Removing the caches…', async () => {
                try {
                  for (const name of caches) await removeStore('cache', name);
                } finally {
                  await look();
                }
                return 'The caches are removed.';
              })
            }
          >
            Remove the caches
          </button>
        </div>
      )}
      <Outcome task={task} />
      {removing !== undefined && (
        <Dialog
          title={`Remove the overlay ${removing}?`}
          act="Remove"
          danger
          onCancel={() => setRemoving(undefined)}
          onAct={() => {
            setRemoving(undefined);
            void task.run('Removing the overlay…', async () => {
              await removeStore('overlay', removing);
              await look();
              return `The overlay ${removing} is removed.`;
            });
          }}
        >
          <p>All that computers have written to it is lost. The far disk is not changed.</p>
        </Dialog>
      )}
    </section>
  );
}
