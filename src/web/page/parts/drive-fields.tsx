/** The choice of a drive: which export, and where writes go. */
import type { JSX } from 'preact';
import { hasPrivateFiles } from '../base/abilities.js';
import { useStore } from '../base/store.js';
import type { ExportInfo } from '../state/contract.js';
import { server } from '../state/server.js';
import type { ChosenDrive } from '../state/tab-computers.js';

interface DriveFieldsProps {
  /** For labels: "Drive 1". */
  readonly title: string;
  readonly drive: ChosenDrive;
  readonly onChange: (drive: ChosenDrive) => void;
}

function mayWrite(info: ExportInfo | undefined): boolean {
  return info !== undefined && info.mayWrite && !info.readOnly;
}

/** A drive of an export, with the safest place for writes. */
export function usualDrive(info: ExportInfo): ChosenDrive {
  return { name: info.name, writes: hasPrivateFiles ? 'overlay' : 'none', overlay: info.name || 'default' };
}

export function DriveFields({ title, drive, onChange }: DriveFieldsProps): JSX.Element {
  const exports = useStore(server)?.exports ?? [];
  const info = exports.find(({ name }) => name === drive.name);
  return (
    <div class="drive" role="group" aria-label={title}>
      <label class="field">
        <span>{title}</span>
        <select
          value={drive.name}
          onChange={({ currentTarget }) => {
            const chosen = exports.find(({ name }) => name === currentTarget.value);
            if (chosen) onChange(usualDrive(chosen));
          }}
        >
          {exports.map(({ name }) => (
            <option value={name} key={name}>
              {name === '' ? 'default export' : name}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        <span>Writes go</span>
        <select
          value={drive.writes}
          onChange={({ currentTarget }) => onChange({ ...drive, writes: currentTarget.value as ChosenDrive['writes'] })}
        >
          {hasPrivateFiles && <option value="overlay">to an overlay in this browser</option>}
          {mayWrite(info) && <option value="far">to the far disk</option>}
          <option value="none">nowhere: read-only</option>
        </select>
      </label>
      {drive.writes === 'overlay' && (
        <label class="field">
          <span>Name of the overlay</span>
          <input
            type="text"
            maxLength={100}
            required
            value={drive.overlay}
            onInput={({ currentTarget }) => onChange({ ...drive, overlay: currentTarget.value })}
          />
        </label>
      )}
    </div>
  );
}
