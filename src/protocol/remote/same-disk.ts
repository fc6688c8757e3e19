/**
 * Decides after a reconnection whether it leads to the same disk: by the marks that the server
 * reports (block/identity.ts), and if these do not decide, by the content (block/witness.ts).
 *
 * Not here: how a protocol reads blocks over a connection that is not in use yet.
 */
import { compareIdentity, type DiskMarks } from '../../block/identity.js';
import type { ContentWitness, WitnessRead } from '../../block/witness.js';

/** True if the marks prove that it is the same disk, so that its content need not be compared. */
export function provenSame(size: number, before: DiskMarks, now: DiskMarks): boolean {
  return compareIdentity({ size, marks: before }, { size, marks: now }).verdict === 'same';
}

/**
 * Compares the content with what was read and written before.
 * @param witness undefined if it has seen nothing
 * @param handle how the disk is named: the thing that another disk may have taken over
 * @returns the reason why the disk is not accepted as the same one; undefined if it is
 * @throws BlockError if a block cannot be read because the connection fails
 */
export async function otherContent(
  witness: ContentWitness | undefined,
  read: WitnessRead,
  handle: 'name' | 'address' = 'name',
): Promise<string | undefined> {
  const verdict = await witness?.check(read);
  if (verdict === 'same') return undefined;
  if (verdict === 'other') return `another disk has its ${handle}: its content differs`;
  return 'no mark shows whether it is the same disk: open it again, or add ,assume-same to the source';
}
