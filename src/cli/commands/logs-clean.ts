/** `farbus logs --clean`: removes the logs of sites and detached processes that have ended. */
import { lstatSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { FarbusError } from '../../base/errors.js';
import { formatBytes } from '../../base/format.js';
import { visible } from '../../base/printable.js';
import { running } from '../../app/control/registry.js';
import { detachedLogs, logsFolder } from '../../site/folders.node.js';
import { lastLog, removeLogs } from '../../site/logs.node.js';
import { loggedSites } from '../../site/read-logs.node.js';
import type { CliIo } from '../ui/io.js';

const dayMs = 24 * 60 * 60 * 1000;

/**
 * @param names the sites and processes; if there are none, all that have ended
 * @param days only logs that have not been written for so many days
 */
export async function cleanLogs(names: readonly string[], days: number, io: CliIo): Promise<number> {
  const alive = new Set((await running(io.env)).map(({ name }) => name));
  const runs = names.find((name) => alive.has(name));
  if (runs !== undefined) throw new FarbusError(`${visible(runs)} runs, so its logs stay: farbus stop ${runs} ends it`);
  const places = [logsFolder(io.env), detachedLogs(io.env, '')];
  const there = places.flatMap((place) => loggedSites(place).map((name) => ({ name, folder: join(place, name) })));
  const unknown = names.find((name) => !there.some((one) => one.name === name));
  if (unknown !== undefined) throw new FarbusError(`there are no logs of ${JSON.stringify(visible(unknown))}`);
  const before = Date.now() - days * dayMs;
  const ended = there.filter(
    ({ name, folder }) => !alive.has(name) && lstatSync(folder).isDirectory() && lastLog(folder) <= before,
  );
  const chosen = names.length === 0 ? ended : ended.filter(({ name }) => names.includes(name));
  let bytes = 0;
  for (const { folder } of chosen) {
    bytes += removeLogs(folder);
    try {
      rmdirSync(folder);
    } catch {
      // It has other files.
    }
  }
  const list = chosen.map(({ name }) => visible(name)).join(', ');
  const none =
    days === 0 ? 'there are no logs of what has ended' : `no logs of what has ended are older than ${days} days`;
  const done = list === '' ? none : `removed the logs of ${list}: ${formatBytes(bytes)}`;
  io.stderr.write(`farbus: ${done}\n`);
  return 0;
}
