/** What the script on the server reports when it begins (script.ts), as facts. */
import { FarbusError } from '../../base/errors.js';
import { markOf, type DiskMarks } from '../../block/identity.js';
import type { RemoteFacts } from '../ssh/channel.js';
import { printable } from '../../base/printable.js';

/** How dd is to be spoken to, and what the session left in the process list. */
export interface ShellFacts extends RemoteFacts {
  /** dd skips and counts in bytes when it reads; and seeks in bytes too when it writes. */
  readonly skipBytes: boolean;
  readonly seekBytes: boolean;
  /** dd fills its blocks from a pipe. */
  readonly fullBlock: boolean;
  /** Process id and process group of the loop, for a later session to find. */
  readonly pid: string;
  readonly group: string;
  /** The process namespace in which those count. */
  readonly space: string;
  /** It is a block or character device. */
  readonly isDevice: boolean;
}

/** By what the device is recognised. A partition has its disk's marks and its own number. */
function marksOf(value: (key: string) => string): DiskMarks {
  const part = /^\d{1,4}$/.test(value('partition')) ? `-part${value('partition')}` : '';
  const onDisk = (fact: string): string | undefined => {
    const mark = markOf(fact);
    return mark && mark + part;
  };
  const [boot, sequence] = [value('boot'), value('sequence')];
  // Where the time of birth is not known, stat says "-", "?" or 0; an inode number alone is soon used again.
  const born = /^\d+:[1-9]\d*([.]\d+)?$/.test(value('inode'));
  return {
    hardware: onDisk(value('hardware')),
    layer: markOf(value('layer')),
    file: born ? markOf(value('inode')) : undefined,
    sequence: boot === '' || sequence === '' ? undefined : onDisk(`${boot}:${sequence}`),
  };
}

/** Longest device that is believed: 2^53 bytes less what a disk's block may have. */
const maxSize = Number.MAX_SAFE_INTEGER - 65536;

/**
 * @param said The report's lines: key and value.
 * @param size What the user says; undefined: what the server says.
 * @throws FarbusError where the size cannot be learnt.
 */
export function shellFacts(address: string, said: ReadonlyMap<string, string>, size: number | undefined): ShellFacts {
  const value = (key: string): string => said.get(key) ?? '';
  const isDevice = value('type') !== 'f';
  const reported = /^\d{1,16}$/.test(value('size')) ? Number(value('size')) : undefined;
  // Some kernels say 0 where they do not know.
  const known = reported === 0 && isDevice ? undefined : reported;
  const length = size ?? known;
  if (length === undefined) {
    throw new FarbusError(`cannot open ${address}: the server cannot tell how long the device is: add ?size=BYTES`);
  }
  if (known !== undefined && length > known) {
    throw new FarbusError(`cannot open ${address}: it has ${known} bytes, and size= says ${length}`);
  }
  if (!(length <= maxSize)) throw new FarbusError(`cannot open ${address}: ${length} bytes are too many`);
  const sector = Number(value('sector') || '512');
  if (isDevice && !(sector >= 512 && sector <= 65536 && (sector & (sector - 1)) === 0)) {
    throw new FarbusError(`cannot open ${address}: blocks of ${value('sector').slice(0, 20)} bytes are not understood`);
  }
  return {
    machine: value('machine'),
    boot: value('boot'),
    space: value('space'),
    marks: marksOf(value),
    size: length,
    sector: isDevice ? sector : undefined,
    readOnly: value('writable') !== '1',
    flush: value('flush') === 'fsync' || value('flush') === 'sync',
    skipBytes: value('skipbytes') === '1',
    seekBytes: value('skipbytes') === '1' && value('seekbytes') === '1',
    fullBlock: value('fullblock') === '1',
    used: printable(value('used')),
    pid: /^\d{1,10}$/.test(value('pid')) ? value('pid') : '0',
    group: /^\d{1,10}$/.test(value('group')) ? value('group') : '-',
    isDevice,
  };
}
