/** The section "Boot here": starts a computer in this tab. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { TabSystem } from '../../../browser/machine-options.js';
import { hasPrivateFiles, hasWebAssembly } from '../base/abilities.js';
import { useStore } from '../base/store.js';
import { DriveFields, usualDrive } from '../parts/drive-fields.js';
import { server } from '../state/server.js';
import { startInTab, tabComputers, tabPorts, type ChosenDrive } from '../state/tab-computers.js';
import { Overlays } from './overlays.js';

export function Boot(): JSX.Element {
  return (
    <div class="section">
      <header>
        <h1>Boot here</h1>
        <p class="lead">
          A computer in this tab, with disks of the server. Nothing is installed, and its system does not know that its
          disks are far.
        </p>
      </header>
      {hasWebAssembly ? (
        <BootForm />
      ) : (
        <p class="notice bad">
          This browser does not run WebAssembly, which a computer in a tab needs: allow it for this page, or open the
          page in another browser.
        </p>
      )}
      {hasWebAssembly && !hasPrivateFiles && (
        <p class="notice">
          This browser has no storage for overlays here (OPFS): open the page by https or localhost, outside of private
          browsing, to keep writes in the browser.
        </p>
      )}
      {hasPrivateFiles && <Overlays />}
    </div>
  );
}

/** The first of "Computer 1", "Computer 2" and so on that is free. */
function freeName(): string {
  const names = new Set(tabComputers.value.map(({ name }) => name));
  for (let number = 1; ; number++) if (!names.has(`Computer ${number}`)) return `Computer ${number}`;
}

function BootForm(): JSX.Element {
  const exports = useStore(server)?.exports ?? [];
  const [name, setName] = useState(freeName);
  const [system, setSystem] = useState<TabSystem>('debian');
  const [fresh, setFresh] = useState(false);
  const [drives, setDrives] = useState<readonly ChosenDrive[]>(() => exports.slice(0, 1).map(usualDrive));
  const [saved, setSaved] = useState<File | undefined>(undefined);
  const needsDrive = system === 'drive' && drives.length === 0;
  const start = async (event: Event): Promise<void> => {
    event.preventDefault();
    const bytes = saved && new Uint8Array(await saved.arrayBuffer());
    startInTab({ name: name.trim(), system, drives, snapshot: !fresh, saved: bytes });
    location.hash = '#/computers';
  };
  return (
    <form class="panel boot" onSubmit={(event) => void start(event)}>
      <fieldset>
        <legend>System</legend>
        <label class="choice">
          <input type="radio" name="system" checked={system === 'debian'} onChange={() => setSystem('debian')} />
          <span>
            Debian, from this server
            <span class="muted small">A shell in a few seconds. The disks are added to it.</span>
          </span>
        </label>
        <label class="choice">
          <input type="radio" name="system" checked={system === 'drive'} onChange={() => setSystem('drive')} />
          <span>
            The system on the first drive
            <span class="muted small">The firmware boots it, as on a computer that is switched on.</span>
          </span>
        </label>
      </fieldset>
      <fieldset>
        <legend>Drives</legend>
        {drives.length === 0 && <p class="muted">No drive.</p>}
        {drives.map((drive, index) => (
          <div class="drive-row" key={index}>
            <DriveFields
              title={`Drive ${index + 1}`}
              drive={drive}
              onChange={(changed) => setDrives(drives.map((one, at) => (at === index ? changed : one)))}
            />
            <button
              type="button"
              class="quiet"
              aria-label={`Remove drive ${index + 1}`}
              onClick={() => setDrives(drives.filter((_, at) => at !== index))}
            >
              Remove
            </button>
          </div>
        ))}
        {drives.length < tabPorts && exports.length > 0 && (
          <div class="row">
            <button
              type="button"
              onClick={() => {
                const unused = exports.find((one) => !drives.some((drive) => drive.name === one.name));
                setDrives([...drives, usualDrive(unused ?? exports[0]!)]);
              }}
            >
              Add a drive
            </button>
          </div>
        )}
      </fieldset>
      <fieldset>
        <legend>Start</legend>
        <div class="row fields">
          <label class="field">
            <span>Name</span>
            <input
              type="text"
              required
              maxLength={40}
              value={name}
              onInput={({ currentTarget }) => setName(currentTarget.value)}
            />
          </label>
          <label class="field">
            <span>Continue from a saved snapshot (optional)</span>
            <input
              type="file"
              accept=".snapshot"
              onChange={({ currentTarget }) => setSaved(currentTarget.files?.[0])}
            />
          </label>
        </div>
        {system === 'debian' && saved === undefined && (
          <label class="check">
            <input type="checkbox" checked={fresh} onChange={({ currentTarget }) => setFresh(currentTarget.checked)} />
            boot from the beginning, which takes about a minute
          </label>
        )}
        <div class="row">
          <button class="primary" type="submit" disabled={needsDrive || name.trim() === ''}>
            Start
          </button>
          {needsDrive && <span class="muted">Add the drive whose system is to boot.</span>}
        </div>
      </fieldset>
    </form>
  );
}
