/** `farbus run --config`: a computer of a site file, whose values the command line overrides. */
import { FarbusError, usageError } from '../../base/errors.js';
import { readProfile, type Profile } from '../../app/site/profile.js';
import type { CliIo } from '../ui/io.js';

/** The values of `farbus run` that a profile can give. */
export interface ProfileValues {
  readonly config: string | undefined;
  readonly computer: string | undefined;
  readonly name: string | undefined;
  readonly drive: readonly string[];
  readonly bios: boolean;
  readonly uefi: boolean;
  readonly 'uefi-vars': string | undefined;
  readonly debian: string | undefined;
  readonly with: readonly string[];
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly append: string | undefined;
  readonly 'snapshot-after': string | undefined;
  readonly snapshot: string | undefined;
  readonly engine: string | undefined;
  readonly cpus: string;
  readonly memory: string | undefined;
  readonly reconnect: string;
}

/** Options that choose another system: then nothing of the profile's system is used. */
const otherSystem = ['bios', 'uefi', 'kernel', 'debian'] as const;

/**
 * The values with those of the profile, if `--config` names one. Rejects with a FarbusError.
 * @param given names of the options on the command line, which the profile does not change
 */
export async function withProfile<V extends ProfileValues>(
  values: V,
  given: ReadonlySet<string>,
  io: CliIo,
): Promise<V> {
  const { config, computer } = values;
  if (config === undefined) {
    if (computer !== undefined) throw usageError('--computer goes with --config FILE');
    return values;
  }
  const profile = await readProfile(config, computer);
  if (profile.far.length > 0 && !given.has('drive')) {
    throw new FarbusError(
      `${profile.name} has the drive ${profile.far[0]!}, which only its site has: start the site by farbus up, or give --drive`,
    );
  }
  if (profile.network && !io.detached) {
    const also = profile.snapshot !== undefined && !given.has('snapshot') ? ' and its snapshot' : '';
    io.stderr.write(`farbus: ${profile.name} runs without the network adapter${also} of its site\n`);
  }
  const found = Object.entries(optionsOf(profile, given)).filter(
    ([name, value]) => value !== undefined && !given.has(name),
  );
  return { ...values, ...Object.fromEntries(found) };
}

function optionsOf(profile: Profile, given: ReadonlySet<string>): Partial<ProfileValues> {
  const { name, engine, processors, drives, system, memory, snapshot, reconnectSeconds, network } = profile;
  const other = otherSystem.some((option) => given.has(option));
  return {
    name,
    drive: drives,
    engine,
    cpus: String(processors),
    reconnect: String(reconnectSeconds),
    memory: memory === undefined ? undefined : String(memory),
    // A snapshot of a computer with a network adapter does not fit one without.
    ...(!network && { snapshot }),
    ...(!other && {
      bios: system.bios,
      uefi: system.uefi,
      'uefi-vars': system.uefiVariables,
      // Debian 12 is the default of both.
      debian: system.debian === 11 && system.kernel === undefined ? '11' : undefined,
      with: system.with,
      kernel: system.kernel,
      initrd: system.initrd,
      append: system.append,
      'snapshot-after': system.ready,
    }),
  };
}
