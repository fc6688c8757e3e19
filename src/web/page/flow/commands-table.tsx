/** The table of the last commands: filter, choice of one for the picture, export. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { formatBytes, formatMs } from '../../../base/format.js';
import { download } from '../base/download.js';
import { useStoreAtMost } from '../base/store.js';
import { commandLog } from '../state/commands.js';
import { noFilter, passes, toCsv, toJson, type Command, type Filter } from './command.js';

interface TableProps {
  readonly held: string | undefined;
  readonly onHold: (command: Command | undefined) => void;
}

/** Busy: many commands have come since the table was drawn last. */
type Pace = 'quiet' | 'busy';

/**
 * The table is drawn at most once in this time, in ms. While many commands come, it is drawn less
 * often: drawing takes time from the guest, and a row can be read only while it stands.
 */
const drawMs: Readonly<Record<Pace, number>> = { quiet: 1000, busy: 3000 };
/** Rows that are drawn; the export has all that pass the filter. */
const mostRows: Readonly<Record<Pace, number>> = { quiet: 100, busy: 15 };
/** Commands that are many, if they have come since the last drawing. */
const many = 50;
/** The load has ended if no command has come for this time, in ms. */
const quietMs = 4000;

const limits = [0, 0.1, 1, 10, 100, 1000];

interface FilterProps {
  readonly filter: Filter;
  readonly onFilter: (filter: Filter) => void;
}

function FilterBar({ filter, onFilter }: FilterProps): JSX.Element {
  return (
    <div class="filter" role="group" aria-label="Which commands to show">
      <label class="field">
        <span>Disk, client or command</span>
        <input
          type="search"
          value={filter.text}
          onInput={({ currentTarget }) => onFilter({ ...filter, text: currentTarget.value })}
        />
      </label>
      <label class="field">
        <span>Command</span>
        <select
          value={filter.kind}
          onChange={({ currentTarget }) => onFilter({ ...filter, kind: currentTarget.value as Filter['kind'] })}
        >
          <option value="all">all</option>
          <option value="read">read</option>
          <option value="write">write</option>
          <option value="other">flush, trim and others</option>
        </select>
      </label>
      <label class="field">
        <span>Took at least</span>
        <select
          value={String(filter.atLeastMs)}
          onChange={({ currentTarget }) => onFilter({ ...filter, atLeastMs: Number(currentTarget.value) })}
        >
          {limits.map((ms) => (
            <option value={String(ms)} key={ms}>
              {ms === 0 ? 'any time' : ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`}
            </option>
          ))}
        </select>
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={filter.failedOnly}
          onChange={({ currentTarget }) => onFilter({ ...filter, failedOnly: currentTarget.checked })}
        />
        only failed ones
      </label>
    </div>
  );
}

/** The commands as the table shows them, and the pace at which it is drawn. */
function usePacedCommands(): readonly [readonly Command[], Pace] {
  const [pace, setPace] = useState<Pace>('quiet');
  const commands = useStoreAtMost(commandLog, drawMs[pace]);
  const drawn = useRef({ newest: commands[0]?.key, at: 0 });
  useEffect(() => {
    const { newest, at } = drawn.current;
    const now = performance.now();
    // Two drawings that follow each other at once say nothing about the pace.
    if (now - at >= drawMs.quiet / 2) {
      drawn.current = { newest: commands[0]?.key, at: now };
      setPace(commands.length > many && !commands.slice(0, many).some(({ key }) => key === newest) ? 'busy' : 'quiet');
    }
    const timer = setTimeout(() => setPace('quiet'), quietMs);
    return () => clearTimeout(timer);
  }, [commands]);
  return [commands, pace];
}

export function CommandsTable({ held, onHold }: TableProps): JSX.Element {
  const [filter, setFilter] = useState(noFilter);
  const [commands, pace] = usePacedCommands();
  const most = mostRows[pace];
  const shown = commands.filter((one) => passes(one, filter));
  // Only commands of computers in this tab have it.
  const whole = shown.some(({ ms }) => ms !== undefined);
  const save = (kind: 'csv' | 'json'): void => {
    const text = kind === 'csv' ? toCsv(shown) : toJson(shown);
    download(`farbus-commands.${kind}`, kind === 'csv' ? 'text/csv' : 'application/json', text);
  };
  return (
    <section class="panel" aria-labelledby="last-commands">
      <div class="panel-head">
        <h2 id="last-commands">Last commands</h2>
        <div class="row">
          {/* A screen reader tells what a filter finds. It does not count commands that come. */}
          <span class="muted small number" role={filter === noFilter ? undefined : 'status'}>
            {shown.length === commands.length ? '' : `${shown.length} of `}
            {commands.length === 1 ? '1 command' : `${commands.length} commands`}
          </span>
          <button onClick={() => save('csv')} disabled={shown.length === 0}>
            Save as CSV
          </button>
          <button onClick={() => save('json')} disabled={shown.length === 0}>
            Save as JSON
          </button>
        </div>
      </div>
      <FilterBar filter={filter} onFilter={setFilter} />
      {shown.length === 0 ? (
        <p class="muted">
          {commands.length === 0 ? 'There has been no command yet.' : 'No command passes the filter.'}
        </p>
      ) : (
        <div class="scroll tall" tabIndex={0} role="region" aria-labelledby="last-commands">
          <table class="commands">
            <thead>
              <tr>
                <th scope="col">Time</th>
                <th scope="col">Command</th>
                <th scope="col" class="extra">
                  Disk
                </th>
                <th scope="col" class="extra">
                  Client
                </th>
                <th scope="col" class="number extra">
                  From byte
                </th>
                <th scope="col" class="number extra">
                  Length
                </th>
                <th scope="col" class="number">
                  Real disk
                </th>
                {whole && (
                  <th scope="col" class="number extra">
                    Whole way
                  </th>
                )}
                <th scope="col">
                  <span class="hidden-text">Picture</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.slice(0, most).map((one) => (
                <Row one={one} whole={whole} held={one.key === held} onHold={onHold} key={one.key} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {shown.length > most && (
        <p class="muted small">
          The newest {most} are shown; a saved file has all {shown.length}.
        </p>
      )}
    </section>
  );
}

interface RowProps {
  readonly one: Command;
  readonly whole: boolean;
  readonly held: boolean;
  readonly onHold: (command: Command | undefined) => void;
}

/** A row. It is made once for each command, because making it takes time from the guest. */
function Row(props: RowProps): JSX.Element {
  const { one, whole, held } = props;
  return useMemo(() => rowOf(props), [one, whole, held]);
}

const numbers = new Intl.NumberFormat('en');

function rowOf({ one, whole, held, onHold }: RowProps): JSX.Element {
  return (
    <tr class={held ? 'held' : undefined}>
      <td class="clock">
        {timeOf(one.began)}
        <span class="extra">.{String(Math.floor(one.began) % 1000).padStart(3, '0')}</span>
      </td>
      <td>
        {one.kind}
        {one.failed !== undefined && (
          <>
            {' '}
            <span class="tag bad">
              failed<span class="extra">: {one.failed}</span>
            </span>
          </>
        )}
      </td>
      <td class="extra">{one.disk}</td>
      <td class="extra">{one.client}</td>
      <td class="number extra">{one.offset === undefined ? '' : numbers.format(one.offset)}</td>
      <td class="number extra">{one.length === 0 ? '' : formatBytes(one.length)}</td>
      <td class="number">{one.parts.disk === undefined ? '' : formatMs(one.parts.disk)}</td>
      {whole && <td class="number extra">{one.ms === undefined ? '' : formatMs(one.ms)}</td>}
      <td>
        <button
          class="quiet"
          aria-pressed={held}
          aria-label={`Show the ${one.kind} of ${timeOf(one.began)} in the picture`}
          onClick={() => onHold(held ? undefined : one)}
        >
          {held ? 'Held' : 'Show'}
        </button>
      </td>
    </tr>
  );
}

function timeOf(ms: number): string {
  const at = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}
