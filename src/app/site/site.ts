/**
 * Shared code of the commands about sites: finding a running site, and its description.
 *
 * Not here: reading a site file (load.ts), which loads every kind of source.
 */
import { FarbusError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { askControl } from '../control/client.js';
import type { ComputerDescription } from '../control/description.js';
import { findOfKind } from '../control/find.js';
import type { Registered } from '../control/kinds.js';
import { running, type Facts } from '../control/registry.js';
import type { SiteStatus } from './control.js';
import type { SiteDrive, SitePlan } from '../../site/plan.js';
import type { ComputerStatus } from '../../site/supervisor.js';

/** Status of a computer as a line for people. */
export function statusLine({ name, role, state, detail }: ComputerStatus): string {
  return visible(`${name} (${role}): ${state}${detail === '' ? '' : `: ${detail}`}`);
}

/** The state of the site whose control socket is at `path`. */
export async function siteStatus(path: string): Promise<SiteStatus> {
  return (await askControl(path, { command: 'status' })) as SiteStatus;
}

/** The running sites. */
export async function runningSites(env: NodeJS.ProcessEnv): Promise<Registered[]> {
  return (await running(env)).filter(({ kind }) => kind === 'site');
}

/** The running site of that name; undefined if there is none. */
export async function siteCalled(name: string, env: NodeJS.ProcessEnv): Promise<Registered | undefined> {
  return (await runningSites(env)).find((site) => site.name === name);
}

/** The named site, or the only running one. Rejects with a FarbusError. */
export async function findSite(env: NodeJS.ProcessEnv, name: string | undefined): Promise<Registered> {
  if (name !== undefined) return findOfKind(name, 'site', 'this command is for sites of farbus up', env);
  const [one, ...more] = await runningSites(env);
  if (!one) throw new FarbusError('no site runs: farbus up SITE-FILE starts one');
  if (more.length === 0) return one;
  const names = [one, ...more].map((site) => site.name);
  throw new FarbusError(`several sites run: say which by --site: ${names.join(', ')}`);
}

/**
 * The engines and sources of a site's computers, and how each is reached, for `farbus ps` and
 * `farbus status`.
 * @param engines the engines by the computers' names
 */
export function siteFacts(
  { name, computers }: SitePlan,
  engines: ReadonlyMap<string, string>,
  status: () => readonly ComputerStatus[],
): Facts {
  const found = new Map(status().map((one) => [one.name, one]));
  const described = computers.map((of): ComputerDescription => {
    const { state = 'starting', detail = '' } = found.get(of.name) ?? {};
    return {
      name: of.name,
      state,
      ...(detail !== '' && { detail }),
      engine: engines.get(of.name),
      uses: [...of.drives.map(driveText), ...of.devices.map((device) => `${device.name}=${device.source}`)],
      reach: [`farbus console ${name}/${of.name}`],
    };
  });
  return {
    state: 'running',
    uses: computers.map((of) => of.name),
    reach: [`farbus status ${name}`],
    computers: described,
  };
}

/** The source of a drive, or the name of the device that it is. */
export function driveText(drive: SiteDrive): string {
  return drive.kind === 'text' ? drive.text : drive.kind === 'far' ? drive.name : drive.device;
}

/** Status of a running site for people: its computers and leases. */
export async function describeSite({ name, path }: Registered): Promise<string> {
  const { computers, leases } = await siteStatus(path);
  const lines = [
    ...computers.map(statusLine),
    ...leases.map(({ device, holder }) => visible(`lease ${device}: ${holder}`)),
  ];
  return [`site ${name}`, ...lines.map((line) => `  ${line}`)].map((line) => `${line}\n`).join('');
}
