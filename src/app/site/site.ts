/** Shared code of the commands about sites: reading a site file, and finding a running site. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { controlFolder, findControlFolder } from '../control/folder.js';
import { FarbusError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { answers, askControl } from '../control/client.js';
import { serveControl, type ControlHandler, type ControlSocket } from '../control/server.js';
import type { SiteStatus } from './control.js';
import type { SitePlan } from '../../site/plan.js';
import { readConfigText } from '../config/reader.js';
import { readSite } from '../config/site.js';
import type { ComputerStatus } from '../../site/supervisor.js';

/**
 * Reads a site file. Relative paths in it start at the working directory, which must be the file's
 * folder.
 */
export async function loadSite(file: string): Promise<SitePlan> {
  const text = await readConfigText(file);
  return readSite(file, text, { name: basename(file).replace(/\.[^.]*$/, ''), checkFile });
}

/** Status of a computer as a line for people. */
export function statusLine({ name, role, state, detail }: ComputerStatus): string {
  return visible(`${name} (${role}): ${state}${detail === '' ? '' : `: ${detail}`}`);
}

/** Names of sites' control sockets; those of servers and computers are in the same folder. */
const prefix = 'site-';
const socketEnd = '.sock';

/** The path of a site's control socket. */
export function controlPath(env: NodeJS.ProcessEnv, site: string): string {
  return join(controlFolder(env), prefix + site + socketEnd);
}

/** Opens the control socket of a site. Rejects with a FarbusError if one of that name runs. */
export async function serveSite(env: NodeJS.ProcessEnv, site: string, handler: ControlHandler): Promise<ControlSocket> {
  if (await answers(controlPath(env, site))) {
    throw new FarbusError(`the site ${site} runs already: farbus down ${site} ends it`);
  }
  return serveControl(prefix + site, handler, env);
}

/** The state of the site whose control socket is at `path`. */
export async function siteStatus(path: string): Promise<SiteStatus> {
  return (await askControl(path, { command: 'status' })) as SiteStatus;
}

/** Names of the running sites. */
export async function runningSites(env: NodeJS.ProcessEnv): Promise<string[]> {
  const found: string[] = [];
  const folder = findControlFolder(env);
  for (const file of folder === undefined ? [] : readdirSync(folder).sort()) {
    if (!file.startsWith(prefix) || !file.endsWith(socketEnd)) continue;
    if (await answers(join(folder!, file))) found.push(file.slice(prefix.length, -socketEnd.length));
  }
  return found;
}

/** The control socket of the named site, or of the only running one. */
export async function findSite(
  env: NodeJS.ProcessEnv,
  name: string | undefined,
): Promise<{ site: string; path: string }> {
  if (name !== undefined) {
    const path = controlPath(env, name);
    if (await answers(path)) return { site: name, path };
    throw new FarbusError(`the site ${name} does not run: farbus up starts one`);
  }
  const found = await runningSites(env);
  if (found.length === 0) throw new FarbusError('no site runs: farbus up SITE-FILE starts one');
  if (found.length > 1) throw new FarbusError(`several sites run: say which by --site: ${found.join(', ')}`);
  return { site: found[0]!, path: controlPath(env, found[0]!) };
}

/** Status of the running sites for people: each with its computers and leases. */
export async function describeSites(env: NodeJS.ProcessEnv): Promise<string[]> {
  return await Promise.all(
    (await runningSites(env)).map(async (name) => {
      const { computers, leases } = await siteStatus(controlPath(env, name));
      const lines = [
        ...computers.map(statusLine),
        ...leases.map(({ device, holder }) => visible(`lease ${device}: ${holder}`)),
      ];
      return [`site ${name}`, ...lines.map((line) => `  ${line}`)].map((line) => `${line}\n`).join('');
    }),
  );
}

function checkFile(path: string): void {
  if (!existsSync(path)) throw new FarbusError(`there is no file ${path}`);
}
