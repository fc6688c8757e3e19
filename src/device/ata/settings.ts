/**
 * The limits of our ATA disks, their settings after power-on, and how they answer SET FEATURES
 * (ATA8-ACS 7.47) where disks and packet drives agree.
 */
import { SetFeature } from '../../spec/ata.js';
import type { AtaSettings, DiskLimits } from '../../spec/ata-identify.js';

export const diskLimits: DiskLimits = { multiple: 16, queueDepth: 32, trimBlocks: 8 };

export const defaultSettings: Readonly<AtaSettings> = {
  writeCache: true,
  lookAhead: true,
  smart: true,
  senseReporting: false,
  multiple: 0,
  udma: 6,
};

/** SET FEATURES subcommands that are accepted without effect, because old systems send them. */
export const acceptedFeatures: ReadonlySet<number> = new Set([
  SetFeature.disableRevert,
  SetFeature.enableRevert,
  SetFeature.disableApm,
]);
