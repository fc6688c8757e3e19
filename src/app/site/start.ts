/** Starts the computers and segments of a site. */
import { fileURLToPath } from 'node:url';
import { FarbusError } from '../../base/errors.js';
import { Hub } from '../../network/ethernet/hub.js';
import { openSegment } from '../../network/ethernet/open.node.js';
import type { Segment } from '../../network/ethernet/segment.js';
import type { StartComputer } from '../../site/computer.js';
import type { SegmentPlan, SitePlan } from '../../site/plan.js';
import { inProcesses } from '../../site/process.node.js';
import { Supervisor, type SupervisorOptions } from '../../site/supervisor.js';
import { engineText } from '../computer/engine-choice.js';
import { chooseGuest, type GuestChoice } from '../computer/start.js';
import { engineOf } from './engine.js';
import { startHere, systemOf } from './computer.js';

/** Starts each computer in a process of its own. */
export const inOwnProcess: StartComputer = inProcesses(fileURLToPath(new URL('child.js', import.meta.url)));

/** The supervisor of a site, which starts its computers as the site's file says. */
export function siteSupervisor(site: SitePlan, options: Omit<SupervisorOptions, 'openSegment' | 'start'>): Supervisor {
  const start = site.processes === 'one' ? startHere : inOwnProcess;
  return new Supervisor(site, { ...options, openSegment: openPlan, start });
}

export interface PrepareOptions extends Pick<GuestChoice, 'log' | 'onProgress' | 'signal'> {
  /** Takes a line about the choice of a computer's engine. */
  readonly onEngine?: (line: string) => void;
}

/**
 * Chooses the computers' engines, tells why if a user would wonder, and fetches the computers'
 * systems into the cache, each only once.
 * @throws FarbusError if an engine cannot be used, or a system cannot be had
 */
export async function prepareSystems(
  { computers }: SitePlan,
  env: NodeJS.ProcessEnv,
  { onEngine, ...options }: PrepareOptions,
): Promise<void> {
  const engines = computers.map((plan) => engineOf(plan, env));
  computers.forEach(({ name }, i) => {
    const { why } = engines[i]!;
    if (why !== undefined) onEngine?.(`${name}: ${why}`);
  });
  const prepared = new Set<string>();
  for (const [i, plan] of computers.entries()) {
    const system = systemOf(plan, engines[i]!.architecture);
    const inputs = JSON.stringify({ ...system, append: undefined, readyText: undefined });
    if (system.kernel !== undefined || prepared.has(inputs)) continue;
    prepared.add(inputs);
    await chooseGuest({ ...system, ...options });
  }
}

/**
 * The engines of the computers, for `farbus status`, by the computers' names.
 * @throws FarbusError if one cannot be used
 */
export function siteEngines({ computers }: SitePlan, env: NodeJS.ProcessEnv): Map<string, string> {
  return new Map(computers.map((plan) => [plan.name, engineText(engineOf(plan, env))]));
}

async function openPlan({ name, mtu, via }: SegmentPlan): Promise<Segment> {
  if (via === undefined) return new Hub({ name, mtu });
  const segment = await openSegment(/^(vxlan|udp|tap):/.test(via) && !via.includes('mtu=') ? withMtu(via, mtu) : via);
  if (segment.mtu >= mtu) return segment;
  await segment.close();
  throw new FarbusError(`segment ${name}: ${via} has an MTU of ${segment.mtu}, and the site file says ${mtu}`);
}

function withMtu(via: string, mtu: number): string {
  return `${via}${via.includes('?') ? '&' : '?'}mtu=${mtu}`;
}
