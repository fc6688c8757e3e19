/**
 * IDENTIFY DEVICE data of v86's drives (ATA8-ACS 7.16), with the facts about a remote disk that v86
 * does not know.
 */
import { lba28Limit } from '../../../spec/ata.js';
import { Feature82, Feature84, IdentifyPage, IdentifyWord, putNames, wordValid } from '../../../spec/ata-identify.js';
import type { IdeDisk } from '../../ide-disk.js';

/** Completes v86's page in place. */
export function addIdentity(data: Uint8Array, facts: { sectors: number; disk: IdeDisk; cacheOn: boolean }): void {
  const { identity, writeCache } = facts.disk;
  const page = new IdentifyPage(data);
  putNames(page, identity);
  page.set(IdentifyWord.capabilities, 0x0300); // LBA, DMA
  page.setLong(IdentifyWord.lba28, Math.min(facts.sectors, lba28Limit), 2);
  page.set(IdentifyWord.majorVersion, 0x00f0); // ATA/ATAPI-4 to 7
  page.add(IdentifyWord.supported, writeCache ? Feature82.writeCache : 0);
  page.add(IdentifyWord.enabled, facts.cacheOn ? Feature82.writeCache : 0);
  page.add(IdentifyWord.supported3, wordValid | Feature84.worldWideName);
  page.add(IdentifyWord.enabled3, wordValid | Feature84.worldWideName);
  page.setName(identity.worldWideName);
}
