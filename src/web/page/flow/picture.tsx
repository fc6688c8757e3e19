/** The picture of the system ([SYS] fig. 1), in which the way of a command lights up. */
import type { JSX } from 'preact';
import { formatMs } from '../../../base/format.js';
import type { Command } from './command.js';
import { legs, type Box, type Layout, type LegName } from './way.js';

interface PictureProps {
  readonly layout: Layout;
  readonly command: Command | undefined;
  /** The leg that is lit now; undefined: the whole way, at rest. */
  readonly lit: LegName | undefined;
}

/** Legs of the client's side, which only a computer in this tab reports. */
const clientLegs: readonly LegName[] = ['call', 'trap', 'issue', 'done'];

/** Radius of the top of a disk, as a part of its height. */
const rim = 0.13;

function DiskBox({ x, y, width, height }: Box): JSX.Element {
  const r = height * rim;
  const arc = `a${width / 2} ${r} 0 0 0`;
  return (
    <>
      <path
        class="body"
        d={`M${x} ${y + r} v${height - 2 * r} ${arc} ${width} 0 v${-(height - 2 * r)} ${arc} ${-width} 0 z`}
      />
      <path class="edge" d={`M${x} ${y + r} ${arc} ${width} 0`} />
    </>
  );
}

function BoxShape({ box, lit }: { readonly box: Box; readonly lit: boolean }): JSX.Element {
  const { kind, x, y, width, height, title, notes = [], titleBelow } = box;
  const inner = kind === 'part' || kind === 'logical' || kind === 'disk';
  const middle = x + width / 2;
  const textX = inner ? middle : x + 14;
  const lines = 1 + notes.length;
  const first = inner
    ? y + height / 2 - (lines - 1) * 9 + 5 + (kind === 'disk' ? 8 : 0)
    : titleBelow
      ? y + height - 14 - (lines - 1) * 18
      : y + 24;
  return (
    <g class={`box ${kind}${lit ? ' lit' : ''}`}>
      {kind === 'disk' ? (
        <DiskBox {...box} />
      ) : (
        <rect class="body" x={x} y={y} width={width} height={height} rx={inner ? 6 : 9} />
      )}
      <text class="title" x={textX} y={first} text-anchor={inner ? 'middle' : 'start'}>
        {title}
      </text>
      {notes.map((note, index) => (
        <text class="note" x={textX} y={first + (index + 1) * 18} text-anchor={inner ? 'middle' : 'start'} key={note}>
          {note}
        </text>
      ))}
    </g>
  );
}

export function Picture({ layout, command, lit }: PictureProps): JSX.Element {
  const leg = legs.find(({ name }) => name === lit);
  const known = (name: LegName): boolean => command?.parts.computer !== undefined || !clientLegs.includes(name);
  const state = (name: LegName): string => {
    if (name === lit) return ' lit';
    return command !== undefined && lit === undefined && known(name) ? ' passed' : '';
  };
  return (
    <svg
      class="picture"
      viewBox={`0 0 ${layout.width} ${layout.height}`}
      role="img"
      aria-label="The way of a command: from the driver of the client’s operating system through the hypervisor and the network to the disk of the server, and back"
    >
      <defs>
        {(['', 'lit'] as const).map((kind) => (
          <marker
            id={`tip${kind}`}
            key={kind}
            viewBox="0 0 10 10"
            refX="6"
            refY="5"
            markerWidth="11"
            markerHeight="11"
            markerUnits="userSpaceOnUse"
            orient="auto"
          >
            <path class={`tip ${kind}`} d="M0 0.5 L9 5 L0 9.5 z" />
          </marker>
        ))}
      </defs>
      {layout.boxes.map((box) => (
        <BoxShape box={box} lit={leg?.box === box.name} key={box.name} />
      ))}
      {legs.map(({ name }) => {
        const lines = layout.lines[name] ?? [];
        const now = state(name);
        return (
          <g class={`leg${now}`} key={name}>
            {lines.map((line) => (
              <path class="line" d={line} marker-end={now === '' ? 'url(#tip)' : 'url(#tiplit)'} key={line} />
            ))}
          </g>
        );
      })}
      <text class="title" x={layout.network.x} y={layout.network.y} text-anchor={layout.network.anchor}>
        Network
      </text>
      {Object.entries(layout.times).map(([part, { x, y, anchor }]) => {
        const ms = command?.parts[part as keyof typeof layout.times];
        if (ms === undefined) return null;
        return (
          <text class={`time${leg?.part === part ? ' lit' : ''}`} x={x} y={y} text-anchor={anchor} key={part}>
            {formatMs(ms)}
          </text>
        );
      })}
    </svg>
  );
}
