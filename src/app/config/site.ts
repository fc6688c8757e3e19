/**
 * Reads a site file into a plan (docs/site.md). It checks each value alone.
 *
 * Not here: checks that values fit together (check-site.ts).
 */
import { wholeMiB } from '../../base/format.js';
import { usageError } from '../../base/errors.js';
import { isGroup, parseMac, type Mac } from '../../network/ethernet/mac.js';
import { maxMtu, minMtu } from '../../network/ethernet/segment.js';
import { joinGateways } from '../../protocol/nbd/uri.js';
import { localPath, parseForeignSource, type Source } from '../source-text.js';
import { engineWords, largestMemory, maxMemory, mostProcessors, type EngineWord } from '../computer/engine-choice.js';
import { checkSite, type Places } from './check-site.js';
import { parseConfig, type ConfigNode } from './reader.js';
import type {
  AoeNumber,
  ComputerPlan,
  ComputerRole,
  DevicePlan,
  SegmentPlan,
  SiteDrive,
  SitePlan,
  SystemPlan,
} from '../../site/plan.js';

export interface ReadOptions {
  /** Name of the site if the file has none. */
  readonly name: string;
  /**
   * Checks that a file exists.
   * @throws FarbusError
   */
  readonly checkFile: (path: string) => void;
}

const namePattern = /^[a-z0-9][a-z0-9_-]{0,30}$/i;
const nameForm = 'a name of letters, digits, - and _, 31 at most';

const packagePattern = /^[a-z0-9][a-z0-9+.-]{1,100}$/;
const packageForm = 'the name of a Debian package, for example tcpdump';

/**
 * Reads a site file.
 * @throws FarbusError "FILE:LINE: …" with the fault and what was expected
 */
export function readSite(file: string, text: string, options: ReadOptions): SitePlan {
  const root = parseConfig(file, text);
  const { name, processes, engine, segments, computers } = root.fields(
    'name', 'processes', 'engine', 'segments', 'computers',
  ); // prettier-ignore
  if (!computers) throw root.error('expected computers');
  const site = name?.text(nameForm, namePattern) ?? options.name;
  if (!namePattern.test(site))
    throw usageError(`${file}: ${JSON.stringify(site)} is no name of a site: give one by "name:"`);
  const places: Places = { items: new Map(), sources: new Map(), root };
  const segmentPlans = (segments?.entries('segments by name') ?? []).map(([name, item]) =>
    readSegment(name, item, places),
  );
  const read = computers.entries('computers by name');
  if (read.length === 0) throw computers.error('expected at least one computer');
  const usual = { site, engine: engine?.choice(...engineWords) };
  const drafts = read.map(([name, item], index) => readComputer(usual, name, item, index, places, options));
  const plan: SitePlan = {
    name: site,
    processes: processes?.choice('each', 'one') ?? 'each',
    segments: segmentPlans,
    computers: drafts.map(({ plan, farDrives }) => ({
      ...plan,
      drives: plan.drives.map((drive, index) => farDrives.get(index)?.(drafts.map((draft) => draft.plan)) ?? drive),
    })),
  };
  checkSite(plan, places);
  return plan;
}

function readSegment(name: string, item: ConfigNode, { items }: Places): SegmentPlan {
  if (!namePattern.test(name)) throw item.error(`expected ${nameForm}`);
  items.set(`segment ${name}`, item);
  const { mtu, via } = item.fields('mtu', 'via');
  const carrier = via?.text('a segment as docs/ethernet.md has them, for example vxlan:42/192.0.2.7');
  // VXLAN within a network whose MTU is 1500.
  const usual = carrier?.startsWith('vxlan:') ? 1450 : 1500;
  return { name, mtu: mtu?.number(minMtu, maxMtu) ?? usual, via: carrier };
}

/** Makes a drive once all computers are known. */
type Later = (computers: readonly ComputerPlan[]) => SiteDrive;

function readComputer(
  usual: { readonly site: string; readonly engine: EngineWord | undefined },
  name: string,
  item: ConfigNode,
  index: number,
  places: Places,
  options: ReadOptions,
): { plan: ComputerPlan; farDrives: Map<number, Later> } {
  if (!namePattern.test(name)) throw item.error(`expected ${nameForm}`);
  places.items.set(`computer ${name}`, item);
  const fields = item.fields(
    'role', 'memory', 'engine', 'cpus', 'system', 'network', 'mac', 'address', 'drives', 'devices', 'snapshot',
    'reconnect',
  ); // prettier-ignore
  const engine = fields.engine?.choice(...engineWords) ?? usual.engine;
  if (!fields.role) throw item.error('expected role: client or role: server');
  const role: ComputerRole = fields.role.choice('client', 'server');
  if (fields.devices && role !== 'server') throw fields.devices.error('only a server has devices that it serves');
  const devices = (fields.devices?.entries('devices by name') ?? []).map(([device, entry], slot) =>
    readDevice(device, entry, { shelf: index + 1, slot }, { ...places, owner: name }, options),
  );
  const farDrives = new Map<number, Later>();
  const drives = (fields.drives?.list('a list of drives') ?? []).map((entry, at): SiteDrive => {
    places.items.set(`drive ${name} ${at}`, entry);
    if (entry.isString || entry.isList) {
      const text = readSourceText(entry, 'a drive');
      const { bus, kind } = readSource(entry, text, places, options);
      return { kind: 'text', text, bus: bus ?? (kind === 'disk' ? 'nvme' : 'ahci') };
    }
    farDrives.set(at, readFarDrive(entry));
    // A place holder, until all computers are known.
    return { kind: 'text', text: '', bus: 'nvme' };
  });
  // A device that OS 2 also has becomes its next drive.
  for (const { name: device, lease } of devices) if (lease) drives.push({ kind: 'own', device });
  const system = readSystem(fields.system, options);
  const plan: ComputerPlan = {
    name,
    role,
    // Only KVM has UEFI. check-site.ts refuses v86.
    engine: system.uefi && engine !== 'v86' ? 'kvm' : engine,
    processors: fields.cpus?.number(1, mostProcessors) ?? 1,
    memory: fields.memory && wholeMiB(fields.memory.size(64 << 20, engine === 'v86' ? maxMemory : largestMemory)),
    system,
    segment: fields.network?.text('the name of a segment'),
    mac: fields.mac ? readMac(fields.mac) : macOf(usual.site, name),
    address: fields.address?.text(
      'an address with the length of its prefix, for example 192.0.2.1/24',
      /^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/,
    ),
    drives,
    devices,
    snapshot: fields.snapshot?.text('a path'),
    reconnectSeconds: fields.reconnect?.number(0, 86_400) ?? 60,
  };
  return { plan, farDrives };
}

function readSystem(item: ConfigNode | undefined, options: ReadOptions): SystemPlan {
  const fields = item?.fields(
    'bios', 'uefi', 'uefi-vars', 'debian', 'with', 'kernel', 'initrd', 'append', 'ready',
  ) ?? {}; // prettier-ignore
  const path = (field: ConfigNode | undefined): string | undefined => {
    const text = field?.text('a path');
    if (text !== undefined) field!.check(() => options.checkFile(text));
    return text;
  };
  const debian = fields.debian?.number(11, 12) ?? 12;
  const bios = fields.bios?.boolean() ?? false;
  const uefi = fields.uefi?.boolean() ?? false;
  const variables = fields['uefi-vars'];
  if (bios && uefi) throw fields.uefi!.error('expected bios or uefi, not both');
  if (variables && !uefi) throw variables.error('expected uefi: true with it');
  const notFirmware = fields.debian ?? fields.with ?? fields.kernel ?? fields.initrd ?? fields.append;
  if ((bios || uefi) && notFirmware)
    throw notFirmware.error(`${bios ? 'bios' : 'uefi'}: true boots what is on the drives: leave this out`);
  if (fields.debian && fields.kernel) throw fields.debian.error('expected debian or kernel, not both');
  const other = fields.kernel ?? fields.initrd;
  if (fields.with && other) throw fields.with.error("expected kernel and initrd, or packages with Debian's own system");
  const packages = fields.with?.list('a list of packages').map((one) => one.text(packageForm, packagePattern));
  return {
    bios,
    uefi,
    uefiVariables: variables?.text('a path'),
    with: packages ?? [],
    debian: debian === 11 ? 11 : 12,
    kernel: path(fields.kernel),
    initrd: path(fields.initrd),
    append: fields.append?.text("words for the kernel's command line"),
    ready: fields.ready?.text('what the system prints when it is up'),
  };
}

function readDevice(
  name: string,
  item: ConfigNode,
  next: AoeNumber,
  { owner, ...places }: Places & { owner: string },
  options: ReadOptions,
): DevicePlan {
  if (!namePattern.test(name)) throw item.error(`expected ${nameForm}`);
  places.items.set(`device ${owner}/${name}`, item);
  const fields = item.fields('source', 'aoe', 'read-only', 'local', 'lease');
  if (!fields.source) throw item.error('expected source: a file, block device or other source');
  const source = readSourceText(fields.source, 'a source');
  readSource(fields.source, source, places, options);
  const local = fields.local?.boolean() ?? false;
  if (fields.lease && !local) throw fields.lease.error('there is nothing to share: it needs local: true');
  return {
    name,
    source,
    aoe: fields.aoe ? readAoe(fields.aoe) : next,
    readOnly: fields['read-only']?.boolean() ?? false,
    lease: local ? (fields.lease?.choice('network', 'local') ?? 'network') : undefined,
  };
}

/** The text of a source: a text, or a list with the address of each gateway of one disk. */
function readSourceText(item: ConfigNode, expected: string): string {
  if (!item.isList) return item.text(expected);
  const gateways = item.list(expected).map((one) => one.text('the address of a gateway'));
  return item.check(() => joinGateways(gateways));
}

/** Parses a source, which must not name a file that does not exist. */
function readSource(item: ConfigNode, text: string, { sources }: Places, { checkFile }: ReadOptions): Source {
  return item.check(() => {
    const source = parseForeignSource(text);
    sources.set(text, source);
    const path = localPath(source);
    if (path !== undefined) checkFile(path);
    return source;
  });
}

function readAoe(item: ConfigNode): AoeNumber {
  const expected = 'SHELF.SLOT, for example 1.0; a shelf is 0 to 65534, a slot 0 to 254';
  const [shelf, slot] = item
    .text(expected, /^\d{1,5}\.\d{1,3}$/)
    .split('.')
    .map(Number) as [number, number];
  if (shelf > 65_534 || slot > 254) throw item.error(`expected ${expected}`);
  return { shelf, slot };
}

function readFarDrive(item: ConfigNode): Later {
  const fields = item.fields('far', 'read-only', 'bus', 'assume-same');
  if (!fields.far) throw item.error('expected far: SERVER/DEVICE, or a text as farbus run --drive has it');
  const name = fields.far.text('SERVER/DEVICE', /^[^/]+\/[^/]+$/);
  const [server, device] = name.split('/') as [string, string];
  const readOnly = fields['read-only']?.boolean() ?? false;
  const bus = fields.bus?.choice('nvme', 'ahci') ?? 'nvme';
  const assumeSame = fields['assume-same']?.boolean() ?? false;
  return (computers) => {
    const owner = computers.find((one) => one.name === server);
    if (!owner) throw fields.far!.error(`there is no computer ${server} in this site`);
    const found = owner.devices.find((one) => one.name === device);
    if (!found) throw fields.far!.error(`${server} has no device ${device}`);
    return { kind: 'far', name, aoe: found.aoe, readOnly, bus, assumeSame };
  };
}

function readMac(item: ConfigNode): Mac {
  const expected = 'an Ethernet address of one station, for example 02:00:00:00:00:01';
  const mac = parseMac(item.text(expected));
  if (!mac || isGroup(mac)) throw item.error(`expected ${expected}`);
  return mac;
}

/**
 * The MAC address of a computer without a configured one: locally administered, derived from the
 * names of site and computer, so always the same.
 */
export function macOf(site: string, computer: string): Mac {
  const mac = new Uint8Array(6);
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`${site}\0${computer}`)) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    for (let i = 1; i < 6; i++) mac[i] = mac[i]! ^ (Math.imul(hash, i) >>> 24);
  }
  mac[0] = 0x02;
  return mac;
}
