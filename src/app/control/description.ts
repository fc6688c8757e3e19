/**
 * The description of a running process, which it gives to `farbus ps`, and asking for it. A process
 * that hangs gets a fixed time. The answer is checked: a false one may come from any program.
 */
import { FarbusError } from '../../base/errors.js';
import { askControl } from './client.js';
import type { ProcessKind, Registered } from './kinds.js';
import { readWays, type SourceWay } from './ways.js';

/** A computer of a site. */
export interface ComputerDescription {
  readonly name: string;
  readonly state: string;
  /** Why it is in this state, for people; absent if there is nothing to say. */
  readonly detail?: string;
  /** Its engine: `kvm`, `v86`, or `v86: ` and why it is not KVM. */
  readonly engine?: string | undefined;
  readonly uses: readonly string[];
  readonly reach: readonly string[];
}

export interface Description {
  readonly kind: ProcessKind;
  readonly name: string;
  readonly pid: number;
  /** When the process started, in ISO 8601. */
  readonly since: string;
  /** `starting` or `running`; a detached process that waits for its guest: `booting`. */
  readonly state: string;
  /** The engine of a computer of `farbus run`, as a {@link ComputerDescription} has it. */
  readonly engine?: string;
  /** The sources of its drives or exports. */
  readonly uses: readonly string[];
  /** URIs at which it is reached, or commands that reach it; the most useful first. */
  readonly reach: readonly string[];
  /** Sources of `uses` that have a gateway in use, or whose servers are lost; absent for none. */
  readonly ways?: readonly SourceWay[];
  /** The computers of a site. */
  readonly computers?: readonly ComputerDescription[];
}

/** Time for the answer as a whole, in ms. A process needs not wait for anything to give it. */
export const describeMs = 2000;

/**
 * Asks a process to describe itself. Rejects with a FarbusError, of the kind `no-answer` if it does
 * not answer in time.
 */
export async function describe({ kind, name, pid, path }: Registered): Promise<Description> {
  const answer = await askControl(path, { command: 'describe' }, { limitMs: describeMs, absolute: true });
  const { since, state, engine, uses, reach, ways, computers } = fieldsOf(answer);
  if (typeof since !== 'string' || typeof state !== 'string' || Number.isNaN(Date.parse(since))) {
    throw new FarbusError(`the process that listens at ${path} does not describe itself`);
  }
  const parts = Array.isArray(computers) ? { computers: computers.map(computerOf) } : {};
  const found = readWays(ways);
  const known = found.length > 0 ? { ways: found } : {};
  // The socket's own name says which one it is, whatever the process answers.
  return {
    kind,
    name,
    pid,
    since,
    state,
    ...(typeof engine === 'string' && { engine }),
    uses: textsOf(uses),
    reach: textsOf(reach),
    ...known,
    ...parts,
  };
}

function computerOf(value: unknown): ComputerDescription {
  const { name, state, detail, engine, uses, reach } = fieldsOf(value);
  return {
    name: String(name),
    state: String(state),
    ...(typeof detail === 'string' && detail !== '' && { detail }),
    ...(typeof engine === 'string' && { engine }),
    uses: textsOf(uses),
    reach: textsOf(reach),
  };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}
