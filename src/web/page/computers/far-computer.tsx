/** A computer that runs beside the server: one of `farbus run` or of a site. */
import { lazy } from '../base/lazy.js';
import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { useStore } from '../base/store.js';
import { Dialog } from '../parts/dialog.js';
import { Outcome } from '../parts/outcome.js';
import { useTask, type Task } from '../parts/task.js';
import type { ComputerInfo } from '../state/contract.js';
import { get, getBlob, openSocket, post } from '../state/request.js';
import { server } from '../state/server.js';
import { ConsoleOutput, type Console } from './console.js';
import { ScreenFrame } from './screen-frame.js';

const Terminal = lazy(() => import('./terminal.js'));

/** Time between two pictures of a screen, in ms. */
const pictureMs = 700;

interface FarComputerProps {
  readonly info: ComputerInfo;
  /** Asks for the list again. */
  readonly onChange: () => void;
}

type View = 'terminal' | 'screen' | undefined;

export function FarComputer({ info, onChange }: FarComputerProps): JSX.Element {
  const [view, setView] = useState<View>(undefined);
  const task = useTask();
  const can = (act: string): boolean => info.can.includes(act);
  const toggle = (to: View): void => setView(view === to ? undefined : to);
  const id = `computer-${info.name}`;
  return (
    <section class="panel" aria-labelledby={id}>
      <div class="panel-head">
        <div class="row">
          <h2 id={id} class="device-name">
            {info.name}
          </h2>
          <span class={info.state === 'running' ? 'tag good' : 'tag'}>{info.state}</span>
          {info.site !== undefined && <span class="tag">site {info.site}</span>}
        </div>
        <div class="row">
          {can('console') && (
            <button aria-expanded={view === 'terminal'} onClick={() => toggle('terminal')}>
              Terminal
            </button>
          )}
          {can('screen') && (
            <button aria-expanded={view === 'screen'} onClick={() => toggle('screen')}>
              Screen
            </button>
          )}
          {can('stop') && <Stop info={info} task={task} onChange={onChange} />}
        </div>
      </div>
      {info.uses.length > 0 && (
        <ul class="uses" aria-label={`Disks of ${info.name}`}>
          {info.uses.map((one) => (
            <li class="code" key={one}>
              {one}
            </li>
          ))}
        </ul>
      )}
      {view === 'terminal' && <FarTerminal name={info.name} />}
      {view === 'screen' && <FarScreen info={info} />}
      {can('media') && <Media info={info} task={task} />}
      <Outcome task={task} />
    </section>
  );
}

function pathOf(name: string, act: string): string {
  return `api/computers/${encodeURIComponent(name)}/${act}`;
}

function Stop({ info, task, onChange }: FarComputerProps & { readonly task: Task }): JSX.Element {
  const [asks, setAsks] = useState(false);
  return (
    <>
      <button disabled={task.busy !== undefined} onClick={() => setAsks(true)}>
        End
      </button>
      {asks && (
        <Dialog
          title={`End ${info.name}?`}
          act="End it"
          danger
          onCancel={() => setAsks(false)}
          onAct={() => {
            setAsks(false);
            void task.run(`Ending ${info.name}…`, async () => {
              await post(pathOf(info.name, 'stop'));
              onChange();
              return `${info.name} has been ended.`;
            });
          }}
        >
          <p>Its operating system stops as if it were switched off. Data that it has not written yet will be lost.</p>
        </Dialog>
      )}
    </>
  );
}

/** The serial console over a WebSocket. */
class FarConsole implements Console {
  readonly #output = new ConsoleOutput();
  readonly #socket: WebSocket;

  constructor(name: string, onEnd: () => void) {
    this.#socket = openSocket(pathOf(name, 'console'), 'farbus.console');
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => this.#output.add(new Uint8Array(data));
    this.#socket.onclose = onEnd;
  }

  watch(receive: (bytes: Uint8Array) => void): () => void {
    return this.#output.watch(receive);
  }

  send(bytes: Uint8Array): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes as Uint8Array<ArrayBuffer>);
  }

  close(): void {
    this.#socket.onclose = null;
    this.#socket.close();
  }
}

function FarTerminal({ name }: { readonly name: string }): JSX.Element {
  const [attempt, setAttempt] = useState(0);
  const [over, setOver] = useState(false);
  const own = useMemo(() => new FarConsole(name, () => setOver(true)), [name, attempt]);
  useEffect(() => () => own.close(), [own]);
  return (
    <>
      <Terminal name={name} console={own} />
      {over && (
        <div class="row" role="status">
          <p>The console has ended.</p>
          <button
            onClick={() => {
              setOver(false);
              setAttempt(attempt + 1);
            }}
          >
            Open it again
          </button>
        </div>
      )}
    </>
  );
}

function FarScreen({ info }: { readonly info: ComputerInfo }): JSX.Element {
  const [picture, setPicture] = useState<string | undefined>(undefined);
  const [text, setText] = useState<readonly string[]>([]);
  const [why, setWhy] = useState('');
  const { name } = info;
  useEffect(() => {
    let over = false;
    let shown: string | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      try {
        const [blob, lines] = await Promise.all([
          getBlob(pathOf(name, 'screen')),
          get<{ readonly text: readonly string[] }>(pathOf(name, 'text')),
        ]);
        if (over) return;
        const before = shown;
        shown = URL.createObjectURL(blob);
        setPicture(shown);
        setText(lines.text);
        setWhy('');
        if (before !== undefined) setTimeout(() => URL.revokeObjectURL(before), pictureMs);
      } catch (error) {
        if (!over) setWhy(error instanceof Error ? error.message : String(error));
      }
      if (!over) timer = setTimeout(() => void look(), pictureMs);
    };
    void look();
    return () => {
      over = true;
      clearTimeout(timer);
      if (shown !== undefined) URL.revokeObjectURL(shown);
    };
  }, [name]);
  const keys = (typed: string): void => {
    post(pathOf(name, 'keys'), { text: typed }).catch((error: unknown) =>
      setWhy(error instanceof Error ? error.message : String(error)),
    );
  };
  return (
    <>
      <ScreenFrame name={name} text={text} onKeys={info.can.includes('keys') ? keys : undefined}>
        {picture !== undefined && <img src={picture} alt="" />}
      </ScreenFrame>
      {why !== '' && (
        <p class="bad-text" role="status">
          {why}
        </p>
      )}
    </>
  );
}

function Media({ info, task }: { readonly info: ComputerInfo; readonly task: Task }): JSX.Element {
  const exports = useStore(server)?.exports ?? [];
  const [drive, setDrive] = useState(0);
  const [source, setSource] = useState<string | undefined>(undefined);
  const chosen = source ?? exports[0]?.name;
  const act = (what: 'eject' | 'insert', body: object): void => {
    void task.run(what === 'eject' ? 'Ejecting the medium…' : 'Inserting the medium…', async () => {
      await post(pathOf(info.name, what), { ...(info.uses.length > 1 && { drive }), ...body });
      return what === 'eject' ? 'The medium is ejected.' : 'The medium is inserted.';
    });
  };
  const busy = task.busy !== undefined;
  return (
    <div class="row media" role="group" aria-label={`Media of ${info.name}`}>
      {info.uses.length > 1 && (
        <label class="field">
          <span>Drive</span>
          <select value={String(drive)} onChange={({ currentTarget }) => setDrive(Number(currentTarget.value))}>
            {info.uses.map((one, index) => (
              <option value={String(index)} key={one}>
                {index}
              </option>
            ))}
          </select>
        </label>
      )}
      <button disabled={busy} onClick={() => act('eject', { force: false })}>
        Eject the medium
      </button>
      {chosen !== undefined && (
        <>
          <label class="field">
            <span>Medium</span>
            <select value={chosen} onChange={({ currentTarget }) => setSource(currentTarget.value)}>
              {exports.map(({ name }) => (
                <option value={name} key={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <button disabled={busy} onClick={() => act('insert', { export: chosen })}>
            Insert
          </button>
        </>
      )}
    </div>
  );
}
