/** The section "The flow": the way of a command from a driver to a far disk, and a list. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatMs } from '../../../base/format.js';
import { useMedia } from '../base/media.js';
import { watchTabFlow } from '../state/tab-computers.js';
import { knownMs, partNames, type Command } from './command.js';
import { CommandsTable } from './commands-table.js';
import { Picture } from './picture.js';
import { usePlayer } from './player.js';
import { Times } from './times.js';
import { legs, tall, wide, type LegName } from './way.js';

export default function Flow(): JSX.Element {
  const [held, hold] = useState<Command | undefined>(undefined);
  useEffect(watchTabFlow, []);
  const way = useRef<HTMLElement>(null);
  const show = (command: Command | undefined): void => {
    hold(command);
    if (command !== undefined) way.current?.scrollIntoView({ block: 'nearest' });
  };
  return (
    <div class="section">
      <header>
        <h1>The flow</h1>
        <p class="lead">
          A disk of the server computer is used by the client computer as if it were plugged in there. Neither operating
          system is changed: Farbus works beneath them.
        </p>
      </header>
      <section class="panel" aria-labelledby="way" ref={way}>
        <Way held={held} onFollow={() => hold(undefined)} />
      </section>
      <CommandsTable held={held?.key} onHold={show} />
    </div>
  );
}

interface WayProps {
  /** The command that the user holds. */
  readonly held: Command | undefined;
  readonly onFollow: () => void;
}

/** The picture of the way, and its times. It changes often, so it is drawn without the table. */
function Way({ held, onFollow }: WayProps): JSX.Element {
  const narrow = useMedia('(max-width: 760px)');
  const { command, lit } = usePlayer(held);
  return (
    <>
      <div class="panel-head">
        <h2 id="way">The way of a command</h2>
        {command && <Shown command={command} held={held !== undefined} onFollow={onFollow} />}
      </div>
      <Picture layout={narrow ? tall : wide} command={command} lit={lit} />
      {command && partNames.filter((name) => command.parts[name] !== undefined).length > 1 && (
        <Times command={command} />
      )}
      {command && command.parts.computer === undefined && (
        <p class="muted small">
          Only the time of the disk is known: the client’s side is seen of computers in this tab, while this section is
          shown.
        </p>
      )}
      {command?.parts.network !== undefined && command.parts.disk === undefined && (
        <p class="muted small">
          The server did not report this command: it reports some only, and an overlay, a cache or read-ahead in this
          browser can answer it without the server.
        </p>
      )}
      <Story kind={kindOf(command)} lit={lit} />
    </>
  );
}

interface ShownProps {
  readonly command: Command;
  readonly held: boolean;
  readonly onFollow: () => void;
}

function Shown({ command, held, onFollow }: ShownProps): JSX.Element {
  return (
    <div class="row">
      <span class="tag way">
        {command.kind} on {command.disk}, {formatMs(knownMs(command))}
      </span>
      {held ? <button onClick={onFollow}>Follow the newest</button> : <span class="muted small">slowed down</span>}
    </div>
  );
}

type Kind = 'read' | 'write' | 'other';

function kindOf(command: Command | undefined): Kind {
  if (command === undefined) return 'read';
  return command.kind === 'read' || command.kind === 'write' ? command.kind : 'other';
}

/** The legs in words. */
function Story({ kind, lit }: { readonly kind: Kind; readonly lit: LegName | undefined }): JSX.Element {
  return (
    <ol class="story">
      {legs.map((leg) => (
        <li class={leg.name === lit ? 'lit' : undefined} key={leg.name}>
          {leg.says[kind]} <span class="muted small number">{stepsText(kind === 'read' ? leg.read : leg.write)}</span>
        </li>
      ))}
    </ol>
  );
}

function stepsText(steps: string): string {
  return steps === 'end' ? '' : `(${steps})`;
}
