/** `farbus logs --list`: lists the logs of sites and detached processes, running and ended. */
import { join } from 'node:path';
import { FarbusError } from '../../base/errors.js';
import { formatBytes, formatSeconds } from '../../base/format.js';
import { jsonLine, visible } from '../../base/printable.js';
import { running } from '../../app/control/registry.js';
import { detachedLogs, logsFolder } from '../../site/folders.node.js';
import { sizeOfLogs } from '../../site/logs.node.js';
import { loggedComputers, loggedSites } from '../../site/read-logs.node.js';
import type { CliIo } from '../ui/io.js';

/** The log of one computer of a site, or of one detached process, with its console's and trace. */
interface Log {
  /** The site or the process. */
  readonly name: string;
  /** Absent for a detached process. */
  readonly computer?: string;
  /** True if its site or process runs. */
  readonly running: boolean;
  /** Bytes of its files. */
  readonly size: number;
  /** When the last line was written, in ms since 1970. */
  readonly lastMs: number;
}

/**
 * Prints the logs with the newest lines first.
 * @param names the sites and processes; if there are none, all
 */
export async function listLogs(names: readonly string[], json: boolean, io: CliIo): Promise<number> {
  const alive = await running(io.env);
  const namesOf = (sites: boolean): Set<string> =>
    new Set(alive.filter(({ kind }) => (kind === 'site') === sites).map(({ name }) => name));
  const sites = logsIn(logsFolder(io.env), namesOf(true), true);
  const all = [...sites, ...logsIn(detachedLogs(io.env, ''), namesOf(false), false)].sort(
    (a, b) => b.lastMs - a.lastMs,
  );
  const unknown = names.find((name) => !all.some((one) => one.name === name));
  if (unknown !== undefined) {
    throw new FarbusError(`there are no logs of ${JSON.stringify(visible(unknown))}: farbus logs --list shows all`);
  }
  const chosen = names.length === 0 ? all : all.filter(({ name }) => names.includes(name));
  if (json) {
    io.stdout.write(jsonLine(chosen.map(({ lastMs, ...one }) => ({ ...one, last: new Date(lastMs).toISOString() }))));
  } else if (chosen.length === 0) {
    io.stderr.write('farbus: there are no logs: sites, and what is started with --detach, have logs\n');
  } else {
    io.stdout.write(tableOf(chosen));
  }
  return 0;
}

function logsIn(place: string, alive: ReadonlySet<string>, isSite: boolean): Log[] {
  return loggedSites(place).flatMap((name) => {
    const folder = join(place, name);
    return loggedComputers(folder).map((one) => ({
      name,
      ...(isSite && { computer: one }),
      running: alive.has(name),
      ...sizeOfLogs(folder, one),
    }));
  });
}

function tableOf(logs: readonly Log[]): string {
  const rows = logs.map(({ name, computer, running: runs, size, lastMs }) => {
    const age = formatSeconds(Math.max(0, Math.round((Date.now() - lastMs) / 1000)));
    const shown = visible(computer === undefined ? name : `${name}/${computer}`);
    return [shown, runs ? 'running' : 'ended', formatBytes(size), `${age} ago`];
  });
  const all = [['NAME', 'STATE', 'SIZE', 'LAST LINE'], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(widths[at]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
