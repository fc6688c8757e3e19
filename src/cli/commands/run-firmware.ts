/** The options of `farbus run` for computers that boot from their drives: --bios and --uefi. */
import { FarbusError, usageError } from '../../base/errors.js';
import { variablesBeside } from '../../app/computer/uefi-variables.js';
import type { Source } from '../../app/source-text.js';

/** The values of the options that matter here. */
export interface FirmwareValues {
  readonly bios: boolean;
  readonly uefi: boolean;
  readonly 'uefi-vars': string | undefined;
  readonly drive: readonly string[];
  readonly debian: string | undefined;
  readonly with: readonly string[];
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly append: string | undefined;
  readonly exec: string | undefined;
  readonly snapshot: string | undefined;
}

export function firmwareOption({ bios, uefi }: FirmwareValues): string | undefined {
  return bios ? '--bios' : uefi ? '--uefi' : undefined;
}

/** The file for UEFI's variables: the user's, or one beside an overlay. */
export function variablesFile(values: FirmwareValues, sources: readonly Source[]): string | undefined {
  return values['uefi-vars'] ?? variablesBeside(sources);
}

export function checkFirmware(values: FirmwareValues): void {
  if (values['uefi-vars'] !== undefined && !values.uefi) throw usageError('--uefi-vars is for --uefi');
  if (values.bios && values.uefi) throw usageError('--bios and --uefi exclude each other');
  const option = firmwareOption(values);
  if (option === undefined) return;
  if (values.drive.length === 0) throw usageError(`${option} boots what is on the drives: give one with --drive`);
  for (const name of ['debian', 'with', 'kernel', 'initrd', 'append', 'exec'] as const) {
    if (values[name] !== undefined && values[name]?.length !== 0)
      throw usageError(`${option} boots what is on the drives: leave --${name} out`);
  }
}

/** Text that the firmware (SeaBIOS, OVMF) shows if it finds nothing to boot. */
export const noBootText = /No bootable device|No bootable option or device was found/;

export function nothingToBoot(): FarbusError {
  return new FarbusError(
    'the firmware found nothing to boot on the drives: is one of them a disk or disc with a boot record? farbus info tells what is on it',
  );
}
