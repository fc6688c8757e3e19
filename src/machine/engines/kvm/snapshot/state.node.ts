/**
 * The layout of the engine's state in a snapshot: the length of a JSON text (4 bytes, big-endian),
 * the text, the bits of the memory's pages, and the pages (memory-image.ts). Bytes in the JSON are
 * in base64.
 *
 * Every size and number is checked, because a snapshot file may be made by an enemy: the rest of
 * the engine relies on them. Values inside of the kernel's structures are checked by the kernel.
 */
import type { BootPlace } from '../../../engine.js';
import { SnapshotError } from '../../../snapshot.js';
import { Msrs, Size, irqchips } from '../abi.js';
import { registerNames, type BoardState, type FunctionState, type RegisterName } from '../board/board-state.js';
import { partNames, processorParts, type ProcessorPart, type ProcessorState } from './processor-parts.js';

/** Version of the layout. A snapshot of another version is refused by its key. */
export const stateVersion = 1;

export interface KvmState {
  /** Name of the host's processor, and the features that the guest was shown. */
  readonly host: { readonly name: string; readonly features: Uint8Array };
  /** The order of the boot devices that the firmware was given; undefined without firmware. */
  readonly order: readonly BootPlace[] | undefined;
  readonly processors: readonly ProcessorState[];
  /** Rate of the time-stamp counters, in kHz. */
  readonly counterRate: number;
  /** Time of the save, in ms since 1970. */
  readonly time: number;
  /** struct kvm_clock_data, struct kvm_irqchip for each controller, struct kvm_pit_state2. */
  readonly clock: Uint8Array;
  readonly controllers: readonly Uint8Array[];
  readonly timer: Uint8Array;
  readonly board: BoardState;
}

const maxText = 16 << 20;
const configBytes = 256;
const maxInput = 1024;

/** The text for a state, with its length before it. */
export function encodeState(state: KvmState): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(state, replaceBytes));
  const bytes = new Uint8Array(4 + text.length);
  new DataView(bytes.buffer).setUint32(0, text.length);
  bytes.set(text, 4);
  return bytes;
}

/**
 * @returns the state, and what follows it
 * @throws SnapshotError if it is damaged
 */
export function decodeState(bytes: Uint8Array): { state: KvmState; rest: Uint8Array } {
  if (bytes.length < 4) throw damaged();
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  if (length > maxText || 4 + length > bytes.length) throw damaged();
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  } catch {
    throw damaged();
  }
  return { state: readState(fields(json)), rest: bytes.subarray(4 + length) };
}

export function damaged(): SnapshotError {
  return new SnapshotError('it is damaged', 'damaged');
}

function replaceBytes(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64')
    : value;
}

type Fields = Readonly<Record<string, unknown>>;

function readState(json: Fields): KvmState {
  const host = fields(json['host']);
  if (typeof host['name'] !== 'string') throw damaged();
  return {
    host: { name: host['name'], features: bytesIn(host['features']) },
    order: json['order'] === undefined ? undefined : list(json['order']).map(readPlace),
    processors: list(json['processors']).map(readProcessor),
    counterRate: number(json['counterRate'], 2 ** 32 - 1),
    time: number(json['time'], 2 ** 53),
    clock: bytesIn(json['clock'], Size.clock),
    controllers: list(json['controllers'], irqchips.length).map((one) => bytesIn(one, Size.irqchip)),
    timer: bytesIn(json['timer'], Size.pit),
    board: readBoard(fields(json['board'])),
  };
}

function readPlace(json: unknown): BootPlace {
  const { slot, port, unit } = fields(json);
  return {
    slot: number(slot, 31),
    port: port === undefined ? undefined : number(port, 31),
    unit: unit === undefined ? undefined : number(unit, 1),
  };
}

function readProcessor(json: unknown): ProcessorState {
  const { parts: given, msrs, events } = fields(json);
  const found = fields(given);
  const parts = {} as Record<ProcessorPart, Uint8Array>;
  for (const part of partNames) parts[part] = bytesIn(found[part], processorParts[part].size);
  const registers = bytesIn(msrs);
  if (registers.length % Msrs.entry !== 0) throw damaged();
  return { parts, msrs: registers, events: bytesIn(events, Size.vcpuEvents) };
}

function readBoard(json: Fields): BoardState {
  const found = fields(json['registers']);
  const registers = {} as Record<RegisterName, number>;
  for (const name of registerNames) registers[name] = number(found[name], 2 ** 32 - 1);
  const keyboard = fields(json['keyboard']);
  if (typeof keyboard['lastWasCommand'] !== 'boolean') throw damaged();
  const input = bytesIn(json['input']);
  if (input.length > maxInput) throw damaged();
  return {
    registers,
    input,
    keyboard: {
      output: byteOrNull(keyboard['output']),
      mode: number(keyboard['mode'], 0xff),
      lastWasCommand: keyboard['lastWasCommand'],
      awaiting: byteOrNull(keyboard['awaiting']),
    },
    fwCfg: json['fwCfg'] === undefined ? undefined : readFwCfg(fields(json['fwCfg'])),
    flash: json['flash'] === undefined ? undefined : readFlash(fields(json['flash'])),
    functions: list(json['functions']).map(readFunction),
  };
}

function readFwCfg({ selector, offset, addressHigh }: Fields): BoardState['fwCfg'] {
  return {
    selector: selector === -1 ? -1 : number(selector, 0xffff),
    offset: number(offset, 2 ** 32),
    addressHigh: number(addressHigh, 2 ** 32 - 1),
  };
}

function readFlash({ content, status, readsStatus, begun }: Fields): BoardState['flash'] {
  if (typeof readsStatus !== 'boolean') throw damaged();
  return {
    content: bytesIn(content),
    status: number(status, 0xff),
    readsStatus,
    begun: begun === null ? null : number(begun, 1),
  };
}

function readFunction(json: unknown): FunctionState {
  const { slot, config, table, pending } = fields(json);
  return {
    slot: number(slot, 32),
    config: bytesIn(config, configBytes),
    table: bytesIn(table),
    pending: bytesIn(pending),
  };
}

function fields(value: unknown): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw damaged();
  return value as Fields;
}

function list(value: unknown, length?: number): readonly unknown[] {
  if (!Array.isArray(value) || (length !== undefined && value.length !== length)) throw damaged();
  return value;
}

function number(value: unknown, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > most) throw damaged();
  return value;
}

function byteOrNull(value: unknown): number | null {
  return value === null ? null : number(value, 0xff);
}

/** @param size in bytes; default: any */
function bytesIn(value: unknown, size?: number): Uint8Array {
  if (typeof value !== 'string') throw damaged();
  const bytes = Uint8Array.from(Buffer.from(value, 'base64'));
  if (size !== undefined && bytes.length !== size) throw damaged();
  return bytes;
}
