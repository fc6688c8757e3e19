/**
 * One computer of a site file as a profile for `farbus run --config`: its drives, system, memory
 * and snapshot. A computer of `farbus run` has no network adapter. So the site's segments are left
 * out, and so are drives that are devices of another computer of the site.
 */
import { resolve, basename, dirname } from 'node:path';
import { usageError } from '../../base/errors.js';
import { similar } from '../../base/similar.js';
import type { ComputerPlan, SitePlan, SystemPlan } from '../../site/plan.js';
import { absoluteText } from '../source-text.js';
import { loadSite } from './load.js';

export interface Profile {
  readonly name: string;
  readonly engine: ComputerPlan['engine'];
  readonly processors: number;
  /** Texts in the syntax of `--drive`. All paths are absolute. */
  readonly drives: readonly string[];
  /** Names of drives that only the site has, SERVER/DEVICE. */
  readonly far: readonly string[];
  readonly system: SystemPlan;
  /** In bytes; undefined if its system decides. */
  readonly memory: number | undefined;
  readonly snapshot: string | undefined;
  readonly reconnectSeconds: number;
  /** True if it has a network adapter in its site. */
  readonly network: boolean;
}

/** Most names in an error. */
const mostNames = 10;

/**
 * Reads a computer of a site file; its only one if `name` is undefined. Rejects with a FarbusError.
 */
export async function readProfile(file: string, name: string | undefined): Promise<Profile> {
  const here = process.cwd();
  const path = resolve(file);
  try {
    enter(dirname(path), file);
    return profileOf(file, choose(file, await loadSite(basename(path)), name));
  } finally {
    process.chdir(here);
  }
}

/** Relative paths in a site file start at its folder. */
function enter(folder: string, file: string): void {
  try {
    process.chdir(folder);
  } catch {
    throw usageError(`--config ${file}: there is no such file`);
  }
}

function choose(file: string, { computers }: SitePlan, name: string | undefined): ComputerPlan {
  const names = computers.map((one) => one.name);
  const known = `${names.slice(0, mostNames).join(', ')}${names.length > mostNames ? ' and others' : ''}`;
  if (name === undefined) {
    if (computers.length === 1) return computers[0]!;
    throw usageError(`${file} has several computers: give --computer with one of ${known}`);
  }
  const found = computers.find((one) => one.name === name);
  if (found) return found;
  const meant = similar(name, names);
  const question = meant === undefined ? '' : `; did you mean ${meant}?`;
  throw usageError(`${file} has no computer ${JSON.stringify(name.slice(0, 100))}${question}: it has ${known}`);
}

function profileOf(file: string, plan: ComputerPlan): Profile {
  const { name, role, engine, processors, drives, system, memory, snapshot, reconnectSeconds, segment } = plan;
  if (role === 'server') {
    throw usageError(`${file}: ${name} is a server computer, which serves devices to its site: start it by farbus up`);
  }
  const path = (text: string | undefined): string | undefined => (text === undefined ? undefined : resolve(text));
  // As in its site, so that its snapshot fits.
  const ownSystem = system.kernel === undefined && !system.bios && !system.uefi;
  const words = ownSystem ? [`farbus.hostname=${name}`] : [];
  const append = [...words, ...(system.append === undefined ? [] : [system.append])].join(' ');
  return {
    name,
    engine,
    processors,
    drives: drives.flatMap((drive) => (drive.kind === 'text' ? [absoluteText(drive.text)] : [])),
    far: drives.flatMap((drive) => (drive.kind === 'far' ? [drive.name] : [])),
    system: {
      ...system,
      kernel: path(system.kernel),
      initrd: path(system.initrd),
      uefiVariables: path(system.uefiVariables),
      append: append === '' ? undefined : append,
    },
    memory,
    snapshot: path(snapshot),
    reconnectSeconds,
    network: segment !== undefined,
  };
}
