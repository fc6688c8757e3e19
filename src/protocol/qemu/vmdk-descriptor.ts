/**
 * Parses the text descriptor of a VMDK for the extents and the parent that it names (VMware,
 * Virtual Disk Format 5.0).
 *
 * QEMU parses this text again and opens the files that it finds. So only a strict form is
 * accepted, in which every parser finds the same names: each line is a comment, a key with a
 * value, or an extent with all its fields.
 */
import { FarbusError } from '../../base/errors.js';

/** A file with a part of the disk. */
export interface VmdkExtent {
  readonly name: string;
  /**
   * True if the file has its own header, which must be checked; else it holds raw bytes of the
   * disk.
   */
  readonly header: boolean;
}

export interface VmdkDescriptor {
  readonly extents: readonly VmdkExtent[];
  /** Path of the parent image, if this one is a difference to it. */
  readonly parent: string | undefined;
}

/** Maximum length of a line; enough for a path and its context. */
const maxLine = 8192;
const comment = /^#[\x20-\x7e\x80-\xff\t]*$/;
const assignment = /^([A-Za-z][\w.]*)[ \t]*=[ \t]*(?:"([^"]*)"|([\w.-]*))[ \t]*$/;
const extent =
  /^(?:RW|RDONLY|NOACCESS) \d{1,15} (FLAT|VMFS|SPARSE|VMFSSPARSE|SESPARSE|ZERO)(?: "([^"]+)"(?: \d{1,15})?)?[ \t]*$/;
const withoutHeader = ['FLAT', 'VMFS', 'SESPARSE'];

/**
 * Characters that may follow the text and a NUL. QEMU writes a new content ID, of one to eight
 * digits, over the old text, so that the end of a longer one remains. No extent is as short.
 */
const mostRemains = 7;

/**
 * Parses the descriptor of the image `name`: Latin-1 text, possibly padded with NULs.
 * @throws FarbusError if it is not in the strict form
 */
export function parseVmdkDescriptor(text: string, name: string): VmdkDescriptor {
  const extents: VmdkExtent[] = [];
  let parent: string | undefined;
  let parentId = 'ffffffff';
  let end = text.length;
  while (end > 0 && text[end - 1] === '\0') end--;
  const nul = text.indexOf('\0');
  if (nul !== -1 && end - nul - 1 <= mostRemains) end = Math.min(end, nul);
  for (const line of text.slice(0, end).split(/\r?\n/)) {
    if (line.length > maxLine) throw unreadable(name, line);
    if (/[\0-\x08\x0b-\x1f\x7f]/.test(line)) throw unreadable(name, line);
    if (line.trim() === '' || comment.test(line)) continue;
    const [, kind, file] = extent.exec(line) ?? [];
    if (kind !== undefined && (file === undefined) === (kind === 'ZERO')) {
      if (file !== undefined) extents.push({ name: file, header: !withoutHeader.includes(kind) });
      continue;
    }
    const [, key = '', quoted, bare] = assignment.exec(line) ?? [];
    const value = quoted ?? bare;
    if (value === undefined || key.length > 100) throw unreadable(name, line);
    if (key.toLowerCase() === 'parentfilenamehint') parent = value;
    if (key.toLowerCase() === 'parentcid') parentId = value.toLowerCase();
  }
  if (parentId !== 'ffffffff' && !parent) throw new FarbusError(`${name}: its descriptor has a parent without a name`);
  return { extents, parent: parentId === 'ffffffff' ? undefined : parent };
}

function unreadable(name: string, line: string): FarbusError {
  const shown = line.slice(0, 60).replace(/[^\x20-\x7e]/g, '?');
  return new FarbusError(
    `${name}: its descriptor has a line that is not understood, ${JSON.stringify(shown)}: make another image of it with qemu-img convert`,
  );
}
