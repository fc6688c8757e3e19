/**
 * A command of a guest or of another client, as the page has observed it: which parts of its way
 * took how long ([SYS] fig. 1, docs/system.md).
 */

/** The parts of a command's way whose times are measured, in the order of the way. */
export const partNames = ['computer', 'network', 'disk', 'completion'] as const;
export type PartName = (typeof partNames)[number];

export interface Command {
  /** Unique on the page. */
  readonly key: string;
  /** "read", "write", "flush", "trim", "write zeroes", "block status" … */
  readonly kind: string;
  /** The name of the export or drive. */
  readonly disk: string;
  /** The computer that sent it: a computer in this tab, or the address of a client. */
  readonly client: string;
  /** When it began, in ms since 1970. */
  readonly began: number;
  /** In bytes; undefined for a command without a range, such as a flush. */
  readonly offset: number | undefined;
  readonly length: number;
  /** Time of the whole way, in ms. Undefined if the client's side is not visible from here. */
  readonly ms: number | undefined;
  /** Times in ms. A part that cannot be seen from here is absent. */
  readonly parts: Readonly<Partial<Record<PartName, number>>>;
  /** The error with which it failed. */
  readonly failed: string | undefined;
}

export interface Filter {
  /** Part of the disk's, the client's or the command's name. */
  readonly text: string;
  readonly kind: 'all' | 'read' | 'write' | 'other';
  /** Shows only commands that took at least this long, in ms. */
  readonly atLeastMs: number;
  readonly failedOnly: boolean;
}

/** The longest time that is known of a command, in ms. */
export function knownMs({ ms, parts }: Command): number {
  return ms ?? parts.disk ?? 0;
}

export const noFilter: Filter = { text: '', kind: 'all', atLeastMs: 0, failedOnly: false };

export function passes(command: Command, { text, kind, atLeastMs, failedOnly }: Filter): boolean {
  if (failedOnly && command.failed === undefined) return false;
  if (knownMs(command) < atLeastMs) return false;
  if (kind === 'other' && (command.kind === 'read' || command.kind === 'write')) return false;
  if ((kind === 'read' || kind === 'write') && command.kind !== kind) return false;
  const wanted = text.trim().toLowerCase();
  return [command.disk, command.client, command.kind].some((one) => one.toLowerCase().includes(wanted));
}

const columns = [
  'began',
  'command',
  'disk',
  'client',
  'offset_bytes',
  'length_bytes',
  'total_ms',
  ...partNames.map((part) => `${part}_ms`),
  'error',
];

/** The commands as CSV (RFC 4180). Times that are not known are empty. */
export function toCsv(commands: readonly Command[]): string {
  const rows = commands.map((one) => [
    new Date(one.began).toISOString(),
    one.kind,
    one.disk,
    one.client,
    one.offset ?? '',
    one.length,
    round(one.ms),
    ...partNames.map((part) => round(one.parts[part])),
    one.failed ?? '',
  ]);
  return [columns, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}

export function toJson(commands: readonly Command[]): string {
  const rows = commands.map(({ key: _, began, kind, failed, ...rest }) => ({
    began: new Date(began).toISOString(),
    command: kind,
    ...rest,
    ...(failed !== undefined && { error: failed }),
  }));
  return `${JSON.stringify(rows, undefined, 2)}\n`;
}

function round(ms: number | undefined): string {
  return ms === undefined ? '' : ms.toFixed(3);
}

/**
 * A spreadsheet executes a cell that begins like a formula. The name of an export or client comes
 * from others, so such a text gets an apostrophe before it.
 */
function cell(value: string | number): string {
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
