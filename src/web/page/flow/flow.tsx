/** The section "The flow": the way of a command from a driver to a far disk, and a list. */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatMs } from '../../../base/format.js';
import { useStoreAtMost } from '../base/store.js';
import { useMedia } from '../base/media.js';
import { commandLog } from '../state/commands.js';
import { watchTabFlow } from '../state/tab-computers.js';
import { knownMs, noFilter, partNames, type Command } from './command.js';
import { CommandsTable } from './commands-table.js';
import { Picture } from './picture.js';
import { usePlayer } from './player.js';
import { Times } from './times.js';
import { legs, tall, wide, type LegName } from './way.js';

/** The list is drawn at most once in this time, in ms. Drawing takes time from the guest. */
const drawMs = 500;

export function Flow(): JSX.Element {
  const [filter, setFilter] = useState(noFilter);
  const [heldKey, hold] = useState<string | undefined>(undefined);
  const commands = useStoreAtMost(commandLog, drawMs);
  useEffect(watchTabFlow, []);
  const picture = useRef<HTMLElement>(null);
  const show = (key: string | undefined): void => {
    hold(key);
    if (key !== undefined) picture.current?.scrollIntoView({ block: 'nearest' });
  };
  const narrow = useMedia('(max-width: 760px)');
  const held = commands.find(({ key }) => key === heldKey);
  const { command: played, lit } = usePlayer(held ?? commands[0]);
  // The server’s times of a command may have come since.
  const command = commands.find(({ key }) => key === played?.key) ?? played;
  return (
    <div class="section">
      <header>
        <h1>The flow</h1>
        <p class="lead">
          A disk of the server computer is used by the client computer as if it were plugged in there. Neither operating
          system is changed: Farbus works beneath them.
        </p>
      </header>
      <section class="panel" aria-labelledby="way" ref={picture}>
        <div class="panel-head">
          <h2 id="way">The way of a command</h2>
          {command && <Shown command={command} held={held !== undefined} onFollow={() => hold(undefined)} />}
        </div>
        <Picture layout={narrow ? tall : wide} command={command} lit={lit} />
        {command && partNames.filter((name) => command.parts[name] !== undefined).length > 1 && (
          <Times command={command} />
        )}
        {command && command.parts.computer === undefined && (
          <p class="muted small">
            This command came from a client whose inside is not visible from here, so only the time of the disk is
            known.
          </p>
        )}
        <Story kind={kindOf(command)} lit={lit} />
      </section>
      <CommandsTable commands={commands} filter={filter} onFilter={setFilter} held={held?.key} onHold={show} />
    </div>
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
