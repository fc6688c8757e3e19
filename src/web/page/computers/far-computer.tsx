/** A computer that runs beside the server: one of `farbus run` or of a site. */
import { lazy } from '../base/lazy.js';
import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { Confirmed } from '../parts/confirmed.js';
import { Outcome } from '../parts/outcome.js';
import { useTask, type Task } from '../parts/task.js';
import type { ComputerInfo } from '../state/contract.js';
import { get, getBlob, openSocket, post } from '../state/request.js';
import { ConsoleOutput, type Console } from './console.js';
import { FarDrives } from './far-drives.js';
import { MouseSender, mouseEvents } from './mouse.js';
import { pathOf } from './path-of.js';
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
  const broken = info.state === 'crashed' || info.state === 'failed';
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
        </div>
      </div>
      {info.detail !== undefined && <p class={broken ? 'bad-text' : 'muted'}>{info.detail}</p>}
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
      <FarDrives info={info} task={task} onChange={onChange} />
      <Actions info={info} task={task} onChange={onChange} />
      <Outcome task={task} over={broken} />
    </section>
  );
}

/** Buttons for the computer as a whole. */
function Actions({ info, task, onChange }: FarComputerProps & { readonly task: Task }): JSX.Element {
  const { name, can, state } = info;
  const busy = task.busy !== undefined;
  const paused = state === 'paused';
  const act = (what: string, doing: string, done: string): void => {
    void task.run(doing, async () => {
      const answer = await post<{ readonly done?: string }>(pathOf(name, what));
      onChange();
      return answer.done === undefined ? done : `${done}: ${answer.done}`;
    });
  };
  return (
    <>
      <div class="row" role="group" aria-label={`Actions for ${name}`}>
        {can.includes('start') && (
          <button class="primary" disabled={busy} onClick={() => act('start', `Starting ${name}…`, `${name} starts.`)}>
            Start
          </button>
        )}
        {can.includes('pause') && !paused && (
          <button disabled={busy} onClick={() => act('pause', `Pausing ${name}…`, `${name} is paused.`)}>
            Pause
          </button>
        )}
        {can.includes('pause') && paused && (
          <button class="primary" disabled={busy} onClick={() => act('resume', `${name} goes on…`, `${name} goes on.`)}>
            Continue
          </button>
        )}
        {can.includes('snapshot') && (
          <Confirmed
            act="Save a snapshot"
            title={`Save a snapshot of ${name}?`}
            text="It is saved on the server's computer, in place of an earlier one. It can be continued only while its disks are as they are now: so pause the computer first, and end it afterwards."
            busy={busy}
            onAct={() => act('snapshot', 'Saving a snapshot…', 'The snapshot is')}
          />
        )}
        {can.includes('reset') && (
          <Confirmed
            act="Reset"
            title={`Reset ${name}?`}
            text="The computer starts anew. Data that its system has not written yet will be lost."
            busy={busy}
            onAct={() => act('reset', 'Starting anew…', `${name} starts anew.`)}
          />
        )}
        {can.includes('stop') && (
          <Confirmed
            act="End"
            title={`End ${name}?`}
            text="Its operating system stops as if it were switched off. Data that it has not written yet will be lost."
            busy={busy}
            onAct={() => act('stop', `Ending ${name}…`, `${name} has been ended.`)}
          />
        )}
      </div>
      {info.site === undefined && (
        <p class="muted small">It ends with its command. To start it anew, end it and run farbus run again.</p>
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
  const mouse = useMemo(() => mouseEvents(new MouseSender((move) => post(pathOf(name, 'mouse'), move))), [name]);
  const takesMouse = info.can.includes('mouse');
  const onKeys = info.can.includes('keys') ? keys : undefined;
  return (
    <>
      <ScreenFrame name={name} text={text} onKeys={onKeys} takesMouse={takesMouse}>
        {picture !== undefined && <img src={picture} alt="" {...(takesMouse && { class: 'takes-mouse', ...mouse })} />}
      </ScreenFrame>
      {why !== '' && (
        <p class="bad-text" role="status">
          {why}
        </p>
      )}
    </>
  );
}
