/** A computer in this tab: its terminal, screen and drives, and what may be done with it. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { TabState } from '../../../browser/tab-computer.js';
import { lazy } from '../base/lazy.js';
import { downloadBytes } from '../base/download.js';
import { useStore } from '../base/store.js';
import { Confirmed } from '../parts/confirmed.js';
import { DriveFields, usualDrive } from '../parts/drive-fields.js';
import { Outcome } from '../parts/outcome.js';
import { useTask, type Task } from '../parts/task.js';
import { server } from '../state/server.js';
import { attachInTab, detachInTab, removeFromTab, type ChosenDrive, type TabEntry } from '../state/tab-computers.js';
import { TabScreen } from './tab-screen.js';

const Terminal = lazy(() => import('./terminal.js'));

const stateTexts: Readonly<Record<TabState, string>> = {
  starting: 'starting',
  running: 'running',
  paused: 'paused',
  ended: 'ended by itself',
  failed: 'failed',
  stopped: 'switched off',
};

const writeTexts = { far: 'writes go to the far disk', none: 'read-only' } as const;

export function TabComputerPanel({ entry }: { readonly entry: TabEntry }): JSX.Element {
  const { id, name, state, detail, computer, system, continued } = entry;
  const [view, setView] = useState<'terminal' | 'screen' | undefined>(system === 'debian' ? 'terminal' : 'screen');
  const task = useTask();
  const alive = computer !== undefined && (state === 'running' || state === 'paused');
  const toggle = (to: 'terminal' | 'screen'): void => setView(view === to ? undefined : to);
  const busy = task.busy !== undefined;
  const title = `tab-computer-${id}`;
  return (
    <section class="panel" aria-labelledby={title}>
      <div class="panel-head">
        <div class="row">
          <h2 id={title} class="device-name">
            {name}
          </h2>
          <span class={tagOf(state)} role="status">
            {stateTexts[state]}
          </span>
          <span class="tag">in this tab</span>
        </div>
        <div class="row">
          {alive && (
            <>
              <button aria-expanded={view === 'terminal'} onClick={() => toggle('terminal')}>
                Terminal
              </button>
              {system === 'drive' && (
                <button aria-expanded={view === 'screen'} onClick={() => toggle('screen')}>
                  Screen
                </button>
              )}
            </>
          )}
        </div>
      </div>
      {state === 'starting' && (
        <p class="muted">
          It starts. The first start from a server takes about a minute, because the server boots the system once for
          all tabs.
        </p>
      )}
      {detail !== '' && <p class={state === 'failed' ? 'bad-text' : 'muted'}>{detail}</p>}
      {alive && continued && (
        <p class="muted small">It went on where its snapshot was taken. Enter in its terminal shows a prompt.</p>
      )}
      {alive && view === 'terminal' && <Terminal name={name} console={entry.console} />}
      {alive && view === 'screen' && <TabScreen name={name} computer={computer} />}
      <Ports entry={entry} alive={alive} task={task} />
      <div class="row" role="group" aria-label={`Actions for ${name}`}>
        {alive && state === 'running' && (
          <button disabled={busy} onClick={() => void computer.pause()}>
            Pause
          </button>
        )}
        {alive && state === 'paused' && (
          <button class="primary" disabled={busy} onClick={() => void computer.resume()}>
            Continue
          </button>
        )}
        {alive && (
          <button
            disabled={busy}
            onClick={() =>
              void task.run('Saving a snapshot…', async () => {
                downloadBytes(`${name}.snapshot`, await computer.save());
                return 'The snapshot is saved as a file. “Boot here” continues from it with the same drives.';
              })
            }
          >
            Save a snapshot
          </button>
        )}
        {computer !== undefined && state !== 'stopped' && state !== 'starting' && (
          <Confirmed
            act="Reset"
            title={`Reset ${name}?`}
            text="The computer starts anew. Data that its system has not written yet will be lost."
            busy={busy}
            onAct={() =>
              void task.run('Starting anew…', async () => {
                await computer.reset();
                return 'The computer has been started anew.';
              })
            }
          />
        )}
        {alive ? (
          <Confirmed
            act="Switch off"
            title={`Switch ${name} off?`}
            text="Data that its system has not written yet will be lost: let it unmount its disks first."
            busy={busy}
            onAct={() => void removeFromTab(id)}
          />
        ) : (
          state !== 'starting' && <button onClick={() => void removeFromTab(id)}>Remove from the list</button>
        )}
      </div>
      <Outcome task={task} />
    </section>
  );
}

function tagOf(state: TabState): string {
  if (state === 'running') return 'tag good';
  return state === 'failed' ? 'tag bad' : 'tag';
}

interface PortsProps {
  readonly entry: TabEntry;
  readonly alive: boolean;
  readonly task: Task;
}

function Ports({ entry: { id, name, ports }, alive, task }: PortsProps): JSX.Element {
  const exports = useStore(server)?.exports ?? [];
  const [adding, setAdding] = useState<ChosenDrive | undefined>(undefined);
  const free = ports.findIndex((port) => port === undefined);
  const unused = exports.find((one) => !ports.some((port) => port?.drive.name === one.name));
  const busy = task.busy !== undefined;
  return (
    <div class="ports" role="group" aria-label={`Drives of ${name}`}>
      {ports.some((port) => port !== undefined) && (
        <ul class="list">
          {ports.map(
            (port, index) =>
              port && (
                <li key={index}>
                  <span>
                    <b class="device-name">{port.drive.name || 'default export'}</b>{' '}
                    <span class="muted small">
                      {port.drive.writes === 'overlay'
                        ? `writes go to the overlay ${port.drive.overlay}`
                        : writeTexts[port.drive.writes]}
                    </span>{' '}
                    {port.trouble !== undefined && (
                      <span class="tag bad" role="status">
                        {port.trouble}
                      </span>
                    )}
                    {port.cacheTrouble !== undefined && (
                      <span class="muted small own-line" role="status">
                        {port.cacheTrouble}
                      </span>
                    )}
                  </span>
                  {alive && (
                    <button
                      class="quiet"
                      disabled={busy}
                      aria-label={`Detach ${port.drive.name}`}
                      onClick={() =>
                        void task.run('Detaching the drive…', async () => {
                          await detachInTab(id, index);
                          return `${port.drive.name} is detached.`;
                        })
                      }
                    >
                      Detach
                    </button>
                  )}
                </li>
              ),
          )}
        </ul>
      )}
      {alive && free >= 0 && exports.length > 0 && adding === undefined && (
        <div class="row">
          <button disabled={busy} onClick={() => setAdding(usualDrive(unused ?? exports[0]!))}>
            Attach a drive
          </button>
        </div>
      )}
      {alive && adding !== undefined && (
        <form
          class="drive-row"
          onSubmit={(event) => {
            event.preventDefault();
            setAdding(undefined);
            void task.run('Attaching the drive…', async () => {
              await attachInTab(id, free, adding);
              return `${adding.name} is attached.`;
            });
          }}
        >
          <DriveFields title="New drive" drive={adding} onChange={setAdding} />
          <div class="row">
            <button class="primary" type="submit" disabled={free < 0}>
              Attach
            </button>
            <button type="button" onClick={() => setAdding(undefined)}>
              Cancel
            </button>
          </div>
        </form>
      )}
    </div>
  );
}
