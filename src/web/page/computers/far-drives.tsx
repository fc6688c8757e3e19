/** The drives of a computer beside the server whose media or disks can be changed while it runs. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../base/store.js';
import { Confirmed } from '../parts/confirmed.js';
import type { Task } from '../parts/task.js';
import type { ComputerInfo, DriveInfo } from '../state/contract.js';
import { post } from '../state/request.js';
import { server } from '../state/server.js';
import { pathOf } from './path-of.js';

interface FarDrivesProps {
  readonly info: ComputerInfo;
  readonly task: Task;
  /** Asks for the list again. */
  readonly onChange: () => void;
}

const texts = {
  eject: { doing: 'Ejecting the medium…', done: 'The medium is ejected, or its guest was asked to eject it.' },
  insert: { doing: 'Inserting the medium…', done: 'The medium is inserted.' },
  detach: { doing: 'Detaching the disk…', done: 'The disk is detached.' },
  attach: { doing: 'Attaching the disk…', done: 'The disk is attached.' },
} as const;

export function FarDrives({ info, task, onChange }: FarDrivesProps): JSX.Element | null {
  const changing = info.drives.filter(({ can }) => can !== undefined);
  if (changing.length === 0) return null;
  const act = (what: keyof typeof texts, body: object): void => {
    void task.run(texts[what].doing, async () => {
      await post(pathOf(info.name, what), body);
      onChange();
      return texts[what].done;
    });
  };
  return (
    <ul class="list" aria-label={`Drives of ${info.name}`}>
      {changing.map((one) => (
        <li key={one.drive}>
          <span>
            Drive {one.drive}: <span class="code">{one.source ?? 'empty'}</span>
          </span>
          <Change of={one} busy={task.busy !== undefined} onAct={act} />
        </li>
      ))}
    </ul>
  );
}

interface ChangeProps {
  readonly of: DriveInfo;
  readonly busy: boolean;
  readonly onAct: (what: keyof typeof texts, body: object) => void;
}

function Change({ of: { drive, can }, busy, onAct }: ChangeProps): JSX.Element | null {
  const exports = useStore(server)?.exports ?? [];
  const [name, setName] = useState<string | undefined>(undefined);
  if (can === 'eject') {
    return (
      <button disabled={busy} onClick={() => onAct('eject', { drive, force: false })}>
        Eject the medium
      </button>
    );
  }
  if (can === 'detach') {
    return (
      <Confirmed
        act="Detach"
        title={`Detach drive ${drive}?`}
        text="Data that its system has not written yet will be lost: let it unmount the disk first."
        busy={busy}
        onAct={() => onAct('detach', { drive })}
      />
    );
  }
  // A server without exports, such as that of farbus up, has nothing to put in.
  const chosen = name ?? exports[0]?.name;
  if (chosen === undefined || can === undefined) return null;
  return (
    <span class="row">
      <select
        aria-label={`For drive ${drive}`}
        value={chosen}
        onChange={({ currentTarget }) => setName(currentTarget.value)}
      >
        {exports.map((one) => (
          <option value={one.name} key={one.name}>
            {one.name === '' ? 'default export' : one.name}
          </option>
        ))}
      </select>
      <button disabled={busy} onClick={() => onAct(can, { drive, export: chosen })}>
        {can === 'insert' ? 'Insert' : 'Attach'}
      </button>
    </span>
  );
}
