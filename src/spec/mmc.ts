/**
 * Data structures that a CD/DVD drive returns (MMC-5), for a disc of one session with one data
 * track.
 */
import { MmcFeature, ModePage, Profile } from './scsi.js';

/** 6.26: ADR 1 (current position), control 4 (data track). */
const dataTrack = 0x14;
const leadOut = 0xaa;

/**
 * READ TOC/PMA/ATIP, formats 0 and 1. Returns undefined for other formats and for a track that does
 * not exist.
 */
export function toc(format: number, msf: boolean, from: number, sectors: number): Uint8Array | undefined {
  if (format === 1) return Uint8Array.of(0, 10, 1, 1, 0, dataTrack, 1, 0, ...position(0, msf));
  if (format !== 0 || (from > 1 && from !== leadOut)) return undefined;
  const first = from <= 1 ? [0, dataTrack, 1, 0, ...position(0, msf)] : [];
  const last = [0, dataTrack, leadOut, 0, ...position(sectors, msf)];
  return Uint8Array.of(0, 2 + first.length + last.length, 1, 1, ...first, ...last);
}

/**
 * An address as a 32-bit LBA, or as minutes, seconds and frames (MSF): 75 frames a second, LBA 0 at
 * 2 seconds.
 */
function position(sector: number, msf: boolean): number[] {
  if (!msf) return [sector >>> 24, sector >>> 16, sector >>> 8, sector];
  const frames = sector + 150;
  return [0, Math.min(255, Math.floor(frames / 4500)), Math.floor(frames / 75) % 60, frames % 75];
}

/**
 * GET CONFIGURATION (6.5, chapter 5).
 * @param kind 0 all features, 1 the current ones, 2 only the feature `start`
 */
export function features(profile: number, kind: number, start: number): Uint8Array {
  const loaded = profile !== Profile.none;
  const dvd = profile === Profile.dvdRom;
  const cd = profile === Profile.cdRom;
  const profiles = [...profileEntry(Profile.dvdRom, dvd), ...profileEntry(Profile.cdRom, cd)];
  const all: [code: number, version: number, persistent: boolean, current: boolean, data: number[]][] = [
    [MmcFeature.profileList, 0, true, true, profiles],
    [MmcFeature.core, 2, true, true, [0, 0, 0, 2, 1, 0, 0, 0]], // ATAPI; DBE
    [MmcFeature.morphing, 1, true, true, [2, 0, 0, 0]], // operational change events
    [MmcFeature.removable, 1, true, true, [0x29, 0, 0, 0]], // tray, eject, lock
    // 2048 bytes a block, 16 blocks a transfer
    [MmcFeature.randomReadable, 0, false, loaded, [0, 0, 8, 0, 0, 16, 0, 0]],
    [MmcFeature.cdRead, 2, false, cd, [0, 0, 0, 0]],
    [MmcFeature.dvdRead, 1, false, dvd, [0, 0, 0, 0]],
    [MmcFeature.powerManagement, 0, true, true, []],
    [MmcFeature.timeout, 1, true, true, [0, 0, 0, 0]],
  ];
  const chosen = all.filter(([code, , , current]) => {
    if (kind === 2) return code === start;
    return code >= start && (kind === 0 || current);
  });
  const body = chosen.flatMap(([code, version, persistent, current, data]) => [
    code >> 8,
    code & 0xff,
    (version << 2) | (persistent ? 2 : 0) | (current ? 1 : 0),
    data.length,
    ...data,
  ]);
  return Uint8Array.of(...length32(body.length + 4), 0, 0, profile >> 8, profile, ...body);
}

/** 6.21 READ DISC INFORMATION: complete disc, not erasable, one session with one track. */
export function discInformation(): Uint8Array {
  const data = new Uint8Array(34);
  data.set([0, 32, 0x0e, 1, 1, 1, 1, 0x20, 0]);
  data.fill(0xff, 16, 24); // last session's lead-in, last possible lead-out: not applicable
  return data;
}

/** 6.27 READ TRACK INFORMATION of the only track. */
export function trackInformation(sectors: number): Uint8Array {
  const data = new Uint8Array(36);
  const view = new DataView(data.buffer);
  data.set([0, 34, 1, 1, 0, 0x04, 0x01]); // data, mode 1
  view.setUint32(24, sectors);
  view.setUint32(28, sectors > 0 ? sectors - 1 : 0);
  return data;
}

/**
 * 6.22.2.1 Physical format information of layer 0: DVD-ROM, 120 mm, one layer, data from sector
 * 30000h.
 */
export function dvdPhysical(sectors: number): Uint8Array {
  const data = new Uint8Array(2052);
  const view = new DataView(data.buffer);
  view.setUint16(0, data.length - 2);
  data.set([0x01, 0x02, 0x01, 0x00], 4);
  view.setUint32(8, 0x030000);
  view.setUint32(12, Math.min(0xffffff, 0x030000 + sectors - 1));
  return data;
}

/** 6.12 MECHANISM STATUS. */
export function mechanismStatus(open: boolean): Uint8Array {
  return Uint8Array.of(0, open ? 0x10 : 0, 0, 0, 0, 0, 0, 0);
}

/** Mode pages: error recovery, power condition, capabilities (7.3, 7.7; MMC-3 6.3.11). */
export function modePages(page: number, locked: boolean): Uint8Array {
  const capabilities = [ModePage.capabilities, 20, 0x0b, 0x00, 0x70, 0x00, 0x29 | (locked ? 2 : 0), 0x00];
  const speeds = [...speed, 0, 0, 0x02, 0x00, ...speed, 0, 0, 0, 0, 0, 0];
  const pages: [number, number[]][] = [
    [ModePage.errorRecovery, [ModePage.errorRecovery, 10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]],
    [ModePage.powerCondition, [ModePage.powerCondition, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    [ModePage.capabilities, [...capabilities, ...speeds]],
  ];
  return Uint8Array.from(pages.flatMap(([code, data]) => (page === code || page === ModePage.all ? data : [])));
}

/** 24 times the 176 kB/s of a CD, a customary value: old programs read the field. */
const speed = [0x10, 0x80];

function profileEntry(profile: number, current: boolean): number[] {
  return [profile >> 8, profile & 0xff, current ? 1 : 0, 0];
}

function length32(length: number): number[] {
  return [length >>> 24, length >>> 16, length >>> 8, length];
}
