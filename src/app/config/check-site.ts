/** Checks that the parts of a site fit together, before anything starts. */
import { maxDrives } from '../../computer/drives.js';
import { maxIdeDisks } from '../../machine/ide-disk.js';
import { macKey } from '../../network/ethernet/mac.js';
import { sectorsOf } from '../../protocol/aoe/spec.js';
import { beyondKvm } from '../site/engine.js';
import { localPath, type Source } from '../source-text.js';
import type { ConfigNode } from './reader.js';
import type { ComputerPlan, SitePlan } from '../../site/plan.js';

/** The places of a site's parts in its file, for error messages. */
export interface Places {
  readonly items: Map<string, ConfigNode>;
  /** Parsed sources by their texts. */
  readonly sources: Map<string, Source>;
  readonly root: ConfigNode;
}

/**
 * Checks a site.
 * @throws FarbusError "FILE:LINE: …" for the first fault
 */
export function checkSite(site: SitePlan, { items, sources, root }: Places): void {
  const at = (key: string): ConfigNode => items.get(key) ?? root;
  const seen = new Map<string, string>();
  /** Refuses a second use of a thing that can be used once only. */
  const once = (what: string, who: string, item: ConfigNode): void => {
    const other = seen.get(what);
    if (other !== undefined) throw item.error(`${what} is taken already: by ${other}`);
    seen.set(what, who);
  };
  for (const computer of site.computers) {
    const { name, role, segment, devices, drives, address } = computer;
    const item = at(`computer ${name}`);
    const plan = site.segments.find((one) => one.name === segment);
    if (segment !== undefined && !plan) {
      const known = site.segments.map((one) => one.name).join(', ') || 'none';
      throw item.error(`network: there is no segment ${segment}; segments are: ${known}`);
    }
    if (!plan && (role === 'server' || address !== undefined || drives.some(({ kind }) => kind === 'far'))) {
      throw item.error('expected network: the name of a segment');
    }
    const [beyond] = computer.engine === 'kvm' ? beyondKvm(computer) : [];
    if (beyond !== undefined)
      throw item.error(`engine: the KVM engine cannot do ${beyond} yet: leave it out, or take v86`);
    if (computer.engine === 'v86' && computer.processors > 1)
      throw item.error('cpus: the v86 engine has one processor');
    if (computer.system.uefi && computer.engine === 'v86')
      throw item.error('system.uefi: the v86 engine has no UEFI: take engine: kvm for this computer');
    if (drives.length > maxDrives) throw item.error(`a computer can have ${maxDrives} drives, not ${drives.length}`);
    if (plan) {
      once(`the address ${macKey(computer.mac).toString(16).padStart(12, '0')} on ${plan.name}`, name, item);
      if (address !== undefined) once(`${checkAddress(address, item)} on ${plan.name}`, name, item);
    }
    for (const { name: device, aoe, source } of devices) {
      const place = at(`device ${name}/${device}`);
      if (sectorsOf(plan!.mtu) < 1) throw place.error(`frames of ${plan!.name} carry no sector: raise its mtu`);
      once(`AoE ${aoe.shelf}.${aoe.slot} on ${plan!.name}`, `${name}/${device}`, place);
      const path = writtenPath(sources.get(source));
      if (path !== undefined) once(`the device ${path}`, `${name}/${device}`, place);
    }
    const { bios, uefi, uefiVariables, kernel, initrd, ready } = computer.system;
    // Only the text of Debian's system is known.
    const own = bios || uefi || kernel !== undefined || initrd !== undefined;
    if (computer.snapshot !== undefined && own && ready === undefined)
      throw item.error('snapshot: expected ready below system: what its system prints when it is up');
    if (uefiVariables !== undefined) once(`the file ${normalized(uefiVariables)}`, name, item);
    if (computer.snapshot !== undefined) once(`the snapshot ${normalized(computer.snapshot)}`, name, item);
    checkDrives(computer, site, sources, at, once);
  }
}

function checkDrives(
  { name, segment, drives }: ComputerPlan,
  site: SitePlan,
  sources: Places['sources'],
  at: (key: string) => ConfigNode,
  once: (what: string, who: string, item: ConfigNode) => void,
): void {
  const ide = drives.flatMap((drive, index) => (drive.kind === 'text' && drive.bus === 'ide' ? [index] : []));
  if (ide.length > maxIdeDisks) {
    throw at(`drive ${name} ${ide[maxIdeDisks]!}`).error(`the bus ide has room for ${maxIdeDisks} disks`);
  }
  drives.forEach((drive, index) => {
    const place = at(`drive ${name} ${index}`);
    const path = drive.kind === 'text' ? writtenPath(sources.get(drive.text)) : undefined;
    if (path !== undefined) once(`the device ${path}`, `a drive of ${name}`, place);
    if (drive.kind !== 'far') return;
    const [server] = drive.name.split('/');
    const owner = site.computers.find((one) => one.name === server)!;
    if (owner.name === name) throw place.error("the device is this computer's own: give it by local: true");
    if (owner.segment !== segment) {
      throw place.error(
        `${owner.name} is on the segment ${owner.segment ?? '(none)'}, ${name} on ${segment ?? '(none)'}`,
      );
    }
    if (!drive.readOnly && owner.devices.some((one) => `${owner.name}/${one.name}` === drive.name && !one.readOnly)) {
      once(`writing to ${drive.name}`, name, place);
    }
  });
}

/** The path of the local file or device that is written directly; undefined if there is none. */
function writtenPath(source: Source | undefined): string | undefined {
  if (source === undefined || source.filters['read-only'] || source.filters.overlay !== undefined) return undefined;
  const path = localPath(source);
  return path === undefined ? undefined : normalized(path);
}

/** A path without doubled slashes and `./`, so that equal paths compare equal. */
function normalized(path: string): string {
  return path
    .replace(/\/+/g, '/')
    .replace(/(^|\/)(?:\.\/)+/g, '$1')
    .replace(/^$/, '.');
}

/** Checks an address with prefix and returns it without the prefix. */
function checkAddress(text: string, item: ConfigNode): string {
  const [address = '', prefix = ''] = text.split('/');
  if (address.split('.').some((part) => Number(part) > 255) || Number(prefix) > 32 || Number(prefix) < 1) {
    throw item.error(`address: expected an IPv4 address and the length of its prefix, found ${text}`);
  }
  checkHost(address, Number(prefix), item);
  return address;
}

/**
 * Refuses addresses that cannot belong to one computer (RFC 1122 §3.2.1.3). A 31-bit prefix has two
 * host addresses (RFC 3021).
 */
function checkHost(address: string, prefix: number, item: ConfigNode): void {
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const first = Math.floor(number / 2 ** 24);
  if (first === 0 || first === 127 || first >= 224) {
    throw item.error(`address: ${address} is no address of one computer on a network`);
  }
  const size = 2 ** (32 - prefix);
  const host = number % size;
  if (prefix > 30 || (host !== 0 && host !== size - 1)) return;
  const what = host === 0 ? 'the network itself' : 'all computers of the network (broadcast)';
  throw item.error(`address: ${address}/${prefix} is the address of ${what}: give one between`);
}
