/** Parses the report with which the script on the server begins (script.ts). */
import { FarbusError } from '../../base/errors.js';
import { markOf, type DiskMarks } from '../../block/identity.js';
import type { RemoteFacts } from '../channels/channel.js';
import { printable } from '../../base/printable.js';

/** The abilities of the server's dd, and the ids of the session's processes. */
export interface ShellFacts extends RemoteFacts {
  /**
   * True if dd can skip and count in bytes when it reads; and true if it can also seek in bytes
   * when it writes.
   */
  readonly skipBytes: boolean;
  readonly seekBytes: boolean;
  /** True if dd can fill whole blocks from a pipe (`iflag=fullblock`). */
  readonly fullBlock: boolean;
  /**
   * Process id and process group of the script's shell, by which a later session finds its
   * processes.
   */
  readonly pid: string;
  readonly group: string;
  /** The PID namespace to which these ids belong. */
  readonly space: string;
  /** True for a block or character device. */
  readonly isDevice: boolean;
}

/**
 * The marks by which the device is recognised. A partition has its disk's marks, with its number
 * appended.
 */
function marksOf(value: (key: string) => string): DiskMarks {
  const part = /^\d{1,4}$/.test(value('partition')) ? `-part${value('partition')}` : '';
  const onDisk = (fact: string): string | undefined => {
    const mark = markOf(fact);
    return mark && mark + part;
  };
  const [boot, sequence] = [value('boot'), value('sequence')];
  // If the birth time is unknown, stat prints "-", "?" or 0. An inode number alone is reused soon,
  // so it is no mark.
  const born = /^\d+:[1-9]\d*([.]\d+)?$/.test(value('inode'));
  return {
    hardware: onDisk(value('hardware')),
    layer: markOf(value('layer')),
    file: born ? markOf(value('inode')) : undefined,
    sequence: boot === '' || sequence === '' ? undefined : onDisk(`${boot}:${sequence}`),
  };
}

/** Greatest accepted size: 2^53 bytes minus the largest block of a disk, in bytes. */
const maxSize = Number.MAX_SAFE_INTEGER - 65536;

/**
 * Converts the report to facts.
 * @param said lines of the report: key and value
 * @param size the size that the user states; undefined: use the server's
 * @throws FarbusError if the size is unknown
 */
export function shellFacts(address: string, said: ReadonlyMap<string, string>, size: number | undefined): ShellFacts {
  const value = (key: string): string => said.get(key) ?? '';
  const isDevice = value('type') !== 'f';
  const reported = /^\d{1,16}$/.test(value('size')) ? Number(value('size')) : undefined;
  // Some kernels report 0 if they do not know the size.
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
